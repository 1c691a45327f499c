//! The KMS keyrings over the embedded KMS.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use reseal::aws::AwsConfig;
use reseal::crypto::EncryptionContext;
use reseal::keyring::{
    DiscoveryFilter, KeyArn, KeyRefused, Keyring, KeyringClass, KeyringError, KmsDiscovery, KmsKeyring, KmsRsa,
    KmsRsaPadding, WrappedKey, WrappedRef,
};
use reseal::local::kms::{Denial, LocalKms};
use reseal::local::{Options, StandIns, start};
use serde_json::json;

struct World {
    config: AwsConfig,
    stand_ins: StandIns,
}

impl World {
    fn new() -> Self {
        let stand_ins = start(Options::default()).unwrap();
        let config = AwsConfig::stand_in(&stand_ins.kms_endpoint(), stand_ins.region()).unwrap();
        Self { config, stand_ins }
    }

    fn kms(&self) -> &LocalKms {
        self.stand_ins.kms()
    }

    fn key(&self) -> (String, KmsKeyring) {
        let arn = self.kms().create_key("test").unwrap();
        let keyring = KmsKeyring::new(&self.config, KeyArn::parse(&arn).unwrap()).unwrap();
        (arn, keyring)
    }
}

fn context(tenant: &str) -> EncryptionContext {
    [("tenant".to_owned(), tenant.to_owned()), ("größe".to_owned(), "1".to_owned())].into_iter().collect()
}

async fn generated(keyring: &KmsKeyring) -> WrappedKey {
    let [wrapped] = <[WrappedKey; 1]>::try_from(keyring.generate(&context("a")).await.unwrap()).unwrap();
    wrapped
}

fn found(wrapped: &WrappedKey) -> WrappedRef<'_> {
    WrappedRef {
        provider_id: &wrapped.provider_id,
        provider_info: &wrapped.provider_info,
        ciphertext: &wrapped.ciphertext,
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, KeyringError>, class: KeyringClass, words: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.class, class, "{error}");
    assert!(error.problem.contains(words), "{error}");
}

#[tokio::test]
async fn a_key_there_and_back() {
    let world = World::new();
    let (arn, keyring) = world.key();
    keyring.examine().await.unwrap();
    let wrapped = generated(&keyring).await;
    assert_eq!((wrapped.provider_id.as_str(), wrapped.provider_info.as_slice()), ("aws-kms", arn.as_bytes()));
    assert_eq!(keyring.recipients()[0].recipient.key, arn);
    assert!(keyring.accepts(found(&wrapped)));
    let unwrapped = keyring.unwrap(found(&wrapped), &context("a")).await.unwrap();
    assert!(unwrapped == wrapped.key);
    assert!(generated(&keyring).await.key != wrapped.key);
    // One request each: nothing is asked twice.
    assert_eq!(world.kms().requests().get("GenerateDataKey"), Some(&2));
    assert_eq!(world.kms().requests().get("Decrypt"), Some(&1));
}

#[tokio::test]
async fn the_material_of_a_key_is_looked_at_where_that_is_asked_for() {
    let world = World::new();
    let (arn, mut keyring) = world.key();
    let rotate = || world.kms().call("RotateKeyOnDemand", &json!({ "KeyId": arn })).unwrap();
    let before = generated(&keyring).await;
    rotate();
    assert!(!keyring.looks_deeper());
    assert_eq!(keyring.moved().await, Ok(None), "nobody asked");
    keyring.demand_present_material().await.unwrap();
    let after = generated(&keyring).await;
    assert!(keyring.looks_deeper());
    assert_eq!(keyring.is_current(&[found(&before)], &context("a")).await, Ok(false));
    assert_eq!(keyring.is_current(&[found(&after)], &context("a")).await, Ok(true));
    assert_eq!(keyring.moved().await, Ok(None));
    rotate();
    let moved = keyring.moved().await.unwrap().unwrap();
    assert!(moved.contains(&arn) && moved.contains("rotated"), "{moved}");
    // What it counts as current stays what it was: the next run asks for the newer one.
    assert_eq!(keyring.is_current(&[found(&after)], &context("a")).await, Ok(true));
}

