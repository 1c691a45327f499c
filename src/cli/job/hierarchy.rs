//! Settings of the hierarchical keyring: its key store, and which branch key an item is sealed under.

use std::collections::HashMap;
use std::time::Duration;

use super::keyring::filter;
use super::refusal::{Fault, Refusal};
use super::section::Section;
use crate::aws::Access;
use crate::format::{Action, Schema};
use crate::keyring::{BranchKeyId, KeepBranchKeys, KeyArn, KeyStoreReaders};

pub(super) const TYPE: &str = "hierarchy";
/// The fields of such a keyring.
pub(super) const FIELDS: [&str; 15] = [
    "type",
    "key_store_table",
    "key_store_name",
    "kms_key_arn",
    "key_store_readers",
    "partition",
    "accounts",
    "branch_key_id",
    "branch_key_attribute",
    "branch_keys",
    "cache_seconds",
    "cache_entries",
    "region",
    "profile",
    "role_arn",
];
const READERS: [&str; 1] = [DISCOVERY];
const DISCOVERY: &str = "discovery";
/// As long as AWS's examples keep them.
const CACHE_SECONDS: u64 = 600;
const CACHE_ENTRIES: u64 = 1000;

/// Why a field of a hierarchical keyring is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HierarchyRefusal {
    /// Neither one KMS key for the rows of a key store nor any.
    #[error("a hierarchy keyring takes exactly one of kms_key_arn and key_store_readers")]
    KeyStoreReaders,
    /// A filter where one key is named.
    #[error("kms_key_arn names the only key that is trusted, so there is nothing to filter")]
    FilterOfOneKey,
    /// Neither one branch key nor an attribute that names it.
    #[error(
        "a hierarchy keyring takes exactly one of branch_key_id and branch_key_attribute (branch_keys goes with it)"
    )]
    BranchKey,
    /// An attribute that is not part of the encryption context.
    #[error("the attribute \"{0}\" is not part of the encryption context, which is all that a keyring sees of an item")]
    BranchKeyAttribute(String),
    /// A cache that keeps nothing.
    #[error("a cache of 0 would ask the key store for every item")]
    NoCache,
}

impl HierarchyRefusal {
    /// What to do about it.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::KeyStoreReaders => {
                "name one as your readers do: kms_key_arn = \"arn:...\", or key_store_readers = \"discovery\""
                    .to_owned()
            }
            Self::FilterOfOneKey => "leave partition and accounts out".to_owned(),
            Self::BranchKey => {
                "write branch_key_id for one branch key for all items, or branch_key_attribute for one for each tenant"
                    .to_owned()
            }
            Self::BranchKeyAttribute(name) => {
                format!("make {name:?} SIGN_AND_INCLUDE_IN_ENCRYPTION_CONTEXT, or name a key attribute")
            }
            Self::NoCache => "leave the field out, or write 1 or more".to_owned(),
        }
    }
}

/// A hierarchical keyring as the job file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HierarchySettings {
    /// The key store's table.
    pub table: String,
    /// The key store's logical name.
    pub name: String,
    /// Which KMS keys may have wrapped its rows.
    pub readers: KeyStoreReaders,
    /// The branch key of an item.
    pub branch_key: BranchKeyId,
    /// How long branch keys are kept, and how many.
    pub keep: KeepBranchKeys,
    /// How the key store's table is reached.
    pub access: Access,
}

impl HierarchySettings {
    /// How KMS is reached: as the table is, but in the key's own Region.
    #[must_use]
    pub fn kms_access(&self) -> Access {
        match &self.readers {
            KeyStoreReaders::Strict(key) => Access { region: Some(key.region().to_owned()), ..self.access.clone() },
            KeyStoreReaders::Discovery(_) => self.access.clone(),
        }
    }

