//! Aliases: names of keys that may move from key to key.

use std::mem::discriminant;
use std::time::Duration;

use serde_json::{Value, json};

use super::ACCOUNT;
use super::exception::{Exception, KmsError};
use super::key::KeyId;
use super::operation::{Call, Operation};
use super::region::Region;
use crate::crypto::EncryptionContext;

/// What an alias means. Times are since the Unix epoch.
#[derive(Debug, Clone)]
pub(super) struct Alias {
    pub(super) target: KeyId,
    pub(super) created: Duration,
    pub(super) updated: Duration,
}

impl Region {
    pub(super) fn create_alias(&mut self, call: Call<'_>) -> Result<Value, KmsError> {
        let name = alias_name(call)?;
        let target = self.target(call)?;
        if self.aliases.contains_key(name) {
            let arn = self.alias_arn(name);
            return Err(Exception::AlreadyExists.because(format!("An alias with the name {arn} already exists")));
        }
        self.aliases.insert(name.to_owned(), Alias { target, created: call.now, updated: call.now });
        Ok(json!({}))
    }

    pub(super) fn update_alias(&mut self, call: Call<'_>) -> Result<Value, KmsError> {
        let name = alias_name(call)?;
        let alias = self.alias(name)?.clone();
        self.authorize(call.name, self.keys.get(&alias.target), &EncryptionContext::default())?;
        let target = self.target(call)?;
        let matter = |id| self.keys.get(&id).map(|key| discriminant(&key.matter));
        if matter(alias.target) != matter(target) {
            return Err(Exception::Validation.because(format!(
                "Alias {} cannot be changed from a symmetric key to an RSA key, or back.",
                self.alias_arn(name)
            )));
        }
        self.aliases.insert(name.to_owned(), Alias { target, updated: call.now, ..alias });
        Ok(json!({}))
    }

    pub(super) fn delete_alias(&mut self, call: Call<'_>) -> Result<Value, KmsError> {
        let name = alias_name(call)?;
        let key = self.keys.get(&self.alias(name)?.target);
        self.authorize(call.name, key, &EncryptionContext::default())?;
        self.aliases.remove(name);
        Ok(json!({}))
    }

    pub(super) fn list_aliases(&self, call: Call<'_>) -> Result<Value, KmsError> {
        self.authorize(call.name, None, &EncryptionContext::default())?;
        let of = match call.request.text("KeyId", 1..=2048)? {
            Some(text) => Some(self.find(text, Operation::ListAliases)?.id),
            None => None,
        };
        let listed = self.aliases.iter().filter(|(_, alias)| of.is_none_or(|of| alias.target == of));
        let entries = listed.map(|(name, alias)| {
            let entry = json!({
                "AliasName": name,
                "AliasArn": self.alias_arn(name),
                "TargetKeyId": alias.target.to_string(),
                "CreationDate": alias.created.as_secs_f64(),
                "LastUpdatedDate": alias.updated.as_secs_f64(),
            });
            (name.clone(), entry)
        });
        call.page("Aliases", |marker| marker.starts_with("alias/"), entries)
    }

    /// The alias of a name that begins with `alias/`.
    pub(super) fn alias(&self, name: &str) -> Result<&Alias, KmsError> {
        self.aliases
            .get(name)
            .ok_or_else(|| Exception::NotFound.because(format!("Alias {} is not found.", self.alias_arn(name))))
    }

    /// The key that an alias is to name.
    fn target(&self, call: Call<'_>) -> Result<KeyId, KmsError> {
        let key = self.find(call.request.required_text("TargetKeyId", 1..=2048)?, call.operation)?;
        self.authorize(call.name, Some(key), &EncryptionContext::default())?;
        key.stays()?;
        Ok(key.id)
    }

    fn alias_arn(&self, name: &str) -> String {
        format!("arn:aws:kms:{}:{ACCOUNT}:{name}", self.name)
    }
}

/// The name that the request gives, if an alias of one's own may have it.
fn alias_name(call: Call<'_>) -> Result<&str, KmsError> {
    let name = call.request.required_text("AliasName", 1..=256)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-');
    match name.strip_prefix("alias/") {
        Some(rest) if rest.starts_with("aws/") => {
            Err(Exception::NotAuthorized.because("Names that begin with alias/aws/ are kept for AWS."))
        }
        Some(rest) if !rest.is_empty() && rest.bytes().all(plain) => Ok(name),
        Some(_) => Err(Exception::Validation.because(
            "1 validation error detected: Value at 'aliasName' failed to satisfy constraint: Member must satisfy \
             regular expression pattern: ^alias/[a-zA-Z0-9/_-]+$",
        )),
        None => Err(Exception::Validation.because("Invalid identifier")),
    }
}
