//! Readers that accept plaintext and encrypted items, and share nothing with the engine but the format.

use futures::StreamExt as _;

use super::{WorldError, key_of};
use crate::format::dbesdk::EncryptedDataKey;
use crate::item::{Item, Key};
use crate::keyring::Keyring;
use crate::migration::{Policy, Verdict};
use crate::store::{Scan, Table};

/// Items opened at once.
const AT_ONCE: usize = 64;

/// Every item of the table in plaintext.
///
/// # Errors
/// [`WorldError`] when the table cannot be read or an item does not open.
pub async fn open_all(
    table: &dyn Table,
    policy: &Policy,
    keyring: &dyn Keyring,
) -> Result<Vec<(Key, Item)>, WorldError> {
    let mut items = Vec::new();
    let mut after = None;
    loop {
        let scan = Scan { segment: 0, total_segments: 1, after, limit: None };
        let page = table.scan(&scan).await.map_err(WorldError::while_reading)?;
        let opened: Vec<_> = page.items.iter().map(|item| open(policy, keyring, item)).collect();
        let opened: Vec<_> = futures::stream::iter(opened).buffered(AT_ONCE).collect().await;
        for (item, opened) in page.items.iter().zip(opened) {
            items.push((key_of(item).map_err(WorldError::while_reading)?, opened?));
        }
        after = page.next;
        if after.is_none() {
            return Ok(items);
        }
    }
}

/// Opens one item, whatever form it has.
///
/// # Errors
/// [`WorldError`] when it does not open.
pub async fn open(policy: &Policy, keyring: &dyn Keyring, item: &Item) -> Result<Item, WorldError> {
    let sealed = match policy.classify(item).map_err(WorldError::while_reading)? {
        Verdict::Plain | Verdict::Current(None) => return Ok(item.clone()),
        Verdict::Current(Some(sealed)) | Verdict::Sealed(sealed) => sealed,
    };
    let wrapped = sealed.head.edks.first().and_then(EncryptedDataKey::wrapped);
    let wrapped = wrapped.ok_or_else(|| WorldError::while_reading("the item has no data key"))?;
    let key = keyring.unwrap(wrapped, &sealed.context).await.map_err(WorldError::while_reading)?;
    policy.open(item, &sealed, 0, &key).map_err(WorldError::while_reading)
}
