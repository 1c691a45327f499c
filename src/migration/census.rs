//! What a sample of items says about a table: attributes, keys and forms, what it would take to bring the items to the
//! target, and how much they would grow.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Policy, Refusal, Target, Verdict};
use crate::crypto::{KEY_BYTES, Recipient, Secret, Suite, Wanted, WrappedKey};
use crate::format::dbesdk::{self, Inspection, Sealed};
use crate::format::{Action, Schema};
use crate::item::{Item, write_units};

/// Bytes of what KMS wraps a 32-byte key in; the longest of the keyrings' forms.
const WRAPPED_BYTES: usize = 184;

/// What the items that were looked at have in common and in what they differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Census {
    /// Items looked at.
    pub items: u64,
    /// Items at target already.
    pub current: u64,
    /// Plaintext items to be sealed.
    pub plaintext: u64,
    /// Items sealed in another form, to be opened first.
    pub sealed: u64,
    /// Items that could not be done, by the kind of reason, with one reason in words.
    pub refused: BTreeMap<&'static str, Refused>,
    /// By attribute.
    pub attributes: BTreeMap<String, Attribute>,
    /// How sealing changes the plaintext items.
    pub growth: Growth,
    /// By form: all items but those that are damaged or that somebody wrote into.
    #[serde(skip)]
    pub forms: BTreeMap<Form, u64>,
    /// Whether these are all items of the table: then there is nothing to estimate.
    pub whole: bool,
}

/// How an item is protected, and what it would take to bring it to the target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Form {
    /// The least that has to be done.
    pub need: Need,
    /// How it is sealed; `None` for plaintext.
    pub sealed: Option<SealedForm>,
}

/// How an item is sealed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SealedForm {
    /// Who can open it, in order of their names.
    pub recipients: Vec<Recipient>,
    /// The algorithm suite.
    pub suite: Suite,
    /// The version of the header.
    pub version: u8,
}

/// The least that brings an item to the target; the deepest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// It is at target by its bytes.
    Nothing,
    /// Its data key is wrapped anew: another key, suite or header version, the same attributes encrypted.
    Rewrap,
    /// It is opened and sealed anew: other attributes are encrypted.
    Reencrypt,
    /// It is in plaintext and wants sealing.
    Encrypt,
    /// It is sealed, and the target is plaintext.
    Decrypt,
}

/// A part of the sample, and what share of the table it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Share {
    /// Items of the sample.
    pub items: u64,
    /// The share of the table that is theirs, from 0 to 1: between these two with a confidence of 95 %, if items are
    /// where they are by chance. DynamoDB spreads partition keys by a hash; items of one partition key lie together.
    pub low: f64,
    /// See `low`.
    pub high: f64,
}

/// Items that could not be done, for one kind of reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Refused {
    /// How many.
    pub items: u64,
    /// The reason and the remedy, of the first of them.
    pub detail: String,
}

/// What the values of one attribute look like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Attribute {
    /// Items that have it.
    pub items: u64,
    /// How many values are of each type.
    pub types: BTreeMap<&'static str, u64>,
    /// Bytes of all its values.
    pub bytes: u64,
    /// Bytes of the largest value.
    pub bytes_max: u64,
    /// The job's action; `None` when the job does not name it.
    pub action: Option<Action>,
    /// Whether the signature would cover it.
    pub signed: bool,
}

/// Sizes before and after sealing, of the items that could be sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Growth {
    /// Items sealed for trial.
    pub items: u64,
    /// Bytes of all of them before.
    pub bytes_before: u64,
    /// Bytes of all of them after.
    pub bytes_after: u64,
    /// Bytes of the largest after.
    pub bytes_after_max: u64,
    /// Write capacity units to write all of them.
    pub write_units: u64,
}

