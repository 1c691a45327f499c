//! The hierarchical keyring: keys wrapped under branch keys that are kept for a time, so that hardly any item costs a
//! request (AWS Material Providers Library specification, `aws-kms-hierarchical-keyring.md`).

mod branch_key;
mod cache;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use uuid::Uuid;

use super::keystore::{BranchKey, KeyStore, KeyStoreError};
use super::{Keyring, KeyringCall, KeyringClass, KeyringError, Matching, Recipient, Wanted, WrappedKey, WrappedRef};
use crate::crypto::{EncryptionContext, Secret};
use crate::format::dbesdk;
use crate::item::Value;
use branch_key::{PROVIDER_ID, WRAPPED_BYTES};
use cache::Cache;

/// The most verdicts on versions that are remembered, for each branch key that may be kept.
const VERDICTS_PER_KEY: usize = 16;

/// Which branch key an item is sealed under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BranchKeyId {
    /// The same for every item.
    Fixed(String),
    /// The one that an attribute of the item names. It has to be part of the encryption context: that is all that a
    /// keyring, ours and AWS's, sees of an item.
    Attribute {
        /// The attribute: a text or a number.
        name: String,
        /// The branch key of each value; if there are none, the value is the branch key's id.
        ids: HashMap<String, String>,
    },
}

impl BranchKeyId {
    /// The branch key's id, or where it comes from.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::Fixed(id) => id.clone(),
            Self::Attribute { name, .. } => format!("the branch key that the attribute {name:?} names"),
        }
    }

    /// Who keys are wrapped for, and which keys of items count as theirs: any branch key's, until the keyring looks.
    #[must_use]
    pub fn recipient(&self) -> Wanted {
        let recipient = Recipient { provider: PROVIDER_ID.to_owned(), key: self.in_words() };
        Wanted { recipient, matching: Matching::Provider }
    }
}

/// How long branch keys are kept in memory, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepBranchKeys {
    /// How long; then the key store is asked again. A new version is used after this time at the latest.
    pub time_to_live: Duration,
    /// How many, ACTIVE and older versions together.
    pub most: usize,
}

/// A keyring over the branch keys of a key store.
#[derive(Debug)]
pub struct Hierarchy {
    /// Shared with loads under way, which belong to whoever waits for them.
    shared: Arc<Shared>,
    recipients: [Wanted; 1],
}

/// One row of the key store that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    id: String,
    /// `None` stands for ACTIVE.
    version: Option<Uuid>,
}

struct Shared {
    store: KeyStore,
    choice: BranchKeyId,
    keys: Cache<Place, BranchKey>,
    /// Of branch key and version: whether items under it are at target.
    verdicts: Cache<(String, Uuid), bool>,
    /// What was ACTIVE since this keyring was made, by branch key.
    seen: Mutex<HashMap<String, Seen>>,
}

/// The versions of one branch key that were ACTIVE since this keyring was made.
struct Seen {
    versions: Vec<Uuid>,
    /// The time at which the first of them was made.
    first_created: String,
}

impl Hierarchy {
    /// A keyring over the branch keys of a key store. Sends nothing.
    #[must_use]
    pub fn new(store: KeyStore, branch_key: BranchKeyId, keep: KeepBranchKeys) -> Self {
        let recipients = [branch_key.recipient()];
        let shared = Shared {
            store,
            choice: branch_key,
            keys: Cache::new(keep.time_to_live, keep.most),
            verdicts: Cache::new(Duration::MAX, keep.most.saturating_mul(VERDICTS_PER_KEY)),
            seen: Mutex::default(),
        };
        Self { shared: Arc::new(shared), recipients }
    }

    /// Looks whether the key store can be used: with one branch key for all items, by loading it.
    ///
    /// # Errors
    /// [`KeyStoreError`] with the reason and the remedy.
    pub async fn examine(&self) -> Result<(), KeyStoreError> {
        match &self.shared.choice {
            BranchKeyId::Fixed(id) => self.shared.store.active(id).await.map(drop),
            BranchKeyId::Attribute { .. } => self.shared.store.probe().await,
        }
    }

