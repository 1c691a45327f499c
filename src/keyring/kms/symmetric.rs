//! A symmetric key of AWS KMS, named by its key ARN (AWS Material Providers Library specification, `aws-kms-keyring.md`
//! in strict mode, and `aws-kms-mrk-keyring.md`).

use async_trait::async_trait;

use super::examine::Kind;
use super::{KeyArn, KeyRefused, Kms, PROVIDER_ID, in_any_region, recipient};
use crate::aws::AwsConfig;
use crate::crypto::{EncryptionContext, Secret};
use crate::keyring::{Keyring, KeyringCall, KeyringError, Recipient, Wanted, WrappedKey, WrappedRef};

/// A keyring over one KMS key.
#[derive(Debug)]
pub struct KmsKeyring {
    kms: Kms,
    key: KeyArn,
    recipients: [Wanted; 1],
    /// The id of the key material that items shall be under, where that matters.
    material: Option<String>,
}

impl KmsKeyring {
    /// A keyring over the key alone, with a client of its own. Sends nothing.
    ///
    /// # Errors
    /// [`KeyRefused::Region`] when the configuration is for another Region than the key's.
    pub fn new(config: &AwsConfig, key: KeyArn) -> Result<Self, KeyRefused> {
        let wanted = Wanted::exactly(recipient(PROVIDER_ID, &key));
        Ok(Self { kms: Kms::of(config, &key)?, key, recipients: [wanted], material: None })
    }

    /// The same over a multi-Region key: what was wrapped by it in any Region counts as its own, and is unwrapped in this
    /// one.
    ///
    /// # Errors
    /// As [`KmsKeyring::new`].
    pub fn multi_region(config: &AwsConfig, key: KeyArn) -> Result<Self, KeyRefused> {
        let wanted = in_any_region(PROVIDER_ID, &key);
        Ok(Self { kms: Kms::of(config, &key)?, key, recipients: [wanted], material: None })
    }

    /// From now on only items that the key's present material wrapped are current. A rotation of the key keeps its ARN, so
    /// no item says which it was: KMS does, with each key that it unwraps.
    ///
    /// # Errors
    /// [`KeyRefused`] when KMS cannot be asked, or does not say which material the key has.
    pub async fn demand_present_material(&mut self) -> Result<(), KeyRefused> {
        let present = self.kms.material(self.key.as_str()).await?;
        self.material = Some(present.ok_or_else(|| KeyRefused::Material { key: self.key.as_str().to_owned() })?);
        Ok(())
    }

    /// Asks KMS whether the key can be used for items: enabled, the caller's own, symmetric, for encryption.
    ///
    /// # Errors
    /// [`KeyRefused`] with the reason and the remedy.
    pub async fn examine(&self) -> Result<(), KeyRefused> {
        self.kms.examine(self.key.as_str(), Kind::Symmetric).await
    }
}

#[async_trait]
impl Keyring for KmsKeyring {
    fn recipients(&self) -> &[Wanted] {
        &self.recipients
    }

    fn accepts(&self, found: WrappedRef<'_>) -> bool {
        let [wanted] = &self.recipients;
        wanted.accepts(found)
    }

    fn requests(&self, _: KeyringCall) -> u32 {
        1
    }

    fn looks_deeper(&self) -> bool {
        self.material.is_some()
    }

    async fn is_current(&self, found: &[WrappedRef<'_>], context: &EncryptionContext) -> Result<bool, KeyringError> {
        for found in found {
            let by = self.kms.wrapped_by(self.key.as_str(), found.ciphertext, context).await?;
            if self.material.is_some() && by != self.material {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn moved(&self) -> Result<Option<String>, KeyringError> {
        let key = self.key.as_str();
        Ok(match &self.material {
            Some(pinned) if self.kms.material(key).await?.as_ref() != Some(pinned) => {
                Some(format!("the material of {key} was rotated; items that were sealed before are under the old one"))
            }
            _ => None,
        })
    }

    async fn generate(&self, context: &EncryptionContext) -> Result<Vec<WrappedKey>, KeyringError> {
        let (key, ciphertext) = self.kms.generate(self.key.as_str(), context).await?;
        let [Wanted { recipient: Recipient { provider, key: arn }, .. }] = self.recipients.clone();
        Ok(vec![WrappedKey { provider_id: provider, provider_info: arn.into_bytes(), ciphertext, key }])
    }

    async fn unwrap(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Result<Secret, KeyringError> {
        self.kms.decrypt(self.key.as_str(), found.ciphertext, context).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::Matching;

    const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    const MULTI_REGION: &str = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd";

    fn config() -> AwsConfig {
        AwsConfig::stand_in("http://127.0.0.1:1", "eu-central-1").unwrap()
    }

    fn accepts(keyring: &KmsKeyring, provider_id: &str, info: &str) -> bool {
        keyring.accepts(WrappedRef { provider_id, provider_info: info.as_bytes(), ciphertext: &[] })
    }

    #[test]
    fn the_region_is_the_keys_own() {
        let config = AwsConfig::stand_in("http://127.0.0.1:1", "us-east-1").unwrap();
        for new in [KmsKeyring::new, KmsKeyring::multi_region] {
            let refused = new(&config, KeyArn::parse(MULTI_REGION).unwrap()).unwrap_err();
            assert!(
                matches!(&refused, KeyRefused::Region { configured, .. } if configured == "us-east-1"),
                "{refused}"
            );
        }
    }

    #[test]
    fn only_its_own_wrapped_keys_are_accepted() {
        let keyring = KmsKeyring::new(&config(), KeyArn::parse(ARN).unwrap()).unwrap();
        assert!(accepts(&keyring, "aws-kms", ARN));
        assert!(!accepts(&keyring, "aws-kms", &ARN.replace("1234abcd", "0000abcd")));
        assert!(!accepts(&keyring, "aws-kms-rsa", ARN));
        let keyring = KmsKeyring::new(&config(), KeyArn::parse(MULTI_REGION).unwrap()).unwrap();
        assert!(!accepts(&keyring, "aws-kms", &MULTI_REGION.replace("eu-central-1", "us-east-1")));
        assert_eq!(keyring.recipients()[0].matching, Matching::Exact);
    }

    #[test]
    fn a_multi_region_key_is_accepted_from_any_region() {
        let keyring = KmsKeyring::multi_region(&config(), KeyArn::parse(MULTI_REGION).unwrap()).unwrap();
        assert_eq!(keyring.recipients()[0].matching, Matching::AnyRegion);
        assert!(accepts(&keyring, "aws-kms", MULTI_REGION));
        assert!(accepts(&keyring, "aws-kms", &MULTI_REGION.replace("eu-central-1", "us-east-1")));
        assert!(!accepts(&keyring, "aws-kms", &MULTI_REGION.replace("mrk-1234", "mrk-1235")));
        assert!(!accepts(&keyring, "aws-kms", &MULTI_REGION.replace("111122223333", "444455556666")));
        assert!(!accepts(&keyring, "aws-kms-rsa", MULTI_REGION));
        // Any other key is one of its Region.
        let keyring = KmsKeyring::multi_region(&config(), KeyArn::parse(ARN).unwrap()).unwrap();
        assert_eq!(keyring.recipients()[0].matching, Matching::Exact);
        assert!(accepts(&keyring, "aws-kms", ARN));
        assert!(!accepts(&keyring, "aws-kms", &ARN.replace("eu-central-1", "us-east-1")));
    }
}
