//! The state machine with a clock and a randomness of the test's own. What an SDK sees is in `tests/local_kms.rs`.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

const REGION: &str = "us-east-1";
const DAY: u64 = 24 * 60 * 60;

struct World {
    store: Store,
    rng: StdRng,
    now: Duration,
}

impl World {
    fn new() -> Self {
        Self { store: Store::new(), rng: StdRng::seed_from_u64(1), now: Duration::from_hours(500_000) }
    }

    fn call(&mut self, operation: &str, request: &Value) -> Result<Value, KmsError> {
        self.store.call(REGION, operation, request, self.now, &mut self.rng)
    }

    fn key(&mut self) -> String {
        self.call("CreateKey", &json!({})).unwrap()["KeyMetadata"]["Arn"].as_str().unwrap().to_owned()
    }

    fn data_key(&mut self, key: &str, context: &Value) -> Result<String, KmsError> {
        let request = json!({ "KeyId": key, "KeySpec": "AES_256", "EncryptionContext": context });
        Ok(self.call("GenerateDataKey", &request)?["CiphertextBlob"].as_str().unwrap().to_owned())
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, KmsError>) -> &'static str {
    result.unwrap_err().exception.name()
}

#[test]
fn a_key_is_gone_when_its_waiting_period_ends_and_not_before() {
    let mut world = World::new();
    let key = world.key();
    let blob = world.data_key(&key, &json!({})).unwrap();
    world.call("ScheduleKeyDeletion", &json!({ "KeyId": key, "PendingWindowInDays": 7 })).unwrap();
    let decrypt = json!({ "CiphertextBlob": blob });
    world.now += Duration::from_secs(7 * DAY - 1);
    assert_eq!(refusal(world.call("Decrypt", &decrypt)), "KMSInvalidStateException");
    world.now += Duration::from_secs(1);
    // KMS does not tell a key that is gone from one that the caller may not use.
    assert_eq!(refusal(world.call("Decrypt", &decrypt)), "AccessDeniedException");
    assert_eq!(refusal(world.call("DescribeKey", &json!({ "KeyId": key }))), "NotFoundException");
}

#[test]
fn the_rate_is_kept_in_any_second_and_spares_administration() {
    let mut world = World::new();
    let key = world.key();
    world.store.rules(REGION).limit(Some(2.0), world.now);
    let granted = |world: &mut World| world.data_key(&key, &json!({})).map(|_| ());
    assert_eq!(granted(&mut world), Ok(()));
    assert_eq!(granted(&mut world), Ok(()));
    assert_eq!(refusal(granted(&mut world)), "ThrottlingException");
    world.call("ListKeys", &json!({})).unwrap();
    world.now += Duration::from_millis(500);
    assert_eq!(granted(&mut world), Ok(()));
    assert_eq!(refusal(granted(&mut world)), "ThrottlingException");
    world.now += Duration::from_hours(1);
    assert_eq!((granted(&mut world), granted(&mut world)), (Ok(()), Ok(())));
    assert_eq!(refusal(granted(&mut world)), "ThrottlingException");
    world.now -= Duration::from_hours(1);
    assert_eq!(refusal(granted(&mut world)), "ThrottlingException");
    world.store.rules(REGION).limit(None, world.now);
    assert_eq!(granted(&mut world), Ok(()));
}

