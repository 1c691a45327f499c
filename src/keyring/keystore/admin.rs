//! What changes a key store: the table, new branch keys and versions, and the move of rows to another KMS key
//! (`branch-key-store.md`, `CreateKeyStore`, `CreateKey`, `VersionKey`).

use std::collections::BTreeMap;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, CancellationReason, ConditionCheck, KeySchemaElement, KeyType,
    Put, ScalarAttributeType, TransactWriteItem,
};
use time::OffsetDateTime;
use uuid::{Builder, Uuid};

use super::row::{self, Row};
use super::{KeyStore, KeyStoreError, RE_ENCRYPT, RowProblem, broken};
use crate::aws::Fault;
use crate::crypto::{KEY_BYTES, Secret};
use crate::keyring::KeyArn;

/// The most parts of one transaction (API reference, `TransactWriteItems`).
const PARTS_MAX: usize = 100;
/// The most rows of a branch key that move together: the rest of a transaction is checks.
pub const ROWS_MAX: usize = PARTS_MAX - row::MUTATIONS.len();

const TRANSACT: &str = "TransactWriteItems";
const GENERATE: &str = "GenerateDataKeyWithoutPlaintext";

/// A key store for changing.
#[derive(Debug)]
pub struct KeyStoreAdmin {
    store: KeyStore,
}

/// What became of a key store's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It is being made; this is its ARN.
    Made(String),
    /// It was there already; this is its ARN.
    There(String),
}

/// What became of a branch key's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// So many were moved.
    Rows(usize),
    /// All of them are under that KMS key already.
    There,
}

impl KeyStoreAdmin {
    /// Changes this key store. Sends nothing.
    #[must_use]
    pub const fn new(store: KeyStore) -> Self {
        Self { store }
    }

    /// The key store, for reading.
    #[must_use]
    pub const fn store(&self) -> &KeyStore {
        &self.store
    }

    /// Makes the table, on demand, unless it is there.
    ///
    /// # Errors
    /// [`KeyStoreError::NoKeyStore`] when there is another table of that name, or a service does not do its part.
    pub async fn create_table(&self) -> Result<Created, KeyStoreError> {
        if let Some(there) = self.store.arn().await? {
            return Ok(Created::There(there));
        }
        let text = |name| AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
        let key = |name, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
        let mut request = self.store.tables.create_table().table_name(&self.store.table);
        for (name, kind) in [(row::ID, KeyType::Hash), (row::TYPE, KeyType::Range)] {
            let definition = text(name).build().expect("a name and a type are all that a definition takes");
            let element = key(name, kind).expect("a name and a kind are all that an element takes");
            request = request.attribute_definitions(definition).key_schema(element);
        }
        match request.billing_mode(BillingMode::PayPerRequest).send().await {
            Ok(answer) => {
                Ok(Created::Made(answer.table_description.and_then(|table| table.table_arn).unwrap_or_default()))
            }
            // Somebody else was faster.
            Err(SdkError::ServiceError(answer))
                if matches!(answer.err(), CreateTableError::ResourceInUseException(_)) =>
            {
                Ok(Created::There(self.store.arn().await?.unwrap_or_default()))
            }
            Err(error) => Err(self.store.table_error("CreateTable", &Fault::of(&error))),
        }
    }

    /// Makes a branch key with its first version and a beacon key, and returns the version. `custom` are pairs that KMS
    /// authenticates with every row of it.
    ///
    /// # Errors
    /// [`KeyStoreError::Exists`] when there is a branch key of this id, or a service does not do its part.
    pub async fn new_branch_key(
        &self,
        id: &str,
        key: &KeyArn,
        custom: &BTreeMap<String, String>,
        now: OffsetDateTime,
    ) -> Result<Uuid, KeyStoreError> {
        let custom = custom.iter().map(|(name, value)| (format!("{}{name}", row::CUSTOM), value.clone())).collect();
        let created = timestamp(now);
        let (version, [own, active]) = self.version_of(id, key, &custom, &created).await?;
        let beacon = self.generate(row::texts(id, row::BEACON, key.as_str(), &created, &custom), key).await?;
        let parts = [own, active, beacon].iter().map(|row| self.put(row, None)).collect();
        match self.write(id, parts).await {
            Err(KeyStoreError::Changed { table, id }) => Err(KeyStoreError::Exists { table, id }),
            written => written.map(|()| version),
        }
    }

