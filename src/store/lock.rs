//! Locks between processes of one machine: files that the operating system unlocks when their holder ends, however it
//! ends.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "{subject} is in use by another reseal{}; wait for it, or stop it (lock file {})",
        pid.map_or_else(String::new, |pid| format!(" (process {pid})")),
        path.display()
    )]
    Held {
        /// What is locked.
        subject: String,
        /// The lock file.
        path: PathBuf,
        /// The holder's process id, if it is written in the file.
        pid: Option<u32>,
    },
    /// The lock file cannot be made or locked.
    #[error("the lock file {} cannot be used: {source}; make its directory writable for this user", path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is no place for lock files.
    #[error("neither XDG_STATE_HOME nor HOME is an absolute path; set one of them")]
    NoHome,
}

/// A locked file, unlocked when dropped. The file stays: removing it would let two processes lock two files of one name.
#[derive(Debug)]
pub(super) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Takes the lock or says who has it.
    pub(super) fn acquire(path: &Path, subject: impl Into<String>) -> Result<Self, LockError> {
        let failed = |source| LockError::File { path: path.to_owned(), source };
        let mut file = private_file(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Who holds it is a courtesy; without it the message is still right.
                let pid = file.read_to_string(&mut pid).ok().and_then(|_| pid.trim().parse().ok());
                return Err(LockError::Held { subject: subject.into(), path: path.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut write_pid = || {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            writeln!(file, "{}", std::process::id())
        };
        write_pid().map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// One job at a time on one table (rule M), whatever directories the jobs keep their state in. Held until dropped.
#[derive(Debug)]
pub struct TableLock {
    _lock: FileLock,
}

impl TableLock {
    /// Locks the table for this process, with a file under the directory that [`state_home`] names.
    ///
    /// # Errors
    /// [`LockError`] when another process has it, or the file cannot be used.
    pub fn acquire(state_home: &Path, table_arn: &str, table_id: Option<&str>) -> Result<Self, LockError> {
        let digest = Sha256::digest(format!("{table_arn}\n{}", table_id.unwrap_or_default()));
        let name = digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        let directory = state_home.join("locks");
        let path = directory.join(format!("{name}.lock"));
        private_directory(&directory).map_err(|source| LockError::File { path: path.clone(), source })?;
        Ok(Self { _lock: FileLock::acquire(&path, format!("the table {table_arn}"))? })
    }
}

/// Where reseal keeps its state for this user: the directory `reseal` in `$XDG_STATE_HOME`, else in `~/.local/state` (XDG
/// Base Directory Specification).
///
/// # Errors
/// [`LockError::NoHome`] when the environment names neither.
pub fn state_home() -> Result<PathBuf, LockError> {
    state_home_in(|name| std::env::var_os(name).map(PathBuf::from))
}

fn state_home_in(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, LockError> {
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local").join("state")));
    state.map(|state| state.join("reseal")).ok_or(LockError::NoHome)
}

/// Makes a directory, and those above it, for this user alone.
pub(super) fn private_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Opens a file for reading and writing, made for this user alone if there is none.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let lock = |arn: &str, id: &str| TableLock::acquire(home.path(), arn, Some(id));
        let held = lock("arn:t", "1").unwrap();
        let refused = lock("arn:t", "1").unwrap_err();
        let LockError::Held { pid, .. } = &refused else { panic!("{refused}") };
        assert_eq!(*pid, Some(std::process::id()));
        let message = format!("the table arn:t is in use by another reseal (process {})", std::process::id());
        assert!(refused.to_string().starts_with(&message), "{refused}");
        lock("arn:t", "2").unwrap();
        lock("arn:u", "1").unwrap();
        drop(held);
        lock("arn:t", "1").unwrap();
    }

    #[test]
    fn a_place_that_cannot_be_used() {
        let home = tempfile::NamedTempFile::new().unwrap();
        let refused = TableLock::acquire(home.path(), "arn:t", None).unwrap_err();
        assert!(matches!(refused, LockError::File { .. }), "{refused}");
    }

    #[test]
    fn state_homes() {
        let cases = [
            (Some("/s"), Some("/h"), Some("/s/reseal")),
            (None, Some("/h"), Some("/h/.local/state/reseal")),
            (Some("relative"), Some("/h"), Some("/h/.local/state/reseal")),
            (Some(""), None, None),
            (None, None, None),
        ];
        for (state, home, expected) in cases {
            let variable = |name: &str| if name == "HOME" { home } else { state }.map(PathBuf::from);
            assert_eq!(state_home_in(variable).ok(), expected.map(PathBuf::from), "{state:?} {home:?}");
        }
    }
}
