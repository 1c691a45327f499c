//! Items of the AWS Database Encryption SDK for DynamoDB, read and written without the SDK.
//!
//! A sealed item keeps every attribute under its name. Encrypted attributes become binary; two binary attributes are
//! added: the header says how the item was sealed and holds the data key for each recipient, the footer authenticates
//! everything that is in the signature's scope.
//!
//! Both ways take two steps, because keys come from elsewhere:
//!
//! ```text
//! inspect(schema, item)        -> wrapped keys, context      keyring unwraps     open(item, sealed, edk, key)
//! prepare(schema, suite, item) -> context                    keyring generates   seal(item, prepared, data key, ..)
//! ```
//!
//! Each recipient has an intermediate key of its own that its keyring wraps; the intermediate key wraps the data key and
//! authenticates the item; the data key encrypts the attributes.

mod context;
mod head;
mod inspect;
mod keys;
mod open;
mod path;
mod reader;
mod record;
mod rewrap;
mod seal;
pub mod value;

pub use context::{ContextError, attribute};
pub use head::{EncryptedDataKey, Head, HeadError, MESSAGE_ID_BYTES};
pub use inspect::{
    InspectError, Inspection, Mixed, Sealed, encrypts_the_same, inspect, looks_encrypted, matches, version,
};
pub use open::{OpenError, authenticate, open};
pub use rewrap::{Rewrap, prepare_rewrap, rewrap};
pub use seal::{Prepared, SealError, prepare, seal};
pub use value::ValueError;

