//! The header of a sealed item, `aws_dbe_head`: how it was sealed, and for whom (AWS Database Encryption SDK
//! specification, `structured-encryption/header.md`).

use std::fmt;

use super::keys::{COMMITMENT_BYTES, WRAPPED_DATA_KEY_BYTES};
use super::reader::Reader;
use crate::crypto::{EncryptionContext, Recipient, Suite, WrappedKey, WrappedRef};
use crate::format::Action;

/// Bytes of a message id.
pub const MESSAGE_ID_BYTES: usize = 32;

/// Why bytes are no header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The bytes end inside this part.
    #[error("the header ends inside its {0}")]
    Truncated(&'static str),
    /// Neither version 1 nor 2.
    #[error("the header has version {0}; versions 1 and 2 are known")]
    Version(u8),
    /// A suite that no Database Encryption SDK item has.
    #[error("the header has flavor {0}; flavors 0 and 1 are known")]
    Flavor(u8),
    /// The legend has a byte that is no action, or none of this version.
    #[error("the header's legend has byte {byte:#04x}, which version {version} does not know")]
    Legend {
        /// The byte.
        byte: u8,
        /// The header's version.
        version: u8,
    },
    /// This text is not UTF-8.
    #[error("the header's {0} is not UTF-8")]
    Utf8(&'static str),
    /// The keys of the stored encryption context are not in strictly ascending order.
    #[error("the keys of the header's encryption context are not in ascending order")]
    ContextOrder,
    /// No encrypted data key.
    #[error("the header has no encrypted data key")]
    NoKeys,
    /// Something follows where the header should end.
    #[error("the header has {0} bytes after its end")]
    Trailing(usize),
    /// A suite with signature needs a public key in the header, the other must not have one.
    #[error("the header's encryption context must hold a public key with suite flavor 1, and only then")]
    PublicKey,
}

/// An encrypted data key of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedDataKey {
    /// Which kind of keyring wrapped it: `aws-kms`, `aws-kms-hierarchy`, or the namespace of a raw keyring.
    pub provider_id: String,
    /// What that keyring needs to find the key: an ARN, or the name of a raw key and more.
    pub provider_info: Vec<u8>,
    /// The data key wrapped by an intermediate key (48 bytes), and that wrapped by the keyring.
    pub ciphertext: Vec<u8>,
}

impl EncryptedDataKey {
    /// The part that the keyring wrapped: what it unwraps is the intermediate key. `None` when there is none.
    #[must_use]
    pub fn wrapped(&self) -> Option<WrappedRef<'_>> {
        Some(WrappedRef {
            provider_id: &self.provider_id,
            provider_info: &self.provider_info,
            ciphertext: self.ciphertext.get(WRAPPED_DATA_KEY_BYTES..).filter(|bytes| !bytes.is_empty())?,
        })
    }

    /// The data key, wrapped by the intermediate key.
    pub(super) fn data_key(&self) -> Option<&[u8; WRAPPED_DATA_KEY_BYTES]> {
        self.ciphertext.first_chunk()
    }

    /// Who can unwrap it, told without any key: the ARN of a KMS key, name of a raw key, or branch key with version.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let key = match self.provider_id.as_str() {
            id if id.starts_with("aws-kms-hierarchy") => {
                let version = self.ciphertext.get(BRANCH_KEY_VERSION).map_or_else(String::new, uuid);
                format!("{}/{version}", text(&self.provider_info))
            }
            id if id.starts_with("aws-kms") => text(&self.provider_info),
            _ => text(raw_aes_name(&self.provider_info).unwrap_or(&self.provider_info)),
        };
        Recipient { provider: self.provider_id.clone(), key }
    }
}

/// Where the ciphertext of a hierarchical keyring holds the branch key's version: after the wrapped data key, a salt of
/// 16 bytes and a nonce of 12.
const BRANCH_KEY_VERSION: std::ops::Range<usize> = 76..92;

fn uuid(bytes: &[u8]) -> String {
    use fmt::Write as _;

    let mut out = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        write!(out, "{byte:02x}").expect("writing to a string does not fail");
    }
    out
}

/// The key name in the information of a raw AES keyring, which tag length, nonce length and nonce follow.
fn raw_aes_name(info: &[u8]) -> Option<&[u8]> {
    const LENGTHS: &[u8] = &[0, 0, 0, 128, 0, 0, 0, 12];
    let (name, rest) = info.split_at_checked(info.len().checked_sub(LENGTHS.len() + 12)?)?;
    rest.starts_with(LENGTHS).then_some(name)
}

