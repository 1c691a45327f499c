//! What reseal relies on in KMS, asked through AWS's SDK.
//!
//! Runs on the embedded KMS, or on another one whose endpoint is in `RESEAL_KMS_ENDPOINT`; what only the embedded one
//! has (rules, keys in a file) is then left out.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use aws_sdk_kms::Client;
use aws_sdk_kms::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{
    DataKeySpec, DryRunModifierType, EncryptionAlgorithmSpec, IncludeKeyMaterial, KeyManagerType, KeyMaterialState,
    KeySpec, KeyState, KeyUsageType, MultiRegionKeyType, RotationType,
};
use reseal::local::kms::Denial;
use reseal::local::{Options, StandIns, start};

const REGION: &str = "us-east-1";
const OTHER_REGION: &str = "eu-west-1";
const OAEP_SHA_1: EncryptionAlgorithmSpec = EncryptionAlgorithmSpec::RsaesOaepSha1;
const OAEP_SHA_256: EncryptionAlgorithmSpec = EncryptionAlgorithmSpec::RsaesOaepSha256;

/// A client, and the stand-ins that it talks to unless another KMS was asked for.
struct World {
    client: Client,
    stand_ins: Option<StandIns>,
}

impl World {
    fn new() -> Self {
        match std::env::var("RESEAL_KMS_ENDPOINT") {
            Ok(endpoint) => Self { client: client(&endpoint, REGION), stand_ins: None },
            Err(_) => Self::embedded(),
        }
    }

    fn embedded() -> Self {
        Self::start(Options::default())
    }

    fn start(options: Options) -> Self {
        let stand_ins = start(Options { more_kms_regions: vec![OTHER_REGION.to_owned()], ..options }).unwrap();
        Self { client: client(&stand_ins.kms_endpoint(), REGION), stand_ins: Some(stand_ins) }
    }

    /// A client of the other Region: the embedded KMS has a port for it, others look at the signature's Region.
    fn elsewhere(&self) -> Client {
        let endpoint = match &self.stand_ins {
            Some(stand_ins) => stand_ins.kms_endpoint_in(OTHER_REGION).unwrap(),
            None => std::env::var("RESEAL_KMS_ENDPOINT").unwrap(),
        };
        client(&endpoint, OTHER_REGION)
    }

    /// A new RSA key's ARN.
    async fn rsa_key(&self) -> String {
        let request = self.client.create_key().key_spec(KeySpec::Rsa2048).key_usage(KeyUsageType::EncryptDecrypt);
        request.send().await.unwrap().key_metadata.unwrap().arn.unwrap()
    }

    /// A new multi-Region primary key's ARN.
    async fn primary_key(&self) -> String {
        let request = self.client.create_key().multi_region(true);
        request.send().await.unwrap().key_metadata.unwrap().arn.unwrap()
    }

