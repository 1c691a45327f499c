//! A rewrite as a PartiQL statement, and statements as the body of a `BatchExecuteStatement`.
//!
//! The body is written here and not by the SDK: through its types every value would be copied once more, one by one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::item::Value;
use crate::migration::{Expected, Rewrite};

/// The most characters that a statement may have (API reference, `BatchStatementRequest`).
const CHARACTERS_MAX: usize = 8192;
/// Bytes of most statements, to begin with.
const TEXT_BYTES_USUAL: usize = 1024;

/// A statement with its parameters.
#[derive(Debug)]
pub(super) struct Statement<'a> {
    /// The text, with a `?` for each value.
    pub(super) text: String,
    /// The values, in the order of the `?`.
    pub(super) parameters: Vec<&'a Value>,
    /// About how many bytes it adds to a request.
    pub(super) bytes: usize,
}

/// The statement of a rewrite, or `None` when no statement can say it and `UpdateItem` must.
///
/// That is so when the text would be too long, when nothing is changed, when a name cannot be quoted, and when a
/// condition compares with NULL: whether PartiQL's `=` is true of two NULLs is not documented for DynamoDB.
pub(super) fn statement<'a>(table: &str, rewrite: &'a Rewrite) -> Option<Statement<'a>> {
    let mut text = String::with_capacity(TEXT_BYTES_USUAL);
    let mut values: Vec<&Value> = Vec::with_capacity(rewrite.set.len() + rewrite.condition.len() + 2);
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
    if text.len() > CHARACTERS_MAX && text.chars().count() > CHARACTERS_MAX {
        return None;
    }
    let bytes = text.len() + values.iter().map(|value| value.size()).sum::<usize>();
    Some(Statement { text, parameters: values, bytes })
}

/// Appends a name in double quotes, with what stands before and after it. `None` when the name has a quote itself or a
/// control character: how DynamoDB's PartiQL reads those is not documented.
fn push(text: &mut String, before: &str, name: &str, after: &str) -> Option<()> {
    if name.chars().any(|c| c == '"' || c.is_control()) {
        return None;
    }
    for part in [before, "\"", name, "\"", after] {
        text.push_str(part);
    }
    Some(())
}

