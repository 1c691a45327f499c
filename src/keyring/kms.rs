//! A symmetric key of AWS KMS, named by its key ARN (AWS Material Providers Library specification, `aws-kms-keyring.md`,
//! strict mode).

mod inquiry;

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyManagerType, KeyMetadata, KeySpec, KeyState, KeyUsageType};
use zeroize::Zeroize as _;

use super::{Keyring, KeyringCall, KeyringClass, KeyringError, Recipient, Wanted, WrappedKey, WrappedRef};
use crate::aws::{AwsConfig, Fault, Meaning};
use crate::crypto::{EncryptionContext, KEY_BYTES, Secret};

pub use inquiry::{KeyFacts, KmsInquiry, Rotation};

/// The key provider id of every key that KMS wrapped.
const PROVIDER_ID: &str = "aws-kms";

/// The ARN of a KMS key: `arn:partition:kms:region:account:key/id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyArn {
    text: String,
    region: String,
}

/// Why a text is not the ARN of a KMS key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyArnError {
    /// An alias can be moved to another key at any time; items name the key itself.
    #[error(
        "{0:?} names an alias, which may move to another key; write the key's own ARN: `aws kms describe-key --key-id \
         {0} --query KeyMetadata.Arn` prints it"
    )]
    Alias(String),
    /// A key id alone leaves Region and account open.
    #[error(
        "{0:?} is not a whole ARN; write the key's ARN: `aws kms describe-key --key-id {0} --query KeyMetadata.Arn` \
         prints it"
    )]
    KeyId(String),
    /// Something else.
    #[error("{0:?} is not the ARN of a KMS key: arn:PARTITION:kms:REGION:ACCOUNT:key/ID")]
    Malformed(String),
}

impl KeyArn {
    /// Reads the ARN of a key.
    ///
    /// # Errors
    /// [`KeyArnError`] when the text is anything else, an alias or a bare key id among them.
    pub fn parse(text: &str) -> Result<Self, KeyArnError> {
        let malformed = || KeyArnError::Malformed(text.to_owned());
        let graphic = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_graphic());
        if text.starts_with("alias/") {
            return Err(KeyArnError::Alias(text.to_owned()));
        }
        if !text.starts_with("arn:") && !text.contains([':', '/']) && graphic(&text) {
            return Err(KeyArnError::KeyId(text.to_owned()));
        }
        let parts: Vec<&str> = text.split(':').collect();
        let ["arn", partition, "kms", region, account, resource] = parts[..] else {
            return Err(malformed());
        };
        let digits = account.bytes().all(|b| b.is_ascii_digit());
        if ![partition, region, account, resource].iter().all(graphic) || !digits {
            return Err(malformed());
        }
        match resource.split_once('/') {
            Some(("key", id)) if !id.is_empty() && !id.contains('/') => {
                Ok(Self { text: text.to_owned(), region: region.to_owned() })
            }
            Some(("alias", _)) => Err(KeyArnError::Alias(text.to_owned())),
            _ => Err(malformed()),
        }
    }

    /// The ARN as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The Region that the key is in.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }
}

