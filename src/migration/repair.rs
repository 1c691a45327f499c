//! Items that an application wrote into without sealing them anew: how the images of the stream tell, and how the
//! present item is repaired on the word of an image that verifies.
//!
//! Whoever can write to the table could have such an item signed by a repair: it takes over what was written as it is.
//! What it does not do is to trust anything else of the item: all that was not written is taken from an image that was
//! opened, and so verified.

use super::{Expected, FailureKind, Refusal, Rewrite};
use crate::format::dbesdk::{FOOT, HEAD, looks_encrypted};
use crate::format::{Action, Schema};
use crate::item::Item;

/// What becomes of a sealed item that somebody wrote into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnMixed {
    /// It goes to the failure ledger and is left alone.
    #[default]
    Quarantine,
    /// It is sealed anew with what was written, where the stream proves what that is.
    Repair,
}

/// One change of an item: how it was before and after, as far as the stream tells.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// Before.
    pub old: Option<&'a Item>,
    /// After.
    pub new: Option<&'a Item>,
}

/// What a change did to the signature of an item that was sealed before and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// One of the two was not sealed, or is not known.
    Fresh,
    /// Header and footer are others.
    Sealed,
    /// Header and footer are as before, and so is all that they sign.
    Unsigned,
    /// Header and footer are as before, and something that they sign is not; or one of the two without the other.
    Raw,
}

impl Link {
    fn of(schema: &Schema, Change { old, new }: Change<'_>) -> Self {
        match (old, new) {
            (Some(old), Some(new)) if old.contains(FOOT) && new.contains(FOOT) => {
                match (same(old, new, HEAD), same(old, new, FOOT)) {
                    (false, false) => Self::Sealed,
                    (true, true) if same_content(schema, old, new) => Self::Unsigned,
                    _ => Self::Raw,
                }
            }
            _ => Self::Fresh,
        }
    }
}

fn same(a: &Item, b: &Item, name: &str) -> bool {
    match (a.get(name), b.get(name)) {
        (Some(a), Some(b)) => a.same(b),
        (None, None) => true,
        _ => false,
    }
}

/// Whether header and footer are the same.
#[must_use]
pub fn same_signature(a: &Item, b: &Item) -> bool {
    same(a, b, HEAD) && same(a, b, FOOT)
}

/// The attributes in the signature's scope that are not the same; some of them twice.
pub(super) fn differing<'a>(schema: &'a Schema, a: &'a Item, b: &'a Item) -> impl Iterator<Item = &'a str> {
    a.names().chain(b.names()).filter(|name| schema.in_scope(name) && !same(a, b, name))
}

/// Whether all that a signature covers is the same.
fn same_content(schema: &Schema, a: &Item, b: &Item) -> bool {
    differing(schema, a, b).next().is_none()
}

/// The changes of one item in their order, followed from the first raw write on. Whenever [`Trail::wants`] gives an
/// image, [`Trail::opened`] must say what it opens to.
#[derive(Debug)]
pub struct Trail<'a> {
    schema: &'a Schema,
    changes: Vec<Change<'a>>,
    next: usize,
    state: State,
    wanted: Option<Wanted>,
}

#[derive(Debug)]
enum State {
    /// Nothing is held against the item, save what it was before.
    Fresh,
    /// It was this, and only raw writes came since.
    Since(Box<Before>),
    /// A raw write came since this change, and nobody knows what the item was before.
    Lost(usize),
}

#[derive(Debug)]
enum Wanted {
    /// The image before the first raw write.
    First,
    /// The image that a rewrite must have been made for.
    Carried(Box<Before>),
}

/// Where a trail ends.
#[derive(Debug)]
pub enum End {
    /// The item is this one with raw writes.
    Written(Box<Before>),
    /// It was sealed anew after a raw write, or the raw writes were undone: it is whole if it opens.
    Doubtful,
    /// Raw writes broke its signature, and no image from before them verifies.
    Mixed,
}

