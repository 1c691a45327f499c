//! Job files, right and wrong: each wrong one is the right one with a single change.

use super::*;
use crate::format::Action;
use crate::keyring::{KeyArn, Matching};

const RIGHT: &str = r#"version = 1
[table]
name = "customers"
partition_key = "tenant"
sort_key = "id"
schema = "frozen"
readers = "accept-both"
writers = "whole-item"
acknowledge = ["signed-ttl", "partial-index:by-day"]
[attributes]
tenant = "SIGN_ONLY"
id = "SIGN_ONLY"
email = "ENCRYPT_AND_SIGN"
visits = "DO_NOTHING"
[unsigned]
names = ["visits"]
prefix = ":"
[source]
formats = ["plaintext", "dbesdk"]
keyrings = [{ type = "raw-aes", namespace = "acme", name = "k0", key_env = "OLD" }]
[target]
format = "dbesdk"
keyring = { type = "raw-aes", namespace = "acme", name = "k1", key_file = "k1.key" }
[budget]
read_units_per_second = 500
"#;

const KMS: &str = r#"{ type = "aws-kms", key_arn = "arn:aws:kms:eu-west-1:111122223333:key/mrk-1" }"#;

fn parse(text: &str) -> Result<Job, JobError> {
    Job::parse(text, Path::new("jobs/customers.toml"))
}

#[test]
fn a_right_file() {
    let job = parse(RIGHT).unwrap();
    assert_eq!(job.table, "customers");
    assert_eq!(job.schema.logical_table, "customers");
    assert_eq!(job.schema.action("email"), Some(Action::EncryptAndSign));
    assert_eq!(job.schema.keys.sort.as_deref(), Some("id"));
    assert!(job.schema.unsigned.contains(":x") && job.schema.unsigned.contains("visits"));
    assert!(job.acknowledged.signed_ttl && job.acknowledged.partial_indexes.contains("by-day"));
    assert!(job.source.plaintext && job.source.dbesdk);
    assert_eq!(job.source.on_mixed, OnMixed::Quarantine);
    for (word, expected) in [("quarantine", OnMixed::Quarantine), ("repair", OnMixed::Repair)] {
        let text = RIGHT.replace("[source]", &format!("[source]\non_mixed = \"{word}\""));
        assert_eq!(parse(&text).unwrap().source.on_mixed, expected);
    }
    assert_eq!(job.source.keyrings[0].recipients()[0].recipient.key, "k0");
    let Target::Dbesdk { suite, keyring, .. } = &job.target else { panic!("{:?}", job.target) };
    assert_eq!(*suite, Suite::EcdsaP384);
    let KeyringSettings::RawAes { key, .. } = keyring else { panic!("{keyring:?}") };
    assert_eq!(*key, KeySource::File("jobs/k1.key".into()));
    assert_eq!(job.budget.read_units, NonZeroU32::new(500));
    assert_eq!(job.budget.kms_requests, None);
    assert_eq!(job.readiness(), Ok(()));
}