    /// Makes a new version of a branch key and lets it be ACTIVE, and returns it. The beacon key stays.
    ///
    /// # Errors
    /// [`KeyStoreError`] when the ACTIVE row is not there or does not verify, somebody else changed it meanwhile, or a
    /// service does not do its part.
    pub async fn rotate(&self, id: &str, now: OffsetDateTime) -> Result<Uuid, KeyStoreError> {
        let old = self.store.row(id, row::ACTIVE).await?;
        let key = self.store.trusted(&old)?;
        // KMS authenticates the row without giving the key away; the answer serves for nothing else.
        self.re_encrypt(&old, &key, &old, &key).await?;
        let (version, [own, active]) = self.version_of(id, &key, &old.custom(), &timestamp(now)).await?;
        let parts = vec![self.put(&own, None), self.put(&active, Some(&old))];
        self.write(id, parts).await.map(|()| version)
    }

    /// Moves all rows of a branch key to another KMS key of the same Region: each is re-encrypted by KMS, unwrapped again,
    /// and then all are written in one transaction, on condition that none of them has changed. Rows that are there
    /// already are left alone.
    ///
    /// # Errors
    /// [`KeyStoreError::Unmovable`] when somebody else is at work on the branch key, or it has too many rows; otherwise
    /// [`KeyStoreError`] when a row does not verify, was changed meanwhile, or a service does not do its part. Nothing is
    /// written then, unless the outcome is not known.
    pub async fn rewrap(&self, id: &str, to: &KeyArn) -> Result<Moved, KeyStoreError> {
        let rows = self.store.rows_of(id).await?;
        let pending: Vec<Row> = rows.into_iter().filter(|row| row.kms_arn() != to.as_str()).collect();
        if pending.is_empty() {
            return Ok(Moved::There);
        }
        if pending.len() > ROWS_MAX {
            let problem = format!(
                "has {} rows, and a transaction moves {ROWS_MAX} at most: moved in parts, half of it would be unreadable \
                 for readers of either key; delete rows of versions that no item names any more",
                pending.len()
            );
            return Err(self.store.unmovable(id, problem));
        }
        let mut keys: Vec<(Uuid, Secret)> = Vec::new();
        let mut parts = Vec::with_capacity(PARTS_MAX);
        for old in &pending {
            let from = self.store.trusted(old)?;
            let new = old.moved(to.as_str());
            let enc = self.re_encrypt(old, &from, &new, to).await?;
            let new = new.with(enc);
            // Nothing is written that does not unwrap.
            let key = self.store.unwrap(&new).await?;
            if let Some(version) = new.version() {
                // ACTIVE is a copy of its version.
                if keys.iter().any(|(other, copy)| *other == version && *copy != key) {
                    return Err(self.store.wrong_row(id, new.kind(), RowProblem::Copy));
                }
                keys.push((version, key));
            }
            parts.push(self.put(&new, Some(old)));
        }
        parts.extend(row::MUTATIONS.iter().map(|kind| self.absent(id, kind)));
        let moved = pending.len();
        self.write(id, parts).await.map(|()| Moved::Rows(moved))
    }

    /// A new version of a branch key: its own row, and the ACTIVE one, which is a copy of it under another context.
    async fn version_of(
        &self,
        id: &str,
        key: &KeyArn,
        custom: &BTreeMap<String, String>,
        created: &str,
    ) -> Result<(Uuid, [Row; 2]), KeyStoreError> {
        let version = Builder::from_random_bytes(rand::random()).into_uuid();
        let kind = row::kind_of(version);
        let own = self.generate(row::texts(id, &kind, key.as_str(), created, custom), key).await?;
        let mut texts = row::texts(id, row::ACTIVE, key.as_str(), created, custom);
        texts.insert(row::VERSION.to_owned(), kind);
        let active = Row::new(texts);
        let enc = self.re_encrypt(&own, key, &active, key).await?;
        Ok((version, [own, active.with(enc)]))
    }

    /// A row with a fresh key, which nobody but KMS has seen.
    async fn generate(&self, texts: BTreeMap<String, String>, key: &KeyArn) -> Result<Row, KeyStoreError> {
        let row = Row::new(texts);
        let request = self.store.kms.generate_data_key_without_plaintext().key_id(key.as_str());
        let request = request.number_of_bytes(KEY_BYTES as i32);
        let request = request.set_encryption_context(Some(row.context(&self.store.name)));
        self.store.count();
        let answer = request.send().await.map_err(|error| self.store.kms_error(GENERATE, &row, &Fault::of(&error)))?;
        let enc = answer.ciphertext_blob.map(Blob::into_inner).filter(|enc| !enc.is_empty());
        match (answer.key_id.as_deref() == Some(key.as_str()), enc) {
            (true, Some(enc)) => Ok(row.with(enc)),
            _ => Err(broken(GENERATE, &row, "the answer is not what was asked for")),
        }
    }

