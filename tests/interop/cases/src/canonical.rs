//! What a value looks like after it was encrypted and decrypted: numbers in their canonical spelling, sets in order.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value as Json, json};

use crate::number;

/// The canonical form of a DynamoDB JSON value. What is not one is left as it is.
pub fn canonical(value: &Json) -> Json {
    let Some((kind, content)) = value.as_object().and_then(|object| object.iter().next()) else {
        return value.clone();
    };
    let numeral = |n: &str| number::canonical(n).unwrap_or_else(|| n.to_owned());
    match (kind.as_str(), content) {
        ("N", Json::String(text)) => json!({ "N": numeral(text) }),
        ("SS", _) => json!({ "SS": sorted(strings(content)) }),
        ("NS", _) => json!({ "NS": sorted(strings(content).iter().map(|n| numeral(n)).collect()) }),
        ("BS", _) => {
            let mut members = strings(content);
            members.sort_by_key(|text| BASE64.decode(text).unwrap_or_default());
            json!({ "BS": members })
        }
        ("L", Json::Array(members)) => json!({ "L": members.iter().map(canonical).collect::<Vec<_>>() }),
        ("M", Json::Object(members)) => {
            let members = members.iter().map(|(name, member)| (name.clone(), canonical(member)));
            json!({ "M": members.collect::<serde_json::Map<_, _>>() })
        }
        _ => value.clone(),
    }
}

fn strings(list: &Json) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|member| member.as_str().map(str::to_owned)).collect()
}

/// In the order of their UTF-16 code units.
fn sorted(mut members: Vec<String>) -> Vec<String> {
    members.sort_by_key(|text| text.encode_utf16().collect::<Vec<_>>());
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sets() {
        let given =
            json!({"L": [{"N": "1.50"}, {"NS": ["9", "10", "1E1"]}, {"SS": ["\u{FF61}", "😀", "a"]}, {"S": "1.0"}]});
        let expected =
            json!({"L": [{"N": "1.5"}, {"NS": ["10", "10", "9"]}, {"SS": ["a", "😀", "\u{FF61}"]}, {"S": "1.0"}]});
        assert_eq!(canonical(&given), expected);
    }
}