impl<'a> Trail<'a> {
    /// The trail of an item, from the first raw write among these changes on; with the place of that one. `None` where
    /// there is none.
    #[must_use]
    pub fn find(schema: &'a Schema, changes: Vec<Change<'a>>) -> Option<(usize, Self)> {
        let first = changes.iter().position(|change| Link::of(schema, *change) == Link::Raw)?;
        Some((first, Self { schema, changes, next: first, state: State::Fresh, wanted: None }))
    }

    /// The next image that must be opened; `None` at the end.
    pub fn wants(&mut self) -> Option<Item> {
        while let Some(change) = self.changes.get(self.next) {
            let before = self.next.checked_sub(1).and_then(|before| self.changes[before].new);
            if !before.zip(change.old).is_some_and(|(before, old)| before.same(old)) {
                // Something is missing between the two.
                self.state = State::Fresh;
            }
            self.next += 1;
            match (Link::of(self.schema, *change), std::mem::replace(&mut self.state, State::Fresh)) {
                (Link::Raw, State::Fresh) => {
                    self.wanted = Some(Wanted::First);
                    return change.old.cloned();
                }
                (Link::Sealed, State::Since(before)) => {
                    let image = before.carried(*change);
                    self.wanted = Some(Wanted::Carried(before));
                    return Some(image);
                }
                (Link::Raw | Link::Unsigned, state) => self.state = state,
                (Link::Fresh | Link::Sealed, _) => {}
            }
        }
        None
    }

    /// The image that was wanted opens to this; `None` when it does not open.
    pub fn opened(&mut self, image: Item, plain: Option<Item>) {
        self.state = match (self.wanted.take(), plain) {
            (None, _) => return,
            (Some(Wanted::First), Some(plain)) => State::Since(Box::new(Before { image, plain })),
            (Some(Wanted::First), None) => State::Lost(self.next - 1),
            // A rewrite of ours, made for the item before the raw writes: it sealed the same content.
            (Some(Wanted::Carried(before)), Some(plain)) if plain.same(&before.plain) => {
                State::Since(Box::new(Before { image, ..*before }))
            }
            // Somebody else sealed the item.
            (Some(Wanted::Carried(_)), _) => State::Fresh,
        };
    }

    /// Where it ends, once nothing more is wanted.
    #[must_use]
    pub fn end(self) -> End {
        let last = self.changes.last().and_then(|change| change.new);
        let undone = |before: &Item| last.is_some_and(|last| same_content(self.schema, before, last));
        match self.state {
            State::Since(before) if !undone(&before.image) => End::Written(before),
            State::Lost(at) if !self.changes[at].old.is_some_and(undone) => End::Mixed,
            State::Fresh | State::Since(_) | State::Lost(_) => End::Doubtful,
        }
    }
}

/// A sealed item that was opened, and so verified: how the item was before raw writes.
#[derive(Debug)]
pub struct Before {
    image: Item,
    plain: Item,
}

impl Before {
    /// The item with what a change changed.
    fn carried(&self, Change { old, new }: Change<'_>) -> Item {
        let mut image = self.image.clone();
        if let (Some(old), Some(new)) = (old, new) {
            for name in old.names().chain(new.names()).filter(|name| !same(old, new, name)) {
                match new.get(name) {
                    Some(value) => drop(image.insert(name, value.clone())),
                    None => drop(image.remove(name)),
                }
            }
        }
        image
    }

    /// Whether an item is this one with raw writes, as far as header and footer tell.
    #[must_use]
    pub fn became(&self, now: &Item) -> bool {
        same_signature(&self.image, now)
    }

    /// The item in plaintext with the raw writes that made it what it is now: all that is signed and was not written is
    /// taken from the image that was verified.
    ///
    /// # Errors
    /// [`Refusal`] when what was written looks like a ciphertext: nobody knows what it is.
    pub fn merge(&self, schema: &Schema, now: &Item) -> Result<Item, Refusal> {
        let mut merged = Item::new();
        for (name, value) in now.iter().filter(|(name, _)| *name != HEAD && *name != FOOT) {
            let value = match self.plain.get(name) {
                Some(plain) if same(&self.image, now, name) => plain,
                _ if looks_encrypted(value) && self.encrypts(schema, name) => {
                    let detail = format!(
                        "somebody wrote what looks like a ciphertext into \"{name}\" of the sealed item, and it is not \
                         repaired with that; have an application put the whole item"
                    );
                    return Err(Refusal::new(FailureKind::Mixed, detail));
                }
                _ => value,
            };
            merged.insert(name, value.clone());
        }
        Ok(merged)
    }

