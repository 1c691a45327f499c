//! A rewrite as a PartiQL statement, for a batch.

use aws_sdk_dynamodb::types::AttributeValue;

use super::convert::value_to;
use crate::item::Value;
use crate::migration::{Expected, Rewrite};

/// The most characters that a statement may have (API reference, `BatchStatementRequest`).
const CHARACTERS_MAX: usize = 8192;

/// A statement with its parameters.
#[derive(Debug)]
pub(super) struct Statement {
    /// The text, with a `?` for each value.
    pub(super) text: String,
    /// The values, in the order of the `?`.
    pub(super) parameters: Vec<AttributeValue>,
    /// About how many bytes it adds to a request.
    pub(super) bytes: usize,
}

/// The statement of a rewrite, or `None` when no statement can say it and `UpdateItem` must.
///
/// That is so when the text would be too long, when nothing is changed, when a name cannot be quoted, and when a
/// condition compares with NULL: whether PartiQL's `=` is true of two NULLs is not documented for DynamoDB.
pub(super) fn statement(table: &str, rewrite: &Rewrite) -> Option<Statement> {
    let mut text = String::new();
    let mut values: Vec<&Value> = Vec::new();
    if rewrite.set.is_empty() && rewrite.remove.is_empty() {
        return None;
    }
    push(&mut text, "UPDATE ", table, "")?;
    for (name, value) in &rewrite.set {
        push(&mut text, " SET ", name, "=?")?;
        values.push(value);
    }
    for name in &rewrite.remove {
        push(&mut text, " REMOVE ", name, "")?;
    }
    let mut word = " WHERE ";
    for (name, value) in rewrite.key.iter() {
        push(&mut text, word, name, "=?")?;
        values.push(value);
        word = " AND ";
    }
    for (name, expected) in &rewrite.condition {
        let comparison = match expected {
            Expected::Equals(Value::Null) => return None,
            Expected::Equals(value) => {
                values.push(value);
                "=?"
            }
            Expected::Absent => " IS MISSING",
            Expected::Exists => " IS NOT MISSING",
        };
        push(&mut text, word, name, comparison)?;
    }
    if text.chars().count() > CHARACTERS_MAX {
        return None;
    }
    let bytes = text.len() + values.iter().map(|value| value.size()).sum::<usize>();
    Some(Statement { text, parameters: values.into_iter().map(value_to).collect(), bytes })
}

/// Appends a name in double quotes, with what stands before and after it. `None` when the name has a quote itself or a
/// control character: how DynamoDB's PartiQL reads those is not documented.
fn push(text: &mut String, before: &str, name: &str, after: &str) -> Option<()> {
    if name.chars().any(|c| c == '"' || c.is_control()) {
        return None;
    }
    text.extend([before, "\"", name, "\"", after]);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{Key, KeyNames};

    fn rewrite() -> Rewrite {
        let names = KeyNames { partition: "pk".into(), sort: Some("sort key".into()) };
        let key: Key = names
            .key_of(
                &[("pk".to_owned(), Value::from("p")), ("sort key".to_owned(), Value::from("s"))].into_iter().collect(),
            )
            .unwrap();
        Rewrite {
            key,
            set: vec![("a".into(), Value::from("new")), ("b.c".into(), Value::Null)],
            remove: vec!["größe".into()],
            condition: vec![
                ("a".into(), Expected::Equals(Value::from("old"))),
                ("d".into(), Expected::Absent),
                ("e".into(), Expected::Exists),
            ],
            bytes: 0,
        }
    }

    #[test]
    fn text_and_parameters() {
        let statement = statement("T", &rewrite()).unwrap();
        assert_eq!(
            statement.text,
            r#"UPDATE "T" SET "a"=? SET "b.c"=? REMOVE "größe" WHERE "pk"=? AND "sort key"=? AND "a"=? AND "d" IS MISSING AND "e" IS NOT MISSING"#
        );
        let text = |text: &str| AttributeValue::S(text.to_owned());
        assert_eq!(statement.parameters, [text("new"), AttributeValue::Null(true), text("p"), text("s"), text("old")]);
        assert_eq!(statement.bytes, statement.text.len() + 3 + 1 + 1 + 1 + 3);
    }

    #[test]
    fn what_no_statement_says() {
        let with = |change: &dyn Fn(&mut Rewrite)| {
            let mut rewrite = rewrite();
            change(&mut rewrite);
            statement("T", &rewrite)
        };
        let names = |count: usize| (0..count).map(|i| (format!("attribute{i:04}"), Expected::Absent)).collect();
        assert!(with(&|rewrite| rewrite.condition = names(250)).is_some());
        for (reason, change) in [
            ("a quote", &(|r: &mut Rewrite| r.remove = vec!["a\" REMOVE \"b".into()]) as &dyn Fn(&mut Rewrite)),
            ("a control character", &|r| r.set[0].0 = "a\nb".into()),
            ("NULL", &|r| r.condition[0].1 = Expected::Equals(Value::Null)),
            ("too long", &|r| r.condition = names(300)),
            ("no change", &|r| (r.set, r.remove) = (vec![], vec![])),
        ] {
            assert!(with(change).is_none(), "{reason}");
        }
    }
}
