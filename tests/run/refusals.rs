//! What is refused before anything is written: exit code 3 (2 for the job file itself), a message that names the thing
//! and the remedy, and a table that stays as it was.

use aws_sdk_dynamodb::types::AttributeValue;
use reseal::local::kms::Denial;
use rusqlite::Connection;
use serde_json::json;

use crate::bench::{Bench, Change, TABLE, is_empty, order, projection, ran};

const RUN: &str = "run --job job.toml --execute --state-dir state";
const RAW: &str = r#"{ type = "raw-aes", namespace = "acme", name = "k1", key_file = "k1.key" }"#;

/// Demands that the run is refused with these words, that `plan` says the same, and that nothing was written.
async fn check(bench: &Bench, changes: &[Change<'_>], texts: &[&str]) {
    bench.job(changes);
    let before = bench.items().await;
    bench.reseal(RUN).expect(3, texts);
    bench.reseal("plan --job job.toml").expect(3, texts);
    assert_eq!(bench.items().await, before, "{changes:?}");
    assert!(is_empty(&bench.path("state")), "{changes:?}: nothing was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_that_is_not_stated() {
    let bench = Bench::with(3).await;
    for (statement, meaning) in [
        ("readers = \"accept-both\"\n", "every reader accepts items in the old and in the new form"),
        ("writers = \"whole-item\"\n", "applications write with PutItem only"),
        ("schema = \"frozen\"\n", "schema = \"frozen\""),
    ] {
        check(&bench, &[(statement, "")], &[meaning, "remedy: a table is changed over in three steps"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_do_not_fit_the_job() {
    let bench = Bench::with(3).await;
    let absent: Change<'_> = (TABLE, "a-table-that-is-not-there");
    check(&bench, &[absent], &["ResourceNotFoundException", "check the table's name, the Region and the endpoint"])
        .await;
    let sort_key: Change<'_> = ("sort_key = \"sk\"", "");
    let names = "the table's key is pk and sk, the job's is pk";
    check(&bench, &[sort_key], &[names, "remedy: mend table.partition_key and table.sort_key"]).await;
    let other = [("partition_key = \"pk\"", "partition_key = \"status\"")];
    check(&bench, &other, &["the table's key is pk and sk, the job's is status and sk"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_that_an_index_needs() {
    let bench = Bench::bare();
    bench.create_table(Some(projection(None))).await;
    bench.put(&order(0)).await;
    let status: Change<'_> = ("status = \"SIGN_ONLY\"", "status = \"ENCRYPT_AND_SIGN\"");
    let key = "attributes.status: \"status\" is a key of the index \"by-status\" and cannot be encrypted";
    check(&bench, &[status], &[key, "remedy: make it SIGN_ONLY, or delete the index first"]).await;
    bench.job(&[]);
    bench.reseal(RUN).expect(0, &["complete"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_that_copy_a_part_of_the_item() {
    let bench = Bench::bare();
    bench.create_table(Some(projection(Some("note")))).await;
    bench.put(&order(0)).await;
    let problem = "the index \"by-status\" copies the encrypted note without the whole item";
    check(&bench, &[], &[problem, "add \"partial-index:by-status\" to table.acknowledge"]).await;
    let of_another = ("[attributes]", "acknowledge = [\"partial-index:by-date\"]\n\n[attributes]");
    check(&bench, &[of_another], &[problem]).await;
    bench.job(&[("[attributes]", "acknowledge = [\"partial-index:by-status\"]\n\n[attributes]")]);
    bench.reseal(RUN).expect(0, &["complete"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ttl_attribute() {
    let bench = Bench::with(3).await;
    bench.set_ttl("ttl").await;
    let unsigned: Change<'_> = ("[unsigned]\nnames = [\"ttl\"]\n", "");
    let encrypted: Change<'_> = ("ttl = \"DO_NOTHING\"", "ttl = \"ENCRYPT_AND_SIGN\"");
    let signed: Change<'_> = ("ttl = \"DO_NOTHING\"", "ttl = \"SIGN_ONLY\"");
    let acknowledged: Change<'_> = ("[attributes]", "acknowledge = [\"signed-ttl\"]\n\n[attributes]");
    let problem = "attributes.ttl: \"ttl\" is the TTL attribute: encrypted, no item would expire";
    let remedy = "remedy: make it DO_NOTHING and declare it unsigned";
    check(&bench, &[unsigned, encrypted], &[problem, remedy]).await;
    check(&bench, &[unsigned, encrypted, acknowledged], &[problem]).await;
    let problem = "attributes.ttl: \"ttl\" is the TTL attribute and would be signed";
    check(&bench, &[unsigned, signed], &[problem, "add \"signed-ttl\" to table.acknowledge"]).await;
    bench.job(&[unsigned, signed, acknowledged]);
    bench.reseal(RUN).expect(0, &["complete"]);
}

/// A run with a KMS key is refused with these words, and nothing was written. `plan` asks nothing of KMS.
async fn check_key(bench: &Bench, keyring: &str, code: i32, texts: &[&str]) {
    bench.job(&[(RAW, keyring)]);
    let before = bench.items().await;
    bench.reseal(RUN).expect(code, texts);
    assert_eq!(bench.items().await, before, "{keyring}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_used() {
    let bench = Bench::with(3).await;
    let kms = bench.stand_ins.kms();
    let arn = kms.create_key("").unwrap();
    let keyring = |arn: &str| format!(r#"{{ type = "aws-kms", key_arn = "{arn}" }}"#);
    let whole = keyring(&arn);

    check_key(
        &bench,
        &keyring("arn:aws:kms:us-east-1:key/1"),
        2,
        &["job.toml:27: target.keyring.key_arn", "is not the ARN of a KMS key"],
    )
    .await;
    let absent = format!("{}:key/00000000-0000-4000-8000-000000000000", arn.rsplit_once(':').unwrap().0);
    check_key(&bench, &keyring(&absent), 3, &["NotFoundException", "check the key's ARN"]).await;
    let elsewhere = format!(r#"{{ type = "aws-kms", key_arn = "{arn}", region = "eu-west-1" }}"#);
    check_key(&bench, &elsewhere, 2, &["us-east-1", "eu-west-1"]).await;

    kms.call("DisableKey", &json!({ "KeyId": arn })).unwrap();
    check_key(&bench, &whole, 3, &[&arn, "is Disabled; enable it"]).await;
    kms.call("EnableKey", &json!({ "KeyId": arn })).unwrap();
    kms.call("ScheduleKeyDeletion", &json!({ "KeyId": arn })).unwrap();
    check_key(&bench, &whole, 3, &[&arn, "is PendingDeletion; cancel its deletion and enable it"]).await;
    kms.call("CancelKeyDeletion", &json!({ "KeyId": arn })).unwrap();
    kms.call("EnableKey", &json!({ "KeyId": arn })).unwrap();

    for operation in ["DescribeKey", "GenerateDataKey", "Decrypt"] {
        kms.deny(Denial { operation: Some(operation.to_owned()), ..Denial::default() }).unwrap();
        check_key(&bench, &whole, 3, &[&arn, &format!("allow kms:{operation} on the key")]).await;
        assert!(is_empty(&bench.path("state")), "{operation}: nothing was begun");
        kms.allow_all();
    }
    // What it seals nobody here could open, to see that it is right.
    let public = format!("{}/tests/fixtures/rsa2048-for-tests-only.public.pem", env!("CARGO_MANIFEST_DIR"));
    let rsa = format!(
        r#"{{ type = "raw-rsa", namespace = "a", name = "k", padding = "oaep-sha256", key_file = "{public}" }}"#
    );
    check_key(&bench, &rsa, 2, &["a public key, which opens nothing", "name the private key"]).await;

    bench.job(&[(RAW, &whole)]);
    bench.reseal(RUN).expect(0, &["complete"]);
    assert_eq!(bench.sealed().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_without_tls() {
    let bench = Bench::with(3).await;
    bench.job(&[]);
    for (variable, service) in [("AWS_ENDPOINT_URL_DYNAMODB", "DynamoDB"), ("AWS_ENDPOINT_URL_KMS", "KMS")] {
        // An address that is reserved for documentation: nothing would answer.
        let refused = ran(bench.command(RUN).env(variable, "http://192.0.2.1:8000"));
        refused.expect(3, &[&format!("the {service} endpoint"), "plain http", "use https, or a loopback address"]);
    }
    assert_eq!(bench.sealed().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn state_that_cannot_be_used() {
    let bench = Bench::with(3).await;
    bench.job(&[]);
    let journal = bench.path("state").join("journal.sqlite3");
    bench.write("a-file", "");
    let not_writable = bench.reseal("run --job job.toml --execute --state-dir a-file/state");
    not_writable.expect(3, &["the state directory a-file/state cannot be written", "choose another with --state-dir"]);

    std::fs::create_dir(bench.path("state")).unwrap();
    std::fs::write(
        &journal,
        "not a journal, and longer than the header of a database, which has a hundred bytes; so \
                              that it is not taken for an empty file",
    )
    .unwrap();
    bench.reseal(RUN).expect(3, &["journal.sqlite3 is not a journal of reseal, or is damaged", "move it away"]);
    assert_eq!(bench.sealed().await, 0);
    std::fs::remove_file(&journal).unwrap();

    bench.reseal(&format!("{RUN} --max-items 1")).expect(5, &[]);
    Connection::open(&journal).unwrap().pragma_update(None, "user_version", 99).unwrap();
    bench.reseal(RUN).expect(3, &["journal.sqlite3 is of version 99", "use the version of reseal that made it"]);
    assert_eq!(bench.sealed().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn state_of_another_plan() {
    let bench = Bench::with(3).await;
    bench.job(&[]);
    bench.reseal(&format!("{RUN} --max-items 1")).expect(5, &[]);
    let keyring = RAW.replace("k1\", key_file", "k2\", key_file");
    let suite = "format = \"dbesdk\"\nsuite = \"ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_SYMSIG_HMAC_SHA384\"";
    for (change, field) in [
        (("format = \"dbesdk\"", suite), "algorithm suite was \"ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA"),
        ((RAW, keyring.as_str()), "target key was \"acme k1\" and is now \"acme k2\""),
        (("status = \"SIGN_ONLY\"", "status = \"ENCRYPT_AND_SIGN\""), "action of status was \"SIGN_ONLY\""),
    ] {
        bench.job(&[change]);
        bench.reseal(RUN).expect(3, &["the state belongs to another plan", field, "another --state-dir"]);
    }
    assert_eq!(bench.sealed().await, 1);
    // Budgets may change.
    bench.job(&[("[target]", "[budget]\nwrite_units_per_second = 900\n\n[target]")]);
    bench.reseal(RUN).expect(0, &["complete"]);
    assert_eq!(bench.sealed().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_use_by_another_run() {
    let bench = Bench::with(60).await;
    bench.job(&[crate::progress::SLOW]);
    let mut first = bench.start("--state-dir state");
    first.wait_for(&json!({ "event": "pass-began" }));
    bench.reseal("run --job job.toml --execute --state-dir other").expect(3, &["is in use by another reseal (process"]);
    let same_state = ran(bench.command(RUN).env("XDG_STATE_HOME", bench.path("elsewhere")));
    same_state.expect(3, &["the state directory state is in use by another reseal (process"]);
    first.signal("TERM");
    first.signal("TERM");
    assert_eq!(first.end(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_execute_nothing_is_written() {
    let bench = Bench::with(3).await;
    bench.job(&[]);
    let mut odd = order(3);
    odd.insert("colour".to_owned(), AttributeValue::S("red".to_owned()));
    bench.put(&odd).await;
    let before = bench.items().await;
    let plan = bench.reseal("plan --job job.toml");
    plan.expect(0, &["sample of 4 items", "colour", "NOT NAMED IN THE JOB: items that have it fail"]);
    let run = bench.reseal("run --job job.toml --state-dir state");
    assert_eq!((run.code, run.out), (0, plan.out));
    assert_eq!(bench.items().await, before);
    assert!(!bench.path("state").exists());
    bench.job(&[("readers = \"accept-both\"\n", "")]);
    bench.reseal("run --job job.toml").expect(3, &["sample of 4 items", "accept-both"]);
}
