//! Keyring settings: which key wraps, and where it comes from. Nothing is opened or asked here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::hierarchy::{self, HierarchySettings};
use super::key::KeySource;
use super::refusal::{Fault, Refusal};
use super::section::{At, Section};
use crate::aws::Access;
use crate::crypto::{RsaPadding, Suite};
use crate::format::Schema;
use crate::keyring::{DiscoveryFilter, KeyArn, KmsRsaPadding, Matching, Recipient, Wanted};

/// The fields that a keyring of any type may have.
pub(super) const FIELDS: [&str; 25] = [
    "type",
    "namespace",
    "name",
    "padding",
    "key_file",
    "key_env",
    "key_secret",
    "key_arn",
    "public_key_file",
    "partition",
    "accounts",
    "region",
    "profile",
    "role_arn",
    "key_store_table",
    "key_store_name",
    "kms_key_arn",
    "key_store_readers",
    "branch_key_id",
    "branch_key_attribute",
    "branch_keys",
    "cache_seconds",
    "cache_entries",
    GENERATOR,
    CHILDREN,
];
const GENERATOR: &str = "generator";
const CHILDREN: &str = "children";
const ACCESS: [&str; 3] = ["region", "profile", "role_arn"];

const AWS_KMS: &str = "aws-kms";
const AWS_KMS_MRK: &str = "aws-kms-mrk";
const AWS_KMS_DISCOVERY: &str = "aws-kms-discovery";
const AWS_KMS_RSA: &str = "aws-kms-rsa";
const RAW_AES: &str = "raw-aes";
const RAW_RSA: &str = "raw-rsa";
const MULTI: &str = "multi";
const TYPES: [&str; 8] =
    [AWS_KMS, AWS_KMS_MRK, AWS_KMS_DISCOVERY, AWS_KMS_RSA, RAW_AES, RAW_RSA, hierarchy::TYPE, MULTI];

/// Where keys of any account are meant.
const ANY_ACCOUNT: &str = "*";
const ACCOUNT_DIGITS: usize = 12;
const DEFAULT_PARTITION: &str = "aws";

/// A keyring as the job file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyringSettings {
    /// An AES key at hand.
    RawAes {
        /// The key namespace: provider id of what it wraps.
        namespace: String,
        /// The key name: in the provider information of what it wraps.
        name: String,
        /// Where the key is.
        key: KeySource,
    },
    /// An RSA key at hand.
    RawRsa {
        /// The key namespace: provider id of what it wraps.
        namespace: String,
        /// The key name: provider information of what it wraps.
        name: String,
        /// Where the key is: a private one, or a public one that only wraps.
        key: KeySource,
        /// How wrapped keys are padded.
        padding: RsaPadding,
    },
    /// A symmetric KMS key.
    AwsKms {
        /// Its key ARN.
        key_arn: KeyArn,
        /// Whether a multi-Region key counts as itself in any Region.
        any_region: bool,
        /// How it is reached: in the key's Region, with a profile and a role if the job names them.
        access: Access,
    },
    /// An RSA key of KMS.
    AwsKmsRsa {
        /// Its key ARN.
        key_arn: KeyArn,
        /// How wrapped keys are padded.
        padding: KmsRsaPadding,
        /// Where the public key is in PEM, if KMS is not asked for it.
        public_key: Option<PathBuf>,
        /// How the key is reached.
        access: Access,
    },
    /// Whichever symmetric KMS key an item names, for reading.
    AwsKmsDiscovery {
        /// Whose keys are used.
        filter: DiscoveryFilter,
        /// How they are reached.
        access: Access,
    },
    /// Branch keys of a key store.
    Hierarchy(Box<HierarchySettings>),
    /// Several keyrings as one; the generator, if there is one, is the first.
    Multi(Vec<Self>),
}

