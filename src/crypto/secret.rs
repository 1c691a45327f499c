//! Key material that wipes itself.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of every data key, intermediate key and derived key of the Database Encryption SDK.
pub const KEY_BYTES: usize = 32;

/// 32 bytes of key material: wiped when dropped, never printed, compared in constant time.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; KEY_BYTES]);

impl Secret {
    /// Takes over key material. The caller wipes its own copy.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Copies key material of the right length. The caller wipes its own copy.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The key material; for primitives only.
    #[must_use]
    pub const fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The place of the key material, for primitives that derive it.
    pub(super) const fn expose_mut(&mut self) -> &mut [u8; KEY_BYTES] {
        &mut self.0
    }

    /// A fresh key from this thread's cryptographic generator, which the operating system seeds.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq as _;
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
