//! Which attribute gets which action, and that the format, and every reader, can live with it.

use std::collections::{BTreeMap, BTreeSet};

use super::refusal::{Fault, Place, Refusal};
use super::section::{At, Section};
use crate::format::{Action, Schema, Unsigned};
use crate::item::KeyNames;

const ACTIONS: [Action; 4] =
    [Action::EncryptAndSign, Action::SignOnly, Action::SignAndIncludeInEncryptionContext, Action::DoNothing];

/// The longest name of a key attribute, in UTF-16 code units (Amazon DynamoDB API reference, `KeySchemaElement`).
const KEY_NAME_MAX: usize = 255;

/// Beginnings of names that the official library refuses in a configuration.
const RESERVED: [&str; 2] = ["aws_dbe_", "aws-crypto-"];

/// Reads actions, unsigned list and keys, each attribute against all rules.
pub(super) fn read(root: &Section<'_>, table: &Section<'_>, logical_table: String) -> Result<Schema, Fault> {
    let keys = keys(table)?;
    let unsigned = unsigned(root)?;
    let mut actions = BTreeMap::new();
    let mut places = BTreeMap::new();
    for (name, action) in root.entries("attributes")? {
        let action = action.parse(|word| action_named(&word))?;
        let refused = refused(&name, action.value, keys.contains(&name), &unsigned);
        if let Some(refusal) = refused {
            return Err(Fault { place: action.place, refusal });
        }
        places.insert(name.clone(), action.place);
        actions.insert(name, action.value);
    }
    let schema = Schema { logical_table, keys, actions, unsigned };
    demand_keys(&schema, &places, table.place())?;
    Ok(schema)
}

fn keys(table: &Section<'_>) -> Result<KeyNames, Fault> {
    let partition = table.required_text("partition_key")?.parse(key_name)?.value;
    let sort = table
        .text("sort_key")?
        .map(|sort| sort.parse(|name| if name == partition { Err(Refusal::SameKeys(name)) } else { key_name(name) }));
    Ok(KeyNames { sort: sort.transpose()?.map(|sort| sort.value), partition })
}

/// A name that a key attribute can have: DynamoDB and the official library take no longer one.
fn key_name(name: String) -> Result<String, Refusal> {
    let length = name.encode_utf16().count();
    if length > KEY_NAME_MAX { Err(Refusal::LongKeyName(length)) } else { Ok(name) }
}

fn unsigned(root: &Section<'_>) -> Result<Unsigned, Fault> {
    let Some(section) = root.section("unsigned", &["names", "prefix"])? else { return Ok(Unsigned::default()) };
    let own = |name: String| match name {
        name if name.is_empty() => Err(Refusal::Empty),
        // Names of the other reserved kind may be unsigned: the official library takes them there, and only there.
        name if name.starts_with(RESERVED[0]) => Err(Refusal::Reserved { name, prefix: RESERVED[0] }),
        name => Ok(name),
    };
    let prefix = section.text("prefix")?.map(|prefix| prefix.parse(own)).transpose()?;
    let names: Result<BTreeSet<String>, Fault> =
        section.texts("names")?.unwrap_or_default().into_iter().map(|name| Ok(name.parse(own)?.value)).collect();
    Ok(Unsigned { names: names?, prefix: prefix.map(|prefix| prefix.value) })
}

fn action_named(word: &str) -> Result<Action, Refusal> {
    let found = ACTIONS.into_iter().find(|action| action.name() == word);
    found.ok_or_else(|| Refusal::word(word, &ACTIONS.map(Action::name)))
}

/// What is wrong with the action of one attribute, looked at alone.
fn refused(name: &str, action: Action, is_key: bool, unsigned: &Unsigned) -> Option<Refusal> {
    let name_owned = || name.to_owned();
    if let Some(prefix) = RESERVED.into_iter().find(|prefix| name.starts_with(prefix)) {
        return Some(Refusal::Reserved { name: name_owned(), prefix });
    }
    match (action, is_key, unsigned.contains(name)) {
        (Action::EncryptAndSign, true, _) => Some(Refusal::KeyEncrypted(name_owned())),
        (Action::DoNothing, true, _) | (_, true, true) => Some(Refusal::KeyUnsigned(name_owned())),
        (Action::DoNothing, false, false) => Some(Refusal::NotDeclaredUnsigned(name_owned())),
        (Action::DoNothing, false, true) | (_, _, false) => None,
        (_, false, true) => Some(Refusal::DeclaredUnsigned { name: name_owned(), action: action.name() }),
    }
}

/// Keys need an action of their own, and share the version of the other attributes.
fn demand_keys(schema: &Schema, places: &BTreeMap<String, Place>, table: &Place) -> Result<(), Fault> {
    let included = Action::SignAndIncludeInEncryptionContext;
    let other = schema.actions.iter().find(|(name, action)| **action == included && !schema.keys.contains(name));
    let other = other.or_else(|| schema.actions.iter().find(|(_, action)| **action == included));
    for key in schema.keys.iter() {
        let place = || places.get(key).unwrap_or(table).clone();
        let refusal = match (schema.action(key), other) {
            (None, _) => Refusal::KeyWithoutAction(key.to_owned()),
            (Some(action), Some((other, _))) if action != included => {
                Refusal::KeyNotIncluded { key: key.to_owned(), other: other.clone() }
            }
            _ => continue,
        };
        return Err(Fault { place: place(), refusal });
    }
    Ok(())
}

/// The table's own name, given its name or its ARN.
pub(super) fn table_name(table: &At<String>) -> Result<String, Fault> {
    let refusal = || Refusal::TableName(table.value.clone());
    let name = match table.value.split(':').collect::<Vec<_>>()[..] {
        [name] => Some(name),
        ["arn", partition, "dynamodb", region, account, resource] => {
            let account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
            let whole = partition.starts_with("aws") && !region.is_empty() && account;
            resource.strip_prefix("table/").filter(|_| whole)
        }
        _ => None,
    };
    let fits = |name: &&str| {
        (3..=255).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    name.filter(fits).map(str::to_owned).ok_or_else(|| Fault { place: table.place.clone(), refusal: refusal() })
}
