//! One row of a key store, and what KMS has to authenticate of it.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use uuid::Uuid;

pub(super) const ID: &str = "branch-key-id";
pub(super) const TYPE: &str = "type";
pub(super) const ENC: &str = "enc";
pub(super) const KMS_ARN: &str = "kms-arn";
pub(super) const CREATE_TIME: &str = "create-time";
pub(super) const HIERARCHY_VERSION: &str = "hierarchy-version";
pub(super) const VERSION: &str = "version";
/// How the names of custom pairs begin.
pub(super) const CUSTOM: &str = "aws-crypto-ec:";
/// The pair of the KMS context that is no attribute: the key store's logical name.
const TABLE_NAME: &str = "tablename";

/// The row that items are sealed under.
pub(super) const ACTIVE: &str = "branch:ACTIVE";
/// The row of the key that beacons are made with.
pub(super) const BEACON: &str = "beacon:ACTIVE";
const VERSION_PREFIX: &str = "branch:version:";
/// The rows that AWS's administration client keeps while it changes a branch key.
const MUTATION_PREFIX: &str = "branch:MUTATION";
/// Those of them that exclude others, by the names of its versions.
pub(super) const MUTATIONS: [&str; 2] = ["branch:MUTATION_LOCK", "branch:MUTATION_COMMITMENT"];

const HIERARCHY_VERSION_1: &str = "1";

/// What is wrong with a row, in words that follow its name. Never a value of `enc`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowProblem {
    /// An attribute that every row has is missing.
    #[error("has no \"{0}\"")]
    Missing(&'static str),
    /// An attribute is of a type that AWS's libraries do not write.
    #[error("has \"{0}\" in another type than AWS's libraries write")]
    Type(String),
    /// A layout that this version of reseal does not know.
    #[error("is of hierarchy version {0}, and reseal knows version 1 only")]
    HierarchyVersion(String),
    /// The ACTIVE row does not say of which version it is, or another row does.
    #[error("does not name its version as AWS's libraries do")]
    Version,
    /// The ACTIVE row and that of its version hold different keys.
    #[error("holds another key than the row that it is a copy of")]
    Copy,
    /// The service returned a row that was not asked for.
    #[error("was answered with another row; check the endpoint")]
    Other,
}

/// One row: the wrapped key, and every other attribute as text, which is how the KMS context has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    texts: BTreeMap<String, String>,
    pub(super) enc: Vec<u8>,
}

impl Row {
    /// A row that is to be made, as yet without a key.
    pub(super) fn new(texts: BTreeMap<String, String>) -> Self {
        Self { texts, enc: Vec::new() }
    }

    /// The row with this wrapped key.
    pub(super) fn with(self, enc: Vec<u8>) -> Self {
        Self { enc, ..self }
    }

    /// Reads a row of hierarchy version 1.
    pub(super) fn from_item(item: HashMap<String, AttributeValue>) -> Result<Self, RowProblem> {
        let (mut texts, mut enc) = (BTreeMap::new(), None);
        for (name, value) in item {
            let text = match (name.as_str(), value) {
                (ENC, AttributeValue::B(blob)) => {
                    enc = Some(blob.into_inner());
                    continue;
                }
                (HIERARCHY_VERSION, AttributeValue::N(text)) => text,
                (ENC | HIERARCHY_VERSION | TABLE_NAME, _) => return Err(RowProblem::Type(name)),
                (_, AttributeValue::S(text)) => text,
                _ => return Err(RowProblem::Type(name)),
            };
            texts.insert(name, text);
        }
        let row = Self { texts, enc: enc.filter(|enc| !enc.is_empty()).ok_or(RowProblem::Missing(ENC))? };
        for name in [ID, TYPE, KMS_ARN, CREATE_TIME, HIERARCHY_VERSION] {
            if row.text(name).is_empty() {
                return Err(RowProblem::Missing(name));
            }
        }
        match row.text(HIERARCHY_VERSION) {
            HIERARCHY_VERSION_1 => {}
            other => return Err(RowProblem::HierarchyVersion(other.to_owned())),
        }
        let is_branch_key = row.kind() != BEACON;
        if is_branch_key != row.version().is_some() || (row.kind() == ACTIVE) != row.texts.contains_key(VERSION) {
            return Err(RowProblem::Version);
        }
        Ok(row)
    }

    /// The row as DynamoDB stores it.
    pub(super) fn to_item(&self) -> HashMap<String, AttributeValue> {
        let texts = self.texts.iter().map(|(name, text)| match name.as_str() {
            HIERARCHY_VERSION => (name.clone(), AttributeValue::N(text.clone())),
            _ => (name.clone(), AttributeValue::S(text.clone())),
        });
        texts.chain([(ENC.to_owned(), AttributeValue::B(Blob::new(self.enc.clone())))]).collect()
    }

    /// The same row for another KMS key, as yet without a key.
    pub(super) fn moved(&self, arn: &str) -> Self {
        let mut texts = self.texts.clone();
        texts.insert(KMS_ARN.to_owned(), arn.to_owned());
        Self::new(texts)
    }

    fn text(&self, name: &str) -> &str {
        self.texts.get(name).map_or("", String::as_str)
    }

    pub(super) fn id(&self) -> &str {
        self.text(ID)
    }

    pub(super) fn kind(&self) -> &str {
        self.text(TYPE)
    }

    pub(super) fn kms_arn(&self) -> &str {
        self.text(KMS_ARN)
    }

