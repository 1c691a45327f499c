//! The keyrings that the script has made keys for, by the names that cases give them.

use std::path::Path;

use serde::Deserialize;
use toml::Table;

use crate::Failure;

/// A keyring of the file, and others to try on what it sealed.
#[derive(Deserialize)]
pub struct Entry {
    /// What seals, and opens.
    pub key: Table,
    /// What opens as well.
    #[serde(default)]
    pub readers: Vec<Table>,
    /// What does not.
    pub others: Vec<Table>,
}

impl Entry {
    /// Reads one keyring of the file.
    ///
    /// # Errors
    /// When the file cannot be read, or has no such keyring.
    pub fn read(file: &Path, name: &str) -> Result<Self, Failure> {
        let mut all: Table = std::fs::read_to_string(file)?.parse()?;
        let entry = all.remove(name).ok_or_else(|| format!("{}: no keyring {name}", file.display()))?;
        Ok(entry.try_into()?)
    }

    /// The texts of which an item's partition key is one, if that chooses its branch key.
    pub fn tenants(&self) -> Vec<String> {
        let keys = self.key.get("branch_keys").and_then(toml::Value::as_table);
        keys.map(|keys| keys.keys().cloned().collect()).unwrap_or_default()
    }

    /// Job files of a folder: `job.toml`, and with the same but for the keyring `reader-N.toml` and `other-key-N.toml`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, job: &Table, directory: &Path) -> Result<(), Failure> {
        write(job, &self.key, directory, "job")?;
        for (kind, keyrings) in [("reader", &self.readers), ("other-key", &self.others)] {
            for (index, keyring) in keyrings.iter().enumerate() {
                write(job, keyring, directory, &format!("{kind}-{index}"))?;
            }
        }
        Ok(())
    }
}

/// Writes a job file with this keyring.
///
/// # Errors
/// When it cannot be written, or there is no target in the job.
pub fn write(job: &Table, keyring: &Table, directory: &Path, name: &str) -> Result<(), Failure> {
    let mut job = job.clone();
    let partition_key = job.get("table").and_then(|table| table.get("partition_key")).cloned();
    let mut keyring = keyring.clone();
    if let (Some(attribute), Some(partition_key)) = (keyring.get_mut("branch_key_attribute"), partition_key) {
        *attribute = partition_key;
    }
    let target = job.get_mut("target").and_then(toml::Value::as_table_mut).ok_or("no [target]")?;
    target.insert("keyring".to_owned(), keyring.into());
    std::fs::write(directory.join(format!("{name}.toml")), toml::to_string(&job)?)?;
    Ok(())
}
