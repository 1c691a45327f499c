//! [`Hierarchy`] over a key store on the embedded DynamoDB and KMS.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod client;
mod keystore;

use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::future::join_all;
use keystore::{Row, Services, TABLE, Version, anybody};
use reseal::crypto::EncryptionContext;
use reseal::keyring::{
    BranchKeyId, DiscoveryFilter, Hierarchy, KeepBranchKeys, KeyStore, KeyStoreReaders, Keyring, KeyringCall,
    KeyringClass, KeyringError, WrappedKey,
};
use reseal::local::kms::Denial;

const KEEP: KeepBranchKeys = KeepBranchKeys { time_to_live: Duration::from_mins(10), most: 100 };
const UUIDS: [&str; 3] = [
    "11111111-1111-4111-8111-111111111111",
    "22222222-2222-4222-8222-222222222222",
    "33333333-3333-4333-8333-333333333333",
];

fn version(number: usize) -> Version<'static> {
    let created = ["2026-01-01T00:00:00.000000Z", "2026-02-01T00:00:00.000000Z", "2026-03-01T00:00:00.000000Z"];
    Version { id: "orders", uuid: UUIDS[number], created: created[number], key: [number as u8 + 1; 32] }
}

fn fixed(services: &Services) -> Hierarchy {
    Hierarchy::new(services.store(services.strict()), BranchKeyId::Fixed("orders".to_owned()), KEEP)
}

fn by_tenant(services: &Services) -> Hierarchy {
    let id = BranchKeyId::Attribute { name: "tenant".to_owned(), ids: [].into() };
    Hierarchy::new(services.store(services.strict()), id, KEEP)
}

/// The context of an item of the first header version whose partition key is the tenant.
fn context(tenant: &str) -> EncryptionContext {
    let value = BASE64.encode([&[0, 1], tenant.as_bytes()].concat());
    [
        ("aws-crypto-partition-name".to_owned(), "tenant".to_owned()),
        ("aws-crypto-attr.tenant".to_owned(), value),
        ("aws-crypto-table-name".to_owned(), "t".to_owned()),
    ]
    .into_iter()
    .collect()
}

async fn one(keyring: &Hierarchy) -> WrappedKey {
    let [wrapped] = <[WrappedKey; 1]>::try_from(keyring.generate(&context("orders")).await.unwrap()).unwrap();
    wrapped
}

async fn is_current(keyring: &Hierarchy, wrapped: &WrappedKey) -> bool {
    keyring.is_current(&[wrapped.wrapped()], &context("orders")).await.unwrap()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, KeyringError>, class: KeyringClass, words: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.class, class, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

/// Lets the clock of everything that waits or expires go on at once.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn many_items_under_one_branch_key_cost_two_requests() {
    let services = Services::new().await;
    services.activate(&version(0), &[("aws-crypto-ec:department", "admin")]).await;
    let keyring = fixed(&services);
    let wrapped = join_all((0..200).map(|_| one(&keyring))).await;
    let context = context("orders");
    let unwrapped = join_all(wrapped.iter().map(|wrapped| keyring.unwrap(wrapped.wrapped(), &context))).await;
    for (wrapped, unwrapped) in wrapped.iter().zip(unwrapped) {
        assert!(unwrapped.unwrap() == wrapped.key);
    }
    for wrapped in &wrapped {
        assert!(keyring.accepts(wrapped.wrapped()));
        assert_eq!((wrapped.provider_id.as_str(), &wrapped.provider_info[..]), ("aws-kms-hierarchy", &b"orders"[..]));
        assert!(is_current(&keyring, wrapped).await);
    }
    let requests = services.stand_ins.kms().requests();
    assert_eq!(requests.into_iter().collect::<Vec<_>>(), [("Decrypt".to_owned(), 2)], "of ACTIVE and of its version");
    assert_eq!((keyring.kms_requests(), keyring.requests(KeyringCall::Generate), keyring.moves()), (2, 0, 0));
    assert!(keyring.looks_deeper());
    let shown = format!("{keyring:?}");
    assert!(shown.contains(TABLE) && !shown.contains("[1, 1"), "{shown}");
}

