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

use super::key::{Key, KeyId, KeyState, Material, MaterialId};
use super::store::Store;
use crate::crypto::Secret;

const VERSION: u32 = 1;

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
    region: String,
    keys: Vec<SavedKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedKey {
    id: String,
    description: String,
    /// Milliseconds since the Unix epoch.
    created: u64,
    state: SavedState,
    current: SavedMaterial,
    former: Vec<SavedMaterial>,
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
}

/// The store in a file; an empty one when there is no file yet.
pub(super) fn load(path: &Path, region: &str) -> Result<Store, KeyFileError> {
    let text = match fs::read(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Store::new(region)),
        Err(source) => return Err(KeyFileError::Io { doing: "read", path: path.to_owned(), source }),
    };
    let malformed = |problem: &str| KeyFileError::Malformed { path: path.to_owned(), problem: problem.to_owned() };
    // The parser's own message may quote the content; its position is enough.
    let saved: SavedStore = serde_json::from_slice(&text)
        .map_err(|error| malformed(&format!("line {}, column {}", error.line(), error.column())))?;
    if saved.version != VERSION {
        return Err(malformed(&format!("version {}, and this program knows {VERSION}", saved.version)));
    }
    if saved.region != region {
        return Err(KeyFileError::OtherRegion { path: path.to_owned(), found: saved.region, asked: region.to_owned() });
    }
    let keys: Option<Vec<Key>> = saved.keys.iter().map(restored).collect();
    Ok(Store::with_keys(region, keys.ok_or_else(|| malformed("a key is damaged"))?))
}

/// Replaces the file by the store's keys: the old file or the new one is there at every moment.
pub(super) fn save(path: &Path, store: &Store) -> Result<(), KeyFileError> {
    let saved = SavedStore {
        version: VERSION,
        warning: "Development keys in clear. They protect nothing.".to_owned(),
        region: store.region().to_owned(),
        keys: store.keys().map(kept).collect(),
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

fn kept(key: &Key) -> SavedKey {
    SavedKey {
        id: key.id.to_string(),
        description: key.description.clone(),
        created: milliseconds(key.created),
        state: match key.state {
            KeyState::Enabled => SavedState::Enabled,
            KeyState::Disabled => SavedState::Disabled,
            KeyState::PendingDeletion { until } => SavedState::PendingDeletion(milliseconds(until)),
        },
        current: kept_material(&key.current),
        former: key.former.iter().map(kept_material).collect(),
    }
}

fn kept_material(material: &Material) -> SavedMaterial {
    SavedMaterial { id: STANDARD.encode(material.id.0), secret: STANDARD.encode(material.secret.expose()) }
}

fn restored(saved: &SavedKey) -> Option<Key> {
    Some(Key {
        id: KeyId::parse(&saved.id)?,
        description: saved.description.clone(),
        created: Duration::from_millis(saved.created),
        state: match saved.state {
            SavedState::Enabled => KeyState::Enabled,
            SavedState::Disabled => KeyState::Disabled,
            SavedState::PendingDeletion(until) => KeyState::PendingDeletion { until: Duration::from_millis(until) },
        },
        current: restored_material(&saved.current)?,
        former: saved.former.iter().map(restored_material).collect::<Option<_>>()?,
    })
}

fn restored_material(saved: &SavedMaterial) -> Option<Material> {
    let secret = Zeroizing::new(STANDARD.decode(&saved.secret).ok()?);
    Some(Material {
        id: MaterialId(STANDARD.decode(&saved.id).ok()?.try_into().ok()?),
        secret: Secret::new(secret.as_slice().try_into().ok()?),
    })
}

fn milliseconds(since_epoch: Duration) -> u64 {
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