/// A parsed header. Nothing in it is authenticated until the item was opened.
#[derive(Clone, PartialEq, Eq)]
pub struct Head {
    /// 1, or 2 when attributes are part of the encryption context.
    pub version: u8,
    /// The algorithm suite.
    pub suite: Suite,
    /// Random and new with each sealing.
    pub message_id: [u8; MESSAGE_ID_BYTES],
    /// The action of each signed attribute, in the order of the canonical paths.
    pub legend: Vec<Action>,
    /// The part of the encryption context that cannot be rebuilt from the item.
    pub context: EncryptionContext,
    /// The data key, encrypted for each recipient.
    pub edks: Vec<EncryptedDataKey>,
    /// The whole header as stored; the commitment at its end.
    bytes: Vec<u8>,
}

impl Head {
    /// Parses a header to its last byte.
    ///
    /// # Errors
    /// [`HeadError`] saying which part is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeadError> {
        let mut reader = Reader::new(bytes);
        let part = |name| move || HeadError::Truncated(name);
        let version = reader.u8().ok_or_else(part("version"))?;
        if !matches!(version, 1 | 2) {
            return Err(HeadError::Version(version));
        }
        let flavor = reader.u8().ok_or_else(part("flavor"))?;
        let suite = Suite::from_flavor(flavor).ok_or(HeadError::Flavor(flavor))?;
        let message_id = reader.array().ok_or_else(part("message id"))?;
        let legend = reader.prefixed_16().ok_or_else(part("legend"))?;
        let legend = legend
            .iter()
            .map(|&byte| action(byte, version).ok_or(HeadError::Legend { byte, version }))
            .collect::<Result<_, _>>()?;
        let context = read_context(&mut reader)?;
        if context.get(super::context::PUBLIC_KEY).is_some() != suite.signs() {
            return Err(HeadError::PublicKey);
        }
        let count = reader.u8().ok_or_else(part("list of encrypted data keys"))?;
        if count == 0 {
            return Err(HeadError::NoKeys);
        }
        let edks = (0..count).map(|_| read_key(&mut reader)).collect::<Result<_, _>>()?;
        reader.array::<COMMITMENT_BYTES>().ok_or_else(part("commitment"))?;
        match reader.rest().len() {
            0 => Ok(Self { version, suite, message_id, legend, context, edks, bytes: bytes.to_vec() }),
            more => Err(HeadError::Trailing(more)),
        }
    }

    /// The recipients of the data key, in the header's order.
    pub fn recipients(&self) -> impl Iterator<Item = Recipient> {
        self.edks.iter().map(EncryptedDataKey::recipient)
    }

    /// The recipients as messages name them: provider and key of each, separated by commas.
    #[must_use]
    pub fn recipients_in_words(&self) -> String {
        self.recipients().map(|recipient| recipient.to_string()).collect::<Vec<_>>().join(", ")
    }

    /// The header as stored: all that the commitment covers, and the commitment.
    pub(super) fn parts(&self) -> (&[u8], &[u8; COMMITMENT_BYTES]) {
        self.bytes.split_last_chunk().expect("a header was parsed with a commitment at its end")
    }

    /// The whole header as stored.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("version", &self.version)
            .field("suite", &self.suite)
            .field("legend", &self.legend)
            .field("context", &self.context)
            .field("recipients", &self.recipients().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// The legend's byte for an action; none where the attribute is not signed.
pub(super) const fn legend_byte(action: Action) -> Option<u8> {
    match action {
        Action::EncryptAndSign => Some(b'e'),
        Action::SignOnly => Some(b's'),
        Action::SignAndIncludeInEncryptionContext => Some(b'c'),
        Action::DoNothing => None,
    }
}

const fn action(byte: u8, version: u8) -> Option<Action> {
    match (byte, version) {
        (b'e', _) => Some(Action::EncryptAndSign),
        (b's', _) => Some(Action::SignOnly),
        (b'c', 2) => Some(Action::SignAndIncludeInEncryptionContext),
        _ => None,
    }
}

fn read_context(reader: &mut Reader<'_>) -> Result<EncryptionContext, HeadError> {
    const PART: &str = "encryption context";
    let count = reader.u16().ok_or(HeadError::Truncated(PART))?;
    let mut context = EncryptionContext::default();
    let mut last: Option<&str> = None;
    for _ in 0..count {
        let mut text = || {
            let bytes = reader.prefixed_16().ok_or(HeadError::Truncated(PART))?;
            std::str::from_utf8(bytes).map_err(|_| HeadError::Utf8(PART))
        };
        let (key, value) = (text()?, text()?);
        if last.is_some_and(|last| last >= key) {
            return Err(HeadError::ContextOrder);
        }
        last = Some(key);
        context.insert(key, value);
    }
    Ok(context)
}

fn read_key(reader: &mut Reader<'_>) -> Result<EncryptedDataKey, HeadError> {
    const PART: &str = "list of encrypted data keys";
    let mut bytes = || reader.prefixed_16().ok_or(HeadError::Truncated(PART));
    Ok(EncryptedDataKey {
        provider_id: std::str::from_utf8(bytes()?).map_err(|_| HeadError::Utf8("key provider id"))?.to_owned(),
        provider_info: bytes()?.to_vec(),
        ciphertext: bytes()?.to_vec(),
    })
}

/// A field of a header to be written is longer than its length can say, or there are too many recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong(pub(super) &'static str);

/// A header to be written, all but its commitment.
pub(super) struct Draft<'a> {
    pub(super) version: u8,
    pub(super) suite: Suite,
    pub(super) message_id: &'a [u8; MESSAGE_ID_BYTES],
    /// The legend's bytes, in canonical order.
    pub(super) legend: &'a [u8],
    /// The compressed public key in Base64, for the suite with signature.
    pub(super) public_key: Option<&'a str>,
    /// Each recipient with the data key as its intermediate key wraps it.
    pub(super) keys: &'a [(&'a WrappedKey, [u8; WRAPPED_DATA_KEY_BYTES])],
}