    /// Whether the attribute was encrypted, or is to be.
    fn encrypts(&self, schema: &Schema, name: &str) -> bool {
        schema.action(name) == Some(Action::EncryptAndSign) || !same(&self.image, &self.plain, name)
    }
}

/// The rewrite under a condition that covers all of the item that its signature will cover, as if it were in plaintext:
/// the signature that is there covers nothing any more, and the next raw write leaves it as it is (rule T).
#[must_use]
pub fn guarded(schema: &Schema, now: &Item, mut rewrite: Rewrite) -> Rewrite {
    for (name, value) in now.iter().filter(|(name, _)| schema.in_scope(name) && !schema.keys.contains(name)) {
        if rewrite.condition.iter().all(|(covered, _)| covered != name) {
            rewrite.condition.push((name.to_owned(), Expected::Equals(value.clone())));
        }
    }
    rewrite
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Unsigned;
    use crate::item::{KeyNames, Value};

    fn schema() -> Schema {
        Schema {
            logical_table: "t".to_owned(),
            keys: KeyNames { partition: "id".to_owned(), sort: None },
            actions: [("id", Action::SignOnly), ("secret", Action::EncryptAndSign), ("region", Action::SignOnly)]
                .map(|(name, action)| (name.to_owned(), action))
                .into(),
            unsigned: Unsigned { names: ["visits".to_owned()].into(), prefix: None },
        }
    }

    /// An item whose header and footer say how it was sealed.
    fn item(seal: &str, region: &str, visits: &str) -> Item {
        [("id", "1"), ("secret", "(sealed)"), ("region", region), ("visits", visits), (HEAD, seal), (FOOT, seal)]
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .into_iter()
            .collect()
    }

    fn plain(of: &Item) -> Item {
        let mut plain = of.clone();
        plain.insert("secret", Value::from("4711"));
        plain.remove(HEAD);
        plain.remove(FOOT);
        plain
    }

    /// Follows changes; whether an image opens is asked. Gives the images that were wanted, and the end.
    fn follow(changes: &[(Option<&Item>, Option<&Item>)], opens: impl Fn(&Item) -> bool) -> Option<(Vec<Item>, End)> {
        let schema = schema();
        let changes = changes.iter().map(|(old, new)| Change { old: *old, new: *new }).collect();
        let (_, mut trail) = Trail::find(&schema, changes)?;
        let mut wanted = Vec::new();
        while let Some(image) = trail.wants() {
            wanted.push(image.clone());
            let plain = opens(&image).then(|| plain(&image));
            trail.opened(image, plain);
        }
        Some((wanted, trail.end()))
    }

    #[test]
    fn a_trail_begins_with_a_raw_write() {
        let (eu, us, counted) = (item("a", "eu", "1"), item("a", "us", "1"), item("a", "eu", "2"));
        let (anew, plain) = (item("b", "us", "1"), plain(&eu));
        for (old, new, begins) in [
            (Some(&eu), Some(&us), true),
            (Some(&eu), Some(&counted), false),
            (Some(&eu), Some(&anew), false),
            (Some(&plain), Some(&us), false),
            (Some(&eu), Some(&plain), false),
            (None, Some(&us), false),
            (Some(&eu), None, false),
        ] {
            assert_eq!(follow(&[(old, new)], |_| true).is_some(), begins, "{old:?} {new:?}");
        }
    }

    #[test]
    fn the_image_before_the_first_raw_write_is_opened_once() {
        let (eu, us, asia) = (item("a", "eu", "1"), item("a", "us", "1"), item("a", "asia", "2"));
        let changes = [(Some(&eu), Some(&us)), (Some(&us), Some(&asia))];
        let (wanted, end) = follow(&changes, |_| true).unwrap();
        assert_eq!(wanted, std::slice::from_ref(&eu));
        let End::Written(before) = end else { panic!("{end:?}") };
        let mut expected = plain(&eu);
        expected.insert("region", Value::from("asia"));
        expected.insert("visits", Value::from("2"));
        assert_eq!(before.merge(&schema(), &asia).unwrap(), expected);
        let (wanted, end) = follow(&changes, |_| false).unwrap();
        assert!(wanted.len() == 1 && matches!(end, End::Mixed), "{end:?}");
    }

    #[test]
    fn what_is_missing_between_two_changes_is_not_vouched_for() {
        let (eu, us, asia) = (item("a", "eu", "1"), item("a", "us", "1"), item("a", "asia", "1"));
        let (africa, counted) = (item("a", "africa", "1"), item("a", "africa", "2"));
        // From "us" to "asia" nobody knows how: the image in between must verify, and does not.
        let broken = [(Some(&eu), Some(&us)), (Some(&asia), Some(&africa))];
        let (wanted, end) = follow(&broken, |image| *image == eu).unwrap();
        assert_eq!(wanted, [eu.clone(), asia.clone()]);
        assert!(matches!(end, End::Mixed), "{end:?}");
        let broken = [(Some(&eu), Some(&us)), (Some(&africa), Some(&counted))];
        let (_, end) = follow(&broken, |image| *image == eu).unwrap();
        assert!(matches!(end, End::Doubtful), "{end:?}");
    }

    #[test]
    fn a_rewrite_in_between_is_taken_over_if_it_sealed_the_same() {
        let (eu, us) = (item("a", "eu", "1"), item("a", "us", "1"));
        let (anew, carried) = (item("b", "us", "1"), item("b", "eu", "1"));
        let changes = [(Some(&eu), Some(&us)), (Some(&us), Some(&anew))];
        let (wanted, end) = follow(&changes, |_| true).unwrap();
        assert_eq!(wanted, [eu.clone(), carried.clone()]);
        let End::Written(before) = end else { panic!("{end:?}") };
        assert!(before.became(&anew) && !before.became(&us));
        let (_, end) = follow(&changes, |image| *image == eu).unwrap();
        assert!(matches!(end, End::Doubtful), "{end:?}");
    }

    #[test]
    fn header_and_footer_change_together_or_somebody_wrote_into_them() {
        let (eu, us) = (item("a", "eu", "1"), item("a", "us", "1"));
        for name in [HEAD, FOOT] {
            let mut torn = us.clone();
            torn.insert(name, Value::from("b"));
            let (wanted, end) = follow(&[(Some(&us), Some(&torn))], |_| true).unwrap();
            assert!(wanted == std::slice::from_ref(&us) && matches!(end, End::Doubtful), "{end:?}");
            let (_, end) = follow(&[(Some(&eu), Some(&us)), (Some(&us), Some(&torn))], |_| true).unwrap();
            assert!(matches!(end, End::Written(before) if !before.became(&torn)));
        }
    }

    #[test]
    fn what_is_whole_again_is_only_doubted() {
        let (eu, us, back) = (item("a", "eu", "1"), item("a", "us", "1"), item("a", "eu", "2"));
        let plain = plain(&eu);
        for opens in [true, false] {
            let (_, end) = follow(&[(Some(&eu), Some(&us)), (Some(&us), Some(&back))], |_| opens).unwrap();
            assert!(matches!(end, End::Doubtful), "{end:?}");
            let (_, end) = follow(&[(Some(&eu), Some(&us)), (Some(&us), Some(&plain))], |_| opens).unwrap();
            assert!(matches!(end, End::Doubtful), "{end:?}");
        }
    }

    #[test]
    fn the_condition_covers_all_that_is_signed() {
        let now = item("a", "us", "1");
        let key = schema().keys.key_of(&now).unwrap();
        let condition = vec![("secret".to_owned(), Expected::Absent)];
        let rewrite = Rewrite { key, set: vec![], remove: vec![], condition: condition.clone(), bytes: 1 };
        let region = ("region".to_owned(), Expected::Equals(Value::from("us")));
        assert_eq!(guarded(&schema(), &now, rewrite).condition, [condition, vec![region]].concat());
    }
}