    /// The id of a key's current material; `None` on a KMS that tells none, which `a_key_describes_itself` sees.
    async fn material(&self, key: &str) -> Option<String> {
        let metadata = self.client.describe_key().key_id(key).send().await.unwrap().key_metadata.unwrap();
        metadata.current_key_material_id
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

fn client(endpoint: &str, region: &'static str) -> Client {
    let config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region))
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
    let material = world.material(&key).await;
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
        assert_eq!(made.key_material_id(), material.as_deref());
        assert_eq!(made.plaintext().unwrap().as_ref().len(), length);
        for key_id in [None, Some(key.clone()), Some(id.to_owned())] {
            let request = world.client.decrypt().ciphertext_blob(made.ciphertext_blob.clone().unwrap());
            let opened = request.set_key_id(key_id).set_encryption_context(Some(context.clone())).send().await.unwrap();
            assert_eq!(opened.plaintext(), made.plaintext());
            assert_eq!(opened.key_id(), Some(key.as_str()));
            assert_eq!(opened.key_material_id(), material.as_deref());
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
async fn an_rsa_key_opens_what_its_public_key_wraps() {
    let world = World::new();
    let key = world.rsa_key().await;
    let found = world.client.describe_key().key_id(&key).send().await.unwrap().key_metadata.unwrap();
    assert_eq!(found.key_spec(), Some(&KeySpec::Rsa2048));
    assert_eq!(found.encryption_algorithms(), [OAEP_SHA_1, OAEP_SHA_256]);
    assert_eq!(found.current_key_material_id(), None);

    let public = world.client.get_public_key().key_id(&key).send().await.unwrap();
    assert_eq!(public.key_id(), Some(key.as_str()));
    assert_eq!(public.key_spec(), Some(&KeySpec::Rsa2048));
    assert_eq!(public.key_usage(), Some(&KeyUsageType::EncryptDecrypt));
    assert_eq!(public.encryption_algorithms(), [OAEP_SHA_1, OAEP_SHA_256]);
    let public = PublicEncryptingKey::from_der(public.public_key().unwrap().as_ref()).unwrap();
    assert_eq!(public.key_size_bits(), 2048);
    let public = OaepPublicEncryptingKey::new(public).unwrap();
    for (algorithm, local) in [(OAEP_SHA_1, &OAEP_SHA1_MGF1SHA1), (OAEP_SHA_256, &OAEP_SHA256_MGF1SHA256)] {
        let mut by_hand = vec![0; public.ciphertext_size()];
        public.encrypt(local, b"data key", &mut by_hand, None).unwrap();
        let request = world.client.encrypt().key_id(&key).encryption_algorithm(algorithm.clone());
        let wrapped = request.plaintext(Blob::new(b"data key")).send().await.unwrap();
        assert_eq!(wrapped.encryption_algorithm(), Some(&algorithm));
        let by_kms = wrapped.ciphertext_blob.unwrap();
        assert_eq!(by_kms.as_ref().len(), 256);
        for blob in [Blob::new(by_hand), by_kms] {
            let request = world.client.decrypt().key_id(&key).encryption_algorithm(algorithm.clone());
            let opened = request.ciphertext_blob(blob).send().await.unwrap();
            assert_eq!(opened.plaintext().unwrap().as_ref(), b"data key");
            assert_eq!(opened.key_id(), Some(key.as_str()));
            assert_eq!(opened.encryption_algorithm(), Some(&algorithm));
            assert_eq!(opened.key_material_id(), None);
        }
    }
}

#[tokio::test]
async fn rsa_takes_as_many_bytes_as_its_padding_leaves() {
    let world = World::new();
    let key = world.rsa_key().await;
    for (algorithm, length, fits) in
        [(OAEP_SHA_256, 190, true), (OAEP_SHA_256, 191, false), (OAEP_SHA_1, 214, true), (OAEP_SHA_1, 215, false)]
    {
        let request = world.client.encrypt().key_id(&key).encryption_algorithm(algorithm.clone());
        let answer = request.plaintext(Blob::new(vec![7; length])).send().await;
        if fits {
            answer.unwrap();
        } else {
            assert_eq!(exception(answer), "ValidationException", "{algorithm} {length}");
        }
    }
}

#[tokio::test]
async fn rsa_keys_are_refused_what_they_cannot_do() {
    let world = World::new();
    let (key, other, symmetric) = (world.rsa_key().await, world.rsa_key().await, world.key().await);
    let encrypt = || world.client.encrypt().key_id(&key).plaintext(Blob::new(b"text"));
    let blob = encrypt().encryption_algorithm(OAEP_SHA_256).send().await.unwrap().ciphertext_blob.unwrap();
    let mut changed = blob.clone().into_inner();
    changed[100] ^= 1;
    let decrypt = |bytes: &Blob| world.client.decrypt().ciphertext_blob(bytes.clone());
    let here = decrypt(&blob).key_id(&key);
    for (index, (request, expect)) in [
        (decrypt(&blob).encryption_algorithm(OAEP_SHA_256), "ValidationException"),
        (decrypt(&blob), "InvalidCiphertextException"),
        (here.clone(), "InvalidKeyUsageException"),
        (here.clone().encryption_algorithm(OAEP_SHA_1), "InvalidCiphertextException"),
        (here.clone().encryption_algorithm(OAEP_SHA_256).encryption_context("a", "1"), "ValidationException"),
        (decrypt(&blob).key_id(&other).encryption_algorithm(OAEP_SHA_256), "InvalidCiphertextException"),
        (decrypt(&blob).key_id(&symmetric).encryption_algorithm(OAEP_SHA_256), "InvalidKeyUsageException"),
        (decrypt(&Blob::new(changed)).key_id(&key).encryption_algorithm(OAEP_SHA_256), "InvalidCiphertextException"),
        (decrypt(&Blob::new([7; 255])).key_id(&key).encryption_algorithm(OAEP_SHA_256), "InvalidCiphertextException"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(exception(request.send().await), expect, "request {index}");
    }
    assert_eq!(exception(encrypt().send().await), "InvalidKeyUsageException");
    let request = encrypt().encryption_algorithm(OAEP_SHA_256).encryption_context("a", "1");
    assert_eq!(exception(request.send().await), "ValidationException");
    let request = world.client.generate_data_key().key_id(&key).key_spec(DataKeySpec::Aes256);
    assert_eq!(exception(request.send().await), "InvalidKeyUsageException");
    let request = world.client.create_key().key_spec(KeySpec::Rsa2048);
    assert_eq!(exception(request.send().await), "ValidationException", "RSA keys must say their usage");
    let request = world.client.get_public_key().key_id(&symmetric);
    assert_eq!(exception(request.send().await), "UnsupportedOperationException");
    let request = world.client.rotate_key_on_demand().key_id(&key);
    assert_eq!(exception(request.send().await), "UnsupportedOperationException");
    world.client.disable_key().key_id(&key).send().await.unwrap();
    assert_eq!(exception(world.client.get_public_key().key_id(&key).send().await), "DisabledException");
    let request = here.encryption_algorithm(OAEP_SHA_256);
    assert_eq!(exception(request.send().await), "DisabledException");
}

#[tokio::test]
async fn an_rsa_pair_that_is_known_beforehand_becomes_a_key() {
    let world = World::embedded();
    let pair = include_str!("fixtures/rsa2048-for-tests-only.private.pem");
    let key = world.rules().import_rsa(pair).unwrap();
    // By openssl 3.0: pkeyutl -encrypt with rsa_padding_mode:oaep, rsa_oaep_md:sha256, rsa_mgf1_md:sha256.
    let blob = Blob::new(include_bytes!("fixtures/rsa2048-oaep-sha256.bin"));
    let request = world.client.decrypt().key_id(&key).encryption_algorithm(OAEP_SHA_256).ciphertext_blob(blob);
    assert_eq!(request.send().await.unwrap().plaintext().unwrap().as_ref(), b"wrapped by another program");
    assert_eq!(world.rules().import_rsa(&pair.replace('A', "")).unwrap_err().exception.name(), "ValidationException");
}

#[tokio::test]
async fn a_replica_opens_what_its_primary_wrapped_and_has_a_state_of_its_own() {
    let world = World::new();
    let (here, there) = (&world.client, world.elsewhere());
    let key = world.primary_key().await;
    let id = key.rsplit_once('/').unwrap().1;
    assert!(id.starts_with("mrk-") && id.len() == 36, "{id}");
    let found = here.describe_key().key_id(&key).send().await.unwrap().key_metadata.unwrap();
    assert_eq!(found.multi_region(), Some(true));
    let configuration = found.multi_region_configuration().unwrap();
    assert_eq!(configuration.multi_region_key_type(), Some(&MultiRegionKeyType::Primary));
    assert_eq!(configuration.primary_key().unwrap().arn(), Some(key.as_str()));
    assert!(configuration.replica_keys().is_empty());
    assert_eq!(exception(there.describe_key().key_id(id).send().await), "NotFoundException");

    let request = here.replicate_key().key_id(&key).replica_region(OTHER_REGION).description("replica");
    let made = request.send().await.unwrap().replica_key_metadata.unwrap();
    let replica = made.arn().unwrap();
    assert_eq!(replica, key.replace(REGION, OTHER_REGION));
    for (client, name, is) in
        [(here, &key, MultiRegionKeyType::Primary), (&there, &replica.to_owned(), MultiRegionKeyType::Replica)]
    {
        let found = client.describe_key().key_id(name).send().await.unwrap().key_metadata.unwrap();
        assert_eq!((found.key_id(), found.arn()), (id, Some(name.as_str())));
        let configuration = found.multi_region_configuration().unwrap();
        assert_eq!(configuration.multi_region_key_type(), Some(&is));
        assert_eq!(configuration.primary_key().unwrap().region(), Some(REGION));
        let replicas: Vec<_> = configuration.replica_keys().iter().map(|key| (key.arn(), key.region())).collect();
        assert_eq!(replicas, [(Some(replica), Some(OTHER_REGION))]);
    }
    let (plaintext, blob) = world.data_key(&key, &context(&[("a", "1")])).await;
    for key_id in [None, Some(id), Some(replica)] {
        let request = there.decrypt().ciphertext_blob(blob.clone()).encryption_context("a", "1");
        let opened = request.set_key_id(key_id.map(str::to_owned)).send().await.unwrap();
        assert_eq!(opened.plaintext().unwrap().as_ref(), plaintext);
        assert_eq!(opened.key_id(), Some(replica), "the key of the Region that answers");
    }
    let request = there.decrypt().ciphertext_blob(blob.clone()).encryption_context("a", "1").key_id(&key);
    assert_eq!(exception(request.send().await), "NotFoundException", "the primary's ARN is of another Region");

    there.disable_key().key_id(replica).send().await.unwrap();
    let open = |client: &Client| client.decrypt().ciphertext_blob(blob.clone()).encryption_context("a", "1").send();
    assert_eq!(exception(open(&there).await), "DisabledException");
    open(here).await.unwrap();
}

#[tokio::test]
async fn a_key_of_one_region_stays_there() {
    let world = World::new();
    let (key, primary) = (world.key().await, world.primary_key().await);
    let replicate = |key: &str, region: &str| world.client.replicate_key().key_id(key).replica_region(region).send();
    assert_eq!(exception(replicate(&key, OTHER_REGION).await), "UnsupportedOperationException");
    replicate(&primary, OTHER_REGION).await.unwrap();
    assert_eq!(exception(replicate(&primary, OTHER_REGION).await), "AlreadyExistsException");
    let (_, blob) = world.data_key(&key, &context(&[])).await;
    let request = world.elsewhere().decrypt().ciphertext_blob(blob);
    assert_eq!(exception(request.send().await), "AccessDeniedException");
}

#[tokio::test]
async fn a_blob_moves_to_another_key_and_context() {
    let world = World::new();
    let (source, destination, rsa) = (world.key().await, world.key().await, world.rsa_key().await);
    let (plaintext, blob) = world.data_key(&source, &context(&[("from", "1")])).await;
    let request = world.client.re_encrypt().ciphertext_blob(blob.clone()).source_encryption_context("from", "1");
    let request = request.source_key_id(&source).destination_key_id(&destination);
    let moved = request.destination_encryption_context("to", "2").send().await.unwrap();
    assert_eq!((moved.source_key_id(), moved.key_id()), (Some(source.as_str()), Some(destination.as_str())));
    assert_eq!(moved.source_key_material_id(), world.material(&source).await.as_deref());
    assert_eq!(moved.destination_key_material_id(), world.material(&destination).await.as_deref());
    assert_eq!(moved.source_encryption_algorithm(), Some(&EncryptionAlgorithmSpec::SymmetricDefault));
    assert_eq!(moved.destination_encryption_algorithm(), Some(&EncryptionAlgorithmSpec::SymmetricDefault));
    let moved = moved.ciphertext_blob.unwrap();
    let request = world.client.decrypt().ciphertext_blob(moved.clone()).key_id(&destination);
    let opened = request.encryption_context("to", "2").send().await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), plaintext);

    // To RSA and back.
    let request = world.client.re_encrypt().ciphertext_blob(moved.clone()).source_encryption_context("to", "2");
    let request = request.destination_key_id(&rsa).destination_encryption_algorithm(OAEP_SHA_256);
    let wrapped = request.send().await.unwrap();
    assert_eq!(wrapped.destination_key_material_id(), None);
    let request = world.client.re_encrypt().ciphertext_blob(wrapped.ciphertext_blob.unwrap()).source_key_id(&rsa);
    let request = request.source_encryption_algorithm(OAEP_SHA_256).destination_key_id(&source);
    let back = request.send().await.unwrap();
    assert_eq!(back.source_encryption_algorithm(), Some(&OAEP_SHA_256));
    let opened = world.client.decrypt().ciphertext_blob(back.ciphertext_blob.unwrap()).send().await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), plaintext);

    let request = || world.client.re_encrypt().ciphertext_blob(blob.clone()).source_encryption_context("from", "1");
    let wrong = [
        (request().destination_key_id(&destination).source_key_id(&destination), "IncorrectKeyException"),
        (request().destination_key_id(&destination).source_encryption_context("x", "y"), "InvalidCiphertextException"),
        (request().destination_key_id("alias/none"), "NotFoundException"),
    ];
    for (request, expect) in wrong {
        assert_eq!(exception(request.send().await), expect);
    }
    world.client.disable_key().key_id(&destination).send().await.unwrap();
    assert_eq!(exception(request().destination_key_id(&destination).send().await), "DisabledException");
}

