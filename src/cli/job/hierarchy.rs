//! Settings of the hierarchical keyring: its key store, and which branch key an item is sealed under.

use std::collections::HashMap;
use std::time::Duration;

use super::refusal::{Fault, Refusal};
use super::section::{At, Section};
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
            KeyStoreReaders::Discovery { .. } => self.access.clone(),
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
            KeyStoreReaders::Discovery { .. } => None,
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
    let partition = section.text("partition")?;
    let accounts = section.texts("accounts")?;
    match (arn, readers) {
        (Some(arn), None) => {
            let filter = partition.or_else(|| accounts.and_then(|accounts| accounts.into_iter().next()));
            if let Some(At { place, .. }) = filter {
                return Err(Fault { place, refusal: Refusal::FilterOfOneKey });
            }
            arn.parse(|arn| KeyArn::parse(&arn).map_err(Refusal::KeyArn)).map(|key| KeyStoreReaders::Strict(key.value))
        }
        (None, Some(word)) => {
            let checked = |word: String| match word.as_str() {
                DISCOVERY => Ok(()),
                other => Err(Refusal::word(other, &READERS)),
            };
            word.parse(checked)?;
            let accounts = accounts.unwrap_or_default().into_iter().map(|account| account.value).collect();
            Ok(KeyStoreReaders::Discovery { partition: partition.map(|partition| partition.value), accounts })
        }
        _ => Err(Fault { place: section.place().clone(), refusal: Refusal::KeyStoreReaders }),
    }
}

fn branch_key(section: &Section<'_>, schema: &Schema) -> Result<BranchKeyId, Fault> {
    // Only keys and what is included stand in the encryption context, which is all that a keyring sees.
    let in_context = |name: String| match schema.action(&name) {
        Some(Action::SignAndIncludeInEncryptionContext) => Ok(name),
        _ if schema.keys.contains(&name) => Ok(name),
        _ => Err(Refusal::BranchKeyAttribute(name)),
    };
    let ids: HashMap<String, String> =
        section.entries("branch_keys")?.into_iter().map(|(value, id)| (value, id.value)).collect();
    match (section.text("branch_key_id")?, section.text("branch_key_attribute")?) {
        (Some(id), None) if ids.is_empty() => Ok(BranchKeyId::Fixed(id.value)),
        (None, Some(name)) => Ok(BranchKeyId::Attribute { name: name.parse(in_context)?.value, ids }),
        _ => Err(Fault { place: section.place().clone(), refusal: Refusal::BranchKey }),
    }
}

fn positive(section: &Section<'_>, field: &'static str, default: u64) -> Result<u64, Fault> {
    let Some(number) = section.number(field)? else { return Ok(default) };
    number.parse(|number| if number == 0 { Err(Refusal::NoCache) } else { Ok(number) }).map(|number| number.value)
}
