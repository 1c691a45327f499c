//! Changing a key store on the embedded services: what is written, and what is refused without writing anything.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod client;
#[allow(dead_code, reason = "other tests need the rest")]
mod keystore;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, BillingMode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::future::join_all;
use keystore::{NAME, Row, Services, TABLE, Version, anybody};
use reseal::crypto::EncryptionContext;
use reseal::keyring::{
    BranchKeyId, Created, DiscoveryFilter, Hierarchy, KeepBranchKeys, KeyArn, KeyStore, KeyStoreAdmin, KeyStoreError,
    KeyStoreReaders, Keyring as _, Moved, ROWS_MAX,
};
use reseal::local::kms::Denial;
use serde_json::json;
use time::OffsetDateTime;

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

type Table = BTreeMap<(String, String), Row>;

impl Services {
    fn admin(&self, readers: KeyStoreReaders) -> KeyStoreAdmin {
        KeyStoreAdmin::new(self.store(readers))
    }

    fn key(&self) -> KeyArn {
        KeyArn::parse(&self.arn).unwrap()
    }

    fn other_key(&self) -> KeyArn {
        KeyArn::parse(&self.stand_ins.kms().create_key("other").unwrap()).unwrap()
    }

    /// A branch key with this many versions.
    async fn with_branch_key(&self, id: &str, versions: usize) {
        let admin = self.admin(self.strict());
        admin.new_branch_key(id, &self.key(), &[].into(), NOW).await.unwrap();
        for _ in 1..versions {
            admin.rotate(id, NOW).await.unwrap();
        }
    }

    async fn table(&self) -> Table {
        let items = self.client.scan().table_name(TABLE).consistent_read(true).send().await.unwrap().items.unwrap();
        let text = |item: &Row, name: &str| item[name].as_s().unwrap().clone();
        items.into_iter().map(|item| ((text(&item, "branch-key-id"), text(&item, "type")), item)).collect()
    }

    /// The key in a row, unwrapped as AWS's specification says.
    fn unwrapped(&self, row: &Row) -> Vec<u8> {
        let mut context: HashMap<&str, &str> = HashMap::from([("tablename", NAME)]);
        for (name, value) in row {
            match value {
                AttributeValue::S(text) | AttributeValue::N(text) => drop(context.insert(name, text)),
                _ => assert_eq!(name, "enc"),
            }
        }
        let enc = BASE64.encode(row["enc"].as_b().unwrap().as_ref());
        let arn = row["kms-arn"].as_s().unwrap();
        let request = json!({ "KeyId": arn, "CiphertextBlob": enc, "EncryptionContext": context });
        let answer = self.stand_ins.kms().call("Decrypt", &request).unwrap();
        BASE64.decode(answer["Plaintext"].as_str().unwrap()).unwrap()
    }

    fn keyring(&self, readers: KeyStoreReaders) -> Hierarchy {
        let keep = KeepBranchKeys { time_to_live: Duration::from_mins(10), most: 10 };
        Hierarchy::new(self.store(readers), BranchKeyId::Fixed("orders".to_owned()), keep)
    }
}