#[test]
fn names_and_regions_are_taken_from_arns() {
    let arn = "arn:aws:dynamodb:eu-west-1:111122223333:table/customers";
    let text = RIGHT.replace("name = \"customers\"", &format!("name = \"{arn}\""));
    let job =
        parse(&text.replace(r#"{ type = "raw-aes", namespace = "acme", name = "k1", key_file = "k1.key" }"#, KMS));
    let job = job.unwrap();
    assert_eq!((job.table.as_str(), job.schema.logical_table.as_str()), (arn, "customers"));
    let Target::Dbesdk { keyring: KeyringSettings::AwsKms { key_arn, .. }, .. } = job.target else { panic!() };
    assert_eq!(key_arn.region(), "eu-west-1");
}

/// The right file with one change is refused at this place for this reason.
fn check(from: &str, to: &str, expected: &str) {
    assert!(RIGHT.contains(from), "{from}");
    let error = parse(&RIGHT.replacen(from, to, 1)).unwrap_err();
    assert_eq!(error.to_string(), format!("jobs/customers.toml:{expected}"));
    assert!(!error.remedy().is_empty());
}

#[test]
fn fields_that_are_unknown_missing_or_of_another_type() {
    check("version = 1", "version = 2", "1: version: version 2 is unknown");
    check("version = 1\n", "", "1: version: missing");
    check("version = 1", "version = ", "1: not TOML: string values must be quoted, expected literal string");
    check("name = \"customers\"\n", "", "2: table.name: missing");
    check("sort_key", "sort_kay", "5: table.sort_kay: unknown field");
    check("[budget]", "[budgets]", "24: budgets: unknown field");
    check("key_file", "keyfile", "23: target.keyring.keyfile: unknown field");
    check("\"id\"", "7", "5: table.sort_key: expected a string, found integer");
    check("\"id\"", "\"\"", "5: table.sort_key: must not be empty");
    check("[\"visits\"]", "\"visits\"", "16: unsigned.names: expected an array of strings, found string");
    check("visits = \"DO", "visits.day = \"DO", "14: attributes.visits: expected a string, found table");
    let budget = "25: budget.read_units_per_second:";
    check("500", "0", &format!("{budget} a budget of 0 would never end"));
    check("500", "-5", &format!("{budget} expected a whole number that is not negative, found integer"));
    check("500", "9999999999", &format!("{budget} a budget above 4294967295 is none"));
}

#[test]
fn words_that_nobody_knows() {
    check("\"ENCRYPT_AND_SIGN\"", "\"ENCRYPT\"", "13: attributes.email: unknown value \"ENCRYPT\"");
    check("\"frozen\"", "\"froze\"", "6: table.schema: unknown value \"froze\"");
    check("\"accept-both\"", "\"all\"", "7: table.readers: unknown value \"all\"");
    check("\"whole-item\"", "\"some\"", "8: table.writers: unknown value \"some\"");
    check("\"signed-ttl\"", "\"ttl\"", "9: table.acknowledge: unknown value \"ttl\"");
    check("\"dbesdk\"]", "\"esdk\"]", "19: source.formats: unknown value \"esdk\"");
    check("format = \"dbesdk\"", "format = \"dbesk\"", "22: target.format: unknown value \"dbesk\"");
    check("format = \"dbesdk\"", "format = \"dbesdk\"\nsuite = \"AES\"", "23: target.suite: unknown value \"AES\"");
    check("keyrings = [", "on_mixed = \"mend\"\nkeyrings = [", "20: source.on_mixed: unknown value \"mend\"");
    check("keyrings = [", "on_mixed = true\nkeyrings = [", "20: source.on_mixed: expected a string, found boolean");
    let keyring = "20: source.keyrings[0].type: unknown value \"aes\"";
    check("type = \"raw-aes\"", "type = \"aes\"", keyring);
}

#[test]
fn a_misspelling_is_recognised() {
    let remedy = |from, to| parse(&RIGHT.replacen(from, to, 1)).unwrap_err().remedy();
    assert!(remedy("sort_key", "sort_kay").starts_with("did you mean \"sort_key\"?"));
    assert!(remedy("ENCRYPT_AND_SIGN", "encrypt_and_sing").starts_with("did you mean \"ENCRYPT_AND_SIGN\"?"));
    assert!(remedy("[budget]", "[xyz]").starts_with("known here: version, table"));
}

#[test]
fn actions_that_no_reader_could_live_with() {
    check("id = \"SIGN_ONLY\"\n", "", "2: table: the key attribute \"id\" has no action");
    check(
        "id = \"SIGN_ONLY\"",
        "id = \"ENCRYPT_AND_SIGN\"",
        "12: attributes.id: the key attribute \"id\" cannot be encrypted: nobody could look the item up",
    );
    let unsigned = "the key attribute \"id\" cannot be left unsigned: items could be swapped";
    check("id = \"SIGN_ONLY\"", "id = \"DO_NOTHING\"", &format!("12: attributes.id: {unsigned}"));
    check("\":\"", "\"i\"", &format!("12: attributes.id: {unsigned}"));
    check("[\"visits\"]", "[\"visits\", \"id\"]", &format!("12: attributes.id: {unsigned}"));
    check(
        "names = [\"visits\"]\n",
        "",
        "14: attributes.visits: \"visits\" is DO_NOTHING, but not declared unsigned: readers would count it as signed",
    );
    check(
        "[\"visits\"]",
        "[\"visits\", \"email\"]",
        "13: attributes.email: \"email\" is ENCRYPT_AND_SIGN, but declared unsigned",
    );
    check(
        "\"ENCRYPT_AND_SIGN\"",
        "\"SIGN_AND_INCLUDE_IN_ENCRYPTION_CONTEXT\"",
        "11: attributes.tenant: the key attribute \"tenant\" must be part of the encryption context as soon as \
         \"email\" is",
    );
    check(
        "id = \"SIGN_ONLY\"",
        "id = \"SIGN_AND_INCLUDE_IN_ENCRYPTION_CONTEXT\"",
        "11: attributes.tenant: the key attribute \"tenant\" must be part of the encryption context as soon as \"id\" \
         is",
    );
    for (name, prefix) in [("aws_dbe_head", "aws_dbe_"), ("aws-crypto-x", "aws-crypto-")] {
        let reserved = format!("\"{name}\": names that begin with \"{prefix}\" belong to the item format");
        check("email =", &format!("{name} ="), &format!("13: attributes.{name}: {reserved}"));
    }
    check(
        "[\"visits\"]",
        "[\"visits\", \"aws_dbe_b_x\"]",
        "16: unsigned.names: \"aws_dbe_b_x\": names that begin with \"aws_dbe_\" belong to the item format",
    );
}

#[test]
fn tables_and_keys_that_do_not_fit() {
    check("\"id\"", "\"tenant\"", "5: table.sort_key: \"tenant\" is the partition key already");
    let long = "no table has a key attribute with so long a name: 256 characters, and 255 are the most";
    let name = |units: &str, times| format!("\"{}\"", units.repeat(times));
    check("\"tenant\"", &name("k", 256), &format!("4: table.partition_key: {long}"));
    check("\"id\"", &name("😀", 128), &format!("5: table.sort_key: {long}"));
    let fits = name("é", 255);
    check("\"id\"", &fits, &format!("2: table: the key attribute {fits} has no action"));
    for name in ["ab", "a b c", "arn:aws:dynamodb:eu-west-1:1111:table/customers", "arn:aws:s3:::customers"] {
        let expected = format!(
            "3: table.name: \"{name}\" is neither a table name (3 to 255 of A-Z a-z 0-9 _ . -) nor a table ARN"
        );
        check("\"customers\"", &format!("\"{name}\""), &expected);
    }
    check("key_file = \"k1.key\"", "key_file = \"k1.key\", key_env = \"K\"", {
        "23: target.keyring: a raw-aes keyring takes its key from exactly one of key_file, key_env and key_secret"
    });
    check(
        "key_file = \"k1.key\"",
        "key_file = \"k1.key\", region = \"eu-west-1\"",
        "23: target.keyring.region: region, profile and role_arn say how a key_secret is reached, and there is none",
    );
    check(
        "namespace = \"acme\", name = \"k1\"",
        "namespace = \"aws-kms\", name = \"k1\"",
        "23: target.keyring.namespace: the namespace \"aws-kms\" belongs to the KMS keyrings",
    );
}

#[test]
fn kms_keys_that_do_not_fit() {
    let kms = |from: &str, to: &str, expected: &str| check(RAW, &KMS.replace(from, to), expected);
    for text in ["alias/app", "mrk-1", "arn:aws:kms:key/1"] {
        let problem = KeyArn::parse(text).unwrap_err();
        let expected = format!("23: target.keyring.key_arn: {problem}");
        kms("arn:aws:kms:eu-west-1:111122223333:key/mrk-1", text, &expected);
    }
    kms(
        " }",
        ", region = \"us-east-1\" }",
        "23: target.keyring.region: the Region is \"us-east-1\", but the key is of \"eu-west-1\"",
    );
}

const RAW: &str = r#"{ type = "raw-aes", namespace = "acme", name = "k1", key_file = "k1.key" }"#;
const HMAC_SUITE: &str = "suite = \"ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_SYMSIG_HMAC_SHA384\"\nkeyring";

/// The right file with another keyring for its target, and the suite that every keyring has.
fn with(keyring: &str) -> Result<KeyringSettings, JobError> {
    let job = parse(&RIGHT.replace(RAW, keyring).replace("keyring =", &format!("{HMAC_SUITE} =")))?;
    match job.target {
        Target::Dbesdk { keyring, .. } => Ok(keyring),
        Target::Plaintext => panic!("{keyring}"),
    }
}

/// One of each type that seals.
fn keyrings() -> Vec<String> {
    let arn = "key_arn = \"arn:aws:kms:eu-west-1:111122223333:key/mrk-1\"";
    let raw = "namespace = \"acme\", name = \"k1\"";
    let secret = "key_secret = \"arn:aws:secretsmanager:eu-west-3:111122223333:secret:k-AbCdEf\", profile = \"p\"";
    vec![
        RAW.to_owned(),
        format!("{{ type = \"raw-aes\", {raw}, {secret} }}"),
        format!("{{ type = \"raw-rsa\", {raw}, padding = \"oaep-sha512\", key_env = \"K\" }}"),
        format!("{{ type = \"aws-kms\", {arn}, profile = \"p\", role_arn = \"r\" }}"),
        format!("{{ type = \"aws-kms-mrk\", {arn}, region = \"eu-west-1\" }}"),
        format!("{{ type = \"aws-kms-rsa\", {arn}, padding = \"oaep-sha1\", public_key_file = \"p.pem\" }}"),
    ]
}

#[test]
fn every_type_of_keyring() {
    let read: Vec<_> = keyrings().iter().map(|keyring| with(keyring).unwrap()).collect();
    let KeyringSettings::RawAes { key: KeySource::Secret { id, access }, .. } = &read[1] else { panic!("{read:?}") };
    assert!(id.starts_with("arn:aws:secretsmanager:"));
    assert_eq!((access.region.as_deref(), access.profile.as_deref()), (Some("eu-west-3"), Some("p")));
    let arn = "arn:aws:kms:eu-west-1:111122223333:key/mrk-1";
    let words: Vec<_> = read.iter().map(KeyringSettings::in_words).collect();
    let expected = [
        "acme k1".to_owned(),
        "acme k1".to_owned(),
        "acme k1 (oaep-sha512)".to_owned(),
        format!("aws-kms {arn}"),
        format!("aws-kms {arn} (any Region)"),
        format!("aws-kms-rsa {arn} (oaep-sha1)"),
    ];
    assert_eq!(words, expected);
    let requests: Vec<_> = read.iter().map(KeyringSettings::kms_requests).collect();
    assert_eq!(requests, [(0, 0), (0, 0), (0, 0), (1, 1), (1, 1), (1, 0)]);
    let matching: Vec<_> = read.iter().map(|keyring| keyring.recipients()[0].matching).collect();
    assert_eq!(matching[3..], [Matching::Exact, Matching::AnyRegion, Matching::AnyRegion]);
}

#[test]
fn several_keyrings_as_one() {
    let [raw, .., kms, _, rsa] = <[String; 6]>::try_from(keyrings()).unwrap();
    let multi = |generator: &str, children: &[&str]| {
        let generator = if generator.is_empty() { String::new() } else { format!("generator = {generator}, ") };
        with(&format!("{{ type = \"multi\", {generator}children = [{}] }}", children.join(", ")))
    };
    let read = multi(&raw, &[&kms, &rsa]).unwrap();
    let providers: Vec<_> = read.recipients().into_iter().map(|wanted| wanted.recipient.provider).collect();
    assert_eq!(providers, ["acme", "aws-kms", "aws-kms-rsa"]);
    assert_eq!(read.kms_requests(), (1, 1));
    assert_eq!(multi("", &[&raw, &kms]).unwrap().kms_requests(), (1, 1));
    let abroad = kms.replace("eu-west-1", "eu-west-3");
    assert_eq!(multi("", &[&kms, &abroad]).unwrap().kms_requests(), (1, 2));
    let refused = |generator: &str, children: &[&str], expected: &str| {
        let error = multi(generator, children).unwrap_err();
        assert_eq!(error.to_string(), format!("jobs/customers.toml:24: target.keyring{expected}"));
        assert!(!error.remedy().is_empty());
    };
    refused("", &[], ": a keyring of type multi needs a generator or children");
    let same = "another keyring of the same multi keyring is for this key already";
    refused(&raw, &[&kms, &raw], &format!(".children[1]: {same}: acme k1"));
    // A reader with the rule of multi-Region keys takes one for the other.
    let mrk = abroad.replace("\"aws-kms\"", "\"aws-kms-mrk\"");
    let first = "aws-kms arn:aws:kms:eu-west-1:111122223333:key/mrk-1";
    refused("", &[&kms, &mrk], &format!(".children[1]: {same}: {first}"));
    refused("{ type = \"multi\" }", &[], ".generator.type: unknown value \"multi\"");
    let discovery = "{ type = \"aws-kms-discovery\", accounts = [\"*\"] }";
    refused(&raw, &[discovery], ": a keyring of type aws-kms-discovery names no key to seal with");
    let named = raw.replace("type", "region = \"eu-west-1\", type");
    let unreachable = "region, profile and role_arn say how a key_secret is reached, and there is none";
    refused(&named, &[], &format!(".generator.region: {unreachable}"));
    let outer = with("{ type = \"multi\", children = [], name = \"x\" }").unwrap_err().to_string();
    assert!(outer.ends_with("target.keyring.name: a keyring of type multi has no such field"), "{outer}");
}

#[test]
fn keyrings_with_what_is_not_theirs() {
    let raw_key = "24: target.keyring";
    let [raw, secret, rsa, kms, _, kms_rsa] = <[String; 6]>::try_from(keyrings()).unwrap();
    for (keyring, from, to, expected) in [
        (&rsa, "key_env = \"K\"", "key_env = \"K\", key_file = \"f\"", {
            ": a raw-rsa keyring takes its key from exactly one of key_file, key_env and key_secret"
        }),
        (&rsa, "oaep-sha512", "oaep-sha224", ".padding: unknown value \"oaep-sha224\""),
        (&rsa, "padding = \"oaep-sha512\", ", "", ".padding: missing"),
        (&kms_rsa, "oaep-sha1", "pkcs1", ".padding: unknown value \"pkcs1\""),
        (&raw, "key_file", "padding = \"pkcs1\", key_file", ".padding: a keyring of type raw-aes has no such field"),
        (&kms, "key_arn", "accounts = [], key_arn", ".accounts: a keyring of type aws-kms has no such field"),
        (&secret, "profile = \"p\"", "region = \"eu-west-1\"", {
            ".region: the Region is \"eu-west-1\", but the key is of \"eu-west-3\""
        }),
    ] {
        assert!(keyring.contains(from), "{from}");
        let error = with(&keyring.replace(from, to)).unwrap_err();
        assert_eq!(error.to_string(), format!("jobs/customers.toml:{raw_key}{expected}"));
    }
    let rsa = "23: target.keyring: a keyring of type aws-kms-rsa has no items of the suite with ECDSA";
    check(RAW, &kms_rsa, rsa);
}

#[test]
fn keys_that_are_discovered() {
    let old = r#"{ type = "raw-aes", namespace = "acme", name = "k0", key_env = "OLD" }"#;
    let read = |fields: &str| {
        let job = parse(&RIGHT.replace(old, &format!("{{ type = \"aws-kms-discovery\", {fields} }}")));
        job.map(|job| job.source.keyrings[0].clone())
    };
    let keyring = read("accounts = [\"444455556666\", \"111122223333\"], region = \"eu-west-3\"").unwrap();
    let words = "aws-kms of accounts 111122223333 444455556666 (partition aws, eu-west-3)";
    assert_eq!((keyring.in_words().as_str(), keyring.recipients().len()), (words, 0));
    assert_eq!(keyring.kms_requests(), (1, 0));
    let any = read("accounts = [\"*\"], partition = \"aws-cn\"").unwrap();
    assert_eq!(any.in_words(), "aws-kms of any account (partition aws-cn, the default Region)");
    for (fields, expected) in [
        ("partition = \"aws\"", ".accounts: missing"),
        ("accounts = []", ".accounts: neither a list of accounts nor [\"*\"]"),
        ("accounts = [\"*\", \"111122223333\"]", ".accounts: neither a list of accounts nor [\"*\"]"),
        ("accounts = [\"11112222333\"]", ".accounts: \"11112222333\" is not an account id of 12 digits"),
        ("accounts = [\"*\"], key_arn = \"a\"", ".key_arn: a keyring of type aws-kms-discovery has no such field"),
    ] {
        let error = read(fields).unwrap_err().to_string();
        assert_eq!(error, format!("jobs/customers.toml:20: source.keyrings[0]{expected}"));
    }
}

#[test]
fn sources_and_targets_that_do_not_fit_together() {
    let keyring = "keyring = { type = \"raw-aes\", namespace = \"acme\", name = \"k1\", key_file = \"k1.key\" }\n";
    check(keyring, "", "21: target: the target format \"dbesdk\" needs a keyring");
    let back = |rest: &str| format!("format = \"plaintext\"\n{rest}");
    let no_use = "the target format \"plaintext\" has no use for it";
    check("format = \"dbesdk\"\n", &back(""), &format!("23: target.keyring: {no_use}"));
    check("format = \"dbesdk\"\n", &back("suite = \"x\"\n"), &format!("23: target.suite: {no_use}"));
    let unused = "18: source: there are keyrings, but \"dbesdk\" is not among the accepted formats";
    check("[\"plaintext\", \"dbesdk\"]", "[\"plaintext\"]", unused);
    let way_back = RIGHT.replace(keyring, "").replace("format = \"dbesdk\"", "format = \"plaintext\"");
    let job = parse(&way_back).unwrap();
    assert_eq!(job.target, Target::Plaintext);
    let nothing = parse(&way_back.replace("\"dbesdk\"]", "]")).unwrap_err();
    assert!(nothing.to_string().ends_with(&Refusal::NothingToOpen.to_string()), "{nothing}");
    let no_keyring = way_back.lines().filter(|line| !line.starts_with("keyrings")).collect::<Vec<_>>().join("\n");
    let nothing = parse(&no_keyring).unwrap_err();
    assert!(nothing.to_string().ends_with(&Refusal::NoSourceKeyring.to_string()), "{nothing}");
}

#[test]
fn readiness_lists_what_is_missing() {
    let missing = |without: &[&str]| {
        let text = RIGHT.lines().filter(|line| !without.iter().any(|field| line.starts_with(field)));
        let job = parse(&text.collect::<Vec<_>>().join("\n")).unwrap();
        job.readiness().map_err(|not_ready| not_ready.missing.len())
    };
    assert_eq!(missing(&[]), Ok(()));
    assert_eq!(missing(&["readers"]), Err(1));
    assert_eq!(missing(&["readers", "writers"]), Err(2));
    // New attributes may come where they carry the unsigned prefix.
    assert_eq!(missing(&["schema"]), Ok(()));
    assert_eq!(missing(&["schema", "prefix"]), Err(1));
    // Sealed items sign every attribute already.
    let sealed = RIGHT.replace("schema = \"frozen\"", "").replace("prefix = \":\"", "").replace("\"plaintext\", ", "");
    assert_eq!(parse(&sealed).unwrap().readiness(), Ok(()));
    // Those that are repaired do not.
    let repaired = sealed.replace("[source]", "[source]\non_mixed = \"repair\"");
    assert_eq!(parse(&repaired).unwrap().readiness().unwrap_err().missing.len(), 1);
}

const HIERARCHY: &str = r#"{ type = "hierarchy", key_store_table = "keys", kms_key_arn = "arn:aws:kms:eu-west-1:111122223333:key/a", branch_key_id = "orders" }"#;

#[test]
fn branch_keys_of_a_key_store() {
    let hierarchy = |from: &str, to: &str| {
        assert!(HIERARCHY.contains(from), "{from}");
        let Target::Dbesdk { keyring, .. } = parse(&RIGHT.replace(RAW, &HIERARCHY.replace(from, to))).unwrap().target
        else {
            panic!()
        };
        let KeyringSettings::Hierarchy(settings) = keyring else { panic!("{keyring:?}") };
        *settings
    };
    let settings = hierarchy("", "");
    assert_eq!((settings.table.as_str(), settings.name.as_str()), ("keys", "keys"));
    assert_eq!((settings.keep.time_to_live.as_secs(), settings.keep.most), (600, 1000));
    assert_eq!(
        (settings.access.region.as_deref(), settings.in_words().as_str()),
        (Some("eu-west-1"), "aws-kms-hierarchy orders of the key store keys",)
    );
    let elsewhere =
        hierarchy("\"keys\"", "\"keys\", key_store_name = \"k\", region = \"eu-west-2\", cache_seconds = 5");
    assert_eq!((elsewhere.name.as_str(), elsewhere.keep.time_to_live.as_secs()), ("k", 5));
    assert_eq!(elsewhere.access.region.as_deref(), Some("eu-west-2"));
    assert_eq!(elsewhere.kms_access().region.as_deref(), Some("eu-west-1"));
    let tenants = "branch_key_attribute = \"tenant\", branch_keys = { shop = \"id-1\" }";
    let by_tenant = hierarchy("branch_key_id = \"orders\"", tenants);
    let words =
        "aws-kms-hierarchy the branch key that the attribute \"tenant\" names, \"shop\" as id-1 of the key store keys";
    assert_eq!(by_tenant.in_words(), words);
    let arn = "kms_key_arn = \"arn:aws:kms:eu-west-1:111122223333:key/a\"";
    let discovery = hierarchy(arn, "key_store_readers = \"discovery\", accounts = [\"111122223333\"]");
    let accounts = Some(["111122223333".to_owned()].into());
    let filter = crate::keyring::DiscoveryFilter { partition: "aws".to_owned(), accounts };
    assert_eq!(discovery.readers, crate::keyring::KeyStoreReaders::Discovery(filter));

    let refused = |from: &str, to: &str, expected: &str| {
        assert!(HIERARCHY.contains(from), "{from}");
        check(RAW, &HIERARCHY.replace(from, to), &format!("23: target.keyring{expected}"));
    };
    let readers = ": a hierarchy keyring takes exactly one of kms_key_arn and key_store_readers";
    refused(arn, "partition = \"aws\"", readers);
    refused(arn, &format!("{arn}, key_store_readers = \"discovery\""), readers);
    refused(arn, "key_store_readers = \"discovery\"", ".accounts: missing");
    refused(arn, "key_store_readers = \"all\"", ".key_store_readers: unknown value \"all\"");
    let filter = ": kms_key_arn names the only key that is trusted, so there is nothing to filter";
    refused(arn, &format!("{arn}, accounts = [\"1\"]"), &format!(".accounts{filter}"));
    refused(arn, &format!("{arn}, partition = \"aws\""), &format!(".partition{filter}"));
    let which =
        ": a hierarchy keyring takes exactly one of branch_key_id and branch_key_attribute (branch_keys goes with it)";
    refused(", branch_key_id = \"orders\"", "", which);
    refused("\"orders\"", "\"orders\", branch_key_attribute = \"tenant\"", which);
    refused("\"orders\"", "\"orders\", branch_keys = { a = \"b\" }", which);
    let hidden =
        "the attribute \"email\" is not part of the encryption context, which is all that a keyring sees of an item";
    refused(
        "branch_key_id = \"orders\"",
        "branch_key_attribute = \"email\"",
        &format!(".branch_key_attribute: {hidden}"),
    );
    refused(
        "\"orders\"",
        "\"orders\", cache_entries = 0",
        ".cache_entries: a cache of 0 would ask the key store for every item",
    );
    refused("\"orders\"", "\"orders\", key_file = \"k\"", ".key_file: a keyring of type hierarchy has no such field");
    refused("key_store_table = \"keys\", ", "", ".key_store_table: missing");
    check(
        "key_file = \"k1.key\"",
        "cache_seconds = 3",
        "23: target.keyring.cache_seconds: a keyring of type raw-aes has no such field",
    );
}
