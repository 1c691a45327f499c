//! What a sample of the stream's records says of how applications write: whether whole items, or single attributes of
//! them, which would break the signature of a sealed item.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::repair::{differing, same_signature};
use super::{Change, Policy, Target};
use crate::format::dbesdk::FOOT;
use crate::item::{Item, Value};

/// A change of so many attributes at most that leaves others as they were may be a partial update.
pub const FEW: usize = 2;

/// How applications write, as far as some records tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Habits {
    /// Records looked at.
    pub records: u64,
    /// Changes among them of items that were in plaintext and stayed so.
    pub changes: u64,
    /// Those that changed one or two attributes that the job would have signed, and left another one as it was. A
    /// `PutItem` of the whole item may do the same.
    pub partial: u64,
    /// The attributes that these changed, and how often.
    pub partial_attributes: BTreeMap<String, u64>,
    /// Numbers among them that were changed alone.
    pub counters: BTreeSet<String>,
    /// Changes of sealed items that kept header and footer, and changed something that these sign: partial updates for
    /// certain.
    pub raw: u64,
    /// The attributes that these changed, and how often.
    pub raw_attributes: BTreeMap<String, u64>,
}

impl Habits {
    /// Looks at one record.
    pub fn add(&mut self, policy: &Policy, Change { old, new }: Change<'_>) {
        self.records += 1;
        let (Some(old), Some(new)) = (old, new) else { return };
        let changed: BTreeSet<&str> = differing(&policy.schema, old, new).collect();
        match (old.contains(FOOT), new.contains(FOOT)) {
            (true, true) if same_signature(old, new) && !changed.is_empty() => {
                self.raw += 1;
                count(&mut self.raw_attributes, &changed);
            }
            (false, false) if policy.target != Target::Plaintext => {
                self.changes += 1;
                let keeps = |name: &str| policy.schema.in_scope(name) && !policy.schema.keys.contains(name);
                let kept = new.names().any(|name| keeps(name) && !changed.contains(name));
                if (1..=FEW).contains(&changed.len()) && kept {
                    self.partial += 1;
                    count(&mut self.partial_attributes, &changed);
                    self.counters.extend(
                        changed
                            .first()
                            .filter(|name| changed.len() == 1 && counts(old, new, name))
                            .map(|name| (*name).to_owned()),
                    );
                }
            }
            _ => {}
        }
    }
}

fn count(counts: &mut BTreeMap<String, u64>, names: &BTreeSet<&str>) {
    for name in names {
        *counts.entry((*name).to_owned()).or_default() += 1;
    }
}

/// Whether the attribute is a number before and after.
fn counts(old: &Item, new: &Item, name: &str) -> bool {
    [old, new].into_iter().all(|item| matches!(item.get(name), Some(Value::Number(_))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Suite;
    use crate::format::dbesdk::HEAD;
    use crate::format::{Action, Schema, Unsigned};
    use crate::item::{KeyNames, Number};

    fn policy() -> Policy {
        let actions = [
            ("id", Action::SignOnly),
            ("secret", Action::EncryptAndSign),
            ("region", Action::SignOnly),
            ("balance", Action::EncryptAndSign),
        ];
        Policy {
            schema: Schema {
                logical_table: "t".to_owned(),
                keys: KeyNames { partition: "id".to_owned(), sort: None },
                actions: actions.map(|(name, action)| (name.to_owned(), action)).into(),
                unsigned: Unsigned { names: ["visits".to_owned()].into(), prefix: None },
            },
            accept_plaintext: true,
            accept_dbesdk: false,
            target: Target::Dbesdk { suite: Suite::HmacSha384, recipients: Vec::new() },
            depth: crate::migration::Depth::Reencrypt,
        }
    }

    fn item(changes: &[(&str, &str)]) -> Item {
        let mut item: Item = [("id", "1"), ("secret", "s"), ("region", "eu"), ("visits", "1")]
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .into_iter()
            .collect();
        item.insert("balance", Value::Number(Number::parse("1").unwrap()));
        for (name, value) in changes {
            let value = Number::parse(value).map_or_else(|_| Value::from(*value), Value::Number);
            item.insert(*name, value);
        }
        item
    }

    fn habits(old: Option<&Item>, new: Option<&Item>) -> Habits {
        let mut habits = Habits::default();
        habits.add(&policy(), Change { old, new });
        habits
    }

    #[test]
    fn changes_of_few_attributes_are_counted_and_named() {
        let old = item(&[]);
        let of = |changes: &[(&str, &str)]| {
            let habits = habits(Some(&old), Some(&item(changes)));
            assert_eq!((habits.records, habits.changes, habits.raw), (1, 1, 0));
            (
                habits.partial,
                habits.partial_attributes.into_keys().collect::<Vec<_>>(),
                habits.counters.into_iter().collect::<Vec<_>>(),
            )
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(of(&[("region", "us")]), (1, names(&["region"]), vec![]));
        assert_eq!(of(&[("balance", "2")]), (1, names(&["balance"]), names(&["balance"])));
        assert_eq!(of(&[("balance", "none")]), (1, names(&["balance"]), vec![]));
        assert_eq!(of(&[("balance", "2"), ("region", "us")]), (1, names(&["balance", "region"]), vec![]));
        // All of it, or nothing that would be signed.
        assert_eq!(of(&[("balance", "2"), ("region", "us"), ("secret", "t")]), (0, vec![], vec![]));
        assert_eq!(of(&[("visits", "2")]), (0, vec![], vec![]));
    }

    #[test]
    fn raw_writes_into_sealed_items_are_proven() {
        let sealed = |seal: &str, changes: &[(&str, &str)]| {
            let mut item = item(changes);
            item.insert(HEAD, Value::from(seal));
            item.insert(FOOT, Value::from(seal));
            item
        };
        let old = sealed("a", &[]);
        let raw = habits(Some(&old), Some(&sealed("a", &[("region", "us")])));
        assert_eq!((raw.raw, raw.raw_attributes["region"], raw.changes), (1, 1, 0));
        for new in [sealed("b", &[("region", "us")]), sealed("a", &[("visits", "2")]), item(&[("region", "us")])] {
            assert_eq!(habits(Some(&old), Some(&new)), Habits { records: 1, ..Habits::default() });
        }
    }

    #[test]
    fn items_that_come_and_go_say_nothing() {
        let item = item(&[]);
        for (old, new) in [(None, Some(&item)), (Some(&item), None)] {
            assert_eq!(habits(old, new), Habits { records: 1, ..Habits::default() });
        }
        // Nor does the way back ask.
        let mut back = Habits::default();
        let policy = Policy { target: Target::Plaintext, ..policy() };
        back.add(&policy, Change { old: Some(&item), new: Some(&self::item(&[("region", "us")])) });
        assert_eq!(back.partial, 0);
    }
}
