//! The stand-in without its shell: every Region's keys and rules, and one function that answers requests.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::CryptoRng;
use serde_json::{Value, json};

use super::exception::{Exception, KmsError};
use super::key::{Key, KeyId, KeyState, Materials, Matter, days_after};
use super::operation::{Call, Operation};
use super::region::Region;
use super::request::Request;
use super::rsa::{RsaKey, RsaSize};
use super::rules::{Denial, Rules};
use crate::crypto::EncryptionContext;

/// The most rotations on demand of one key (KMS API reference, `RotateKeyOnDemand`).
const MOST_ROTATIONS: usize = 25;

/// Keys and aliases of every Region, and the rules in force. Does no I/O: time and randomness are handed in, save that
/// RSA keys come from their library's own generator.
#[derive(Debug, Clone, Default)]
pub struct Store {
    regions: BTreeMap<String, Region>,
}

impl Store {
    /// A store without keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn regions(&self) -> impl Iterator<Item = &Region> {
        self.regions.values()
    }

    /// A Region; one without keys when nothing was ever there.
    pub(super) fn region(&mut self, name: &str) -> &mut Region {
        self.regions.entry(name.to_owned()).or_insert_with(|| Region::new(name))
    }

    pub(super) fn rules(&mut self, region: &str) -> &mut Rules {
        &mut self.region(region).rules
    }

    /// Puts a denial in force in a Region.
    ///
    /// # Errors
    /// `NotFoundException` or `InvalidArnException` when its key is not here, `ValidationException` when its operation
    /// is no permission.
    pub fn deny(&mut self, region: &str, denial: Denial) -> Result<(), KmsError> {
        if let Some(operation) = denial.operation.as_deref().filter(|name| !Operation::is_permission(name)) {
            return Err(Exception::Validation.because(format!(
                "{operation:?} is no permission of the local KMS (for ReEncrypt: ReEncryptFrom, ReEncryptTo)."
            )));
        }
        let region = self.region(region);
        let key = match denial.key_id.as_deref() {
            Some(text) => Some(region.find(text, Operation::DescribeKey)?.id),
            None => None,
        };
        region.rules.deny(key, denial);
        Ok(())
    }

    /// Answers one request to a Region: operation and parameters as on the wire, the time since the Unix epoch, and a
    /// source of randomness for keys and nonces.
    ///
    /// # Errors
    /// [`KmsError`] with KMS's exception name.
    pub fn call(
        &mut self,
        region: &str,
        operation: &str,
        request: &Value,
        now: Duration,
        rng: &mut impl CryptoRng,
    ) -> Result<Value, KmsError> {
        let name = operation;
        let operation = Operation::named(name)
            .ok_or_else(|| Exception::UnknownOperation.because(format!("The local KMS has no operation {name:?}.")))?;
        self.forget_the_deleted(now);
        let here = self.region(region);
        here.rules.count(name);
        if operation.is_cryptographic() {
            here.rules.throttle(now)?;
        }
        let request = Request::new(request, operation.parameters())?;
        let call = Call { operation, name, request, now };
        match operation {
            Operation::CreateKey => self.create_key(region, call, rng),
            Operation::DescribeKey => {
                let key = here.key_of(call)?.clone();
                Ok(json!({ "KeyMetadata": self.metadata(&key) }))
            }
            Operation::ReplicateKey => self.replicate_key(region, call),
            Operation::RotateKeyOnDemand => self.rotate_key_on_demand(region, call, rng),
            Operation::ScheduleKeyDeletion => self.schedule_key_deletion(region, call),
            Operation::CancelKeyDeletion => here.cancel_key_deletion(call),
            Operation::CreateAlias => here.create_alias(call),
            Operation::Decrypt => here.decrypt(call),
            Operation::DeleteAlias => here.delete_alias(call),
            Operation::DisableKey => here.enable(call, KeyState::Disabled),
            Operation::EnableKey => here.enable(call, KeyState::Enabled),
            Operation::Encrypt => here.encrypt(call, rng),
            Operation::GenerateDataKey => here.generate_data_key(call, "GenerateDataKey", rng),
            Operation::GenerateDataKeyWithoutPlaintext => {
                here.generate_data_key(call, "GenerateDataKeyWithoutPlaintext", rng)
            }
            Operation::GetKeyRotationStatus => here.get_key_rotation_status(call),
            Operation::GetPublicKey => here.get_public_key(call),
            Operation::ListAliases => here.list_aliases(call),
            Operation::ListKeyRotations => here.list_key_rotations(call),
            Operation::ListKeys => here.list_keys(call),
            Operation::ReEncrypt => here.re_encrypt(call, rng),
            Operation::UpdateAlias => here.update_alias(call),
        }
    }

    /// Makes an RSA key of a pair that is known beforehand, and returns its ARN.
    ///
    /// # Errors
    /// `ValidationException` when the text is not PEM of an RSA key of 2048, 3072 or 4096 bits in PKCS#8.
    pub fn import_rsa(
        &mut self,
        region: &str,
        pem: &str,
        now: Duration,
        rng: &mut impl CryptoRng,
    ) -> Result<String, KmsError> {
        let pair = RsaKey::from_pem(pem).ok_or_else(|| {
            Exception::Validation.because("This is no PEM text (PRIVATE KEY) of an RSA key of 2048, 3072 or 4096 bits.")
        })?;
        let key = Key::new(KeyId::random(false, rng), region, "", Matter::Rsa(pair), now);
        let arn = key.arn();
        self.region(region).keys.insert(key.id, key);
        Ok(arn)
    }

    /// Drops keys whose waiting period has ended, and their aliases.
    fn forget_the_deleted(&mut self, now: Duration) {
        for region in self.regions.values_mut() {
            region.keys.retain(|_, key| !matches!(key.state, KeyState::PendingDeletion { until } if until <= now));
            region.aliases.retain(|_, alias| region.keys.contains_key(&alias.target));
        }
    }

    fn create_key(&mut self, region: &str, call: Call<'_>, rng: &mut impl CryptoRng) -> Result<Value, KmsError> {
        self.region(region).authorize(call.name, None, &EncryptionContext::default())?;
        for (parameter, supported) in [("KeyUsage", "ENCRYPT_DECRYPT"), ("Origin", "AWS_KMS")] {
            if call.request.text(parameter, 1..=64)?.is_some_and(|asked| asked != supported) {
                return Err(Exception::UnsupportedOperation
                    .because(format!("The local KMS makes only keys with {parameter} {supported}.")));
            }
        }
        let description = call.request.text("Description", 0..=8192)?.unwrap_or_default();
        let matter = match (call.request.text("KeySpec", 1..=64)?, call.request.text("CustomerMasterKeySpec", 1..=64)?)
        {
            (Some(_), Some(_)) => {
                return Err(Exception::Validation
                    .because("You cannot specify KeySpec and CustomerMasterKeySpec in the same request."));
            }
            (None, None) => Matter::Symmetric(Materials::random(rng)),
            (Some(spec), None) | (None, Some(spec)) => new_matter(spec, call, rng)?,
        };
        let id = KeyId::random(call.request.flag("MultiRegion")?, rng);
        let key = Key::new(id, region, description, matter, call.now);
        let metadata = self.metadata(&key);
        self.region(region).keys.insert(id, key);
        Ok(json!({ "KeyMetadata": metadata }))
    }

    /// The replica is there, and enabled, when this returns; KMS takes a while.
    fn replicate_key(&mut self, region: &str, call: Call<'_>) -> Result<Value, KmsError> {
        let primary = self.region(region).key_of(call)?.clone();
        let replica_region = call.request.required_text("ReplicaRegion", 1..=32)?;
        let description = call.request.text("Description", 0..=8192)?.unwrap_or_default();
        if !is_region_name(replica_region) {
            return Err(Exception::Validation.because("ReplicaRegion is no Region's name."));
        }
        if !primary.id.multi_region || primary.replica {
            return Err(
                Exception::UnsupportedOperation.because(format!("{} is no multi-Region primary key.", primary.arn()))
            );
        }
        primary.usable()?;
        let there = self.region(replica_region);
        if there.keys.contains_key(&primary.id) {
            let arn = primary.id.arn(replica_region);
            return Err(Exception::AlreadyExists.because(format!("{arn} already exists.")));
        }
        let matter = primary.matter.clone();
        let replica = Key { replica: true, ..Key::new(primary.id, replica_region, description, matter, call.now) };
        there.keys.insert(replica.id, replica.clone());
        Ok(json!({ "ReplicaKeyMetadata": self.metadata(&replica), "ReplicaTags": [] }))
    }

    /// The new material is the current one when this returns, in every Region of the key; KMS takes a while.
    fn rotate_key_on_demand(
        &mut self,
        region: &str,
        call: Call<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Value, KmsError> {
        let key = self.region(region).key_of(call)?.clone();
        let mut materials = key.materials()?.clone();
        if key.replica {
            return Err(Exception::UnsupportedOperation
                .because(format!("{} is a replica; its primary key is what is rotated.", key.arn())));
        }
        key.usable()?;
        if materials.former.len() >= MOST_ROTATIONS {
            return Err(Exception::LimitExceeded.because(format!("{} was rotated as often as it may be.", key.arn())));
        }
        materials.rotate(call.now, rng);
        for related in self.regions.values_mut().filter_map(|region| region.keys.get_mut(&key.id)) {
            related.matter = Matter::Symmetric(materials.clone());
        }
        Ok(json!({ "KeyId": key.id.to_string() }))
    }

    fn schedule_key_deletion(&mut self, region: &str, call: Call<'_>) -> Result<Value, KmsError> {
        let key = self.region(region).key_of(call)?.clone();
        let days = call.request.number("PendingWindowInDays", 7..=30)?.unwrap_or(30);
        key.stays()?;
        if !key.replica && self.related(key.id).count() > 1 {
            return Err(Exception::UnsupportedOperation.because(format!(
                "{} has replicas, and the local KMS has no state PendingReplicaDeletion; delete them first.",
                key.arn()
            )));
        }
        let until = days_after(call.now, days as u64);
        self.region(region).key_mut(key.id).state = KeyState::PendingDeletion { until };
        Ok(json!({
            "KeyId": key.arn(),
            "DeletionDate": until.as_secs_f64(),
            "KeyState": "PendingDeletion",
            "PendingWindowInDays": days,
        }))
    }

    /// KMS's `KeyMetadata`.
    fn metadata(&self, key: &Key) -> Value {
        let mut metadata = key.metadata();
        if key.id.multi_region {
            let entry = |key: &Key| json!({ "Arn": key.arn(), "Region": key.region });
            let primary = self.related(key.id).find(|related| !related.replica).unwrap_or(key);
            metadata["MultiRegionConfiguration"] = json!({
                "MultiRegionKeyType": if key.replica { "REPLICA" } else { "PRIMARY" },
                "PrimaryKey": entry(primary),
                "ReplicaKeys": self.related(key.id).filter(|related| related.replica).map(entry).collect::<Value>(),
            });
        }
        metadata
    }

    /// The keys of an id, by Region.
    fn related(&self, id: KeyId) -> impl Iterator<Item = &Key> {
        self.regions.values().filter_map(move |region| region.keys.get(&id))
    }
}

/// Whether a text may name a Region: it goes into ARNs and into a line for the shell.
pub(in crate::local) fn is_region_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(plain)
}

/// New matter of a key spec that the request names.
fn new_matter(spec: &str, call: Call<'_>, rng: &mut impl CryptoRng) -> Result<Matter, KmsError> {
    if spec == "SYMMETRIC_DEFAULT" {
        return Ok(Matter::Symmetric(Materials::random(rng)));
    }
    let size = RsaSize::of_spec(spec).ok_or_else(|| {
        Exception::UnsupportedOperation
            .because("The local KMS makes only keys with KeySpec SYMMETRIC_DEFAULT, RSA_2048, RSA_3072 and RSA_4096.")
    })?;
    if call.request.text("KeyUsage", 1..=64)?.is_none() {
        return Err(Exception::Validation.because("You must specify a KeyUsage value for an asymmetric key."));
    }
    let pair = RsaKey::generate(size).map_err(|_| Exception::KmsInternal.because("No RSA key could be generated."))?;
    Ok(Matter::Rsa(pair))
}

#[cfg(test)]
mod tests;
