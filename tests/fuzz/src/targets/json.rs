use reseal::item::{ITEM_BYTES_MAX, Item, KeyNames, json as dynamodb};
use serde_json::Value as Json;

/// The bytes are an item in DynamoDB JSON: then it is printed as it was read, and so is its key.
pub fn json(bytes: &[u8]) {
    let Ok(document) = serde_json::from_slice::<Json>(bytes) else { return };
    let item = match dynamodb::from_json(&document) {
        Ok(item) => item,
        Err(error) => return drop(error.to_string()),
    };
    let printed = dynamodb::to_json(&item);
    assert!(printed == document, "it is printed otherwise");
    assert!(read(&printed.to_string()) == item, "it is read otherwise");
    assert!(item.same(&item));
    // No number takes more than 21 bytes, and nothing else more than its text.
    assert!(item.size() <= 8 * bytes.len() + 21, "{} bytes of text, {} of item", bytes.len(), item.size());
    if item.size() <= ITEM_BYTES_MAX {
        key(&item);
    }
}

/// Keys are kept as text, in the journal and in the ledger: equal keys, equal texts.
fn key(item: &Item) {
    let mut names = item.names().map(str::to_owned);
    let Some(partition) = names.next() else { return };
    let names = KeyNames { partition, sort: names.next() };
    let Ok(key) = names.key_of(item) else { return };
    let again = names.key_of(&read(&key.to_string()));
    assert!(again.as_ref() == Ok(&key) && again.is_ok_and(|again| again.to_string() == key.to_string()));
    assert!(names.key_of(&key.to_item()).as_ref() == Ok(&key));
}

fn read(text: &str) -> Item {
    let document = serde_json::from_str(text).expect("what was printed is JSON");
    dynamodb::from_json(&document).expect("what was printed is an item")
}
