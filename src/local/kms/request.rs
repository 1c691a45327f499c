//! The parameters of a request, read with KMS's bounds.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::exception::{Exception, KmsError};
use crate::crypto::EncryptionContext;

/// The members of a request's JSON object.
#[derive(Clone, Copy)]
pub(super) struct Request<'a>(&'a Map<String, Value>);

impl<'a> Request<'a> {
    /// Takes a request whose parameters are all among those known.
    pub(super) fn new(request: &'a Value, known: &[&str]) -> Result<Self, KmsError> {
        let members =
            request.as_object().ok_or_else(|| Exception::Serialization.because("The request is no object."))?;
        match members.iter().find(|(name, value)| !value.is_null() && !known.contains(&name.as_str())) {
            Some((name, _)) => Err(Exception::Validation
                .because(format!("The local KMS does not support the parameter {name:?} here; leave it out."))),
            None => Ok(Self(members)),
        }
    }

    fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text of a length in characters.
    pub(super) fn text(self, name: &str, length: RangeInclusive<usize>) -> Result<Option<&'a str>, KmsError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| mistyped(name, "a string"))?;
        bounded("length", name, text.chars().count(), &length)?;
        Ok(Some(text))
    }

    /// A whole number.
    pub(super) fn number(self, name: &str, bounds: RangeInclusive<usize>) -> Result<Option<usize>, KmsError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_i64().ok_or_else(|| mistyped(name, "a whole number"))?;
        // A negative number is out of any bounds, as 0 is.
        let number = usize::try_from(number).unwrap_or(0);
        bounded("value", name, number, &bounds)?;
        Ok(Some(number))
    }

    /// True or false; false when absent.
    pub(super) fn flag(self, name: &str) -> Result<bool, KmsError> {
        self.get(name).map_or(Ok(false), |value| value.as_bool().ok_or_else(|| mistyped(name, "true or false")))
    }

    /// Bytes, Base64 on the wire, of at least one and at most some bytes.
    pub(super) fn bytes(self, name: &str, most: usize) -> Result<Vec<u8>, KmsError> {
        let text = self.get(name).ok_or_else(|| missing(name))?.as_str().ok_or_else(|| mistyped(name, "Base64"))?;
        let bytes = STANDARD.decode(text).map_err(|_| mistyped(name, "Base64"))?;
        bounded("length", name, bytes.len(), &(1..=most))?;
        Ok(bytes)
    }

    /// A text that has to be there.
    pub(super) fn required_text(self, name: &str, length: RangeInclusive<usize>) -> Result<&'a str, KmsError> {
        self.text(name, length)?.ok_or_else(|| missing(name))
    }

    /// A list of texts; empty when absent.
    pub(super) fn texts(self, name: &str) -> Result<Vec<&'a str>, KmsError> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let texts = value.as_array().and_then(|texts| texts.iter().map(Value::as_str).collect());
        texts.ok_or_else(|| mistyped(name, "a list of strings"))
    }

    /// The encryption context; empty when absent.
    pub(super) fn context(self, name: &str) -> Result<EncryptionContext, KmsError> {
        let Some(value) = self.get(name) else { return Ok(EncryptionContext::default()) };
        let pairs = value.as_object().ok_or_else(|| mistyped(name, "a map"))?;
        pairs
            .iter()
            .map(|(key, value)| match value.as_str() {
                Some(value) => Ok((key.clone(), value.to_owned())),
                None => Err(mistyped(name, "a map of strings to strings")),
            })
            .collect()
    }
}

/// A required parameter is not there.
pub(super) fn missing(name: &str) -> KmsError {
    violated(name, "Member must not be null")
}

fn mistyped(name: &str, kind: &str) -> KmsError {
    Exception::Serialization.because(format!("{name} is not {kind}."))
}

fn bounded(what: &str, name: &str, found: usize, bounds: &RangeInclusive<usize>) -> Result<(), KmsError> {
    if found > *bounds.end() {
        return Err(violated(name, &format!("Member must have {what} less than or equal to {}", bounds.end())));
    }
    if found < *bounds.start() {
        return Err(violated(name, &format!("Member must have {what} greater than or equal to {}", bounds.start())));
    }
    Ok(())
}

/// A parameter breaks a constraint; in KMS's words, without the value.
fn violated(name: &str, constraint: &str) -> KmsError {
    let mut letters = name.chars();
    let name: String = letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect();
    Exception::Validation
        .because(format!("1 validation error detected: Value at '{name}' failed to satisfy constraint: {constraint}"))
}
