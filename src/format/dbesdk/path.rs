//! Canonical paths: what binds a value to its table and its name, and the order of the attributes (AWS Database
//! Encryption SDK specification, `structured-encryption/header.md`, "Canonical Path").

use std::cmp::Ordering;

/// Makes the canonical paths of one table's attributes, one after the other in the same buffer.
pub(super) struct Paths {
    buffer: Vec<u8>,
    /// The part that all paths of the table share.
    table: usize,
}

impl Paths {
    pub(super) fn new(logical_table: &str) -> Self {
        let mut buffer = Vec::with_capacity(logical_table.len() + 64);
        buffer.extend_from_slice(logical_table.as_bytes());
        buffer.extend_from_slice(&1_u64.to_be_bytes());
        buffer.push(b'$');
        Self { table: buffer.len(), buffer }
    }

    /// The canonical path of a top-level attribute.
    pub(super) fn of(&mut self, name: &str) -> &[u8] {
        self.buffer.truncate(self.table);
        self.buffer.extend_from_slice(&length(name).to_be_bytes());
        self.buffer.extend_from_slice(name.as_bytes());
        &self.buffer
    }
}

/// The length that a canonical path gives: the official clients count UTF-16 code units, not bytes.
fn length(name: &str) -> u64 {
    let units = if name.is_ascii() { name.len() } else { name.encode_utf16().count() };
    units as u64
}

/// The order of the attributes in legend and signature: that of their canonical paths' bytes.
pub(super) fn order(a: &str, b: &str) -> Ordering {
    length(a).cmp(&length(b)).then_with(|| a.as_bytes().cmp(b.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_utf16_code_units() {
        let mut paths = Paths::new("t\u{e9}");
        let cases: [(&str, &[u8]); 3] = [
            ("ab", b"t\xc3\xa9\0\0\0\0\0\0\0\x01$\0\0\0\0\0\0\0\x02ab"),
            ("\u{e9}", b"t\xc3\xa9\0\0\0\0\0\0\0\x01$\0\0\0\0\0\0\0\x01\xc3\xa9"),
            ("\u{1f600}k", b"t\xc3\xa9\0\0\0\0\0\0\0\x01$\0\0\0\0\0\0\0\x03\xf0\x9f\x98\x80k"),
        ];
        for (name, expected) in cases {
            assert_eq!(paths.of(name), expected);
        }
    }

    #[test]
    fn shorter_names_first_then_by_bytes() {
        let mut names = ["bb", "a", "\u{1f600}", "\u{e9}", "aa", "b", "\u{ff5e}\u{ff5e}"];
        let mut by_path = names;
        names.sort_by(|a, b| order(a, b));
        assert_eq!(names, ["a", "b", "\u{e9}", "aa", "bb", "\u{ff5e}\u{ff5e}", "\u{1f600}"]);
        let mut paths = Paths::new("t");
        by_path.sort_by_key(|name| paths.of(name).to_vec());
        assert_eq!(names, by_path);
    }
}
