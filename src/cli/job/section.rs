//! One table of the job file, read key by key, with the place of everything in it.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::refusal::{Fault, Place, Refusal, nearest};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

impl<T> At<T> {
    /// The value in another form, refused at its own place.
    pub(super) fn parse<U>(self, parse: impl FnOnce(T) -> Result<U, Refusal>) -> Result<At<U>, Fault> {
        match parse(self.value) {
            Ok(value) => Ok(At { value, place: self.place }),
            Err(refusal) => Err(Fault { place: self.place, refusal }),
        }
    }
}

/// A table of the file. Unknown keys were refused when it was opened.
pub(super) struct Section<'a> {
    text: &'a str,
    table: &'a DeTable<'a>,
    place: Place,
}

impl<'a> Section<'a> {
    /// The whole file, which may have these keys and no others.
    pub(super) fn root(text: &'a str, table: &'a DeTable<'a>, known: &[&'static str]) -> Result<Self, Fault> {
        let section = Self { text, table, place: Place { field: String::new(), line: 1 } };
        section.refuse_unknown(known)?;
        Ok(section)
    }

    /// Where the section stands.
    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    fn refuse_unknown(&self, known: &[&'static str]) -> Result<(), Fault> {
        let unknown = self.table.keys().find(|key| !known.contains(&key.get_ref().as_ref()));
        let Some(key) = unknown else { return Ok(()) };
        let refusal = Refusal::UnknownField { nearest: nearest(key.get_ref(), known), known: known.join(", ") };
        Err(Fault { place: self.place_of(key.get_ref(), &key.span()), refusal })
    }

    /// The first field, in the file's order, that is none of these.
    pub(super) fn other_than(&self, known: &[&str]) -> Option<Place> {
        let others = self.table.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        let first = others.min_by_key(|key| key.span().start)?;
        Some(self.place_of(first.get_ref(), &first.span()))
    }

    fn place_of(&self, key: &str, span: &Range<usize>) -> Place {
        let field = if self.place.field.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place.field) };
        let before = self.text.get(..span.start).unwrap_or(self.text);
        Place { field, line: 1 + before.matches('\n').count() }
    }

    /// Where a key stands, if it is there.
    pub(super) fn place_of_field(&self, key: &str) -> Option<Place> {
        self.get(key).map(|found| found.place)
    }

    fn get(&self, key: &str) -> Option<At<&'a DeValue<'a>>> {
        let (name, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(At { value: value.get_ref(), place: self.place_of(key, &name.span()) })
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a DeValue<'a>) -> Option<T>,
    ) -> Result<Option<At<T>>, Fault> {
        let Some(found) = self.get(key) else { return Ok(None) };
        found.parse(|value| read(value).ok_or_else(|| Refusal::Type { expected, found: value.type_str() })).map(Some)
    }

    /// A string.
    pub(super) fn text(&self, key: &str) -> Result<Option<At<String>>, Fault> {
        let text = self.typed(key, "a string", |value| value.as_str().map(str::to_owned))?;
        match text {
            Some(At { value, place }) if value.is_empty() => Err(Fault { place, refusal: Refusal::Empty }),
            text => Ok(text),
        }
    }

    /// A string that has to be there.
    pub(super) fn required_text(&self, key: &str) -> Result<At<String>, Fault> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    /// A whole number, not negative.
    pub(super) fn number(&self, key: &str) -> Result<Option<At<u64>>, Fault> {
        self.typed(key, "a whole number that is not negative", |value| {
            let number = value.as_integer()?;
            u64::from_str_radix(number.as_str(), number.radix()).ok()
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str) -> Result<Option<At<bool>>, Fault> {
        self.typed(key, "true or false", DeValue::as_bool)
    }

    /// An array of strings.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<At<String>>>, Fault> {
        let list = self.typed(key, "an array of strings", |value| {
            let member = |member: &Spanned<DeValue<'_>>| {
                let value = member.get_ref().as_str()?.to_owned();
                Some(At { value, place: self.place_of(key, &member.span()) })
            };
            value.as_array()?.iter().map(member).collect()
        })?;
        Ok(list.map(|list| list.value))
    }

    /// A table, which may have these keys and no others.
    pub(super) fn section(&self, key: &str, known: &[&'static str]) -> Result<Option<Self>, Fault> {
        let Some(At { value: table, place }) = self.typed(key, "a table", DeValue::as_table)? else { return Ok(None) };
        let section = Self { text: self.text, table, place };
        section.refuse_unknown(known)?;
        Ok(Some(section))
    }

    /// An array of tables, each of which may have these keys and no others; empty where there is none.
    pub(super) fn sections(&self, key: &str, known: &[&'static str]) -> Result<Vec<Self>, Fault> {
        let tables: Option<At<Vec<&'a Spanned<DeValue<'a>>>>> = self.typed(key, "an array of tables", |value| {
            value.as_array()?.iter().map(|member| member.get_ref().is_table().then_some(member)).collect()
        })?;
        let tables = tables.map(|list| list.value).unwrap_or_default();
        let mut sections = Vec::with_capacity(tables.len());
        for (index, member) in tables.into_iter().enumerate() {
            let Some(table) = member.get_ref().as_table() else { continue };
            let place = self.place_of(&format!("{key}[{index}]"), &member.span());
            let section = Self { text: self.text, table, place };
            section.refuse_unknown(known)?;
            sections.push(section);
        }
        Ok(sections)
    }

    /// A table whose keys are the user's own and whose values are strings.
    pub(super) fn entries(&self, key: &str) -> Result<Vec<(String, At<String>)>, Fault> {
        let Some(At { value: table, place }) = self.typed(key, "a table", DeValue::as_table)? else {
            return Ok(Vec::new());
        };
        let section = Self { text: self.text, table, place };
        let names = table.keys().map(|name| name.get_ref().as_ref());
        names.map(|name: &str| Ok((name.to_owned(), section.required_text(name)?))).collect()
    }

    /// The refusal of a file that lacks a key here.
    pub(super) fn missing(&self, key: &str) -> Fault {
        let Place { field, line } = self.place_of(key, &(0..0));
        let line = self.place.line.max(line);
        Fault { place: Place { field, line }, refusal: Refusal::Missing }
    }
}

/// Parses the text of a file.
pub(super) fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, (usize, String)> {
    DeTable::parse(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or(text);
        // The error's own `Display` quotes the file; its message does not.
        (1 + before.matches('\n').count(), Cow::from(error.message()).into_owned())
    })
}