    /// The requests to KMS so far: one for each load of a branch key.
    #[must_use]
    pub fn kms_requests(&self) -> u64 {
        self.shared.store.kms_requests()
    }

    /// How often a branch key was seen to get a new ACTIVE version since this keyring was made.
    #[must_use]
    pub fn moves(&self) -> usize {
        self.shared.seen().values().map(|seen| seen.versions.len() - 1).sum()
    }

    /// The branch key that items with this context belong to.
    fn id_for(&self, context: &EncryptionContext) -> Result<String, KeyringError> {
        let (name, ids) = match &self.shared.choice {
            BranchKeyId::Fixed(id) => return Ok(id.clone()),
            BranchKeyId::Attribute { name, ids } => (name, ids),
        };
        let refuse = |problem: &str| {
            let problem = format!("the attribute \"{name}\" names the item's branch key, {problem}");
            KeyringError { class: KeyringClass::Item, key: self.name(), problem }
        };
        let text = match dbesdk::attribute(context, name) {
            Some(Value::String(text)) => text,
            Some(Value::Number(number)) => number.canonical(),
            Some(_) => return Err(refuse("and is neither text nor number; give the item one")),
            None => {
                return Err(refuse(
                    "and the encryption context lacks it; give the item the attribute, and make it a \
                                   key or SIGN_AND_INCLUDE_IN_ENCRYPTION_CONTEXT",
                ));
            }
        };
        match ids.get(&text) {
            Some(id) => Ok(id.clone()),
            None if !ids.is_empty() => Err(refuse("and its value is not among branch_keys; add it there")),
            None if text.is_empty() => Err(refuse("and is empty; give the item one")),
            None => Ok(text),
        }
    }

    fn name(&self) -> String {
        format!("key store {}", self.shared.store.table())
    }

    fn refused(&self, id: &str, problem: &str) -> KeyringError {
        KeyringError {
            class: KeyringClass::Item,
            key: format!("{} branch key {id}", self.name()),
            problem: problem.to_owned(),
        }
    }

    fn is_own(found: WrappedRef<'_>) -> bool {
        found.provider_id == PROVIDER_ID && found.ciphertext.len() == WRAPPED_BYTES
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A branch key from memory, or from the key store.
    async fn branch_key(self: &Arc<Self>, place: Place) -> Result<Arc<BranchKey>, KeyringError> {
        let (shared, wanted) = (Arc::clone(self), place.clone());
        self.keys.get(&place, || async move { shared.load(&wanted).await }.boxed()).await
    }

    async fn active(self: &Arc<Self>, id: &str) -> Result<Arc<BranchKey>, KeyringError> {
        self.branch_key(Place { id: id.to_owned(), version: None }).await
    }

    async fn load(&self, Place { id, version }: &Place) -> Result<BranchKey, KeyringError> {
        // Versions are always read from rows of their own, as every reader does, even if ACTIVE is the same key.
        let (loaded, alone) = match version {
            Some(version) => (self.store.version(id, *version).await, KeyringClass::Item),
            None => (self.store.active(id).await, self.class_of_active()),
        };
        let key = loaded.map_err(|error| KeyringError {
            class: error.class(alone),
            key: format!("branch key {id}"),
            problem: error.to_string(),
        })?;
        if version.is_none() {
            let mut seen = self.seen();
            let first_created = || Seen { versions: Vec::new(), first_created: key.created.clone() };
            let seen = seen.entry(id.clone()).or_insert_with(first_created);
            if seen.versions.last() != Some(&key.version) {
                seen.versions.push(key.version);
            }
        }
        Ok(key)
    }

    /// Without the branch key of all items nothing can be done; without that of some, others can.
    const fn class_of_active(&self) -> KeyringClass {
        match self.choice {
            BranchKeyId::Fixed(_) => KeyringClass::Key,
            BranchKeyId::Attribute { .. } => KeyringClass::Item,
        }
    }

    fn was_active(&self, id: &str, version: Uuid) -> bool {
        self.seen().get(id).is_some_and(|seen| seen.versions.contains(&version))
    }

    /// Whether items under a version are at target: it is ACTIVE, or was since this keyring was made, or is newer than
    /// what was ACTIVE then. Costs at most three loads, once for each version.
    async fn judge(self: &Arc<Self>, id: &str, version: Uuid) -> Result<bool, KeyringError> {
        self.active(id).await?;
        if self.was_active(id, version) {
            return Ok(true);
        }
        let found = self.branch_key(Place { id: id.to_owned(), version: Some(version) }).await?;
        // Somebody may have made it ACTIVE since ours was read.
        self.keys.forget(&Place { id: id.to_owned(), version: None });
        self.active(id).await?;
        let newer = self.seen().get(id).is_some_and(|seen| found.is_newer_than(&seen.first_created));
        Ok(newer || self.was_active(id, version))
    }
}

/// The key store and which branch keys; nothing of what is kept.
impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let table = self.store.table();
        f.debug_struct("Shared").field("table", &table).field("choice", &self.choice).finish_non_exhaustive()
    }
}

