//! Whether KMS lets the caller do what the job needs, asked by dry runs under the encryption contexts of real items:
//! policies may depend on them, and do not show otherwise.

use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;
use super::job::{Job, KeyringSettings, Target};
use super::sample::Sample;
use crate::aws::{Access, AwsConfig};
use crate::crypto::EncryptionContext;
use crate::keyring::{KeyArn, KeyringClass, KeyringError, KmsInquiry};

/// What a job does with a KMS key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Operation {
    GenerateDataKey,
    Decrypt,
}

/// Leave to do something with a key, and what KMS said to it.
#[derive(Debug)]
pub(super) struct Permission {
    pub(super) operation: Operation,
    pub(super) key: String,
    /// Items for whose contexts KMS was asked.
    pub(super) asked: usize,
    /// For how many of them it refused, and the last refusal.
    pub(super) refused: usize,
    pub(super) refusal: Option<KeyringError>,
    /// Why nobody knows, for the last item for which it is so.
    pub(super) unknown: Option<KeyringError>,
}

impl Permission {
    /// Whether there is no item for which it was given, and one for which it was refused.
    pub(super) const fn is_refused(&self) -> bool {
        self.refused > 0 && self.refused == self.asked
    }

    fn new(operation: Operation, key: &KeyArn) -> Self {
        let key = key.as_str().to_owned();
        Self { operation, key, asked: 0, refused: 0, refusal: None, unknown: None }
    }

    /// Whether it was given.
    fn note(&mut self, answer: Result<(), KeyringError>) -> bool {
        self.asked += 1;
        let Err(error) = answer else { return true };
        match error.class {
            KeyringClass::Denied | KeyringClass::Key => {
                self.refused += 1;
                self.refusal = Some(error);
            }
            _ => self.unknown = Some(error),
        }
        false
    }
}

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thoroughness {
    /// Until KMS gives leave for one item: one request for each key and operation, if all is well.
    UntilGiven,
    /// For every example of the sample.
    EveryExample,
}

/// Asks KMS for everything that the job needs of it. Without any item there is nothing to ask.
///
/// # Errors
/// [`Failure`] when the AWS configuration does not serve.
pub(super) async fn ask(
    job: &Job,
    sample: &Sample,
    thoroughness: Thoroughness,
) -> Result<Vec<Permission>, Failure> {
    let mut permissions: Vec<Permission> = Vec::new();
    let target = match &job.target {
        Target::Plaintext => Vec::new(),
        Target::Dbesdk { keyring, .. } => keyring.kms_keys(),
    };
    let sources = job.source.keyrings.iter().flat_map(KeyringSettings::kms_keys);
    let wanted = target
        .iter()
        .map(|key| (Operation::GenerateDataKey, *key))
        .chain(target.iter().copied().chain(sources).map(|key| (Operation::Decrypt, key)));
    for (operation, (key, access)) in wanted {
        if permissions.iter().any(|known| known.operation == operation && known.key == key.as_str()) {
            continue;
        }
        let inquiry = KmsInquiry::new(&AwsConfig::load(access).await?);
        let mut permission = Permission::new(operation, key);
        for (wrapped, context) in examples(operation, key, sample) {
            let answer = match operation {
                Operation::GenerateDataKey => inquiry.may_generate(key.as_str(), context).await,
                Operation::Decrypt => inquiry.may_decrypt(key.as_str(), wrapped, context).await,
            };
            if permission.note(answer) && thoroughness == Thoroughness::UntilGiven {
                break;
            }
        }
        permissions.push(permission);
    }
    Ok(permissions)
}

/// Whether the caller may do what the job needs, before anything is begun. What KMS does not say is not held against the
/// run: it will find out.
///
/// # Errors
/// [`Failure`] when KMS refuses something for every item that was asked for.
pub(super) async fn demand(job: &Job, sample: &Sample) -> Result<(), Failure> {
    let permissions = ask(job, sample, Thoroughness::UntilGiven).await?;
    match permissions.into_iter().find(Permission::is_refused).and_then(|permission| permission.refusal) {
        Some(refusal) => Err(Failure::plain(Exit::Refused, refusal)),
        None => Ok(()),
    }
}

/// What KMS is asked about: wrapped keys of items and their contexts; where there are none, the contexts alone.
fn examples<'a>(
    operation: Operation,
    key: &KeyArn,
    sample: &'a Sample,
) -> Vec<(Option<&'a [u8]>, &'a EncryptionContext)> {
    let own = sample.wrapped.iter().filter(|(recipient, _)| recipient.key == key.as_str());
    let own: Vec<_> =
        own.flat_map(|(_, wrapped)| wrapped).map(|(wrapped, context)| (Some(wrapped.as_slice()), context)).collect();
    if operation == Operation::Decrypt && !own.is_empty() {
        return own;
    }
    sample.contexts.iter().map(|context| (None, context)).collect()
}

/// The configuration with which a key that no keyring of the job names is asked about.
pub(super) fn access_in(region: &str) -> Access {
    Access { region: Some(region.to_owned()), ..Access::default() }
}