#[test]
fn a_denial_reaches_what_it_names_and_nothing_else() {
    fn check(denial: Denial, denied: [bool; 4]) {
        let mut world = World::new();
        let (first, second) = (world.key(), world.key());
        let blob = world.data_key(&first, &json!({ "tenant": "t1", "table": "x" })).unwrap();
        let denial = Denial { key_id: denial.key_id.map(|_| first.clone()), ..denial };
        world.store.deny(REGION, denial.clone()).unwrap();
        let decrypt = json!({ "CiphertextBlob": blob, "EncryptionContext": { "tenant": "t1", "table": "x" } });
        let found = [
            world.call("Decrypt", &decrypt).map(|_| ()),
            world.data_key(&first, &json!({ "tenant": "t1" })).map(|_| ()),
            world.data_key(&first, &json!({ "tenant": "t2" })).map(|_| ()),
            world.data_key(&second, &json!({ "tenant": "t1" })).map(|_| ()),
        ];
        let expect = denied.map(|denied| denied.then_some("AccessDeniedException"));
        assert_eq!(found.map(|found| found.err().map(|error| error.exception.name())), expect, "{denial:?}");
        world.store.rules(REGION).allow_all();
        world.call("Decrypt", &decrypt).unwrap();
    }
    let text = |text: &str| Some(text.to_owned());
    let tenant = BTreeMap::from([("tenant".to_owned(), "t1".to_owned())]);
    check(Denial::default(), [true; 4]);
    check(Denial { key_id: text("first"), ..Denial::default() }, [true, true, true, false]);
    check(Denial { operation: text("Decrypt"), ..Denial::default() }, [true, false, false, false]);
    check(Denial { encryption_context: tenant.clone(), ..Denial::default() }, [true, true, false, true]);
    check(
        Denial { key_id: text("first"), operation: text("GenerateDataKey"), encryption_context: tenant },
        [false, true, false, false],
    );
}

