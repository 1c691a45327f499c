//! A rewrite as the expressions of `UpdateItem`.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::convert::value_to;
use crate::item::Value;
use crate::migration::{Expected, Rewrite};

/// The most bytes of one expression (developer guide, "Quotas", "Expression parameters").
const EXPRESSION_BYTES_MAX: usize = 4096;
/// The most operators and functions of one expression; the `=` of SET does not count.
const OPERATORS_MAX: usize = 300;
/// The most bytes of all names and values that an expression stands for.
const SUBSTITUTES_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The expressions of one rewrite.
#[derive(Debug)]
pub(super) struct Expressions {
    /// What is changed; `None` if nothing is.
    pub(super) update: Option<String>,
    /// What must hold: the item exists, and the rewrite's own condition.
    pub(super) condition: String,
    /// The attribute behind each `#n`. Every name has an alias, so that no reserved word or special character matters.
    pub(super) names: HashMap<String, String>,
    /// The value behind each `:n`.
    pub(super) values: HashMap<String, AttributeValue>,
}

/// Why a rewrite does not fit into `UpdateItem`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// Too many or too long names.
    #[error("the item needs an expression of {bytes} bytes and DynamoDB takes 4096: it has too many attributes")]
    Bytes {
        /// The longer expression's length.
        bytes: usize,
    },
    /// Too many comparisons.
    #[error("the item needs a condition of {count} operators and DynamoDB takes 300: it has too many attributes")]
    Operators {
        /// Operators and functions of the condition.
        count: usize,
    },
    /// Too large values.
    #[error("names and values of the update are {bytes} bytes and DynamoDB takes 2 MB")]
    Substitutes {
        /// Names and values together.
        bytes: usize,
    },
}

/// Aliases handed out so far.
#[derive(Default)]
struct Aliases<'a> {
    names: Vec<&'a str>,
    values: Vec<&'a Value>,
}

impl<'a> Aliases<'a> {
    fn name(&mut self, name: &'a str) -> String {
        let at = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        format!("#{at}")
    }

    fn value(&mut self, value: &'a Value) -> String {
        self.values.push(value);
        format!(":{}", self.values.len() - 1)
    }
}

/// The expressions of a rewrite.
pub(super) fn expressions(rewrite: &Rewrite) -> Result<Expressions, Unfit> {
    let mut aliases = Aliases::default();
    let set: Vec<String> =
        rewrite.set.iter().map(|(name, value)| format!("{}={}", aliases.name(name), aliases.value(value))).collect();
    let remove: Vec<String> = rewrite.remove.iter().map(|name| aliases.name(name)).collect();
    let clauses = [("SET", set), ("REMOVE", remove)];
    let clauses = clauses.into_iter().filter(|(_, parts)| !parts.is_empty());
    let update = clauses.map(|(word, parts)| format!("{word} {}", parts.join(","))).collect::<Vec<_>>().join(" ");

    // Without this, an update of an item that was deleted meanwhile would bring a part of it back.
    let mut terms = vec![format!("attribute_exists({})", aliases.name(&rewrite.key.partition.0))];
    for (name, expected) in &rewrite.condition {
        let name = aliases.name(name);
        terms.push(match expected {
            Expected::Equals(value) => format!("{name}={}", aliases.value(value)),
            Expected::Absent => format!("attribute_not_exists({name})"),
            Expected::Exists => format!("attribute_exists({name})"),
        });
    }
    let condition = terms.join(" AND ");

    // One operator or function for each term, and the ANDs between them.
    let operators = 2 * terms.len() - 1;
    if operators > OPERATORS_MAX {
        return Err(Unfit::Operators { count: operators });
    }
    let bytes = update.len().max(condition.len());
    if bytes > EXPRESSION_BYTES_MAX {
        return Err(Unfit::Bytes { bytes });
    }
    let substitutes = aliases.names.iter().map(|name| name.len()).sum::<usize>()
        + aliases.values.iter().map(|value| value.size()).sum::<usize>();
    if substitutes > SUBSTITUTES_BYTES_MAX {
        return Err(Unfit::Substitutes { bytes: substitutes });
    }
    let names = aliases.names.iter().enumerate().map(|(i, name)| (format!("#{i}"), (*name).to_owned())).collect();
    let values = aliases.values.iter().enumerate().map(|(i, value)| (format!(":{i}"), value_to(value))).collect();
    Ok(Expressions { update: (!update.is_empty()).then_some(update), condition, names, values })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Key;

    fn rewrite(set: Vec<(String, Value)>, condition: Vec<(String, Expected)>) -> Rewrite {
        let key = Key { partition: ("pk".into(), Value::from("p")), sort: None };
        Rewrite { key, set, remove: vec!["b".into(), "b.c".into()], condition, bytes: 0 }
    }

    #[test]
    fn every_name_and_value_has_an_alias() {
        let made = expressions(&rewrite(
            vec![("a".into(), Value::from("new"))],
            vec![
                ("a".into(), Expected::Equals(Value::from("old"))),
                ("b".into(), Expected::Exists),
                ("size".into(), Expected::Absent),
            ],
        ))
        .unwrap();
        assert_eq!(made.update.as_deref(), Some("SET #0=:0 REMOVE #1,#2"));
        let condition = "attribute_exists(#3) AND #0=:1 AND attribute_exists(#1) AND attribute_not_exists(#4)";
        assert_eq!(made.condition, condition);
        let name = |alias: &str| made.names.get(alias).map(String::as_str);
        assert_eq!(["#0", "#1", "#2", "#3", "#4"].map(name), ["a", "b", "b.c", "pk", "size"].map(Some));
        assert_eq!(made.values.get(":1"), Some(&AttributeValue::S("old".into())));
        assert_eq!((made.names.len(), made.values.len()), (5, 2));
    }

    #[test]
    fn limits() {
        let equal = |count: usize| -> Vec<(String, Expected)> {
            (0..count).map(|i| (format!("a{i}"), Expected::Equals(Value::Null))).collect()
        };
        let absent = |count: usize| (0..count).map(|i| (format!("a{i}"), Expected::Absent)).collect::<Vec<_>>();
        assert!(expressions(&rewrite(vec![], equal(149))).is_ok());
        assert_eq!(expressions(&rewrite(vec![], equal(150))).unwrap_err(), Unfit::Operators { count: 301 });
        let unfit = expressions(&rewrite(vec![], absent(149))).unwrap_err();
        assert!(matches!(unfit, Unfit::Bytes { bytes: 4097.. }), "{unfit}");
        let large = |count: usize| (0..count).map(|i| (format!("a{i}"), Value::from("x".repeat(1 << 20).as_str())));
        let unfit = expressions(&rewrite(large(2).collect(), vec![])).unwrap_err();
        assert_eq!(unfit, Unfit::Substitutes { bytes: 2 * (1 << 20) + 2 + 2 + 1 + 3 + 2 });
    }
}
