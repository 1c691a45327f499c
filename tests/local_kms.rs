//! What reseal relies on in KMS, asked through AWS's SDK.
//!
//! Runs on the embedded KMS, or on another one whose endpoint is in `RESEAL_KMS_ENDPOINT`; what only the embedded one
//! has (rules, keys in a file) is then left out.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;

use aws_sdk_kms::Client;
use aws_sdk_kms::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, EncryptionAlgorithmSpec, KeyManagerType, KeySpec, KeyState, KeyUsageType};
use reseal::local::kms::Denial;
use reseal::local::{Options, StandIns, start};

const REGION: &str = "us-east-1";

/// A client, and the stand-ins that it talks to unless another KMS was asked for.
struct World {
    client: Client,
    stand_ins: Option<StandIns>,
}

impl World {
    fn new() -> Self {
        match std::env::var("RESEAL_KMS_ENDPOINT") {
            Ok(endpoint) => Self { client: client(&endpoint), stand_ins: None },
            Err(_) => Self::embedded(),
        }
    }

    fn embedded() -> Self {
        let stand_ins = start(Options::default()).unwrap();
        Self { client: client(&stand_ins.kms_endpoint()), stand_ins: Some(stand_ins) }
    }

    fn rules(&self) -> &reseal::local::kms::LocalKms {
        self.stand_ins.as_ref().unwrap().kms()
    }

    /// A new key's ARN.
    async fn key(&self) -> String {
        self.client.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap()
    }

    /// A data key's plaintext and blob.
    async fn data_key(&self, key: &str, context: &HashMap<String, String>) -> (Vec<u8>, Blob) {
        let request = self.client.generate_data_key().key_id(key).key_spec(DataKeySpec::Aes256);
        let answer = request.set_encryption_context(Some(context.clone())).send().await.unwrap();
        (answer.plaintext.unwrap().into_inner(), answer.ciphertext_blob.unwrap())
    }
}

