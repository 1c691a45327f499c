//! The stand-in without its shell: keys, rules, and one function that answers requests.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::CryptoRng;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::ACCOUNT;
use super::blob::{self, Blob};
use super::exception::{Exception, KmsError};
use super::key::{Key, KeyId, KeyState, days_after};
use super::request::Request;
use super::rules::{Denial, Rules};
use crate::crypto::EncryptionContext;

/// The longest blob that is decrypted, in bytes (KMS API reference, `Decrypt`).
const MOST_BLOB_BYTES: usize = 6144;
/// The longest plaintext that is encrypted, in bytes (KMS API reference, `Encrypt`).
const MOST_PLAINTEXT_BYTES: usize = 4096;
/// The longest data key, in bytes (KMS API reference, `GenerateDataKey`).
const MOST_DATA_KEY_BYTES: usize = 1024;

/// Keys of one Region and the rules in force. Does no I/O: time and randomness are handed in.
#[derive(Debug, Clone)]
pub struct Store {
    region: String,
    keys: BTreeMap<KeyId, Key>,
    rules: Rules,
}

/// The operations, and what the dispatch has to know of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    CancelKeyDeletion,
    CreateKey,
    Decrypt,
    DescribeKey,
    DisableKey,
    EnableKey,
    Encrypt,
    GenerateDataKey,
    GenerateDataKeyWithoutPlaintext,
    ListKeys,
    ScheduleKeyDeletion,
}

impl Operation {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "CancelKeyDeletion" => Self::CancelKeyDeletion,
            "CreateKey" => Self::CreateKey,
            "Decrypt" => Self::Decrypt,
            "DescribeKey" => Self::DescribeKey,
            "DisableKey" => Self::DisableKey,
            "EnableKey" => Self::EnableKey,
            "Encrypt" => Self::Encrypt,
            "GenerateDataKey" => Self::GenerateDataKey,
            "GenerateDataKeyWithoutPlaintext" => Self::GenerateDataKeyWithoutPlaintext,
            "ListKeys" => Self::ListKeys,
            "ScheduleKeyDeletion" => Self::ScheduleKeyDeletion,
            _ => return None,
        })
    }

    /// The parameters that the stand-in understands.
    const fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::CancelKeyDeletion | Self::DisableKey | Self::EnableKey => &["KeyId"],
            Self::CreateKey => {
                &["Description", "KeySpec", "CustomerMasterKeySpec", "KeyUsage", "Origin", "MultiRegion"]
            }
            Self::Decrypt => {
                &["KeyId", "CiphertextBlob", "EncryptionContext", "EncryptionAlgorithm", "GrantTokens", "DryRun"]
            }
            Self::DescribeKey => &["KeyId", "GrantTokens"],
            Self::Encrypt => {
                &["KeyId", "Plaintext", "EncryptionContext", "EncryptionAlgorithm", "GrantTokens", "DryRun"]
            }
            Self::GenerateDataKey | Self::GenerateDataKeyWithoutPlaintext => {
                &["KeyId", "KeySpec", "NumberOfBytes", "EncryptionContext", "GrantTokens", "DryRun"]
            }
            Self::ListKeys => &["Limit", "Marker"],
            Self::ScheduleKeyDeletion => &["KeyId", "PendingWindowInDays"],
        }
    }

    /// Whether it counts against the request rate, as KMS's quota for symmetric cryptography does.
    const fn is_cryptographic(self) -> bool {
        matches!(self, Self::Decrypt | Self::Encrypt | Self::GenerateDataKey | Self::GenerateDataKeyWithoutPlaintext)
    }

    /// Whether its API names `InvalidArnException`; the others answer `NotFoundException`.
    const fn knows_invalid_arn(self) -> bool {
        !self.is_cryptographic()
    }
}

/// One request on its way through the store.
#[derive(Clone, Copy)]
struct Call<'a> {
    operation: Operation,
    name: &'a str,
    request: Request<'a>,
    now: Duration,
}

impl Store {
    /// A store without keys.
    #[must_use]
    pub fn new(region: &str) -> Self {
        Self { region: region.to_owned(), keys: BTreeMap::new(), rules: Rules::default() }
    }

    pub(super) fn with_keys(region: &str, keys: impl IntoIterator<Item = Key>) -> Self {
        Self { keys: keys.into_iter().map(|key| (key.id, key)).collect(), ..Self::new(region) }
    }

    pub(super) fn region(&self) -> &str {
        &self.region
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.values()
    }

    pub(super) const fn rules(&mut self) -> &mut Rules {
        &mut self.rules
    }