#[tokio::test]
async fn an_alias_stands_for_the_key_that_it_names_now() {
    let world = World::new();
    let (first, second) = (world.key().await, world.key().await);
    let second_id = second.rsplit_once('/').unwrap().1;
    let name = format!("alias/reseal/{second_id}");
    let arn = format!("{}:{name}", first.rsplit_once(':').unwrap().0);
    let create = |name: &str| world.client.create_alias().alias_name(name).target_key_id(&first).send();
    create(&name).await.unwrap();
    assert_eq!(exception(create(&name).await), "AlreadyExistsException");
    let encrypt = async |key: &str| {
        let answer = world.client.encrypt().key_id(key).plaintext(Blob::new([1])).send().await.unwrap();
        (answer.key_id.unwrap(), answer.ciphertext_blob.unwrap())
    };
    let (_, old) = encrypt(&name).await;
    for alias in [&name, &arn] {
        assert_eq!(encrypt(alias).await.0, first, "the answer names the key, not the alias");
        let found = world.client.describe_key().key_id(alias).send().await.unwrap().key_metadata.unwrap();
        assert_eq!(found.arn(), Some(first.as_str()));
    }
    world.client.update_alias().alias_name(&name).target_key_id(&second).send().await.unwrap();
    let (key, new) = encrypt(&name).await;
    assert_eq!(key, second);
    let decrypt = |blob: &Blob| world.client.decrypt().ciphertext_blob(blob.clone()).key_id(&arn).send();
    assert_eq!(decrypt(&new).await.unwrap().key_id(), Some(second.as_str()));
    assert_eq!(exception(decrypt(&old).await), "IncorrectKeyException");

    let listed = world.client.list_aliases().key_id(&second).send().await.unwrap();
    let [alias] = listed.aliases() else { panic!("{listed:?}") };
    assert_eq!((alias.alias_name(), alias.alias_arn()), (Some(name.as_str()), Some(arn.as_str())));
    assert_eq!(alias.target_key_id(), Some(second_id));
    assert!(world.client.list_aliases().key_id(&first).send().await.unwrap().aliases().is_empty());

    assert_eq!(exception(world.client.disable_key().key_id(&name).send().await), "NotFoundException");
    for (name, expect) in [
        ("reseal", "ValidationException"),
        ("alias/a b", "ValidationException"),
        ("alias/aws/reseal", "NotAuthorizedException"),
    ] {
        assert_eq!(exception(create(name).await), expect, "{name}");
    }
    let request = world.client.update_alias().alias_name(&name).target_key_id(world.rsa_key().await);
    assert_eq!(exception(request.send().await), "ValidationException", "an alias keeps its kind of key");
    world.client.delete_alias().alias_name(&name).send().await.unwrap();
    assert_eq!(exception(world.client.delete_alias().alias_name(&name).send().await), "NotFoundException");
    assert_eq!(exception(world.client.describe_key().key_id(&name).send().await), "NotFoundException");
}