impl KeyringSettings {
    /// Who the keyring wraps for: how items name its keys, and how strictly they are compared.
    #[must_use]
    pub fn recipients(&self) -> Vec<Wanted> {
        let kms = |provider: &str, key_arn: &KeyArn, any_region| Wanted {
            recipient: Recipient { provider: provider.to_owned(), key: key_arn.as_str().to_owned() },
            matching: if any_region && key_arn.is_multi_region() { Matching::AnyRegion } else { Matching::Exact },
        };
        match self {
            Self::RawAes { namespace, name, .. } | Self::RawRsa { namespace, name, .. } => {
                vec![Wanted::exactly(Recipient { provider: namespace.clone(), key: name.clone() })]
            }
            Self::AwsKms { key_arn, any_region, .. } => vec![kms(AWS_KMS, key_arn, *any_region)],
            Self::AwsKmsRsa { key_arn, .. } => vec![kms(AWS_KMS_RSA, key_arn, true)],
            Self::AwsKmsDiscovery { .. } => Vec::new(),
            Self::Hierarchy(settings) => vec![settings.branch_key.recipient()],
            Self::Multi(children) => children.iter().flat_map(Self::recipients).collect(),
        }
    }

    /// The keys in words, with all that makes a difference to what they wrap or open: for the plan's fingerprint and
    /// messages.
    #[must_use]
    pub fn in_words(&self) -> String {
        let keys = || {
            let recipients = self.recipients();
            recipients.iter().map(|wanted| wanted.recipient.to_string()).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::RawAes { .. } | Self::AwsKms { any_region: false, .. } => keys(),
            Self::RawRsa { padding, .. } => format!("{} ({})", keys(), padding.name()),
            Self::AwsKms { any_region: true, .. } => format!("{} (any Region)", keys()),
            Self::AwsKmsRsa { padding, .. } => format!("{} ({})", keys(), padding.name()),
            Self::AwsKmsDiscovery { filter: DiscoveryFilter { partition, accounts }, access } => {
                let accounts = accounts.as_ref().map_or_else(
                    || "any account".to_owned(),
                    |accounts| format!("accounts {}", accounts.iter().cloned().collect::<Vec<_>>().join(" ")),
                );
                let region = access.region.as_deref().unwrap_or("the default Region");
                format!("{AWS_KMS} of {accounts} (partition {partition}, {region})")
            }
            Self::Hierarchy(settings) => settings.in_words(),
            Self::Multi(children) => children.iter().map(Self::in_words).collect::<Vec<_>>().join(", "),
        }
    }

    /// Requests to KMS for one item: to open it at most, and to seal it.
    #[must_use]
    pub fn kms_requests(&self) -> (u32, u32) {
        match self {
            // The hierarchical keyring asks KMS for its branch keys, once for many items.
            Self::RawAes { .. } | Self::RawRsa { .. } | Self::Hierarchy(_) => (0, 0),
            Self::AwsKms { .. } => (1, 1),
            Self::AwsKmsRsa { .. } | Self::AwsKmsDiscovery { .. } => (1, 0),
            Self::Multi(children) => children.iter().map(Self::kms_requests).fold((0, 0), |sum, child| {
                let ((most, all), (opens, seals)) = (sum, child);
                (opens.max(most), all + seals)
            }),
        }
    }

    /// Whether a KMS key of it is rotated without a new ARN, so that items may be under older material.
    #[must_use]
    pub(super) fn has_material(&self) -> bool {
        match self {
            Self::AwsKms { .. } => true,
            Self::Multi(children) => children.iter().any(Self::has_material),
            _ => false,
        }
    }

    /// Refuses what cannot seal, or not items of this suite.
    pub(super) fn demand_target(&self, suite: Suite) -> Result<(), Refusal> {
        match self {
            Self::AwsKmsDiscovery { .. } => Err(Refusal::DiscoveryTarget),
            Self::AwsKmsRsa { .. } if suite.signs() => Err(Refusal::RsaWithEcdsa),
            Self::Multi(children) => children.iter().try_for_each(|child| child.demand_target(suite)),
            _ => Ok(()),
        }
    }

    pub(super) fn read(section: &Section<'_>, folder: &Path, schema: &Schema) -> Result<Self, Fault> {
        let kind = section.required_text("type")?;
        if kind.value == MULTI {
            Self::read_multi(section, folder, schema)
        } else {
            Self::read_one(section, (folder, schema), &kind, &TYPES)
        }
    }

