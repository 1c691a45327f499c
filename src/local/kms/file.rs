//! The file that keys are kept in: JSON, with the key material in clear.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::aliases::Alias;
use super::key::{Key, KeyId, KeyState, Material, MaterialId, Materials, Matter};
use super::rsa::RsaKey;
use super::store::Store;
use crate::crypto::Secret;

/// Written. Version 1 had symmetric keys of one Region, and no aliases.
const VERSION: u32 = 2;
const READABLE: std::ops::RangeInclusive<u32> = 1..=VERSION;

/// The key file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file system refused.
    #[error("cannot {doing} the local KMS's key file {}: {source}", path.display())]
    Io {
        /// Read or write.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content is not that of a key file of this version.
    #[error("{} is no key file of the local KMS ({problem}); restore it, or start with another directory", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong; never the content.
        problem: String,
    },
    /// The keys belong to another Region: their ARNs would change.
    #[error("the keys in {} are of region {found}, not {asked}; start with --region {found}", path.display())]
    OtherRegion {
        /// The file.
        path: PathBuf,
        /// The Region of the keys.
        found: String,
        /// The Region that was asked for.
        asked: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedStore {
    version: u32,
    warning: String,
    /// The Region that the stand-in is at home in.
    region: String,
    keys: Vec<SavedKey>,
    #[serde(default)]
    aliases: Vec<SavedAlias>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedKey {
    id: String,
    /// Absent for the home Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(default)]
    replica: bool,
    description: String,
    /// Milliseconds since the Unix epoch.
    created: u64,
    state: SavedState,
    /// Of a symmetric key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<SavedMaterial>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former: Vec<SavedMaterial>,
    /// Of an RSA key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rsa: Option<SavedPair>,
}

#[derive(Serialize, Deserialize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct SavedPair {
    /// Base64 of the DER document.
    pkcs8: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedAlias {
    /// Absent for the home Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    name: String,
    target: String,
    /// Milliseconds since the Unix epoch.
    created: u64,
    updated: u64,
}

#[derive(Serialize, Deserialize)]
enum SavedState {
    Enabled,
    Disabled,
    /// Until some milliseconds since the Unix epoch.
    PendingDeletion(u64),
}

#[derive(Serialize, Deserialize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct SavedMaterial {
    /// Base64 of 32 bytes.
    id: String,
    /// Base64 of 32 bytes.
    secret: String,
    /// Milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rotated: Option<u64>,
}

/// The store in a file; an empty one when there is no file yet.
pub(super) fn load(path: &Path, region: &str) -> Result<Store, KeyFileError> {
    let text = match fs::read(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Store::new()),
        Err(source) => return Err(KeyFileError::Io { doing: "read", path: path.to_owned(), source }),
    };
    let malformed = |problem: &str| KeyFileError::Malformed { path: path.to_owned(), problem: problem.to_owned() };
    // The parser's own message may quote the content; its position is enough.
    let saved: SavedStore = serde_json::from_slice(&text)
        .map_err(|error| malformed(&format!("line {}, column {}", error.line(), error.column())))?;
    if !READABLE.contains(&saved.version) {
        return Err(malformed(&format!("version {}, and this program knows up to {VERSION}", saved.version)));
    }
    if saved.region != region {
        return Err(KeyFileError::OtherRegion { path: path.to_owned(), found: saved.region, asked: region.to_owned() });
    }
    let mut store = Store::new();
    for key in &saved.keys {
        let key = restored(key, region).ok_or_else(|| malformed("a key is damaged"))?;
        store.region(&key.region.clone()).keys.insert(key.id, key);
    }
    for alias in saved.aliases {
        let there = store.region(alias.region.as_deref().unwrap_or(region));
        let target = KeyId::parse(&alias.target).filter(|target| there.keys.contains_key(target));
        let target = target.ok_or_else(|| malformed("an alias names no key"))?;
        let (created, updated) = (Duration::from_millis(alias.created), Duration::from_millis(alias.updated));
        there.aliases.insert(alias.name, Alias { target, created, updated });
    }
    Ok(store)
}

/// Replaces the file by the store's keys: the old file or the new one is there at every moment.
pub(super) fn save(path: &Path, home: &str, store: &Store) -> Result<(), KeyFileError> {
    let abroad = |region: &str| (region != home).then(|| region.to_owned());
    let aliases = store.regions().flat_map(|region| {
        region.aliases.iter().map(|(name, alias)| SavedAlias {
            region: abroad(&region.name),
            name: name.clone(),
            target: alias.target.to_string(),
            created: milliseconds(alias.created),
            updated: milliseconds(alias.updated),
        })
    });
    let keys = store.regions().flat_map(|region| region.keys.values()).map(|key| kept(key, abroad(&key.region)));
    let saved = SavedStore {
        version: VERSION,
        warning: "Development keys in clear. They protect nothing.".to_owned(),
        region: home.to_owned(),
        keys: keys.collect(),
        aliases: aliases.collect(),
    };
    let text = Zeroizing::new(serde_json::to_vec_pretty(&saved).expect("strings and numbers always have a JSON form"));
    let beside = path.with_extension("new");
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|source| KeyFileError::Io { doing: "write", path: path.to_owned(), source })
}