#[tokio::test]
async fn rotation_leaves_old_blobs_readable() {
    let world = World::new();
    let key = world.key().await;
    let first = world.material(&key).await.unwrap_or_default();
    let (plaintext, old) = world.data_key(&key, &context(&[])).await;
    let id = key.rsplit_once('/').unwrap().1;
    let automatic = world.client.get_key_rotation_status().key_id(&key).send().await.unwrap();
    assert!(!automatic.key_rotation_enabled());
    assert!(world.client.list_key_rotations().key_id(&key).send().await.unwrap().rotations().is_empty());

    world.client.rotate_key_on_demand().key_id(id).send().await.unwrap();
    let second = world.material(&key).await.unwrap_or_default();
    assert_ne!(first, second);
    assert!(second.len() == 64 && second.bytes().all(|byte| byte.is_ascii_hexdigit()), "{second}");
    let (_, new) = world.data_key(&key, &context(&[])).await;
    for (blob, material) in [(&old, &first), (&new, &second)] {
        let opened = world.client.decrypt().ciphertext_blob(blob.clone()).send().await.unwrap();
        assert_eq!(opened.key_material_id(), Some(material.as_str()));
    }
    let opened = world.client.decrypt().ciphertext_blob(old.clone()).key_id(&key).send().await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), plaintext);
    let moved = world.client.re_encrypt().ciphertext_blob(old).destination_key_id(&key).send().await.unwrap();
    let materials = (moved.source_key_material_id(), moved.destination_key_material_id());
    assert_eq!(materials, (Some(first.as_str()), Some(second.as_str())), "to the current material of the same key");

    let request = world.client.list_key_rotations().key_id(&key);
    let listed = request.clone().send().await.unwrap();
    let [rotation] = listed.rotations() else { panic!("{listed:?}") };
    assert_eq!(rotation.key_material_id(), Some(second.as_str()));
    assert_eq!(rotation.rotation_type(), Some(&RotationType::OnDemand));
    assert!(rotation.rotation_date().is_some());
    let all = request.include_key_material(IncludeKeyMaterial::AllKeyMaterial).send().await.unwrap();
    let states: BTreeMap<_, _> =
        all.rotations().iter().map(|entry| (entry.key_material_id().unwrap(), entry.key_material_state())).collect();
    let expect =
        [(first.as_str(), Some(&KeyMaterialState::NonCurrent)), (second.as_str(), Some(&KeyMaterialState::Current))];
    assert_eq!(states, BTreeMap::from(expect));
}