#[tokio::test]
async fn old_versions_are_known_once_and_newer_ones_are_at_target() {
    let services = Services::new().await;
    let mut wrapped = Vec::new();
    for number in 0..3 {
        services.activate(&version(number), &[]).await;
        wrapped.push(one(&fixed(&services)).await);
    }
    let [first, second, third] = &wrapped[..] else { panic!() };
    services.activate(&version(1), &[]).await;
    let keyring = fixed(&services);
    assert_eq!(join_all((0..100).map(|_| is_current(&keyring, first))).await, vec![false; 100]);
    assert!(is_current(&keyring, second).await);
    // ACTIVE when it began, the version that was found, and ACTIVE again.
    assert_eq!(keyring.kms_requests(), 3);
    // Made ACTIVE by somebody while this keyring remembers the one before.
    services.activate(&version(2), &[]).await;
    assert!(is_current(&keyring, third).await && is_current(&keyring, second).await);
    assert!(!is_current(&keyring, first).await);
    assert_eq!((keyring.kms_requests(), keyring.moves()), (5, 1));
    let next = one(&keyring).await;
    assert!(next.ciphertext[28..44] == third.ciphertext[28..44], "wrapped under the newest that was seen");
    // Two moves at once: one is newer than what was ACTIVE at the beginning although it never was seen as ACTIVE.
    services.activate(&version(0), &[]).await;
    let keyring = fixed(&services);
    assert!(is_current(&keyring, first).await && is_current(&keyring, second).await);
    assert_eq!(keyring.moves(), 0);
}

#[tokio::test]
async fn a_new_version_is_used_after_the_time_to_live() {
    let services = Services::new().await;
    services.activate(&version(0), &[]).await;
    let keyring = fixed(&services);
    let version_of = |wrapped: WrappedKey| wrapped.ciphertext[28];
    assert_eq!(version_of(one(&keyring).await), 0x11);
    services.activate(&version(1), &[]).await;
    assert_eq!(version_of(one(&keyring).await), 0x11);
    pass(KEEP.time_to_live).await;
    assert_eq!(version_of(one(&keyring).await), 0x22);
    assert_eq!(keyring.moves(), 1);
}

#[tokio::test]
async fn a_branch_key_for_each_tenant() {
    let services = Services::new().await;
    services.activate(&Version { id: "a", ..version(0) }, &[]).await;
    services.activate(&Version { id: "b", ..version(1) }, &[]).await;
    let keyring = by_tenant(&services);
    keyring.examine().await.unwrap();
    assert_eq!(keyring.kms_requests(), 0);
    let of_a = keyring.generate(&context("a")).await.unwrap();
    let of_b = keyring.generate(&context("b")).await.unwrap();
    assert_eq!((&of_a[0].provider_info[..], &of_b[0].provider_info[..]), (&b"a"[..], &b"b"[..]));
    assert!(keyring.unwrap(of_a[0].wrapped(), &context("a")).await.unwrap() == of_a[0].key);
    assert!(!keyring.is_current(&[of_a[0].wrapped()], &context("b")).await.unwrap());
    let words = "sealed under another branch key than it names";
    refused(keyring.unwrap(of_a[0].wrapped(), &context("b")).await, KeyringClass::Item, words);
    let words = "the key store branch-keys-of-a-test has no row branch:ACTIVE of the branch key c";
    refused(keyring.generate(&context("c")).await, KeyringClass::Item, words);
    refused(keyring.generate(&context("")).await, KeyringClass::Item, "is empty");
    let nobody = EncryptionContext::default();
    refused(keyring.generate(&nobody).await, KeyringClass::Item, "\"tenant\" names the item's branch key");

    let ids = [("shop".to_owned(), "a".to_owned())].into();
    let named = BranchKeyId::Attribute { name: "tenant".to_owned(), ids };
    let keyring = Hierarchy::new(services.store(services.strict()), named, KEEP);
    assert_eq!(keyring.generate(&context("shop")).await.unwrap()[0].provider_info, b"a");
    refused(keyring.generate(&context("a")).await, KeyringClass::Item, "is not among branch_keys");
}