    /// Whether an operation may change keys, so that they are to be kept after it.
    pub(super) fn changes_keys(operation: &str) -> bool {
        matches!(
            Operation::named(operation),
            Some(
                Operation::CancelKeyDeletion
                    | Operation::CreateKey
                    | Operation::DisableKey
                    | Operation::EnableKey
                    | Operation::ScheduleKeyDeletion
            )
        )
    }

    /// Puts a denial in force.
    ///
    /// # Errors
    /// `NotFoundException` or `InvalidArnException` when its key is not here, `ValidationException` when its operation
    /// is not one.
    pub fn deny(&mut self, denial: Denial) -> Result<(), KmsError> {
        if let Some(operation) = denial.operation.as_deref().filter(|name| Operation::named(name).is_none()) {
            return Err(Exception::Validation.because(format!("{operation:?} is no operation of the local KMS.")));
        }
        let key = match denial.key_id.as_deref() {
            Some(text) => Some(self.find(text, Operation::DescribeKey)?),
            None => None,
        };
        self.rules.deny(key, denial);
        Ok(())
    }

    /// Answers one request: operation and parameters as on the wire, the time since the Unix epoch, and a source of
    /// randomness for keys and nonces.
    ///
    /// # Errors
    /// [`KmsError`] with KMS's exception name.
    pub fn call(
        &mut self,
        operation: &str,
        request: &Value,
        now: Duration,
        rng: &mut impl CryptoRng,
    ) -> Result<Value, KmsError> {
        let name = operation;
        let operation = Operation::named(name)
            .ok_or_else(|| Exception::UnknownOperation.because(format!("The local KMS has no operation {name:?}.")))?;
        self.rules.count(name);
        self.keys.retain(|_, key| !matches!(key.state, KeyState::PendingDeletion { until } if until <= now));
        if operation.is_cryptographic() {
            self.rules.throttle(now)?;
        }
        let request = Request::new(request, operation.parameters())?;
        let call = Call { operation, name, request, now };
        match operation {
            Operation::CreateKey => self.create_key(call, rng),
            Operation::ListKeys => self.list_keys(call),
            Operation::DescribeKey => {
                let id = self.key_of(call)?;
                Ok(json!({ "KeyMetadata": self.key(id).metadata(&self.region) }))
            }
            Operation::EnableKey => self.change(call, KeyState::Enabled),
            Operation::DisableKey => self.change(call, KeyState::Disabled),
            Operation::ScheduleKeyDeletion => self.schedule_key_deletion(call),
            Operation::CancelKeyDeletion => {
                let id = self.key_of(call)?;
                let region = self.region.clone();
                self.key_mut(id).cancel_deletion(&region)?;
                Ok(json!({ "KeyId": id.arn(&region) }))
            }
            Operation::GenerateDataKey => self.generate_data_key(call, true, rng),
            Operation::GenerateDataKeyWithoutPlaintext => self.generate_data_key(call, false, rng),
            Operation::Encrypt => self.encrypt(call, rng),
            Operation::Decrypt => self.decrypt(call),
        }
    }

    fn create_key(&mut self, call: Call<'_>, rng: &mut impl CryptoRng) -> Result<Value, KmsError> {
        self.authorize(call, None, &EncryptionContext::default())?;
        for (parameter, supported) in [
            ("KeySpec", "SYMMETRIC_DEFAULT"),
            ("CustomerMasterKeySpec", "SYMMETRIC_DEFAULT"),
            ("KeyUsage", "ENCRYPT_DECRYPT"),
            ("Origin", "AWS_KMS"),
        ] {
            if call.request.text(parameter, 1..=64)?.is_some_and(|asked| asked != supported) {
                return Err(Exception::UnsupportedOperation
                    .because(format!("The local KMS makes only keys with {parameter} {supported}.")));
            }
        }
        if call.request.flag("MultiRegion")? {
            return Err(Exception::UnsupportedOperation.because("The local KMS makes no multi-Region keys yet."));
        }
        let description = call.request.text("Description", 0..=8192)?.unwrap_or_default();
        let key = Key::random(description, call.now, rng);
        let metadata = key.metadata(&self.region);
        self.keys.insert(key.id, key);
        Ok(json!({ "KeyMetadata": metadata }))
    }

    fn list_keys(&self, call: Call<'_>) -> Result<Value, KmsError> {
        self.authorize(call, None, &EncryptionContext::default())?;
        let limit = call.request.number("Limit", 1..=1000)?.unwrap_or(100);
        let after = match call.request.text("Marker", 1..=1024)? {
            Some(marker) => Some(KeyId::parse(marker).ok_or_else(|| {
                Exception::InvalidMarker.because("The marker is not one that an earlier answer gave.")
            })?),
            None => None,
        };
        let mut rest = self.keys.keys().filter(|id| after.is_none_or(|after| **id > after));
        let page: Vec<&KeyId> = rest.by_ref().take(limit).collect();
        let entries: Vec<Value> =
            page.iter().map(|id| json!({ "KeyId": id.to_string(), "KeyArn": id.arn(&self.region) })).collect();
        let mut answer = json!({ "Keys": entries, "Truncated": false });
        if let (Some(last), Some(_)) = (page.last(), rest.next()) {
            answer["Truncated"] = true.into();
            answer["NextMarker"] = last.to_string().into();
        }
        Ok(answer)
    }

