//! The official item encryptor, configured from a job.

use std::collections::HashMap;

use aws_db_esdk::CryptoAction;
use aws_db_esdk::item_encryptor::client::Client as ItemEncryptor;
use aws_db_esdk::item_encryptor::types::dynamo_db_item_encryptor_config::DynamoDbItemEncryptorConfig;

use crate::Failure;
use crate::dynamodb_json::Item;
use crate::job::Job;

/// Makes the official client for a job.
///
/// # Errors
/// When the official library refuses the configuration, or the key cannot be read.
pub async fn for_job(job: &Job) -> Result<ItemEncryptor, Failure> {
    let actions: HashMap<String, CryptoAction> =
        job.attributes.iter().map(|(name, action)| (name.clone(), CryptoAction::from(*action))).collect();
    let unsigned = &job.unsigned;
    let config = DynamoDbItemEncryptorConfig::builder()
        .logical_table_name(job.logical_table_name())
        .partition_key_name(&job.table.partition_key)
        .set_sort_key_name(job.table.sort_key.clone())
        .attribute_actions_on_encrypt(actions)
        // An empty list is refused, an absent one is not.
        .set_allowed_unsigned_attributes((!unsigned.names.is_empty()).then(|| unsigned.names.clone()))
        .set_allowed_unsigned_attribute_prefix(unsigned.prefix.clone())
        .algorithm_suite_id(job.suite())
        .keyring(job.target.keyring.create(&job.directory).await?)
        .build()?;
    Ok(ItemEncryptor::from_conf(config)?)
}

/// Seals a plaintext item.
///
/// # Errors
/// The official library's own.
pub async fn seal(encryptor: &ItemEncryptor, item: Item) -> Result<Item, Failure> {
    let sealed = encryptor.encrypt_item().plaintext_item(item).send().await?;
    Ok(sealed.encrypted_item.ok_or("the official library answered without an item")?)
}

/// Opens a sealed item.
///
/// # Errors
/// The official library's own.
pub async fn open(encryptor: &ItemEncryptor, item: Item) -> Result<Item, Failure> {
    let opened = encryptor.decrypt_item().encrypted_item(item).send().await?;
    Ok(opened.plaintext_item.ok_or("the official library answered without an item")?)
}