/// Why a KMS key will not do, found before anything is read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// Requests would go to another Region than the key's.
    #[error(
        "the key {key} is in {region}, but the keyring's region is {configured}; remove `region` from the keyring, or \
         name the key of that Region"
    )]
    Region {
        /// The key.
        key: String,
        /// The key's Region.
        region: String,
        /// Where requests would go.
        configured: String,
    },
    /// Disabled, pending deletion or import, or with its key store disconnected.
    #[error("the key {key} is {state}; {remedy}")]
    State {
        /// The key.
        key: String,
        /// The state, in KMS's words.
        state: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A key that belongs to an AWS service, not to the caller.
    #[error("the key {key} is managed by AWS for one of its services; create a customer managed key")]
    AwsManaged {
        /// The key.
        key: String,
    },
    /// A key for signatures, MACs or key agreement.
    #[error("the key {key} is for {usage}; create one with the usage ENCRYPT_DECRYPT")]
    Usage {
        /// The key.
        key: String,
        /// The usage, in KMS's words.
        usage: String,
    },
    /// An asymmetric key.
    #[error("the key {key} is of the kind {spec}; create one of the kind SYMMETRIC_DEFAULT")]
    Spec {
        /// The key.
        key: String,
        /// The kind, in KMS's words.
        spec: String,
    },
    /// KMS could not be asked.
    #[error(transparent)]
    Service(#[from] KeyringError),
}

/// A keyring over one KMS key.
#[derive(Debug)]
pub struct KmsKeyring {
    client: Client,
    key: KeyArn,
    recipients: [Wanted; 1],
}

impl KmsKeyring {
    /// A keyring over the key, with a client of its own. Sends nothing.
    ///
    /// # Errors
    /// [`KeyRefused::Region`] when the configuration is for another Region than the key's.
    pub fn new(config: &AwsConfig, key: KeyArn) -> Result<Self, KeyRefused> {
        let configured = config.region().unwrap_or_default();
        if configured != key.region() {
            let (region, configured) = (key.region().to_owned(), configured.to_owned());
            return Err(KeyRefused::Region { key: key.text, region, configured });
        }
        let recipient = Recipient { provider: PROVIDER_ID.to_owned(), key: key.text.clone() };
        let recipients = [Wanted::exactly(recipient)];
        Ok(Self { client: Client::new(config.sdk()), key, recipients })
    }

    /// Asks KMS whether the key can be used for items: enabled, the caller's own, symmetric, for encryption.
    ///
    /// # Errors
    /// [`KeyRefused`] with the reason and the remedy.
    pub async fn examine(&self) -> Result<(), KeyRefused> {
        let result = self.client.describe_key().key_id(self.key.as_str()).send().await;
        let output = result.map_err(|error| self.error("DescribeKey", &Fault::of(&error)))?;
        match output.key_metadata {
            Some(metadata) => usable(&self.key.text, &metadata),
            None => Err(self.broken("DescribeKey", "KMS described no key").into()),
        }
    }

    fn error(&self, operation: &str, fault: &Fault) -> KeyringError {
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
            ("InvalidCiphertextException", "Decrypt") => {
                "; the wrapped key is damaged, or belongs to other attributes of the encryption context".to_owned()
            }
            _ => String::new(),
        };
        let problem = format!("{operation}: {fault}{remedy}");
        KeyringError { class: class(fault), key: self.key.text.clone(), problem }
    }

    /// An answer that KMS never gives.
    fn broken(&self, operation: &str, problem: &str) -> KeyringError {
        let problem = format!("{operation}: {problem}; check that the endpoint is KMS");
        KeyringError { class: KeyringClass::Key, key: self.key.text.clone(), problem }
    }

    fn secret(&self, operation: &str, key_id: Option<&str>, plaintext: Option<Blob>) -> Result<Secret, KeyringError> {
        // Taken first, so that the SDK's copy is wiped whatever the answer is worth.
        let plaintext = plaintext.map(take_secret);
        if key_id != Some(self.key.as_str()) {
            return Err(self.broken(operation, "the answer is of another key than was asked for"));
        }
        plaintext.flatten().ok_or_else(|| self.broken(operation, "the answer has no data key of 32 bytes"))
    }
}

/// What a fault means for the use of the key. KMS has no conflicts; were there one, it would pass.
fn class(fault: &Fault) -> KeyringClass {
    match fault.meaning() {
        Meaning::Throttled => KeyringClass::Throttled,
        Meaning::Conflict | Meaning::Unavailable => KeyringClass::Transient,
        Meaning::Credentials => KeyringClass::Credentials,
        Meaning::Item => KeyringClass::Item,
        Meaning::Denied => KeyringClass::Denied,
        Meaning::Fatal => KeyringClass::Key,
    }
}

/// Takes the key over from a response and wipes the response's copy. Copies that the HTTP client made on the way are out
/// of reach.
fn take_secret(blob: Blob) -> Option<Secret> {
    let mut bytes = blob.into_inner();
    let secret = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok().map(|mut key| {
        let secret = Secret::new(key);
        key.zeroize();
        secret
    });
    bytes.zeroize();
    secret
}

