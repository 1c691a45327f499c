//! The name of a KMS key.

/// The ARN of a KMS key: `arn:partition:kms:region:account:key/id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyArn(String);

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
            Some(("key", id)) if !id.is_empty() && !id.contains('/') => Ok(Self(text.to_owned())),
            Some(("alias", _)) => Err(KeyArnError::Alias(text.to_owned())),
            _ => Err(malformed()),
        }
    }

    /// The ARN as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition that the key is in, such as `aws`.
    #[must_use]
    pub fn partition(&self) -> &str {
        self.part(1)
    }

    /// The Region that the key is in.
    #[must_use]
    pub fn region(&self) -> &str {
        self.part(3)
    }

    /// The account that the key belongs to.
    #[must_use]
    pub fn account(&self) -> &str {
        self.part(4)
    }

    /// Whether keys of the same id in other Regions have the same material.
    #[must_use]
    pub fn is_multi_region(&self) -> bool {
        self.part(5).starts_with("key/mrk-")
    }

    /// The key of the same id in another Region.
    #[must_use]
    pub fn in_region(&self, region: &str) -> Self {
        Self(format!("arn:{}:kms:{region}:{}:{}", self.partition(), self.account(), self.part(5)))
    }

    /// A part of the six that every key ARN has.
    fn part(&self, index: usize) -> &str {
        self.0.split(':').nth(index).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    #[test]
    fn key_arns() {
        let good = [ARN, "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234abcd"];
        for (text, region) in good.into_iter().zip(["eu-central-1", "us-gov-west-1"]) {
            let arn = KeyArn::parse(text).unwrap();
            assert_eq!((arn.as_str(), arn.region(), arn.account()), (text, region, "111122223333"));
            assert_eq!(arn.in_region(region), arn);
            assert_eq!(arn.is_multi_region(), text.contains("mrk-"));
            assert!(text.starts_with(&format!("arn:{}:kms", arn.in_region("r").partition())));
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
}