#[tokio::test]
async fn what_belongs_to_another_item_or_key() {
    let world = World::new();
    let (_, keyring) = world.key();
    let wrapped = generated(&keyring).await;
    let words = "the wrapped key is damaged, or belongs to other attributes of the encryption context";
    refused(keyring.unwrap(found(&wrapped), &context("b")).await, KeyringClass::Item, words);
    let mut damaged = wrapped.ciphertext.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let damaged = WrappedRef { ciphertext: &damaged, ..found(&wrapped) };
    refused(keyring.unwrap(damaged, &context("a")).await, KeyringClass::Item, words);
    for length in [0, 7000] {
        let wrong = vec![0; length];
        let wrong = WrappedRef { ciphertext: &wrong, ..found(&wrapped) };
        refused(keyring.unwrap(wrong, &context("a")).await, KeyringClass::Item, "Decrypt");
    }
    let (_, other) = world.key();
    refused(other.unwrap(found(&wrapped), &context("a")).await, KeyringClass::Item, "IncorrectKeyException");
}

#[tokio::test]
async fn a_key_that_cannot_be_used() {
    let world = World::new();
    let (arn, keyring) = world.key();
    let wrapped = generated(&keyring).await;

    world.kms().deny(Denial { operation: Some("Decrypt".into()), ..Denial::default() }).unwrap();
    refused(keyring.unwrap(found(&wrapped), &context("a")).await, KeyringClass::Denied, "allow kms:Decrypt on the key");
    world.kms().allow_all();
    world.kms().deny(Denial { operation: Some("DescribeKey".into()), ..Denial::default() }).unwrap();
    let KeyRefused::Service(error) = keyring.examine().await.unwrap_err() else { panic!() };
    refused::<()>(Err(error), KeyringClass::Denied, "allow kms:DescribeKey");
    world.kms().allow_all();

    world.kms().limit(Some(1.0));
    let mut throttled = None;
    for _ in 0..20 {
        throttled = keyring.generate(&context("a")).await.err().or(throttled);
    }
    refused::<()>(Err(throttled.unwrap()), KeyringClass::Throttled, "ThrottlingException");
    world.kms().limit(None);

    world.kms().call("DisableKey", &json!({ "KeyId": arn })).unwrap();
    refused(keyring.generate(&context("a")).await, KeyringClass::Key, "enable the key");
    let state = keyring.examine().await.unwrap_err();
    assert_eq!(state.to_string(), format!("the key {arn} is Disabled; enable it"));

    world.kms().call("EnableKey", &json!({ "KeyId": arn })).unwrap();
    world.kms().call("ScheduleKeyDeletion", &json!({ "KeyId": arn })).unwrap();
    refused(keyring.generate(&context("a")).await, KeyringClass::Key, "cancel the key's deletion");
    let state = keyring.examine().await.unwrap_err();
    assert_eq!(state.to_string(), format!("the key {arn} is PendingDeletion; cancel its deletion and enable it"));

    let unknown = KeyArn::parse(&arn.replace("key/", "key/0000")).unwrap();
    let unknown = KmsKeyring::new(&world.config, unknown).unwrap();
    refused(unknown.generate(&context("a")).await, KeyringClass::Key, "check the key's ARN");
    assert!(matches!(unknown.examine().await.unwrap_err(), KeyRefused::Service(_)));
}

#[tokio::test]
async fn a_service_that_is_not_there() {
    let World { config, stand_ins } = World::new();
    let arn = stand_ins.kms().create_key("test").unwrap();
    let keyring = KmsKeyring::new(&config, KeyArn::parse(&arn).unwrap()).unwrap();
    stand_ins.shutdown().await.unwrap();
    refused(keyring.generate(&context("a")).await, KeyringClass::Transient, "GenerateDataKey");
}

const HOME: &str = "us-east-1";
const ABROAD: &str = "eu-west-1";

/// The stand-ins with KMS in two Regions.
struct TwoRegions(StandIns);

impl TwoRegions {
    fn new() -> Self {
        Self(start(Options { more_kms_regions: vec![ABROAD.to_owned()], ..Options::default() }).unwrap())
    }