    /// Has KMS wrap the key of `old` under the context of `new`; it leaves KMS at no time.
    async fn re_encrypt(&self, old: &Row, from: &KeyArn, new: &Row, to: &KeyArn) -> Result<Vec<u8>, KeyStoreError> {
        let request = self.store.kms.re_encrypt().ciphertext_blob(Blob::new(old.enc.as_slice()));
        let request = request.source_key_id(from.as_str()).destination_key_id(to.as_str());
        let request = request.set_source_encryption_context(Some(old.context(&self.store.name)));
        let request = request.set_destination_encryption_context(Some(new.context(&self.store.name)));
        self.store.count();
        let answer = request.send().await.map_err(|error| self.store.kms_error(RE_ENCRYPT, old, &Fault::of(&error)))?;
        let enc = answer.ciphertext_blob.map(Blob::into_inner).filter(|enc| !enc.is_empty());
        let (source, destination) = (answer.source_key_id.as_deref(), answer.key_id.as_deref());
        match ((source, destination) == (Some(from.as_str()), Some(to.as_str())), enc) {
            (true, Some(enc)) => Ok(enc),
            _ => Err(broken(RE_ENCRYPT, old, "the answer is not what was asked for")),
        }
    }

    /// The part of a transaction that writes a row: where there is none of its key, or in place of one that has not
    /// changed.
    fn put(&self, row: &Row, old: Option<&Row>) -> TransactWriteItem {
        let put = Put::builder().table_name(&self.store.table).set_item(Some(row.to_item()));
        let put = match old {
            None => put.condition_expression("attribute_not_exists(#id)").expression_attribute_names("#id", row::ID),
            Some(old) => put
                .condition_expression("#enc = :enc AND #arn = :arn")
                .expression_attribute_names("#enc", row::ENC)
                .expression_attribute_names("#arn", row::KMS_ARN)
                .expression_attribute_values(":enc", AttributeValue::B(Blob::new(old.enc.as_slice())))
                .expression_attribute_values(":arn", AttributeValue::S(old.kms_arn().to_owned())),
        };
        TransactWriteItem::builder().put(put.build().expect("table and item are all that it takes")).build()
    }

    /// The part of a transaction that demands that there is no such row.
    fn absent(&self, id: &str, kind: &str) -> TransactWriteItem {
        let check = ConditionCheck::builder().table_name(&self.store.table).set_key(Some(row::key(id, kind)));
        let check = check.condition_expression("attribute_not_exists(#id)").expression_attribute_names("#id", row::ID);
        let check = check.build().expect("table, key and condition are all that it takes");
        TransactWriteItem::builder().condition_check(check).build()
    }

    async fn write(&self, id: &str, parts: Vec<TransactWriteItem>) -> Result<(), KeyStoreError> {
        let sent = self.store.tables.transact_write_items().set_transact_items(Some(parts)).send().await;
        let Err(error) = sent else { return Ok(()) };
        if let SdkError::ServiceError(answer) = &error
            && let TransactWriteItemsError::TransactionCanceledException(cancelled) = answer.err()
        {
            let reasons = cancelled.cancellation_reasons();
            let code = |reason: &CancellationReason| reason.code.clone().filter(|code| code != "None");
            let codes: Vec<String> = reasons.iter().filter_map(code).collect();
            let changed = ["ConditionalCheckFailed", "TransactionConflict"];
            if codes.iter().any(|code| changed.contains(&code.as_str())) {
                return Err(KeyStoreError::Changed { table: self.store.table.clone(), id: id.to_owned() });
            }
            let code = codes.first().map_or("TransactionCanceledException", String::as_str);
            return Err(self.store.table_error(TRANSACT, &Fault::of_statement(code, cancelled.message.as_deref())));
        }
        Err(self.store.table_error(TRANSACT, &Fault::of(&error)))
    }
}

/// As AWS's libraries write it: ISO 8601 in UTC, to the microsecond.
fn timestamp(now: OffsetDateTime) -> String {
    let now = now.to_offset(time::UtcOffset::UTC);
    let (year, month, day) = (now.year(), u8::from(now.month()), now.day());
    let (hour, minute, second, micros) = now.to_hms_micro();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_microseconds() {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(1_767_225_600_000_123_999).unwrap();
        assert_eq!(timestamp(moment), "2026-01-01T00:00:00.000123Z");
    }
}
