//! Customer records: every attribute type, many scripts, every item a function of seed, number and version.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::item::{ITEM_BYTES_MAX, Item, Number, Value};

const NAMES: [&str; 12] = [
    "Zoë Müller",
    "李小龙",
    "Ольга Смирнова",
    "محمد الأحمد",
    "Σωκράτης",
    "Björk 🦢",
    "𝒜𝓁𝒾𝒸ℯ",
    "नीलिमा",
    "O'Hara \"Red\"",
    "Ng, L.",
    "한지민",
    "Ana-Lúcia 👩🏽‍🚀",
];
const TAGS: [&str; 7] = ["vip", "newsletter", "größe-l", "β-tester", "🦀", "\u{ffee}wide", "returning"];
const REGIONS: [&str; 4] = ["eu", "us", "ap", "sa"];

/// How an item is made larger than the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bulk {
    /// Like most.
    Usual,
    /// So large that it still fits when it is sealed.
    JustFits,
    /// So large that it fits in plaintext only.
    TooLarge,
}

impl Bulk {
    /// The bulk of the customer with this number: two of all are large.
    #[must_use]
    pub const fn of(number: u64) -> Self {
        match number {
            1 => Self::JustFits,
            2 => Self::TooLarge,
            _ => Self::Usual,
        }
    }

    /// Bytes that the plaintext stays below [`ITEM_BYTES_MAX`]. Head and foot take less than 3 KB.
    const fn margin(self) -> Option<usize> {
        match self {
            Self::Usual => None,
            Self::JustFits => Some(4096),
            Self::TooLarge => Some(64),
        }
    }
}

/// A whole customer record in plaintext.
#[must_use]
pub fn customer(seed: u64, number: u64, version: u64) -> Item {
    let mut rng = StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (version << 48));
    let mut text = |pool: &[&str]| pool.choose(&mut rng).copied().unwrap_or_default().to_owned();
    let name = text(&NAMES);
    let region = text(&REGIONS);
    let tags = [text(&TAGS), text(&TAGS)];
    let digits = |rng: &mut StdRng, count: u32| -> String {
        std::iter::once(rng.random_range('1'..='9')).chain((1..count).map(|_| rng.random_range('0'..='9'))).collect()
    };
    let mut item = Item::new();
    let mut set = |attribute: &str, value: Value| drop(item.insert(attribute, value));
    set("tenant", Value::String(format!("tenant-{:02}", number % 17)));
    set("id", Value::String(format!("customer-{number:08}")));
    set("region", Value::String(region.clone()));
    set("plan", Value::from(if number.is_multiple_of(3) { "pro" } else { "free" }));
    set("version", number_value(&version.to_string()));
    set("name", Value::String(name.clone()));
    set("email", Value::String(format!("c{number}.{version}@example.com")));
    set("card", number_value(&digits(&mut rng, 38)));
    set("balance", number_value(&format!("-{}.{}0", digits(&mut rng, 5), digits(&mut rng, 3))));
    set("active", Value::Bool(rng.random()));
    set("referrer", Value::Null);
    set("notes", Value::from(if number.is_multiple_of(5) { "" } else { "calls back\u{2028}on Mondays" }));
    let [first, second] = tags;
    set("tags", Value::StringSet(if first == second { vec![first] } else { vec![first, second] }));
    set("scores", Value::NumberSet(vec![number_of("10.50"), number_of(&digits(&mut rng, 4)), number_of("-3e2")]));
    set("devices", Value::BinarySet(vec![rng.random::<[u8; 8]>().to_vec(), vec![0xff], vec![]]));
    set("address", address(&name, &region, &digits(&mut rng, 5)));
    set("visits", number_value("0"));
    set("expires-at", number_value(&(4_000_000_000_u64 + number).to_string()));
    set("photo", Value::Binary(rng.random::<[u8; 32]>().repeat(2)));
    if let Some(margin) = Bulk::of(number).margin() {
        let rest = ITEM_BYTES_MAX - margin - item.size();
        item.insert("photo", Value::Binary((0..rest + 64).map(|i| (i % 251) as u8).collect()));
    }
    item
}

fn address(name: &str, region: &str, code: &str) -> Value {
    let line = |text: &str| Value::from(text);
    let map = |entries: Vec<(&str, Value)>| {
        Value::Map(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    };
    map(vec![
        ("lines", Value::List(vec![line(name), line("1 Rue de l'Église"), line("")])),
        (
            "geo",
            map(vec![("lat", number_value("52.520008")), ("🧭", Value::List(vec![Value::Null, Value::Bool(true)]))]),
        ),
        ("code", number_value(code)),
        (region, map(vec![])),
    ])
}

fn number_value(text: &str) -> Value {
    Value::Number(number_of(text))
}

fn number_of(text: &str) -> Number {
    Number::parse(text).expect("generated numbers have at most 38 digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_functions_of_their_numbers() {
        assert_eq!(customer(7, 12, 0), customer(7, 12, 0));
        assert_ne!(customer(7, 12, 0), customer(7, 12, 1));
        assert_ne!(customer(7, 12, 0), customer(8, 12, 0));
    }

    #[test]
    fn two_records_are_close_to_the_largest() {
        assert_eq!(customer(7, 1, 0).size(), ITEM_BYTES_MAX - 4096);
        assert_eq!(customer(7, 2, 0).size(), ITEM_BYTES_MAX - 64);
        assert!(customer(7, 3, 0).size() < 2048);
    }
}
