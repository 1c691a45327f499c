//! The algorithm suites of the Database Encryption SDK, in one table.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An algorithm suite of the Database Encryption SDK. Both encrypt with AES-256-GCM under keys from HKDF with SHA-512,
/// commit to the data key, and authenticate with HMAC-SHA384 (AWS Material Providers Library specification,
/// `algorithm-suites.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Suite {
    /// 0x6700: symmetric authentication only.
    #[serde(rename = "ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_SYMSIG_HMAC_SHA384")]
    HmacSha384,
    /// 0x6701: an ECDSA P-384 signature as well. AWS's default.
    #[serde(rename = "ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384_SYMSIG_HMAC_SHA384")]
    EcdsaP384,
}

impl Suite {
    /// Both suites.
    pub const ALL: [Self; 2] = [Self::HmacSha384, Self::EcdsaP384];

    /// The name in AWS's own words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HmacSha384 => "ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_SYMSIG_HMAC_SHA384",
            Self::EcdsaP384 => "ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384_SYMSIG_HMAC_SHA384",
        }
    }

    /// The header's flavor byte.
    #[must_use]
    pub const fn flavor(self) -> u8 {
        match self {
            Self::HmacSha384 => 0,
            Self::EcdsaP384 => 1,
        }
    }

    /// The suite of a header's flavor byte.
    #[must_use]
    pub const fn from_flavor(flavor: u8) -> Option<Self> {
        match flavor {
            0 => Some(Self::HmacSha384),
            1 => Some(Self::EcdsaP384),
            _ => None,
        }
    }

    /// Whether items carry an ECDSA signature.
    #[must_use]
    pub const fn signs(self) -> bool {
        matches!(self, Self::EcdsaP384)
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Suite {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|suite| suite.name() == name).ok_or(())
    }
}
