//! The official library's keyrings, made from the `keyring` of a job.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_db_esdk::dynamodb::client::Client as Encryption;
use aws_db_esdk::dynamodb::operation::get_branch_key_id_from_ddb_key::{
    GetBranchKeyIdFromDdbKeyInput, GetBranchKeyIdFromDdbKeyOutput,
};
use aws_db_esdk::dynamodb::types::DynamoDbKeyBranchKeyIdSupplier;
use aws_db_esdk::dynamodb::types::dynamo_db_encryption_config::DynamoDbEncryptionConfig;
use aws_db_esdk::dynamodb::types::error::Error as EncryptionError;
use aws_db_esdk::material_providers::client::Client as MaterialProviders;
use aws_db_esdk::material_providers::types::keyring::KeyringRef;
use aws_db_esdk::material_providers::types::material_providers_config::MaterialProvidersConfig;
use aws_db_esdk::material_providers::types::{AesWrappingAlg, PaddingScheme};
use aws_sdk_kms::types::EncryptionAlgorithmSpec;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::{Failure, keystore};

/// How long branch keys are kept: as in AWS's examples. The library wants more than 10.
const KEPT_SECONDS: i64 = 600;

/// The keyrings that both programs know, as job files have them.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Keyring {
    /// An AES key, in a file or an environment variable.
    RawAes {
        /// Provider id of its encrypted data keys.
        namespace: String,
        /// Name in their provider info.
        name: String,
        /// A file of the key's bytes, or of their Base64 form.
        key_file: Option<PathBuf>,
        /// An environment variable with the Base64 form.
        key_env: Option<String>,
    },
    /// An RSA key.
    RawRsa {
        /// Provider id of its encrypted data keys.
        namespace: String,
        /// Their provider info.
        name: String,
        /// How wrapped keys are padded.
        padding: Padding,
        /// A public key in PEM; or a private one, `NAME.private.pem`, whose public one is `NAME.public.pem` beside it.
        key_file: PathBuf,
    },
    /// A symmetric KMS key.
    AwsKms {
        /// Its key ARN.
        key_arn: String,
        /// Profile of the AWS configuration files.
        profile: Option<String>,
    },
    /// A symmetric KMS key, in any Region if it is a multi-Region one.
    AwsKmsMrk {
        /// Its key ARN.
        key_arn: String,
        /// Profile of the AWS configuration files.
        profile: Option<String>,
    },
    /// An RSA key of KMS.
    AwsKmsRsa {
        /// Its key ARN.
        key_arn: String,
        /// How wrapped keys are padded.
        padding: Padding,
        /// The public key in PEM; without it, KMS is asked.
        public_key_file: Option<PathBuf>,
        /// Profile of the AWS configuration files.
        profile: Option<String>,
    },
    /// Branch keys of a key store.
    Hierarchy {
        /// The key store's table.
        key_store_table: String,
        /// Its logical name; the table's if absent.
        key_store_name: Option<String>,
        /// The KMS key of its rows; if absent, each row says which.
        kms_key_arn: Option<String>,
        /// The one branch key.
        branch_key_id: Option<String>,
        /// Else the attribute that chooses it,
        branch_key_attribute: Option<String>,
        /// and what it chooses.
        #[serde(default)]
        branch_keys: HashMap<String, String>,
    },
    /// Several keyrings as one.
    Multi {
        /// The first of them.
        generator: Box<Self>,
        /// The others.
        children: Vec<Self>,
    },
}

/// How RSA pads a wrapped key.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Padding {
    Pkcs1,
    OaepSha1,
    OaepSha256,
    OaepSha384,
    OaepSha512,
}

impl Keyring {
    /// Makes the keyring; relative key files are looked up in the directory.
    ///
    /// # Errors
    /// When the official library refuses the configuration, or a key cannot be had.
    pub async fn create(&self, directory: &Path) -> Result<KeyringRef, Failure> {
        let providers = MaterialProviders::from_conf(MaterialProvidersConfig::builder().build()?)?;
        Ok(match self {
            Self::RawAes { namespace, name, key_file, key_env } => {
                let key = aes_key(directory, key_file.as_deref(), key_env.as_deref())?;
                let algorithm = match key.len() {
                    16 => AesWrappingAlg::AlgAes128GcmIv12Tag16,
                    24 => AesWrappingAlg::AlgAes192GcmIv12Tag16,
                    _ => AesWrappingAlg::AlgAes256GcmIv12Tag16,
                };
                let create = providers.create_raw_aes_keyring().key_namespace(namespace).key_name(name);
                create.wrapping_key(key).wrapping_alg(algorithm).send().await?
            }
            Self::RawRsa { namespace, name, padding, key_file } => {
                let file = directory.join(key_file);
                let create = providers.create_raw_rsa_keyring().key_namespace(namespace).key_name(name);
                let create = create.padding_scheme(padding.scheme());
                match file.to_string_lossy().strip_suffix(".private.pem") {
                    Some(stem) => {
                        let public = PathBuf::from(format!("{stem}.public.pem"));
                        let public = if public.exists() { Some(read(&public)?.into()) } else { None };
                        create.private_key(read(&file)?).set_public_key(public).send().await?
                    }
                    None => create.public_key(read(&file)?).send().await?,
                }
            }
            Self::AwsKms { key_arn, profile } => {
                let client = kms(key_arn, profile.as_deref()).await;
                providers.create_aws_kms_keyring().kms_client(client).kms_key_id(key_arn).send().await?
            }
            Self::AwsKmsMrk { key_arn, profile } => {
                let client = kms(key_arn, profile.as_deref()).await;
                providers.create_aws_kms_mrk_keyring().kms_client(client).kms_key_id(key_arn).send().await?
            }
            Self::AwsKmsRsa { key_arn, padding, public_key_file, profile } => {
                let client = kms(key_arn, profile.as_deref()).await;
                let public = match public_key_file {
                    Some(file) => read(&directory.join(file))?,
                    None => keystore::public_key(&client, key_arn).await?.into_bytes(),
                };
                let create = providers.create_aws_kms_rsa_keyring().kms_client(client).kms_key_id(key_arn);
                create.public_key(public).encryption_algorithm(padding.of_kms()?).send().await?
            }
            Self::Hierarchy { .. } => self.create_hierarchy(&providers).await?,
            Self::Multi { generator, children } => {
                let mut made = Vec::new();
                for child in children {
                    made.push(Box::pin(child.create(directory)).await?);
                }
                let generator = Box::pin(generator.create(directory)).await?;
                providers.create_multi_keyring().generator(generator).child_keyrings(made).send().await?
            }
        })
    }

