//! The key store: branch keys in a DynamoDB table, each row wrapped by a KMS key (AWS Material Providers Library
//! specification, `branch-key-store.md`, hierarchy version 1).
//!
//! | attribute | | |
//! |---|---|---|
//! | `branch-key-id` | S | partition key |
//! | `type` | S | sort key: `branch:ACTIVE`, `branch:version:UUID` for each version, `beacon:ACTIVE` |
//! | `version` | S | of the ACTIVE row alone: the `type` of the version that it is a copy of |
//! | `enc` | B | the key, wrapped by KMS |
//! | `kms-arn` | S | the KMS key |
//! | `create-time` | S | ISO 8601, UTC; of the ACTIVE row as of its version's |
//! | `hierarchy-version` | N | 1 |
//! | `aws-crypto-ec:NAME` | S | custom pairs, the same in all rows of a branch key |
//!
//! The KMS context of `enc` is every other attribute of its row as text, and `tablename`: the *logical* name of the key
//! store, which all its readers are configured with. So whoever changes a row makes it useless, and nothing else.

mod admin;
mod list;
mod row;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kms::primitives::Blob;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{DiscoveryFilter, KeyArn, KeyringClass};
use crate::aws::{AwsConfig, Fault};
use crate::crypto::Secret;
use row::Row;

pub use admin::{Created, KeyStoreAdmin, Moved, ROWS_MAX};
pub use list::RowFacts;
pub use row::RowProblem;

const RE_ENCRYPT: &str = "ReEncrypt";

/// Which KMS keys may have wrapped the rows of a key store: what its readers are configured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyStoreReaders {
    /// This key alone: rows that name another are refused.
    Strict(KeyArn),
    /// Whichever key a row names, if it is of these accounts. Whoever can write the key store chooses among them, and with
    /// a key of his own could have items sealed for himself.
    Discovery(DiscoveryFilter),
}

/// Why a key store does not give a branch key, or cannot be changed. Says the remedy; never a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyStoreError {
    /// There is no such table.
    #[error(
        "the key store table {table} does not exist; check its name and Region, or make it with `reseal keystore create`"
    )]
    NoTable {
        /// The table.
        table: String,
    },
    /// There is no such row.
    #[error(
        "the key store {table} has no row {kind} of the branch key {id}; check the id, or make the branch key with \
         `reseal keystore new-branch-key`"
    )]
    NoRow {
        /// The key store's table.
        table: String,
        /// The branch key.
        id: String,
        /// The row's type.
        kind: String,
    },
    /// A row that is not as AWS's libraries write it.
    #[error("the key store {table}: the row {kind} of the branch key {id} {problem}; restore it from a backup")]
    Row {
        /// The key store's table.
        table: String,
        /// The branch key.
        id: String,
        /// The row's type.
        kind: String,
        /// What is wrong.
        problem: RowProblem,
    },
    /// A row under a KMS key that the configuration does not allow.
    #[error(
        "the key store {table}: the row {kind} of the branch key {id} is wrapped by {found:?}, and {rule}; name that \
         key or its account, if it is yours, or read with key_store_readers = \"discovery\""
    )]
    Key {
        /// The key store's table.
        table: String,
        /// The branch key.
        id: String,
        /// The row's type.
        kind: String,
        /// The key that the row names.
        found: String,
        /// The rule that it breaks.
        rule: String,
    },
    /// KMS does not unwrap the row.
    #[error(
        "the key store {table}: KMS refuses the row {kind} of the branch key {id} (InvalidCiphertextException): the row \
         was tampered with, or the key store's logical name is not {name:?}; compare key_store_name with that of your \
         readers, or restore the row from a backup"
    )]
    Rejected {
        /// The key store's table.
        table: String,
        /// The branch key.
        id: String,
        /// The row's type.
        kind: String,
        /// The logical name that was used.
        name: String,
    },
    /// Somebody else changed the rows meanwhile, or they are there already.
    #[error(
        "the key store {table}: the rows of the branch key {id} were changed by somebody else meanwhile, and nothing was \
         written; look with `reseal keystore describe`, and try again"
    )]
    Changed {
        /// The key store's table.
        table: String,
        /// The branch key.
        id: String,
    },
    /// There is such a branch key.
    #[error("the key store {table} has a branch key {id} already; choose another id, or rotate that one")]
    Exists {
        /// The key store's table.
        table: String,
        /// The branch key.
        id: String,
    },
    /// A branch key that reseal leaves alone.
    #[error("the key store {table}: the branch key {id} {problem}")]
    Unmovable {
        /// The key store's table.
        table: String,
        /// The branch key.
        id: String,
        /// Why, and the remedy.
        problem: String,
    },
    /// A table that is no key store.
    #[error(
        "the table {table} is there and is no key store: its keys are not branch-key-id and type, both texts; choose \
         another name"
    )]
    NoKeyStore {
        /// The table.
        table: String,
    },
    /// A service refused or did not answer.
    #[error("{subject}: {problem}")]
    Service {
        /// What it means for the run.
        class: KeyringClass,
        /// The table or key concerned.
        subject: String,
        /// What happened, and the remedy.
        problem: String,
    },
}