fn client(endpoint: &str) -> Client {
    let config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new("local", "local", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(endpoint);
    Client::from_conf(config.build())
}

fn context(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The exception's name in an answer that has to be one.
fn exception<T: Debug, E: ProvideErrorMetadata + Debug>(answer: Result<T, SdkError<E>>) -> String {
    let error = answer.unwrap_err();
    let service_error = error.as_service_error().unwrap_or_else(|| panic!("no answer of the service: {error:?}"));
    service_error.code().unwrap_or("no name").to_owned()
}

#[tokio::test]
async fn a_key_describes_itself() {
    let world = World::new();
    let created = world.client.create_key().description("table keys").send().await.unwrap().key_metadata.unwrap();
    let arn = created.arn().unwrap();
    let account = created.aws_account_id().unwrap();
    assert_eq!(arn, format!("arn:aws:kms:{REGION}:{account}:key/{}", created.key_id()));
    for name in [arn, created.key_id()] {
        let found = world.client.describe_key().key_id(name).send().await.unwrap().key_metadata.unwrap();
        assert_eq!(found, created, "by {name}");
        assert_eq!(found.description(), Some("table keys"));
        assert!(found.enabled());
        assert_eq!(found.key_state(), Some(&KeyState::Enabled));
        assert_eq!(found.key_spec(), Some(&KeySpec::SymmetricDefault));
        assert_eq!(found.key_usage(), Some(&KeyUsageType::EncryptDecrypt));
        assert_eq!(found.key_manager(), Some(&KeyManagerType::Customer));
        assert_eq!(found.encryption_algorithms(), [EncryptionAlgorithmSpec::SymmetricDefault]);
        assert_eq!(found.current_key_material_id().map(str::len), Some(64));
    }
}

#[tokio::test]
async fn keys_are_listed_page_by_page() {
    let world = World::new();
    let mut made = BTreeSet::new();
    for _ in 0..7 {
        made.insert(world.key().await);
    }
    let (mut listed, mut pages, mut marker) = (Vec::new(), 0, None);
    loop {
        let page = world.client.list_keys().limit(3).set_marker(marker).send().await.unwrap();
        assert!(page.keys().len() <= 3);
        listed.extend(page.keys().iter().map(|key| key.key_arn().unwrap().to_owned()));
        pages += 1;
        assert_eq!(page.truncated, page.next_marker.is_some());
        marker = page.next_marker;
        if marker.is_none() {
            break;
        }
    }
    let unique: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(unique.len(), listed.len(), "no key twice");
    assert!(unique.is_superset(&made));
    assert!(pages >= 3);
    let refused = world.client.list_keys().marker("nonsense").send().await;
    assert_eq!(exception(refused), "InvalidMarkerException");
}

#[tokio::test]
async fn data_keys_come_back_and_name_their_key_and_material() {
    let world = World::new();
    let key = world.key().await;
    let material = {
        let metadata = world.client.describe_key().key_id(&key).send().await.unwrap().key_metadata.unwrap();
        metadata.current_key_material_id.unwrap()
    };
    let context = context(&[("tenant", "t1"), ("naïve", "漢字 😀"), ("empty", "")]);
    let id = key.rsplit_once('/').unwrap().1;
    for (name, spec, number, length) in [
        (key.as_str(), Some(DataKeySpec::Aes256), None, 32),
        (id, Some(DataKeySpec::Aes128), None, 16),
        (id, None, Some(1), 1),
        (key.as_str(), None, Some(1024), 1024),
    ] {
        let request = world.client.generate_data_key().key_id(name).set_encryption_context(Some(context.clone()));
        let made = request.set_key_spec(spec).set_number_of_bytes(number).send().await.unwrap();
        assert_eq!(made.key_id(), Some(key.as_str()), "the ARN, however the key was named");
        assert_eq!(made.key_material_id(), Some(material.as_str()));
        assert_eq!(made.plaintext().unwrap().as_ref().len(), length);
        for key_id in [None, Some(key.clone()), Some(id.to_owned())] {
            let request = world.client.decrypt().ciphertext_blob(made.ciphertext_blob.clone().unwrap());
            let opened = request.set_key_id(key_id).set_encryption_context(Some(context.clone())).send().await.unwrap();
            assert_eq!(opened.plaintext(), made.plaintext());
            assert_eq!(opened.key_id(), Some(key.as_str()));
            assert_eq!(opened.key_material_id(), Some(material.as_str()));
            assert_eq!(opened.encryption_algorithm(), Some(&EncryptionAlgorithmSpec::SymmetricDefault));
        }
    }
}

#[tokio::test]
async fn a_data_key_without_plaintext_opens_later() {
    let world = World::new();
    let key = world.key().await;
    let request = world.client.generate_data_key_without_plaintext().key_id(&key).key_spec(DataKeySpec::Aes256);
    let made = request.encryption_context("a", "1").send().await.unwrap();
    assert_eq!(made.key_id(), Some(key.as_str()));
    assert!(made.key_material_id().is_some());
    let request = world.client.decrypt().ciphertext_blob(made.ciphertext_blob.unwrap());
    let opened = request.encryption_context("a", "1").send().await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref().len(), 32);
}

#[tokio::test]
async fn data_keys_and_blobs_are_fresh() {
    let world = World::new();
    let key = world.key().await;
    let (mut plaintexts, mut blobs) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..20 {
        let (plaintext, blob) = world.data_key(&key, &context(&[])).await;
        plaintexts.insert(plaintext);
        blobs.insert(blob.into_inner());
    }
    assert_eq!((plaintexts.len(), blobs.len()), (20, 20));
}

#[tokio::test]
async fn encrypt_takes_4096_bytes_and_names_no_material() {
    let world = World::new();
    let key = world.key().await;
    for (length, expect) in
        [(1, None), (4096, None), (4097, Some("ValidationException")), (0, Some("ValidationException"))]
    {
        let plaintext = vec![7; length];
        let answer = world.client.encrypt().key_id(&key).plaintext(Blob::new(plaintext.clone())).send().await;
        let Some(expect) = expect else {
            let answer = answer.unwrap();
            assert_eq!(answer.key_id(), Some(key.as_str()));
            let opened = world.client.decrypt().ciphertext_blob(answer.ciphertext_blob.unwrap()).send().await.unwrap();
            assert_eq!(opened.plaintext().unwrap().as_ref(), plaintext);
            continue;
        };
        assert_eq!(exception(answer), expect, "{length} bytes");
    }
}

#[tokio::test]
async fn a_blob_opens_only_in_its_context() {
    let world = World::new();
    let key = world.key().await;
    let made = context(&[("tenant", "t1"), ("id", "7")]);
    let (_, blob) = world.data_key(&key, &made).await;
    for (given, opens) in [
        (made.clone(), true),
        (context(&[]), false),
        (context(&[("tenant", "t1")]), false),
        (context(&[("tenant", "t1"), ("id", "7"), ("more", "")]), false),
        (context(&[("tenant", "T1"), ("id", "7")]), false),
        (context(&[("Tenant", "t1"), ("id", "7")]), false),
        (context(&[("tenant", "7"), ("id", "t1")]), false),
        (context(&[("tenan", "tt1"), ("id", "7")]), false),
    ] {
        for key_id in [None, Some(key.clone())] {
            let request = world.client.decrypt().ciphertext_blob(blob.clone()).set_key_id(key_id);
            let answer = request.set_encryption_context(Some(given.clone())).send().await;
            if opens {
                answer.unwrap();
            } else {
                assert_eq!(exception(answer), "InvalidCiphertextException", "{given:?}");
            }
        }
    }
}

#[tokio::test]
async fn damaged_blobs_and_other_keys_are_told_apart() {
    let world = World::new();
    let (key, other) = (world.key().await, world.key().await);
    let (_, blob) = world.data_key(&key, &context(&[])).await;
    let whole = blob.into_inner();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    for (bytes, key_id, expect) in [
        (whole.clone(), Some(&other), "IncorrectKeyException"),
        (changed.clone(), None, "InvalidCiphertextException"),
        (changed, Some(&key), "InvalidCiphertextException"),
        (whole[..whole.len() - 1].to_vec(), Some(&key), "InvalidCiphertextException"),
        (vec![0], None, "InvalidCiphertextException"),
        (vec![0xff; 6144], Some(&key), "InvalidCiphertextException"),
        (vec![0xff; 6145], Some(&key), "ValidationException"),
        (Vec::new(), None, "ValidationException"),
    ] {
        let request = world.client.decrypt().ciphertext_blob(Blob::new(bytes.clone()));
        let answer = request.set_key_id(key_id.cloned()).send().await;
        assert_eq!(exception(answer), expect, "{} bytes, key {key_id:?}", bytes.len());
    }
}

#[tokio::test]
async fn keys_that_are_not_here_are_named_by_the_right_exception() {
    let world = World::new();
    let key = world.key().await;
    let elsewhere = key.replace(REGION, "eu-west-1");
    let absent = "01234567-89ab-4cde-8f01-23456789abcd";
    let absent_arn = format!("{}/{absent}", key.rsplit_once('/').unwrap().0);
    for (name, describing, generating) in [
        (absent, "NotFoundException", "NotFoundException"),
        (absent_arn.as_str(), "NotFoundException", "NotFoundException"),
        (elsewhere.as_str(), "NotFoundException", "NotFoundException"),
        ("nonsense", "NotFoundException", "NotFoundException"),
        ("alias/none", "NotFoundException", "NotFoundException"),
        ("arn:aws:kms:nonsense", "InvalidArnException", "NotFoundException"),
    ] {
        let answer = world.client.describe_key().key_id(name).send().await;
        assert_eq!(exception(answer), describing, "DescribeKey {name}");
        let answer = world.client.generate_data_key().key_id(name).key_spec(DataKeySpec::Aes256).send().await;
        assert_eq!(exception(answer), generating, "GenerateDataKey {name}");
    }
}

#[tokio::test]
async fn data_key_sizes_are_checked() {
    let world = World::new();
    let key = world.key().await;
    for (spec, number) in [
        (None, None),
        (Some(DataKeySpec::Aes256), Some(32)),
        (None, Some(0)),
        (None, Some(1025)),
        (Some(DataKeySpec::from("AES_512")), None),
    ] {
        let request = world.client.generate_data_key().key_id(&key);
        let answer = request.set_key_spec(spec.clone()).set_number_of_bytes(number).send().await;
        assert_eq!(exception(answer), "ValidationException", "{spec:?} {number:?}");
    }
}

#[tokio::test]
async fn a_symmetric_key_knows_no_rsa() {
    let world = World::new();
    let key = world.key().await;
    let request = world.client.encrypt().key_id(&key).plaintext(Blob::new([1]));
    let answer = request.encryption_algorithm(EncryptionAlgorithmSpec::RsaesOaepSha256).send().await;
    assert_eq!(exception(answer), "InvalidKeyUsageException");
}

#[tokio::test]
async fn states_forbid_cryptography_but_not_description() {
    let world = World::new();
    let key = world.key().await;
    let (plaintext, blob) = world.data_key(&key, &context(&[])).await;
    let check = async |state: KeyState, expect: Option<&str>| {
        let found = world.client.describe_key().key_id(&key).send().await.unwrap().key_metadata.unwrap();
        assert_eq!((found.enabled(), found.key_state()), (expect.is_none(), Some(&state)));
        assert_eq!(found.deletion_date().is_some(), state == KeyState::PendingDeletion);
        let names = [
            world.client.decrypt().ciphertext_blob(blob.clone()).send().await.map(|_| ()).map_err(code),
            world.client.encrypt().key_id(&key).plaintext(Blob::new([1])).send().await.map(|_| ()).map_err(code),
            world.client.generate_data_key().key_id(&key).number_of_bytes(8).send().await.map(|_| ()).map_err(code),
        ];
        let expect = expect.map_or(Ok(()), |name| Err(name.to_owned()));
        assert_eq!(names, [expect.clone(), expect.clone(), expect], "{state:?}");
    };
    check(KeyState::Enabled, None).await;
    world.client.disable_key().key_id(&key).send().await.unwrap();
    check(KeyState::Disabled, Some("DisabledException")).await;
    world.client.enable_key().key_id(&key).send().await.unwrap();
    check(KeyState::Enabled, None).await;

    let request = world.client.schedule_key_deletion().key_id(&key).pending_window_in_days(7);
    let scheduled = request.send().await.unwrap();
    assert_eq!(scheduled.key_id(), Some(key.as_str()));
    assert_eq!(scheduled.key_state(), Some(&KeyState::PendingDeletion));
    check(KeyState::PendingDeletion, Some("KMSInvalidStateException")).await;
    let states = [
        world.client.enable_key().key_id(&key).send().await.map(|_| ()).map_err(code),
        world.client.disable_key().key_id(&key).send().await.map(|_| ()).map_err(code),
        world.client.schedule_key_deletion().key_id(&key).send().await.map(|_| ()).map_err(code),
    ];
    assert_eq!(states, [(); 3].map(|()| Err("KMSInvalidStateException".to_owned())));

    world.client.cancel_key_deletion().key_id(&key).send().await.unwrap();
    check(KeyState::Disabled, Some("DisabledException")).await;
    world.client.enable_key().key_id(&key).send().await.unwrap();
    let opened = world.client.decrypt().ciphertext_blob(blob.clone()).send().await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), plaintext);
    let refused = world.client.cancel_key_deletion().key_id(&key).send().await;
    assert_eq!(exception(refused), "KMSInvalidStateException");
}

