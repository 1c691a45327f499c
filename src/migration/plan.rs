//! What a run is bound to: a resume under anything else is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that a checkpoint depends on, field by field, as text: table, table id, keys, segments, forms, actions,
/// keyrings. Budgets are not part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(BTreeMap<String, String>);

/// A field in which the stored plan and the present one differ.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the state belongs to another plan: {field} was {stored:?} and is now {present:?}; restore the job file, or start \
     anew with another --state-dir"
)]
pub struct Mismatch {
    /// The field.
    pub field: String,
    /// Its value when the state was made.
    pub stored: String,
    /// Its value now.
    pub present: String,
}

impl Fingerprint {
    /// A field's text.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&str> {
        self.0.get(field).map(String::as_str)
    }

    /// The fields and their texts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(field, text)| (field.as_str(), text.as_str()))
    }

    /// Demands that this, the stored fingerprint, is the same as the present one.
    ///
    /// # Errors
    /// [`Mismatch`] with the first field that differs.
    pub fn demand(&self, present: &Self) -> Result<(), Mismatch> {
        let fields = self.0.keys().chain(present.0.keys());
        for field in fields {
            let text = |fingerprint: &Self| fingerprint.0.get(field).cloned().unwrap_or_else(|| "(none)".to_owned());
            let (stored, present) = (text(self), text(present));
            if stored != present {
                return Err(Mismatch { field: field.clone(), stored, present });
            }
        }
        Ok(())
    }
}

impl FromIterator<(String, String)> for Fingerprint {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_differing_field_is_named() {
        let plan = |id: &str| -> Fingerprint {
            [("table".to_owned(), "t".to_owned()), ("table id".to_owned(), id.to_owned())].into_iter().collect()
        };
        assert_eq!(plan("1").demand(&plan("1")), Ok(()));
        assert_eq!(plan("1").demand(&plan("2")).unwrap_err().field, "table id");
        let more: Fingerprint = [("suite".to_owned(), "x".to_owned())].into_iter().collect();
        assert!(Fingerprint::from_iter([]).demand(&more).is_err());
    }
}