/// The attribute that holds the header.
pub const HEAD: &str = "aws_dbe_head";
/// The attribute that holds the footer.
pub const FOOT: &str = "aws_dbe_foot";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Recipient, Secret, Suite, Wanted, WrappedKey};
    use crate::format::{Action, Schema, Unsigned};
    use crate::item::{Item, KeyNames, Number, Value};

    type Change<'a> = &'a dyn Fn(&mut Item);

    fn schema(keys: Action, others: &[(&str, Action)]) -> Schema {
        let keys = [("pk", keys), ("sk", keys)];
        let all = others.iter().chain(&keys);
        Schema {
            logical_table: "orders".into(),
            keys: KeyNames { partition: "pk".into(), sort: Some("sk".into()) },
            actions: all.map(|(name, action)| ((*name).to_owned(), *action)).collect(),
            unsigned: Unsigned { names: ["visits".to_owned()].into(), prefix: Some(":".into()) },
        }
    }

    fn version_1() -> Schema {
        schema(
            Action::SignOnly,
            &[("name", Action::EncryptAndSign), ("tags", Action::EncryptAndSign), ("at", Action::SignOnly)],
        )
    }

    fn version_2() -> Schema {
        let include = Action::SignAndIncludeInEncryptionContext;
        schema(include, &[("name", Action::EncryptAndSign), ("tags", Action::SignOnly), ("at", include)])
    }

    fn item() -> Item {
        let number = |text: &str| Number::parse(text).unwrap();
        [
            ("pk", Value::from("p1")),
            ("sk", Value::Number(number("7.0"))),
            ("name", Value::from("Zoë 😀")),
            ("tags", Value::NumberSet(vec![number("2"), number("10.0")])),
            ("at", Value::Bool(true)),
            ("visits", Value::Number(number("3"))),
            (":x", Value::Null),
            ("aws_dbe_b_name", Value::from("a7")),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// A recipient as a raw keyring makes it; what it wrapped does not matter here.
    fn recipient(name: &str) -> WrappedKey {
        let provider_info = [name.as_bytes(), &[0, 0, 0, 128, 0, 0, 0, 12], &[1; 12]].concat();
        WrappedKey { provider_id: "acme".into(), provider_info, ciphertext: vec![9; 48], key: Secret::random() }
    }

    fn sealed_for(schema: &Schema, suite: Suite, item: &Item, recipients: &[WrappedKey]) -> Item {
        let prepared = prepare(schema, suite, item).unwrap();
        seal(item, prepared, &Secret::random(), rand::random(), recipients).unwrap()
    }

    fn inspected(schema: &Schema, item: &Item) -> Sealed {
        match inspect(schema, item).unwrap() {
            Inspection::Sealed(sealed) => *sealed,
            Inspection::Plaintext => panic!("sealed, but taken for plaintext"),
        }
    }

    #[test]
    fn sealed_items_open_for_every_recipient() {
        for (schema, version) in [(version_1(), 1), (version_2(), 2)] {
            for suite in Suite::ALL {
                let recipients = [recipient("k1"), recipient("k2")];
                let sealed_item = sealed_for(&schema, suite, &item(), &recipients);
                let sealed = inspected(&schema, &sealed_item);
                assert_eq!((sealed.head.version, sealed.head.suite), (version, suite));
                for (i, recipient) in recipients.iter().enumerate() {
                    let opened = open(&sealed_item, &sealed, i, &recipient.key).unwrap();
                    assert!(opened.same(&item()), "{suite} version {version}");
                }
                assert_eq!(open(&sealed_item, &sealed, 0, &recipients[1].key), Err(OpenError::DataKey));
                assert_eq!(open(&sealed_item, &sealed, 2, &recipients[0].key), Err(OpenError::NoSuchKey(2)));
            }
        }
    }

    #[test]
    fn the_context_is_the_one_that_was_prepared() {
        for schema in [version_1(), version_2()] {
            for suite in Suite::ALL {
                let prepared = prepare(&schema, suite, &item()).unwrap();
                let context = prepared.context.clone();
                let sealed = seal(&item(), prepared, &Secret::random(), [0; 32], &[recipient("k1")]).unwrap();
                assert_eq!(inspected(&schema, &sealed).context, context);
            }
        }
    }

    /// An item whose data key was wrapped anew for `recipients`, from what it was sealed as.
    fn rewrapped(
        schema: &Schema,
        suite: Suite,
        (item, sealed, opener): (&Item, Sealed, &WrappedKey),
        recipients: &[WrappedKey],
    ) -> Result<Item, SealError> {
        let data_key = authenticate(item, &sealed, 0, &opener.key).unwrap();
        let prepared = prepare_rewrap(schema, suite, item, Box::new(sealed), data_key)?;
        rewrap(item, &prepared, recipients)
    }

    #[test]
    fn rewrapped_items_keep_their_ciphertexts_and_open_for_the_new_recipients_only() {
        let same_fields = |version| {
            let key = inspect::key_action(version);
            schema(key, &[("name", Action::EncryptAndSign), ("tags", Action::EncryptAndSign), ("at", key)])
        };
        for (from, to) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
            for (old_suite, suite) in Suite::ALL.into_iter().flat_map(|old| Suite::ALL.map(|new| (old, new))) {
                let old_recipient = recipient("k1");
                let (before, after) = (same_fields(from), same_fields(to));
                let old = sealed_for(&before, old_suite, &item(), std::slice::from_ref(&old_recipient));
                let recipients = [recipient("k2"), recipient("k3")];
                let sealed = inspected(&after, &old);
                let new = rewrapped(&after, suite, (&old, sealed.clone(), &old_recipient), &recipients).unwrap();
                let changed: Vec<&str> =
                    new.iter().filter(|(name, value)| old.get(name) != Some(value)).map(|(name, _)| name).collect();
                assert_eq!((changed, new.len()), (vec![FOOT, HEAD], old.len()));

                let now = inspected(&after, &new);
                assert_eq!((now.head.version, now.head.suite), (to, suite));
                assert_eq!(now.head.message_id, sealed.head.message_id);
                for (i, recipient) in recipients.iter().enumerate() {
                    assert!(open(&new, &now, i, &recipient.key).unwrap().same(&item()), "{from} {to} {suite}");
                }
                assert_eq!(open(&new, &now, 0, &old_recipient.key), Err(OpenError::DataKey));
                // A key pair signs one header only.
                let public_key = |sealed: &Sealed| sealed.head.context.get(context::PUBLIC_KEY).map(str::to_owned);
                assert!(!suite.signs() || public_key(&now) != public_key(&sealed));
            }
        }
    }

    #[test]
    fn what_cannot_be_rewrapped() {
        let (old, one) = (version_1(), recipient("k1"));
        let sealed_item = sealed_for(&old, Suite::HmacSha384, &item(), std::slice::from_ref(&one));
        let check = |name: &str, action: Action, expected: &str| {
            let mut schema = version_1();
            schema.actions.insert(name.into(), action);
            let from = (&sealed_item, inspected(&old, &sealed_item), &one);
            let error = rewrapped(&schema, Suite::HmacSha384, from, &[recipient("k2")]).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(
            "tags",
            Action::SignOnly,
            "the attribute \"tags\" is ENCRYPT_AND_SIGN in the item and SIGN_ONLY in the job: only depth = \"reencrypt\" changes what is encrypted",
        );
        check(
            "at",
            Action::EncryptAndSign,
            "the attribute \"at\" is SIGN_ONLY in the item and ENCRYPT_AND_SIGN in the job: only depth = \"reencrypt\" changes what is encrypted",
        );
        check("pk", Action::EncryptAndSign, "the key attribute \"pk\" must be SIGN_ONLY");

        // Whatever was changed since the item was sealed is not given a valid footer.
        for (name, value) in [("at", Value::Bool(false)), ("pk", Value::from("p2"))] {
            let mut changed = sealed_item.clone();
            changed.insert(name, value);
            let sealed = inspected(&old, &changed);
            assert!(authenticate(&changed, &sealed, 0, &one.key).is_err(), "{name}");
        }
        // What was written between is not what was prepared: ciphertexts of other values under the same data key and
        // message id would have the same keys and nonces.
        let sealed = inspected(&old, &sealed_item);
        let data_key = authenticate(&sealed_item, &sealed, 0, &one.key).unwrap();
        let prepared =
            prepare_rewrap(&old, Suite::HmacSha384, &sealed_item, Box::new(sealed), data_key.clone()).unwrap();
        let mut other = sealed_item.clone();
        other.insert("name", Value::Binary([&[0, 1][..], &[5; 40]].concat()));
        let new = rewrap(&other, &prepared, &[recipient("k2")]).unwrap();
        assert!(prepared.keeps(&other, &new, &inspected(&old, &new), &data_key));
        assert!(!prepared.keeps(&sealed_item, &new, &inspected(&old, &new), &data_key));
        let fresh = sealed_for(&old, Suite::HmacSha384, &item(), &[recipient("k2")]);
        assert!(!prepared.keeps(&fresh, &fresh, &inspected(&old, &fresh), &data_key));
        assert!(!prepared.keeps(&sealed_item, &sealed_item, &inspected(&old, &sealed_item), &Secret::random()));
    }

    #[test]
    fn at_target_is_told_from_the_bytes() {
        let recipients = [recipient("k1"), recipient("k2")];
        let sealed_item = sealed_for(&version_1(), Suite::EcdsaP384, &item(), &recipients);
        let sealed = inspected(&version_1(), &sealed_item);
        let who = |names: &[&str]| -> Vec<Wanted> {
            let named = |name: &&str| Recipient { provider: "acme".into(), key: (*name).to_owned() };
            names.iter().map(|name| Wanted::exactly(named(name))).collect()
        };
        let mut other_actions = version_1();
        other_actions.actions.insert("at".into(), Action::EncryptAndSign);
        let cases = [
            (version_1(), Suite::EcdsaP384, who(&["k2", "k1"]), true),
            (version_1(), Suite::EcdsaP384, who(&["k1"]), false),
            (version_1(), Suite::EcdsaP384, who(&["k1", "k1"]), false),
            (version_1(), Suite::HmacSha384, who(&["k1", "k2"]), false),
            (version_2(), Suite::EcdsaP384, who(&["k1", "k2"]), false),
            (other_actions, Suite::EcdsaP384, who(&["k1", "k2"]), false),
        ];
        for (i, (schema, suite, recipients, expected)) in cases.into_iter().enumerate() {
            assert_eq!(matches(&schema, suite, &recipients, &sealed), expected, "case {i}");
        }
    }

    #[test]
    fn another_logical_table_or_key_does_not_open() {
        let recipients = [recipient("k1")];
        for suite in Suite::ALL {
            let sealed_item = sealed_for(&version_1(), suite, &item(), &recipients);
            let mut elsewhere = version_1();
            elsewhere.logical_table = "order".into();
            let sealed = inspected(&elsewhere, &sealed_item);
            assert_eq!(open(&sealed_item, &sealed, 0, &recipients[0].key), Err(OpenError::DataKey));
            let mut moved = sealed_item.clone();
            moved.insert("pk", Value::from("p2"));
            let sealed = inspected(&version_1(), &moved);
            assert_eq!(open(&moved, &sealed, 0, &recipients[0].key), Err(OpenError::DataKey));
        }
    }

    #[test]
    fn what_cannot_be_inspected() {
        let sealed = sealed_for(&version_1(), Suite::HmacSha384, &item(), &[recipient("k1")]);
        let with = |change: Change<'_>| {
            let mut item = sealed.clone();
            change(&mut item);
            inspect(&version_1(), &item).unwrap_err()
        };
        let cases: [(Change<'_>, &str); 9] = [
            (
                &|item| drop(item.remove(FOOT)),
                "\"aws_dbe_head\" without \"aws_dbe_foot\": the item is damaged; restore it",
            ),
            (
                &|item| drop(item.remove(HEAD)),
                "\"aws_dbe_foot\" without \"aws_dbe_head\": the item is damaged; restore it",
            ),
            (
                &|item| drop(item.insert(FOOT, Value::Null)),
                "\"aws_dbe_foot\" is of type NULL, not B: the item is damaged; restore it",
            ),
            (
                &|item| drop(item.insert(HEAD, Value::Binary(vec![3]))),
                "\"aws_dbe_head\" is damaged: the header has version 3; versions 1 and 2 are known; restore the item",
            ),
            (
                &|item| drop(item.insert("late", Value::Null)),
                "6 attributes are in the signature's scope but 5 were signed: \"late\" without an action; somebody wrote into the sealed item, or the unsigned attributes are declared differently",
            ),
            (
                &|item| drop(item.insert("name", Value::from("raw write"))),
                "the attribute \"name\" should be encrypted but cannot be: somebody wrote into the sealed item",
            ),
            (
                &|item| drop(item.insert("tags", Value::Binary(vec![9; 40]))),
                "the attribute \"tags\" should be encrypted but cannot be: somebody wrote into the sealed item",
            ),
            (&|item| drop((item.remove("pk"), item.insert("zz", Value::Null))), "the key attribute \"pk\" is missing"),
            (
                &|item| drop((item.remove("tags"), item.insert("a", Value::Null))),
                "the key attribute \"sk\" would be ENCRYPT_AND_SIGN, which no key is: somebody wrote into the sealed item",
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(with(change).to_string(), expected);
        }
    }

    #[test]
    fn what_cannot_be_sealed() {
        let check = |schema: &Schema, change: Change<'_>, expected: &str| {
            let mut item = item();
            change(&mut item);
            assert_eq!(prepare(schema, Suite::HmacSha384, &item).unwrap_err().to_string(), expected);
        };
        let v1 = version_1();
        check(
            &v1,
            &|item| drop(item.insert(HEAD, Value::Null)),
            "the item has an attribute \"aws_dbe_head\": it is sealed already, or damaged",
        );
        check(&v1, &|item| drop(item.remove("sk")), "the key attribute \"sk\" is missing");
        check(
            &v1,
            &|item| drop(item.insert("late", Value::Null)),
            "the attribute \"late\" has no action; name it in the job, or declare it unsigned",
        );
        check(
            &v1,
            &|item| drop(item.insert("aws-crypto-x", Value::Null)),
            "the attribute \"aws-crypto-x\" begins with \"aws-crypto-\"; such names can only be unsigned",
        );
        check(
            &v1,
            &|item| drop(item.insert("tags", Value::StringSet(vec!["a".into(), "a".into()]))),
            "the attribute \"tags\" holds a set with two equal members",
        );
        check(
            &version_2(),
            &|item| drop(item.remove("at")),
            "the attribute \"at\" is part of the encryption context, but the item lacks it",
        );
        let nothing: Change<'_> = &|_| ();
        let with = |name: &str, action| {
            let mut schema = version_1();
            schema.actions.insert(name.into(), action);
            schema
        };
        check(
            &with("at", Action::DoNothing),
            nothing,
            "the attribute \"at\" is DO_NOTHING but not declared unsigned; readers would refuse the item",
        );
        check(
            &with("visits", Action::SignOnly),
            nothing,
            "the attribute \"visits\" is SIGN_ONLY but declared unsigned, or its name is reserved; readers would refuse the item",
        );
        check(&with("pk", Action::EncryptAndSign), nothing, "the key attribute \"pk\" must be SIGN_ONLY");
        let prepared = prepare(&v1, Suite::HmacSha384, &item()).unwrap();
        let error = seal(&item(), prepared, &Secret::random(), [0; 32], &[]).unwrap_err();
        assert_eq!(error, SealError::Recipients(0));
    }

    #[test]
    fn nothing_secret_in_debug() {
        let prepared = prepare(&version_2(), Suite::EcdsaP384, &item()).unwrap();
        let sealed_item = sealed_for(&version_2(), Suite::EcdsaP384, &item(), &[recipient("k1")]);
        let text = format!("{prepared:?} {:?}", inspected(&version_2(), &sealed_item));
        for secret in ["Zoë", "p1", "7.0"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
