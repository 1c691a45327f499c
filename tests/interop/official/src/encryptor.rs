//! The official item encryptor, configured from a job.

use std::collections::HashMap;

use aws_config::{BehaviorVersion, Region};
use aws_db_esdk::CryptoAction;
use aws_db_esdk::item_encryptor::client::Client as ItemEncryptor;
use aws_db_esdk::item_encryptor::types::dynamo_db_item_encryptor_config::DynamoDbItemEncryptorConfig;
use aws_db_esdk::material_providers::client::Client as MaterialProviders;
use aws_db_esdk::material_providers::types::AesWrappingAlg;
use aws_db_esdk::material_providers::types::keyring::KeyringRef;
use aws_db_esdk::material_providers::types::material_providers_config::MaterialProvidersConfig;

use crate::Failure;
use crate::dynamodb_json::Item;
use crate::job::{Job, Keyring};

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
        .keyring(keyring(job).await?)
        .build()?;
    Ok(ItemEncryptor::from_conf(config)?)
}

async fn keyring(job: &Job) -> Result<KeyringRef, Failure> {
    let providers = MaterialProviders::from_conf(MaterialProvidersConfig::builder().build()?)?;
    Ok(match &job.target.keyring {
        Keyring::RawAes { namespace, name, key_file, key_env } => {
            providers
                .create_raw_aes_keyring()
                .key_namespace(namespace)
                .key_name(name)
                .wrapping_key(job.aes_key(key_file.as_deref(), key_env.as_deref())?)
                .wrapping_alg(AesWrappingAlg::AlgAes256GcmIv12Tag16)
                .send()
                .await?
        }
        Keyring::AwsKms { key_arn, region, profile } => {
            let region = region.as_deref().or_else(|| key_arn.split(':').nth(3)).map(|r| Region::new(r.to_owned()));
            let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(region);
            if let Some(profile) = profile {
                loader = loader.profile_name(profile);
            }
            let client = aws_sdk_kms::Client::new(&loader.load().await);
            providers.create_aws_kms_keyring().kms_client(client).kms_key_id(key_arn).send().await?
        }
    })
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
