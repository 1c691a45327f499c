//! Branch keys from the command line, and a table that is sealed under them.

use serde_json::Value as Json;

use crate::bench::{Bench, Ran};

const STORE: &str = "branch-keys-of-a-test";
const RAW: &str = r#"{ type = "raw-aes", namespace = "acme", name = "k1", key_file = "k1.key" }"#;

impl Bench {
    /// Runs a key store command, with JSON as its answer.
    fn keystore(&self, arguments: &str) -> (Ran, Json) {
        let (command, rest) = arguments.split_once(' ').unwrap_or((arguments, ""));
        let ran = self.reseal(&format!("keystore {command} --table {STORE} --json {rest}"));
        let answer = serde_json::from_str(&ran.out).unwrap_or_default();
        (ran, answer)
    }

    fn run(&self) -> Json {
        let ran = self.reseal("run --job job.toml --execute --json");
        ran.expect(0, &[]);
        serde_json::from_str(ran.out.lines().last().unwrap()).unwrap()
    }

    fn kms_requests(&self) -> u64 {
        let counted = self.stand_ins.kms().requests().values().sum();
        self.stand_ins.kms().forget_requests();
        counted
    }
}

/// The job with a hierarchical keyring of these fields.
fn job(bench: &Bench, fields: &str) {
    let keyring = format!("{{ type = \"hierarchy\", key_store_table = \"{STORE}\", {fields} }}");
    bench.job(&[(RAW, &keyring), ("formats = [\"plaintext\"]", "formats = [\"plaintext\", \"dbesdk\"]")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_under_one_branch_key_through_rotation_and_another_kms_key() {
    let bench = Bench::with(60).await;
    let key = bench.stand_ins.kms().create_key("").unwrap();
    // Nothing is written without --execute.
    let (ran, _) = bench.keystore("create");
    ran.expect(0, &[]);
    let tables = bench.client.list_tables().send().await.unwrap().table_names.unwrap();
    assert!(!tables.contains(&STORE.to_owned()), "{tables:?}");
    bench.keystore("create --execute").0.expect(0, &["\"made\":true"]);
    bench.keystore("create --execute").0.expect(0, &["\"made\":false"]);
    let make = format!("new-branch-key --kms-key-arn {key} --branch-key-id orders --context team=shop");
    bench.keystore(&make).0.expect(0, &["\"executed\":false"]);
    bench.keystore("describe").0.expect(0, &[]);
    assert!(bench.keystore("describe").0.out.is_empty());
    bench.keystore(&format!("{make} --execute")).0.expect(0, &["\"branch_key_id\":\"orders\""]);
    bench.keystore(&format!("{make} --execute")).0.expect(3, &["has a branch key orders already"]);

    job(&bench, &format!("kms_key_arn = \"{key}\", branch_key_id = \"orders\""));
    bench.kms_requests();
    bench.run();
    assert_eq!(bench.sealed().await, 60);
    // To look at the keyring, and ACTIVE and its version for the run.
    assert_eq!(bench.kms_requests(), 3);
    bench.reseal("verify --job job.toml").expect(0, &["60 at target and opened"]);

    let rotate = format!("rotate --kms-key-arn {key} --branch-key-id orders");
    bench.keystore(&rotate).0.expect(0, &["\"executed\":false"]);
    bench.reseal("verify --job job.toml").expect(0, &["60 at target and opened"]);
    bench.keystore(&format!("{rotate} --execute")).0.expect(0, &["\"version\""]);
    bench.reseal("verify --job job.toml").expect(4, &["0 at target and opened, 60 stale"]);
    let before = bench.items().await;
    bench.kms_requests();
    bench.run();
    assert!(bench.kms_requests() < 10);
    bench.reseal("verify --job job.toml").expect(0, &["60 at target and opened"]);
    let sealed = bench.items().await;
    assert!(before.iter().all(|(key, item)| sealed[key] != *item));
    bench.run();
    assert_eq!(bench.items().await, sealed, "a second run writes nothing");

    // Another KMS key behind the branch key: no item changes.
    let other = bench.stand_ins.kms().create_key("").unwrap();
    let rewrap = format!("rewrap --to-kms-key-arn {other}");
    bench.keystore(&rewrap).0.expect(3, &["readers that are configured with one KMS key refuse rows under another"]);
    bench.keystore(&format!("{rewrap} --key-store-readers strict --execute")).0.expect(3, &["add --key-store-readers"]);
    let rewrap = format!("{rewrap} --key-store-readers discovery");
    bench.keystore(&rewrap).0.expect(0, &["\"rows_to_move\":4"]);
    bench.reseal("verify --job job.toml").expect(0, &["60 at target and opened"]);
    bench.keystore(&format!("{rewrap} --execute")).0.expect(0, &["\"rows_moved\":4", "\"kms_requests\":8"]);
    bench.keystore(&format!("{rewrap} --execute")).0.expect(0, &["\"rows_moved\":0", "\"kms_requests\":0"]);
    assert_eq!(bench.items().await, sealed);
    bench.reseal("verify --job job.toml").expect(3, &["read with key_store_readers = \"discovery\""]);
    job(&bench, "key_store_readers = \"discovery\", accounts = [\"000000000000\"], branch_key_id = \"orders\"");
    let account = other.split(':').nth(4).unwrap();
    let (job_file, own) = (bench.path("job.toml"), format!("\"{account}\""));
    let text = std::fs::read_to_string(&job_file).unwrap().replace("\"000000000000\"", &own);
    std::fs::write(&job_file, text).unwrap();
    bench.reseal("verify --job job.toml").expect(0, &["60 at target and opened"]);
    let (described, _) = bench.keystore("describe");
    described.expect(0, &[&other, "branch:ACTIVE", "beacon:ACTIVE"]);
    assert_eq!(described.out.lines().count(), 4);
    assert!(!described.out.contains("\"enc\"") && !described.out.contains(&key));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_key_for_each_customer_and_one_customer_without() {
    let bench = Bench::with(21).await;
    let key = bench.stand_ins.kms().create_key("").unwrap();
    job(&bench, &format!("kms_key_arn = \"{key}\", branch_key_attribute = \"pk\""));
    bench
        .reseal("run --job job.toml --execute")
        .expect(3, &["the key store table branch-keys-of-a-test does not exist"]);
    bench.keystore("create --execute").0.expect(0, &[]);
    for customer in 0..6 {
        let id = format!("--branch-key-id customer-{customer} --context team=shop");
        bench.keystore(&format!("new-branch-key --kms-key-arn {key} {id} --execute")).0.expect(0, &[]);
    }
    bench.reseal("run --job job.toml --execute").expect(4, &["branch key customer-6"]);
    assert_eq!(bench.sealed().await, 18);
    bench
        .keystore(&format!("new-branch-key --kms-key-arn {key} --branch-key-id customer-6 --execute"))
        .0
        .expect(2, &[]);
    let id = "--branch-key-id customer-6 --context team=shop";
    bench.keystore(&format!("new-branch-key --kms-key-arn {key} {id} --execute")).0.expect(0, &[]);
    bench.reseal("run --job job.toml --execute").expect(0, &[]);
    bench.reseal("verify --job job.toml").expect(0, &["21 at target and opened"]);
    // All at once, each on its own.
    let other = bench.stand_ins.kms().create_key("").unwrap();
    let rewrap = format!("rewrap --to-kms-key-arn {other} --key-store-readers discovery --execute");
    bench.keystore(&rewrap).0.expect(0, &["\"branch_keys_moved\":7", "\"rows_moved\":21"]);
}

/// As many as a real table has, and branch keys as many as it has tenants: `scripts/matrix.sh` runs it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn a_large_table_and_many_branch_keys() {
    const BRANCH_KEYS: usize = 1000;
    let orders = std::env::var("RESEAL_LARGE_ITEMS").map_or(100_000, |items| items.parse().unwrap());
    let bench = Bench::with(orders).await;
    let key = bench.stand_ins.kms().create_key("").unwrap();
    bench.keystore("create --execute").0.expect(0, &[]);
    for i in 0..BRANCH_KEYS {
        let make = format!("new-branch-key --kms-key-arn {key} --branch-key-id b{i:04} --context team=shop --execute");
        bench.keystore(&make).0.expect(0, &[]);
    }
    job(&bench, "key_store_readers = \"discovery\", accounts = [\"111122223333\"], branch_key_id = \"b0000\"");
    let account = key.split(':').nth(4).unwrap();
    let text = std::fs::read_to_string(bench.path("job.toml")).unwrap();
    bench.write(
        "job.toml",
        &text.replace("111122223333", account).replace(
            "[target]",
            "[budget]\nwrite_units_per_second = 1000000\nread_units_per_second = 1000000\n\n[target]",
        ),
    );
    bench.run();
    bench.keystore(&format!("rotate --kms-key-arn {key} --branch-key-id b0000 --execute")).0.expect(0, &[]);
    bench.kms_requests();
    let report = bench.run();
    assert_eq!(report["passes"][0]["rewritten"], orders);
    let requests = bench.kms_requests();
    assert!(requests < 50, "{requests} requests to KMS for {orders} items");
    println!("{requests} requests to KMS for {orders} items under one branch key");

    let before = bench.items().await;
    let other = bench.stand_ins.kms().create_key("").unwrap();
    let rewrap = format!("rewrap --to-kms-key-arn {other} --key-store-readers discovery --execute");
    let moved = format!("\"branch_keys_moved\":{BRANCH_KEYS}");
    bench.keystore(&rewrap).0.expect(0, &[&moved]);
    assert_eq!(bench.items().await, before);
    bench.reseal("verify --job job.toml").expect(0, &[&format!("{orders} at target and opened")]);
}
