//! What KMS says of the keys that matter: those of the job, those that items and key stores name, and those
//! behind aliases.

use std::collections::BTreeMap;

use serde::Serialize;

use super::stores::StoreReport;
use crate::aws::{Access, AwsConfig};
use crate::cli::failure::Failure;
use crate::cli::job::{Job, KmsKey};
use crate::cli::permissions::access_in;
use crate::keyring::{KeyArn, KeyFacts, KeyringError, KmsInquiry, Rotation};
use crate::migration::Census;

/// Keys that items name and the job does not, of which KMS is asked: whoever can write an item can name any.
const FOUND_MAX: usize = 10;

/// Where a key's name comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum NamedBy {
    Job,
    Items,
    KeyStore,
    Alias,
}

/// A KMS key, and what KMS says of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct KeyReport {
    /// Its ARN, or the alias that was asked about.
    pub(super) named: String,
    pub(super) named_by: NamedBy,
    /// Items of the sample that it can open.
    pub(super) items: u64,
    pub(super) facts: Option<KeyFacts>,
    /// `None` also for keys that KMS does not rotate.
    pub(super) rotation: Option<Rotation>,
    /// The aliases that name it now.
    pub(super) aliases: Vec<String>,
    /// What KMS did not say, and why.
    pub(super) unknown: Vec<String>,
}

/// Asks KMS about all of them. What it does not say is part of the reports.
///
/// # Errors
/// [`Failure`] when the AWS configuration does not serve.
pub(super) async fn report(
    job: &Job,
    census: &Census,
    stores: &[StoreReport],
    aliases: &[String],
) -> Result<Vec<KeyReport>, Failure> {
    let mut items: BTreeMap<&str, u64> = BTreeMap::new();
    for (recipient, count) in census.recipients() {
        if recipient.provider.starts_with("aws-kms") {
            *items.entry(&recipient.key).or_default() += count;
        }
    }
    let of_job = job.kms_keys();
    let mut named: Vec<(String, NamedBy, Access)> = Vec::new();
    for KmsKey { key, access, .. } in &of_job {
        if named.iter().all(|(known, ..)| known != key.as_str()) {
            named.push((key.as_str().to_owned(), NamedBy::Job, Access::clone(access)));
        }
    }
    let others = items.keys().filter_map(|key| KeyArn::parse(key).ok());
    let others: Vec<KeyArn> = others.filter(|key| named.iter().all(|(known, ..)| known != key.as_str())).collect();
    named.extend(
        others.iter().take(FOUND_MAX).map(|key| (key.as_str().to_owned(), NamedBy::Items, access_in(key.region()))),
    );
    for store in stores {
        for key in store.rows.keys().take(FOUND_MAX).filter_map(|key| KeyArn::parse(key).ok()) {
            if named.iter().all(|(known, ..)| known != key.as_str()) {
                let access = Access { region: Some(key.region().to_owned()), ..store.access.clone() };
                named.push((key.as_str().to_owned(), NamedBy::KeyStore, access));
            }
        }
    }
    let first = of_job.iter().map(|key| key.access).chain(stores.iter().map(|store| &store.access)).next().cloned();
    for alias in aliases {
        let region = alias.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(2));
        let access = region.map(access_in).or_else(|| first.clone()).unwrap_or_default();
        named.push((alias.clone(), NamedBy::Alias, access));
    }
    let mut reports = Vec::with_capacity(named.len());
    for (name, by, access) in named {
        let inquiry = KmsInquiry::new(&AwsConfig::load(&access).await?);
        let items = items.get(name.as_str()).copied().unwrap_or(0);
        reports.push(KeyReport::ask(&inquiry, name, by, items).await);
    }
    Ok(reports)
}

impl KeyReport {
    async fn ask(inquiry: &KmsInquiry, named: String, named_by: NamedBy, items: u64) -> Self {
        let mut unknown = Vec::new();
        let facts = or_note(inquiry.describe(&named).await, &mut unknown);
        let mut report = Self { named, named_by, items, facts, rotation: None, aliases: Vec::new(), unknown };
        if let Some(facts) = &report.facts {
            if facts.spec == "SYMMETRIC_DEFAULT" && facts.origin == "AWS_KMS" {
                report.rotation = or_note(inquiry.rotation(&facts.arn).await, &mut report.unknown);
            }
            report.aliases = or_note(inquiry.aliases(&facts.arn).await, &mut report.unknown).unwrap_or_default();
        }
        report
    }
}

fn or_note<T>(answer: Result<T, KeyringError>, unknown: &mut Vec<String>) -> Option<T> {
    answer.map_err(|error| unknown.push(error.problem)).ok()
}