    fn change(&mut self, call: Call<'_>, state: KeyState) -> Result<Value, KmsError> {
        let id = self.key_of(call)?;
        let region = self.region.clone();
        self.key_mut(id).change(state, &region)?;
        Ok(json!({}))
    }

    fn schedule_key_deletion(&mut self, call: Call<'_>) -> Result<Value, KmsError> {
        let id = self.key_of(call)?;
        let days = call.request.number("PendingWindowInDays", 7..=30)?.unwrap_or(30);
        let until = days_after(call.now, days as u64);
        let region = self.region.clone();
        self.key_mut(id).change(KeyState::PendingDeletion { until }, &region)?;
        Ok(json!({
            "KeyId": id.arn(&region),
            "DeletionDate": until.as_secs_f64(),
            "KeyState": "PendingDeletion",
            "PendingWindowInDays": days,
        }))
    }

    fn generate_data_key(
        &self,
        call: Call<'_>,
        with_plaintext: bool,
        rng: &mut impl CryptoRng,
    ) -> Result<Value, KmsError> {
        let context = call.request.context()?;
        let bytes = call.request.number("NumberOfBytes", 1..=MOST_DATA_KEY_BYTES)?;
        let length = match (call.request.text("KeySpec", 1..=64)?, bytes) {
            (Some("AES_256"), None) => 32,
            (Some("AES_128"), None) => 16,
            (Some(_), None) => {
                return Err(Exception::Validation.because(
                    "1 validation error detected: Value at 'keySpec' failed to satisfy constraint: Member must \
                     satisfy enum value set: [AES_256, AES_128]",
                ));
            }
            (None, Some(length)) => length,
            _ => return Err(Exception::Validation.because("Please specify either number of bytes or key spec.")),
        };
        let key = self.usable_key(call, &context)?;
        let mut plaintext = Zeroizing::new(vec![0; length]);
        rng.fill_bytes(&mut plaintext);
        let blob = blob::seal(key, &plaintext, &context, rng).ok_or_else(context_too_long)?;
        dry_run(call)?;
        let mut answer = json!({
            "CiphertextBlob": STANDARD.encode(blob),
            "KeyId": key.id.arn(&self.region),
            "KeyMaterialId": key.current.id.to_string(),
        });
        if with_plaintext {
            answer["Plaintext"] = STANDARD.encode(&*plaintext).into();
        }
        Ok(answer)
    }

