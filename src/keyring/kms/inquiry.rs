//! Questions about KMS keys whose answers change nothing: what a key is, whether it was rotated, which aliases name it,
//! and, by dry runs, whether the caller may use it.

use aws_sdk_kms::primitives::{Blob, DateTime, DateTimeFormat};
use aws_sdk_kms::types::{DryRunModifierType, KeyMetadata};
use zeroize::Zeroizing;

use super::examine::{Kind, usable};
use super::{DESCRIBE, Kms, KmsRsaPadding, NO_KEY, broken, failed, pairs};
use crate::aws::{AwsConfig, Fault};
use crate::crypto::{EncryptionContext, KEY_BYTES};
use crate::keyring::KeyringError;

/// What KMS answers to a dry run that would have succeeded.
const WOULD_HAVE_SUCCEEDED: &str = "DryRunOperationException";

/// KMS in one Region, asked about keys.
#[derive(Debug)]
pub struct KmsInquiry {
    kms: Kms,
}

/// A key as KMS describes it, in KMS's words.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KeyFacts {
    /// Its own ARN, also where an alias was asked about.
    pub arn: String,
    /// `Enabled`, or why not.
    pub state: String,
    /// `SYMMETRIC_DEFAULT`, `RSA_3072` and the like.
    pub spec: String,
    /// `ENCRYPT_DECRYPT`, or what else it is for.
    pub usage: String,
    /// `CUSTOMER`, or `AWS`, which nobody can use for items.
    pub manager: String,
    /// `AWS_KMS`, or where its material comes from.
    pub origin: String,
    /// Whether it may exist in several Regions.
    pub multi_region: bool,
    /// Why it cannot be used for items, and the remedy.
    pub unusable: Option<String>,
}

/// How a key is rotated, and was.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rotation {
    /// Whether KMS does it by itself.
    pub automatic: bool,
    /// Every so many days.
    pub period_days: Option<i32>,
    /// How often it got new material.
    pub rotations: usize,
    /// When it last did, as a date.
    pub last: Option<String>,
}

/// What a wrapped key is bound to.
#[derive(Debug, Clone, Copy)]
pub enum WrappedUnder<'a> {
    /// By a symmetric key: the encryption context.
    Context(&'a EncryptionContext),
    /// By an RSA key: nothing, but how it is padded has to be said.
    Rsa(KmsRsaPadding),
}

impl KmsInquiry {
    /// A client of the configuration's Region. Sends nothing.
    #[must_use]
    pub fn new(config: &AwsConfig) -> Self {
        Self { kms: Kms::new(config) }
    }

    /// Describes a key, named by its ARN or by an alias.
    ///
    /// # Errors
    /// [`KeyringError`] when KMS does not.
    pub async fn describe(&self, key: &str) -> Result<KeyFacts, KeyringError> {
        let facts = self.kms.describe(key).await?.as_ref().and_then(facts);
        facts.ok_or_else(|| broken(key, DESCRIBE, NO_KEY))
    }