    /// Everything that checkpoints depend on, in words. Not the KMS key: rows may move to another.
    #[must_use]
    pub fn in_words(&self) -> String {
        let ids = match &self.branch_key {
            BranchKeyId::Fixed(_) => String::new(),
            BranchKeyId::Attribute { ids, .. } => {
                let mut ids: Vec<_> = ids.iter().map(|(value, id)| format!(", {value:?} as {id}")).collect();
                ids.sort_unstable();
                ids.concat()
            }
        };
        format!("{}{ids} of the key store {}", self.branch_key.recipient().recipient, self.name)
    }

    pub(super) fn read(section: &Section<'_>, schema: &Schema) -> Result<Self, Fault> {
        let optional = |field| Ok(section.text(field)?.map(|text| text.value));
        let table = section.required_text("key_store_table")?.value;
        let readers = readers(section)?;
        let own_region = match &readers {
            KeyStoreReaders::Strict(key) => Some(key.region().to_owned()),
            KeyStoreReaders::Discovery(_) => None,
        };
        let access = Access {
            region: optional("region")?.or(own_region),
            profile: optional("profile")?,
            role_arn: optional("role_arn")?,
        };
        let most = positive(section, "cache_entries", CACHE_ENTRIES)?;
        let keep = KeepBranchKeys {
            time_to_live: Duration::from_secs(positive(section, "cache_seconds", CACHE_SECONDS)?),
            most: usize::try_from(most).unwrap_or(usize::MAX),
        };
        let name = optional("key_store_name")?.unwrap_or_else(|| table.clone());
        Ok(Self { name, readers, branch_key: branch_key(section, schema)?, keep, access, table })
    }
}

fn readers(section: &Section<'_>) -> Result<KeyStoreReaders, Fault> {
    let arn = section.text("kms_key_arn")?;
    let readers = section.text("key_store_readers")?;
    match (arn, readers) {
        (Some(arn), None) => {
            let extra = ["partition", "accounts"].into_iter().find_map(|field| section.place_of_field(field));
            if let Some(place) = extra {
                return Err(Fault { place, refusal: Refusal::Hierarchy(HierarchyRefusal::FilterOfOneKey) });
            }
            arn.parse(|arn| KeyArn::parse(&arn).map_err(Refusal::KeyArn)).map(|key| KeyStoreReaders::Strict(key.value))
        }
        (None, Some(word)) => {
            let checked = |word: String| match word.as_str() {
                DISCOVERY => Ok(()),
                other => Err(Refusal::word(other, &READERS)),
            };
            word.parse(checked)?;
            filter(section).map(KeyStoreReaders::Discovery)
        }
        _ => Err(Fault {
            place: section.place().clone(),
            refusal: Refusal::Hierarchy(HierarchyRefusal::KeyStoreReaders),
        }),
    }
}

fn branch_key(section: &Section<'_>, schema: &Schema) -> Result<BranchKeyId, Fault> {
    // Only keys and what is included stand in the encryption context, which is all that a keyring sees.
    let in_context = |name: String| match schema.action(&name) {
        Some(Action::SignAndIncludeInEncryptionContext) => Ok(name),
        _ if schema.keys.contains(&name) => Ok(name),
        _ => Err(Refusal::Hierarchy(HierarchyRefusal::BranchKeyAttribute(name))),
    };
    let ids: HashMap<String, String> =
        section.entries("branch_keys")?.into_iter().map(|(value, id)| (value, id.value)).collect();
    match (section.text("branch_key_id")?, section.text("branch_key_attribute")?) {
        (Some(id), None) if ids.is_empty() => Ok(BranchKeyId::Fixed(id.value)),
        (None, Some(name)) => Ok(BranchKeyId::Attribute { name: name.parse(in_context)?.value, ids }),
        _ => Err(Fault { place: section.place().clone(), refusal: Refusal::Hierarchy(HierarchyRefusal::BranchKey) }),
    }
}

fn positive(section: &Section<'_>, field: &'static str, default: u64) -> Result<u64, Fault> {
    let Some(number) = section.number(field)? else { return Ok(default) };
    number
        .parse(|number| if number == 0 { Err(Refusal::Hierarchy(HierarchyRefusal::NoCache)) } else { Ok(number) })
        .map(|number| number.value)
}
