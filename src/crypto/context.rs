//! The encryption context: pairs of text that a wrapped key is bound to.

use std::collections::BTreeMap;
use std::fmt;

/// Pairs of text, ordered by the bytes of their keys, that wrapping and unwrapping of a key must agree on. Not secret:
/// KMS logs it in clear.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct EncryptionContext(BTreeMap<String, String>);

impl EncryptionContext {
    /// Adds a pair and gives back the value that the key had.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) -> Option<String> {
        self.0.insert(key.into(), value.into())
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The pairs, ordered by the bytes of their keys.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The serialised form that authenticates the context wherever it serves as additional data: a 16-bit pair count,
    /// then key and value of each pair with 16-bit lengths (AWS Material Providers Library specification,
    /// `structures.md`, "Encryption Context Serialization"). `None` when a part is longer than 16 bits can say.
    #[must_use]
    pub fn serialize(&self) -> Option<Vec<u8>> {
        let mut out = u16::try_from(self.0.len()).ok()?.to_be_bytes().to_vec();
        for text in self.0.iter().flat_map(|(key, value)| [key, value]) {
            out.extend_from_slice(&u16::try_from(text.len()).ok()?.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        Some(out)
    }
}

impl FromIterator<(String, String)> for EncryptionContext {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

/// The keys only: values may hold attributes of the item.
impl fmt::Debug for EncryptionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serialized_in_key_order_with_lengths() {
        let context: EncryptionContext =
            [("b".to_owned(), "22".to_owned()), ("a".to_owned(), String::new())].into_iter().collect();
        assert_eq!(context.serialize().unwrap(), b"\0\x02\0\x01a\0\0\0\x01b\0\x0222");
        let context: EncryptionContext = [("a".to_owned(), "x".repeat(65_536))].into_iter().collect();
        assert_eq!(context.serialize(), None);
    }
}
