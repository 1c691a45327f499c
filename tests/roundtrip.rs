//! Whatever an item holds, sealed and opened it is the same again.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod sealing;
#[path = "sealing/world.rs"]
mod world;

use proptest::prelude::*;
use reseal::crypto::Suite;
use reseal::format::Action;
use reseal::format::dbesdk::{HEAD, matches};
use reseal::keyring::Keyring as _;

use sealing::{inspect, keyring, open, seal};
use world::world;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn sealed_and_opened_it_is_the_same((schema, item) in world(0..50), suite in prop::sample::select(&Suite::ALL[..])) {
        let keyring = keyring();
        let sealed = seal(&keyring, &schema, suite, &item).unwrap();
        prop_assert!(sealed.contains(HEAD));
        for (name, value) in item.iter() {
            let encrypted = schema.action(name) == Some(Action::EncryptAndSign);
            prop_assert_eq!(sealed.get(name) == Some(value), !encrypted, "{}", name);
        }
        prop_assert!(matches(&schema, suite, keyring.recipients(), &inspect(&schema, &sealed).unwrap()));
        let opened = open(&keyring, &schema, &sealed).unwrap();
        prop_assert!(opened.same(&item));
        // What was canonical once stays as it is.
        let again = open(&keyring, &schema, &seal(&keyring, &schema, suite, &opened).unwrap()).unwrap();
        prop_assert!(again == opened);
    }
}