impl Census {
    /// Counts one item. Plaintext items are sealed for trial under keys that are thrown away.
    pub fn add(&mut self, policy: &Policy, item: &Item) {
        self.items += 1;
        for (name, value) in item.iter() {
            let attribute = self.attributes.entry(name.to_owned()).or_insert_with(|| Attribute {
                action: policy.schema.action(name),
                signed: policy.schema.in_scope(name),
                ..Attribute::default()
            });
            let bytes = value.size() as u64;
            attribute.items += 1;
            attribute.bytes += bytes;
            attribute.bytes_max = attribute.bytes_max.max(bytes);
            *attribute.types.entry(value.type_name()).or_default() += 1;
        }
        if let Some(form) = Form::of(policy, item) {
            *self.forms.entry(form).or_default() += 1;
        }
        match policy.classify(item) {
            Ok(Verdict::Current(_)) => self.current += 1,
            Ok(Verdict::Sealed(_)) => self.sealed += 1,
            Ok(Verdict::Plain) => match self.growth.add(policy, item) {
                Ok(()) => self.plaintext += 1,
                Err(refusal) => self.refuse(refusal),
            },
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// So many items of a form are at target by their bytes, and a keyring that knows more says that they are not: they
    /// have to be wrapped anew at least.
    pub fn not_current(&mut self, form: &Form, items: u64) {
        let Some(of_form) = self.forms.get_mut(form) else { return };
        let items = items.min(*of_form);
        *of_form -= items;
        self.forms.retain(|_, items| *items > 0);
        self.current = self.current.saturating_sub(items);
        self.sealed += items;
        *self.forms.entry(Form { need: Need::Rewrap, ..form.clone() }).or_default() += items;
    }

    /// What share of the table so many items of the sample stand for.
    #[must_use]
    pub fn share(&self, items: u64) -> Share {
        let (low, high) = if self.whole { exact(items, self.items) } else { wilson(items, self.items) };
        Share { items, low, high }
    }

    /// How many items each recipient can open; an item for two counts with both.
    #[must_use]
    pub fn recipients(&self) -> BTreeMap<&Recipient, u64> {
        let mut sums = BTreeMap::new();
        for (form, items) in &self.forms {
            for recipient in form.sealed.iter().flat_map(|sealed| &sealed.recipients) {
                *sums.entry(recipient).or_default() += items;
            }
        }
        sums
    }

    /// How many items want what.
    #[must_use]
    pub fn needs(&self) -> BTreeMap<Need, u64> {
        let mut sums = BTreeMap::new();
        for (form, items) in &self.forms {
            *sums.entry(form.need).or_default() += items;
        }
        sums
    }

    fn refuse(&mut self, refusal: Refusal) {
        let Refusal { kind, detail } = refusal;
        self.refused.entry(kind.name()).or_insert(Refused { items: 0, detail }).items += 1;
    }
}

impl Form {
    /// The form of an item; `None` when it is damaged, or somebody wrote into it.
    #[must_use]
    pub fn of(policy: &Policy, item: &Item) -> Option<Self> {
        let plaintext_wanted = policy.target == Target::Plaintext;
        Some(match dbesdk::inspect(&policy.schema, item).ok()? {
            Inspection::Plaintext if plaintext_wanted => Self { need: Need::Nothing, sealed: None },
            Inspection::Plaintext => Self { need: Need::Encrypt, sealed: None },
            Inspection::Sealed(sealed) => {
                let need = need(&policy.schema, &policy.target, &sealed);
                // What follows is all that is counted of it: recipients are not told apart by how often they are named.
                let mut recipients: Vec<Recipient> = sealed.head.recipients().collect();
                recipients.sort_unstable();
                recipients.dedup();
                let (suite, version) = (sealed.head.suite, sealed.head.version);
                Self { need, sealed: Some(SealedForm { recipients, suite, version }) }
            }
        })
    }
}

/// The least that brings a sealed item to the target.
fn need(schema: &Schema, target: &Target, sealed: &Sealed) -> Need {
    match target {
        Target::Plaintext => Need::Decrypt,
        Target::Dbesdk { suite, recipients } if dbesdk::matches(schema, *suite, recipients, sealed) => Need::Nothing,
        Target::Dbesdk { .. } if dbesdk::encrypts_the_same(schema, sealed) => Need::Rewrap,
        Target::Dbesdk { .. } => Need::Reencrypt,
    }
}

fn exact(items: u64, of: u64) -> (f64, f64) {
    let share = if of == 0 { 0.0 } else { items as f64 / of as f64 };
    (share, share)
}

/// The score interval of a share with a confidence of 95 % (E. B. Wilson, "Probable inference, the law of succession, and
/// statistical inference", 1927): it holds for small samples, and for parts of which none or all items were seen.
fn wilson(items: u64, of: u64) -> (f64, f64) {
    /// Standard deviations of the normal distribution that 95 % lie within.
    const Z: f64 = 1.959_964;
    if of == 0 {
        return (0.0, 1.0);
    }
    let (n, share) = (of as f64, items as f64 / of as f64);
    let scale = 1.0 + Z * Z / n;
    let middle = (share + Z * Z / (2.0 * n)) / scale;
    let half = Z / scale * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    // Rounding must not say that what was seen is not there.
    ((middle - half).clamp(0.0, share), (middle + half).clamp(share, 1.0))
}

impl Growth {
    fn add(&mut self, policy: &Policy, item: &Item) -> Result<(), Refusal> {
        let work = policy.prepare(item)?;
        if work.context().is_none() {
            return Ok(());
        }
        let zeros = || Secret::new([0; KEY_BYTES]);
        let trial = |wanted: &Wanted| WrappedKey {
            provider_id: wanted.recipient.provider.clone(),
            provider_info: wanted.recipient.key.clone().into_bytes(),
            ciphertext: vec![0; WRAPPED_BYTES],
            key: zeros(),
        };
        let wrapped: Vec<_> = policy.recipients().iter().map(trial).collect();
        let verified = policy.finish(item, item, work, (&zeros(), [0; 32]), &wrapped)?;
        let (before, after) = (item.size(), verified.rewrite.applied_to(item).size());
        self.items += 1;
        self.bytes_before += before as u64;
        self.bytes_after += after as u64;
        self.bytes_after_max = self.bytes_after_max.max(after as u64);
        self.write_units += u64::from(write_units(before.max(after)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_lie_in_their_interval() {
        // Values of the literature: 95 % score intervals.
        for (items, of, low, high) in [
            (0, 10, 0.0, 0.2775),
            (10, 10, 0.7225, 1.0),
            (1, 10, 0.0179, 0.4042),
            (15, 148, 0.0624, 0.1605),
            (81, 263, 0.2553, 0.3662),
            (0, 0, 0.0, 1.0),
        ] {
            let (found_low, found_high) = wilson(items, of);
            assert!((found_low - low).abs() < 5e-5, "{items} of {of}: {found_low}");
            assert!((found_high - high).abs() < 5e-5, "{items} of {of}: {found_high}");
        }
        let census = Census { items: 8, whole: true, ..Census::default() };
        assert_eq!(census.share(2), Share { items: 2, low: 0.25, high: 0.25 });
        assert_eq!(Census { whole: true, ..Census::default() }.share(0), Share { items: 0, low: 0.0, high: 0.0 });
    }

    #[test]
    fn items_that_are_not_current_after_all_are_counted_as_such() {
        let form = |need, key: &str| {
            let recipients = vec![Recipient { provider: "acme".to_owned(), key: key.to_owned() }];
            Form { need, sealed: Some(SealedForm { recipients, suite: Suite::EcdsaP384, version: 1 }) }
        };
        let forms = [(form(Need::Nothing, "k1"), 5), (form(Need::Rewrap, "k2"), 2)].into();
        let mut census = Census { items: 7, current: 5, sealed: 2, forms, ..Census::default() };
        census.not_current(&form(Need::Nothing, "k1"), 3);
        assert_eq!((census.current, census.sealed), (2, 5));
        assert_eq!(census.needs(), [(Need::Nothing, 2), (Need::Rewrap, 5)].into());
        census.not_current(&form(Need::Nothing, "k1"), 9);
        census.not_current(&form(Need::Nothing, "absent"), 1);
        assert_eq!(census.needs(), [(Need::Rewrap, 7)].into());
        let keys: Vec<_> = census.recipients().into_iter().map(|(of, items)| (of.key.clone(), items)).collect();
        assert_eq!(keys, [("k1".to_owned(), 5), ("k2".to_owned(), 2)]);
    }
}
