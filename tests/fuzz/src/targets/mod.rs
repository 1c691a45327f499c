//! What is demanded of reseal whatever bytes it is given. A panic is a finding, and so is whatever these assertions
//! refuse. The fuzz targets call these functions, and `tests/corpus.rs` does with the committed corpora.

mod head;
mod item;
mod job;
mod journal;
mod json;
mod value;

pub use head::{edks, head};
pub use item::{EDIT_BYTES, foot, item};
pub use job::job;
pub use journal::journal;
pub use json::json;
pub use value::value;

/// A target's name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const ALL: [Target; 8] = [
    ("edks", edks),
    ("foot", foot),
    ("head", head),
    ("item", item),
    ("job", job),
    ("journal", journal),
    ("json", json),
    ("value", value),
];