impl KeyStoreError {
    /// Whether it concerns one branch key only.
    #[must_use]
    pub fn concerns_one(&self) -> bool {
        self.class(KeyringClass::Item) == KeyringClass::Item
    }

    /// Whether a service may do better later. Of a change it is not known then whether it was made.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        let passing = [KeyringClass::Throttled, KeyringClass::Transient];
        passing.contains(&self.class(KeyringClass::Item))
    }

    /// What it means for a run: `row` where it concerns one row only.
    pub(super) fn class(&self, row: KeyringClass) -> KeyringClass {
        match self {
            Self::NoTable { .. } | Self::NoKeyStore { .. } => KeyringClass::Key,
            Self::Service { class, .. } => *class,
            _ => row,
        }
    }
}

/// A branch key in clear.
#[derive(Debug)]
pub(super) struct BranchKey {
    pub(super) id: String,
    pub(super) version: Uuid,
    /// The time at which this version was made, as the row has it: ISO 8601, UTC.
    pub(super) created: String,
    pub(super) key: Secret,
}

impl BranchKey {
    /// Whether this version was made after another, as whoever made them says.
    pub(super) fn is_newer_than(&self, created: &str) -> bool {
        // Without their last letters the texts order as the moments do, whatever fraction of a second they end in.
        self.created.trim_end_matches('Z') > created.trim_end_matches('Z')
    }
}

/// A key store for reading: nothing here writes.
#[derive(Debug)]
pub struct KeyStore {
    tables: aws_sdk_dynamodb::Client,
    kms: aws_sdk_kms::Client,
    kms_region: String,
    table: String,
    /// The logical name.
    name: String,
    readers: KeyStoreReaders,
    kms_requests: AtomicU64,
}

