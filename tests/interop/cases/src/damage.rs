//! Changes a sealed item in a way that no reader may accept.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value as Json, json};

use crate::Failure;
use crate::compare::{TAG_BYTES, binary};
use crate::job::{Action, Job};
use crate::random::Random;

/// Flips a bit of the head, the foot or a ciphertext; or changes, drops, adds or exchanges a signed attribute.
///
/// # Errors
/// When the item is not a sealed one.
pub fn item(job: &Job, item: &mut Map<String, Json>, random: &mut Random) -> Result<(), Failure> {
    let signed: Vec<String> = item.keys().filter(|name| is_signed(job, name)).cloned().collect();
    let encrypted: Vec<&String> =
        signed.iter().filter(|name| job.actions.get(*name) == Some(&Action::Encrypt)).collect();
    match random.below(6) {
        0 => flip("aws_dbe_head", item, random),
        // A reader checks the tag of the recipient that it is: with all keys at hand, the first.
        1 if job.recipients > 1 => flip_before("aws_dbe_foot", TAG_BYTES, item, random),
        1 => flip("aws_dbe_foot", item, random),
        2 if !encrypted.is_empty() => flip(random.pick::<&String>(&encrypted), item, random),
        3 if encrypted.len() > 1 => {
            let [first, second] = [encrypted[0], encrypted[1]];
            let exchanged = item[second].clone();
            item[second] = std::mem::replace(&mut item[first], exchanged);
            Ok(())
        }
        4 => {
            item.insert("added later".to_owned(), json!({ "S": "" }));
            Ok(())
        }
        5 => {
            item.remove(random.pick(&signed));
            Ok(())
        }
        _ => {
            item.insert(random.pick(&signed).clone(), json!({ "S": "this was never there" }));
            Ok(())
        }
    }
}

fn is_signed(job: &Job, name: &str) -> bool {
    job.actions.get(name).is_some_and(|action| *action != Action::DoNothing)
}

fn flip(name: &str, item: &mut Map<String, Json>, random: &mut Random) -> Result<(), Failure> {
    flip_before(name, usize::MAX, item, random)
}

/// Flips a bit before this byte.
fn flip_before(name: &str, end: usize, item: &mut Map<String, Json>, random: &mut Random) -> Result<(), Failure> {
    let value = item.get_mut(name).ok_or("not a sealed item")?;
    let mut bytes = binary(value)?;
    let at = random.below(bytes.len().min(end));
    bytes[at] ^= 1 << random.below(8);
    *value = json!({ "B": BASE64.encode(bytes) });
    Ok(())
}
