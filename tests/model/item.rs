//! The item, its forms and its rewrites: what `format` and `migration` do with bytes, done with small tuples. A foot
//! *is* the tuple that was signed, so it binds exactly that; a ciphertext is its value beside the data key's number.

use std::fmt;

use crate::removed::{Removed, Token, Write};

/// The number of a sealing: its data key and its signature. Only equality means anything.
pub(crate) type Nonce = u8;

/// An attribute as the table holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Field {
    Clear(u8),
    Cipher(u8, Nonce),
}

/// What no application ever wrote: a ciphertext that was taken for plaintext.
const GARBAGE: u8 = 9;

/// Encrypted by every form but plaintext.
pub(crate) const SECRET: usize = 0;
/// Signed by every form but plaintext; may be absent.
pub(crate) const NOTE: usize = 1;
/// Unsigned in the old form. What the new form does with it is the world's to say.
pub(crate) const COUNT: usize = 2;
pub(crate) const NAMES: [&str; 3] = ["secret", "note", "count"];

/// What an application means an item to be, attribute by attribute.
pub(crate) type Contents = [Option<u8>; 3];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Form {
    Plain,
    Old,
    New,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Encrypt,
    Sign,
    Nothing,
}

/// Header and footer together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Foot {
    pub(crate) form: Form,
    nonce: Nonce,
    signed: [Option<Field>; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Item {
    pub(crate) fields: [Option<Field>; 3],
    pub(crate) foot: Option<Foot>,
}

/// A conditional change: from what was read to what was made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Rewrite {
    pub(crate) before: Item,
    pub(crate) after: Item,
}

/// What an item needs, as `Policy::classify` and `Policy::open` say it.
pub(crate) enum Verdict {
    Current,
    Refused,
    Work(Contents),
}

/// What the forms do with each attribute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schema {
    /// What the new form does with the attribute that the old form leaves unsigned.
    pub(crate) count: Action,
}

impl Schema {
    fn action(self, form: Form, attribute: usize) -> Action {
        match (form, attribute) {
            (Form::Plain, _) => Action::Nothing,
            (_, SECRET) => Action::Encrypt,
            (_, NOTE) => Action::Sign,
            (Form::Old, _) => Action::Nothing,
            (Form::New, _) => self.count,
        }
    }

    /// Whether a form's signature covers the attribute, absent or not.
    pub(crate) fn covers(self, form: Form, attribute: usize) -> bool {
        self.action(form, attribute) != Action::Nothing
    }

    pub(crate) fn seal(self, contents: Contents, form: Form, nonce: Nonce) -> Item {
        let field = |attribute: usize| {
            contents[attribute].map(|value| match self.action(form, attribute) {
                Action::Encrypt => Field::Cipher(value, nonce),
                Action::Sign | Action::Nothing => Field::Clear(value),
            })
        };
        let fields = [field(SECRET), field(NOTE), field(COUNT)];
        let signed = |attribute: usize| fields[attribute].filter(|_| self.covers(form, attribute));
        let foot = Foot { form, nonce, signed: [signed(SECRET), signed(NOTE), signed(COUNT)] };
        Item { fields, foot: (form != Form::Plain).then_some(foot) }
    }

    /// Opens an item as every reader of old and new form does; `None` when its signature does not hold.
    pub(crate) fn open(self, item: &Item) -> Option<Contents> {
        let mut contents = [None; 3];
        for (attribute, field) in item.fields.iter().enumerate() {
            if let Some(foot) = item.foot.filter(|foot| self.covers(foot.form, attribute))
                && foot.signed[attribute] != *field
            {
                return None;
            }
            contents[attribute] = match (field, item.foot) {
                (None, _) => None,
                (Some(Field::Clear(value)), _) => Some(*value),
                (Some(Field::Cipher(value, nonce)), Some(foot)) if *nonce == foot.nonce => Some(*value),
                (Some(Field::Cipher(..)), _) => return None,
            };
        }
        Some(contents)
    }

