//! Which change a table needs, if any, and why: decided from what was seen of its items and keys.

use serde::Serialize;

use super::keys::{KeyReport, NamedBy};
use super::stores::StoreReport;
use crate::crypto::{Matching, Recipient};
use crate::format::dbesdk;
use crate::keyring::AWS_KMS;
use crate::migration::{Census, Depth, Need, Policy, Target};

/// What the table needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    /// Nothing: every item is at target.
    Nothing,
    /// An alias names another key than items do.
    AliasMoved,
    /// Nothing, although the key has new material.
    KeyRotated,
    /// The rows of the key store wrapped anew.
    KeystoreRewrap,
    /// The items' data keys wrapped anew.
    Rewrap,
    /// The items sealed anew.
    #[serde(rename = "re-encrypt")]
    Reencrypt,
    /// The plaintext items sealed.
    Encrypt,
    /// The way back.
    Decrypt,
    /// Nobody knows: there is no item to look at.
    Unknown,
}

/// The answer, and why.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Diagnosis {
    pub(super) answer: Answer,
    /// The least depth that brings the sealed items of the sample to the target.
    pub(super) depth: &'static str,
    /// The answer in a sentence.
    pub(super) sentence: String,
    pub(super) reasons: Vec<String>,
}

const DOES_NOT_REVOKE: &str = "rewrap does not revoke: each item keeps its data key, so whoever had it still can read the \
                               item; where the old key or its users are not to be trusted any more, take depth = \
                               \"reencrypt\"";

const REFRESH: &str = "where somebody demands the newest material all the same: target.refresh_key_material = true with depth = \
                       \"rewrap\" asks KMS of each item which material wrapped its key, and wraps those of an older one anew";

/// What was seen of a table and its keys.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) policy: &'a Policy,
    pub(super) census: &'a Census,
    /// Items of the census that are at target by their bytes, and are not, as the keyring says.
    pub(super) deeper: u64,
    pub(super) keys: &'a [KeyReport],
    pub(super) stores: &'a [StoreReport],
}

/// What it says.
pub(super) fn diagnose(seen: &Seen<'_>) -> Diagnosis {
    let Seen { policy, census, keys, stores, .. } = *seen;
    let needs = census.needs();
    let items = |need| needs.get(&need).copied().unwrap_or(0);
    let [rewrap, reencrypt, encrypt, decrypt] =
        [Need::Rewrap, Need::Reencrypt, Need::Encrypt, Need::Decrypt].map(items);
    // An alias of the key behind a key store says nothing of items.
    let of_items = keys.iter().filter(|_| stores.is_empty());
    let moved: Vec<(&str, &str)> = of_items.clone().filter_map(|key| moved(policy, census, key)).collect();
    let depth = match (rewrap, reencrypt) {
        (_, 1..) => Depth::Reencrypt.name(),
        (1.., 0) => Depth::Rewrap.name(),
        (0, 0) => "none",
    };
    let mut reasons = Vec::new();
    let (answer, sentence) = if census.forms.is_empty() {
        (Answer::Unknown, "there is no item to judge by".to_owned())
    } else if decrypt > 0 {
        (Answer::Decrypt, format!("{decrypt} of {} items are sealed, and the target is plaintext", census.items))
    } else if let [(alias, key), ..] = moved[..] {
        reasons.push(
            "AWS's keyrings write the key's own ARN into each item: where an alias is moved, sealed items stay under the \
             key that it named before, and need that key to be opened"
                .to_owned(),
        );
        (Answer::AliasMoved, alias_moved(policy, alias, key, depth))
    } else {
        match (rewrap, reencrypt, encrypt) {
            (0, 0, 0) => keystore_rewrap(keys, stores).unwrap_or_else(|| at_target(keys, census)),
            (0, 0, _) => (Answer::Encrypt, format!("encrypt: {encrypt} of {} items are in plaintext", census.items)),
            (_, 0, 0) => (
                Answer::Rewrap,
                format!(
                    "rewrap: {rewrap} of {} items have another {} than the target; their ciphertexts may stay as they are",
                    census.items,
                    differences(seen)
                ),
            ),
            (_, 0, _) => (
                Answer::Reencrypt,
                format!(
                    "re-encrypt: the table holds items in more than one format; {encrypt} of {} are in plaintext",
                    census.items
                ),
            ),
            (..) => (
                Answer::Reencrypt,
                format!(
                    "re-encrypt: {reencrypt} of {} items have other attributes encrypted than the job says",
                    census.items
                ),
            ),
        }
    };
    if answer == Answer::KeyRotated {
        reasons.push(REFRESH.to_owned());
    }
    reasons.extend(why(seen, (rewrap, reencrypt), answer));
    reasons.extend(of_items.filter_map(|key| same_key(policy, census, key)));
    Diagnosis { answer, depth, sentence, reasons }
}

