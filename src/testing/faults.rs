//! Services that fail as a script says: a table and a keyring whose every call is asked about first.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::MemoryTable;
use crate::crypto::EncryptionContext;
use crate::item::{Item, Key};
use crate::keyring::{Keyring, KeyringCall, KeyringClass, KeyringError, Secret, Wanted, WrappedKey, WrappedRef};
use crate::migration::Rewrite;
use crate::store::{Answer, Page, Scan, StoreClass, StoreError, Table, Units, Update, Via};

/// A call that is about to reach the table.
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// A page of a scan.
    Scan(&'a Scan),
    /// One item by its key.
    Get(&'a Key),
    /// Rewrites; the probe of the ground is one.
    Update(&'a [Rewrite], Via),
}

/// What becomes of a call to the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableFault {
    /// Nothing unusual.
    None,
    /// It fails with this class and has no effect.
    Refused(StoreClass),
    /// Of an update: the first so many rewrites go on, the others fail with this class and have no effect.
    RefusedAfter(usize, StoreClass),
    /// Of an update: it is carried out, and its answer is lost.
    AnswerLost,
    /// Of an update: failed conditions come back without the item.
    WithoutItem,
    /// Of an update: every rewrite is applied, whatever its condition.
    ConditionsIgnored,
    /// Of an update: nothing is applied, and every condition is said to have failed, with the item as it is.
    ConditionsFail,
    /// It has no effect and never ends.
    Hangs,
}

type TableScript = dyn FnMut(&MemoryTable, Call<'_>) -> TableFault + Send;

/// A table in memory that fails as a script says. The script sees the table as applications do, so that it can act as
/// one of them just before a call takes effect.
pub struct FaultyTable {
    table: Arc<MemoryTable>,
    script: Mutex<Box<TableScript>>,
}

impl std::fmt::Debug for FaultyTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyTable").field("table", &self.table).finish_non_exhaustive()
    }
}

impl FaultyTable {
    /// The table, with a script that is asked before every call.
    pub fn new(
        table: Arc<MemoryTable>,
        script: impl FnMut(&MemoryTable, Call<'_>) -> TableFault + Send + 'static,
    ) -> Self {
        Self { table, script: Mutex::new(Box::new(script)) }
    }

    fn ask(&self, call: Call<'_>) -> TableFault {
        (self.script.lock().unwrap_or_else(PoisonError::into_inner))(&self.table, call)
    }

    /// An update of which nothing but a part that goes on has an effect.
    async fn partly(&self, rewrites: &[Rewrite], via: Via, first: usize, class: &StoreClass) -> Update {
        let (on, refused) = rewrites.split_at(first.min(rewrites.len()));
        let mut update = self.table.update(on, via).await;
        update.answers.extend(refused.iter().map(|_| Answer::Failed(error("update", class.clone()))));
        update.requests = update.requests.max(1);
        update
    }
}

fn error(operation: &'static str, class: StoreClass) -> StoreError {
    StoreError { operation, class, problem: "planted".to_owned() }
}

#[async_trait]
impl Table for FaultyTable {
    async fn scan(&self, scan: &Scan) -> Result<Page, StoreError> {
        match self.ask(Call::Scan(scan)) {
            TableFault::Refused(class) => Err(error("scan", class)),
            TableFault::Hangs => std::future::pending().await,
            _ => self.table.scan(scan).await,
        }
    }

    async fn get(&self, key: &Key) -> Result<(Option<Item>, Units), StoreError> {
        match self.ask(Call::Get(key)) {
            TableFault::Refused(class) => Err(error("get", class)),
            TableFault::Hangs => std::future::pending().await,
            _ => self.table.get(key).await,
        }
    }

