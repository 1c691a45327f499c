//! The shards of a stream: which may be read now and from where, which are read to their end, what was lost.
//!
//! A state machine without clock or network. It is told of listings and of what was read, and it is rebuilt from its
//! rows. Times are whole seconds since 1970 of the service's clock, never of this machine's.

use std::collections::{BTreeMap, BTreeSet};

/// How long a stream keeps its records, in seconds (DynamoDB developer guide, "Data retention limit").
pub const RETENTION: u64 = 24 * 60 * 60;
/// Whole listings in a row that must lack a shard before it counts as gone: single ones are inconsistent.
const ABSENT_LISTINGS: u32 = 10;
/// Seconds by which times may run ahead of what is remembered of them: while nothing comes, nothing is written.
const STALE: u64 = 60 * 60;
/// Seconds for which listings may lack a shard that is there.
const INCONSISTENT: u64 = 60 * 60;
/// Seconds by which a record must be younger than a moment to prove that it came about later: both are told in whole
/// seconds, and the service does not say how it rounds.
const ROUNDING: u64 = 2;
/// Seconds before the start that are read all the same (rule C).
const MARGIN: u64 = 60;

/// A shard as a listing shows it (DynamoDB Streams API reference, `Shard`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// The shard that it continues, if the listing says so; it may have been trimmed, or be listed later.
    pub parent: Option<String>,
    /// Whether no more records come: it has an ending sequence number.
    pub closed: bool,
}

/// How far a shard was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Not at all: it begins at the oldest record kept, never at the latest.
    NotStarted,
    /// All up to and including this sequence number is done.
    After(String),
    /// It is closed and all of it is done, or it was closed and continued before the start.
    Drained,
    /// It is gone from the stream, or everything that continues it is; what was not read by then is a gap.
    Gone,
}

/// Records that were lost unread, in seconds: the table must be scanned again (rule G).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Everything that was created until then was read, if that is known.
    pub from: Option<u64>,
    /// Nothing that was created after it is lost, if that is known.
    pub to: Option<u64>,
    /// The latest pass when it was found, 0 before the first. Whole passes that begin later make it good.
    pub pass: u32,
}

impl Gap {
    fn and(self, other: Self) -> Self {
        let from = self.from.zip(other.from).map(|(one, other)| one.min(other));
        Self { from, to: self.to.zip(other.to).map(|(one, other)| one.max(other)), pass: self.pass.max(other.pass) }
    }
}

/// Where a stream is read from that never was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// From now on: what is older was there before the start (rule C).
    Now,
    /// From the oldest record kept.
    TrimHorizon,
}

/// What is remembered of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardRow {
    /// Its id.
    pub id: String,
    /// The shard that it continues, if it is known.
    pub parent: Option<String>,
    /// How far it was read.
    pub place: Place,
    /// Nothing that was created until this second is unread in it, nor in those that it continues.
    pub known: Option<u64>,
    /// What was lost of it.
    pub gap: Option<Gap>,
}

/// Everything that is remembered: enough to go on after a crash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineageRows {
    /// The stream's ARN.
    pub stream: String,
    /// The second of the start, before which nothing matters; `None` where everything does.
    pub start: Option<u64>,
    /// The latest pass at the start, 0 before the first: one that begins later, together with the stream, is complete.
    pub pass: u32,
    /// The second of the latest whole listing, if the service told it.
    pub listed: Option<u64>,
    /// The shards, in the order of their ids.
    pub shards: Vec<ShardRow>,
}

/// What must be remembered anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineageChange {
    /// Rows to be set; its times always, and those shards that changed.
    pub rows: LineageRows,
    /// Shards that need not be remembered any more.
    pub forgotten: Vec<String>,
}

/// Why a shard counts as drained to a moment (rule G).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// A record that was created after the moment is done.
    Record,
    /// It is closed and done, and so is everything that continues it.
    Closed,
    /// Nothing came for long enough.
    Quiet,
}