fn usable(key: &str, metadata: &KeyMetadata) -> Result<(), KeyRefused> {
    let key = key.to_owned();
    if metadata.key_manager.as_ref().is_some_and(|manager| *manager != KeyManagerType::Customer) {
        return Err(KeyRefused::AwsManaged { key });
    }
    if let Some(usage) = metadata.key_usage.as_ref().filter(|usage| **usage != KeyUsageType::EncryptDecrypt) {
        return Err(KeyRefused::Usage { key, usage: usage.as_str().to_owned() });
    }
    if let Some(spec) = metadata.key_spec.as_ref().filter(|spec| **spec != KeySpec::SymmetricDefault) {
        return Err(KeyRefused::Spec { key, spec: spec.as_str().to_owned() });
    }
    match &metadata.key_state {
        // While a multi-Region key is updated, it can be used.
        Some(KeyState::Enabled | KeyState::Updating) => Ok(()),
        None if metadata.enabled => Ok(()),
        state => {
            let remedy = match state {
                None | Some(KeyState::Disabled) => "enable it",
                Some(KeyState::PendingDeletion | KeyState::PendingReplicaDeletion) => {
                    "cancel its deletion and enable it"
                }
                Some(KeyState::PendingImport) => "import its key material",
                Some(KeyState::Unavailable) => "connect its key store",
                Some(_) => "wait until it is Enabled",
            };
            let state = state.as_ref().map_or("Disabled", KeyState::as_str).to_owned();
            Err(KeyRefused::State { key, state, remedy })
        }
    }
}

