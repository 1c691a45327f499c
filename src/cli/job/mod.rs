//! The job file: one TOML document that says everything about a migration, read into a [`Job`] that cannot be wrong
//! offline. What needs the table or a key to be judged (indexes, TTL, key state) is judged later.

mod hierarchy;
mod key;
mod keyring;
mod readiness;
mod refusal;
mod schema;
mod section;

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use crate::crypto::Suite;
use crate::format::Schema;
use crate::migration::{self, Depth, OnMixed, Policy};

pub use hierarchy::{HierarchyRefusal, HierarchySettings};
pub use key::{KeySource, KeySourceError};
pub use keyring::KeyringSettings;
pub use readiness::{NotReady, Statements};
pub use refusal::{Place, Refusal};

use refusal::Fault;
use section::Section;

const ROOT: [&str; 7] = ["version", "table", "attributes", "unsigned", "source", "target", "budget"];
const TABLE: [&str; 8] =
    ["name", "partition_key", "sort_key", "logical_name", "schema", "readers", "writers", "acknowledge"];
const SOURCE: [&str; 3] = ["formats", "keyrings", "on_mixed"];
const ON_MIXED: [&str; 2] = ["quarantine", "repair"];
const TARGET: [&str; 5] = ["format", "suite", "depth", "refresh_key_material", "keyring"];
const DEPTHS: [&str; 2] = ["reencrypt", "rewrap"];
const BUDGET: [&str; 3] = ["read_units_per_second", "write_units_per_second", "kms_requests_per_second"];
const FORMATS: [&str; 2] = [DBESDK, PLAINTEXT];
const DBESDK: &str = "dbesdk";
const PLAINTEXT: &str = "plaintext";
const ACKNOWLEDGE: [&str; 3] = ["signed-ttl", "last-writer-wins", "partial-index:NAME"];

/// A job file that was read and found right, as far as that can be said without table and keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The table's name, or its ARN.
    pub table: String,
    /// Actions, keys, unsigned attributes, logical table name.
    pub schema: Schema,
    /// What the job states about the applications that use the table.
    pub statements: Statements,
    /// Dangers that the job says it knows of.
    pub acknowledged: Acknowledged,
    /// What the items may look like before.
    pub source: Source,
    /// What the items shall look like after.
    pub target: Target,
    /// What the run may consume.
    pub budget: Budget,
}

/// Dangers that the job says it knows of: `table.acknowledge`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// `signed-ttl`: the TTL attribute is signed, and only `PutItem` changes it.
    pub signed_ttl: bool,
    /// `last-writer-wins`: the table replicates asynchronously between Regions that both write.
    pub last_writer_wins: bool,
    /// `partial-index:NAME`: readers of the index see ciphertext without head and foot.
    pub partial_indexes: BTreeSet<String>,
}

/// The forms that items may have before the run, the target's own form aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Items in plaintext.
    pub plaintext: bool,
    /// Items of the Database Encryption SDK.
    pub dbesdk: bool,
    /// What opens them, besides the target's keyring.
    pub keyrings: Vec<KeyringSettings>,
    /// What becomes of sealed items that somebody wrote into. May change between runs.
    pub on_mixed: OnMixed,
}

/// The form that every item shall have after the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Items in plaintext: the way back.
    Plaintext,
    /// Items of the Database Encryption SDK.
    Dbesdk {
        /// Their algorithm suite.
        suite: Suite,
        /// What wraps their keys.
        keyring: KeyringSettings,
        /// How sealed items get there.
        depth: Depth,
        /// Whether items under older material of the same KMS key are brought to its present one.
        refresh: bool,
    },
}

/// What the run may consume per second. What is absent is derived from the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// Read capacity units per second.
    pub read_units: Option<NonZeroU32>,
    /// Write capacity units per second.
    pub write_units: Option<NonZeroU32>,
    /// Requests to KMS per second.
    pub kms_requests: Option<NonZeroU32>,
}

/// A job file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// It cannot be read.
    #[error("job file {file}: {source}")]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML.
    #[error("{file}:{line}: not TOML: {problem}")]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        problem: String,
    },
    /// A field is refused.
    #[error("{file}:{line}: {field}: {refusal}", line = place.line, field = place.field)]
    Refused {
        /// The file.
        file: PathBuf,
        /// The field.
        place: Place,
        /// Why.
        refusal: Box<Refusal>,
    },
}

impl JobError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Read { .. } => "check the path after --job".to_owned(),
            Self::Syntax { .. } => "mend the line; the README shows a whole job file".to_owned(),
            Self::Refused { refusal, .. } => refusal.remedy(),
        }
    }
}