/// The request that has these statements carried out, each on its own, and asks for the item where a condition fails and
/// for the capacity consumed (API reference, `BatchExecuteStatement`).
pub(super) fn body<'a>(statements: impl Iterator<Item = &'a Statement<'a>> + Clone) -> String {
    // Values grow by a third at most, names and quotes come on top.
    let bytes: usize = statements.clone().map(|statement| 2 * statement.bytes).sum();
    let mut out = String::with_capacity(bytes);
    out.push_str(r#"{"Statements":"#);
    // Items of one shape have statements of one text, to be escaped once.
    let (mut text, mut escaped) = ("", String::new());
    list(&mut out, statements, |out, statement| {
        if statement.text != text {
            text = &statement.text;
            escaped.clear();
            string(&mut escaped, text);
        }
        out.push_str(r#"{"Statement":"#);
        out.push_str(&escaped);
        out.push_str(r#","Parameters":"#);
        list(out, statement.parameters.iter(), |out, value| write(out, value));
        out.push_str(r#","ReturnValuesOnConditionCheckFailure":"ALL_OLD"}"#);
    });
    out.push_str(r#","ReturnConsumedCapacity":"TOTAL"}"#);
    out
}

/// Appends a value as the API spells it.
fn write(out: &mut String, value: &Value) {
    out.push_str("{\"");
    out.push_str(value.type_name());
    out.push_str("\":");
    match value {
        Value::String(text) => string(out, text),
        Value::Number(number) => string(out, number.as_str()),
        Value::Binary(bytes) => binary(out, bytes),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Null => out.push_str("true"),
        Value::StringSet(members) => list(out, members.iter(), |out, text| string(out, text)),
        Value::NumberSet(members) => list(out, members.iter(), |out, number| string(out, number.as_str())),
        Value::BinarySet(members) => list(out, members.iter(), |out, bytes| binary(out, bytes)),
        Value::List(members) => list(out, members.iter(), write),
        Value::Map(members) => {
            out.push('{');
            separated(out, members.iter(), |out, (name, value)| {
                string(out, name);
                out.push(':');
                write(out, value);
            });
            out.push('}');
        }
    }
    out.push('}');
}

fn list<T>(out: &mut String, members: impl Iterator<Item = T>, one: impl FnMut(&mut String, T)) {
    out.push('[');
    separated(out, members, one);
    out.push(']');
}

fn separated<T>(out: &mut String, members: impl Iterator<Item = T>, mut one: impl FnMut(&mut String, T)) {
    for (i, member) in members.enumerate() {
        if i > 0 {
            out.push(',');
        }
        one(out, member);
    }
}

fn binary(out: &mut String, bytes: &[u8]) {
    out.push('"');
    BASE64.encode_string(bytes, out);
    out.push('"');
}

/// Appends a JSON string. Nearly always nothing is to be escaped, and the text is copied as it is.
fn string(out: &mut String, text: &str) {
    let escaped = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
    // Without a way out of it, the loop is done many bytes at a time.
    if text.as_bytes().iter().fold(false, |found, byte| found | escaped(byte)) {
        out.push_str(&serde_json::Value::from(text).to_string());
    } else {
        out.push('"');
        out.push_str(text);
        out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::item::{Key, KeyNames, Number, json};

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
        let rewrite = rewrite();
        let statement = statement("T", &rewrite).unwrap();
        assert_eq!(
            statement.text,
            r#"UPDATE "T" SET "a"=? SET "b.c"=? REMOVE "größe" WHERE "pk"=? AND "sort key"=? AND "a"=? AND "d" IS MISSING AND "e" IS NOT MISSING"#
        );
        let [new, p, s, old] = ["new", "p", "s", "old"].map(Value::from);
        assert_eq!(statement.parameters, [&new, &Value::Null, &p, &s, &old]);
        assert_eq!(statement.bytes, statement.text.len() + 3 + 1 + 1 + 1 + 3);
    }

    #[test]
    fn the_body_is_the_json_of_the_api() {
        let number = |text: &str| Number::parse(text).unwrap();
        let mut rewrite = rewrite();
        let values = [
            Value::from("é😀 \"quoted\" \\ \u{0} \n \u{1f}\u{7f}\u{2028}"),
            Value::from(""),
            Value::Number(number("1.50")),
            Value::Binary(vec![0, 255, 7]),
            Value::Bool(false),
            Value::StringSet(vec!["b".into(), "\"".into()]),
            Value::NumberSet(vec![number("2"), number("1E3")]),
            Value::BinarySet(vec![vec![1], vec![]]),
            Value::List(vec![
                Value::Null,
                Value::Map([("\"x".to_owned(), Value::Bool(true))].into()),
                Value::List(vec![]),
            ]),
            Value::Map([("a".to_owned(), Value::Null), ("b".to_owned(), Value::from("\\"))].into()),
        ];
        rewrite.set = values.iter().map(|value| ("a\\".to_owned(), value.clone())).collect();
        rewrite.condition.clear();
        let statement = statement("T", &rewrite).unwrap();
        let read: Json = serde_json::from_str(&body([&statement, &statement].into_iter())).unwrap();
        let keys = [Value::from("p"), Value::from("s")];
        let alone = |value: &Value| -> Json {
            json::to_json(&[("v".to_owned(), value.clone())].into_iter().collect())["v"].clone()
        };
        let expected = json!({
            "Statement": statement.text,
            "Parameters": values.iter().chain(&keys).map(alone).collect::<Vec<_>>(),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        });
        assert_eq!(read, json!({ "Statements": [expected, expected], "ReturnConsumedCapacity": "TOTAL" }));
    }

    #[test]
    fn what_no_statement_says() {
        let with = |change: &dyn Fn(&mut Rewrite)| {
            let mut rewrite = rewrite();
            change(&mut rewrite);
            statement("T", &rewrite).is_some()
        };
        let names = |count: usize| (0..count).map(|i| (format!("attribute{i:04}"), Expected::Absent)).collect();
        assert!(with(&|rewrite| rewrite.condition = names(250)));
        for (reason, change) in [
            ("a quote", &(|r: &mut Rewrite| r.remove = vec!["a\" REMOVE \"b".into()]) as &dyn Fn(&mut Rewrite)),
            ("a control character", &|r| r.set[0].0 = "a\nb".into()),
            ("NULL", &|r| r.condition[0].1 = Expected::Equals(Value::Null)),
            ("too long", &|r| r.condition = names(300)),
            ("no change", &|r| (r.set, r.remove) = (vec![], vec![])),
        ] {
            assert!(!with(change), "{reason}");
        }
    }
}
