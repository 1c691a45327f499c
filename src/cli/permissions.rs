//! Whether KMS lets the caller do what the job needs, asked by dry runs under the encryption contexts of real items:
//! policies may depend on them, and do not show otherwise.

use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;
use super::job::{Job, KeyringSettings, KmsKey, Target};
use super::sample::Sample;
use crate::aws::{Access, AwsConfig};
use crate::crypto::{EncryptionContext, Recipient, same_key_in_any_region};
use crate::keyring::{
    AWS_KMS, AWS_KMS_RSA, KeyArn, KeyringClass, KeyringError, KmsInquiry, KmsRsaPadding, WrappedUnder,
};

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

/// A question: may the caller do this with the key?
struct Question {
    operation: Operation,
    key: KeyArn,
    access: Access,
    any_region: bool,
    rsa: Option<KmsRsaPadding>,
}

/// Asks KMS for everything that the job needs of it. Without any item there is nothing to ask.
///
/// # Errors
/// [`Failure`] when the AWS configuration does not serve.
pub(super) async fn ask(job: &Job, sample: &Sample, thoroughness: Thoroughness) -> Result<Vec<Permission>, Failure> {
    let mut permissions: Vec<Permission> = Vec::new();
    for question in questions(job, sample).await? {
        let Question { operation, key, access, .. } = &question;
        if permissions.iter().any(|known| known.operation == *operation && known.key == key.as_str()) {
            continue;
        }
        let inquiry = KmsInquiry::new(&AwsConfig::load(access).await?);
        let mut permission = Permission::new(*operation, key);
        for (wrapped, context) in examples(&question, sample) {
            let under = question.rsa.map_or(WrappedUnder::Context(context), WrappedUnder::Rsa);
            let answer = match operation {
                Operation::GenerateDataKey => inquiry.may_generate(key.as_str(), context).await,
                Operation::Decrypt => inquiry.may_decrypt(key.as_str(), wrapped, under).await,
            };
            if permission.note(answer) && thoroughness == Thoroughness::UntilGiven {
                break;
            }
        }
        permissions.push(permission);
    }
    Ok(permissions)
}

/// What the job needs: data keys of the target's symmetric keys (RSA keys wrap without KMS), and everything unwrapped that
/// it may find.
async fn questions(job: &Job, sample: &Sample) -> Result<Vec<Question>, Failure> {
    let target = match &job.target {
        Target::Plaintext => Vec::new(),
        Target::Dbesdk { keyring, .. } => keyring.kms_keys(),
    };
    let question = |operation, KmsKey { key, access, any_region, rsa }| Question {
        operation,
        key: KeyArn::clone(key),
        access: Access::clone(access),
        any_region,
        rsa,
    };
    let generate = target.into_iter().filter(|key| key.rsa.is_none());
    let mut questions: Vec<Question> = generate.map(|key| question(Operation::GenerateDataKey, key)).collect();
    questions.extend(job.kms_keys().into_iter().map(|key| question(Operation::Decrypt, key)));
    for (filter, access) in job.source.keyrings.iter().flat_map(KeyringSettings::discoveries) {
        let config = AwsConfig::load(access).await?;
        let region = config.region().unwrap_or_default();
        let found = sample.wrapped.keys().filter(|recipient| recipient.provider == AWS_KMS);
        questions.extend(found.filter_map(|recipient| filter.key_in(region, &recipient.key)).map(|key| Question {
            operation: Operation::Decrypt,
            key,
            access: access.clone(),
            any_region: true,
            rsa: None,
        }));
    }
    Ok(questions)
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
fn examples<'a>(question: &Question, sample: &'a Sample) -> Vec<(Option<&'a [u8]>, &'a EncryptionContext)> {
    let Question { operation, key, any_region, rsa, .. } = question;
    let provider = if rsa.is_some() { AWS_KMS_RSA } else { AWS_KMS };
    let own = |found: &Recipient| {
        let same = found.key == key.as_str() || *any_region && same_key_in_any_region(&found.key, key.as_str());
        found.provider == provider && same
    };
    let own = sample.wrapped.iter().filter(|(recipient, _)| own(recipient)).flat_map(|(_, wrapped)| wrapped);
    let own: Vec<_> = own.map(|(wrapped, context)| (Some(wrapped.as_slice()), context)).collect();
    if *operation == Operation::Decrypt && !own.is_empty() {
        return own;
    }
    sample.contexts.iter().map(|context| (None, context)).collect()
}

/// The configuration with which a key that no keyring of the job names is asked about.
pub(super) fn access_in(region: &str) -> Access {
    Access { region: Some(region.to_owned()), ..Access::default() }
}
