//! Why a command did not do what was asked: the sentence, the remedy, and the exit code of every error that ends one.

use std::io;

use super::exit::Exit;
use super::job::{JobError, KeySourceError, NotReady};
use crate::aws::AwsConfigError;
use crate::keyring::{KeyArnError, KeyRefused, KeyStoreError, KeyringError};
#[cfg(feature = "local")]
use crate::local::LocalError;
use crate::pipeline::RunError;
use crate::store::{JournalError, LockError, OpenError, StoreError};

/// The end of a command that could not go on.
#[derive(Debug)]
pub enum Failure {
    /// To be told on standard error.
    Told {
        /// The exit code.
        exit: Exit,
        /// What happened, naming the thing. Never a value.
        problem: String,
        /// What to do about it, where the problem does not say so itself.
        remedy: Option<String>,
    },
    /// Whoever read standard output has gone: nobody to tell, nothing to tell.
    ReaderGone,
}

impl Failure {
    /// A failure to be told, and its remedy.
    #[must_use]
    pub fn new(exit: Exit, problem: impl ToString, remedy: impl Into<String>) -> Self {
        Self::Told { exit, problem: problem.to_string(), remedy: Some(remedy.into()) }
    }

    /// A failure whose text says what to do.
    #[must_use]
    pub fn plain(exit: Exit, problem: impl ToString) -> Self {
        Self::Told { exit, problem: problem.to_string(), remedy: None }
    }

    /// The exit code.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Told { exit, .. } => *exit,
            Self::ReaderGone => Exit::Interrupted,
        }
    }

    /// A write to standard output that failed.
    pub(super) fn of_output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::new(Exit::Fatal, format!("standard output: {error}"), "check where the output goes"),
        }
    }

    /// A read of standard input that failed.
    pub(super) fn of_input(error: &io::Error) -> Self {
        Self::new(Exit::Fatal, format!("standard input: {error}"), "check where the input comes from")
    }
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        Self::new(Exit::Usage, &error, error.remedy())
    }
}

impl From<KeySourceError> for Failure {
    fn from(error: KeySourceError) -> Self {
        let exit = match error {
            KeySourceError::Secret(_) | KeySourceError::Config(_) => Exit::Refused,
            _ => Exit::Usage,
        };
        match error.remedy() {
            Some(remedy) => Self::new(exit, &error, remedy),
            None => Self::plain(exit, error),
        }
    }
}

impl From<NotReady> for Failure {
    fn from(error: NotReady) -> Self {
        Self::new(Exit::Refused, &error, error.remedy())
    }
}

impl From<KeyStoreError> for Failure {
    fn from(error: KeyStoreError) -> Self {
        let exit = if error.may_pass() { Exit::Fatal } else { Exit::Refused };
        Self::plain(exit, error)
    }
}

/// Errors whose sentence ends in the remedy, with the exit code that they end a command with.
macro_rules! told_with_remedy {
    ($($error:ty => $exit:ident),* $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::plain(Exit::$exit, error)
            }
        }
    )*};
}

told_with_remedy! {
    AwsConfigError => Refused,
    JournalError => Fatal,
    KeyArnError => Usage,
    KeyRefused => Refused,
    KeyringError => Fatal,
    LockError => Refused,
    OpenError => Refused,
    RunError => Fatal,
    StoreError => Fatal,
}

#[cfg(feature = "local")]
impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        match &error {
            LocalError::Region { .. } => Self::plain(Exit::Usage, error),
            LocalError::Print(error) => Self::of_output(error),
            _ => Self::plain(Exit::Fatal, error),
        }
    }
}