/// Every item is at target, maybe under a key with new material.
fn at_target(keys: &[KeyReport], census: &Census) -> (Answer, String) {
    let all = if census.whole { "every item" } else { "every item of the sample" };
    let damaged = census.items - census.forms.values().sum::<u64>();
    let all = match damaged {
        0 => all.to_owned(),
        damaged => format!("{all}, but for {damaged} that are damaged or were written into,"),
    };
    let rotated = keys.iter().filter(|key| key.items > 0).find_map(|key| {
        let rotation = key.rotation.as_ref()?;
        (rotation.rotations > 0).then_some((key, rotation))
    });
    match rotated {
        None => (Answer::Nothing, format!("nothing: {all} is at target")),
        Some((key, rotation)) => {
            let last = rotation.last.as_ref().map_or_else(String::new, |last| format!(", last on {last}"));
            let sentence = format!(
                "nothing: {all} is at target. KMS gave the key {} new material {}{last}; its ARN stays, and KMS keeps \
                 the old material for what it wrapped",
                key.named,
                super::times(rotation.rotations)
            );
            (Answer::KeyRotated, sentence)
        }
    }
}

/// Rows of a key store are under another KMS key than the job says, or than an alias names.
fn keystore_rewrap(keys: &[KeyReport], stores: &[StoreReport]) -> Option<(Answer, String)> {
    stores.iter().find_map(|store| {
        let wanted = store.kms_key.as_deref().or_else(|| keys.iter().find_map(alias_of))?;
        let elsewhere: u64 = store.rows.iter().filter(|(key, _)| *key != wanted).map(|(_, rows)| rows).sum();
        let sentence = format!(
            "keystore rewrap: {elsewhere} rows of the key store {} are under another KMS key than {wanted}; `reseal keystore \
             rewrap` moves them, and no item is touched. Its readers must take the KMS key from the rows \
             (key_store_readers = \"discovery\") before",
            store.table
        );
        (elsewhere > 0).then_some((Answer::KeystoreRewrap, sentence))
    })
}

/// The alias and the key that it names, if that is neither the items' nor the job's, or some items have yet another.
fn moved<'a>(policy: &Policy, census: &Census, key: &'a KeyReport) -> Option<(&'a str, &'a str)> {
    let named = alias_of(key)?;
    let elsewhere = |found: &Recipient| {
        found.provider == AWS_KMS && !same(policy, &found.key, named) && !is_target(policy, &found.key)
    };
    let elsewhere = census.recipients().into_keys().any(elsewhere);
    (elsewhere || !(is_target(policy, named) || is_of_items(policy, census, named))).then_some((&key.named, named))
}

/// Whether items are under this key.
fn is_of_items(policy: &Policy, census: &Census, arn: &str) -> bool {
    census.recipients().into_keys().any(|found| found.provider == AWS_KMS && same(policy, &found.key, arn))
}

/// The key that an alias names now.
fn alias_of(key: &KeyReport) -> Option<&str> {
    let facts = key.facts.as_ref().filter(|_| key.named_by == NamedBy::Alias)?;
    Some(&facts.arn)
}

/// Whether the job's target is for this key; a target without keys has nothing against any.
fn is_target(policy: &Policy, arn: &str) -> bool {
    match &policy.target {
        Target::Plaintext => true,
        Target::Dbesdk { recipients, .. } => recipients.iter().any(|wanted| wanted.is(&kms(arn))),
    }
}

