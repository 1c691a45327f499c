//! What stands against a run on this table, decided from the job and from what the service says of the table.

use crate::cli::job::{Job, Target};
use crate::format::{Action, Schema};
use crate::item::KeyNames;
use crate::migration::OnMixed;
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

/// What stands against repairing items that somebody wrote into: only a tail sees them, and only by both images of a
/// change. `tail` says whether there is one, `create` whether it makes the stream where there is none.
pub(super) fn repair(job: &Job, facts: &TableFacts, tail: bool, create: bool) -> Option<Objection> {
    const WANTED: &str = "NEW_AND_OLD_IMAGES";
    if job.source.on_mixed == OnMixed::Quarantine {
        return None;
    }
    let quarantine = "or set source.on_mixed to \"quarantine\"";
    let stream = facts.stream.as_ref().filter(|stream| stream.enabled);
    let view = stream.map(|stream| stream.view.as_deref().unwrap_or("unknown"));
    let (problem, remedy) = match view {
        _ if !tail => (
            "source.on_mixed is \"repair\", and without following the table's stream nothing can be repaired"
                .to_owned(),
            format!("run with --tail, {quarantine}"),
        ),
        None if create => return None,
        None => (
            "source.on_mixed is \"repair\", and the table has no stream".to_owned(),
            format!("add --create-stream, {quarantine}"),
        ),
        Some(WANTED) => return None,
        Some(view) => (
            format!("source.on_mixed is \"repair\", and the stream's view is {view}: it takes both images of a change"),
            format!("enable a stream of the view {WANTED} (a view cannot be changed in place), {quarantine}"),
        ),
    };
    Some(Objection { problem, remedy })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{IndexKind, KeyAttribute, Replica, StreamFacts, TtlFacts};

    const JOB: &str = r#"version = 1
[table]
name = "customers"
partition_key = "tenant"
sort_key = "id"
[attributes]
tenant = "SIGN_ONLY"
id = "SIGN_ONLY"
day = "SIGN_ONLY"
email = "ENCRYPT_AND_SIGN"
[unsigned]
names = ["expires"]
[source]
formats = ["plaintext"]
[target]
format = "dbesdk"
keyring = { type = "raw-aes", namespace = "acme", name = "k1", key_env = "K1" }
[budget]
write_units_per_second = 100
"#;

    /// Makes a table that fits one that does not.
    type Change = fn(&mut TableFacts);

    fn job(text: &str) -> Job {
        Job::parse(text, std::path::Path::new("job.toml")).unwrap()
    }

    /// A table that nothing stands against.
    fn facts() -> TableFacts {
        let key = |name: &str, partition| KeyAttribute { name: name.to_owned(), partition };
        TableFacts {
            arn: "arn:aws:dynamodb:eu-west-1:111122223333:table/customers".to_owned(),
            name: "customers".to_owned(),
            id: Some("an id".to_owned()),
            status: "ACTIVE".to_owned(),
            keys: vec![key("tenant", true), key("id", false)],
            key_types: Vec::new(),
            items: 10,
            bytes: 1000,
            indexes: vec![index("by-day", &["day", "id"], Projection::All)],
            ttl: Known::Known(Some(ttl_on("expires"))),
            stream: None,
            capacity: Capacity::OnDemand { read_max: None, write_max: None },
            replicas: Vec::new(),
            replication: None,
            point_in_time_recovery: Known::Known(true),
            deletion_protection: true,
        }
    }

    fn index(name: &str, keys: &[&str], projection: Projection) -> IndexFacts {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        IndexFacts { name: name.to_owned(), kind: IndexKind::Global, keys, projection }
    }

    fn ttl_on(attribute: &str) -> TtlFacts {
        TtlFacts { attribute: attribute.to_owned(), status: "ENABLED".to_owned() }
    }

    #[test]
    fn nothing_stands_against_a_table_that_fits() {
        assert_eq!(examine(&job(JOB), &facts()), Findings::default());
    }

    #[test]
    fn what_stands_against_a_run() {
        let cases: [(Change, &str); 8] = [
            (|facts| facts.status = "UPDATING".to_owned(), "the table is UPDATING"),
            (|facts| drop(facts.keys.pop()), "the table's key is tenant, the job's is tenant and id"),
            (|facts| facts.indexes[0].keys[0] = "email".to_owned(), "\"email\" is a key of the index \"by-day\""),
            (
                |facts| facts.indexes[0].projection = Projection::Include(vec!["email".to_owned()]),
                "the index \"by-day\" copies the encrypted email",
            ),
            (
                |facts| facts.indexes.push(index("v", &["email"], Projection::Keys)),
                "\"email\" is a key of the index \"v\"",
            ),
            (|facts| facts.ttl = Known::Known(Some(ttl_on("email"))), "\"email\" is the TTL attribute: encrypted"),
            (|facts| facts.ttl = Known::Known(Some(ttl_on("day"))), "\"day\" is the TTL attribute and would be signed"),
            (
                |facts| {
                    facts.replication = Some(Replication::Eventual);
                    facts.replicas = vec![Replica { region: "us-east-1".to_owned(), status: None }];
                },
                "the table replicates to us-east-1 with eventual consistency",
            ),
        ];
        for (change, expected) in cases {
            let mut facts = facts();
            change(&mut facts);
            let Findings { objections, .. } = examine(&job(JOB), &facts);
            assert!(
                matches!(&objections[..], [one] if one.problem.contains(expected) && !one.remedy.is_empty()),
                "{expected}: {objections:?}"
            );
        }
    }

    #[test]
    fn what_the_job_acknowledges_does_not() {
        let text = r#"acknowledge = ["signed-ttl", "partial-index:by-day", "last-writer-wins"]"#;
        let job = job(&JOB.replace("sort_key", &format!("{text}\nsort_key")));
        let mut facts = facts();
        facts.ttl = Known::Known(Some(ttl_on("day")));
        facts.indexes[0].projection = Projection::Include(vec!["email".to_owned()]);
        facts.replication = Some(Replication::Eventual);
        assert_eq!(examine(&job, &facts).objections, []);
    }

    #[test]
    fn a_repair_takes_a_tail_and_both_images() {
        let quarantine = job(JOB);
        let repair = job(&JOB.replace("formats = [\"plaintext\"]", "formats = [\"plaintext\"]\non_mixed = \"repair\""));
        let with = |view: Option<&str>, enabled| TableFacts {
            stream: Some(StreamFacts { enabled, view: view.map(str::to_owned), arn: None }),
            ..facts()
        };
        let refused = |job: &Job, facts: &TableFacts, tail| super::repair(job, facts, tail, false).map(|of| of.problem);
        for view in [Some("KEYS_ONLY"), Some("NEW_IMAGE"), Some("OLD_IMAGE"), None] {
            let problem = refused(&repair, &with(view, true), true).unwrap();
            assert!(problem.contains(view.unwrap_or("unknown")), "{problem}");
            assert_eq!(refused(&quarantine, &with(view, true), true), None);
        }
        let both = Some("NEW_AND_OLD_IMAGES");
        assert_eq!(refused(&repair, &with(both, true), true), None);
        assert!(refused(&repair, &with(both, true), false).unwrap().contains("without following"));
        assert!(refused(&repair, &with(both, false), true).unwrap().contains("has no stream"));
        assert!(refused(&repair, &facts(), true).unwrap().contains("has no stream"));
        assert_eq!(super::repair(&repair, &facts(), true, true), None);
        assert!(super::repair(&repair, &facts(), false, true).is_some());
        assert_eq!(refused(&quarantine, &facts(), false), None);
    }

    #[test]
    fn what_is_worth_a_warning() {
        let cases: [(Change, &str); 5] = [
            (|facts| facts.point_in_time_recovery = Known::Known(false), "recovery is off"),
            (|facts| facts.point_in_time_recovery = Known::Unknown("denied".to_owned()), "recovery is on is unknown"),
            (|facts| facts.ttl = Known::Unknown("denied".to_owned()), "TTL attribute is unknown (denied)"),
            (|facts| facts.stream = Some(StreamFacts { enabled: true, view: None, arn: None }), "has a stream"),
            (
                |facts| facts.capacity = Capacity::Provisioned { read: 100, write: 100 },
                "budget.write_units_per_second is 100, and the table's capacity 100",
            ),
        ];
        for (change, expected) in cases {
            let mut facts = facts();
            change(&mut facts);
            let Findings { objections, warnings } = examine(&job(JOB), &facts);
            assert_eq!(objections, []);
            assert!(matches!(&warnings[..], [one] if one.contains(expected)), "{expected}: {warnings:?}");
        }
    }
}