    async fn update(&self, rewrites: &[Rewrite], via: Via) -> Update {
        match self.ask(Call::Update(rewrites, via)) {
            TableFault::None => self.table.update(rewrites, via).await,
            TableFault::Hangs => std::future::pending().await,
            TableFault::Refused(class) => self.partly(rewrites, via, 0, &class).await,
            TableFault::RefusedAfter(first, class) => self.partly(rewrites, via, first, &class).await,
            TableFault::AnswerLost => {
                let mut update = self.table.update(rewrites, via).await;
                update.answers.fill_with(|| Answer::Failed(error("update", StoreClass::Unknown)));
                update.unreported += update.units.take().unwrap_or(0.0);
                update
            }
            TableFault::WithoutItem => {
                let mut update = self.table.update(rewrites, via).await;
                for answer in &mut update.answers {
                    if let Answer::ConditionFailed(item) = answer {
                        *item = None;
                    }
                }
                update
            }
            TableFault::ConditionsIgnored => {
                let blind = |rewrite: &Rewrite| Rewrite { condition: Vec::new(), ..rewrite.clone() };
                self.table.update(&rewrites.iter().map(blind).collect::<Vec<_>>(), via).await
            }
            TableFault::ConditionsFail => Update {
                answers: rewrites
                    .iter()
                    .map(|rewrite| Answer::ConditionFailed(self.table.peek(&rewrite.key).map(Box::new)))
                    .collect(),
                units: None,
                unreported: rewrites.len() as f64,
                requests: 1,
            },
        }
    }
}

/// A call that is about to reach a keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyCall {
    /// A fresh key.
    Generate,
    /// A wrapped key.
    Unwrap,
}

/// What becomes of a call to a keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFault {
    /// Nothing unusual.
    None,
    /// It fails with this class.
    Refused(KeyringClass),
    /// The key given back is not the one that was wrapped.
    OtherKey,
    /// Of a fresh key: what was wrapped is damaged.
    Damaged,
}

type KeyScript = dyn FnMut(KeyCall) -> KeyFault + Send;

/// A keyring that fails as a script says, and counts as one that makes a request per call.
pub struct FaultyKeyring {
    keyring: Arc<dyn Keyring>,
    script: Mutex<Box<KeyScript>>,
}

impl std::fmt::Debug for FaultyKeyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyKeyring").field("keyring", &self.keyring).finish_non_exhaustive()
    }
}

impl FaultyKeyring {
    /// The keyring, with a script that is asked before every call.
    pub fn new(keyring: Arc<dyn Keyring>, script: impl FnMut(KeyCall) -> KeyFault + Send + 'static) -> Self {
        Self { keyring, script: Mutex::new(Box::new(script)) }
    }

    fn ask(&self, call: KeyCall) -> Result<KeyFault, KeyringError> {
        match (self.script.lock().unwrap_or_else(PoisonError::into_inner))(call) {
            KeyFault::Refused(class) => {
                Err(KeyringError { class, key: "planted".to_owned(), problem: "planted".to_owned() })
            }
            fault => Ok(fault),
        }
    }
}

#[async_trait]
impl Keyring for FaultyKeyring {
    fn recipients(&self) -> &[Wanted] {
        self.keyring.recipients()
    }

    fn accepts(&self, found: WrappedRef<'_>) -> bool {
        self.keyring.accepts(found)
    }

    fn requests(&self, _: KeyringCall) -> u32 {
        1
    }

    fn looks_deeper(&self) -> bool {
        self.keyring.looks_deeper()
    }

    async fn is_current(&self, found: &[WrappedRef<'_>], context: &EncryptionContext) -> Result<bool, KeyringError> {
        self.keyring.is_current(found, context).await
    }

    async fn generate(&self, context: &EncryptionContext) -> Result<Vec<WrappedKey>, KeyringError> {
        let fault = self.ask(KeyCall::Generate)?;
        let mut made = self.keyring.generate(context).await?;
        for wrapped in &mut made {
            match fault {
                KeyFault::OtherKey => wrapped.key = Secret::random(),
                KeyFault::Damaged => wrapped.ciphertext.reverse(),
                _ => {}
            }
        }
        Ok(made)
    }

    async fn unwrap(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Result<Secret, KeyringError> {
        match self.ask(KeyCall::Unwrap)? {
            KeyFault::OtherKey => Ok(Secret::random()),
            _ => self.keyring.unwrap(found, context).await,
        }
    }
}