impl KeyStore {
    /// The key store in this table, with this logical name. Sends nothing.
    #[must_use]
    pub fn new(tables: &AwsConfig, kms: &AwsConfig, table: &str, name: &str, readers: KeyStoreReaders) -> Self {
        Self {
            tables: aws_sdk_dynamodb::Client::new(tables.sdk()),
            kms: aws_sdk_kms::Client::new(kms.sdk()),
            kms_region: kms.region().unwrap_or_default().to_owned(),
            table: table.to_owned(),
            name: name.to_owned(),
            readers,
            kms_requests: AtomicU64::new(0),
        }
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The requests to KMS so far.
    pub fn kms_requests(&self) -> u64 {
        self.kms_requests.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.kms_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// The version of a branch key that keys are wrapped under now.
    pub(super) async fn active(&self, id: &str) -> Result<BranchKey, KeyStoreError> {
        self.branch_key(id, row::ACTIVE).await
    }

    /// One version of a branch key.
    pub(super) async fn version(&self, id: &str, version: Uuid) -> Result<BranchKey, KeyStoreError> {
        self.branch_key(id, &row::kind_of(version)).await
    }

    /// Looks whether the table can be read: for a branch key whose id no other has.
    pub(super) async fn probe(&self) -> Result<(), KeyStoreError> {
        match self.item(&Uuid::nil().to_string(), row::ACTIVE).await {
            Ok(_) | Err(KeyStoreError::NoRow { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn branch_key(&self, id: &str, kind: &str) -> Result<BranchKey, KeyStoreError> {
        let row = self.row(id, kind).await?;
        let version = row.version().ok_or_else(|| self.wrong_row(id, kind, RowProblem::Version))?;
        let key = self.unwrap(&row).await?;
        Ok(BranchKey { id: id.to_owned(), version, created: row.created().to_owned(), key })
    }

    async fn row(&self, id: &str, kind: &str) -> Result<Row, KeyStoreError> {
        let row = Row::from_item(self.item(id, kind).await?).map_err(|problem| self.wrong_row(id, kind, problem))?;
        if (row.id(), row.kind()) == (id, kind) { Ok(row) } else { Err(self.wrong_row(id, kind, RowProblem::Other)) }
    }

    async fn item(&self, id: &str, kind: &str) -> Result<HashMap<String, AttributeValue>, KeyStoreError> {
        let request = self.tables.get_item().table_name(&self.table).consistent_read(true);
        let answer = request
            .set_key(Some(row::key(id, kind)))
            .send()
            .await
            .map_err(|error| self.table_error("GetItem", &Fault::of(&error)))?;
        answer.item.filter(|item| !item.is_empty()).ok_or_else(|| KeyStoreError::NoRow {
            table: self.table.clone(),
            id: id.to_owned(),
            kind: kind.to_owned(),
        })
    }

    /// Has KMS unwrap a row under its own context.
    async fn unwrap(&self, row: &Row) -> Result<Secret, KeyStoreError> {
        let arn = self.trusted(row)?;
        let request = self.kms.decrypt().key_id(arn.as_str()).ciphertext_blob(Blob::new(row.enc.as_slice()));
        let request = request.set_encryption_context(Some(row.context(&self.name)));
        self.count();
        let mut answer = request.send().await.map_err(|error| self.kms_error("Decrypt", row, &Fault::of(&error)))?;
        // Taken first, so that the SDK's copy is wiped whatever the answer is worth.
        let key = answer.plaintext.take().and_then(take_secret);
        match (answer.key_id.as_deref() == Some(arn.as_str()), key) {
            (true, Some(key)) => Ok(key),
            (false, _) => Err(broken("Decrypt", row, "the answer is of another key than was asked for")),
            (true, None) => Err(broken("Decrypt", row, "the answer has no branch key of 32 bytes")),
        }
    }

    fn unmovable(&self, id: &str, problem: String) -> KeyStoreError {
        KeyStoreError::Unmovable { table: self.table.clone(), id: id.to_owned(), problem }
    }

    /// The KMS key that wrapped the row, if the configuration allows it.
    fn trusted(&self, row: &Row) -> Result<KeyArn, KeyStoreError> {
        let refuse = |rule: String| KeyStoreError::Key {
            table: self.table.clone(),
            id: row.id().to_owned(),
            kind: row.kind().to_owned(),
            found: row.kms_arn().to_owned(),
            rule,
        };
        match &self.readers {
            KeyStoreReaders::Strict(key) if key.as_str() == row.kms_arn() => Ok(key.clone()),
            KeyStoreReaders::Strict(key) => Err(refuse(format!("the configured key is {}", key.as_str()))),
            KeyStoreReaders::Discovery(filter) => {
                let arn = KeyArn::parse(row.kms_arn()).map_err(|_| refuse("that is no ARN of a key".to_owned()))?;
                if !filter.allows(&arn) {
                    let (account, partition) = (arn.account(), arn.partition());
                    return Err(refuse(format!("the account {account} ({partition}) is not among those allowed")));
                }
                if arn.region() != self.kms_region {
                    return Err(refuse(format!("requests go to {}", self.kms_region)));
                }
                Ok(arn)
            }
        }
    }

    fn wrong_row(&self, id: &str, kind: &str, problem: RowProblem) -> KeyStoreError {
        KeyStoreError::Row { table: self.table.clone(), id: id.to_owned(), kind: kind.to_owned(), problem }
    }

    fn table_error(&self, operation: &str, fault: &Fault) -> KeyStoreError {
        if matches!(fault.code(), "ResourceNotFoundException" | "ResourceNotFound") {
            return KeyStoreError::NoTable { table: self.table.clone() };
        }
        let remedy = match KeyringClass::of(fault) {
            KeyringClass::Denied => format!("; allow dynamodb:{operation} on the key store table"),
            KeyringClass::Item => "; check that the table is a key store".to_owned(),
            _ => String::new(),
        };
        // A request that is no item's own is refused for all of them.
        let class = match KeyringClass::of(fault) {
            KeyringClass::Item => KeyringClass::Key,
            other => other,
        };
        let subject = format!("key store {}", self.table);
        KeyStoreError::Service { class, subject, problem: format!("{operation}: {fault}{remedy}") }
    }

    fn kms_error(&self, operation: &str, row: &Row, fault: &Fault) -> KeyStoreError {
        if matches!(fault.code(), "InvalidCiphertextException" | "IncorrectKeyException") {
            return KeyStoreError::Rejected {
                table: self.table.clone(),
                id: row.id().to_owned(),
                kind: row.kind().to_owned(),
                name: self.name.clone(),
            };
        }
        let remedy = match fault.code() {
            "AccessDeniedException" if operation == RE_ENCRYPT => {
                "; allow kms:ReEncryptFrom on the key that a row is under, and kms:ReEncryptTo on that which it shall be \
                 under"
                    .to_owned()
            }
            "AccessDeniedException" => {
                format!("; allow kms:{operation} on the key, in its key policy or the caller's IAM policy")
            }
            "DisabledException" => "; enable the key".to_owned(),
            "KMSInvalidStateException" => {
                "; cancel the key's deletion, or import its material, or connect its key store".to_owned()
            }
            "NotFoundException" => "; check the key's ARN, or restore the row from a backup".to_owned(),
            _ => String::new(),
        };
        // Where rows may be under keys of their own, one that cannot be used concerns its branch keys only.
        let class = match (KeyringClass::of(fault), &self.readers) {
            (KeyringClass::Key, KeyStoreReaders::Discovery(_)) => KeyringClass::Item,
            (other, _) => other,
        };
        let subject = format!("{} of the branch key {}", row.kms_arn(), row.id());
        KeyStoreError::Service { class, subject, problem: format!("{operation}: {fault}{remedy}") }
    }
}

/// An answer that KMS never gives.
fn broken(operation: &str, row: &Row, problem: &str) -> KeyStoreError {
    let problem = format!("{operation}: {problem}; check that the endpoint is KMS");
    let subject = format!("{} of the branch key {}", row.kms_arn(), row.id());
    KeyStoreError::Service { class: KeyringClass::Key, subject, problem }
}

/// Takes the key over from a response and wipes the response's copy. Copies that the HTTP client made on the way are out
/// of reach.
fn take_secret(blob: Blob) -> Option<Secret> {
    Secret::from_slice(&Zeroizing::new(blob.into_inner()))
}