/// The shards of a stream. Made by [`Lineage::begin`] or [`Lineage::restore`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    stream: String,
    start: Option<u64>,
    /// The latest pass at the start.
    start_pass: u32,
    /// The latest pass.
    pass: u32,
    /// The latest pass that has ended.
    ended: u32,
    listed: Option<u64>,
    enabled: bool,
    shards: BTreeMap<String, Shard>,
    changed: BTreeSet<String>,
    forgotten: Vec<String>,
    /// The `listed` that was remembered last.
    remembered: Option<u64>,
    /// Whether not even the start is remembered.
    new: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Shard {
    parent: Option<String>,
    place: Place,
    known: Option<u64>,
    gap: Option<Gap>,
    /// When it was first listed, or taken from what was remembered.
    seen: Option<u64>,
    /// The `known` that was remembered last.
    remembered: Option<u64>,
    /// When the youngest of its records that are done was created.
    record: Option<u64>,
    /// When the first of so many empty answers that it counts as quiet was requested.
    quiet: Option<u64>,
    /// Whole listings in a row that lacked it.
    absent: u32,
    /// Whole listings since all of it was done: all that continues it is listed by then.
    settled: u32,
}

impl Shard {
    fn new(parent: Option<String>, place: Place, known: Option<u64>, seen: Option<u64>) -> Self {
        let (remembered, record, quiet) = (known, None, None);
        Self { parent, place, known, gap: None, seen, remembered, record, quiet, absent: 0, settled: 0 }
    }

    fn finished(&self) -> bool {
        matches!(self.place, Place::Drained | Place::Gone)
    }

    fn lose(&mut self, gap: Gap) {
        self.gap = Some(self.gap.map_or(gap, |before| before.and(gap)));
    }
}

impl Lineage {
    /// The start (rule C), from a whole listing: everything that is still written to is read from the oldest record
    /// kept, and so is a closed shard that nothing listed continues; from the trim horizon, all that is listed. `at` is
    /// the time of the listing's first answer, `pass` the latest pass.
    #[must_use]
    pub fn begin(stream: &str, from: From, pass: u32, listing: &[Listed], enabled: bool, at: Option<u64>) -> Self {
        let start = at.filter(|_| from == From::Now);
        let rows = LineageRows { stream: stream.to_owned(), start, pass, listed: at, shards: Vec::new() };
        let mut lineage = Self { enabled, new: true, ..Self::restore(rows, pass) };
        let continued: BTreeSet<&str> = listing.iter().filter_map(parent_of).collect();
        for shard in listing {
            let before = from == From::Now && shard.closed && continued.contains(shard.id.as_str());
            let place = if before { Place::Drained } else { Place::NotStarted };
            lineage.insert(shard, place, start);
        }
        lineage
    }

    /// The table's stream is another one than it was: everything that was not read of the one before is lost, and this
    /// one is read from its beginning.
    #[must_use]
    pub fn replace(
        before: LineageRows,
        stream: &str,
        pass: u32,
        listing: &[Listed],
        enabled: bool,
        at: Option<u64>,
    ) -> Self {
        let mut lineage = Self::begin(stream, From::TrimHorizon, pass, listing, enabled, at);
        if before.shards.is_empty() {
            // Nothing of it was ever listed: what was lost is told of what there is now.
            let from = before.listed.map(|listed| listed.saturating_sub(INCONSISTENT));
            lineage.notice_pause(Gap { from, to: at, pass });
        }
        let before = Self::restore(before, pass);
        for (id, shard) in &before.shards {
            // What continues a shard is younger than all that was read of it, and may be older than any listing of it.
            let from = shard.known.or_else(|| before.ancestors(shard).find_map(|(_, above)| above.known));
            let gone = Shard { place: Place::Gone, ..shard.clone() };
            lineage.shards.entry(id.clone()).or_insert(gone).lose(Gap { from, to: at, pass });
            lineage.changed.insert(id.clone());
        }
        lineage
    }

    /// Goes on from what was remembered; `pass` is the latest pass.
    #[must_use]
    pub fn restore(rows: LineageRows, pass: u32) -> Self {
        let LineageRows { stream, start, pass: start_pass, listed, shards } = rows;
        let shards = shards.into_iter().map(|row| {
            let ShardRow { id, parent, place, known, gap } = row;
            (id, Shard { gap, ..Shard::new(parent, place, known, listed) })
        });
        // Until a listing says otherwise, closed shards may still be continued.
        Self {
            stream,
            start,
            start_pass,
            pass,
            ended: 0,
            listed,
            enabled: true,
            shards: shards.collect(),
            changed: BTreeSet::new(),
            forgotten: Vec::new(),
            remembered: listed,
            new: false,
        }
    }

