//! What a run would consume, what that costs, and how long it takes. Pure.

use std::num::NonZeroU32;

use serde::Serialize;

use super::resolve::Plan;
use crate::migration::Census;
use crate::store::Capacity;

/// When the prices below were the list's, and where.
pub(super) const PRICE_LIST: &str = "list prices of us-east-1 as known in November 2026; check yours";
/// USD per request to KMS, with a symmetric key.
const USD_PER_KMS_REQUEST: f64 = 0.03 / 10_000.0;
/// The same with an RSA key of more than 2048 bits.
const USD_PER_RSA_REQUEST: f64 = 0.15 / 10_000.0;
/// USD per read unit and write unit of an on-demand table.
const USD_PER_READ_UNIT: f64 = 0.125 / 1e6;
const USD_PER_WRITE_UNIT: f64 = 0.625 / 1e6;

/// Cryptographic requests per second with symmetric keys that KMS allows an account by default, all that it runs taken
/// together (KMS developer guide, "Request quotas"): Regions by name, then everywhere else.
const KMS_QUOTAS: [(u32, &[&str]); 2] = [
    (100_000, &["us-east-1", "us-west-2", "eu-west-1"]),
    (20_000, &["us-east-2", "ap-southeast-1", "ap-southeast-2", "ap-northeast-1", "eu-central-1", "eu-west-2"]),
];
const KMS_QUOTA: u32 = 10_000;
/// The same with RSA keys, in every Region.
const RSA_QUOTA: u32 = 1000;

/// A run that asks for more than this part of the quota may take it from others.
pub(super) const QUOTA_SHARE: u32 = 2;

/// From when on it is worth a word that a hierarchical keyring would cost less: USD saved, or seconds.
const WORTH_USD: f64 = 1.0;
const WORTH_SECONDS: f64 = 3600.0;

/// What the whole table would cost, as far as the sample tells. One pass that rewrites, and one that finds nothing left.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Estimate {
    /// Capacity units.
    pub(super) read_units: f64,
    pub(super) write_units: f64,
    /// Requests to KMS.
    pub(super) kms_requests: f64,
    /// How many of them open items, and how many seal them.
    pub(super) kms_requests_to_open: f64,
    pub(super) kms_requests_to_seal: f64,
    /// What `reseal verify` asks of KMS afterwards: it opens every item.
    pub(super) kms_requests_to_verify: f64,
    /// At the budgets.
    pub(super) seconds: f64,
    /// Of that, what the requests to KMS alone take: at the budget, and if the account's whole quota were there for them.
    pub(super) kms_seconds: f64,
    pub(super) kms_seconds_at_quota: f64,
    pub(super) kms_usd: f64,
    /// `None` where capacity is provisioned: it is paid for whether used or not.
    pub(super) dynamodb_usd: Option<f64>,
    /// What a hierarchical keyring would save; `None` where that is not worth a word.
    pub(super) hierarchy_saves: Option<Savings>,
}

/// What a run would not cost with another keyring.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Savings {
    pub(super) kms_requests: f64,
    pub(super) usd: f64,
    /// At the budgets.
    pub(super) seconds: f64,
}

/// Requests to KMS for one item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PerItem {
    /// To open it, at most.
    pub(super) open: u32,
    /// To find out whether it is at target, where its bytes say so.
    pub(super) look: u32,
    /// To seal it.
    pub(super) seal: u32,
    /// To open it with the target's keyring.
    pub(super) verify: u32,
    /// Whether an RSA key is among those that are asked for.
    pub(super) rsa: bool,
}

/// The documented default of the quota that an account shares with everything else that it runs in the Region.
pub(super) fn kms_quota(region: &str, rsa: bool) -> u32 {
    if rsa {
        return RSA_QUOTA;
    }
    KMS_QUOTAS.iter().find(|(_, regions)| regions.contains(&region)).map_or(KMS_QUOTA, |(quota, _)| *quota)
}

