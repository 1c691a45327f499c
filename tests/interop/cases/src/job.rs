//! The job file's `[attributes]`, all that comparing needs of it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Failure;

/// The crypto actions.
#[derive(Clone, Copy, PartialEq)]
pub enum Action {
    Encrypt,
    SignOnly,
    SignAndInclude,
    DoNothing,
}

const NAMES: [(Action, &str); 4] = [
    (Action::Encrypt, "ENCRYPT_AND_SIGN"),
    (Action::SignOnly, "SIGN_ONLY"),
    (Action::SignAndInclude, "SIGN_AND_INCLUDE_IN_ENCRYPTION_CONTEXT"),
    (Action::DoNothing, "DO_NOTHING"),
];

impl Action {
    /// As job files spell it.
    pub fn as_str(self) -> &'static str {
        NAMES.into_iter().find(|(action, _)| *action == self).map_or("", |(_, name)| name)
    }
}

/// What a job says of each attribute, of the suite and of the recipients.
pub struct Job {
    /// The action of each attribute.
    pub actions: BTreeMap<String, Action>,
    /// Whether the suite has an ECDSA signature.
    pub ecdsa: bool,
    /// How many recipients a sealed item has.
    pub recipients: usize,
}

impl Job {
    /// Reads a job file that [`crate::generate`] wrote.
    ///
    /// # Errors
    /// When it cannot be read or has another form.
    pub fn read(file: &Path) -> Result<Self, Failure> {
        let job: toml::Table = std::fs::read_to_string(file)?.parse()?;
        let section = |name: &str| job.get(name).and_then(toml::Value::as_table).ok_or_else(|| format!("no [{name}]"));
        let actions = section("attributes")?.iter().map(|(name, action)| {
            let known = NAMES.into_iter().find(|(_, text)| action.as_str() == Some(text));
            Ok((name.clone(), known.ok_or_else(|| format!("{name:?}: unknown action"))?.0))
        });
        let target = section("target")?;
        let suite = target.get("suite").and_then(toml::Value::as_str).unwrap_or("ECDSA");
        // Where there are children, there is a generator.
        let children = target.get("keyring").and_then(|keyring| keyring.get("children")?.as_array());
        Ok(Self {
            actions: actions.collect::<Result<_, Failure>>()?,
            ecdsa: suite.contains("ECDSA"),
            recipients: 1 + children.map_or(0, Vec::len),
        })
    }

    /// The header version that the actions bring about.
    pub fn version(&self) -> u8 {
        if self.actions.values().any(|action| *action == Action::SignAndInclude) { 2 } else { 1 }
    }
}