    /// How a symmetric key is rotated, and was.
    ///
    /// # Errors
    /// [`KeyringError`] when KMS does not say.
    pub async fn rotation(&self, key: &str) -> Result<Rotation, KeyringError> {
        let status = self.kms.client.get_key_rotation_status().key_id(key).send().await;
        let status = status.map_err(|error| failed(key, "GetKeyRotationStatus", &Fault::of(&error)))?;
        let mut pages = self.kms.client.list_key_rotations().key_id(key).into_paginator().send();
        let (mut rotations, mut last) = (0, None::<DateTime>);
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed(key, "ListKeyRotations", &Fault::of(&error)))?;
            for rotation in page.rotations() {
                rotations += 1;
                last = last.max(rotation.rotation_date().copied());
            }
        }
        let date = |time: DateTime| {
            let text = time.fmt(DateTimeFormat::DateTime).ok()?;
            text.get(..10).map(str::to_owned)
        };
        Ok(Rotation {
            automatic: status.key_rotation_enabled,
            period_days: status.rotation_period_in_days,
            rotations,
            last: last.and_then(date),
        })
    }

    /// The names of the aliases that name a key now.
    ///
    /// # Errors
    /// [`KeyringError`] when KMS does not say.
    pub async fn aliases(&self, key: &str) -> Result<Vec<String>, KeyringError> {
        let mut pages = self.kms.client.list_aliases().key_id(key).into_paginator().send();
        let mut names = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed(key, "ListAliases", &Fault::of(&error)))?;
            names.extend(page.aliases().iter().filter_map(|alias| alias.alias_name().map(str::to_owned)));
        }
        Ok(names)
    }

    /// Whether the caller may have a data key wrapped under the context. Nothing is made: it is a dry run.
    ///
    /// # Errors
    /// [`KeyringError`] saying why not, or that KMS did not say.
    pub async fn may_generate(&self, key: &str, context: &EncryptionContext) -> Result<(), KeyringError> {
        let request = self.kms.client.generate_data_key().key_id(key).number_of_bytes(KEY_BYTES as i32).dry_run(true);
        let result = request.set_encryption_context(Some(pairs(context))).send().await;
        match result {
            Ok(mut output) => wipe(output.plaintext.take()),
            Err(error) => demand_dry_run(key, "GenerateDataKey", &Fault::of(&error))?,
        }
        Ok(())
    }

    /// Whether the caller may have a wrapped key unwrapped; without one, whether it might one that nobody looks at. Nothing
    /// is unwrapped: it is a dry run.
    ///
    /// # Errors
    /// [`KeyringError`] saying why not, or that KMS did not say.
    pub async fn may_decrypt(
        &self,
        key: &str,
        wrapped: Option<&[u8]>,
        under: WrappedUnder<'_>,
    ) -> Result<(), KeyringError> {
        let request = self.kms.client.decrypt().key_id(key).dry_run(true);
        let request = match under {
            WrappedUnder::Context(context) => request.set_encryption_context(Some(pairs(context))),
            WrappedUnder::Rsa(padding) => request.encryption_algorithm(padding.algorithm()),
        };
        let request = match wrapped {
            Some(wrapped) => request.ciphertext_blob(Blob::new(wrapped)),
            None => request.dry_run_modifiers(DryRunModifierType::IgnoreCiphertext),
        };
        match request.send().await {
            Ok(mut output) => wipe(output.plaintext.take()),
            Err(error) => demand_dry_run(key, "Decrypt", &Fault::of(&error))?,
        }
        Ok(())
    }
}

/// Wipes what a stand-in that knows no dry runs has answered in earnest.
fn wipe(plaintext: Option<Blob>) {
    drop(plaintext.map(|plaintext| Zeroizing::new(plaintext.into_inner())));
}

fn demand_dry_run(key: &str, operation: &str, fault: &Fault) -> Result<(), KeyringError> {
    if fault.code() == WOULD_HAVE_SUCCEEDED { Ok(()) } else { Err(failed(key, operation, fault)) }
}

fn facts(metadata: &KeyMetadata) -> Option<KeyFacts> {
    let arn = metadata.arn()?.to_owned();
    let rsa = metadata.key_spec().is_some_and(|spec| Kind::Rsa.has(spec));
    let kind = if rsa { Kind::Rsa } else { Kind::Symmetric };
    let word = |word: Option<&str>| word.unwrap_or("unknown").to_owned();
    Some(KeyFacts {
        state: word(metadata.key_state().map(AsRef::as_ref)),
        spec: word(metadata.key_spec().map(AsRef::as_ref)),
        usage: word(metadata.key_usage().map(AsRef::as_ref)),
        manager: word(metadata.key_manager().map(AsRef::as_ref)),
        origin: word(metadata.origin().map(AsRef::as_ref)),
        multi_region: metadata.multi_region().unwrap_or(false),
        unusable: usable(&arn, metadata, kind).err().map(|refused| refused.to_string()),
        arn,
    })
}
