//! The official item encryptor, configured from a job.

use std::collections::HashMap;

use aws_config::{BehaviorVersion, Region};
use aws_db_esdk::CryptoAction;
use aws_db_esdk::item_encryptor::client::Client as ItemEncryptor;
use aws_db_esdk::item_encryptor::types::dynamo_db_item_encryptor_config::DynamoDbItemEncryptorConfig;
use aws_db_esdk::material_providers::client::Client as MaterialProviders;
use aws_db_esdk::material_providers::types::keyring::KeyringRef;
use aws_db_esdk::material_providers::types::material_providers_config::MaterialProvidersConfig;
use aws_db_esdk::material_providers::types::{AesWrappingAlg, PaddingScheme};
use aws_sdk_kms::types::EncryptionAlgorithmSpec;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::Failure;
use crate::dynamodb_json::Item;
use crate::job::{Job, Keyring, KmsKey, Padding};

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
        .keyring(keyring(job, &job.target.keyring).await?)
        .build()?;
    Ok(ItemEncryptor::from_conf(config)?)
}

async fn keyring(job: &Job, keyring: &Keyring) -> Result<KeyringRef, Failure> {
    let providers = MaterialProviders::from_conf(MaterialProvidersConfig::builder().build()?)?;
    Ok(match keyring {
        Keyring::RawAes { namespace, name, key_file, key_env } => {
            let key = job.aes_key(key_file.as_deref(), key_env.as_deref())?;
            let wrapping = match key.len() {
                16 => AesWrappingAlg::AlgAes128GcmIv12Tag16,
                24 => AesWrappingAlg::AlgAes192GcmIv12Tag16,
                _ => AesWrappingAlg::AlgAes256GcmIv12Tag16,
            };
            let create = providers.create_raw_aes_keyring().key_namespace(namespace).key_name(name);
            create.wrapping_key(key).wrapping_alg(wrapping).send().await?
        }
        Keyring::RawRsa { namespace, name, padding, key_file } => {
            let scheme = match padding {
                Padding::Pkcs1 => PaddingScheme::Pkcs1,
                Padding::OaepSha1 => PaddingScheme::OaepSha1Mgf1,
                Padding::OaepSha256 => PaddingScheme::OaepSha256Mgf1,
                Padding::OaepSha384 => PaddingScheme::OaepSha384Mgf1,
                Padding::OaepSha512 => PaddingScheme::OaepSha512Mgf1,
            };
            let public = key_file.to_string_lossy().replace(".private.pem", ".public.pem");
            let create = providers.create_raw_rsa_keyring().key_namespace(namespace).key_name(name);
            let create = create.private_key(job.file(key_file)?).public_key(job.file(public.as_ref())?);
            create.padding_scheme(scheme).send().await?
        }
        Keyring::AwsKms(key) => {
            providers.create_aws_kms_keyring().kms_client(kms(key).await).kms_key_id(&key.key_arn).send().await?
        }
        Keyring::AwsKmsMrk(key) => {
            providers.create_aws_kms_mrk_keyring().kms_client(kms(key).await).kms_key_id(&key.key_arn).send().await?
        }
        Keyring::AwsKmsRsa { key, padding, public_key_file } => {
            let algorithm = match padding {
                Padding::OaepSha1 => EncryptionAlgorithmSpec::RsaesOaepSha1,
                Padding::OaepSha256 => EncryptionAlgorithmSpec::RsaesOaepSha256,
                _ => return Err("KMS has no such padding".into()),
            };
            let client = kms(key).await;
            let public = match public_key_file {
                Some(file) => job.file(file)?,
                None => public_key(&client, &key.key_arn).await?,
            };
            let create = providers.create_aws_kms_rsa_keyring().kms_client(client).kms_key_id(&key.key_arn);
            create.public_key(public).encryption_algorithm(algorithm).send().await?
        }
        Keyring::Multi { generator, children } => {
            let mut keyrings = Vec::with_capacity(1 + children.len());
            for child in generator.iter().map(AsRef::as_ref).chain(children) {
                keyrings.push(Box::pin(self::keyring(job, child)).await?);
            }
            let create = providers.create_multi_keyring().generator(keyrings.remove(0));
            create.child_keyrings(keyrings).send().await?
        }
    })
}

async fn kms(key: &KmsKey) -> aws_sdk_kms::Client {
    let region = key.region.as_deref().or_else(|| key.key_arn.split(':').nth(3)).map(|r| Region::new(r.to_owned()));
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(region);
    if let Some(profile) = &key.profile {
        loader = loader.profile_name(profile);
    }
    aws_sdk_kms::Client::new(&loader.load().await)
}

/// The public key of an RSA key of KMS, in PEM.
async fn public_key(kms: &aws_sdk_kms::Client, arn: &str) -> Result<Vec<u8>, Failure> {
    let answer = kms.get_public_key().key_id(arn).send().await?;
    let text = BASE64.encode(answer.public_key.ok_or("KMS answered without the public key")?);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    Ok(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")).into_bytes())
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
