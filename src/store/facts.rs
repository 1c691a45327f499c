//! What is known of a table before anything is read from it: the ground that a plan stands on.

/// A table as the service describes it. Counts and sizes are some six hours old.
#[derive(Debug, Clone, PartialEq)]
pub struct TableFacts {
    /// The table's ARN.
    pub arn: String,
    /// The table's name.
    pub name: String,
    /// The table's id: another one for each table that ever had the name. Stand-ins may lack it.
    pub id: Option<String>,
    /// `ACTIVE`, or why not.
    pub status: String,
    /// The key attributes, partition key first.
    pub keys: Vec<KeyAttribute>,
    /// The type (`S`, `N` or `B`) of every attribute that is a key of the table or of an index.
    pub key_types: Vec<(String, String)>,
    /// The number of items.
    pub items: u64,
    /// The size of all items, in bytes.
    pub bytes: u64,
    /// The secondary and vector indexes.
    pub indexes: Vec<IndexFacts>,
    /// The time-to-live attribute.
    pub ttl: Known<Option<TtlFacts>>,
    /// The stream, if one was ever enabled.
    pub stream: Option<StreamFacts>,
    /// How capacity is paid for, and its bounds.
    pub capacity: Capacity,
    /// The other Regions of a global table; empty if it is none.
    pub replicas: Vec<Replica>,
    /// How a global table replicates; `None` if it is none.
    pub replication: Option<Replication>,
    /// Whether the table can be restored to a point in time. It is the only way back from a mistake in another tool.
    pub point_in_time_recovery: Known<bool>,
    /// Whether the table is protected from deletion.
    pub deletion_protection: bool,
}

/// Something that the service may refuse to tell: stand-ins lack the operation, callers the permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known<T> {
    /// The service said so.
    Known(T),
    /// It did not, for this reason.
    Unknown(String),
}

/// One attribute of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAttribute {
    /// The attribute.
    pub name: String,
    /// Whether it is (part of) the partition key, else the sort key.
    pub partition: bool,
}

/// What kind of index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexKind {
    /// A global secondary index.
    Global,
    /// A local secondary index.
    Local,
    /// A vector index.
    Vector,
}

/// An index of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexFacts {
    /// The index.
    pub name: String,
    /// What kind of index.
    pub kind: IndexKind,
    /// The attributes by which it finds items: keys, up to eight, or the vector and its filters. None of them can be
    /// encrypted.
    pub keys: Vec<String>,
    /// Which attributes it copies.
    pub projection: Projection,
}

/// Which attributes an index copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Projection {
    /// All.
    All,
    /// Keys of table and index.
    Keys,
    /// Keys and these.
    Include(Vec<String>),
}

/// The time-to-live setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TtlFacts {
    /// The attribute that holds the time.
    pub attribute: String,
    /// `ENABLED`, `ENABLING` or `DISABLING`.
    pub status: String,
}

/// The table's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFacts {
    /// Whether it takes new records.
    pub enabled: bool,
    /// `NEW_AND_OLD_IMAGES` and the like.
    pub view: Option<String>,
    /// The latest stream's ARN.
    pub arn: Option<String>,
}

impl StreamFacts {
    /// The stream's ARN, if it is enabled and its records have both images of each change.
    #[must_use]
    pub fn both_images(&self) -> Option<&str> {
        let both = self.enabled && self.view.as_deref() == Some("NEW_AND_OLD_IMAGES");
        self.arn.as_deref().filter(|_| both)
    }
}

/// How capacity is paid for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capacity {
    /// Units per second that are paid for whether used or not.
    Provisioned {
        /// Read units per second.
        read: u64,
        /// Write units per second.
        write: u64,
    },
    /// Per request, up to the owner's bounds.
    OnDemand {
        /// Read units per second at most.
        read_max: Option<u64>,
        /// Write units per second at most.
        write_max: Option<u64>,
    },
}

/// Another Region of a global table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// The Region.
    pub region: String,
    /// `ACTIVE`, or why not.
    pub status: Option<String>,
}

/// How a global table replicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// Eventually consistent across Regions: the last writer wins, conditions see one Region only.
    Eventual,
    /// Strongly consistent across Regions.
    Strong,
}
