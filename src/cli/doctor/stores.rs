//! What the rows of a key store say of the KMS keys that they are under.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::aws::Access;
use crate::cli::failure::Failure;
use crate::cli::job::{HierarchySettings, Job, Target};
use crate::cli::keyrings;
use crate::keyring::{BranchKeyId, KeyStoreReaders};

/// The key store of the job's target, as far as its rows concern the job.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct StoreReport {
    pub(super) table: String,
    /// The KMS key that the job says; `None` when it takes that of the row.
    pub(super) kms_key: Option<String>,
    /// Rows by the KMS key that they are under, of the job's branch keys.
    pub(super) rows: BTreeMap<String, u64>,
    /// Why nobody knows.
    pub(super) unknown: Option<String>,
    #[serde(skip)]
    pub(super) access: Access,
}

/// Looks at the key stores of the job's target.
///
/// # Errors
/// [`Failure`] when the AWS configuration does not serve.
pub(super) async fn report(job: &Job) -> Result<Vec<StoreReport>, Failure> {
    let settings = match &job.target {
        Target::Plaintext => Vec::new(),
        Target::Dbesdk { keyring, .. } => keyring.hierarchies(),
    };
    let mut reports = Vec::with_capacity(settings.len());
    for settings in settings {
        reports.push(look(settings).await?);
    }
    Ok(reports)
}

async fn look(settings: &HierarchySettings) -> Result<StoreReport, Failure> {
    let branch_key = match &settings.branch_key {
        BranchKeyId::Fixed(id) => Some(id.as_str()),
        BranchKeyId::Attribute { .. } => None,
    };
    let kms_key = match &settings.readers {
        KeyStoreReaders::Strict(key) => Some(key.as_str().to_owned()),
        KeyStoreReaders::Discovery { .. } => None,
    };
    let (table, access) = (settings.table.clone(), settings.kms_access());
    let mut report = StoreReport { table, kms_key, rows: BTreeMap::new(), unknown: None, access };
    match keyrings::key_store(settings).await?.facts(branch_key).await {
        Ok(rows) => {
            for arn in rows.into_iter().filter_map(|row| row.kms_arn) {
                *report.rows.entry(arn).or_default() += 1;
            }
        }
        Err(error) => report.unknown = Some(error.to_string()),
    }
    Ok(report)
}