    /// A later whole listing, in any order.
    pub fn observe(&mut self, listing: &[Listed], enabled: bool, at: Option<u64>) {
        self.enabled = enabled;
        let before = self.listed;
        self.listed = at.or(before);
        self.add(listing, before);
        let listed: BTreeSet<&str> = listing.iter().map(|shard| shard.id.as_str()).collect();
        if let (Some(before), Some(at)) = (before, at)
            && at > before + (RETENTION - INCONSISTENT)
        {
            let gap = Gap { from: Some(before.saturating_sub(INCONSISTENT)), to: Some(at), pass: self.pass };
            self.notice_pause(gap);
        }
        self.notice_absence(&listed, at);
    }

    /// Some shards that continue others, told apart from any whole listing.
    pub fn observe_children(&mut self, children: &[Listed]) {
        self.add(children, self.listed);
    }

    /// Takes shards in; `before` is the time of the listing before.
    fn add(&mut self, listing: &[Listed], before: Option<u64>) {
        for listed in listing {
            if let Some(shard) = self.shards.get_mut(&listed.id) {
                if shard.parent.is_none() && parent_of(listed).is_some() {
                    shard.parent.clone_from(&listed.parent);
                    self.changed.insert(listed.id.clone());
                }
                continue;
            }
            let known = match parent_of(listed).and_then(|parent| self.shards.get(parent)) {
                // What continues a shard begins where that one ended: see `finish`.
                Some(parent) => parent.known.filter(|_| parent.finished()),
                // It was not there when the stream was listed before.
                None => before.map(|before| before.saturating_sub(INCONSISTENT)),
            };
            self.insert(listed, Place::NotStarted, known);
        }
    }

    /// Nobody looked for so long that shards may have come and gone: what continued one that is known, or what one
    /// continues that is known; and that records of unknown age, not begun with, may be trimmed.
    fn notice_pause(&mut self, gap: Gap) {
        for (id, shard) in &mut self.shards {
            shard.lose(gap);
            self.changed.insert(id.clone());
        }
    }

    fn notice_absence(&mut self, listed: &BTreeSet<&str>, at: Option<u64>) {
        for (id, shard) in &mut self.shards {
            shard.absent = if listed.contains(id.as_str()) { 0 } else { shard.absent.saturating_add(1) };
            shard.settled = if shard.finished() { shard.settled.saturating_add(1) } else { 0 };
        }
        // Of each shard that is continued: whether all that continue it have started.
        let mut continued: BTreeMap<String, bool> = BTreeMap::new();
        for shard in self.shards.values() {
            if let Some(parent) = &shard.parent {
                *continued.entry(parent.clone()).or_insert(true) &= shard.place != Place::NotStarted;
            }
        }
        let mut forgotten = Vec::new();
        for (id, shard) in &mut self.shards {
            if shard.absent < ABSENT_LISTINGS {
                continue;
            }
            match (&shard.place, continued.get(id)) {
                // Whatever continued it came and went while nobody looked.
                (Place::Drained, None) if self.enabled => {
                    shard.lose(Gap { from: shard.known, to: at, pass: self.pass });
                    shard.place = Place::Gone;
                    self.changed.insert(id.clone());
                }
                // A gap is remembered until the table was scanned again.
                (Place::Drained, Some(true)) | (Place::Gone, None | Some(true)) if shard.gap.is_none() => {
                    forgotten.push(id.clone());
                }
                _ => {}
            }
        }
        for id in &forgotten {
            self.changed.remove(id);
            let parent = self.shards.remove(id).and_then(|shard| shard.parent);
            // It was continued, although nothing will say so any more.
            if let Some((id, parent)) = parent.and_then(|id| self.shards.get_mut(&id).map(|shard| (id, shard))) {
                parent.place = Place::Gone;
                self.changed.insert(id);
            }
        }
        self.forgotten.extend(forgotten);
    }

    fn insert(&mut self, listed: &Listed, place: Place, known: Option<u64>) {
        let parent = parent_of(listed).map(str::to_owned);
        self.shards.insert(listed.id.clone(), Shard::new(parent, place, known, self.listed));
        self.changed.insert(listed.id.clone());
    }

