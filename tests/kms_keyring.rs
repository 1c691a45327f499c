//! [`KmsKeyring`] over the embedded KMS.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use reseal::aws::AwsConfig;
use reseal::crypto::EncryptionContext;
use reseal::keyring::{KeyArn, KeyRefused, Keyring, KeyringClass, KeyringError, KmsKeyring, WrappedKey, WrappedRef};
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