impl Draft<'_> {
    pub(super) fn write(&self) -> Result<Vec<u8>, TooLong> {
        let keys: usize = self.keys.iter().map(|(key, _)| key.provider_info.len() + key.ciphertext.len() + 80).sum();
        let mut out = Vec::with_capacity(160 + self.legend.len() + keys);
        out.extend_from_slice(&[self.version, self.suite.flavor()]);
        out.extend_from_slice(self.message_id);
        prefixed(self.legend, "legend", &mut out)?;
        out.extend_from_slice(&u16::from(self.public_key.is_some()).to_be_bytes());
        if let Some(public_key) = self.public_key {
            prefixed(super::context::PUBLIC_KEY.as_bytes(), "encryption context", &mut out)?;
            prefixed(public_key.as_bytes(), "encryption context", &mut out)?;
        }
        out.push(u8::try_from(self.keys.len()).map_err(|_| TooLong("list of encrypted data keys"))?);
        for (key, data_key) in self.keys {
            prefixed(key.provider_id.as_bytes(), "key provider id", &mut out)?;
            prefixed(&key.provider_info, "key provider information", &mut out)?;
            length(data_key.len() + key.ciphertext.len(), "encrypted data key", &mut out)?;
            out.extend_from_slice(data_key);
            out.extend_from_slice(&key.ciphertext);
        }
        Ok(out)
    }
}

fn prefixed(bytes: &[u8], part: &'static str, out: &mut Vec<u8>) -> Result<(), TooLong> {
    length(bytes.len(), part, out)?;
    out.extend_from_slice(bytes);
    Ok(())
}