    /// The engine tells by the item's structure whether it is at target and does not open it then; nothing that the
    /// applications of the model do lies between the two.
    pub(crate) fn classify(self, item: &Item, target: Form) -> Verdict {
        match self.open(item) {
            None => Verdict::Refused,
            Some(_) if item.form() == target => Verdict::Current,
            Some(contents) => Verdict::Work(contents),
        }
    }

    pub(crate) fn at_target(self, item: &Item, target: Form) -> bool {
        matches!(self.classify(item, target), Verdict::Current)
    }

    /// Whether the condition of a rewrite holds. `None` is no item.
    pub(crate) fn holds(self, rewrite: &Rewrite, current: Option<&Item>, removed: Option<Removed>) -> bool {
        let Some(current) = current else {
            // Without `attribute_exists`, a missing item is one without attributes.
            let nothing = Item { fields: [None; 3], foot: None };
            return removed == Some(Removed::W(Write::Upsert)) && self.holds(rewrite, Some(&nothing), removed);
        };
        removed == Some(Removed::W(Write::Unconditional))
            || current.foot == rewrite.before.foot
                && (0..3)
                    .filter(|attribute| self.in_token(rewrite, *attribute, removed))
                    .all(|attribute| current.fields[attribute] == rewrite.before.fields[attribute])
    }

    /// Whether the condition names the attribute (`Policy::token`): it is touched, or was absent, or will be covered by
    /// a signature and was not.
    fn in_token(self, rewrite: &Rewrite, attribute: usize, removed: Option<Removed>) -> bool {
        let Rewrite { before, after } = rewrite;
        let touched = before.fields[attribute] != after.fields[attribute];
        let absent = before.fields[attribute].is_none();
        let newly_covered = self.covers(after.form(), attribute) && !self.covers(before.form(), attribute);
        match removed {
            Some(Removed::T(Token::FootOnly)) => false,
            Some(Removed::T(Token::AbsentNotNamed)) => !absent && (touched || newly_covered),
            Some(Removed::T(Token::NewlyCoveredNotNamed)) => touched || absent,
            _ => touched || absent || newly_covered,
        }
    }
}

impl Item {
    pub(crate) fn form(&self) -> Form {
        self.foot.map_or(Form::Plain, |foot| foot.form)
    }

    /// The item as somebody sees it who does not look whether it is sealed.
    pub(crate) fn taken_for_plain(&self) -> Contents {
        self.fields.map(|field| {
            field.map(|field| match field {
                Field::Clear(value) => value,
                Field::Cipher(..) => GARBAGE,
            })
        })
    }

    pub(crate) fn nonces(&self) -> impl Iterator<Item = Nonce> {
        let ciphers = self.fields.into_iter().flatten().filter_map(|field| match field {
            Field::Cipher(_, nonce) => Some(nonce),
            Field::Clear(_) => None,
        });
        ciphers.chain(self.foot.map(|foot| foot.nonce))
    }
}

impl Rewrite {
    /// The item after the change: what the rewrite touches, and nothing else.
    pub(crate) fn applied_to(&self, current: Option<&Item>, removed: Option<Removed>) -> Item {
        if removed == Some(Removed::W(Write::PutOfImage)) {
            return self.after;
        }
        let mut item = current.copied().unwrap_or(Item { fields: [None; 3], foot: None });
        for attribute in 0..3 {
            if self.before.fields[attribute] != self.after.fields[attribute] {
                item.fields[attribute] = self.after.fields[attribute];
            }
        }
        item.foot = self.after.foot;
        item
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, field) in NAMES.iter().zip(self.fields) {
            match field {
                None => {}
                Some(Field::Clear(value)) => write!(f, "{name}={value} ")?,
                Some(Field::Cipher(value, nonce)) => write!(f, "{name}=<{value}>{nonce} ")?,
            }
        }
        match self.foot {
            None => write!(f, "(plaintext)"),
            Some(foot) => {
                write!(f, "({} form, signature {})", if foot.form == Form::Old { "old" } else { "new" }, foot.nonce)
            }
        }
    }
}