fn pairs(context: &EncryptionContext) -> HashMap<String, String> {
    context.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[async_trait]
impl Keyring for KmsKeyring {
    fn recipients(&self) -> &[Wanted] {
        &self.recipients
    }

    fn accepts(&self, found: WrappedRef<'_>) -> bool {
        found.provider_id == PROVIDER_ID && found.provider_info == self.key.as_str().as_bytes()
    }

    fn requests(&self, _: KeyringCall) -> u32 {
        1
    }

    async fn generate(&self, context: &EncryptionContext) -> Result<Vec<WrappedKey>, KeyringError> {
        let request = self.client.generate_data_key().key_id(self.key.as_str()).number_of_bytes(KEY_BYTES as i32);
        let result = request.set_encryption_context(Some(pairs(context))).send().await;
        let mut output = result.map_err(|error| self.error("GenerateDataKey", &Fault::of(&error)))?;
        let key = self.secret("GenerateDataKey", output.key_id.as_deref(), output.plaintext.take())?;
        let ciphertext = output.ciphertext_blob.map(Blob::into_inner).filter(|blob| !blob.is_empty());
        let ciphertext =
            ciphertext.ok_or_else(|| self.broken("GenerateDataKey", "the answer has no wrapped data key"))?;
        let (provider_id, provider_info) = (PROVIDER_ID.to_owned(), self.key.as_str().as_bytes().to_vec());
        Ok(vec![WrappedKey { provider_id, provider_info, ciphertext, key }])
    }

    async fn unwrap(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Result<Secret, KeyringError> {
        let request = self.client.decrypt().key_id(self.key.as_str()).ciphertext_blob(Blob::new(found.ciphertext));
        let result = request.set_encryption_context(Some(pairs(context))).send().await;
        let mut output = result.map_err(|error| self.error("Decrypt", &Fault::of(&error)))?;
        self.secret("Decrypt", output.key_id.as_deref(), output.plaintext.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change<'a> = &'a dyn Fn(&mut KeyMetadata);

    const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    #[test]
    fn key_arns() {
        let good = [ARN, "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234abcd"];
        for (text, region) in good.into_iter().zip(["eu-central-1", "us-gov-west-1"]) {
            let arn = KeyArn::parse(text).unwrap();
            assert_eq!((arn.as_str(), arn.region()), (text, region));
        }
        let text = str::to_owned;
        let alias = "arn:aws:kms:eu-central-1:111122223333:alias/customers";
        let id = "1234abcd-12ab-34cd-56ef-1234567890ab";
        assert_eq!(KeyArn::parse("alias/customers"), Err(KeyArnError::Alias(text("alias/customers"))));
        assert_eq!(KeyArn::parse(alias), Err(KeyArnError::Alias(text(alias))));
        assert_eq!(KeyArn::parse(id), Err(KeyArnError::KeyId(text(id))));
        for malformed in [
            "",
            "arn:aws:kms:eu-central-1:111122223333:key/",
            "arn:aws:kms:eu-central-1:111122223333:key/a/b",
            "arn:aws:kms:eu-central-1:111122223333:key/a b",
            "arn:aws:kms::111122223333:key/a",
            "arn:aws:kms:eu-central-1:me:key/a",
            "arn:aws:s3:eu-central-1:111122223333:key/a",
            "arn:aws:kms:eu-central-1:111122223333:key/a:b",
            "arn:aws:kms:eu-central-1:111122223333:grant/a",
        ] {
            assert_eq!(KeyArn::parse(malformed), Err(KeyArnError::Malformed(text(malformed))));
        }
    }

    #[test]
    fn the_region_is_the_keys_own() {
        let config = AwsConfig::stand_in("http://127.0.0.1:1", "us-east-1").unwrap();
        let refused = KmsKeyring::new(&config, KeyArn::parse(ARN).unwrap()).unwrap_err();
        assert!(matches!(&refused, KeyRefused::Region { configured, .. } if configured == "us-east-1"), "{refused}");
    }

    #[test]
    fn only_its_own_wrapped_keys_are_accepted() {
        let config = AwsConfig::stand_in("http://127.0.0.1:1", "eu-central-1").unwrap();
        let keyring = KmsKeyring::new(&config, KeyArn::parse(ARN).unwrap()).unwrap();
        let accepts = |provider_id, info: &str| {
            keyring.accepts(WrappedRef { provider_id, provider_info: info.as_bytes(), ciphertext: &[] })
        };
        assert!(accepts("aws-kms", ARN));
        assert!(!accepts("aws-kms", &ARN.replace("1234abcd", "0000abcd")));
        assert!(!accepts("aws-kms-rsa", ARN));
    }

    #[test]
    fn keys_that_will_not_do() {
        let with = |change: &dyn Fn(&mut KeyMetadata)| {
            let mut metadata = KeyMetadata::builder()
                .key_id("1234abcd")
                .key_manager(KeyManagerType::Customer)
                .key_usage(KeyUsageType::EncryptDecrypt)
                .key_spec(KeySpec::SymmetricDefault)
                .key_state(KeyState::Enabled)
                .build()
                .unwrap();
            change(&mut metadata);
            usable("K", &metadata).map_err(|refused| refused.to_string())
        };
        assert_eq!(with(&|_| ()), Ok(()));
        let cases: [(Change<'_>, &str); 7] = [
            (&|m| m.key_state = Some(KeyState::Disabled), "the key K is Disabled; enable it"),
            (
                &|m| m.key_state = Some(KeyState::PendingDeletion),
                "the key K is PendingDeletion; cancel its deletion and enable it",
            ),
            (&|m| m.key_state = Some(KeyState::PendingImport), "the key K is PendingImport; import its key material"),
            (&|m| m.key_state = None, "the key K is Disabled; enable it"),
            (
                &|m| m.key_manager = Some(KeyManagerType::Aws),
                "the key K is managed by AWS for one of its services; create a customer managed key",
            ),
            (
                &|m| m.key_usage = Some(KeyUsageType::SignVerify),
                "the key K is for SIGN_VERIFY; create one with the usage ENCRYPT_DECRYPT",
            ),
            (
                &|m| m.key_spec = Some(KeySpec::Rsa2048),
                "the key K is of the kind RSA_2048; create one of the kind SYMMETRIC_DEFAULT",
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(with(change), Err(expected.to_owned()));
        }
    }
}