impl Job {
    /// Requests to KMS for one item: to open it at most, and to seal it.
    #[must_use]
    pub fn kms_requests(&self) -> (u32, u32) {
        let (target, seals) = match &self.target {
            Target::Plaintext => (0, 0),
            Target::Dbesdk { keyring, .. } => keyring.kms_requests(),
        };
        let sources = self.source.keyrings.iter().map(|keyring| keyring.kms_requests().0);
        (sources.fold(target, u32::max), seals)
    }

    /// Reads a job file. Paths in it are relative to its folder.
    ///
    /// # Errors
    /// [`JobError`] when it cannot be read, is not TOML, or a field is refused.
    pub fn read(file: &Path) -> Result<Self, JobError> {
        let text = fs::read_to_string(file).map_err(|source| JobError::Read { file: file.to_owned(), source })?;
        Self::parse(&text, file)
    }

    /// Parses the text of a job file. `file` is named in errors, and paths are relative to its folder.
    ///
    /// # Errors
    /// [`JobError`] when it is not TOML, or a field is refused.
    pub fn parse(text: &str, file: &Path) -> Result<Self, JobError> {
        let document = section::parse(text).map_err(|(line, problem)| JobError::Syntax {
            file: file.to_owned(),
            line,
            problem,
        })?;
        let folder = file.parent().unwrap_or_else(|| Path::new(""));
        Section::root(text, document.get_ref(), &ROOT).and_then(|root| Self::from_root(&root, folder)).map_err(
            |Fault { place, refusal }| JobError::Refused { file: file.to_owned(), place, refusal: Box::new(refusal) },
        )
    }

    /// What the job wants of every item.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let (target, depth) = match &self.target {
            Target::Plaintext => (migration::Target::Plaintext, Depth::default()),
            Target::Dbesdk { suite, keyring, depth, .. } => {
                (migration::Target::Dbesdk { suite: *suite, recipients: keyring.recipients() }, *depth)
            }
        };
        Policy {
            schema: self.schema.clone(),
            accept_plaintext: self.source.plaintext,
            accept_dbesdk: self.source.dbesdk,
            target,
            depth,
        }
    }

    fn from_root(root: &Section<'_>, folder: &Path) -> Result<Self, Fault> {
        let version = root.number("version")?.ok_or_else(|| root.missing("version"))?;
        version.parse(|version| if version == 1 { Ok(()) } else { Err(Refusal::Version(version)) })?;
        let table = root.section("table", &TABLE)?.ok_or_else(|| root.missing("table"))?;
        let name = table.required_text("name")?;
        let own_name = schema::table_name(&name)?;
        let logical_table = table.text("logical_name")?.map_or(own_name, |logical| logical.value);
        let schema = schema::read(root, &table, logical_table)?;
        let target = target(root, folder, &schema)?;
        let source = source(root, &target, folder, &schema)?;
        Ok(Self {
            table: name.value,
            schema,
            statements: Statements::read(&table)?,
            acknowledged: acknowledged(&table)?,
            source,
            target,
            budget: budget(root)?,
        })
    }
}

fn acknowledged(table: &Section<'_>) -> Result<Acknowledged, Fault> {
    let mut acknowledged = Acknowledged::default();
    for word in table.texts("acknowledge")?.unwrap_or_default() {
        word.parse(|word| {
            match (word.as_str(), word.strip_prefix("partial-index:").filter(|index| !index.is_empty())) {
                ("signed-ttl", _) => acknowledged.signed_ttl = true,
                ("last-writer-wins", _) => acknowledged.last_writer_wins = true,
                (_, Some(index)) => drop(acknowledged.partial_indexes.insert(index.to_owned())),
                _ => return Err(Refusal::word(&word, &ACKNOWLEDGE)),
            }
            Ok(())
        })?;
    }
    Ok(acknowledged)
}