/// Whether two ARNs name one key, by the rule of the target's readers.
fn same(policy: &Policy, one: &str, other: &str) -> bool {
    one == other
        || matches!(&policy.target, Target::Dbesdk { recipients, .. }
            if recipients.iter().any(|wanted| wanted.is(&kms(one)) && wanted.is(&kms(other))))
}

fn kms(arn: &str) -> Recipient {
    Recipient { provider: AWS_KMS.to_owned(), key: arn.to_owned() }
}

/// What to do about an alias that was moved.
fn alias_moved(policy: &Policy, alias: &str, key: &str, depth: &str) -> String {
    if is_target(policy, key) {
        let what = if depth == Depth::Reencrypt.name() { "re-encrypt" } else { "rewrap" };
        format!("{alias} was moved: it names {key} now, and items are under another key: {what} them")
    } else {
        format!(
            "{alias} was moved: it names {key} now, which is not the job's target; if items shall go there, make it \
             target.keyring.key_arn and rewrap"
        )
    }
}

/// An alias that was not moved.
fn same_key(policy: &Policy, census: &Census, key: &KeyReport) -> Option<String> {
    let named = alias_of(key)?;
    if moved(policy, census, key).is_some() {
        return None;
    }
    Some(if is_target(policy, named) {
        format!("{} names {named}, as job and items do: nothing to do for it", key.named)
    } else {
        format!(
            "{} still names {named}, which items are under: before the run, move it to the target's key, so that writers seal \
             for that one",
            key.named
        )
    })
}

fn why(seen: &Seen<'_>, (rewrap, reencrypt): (u64, u64), answer: Answer) -> Vec<String> {
    let policy = seen.policy;
    let mut reasons = Vec::new();
    if reencrypt > 0 && answer != Answer::Decrypt {
        reasons.push("rewrap is not enough for these: it leaves every attribute as it is, encrypted or not".to_owned());
    }
    if rewrap > 0 && answer != Answer::Decrypt {
        if answer == Answer::Reencrypt {
            reasons.push(format!(
                "for {rewrap} items, which have another {} than the target, rewrap would be enough",
                differences(seen)
            ));
        }
        reasons.push(DOES_NOT_REVOKE.to_owned());
        if policy.depth == Depth::Reencrypt && reencrypt == 0 {
            reasons.push(
                "the job says depth = \"reencrypt\", which does more than that; depth = \"rewrap\" writes header and footer \
                 only"
                    .to_owned(),
            );
        }
    }
    if reencrypt > 0 && policy.depth == Depth::Rewrap {
        reasons.push("the job says depth = \"rewrap\": these items would fail; say \"reencrypt\"".to_owned());
    }
    reasons
}

/// In what the items that a rewrap would do for differ from the target.
fn differences(seen: &Seen<'_>) -> String {
    let Seen { policy, census, deeper, .. } = *seen;
    let Target::Dbesdk { suite, recipients } = &policy.target else { return String::new() };
    let version = dbesdk::version(&policy.schema);
    let mut differences = Vec::new();
    let stale: Vec<_> =
        census.forms.keys().filter(|form| form.need == Need::Rewrap).filter_map(|form| form.sealed.as_ref()).collect();
    let other_key = |found: &[Recipient]| {
        found.len() != recipients.len() || !recipients.iter().all(|wanted| found.iter().any(|found| wanted.is(found)))
    };
    if stale.iter().any(|form| other_key(&form.recipients)) {
        differences.push("key");
    }
    if stale.iter().any(|form| form.suite != *suite) {
        differences.push("algorithm suite");
    }
    if stale.iter().any(|form| form.version != version) {
        differences.push("header version");
    }
    if deeper > 0 {
        let provider = recipients.iter().any(|wanted| wanted.matching == Matching::Provider);
        differences.push(if provider { "branch key, or version of it," } else { "key material" });
    }
    if differences.is_empty() {
        // Nothing else is left in which they can differ.
        differences.push("action of signed attributes");
    }
    differences.join(" or ")
}