#[tokio::test]
async fn a_rotation_reaches_every_region_of_the_key() {
    let world = World::embedded();
    let key = world.primary_key().await;
    let (_, old) = world.data_key(&key, &context(&[])).await;
    world.client.replicate_key().key_id(&key).replica_region(OTHER_REGION).send().await.unwrap();
    let there = world.elsewhere();
    let replica = key.replace(REGION, OTHER_REGION);
    let request = there.rotate_key_on_demand().key_id(&replica);
    assert_eq!(exception(request.send().await), "UnsupportedOperationException", "the primary is what is rotated");
    world.client.rotate_key_on_demand().key_id(&key).send().await.unwrap();
    let (_, new) = world.data_key(&key, &context(&[])).await;
    for blob in [old, new] {
        there.decrypt().ciphertext_blob(blob).key_id(&replica).send().await.unwrap();
    }
    let found = there.describe_key().key_id(&replica).send().await.unwrap().key_metadata.unwrap();
    assert_eq!(found.current_key_material_id(), world.material(&key).await.as_deref());
    for _ in 1..25 {
        world.client.rotate_key_on_demand().key_id(&key).send().await.unwrap();
    }
    let request = world.client.rotate_key_on_demand().key_id(&key);
    assert_eq!(exception(request.send().await), "LimitExceededException");
    let page = world.client.list_key_rotations().key_id(&key).limit(20).send().await.unwrap();
    let rest = world.client.list_key_rotations().key_id(&key).set_marker(page.next_marker.clone());
    assert_eq!((page.rotations().len(), rest.send().await.unwrap().rotations().len()), (20, 5));
}

