//! Whichever symmetric KMS key an item names, for reading (AWS Material Providers Library specification,
//! `aws-kms-mrk-discovery-keyring.md`).

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::{KeyArn, Kms, PROVIDER_ID};
use crate::aws::AwsConfig;
use crate::crypto::{EncryptionContext, Secret};
use crate::keyring::{Keyring, KeyringCall, KeyringClass, KeyringError, Wanted, WrappedKey, WrappedRef};

/// Whose keys are used. Whoever can write the table chooses the key that an item names; the filter says which choices
/// count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryFilter {
    /// The partition, such as `aws`.
    pub partition: String,
    /// The accounts; `None` for any.
    pub accounts: Option<BTreeSet<String>>,
}

impl DiscoveryFilter {
    /// Whether keys of this partition and account are used.
    pub(in crate::keyring) fn allows(&self, key: &KeyArn) -> bool {
        key.partition() == self.partition
            && self.accounts.as_ref().is_none_or(|accounts| accounts.contains(key.account()))
    }
}

/// A keyring that unwraps by any key of the filter, in its own Region: what another Region's multi-Region key wrapped, by
/// the key of that name here. Wraps nothing.
#[derive(Debug)]
pub struct KmsDiscovery {
    kms: Kms,
    region: String,
    filter: DiscoveryFilter,
}

impl KmsDiscovery {
    /// A keyring over the keys of the configuration's Region. Sends nothing.
    #[must_use]
    pub fn new(config: &AwsConfig, filter: DiscoveryFilter) -> Self {
        Self { kms: Kms::new(config), region: config.region().unwrap_or_default().to_owned(), filter }
    }

    /// The key to ask for, if what was found is wrapped by one of the filter's that can be used in this Region.
    fn key(&self, found: WrappedRef<'_>) -> Option<KeyArn> {
        let info = std::str::from_utf8(found.provider_info).ok().filter(|_| found.provider_id == PROVIDER_ID)?;
        let key = KeyArn::parse(info).ok()?;
        let allowed = self.filter.allows(&key);
        let key = if key.is_multi_region() { key.in_region(&self.region) } else { key };
        (allowed && key.region() == self.region).then_some(key)
    }
}

#[async_trait]
impl Keyring for KmsDiscovery {
    fn recipients(&self) -> &[Wanted] {
        &[]
    }

    fn accepts(&self, found: WrappedRef<'_>) -> bool {
        self.key(found).is_some()
    }

    fn requests(&self, call: KeyringCall) -> u32 {
        u32::from(call == KeyringCall::Unwrap)
    }

    async fn generate(&self, _: &EncryptionContext) -> Result<Vec<WrappedKey>, KeyringError> {
        let problem = "a discovery keyring names no key to wrap with; use one that does".to_owned();
        Err(KeyringError { class: KeyringClass::Key, key: PROVIDER_ID.to_owned(), problem })
    }

    async fn unwrap(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Result<Secret, KeyringError> {
        let key = self.key(found).ok_or_else(|| KeyringError {
            class: KeyringClass::Item,
            key: String::from_utf8_lossy(found.provider_info).into_owned(),
            problem: "not a key of the discovery filter; add its account, or a keyring of its Region".to_owned(),
        })?;
        self.kms.decrypt(key.as_str(), found.ciphertext, context).await.map_err(|error| match error.class {
            // One key of many: that it cannot be used says nothing of the next item's.
            KeyringClass::Key => KeyringError { class: KeyringClass::Item, ..error },
            _ => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(accounts: Option<&[&str]>, arn: &str) -> Option<String> {
        let config = AwsConfig::stand_in("http://127.0.0.1:1", "eu-central-1").unwrap();
        let accounts = accounts.map(|accounts| accounts.iter().map(|&account| account.to_owned()).collect());
        let keyring = KmsDiscovery::new(&config, DiscoveryFilter { partition: "aws".to_owned(), accounts });
        let found = WrappedRef { provider_id: "aws-kms", provider_info: arn.as_bytes(), ciphertext: &[] };
        assert_eq!(keyring.accepts(found), keyring.key(found).is_some());
        assert!(!keyring.accepts(WrappedRef { provider_id: "aws-kms-rsa", ..found }));
        keyring.key(found).map(|key| key.as_str().to_owned())
    }

    #[test]
    fn keys_of_the_filter_in_this_region() {
        let here = "arn:aws:kms:eu-central-1:111122223333:key/1";
        let replica = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1";
        let accounts = Some(["111122223333", "444455556666"].as_slice());
        for (arn, asked) in [
            (here.to_owned(), Some(here)),
            (here.replace("eu-central-1", "us-east-1"), None),
            (replica.to_owned(), Some(replica)),
            (replica.replace("eu-central-1", "us-east-1"), Some(replica)),
            (here.replace("111122223333", "999999999999"), None),
            (here.replace("arn:aws:", "arn:aws-cn:"), None),
            ("arn:aws:kms:eu-central-1:111122223333:alias/mrk-1".to_owned(), None),
            ("mrk-1".to_owned(), None),
        ] {
            assert_eq!(accepted(accounts, &arn).as_deref(), asked, "{arn}");
        }
        assert!(accepted(None, &here.replace("111122223333", "999999999999")).is_some());
        assert!(accepted(Some(&[]), here).is_none());
    }
}
