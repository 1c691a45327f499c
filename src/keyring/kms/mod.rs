//! Keyrings over keys of AWS KMS. What they share: how keys are named and examined, and how KMS is asked.

mod arn;
mod discovery;
mod examine;
mod inquiry;
mod rsa;
mod symmetric;

use std::collections::HashMap;

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{EncryptionAlgorithmSpec, KeyMetadata};
use zeroize::Zeroizing;

use super::{KeyringClass, KeyringError, Matching, Recipient, Wanted};
use crate::aws::{AwsConfig, Fault};
use crate::crypto::{EncryptionContext, KEY_BYTES, Secret};

pub use arn::{KeyArn, KeyArnError};
pub use discovery::{DiscoveryFilter, KmsDiscovery};
pub use examine::KeyRefused;
pub use inquiry::{KeyFacts, KmsInquiry, Rotation, WrappedUnder};
pub(crate) use rsa::PROVIDER_ID as RSA_PROVIDER_ID;
pub use rsa::{KmsRsa, KmsRsaPadding};
pub use symmetric::KmsKeyring;

/// The key provider id of every key that a symmetric KMS key wrapped.
pub(crate) const PROVIDER_ID: &str = "aws-kms";

/// KMS in one Region, as these keyrings ask it.
#[derive(Debug)]
struct Kms {
    client: Client,
}

impl Kms {
    /// A client of the configuration's Region. Sends nothing.
    fn new(config: &AwsConfig) -> Self {
        Self { client: Client::new(config.sdk()) }
    }

    /// A client for the key.
    ///
    /// # Errors
    /// [`KeyRefused::Region`] when the configuration is for another Region than the key's.
    fn of(config: &AwsConfig, key: &KeyArn) -> Result<Self, KeyRefused> {
        let configured = config.region().unwrap_or_default();
        if configured != key.region() {
            let (region, configured) = (key.region().to_owned(), configured.to_owned());
            return Err(KeyRefused::Region { key: key.as_str().to_owned(), region, configured });
        }
        Ok(Self::new(config))
    }

    /// Asks KMS whether the key can be used for items: enabled, the caller's own, for encryption, and of this kind.
    ///
    /// # Errors
    /// [`KeyRefused`] with the reason and the remedy.
    async fn examine(&self, key: &str, kind: examine::Kind) -> Result<(), KeyRefused> {
        match self.describe(key).await? {
            Some(metadata) => examine::usable(key, &metadata, kind),
            None => Err(broken(key, DESCRIBE, NO_KEY).into()),
        }
    }

    /// What KMS says of a key, named by its ARN or by an alias.
    async fn describe(&self, key: &str) -> Result<Option<KeyMetadata>, KeyringError> {
        let result = self.client.describe_key().key_id(key).send().await;
        Ok(result.map_err(|error| failed(key, DESCRIBE, &Fault::of(&error)))?.key_metadata)
    }

    /// A fresh 32-byte key, and how KMS wrapped it under the context.
    async fn generate(&self, key: &str, context: &EncryptionContext) -> Result<(Secret, Vec<u8>), KeyringError> {
        const OPERATION: &str = "GenerateDataKey";
        let request = self.client.generate_data_key().key_id(key).number_of_bytes(KEY_BYTES as i32);
        let result = request.set_encryption_context(Some(pairs(context))).send().await;
        let mut output = result.map_err(|error| failed(key, OPERATION, &Fault::of(&error)))?;
        let plaintext = answered(key, OPERATION, output.key_id.as_deref(), output.plaintext.take())?;
        let ciphertext = output.ciphertext_blob.map(Blob::into_inner).filter(|blob| !blob.is_empty());
        let ciphertext = ciphertext.ok_or_else(|| broken(key, OPERATION, "the answer has no wrapped data key"))?;
        Ok((data_key(key, OPERATION, &plaintext)?, ciphertext))
    }

    /// The 32-byte key that a symmetric key wrapped under the context.
    async fn decrypt(&self, key: &str, ciphertext: &[u8], context: &EncryptionContext) -> Result<Secret, KeyringError> {
        let (plaintext, _) = self.decrypted(key, ciphertext, context).await?;
        data_key(key, DECRYPT, &plaintext)
    }

    /// The id of the key material that wrapped something, if KMS says it.
    async fn wrapped_by(
        &self,
        key: &str,
        ciphertext: &[u8],
        context: &EncryptionContext,
    ) -> Result<Option<String>, KeyringError> {
        Ok(self.decrypted(key, ciphertext, context).await?.1)
    }

