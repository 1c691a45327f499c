//! The official decryption vectors of the AWS Database Encryption SDK for DynamoDB, read from the folder that the
//! variable `RESEAL_VECTORS` names. Without it they are skipped, which the test says.
//!
//! Their keyring is hierarchical, which reseal does not have yet: the branch key is unwrapped here, so that the format is
//! tested with the keys that AWS's own libraries made.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac as _};
use reseal::crypto::{EncryptionContext, Secret, WrappedRef};
use reseal::format::dbesdk::{self, Inspection};
use reseal::format::{Action, Schema, Unsigned};
use reseal::item::{Item, KeyNames, Value, json};
use serde_json::Value as Json;
use sha2::Sha256;

#[test]
fn official_vectors() {
    let Ok(folder) = std::env::var("RESEAL_VECTORS") else {
        eprintln!("SKIPPED: RESEAL_VECTORS is not set; the official vectors were not tested");
        return;
    };
    let read = |name: &str| -> Json {
        let path = Path::new(&folder).join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap()
    };
    let branch_key = BranchKey::from_json(&read("dbesdk_keys.json")["keys"]["static-branch-key-1"]);
    let mut counts = BTreeMap::<&str, usize>::new();
    for file in ["dbesdk_decrypt_java_32.json", "dbesdk_decrypt_dotnet_32.json"] {
        for (number, vector) in read(file)["tests"].as_object().unwrap() {
            let case = format!("{file} {number} ({})", vector["description"].as_str().unwrap());
            let opened = open(&schema(&vector["config"]), &json::from_json(&vector["encrypted"]).unwrap(), &branch_key);
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

fn open(schema: &Schema, item: &Item, branch_key: &BranchKey) -> Result<Item, Box<dyn std::error::Error>> {
    let Inspection::Sealed(sealed) = dbesdk::inspect(schema, item)? else {
        return Err("not sealed".into());
    };
    let wrapped = sealed.head.edks[0].wrapped().ok_or("nothing wrapped")?;
    let recipient = sealed.head.edks[0].recipient();
    assert_eq!(recipient.key, format!("{}/{}", branch_key.id, branch_key.version), "the recipient is the branch key");
    let key = branch_key.unwrap(wrapped, &sealed.context)?;
    Ok(dbesdk::open(item, &sealed, 0, &key)?)
}

struct BranchKey {
    id: String,
    version: String,
    key: Vec<u8>,
}

impl BranchKey {
    fn from_json(key: &Json) -> Self {
        let text = |name: &str| key[name].as_str().unwrap().to_owned();
        Self { id: text("key-id"), version: text("branchKeyVersion"), key: BASE64.decode(text("branchKey")).unwrap() }
    }

    /// AWS Material Providers Library specification, `aws-kms-hierarchical-keyring.md`: salt, nonce, version, key.
    fn unwrap(&self, found: WrappedRef<'_>, context: &EncryptionContext) -> Result<Secret, Box<dyn std::error::Error>> {
        const ID: &[u8] = b"aws-kms-hierarchy";
        assert_eq!((found.provider_id.as_bytes(), found.ciphertext.len()), (ID, 92));
        let (salt, nonce, version) = (&found.ciphertext[..16], &found.ciphertext[16..28], &found.ciphertext[28..44]);
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key)?;
        for part in [&1_u32.to_be_bytes(), ID, &[0], salt, &256_u32.to_be_bytes()] {
            mac.update(part);
        }
        let cipher = Aes256Gcm::new_from_slice(&mac.finalize().into_bytes())?;
        let aad = [ID, found.provider_info, version, &context.serialize().ok_or("context too long")?].concat();
        let key = cipher
            .decrypt(&Nonce::try_from(nonce)?, Payload { msg: &found.ciphertext[44..], aad: &aad })
            .map_err(|_| "the branch key does not unwrap")?;
        Ok(Secret::new(key.try_into().map_err(|_| "not 32 bytes")?))
    }
}

/// The test can fail: a vector with one attribute changed does not open.
#[test]
fn a_changed_vector_does_not_open() {
    let Ok(folder) = std::env::var("RESEAL_VECTORS") else {
        eprintln!("SKIPPED: RESEAL_VECTORS is not set");
        return;
    };
    let read = |name: &str| -> Json {
        serde_json::from_str(&std::fs::read_to_string(Path::new(&folder).join(name)).unwrap()).unwrap()
    };
    let branch_key = BranchKey::from_json(&read("dbesdk_keys.json")["keys"]["static-branch-key-1"]);
    let vector = &read("dbesdk_decrypt_java_32.json")["tests"]["1"];
    let mut item = json::from_json(&vector["encrypted"]).unwrap();
    let Some(Value::Binary(mut bytes)) = item.remove("Junk") else { panic!("encrypted") };
    *bytes.last_mut().unwrap() ^= 1;
    item.insert("Junk", Value::Binary(bytes));
    assert!(open(&schema(&vector["config"]), &item, &branch_key).is_err());
}