    /// The answer names no key material: KMS's does not either.
    fn encrypt(&self, call: Call<'_>, rng: &mut impl CryptoRng) -> Result<Value, KmsError> {
        let context = call.request.context()?;
        let plaintext = Zeroizing::new(call.request.bytes("Plaintext", MOST_PLAINTEXT_BYTES)?);
        let key = self.usable_key(call, &context)?;
        require_symmetric_algorithm(call.request)?;
        let blob = blob::seal(key, &plaintext, &context, rng).ok_or_else(context_too_long)?;
        dry_run(call)?;
        Ok(json!({
            "CiphertextBlob": STANDARD.encode(blob),
            "KeyId": key.id.arn(&self.region),
            "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        }))
    }

    fn decrypt(&self, call: Call<'_>) -> Result<Value, KmsError> {
        let context = call.request.context()?;
        let bytes = call.request.bytes("CiphertextBlob", MOST_BLOB_BYTES)?;
        let damaged = || Exception::InvalidCiphertext.because("");
        let key = if call.request.key_id()?.is_some() {
            let key = self.usable_key(call, &context)?;
            if Blob::parse(&bytes).ok_or_else(damaged)?.key != key.id {
                return Err(Exception::IncorrectKey
                    .because("The key ID in the request does not identify a CMK that can perform this operation."));
            }
            key
        } else {
            let id = Blob::parse(&bytes).ok_or_else(damaged)?.key;
            let key = self.keys.get(&id).ok_or_else(|| {
                Exception::AccessDenied.because(
                    "The ciphertext refers to a customer master key that does not exist, does not exist in this \
                     region, or you are not allowed to access.",
                )
            })?;
            self.authorize(call, Some(id), &context)?;
            key.usable(&self.region)?;
            key
        };
        require_symmetric_algorithm(call.request)?;
        let blob = Blob::parse(&bytes).ok_or_else(damaged)?;
        let material = key.material(blob.material).ok_or_else(damaged)?;
        let plaintext = Zeroizing::new(blob.open(material, &context).ok_or_else(damaged)?);
        dry_run(call)?;
        Ok(json!({
            "KeyId": key.id.arn(&self.region),
            "Plaintext": STANDARD.encode(&*plaintext),
            "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
            "KeyMaterialId": material.id.to_string(),
        }))
    }

    /// The key that the request names, if the caller may ask for it.
    fn key_of(&self, call: Call<'_>) -> Result<KeyId, KmsError> {
        let id = self.find(call.request.required_key_id()?, call.operation)?;
        self.authorize(call, Some(id), &EncryptionContext::default())?;
        Ok(id)
    }

    /// The key that the request names, if the caller may use it and its state allows that.
    fn usable_key(&self, call: Call<'_>, context: &EncryptionContext) -> Result<&Key, KmsError> {
        let id = self.find(call.request.required_key_id()?, call.operation)?;
        self.authorize(call, Some(id), context)?;
        let key = self.key(id);
        key.usable(&self.region)?;
        Ok(key)
    }

    /// What a key id or key ARN means here.
    fn find(&self, text: &str, operation: Operation) -> Result<KeyId, KmsError> {
        let not_found = |message: String| Err(Exception::NotFound.because(message));
        let id = if text.starts_with("arn:") {
            let parts: Vec<&str> = text.splitn(6, ':').collect();
            let ["arn", _, "kms", region, account, resource] = parts[..] else {
                let exception = if operation.knows_invalid_arn() { Exception::InvalidArn } else { Exception::NotFound };
                return Err(exception.because(format!("Invalid arn {text}")));
            };
            if region != self.region {
                return not_found(format!("Invalid arn {region}"));
            }
            match resource.strip_prefix("key/") {
                Some(id) if account == ACCOUNT => id,
                Some(_) => return not_found(format!("Key '{text}' does not exist")),
                None => return not_found(format!("{text} is not found.")),
            }
        } else if text.starts_with("alias/") {
            return not_found(format!("Alias arn:aws:kms:{}:{ACCOUNT}:{text} is not found.", self.region));
        } else {
            text
        };
        match KeyId::parse(id) {
            Some(id) if self.keys.contains_key(&id) => Ok(id),
            Some(id) => not_found(format!("Key '{}' does not exist", id.arn(&self.region))),
            None => not_found(format!("Invalid keyId '{id}'")),
        }
    }

    fn authorize(&self, call: Call<'_>, key: Option<KeyId>, context: &EncryptionContext) -> Result<(), KmsError> {
        if !self.rules.forbid(key, call.name, context) {
            return Ok(());
        }
        let resource = key.map_or_else(|| "*".to_owned(), |id| id.arn(&self.region));
        Err(Exception::AccessDenied.because(format!(
            "User: arn:aws:iam::{ACCOUNT}:user/local is not authorized to perform: kms:{} on resource: {resource} with \
             an explicit deny in a rule of the local KMS",
            call.name
        )))
    }

    fn key(&self, id: KeyId) -> &Key {
        self.keys.get(&id).expect("ids come from find, which looks into the same map")
    }

    fn key_mut(&mut self, id: KeyId) -> &mut Key {
        self.keys.get_mut(&id).expect("ids come from find, which looks into the same map")
    }
}

/// Checks the parameter `EncryptionAlgorithm` against what a symmetric key has.
fn require_symmetric_algorithm(request: Request<'_>) -> Result<(), KmsError> {
    match request.text("EncryptionAlgorithm", 1..=64)? {
        None | Some("SYMMETRIC_DEFAULT") => Ok(()),
        Some(other @ ("RSAES_OAEP_SHA_1" | "RSAES_OAEP_SHA_256" | "SM2PKE")) => {
            Err(Exception::InvalidKeyUsage.because(format!("Algorithm {other} is incompatible with the key.")))
        }
        Some(_) => Err(Exception::Validation.because(
            "1 validation error detected: Value at 'encryptionAlgorithm' failed to satisfy constraint: Member must \
             satisfy enum value set: [SYMMETRIC_DEFAULT, RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, SM2PKE]",
        )),
    }
}

/// Ends a dry run, whose success is an exception in KMS.
fn dry_run(call: Call<'_>) -> Result<(), KmsError> {
    if call.request.flag("DryRun")? {
        return Err(
            Exception::DryRunOperation.because("The request would have succeeded, but the DryRun option is set.")
        );
    }
    Ok(())
}

fn context_too_long() -> KmsError {
    Exception::Validation.because("The encryption context has a part longer than 65535 bytes.")
}

#[cfg(test)]
mod tests;
