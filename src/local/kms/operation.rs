//! The operations by name, and one request on its way.

use std::time::Duration;

use serde_json::{Value, json};

use super::exception::{Exception, KmsError};
use super::request::Request;

/// The operations, and what the dispatch has to know of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    CancelKeyDeletion,
    CreateAlias,
    CreateKey,
    Decrypt,
    DeleteAlias,
    DescribeKey,
    DisableKey,
    EnableKey,
    Encrypt,
    GenerateDataKey,
    GenerateDataKeyWithoutPlaintext,
    GetKeyRotationStatus,
    GetPublicKey,
    ListAliases,
    ListKeyRotations,
    ListKeys,
    ReEncrypt,
    ReplicateKey,
    RotateKeyOnDemand,
    ScheduleKeyDeletion,
    UpdateAlias,
}

impl Operation {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "CancelKeyDeletion" => Self::CancelKeyDeletion,
            "CreateAlias" => Self::CreateAlias,
            "CreateKey" => Self::CreateKey,
            "Decrypt" => Self::Decrypt,
            "DeleteAlias" => Self::DeleteAlias,
            "DescribeKey" => Self::DescribeKey,
            "DisableKey" => Self::DisableKey,
            "EnableKey" => Self::EnableKey,
            "Encrypt" => Self::Encrypt,
            "GenerateDataKey" => Self::GenerateDataKey,
            "GenerateDataKeyWithoutPlaintext" => Self::GenerateDataKeyWithoutPlaintext,
            "GetKeyRotationStatus" => Self::GetKeyRotationStatus,
            "GetPublicKey" => Self::GetPublicKey,
            "ListAliases" => Self::ListAliases,
            "ListKeyRotations" => Self::ListKeyRotations,
            "ListKeys" => Self::ListKeys,
            "ReEncrypt" => Self::ReEncrypt,
            "ReplicateKey" => Self::ReplicateKey,
            "RotateKeyOnDemand" => Self::RotateKeyOnDemand,
            "ScheduleKeyDeletion" => Self::ScheduleKeyDeletion,
            "UpdateAlias" => Self::UpdateAlias,
            _ => return None,
        })
    }

    /// Whether a policy may name it: `ReEncrypt` needs a permission on either key, and has none of its own.
    pub(super) fn is_permission(name: &str) -> bool {
        matches!(name, "ReEncryptFrom" | "ReEncryptTo")
            || Self::named(name).is_some_and(|operation| operation != Self::ReEncrypt)
    }

    /// The parameters that the stand-in understands.
    pub(super) const fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::CancelKeyDeletion
            | Self::DisableKey
            | Self::EnableKey
            | Self::GetKeyRotationStatus
            | Self::RotateKeyOnDemand => &["KeyId"],
            Self::CreateAlias | Self::UpdateAlias => &["AliasName", "TargetKeyId"],
            Self::CreateKey => {
                &["Description", "KeySpec", "CustomerMasterKeySpec", "KeyUsage", "Origin", "MultiRegion"]
            }
            Self::Decrypt => &[
                "KeyId",
                "CiphertextBlob",
                "EncryptionContext",
                "EncryptionAlgorithm",
                "GrantTokens",
                "DryRun",
                "DryRunModifiers",
            ],
            Self::DeleteAlias => &["AliasName"],
            Self::DescribeKey | Self::GetPublicKey => &["KeyId", "GrantTokens"],
            Self::Encrypt => {
                &["KeyId", "Plaintext", "EncryptionContext", "EncryptionAlgorithm", "GrantTokens", "DryRun"]
            }
            Self::GenerateDataKey | Self::GenerateDataKeyWithoutPlaintext => {
                &["KeyId", "KeySpec", "NumberOfBytes", "EncryptionContext", "GrantTokens", "DryRun"]
            }
            Self::ListAliases => &["KeyId", "Limit", "Marker"],
            Self::ListKeyRotations => &["KeyId", "IncludeKeyMaterial", "Limit", "Marker"],
            Self::ListKeys => &["Limit", "Marker"],
            Self::ReEncrypt => &[
                "CiphertextBlob",
                "SourceKeyId",
                "SourceEncryptionContext",
                "SourceEncryptionAlgorithm",
                "DestinationKeyId",
                "DestinationEncryptionContext",
                "DestinationEncryptionAlgorithm",
                "GrantTokens",
                "DryRun",
                "DryRunModifiers",
            ],
            Self::ReplicateKey => &["KeyId", "ReplicaRegion", "Description"],
            Self::ScheduleKeyDeletion => &["KeyId", "PendingWindowInDays"],
        }
    }

    /// Whether it counts against the request rate, as KMS's quota for symmetric cryptography does.
    pub(super) const fn is_cryptographic(self) -> bool {
        matches!(
            self,
            Self::Decrypt
                | Self::Encrypt
                | Self::GenerateDataKey
                | Self::GenerateDataKeyWithoutPlaintext
                | Self::ReEncrypt
        )
    }

    /// Whether its API names `InvalidArnException`; the others answer `NotFoundException`.
    pub(super) const fn knows_invalid_arn(self) -> bool {
        !self.is_cryptographic() && !matches!(self, Self::CreateAlias | Self::UpdateAlias | Self::DeleteAlias)
    }

    /// Whether a key may be named by an alias; the others take key id and key ARN.
    pub(super) const fn takes_aliases(self) -> bool {
        self.is_cryptographic() || matches!(self, Self::DescribeKey | Self::GetPublicKey)
    }

    /// Whether it may change keys or aliases, so that they are to be kept after it.
    pub(super) const fn changes_what_is_kept(self) -> bool {
        matches!(
            self,
            Self::CancelKeyDeletion
                | Self::CreateAlias
                | Self::CreateKey
                | Self::DeleteAlias
                | Self::DisableKey
                | Self::EnableKey
                | Self::ReplicateKey
                | Self::RotateKeyOnDemand
                | Self::ScheduleKeyDeletion
                | Self::UpdateAlias
        )
    }
}