    async fn create_hierarchy(&self, providers: &MaterialProviders) -> Result<KeyringRef, Failure> {
        let Self::Hierarchy {
            key_store_table,
            key_store_name,
            kms_key_arn,
            branch_key_id,
            branch_key_attribute,
            branch_keys,
        } = self
        else {
            return Err("not a hierarchical keyring".into());
        };
        let name = key_store_name.as_ref().unwrap_or(key_store_table);
        let store = keystore::client(key_store_table, name, kms_key_arn.as_deref()).await?;
        let create = providers.create_aws_kms_hierarchical_keyring().key_store(store).ttl_seconds(KEPT_SECONDS);
        let Some(attribute) = branch_key_attribute else {
            return Ok(create.set_branch_key_id(branch_key_id.clone()).send().await?);
        };
        let encryption = Encryption::from_conf(DynamoDbEncryptionConfig::builder().build()?)?;
        let chooser = ByAttribute { attribute: attribute.clone(), ids: branch_keys.clone() };
        let supplier = encryption.create_dynamo_db_encryption_branch_key_id_supplier();
        let supplier = supplier.ddb_key_branch_key_id_supplier(chooser).send().await?;
        Ok(create.set_branch_key_id_supplier(supplier.branch_key_id_supplier).send().await?)
    }
}

/// Chooses the branch key by the text in an attribute.
struct ByAttribute {
    attribute: String,
    ids: HashMap<String, String>,
}

impl DynamoDbKeyBranchKeyIdSupplier for ByAttribute {
    fn get_branch_key_id_from_ddb_key(
        &self,
        input: GetBranchKeyIdFromDdbKeyInput,
    ) -> Result<GetBranchKeyIdFromDdbKeyOutput, EncryptionError> {
        let failure = |message: &str| EncryptionError::DynamoDbEncryptionException { message: message.to_owned() };
        let key = input.ddb_key.ok_or_else(|| failure("no key"))?;
        let value = key.get(&self.attribute).and_then(|value| value.as_s().ok());
        let id = value.and_then(|value| self.ids.get(value)).ok_or_else(|| failure("no branch key for this item"))?;
        GetBranchKeyIdFromDdbKeyOutput::builder().branch_key_id(id).build().map_err(|e| failure(&e.to_string()))
    }
}

impl Padding {
    const fn scheme(self) -> PaddingScheme {
        match self {
            Self::Pkcs1 => PaddingScheme::Pkcs1,
            Self::OaepSha1 => PaddingScheme::OaepSha1Mgf1,
            Self::OaepSha256 => PaddingScheme::OaepSha256Mgf1,
            Self::OaepSha384 => PaddingScheme::OaepSha384Mgf1,
            Self::OaepSha512 => PaddingScheme::OaepSha512Mgf1,
        }
    }

    fn of_kms(self) -> Result<EncryptionAlgorithmSpec, Failure> {
        match self {
            Self::OaepSha1 => Ok(EncryptionAlgorithmSpec::RsaesOaepSha1),
            Self::OaepSha256 => Ok(EncryptionAlgorithmSpec::RsaesOaepSha256),
            _ => Err("KMS pads with oaep-sha1 or oaep-sha256".into()),
        }
    }
}

/// The configuration of a profile, in a Region if one is named.
pub async fn config(region: Option<&str>, profile: Option<&str>) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    if let Some(profile) = profile {
        loader = loader.profile_name(profile);
    }
    loader.load().await
}

/// A client for a key, in the key's Region.
async fn kms(key_arn: &str, profile: Option<&str>) -> aws_sdk_kms::Client {
    aws_sdk_kms::Client::new(&config(key_arn.split(':').nth(3), profile).await)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    Ok(std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?)
}

fn aes_key(directory: &Path, file: Option<&Path>, variable: Option<&str>) -> Result<Vec<u8>, Failure> {
    let (place, bytes) = match (file, variable) {
        (Some(file), None) => (file.display().to_string(), read(&directory.join(file))?),
        (None, Some(name)) => (name.to_owned(), std::env::var(name).map_err(|e| format!("{name}: {e}"))?.into_bytes()),
        _ => return Err("a raw-aes keyring has either key_file or key_env".into()),
    };
    let is_key = |bytes: &[u8]| matches!(bytes.len(), 16 | 24 | 32);
    if file.is_some() && is_key(&bytes) {
        return Ok(bytes);
    }
    let key = BASE64.decode(bytes.trim_ascii()).map_err(|_| format!("{place}: not a key in Base64"))?;
    if is_key(&key) { Ok(key) } else { Err(format!("{place}: {} bytes are no AES key", key.len()).into()) }
}