#[tokio::test]
async fn a_dry_run_checks_all_but_does_nothing() {
    let world = World::new();
    let (key, other) = (world.key().await, world.key().await);
    let (_, blob) = world.data_key(&key, &context(&[("a", "1")])).await;
    let client = &world.client;
    let check = async |expect: &str, opens: &str| {
        let request = client.encrypt().key_id(&key).plaintext(Blob::new([1])).dry_run(true);
        assert_eq!(exception(request.send().await), expect, "Encrypt");
        let request = client.generate_data_key().key_id(&key).number_of_bytes(8).dry_run(true);
        assert_eq!(exception(request.send().await), expect, "GenerateDataKey");
        let request = client.decrypt().ciphertext_blob(blob.clone()).dry_run(true);
        assert_eq!(exception(request.clone().encryption_context("a", "1").send().await), expect, "Decrypt");
        assert_eq!(exception(request.encryption_context("a", "2").send().await), opens, "Decrypt in another context");
        let request = client.re_encrypt().ciphertext_blob(blob.clone()).destination_key_id(&other).dry_run(true);
        assert_eq!(exception(request.source_encryption_context("a", "1").send().await), expect, "ReEncrypt");
    };
    check("DryRunOperationException", "InvalidCiphertextException").await;
    client.disable_key().key_id(&key).send().await.unwrap();
    check("DisabledException", "DisabledException").await;
}