#[test]
fn every_operation_can_be_denied() {
    fn check(permission: &str, operation: &str, request: impl Fn(&str, &str) -> Value) {
        let mut world = World::new();
        let primary = world.call("CreateKey", &json!({ "MultiRegion": true })).unwrap();
        let key = primary["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
        world.call("CreateAlias", &json!({ "AliasName": "alias/a", "TargetKeyId": key })).unwrap();
        let blob = world.data_key(&key, &json!({})).unwrap();
        let request = request(&key, &blob);
        let deny = |permission: &str| Denial { operation: Some(permission.to_owned()), ..Denial::default() };
        let other = if permission == "DescribeKey" { "ListKeys" } else { "DescribeKey" };
        world.store.deny(REGION, deny(other)).unwrap();
        let mut allowed = World { store: world.store.clone(), rng: StdRng::seed_from_u64(2), now: world.now };
        world.store.deny(REGION, deny(permission)).unwrap();
        assert_eq!(refusal(world.call(operation, &request)), "AccessDeniedException", "{permission}");
        if operation != "CancelKeyDeletion" && operation != "GetPublicKey" {
            allowed.call(operation, &request).unwrap();
        }
    }
    let key_only = |key: &str, _: &str| json!({ "KeyId": key });
    for operation in [
        "CancelKeyDeletion",
        "DescribeKey",
        "DisableKey",
        "EnableKey",
        "GetKeyRotationStatus",
        "GetPublicKey",
        "ListKeyRotations",
        "RotateKeyOnDemand",
        "ScheduleKeyDeletion",
    ] {
        check(operation, operation, key_only);
    }
    for operation in ["CreateKey", "ListAliases", "ListKeys"] {
        check(operation, operation, |_, _| json!({}));
    }
    for operation in ["GenerateDataKey", "GenerateDataKeyWithoutPlaintext"] {
        check(operation, operation, |key, _| json!({ "KeyId": key, "NumberOfBytes": 8 }));
    }
    check("CreateAlias", "CreateAlias", |key, _| json!({ "AliasName": "alias/b", "TargetKeyId": key }));
    check("UpdateAlias", "UpdateAlias", |key, _| json!({ "AliasName": "alias/a", "TargetKeyId": key }));
    check("DeleteAlias", "DeleteAlias", |_, _| json!({ "AliasName": "alias/a" }));
    check("Encrypt", "Encrypt", |key, _| json!({ "KeyId": key, "Plaintext": "AQ==" }));
    check("Decrypt", "Decrypt", |_, blob| json!({ "CiphertextBlob": blob }));
    check("ReplicateKey", "ReplicateKey", |key, _| json!({ "KeyId": key, "ReplicaRegion": "eu-west-1" }));
    for permission in ["ReEncryptFrom", "ReEncryptTo"] {
        check(permission, "ReEncrypt", |key, blob| json!({ "CiphertextBlob": blob, "DestinationKeyId": key }));
    }
}

#[test]
fn an_alias_goes_with_its_key_and_a_primary_key_stays_with_its_replicas() {
    let mut world = World::new();
    let key = world.call("CreateKey", &json!({ "MultiRegion": true })).unwrap();
    let key = key["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
    world.call("CreateAlias", &json!({ "AliasName": "alias/a", "TargetKeyId": key })).unwrap();
    world.call("ReplicateKey", &json!({ "KeyId": key, "ReplicaRegion": "eu-west-1" })).unwrap();
    let delete = |world: &mut World, region: &str| {
        let request = json!({ "KeyId": key.replace(REGION, region), "PendingWindowInDays": 7 });
        world.store.call(region, "ScheduleKeyDeletion", &request, world.now, &mut world.rng)
    };
    assert_eq!(refusal(delete(&mut world, REGION)), "UnsupportedOperationException");
    delete(&mut world, "eu-west-1").unwrap();
    world.now += Duration::from_secs(7 * DAY);
    let described = world.call("DescribeKey", &json!({ "KeyId": "alias/a" })).unwrap();
    assert_eq!(described["KeyMetadata"]["MultiRegionConfiguration"]["ReplicaKeys"], json!([]));
    delete(&mut world, REGION).unwrap();
    assert_eq!(
        refusal(world.call("CreateAlias", &json!({ "AliasName": "alias/b", "TargetKeyId": key }))),
        "KMSInvalidStateException"
    );
    world.now += Duration::from_secs(7 * DAY);
    assert_eq!(world.call("ListAliases", &json!({})).unwrap()["Aliases"], json!([]));
}

#[test]
fn a_denial_of_nothing_known_is_refused() {
    let mut store = Store::new();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        refusal(store.deny(REGION, Denial { operation: text("ReEncrypt"), ..Denial::default() })),
        "ValidationException"
    );
    assert_eq!(
        refusal(store.deny(REGION, Denial { operation: text("Decript"), ..Denial::default() })),
        "ValidationException"
    );
    assert_eq!(
        refusal(store.deny(REGION, Denial { key_id: text("alias/x"), ..Denial::default() })),
        "NotFoundException"
    );
}

#[test]
fn every_request_counts_even_when_refused() {
    let mut world = World::new();
    let key = world.key();
    world.store.rules(REGION).limit(Some(1.0), world.now);
    for _ in 0..3 {
        world.data_key(&key, &json!({})).ok();
    }
    assert_eq!(world.store.rules(REGION).requests().get("GenerateDataKey"), Some(&3));
    assert_eq!(refusal(world.call("Nonsense", &json!({}))), "UnknownOperationException");
    assert_eq!(world.store.rules(REGION).requests().len(), 2, "names that are none are not kept");
}

#[test]
fn requests_are_read_strictly() {
    fn check(operation: &str, request: &Value, expect: &str) {
        let mut world = World::new();
        assert_eq!(refusal(world.call(operation, request)), expect, "{operation} {request}");
    }
    check("DescribeKey", &json!([]), "SerializationException");
    check("DescribeKey", &json!({}), "ValidationException");
    check("DescribeKey", &json!({ "KeyId": 1 }), "SerializationException");
    check("DescribeKey", &json!({ "KeyId": "" }), "ValidationException");
    check("DescribeKey", &json!({ "KeyId": "x", "Nonsense": 1 }), "ValidationException");
    check("Encrypt", &json!({ "KeyId": "x", "Plaintext": "not Base64!" }), "SerializationException");
    check("Encrypt", &json!({ "KeyId": "x", "Plaintext": "" }), "ValidationException");
    check(
        "GenerateDataKey",
        &json!({ "KeyId": "x", "KeySpec": "AES_256", "EncryptionContext": { "a": 1 } }),
        "SerializationException",
    );
    check("ListKeys", &json!({ "Limit": -1 }), "ValidationException");
    check("CreateKey", &json!({ "KeyUsage": "SIGN_VERIFY" }), "UnsupportedOperationException");
    check("CreateKey", &json!({ "Policy": "{}" }), "ValidationException");
}
