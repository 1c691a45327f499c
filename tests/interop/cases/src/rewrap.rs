//! Job files that move a table's items from one keyring to another, and what such a move may change.

use std::path::Path;

use serde_json::{Map, Value as Json};
use toml::{Table, Value as Toml};

use crate::Failure;
use crate::compare::binary;
use crate::generate::suite;
use crate::keyrings::{self, Entry};

/// Bytes of the head's version and flavor, and of the message id behind them.
const FLAVOR_END: usize = 2;
const MESSAGE_ID_END: usize = FLAVOR_END + 32;

/// Writes the job files of the move into a directory: those of the target ([`Entry::write`]), and `other-source.toml` with
/// the source's keyring.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write(job: &Path, from: &Entry, to: &Entry, ecdsa: bool, directory: &Path) -> Result<(), Failure> {
    let mut job: Table = std::fs::read_to_string(job)?.parse()?;
    std::fs::create_dir_all(directory)?;
    keyrings::write(&job, &from.key, directory, "other-source")?;
    let mut target = |field: &str, word: String| {
        let target = job.get_mut("target").and_then(Toml::as_table_mut).ok_or("no [target]")?;
        target.insert(field.to_owned(), word.into());
        Ok::<_, Failure>(job.clone())
    };
    // Readers know the target's keyring alone; the move's job has the source's as well.
    to.write(&target("suite", suite(ecdsa))?, directory)?;
    let mut job = target("depth", "rewrap".to_owned())?;
    let mut source = Table::from_iter([("formats".to_owned(), Toml::from(vec!["dbesdk"]))]);
    source.insert("keyrings".to_owned(), vec![from.key.clone()].into());
    job.insert("source".to_owned(), source.into());
    keyrings::write(&job, &to.key, directory, "move")
}

/// Fails unless head and foot alone have changed, and the message id in the head has not.
///
/// # Errors
/// Names the attribute.
pub fn check(before: &Map<String, Json>, after: &Map<String, Json>) -> Result<(), Failure> {
    if !before.keys().eq(after.keys()) {
        return Err("attributes came or went".into());
    }
    for (name, value) in before {
        let written = name == "aws_dbe_head" || name == "aws_dbe_foot";
        if written == (after[name] == *value) {
            return Err(format!("{name:?} was {}", if written { "not written" } else { "changed" }).into());
        }
    }
    let id = |item: &Map<String, Json>| {
        let head = binary(&item["aws_dbe_head"])?;
        Ok::<_, Failure>(head.get(FLAVOR_END..MESSAGE_ID_END).ok_or("a short head")?.to_vec())
    };
    if id(before)? == id(after)? { Ok(()) } else { Err("another message id".into()) }
}
