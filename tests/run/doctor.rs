//! `reseal doctor`: the right answer in words and in JSON on prepared tables, with the right exit code, and no write.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reseal::local::kms::Denial;
use serde_json::{Value as Json, json};

use crate::bench::{Bench, Change, Ran, key_line, order, ran};

const RAW: &str = r#"{ type = "raw-aes", namespace = "acme", name = "k1", key_file = "k1.key" }"#;
const ECDSA: &str = "ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384_SYMSIG_HMAC_SHA384";
const HMAC: &str = "ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_SYMSIG_HMAC_SHA384";
const ORDERS: usize = 6;

/// The keyring over a KMS key.
fn kms(arn: &str) -> String {
    format!(r#"{{ type = "aws-kms", key_arn = "{arn}" }}"#)
}

/// What `doctor` said in words, and in JSON.
struct Said {
    words: Ran,
    json: Json,
}

impl Said {
    /// Demands the answer, the exit code, and that the words hold these texts.
    #[track_caller]
    fn expect(&self, answer: &str, code: i32, texts: &[&str]) {
        self.words.expect(code, texts);
        let result =
            [(0, "ready"), (1, "unknown"), (3, "refused")].into_iter().find(|(exit, _)| *exit == code).unwrap();
        assert_eq!((&self.json["answer"], &self.json["result"]), (&json!(answer), &json!(result.1)), "{}", self.json);
        assert!(self.words.out.starts_with("answer "), "{}", self.words.out);
    }

    /// The checks that came out so.
    fn checks(&self, standing: &str) -> Vec<String> {
        let checks = self.json["checks"].as_array().unwrap().iter();
        let of = checks.filter(|check| check["standing"] == standing);
        of.map(|check| format!("{}: {}", check["about"].as_str().unwrap(), check["detail"].as_str().unwrap())).collect()
    }
}

impl Bench {
    /// Orders sealed under a fresh KMS key, whose job is in place.
    async fn sealed_under_kms() -> (Self, String) {
        let bench = Self::with(ORDERS).await;
        let arn = bench.stand_ins.kms().create_key("orders").unwrap();
        bench.job(&[(RAW, &kms(&arn))]);
        bench.sealed_by_a_run("first");
        (bench, arn)
    }

    #[track_caller]
    fn sealed_by_a_run(&self, state: &str) {
        self.reseal(&format!("run --job job.toml --execute --state-dir {state}")).expect(0, &["complete"]);
    }

    /// A job for another target key, which may open the items of the first.
    fn job_from(&self, source: &str, target: &str, changes: &[Change<'_>]) {
        let formats = "formats = [\"plaintext\"]";
        let sources = format!("formats = [\"plaintext\", \"dbesdk\"]\nkeyrings = [{}]", kms(source));
        let keyring = kms(target);
        self.job(&[&[(RAW, keyring.as_str()), (formats, sources.as_str())], changes].concat());
    }

    /// Has the doctor look, in words and in JSON; the table and the folder stay as they are.
    async fn doctor(&self, arguments: &str) -> Said {
        let before = self.items().await;
        let words = self.reseal(&format!("doctor --job job.toml {arguments}"));
        let json = self.reseal(&format!("doctor --job job.toml --json {arguments}"));
        assert_eq!(self.items().await, before, "nothing was written");
        assert_eq!(words.code, json.code, "{words:?} {json:?}");
        assert!(!words.out.contains("ring twice") && !json.out.contains("ring twice"), "no value is printed");
        Said { json: serde_json::from_str(&json.out).unwrap_or_else(|_| panic!("{json:?}")), words }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_needed() {
    let (bench, arn) = Bench::sealed_under_kms().await;
    let said = bench.doctor("").await;
    said.expect("nothing", 0, &["nothing: every item is at target", "ready     yes: a run would not be refused"]);
    assert_eq!(said.json["depth"], "none");
    assert_eq!(said.json["keys"], json!([{ "provider": "aws-kms", "key": arn, "items": 6, "low": 1.0, "high": 1.0 }]));
    let form = &said.json["forms"][0];
    assert_eq!((&form["need"], &form["suite"], &form["version"]), (&json!("nothing"), &json!(ECDSA), &json!(1)));
    assert_eq!(said.checks("refused"), Vec::<String>::new());
    assert_eq!(said.checks("unknown"), Vec::<String>::new());
    let ok = said.checks("ok").join("\n");
    for operation in ["GenerateDataKey", "Decrypt"] {
        assert!(ok.contains(&format!("permission: kms:{operation} on {arn}")), "{ok}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_was_moved() {
    let (bench, old) = Bench::sealed_under_kms().await;
    let local = bench.stand_ins.kms();
    local.call("CreateAlias", &json!({ "AliasName": "alias/orders", "TargetKeyId": old })).unwrap();
    let said = bench.doctor("--alias alias/orders").await;
    said.expect("nothing", 0, &[&format!("alias/orders names {old}, as job and items do: nothing to do for it")]);

    let new = local.create_key("orders, too").unwrap();
    // The job is first.
    bench.job_from(&old, &new, &[]);
    let still = format!("alias/orders still names {old}, which items are under");
    bench.doctor("--alias alias/orders").await.expect("rewrap", 0, &[&still]);
    bench.job_from(&new, &old, &[]);
    local.call("UpdateAlias", &json!({ "AliasName": "alias/orders", "TargetKeyId": new })).unwrap();
    // The job names the old key still.
    let said = bench.doctor("--alias alias/orders").await;
    let moved = format!("alias/orders was moved: it names {new} now, which is not the job's target");
    said.expect("alias-moved", 0, &[&moved, "make it target.keyring.key_arn and rewrap"]);
    // The job follows the alias.
    bench.job_from(&old, &new, &[]);
    let said = bench.doctor("--alias alias/orders").await;
    let moved = format!("alias/orders was moved: it names {new} now, and items are under another key: rewrap them");
    said.expect("alias-moved", 0, &[&moved, "AWS's keyrings write the key's own ARN into each item"]);
    assert_eq!(said.json["depth"], "rewrap");
    // An alias that is not there was asked about in vain.
    bench.doctor("--alias alias/absent").await.expect("rewrap", 1, &["alias/absent: DescribeKey: NotFoundException"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_was_rotated() {
    let (bench, arn) = Bench::sealed_under_kms().await;
    bench.stand_ins.kms().call("RotateKeyOnDemand", &json!({ "KeyId": arn })).unwrap();
    let said = bench.doctor("").await;
    let sentence = format!("nothing: every item is at target. KMS gave the key {arn} new material once, last on ");
    said.expect(
        "key-rotated",
        0,
        &[&sentence, "KMS keeps the old material for what it wrapped", "refresh_key_material"],
    );
    assert_eq!((&said.json["depth"], &said.json["kms-keys"][0]["rotation"]["rotations"]), (&json!("none"), &json!(1)));
    // Who demands the newest material is told of what is under an older one.
    let demanded = ("format = \"dbesdk\"", "format = \"dbesdk\"\ndepth = \"rewrap\"\nrefresh_key_material = true");
    bench.job(&[(RAW, &kms(&arn)), demanded, ("formats = [\"plaintext\"]", "formats = [\"plaintext\", \"dbesdk\"]")]);
    let said = bench.doctor("").await;
    said.expect("rewrap", 0, &["rewrap: 6 of 6 items have another key material than the target"]);
    bench.job(&[(RAW, &kms(&arn))]);
    // Without leave to ask, that alone is not known; a run does not need it.
    let denial = Denial { operation: Some("ListKeyRotations".to_owned()), ..Denial::default() };
    bench.stand_ins.kms().deny(denial).unwrap();
    bench.doctor("").await.expect("nothing", 0, &["allow kms:ListKeyRotations on the key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn items_are_under_another_key() {
    let (bench, old) = Bench::sealed_under_kms().await;
    let new = bench.stand_ins.kms().create_key("orders, too").unwrap();
    bench.job_from(&old, &new, &[]);
    let said = bench.doctor("").await;
    said.expect(
        "rewrap",
        0,
        &[
            "rewrap: 6 of 6 items have another key than the target",
            "rewrap does not revoke",
            "the job says depth = \"reencrypt\", which does more",
        ],
    );
    assert_eq!((&said.json["forms"][0]["need"], &said.json["depth"]), (&json!("rewrap"), &json!("rewrap")));
    // A source key that cannot be used any more.
    bench.stand_ins.kms().call("DisableKey", &json!({ "KeyId": old })).unwrap();
    bench.doctor("").await.expect("rewrap", 3, &[&format!("refused   key: the key {old} is Disabled; enable it")]);
    bench.stand_ins.kms().call("EnableKey", &json!({ "KeyId": old })).unwrap();
    // And one that the job does not name: its items would fail, and the run would not be refused for it.
    bench.job(&[(RAW, &kms(&new)), ("formats = [\"plaintext\"]", "formats = [\"plaintext\", \"dbesdk\"]")]);
    let said = bench.doctor("").await;
    said.expect(
        "rewrap",
        0,
        &[&format!("6 of 6 items of the sample can be opened with {old}, which the job does not name")],
    );
    // Other attributes are encrypted: the ciphertexts cannot stay.
    bench.job_from(&old, &new, &[("status = \"SIGN_ONLY\"", "status = \"ENCRYPT_AND_SIGN\"")]);
    let said = bench.doctor("").await;
    said.expect("re-encrypt", 0, &["re-encrypt: 6 of 6 items have other attributes encrypted", "rewrap is not enough"]);
    assert_eq!(said.json["depth"], "reencrypt");
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_are_mixed() {
    let bench = Bench::with(ORDERS).await;
    let arn = bench.stand_ins.kms().create_key("orders").unwrap();
    let keyring = kms(&arn);
    let hmac = format!("format = \"dbesdk\"\nsuite = \"{HMAC}\"");
    bench.write("two.keys", &[key_line(0), key_line(1)].join("\n"));
    bench.write("three.keys", &[key_line(2), key_line(3), key_line(4)].join("\n"));
    let run = |keys: &str, state: &str| {
        let command = format!("run --job job.toml --execute --keys {keys} --state-dir {state}");
        bench.reseal(&command).expect(0, &[]);
    };
    bench.job(&[(RAW, &keyring), ("format = \"dbesdk\"", &hmac)]);
    run("two.keys", "first");
    let both = ("formats = [\"plaintext\"]", "formats = [\"plaintext\", \"dbesdk\"]");
    bench.job(&[(RAW, &keyring), both]);
    run("three.keys", "second");
    let said = bench.doctor("").await;
    said.expect(
        "re-encrypt",
        0,
        &[
            "re-encrypt: the table holds items in more than one format; 1 of 6 are in plaintext",
            "for 2 items, which have another algorithm suite than the target, rewrap would be enough",
        ],
    );
    let needs: Vec<_> =
        said.json["forms"].as_array().unwrap().iter().map(|form| (&form["need"], &form["items"])).collect();
    let expected = [(json!("nothing"), json!(3)), (json!("rewrap"), json!(2)), (json!("encrypt"), json!(1))];
    assert_eq!(needs, expected.each_ref().map(|(need, items)| (need, items)));
    // All in plaintext is the beginning, not a mixture.
    let fresh = Bench::with(3).await;
    fresh.job(&[]);
    fresh.doctor("").await.expect("encrypt", 0, &["encrypt: 3 of 3 items are in plaintext"]);
    // And without items nobody knows.
    let empty = Bench::with(0).await;
    empty.job(&[]);
    empty.doctor("").await.expect("unknown", 0, &["there is no item to judge by"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_is_denied() {
    let (bench, arn) = Bench::sealed_under_kms().await;
    let local = bench.stand_ins.kms();
    for operation in ["GenerateDataKey", "Decrypt"] {
        local.deny(Denial { operation: Some(operation.to_owned()), ..Denial::default() }).unwrap();
        let said = bench.doctor("").await;
        let denied = format!("permission: kms:{operation} on {arn}: {operation}: AccessDeniedException");
        said.expect(
            "nothing",
            3,
            &[&denied, &format!("remedy: allow kms:{operation} on the key"), "ready     no: a run would be refused"],
        );
        assert_eq!(said.checks("refused").len(), 1, "{}", said.json);
        local.allow_all();
    }
    // A policy that asks for the encryption context denies some items only.
    let value = STANDARD.encode([&[0, 1], "customer-1".as_bytes()].concat());
    let encryption_context = [("aws-crypto-attr.pk".to_owned(), value.clone())].into();
    local.deny(Denial { operation: Some("Decrypt".to_owned()), encryption_context, ..Denial::default() }).unwrap();
    let said = bench.doctor("").await;
    said.expect("nothing", 0, &["Decrypt on", "refused for 1 of 6 items of the sample"]);
    local.allow_all();
    // What the job does not state is refused as well.
    bench.job(&[(RAW, &kms(&arn)), ("readers = \"accept-both\"\n", "")]);
    bench.doctor("").await.expect("nothing", 3, &["refused   readiness: the job does not state"]);
    // Where KMS does not answer, nobody knows.
    bench.job(&[(RAW, &kms(&arn))]);
    let nobody = ran(bench.command("doctor --job job.toml").env("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1"));
    nobody.expect(1, &["ready     unknown: not everything could be found out", "unknown   permission: kms:Decrypt on"]);
    // A policy that denies some items only is no reason to refuse a run: the others can be done.
    let encryption_context = [("aws-crypto-attr.pk".to_owned(), value)].into();
    local.deny(Denial { operation: Some("Decrypt".to_owned()), encryption_context, ..Denial::default() }).unwrap();
    bench.write("some.keys", &[key_line(0), key_line(1), key_line(2)].join("\n"));
    let other = local.create_key("orders, too").unwrap();
    bench.job_from(&arn, &other, &[]);
    bench
        .reseal("run --job job.toml --execute --keys some.keys --state-dir some")
        .expect(4, &["AccessDeniedException"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_probed_when_asked_for() {
    let bench = Bench::with(3).await;
    bench.job(&[]);
    bench.doctor("").await.expect("encrypt", 0, &["not probed"]);
    bench.doctor("--write-probe").await.expect("encrypt", 0, &["conditions: honoured, in batches"]);
    bench.put(&order(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_store_needs() {
    let bench = Bench::with(ORDERS).await;
    let local = bench.stand_ins.kms();
    let (old, new) = (local.create_key("branch keys").unwrap(), local.create_key("branch keys, too").unwrap());
    bench.reseal("keystore create --table key-store --execute").expect(0, &[]);
    let branch_key = "--table key-store --branch-key-id orders --execute --kms-key-arn";
    bench.reseal(&format!("keystore new-branch-key --context team=orders {branch_key} {old}")).expect(0, &[]);
    let keyring = |reader: &str| {
        format!(r#"{{ type = "hierarchy", key_store_table = "key-store", branch_key_id = "orders", {reader} }}"#)
    };
    let discovery = keyring(r#"key_store_readers = "discovery", accounts = ["000000000000"]"#);
    bench.job(&[(RAW, &discovery)]);
    bench.sealed_by_a_run("state");
    let said = bench.doctor("").await;
    said.expect("nothing", 0, &["nothing: every item is at target"]);
    assert_eq!(
        (&said.json["estimate"]["kms-requests"], &said.json["key-stores"][0]["rows"][&old]),
        (&json!(0.0), &json!(3))
    );

    // The KMS key behind the branch key shall be another: by the alias that it goes by, or by the job.
    local.call("CreateAlias", &json!({ "AliasName": "alias/branch-keys", "TargetKeyId": new })).unwrap();
    let sentence = format!("keystore rewrap: 3 rows of the key store key-store are under another KMS key than {new}");
    bench.doctor("--alias alias/branch-keys").await.expect("keystore-rewrap", 0, &[&sentence, "no item is touched"]);
    bench.job(&[(RAW, &keyring(&format!("kms_key_arn = \"{new}\"")))]);
    bench.doctor("").await.expect("keystore-rewrap", 3, &[&sentence]);
    let to =
        format!("keystore rewrap --table key-store --to-kms-key-arn {new} --key-store-readers discovery --execute");
    bench.reseal(&to).expect(0, &[]);
    bench.doctor("").await.expect("nothing", 0, &["nothing: every item is at target"]);

    // A new version of the branch key: nothing in an item's bytes says that there is one.
    bench.reseal(&format!("keystore rotate {branch_key} {new}")).expect(0, &[]);
    let said = bench.doctor("").await;
    said.expect("rewrap", 0, &["rewrap: 6 of 6 items have another branch key, or version of it, than the target"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_kms_is_asked_for() {
    let (bench, old) = Bench::sealed_under_kms().await;
    let new = bench.stand_ins.kms().create_key("orders, too").unwrap();
    bench.job_from(&old, &new, &[]);
    let plan = bench.reseal("plan --job job.toml");
    let logged = "CloudTrail will hold the values of pk, sk, at most in Base64";
    plan.expect(
        0,
        &["12 KMS requests", "6 requests to open items, 6 to seal them", "verify asks 6 more", "USD", logged],
    );
    assert!(plan.out.contains(&format!("6  100.0 %  rewrap      aws-kms {old}")), "{}", plan.out);
    bench.job(&[]);
    let plan = bench.reseal("plan --job job.toml");
    assert!(!plan.out.contains("CloudTrail") && plan.out.contains("0 KMS requests"), "{}", plan.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rsa_key_is_asked_to_decrypt_only() {
    let bench = Bench::with(3).await;
    let local = bench.stand_ins.kms();
    let made = local.call("CreateKey", &json!({ "KeySpec": "RSA_2048", "KeyUsage": "ENCRYPT_DECRYPT" })).unwrap();
    let arn = made["KeyMetadata"]["Arn"].as_str().unwrap();
    let keyring = format!(r#"{{ type = "aws-kms-rsa", key_arn = "{arn}", padding = "oaep-sha256" }}"#);
    let hmac = format!("format = \"dbesdk\"\nsuite = \"{HMAC}\"");
    bench.job(&[(RAW, &keyring), ("format = \"dbesdk\"", &hmac)]);
    // Before there is anything to decrypt, and after.
    bench.doctor("").await.expect("encrypt", 0, &["ok        permission: kms:Decrypt on key/"]);
    bench.sealed_by_a_run("state");
    let said = bench.doctor("").await;
    said.expect("nothing", 0, &["the default for an account in us-east-1 is 1000,"]);
    assert!(!said.words.out.contains("GenerateDataKey"), "{}", said.words.out);
    local.deny(Denial { operation: Some("Decrypt".to_owned()), ..Denial::default() }).unwrap();
    bench.doctor("").await.expect("nothing", 3, &["refused   permission: kms:Decrypt on"]);
}