    pub(super) fn created(&self) -> &str {
        self.text(CREATE_TIME)
    }

    /// Custom pairs by their attribute names.
    pub(super) fn custom(&self) -> BTreeMap<String, String> {
        let pairs = self.texts.iter().filter(|(name, _)| name.starts_with(CUSTOM));
        pairs.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The version of the branch key in this row; `None` for a beacon key's.
    pub(super) fn version(&self) -> Option<Uuid> {
        version_in(if self.kind() == ACTIVE { self.text(VERSION) } else { self.kind() })
    }

    /// What KMS authenticates of the row: every attribute but the wrapped key, and the key store's logical name
    /// (`branch-key-store.md`, "Encryption Context").
    pub(super) fn context(&self, logical_name: &str) -> HashMap<String, String> {
        let pairs = self.texts.iter().map(|(name, text)| (name.clone(), text.clone()));
        pairs.chain([(TABLE_NAME.to_owned(), logical_name.to_owned())]).collect()
    }
}

/// The key of a row.
pub(super) fn key(id: &str, kind: &str) -> HashMap<String, AttributeValue> {
    [(ID, id), (TYPE, kind)].map(|(name, text)| (name.to_owned(), AttributeValue::S(text.to_owned()))).into()
}

/// The attributes of a row that is to be made, `enc` aside.
pub(super) fn texts(
    id: &str,
    kind: &str,
    arn: &str,
    created: &str,
    custom: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let own =
        [(ID, id), (KMS_ARN, arn), (CREATE_TIME, created), (HIERARCHY_VERSION, HIERARCHY_VERSION_1), (TYPE, kind)];
    let own = own.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned()));
    own.chain(custom.iter().map(|(name, text)| (name.clone(), text.clone()))).collect()
}

/// The type of a version's row.
pub(super) fn kind_of(version: Uuid) -> String {
    format!("{VERSION_PREFIX}{version}")
}

/// Whether a row of this type says that AWS's administration client is at work on the branch key.
pub(super) fn is_mutation(kind: &str) -> bool {
    kind.starts_with(MUTATION_PREFIX)
}

/// The version in `branch:version:UUID`, in the spelling that AWS's libraries look up.
fn version_in(text: &str) -> Option<Uuid> {
    let text = text.strip_prefix(VERSION_PREFIX)?;
    Uuid::parse_str(text).ok().filter(|version| version.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> HashMap<String, AttributeValue> {
        let version = Uuid::from_u128(7);
        let mut texts = texts("id", ACTIVE, "arn", "2026", &[("aws-crypto-ec:a".to_owned(), "b".to_owned())].into());
        texts.insert(VERSION.to_owned(), kind_of(version));
        Row::new(texts).with(vec![1]).to_item()
    }

    #[test]
    fn everything_but_the_wrapped_key_is_in_the_context() {
        let row = Row::from_item(item()).unwrap();
        assert_eq!(row.version(), Some(Uuid::from_u128(7)));
        let mut context: Vec<_> = row.context("logical").into_iter().collect();
        context.sort_unstable();
        let expected = [
            ("aws-crypto-ec:a", "b"),
            ("branch-key-id", "id"),
            ("create-time", "2026"),
            ("hierarchy-version", "1"),
            ("kms-arn", "arn"),
            ("tablename", "logical"),
            ("type", "branch:ACTIVE"),
            ("version", "branch:version:00000000-0000-0000-0000-000000000007"),
        ];
        assert_eq!(context, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
        let moved = row.moved("other").with(vec![2]);
        assert_eq!(moved.context("logical").get("kms-arn").map(String::as_str), Some("other"));
        assert_eq!((moved.kms_arn(), &moved.enc[..], moved.texts.len()), ("other", &[2][..], row.texts.len()));
    }

    #[test]
    fn rows_that_are_none() {
        let with = |name: &str, value: Option<AttributeValue>| {
            let mut item = item();
            match value {
                Some(value) => drop(item.insert(name.to_owned(), value)),
                None => drop(item.remove(name)),
            }
            Row::from_item(item).unwrap_err()
        };
        let text = |text: &str| Some(AttributeValue::S(text.to_owned()));
        for name in [ID, TYPE, ENC, KMS_ARN, CREATE_TIME, HIERARCHY_VERSION] {
            let missing = with(name, None);
            assert!(missing == RowProblem::Missing(name) || name == TYPE, "{missing}");
        }
        for name in [ID, ENC, KMS_ARN, CREATE_TIME, HIERARCHY_VERSION, "tablename", "aws-crypto-ec:a"] {
            assert_eq!(with(name, Some(AttributeValue::Bool(true))), RowProblem::Type(name.to_owned()));
        }
        assert_eq!(with("tablename", text("other")), RowProblem::Type("tablename".to_owned()));
        assert_eq!(with(ENC, Some(AttributeValue::B(Blob::new(b"")))), RowProblem::Missing(ENC));
        let newer = with(HIERARCHY_VERSION, Some(AttributeValue::N("2".to_owned())));
        assert_eq!(newer, RowProblem::HierarchyVersion("2".to_owned()));
        for version in ["7", "branch:version:7", "branch:version:00000000-0000-0000-0000-00000000000A"] {
            assert_eq!(with(VERSION, text(version)), RowProblem::Version);
        }
        assert_eq!(with(TYPE, text(BEACON)), RowProblem::Version);
        assert_eq!(with(TYPE, text("branch:version:00000000-0000-0000-0000-000000000007")), RowProblem::Version);
    }
}