fn target(root: &Section<'_>, folder: &Path, schema: &Schema) -> Result<Target, Fault> {
    let section = root.section("target", &TARGET)?.ok_or_else(|| root.missing("target"))?;
    let format = section.required_text("format")?;
    let suite = section.text("suite")?;
    let depth = section.text("depth")?;
    let refresh = section.flag("refresh_key_material")?;
    let keyring = section.section("keyring", &keyring::FIELDS)?;
    match format.value.as_str() {
        DBESDK => {
            let suite = suite.map(|suite| {
                suite.parse(|name| name.parse().map_err(|()| Refusal::word(&name, &Suite::ALL.map(Suite::name))))
            });
            let keyring =
                keyring.ok_or_else(|| Fault { place: section.place().clone(), refusal: Refusal::NoTargetKeyring })?;
            let suite = suite.transpose()?.map_or(Suite::EcdsaP384, |suite| suite.value);
            let depth = depth.map(read_depth).transpose()?.unwrap_or_default();
            let settings = KeyringSettings::read(&keyring, folder, schema)?;
            match settings.demand_target(suite) {
                Ok(()) => {
                    Ok(Target::Dbesdk { suite, depth, refresh: refreshes(refresh, &settings)?, keyring: settings })
                }
                Err(refusal) => Err(Fault { place: keyring.place().clone(), refusal }),
            }
        }
        PLAINTEXT => {
            let place = suite.or(depth).map(|extra| extra.place).or_else(|| refresh.map(|refresh| refresh.place));
            let extra = place.or_else(|| keyring.map(|keyring| keyring.place().clone()));
            extra.map_or(Ok(Target::Plaintext), |place| Err(Fault { place, refusal: Refusal::PlaintextTarget }))
        }
        other => Err(Fault { refusal: Refusal::word(other, &FORMATS), place: format.place }),
    }
}

/// Whether key material is to be refreshed: only a symmetric KMS key has more than one.
fn refreshes(refresh: Option<section::At<bool>>, keyring: &KeyringSettings) -> Result<bool, Fault> {
    match refresh {
        Some(section::At { value: true, place }) if !keyring.has_material() => {
            Err(Fault { place, refusal: Refusal::NoMaterial })
        }
        refresh => Ok(refresh.is_some_and(|refresh| refresh.value)),
    }
}

fn read_depth(depth: section::At<String>) -> Result<Depth, Fault> {
    let depth = depth.parse(|word| match word.as_str() {
        "reencrypt" => Ok(Depth::Reencrypt),
        "rewrap" => Ok(Depth::Rewrap),
        other => Err(Refusal::word(other, &DEPTHS)),
    });
    Ok(depth?.value)
}

fn source(root: &Section<'_>, target: &Target, folder: &Path, schema: &Schema) -> Result<Source, Fault> {
    let back = *target == Target::Plaintext;
    let section = root.section("source", &SOURCE)?;
    let place = section.as_ref().map_or_else(|| root.missing("source").place, |section| section.place().clone());
    let refuse = |refusal| Err(Fault { place: place.clone(), refusal });
    let mut source = Source { plaintext: !back, dbesdk: back, keyrings: Vec::new(), on_mixed: OnMixed::Quarantine };
    if let Some(section) = &section {
        if let Some(formats) = section.texts("formats")? {
            (source.plaintext, source.dbesdk) = (false, false);
            for format in formats {
                format.parse(|format| {
                    match format.as_str() {
                        PLAINTEXT => source.plaintext = true,
                        DBESDK => source.dbesdk = true,
                        other => return Err(Refusal::word(other, &FORMATS)),
                    }
                    Ok(())
                })?;
            }
        }
        if let Some(word) = section.text("on_mixed")? {
            let on_mixed = word.parse(|word| match word.as_str() {
                "quarantine" => Ok(OnMixed::Quarantine),
                "repair" => Ok(OnMixed::Repair),
                other => Err(Refusal::word(other, &ON_MIXED)),
            });
            source.on_mixed = on_mixed?.value;
        }
        for keyring in section.sections("keyrings", &keyring::FIELDS)? {
            source.keyrings.push(KeyringSettings::read(&keyring, folder, schema)?);
        }
    }
    match (source.dbesdk, source.keyrings.is_empty()) {
        (false, _) if back => refuse(Refusal::NothingToOpen),
        (false, false) => refuse(Refusal::UnusedKeyrings),
        (true, true) if back => refuse(Refusal::NoSourceKeyring),
        _ => Ok(source),
    }
}

fn budget(root: &Section<'_>) -> Result<Budget, Fault> {
    let Some(section) = root.section("budget", &BUDGET)? else { return Ok(Budget::default()) };
    let units = |field| {
        let units = section.number(field)?.map(|units| {
            units.parse(|units| {
                let units = u32::try_from(units).map_err(|_| Refusal::HugeBudget)?;
                NonZeroU32::new(units).ok_or(Refusal::ZeroBudget)
            })
        });
        Ok(units.transpose()?.map(|units| units.value))
    };
    Ok(Budget { read_units: units(BUDGET[0])?, write_units: units(BUDGET[1])?, kms_requests: units(BUDGET[2])? })
}

#[cfg(test)]
mod tests;
