//! From any keyring to any other: a table goes round all of them, so that each ordered pair comes once, in both suites and
//! at both depths.

use std::collections::BTreeMap;
use std::process::Command;

use reseal::local::{Options, StandIns};
use serde_json::{Value as Json, json};

use crate::bench::{Bench, Change, FOOT, HEAD, Item, ran};

/// Items of the table; more by `scripts/matrix.sh`.
fn orders() -> usize {
    std::env::var("RESEAL_MATRIX_ITEMS").map_or(40, |items| items.parse().unwrap())
}

const HOME: &str = "us-east-1";
const AWAY: &str = "eu-west-1";
const SUITES: [&str; 2] = [
    "ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_SYMSIG_HMAC_SHA384",
    "ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384_SYMSIG_HMAC_SHA384",
];
const DEPTHS: [&str; 2] = ["reencrypt", "rewrap"];

/// A keyring of each type, as the job file writes it.
struct Keyrings {
    bench: Bench,
    all: Vec<(&'static str, String)>,
}

impl Keyrings {
    async fn new() -> Self {
        let options = Options { more_kms_regions: vec![AWAY.to_owned()], ..Options::default() };
        let bench = Bench::with_options(options, orders()).await;
        let fixture = |name: &str| {
            let path = format!("{}/tests/fixtures/{name}-for-tests-only.private.pem", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap()
        };
        bench.write("rsa.pem", &fixture("rsa3072"));
        bench.write("k2.key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3\n");
        bench.write("aws.config", &profiles(&bench.stand_ins));
        let kms = bench.stand_ins.kms();
        let (one, second) = (kms.create_key("one").unwrap(), kms.create_key("two").unwrap());
        let rsa = kms.import_rsa(&fixture("rsa2048")).unwrap();
        let replica = replica(&bench.stand_ins);
        let of_kms = |arn: &str| format!(r#"{{ type = "aws-kms", key_arn = "{arn}", profile = "home" }}"#);
        let raw = r#"{ type = "raw-aes", namespace = "acme", name = "k2", key_file = "k2.key" }"#;
        let mut all = vec![
            ("aws-kms", of_kms(&one)),
            ("aws-kms-mrk", format!(r#"{{ type = "aws-kms-mrk", key_arn = "{replica}", profile = "away" }}"#)),
            ("raw-aes", r#"{ type = "raw-aes", namespace = "acme", name = "k1", key_file = "k1.key" }"#.to_owned()),
            (
                "raw-rsa",
                r#"{ type = "raw-rsa", namespace = "acme", name = "r1", padding = "oaep-sha384", key_file = "rsa.pem" }"#
                    .to_owned(),
            ),
            ("multi", format!(r#"{{ type = "multi", generator = {}, children = [{raw}] }}"#, of_kms(&second))),
        ];
        all.push(("hierarchy", hierarchy(&bench, &second)));
        all.push((
            "aws-kms-rsa",
            format!(r#"{{ type = "aws-kms-rsa", key_arn = "{rsa}", padding = "oaep-sha256", profile = "home" }}"#),
        ));
        Self { bench, all }
    }
}

/// A key store with one branch key, and the keyring over it.
fn hierarchy(bench: &Bench, kms: &str) -> String {
    bench.reseal("keystore create --table key-store --execute").expect(0, &[]);
    let make = format!("keystore new-branch-key --table key-store --kms-key-arn {kms} --execute");
    bench.reseal(&format!("{make} --branch-key-id tenants --context team=orders")).expect(0, &[]);
    format!(
        r#"{{ type = "hierarchy", key_store_table = "key-store", kms_key_arn = "{kms}", branch_key_id = "tenants", profile = "home" }}"#
    )
}

/// Profiles for two Regions of KMS: a variable could name one endpoint only.
fn profiles(stand_ins: &StandIns) -> String {
    let profile = |name: &str, region: &str| {
        let endpoint = stand_ins.kms_endpoint_in(region).unwrap();
        format!(
            "[profile {name}]\nregion = {region}\nservices = {name}\n[services {name}]\nkms =\n  endpoint_url = {endpoint}\n"
        )
    };
    format!("{}{}", profile("home", HOME), profile("away", AWAY))
}

/// The ARN of a multi-Region key's replica in the other Region.
fn replica(stand_ins: &StandIns) -> String {
    let answer = stand_ins.kms().call("CreateKey", &json!({ "MultiRegion": true })).unwrap();
    let id = answer["KeyMetadata"]["KeyId"].as_str().unwrap();
    let answer = stand_ins.kms().call("ReplicateKey", &json!({ "KeyId": id, "ReplicaRegion": AWAY })).unwrap();
    answer["ReplicaKeyMetadata"]["Arn"].as_str().unwrap().to_owned()
}

fn command(bench: &Bench, arguments: &str) -> Command {
    let mut command = bench.command(arguments);
    command.env_remove("AWS_ENDPOINT_URL_KMS").env("AWS_CONFIG_FILE", bench.path("aws.config"));
    command
}

/// Runs the binary to its end; the last line that it printed, if that is JSON.
#[track_caller]
fn reseal(bench: &Bench, arguments: &str, code: i32) -> Json {
    let ran = ran(&mut command(bench, arguments));
    assert_eq!(ran.code, code, "{arguments}: {ran:#?}");
    ran.out.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default()
}

/// The edges of a complete directed graph in one walk: every ordered pair comes once.
fn circuit(nodes: usize) -> Vec<usize> {
    let mut unused: Vec<Vec<usize>> = (0..nodes).map(|from| (0..nodes).filter(|to| *to != from).collect()).collect();
    let (mut stack, mut walk) = (vec![0], Vec::new());
    while let Some(&node) = stack.last() {
        match unused[node].pop() {
            Some(next) => stack.push(next),
            None => walk.extend(stack.pop()),
        }
    }
    walk.reverse();
    walk
}

#[test]
fn a_circuit_has_every_ordered_pair_once() {
    for nodes in 1..8 {
        let walk = circuit(nodes);
        let mut pairs: Vec<_> = walk.windows(2).map(|pair| (pair[0], pair[1])).collect();
        pairs.sort_unstable();
        let expected: Vec<_> =
            (0..nodes).flat_map(|a| (0..nodes).filter(move |b| *b != a).map(move |b| (a, b))).collect();
        assert_eq!(pairs, expected);
    }
}

/// Which attributes of the items differ.
fn changed(before: &BTreeMap<(String, String), Item>, after: &BTreeMap<(String, String), Item>) -> Vec<String> {
    assert_eq!(before.len(), after.len());
    let mut names: Vec<String> = Vec::new();
    for (old, new) in before.values().zip(after.values()) {
        names.extend(new.iter().filter(|(name, value)| old.get(*name) != Some(value)).map(|(name, _)| name.clone()));
    }
    names.sort_unstable();
    names.dedup();
    names
}

async fn go_round(suite: &str, depth: &str) {
    let Keyrings { bench, mut all } = Keyrings::new().await;
    if suite.contains("ECDSA") {
        // It refuses this suite, on both sides.
        all.retain(|(name, _)| *name != "aws-kms-rsa");
    }
    let target = |keyring: &str| format!("suite = \"{suite}\"\ndepth = \"{depth}\"\nkeyring = {keyring}");
    let raw = r#"keyring = { type = "raw-aes", namespace = "acme", name = "k1", key_file = "k1.key" }"#;
    let job = |changes: &[Change<'_>]| bench.job(changes);
    job(&[(raw, &target(&all[0].1))]);
    reseal(&bench, "run --job job.toml --execute --json --state-dir start", 0);
    let mut before = bench.items().await;
    for (hop, pair) in circuit(all.len()).windows(2).enumerate() {
        let [(from, source), (to, keyring)] = [pair[0], pair[1]].map(|place| &all[place]);
        let what = format!("{from} to {to}, {suite}, {depth}");
        let formats = format!("formats = [\"dbesdk\"]\nkeyrings = [{source}]");
        job(&[(raw, &target(keyring)), (r#"formats = ["plaintext"]"#, &formats)]);
        let run = format!("run --job job.toml --execute --json --state-dir {hop}");
        let report = reseal(&bench, &run, 0);
        assert_eq!(report["passes"][0]["rewritten"], orders(), "{what}: {report}");
        let after = bench.items().await;
        let wanted: &[&str] = if depth == "rewrap" { &[FOOT, HEAD] } else { &["amount", FOOT, HEAD, "note"] };
        assert_eq!(changed(&before, &after), wanted, "{what}");

        let again = reseal(&bench, &run, 0);
        assert_eq!(again["passes"].as_array().unwrap().last().unwrap()["rewritten"], 0, "{what}: {again}");
        before = bench.items().await;
        assert_eq!(before, after, "{what}");

        // With the target's key alone.
        job(&[(raw, &target(keyring)), (r#"formats = ["plaintext"]"#, r#"formats = ["dbesdk"]"#)]);
        let verified = reseal(&bench, "verify --job job.toml --json", 0);
        assert_eq!(verified["current"], orders(), "{what}: {verified}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_reencrypted() {
    go_round(SUITES[0], DEPTHS[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_rewrapped() {
    go_round(SUITES[0], DEPTHS[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_with_signatures_reencrypted() {
    go_round(SUITES[1], DEPTHS[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_with_signatures_rewrapped() {
    go_round(SUITES[1], DEPTHS[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_older_material_of_a_key_wrapped_is_refreshed_where_that_is_asked_for() {
    let bench = Bench::with(4).await;
    let arn = bench.stand_ins.kms().create_key("rotated").unwrap();
    let raw = r#"keyring = { type = "raw-aes", namespace = "acme", name = "k1", key_file = "k1.key" }"#;
    let keyring = format!(r#"keyring = {{ type = "aws-kms", key_arn = "{arn}" }}"#);
    let formats = (r#"formats = ["plaintext"]"#, r#"formats = ["plaintext", "dbesdk"]"#);
    bench.job(&[(raw, &keyring), formats]);
    let run = |state: &str, code: i32| {
        let ran = bench.reseal(&format!("run --job job.toml --execute --json --state-dir {state}"));
        ran.expect(code, &[]);
        let report: Json = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
        report["passes"][0]["rewritten"].as_u64().unwrap()
    };
    let rotate = || bench.stand_ins.kms().call("RotateKeyOnDemand", &json!({ "KeyId": arn })).unwrap();
    assert_eq!(run("first", 0), 4);
    rotate();
    assert_eq!(run("rotated", 0), 0, "the key is the same");
    bench.job(&[(raw, &format!("refresh_key_material = true\ndepth = \"rewrap\"\n{keyring}")), formats]);
    bench.reseal("verify --job job.toml").expect(4, &["sealed in another form"]);
    assert_eq!(run("refresh", 0), 4);
    bench.reseal("verify --job job.toml").expect(0, &[]);
    assert_eq!(run("again", 0), 0);
    rotate();
    assert_eq!(run("third", 0), 4);

    bench.job(&[(raw, &format!("refresh_key_material = true\n{raw}"))]);
    bench.reseal("plan --job job.toml").expect(2, &["refresh_key_material: no key of the target keyring"]);
}