#[async_trait]
impl Keyring for Hierarchy {
    fn recipients(&self) -> &[Wanted] {
        &self.recipients
    }

    fn accepts(&self, found: WrappedRef<'_>) -> bool {
        Self::is_own(found)
            && match &self.shared.choice {
                BranchKeyId::Fixed(id) => found.provider_info == id.as_bytes(),
                BranchKeyId::Attribute { .. } => true,
            }
    }

    fn requests(&self, _: KeyringCall) -> u32 {
        0
    }

    fn looks_deeper(&self) -> bool {
        true
    }

    async fn is_current(&self, found: &[WrappedRef<'_>], context: &EncryptionContext) -> Result<bool, KeyringError> {
        let id = self.id_for(context)?;
        let [found] = found else { return Ok(false) };
        let version = branch_key::version_of(found.ciphertext).filter(|_| Self::is_own(*found));
        let (true, Some(version)) = (found.provider_info == id.as_bytes(), version) else { return Ok(false) };
        let shared = Arc::clone(&self.shared);
        let place = (id.clone(), version);
        let judged = self.shared.verdicts.get(&place, || async move { shared.judge(&id, version).await }.boxed()).await;
        judged.map(|verdict| *verdict)
    }

    async fn moved(&self) -> Result<Option<String>, KeyringError> {
        let seen = self.shared.seen();
        let moved: Vec<&str> =
            seen.iter().filter(|(_, seen)| seen.versions.len() > 1).map(|(id, _)| id.as_str()).collect();
        let sealed_before = "items that were sealed before are under the version before";
        Ok((!moved.is_empty()).then(|| format!("branch key {} got a new version; {sealed_before}", moved.join(", "))))
    }

    async fn generate(&self, context: &EncryptionContext) -> Result<Vec<WrappedKey>, KeyringError> {
        let id = self.id_for(context)?;
        let active = self.shared.active(&id).await?;
        let key = Secret::random();
        let ciphertext = branch_key::wrap(&active, &key, context).ok_or_else(|| self.refused(&id, CONTEXT_TOO_LONG))?;
        let provider_info = id.into_bytes();
        Ok(vec![WrappedKey { provider_id: PROVIDER_ID.to_owned(), provider_info, ciphertext, key }])
    }

    async fn unwrap(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Result<Secret, KeyringError> {
        let id = self.id_for(context)?;
        if found.provider_info != id.as_bytes() {
            return Err(self.refused(
                &id,
                "the item is sealed under another branch key than it names; add a keyring for that one to \
                 source.keyrings",
            ));
        }
        let version = branch_key::version_of(found.ciphertext).filter(|_| Self::is_own(found));
        let version = version.ok_or_else(|| self.refused(&id, DAMAGED))?;
        let key = self.shared.branch_key(Place { id: id.clone(), version: Some(version) }).await?;
        branch_key::unwrap(&key, found.ciphertext, context).ok_or_else(|| self.refused(&id, DAMAGED))
    }
}

const CONTEXT_TOO_LONG: &str = "the encryption context is too long; include fewer attributes";
const DAMAGED: &str = "the wrapped key is damaged, or belongs to other attributes of the encryption context";