fn code<E: ProvideErrorMetadata + Debug>(error: SdkError<E>) -> String {
    exception::<(), E>(Err(error))
}

#[tokio::test]
async fn a_dry_run_ends_in_an_exception_either_way() {
    let world = World::embedded();
    let key = world.key().await;
    let request = world.client.generate_data_key().key_id(&key).number_of_bytes(8).dry_run(true);
    assert_eq!(exception(request.send().await), "DryRunOperationException");
    world.client.disable_key().key_id(&key).send().await.unwrap();
    let request = world.client.generate_data_key().key_id(&key).number_of_bytes(8).dry_run(true);
    assert_eq!(exception(request.send().await), "DisabledException");
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let world = World::embedded();
    let refused = world.client.create_key().key_spec(KeySpec::Rsa4096).send().await.unwrap_err();
    assert_eq!(refused.code(), Some("UnsupportedOperationException"));
    assert!(refused.message().unwrap().contains("KeySpec"), "{refused:?}");
    let answer = world.client.list_aliases().send().await;
    assert_eq!(exception(answer), "UnknownOperationException");
}

#[tokio::test]
async fn rules_deny_throttle_and_count() {
    let world = World::embedded();
    let key = world.key().await;
    let (_, blob) = world.data_key(&key, &context(&[("tenant", "t1")])).await;
    let decrypt =
        async || world.client.decrypt().ciphertext_blob(blob.clone()).encryption_context("tenant", "t1").send().await;
    let rule = Denial {
        key_id: Some(key.clone()),
        operation: Some("Decrypt".to_owned()),
        encryption_context: BTreeMap::from([("tenant".to_owned(), "t1".to_owned())]),
    };
    world.rules().deny(rule).unwrap();
    assert_eq!(exception(decrypt().await), "AccessDeniedException");
    world.data_key(&key, &context(&[("tenant", "t1")])).await;
    world.rules().allow_all();
    decrypt().await.unwrap();

    // So low that no test takes long enough for the bucket to fill again.
    world.rules().limit(Some(0.001));
    decrypt().await.unwrap();
    let refused = decrypt().await.unwrap_err();
    assert_eq!(refused.raw_response().unwrap().status().as_u16(), 400);
    assert_eq!(refused.code(), Some("ThrottlingException"));
    world.client.describe_key().key_id(&key).send().await.unwrap();
    world.rules().limit(None);
    decrypt().await.unwrap();

    let counts = world.rules().requests();
    assert_eq!((counts["Decrypt"], counts["GenerateDataKey"], counts["DescribeKey"]), (5, 2, 1));
    world.rules().forget_requests();
    assert!(world.rules().requests().is_empty());
}