    async fn decrypted(
        &self,
        key: &str,
        ciphertext: &[u8],
        context: &EncryptionContext,
    ) -> Result<(Zeroizing<Vec<u8>>, Option<String>), KeyringError> {
        let request = self.client.decrypt().key_id(key).ciphertext_blob(Blob::new(ciphertext));
        let result = request.set_encryption_context(Some(pairs(context))).send().await;
        let mut output = result.map_err(|error| failed(key, DECRYPT, &Fault::of(&error)))?;
        let plaintext = answered(key, DECRYPT, output.key_id.as_deref(), output.plaintext.take())?;
        Ok((plaintext, output.key_material_id))
    }

    /// The id of the key's present material, if KMS says it.
    async fn material(&self, key: &str) -> Result<Option<String>, KeyringError> {
        Ok(self.describe(key).await?.and_then(|metadata| metadata.current_key_material_id))
    }

    /// What was encrypted for an RSA key.
    async fn decrypt_rsa(
        &self,
        key: &str,
        ciphertext: &[u8],
        algorithm: EncryptionAlgorithmSpec,
    ) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
        let request = self.client.decrypt().key_id(key).ciphertext_blob(Blob::new(ciphertext));
        let result = request.encryption_algorithm(algorithm).send().await;
        let mut output = result.map_err(|error| failed(key, DECRYPT, &Fault::of(&error)))?;
        answered(key, DECRYPT, output.key_id.as_deref(), output.plaintext.take())
    }

    /// The public key of an RSA key, in DER.
    async fn public_key(&self, key: &str) -> Result<Vec<u8>, KeyringError> {
        const OPERATION: &str = "GetPublicKey";
        let result = self.client.get_public_key().key_id(key).send().await;
        let output = result.map_err(|error| failed(key, OPERATION, &Fault::of(&error)))?;
        if output.key_id.as_deref() != Some(key) {
            return Err(broken(key, OPERATION, ANOTHER_KEY));
        }
        let public_key = output.public_key.map(Blob::into_inner);
        public_key.ok_or_else(|| broken(key, OPERATION, "the answer has no public key"))
    }
}

const DECRYPT: &str = "Decrypt";
const DESCRIBE: &str = "DescribeKey";
const NO_KEY: &str = "KMS described no key";
const ANOTHER_KEY: &str = "the answer is of another key than was asked for";

/// A key as readers compare it: multi-Region keys in any Region, the others by their text.
fn in_any_region(provider: &str, key: &KeyArn) -> Wanted {
    let matching = if key.is_multi_region() { Matching::AnyRegion } else { Matching::Exact };
    Wanted { recipient: recipient(provider, key), matching }
}

fn recipient(provider: &str, key: &KeyArn) -> Recipient {
    Recipient { provider: provider.to_owned(), key: key.as_str().to_owned() }
}

fn pairs(context: &EncryptionContext) -> HashMap<String, String> {
    context.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Takes the plaintext over from a response for the key, and wipes the response's copy in the end, whatever the answer is
/// worth. Copies that the HTTP client made on the way are out of reach.
fn answered(
    key: &str,
    operation: &str,
    key_id: Option<&str>,
    plaintext: Option<Blob>,
) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
    let plaintext = Zeroizing::new(plaintext.map(Blob::into_inner).unwrap_or_default());
    if key_id == Some(key) { Ok(plaintext) } else { Err(broken(key, operation, ANOTHER_KEY)) }
}

fn data_key(key: &str, operation: &str, plaintext: &[u8]) -> Result<Secret, KeyringError> {
    Secret::from_slice(plaintext).ok_or_else(|| broken(key, operation, "the answer has no data key of 32 bytes"))
}

/// What KMS answered instead, and the remedy.
fn failed(key: &str, operation: &str, fault: &Fault) -> KeyringError {
    let remedy = match (fault.code(), operation) {
        ("AccessDeniedException", _) => {
            format!("; allow kms:{operation} on the key, in its key policy or the caller's IAM policy")
        }
        ("DisabledException", _) => "; enable the key".to_owned(),
        ("KMSInvalidStateException", _) => {
            "; cancel the key's deletion, or import its material, or connect its key store".to_owned()
        }
        ("NotFoundException", _) => "; check the key's ARN".to_owned(),
        ("InvalidKeyUsageException", _) => "; use a key with the usage ENCRYPT_DECRYPT".to_owned(),
        ("InvalidCiphertextException", DECRYPT) => {
            "; the wrapped key is damaged, or belongs to other attributes of the encryption context".to_owned()
        }
        _ => String::new(),
    };
    KeyringError {
        class: KeyringClass::of(fault),
        key: key.to_owned(),
        problem: format!("{operation}: {fault}{remedy}"),
    }
}

/// An answer that KMS never gives.
fn broken(key: &str, operation: &str, problem: &str) -> KeyringError {
    let problem = format!("{operation}: {problem}; check that the endpoint is KMS");
    KeyringError { class: KeyringClass::Key, key: key.to_owned(), problem }
}
