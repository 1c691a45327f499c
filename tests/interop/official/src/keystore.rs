//! Keys for the cases: of KMS, and branch keys in a key store that the official library keeps.

use std::collections::HashMap;

use aws_db_esdk::key_store::client::Client as KeyStore;
use aws_db_esdk::key_store::types::key_store_config::KeyStoreConfig;
use aws_db_esdk::key_store::types::{Discovery, KmsConfiguration};
use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::Failure;
use crate::keyring::config;

/// The official client of a key store. Without a key, each row says which one wraps it.
///
/// # Errors
/// When the official library refuses the configuration.
pub async fn client(table: &str, name: &str, kms_key_arn: Option<&str>) -> Result<KeyStore, Failure> {
    let region = kms_key_arn.and_then(|arn| arn.split(':').nth(3));
    let readers = match kms_key_arn {
        Some(arn) => KmsConfiguration::KmsKeyArn(arn.to_owned()),
        None => KmsConfiguration::Discovery(Discovery::builder().build()?),
    };
    let config = config(region, None).await;
    let settings = KeyStoreConfig::builder()
        .ddb_client(aws_sdk_dynamodb::Client::new(&config))
        .kms_client(aws_sdk_kms::Client::new(&config))
        .ddb_table_name(table)
        .logical_key_store_name(name)
        .kms_configuration(readers);
    Ok(KeyStore::from_conf(settings.build()?)?)
}

/// Makes a branch key; its id, which is random if none is given.
///
/// # Errors
/// The official library's own.
pub async fn new_branch_key(
    store: &KeyStore,
    id: Option<String>,
    context: HashMap<String, String>,
) -> Result<String, Failure> {
    let context = (!context.is_empty()).then_some(context);
    let made = store.create_key().set_branch_key_identifier(id).set_encryption_context(context).send().await?;
    Ok(made.branch_key_identifier.ok_or("the official library answered without an id")?)
}

/// Reads the ACTIVE row of a branch key, that of the version which it names, and the beacon key.
///
/// # Errors
/// The official library's own, and when the two rows hold different keys.
pub async fn read(store: &KeyStore, id: &str) -> Result<(), Failure> {
    let active = store.get_active_branch_key().branch_key_identifier(id).send().await?;
    let active = active.branch_key_materials.ok_or("no branch key in the answer")?;
    let version = active.branch_key_version.ok_or("no version in the answer")?;
    let row = store.get_branch_key_version().branch_key_identifier(id).branch_key_version(version).send().await?;
    let row = row.branch_key_materials.ok_or("no branch key in the answer")?;
    store.get_beacon_key().branch_key_identifier(id).send().await?;
    if row.branch_key == active.branch_key { Ok(()) } else { Err("the ACTIVE row holds another key".into()) }
}

/// Makes a KMS key and gives its ARN.
///
/// # Errors
/// KMS's own.
pub async fn new_kms_key(rsa: bool, multi_region: bool) -> Result<String, Failure> {
    let create = aws_sdk_kms::Client::new(&config(None, None).await).create_key().multi_region(multi_region);
    let create = if rsa { create.key_spec(KeySpec::Rsa2048).key_usage(KeyUsageType::EncryptDecrypt) } else { create };
    let metadata = create.send().await?.key_metadata.ok_or("KMS answered without the key's metadata")?;
    Ok(metadata.arn.ok_or("KMS answered without the key's ARN")?)
}

/// Makes a replica of a multi-Region key and gives its ARN.
///
/// # Errors
/// KMS's own.
pub async fn replicate(key_arn: &str, region: &str) -> Result<String, Failure> {
    let client = aws_sdk_kms::Client::new(&config(None, None).await);
    let made = client.replicate_key().key_id(key_arn).replica_region(region).send().await?;
    let metadata = made.replica_key_metadata.ok_or("KMS answered without the key's metadata")?;
    Ok(metadata.arn.ok_or("KMS answered without the key's ARN")?)
}

/// The public key of an RSA key of KMS, in PEM.
///
/// # Errors
/// KMS's own.
pub async fn public_key(client: &aws_sdk_kms::Client, key_arn: &str) -> Result<String, Failure> {
    let answer = client.get_public_key().key_id(key_arn).send().await?;
    let text = BASE64.encode(answer.public_key.ok_or("KMS answered without the public key")?);
    let lines: Vec<String> = text.chars().collect::<Vec<_>>().chunks(64).map(String::from_iter).collect();
    Ok(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")))
}
