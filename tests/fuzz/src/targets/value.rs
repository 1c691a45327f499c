use reseal::format::dbesdk::value::{TypeId, read, write};
use reseal::item::{Item, Value, json};

/// Type id and bytes are a value: then it can be written, what is written reads as the same value and is written the
/// same again, and DynamoDB JSON holds it too.
pub fn value(bytes: &[u8]) {
    let Some((id, body)) = bytes.split_first_chunk() else { return };
    let Ok(value) = read(*id, body.to_vec()) else { return };
    let (id, body) = written(&value);
    let again = read(id, body.clone()).expect("what was written can be read");
    assert!(again.same(&value) && value.same(&again), "it reads as another value");
    assert!(written(&again) == (id, body), "canonical form is not stable");
    let item: Item = [("a".to_owned(), value)].into_iter().collect();
    assert!(json::from_json(&json::to_json(&item)).as_ref() == Ok(&item), "JSON does not hold it");
}

fn written(value: &Value) -> (TypeId, Vec<u8>) {
    let mut out = Vec::new();
    write(value, &mut out).expect("what was read can be written");
    let (id, body) = out.split_first_chunk().expect("a type id comes first");
    (*id, body.to_vec())
}