#[tokio::test]
async fn what_is_not_there() {
    let services = Services::new().await;
    let words = "has no row branch:ACTIVE of the branch key orders";
    refused(fixed(&services).generate(&context("orders")).await, KeyringClass::Key, words);
    assert!(fixed(&services).examine().await.unwrap_err().to_string().contains(words));
    services.activate(&version(0), &[]).await;
    let wrapped = one(&fixed(&services)).await;
    // A version that was deleted is the failure of its items only.
    let key = [("branch-key-id", "orders".to_owned()), ("type", format!("branch:version:{}", UUIDS[0]))];
    let key: Row = key.map(|(name, text)| (name.to_owned(), AttributeValue::S(text))).into();
    services.client.delete_item().table_name(TABLE).set_key(Some(key)).send().await.unwrap();
    let keyring = fixed(&services);
    let words = format!("has no row branch:version:{}", UUIDS[0]);
    refused(keyring.unwrap(wrapped.wrapped(), &context("orders")).await, KeyringClass::Item, &words);
    assert!(is_current(&keyring, &wrapped).await, "ACTIVE says so");

    let elsewhere = KeyStore::new(&services.dynamodb, &services.kms, "absent", keystore::NAME, services.strict());
    let keyring = Hierarchy::new(elsewhere, BranchKeyId::Fixed("orders".to_owned()), KEEP);
    let words = "the key store table absent does not exist; check its name and Region";
    refused(keyring.generate(&context("orders")).await, KeyringClass::Key, words);
    let elsewhere = KeyStore::new(&services.dynamodb, &services.kms, "absent", keystore::NAME, services.strict());
    let id = BranchKeyId::Attribute { name: "tenant".to_owned(), ids: [].into() };
    let keyring = Hierarchy::new(elsewhere, id, KEEP);
    refused(keyring.generate(&context("a")).await, KeyringClass::Key, words);
    assert!(keyring.examine().await.unwrap_err().to_string().contains(words));
}

#[tokio::test]
async fn a_key_store_of_another_name() {
    let services = Services::new().await;
    services.activate(&version(0), &[]).await;
    let store = KeyStore::new(&services.dynamodb, &services.kms, TABLE, "other", services.strict());
    let keyring = Hierarchy::new(store, BranchKeyId::Fixed("orders".to_owned()), KEEP);
    let words = "the key store's logical name is not \"other\"; compare key_store_name";
    refused(keyring.generate(&context("orders")).await, KeyringClass::Key, words);
}

