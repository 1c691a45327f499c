//! What a reader and a writer of a table agree on: the crypto action of each attribute.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::item::KeyNames;

/// What happens to an attribute, in AWS's own words (AWS Database Encryption SDK developer guide, "Attribute actions").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Action {
    /// Encrypted, and covered by the signature.
    EncryptAndSign,
    /// In clear, covered by the signature.
    SignOnly,
    /// In clear, covered by the signature, and part of the encryption context. Makes items of header version 2.
    SignAndIncludeInEncryptionContext,
    /// Left alone: neither encrypted nor covered.
    DoNothing,
}

impl Action {
    /// The name in AWS's own words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EncryptAndSign => "ENCRYPT_AND_SIGN",
            Self::SignOnly => "SIGN_ONLY",
            Self::SignAndIncludeInEncryptionContext => "SIGN_AND_INCLUDE_IN_ENCRYPTION_CONTEXT",
            Self::DoNothing => "DO_NOTHING",
        }
    }
}

/// Which attributes stay outside the signature.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unsigned {
    /// By name.
    pub names: BTreeSet<String>,
    /// By how the name begins.
    pub prefix: Option<String>,
}

impl Unsigned {
    /// Whether the attribute is declared unsigned.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name) || self.prefix.as_deref().is_some_and(|prefix| name.starts_with(prefix))
    }
}

/// How the items of a table are protected: everything that a reader must be configured with, keys aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// The logical table name: part of every signature and context, stored in no item.
    pub logical_table: String,
    /// The table's key attributes.
    pub keys: KeyNames,
    /// The action of each configured attribute, keys included.
    pub actions: BTreeMap<String, Action>,
    /// The attributes outside the signature.
    pub unsigned: Unsigned,
}

/// The prefix of attribute names that belong to the Database Encryption SDK (header, footer, beacons): never signed,
/// never encrypted.
pub const RESERVED_PREFIX: &str = "aws_dbe_";

impl Schema {
    /// Whether the signature must cover the attribute: every attribute that is neither declared unsigned nor reserved by
    /// the format, configured or not (rule S).
    #[must_use]
    pub fn in_scope(&self, name: &str) -> bool {
        !name.starts_with(RESERVED_PREFIX) && !self.unsigned.contains(name)
    }

    /// The configured action of an attribute.
    #[must_use]
    pub fn action(&self, name: &str) -> Option<Action> {
        self.actions.get(name).copied()
    }

    /// Whether any attribute is part of the encryption context, which makes items of header version 2.
    #[must_use]
    pub fn includes_context(&self) -> bool {
        self.actions.values().any(|action| *action == Action::SignAndIncludeInEncryptionContext)
    }
}
