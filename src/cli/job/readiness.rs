//! What a job must state about the applications that use the table before anything is written.

use super::refusal::{Fault, Refusal};
use super::section::Section;
use super::{Job, Target};
use crate::migration::OnMixed;

const SCHEMA: [&str; 2] = ["open", "frozen"];
const READERS: [&str; 1] = ["accept-both"];
const WRITERS: [&str; 1] = ["whole-item"];

/// What the job states about the applications that use the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statements {
    /// `schema = "frozen"`: no application adds an attribute that the job does not name.
    pub frozen_schema: bool,
    /// `readers = "accept-both"`: every reader accepts items in the old and in the new form.
    pub readers_accept_both: bool,
    /// `writers = "whole-item"`: applications write with `PutItem` only, attributes outside the signature aside, and no
    /// condition of theirs names an attribute to be encrypted.
    pub writers_whole_item: bool,
}

impl Statements {
    pub(super) fn read(table: &Section<'_>) -> Result<Self, Fault> {
        let stated = |field, words: &'static [&'static str], word: &str| -> Result<bool, Fault> {
            let found = table.text(field)?.map(|found| {
                found
                    .parse(|found| if words.contains(&&*found) { Ok(found) } else { Err(Refusal::word(&found, words)) })
            });
            Ok(found.transpose()?.is_some_and(|found| found.value == word))
        };
        Ok(Self {
            frozen_schema: stated("schema", &SCHEMA, "frozen")?,
            readers_accept_both: stated("readers", &READERS, "accept-both")?,
            writers_whole_item: stated("writers", &WRITERS, "whole-item")?,
        })
    }
}

/// The job does not state what has to be true before a table may be rewritten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the job does not state that the applications are ready: {}", missing.join("; "))]
pub struct NotReady {
    /// The statements that are missing, each with its meaning.
    pub missing: Vec<&'static str>,
}

impl NotReady {
    /// The three steps that lead there.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        "a table is changed over in three steps.\n  \
         1. Deploy readers that accept plaintext and encrypted items (in AWS's library: plaintext override\n     \
         FORCE_PLAINTEXT_WRITE_ALLOW_PLAINTEXT_READ), and stop partial updates of attributes that will be signed.\n  \
         2. Deploy writers that encrypt (FORBID_PLAINTEXT_WRITE_ALLOW_PLAINTEXT_READ), and rewrite what is there: this run.\n  \
         3. When `reseal verify` exits 0, deploy readers that refuse plaintext (FORBID_PLAINTEXT_WRITE_FORBID_PLAINTEXT_READ).\n\
         state under [table] what is true after step 1; what is stated there and is not true loses data"
    }
}

impl Job {
    /// Whether the job states what has to be true before anything is written.
    ///
    /// # Errors
    /// [`NotReady`] with everything that is missing.
    pub fn readiness(&self) -> Result<(), NotReady> {
        let stated = self.statements;
        // Of an item that somebody wrote into, the signature covers nothing any more.
        let repairs = self.source.on_mixed == OnMixed::Repair;
        let seals_unsigned = (self.source.plaintext || repairs) && self.target != Target::Plaintext;
        let schema_fixed = stated.frozen_schema || self.schema.unsigned.prefix.is_some() || !seals_unsigned;
        let needed = [
            (
                stated.readers_accept_both,
                "readers = \"accept-both\" (every reader accepts items in the old and in the new form)",
            ),
            (
                stated.writers_whole_item,
                "writers = \"whole-item\" (applications write with PutItem only, unsigned attributes aside, and no \
                 condition, filter or version check of theirs names an attribute to be encrypted)",
            ),
            (
                schema_fixed,
                "schema = \"frozen\" (no application adds an attribute that the job does not name), or an \
                 unsigned.prefix that new attributes carry",
            ),
        ];
        let missing: Vec<_> = needed.into_iter().filter(|(stated, _)| !stated).map(|(_, name)| name).collect();
        if missing.is_empty() { Ok(()) } else { Err(NotReady { missing }) }
    }
}
