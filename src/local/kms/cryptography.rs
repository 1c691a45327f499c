//! The operations that wrap and unwrap.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::CryptoRng;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use super::blob::{self, Blob};
use super::exception::{Exception, KmsError};
use super::key::{Key, MaterialId, Matter};
use super::operation::Call;
use super::region::Region;
use super::request::missing;
use crate::crypto::EncryptionContext;

/// The longest blob that is decrypted, in bytes (KMS API reference, `Decrypt`).
const MOST_BLOB_BYTES: usize = 6144;
/// The longest plaintext that is encrypted, in bytes (KMS API reference, `Encrypt`).
const MOST_PLAINTEXT_BYTES: usize = 4096;
/// The longest data key, in bytes (KMS API reference, `GenerateDataKey`).
const MOST_DATA_KEY_BYTES: usize = 1024;

/// What a request says of a key that it uses. `ReEncrypt` has two of them.
struct Use<'a> {
    /// The permission that it takes.
    permission: &'static str,
    key_id: Option<&'a str>,
    context: EncryptionContext,
    algorithm: Algorithm,
}

impl<'a> Use<'a> {
    /// Reads the parameters whose names begin with a prefix.
    fn read(call: Call<'a>, permission: &'static str, prefix: &str) -> Result<Self, KmsError> {
        Ok(Self {
            permission,
            key_id: call.request.text(&format!("{prefix}KeyId"), 1..=2048)?,
            context: call.request.context(&format!("{prefix}EncryptionContext"))?,
            algorithm: Algorithm::of(call.request, &format!("{prefix}EncryptionAlgorithm"))?,
        })
    }

    /// Refuses when the caller may not use the key, or it does not serve.
    fn check(&self, region: &Region, key: &Key) -> Result<(), KmsError> {
        region.authorize(self.permission, Some(key), &self.context)?;
        key.usable()?;
        if !key.matter.algorithms().contains(&self.algorithm) {
            return Err(Exception::InvalidKeyUsage.because(format!(
                "Algorithm {} is incompatible with key spec {}.",
                self.algorithm.name(),
                key.matter.spec()
            )));
        }
        if matches!(key.matter, Matter::Rsa(_)) && self.context != EncryptionContext::default() {
            return Err(Exception::Validation.because("Asymmetric keys have no encryption context."));
        }
        Ok(())
    }
}

/// What was in a blob.
struct Opened<'a> {
    key: &'a Key,
    /// The material that had wrapped it; RSA keys have none to name.
    material: Option<MaterialId>,
    plaintext: Zeroizing<Vec<u8>>,
}

impl Region {
    pub(super) fn generate_data_key(
        &self,
        call: Call<'_>,
        permission: &'static str,
        rng: &mut impl CryptoRng,
    ) -> Result<Value, KmsError> {
        let usage = Use {
            permission,
            key_id: call.request.text("KeyId", 1..=2048)?,
            context: call.request.context("EncryptionContext")?,
            algorithm: Algorithm::Symmetric,
        };
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
        let key = self.wrapping_key(call, &usage, "KeyId")?;
        let mut plaintext = Zeroizing::new(vec![0; length]);
        rng.fill_bytes(&mut plaintext);
        let blob = seal(key, &usage, &plaintext, rng)?;
        call.end_dry_run()?;
        let mut answer = json!({ "CiphertextBlob": STANDARD.encode(blob), "KeyId": key.arn() });
        insert_material(&mut answer, "KeyMaterialId", current_material(key));
        if permission == "GenerateDataKey" {
            answer["Plaintext"] = STANDARD.encode(&*plaintext).into();
        }
        Ok(answer)
    }

    /// The answer names no key material: KMS's does not either.
    pub(super) fn encrypt(&self, call: Call<'_>, rng: &mut impl CryptoRng) -> Result<Value, KmsError> {
        let usage = Use::read(call, "Encrypt", "")?;
        let plaintext = Zeroizing::new(call.request.bytes("Plaintext", MOST_PLAINTEXT_BYTES)?);
        let key = self.wrapping_key(call, &usage, "KeyId")?;
        let blob = seal(key, &usage, &plaintext, rng)?;
        call.end_dry_run()?;
        Ok(json!({
            "CiphertextBlob": STANDARD.encode(blob),
            "KeyId": key.arn(),
            "EncryptionAlgorithm": usage.algorithm.name(),
        }))
    }

    pub(super) fn decrypt(&self, call: Call<'_>) -> Result<Value, KmsError> {
        let usage = Use::read(call, "Decrypt", "")?;
        let opened = self.open(call, &usage, "KeyId")?;
        call.end_dry_run()?;
        let Opened { key, material, plaintext } = opened.ok_or_else(|| missing("CiphertextBlob"))?;
        let mut answer = json!({
            "KeyId": key.arn(),
            "Plaintext": STANDARD.encode(&*plaintext),
            "EncryptionAlgorithm": usage.algorithm.name(),
        });
        insert_material(&mut answer, "KeyMaterialId", material);
        Ok(answer)
    }