#[tokio::test]
async fn a_dry_run_may_do_without_a_ciphertext() {
    let world = World::new();
    let (key, rsa) = (world.key().await, world.rsa_key().await);
    let decrypt = || world.client.decrypt().dry_run(true).dry_run_modifiers(DryRunModifierType::IgnoreCiphertext);
    let re_encrypt = || world.client.re_encrypt().dry_run(true).dry_run_modifiers(DryRunModifierType::IgnoreCiphertext);
    let with_context = decrypt().key_id(&key).encryption_context("a", "1");
    assert_eq!(exception(with_context.send().await), "DryRunOperationException");
    let with_algorithm = decrypt().key_id(&rsa).encryption_algorithm(OAEP_SHA_256);
    assert_eq!(exception(with_algorithm.send().await), "DryRunOperationException");
    assert_eq!(exception(decrypt().send().await), "ValidationException", "no key to ask about");
    let both = re_encrypt().source_key_id(&key).destination_key_id(&key);
    assert_eq!(exception(both.clone().send().await), "DryRunOperationException");
    assert_eq!(exception(re_encrypt().destination_key_id(&key).send().await), "ValidationException");
    let wet = world.client.decrypt().key_id(&key).dry_run_modifiers(DryRunModifierType::IgnoreCiphertext);
    assert_eq!(exception(wet.clone().send().await), "ValidationException", "only a dry run does without");
    let (plaintext, blob) = world.data_key(&key, &context(&[])).await;
    let opened = wet.ciphertext_blob(blob).send().await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), plaintext, "only a dry run looks away");
    if let Some(stand_ins) = &world.stand_ins {
        let denial = |permission: &str| Denial { operation: Some(permission.to_owned()), ..Denial::default() };
        stand_ins.kms().deny(denial("Decrypt")).unwrap();
        stand_ins.kms().deny(denial("ReEncryptTo")).unwrap();
        assert_eq!(exception(decrypt().key_id(&key).send().await), "AccessDeniedException");
        assert_eq!(exception(both.send().await), "AccessDeniedException");
    }
}

#[tokio::test]
async fn moving_a_blob_takes_a_permission_on_either_key() {
    let world = World::embedded();
    let (source, destination) = (world.key().await, world.key().await);
    let (_, blob) = world.data_key(&source, &context(&[("id", "7")])).await;
    let move_it = || {
        let request = world.client.re_encrypt().ciphertext_blob(blob.clone()).destination_key_id(&destination);
        request.source_encryption_context("id", "7").destination_encryption_context("id", "8").send()
    };
    for (permission, key, id, denied) in [
        ("ReEncryptFrom", &source, "7", true),
        ("ReEncryptFrom", &source, "8", false),
        ("ReEncryptFrom", &destination, "7", false),
        ("ReEncryptTo", &destination, "8", true),
        ("ReEncryptTo", &destination, "7", false),
        ("ReEncryptTo", &source, "8", false),
    ] {
        let rule = Denial {
            key_id: Some(key.clone()),
            operation: Some(permission.to_owned()),
            encryption_context: BTreeMap::from([("id".to_owned(), id.to_owned())]),
        };
        world.rules().deny(rule).unwrap();
        let answer = move_it().await;
        if denied {
            assert_eq!(exception(answer), "AccessDeniedException", "{permission} {id}");
        } else {
            answer.unwrap();
        }
        world.rules().allow_all();
    }
}

#[tokio::test]
async fn each_region_has_rules_of_its_own() {
    let world = World::embedded();
    let key = world.primary_key().await;
    world.client.replicate_key().key_id(&key).replica_region(OTHER_REGION).send().await.unwrap();
    let (_, blob) = world.data_key(&key, &context(&[])).await;
    let there = world.elsewhere();
    let rules_there = world.rules().in_region(OTHER_REGION);
    let rule = Denial { key_id: Some(key.replace(REGION, OTHER_REGION)), ..Denial::default() };
    rules_there.deny(rule).unwrap();
    assert_eq!(exception(there.decrypt().ciphertext_blob(blob.clone()).send().await), "AccessDeniedException");
    world.client.decrypt().ciphertext_blob(blob).send().await.unwrap();
    assert_eq!((rules_there.requests().get("Decrypt"), rules_there.requests().get("CreateKey")), (Some(&1), None));
}