    /// The shards that may be read now. A shard waits for the one that it continues; one that is in no listing was
    /// trimmed, and counts as done.
    pub fn readable(&self) -> impl Iterator<Item = &str> {
        let may = |shard: &Shard| {
            let parent = shard.parent.as_ref().and_then(|parent| self.shards.get(parent));
            !shard.finished() && parent.is_none_or(Shard::finished)
        };
        self.shards.iter().filter(move |(_, shard)| may(shard)).map(|(id, _)| id.as_str())
    }

    /// Where a shard is to be read from, now. What it was to be read from is a gap if that was trimmed meanwhile: the
    /// service does not say so when a shard is read from the oldest record kept.
    pub fn open(&mut self, id: &str, now: Option<u64>) -> Place {
        let Some(shard) = self.shards.get_mut(id) else { return Place::Gone };
        let horizon = now.map(|now| now.saturating_sub(RETENTION));
        // What was there when it was seen is to be read, even if nobody knows how old that is.
        if shard.place == Place::NotStarted
            && let (Some(known), Some(horizon)) = (shard.known.or(shard.seen), horizon)
            && known < horizon
        {
            shard.lose(Gap { from: shard.known, to: Some(horizon), pass: self.pass });
            shard.known = Some(horizon);
            self.changed.insert(id.to_owned());
        }
        shard.place.clone()
    }

    /// Whether a record is older than the start by more than the margin, and need not be looked at (rule C).
    #[must_use]
    pub fn is_before_start(&self, created: Option<u64>) -> bool {
        self.start.zip(created).is_some_and(|(start, created)| created < start.saturating_sub(MARGIN))
    }

    /// Everything up to and including this record is done.
    pub fn done(&mut self, id: &str, sequence: &str, created: Option<u64>) {
        let Some(shard) = self.shards.get_mut(id) else { return };
        shard.place = Place::After(sequence.to_owned());
        shard.record = shard.record.max(created);
        shard.known = shard.known.max(created);
        self.changed.insert(id.to_owned());
    }

    /// So many empty answers came that the shard counts as quiet; the first of them was requested at this time.
    pub fn quiet(&mut self, id: &str, since: Option<u64>) {
        let Some(shard) = self.shards.get_mut(id) else { return };
        shard.quiet = shard.quiet.max(since);
        shard.known = shard.known.max(since);
        if stale(shard.remembered, shard.known) {
            self.changed.insert(id.to_owned());
        }
    }

    /// The shard is closed, and all of it is done.
    pub fn drained(&mut self, id: &str) {
        self.finish(id, Place::Drained);
    }

    /// Records of the shard were trimmed before they were read. It goes on at the oldest record kept.
    pub fn trimmed(&mut self, id: &str, at: Option<u64>) {
        let Some(shard) = self.shards.get_mut(id) else { return };
        shard.lose(Gap { from: shard.known, to: at, pass: self.pass });
        shard.place = Place::NotStarted;
        shard.known = at.or(shard.known);
        self.changed.insert(id.to_owned());
    }

    /// The shard is gone before it was read to its end.
    pub fn gone(&mut self, id: &str, at: Option<u64>) {
        if let Some(shard) = self.shards.get_mut(id) {
            shard.lose(Gap { from: shard.known, to: at, pass: self.pass });
        }
        self.finish(id, Place::Gone);
    }

    fn finish(&mut self, id: &str, place: Place) {
        let Some(shard) = self.shards.get_mut(id) else { return };
        shard.place = place;
        let known = shard.known;
        self.changed.insert(id.to_owned());
        for (child, shard) in &mut self.shards {
            if shard.parent.as_deref() == Some(id) && shard.place == Place::NotStarted && shard.known.is_none() {
                shard.known = known;
                self.changed.insert(child.clone());
            }
        }
    }

