//! The committed corpora of the fuzz targets, `tests/fuzz/corpus`: where each file comes from, and that none of them is
//! a finding. `RESEAL_WRITE_CORPUS=1 cargo test --test corpus` writes them anew after a change here.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[allow(unreachable_pub, dead_code, missing_docs, reason = "the modules of another crate")]
#[path = "fuzz/src/targets/mod.rs"]
mod targets;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use reseal::cli::job::Job;
use reseal::format::dbesdk::{Head, value};
use reseal::item::json;

/// Name and bytes. What begins with `whole` is accepted; anything else is refused, and named by what is wrong with it.
type Seeds = Vec<(&'static str, Vec<u8>)>;

/// The corpus of each target.
fn corpora() -> Vec<(&'static str, Seeds)> {
    vec![
        ("edks", edks()),
        ("foot", foot()),
        ("head", head()),
        ("item", item()),
        ("job", job()),
        ("journal", journal()),
        ("json", dynamodb_json()),
        ("value", values()),
    ]
}

/// Bytes behind their 16-bit length.
fn lv16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// Bytes behind their 32-bit length.
fn lv32(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn edk(provider: &[u8], info: &[u8], ciphertext: &[u8]) -> Vec<u8> {
    [lv16(provider), lv16(info), lv16(ciphertext)].concat()
}

fn edks() -> Seeds {
    let raw = edk(b"acme", b"k1\0\0\0\x80\0\0\0\x0cnonce of 12.", &[7; 96]);
    let kms = edk(b"aws-kms", b"arn:aws:kms:eu-central-1:111122223333:key/k", &[7; 200]);
    let branch = edk(b"aws-kms-hierarchy", b"branch", &[7; 140]);
    let list = |count: u8, keys: &[&Vec<u8>]| keys.iter().fold(vec![count], |list, key| [&list[..], key].concat());
    vec![
        ("whole-raw", list(1, &[&raw])),
        ("whole-three-kinds", list(3, &[&raw, &kms, &branch])),
        ("whole-short-branch-key", list(1, &[&edk(b"aws-kms-hierarchy", b"b", &[7; 80])])),
        ("whole-nothing-wrapped", list(1, &[&edk(b"", b"", b"")])),
        ("whole-255-keys", list(255, &vec![&edk(b"a", b"", b""); 255])),
        ("count-zero", list(0, &[])),
        ("count-above-keys", list(255, &[&raw])),
        ("count-below-keys", list(1, &[&raw, &kms])),
        ("provider-not-utf8", list(1, &[&edk(b"\xff", b"k", &[7; 96])])),
        ("info-length-beyond-end", [&[1][..], &lv16(b"acme"), &[0xff, 0xff]].concat()),
        ("ciphertext-truncated", raw[..raw.len() - 40].to_vec()),
    ]
}

/// A header: version, flavor, message id, legend, stored context, encrypted data keys, commitment.
fn header(version: u8, flavor: u8, legend: &[u8], context: &[u8], keys: &[u8]) -> Vec<u8> {
    [&[version, flavor][..], &[7; 32], &lv16(legend), context, keys, &[9; 32]].concat()
}

fn pairs(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let count = u16::try_from(pairs.len()).unwrap().to_be_bytes();
    let pairs: Vec<u8> = pairs.iter().flat_map(|(key, value)| [lv16(key), lv16(value)].concat()).collect();
    [&count[..], &pairs].concat()
}

fn head() -> Seeds {
    const PUBLIC_KEY: &[u8] = b"aws-crypto-public-key";
    let keys = [&[1][..], &edk(b"acme", b"k1", &[7; 96])].concat();
    let (none, two) = (pairs(&[]), pairs(&[(b"a", b"x"), (b"b", b"")]));
    let point = pairs(&[(PUBLIC_KEY, &[b'A'; 68])]);
    let plain = header(1, 0, b"es", &none, &keys);
    let edk_count = plain.len() - 32 - keys.len();
    vec![
        ("whole-version-1", plain.clone()),
        ("whole-version-2", header(2, 0, b"esc", &two, &keys)),
        ("whole-signed", header(1, 1, b"es", &point, &keys)),
        ("whole-without-attributes", header(1, 0, b"", &none, &keys)),
        ("head-empty", vec![]),
        ("head-version-0", header(0, 0, b"es", &none, &keys)),
        ("head-version-3", header(3, 0, b"es", &none, &keys)),
        ("head-flavor-2", header(1, 2, b"es", &none, &keys)),
        ("head-legend-unknown-byte", header(1, 0, b"ex", &none, &keys)),
        ("head-legend-context-in-version-1", header(1, 0, b"ec", &none, &keys)),
        ("head-legend-length-beyond-end", [&[1, 0][..], &[7; 32], &[0xff, 0xff], b"es"].concat()),
        ("head-context-count-beyond-end", header(1, 0, b"es", &[0xff, 0xff], &keys)),
        ("head-context-descending", header(1, 0, b"es", &pairs(&[(b"b", b""), (b"a", b"")]), &keys)),
        ("head-context-key-twice", header(1, 0, b"es", &pairs(&[(b"a", b"1"), (b"a", b"2")]), &keys)),
        ("head-context-not-utf8", header(1, 0, b"es", &pairs(&[(b"\xc3\x28", b"")]), &keys)),
        ("head-signed-without-public-key", header(1, 1, b"es", &none, &keys)),
        ("head-unsigned-with-public-key", header(1, 0, b"es", &point, &keys)),
        ("head-without-edk", header(1, 0, b"es", &none, &[0])),
        ("head-truncated-edk-count", plain[..edk_count].to_vec()),
        ("head-truncated-commitment", plain[..plain.len() - 1].to_vec()),
        ("head-trailing-byte", [&plain[..], &[0]].concat()),
    ]
}

/// The item's number in `targets::item`, bytes cut from the footer's end, and what is laid over the rest.
fn foot() -> Seeds {
    let over = |which: u8, cut: u8, mask: &[u8]| [&[which, cut][..], mask].concat();
    let at = |offset: usize| (0..=offset).map(|i| u8::from(i == offset)).collect::<Vec<u8>>();
    vec![
        ("whole-one-recipient", over(0, 0, &[])),
        ("whole-two-recipients", over(2, 0, &[])),
        ("whole-signed", over(4, 0, &[])),
        ("whole-two-recipients-signed", over(5, 0, &[])),
        ("foot-empty", over(0, 48, &[])),
        ("foot-tag-first-bit", over(0, 0, &at(0))),
        ("foot-tag-last-bit", over(0, 0, &at(47))),
        ("foot-tag-truncated", over(0, 1, &[])),
        ("foot-byte-too-many", over(0, 0, &[0; 49])),
        ("foot-second-tag-missing", over(2, 48, &[])),
        ("foot-first-of-two-tags-changed", over(2, 0, &at(5))),
        ("foot-second-of-two-tags-changed", over(2, 0, &at(50))),
        ("foot-both-tags-changed", over(2, 0, &[1; 96])),
        ("foot-signature-missing", over(4, 103, &[])),
        ("foot-signature-truncated", over(4, 1, &[])),
        ("foot-signature-der-length", over(4, 0, &at(49))),
        ("foot-signature-last-bit", over(5, 0, &at(96 + 102))),
    ]
}

/// Edits of sealed items; `targets::item` says what the six bytes mean. Names by their number, in alphabetical order:
/// 0 `aws_dbe_b_name`, 1 foot, 2 head, 3 card, 4 id, 5 name, 6 rate, 7 tags, 8 visits, 9 zone, and four that are nowhere.
fn item() -> Seeds {
    const FOOT: u8 = 1;
    const HEAD: u8 = 2;
    let edited = |which: u8, edits: &[[u8; targets::EDIT_BYTES]]| [&[which][..], &edits.concat()].concat();
    let flip = |name: u8, offset: u8, mask: u8| [0, name, 0, 0, offset, mask];
    let copy = |name: u8, from: u8| [5, name, from, 0, 0, 0];
    let swap = |a: u8, b: u8| [7, a, b, 0, 0, 0];
    let plain = |name: u8, from: u8| [8, name, from, 0, 0, name];
    let set = |name: u8, value: u8| [9, name, 0, 0, 0, value];
    let remove = |name: u8| set(name, 9);
    let retype = |name: u8| [10, name, 0, 0, 0, 0];
    vec![
        ("whole-version-1", edited(0, &[])),
        ("whole-signed", edited(4, &[])),
        ("whole-other-item-instead", edited(0, &[[6, 0, 3, 0, 0, 0]])),
        ("whole-piece-by-piece-other-sealing", edited(0, &[1, 2, 3, 5, 7].map(|name| copy(name, 1)))),
        ("whole-unsigned-changed", edited(3, &[set(8, 2), set(11, 3), set(12, 0), remove(0)])),
        ("head-version-flipped", edited(0, &[flip(HEAD, 0, 3)])),
        ("head-suite-flipped", edited(0, &[flip(HEAD, 1, 1)])),
        ("head-legend-encrypted-to-signed", edited(0, &[flip(HEAD, 36, b'e' ^ b's')])),
        ("head-of-another-sealing", edited(0, &[copy(HEAD, 1)])),
        ("foot-of-another-sealing", edited(0, &[copy(FOOT, 1)])),
        ("foot-missing", edited(0, &[remove(FOOT)])),
        ("foot-and-head-missing", edited(0, &[remove(FOOT), remove(HEAD)])),
        ("foot-not-binary", edited(0, &[set(FOOT, 2)])),
        ("ciphertexts-swapped", edited(0, &[swap(3, 5)])),
        ("ciphertext-of-another-sealing", edited(0, &[copy(3, 1)])),
        ("ciphertext-moved-to-another-name", edited(0, &[swap(3, 10)])),
        ("ciphertext-type-id-changed", edited(0, &[flip(3, 1, 3)])),
        ("ciphertext-truncated", edited(0, &[[1, 3, 0, 0, 17, 0]])),
        ("plaintext-instead-of-ciphertext", edited(0, &[plain(3, 0)])),
        ("key-of-another-item", edited(0, &[copy(4, 2)])),
        ("key-missing", edited(0, &[remove(4)])),
        ("key-not-a-key-type", edited(0, &[set(4, 0)])),
        ("signed-value-another", edited(0, &[set(6, 2)])),
        ("signed-binary-called-string", edited(0, &[retype(9)])),
        ("signed-number-called-string", edited(3, &[retype(6)])),
        ("key-called-binary", edited(0, &[retype(4)])),
        ("signed-value-moved-to-unsigned-name", edited(0, &[swap(6, 11)])),
        ("unsigned-value-moved-to-signed-name", edited(0, &[swap(8, 10)])),
        ("attribute-added", edited(0, &[set(10, 0)])),
        ("attribute-with-empty-name-added", edited(0, &[set(13, 0)])),
        ("attribute-replaced-by-another-name", edited(0, &[remove(6), set(10, 0)])),
    ]
}

fn values() -> Seeds {
    let of = |id: [u8; 2], body: &[u8]| [&id[..], body].concat();
    let (null, string, number, bool, binary) = ([0, 0], [0, 1], [0, 2], [0, 4], [0xff, 0xff]);
    let (strings, numbers, binaries, map, list) = ([1, 1], [1, 2], [1, 0xff], [2, 0], [3, 0]);
    let set = |members: &[&[u8]]| {
        let members: Vec<u8> = members.iter().flat_map(|member| lv32(member)).collect();
        move |count: u32| [&count.to_be_bytes()[..], &members].concat()
    };
    let member = |id: [u8; 2], body: &[u8]| [&id[..], &lv32(body)].concat();
    let entry = |key: &[u8], id: [u8; 2], body: &[u8]| [member(string, key), member(id, body)].concat();
    let counted = |count: u32, members: &[Vec<u8>]| [&count.to_be_bytes()[..], &members.concat()].concat();
    let lists = |depth: usize| (0..depth).fold(counted(0, &[]), |inner, _| counted(1, &[member(list, &inner)]));
    vec![
        ("whole-null", of(null, b"")),
        ("whole-bool", of(bool, &[1])),
        ("whole-string", of(string, "é😀".as_bytes())),
        ("whole-number", of(number, b"-12.5")),
        ("whole-number-not-canonical", of(number, b"+0012.50e-3")),
        ("whole-number-longest", of(number, b"1E-130")),
        ("whole-binary", of(binary, &[0, 255])),
        ("whole-string-set", of(strings, &set(&["\u{1f600}".as_bytes(), "\u{ff5e}".as_bytes()])(2))),
        ("whole-string-set-not-sorted", of(strings, &set(&[b"b", b"a"])(2))),
        ("whole-number-set", of(numbers, &set(&[b"10", b"2.50"])(2))),
        ("whole-binary-set", of(binaries, &set(&[b"", b"\xff"])(2))),
        ("whole-list", of(list, &counted(2, &[member(null, b""), member(bool, &[0])]))),
        ("whole-map", of(map, &counted(2, &[entry(b"a", string, b"x"), entry(b"b", number, b"1")]))),
        ("whole-map-not-sorted", of(map, &counted(2, &[entry(b"b", null, b""), entry(b"a", null, b"")]))),
        ("whole-list-depth-31", of(list, &lists(31))),
        ("list-depth-32", of(list, &lists(32))),
        ("list-depth-200", of(list, &lists(200))),
        ("list-count-beyond-end", of(list, &counted(u32::MAX, &[member(null, b"")]))),
        ("list-trailing-byte", of(list, &[0, 0, 0, 0, 0])),
        ("list-member-length-beyond-end", of(list, &counted(1, &[vec![0, 1, 0xff, 0xff, 0xff, 0xff]]))),
        ("map-key-twice", of(map, &counted(2, &[entry(b"a", null, b""), entry(b"a", bool, &[1])]))),
        ("map-key-empty", of(map, &counted(1, &[entry(b"", null, b"")]))),
        ("map-key-not-a-string", of(map, &counted(1, &[[member(number, b"1"), member(null, b"")].concat()]))),
        ("map-count-beyond-end", of(map, &counted(u32::MAX, &[entry(b"a", null, b"")]))),
        ("set-count-beyond-end", of(strings, &set(&[b"a"])(u32::MAX))),
        ("set-member-twice", of(binaries, &set(&[b"a", b"a"])(2))),
        ("set-number-twice-in-other-words", of(numbers, &set(&[b"1", b"1.0"])(2))),
        ("number-exponent-overflow", of(number, b"1E99999999999999999999")),
        ("number-39-digits", of(number, &[b'1'; 39])),
        ("whole-number-many-zeros", of(number, &[&[b'0'; 500][..], b".e1"].concat()[..503])),
        ("number-not-utf8", of(number, b"1\xff")),
        ("string-not-utf8", of(string, b"\xed\xa0\x80")),
        ("bool-two", of(bool, &[2])),
        ("null-with-content", of(null, &[0])),
        ("type-id-unknown", of([9, 9], b"")),
    ]
}

fn dynamodb_json() -> Seeds {
    let nested =
        |depth: usize| [r#"{"a":"#, &r#"{"L":["#.repeat(depth), r#"{"NULL":true}"#, &"]}".repeat(depth), "}"].concat();
    let seeds = [
        ("whole-every-type", r#"{"b":{"B":"AP8="},"f":{"BOOL":false},"l":{"L":[{"N":"1.50"},{"M":{"x":{"NULL":true}}}]},"n":{"N":"-1e5"},"s":{"S":"é😀"},"bs":{"BS":["AA==","AQ=="]},"ns":{"NS":["2","1"]},"ss":{"SS":["b","a"]}}"#.to_owned()),
        ("whole-empty", "{}".to_owned()),
        ("whole-keys", r#"{"a":{"S":"p\"\n\u0000"},"b":{"N":"01.50E1"}}"#.to_owned()),
        ("whole-empty-collections", r#"{"":{"M":{"":{"L":[]}}},"s":{"SS":[]}}"#.to_owned()),
        ("whole-depth-32", nested(32)),
        ("depth-33", nested(33)),
        ("depth-500", nested(500)),
        ("not-an-object", "[]".to_owned()),
        ("two-types", r#"{"a":{"S":"x","N":"1"}}"#.to_owned()),
        ("no-type", r#"{"a":{}}"#.to_owned()),
        ("type-unknown", r#"{"a":{"X":"x"}}"#.to_owned()),
        ("number-not-in-text", r#"{"a":{"N":1}}"#.to_owned()),
        ("number-exponent-overflow", r#"{"a":{"N":"1E99999999999999999999"}}"#.to_owned()),
        ("number-exponent-underflow", r#"{"a":{"N":"1E-99999999999999999999"}}"#.to_owned()),
        ("number-words", r#"{"a":{"N":"NaN"}}"#.to_owned()),
        ("set-member-of-another-type", r#"{"a":{"NS":["1",2]}}"#.to_owned()),
        ("null-false", r#"{"a":{"NULL":false}}"#.to_owned()),
        ("base64-unpadded", r#"{"a":{"B":"AP8"}}"#.to_owned()),
        ("base64-trailing-bits", r#"{"a":{"B":"AP9="}}"#.to_owned()),
        ("surrogate-alone", r#"{"a":{"S":"\ud800"}}"#.to_owned()),
        ("truncated", r#"{"a":{"S":"x"#.to_owned()),
    ];
    seeds.into_iter().map(|(name, text)| (name, text.into_bytes())).collect()
}

fn job() -> Seeds {
    let table = "version = 1\n[table]\nname = \"customers\"\npartition_key = \"id\"\n";
    let attributes = "[attributes]\nid = \"SIGN_ONLY\"\nemail = \"ENCRYPT_AND_SIGN\"\n";
    let target = "[target]\nformat = \"dbesdk\"\n";
    let raw = "keyring = { type = \"raw-aes\", namespace = \"acme\", name = \"k1\", key_file = \"k1.key\" }\n";
    let kms = "keyring = { type = \"aws-kms\", key_arn = \"arn:aws:kms:eu-central-1:111122223333:key/k\", role_arn = \"r\" }\n";
    let multi = concat!(
        "suite = \"ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_SYMSIG_HMAC_SHA384\"\n",
        "keyring = { type = \"multi\", generator = { type = \"aws-kms-mrk\", key_arn = \"arn:aws:kms:r:1:key/mrk-1\" },",
        " children = [{ type = \"aws-kms-rsa\", key_arn = \"arn:aws:kms:r:1:key/1\", padding = \"oaep-sha1\" }] }\n",
    );
    let whole = [table, attributes, target, raw].concat();
    let everything = [
        "version = 1\n[table]\nname = \"arn:aws:dynamodb:eu-central-1:111122223333:table/customers\"\npartition_key = \"tenant\"\n",
        "sort_key = \"id\"\nlogical_name = \"c\"\nschema = \"frozen\"\nreaders = \"accept-both\"\nwriters = \"whole-item\"\n",
        "acknowledge = [\"signed-ttl\", \"partial-index:byMail\", \"last-writer-wins\"]\n[attributes]\n",
        "tenant = \"SIGN_AND_INCLUDE_IN_ENCRYPTION_CONTEXT\"\nid = \"SIGN_AND_INCLUDE_IN_ENCRYPTION_CONTEXT\"\n",
        "visits = \"DO_NOTHING\"\n\"a.b\" = \"SIGN_ONLY\"\n[unsigned]\nnames = [\"visits\"]\nprefix = \":\"\n",
        "[source]\nformats = [\"plaintext\", \"dbesdk\"]\n[[source.keyrings]]\ntype = \"raw-aes\"\nnamespace = \"acme\"\n",
        "name = \"k0\"\nkey_env = \"K0\"\n[budget]\nread_units_per_second = 500\nwrite_units_per_second = 0x1F4\n",
        "kms_requests_per_second = 4294967295\n",
        target,
        "suite = \"ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_SYMSIG_HMAC_SHA384\"\n",
        kms,
    ];
    let back = [
        table,
        attributes,
        "[target]\nformat = \"plaintext\"\n[source]\nkeyrings = [{ type = \"raw-aes\", namespace = \"acme\", name = \"k\", key_env = \"K\" }]\n",
    ];
    let key_at_hand = "{ type = \"raw-aes\", namespace = \"acme\", name = \"k\", key_env = \"K\" }";
    let discovered = "{ type = \"aws-kms-discovery\", accounts = [\"111122223333\"] }";
    let with = |line: &str| [table, line, attributes, target, raw].concat();
    let seeds = [
        ("whole-short", whole.clone()),
        ("whole-everything", everything.concat()),
        ("whole-back", back.concat()),
        ("whole-windows-line-ends", whole.replace('\n', "\r\n")),
        ("not-toml", "version = \n".to_owned()),
        ("version-missing", whole.replace("version = 1", "")),
        ("version-negative", whole.replace("version = 1", "version = -1")),
        ("version-beyond-64-bits", whole.replace("version = 1", "version = 99999999999999999999")),
        ("field-twice", with("name = \"b\"\n")),
        ("field-misspelt", with("sort_kay = \"b\"\n")),
        ("field-of-another-type", with("logical_name = 1\n")),
        ("field-empty", with("logical_name = \"\"\n")),
        ("field-dotted-deep", [&whole, "[unsigned]\n", &["a"; 500].join("."), " = 1\n"].concat()),
        ("array-deep", [&whole, "[unsigned]\nnames = ", &"[".repeat(500), &"]".repeat(500), "\n"].concat()),
        ("word-long", with(&format!("schema = \"{}\"\n", "frozen".repeat(300)))),
        ("key-encrypted", whole.replace("id = \"SIGN_ONLY\"", "id = \"ENCRYPT_AND_SIGN\"")),
        ("key-without-action", whole.replace("id = \"SIGN_ONLY\"", "")),
        ("key-unsigned", [&whole, "[unsigned]\nprefix = \"i\"\n"].concat()),
        ("keys-the-same", with("sort_key = \"id\"\n")),
        ("attribute-reserved", whole.replace("email", "aws_dbe_head")),
        ("attribute-table", whole.replace("email = \"ENCRYPT_AND_SIGN\"", "e.mail = \"SIGN_ONLY\"")),
        ("budget-zero", [&whole, "[budget]\nread_units_per_second = 0\n"].concat()),
        ("budget-huge", [&whole, "[budget]\nread_units_per_second = 4294967296\n"].concat()),
        ("keyring-missing", [table, attributes, target].concat()),
        ("keyring-two-sources", whole.replace("key_file", "key_env = \"K\", key_file")),
        ("whole-multi", whole.replace(raw, multi)),
        ("keyring-of-none", whole.replace(raw, "keyring = { type = \"multi\", children = [] }\n")),
        ("whole-rsa", whole.replace("raw-aes", "raw-rsa").replace("key_file", "padding = \"pkcs1\", key_secret")),
        ("whole-discovered", back.concat().replace(key_at_hand, discovered)),
        ("keyring-arn-of-nothing", whole.replace(raw, &kms.replace("key/k", "key/"))),
        ("control-character", whole.replace("customers", "\u{1}")),
    ];
    seeds.into_iter().map(|(name, text)| (name, text.into_bytes())).collect()
}

/// Rows of a journal's file; `targets::journal` says how they are written.
fn journal() -> Seeds {
    let tally = r#"{"scanned":5,"current":5,"rewritten":0,"superseded":0,"skipped":0,"failed":0,"conflicts":0}"#;
    let pass = |number: &str, ended: &str, tally: &str| format!("pass\t{number}\tnoon\t{ended}\t{tally}\n");
    let lane = |segment: &str, state: &str, after: &str| format!("lane\t1\t{segment}\t{state}\t{after}\n");
    let entry =
        |attempts: &str, key: &str, kind: &str| format!("ledger\t{attempts}\t{key}\t{kind}\twhy\tnoon\tone\t-\n");
    let key = r#"{"id":{"S":"a"},"tenant":{"S":"t"}}"#;
    let two = [lane("0", "after", key), lane("1", "end", "-")].concat();
    let begun = pass("1", "-", tally);
    let seeds = [
        ("whole-empty", String::new()),
        ("whole-under-way", [&begun, &two, &entry("1", key, "mixed")].map(String::as_str).concat()),
        ("whole-ended", [&pass("1", "one", tally), &two].map(String::as_str).concat()),
        ("pass-without-lanes", begun.clone()),
        ("pass-number-highest", pass("4294967295", "one", tally) + "lane\t4294967295\t0\tend\n"),
        ("pass-number-beyond-32-bits", pass("4294967296", "one", tally)),
        ("pass-number-negative", pass("-1", "-", tally)),
        ("tally-at-its-end", pass("1", "-", &tally.replace(":5", ":18446744073709551615")) + &two),
        ("tally-beyond-64-bits", pass("1", "-", &tally.replace(":5", ":18446744073709551616")) + &two),
        ("tally-negative", pass("1", "-", &tally.replace(":5", ":-5")) + &two),
        ("tally-not-json", pass("1", "-", "{") + &two),
        ("lane-missing", begun.clone() + &lane("0", "start", "-") + &lane("2", "end", "-")),
        ("lane-first-missing", begun.clone() + &lane("1", "end", "-")),
        ("lane-segment-negative", begun.clone() + &lane("-1", "end", "-") + &lane("0", "end", "-")),
        ("lane-state-unknown", begun.clone() + &lane("0", "middle", "-")),
        ("lane-after-nothing", begun.clone() + &lane("0", "after", "-")),
        ("lane-ended-with-cursor", begun.clone() + &lane("0", "end", key)),
        ("lane-cursor-not-json", begun.clone() + &lane("0", "after", "{")),
        ("lane-cursor-without-sort-key", begun.clone() + &lane("0", "after", r#"{"tenant":{"S":"t"}}"#)),
        (
            "lane-cursor-of-no-key-type",
            begun.clone() + &lane("0", "after", &key.replace('S', "BOOL").replace("\"a\"", "true")),
        ),
        ("lane-cursor-with-more", begun.clone() + &lane("0", "after", &key.replace("}}", r#"},"x":{"NULL":true}}"#))),
        (
            "lane-cursor-number-exponent-overflow",
            begun.clone() + &lane("0", "after", &key.replace(r#"{"S":"a"}"#, r#"{"N":"1E9999999999"}"#)),
        ),
        ("ledger-kind-unknown", entry("1", key, "cosmic-ray")),
        ("ledger-attempts-negative", entry("-1", key, "mixed")),
        (
            "ledger-attempts-highest",
            [&begun, &two, &entry("9223372036854775807", &key.replace("\"a\"", "\"b\""), "mixed")]
                .map(String::as_str)
                .concat(),
        ),
        ("ledger-key-of-another-table", entry("1", r#"{"pk":{"S":"a"}}"#, "mixed")),
    ];
    seeds.into_iter().map(|(name, text)| (name, text.into_bytes())).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

#[test]
fn what_is_committed_is_what_is_written_here() {
    let corpora = corpora();
    assert!(corpora.iter().map(|(target, _)| *target).eq(targets::ALL.map(|(target, _)| target)));
    if std::env::var_os("RESEAL_WRITE_CORPUS").is_some() {
        fs::remove_dir_all(folder()).unwrap();
        for (target, seeds) in &corpora {
            fs::create_dir_all(folder().join(target)).unwrap();
            for (name, bytes) in seeds {
                fs::write(folder().join(target).join(name), bytes).unwrap();
            }
        }
    }
    for (target, seeds) in corpora {
        let written: BTreeMap<String, Vec<u8>> =
            seeds.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
        let files = fs::read_dir(folder().join(target)).unwrap().map(|entry| entry.unwrap().path());
        let committed: BTreeMap<String, Vec<u8>> = files
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
            .collect();
        assert!(committed.keys().eq(written.keys()), "{target}: files that are not in tests/corpus.rs, or the reverse");
        let differing: Vec<_> = committed.iter().filter(|(name, bytes)| written[*name] != **bytes).collect();
        assert!(differing.is_empty(), "{target}: {differing:?}");
    }
}

#[test]
fn no_seed_is_a_finding() {
    let mut findings = Vec::new();
    for ((target, run), (_, seeds)) in targets::ALL.into_iter().zip(corpora()) {
        for (name, bytes) in seeds {
            if std::panic::catch_unwind(|| run(&bytes)).is_err() {
                findings.push(format!("{target}/{name}"));
            }
        }
    }
    assert!(findings.is_empty(), "{findings:#?}");
}

/// Whether the reader of a target takes the bytes; `None` where its own assertions say more than that.
fn accepts(target: &str, bytes: &[u8]) -> Option<bool> {
    match target {
        "head" => Some(Head::parse(bytes).is_ok()),
        "job" => Some(Job::parse(std::str::from_utf8(bytes).unwrap(), Path::new("job.toml")).is_ok()),
        "json" => Some(serde_json::from_slice(bytes).is_ok_and(|document| json::from_json(&document).is_ok())),
        "value" => {
            let (id, body) = bytes.split_first_chunk().unwrap();
            Some(value::read(*id, body.to_vec()).is_ok())
        }
        _ => None,
    }
}

#[test]
fn seeds_are_what_their_names_say() {
    for (target, seeds) in corpora() {
        for (name, bytes) in seeds {
            let expected = name.starts_with("whole");
            assert!(accepts(target, &bytes).is_none_or(|accepted| accepted == expected), "{target}/{name}");
        }
    }
}
