//! A key store on the embedded services, with branch keys whose plaintext a test knows. Rows are written here as AWS's
//! specification has them, not by the code under test.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reseal::aws::AwsConfig;
use reseal::keyring::{DiscoveryFilter, KeyArn, KeyStore, KeyStoreReaders};
use reseal::local::{Options, StandIns, start};
use serde_json::json;

pub(crate) const TABLE: &str = "branch-keys-of-a-test";
pub(crate) const NAME: &str = "logical-name";

/// Readers that take rows under any key.
pub(crate) fn anybody() -> KeyStoreReaders {
    KeyStoreReaders::Discovery(DiscoveryFilter { partition: "aws".to_owned(), accounts: None })
}

pub(crate) type Row = HashMap<String, AttributeValue>;

pub(crate) struct Services {
    pub(crate) stand_ins: StandIns,
    pub(crate) client: Client,
    pub(crate) dynamodb: AwsConfig,
    pub(crate) kms: AwsConfig,
    /// The KMS key of the rows.
    pub(crate) arn: String,
}

/// A version of a branch key.
pub(crate) struct Version<'a> {
    pub(crate) id: &'a str,
    pub(crate) uuid: &'a str,
    pub(crate) created: &'a str,
    pub(crate) key: [u8; 32],
}

impl Services {
    /// Stand-ins with an empty key store.
    pub(crate) async fn new() -> Self {
        let stand_ins = start(Options::default()).unwrap();
        let region = stand_ins.region();
        let dynamodb = AwsConfig::stand_in(&stand_ins.dynamodb_endpoint(), region).unwrap();
        let kms = AwsConfig::stand_in(&stand_ins.kms_endpoint(), region).unwrap();
        let client = crate::client::client(&stand_ins.dynamodb_endpoint());
        let arn = stand_ins.kms().create_key("branch keys").unwrap();
        let text = |name: &str| {
            let definition = AttributeDefinition::builder().attribute_name(name);
            definition.attribute_type(ScalarAttributeType::S).build().unwrap()
        };
        let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
        let request = client.create_table().table_name(TABLE).billing_mode(BillingMode::PayPerRequest);
        let request = request.attribute_definitions(text("branch-key-id")).attribute_definitions(text("type"));
        let request = request.key_schema(key("branch-key-id", KeyType::Hash));
        request.key_schema(key("type", KeyType::Range)).send().await.unwrap();
        stand_ins.kms().forget_requests();
        Self { stand_ins, client, dynamodb, kms, arn }
    }

    pub(crate) fn strict(&self) -> KeyStoreReaders {
        KeyStoreReaders::Strict(KeyArn::parse(&self.arn).unwrap())
    }

    pub(crate) fn store(&self, readers: KeyStoreReaders) -> KeyStore {
        KeyStore::new(&self.dynamodb, &self.kms, TABLE, NAME, readers)
    }

    /// A row of the version: its own, or the ACTIVE one.
    pub(crate) fn row(&self, version: &Version<'_>, active: bool, custom: &[(&str, &str)]) -> Row {
        let kind = format!("branch:version:{}", version.uuid);
        let mut texts = HashMap::from([
            ("branch-key-id", version.id),
            ("type", if active { "branch:ACTIVE" } else { &kind }),
            ("kms-arn", &self.arn),
            ("create-time", version.created),
            ("hierarchy-version", "1"),
        ]);
        texts.extend(custom.iter().copied());
        if active {
            texts.insert("version", &kind);
        }
        let mut context = texts.clone();
        context.insert("tablename", NAME);
        let request = json!({
            "KeyId": self.arn, "Plaintext": BASE64.encode(version.key), "EncryptionContext": context,
        });
        let answer = self.stand_ins.kms().call("Encrypt", &request).unwrap();
        let enc = BASE64.decode(answer["CiphertextBlob"].as_str().unwrap()).unwrap();
        let attribute = |(name, text): (&str, &str)| match name {
            "hierarchy-version" => (name.to_owned(), AttributeValue::N(text.to_owned())),
            _ => (name.to_owned(), AttributeValue::S(text.to_owned())),
        };
        texts.into_iter().map(attribute).chain([("enc".to_owned(), AttributeValue::B(Blob::new(enc)))]).collect()
    }

    pub(crate) async fn put(&self, row: Row) {
        self.client.put_item().table_name(TABLE).set_item(Some(row)).send().await.unwrap();
    }

    /// Makes a version the ACTIVE one.
    pub(crate) async fn activate(&self, version: &Version<'_>, custom: &[(&str, &str)]) {
        for active in [false, true] {
            self.put(self.row(version, active, custom)).await;
        }
        self.stand_ins.kms().forget_requests();
    }
}
