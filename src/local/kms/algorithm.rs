//! The encryption algorithms, by KMS's names.

use serde_json::Value;

use super::exception::{Exception, KmsError};
use super::request::Request;

/// A value of `EncryptionAlgorithm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Symmetric,
    OaepSha1,
    OaepSha256,
    /// Of keys that the stand-in does not make.
    Sm2,
}

impl Algorithm {
    const ALL: [Self; 4] = [Self::Symmetric, Self::OaepSha1, Self::OaepSha256, Self::Sm2];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Symmetric => "SYMMETRIC_DEFAULT",
            Self::OaepSha1 => "RSAES_OAEP_SHA_1",
            Self::OaepSha256 => "RSAES_OAEP_SHA_256",
            Self::Sm2 => "SM2PKE",
        }
    }

    /// The algorithm that a parameter names; the symmetric one when it is absent.
    pub(super) fn of(request: Request<'_>, parameter: &str) -> Result<Self, KmsError> {
        let Some(name) = request.text(parameter, 1..=64)? else { return Ok(Self::Symmetric) };
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or_else(|| {
            Exception::Validation.because(
                "1 validation error detected: Value at 'encryptionAlgorithm' failed to satisfy constraint: Member must \
                 satisfy enum value set: [SYMMETRIC_DEFAULT, RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, SM2PKE]",
            )
        })
    }
}

/// The JSON list of the names.
pub(super) fn algorithm_names(algorithms: &[Algorithm]) -> Value {
    algorithms.iter().map(|algorithm| algorithm.name()).collect()
}
