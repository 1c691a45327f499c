//! What a key store says of itself: its table, its branch keys, their rows.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::describe_table::DescribeTableError;
use aws_sdk_dynamodb::types::{AttributeValue, KeyType, ScalarAttributeType, TableDescription};

use super::row::{self, Row};
use super::{KeyStore, KeyStoreError};
use crate::aws::Fault;

type Item = HashMap<String, AttributeValue>;

/// What a row says of itself. Nothing of it is authenticated until KMS unwraps the row; the wrapped key is left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RowFacts {
    /// The branch key.
    pub branch_key_id: String,
    /// `branch:ACTIVE`, `branch:version:UUID`, `beacon:ACTIVE`, or another.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of an ACTIVE row: the type of the version's row.
    pub version: Option<String>,
    /// The KMS key that wraps it.
    pub kms_arn: Option<String>,
    /// When it was made: ISO 8601.
    pub create_time: Option<String>,
    /// Why reseal does not use it, if it does not.
    pub problem: Option<String>,
}

impl KeyStore {
    /// The rows of one branch key, or of all, ordered by id and type.
    ///
    /// # Errors
    /// [`KeyStoreError`] when the table cannot be read.
    pub async fn facts(&self, id: Option<&str>) -> Result<Vec<RowFacts>, KeyStoreError> {
        let items = match id {
            Some(id) => self.query(id).await?,
            None => self.scan(None).await?,
        };
        let mut facts: Vec<RowFacts> = items.into_iter().map(facts).collect();
        facts.sort_unstable();
        Ok(facts)
    }

    /// The ids of all branch keys, in order.
    ///
    /// # Errors
    /// [`KeyStoreError`] when the table cannot be read.
    pub async fn branch_key_ids(&self) -> Result<BTreeSet<String>, KeyStoreError> {
        let items = self.scan(Some("#id")).await?;
        Ok(items.iter().filter_map(|item| text(item, row::ID)).collect())
    }

    /// Every row of a branch key that nobody is at work on.
    pub(super) async fn rows_of(&self, id: &str) -> Result<Vec<Row>, KeyStoreError> {
        let items = self.query(id).await?;
        let kind = |item: &Item| text(item, row::TYPE).unwrap_or_default();
        if let Some(mutation) = items.iter().map(kind).find(|kind| row::is_mutation(kind)) {
            let problem = format!(
                "is being changed by AWS's administration client: there is a row {mutation}; let that finish, or have it \
                 take the row away"
            );
            return Err(self.unmovable(id, problem));
        }
        if !items.iter().any(|item| kind(item) == row::ACTIVE) {
            let (table, id, kind) = (self.table.clone(), id.to_owned(), row::ACTIVE.to_owned());
            return Err(KeyStoreError::NoRow { table, id, kind });
        }
        let read = |item: Item| {
            let kind = kind(&item);
            Row::from_item(item).map_err(|problem| self.wrong_row(id, &kind, problem))
        };
        items.into_iter().map(read).collect()
    }

    /// The table's ARN; none if there is no such table.
    ///
    /// # Errors
    /// [`KeyStoreError::NoKeyStore`] when it is another kind of table, or it cannot be described.
    pub async fn arn(&self) -> Result<Option<String>, KeyStoreError> {
        let described = self.tables.describe_table().table_name(&self.table).send().await;
        let table = match described {
            Ok(answer) => answer.table.unwrap_or_else(|| TableDescription::builder().build()),
            Err(SdkError::ServiceError(answer))
                if matches!(answer.err(), DescribeTableError::ResourceNotFoundException(_)) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(self.table_error("DescribeTable", &Fault::of(&error))),
        };
        if !is_key_store(&table) {
            return Err(KeyStoreError::NoKeyStore { table: self.table.clone() });
        }
        Ok(Some(table.table_arn.unwrap_or_default()))
    }

    async fn query(&self, id: &str) -> Result<Vec<Item>, KeyStoreError> {
        let (mut items, mut after) = (Vec::new(), None);
        loop {
            let request = self.tables.query().table_name(&self.table).consistent_read(true);
            let request = request.key_condition_expression("#id = :id").expression_attribute_names("#id", row::ID);
            let request = request.expression_attribute_values(":id", AttributeValue::S(id.to_owned()));
            let answer = request.set_exclusive_start_key(after).send().await;
            let answer = answer.map_err(|error| self.table_error("Query", &Fault::of(&error)))?;
            items.extend(answer.items.unwrap_or_default());
            after = answer.last_evaluated_key;
            if after.is_none() {
                return Ok(items);
            }
        }
    }

    async fn scan(&self, projection: Option<&str>) -> Result<Vec<Item>, KeyStoreError> {
        let (mut items, mut after) = (Vec::new(), None);
        loop {
            let request = self.tables.scan().table_name(&self.table).consistent_read(true);
            let request = match projection {
                Some(names) => request.projection_expression(names).expression_attribute_names("#id", row::ID),
                None => request,
            };
            let answer = request.set_exclusive_start_key(after).send().await;
            let answer = answer.map_err(|error| self.table_error("Scan", &Fault::of(&error)))?;
            items.extend(answer.items.unwrap_or_default());
            after = answer.last_evaluated_key;
            if after.is_none() {
                return Ok(items);
            }
        }
    }
}

fn facts(item: Item) -> RowFacts {
    let of = |name| text(&item, name);
    let (branch_key_id, kind) = (of(row::ID).unwrap_or_default(), of(row::TYPE).unwrap_or_default());
    let (version, kms_arn, create_time) = (of(row::VERSION), of(row::KMS_ARN), of(row::CREATE_TIME));
    let problem = Row::from_item(item).err().map(|problem| problem.to_string());
    RowFacts { branch_key_id, kind, version, kms_arn, create_time, problem }
}

fn text(item: &Item, name: &str) -> Option<String> {
    item.get(name)?.as_s().ok().cloned()
}

fn is_key_store(table: &TableDescription) -> bool {
    let keys = table.key_schema();
    let is_text = |name: &str| {
        let mut definitions = table.attribute_definitions().iter();
        definitions.any(|of| of.attribute_name == name && of.attribute_type == ScalarAttributeType::S)
    };
    keys.len() == 2
        && [(row::ID, KeyType::Hash), (row::TYPE, KeyType::Range)].iter().all(|(name, kind)| {
            is_text(name) && keys.iter().any(|key| key.attribute_name == *name && key.key_type == *kind)
        })
}
