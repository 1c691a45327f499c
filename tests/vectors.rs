//! The official decryption vectors of the AWS Database Encryption SDK for DynamoDB, read from the folder that the
//! variable `RESEAL_VECTORS` names. Without it they are skipped, which the test says.
//!
//! Their keyring is hierarchical: the branch key under which AWS's own libraries made them is put into a key store on the
//! embedded services, and reseal's keyring does the rest.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod client;
#[allow(dead_code, reason = "other tests need the rest")]
mod keystore;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use keystore::{Services, Version};
use reseal::format::dbesdk::{self, Inspection};
use reseal::format::{Action, Schema, Unsigned};
use reseal::item::{Item, KeyNames, Value, json};
use reseal::keyring::{BranchKeyId, Hierarchy, KeepBranchKeys, Keyring as _};
use serde_json::Value as Json;

#[tokio::test]
async fn official_vectors() {
    let Ok(folder) = std::env::var("RESEAL_VECTORS") else {
        eprintln!("SKIPPED: RESEAL_VECTORS is not set; the official vectors were not tested");
        return;
    };
    let read = |name: &str| -> Json {
        let path = Path::new(&folder).join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap()
    };
    let services = Services::new().await;
    let keyring = keyring(&services, &read("dbesdk_keys.json")["keys"]["static-branch-key-1"]).await;
    let mut counts = BTreeMap::<&str, usize>::new();
    for file in ["dbesdk_decrypt_java_32.json", "dbesdk_decrypt_dotnet_32.json"] {
        for (number, vector) in read(file)["tests"].as_object().unwrap() {
            let case = format!("{file} {number} ({})", vector["description"].as_str().unwrap());
            let item = json::from_json(&vector["encrypted"]).unwrap();
            let opened = open(&schema(&vector["config"]), &item, &keyring).await;
            match vector["type"].as_str().unwrap() {
                "positive-decrypt" => {
                    let expected = plaintext(&vector["plaintext"]);
                    let opened = opened.unwrap_or_else(|error| panic!("{case}: {error}"));
                    assert!(opened.same(&expected), "{case}: opens to another item");
                    *counts.entry("positive").or_default() += 1;
                }
                "negative-decrypt" => {
                    assert!(opened.is_err(), "{case}: opens");
                    *counts.entry("negative").or_default() += 1;
                }
                other => panic!("{case}: unknown type {other}"),
            }
        }
    }
    assert_eq!(counts, BTreeMap::from([("positive", 16), ("negative", 2)]));
    assert_eq!(keyring.kms_requests(), 2, "ACTIVE and its version were loaded once");
}

/// A keyring over a key store that holds the branch key.
async fn keyring(services: &Services, key: &Json) -> Hierarchy {
    let text = |name: &str| key[name].as_str().unwrap();
    let key = BASE64.decode(text("branchKey")).unwrap().try_into().unwrap();
    let (id, uuid) = (text("key-id"), text("branchKeyVersion"));
    services.activate(&Version { id, uuid, created: "2023-06-03T19:03:29.358Z", key }, &[]).await;
    let keep = KeepBranchKeys { time_to_live: Duration::from_mins(10), most: 10 };
    Hierarchy::new(services.store(services.strict()), BranchKeyId::Fixed(id.to_owned()), keep)
}

fn schema(config: &Json) -> Schema {
    let actions = config["attributeActionsOnEncrypt"].as_object().unwrap();
    let names = config["allowedUnsignedAttributes"].as_array();
    Schema {
        logical_table: "GazelleVectorTable".into(),
        keys: KeyNames { partition: "RecNum".into(), sort: None },
        actions: actions
            .iter()
            .map(|(name, action)| (name.clone(), serde_json::from_value::<Action>(action.clone()).unwrap()))
            .collect(),
        unsigned: Unsigned {
            names: names.into_iter().flatten().map(|name| name.as_str().unwrap().to_owned()).collect(),
            prefix: None,
        },
    }
}

/// The vectors abbreviate: plain strings and numbers stand for `S` and `N`.
fn plaintext(plain: &Json) -> Item {
    let attributes = plain.as_object().unwrap().iter().map(|(name, value)| (name.clone(), full(value)));
    json::from_json(&Json::Object(attributes.collect())).unwrap()
}

fn full(value: &Json) -> Json {
    match value {
        Json::String(text) => serde_json::json!({ "S": text }),
        Json::Number(number) => serde_json::json!({ "N": number.to_string() }),
        typed => match typed.as_object().and_then(|members| members.iter().next()) {
            Some((kind, Json::Array(members))) if kind == "L" => {
                serde_json::json!({ "L": members.iter().map(full).collect::<Vec<_>>() })
            }
            Some((kind, Json::Object(members))) if kind == "M" => {
                let members = members.iter().map(|(name, member)| (name.clone(), full(member)));
                serde_json::json!({ "M": Json::Object(members.collect()) })
            }
            _ => typed.clone(),
        },
    }
}

async fn open(schema: &Schema, item: &Item, keyring: &Hierarchy) -> Result<Item, Box<dyn std::error::Error>> {
    let Inspection::Sealed(sealed) = dbesdk::inspect(schema, item)? else {
        return Err("not sealed".into());
    };
    let wrapped = sealed.head.edks[0].wrapped().ok_or("nothing wrapped")?;
    assert!(keyring.accepts(wrapped), "it is the branch key's");
    assert!(keyring.is_current(&[wrapped], &sealed.context).await?, "its version is ACTIVE");
    let key = keyring.unwrap(wrapped, &sealed.context).await?;
    Ok(dbesdk::open(item, &sealed, 0, &key)?)
}

/// The test can fail: a vector with one attribute changed does not open.
#[tokio::test]
async fn a_changed_vector_does_not_open() {
    let Ok(folder) = std::env::var("RESEAL_VECTORS") else {
        eprintln!("SKIPPED: RESEAL_VECTORS is not set");
        return;
    };
    let read = |name: &str| -> Json {
        serde_json::from_str(&std::fs::read_to_string(Path::new(&folder).join(name)).unwrap()).unwrap()
    };
    let services = Services::new().await;
    let keyring = keyring(&services, &read("dbesdk_keys.json")["keys"]["static-branch-key-1"]).await;
    let vector = &read("dbesdk_decrypt_java_32.json")["tests"]["1"];
    let mut item = json::from_json(&vector["encrypted"]).unwrap();
    let Some(Value::Binary(mut bytes)) = item.remove("Junk") else { panic!("encrypted") };
    *bytes.last_mut().unwrap() ^= 1;
    item.insert("Junk", Value::Binary(bytes));
    assert!(open(&schema(&vector["config"]), &item, &keyring).await.is_err());
}
