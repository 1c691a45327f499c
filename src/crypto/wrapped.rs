//! A wrapped key, and who can unwrap it: what keyrings and formats hand to each other.

use std::fmt;

use super::Secret;

/// Who a wrapped key is for: the part of an encrypted data key that can be compared without any key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipient {
    /// The key provider id: `aws-kms`, or the namespace of a raw keyring.
    pub provider: String,
    /// The key's ARN, or the name of a raw key.
    pub key: String,
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.provider, self.key)
    }
}

/// A key that items shall be sealed for, and which keys of items count as it (rule F).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wanted {
    /// The key.
    pub recipient: Recipient,
    /// How it is compared with the keys of an item.
    pub matching: Matching,
}

/// How the keys of an item are compared with one that is wanted; the strictest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Matching {
    /// It is the same text.
    Exact,
    /// It is the same multi-Region key, in any Region: only where the target's readers have the same rule.
    AnyRegion,
    /// It is any key of the same provider: the keyring says which of them, see `Keyring::is_current`.
    Provider,
}

impl Wanted {
    /// A key that is compared as text.
    #[must_use]
    pub const fn exactly(recipient: Recipient) -> Self {
        Self { recipient, matching: Matching::Exact }
    }

    /// Whether a key found in an item counts as this one.
    #[must_use]
    pub fn is(&self, found: &Recipient) -> bool {
        self.names(&found.provider, &found.key)
    }

    /// Whether a wrapped key counts as this one's, where the provider information is the key's name: with KMS keys.
    #[must_use]
    pub fn accepts(&self, found: WrappedRef<'_>) -> bool {
        std::str::from_utf8(found.provider_info).is_ok_and(|key| self.names(found.provider_id, key))
    }

    fn names(&self, provider: &str, key: &str) -> bool {
        self.recipient.provider == provider
            && match self.matching {
                Matching::Exact => self.recipient.key == key,
                Matching::AnyRegion => same_key_in_any_region(&self.recipient.key, key),
                Matching::Provider => true,
            }
    }
}

/// Whether two ARNs name the same KMS key: the same text, or multi-Region keys that differ in their Region only (AWS
/// Material Providers Library specification, `aws-kms-mrk-match-for-decrypt.md`).
#[must_use]
pub fn same_key_in_any_region(one: &str, other: &str) -> bool {
    one == other || matches!((without_region(one), without_region(other)), (Some(one), Some(other)) if one == other)
}

/// The parts of the ARN of a multi-Region key that are the same in every Region: partition, account and resource.
fn without_region(arn: &str) -> Option<[&str; 3]> {
    let parts: Vec<&str> = arn.split(':').collect();
    match parts[..] {
        ["arn", partition, "kms", _, account, resource] if resource.starts_with("key/mrk-") => {
            Some([partition, account, resource])
        }
        _ => None,
    }
}

/// A fresh 32-byte key and the form in which one recipient can get it back.
#[derive(Debug)]
pub struct WrappedKey {
    /// Key provider id of the encrypted data key.
    pub provider_id: String,
    /// Key provider information of the encrypted data key.
    pub provider_info: Vec<u8>,
    /// What the keyring wrapped.
    pub ciphertext: Vec<u8>,
    /// The key itself.
    pub key: Secret,
}

impl WrappedKey {
    /// The wrapped form, as a reader will find it.
    #[must_use]
    pub fn wrapped(&self) -> WrappedRef<'_> {
        WrappedRef { provider_id: &self.provider_id, provider_info: &self.provider_info, ciphertext: &self.ciphertext }
    }
}

/// A wrapped key as it was found in an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrappedRef<'a> {
    /// Key provider id of the encrypted data key.
    pub provider_id: &'a str,
    /// Key provider information of the encrypted data key.
    pub provider_info: &'a [u8],
    /// What the keyring wrapped.
    pub ciphertext: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multi_region_keys_are_the_same_in_any_region() {
        let arn = |region: &str, account: &str, resource: &str| format!("arn:aws:kms:{region}:{account}:{resource}");
        let home = arn("eu-central-1", "111122223333", "key/mrk-1234");
        let cases = [
            (home.clone(), true),
            (arn("us-east-1", "111122223333", "key/mrk-1234"), true),
            (arn("us-east-1", "111122223333", "key/mrk-1235"), false),
            (arn("us-east-1", "444455556666", "key/mrk-1234"), false),
            (arn("us-east-1", "111122223333", "alias/mrk-1234"), false),
            (home.replace("arn:aws:", "arn:aws-cn:"), false),
            (home.replace(":kms:", ":s3:"), false),
            ("mrk-1234".to_owned(), false),
        ];
        for (other, expected) in cases {
            assert_eq!(same_key_in_any_region(&home, &other), expected, "{other}");
            assert_eq!(same_key_in_any_region(&other, &home), expected, "{other}");
        }
        let (one, other) = ("key/1234", "key/1234");
        let single = |region| arn(region, "111122223333", one);
        assert!(!same_key_in_any_region(&single("eu-central-1"), &arn("us-east-1", "111122223333", other)));
    }

    #[test]
    fn how_strictly_keys_are_compared() {
        let of = |region: &str| Recipient {
            provider: "aws-kms".to_owned(),
            key: format!("arn:aws:kms:{region}:111122223333:key/mrk-1234"),
        };
        let other = Recipient { key: "another".to_owned(), ..of("r") };
        let foreign = Recipient { provider: "aws-kms-rsa".to_owned(), ..of("eu-central-1") };
        for (matching, expected) in [
            (Matching::Exact, [true, false, false, false]),
            (Matching::AnyRegion, [true, true, false, false]),
            (Matching::Provider, [true, true, true, false]),
        ] {
            let wanted = Wanted { recipient: of("eu-central-1"), matching };
            let found = [&of("eu-central-1"), &of("us-east-1"), &other, &foreign].map(|found| wanted.is(found));
            assert_eq!(found, expected, "{matching:?}");
        }
    }
}