/// One request on its way through the store.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    pub(super) name: &'a str,
    pub(super) request: Request<'a>,
    /// Since the Unix epoch.
    pub(super) now: Duration,
}

impl Call<'_> {
    /// Ends a dry run, whose success is an exception in KMS.
    pub(super) fn end_dry_run(self) -> Result<(), KmsError> {
        if self.request.flag("DryRun")? {
            return Err(
                Exception::DryRunOperation.because("The request would have succeeded, but the DryRun option is set.")
            );
        }
        Ok(())
    }

    /// Whether this dry run asks about permissions alone, so that no ciphertext is looked at.
    pub(super) fn ignores_ciphertext(self) -> Result<bool, KmsError> {
        let modifiers = self.request.texts("DryRunModifiers")?;
        if let Some(other) = modifiers.iter().find(|modifier| **modifier != "IGNORE_CIPHERTEXT") {
            return Err(Exception::Validation.because(format!("There is no dry run modifier {other:?}.")));
        }
        Ok(!modifiers.is_empty() && self.request.flag("DryRun")?)
    }

    /// One page of a list whose entries have ascending marks. The mark of the last entry is the marker of the rest.
    pub(super) fn page(
        self,
        member: &str,
        is_mark: impl Fn(&str) -> bool,
        entries: impl Iterator<Item = (String, Value)>,
    ) -> Result<Value, KmsError> {
        let limit = self.request.number("Limit", 1..=1000)?.unwrap_or(100);
        let after = self.request.text("Marker", 1..=1024)?;
        if after.is_some_and(|marker| !is_mark(marker)) {
            return Err(Exception::InvalidMarker.because("The marker is not one that an earlier answer gave."));
        }
        let mut rest = entries.filter(|(mark, _)| after.is_none_or(|after| mark.as_str() > after));
        let (marks, page): (Vec<String>, Vec<Value>) = rest.by_ref().take(limit).unzip();
        let mut answer = json!({ member: page, "Truncated": false });
        if let (Some(last), Some(_)) = (marks.last(), rest.next()) {
            answer["Truncated"] = true.into();
            answer["NextMarker"] = last.as_str().into();
        }
        Ok(answer)
    }
}