#[tokio::test]
async fn each_byte_of_a_row_counts() {
    let services = Services::new().await;
    let custom = [("aws-crypto-ec:department", "admin")];
    services.activate(&version(0), &custom).await;
    let wrapped = one(&fixed(&services)).await;
    for active in [false, true] {
        let intact = services.row(&version(0), active, &custom);
        let mut changes: Vec<(String, Row)> = Vec::new();
        for (name, value) in intact.iter().filter(|(name, _)| !["branch-key-id", "type"].contains(&name.as_str())) {
            let bytes = match value {
                AttributeValue::S(text) | AttributeValue::N(text) => text.clone().into_bytes(),
                AttributeValue::B(blob) => blob.as_ref().to_vec(),
                other => panic!("{other:?}"),
            };
            for at in 0..bytes.len() {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1;
                let text = || String::from_utf8(bytes.clone()).unwrap();
                let damaged = match value {
                    AttributeValue::S(_) => AttributeValue::S(text()),
                    AttributeValue::N(_) => AttributeValue::N("2".to_owned()),
                    _ => AttributeValue::B(Blob::new(bytes)),
                };
                let mut row = intact.clone();
                row.insert(name.clone(), damaged);
                changes.push((format!("{name} at {at}"), row));
            }
            let mut row = intact.clone();
            row.remove(name);
            changes.push((format!("without {name}"), row));
        }
        let mut row = intact.clone();
        row.insert("more".to_owned(), AttributeValue::S("x".to_owned()));
        changes.push(("more".to_owned(), row));
        assert!(changes.len() > 150, "{}", changes.len());
        for (what, row) in changes {
            services.put(row).await;
            let keyring = fixed(&services);
            let (result, class) = if active {
                (keyring.generate(&context("orders")).await.map(drop), KeyringClass::Key)
            } else {
                (keyring.unwrap(wrapped.wrapped(), &context("orders")).await.map(drop), KeyringClass::Item)
            };
            let error = result.expect_err(&what);
            assert_eq!(error.class, class, "{what}: {error}");
            let words = ["restore it from a backup", "restore the row from a backup", "is wrapped by"];
            assert!(words.iter().any(|words| error.problem.contains(words)), "{what}: {error}");
        }
        services.put(intact).await;
        one(&fixed(&services)).await;
    }
}

#[tokio::test]
async fn whose_keys_are_trusted() {
    let services = Services::new().await;
    services.activate(&version(0), &[]).await;
    let with = |readers| Hierarchy::new(services.store(readers), BranchKeyId::Fixed("orders".to_owned()), KEEP);
    let discovery = |partition: &str, account: &str| {
        let accounts = Some([account.to_owned()].into());
        KeyStoreReaders::Discovery(DiscoveryFilter { partition: partition.to_owned(), accounts })
    };
    let account = services.arn.split(':').nth(4).unwrap();
    one(&with(discovery("aws", account))).await;
    one(&with(anybody())).await;
    let asked = services.stand_ins.kms().requests();
    let other = services.stand_ins.kms().create_key("other").unwrap();
    let strict = KeyStoreReaders::Strict(reseal::keyring::KeyArn::parse(&other).unwrap());
    for (readers, words) in [
        (discovery("aws-cn", account), format!("the account {account} (aws) is not among those allowed")),
        (discovery("aws", "999999999999"), format!("the account {account} (aws) is not among those allowed")),
        (strict, format!("the configured key is {other}")),
    ] {
        refused(with(readers).generate(&context("orders")).await, KeyringClass::Key, &words);
    }
    assert_eq!(services.stand_ins.kms().requests().get("Decrypt"), asked.get("Decrypt"), "KMS was not even asked");
}

#[tokio::test]
async fn what_kms_refuses() {
    let services = Services::new().await;
    services.activate(&version(0), &[]).await;
    let kms = services.stand_ins.kms();
    kms.deny(Denial { operation: Some("Decrypt".to_owned()), ..Denial::default() }).unwrap();
    let words = "allow kms:Decrypt on the key";
    let keyring = fixed(&services);
    refused(keyring.generate(&context("orders")).await, KeyringClass::Denied, words);
    kms.allow_all();
    one(&keyring).await;
    kms.limit(Some(0.001));
    let keyring = fixed(&services);
    drop(keyring.generate(&context("orders")).await);
    refused(fixed(&services).generate(&context("orders")).await, KeyringClass::Throttled, "ThrottlingException");
    kms.limit(None);
    kms.call("DisableKey", &serde_json::json!({ "KeyId": services.arn })).unwrap();
    refused(fixed(&services).generate(&context("orders")).await, KeyringClass::Key, "; enable the key");
    let store = services.store(anybody());
    let id = BranchKeyId::Attribute { name: "tenant".to_owned(), ids: [].into() };
    let keyring = Hierarchy::new(store, id, KEEP);
    refused(keyring.generate(&context("orders")).await, KeyringClass::Item, "; enable the key");
}