#[tokio::test]
async fn the_same_rules_are_set_over_http() {
    let world = World::embedded();
    let key = world.key().await;
    let rules = Http(world.stand_ins.as_ref().unwrap().kms_endpoint());
    let id = key.rsplit_once('/').unwrap().1;
    let encrypt = async || world.client.encrypt().key_id(&key).plaintext(Blob::new([1])).send().await;

    let rule = format!(r#"{{"KeyId":"{id}","Operation":"Encrypt"}}"#);
    assert_eq!(rules.send("POST", "/_reseal/deny", &rule).await.0, 200);
    assert_eq!(exception(encrypt().await), "AccessDeniedException");
    assert_eq!(rules.send("DELETE", "/_reseal/deny", "").await.0, 200);
    encrypt().await.unwrap();
    assert_eq!(rules.send("POST", "/_reseal/rate", r#"{"RequestsPerSecond":0.001}"#).await.0, 200);
    encrypt().await.unwrap();
    assert_eq!(exception(encrypt().await), "ThrottlingException");
    assert_eq!(rules.send("POST", "/_reseal/rate", r#"{"RequestsPerSecond":null}"#).await.0, 200);
    encrypt().await.unwrap();
    let counts = rules.send("GET", "/_reseal/requests", "").await.1;
    assert_eq!(counts, r#"{"CreateKey":1,"Encrypt":5}"#);
    assert_eq!(rules.send("DELETE", "/_reseal/requests", "").await.0, 200);
    assert_eq!(rules.send("GET", "/_reseal/requests", "").await.1, "{}");

    for (path, body) in [
        ("/_reseal/deny", r#"{"Key":"x"}"#),
        ("/_reseal/deny", "nonsense"),
        ("/_reseal/deny", r#"{"Operation":"Decript"}"#),
        ("/_reseal/rate", r#"{"RequestsPerSecond":"many"}"#),
        ("/", "{}"),
    ] {
        assert_eq!(rules.send("POST", path, body).await.0, 400, "{path} {body}");
    }
}

/// HTTP by hand: the rules are no operations of an SDK.
struct Http(String);

impl Http {
    async fn send(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let host = self.0.strip_prefix("http://").unwrap();
        let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n");
        stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

#[tokio::test]
async fn keys_and_states_outlive_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let begin = || {
        let stand_ins = start(Options { data: Some(data.path().to_owned()), ..Options::default() }).unwrap();
        World { client: client(&stand_ins.kms_endpoint()), stand_ins: Some(stand_ins) }
    };
    let world = begin();
    let (key, disabled) = (world.key().await, world.key().await);
    let (plaintext, blob) = world.data_key(&key, &context(&[("a", "1")])).await;
    world.client.disable_key().key_id(&disabled).send().await.unwrap();
    let before = world.client.describe_key().key_id(&key).send().await.unwrap().key_metadata;
    world.stand_ins.unwrap().shutdown().await.unwrap();

    let world = begin();
    let opened = world.client.decrypt().ciphertext_blob(blob).encryption_context("a", "1").send().await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), plaintext);
    let answer = world.client.encrypt().key_id(&disabled).plaintext(Blob::new([1])).send().await;
    assert_eq!(exception(answer), "DisabledException");
    assert_eq!(world.client.list_keys().send().await.unwrap().keys().len(), 2);
    let after = world.client.describe_key().key_id(&key).send().await.unwrap().key_metadata.unwrap();
    let before = before.unwrap();
    assert_eq!(after.current_key_material_id(), before.current_key_material_id());
    assert_eq!(after.creation_date().unwrap().secs(), before.creation_date().unwrap().secs());
    world.stand_ins.unwrap().shutdown().await.unwrap();
}