fn names(row: &Row) -> Vec<&str> {
    let mut names: Vec<&str> = row.keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn the_table_is_made_once() {
    let services = Services::new().await;
    let made = |table| KeyStoreAdmin::new(KeyStore::new(&services.dynamodb, &services.kms, table, NAME, anybody()));
    let Created::Made(arn) = made("new-key-store").create_table().await.unwrap() else { panic!() };
    assert_eq!(made("new-key-store").create_table().await.unwrap(), Created::There(arn));
    let described = services.client.describe_table().table_name("new-key-store").send().await.unwrap().table.unwrap();
    let billing = described.billing_mode_summary.and_then(|summary| summary.billing_mode);
    assert_eq!(billing, Some(BillingMode::PayPerRequest));
    let admin = made("new-key-store");
    admin.new_branch_key("a", &services.key(), &[].into(), NOW).await.unwrap();

    let definition = aws_sdk_dynamodb::types::AttributeDefinition::builder().attribute_name("id");
    let definition = definition.attribute_type(aws_sdk_dynamodb::types::ScalarAttributeType::S).build().unwrap();
    let key = aws_sdk_dynamodb::types::KeySchemaElement::builder().attribute_name("id");
    let key = key.key_type(aws_sdk_dynamodb::types::KeyType::Hash).build().unwrap();
    let request = services.client.create_table().table_name("customers").attribute_definitions(definition);
    request.key_schema(key).billing_mode(BillingMode::PayPerRequest).send().await.unwrap();
    let refused = made("customers").create_table().await.unwrap_err();
    assert!(matches!(refused, KeyStoreError::NoKeyStore { .. }), "{refused}");
}

#[tokio::test]
async fn a_branch_key_has_three_rows() {
    let services = Services::new().await;
    let custom = [("department".to_owned(), "admin".to_owned())].into();
    let admin = services.admin(services.strict());
    let version = admin.new_branch_key("orders", &services.key(), &custom, NOW).await.unwrap();
    let requests = services.stand_ins.kms().requests();
    let expected = [("GenerateDataKeyWithoutPlaintext".to_owned(), 2), ("ReEncrypt".to_owned(), 1)];
    assert_eq!((requests, admin.store().kms_requests()), (expected.into(), 3));
    let table = services.table().await;
    let kind = format!("branch:version:{version}");
    let kinds: Vec<&str> = table.keys().map(|(_, kind)| kind.as_str()).collect();
    assert_eq!(kinds, ["beacon:ACTIVE", "branch:ACTIVE", &kind]);
    let [beacon, active, own] = &table.into_values().collect::<Vec<_>>()[..] else { panic!() };
    let common =
        ["aws-crypto-ec:department", "branch-key-id", "create-time", "enc", "hierarchy-version", "kms-arn", "type"];
    assert_eq!((names(own), names(beacon)), (common.to_vec(), common.to_vec()));
    assert_eq!(names(active), [&common[..], &["version"]].concat());
    assert_eq!(active["version"].as_s().unwrap(), &kind);
    for row in [beacon, active, own] {
        assert_eq!(row["create-time"].as_s().unwrap(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(row["hierarchy-version"].as_n().unwrap(), "1");
        assert_eq!(row["kms-arn"].as_s().unwrap(), &services.arn);
        assert_eq!(services.unwrapped(row).len(), 32);
    }
    assert_eq!(services.unwrapped(active), services.unwrapped(own));
    assert_ne!(services.unwrapped(active), services.unwrapped(beacon));
    services.keyring(services.strict()).examine().await.unwrap();

    let before = services.table().await;
    let again = admin.new_branch_key("orders", &services.key(), &custom, NOW).await.unwrap_err();
    assert!(matches!(&again, KeyStoreError::Exists { id, .. } if id == "orders"), "{again}");
    assert_eq!(services.table().await, before);
}

#[tokio::test]
async fn a_new_version_takes_the_place_of_the_active_one() {
    let services = Services::new().await;
    let custom = [("department".to_owned(), "admin".to_owned())].into();
    let admin = services.admin(services.strict());
    let first = admin.new_branch_key("orders", &services.key(), &custom, NOW).await.unwrap();
    let old = services.keyring(services.strict());
    let context = EncryptionContext::default();
    let wrapped = old.generate(&context).await.unwrap().remove(0);
    let before = services.table().await;
    let second = admin.rotate("orders", NOW + Duration::from_secs(1)).await.unwrap();
    assert_ne!(first, second);
    let after = services.table().await;
    let row = |table: &Table, kind: &str| table[&("orders".to_owned(), kind.to_owned())].clone();
    let (first, second) = (format!("branch:version:{first}"), format!("branch:version:{second}"));
    for kind in ["beacon:ACTIVE", &first] {
        assert_eq!(row(&before, kind), row(&after, kind));
    }
    assert_eq!(row(&after, "branch:ACTIVE")["version"].as_s().unwrap(), &second);
    assert_eq!(row(&after, "branch:ACTIVE")["aws-crypto-ec:department"].as_s().unwrap(), "admin");
    assert_eq!(services.unwrapped(&row(&after, "branch:ACTIVE")), services.unwrapped(&row(&after, &second)));
    let new = services.keyring(services.strict());
    assert!(new.unwrap(wrapped.wrapped(), &context).await.unwrap() == wrapped.key);
    assert!(!new.is_current(&[wrapped.wrapped()], &context).await.unwrap());
    assert!(old.is_current(&[wrapped.wrapped()], &context).await.unwrap());
    assert!(old.is_current(&[new.generate(&context).await.unwrap()[0].wrapped()], &context).await.unwrap());
}

#[tokio::test]
async fn of_rotations_at_once_each_is_done_whole_or_not_at_all() {
    let services = Services::new().await;
    services.with_branch_key("orders", 1).await;
    let admin = services.admin(services.strict());
    let rotated = join_all((0..6).map(|_| admin.rotate("orders", NOW))).await;
    let done = rotated.iter().filter(|rotated| rotated.is_ok()).count();
    assert!(rotated.iter().flatten().count() > 0);
    for error in rotated.into_iter().filter_map(Result::err) {
        assert!(matches!(error, KeyStoreError::Changed { .. }), "{error}");
    }
    assert_eq!(services.table().await.len(), 3 + done);
}

#[tokio::test]
async fn what_is_not_rotated() {
    let services = Services::new().await;
    let admin = services.admin(services.strict());
    let refused = admin.rotate("orders", NOW).await.unwrap_err();
    assert!(matches!(refused, KeyStoreError::NoRow { .. }), "{refused}");
    services.with_branch_key("orders", 1).await;
    let refused = services.admin(KeyStoreReaders::Strict(services.other_key())).rotate("orders", NOW).await;
    assert!(matches!(refused, Err(KeyStoreError::Key { .. })), "{refused:?}");
    let mut row = services.table().await.remove(&("orders".to_owned(), "branch:ACTIVE".to_owned())).unwrap();
    row.insert("create-time".to_owned(), AttributeValue::S("1970-01-01T00:00:00.000001Z".to_owned()));
    services.put(row).await;
    let before = services.table().await;
    let refused = admin.rotate("orders", NOW).await.unwrap_err();
    assert!(matches!(refused, KeyStoreError::Rejected { .. }), "{refused}");
    assert_eq!(services.table().await, before);
}

#[tokio::test]
async fn all_rows_move_to_another_kms_key_and_nothing_else_changes() {
    let services = Services::new().await;
    services.with_branch_key("orders", 3).await;
    let context = EncryptionContext::default();
    let wrapped = services.keyring(services.strict()).generate(&context).await.unwrap().remove(0);
    let before = services.table().await;
    let (admin, to) = (services.admin(anybody()), services.other_key());
    assert_eq!(admin.rewrap("orders", &to).await.unwrap(), Moved::Rows(5));
    assert_eq!(admin.store().kms_requests(), 10);
    let after = services.table().await;
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (before, after) in before.values().zip(after.values()) {
        assert_eq!(services.unwrapped(before), services.unwrapped(after));
        let mut restored = after.clone();
        for name in ["enc", "kms-arn"] {
            assert_ne!(before[name], after[name]);
            restored.insert(name.to_owned(), before[name].clone());
        }
        assert_eq!(before, &restored);
        assert_eq!(after["kms-arn"].as_s().unwrap(), to.as_str());
    }
    for readers in [anybody(), KeyStoreReaders::Strict(to.clone())] {
        let keyring = services.keyring(readers);
        assert!(keyring.unwrap(wrapped.wrapped(), &context).await.unwrap() == wrapped.key);
    }
    let refused = services.keyring(services.strict()).unwrap(wrapped.wrapped(), &context).await.unwrap_err();
    assert!(refused.problem.contains("read with key_store_readers = \"discovery\""), "{refused}");
    // Whoever goes on from an interruption finds nothing to do.
    assert_eq!(admin.rewrap("orders", &to).await.unwrap(), Moved::There);
    assert_eq!((admin.store().kms_requests(), services.table().await), (10, after));
}

#[tokio::test]
async fn of_moves_at_once_each_row_is_written_once() {
    let services = Services::new().await;
    services.with_branch_key("orders", 2).await;
    let (admin, to) = (services.admin(anybody()), services.other_key());
    let moved = join_all((0..4).map(|_| admin.rewrap("orders", &to))).await;
    let rows = moved.iter().filter(|moved| **moved == Ok(Moved::Rows(4))).count();
    assert_eq!(rows, 1, "{moved:?}");
    for moved in moved {
        let fits = matches!(moved, Ok(Moved::Rows(4) | Moved::There) | Err(KeyStoreError::Changed { .. }));
        assert!(fits, "{moved:?}");
    }
    services.keyring(anybody()).examine().await.unwrap();
}

#[tokio::test]
async fn what_does_not_move_stays_as_it_is() {
    let services = Services::new().await;
    services.with_branch_key("orders", 2).await;
    let intact = services.table().await;
    let (admin, to) = (services.admin(anybody()), services.other_key());
    let row = |kind: &str| intact[&("orders".to_owned(), kind.to_owned())].clone();
    let changed = |kind: &str, name: &str, value: AttributeValue| {
        let mut row = row(kind);
        row.insert(name.to_owned(), value);
        row
    };
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let cases = [
        (changed("beacon:ACTIVE", "type", text("branch:MUTATION_LOCK")), "AWS's administration client"),
        (changed("beacon:ACTIVE", "type", text("branch:MUTATION_COMMITMENT")), "AWS's administration client"),
        (changed("beacon:ACTIVE", "type", text("something")), "does not name its version"),
        (changed("beacon:ACTIVE", "hierarchy-version", AttributeValue::N("2".to_owned())), "hierarchy version 2"),
        (changed("branch:ACTIVE", "create-time", text("2026")), "was tampered with"),
        (changed("branch:ACTIVE", "enc", AttributeValue::B(Blob::new([7; 40]))), "was tampered with"),
        (changed("branch:ACTIVE", "kms-arn", text("alias/orders")), "is no ARN of a key"),
    ];
    for (row, words) in cases {
        services.put(row.clone()).await;
        let before = services.table().await;
        let refused = admin.rewrap("orders", &to).await.unwrap_err();
        assert!(refused.to_string().contains(words), "{refused}");
        assert_eq!(services.table().await, before);
        let key = ["branch-key-id", "type"].map(|name| (name.to_owned(), row[name].clone()));
        services.client.delete_item().table_name(TABLE).set_key(Some(key.into())).send().await.unwrap();
        for row in intact.values() {
            services.put(row.clone()).await;
        }
    }
    // Nobody's branch key becomes ours.
    let own = DiscoveryFilter { partition: "aws".to_owned(), accounts: Some(["999999999999".to_owned()].into()) };
    let refused = services.admin(KeyStoreReaders::Discovery(own)).rewrap("orders", &to).await.unwrap_err();
    assert!(refused.to_string().contains("is not among those allowed"), "{refused}");
    // What KMS has wrapped is unwrapped before it is written.
    let kms = services.stand_ins.kms();
    for (operation, words) in [
        ("Decrypt", "allow kms:Decrypt on the key"),
        ("ReEncryptFrom", "allow kms:ReEncryptFrom on the key that a row is under, and kms:ReEncryptTo"),
        ("ReEncryptTo", "allow kms:ReEncryptFrom on the key that a row is under, and kms:ReEncryptTo"),
    ] {
        kms.deny(Denial { operation: Some(operation.to_owned()), ..Denial::default() }).unwrap();
        let refused = admin.rewrap("orders", &to).await.unwrap_err();
        assert!(refused.to_string().contains(words), "{refused}");
        kms.allow_all();
    }
    let absent = admin.rewrap("absent", &to).await.unwrap_err();
    assert!(matches!(absent, KeyStoreError::NoRow { .. }), "{absent}");
    assert_eq!(services.table().await, intact);
    // A version row that is not what ACTIVE is a copy of.
    let active = row("branch:ACTIVE");
    let uuid = active["version"].as_s().unwrap().strip_prefix("branch:version:").unwrap();
    let created = active["create-time"].as_s().unwrap();
    services.put(services.row(&Version { id: "orders", uuid, created, key: [1; 32] }, false, &[])).await;
    let refused = admin.rewrap("orders", &to).await.unwrap_err();
    assert!(refused.to_string().contains("another key than the row that it is a copy of"), "{refused}");
}

#[tokio::test]
async fn a_branch_key_moves_whole_or_not_at_all() {
    let services = Services::new().await;
    services.with_branch_key("orders", 1).await;
    let uuid = |number: usize| format!("00000000-0000-4000-8000-{number:012}");
    for number in 3..=ROWS_MAX {
        let version = Version { id: "orders", uuid: &uuid(number), created: "2026", key: [number as u8; 32] };
        services.put(services.row(&version, false, &[])).await;
    }
    let before = services.table().await;
    assert_eq!(before.len(), ROWS_MAX + 1);
    let (admin, to) = (services.admin(anybody()), services.other_key());
    let refused = admin.rewrap("orders", &to).await.unwrap_err();
    assert!(refused.to_string().contains("has 99 rows, and a transaction moves 98 at most"), "{refused}");
    assert_eq!((services.table().await, admin.store().kms_requests()), (before, 0));
    let key = ["orders".to_owned(), format!("branch:version:{}", uuid(3))].map(AttributeValue::S);
    let key = ["branch-key-id".to_owned(), "type".to_owned()].into_iter().zip(key).collect();
    services.client.delete_item().table_name(TABLE).set_key(Some(key)).send().await.unwrap();
    assert_eq!(admin.rewrap("orders", &to).await.unwrap(), Moved::Rows(ROWS_MAX));
    services.keyring(KeyStoreReaders::Strict(to)).examine().await.unwrap();
}

#[tokio::test]
async fn rows_are_told_without_their_keys() {
    let services = Services::new().await;
    services.with_branch_key("a", 2).await;
    services.with_branch_key("b", 1).await;
    let store = services.store(anybody());
    assert_eq!(store.branch_key_ids().await.unwrap(), ["a".to_owned(), "b".to_owned()].into());
    let mut row = services.table().await.remove(&("b".to_owned(), "beacon:ACTIVE".to_owned())).unwrap();
    row.remove("enc");
    services.put(row).await;
    let facts = store.facts(None).await.unwrap();
    let kinds: Vec<(&str, &str)> = facts.iter().map(|row| (&*row.branch_key_id, &row.kind[..13])).collect();
    let version = "branch:versio";
    let active = "branch:ACTIVE";
    let beacon = "beacon:ACTIVE";
    let of_a = [("a", beacon), ("a", active), ("a", version), ("a", version)];
    assert_eq!(kinds, [&of_a[..], &[("b", beacon), ("b", active), ("b", version)]].concat());
    assert_eq!(facts[4].problem.as_deref(), Some("has no \"enc\""));
    assert!(facts.iter().enumerate().all(|(at, row)| at == 4 || row.problem.is_none()));
    assert!(facts.iter().all(|row| row.kms_arn.as_deref() == Some(&services.arn)));
    assert!(!serde_json::to_string(&facts).unwrap().contains("enc\":"));
    assert_eq!(store.facts(Some("a")).await.unwrap(), facts[..4]);
    assert_eq!(store.facts(Some("c")).await.unwrap(), []);
}