    fn read_multi(section: &Section<'_>, folder: &Path, schema: &Schema) -> Result<Self, Fault> {
        only(section, MULTI, &["type", GENERATOR, CHILDREN])?;
        let generator = section.section(GENERATOR, &FIELDS)?;
        let sections = generator.into_iter().chain(section.sections(CHILDREN, &FIELDS)?);
        let (mut children, mut recipients) = (Vec::new(), Vec::<Wanted>::new());
        for section in sections {
            let kind = section.required_text("type")?;
            let child = Self::read_one(&section, (folder, schema), &kind, &TYPES[..TYPES.len() - 1])?;
            for wanted in child.recipients() {
                let same = |other: &&Wanted| wanted.is(&other.recipient) || other.is(&wanted.recipient);
                if let Some(other) = recipients.iter().find(same) {
                    let refusal = Refusal::SameKey(other.recipient.to_string());
                    return Err(Fault { place: section.place().clone(), refusal });
                }
                recipients.push(wanted);
            }
            children.push(child);
        }
        if children.is_empty() {
            return Err(Fault { place: section.place().clone(), refusal: Refusal::NoChildren });
        }
        Ok(Self::Multi(children))
    }

    /// A keyring of one of these types, none of which has others in it.
    fn read_one(
        section: &Section<'_>,
        (folder, schema): (&Path, &Schema),
        kind: &At<String>,
        types: &[&'static str],
    ) -> Result<Self, Fault> {
        let own = |kind, fields: &[&str]| only(section, kind, &[["type"].as_slice(), &ACCESS, fields].concat());
        match kind.value.as_str() {
            RAW_AES => {
                own(RAW_AES, &["namespace", "name", "key_file", "key_env", "key_secret"])?;
                let (namespace, name, key) = raw(section, folder, RAW_AES)?;
                Ok(Self::RawAes { namespace, name, key })
            }
            RAW_RSA => {
                own(RAW_RSA, &["namespace", "name", "padding", "key_file", "key_env", "key_secret"])?;
                let (namespace, name, key) = raw(section, folder, RAW_RSA)?;
                let padding = padding(section, &RsaPadding::ALL, RsaPadding::name)?;
                Ok(Self::RawRsa { namespace, name, key, padding })
            }
            AWS_KMS => {
                own(AWS_KMS, &["key_arn"])?;
                let (key_arn, access) = key(section)?;
                Ok(Self::AwsKms { key_arn, any_region: false, access })
            }
            AWS_KMS_MRK => {
                own(AWS_KMS_MRK, &["key_arn"])?;
                let (key_arn, access) = key(section)?;
                Ok(Self::AwsKms { key_arn, any_region: true, access })
            }
            AWS_KMS_RSA => {
                own(AWS_KMS_RSA, &["key_arn", "padding", "public_key_file"])?;
                let (key_arn, access) = key(section)?;
                let padding = padding(section, &KmsRsaPadding::ALL, KmsRsaPadding::name)?;
                let public_key = section.text("public_key_file")?.map(|file| folder.join(file.value));
                Ok(Self::AwsKmsRsa { key_arn, padding, public_key, access })
            }
            AWS_KMS_DISCOVERY => {
                own(AWS_KMS_DISCOVERY, &["partition", "accounts"])?;
                Ok(Self::AwsKmsDiscovery { filter: filter(section)?, access: access(section, None)? })
            }
            hierarchy::TYPE => {
                only(section, hierarchy::TYPE, &hierarchy::FIELDS)?;
                HierarchySettings::read(section, schema).map(|settings| Self::Hierarchy(Box::new(settings)))
            }
            other => Err(Fault { refusal: Refusal::word(other, types), place: kind.place.clone() }),
        }
    }
}

/// Refuses the fields of other types.
fn only(section: &Section<'_>, kind: &'static str, own: &[&str]) -> Result<(), Fault> {
    match section.other_than(own) {
        Some(place) => Err(Fault { place, refusal: Refusal::ForeignField(kind) }),
        None => Ok(()),
    }
}

/// Namespace and name of a raw key, and where it is.
fn raw(section: &Section<'_>, folder: &Path, kind: &'static str) -> Result<(String, String, KeySource), Fault> {
    let namespace = section.required_text("namespace")?.parse(|namespace| {
        // The official library refuses exactly this one; ours would be taken for KMS's by every reader.
        if namespace.starts_with(AWS_KMS) { Err(Refusal::ReservedNamespace(namespace)) } else { Ok(namespace) }
    })?;
    let key = match (section.text("key_file")?, section.text("key_env")?, section.text("key_secret")?) {
        (Some(file), None, None) => KeySource::File(folder.join(file.value)),
        (None, Some(name), None) => KeySource::Env(name.value),
        (None, None, Some(id)) => {
            let access = access(section, region_of_secret(&id.value))?;
            KeySource::Secret { id: id.value, access }
        }
        _ => return Err(Fault { place: section.place().clone(), refusal: Refusal::KeySource(kind) }),
    };
    let reached = ACCESS.iter().find_map(|field| section.place_of_field(field));
    match (&key, reached) {
        (KeySource::Secret { .. }, _) | (_, None) => Ok((namespace.value, section.required_text("name")?.value, key)),
        (_, Some(place)) => Err(Fault { place, refusal: Refusal::AccessWithoutSecret }),
    }
}

/// A KMS key, and how it is reached: in its own Region.
fn key(section: &Section<'_>) -> Result<(KeyArn, Access), Fault> {
    let parse = |arn: String| KeyArn::parse(&arn).map_err(Refusal::KeyArn);
    let key_arn = section.required_text("key_arn")?.parse(parse)?.value;
    let access = access(section, Some(key_arn.region()))?;
    Ok((key_arn, access))
}

/// How a key is reached, which may be of a Region itself.
fn access(section: &Section<'_>, of_key: Option<&str>) -> Result<Access, Fault> {
    let region = section.text("region")?;
    if let (Some(At { value: region, place }), Some(of_key)) = (&region, of_key)
        && region != of_key
    {
        let refusal = Refusal::KeyRegion { region: region.clone(), of_key: of_key.to_owned() };
        return Err(Fault { place: place.clone(), refusal });
    }
    let region = of_key.map(str::to_owned).or_else(|| region.map(|region| region.value));
    let optional = |field| Ok(section.text(field)?.map(|text| text.value));
    Ok(Access { region, profile: optional("profile")?, role_arn: optional("role_arn")? })
}

/// The Region in the ARN of a secret, if that is what names it.
fn region_of_secret(id: &str) -> Option<&str> {
    let mut parts = id.split(':');
    (parts.next() == Some("arn")).then(|| parts.nth(2)).flatten().filter(|region| !region.is_empty())
}

fn padding<T: Copy>(section: &Section<'_>, all: &[T], name: fn(T) -> &'static str) -> Result<T, Fault> {
    let padding = section.required_text("padding")?.parse(|word| {
        let known: Vec<_> = all.iter().map(|padding| name(*padding)).collect();
        all.iter().copied().find(|padding| name(*padding) == word).ok_or_else(|| Refusal::word(&word, &known))
    })?;
    Ok(padding.value)
}

/// The accounts whose keys may be used.
pub(super) fn filter(section: &Section<'_>) -> Result<DiscoveryFilter, Fault> {
    let partition = section.text("partition")?.map_or_else(|| DEFAULT_PARTITION.to_owned(), |word| word.value);
    let listed = section.texts("accounts")?.ok_or_else(|| section.missing("accounts"))?;
    let mut accounts = BTreeSet::new();
    let mut any = false;
    for account in listed {
        account.parse(|account| {
            let digits = account.len() == ACCOUNT_DIGITS && account.bytes().all(|byte| byte.is_ascii_digit());
            match account.as_str() {
                ANY_ACCOUNT => any = true,
                _ if digits => drop(accounts.insert(account)),
                _ => return Err(Refusal::Account(account)),
            }
            Ok(())
        })?;
    }
    if any == accounts.is_empty() {
        return Ok(DiscoveryFilter { partition, accounts: (!any).then_some(accounts) });
    }
    Err(Fault {
        place: section.place_of_field("accounts").unwrap_or_else(|| section.place().clone()),
        refusal: Refusal::Accounts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_of_secrets() {
        let arn = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:reseal/k1-AbCdEf";
        for (id, region) in [(arn, Some("eu-west-1")), ("reseal/k1", None), ("arn", None), ("arn:aws:s3:::x", None)] {
            assert_eq!(region_of_secret(id), region, "{id}");
        }
    }
}
