//! Items into a table and out of it.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};

use crate::Failure;
use crate::dynamodb_json::Item;
use crate::job::Job;
use crate::keyring::config;

/// The table of a job, over DynamoDB's own client.
pub struct Table<'a> {
    client: Client,
    job: &'a Job,
}

impl<'a> Table<'a> {
    /// The table of a job; there need not be one yet.
    pub async fn of(job: &'a Job) -> Self {
        Self { client: Client::new(&config(None, None).await), job }
    }

    /// Makes the table, whose keys are of the types that they have in an item.
    ///
    /// # Errors
    /// When the item has not the keys, and DynamoDB's own.
    pub async fn create(&self, item: &Item) -> Result<(), Failure> {
        let table = &self.job.table;
        let mut request = self.client.create_table().table_name(&table.name).billing_mode(BillingMode::PayPerRequest);
        for (name, role) in self.job.keys().zip([KeyType::Hash, KeyType::Range]) {
            let kind = match item.get(name) {
                Some(AttributeValue::S(_)) => ScalarAttributeType::S,
                Some(AttributeValue::N(_)) => ScalarAttributeType::N,
                Some(AttributeValue::B(_)) => ScalarAttributeType::B,
                _ => return Err(format!("{name:?} is no key attribute").into()),
            };
            let definition = AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build()?;
            let element = KeySchemaElement::builder().attribute_name(name).key_type(role).build()?;
            request = request.attribute_definitions(definition).key_schema(element);
        }
        request.send().await?;
        Ok(())
    }

    /// Puts an item.
    ///
    /// # Errors
    /// DynamoDB's own.
    pub async fn put(&self, item: Item) -> Result<(), Failure> {
        self.client.put_item().table_name(&self.job.table.name).set_item(Some(item)).send().await?;
        Ok(())
    }

    /// Gets the item with the same key.
    ///
    /// # Errors
    /// When there is none, and DynamoDB's own.
    pub async fn get(&self, mut item: Item) -> Result<Item, Failure> {
        item.retain(|name, _| self.job.keys().any(|key| key == name));
        let request = self.client.get_item().table_name(&self.job.table.name).set_key(Some(item));
        Ok(request.consistent_read(true).send().await?.item.ok_or("there is no such item")?)
    }
}