    /// Whether everything that was created until a moment is done, and how that is known of each shard (rule G).
    /// `None` while it is not known.
    #[must_use]
    pub fn drained_to(&self, moment: u64) -> Option<Vec<(&str, Way)>> {
        let continued: BTreeSet<&str> = self.shards.values().filter_map(|shard| shard.parent.as_deref()).collect();
        let way = |id: &str, shard: &Shard| {
            if shard.record.is_some_and(|record| record >= moment.saturating_add(ROUNDING)) {
                Some(Way::Record)
            } else if shard.quiet.is_some_and(|quiet| quiet > moment) {
                Some(Way::Quiet)
            } else {
                // What continues a shard that is gone may be listed late, as it may be while the shard is there.
                let gone = shard.place == Place::Gone && shard.absent >= ABSENT_LISTINGS;
                // Of several that continue one, some may be listed before the others.
                let settled = continued.contains(id) && shard.settled >= ABSENT_LISTINGS;
                let last = gone || settled || !self.enabled;
                (shard.finished() && last).then_some(Way::Closed)
            }
        };
        if self.shards.is_empty() && self.enabled {
            // It was enabled just now, and its first shard is not listed yet.
            return None;
        }
        let mut ways = Vec::new();
        for (id, shard) in &self.shards {
            match way(id, shard) {
                Some(way) => ways.push((id.as_str(), way)),
                // What continues a shard is younger than all that is in it.
                None if self
                    .ancestors(shard)
                    .any(|(id, above)| matches!(way(id, above), Some(Way::Record | Way::Quiet))) => {}
                None => return None,
            }
        }
        Some(ways)
    }

    /// The shards that a shard continues, its parent first, as far as they are known.
    fn ancestors<'a>(&'a self, shard: &'a Shard) -> impl Iterator<Item = (&'a str, &'a Shard)> {
        let above = |shard: &'a Shard| {
            let (id, shard) = self.shards.get_key_value(shard.parent.as_ref()?)?;
            Some((id.as_str(), shard))
        };
        // A listing that goes round in circles shall not hang us.
        std::iter::successors(above(shard), move |(_, shard)| above(shard)).take(self.shards.len())
    }

    /// Whether the stream was enabled when it was listed last: what is written without one is in no record.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Everything that was lost, by shard.
    pub fn gaps(&self) -> impl Iterator<Item = (&str, Gap)> {
        self.shards.iter().filter_map(|(id, shard)| Some((id.as_str(), shard.gap?)))
    }

    /// A pass over the table begins: none of its pages was read yet.
    pub fn pass_began(&mut self, number: u32) {
        self.pass = number;
    }

    /// A pass over the table has ended, every item seen: what was lost before it began is made good.
    pub fn pass_ended(&mut self, number: u32) {
        self.ended = number;
        for (id, shard) in &mut self.shards {
            if shard.gap.take_if(|gap| gap.pass < number).is_some() {
                self.changed.insert(id.clone());
            }
        }
    }

    /// The first pass that will do: one that began after the start, and after every loss was found.
    #[must_use]
    pub fn pass_wanted(&self) -> u32 {
        1 + self.gaps().map(|(_, gap)| gap.pass).fold(self.start_pass, u32::max)
    }

    /// Whether such a pass has ended: with the stream, it is complete.
    #[must_use]
    pub fn scanned(&self) -> bool {
        self.ended >= self.pass_wanted()
    }

    /// The second of the start, before which nothing matters; `None` where everything does.
    #[must_use]
    pub fn start(&self) -> Option<u64> {
        self.start
    }

    /// What has changed since it was asked for last, and must be remembered; `None` if nothing has.
    pub fn changes(&mut self) -> Option<LineageChange> {
        let stale = stale(self.remembered, self.listed);
        if self.changed.is_empty() && self.forgotten.is_empty() && !stale && !self.new {
            return None;
        }
        (self.remembered, self.new) = (self.listed, false);
        let mut shards = Vec::new();
        for id in std::mem::take(&mut self.changed) {
            let Some(shard) = self.shards.get_mut(&id) else { continue };
            shard.remembered = shard.known;
            let Shard { parent, place, known, gap, .. } = shard;
            shards.push(ShardRow { id, parent: parent.clone(), place: place.clone(), known: *known, gap: *gap });
        }
        let rows = LineageRows {
            stream: self.stream.clone(),
            start: self.start,
            pass: self.start_pass,
            listed: self.listed,
            shards,
        };
        Some(LineageChange { rows, forgotten: std::mem::take(&mut self.forgotten) })
    }
}

/// Whether a time has run so far ahead of what is remembered of it that it must be remembered anew.
fn stale(remembered: Option<u64>, now: Option<u64>) -> bool {
    match (remembered, now) {
        (Some(remembered), Some(now)) => now >= remembered.saturating_add(STALE),
        (remembered, now) => remembered.is_none() && now.is_some(),
    }
}

/// The shard that it continues; none is its own parent.
fn parent_of(listed: &Listed) -> Option<&str> {
    listed.parent.as_deref().filter(|parent| *parent != listed.id)
}

#[cfg(test)]
mod tests;