    fn config(&self, region: &str) -> AwsConfig {
        AwsConfig::stand_in(&self.0.kms_endpoint_in(region).unwrap(), region).unwrap()
    }

    /// A multi-Region key, of which there is one in each Region.
    fn multi_region_key(&self) -> KeyArn {
        let made = self.0.kms().call("CreateKey", &json!({ "MultiRegion": true })).unwrap();
        let arn = KeyArn::parse(made["KeyMetadata"]["Arn"].as_str().unwrap()).unwrap();
        self.0.kms().call("ReplicateKey", &json!({ "KeyId": arn.as_str(), "ReplicaRegion": ABROAD })).unwrap();
        assert!(arn.is_multi_region());
        arn
    }

    fn discovery(&self, region: &str, account: &str) -> KmsDiscovery {
        let accounts = Some([account.to_owned()].into_iter().collect());
        KmsDiscovery::new(&self.config(region), DiscoveryFilter { partition: "aws".to_owned(), accounts })
    }
}

async fn made(keyring: &impl Keyring) -> WrappedKey {
    keyring.generate(&context("a")).await.unwrap().remove(0)
}

#[tokio::test]
async fn a_multi_region_key_opens_in_one_region_what_it_sealed_in_another() {
    let world = TwoRegions::new();
    let arn = world.multi_region_key();
    let here = KmsKeyring::multi_region(&world.config(HOME), arn.clone()).unwrap();
    let there = KmsKeyring::multi_region(&world.config(ABROAD), arn.in_region(ABROAD)).unwrap();
    for (keyring, other, own) in [(&here, &there, arn.clone()), (&there, &here, arn.in_region(ABROAD))] {
        keyring.examine().await.unwrap();
        let wrapped = made(keyring).await;
        assert_eq!(wrapped.provider_info, own.as_str().as_bytes());
        for reader in [keyring, other] {
            assert!(reader.accepts(wrapped.wrapped()));
            assert_eq!(reader.unwrap(wrapped.wrapped(), &context("a")).await.unwrap(), wrapped.key);
            refused(reader.unwrap(wrapped.wrapped(), &context("b")).await, KeyringClass::Item, "Decrypt");
        }
        // Who compares ARNs as text takes it for another key.
        let strict = KmsKeyring::new(&world.config(HOME), arn.clone()).unwrap();
        assert_eq!(strict.accepts(wrapped.wrapped()), own == arn);
    }
}

#[tokio::test]
async fn whichever_key_of_the_filter_an_item_names() {
    let world = TwoRegions::new();
    let (single, shared) = (world.0.kms().create_key("").unwrap(), world.multi_region_key());
    let account = shared.account();
    let single = KmsKeyring::new(&world.config(HOME), KeyArn::parse(&single).unwrap()).unwrap();
    let shared = KmsKeyring::multi_region(&world.config(HOME), shared.clone()).unwrap();
    let (single_key, shared_key) = (made(&single).await, made(&shared).await);
    let (here, there) = (world.discovery(HOME, account), world.discovery(ABROAD, account));
    for (keyring, wrapped, opens) in [
        (&here, &single_key, true),
        (&here, &shared_key, true),
        (&there, &shared_key, true),
        (&there, &single_key, false),
    ] {
        assert_eq!(keyring.accepts(wrapped.wrapped()), opens);
        let unwrapped = keyring.unwrap(wrapped.wrapped(), &context("a")).await;
        assert_eq!(unwrapped.is_ok_and(|key| key == wrapped.key), opens);
    }
    let elsewhere = world.discovery(HOME, "999999999999");
    assert!(!elsewhere.accepts(single_key.wrapped()));
    refused(elsewhere.unwrap(single_key.wrapped(), &context("a")).await, KeyringClass::Item, "discovery filter");

    // That one key cannot be used stops nothing: the next item names another.
    let info = String::from_utf8(single_key.provider_info.clone()).unwrap();
    world.0.kms().call("DisableKey", &json!({ "KeyId": info })).unwrap();
    refused(here.unwrap(single_key.wrapped(), &context("a")).await, KeyringClass::Item, "enable the key");
    world.0.kms().deny(Denial { operation: Some("Decrypt".into()), ..Denial::default() }).unwrap();
    refused(here.unwrap(shared_key.wrapped(), &context("a")).await, KeyringClass::Denied, "allow kms:Decrypt");
    assert!(here.recipients().is_empty());
    refused(here.generate(&context("a")).await, KeyringClass::Key, "names no key to wrap with");
}