fn length(bytes: usize, part: &'static str, out: &mut Vec<u8>) -> Result<(), TooLong> {
    out.extend_from_slice(&u16::try_from(bytes).map_err(|_| TooLong(part))?.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version, flavor, message id, legend, stored context, encrypted data keys, commitment.
    fn head(version: u8, flavor: u8, legend: &[u8], context: &[u8], edks: &[u8], end: &[u8]) -> Vec<u8> {
        let legend_length = (legend.len() as u16).to_be_bytes();
        [&[version, flavor][..], &[7; MESSAGE_ID_BYTES], &legend_length, legend, context, edks, end].concat()
    }

    const NO_PAIRS: &[u8] = &[0, 0];
    const ONE_EDK: &[u8] = b"\x01\0\x04acme\0\x02k1\0\x03abc";
    const END: &[u8] = &[9; COMMITMENT_BYTES];

    #[test]
    fn a_header_of_each_version() {
        for (version, legend) in [(1, &b"se"[..]), (2, b"sec")] {
            let bytes = head(version, 0, legend, b"\0\x02\0\x01a\0\x01x\0\x01b\0\0", ONE_EDK, END);
            let head = Head::parse(&bytes).unwrap();
            assert_eq!((head.version, head.suite, head.legend.len()), (version, Suite::HmacSha384, legend.len()));
            assert_eq!(head.context.iter().collect::<Vec<_>>(), [("a", "x"), ("b", "")]);
            assert_eq!(head.edks[0].recipient(), Recipient { provider: "acme".into(), key: "k1".into() });
            assert_eq!(head.edks[0].wrapped(), None, "too short to hold a wrapped data key");
            assert_eq!(head.parts(), (&bytes[..bytes.len() - COMMITMENT_BYTES], &[9; COMMITMENT_BYTES]));
        }
    }

    #[test]
    fn no_headers() {
        let key = super::super::context::PUBLIC_KEY;
        let public_key = [&[0, 1, 0, key.len() as u8], key.as_bytes(), &[0, 1, b'x']].concat();
        let truncated = HeadError::Truncated;
        let cases = [
            (vec![], truncated("version")),
            (vec![0], HeadError::Version(0)),
            (vec![1], truncated("flavor")),
            (head(3, 0, b"s", NO_PAIRS, ONE_EDK, END), HeadError::Version(3)),
            (head(1, 2, b"s", NO_PAIRS, ONE_EDK, END), HeadError::Flavor(2)),
            (vec![1, 0, 5], truncated("message id")),
            (head(1, 0, b"", &[], &[], &[])[..35].to_vec(), truncated("legend")),
            (head(1, 0, b"sx", NO_PAIRS, ONE_EDK, END), HeadError::Legend { byte: b'x', version: 1 }),
            (head(1, 0, b"c", NO_PAIRS, ONE_EDK, END), HeadError::Legend { byte: b'c', version: 1 }),
            (head(1, 0, b"s", b"\0\x01\0\x05", &[], &[]), truncated("encryption context")),
            (head(1, 0, b"s", b"\0\x01\0\x01\xff\0\0", ONE_EDK, END), HeadError::Utf8("encryption context")),
            (head(1, 0, b"s", b"\0\x02\0\x01b\0\0\0\x01a\0\0", ONE_EDK, END), HeadError::ContextOrder),
            (head(1, 0, b"s", b"\0\x02\0\x01a\0\0\0\x01a\0\0", ONE_EDK, END), HeadError::ContextOrder),
            (head(1, 1, b"s", NO_PAIRS, ONE_EDK, END), HeadError::PublicKey),
            (head(1, 0, b"s", &public_key, ONE_EDK, END), HeadError::PublicKey),
            (head(1, 0, b"s", NO_PAIRS, b"\0", END), HeadError::NoKeys),
            (head(1, 0, b"s", NO_PAIRS, b"\x01\0\x01\xff\0\0\0\0", END), HeadError::Utf8("key provider id")),
            (head(1, 0, b"s", NO_PAIRS, b"\x02\0\0\0\0\0\0", &[]), truncated("list of encrypted data keys")),
            (head(1, 0, b"s", NO_PAIRS, ONE_EDK, &END[1..]), truncated("commitment")),
            (head(1, 0, b"s", NO_PAIRS, ONE_EDK, &[0; 34]), HeadError::Trailing(2)),
        ];
        for (i, (bytes, expected)) in cases.into_iter().enumerate() {
            assert_eq!(Head::parse(&bytes), Err(expected), "case {i}");
        }
    }

    #[test]
    fn recipients_are_told_without_a_key() {
        let arn = "arn:aws:kms:eu-west-1:111122223333:key/1";
        let raw = [&b"k1\0"[..], &[0, 0, 0, 128, 0, 0, 0, 12], &[3; 12]].concat();
        let branch = "7d3a/01020304-0506-0708-090a-0b0c0d0e0f10";
        let ciphertext: Vec<u8> = [vec![0; 76], (1..=16).collect(), vec![0; 48]].concat();
        let cases: [(&str, &[u8], &str); 5] = [
            ("aws-kms", arn.as_bytes(), arn),
            ("aws-kms-rsa", arn.as_bytes(), arn),
            ("aws-kms-hierarchy", b"7d3a", branch),
            ("acme", &raw, "k1\0"),
            ("acme", b"rsa-key", "rsa-key"),
        ];
        for (provider, info, key) in cases {
            let edk = EncryptedDataKey {
                provider_id: provider.into(),
                provider_info: info.to_vec(),
                ciphertext: ciphertext.clone(),
            };
            assert_eq!(edk.recipient(), Recipient { provider: provider.into(), key: key.into() });
            assert_eq!(edk.wrapped().unwrap().ciphertext, &ciphertext[48..]);
        }
    }
}