fn kept(key: &Key, region: Option<String>) -> SavedKey {
    let (current, former, rsa) = match &key.matter {
        Matter::Symmetric(materials) => {
            let former = materials.former.iter().map(kept_material).collect();
            (Some(kept_material(&materials.current)), former, None)
        }
        Matter::Rsa(pair) => {
            let document = pair.pkcs8().expect("every RSA key pair has a PKCS#8 form");
            (None, Vec::new(), Some(SavedPair { pkcs8: STANDARD.encode(document.as_ref()) }))
        }
    };
    SavedKey {
        id: key.id.to_string(),
        region,
        replica: key.replica,
        description: key.description.clone(),
        created: milliseconds(key.created),
        state: match key.state {
            KeyState::Enabled => SavedState::Enabled,
            KeyState::Disabled => SavedState::Disabled,
            KeyState::PendingDeletion { until } => SavedState::PendingDeletion(milliseconds(until)),
        },
        current,
        former,
        rsa,
    }
}

fn kept_material(material: &Material) -> SavedMaterial {
    SavedMaterial {
        id: STANDARD.encode(material.id.0),
        secret: STANDARD.encode(material.secret.expose()),
        rotated: material.rotated.map(milliseconds),
    }
}

fn restored(saved: &SavedKey, home: &str) -> Option<Key> {
    Some(Key {
        id: KeyId::parse(&saved.id)?,
        region: saved.region.clone().unwrap_or_else(|| home.to_owned()),
        replica: saved.replica,
        description: saved.description.clone(),
        created: Duration::from_millis(saved.created),
        state: match saved.state {
            SavedState::Enabled => KeyState::Enabled,
            SavedState::Disabled => KeyState::Disabled,
            SavedState::PendingDeletion(until) => KeyState::PendingDeletion { until: Duration::from_millis(until) },
        },
        matter: match (&saved.current, &saved.rsa) {
            (Some(current), None) => Matter::Symmetric(Materials {
                current: restored_material(current)?,
                former: saved.former.iter().map(restored_material).collect::<Option<_>>()?,
            }),
            (None, Some(pair)) => {
                let document = Zeroizing::new(STANDARD.decode(&pair.pkcs8).ok()?);
                Matter::Rsa(RsaKey::from_pkcs8(&document)?)
            }
            (Some(_), Some(_)) | (None, None) => return None,
        },
    })
}

fn restored_material(saved: &SavedMaterial) -> Option<Material> {
    let secret = Zeroizing::new(STANDARD.decode(&saved.secret).ok()?);
    Some(Material {
        id: MaterialId(STANDARD.decode(&saved.id).ok()?.try_into().ok()?),
        secret: Secret::new(secret.as_slice().try_into().ok()?),
        rotated: saved.rotated.map(Duration::from_millis),
    })
}

fn milliseconds(since_epoch: Duration) -> u64 {
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_of_version_1_is_read_and_kept_as_version_2() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kms.json");
        let id = "01234567-89ab-4cde-8f01-23456789abcd";
        let bytes = STANDARD.encode([7; 32]);
        let key = json!({
            "id": id, "description": "old", "created": 1000, "state": "Disabled",
            "current": { "id": bytes, "secret": bytes },
            "former": [{ "id": STANDARD.encode([8; 32]), "secret": bytes }],
        });
        let saved = json!({ "version": 1, "warning": "", "region": "us-east-1", "keys": [key] });
        fs::write(&path, saved.to_string()).unwrap();
        for _ in 0..2 {
            let mut store = load(&path, "us-east-1").unwrap();
            let key = store.region("us-east-1").keys.values().next().unwrap();
            assert_eq!((key.id.to_string().as_str(), key.state), (id, KeyState::Disabled));
            assert_eq!(key.materials().unwrap().former.len(), 1);
            save(&path, "us-east-1", &store).unwrap();
            assert!(fs::read_to_string(&path).unwrap().contains("\"version\": 2"));
        }
        assert!(matches!(load(&path, "eu-west-1"), Err(KeyFileError::OtherRegion { .. })));
        fs::write(&path, saved.to_string().replace("\"version\":1", "\"version\":3")).unwrap();
        assert!(matches!(load(&path, "us-east-1"), Err(KeyFileError::Malformed { .. })));
    }
}
