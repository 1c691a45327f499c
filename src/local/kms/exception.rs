//! What KMS answers when it does not do what was asked.

/// The exceptions that the stand-in raises, by KMS's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exception {
    /// A deny rule forbids the request, or the blob's key is not here.
    AccessDenied,
    /// An alias or a key of this name is there already.
    AlreadyExists,
    /// The key is disabled.
    Disabled,
    /// A dry run that would have succeeded.
    DryRunOperation,
    /// The blob was wrapped by another key than the one that the request names.
    IncorrectKey,
    /// Not an ARN.
    InvalidArn,
    /// The blob is damaged, or the encryption context is not the one that it was wrapped under.
    InvalidCiphertext,
    /// The key does not serve for this operation or algorithm.
    InvalidKeyUsage,
    /// The marker does not come from an earlier page.
    InvalidMarker,
    /// The stand-in itself failed; HTTP 500.
    KmsInternal,
    /// The key's state does not allow the request.
    KmsInvalidState,
    /// The key was rotated as often as KMS allows.
    LimitExceeded,
    /// The name is kept for AWS's own aliases.
    NotAuthorized,
    /// There is no such key in this Region.
    NotFound,
    /// The request is not the JSON that the operation takes.
    Serialization,
    /// More requests than the rate allows.
    Throttling,
    /// The stand-in does not know the operation.
    UnknownOperation,
    /// The stand-in does not support what was asked.
    UnsupportedOperation,
    /// A parameter is missing or out of bounds.
    Validation,
}

impl Exception {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDeniedException",
            Self::AlreadyExists => "AlreadyExistsException",
            Self::Disabled => "DisabledException",
            Self::DryRunOperation => "DryRunOperationException",
            Self::IncorrectKey => "IncorrectKeyException",
            Self::InvalidArn => "InvalidArnException",
            Self::InvalidCiphertext => "InvalidCiphertextException",
            Self::InvalidKeyUsage => "InvalidKeyUsageException",
            Self::InvalidMarker => "InvalidMarkerException",
            Self::KmsInternal => "KMSInternalException",
            Self::KmsInvalidState => "KMSInvalidStateException",
            Self::LimitExceeded => "LimitExceededException",
            Self::NotAuthorized => "NotAuthorizedException",
            Self::NotFound => "NotFoundException",
            Self::Serialization => "SerializationException",
            Self::Throttling => "ThrottlingException",
            Self::UnknownOperation => "UnknownOperationException",
            Self::UnsupportedOperation => "UnsupportedOperationException",
            Self::Validation => "ValidationException",
        }
    }

    /// The HTTP status: 400, save for failures of the service itself. KMS throttles with 400, too.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::KmsInternal => 500,
            _ => 400,
        }
    }

    /// An error of this name.
    pub(super) fn because(self, message: impl Into<String>) -> KmsError {
        KmsError { exception: self, message: message.into() }
    }
}

/// A request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", exception.name())]
pub struct KmsError {
    /// Why, as programs see it.
    pub exception: Exception,
    /// Why, for people. Holds neither key bytes nor plaintext nor values of an encryption context.
    pub message: String,
}