const PAIR: &str = include_str!("fixtures/rsa2048-for-tests-only.private.pem");
const PUBLIC: &str = include_str!("fixtures/rsa2048-for-tests-only.public.pem");
const ANOTHER: &str = include_str!("fixtures/rsa3072-for-tests-only.private.pem");

#[tokio::test]
async fn an_rsa_key_wraps_here_and_unwraps_at_kms() {
    let world = World::new();
    let arn = KeyArn::parse(&world.kms().import_rsa(PAIR).unwrap()).unwrap();
    for padding in KmsRsaPadding::ALL {
        let mut keyring = KmsRsa::new(&world.config, arn.clone(), padding).unwrap();
        keyring.examine().await.unwrap();
        keyring.fetch_public_key().await.unwrap();
        let wrapped = made(&keyring).await;
        let mut by_file = KmsRsa::new(&world.config, arn.clone(), padding).unwrap();
        by_file.set_public_key(PUBLIC.as_bytes()).unwrap();
        by_file.prove_public_key().await.unwrap();
        for wrapped in [&wrapped, &made(&by_file).await] {
            assert!(keyring.accepts(wrapped.wrapped()));
            assert_eq!(keyring.unwrap(wrapped.wrapped(), &context("a")).await.unwrap(), wrapped.key);
            let other = keyring.unwrap(wrapped.wrapped(), &context("b")).await;
            refused(other, KeyringClass::Item, "belongs to other attributes of the encryption context");
        }
        let damaged = WrappedRef { ciphertext: &[1; 256], ..wrapped.wrapped() };
        refused(keyring.unwrap(damaged, &context("a")).await, KeyringClass::Item, "Decrypt");
        by_file.set_public_key(ANOTHER.as_bytes()).unwrap();
        let wrong = by_file.prove_public_key().await.unwrap_err();
        assert_eq!(wrong, KeyRefused::AnotherPublicKey { key: arn.as_str().to_owned() });
    }
    // Two were fetched, one for each padding: nothing is asked to wrap.
    assert_eq!(world.kms().requests().get("GetPublicKey"), Some(&2));
    assert_eq!(world.kms().requests().get("GenerateDataKey"), None);
}

#[tokio::test]
async fn keys_of_another_kind() {
    let world = World::new();
    let rsa = KeyArn::parse(&world.kms().import_rsa(PAIR).unwrap()).unwrap();
    let (symmetric, keyring) = world.key();
    let by_rsa = KmsRsa::new(&world.config, KeyArn::parse(&symmetric).unwrap(), KmsRsaPadding::OaepSha256).unwrap();
    let refused = by_rsa.examine().await.unwrap_err().to_string();
    assert!(refused.ends_with("is of the kind SYMMETRIC_DEFAULT; create one of the kind RSA_3072"), "{refused}");
    keyring.examine().await.unwrap();
    let symmetric = KmsKeyring::new(&world.config, rsa.clone()).unwrap();
    let refused = symmetric.examine().await.unwrap_err().to_string();
    assert!(refused.ends_with("is of the kind RSA_2048; create one of the kind SYMMETRIC_DEFAULT"), "{refused}");

    world.kms().deny(Denial { operation: Some("GetPublicKey".into()), ..Denial::default() }).unwrap();
    let mut by_rsa = KmsRsa::new(&world.config, rsa.clone(), KmsRsaPadding::OaepSha256).unwrap();
    let refused = by_rsa.fetch_public_key().await.unwrap_err().to_string();
    assert!(refused.contains("allow kms:GetPublicKey"), "{refused}");
    world.kms().call("DisableKey", &json!({ "KeyId": rsa.as_str() })).unwrap();
    let refused = by_rsa.examine().await.unwrap_err().to_string();
    assert!(refused.ends_with("is Disabled; enable it"), "{refused}");
}
