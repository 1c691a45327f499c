//! One Region: its keys, its aliases, its rules, and the operations that need no other Region.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::ACCOUNT;
use super::algorithm::algorithm_names;
use super::aliases::Alias;
use super::exception::{Exception, KmsError};
use super::key::{Key, KeyId, KeyState, Matter};
use super::operation::{Call, Operation};
use super::rules::Rules;
use crate::crypto::EncryptionContext;

#[derive(Debug, Clone)]
pub(super) struct Region {
    pub(super) name: String,
    pub(super) keys: BTreeMap<KeyId, Key>,
    /// By name, `alias/` included.
    pub(super) aliases: BTreeMap<String, Alias>,
    pub(super) rules: Rules,
}

impl Region {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), keys: BTreeMap::new(), aliases: BTreeMap::new(), rules: Rules::default() }
    }

    pub(super) fn list_keys(&self, call: Call<'_>) -> Result<Value, KmsError> {
        self.authorize(call.name, None, &EncryptionContext::default())?;
        let entry = |key: &Key| (key.id.to_string(), json!({ "KeyId": key.id.to_string(), "KeyArn": key.arn() }));
        call.page("Keys", |marker| KeyId::parse(marker).is_some(), self.keys.values().map(entry))
    }

    pub(super) fn enable(&mut self, call: Call<'_>, state: KeyState) -> Result<Value, KmsError> {
        let id = self.key_of(call)?.id;
        let key = self.key_mut(id);
        key.stays()?;
        key.state = state;
        Ok(json!({}))
    }

    pub(super) fn cancel_key_deletion(&mut self, call: Call<'_>) -> Result<Value, KmsError> {
        let id = self.key_of(call)?.id;
        let key = self.key_mut(id);
        key.cancel_deletion()?;
        Ok(json!({ "KeyId": key.arn() }))
    }

    pub(super) fn get_public_key(&self, call: Call<'_>) -> Result<Value, KmsError> {
        let key = self.key_of(call)?;
        let Matter::Rsa(pair) = &key.matter else {
            return Err(Exception::UnsupportedOperation
                .because(format!("{} is a symmetric key, which has no public key.", key.arn())));
        };
        key.usable()?;
        let public = pair.public_key().map_err(|_| Exception::KmsInternal.because("The public key has no form."))?;
        Ok(json!({
            "KeyId": key.arn(),
            "PublicKey": STANDARD.encode(public.as_ref()),
            "CustomerMasterKeySpec": key.matter.spec(),
            "KeySpec": key.matter.spec(),
            "KeyUsage": "ENCRYPT_DECRYPT",
            "EncryptionAlgorithms": algorithm_names(key.matter.algorithms()),
        }))
    }

    /// The stand-in rotates on demand only.
    pub(super) fn get_key_rotation_status(&self, call: Call<'_>) -> Result<Value, KmsError> {
        let key = self.key_of(call)?;
        key.materials()?;
        key.stays()?;
        Ok(json!({ "KeyId": key.id.to_string(), "KeyRotationEnabled": false }))
    }

    pub(super) fn list_key_rotations(&self, call: Call<'_>) -> Result<Value, KmsError> {
        let key = self.key_of(call)?;
        let materials = key.materials()?;
        let all = match call.request.text("IncludeKeyMaterial", 1..=64)? {
            None | Some("ROTATIONS_ONLY") => false,
            Some("ALL_KEY_MATERIAL") => true,
            Some(_) => {
                return Err(Exception::Validation.because(
                    "1 validation error detected: Value at 'includeKeyMaterial' failed to satisfy constraint: Member \
                     must satisfy enum value set: [ALL_KEY_MATERIAL, ROTATIONS_ONLY]",
                ));
            }
        };
        let listed = materials.oldest_first().filter(|material| all || material.rotated.is_some());
        let entries = listed.enumerate().map(|(index, material)| {
            let is_current = material.id == materials.current.id;
            let mut entry = json!({
                "KeyId": key.id.to_string(),
                "KeyMaterialId": material.id.to_string(),
                "KeyMaterialState": if is_current { "CURRENT" } else { "NON_CURRENT" },
            });
            if let Some(rotated) = material.rotated {
                entry["RotationDate"] = rotated.as_secs_f64().into();
                entry["RotationType"] = "ON_DEMAND".into();
            }
            (format!("{index:04}"), entry)
        });
        let is_mark = |marker: &str| marker.len() == 4 && marker.bytes().all(|byte| byte.is_ascii_digit());
        call.page("Rotations", is_mark, entries)
    }

    /// The key that the request names, if the caller may ask for it.
    pub(super) fn key_of(&self, call: Call<'_>) -> Result<&Key, KmsError> {
        let key = self.find(call.request.required_text("KeyId", 1..=2048)?, call.operation)?;
        self.authorize(call.name, Some(key), &EncryptionContext::default())?;
        Ok(key)
    }

    /// What a key id, a key ARN and, where the operation takes them, an alias's name or ARN mean here.
    pub(super) fn find(&self, text: &str, operation: Operation) -> Result<&Key, KmsError> {
        let not_found = |message: String| Err(Exception::NotFound.because(message));
        let name = if text.starts_with("arn:") {
            let parts: Vec<&str> = text.splitn(6, ':').collect();
            let ["arn", _, "kms", region, account, resource] = parts[..] else {
                let exception = if operation.knows_invalid_arn() { Exception::InvalidArn } else { Exception::NotFound };
                return Err(exception.because(format!("Invalid arn {text}")));
            };
            if region != self.name {
                return not_found(format!("Invalid arn {region}"));
            }
            match resource.strip_prefix("key/") {
                _ if account != ACCOUNT => return not_found(format!("Key '{text}' does not exist")),
                Some(id) => id,
                None if resource.starts_with("alias/") => resource,
                None => return not_found(format!("{text} is not found.")),
            }
        } else {
            text
        };
        let id = if name.starts_with("alias/") && operation.takes_aliases() {
            self.alias(name)?.target
        } else if let Some(id) = KeyId::parse(name) {
            id
        } else {
            return not_found(format!("Invalid keyId '{name}'"));
        };
        self.keys
            .get(&id)
            .ok_or_else(|| Exception::NotFound.because(format!("Key '{}' does not exist", id.arn(&self.name))))
    }

    /// Refuses what a denial forbids, by the name that a policy has for it.
    pub(super) fn authorize(
        &self,
        permission: &str,
        key: Option<&Key>,
        context: &EncryptionContext,
    ) -> Result<(), KmsError> {
        if !self.rules.forbid(key.map(|key| key.id), permission, context) {
            return Ok(());
        }
        let resource = key.map_or_else(|| "*".to_owned(), Key::arn);
        Err(Exception::AccessDenied.because(format!(
            "User: arn:aws:iam::{ACCOUNT}:user/local is not authorized to perform: kms:{permission} on resource: \
             {resource} with an explicit deny in a rule of the local KMS"
        )))
    }

    /// A key that was found here.
    pub(super) fn key_mut(&mut self, id: KeyId) -> &mut Key {
        self.keys.get_mut(&id).expect("ids come from find, which looks into the same map")
    }
}