/// What a run of this plan would consume; `quota` is that of the Region where KMS is asked.
pub(super) fn estimate(plan: &Plan, census: &Census, requests: PerItem, quota: u32) -> Estimate {
    let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let items = plan.facts.items.max(census.items) as f64;
    let read_units = 2.0 * (plan.facts.bytes as f64 / 4096.0).max(1.0);
    let per_item =
        share(census.growth.write_units, census.growth.items).max(1.0) * f64::from(plan.settings.write_copies);
    let rewritten = items * share(census.plaintext + census.sealed, census.items);
    let opened = items * share(census.sealed, census.items);
    let write_units = rewritten * per_item;
    let looked_at = items * share(census.current, census.items);
    let kms_requests_to_open = opened * f64::from(requests.open) + looked_at * f64::from(requests.look);
    let kms_requests_to_seal = rewritten * f64::from(requests.seal);
    let kms_requests = kms_requests_to_open + kms_requests_to_seal;

    let time = |units: f64, rate: Option<NonZeroU32>| rate.map_or(0.0, |rate| units / f64::from(rate.get()));
    let settings = &plan.settings;
    let reading = time(read_units / 2.0, settings.read_units);
    let but_for_kms = reading.max(time(write_units, settings.write_units));
    let seconds = |kms_requests: f64| but_for_kms.max(time(kms_requests, settings.kms_requests)) + reading;
    // What other keys sealed is opened with them, whatever the target is.
    let saved = Savings {
        kms_requests: kms_requests_to_seal,
        usd: kms_requests_to_seal * USD_PER_KMS_REQUEST,
        seconds: seconds(kms_requests) - seconds(kms_requests_to_open),
    };
    let copies = 1.0 + plan.facts.replicas.len() as f64;
    Estimate {
        read_units,
        write_units,
        kms_requests,
        kms_requests_to_open,
        kms_requests_to_seal,
        kms_requests_to_verify: items * f64::from(requests.verify),
        seconds: seconds(kms_requests),
        kms_seconds: time(kms_requests, settings.kms_requests),
        kms_seconds_at_quota: kms_requests / f64::from(quota),
        kms_usd: kms_requests_to_open * if requests.rsa { USD_PER_RSA_REQUEST } else { USD_PER_KMS_REQUEST }
            + kms_requests_to_seal * USD_PER_KMS_REQUEST,
        dynamodb_usd: matches!(plan.facts.capacity, Capacity::OnDemand { .. })
            .then_some(read_units * USD_PER_READ_UNIT + write_units * copies * USD_PER_WRITE_UNIT),
        hierarchy_saves: (saved.usd >= WORTH_USD || saved.seconds >= WORTH_SECONDS).then_some(saved),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::job::Job;
    use crate::store::{Known, TableFacts};

    const JOB: &str = r#"version = 1
[table]
name = "customers"
partition_key = "id"
[attributes]
id = "SIGN_ONLY"
[source]
formats = ["plaintext", "dbesdk"]
[target]
format = "dbesdk"
keyring = { type = "aws-kms", key_arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd" }
[budget]
read_units_per_second = 1000
write_units_per_second = 10000
kms_requests_per_second = 500
"#;

    fn plan(keyring: Option<&str>, items: u64, capacity: Capacity) -> Plan {
        let kms = r#"{ type = "aws-kms", key_arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd" }"#;
        let text = keyring.map_or_else(|| JOB.to_owned(), |keyring| JOB.replace(kms, keyring));
        let facts = TableFacts {
            arn: "arn:aws:dynamodb:eu-central-1:111122223333:table/customers".to_owned(),
            name: "customers".to_owned(),
            id: None,
            status: "ACTIVE".to_owned(),
            keys: Vec::new(),
            key_types: Vec::new(),
            items,
            bytes: items * 1024,
            indexes: Vec::new(),
            ttl: Known::Known(None),
            stream: None,
            capacity,
            replicas: Vec::new(),
            replication: None,
            point_in_time_recovery: Known::Known(true),
            deletion_protection: true,
        };
        Plan::of(Job::parse(&text, Path::new("job.toml")).unwrap(), facts)
    }

    const ON_DEMAND: Capacity = Capacity::OnDemand { read_max: None, write_max: None };

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= expected.abs() * 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn two_requests_for_each_sealed_item_and_one_for_each_in_plaintext() {
        let census = Census { items: 100, sealed: 25, plaintext: 50, current: 25, ..Census::default() };
        let plan = plan(None, 100_000_000, ON_DEMAND);
        let found = plan.estimate(&census);
        close(found.kms_requests_to_open, 25e6);
        close(found.kms_requests_to_seal, 75e6);
        close(found.kms_requests_to_verify, 100e6);
        close(found.kms_usd, 300.0);
        close(found.kms_seconds, 200_000.0);
        // Frankfurt: 20 000 requests per second.
        close(found.kms_seconds_at_quota, 5000.0);
        // Two passes of 25 million read units, and a write of each item that is not at target.
        close(found.dynamodb_usd.unwrap(), 50.0 * 0.125 + 75.0 * 0.625);
        close(found.seconds, 200_000.0 + 25_000.0);
        let saved = found.hierarchy_saves.unwrap();
        close(saved.kms_requests, 75e6);
        close(saved.usd, 225.0);
        close(saved.seconds, 150_000.0);
    }

    #[test]
    fn what_costs_nothing_saves_nothing() {
        let census = Census { items: 100, plaintext: 100, ..Census::default() };
        let raw = r#"{ type = "raw-aes", namespace = "acme", name = "k1", key_env = "K1" }"#;
        let found = plan(Some(raw), 100_000_000, Capacity::Provisioned { read: 1, write: 1 }).estimate(&census);
        close(found.kms_requests, 0.0);
        close(found.kms_usd, 0.0);
        assert_eq!((found.dynamodb_usd, found.hierarchy_saves), (None, None));
        // And what costs a few cents is not worth a word.
        let few = plan(None, 1000, ON_DEMAND).estimate(&census);
        close(few.kms_requests, 1000.0);
        assert_eq!(few.hierarchy_saves, None);
    }

    #[test]
    fn quotas_as_documented() {
        let cases = [("us-east-1", 100_000), ("eu-central-1", 20_000), ("eu-north-1", 10_000)];
        for (region, expected) in cases {
            assert_eq!((kms_quota(region, false), kms_quota(region, true)), (expected, 1000));
        }
    }
}
