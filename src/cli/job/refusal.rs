//! What a job file is refused for: each with the fact and the remedy.

use super::hierarchy::HierarchyRefusal;
use crate::crypto::Suite;
use crate::keyring::KeyArnError;

/// A place in a job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The field, from the file's root: `table.name`.
    pub field: String,
    /// The line, from 1.
    pub line: usize,
}

/// A refusal at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) refusal: Refusal,
}

/// Why a field of a job file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such field.
    #[error("unknown field")]
    UnknownField {
        /// The known field whose name is most like it.
        nearest: Option<String>,
        /// The fields that there are, for the remedy.
        known: String,
    },
    /// A field that has to be there.
    #[error("missing")]
    Missing,
    /// A value of the wrong type.
    #[error("expected {expected}, found {found}")]
    Type {
        /// What the field takes.
        expected: &'static str,
        /// What was found.
        found: &'static str,
    },
    /// An empty text.
    #[error("must not be empty")]
    Empty,
    /// A word that is none of those the field takes.
    #[error("unknown value \"{found}\"")]
    UnknownWord {
        /// The word.
        found: String,
        /// The known word that is most like it.
        nearest: Option<String>,
        /// The words that there are, for the remedy.
        known: String,
    },
    /// A version of the job file that this program does not read.
    #[error("version {0} is unknown")]
    Version(u64),
    /// A budget of nothing.
    #[error("a budget of 0 would never end")]
    ZeroBudget,
    /// A budget beyond what can be counted.
    #[error("a budget above {} is none", u32::MAX)]
    HugeBudget,
    /// Neither a table name nor a table ARN.
    #[error("\"{0}\" is neither a table name (3 to 255 of A-Z a-z 0-9 _ . -) nor a table ARN")]
    TableName(String),
    /// The same attribute as partition and sort key.
    #[error("\"{0}\" is the partition key already")]
    SameKeys(String),
    /// A key attribute's name that no table has; its length in UTF-16 code units, as DynamoDB counts.
    #[error("no table has a key attribute with so long a name: {0} characters, and 255 are the most")]
    LongKeyName(usize),
    /// A key attribute without an action.
    #[error("the key attribute \"{0}\" has no action")]
    KeyWithoutAction(String),
    /// A key attribute that would be encrypted.
    #[error("the key attribute \"{0}\" cannot be encrypted: nobody could look the item up")]
    KeyEncrypted(String),
    /// A key attribute outside the signature.
    #[error("the key attribute \"{0}\" cannot be left unsigned: items could be swapped")]
    KeyUnsigned(String),
    /// A key attribute outside the encryption context although another attribute is part of it.
    #[error("the key attribute \"{key}\" must be part of the encryption context as soon as \"{other}\" is")]
    KeyNotIncluded {
        /// The key attribute.
        key: String,
        /// The other attribute.
        other: String,
    },
    /// `DO_NOTHING` for an attribute that readers would count as signed.
    #[error("\"{0}\" is DO_NOTHING, but not declared unsigned: readers would count it as signed")]
    NotDeclaredUnsigned(String),
    /// A signed action for an attribute that readers would count as unsigned.
    #[error("\"{name}\" is {action}, but declared unsigned")]
    DeclaredUnsigned {
        /// The attribute.
        name: String,
        /// Its action.
        action: &'static str,
    },
    /// An attribute name that belongs to the format.
    #[error("\"{name}\": names that begin with \"{prefix}\" belong to the item format")]
    Reserved {
        /// The attribute or prefix.
        name: String,
        /// The reserved prefix.
        prefix: &'static str,
    },
    /// A namespace that belongs to another kind of keyring.
    #[error("the namespace \"{0}\" belongs to the KMS keyrings")]
    ReservedNamespace(String),
    /// A raw key from two places, or from none.
    #[error("a {0} keyring takes its key from exactly one of key_file, key_env and key_secret")]
    KeySource(&'static str),
    /// How to reach a secret that is not named.
    #[error("region, profile and role_arn say how a key_secret is reached, and there is none")]
    AccessWithoutSecret,
    /// Not an AWS account.
    #[error("\"{0}\" is not an account id of 12 digits")]
    Account(String),
    /// No account, or some and any.
    #[error("neither a list of accounts nor [\"*\"]")]
    Accounts,
    /// A multi keyring of none.
    #[error("a keyring of type multi needs a generator or children")]
    NoChildren,
    /// Two keyrings of a multi keyring for one key.
    #[error("another keyring of the same multi keyring is for this key already: {0}")]
    SameKey(String),
    /// Key material is to be refreshed where there is none that KMS rotates.
    #[error("no key of the target keyring is a symmetric KMS key, whose material KMS rotates")]
    NoMaterial,
    /// A keyring that names no key to seal with.
    #[error("a keyring of type aws-kms-discovery names no key to seal with")]
    DiscoveryTarget,
    /// A suite that the keyring does not have.
    #[error("a keyring of type aws-kms-rsa has no items of the suite with ECDSA")]
    RsaWithEcdsa,
    /// A field of another type of keyring.
    #[error("a keyring of type {0} has no such field")]
    ForeignField(&'static str),
    /// Not the ARN of a KMS key.
    #[error(transparent)]
    KeyArn(KeyArnError),
    /// A Region that is not the key's.
    #[error("the Region is \"{region}\", but the key is of \"{of_key}\"")]
    KeyRegion {
        /// The Region in the job file.
        region: String,
        /// The Region in the ARN.
        of_key: String,
    },
    /// A field of a hierarchical keyring.
    #[error(transparent)]
    Hierarchy(HierarchyRefusal),
    /// Nothing to encrypt with.
    #[error("the target format \"dbesdk\" needs a keyring")]
    NoTargetKeyring,
    /// A field that the way back has no use for.
    #[error("the target format \"plaintext\" has no use for it")]
    PlaintextTarget,
    /// Nothing to decrypt with.
    #[error("the target format \"plaintext\" needs keyrings that open the items")]
    NoSourceKeyring,
    /// Source keyrings without a source format that needs them.
    #[error("there are keyrings, but \"dbesdk\" is not among the accepted formats")]
    UnusedKeyrings,
    /// The way back from nothing.
    #[error("the target format \"plaintext\" needs \"dbesdk\" among the accepted formats")]
    NothingToOpen,
}

impl Refusal {
    /// What to do about it.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one match, a line or two for each refusal")]
    pub fn remedy(&self) -> String {
        let known_or = |nearest: &Option<String>, known: &str| match nearest {
            Some(nearest) => format!("did you mean \"{nearest}\"? Known here: {known}"),
            None => format!("known here: {known}"),
        };
        match self {
            Self::UnknownField { nearest, known } | Self::UnknownWord { nearest, known, .. } => {
                known_or(nearest, known)
            }
            Self::Missing => "add it; the README lists every field of the job file".to_owned(),
            Self::Type { found: "table", .. } => {
                "write a plain value; a name that contains a dot stands in quotes: \"a.b\" = ...".to_owned()
            }
            Self::Type { .. } => "write a value of that type".to_owned(),
            Self::Empty => "name it, or leave the field out".to_owned(),
            Self::Version(_) => {
                "write version = 1, or use the release of reseal that the file was written for".to_owned()
            }
            Self::ZeroBudget | Self::HugeBudget => {
                "write the units per second that the run may use, or leave the field out".to_owned()
            }
            Self::TableName(_) => "write the name, or arn:aws:dynamodb:REGION:ACCOUNT:table/NAME".to_owned(),
            Self::SameKeys(_) => "leave sort_key out if the table has none".to_owned(),
            Self::LongKeyName(_) => "write the name as `aws dynamodb describe-table` prints it".to_owned(),
            Self::KeyWithoutAction(name) => format!("add {name:?} = \"SIGN_ONLY\" to [attributes]"),
            Self::KeyEncrypted(_) | Self::KeyUnsigned(_) => {
                "make it SIGN_ONLY, or SIGN_AND_INCLUDE_IN_ENCRYPTION_CONTEXT if any attribute is".to_owned()
            }
            Self::KeyNotIncluded { key, .. } => {
                format!("make {key:?} SIGN_AND_INCLUDE_IN_ENCRYPTION_CONTEXT too, or the other SIGN_ONLY")
            }
            Self::NotDeclaredUnsigned(name) => {
                format!("add {name:?} to unsigned.names exactly as your readers are configured, or sign the attribute")
            }
            Self::DeclaredUnsigned { .. } => {
                "make it DO_NOTHING, or take it out of [unsigned], exactly as your readers are configured".to_owned()
            }
            Self::Reserved { .. } => "leave it out: reseal and your readers pass such attributes by".to_owned(),
            Self::ReservedNamespace(_) => "choose the namespace that your readers' raw keyring has".to_owned(),
            Self::KeySource(_) => "name one of them; the README says what each holds".to_owned(),
            Self::AccessWithoutSecret | Self::NoMaterial => "leave it out".to_owned(),
            Self::Account(_) => "write the account that owns the keys, as in their ARNs".to_owned(),
            Self::Accounts => "list the accounts whose keys may be used, or write [\"*\"] for any".to_owned(),
            Self::NoChildren => "add them, each as a keyring of its own".to_owned(),
            Self::SameKey(_) => "name each key once".to_owned(),
            Self::DiscoveryTarget => {
                "name the key in a keyring of type aws-kms or aws-kms-mrk; aws-kms-discovery is for source.keyrings"
                    .to_owned()
            }
            Self::RsaWithEcdsa => {
                format!("write suite = {:?} under [target], or use another keyring", Suite::HmacSha384.name())
            }
            Self::ForeignField(_) => "leave the field out".to_owned(),
            Self::KeyArn(_) => {
                "write arn:aws:kms:REGION:ACCOUNT:key/ID, as `aws kms describe-key` prints it under Arn".to_owned()
            }
            Self::KeyRegion { .. } => "leave region out: it is the key's".to_owned(),
            Self::Hierarchy(refusal) => refusal.remedy(),
            Self::NoTargetKeyring => "add target.keyring".to_owned(),
            Self::PlaintextTarget => {
                "leave it out; keyrings that open the items stand under source.keyrings".to_owned()
            }
            Self::NoSourceKeyring => "add the keyring under which the items are sealed to source.keyrings".to_owned(),
            Self::UnusedKeyrings | Self::NothingToOpen => "add \"dbesdk\" to source.formats".to_owned(),
        }
    }

    /// The refusal of a word that is none of the known ones.
    pub(super) fn word(found: &str, known: &[&'static str]) -> Self {
        Self::UnknownWord { found: found.to_owned(), nearest: nearest(found, known), known: known.join(", ") }
    }
}

/// The known word that the found one is most likely a misspelling of: at most a third of it wrong.
pub(super) fn nearest(found: &str, known: &[&'static str]) -> Option<String> {
    let distance = |word: &str| strsim::damerau_levenshtein(&found.to_lowercase(), &word.to_lowercase());
    let best = known.iter().min_by_key(|word| distance(word))?;
    (distance(best) <= best.len().div_ceil(3)).then(|| (*best).to_owned())
}
