//! What stands against a run on this table, decided from the job and from what the service says of the table.

use crate::cli::job::{Job, Target};
use crate::format::{Action, Schema};
use crate::item::KeyNames;
use crate::store::{Capacity, IndexFacts, Known, Projection, Replication, TableFacts};

/// A reason not to run, with its remedy.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Objection {
    /// What is wrong, naming the field, index or attribute.
    pub(super) problem: String,
    /// What to do about it.
    pub(super) remedy: String,
}

/// What was found before anything is read: objections refuse the run, warnings are told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    pub(super) objections: Vec<Objection>,
    pub(super) warnings: Vec<String>,
}

impl Findings {
    fn object(&mut self, problem: impl Into<String>, remedy: impl Into<String>) {
        self.objections.push(Objection { problem: problem.into(), remedy: remedy.into() });
    }

    fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }
}

/// Examines a table for a job.
pub(super) fn examine(job: &Job, facts: &TableFacts) -> Findings {
    let mut findings = Findings::default();
    state(&mut findings, facts);
    keys(&mut findings, &job.schema.keys, facts);
    if job.target != Target::Plaintext {
        indexes(&mut findings, job, facts);
        ttl(&mut findings, job, facts);
    }
    replication(&mut findings, job, facts);
    surroundings(&mut findings, job, facts);
    findings
}

fn state(findings: &mut Findings, facts: &TableFacts) {
    if facts.status != "ACTIVE" {
        findings.object(format!("the table is {}, not ACTIVE", facts.status), "wait until it is ACTIVE, and run again");
    }
}

fn keys(findings: &mut Findings, names: &KeyNames, facts: &TableFacts) {
    let found: Vec<&str> = facts.keys.iter().map(|key| key.name.as_str()).collect();
    let configured: Vec<&str> = names.iter().collect();
    if found != configured {
        findings.object(
            format!("the table's key is {}, the job's is {}", found.join(" and "), configured.join(" and ")),
            "mend table.partition_key and table.sort_key",
        );
    }
}

fn indexes(findings: &mut Findings, job: &Job, facts: &TableFacts) {
    for IndexFacts { name, keys, projection, .. } in &facts.indexes {
        for key in keys.iter().filter(|key| encrypts(&job.schema, key)) {
            findings.object(
                format!("attributes.{key}: \"{key}\" is a key of the index \"{name}\" and cannot be encrypted"),
                "make it SIGN_ONLY, or delete the index first",
            );
        }
        let Projection::Include(included) = projection else { continue };
        let torn: Vec<&str> = included.iter().filter(|a| encrypts(&job.schema, a)).map(String::as_str).collect();
        if !torn.is_empty() && !job.acknowledged.partial_indexes.contains(name) {
            findings.object(
                format!(
                    "the index \"{name}\" copies the encrypted {} without the whole item: its readers would see \
                     ciphertext that they cannot open",
                    torn.join(", ")
                ),
                format!("project all attributes, or add \"partial-index:{name}\" to table.acknowledge"),
            );
        }
    }
}

fn ttl(findings: &mut Findings, job: &Job, facts: &TableFacts) {
    match &facts.ttl {
        Known::Unknown(why) => {
            findings.warn(format!("whether the table has a TTL attribute is unknown ({why}); never encrypt it"));
        }
        Known::Known(Some(ttl)) if encrypts(&job.schema, &ttl.attribute) => findings.object(
            format!("attributes.{0}: \"{0}\" is the TTL attribute: encrypted, no item would expire", ttl.attribute),
            "make it DO_NOTHING and declare it unsigned",
        ),
        Known::Known(Some(ttl)) if job.schema.in_scope(&ttl.attribute) && !job.acknowledged.signed_ttl => {
            findings.object(
                format!(
                    "attributes.{0}: \"{0}\" is the TTL attribute and would be signed: an application that extends it \
                     with UpdateItem breaks the item's signature",
                    ttl.attribute
                ),
                "make it DO_NOTHING and declare it unsigned, or, if only PutItem changes it, add \"signed-ttl\" to \
                 table.acknowledge",
            );
        }
        Known::Known(_) => {}
    }
}

fn replication(findings: &mut Findings, job: &Job, facts: &TableFacts) {
    if facts.replication == Some(Replication::Eventual) && !job.acknowledged.last_writer_wins {
        let regions: Vec<&str> = facts.replicas.iter().map(|replica| replica.region.as_str()).collect();
        findings.object(
            format!(
                "the table replicates to {} with eventual consistency: a write there can be lost to a rewrite here that \
                 no condition can see",
                regions.join(", ")
            ),
            "let applications write in this Region only for the time of the run, and add \"last-writer-wins\" to \
             table.acknowledge",
        );
    }
}

fn surroundings(findings: &mut Findings, job: &Job, facts: &TableFacts) {
    match &facts.point_in_time_recovery {
        Known::Known(true) => {}
        Known::Known(false) => findings.warn("point-in-time recovery is off: switch it on before the run"),
        Known::Unknown(why) => findings.warn(format!("whether point-in-time recovery is on is unknown ({why})")),
    }
    if facts.stream.as_ref().is_some_and(|stream| stream.enabled) {
        findings
            .warn("the table has a stream: every rewrite wakes its consumers, and old images hold plaintext for 24 h");
    }
    if let Capacity::Provisioned { read, write } = facts.capacity {
        for (field, budget, capacity) in [
            ("read_units_per_second", job.budget.read_units, read),
            ("write_units_per_second", job.budget.write_units, write),
        ] {
            if let Some(budget) = budget.filter(|budget| u64::from(budget.get()) >= capacity) {
                findings.warn(format!(
                    "budget.{field} is {budget}, and the table's capacity {capacity}: nothing would be left"
                ));
            }
        }
    }
}

fn encrypts(schema: &Schema, attribute: &str) -> bool {
    schema.action(attribute) == Some(Action::EncryptAndSign)
}