    pub(super) fn re_encrypt(&self, call: Call<'_>, rng: &mut impl CryptoRng) -> Result<Value, KmsError> {
        let from = Use::read(call, "ReEncryptFrom", "Source")?;
        let to = Use::read(call, "ReEncryptTo", "Destination")?;
        let destination = self.wrapping_key(call, &to, "DestinationKeyId")?;
        let opened = self.open(call, &from, "SourceKeyId")?;
        let blob = opened.as_ref().map(|opened| seal(destination, &to, &opened.plaintext, rng)).transpose()?;
        call.end_dry_run()?;
        let (Some(opened), Some(blob)) = (opened, blob) else { return Err(missing("CiphertextBlob")) };
        let mut answer = json!({
            "CiphertextBlob": STANDARD.encode(blob),
            "SourceKeyId": opened.key.arn(),
            "KeyId": destination.arn(),
            "SourceEncryptionAlgorithm": from.algorithm.name(),
            "DestinationEncryptionAlgorithm": to.algorithm.name(),
        });
        insert_material(&mut answer, "SourceKeyMaterialId", opened.material);
        insert_material(&mut answer, "DestinationKeyMaterialId", current_material(destination));
        Ok(answer)
    }

    /// The key that is to wrap, if it may and can.
    fn wrapping_key(&self, call: Call<'_>, usage: &Use<'_>, parameter: &str) -> Result<&Key, KmsError> {
        let key = self.find(usage.key_id.ok_or_else(|| missing(parameter))?, call.operation)?;
        usage.check(self, key)?;
        Ok(key)
    }

    /// Unwraps the request's blob. `None` for a dry run that is about permissions alone.
    fn open(&self, call: Call<'_>, usage: &Use<'_>, parameter: &str) -> Result<Option<Opened<'_>>, KmsError> {
        if call.ignores_ciphertext()? {
            self.wrapping_key(call, usage, parameter)?;
            return Ok(None);
        }
        let bytes = call.request.bytes("CiphertextBlob", MOST_BLOB_BYTES)?;
        let key = match usage.key_id {
            Some(text) => self.find(text, call.operation)?,
            // What RSA makes does not tell its key.
            None if usage.algorithm != Algorithm::Symmetric => return Err(missing(parameter)),
            None => {
                let id = Blob::parse(&bytes).ok_or_else(damaged)?.key;
                self.keys.get(&id).ok_or_else(|| {
                    Exception::AccessDenied.because(
                        "The ciphertext refers to a customer master key that does not exist, does not exist in this \
                         region, or you are not allowed to access.",
                    )
                })?
            }
        };
        usage.check(self, key)?;
        let opened = match &key.matter {
            Matter::Rsa(pair) => {
                let plaintext = pair.decrypt(usage.algorithm, &bytes).ok_or_else(damaged)?;
                Opened { key, material: None, plaintext }
            }
            Matter::Symmetric(materials) => {
                let blob = Blob::parse(&bytes).ok_or_else(damaged)?;
                if blob.key != key.id {
                    return Err(Exception::IncorrectKey.because(
                        "The key ID in the request does not identify a CMK that can perform this operation.",
                    ));
                }
                let material = materials.get(blob.material).ok_or_else(damaged)?;
                let plaintext = Zeroizing::new(blob.open(material, &usage.context).ok_or_else(damaged)?);
                Opened { key, material: Some(material.id), plaintext }
            }
        };
        Ok(Some(opened))
    }
}

/// Wraps a plaintext with a key that was checked for this use.
fn seal(key: &Key, usage: &Use<'_>, plaintext: &[u8], rng: &mut impl CryptoRng) -> Result<Vec<u8>, KmsError> {
    match &key.matter {
        Matter::Symmetric(materials) => blob::seal(key.id, &materials.current, plaintext, &usage.context, rng)
            .ok_or_else(|| Exception::Validation.because("The encryption context has a part longer than 65535 bytes.")),
        Matter::Rsa(pair) => pair.encrypt(usage.algorithm, plaintext).ok_or_else(|| {
            Exception::Validation.because(format!(
                "Algorithm {} and key spec {} cannot encrypt data larger than {} bytes.",
                usage.algorithm.name(),
                key.matter.spec(),
                pair.most_plaintext(usage.algorithm).unwrap_or_default()
            ))
        }),
    }
}

const fn current_material(key: &Key) -> Option<MaterialId> {
    match &key.matter {
        Matter::Symmetric(materials) => Some(materials.current.id),
        Matter::Rsa(_) => None,
    }
}

fn insert_material(answer: &mut Value, member: &str, material: Option<MaterialId>) {
    if let Some(material) = material {
        answer[member] = material.to_string().into();
    }
}

fn damaged() -> KmsError {
    Exception::InvalidCiphertext.because("")
}
