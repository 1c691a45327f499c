//! ECDSA on P-384 with SHA-384 under keys that live for one item.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};

/// Bytes of a compressed point: the parity of `y`, and `x`.
pub(crate) const POINT_BYTES: usize = 1 + SCALAR_BYTES;
/// Bytes of a DER signature that the Database Encryption SDK accepts: one of the two numbers has its top bit set, the
/// other has not, and neither begins with a zero byte.
pub(crate) const SIGNATURE_BYTES: usize = 103;

const SCALAR_BYTES: usize = 48;
/// The order of the curve's group (NIST SP 800-186, section 3.2.1.4).
const ORDER: [u8; SCALAR_BYTES] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf, 0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0,
    0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];
/// About one signature in 128 cannot be brought to the length; as many tries in a row do not happen.
const TRIES: usize = 32;

/// The random generator failed, or no signature of the right length came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no signature could be made: the cryptographic library failed")]
pub(crate) struct SignatureError;

/// A key pair that signs one item and is then forgotten.
pub(crate) struct EphemeralKey(EcdsaKeyPair);

impl EphemeralKey {
    /// A fresh key pair.
    pub(crate) fn generate() -> Result<Self, SignatureError> {
        EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).map(Self).map_err(|_| SignatureError)
    }

    /// The public key as a compressed point.
    pub(crate) fn point(&self) -> [u8; POINT_BYTES] {
        // The library writes the uncompressed form: 04, x, y.
        let uncompressed = self.0.public_key().as_ref();
        let mut point = [0; POINT_BYTES];
        point.copy_from_slice(&uncompressed[..POINT_BYTES]);
        point[0] = 2 + (uncompressed[uncompressed.len() - 1] & 1);
        point
    }

    /// Signs the message in DER of exactly [`SIGNATURE_BYTES`]. `(r, s)` and `(r, n - s)` are both signatures of the
    /// message, and nearly always one of the two has the length; else another one is made.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_BYTES], SignatureError> {
        for _ in 0..TRIES {
            let signature = self.0.sign(&SystemRandom::new(), message).map_err(|_| SignatureError)?;
            let (r, rest) = signature.as_ref().split_first_chunk::<SCALAR_BYTES>().ok_or(SignatureError)?;
            let s = rest.first_chunk::<SCALAR_BYTES>().ok_or(SignatureError)?;
            if let Some(der) = der(r, s).or_else(|| der(r, &negated(s))) {
                return Ok(der);
            }
        }
        Err(SignatureError)
    }
}

impl fmt::Debug for EphemeralKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EphemeralKey(..)")
    }
}

/// Whether the DER signature over the message is of the key whose compressed point this is.
pub(crate) fn verify(point: &[u8; POINT_BYTES], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, point).verify(message, signature).is_ok()
}

/// `n - s`.
fn negated(s: &[u8; SCALAR_BYTES]) -> [u8; SCALAR_BYTES] {
    let mut out = [0; SCALAR_BYTES];
    let mut borrow = 0_i16;
    for i in (0..SCALAR_BYTES).rev() {
        let difference = i16::from(ORDER[i]) - i16::from(s[i]) - borrow;
        borrow = i16::from(difference < 0);
        out[i] = difference.rem_euclid(256) as u8;
    }
    out
}

/// The signature in DER, if that has [`SIGNATURE_BYTES`].
fn der(r: &[u8; SCALAR_BYTES], s: &[u8; SCALAR_BYTES]) -> Option<[u8; SIGNATURE_BYTES]> {
    const INTEGER: u8 = 0x02;
    const SEQUENCE: u8 = 0x30;
    if r[0] == 0 || s[0] == 0 || (r[0] ^ s[0]) & 0x80 == 0 {
        return None;
    }
    let mut out = Vec::with_capacity(SIGNATURE_BYTES);
    out.extend_from_slice(&[SEQUENCE, SIGNATURE_BYTES as u8 - 2]);
    for number in [r, s] {
        // A number whose top bit is set needs a zero byte in front, or it would be negative.
        let sign = usize::from(number[0] >> 7);
        out.extend_from_slice(&[INTEGER, (SCALAR_BYTES + sign) as u8]);
        out.extend_from_slice(&[0][..sign]);
        out.extend_from_slice(number);
    }
    out.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_have_the_length_and_verify() {
        for round in 0..24_u8 {
            let key = EphemeralKey::generate().unwrap();
            let message = [round; 48];
            let signature = key.sign(&message).unwrap();
            assert!(verify(&key.point(), &message, &signature), "round {round}");
            assert!(!verify(&key.point(), b"another", &signature));
            assert!(!verify(&EphemeralKey::generate().unwrap().point(), &message, &signature));
        }
    }

    #[test]
    fn negation_is_modulo_the_order() {
        let one = std::array::from_fn(|i| u8::from(i == SCALAR_BYTES - 1));
        let mut expected = ORDER;
        expected[SCALAR_BYTES - 1] -= 1;
        assert_eq!(negated(&one), expected);
        assert_eq!(negated(&expected), one);
        let carry = std::array::from_fn(|i| if i < 24 { 0x12 } else { 0xff });
        assert_eq!(negated(&negated(&carry)), carry);
    }

    #[test]
    fn only_one_length() {
        let (low, high, short) = ([0x7f; SCALAR_BYTES], [0x80; SCALAR_BYTES], [0; SCALAR_BYTES]);
        assert!(der(&low, &high).is_some() && der(&high, &low).is_some());
        for (r, s) in [(low, low), (high, high), (short, high), (high, short)] {
            assert_eq!(der(&r, &s), None);
        }
    }
}