#[tokio::test]
async fn answers_are_held_back_for_as_long_as_was_asked() {
    let world = World::embedded();
    let rules = Http(world.stand_ins.as_ref().unwrap().kms_endpoint());
    assert_eq!(rules.send("POST", "/_reseal/delay", r#"{"Milliseconds":40}"#).await.0, 200);
    let begun = tokio::time::Instant::now();
    world.client.list_keys().send().await.unwrap();
    assert!(begun.elapsed() >= std::time::Duration::from_millis(40));
    assert_eq!(rules.send("POST", "/_reseal/delay", r#"{"Milliseconds":-1}"#).await.0, 400);
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let world = World::embedded();
    let request = world.client.create_key().key_spec(KeySpec::EccNistP256).key_usage(KeyUsageType::SignVerify);
    let refused = request.send().await.unwrap_err();
    assert_eq!(refused.code(), Some("UnsupportedOperationException"));
    assert!(refused.message().unwrap().contains("KeyUsage"), "{refused:?}");
    let request = world.client.create_key().key_spec(KeySpec::EccNistP256).key_usage(KeyUsageType::EncryptDecrypt);
    let refused = request.send().await.unwrap_err();
    assert!(refused.message().unwrap().contains("KeySpec"), "{refused:?}");
    assert_eq!(exception(world.client.list_grants().key_id("x").send().await), "UnknownOperationException");
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
    let begin = || World::start(Options { data: Some(data.path().to_owned()), ..Options::default() });
    let world = begin();
    let (key, disabled) = (world.key().await, world.key().await);
    let (plaintext, blob) = world.data_key(&key, &context(&[("a", "1")])).await;
    world.client.disable_key().key_id(&disabled).send().await.unwrap();
    world.client.create_alias().alias_name("alias/kept").target_key_id(&key).send().await.unwrap();
    world.client.rotate_key_on_demand().key_id(&key).send().await.unwrap();
    let rsa = world.rsa_key().await;
    let public = world.client.get_public_key().key_id(&rsa).send().await.unwrap().public_key;
    let primary = world.primary_key().await;
    world.client.replicate_key().key_id(&primary).replica_region(OTHER_REGION).send().await.unwrap();
    let before = world.client.describe_key().key_id(&key).send().await.unwrap().key_metadata;
    world.stand_ins.unwrap().shutdown().await.unwrap();

    let world = begin();
    let opened = world.client.decrypt().ciphertext_blob(blob).encryption_context("a", "1").send().await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), plaintext);
    let answer = world.client.encrypt().key_id(&disabled).plaintext(Blob::new([1])).send().await;
    assert_eq!(exception(answer), "DisabledException");
    assert_eq!(world.client.list_keys().send().await.unwrap().keys().len(), 4);
    let aliased = world.client.describe_key().key_id("alias/kept").send().await.unwrap().key_metadata.unwrap();
    assert_eq!(aliased.arn(), Some(key.as_str()));
    let rotations = world.client.list_key_rotations().key_id(&key).send().await.unwrap();
    assert!(matches!(rotations.rotations(), [rotation] if rotation.rotation_date().is_some()), "{rotations:?}");
    assert_eq!(world.client.get_public_key().key_id(&rsa).send().await.unwrap().public_key, public);
    let (_, blob) = world.data_key(&primary, &context(&[])).await;
    let replica = primary.replace(REGION, OTHER_REGION);
    world.elsewhere().decrypt().key_id(&replica).ciphertext_blob(blob).send().await.unwrap();
    let found = world.elsewhere().describe_key().key_id(&replica).send().await.unwrap().key_metadata.unwrap();
    let configuration = found.multi_region_configuration().unwrap();
    assert_eq!(configuration.multi_region_key_type(), Some(&MultiRegionKeyType::Replica));
    let after = world.client.describe_key().key_id(&key).send().await.unwrap().key_metadata.unwrap();
    let before = before.unwrap();
    assert_eq!(after.current_key_material_id(), before.current_key_material_id());
    assert_eq!(after.creation_date().unwrap().secs(), before.creation_date().unwrap().secs());
    world.stand_ins.unwrap().shutdown().await.unwrap();
}
