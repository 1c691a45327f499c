use proptest::prelude::*;

use super::*;

fn listed(id: &str, parent: Option<&str>, closed: bool) -> Listed {
    Listed { id: id.to_owned(), parent: parent.map(str::to_owned), closed }
}

fn begin(listing: &[Listed], enabled: bool, at: Option<u64>) -> Lineage {
    Lineage::begin("stream", From::Now, 0, listing, enabled, at)
}

fn readable(lineage: &Lineage) -> Vec<&str> {
    lineage.readable().collect()
}

#[test]
fn at_the_start_every_leaf_is_read_from_its_oldest_record() {
    let listing = [
        listed("d", Some("b"), false),
        listed("a", None, true),
        listed("b", Some("a"), true),
        listed("c", Some("a"), true),
        listed("e", Some("trimmed"), false),
    ];
    let mut lineage = begin(&listing, true, Some(1000));
    // `c` is closed, and what continues it is not listed yet; `a` and `b` ended before the start.
    assert_eq!(readable(&lineage), ["c", "d", "e"]);
    for id in ["c", "d", "e"] {
        assert_eq!(lineage.open(id, Some(1000)), Place::NotStarted);
    }
    assert!(lineage.is_before_start(Some(939)) && !lineage.is_before_start(Some(940)));
    assert!(!lineage.is_before_start(None) && !begin(&[], true, None).is_before_start(Some(0)));
}

#[test]
fn a_child_waits_for_its_parent_however_they_are_listed() {
    // The parent is still said to be open.
    let mut lineage = begin(&[listed("b", Some("a"), false), listed("a", None, false)], true, Some(1000));
    assert_eq!(readable(&lineage), ["a"]);
    lineage.drained("a");
    assert_eq!(readable(&lineage), ["b"]);
    // A child is seen before its parent: it may be read, and waits as soon as the parent is seen.
    lineage.observe(&[listed("d", Some("c"), false)], true, Some(1001));
    assert_eq!(readable(&lineage), ["b", "d"]);
    lineage.observe(&[listed("c", None, true)], true, Some(1002));
    assert_eq!(readable(&lineage), ["b", "c"]);
    // A parent that was unknown is told later.
    lineage.observe(&[listed("e", None, false)], true, Some(1003));
    lineage.observe(&[listed("e", Some("b"), false)], true, Some(1004));
    assert_eq!(readable(&lineage), ["b", "c"]);
}

#[test]
fn a_shard_is_remembered_until_those_that_continue_it_have_started() {
    let mut lineage = begin(&[listed("a", None, false)], true, Some(0));
    lineage.observe(&[listed("a", None, true), listed("b", Some("a"), false)], true, Some(10));
    lineage.drained("a");
    let only_b = [listed("b", Some("a"), false)];
    for _ in 0..2 * ABSENT_LISTINGS {
        lineage.observe(&only_b, true, Some(20));
        assert!(lineage.changes().is_none_or(|change| change.forgotten.is_empty()));
    }
    lineage.done("b", "7", Some(30));
    lineage.observe(&only_b, true, Some(40));
    assert_eq!(lineage.changes().unwrap().forgotten, ["a"]);
    assert_eq!(readable(&lineage), ["b"]);
}

#[test]
fn what_was_trimmed_is_a_gap() {
    const HOUR: u64 = 3600;
    let gaps =
        |lineage: &Lineage| lineage.gaps().map(|(id, gap)| (id.to_owned(), gap.from, gap.to)).collect::<Vec<_>>();
    let begin = || begin(&[listed("a", None, false)], true, Some(HOUR));

    // The service says so.
    let mut lineage = begin();
    lineage.done("a", "1", Some(2 * HOUR));
    lineage.trimmed("a", Some(30 * HOUR));
    assert_eq!(gaps(&lineage), [("a".to_owned(), Some(2 * HOUR), Some(30 * HOUR))]);
    assert_eq!(lineage.open("a", Some(30 * HOUR)), Place::NotStarted);
    lineage.gone("a", Some(60 * HOUR));
    assert_eq!(gaps(&lineage), [("a".to_owned(), Some(2 * HOUR), Some(60 * HOUR))]);

    // The service does not say so: it was not read for too long.
    let mut lineage = begin();
    lineage.open("a", Some(25 * HOUR));
    assert_eq!(gaps(&lineage), []);
    lineage.open("a", Some(26 * HOUR));
    assert_eq!(gaps(&lineage), [("a".to_owned(), Some(HOUR), Some(2 * HOUR))]);

    // What continued it came and went meanwhile.
    let mut lineage = begin();
    lineage.drained("a");
    for _ in 0..ABSENT_LISTINGS {
        assert_eq!(gaps(&lineage), []);
        assert_eq!(lineage.drained_to(0), None);
        lineage.observe(&[], true, Some(2 * HOUR));
    }
    assert_eq!(gaps(&lineage), [("a".to_owned(), Some(HOUR), Some(2 * HOUR))]);
    assert_eq!(lineage.drained_to(0), Some(vec![("a", Way::Closed)]));
    // And a gap is not forgotten.
    lineage.observe(&[], true, Some(2 * HOUR));
    assert_eq!(lineage.changes().unwrap().forgotten, Vec::<String>::new());

    // It is gone before it was read to its end: what continues it may be listed late.
    let mut lineage = begin();
    lineage.gone("a", Some(26 * HOUR));
    for _ in 0..ABSENT_LISTINGS {
        assert_eq!(lineage.drained_to(0), None);
        lineage.observe(&[], true, Some(2 * HOUR));
    }
    assert_eq!(lineage.drained_to(0), Some(vec![("a", Way::Closed)]));

    // Nobody looked for a day: more may have continued it than is listed now.
    let mut lineage = begin();
    lineage.drained("a");
    lineage.observe(&[listed("a", None, true), listed("b", Some("a"), false)], true, Some(25 * HOUR));
    let both = |to| ["a", "b"].map(|id| (id.to_owned(), Some(0), Some(to)));
    assert_eq!(gaps(&lineage), both(25 * HOUR));

    // It was first seen after a long absence, and nobody knows what it continues.
    let mut lineage = begin();
    lineage.observe(&[listed("a", None, false), listed("b", None, false)], true, Some(30 * HOUR));
    lineage.open("b", Some(30 * HOUR));
    assert_eq!(gaps(&lineage), both(30 * HOUR));
}

#[test]
fn drained_to_a_moment() {
    let listing = [listed("a", None, false), listed("b", None, true)];
    let mut lineage = begin(&listing, true, Some(100));
    lineage.drained("b");
    lineage.done("a", "1", Some(101));
    assert_eq!(lineage.drained_to(100), None, "a second later is not yet later");
    lineage.done("a", "2", Some(102));
    assert_eq!(lineage.drained_to(100), None, "`b` may still be continued");
    lineage.observe(&[listed("c", Some("b"), false)], true, Some(103));
    assert_eq!(lineage.drained_to(100), None);
    lineage.quiet("c", Some(100));
    assert_eq!(lineage.drained_to(100), None, "asked in the same second");
    lineage.quiet("c", Some(101));
    for _ in 1..ABSENT_LISTINGS {
        assert_eq!(lineage.drained_to(100), None, "more may continue `b` than is listed by now");
        lineage.observe(&[listed("c", Some("b"), false)], true, Some(103));
    }
    assert_eq!(lineage.drained_to(100), Some(vec![("a", Way::Record), ("b", Way::Closed), ("c", Way::Quiet)]));
    assert_eq!(lineage.drained_to(101), None);

    let mut lineage = begin(&listing[1..], true, Some(100));
    lineage.drained("b");
    assert_eq!(lineage.drained_to(0), None);
    lineage.observe(&listing[1..], false, Some(101));
    assert_eq!(lineage.drained_to(1000), Some(vec![("b", Way::Closed)]), "nothing continues it any more");

    let mut nothing = begin(&[], true, Some(100));
    assert_eq!(nothing.drained_to(0), None, "its first shard is not listed yet");
    nothing.observe(&[], false, Some(101));
    assert_eq!(nothing.drained_to(0), Some(vec![]));

    // What continues a shard that was still written to after the moment need not be read for it.
    let mut lineage = begin(&listing[..1], true, Some(100));
    lineage.done("a", "1", Some(105));
    lineage.observe(&[listed("d", Some("a"), false)], true, Some(106));
    assert_eq!(lineage.drained_to(100), Some(vec![("a", Way::Record)]));
}

#[test]
fn a_quiet_shard_is_not_written_down_all_the_time() {
    let mut lineage = begin(&[listed("a", None, false)], true, Some(0));
    assert_eq!(lineage.changes().unwrap().rows.shards.len(), 1);
    for second in (0..=2 * STALE).step_by(60) {
        lineage.observe(&[listed("a", None, false)], true, Some(second));
        lineage.quiet("a", Some(second));
        assert_eq!(lineage.changes().is_some(), second > 0 && second % STALE == 0, "{second}");
    }
}

/// A stream as it is, and a reader that follows the lineage.
#[derive(Debug)]
struct World {
    now: u64,
    shards: Vec<Truth>,
    lineage: Option<Lineage>,
    /// What survives a crash.
    durable: LineageRows,
    /// Shards that were in a listing the reader remembers, and those that had ended before the start.
    seen: BTreeSet<usize>,
    ended_before: BTreeSet<usize>,
}

#[derive(Debug)]
struct Truth {
    parent: Option<usize>,
    /// When each record was created.
    records: Vec<u64>,
    /// How many of them were trimmed.
    trimmed: usize,
    /// How often each record was read, durably.
    read: Vec<u32>,
    closed: Option<u64>,
    /// Whole listings in a row that lacked it by mistake.
    omitted: u32,
    /// When it was made, or listed last.
    present: u64,
}

#[derive(Debug, Clone)]
enum Step {
    Write {
        shard: usize,
        count: usize,
    },
    Split {
        shard: usize,
        children: usize,
    },
    Wait {
        seconds: u64,
    },
    /// The mask says which shards are left out, by mistake, and the seed how they are ordered.
    List {
        left_out: u64,
        seed: u64,
    },
    /// With `crash` the process ends before anything of it is remembered.
    Read {
        shard: usize,
        count: usize,
        crash: bool,
    },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<usize>(), 1..4_usize).prop_map(|(shard, count)| Step::Write { shard, count }),
        1 => (any::<usize>(), 1..3_usize).prop_map(|(shard, children)| Step::Split { shard, children }),
        2 => prop_oneof![8 => 1..600_u64, 1 => 3600..20_000_u64, 1 => 80_000..130_000_u64]
            .prop_map(|seconds| Step::Wait { seconds }),
        2 => (prop_oneof![Just(0), any::<u64>()], any::<u64>())
            .prop_map(|(left_out, seed)| Step::List { left_out, seed }),
        5 => (any::<usize>(), 0..6_usize, prop::bool::weighted(0.15))
            .prop_map(|(shard, count, crash)| Step::Read { shard, count, crash }),
        1 => Just(Step::Crash),
    ]
}

fn name(shard: usize) -> String {
    format!("s{shard:03}")
}

fn number(id: &str) -> usize {
    id[1..].parse().unwrap()
}

impl World {
    fn new(shards: usize) -> Self {
        let mut world = Self {
            now: 1_000_000,
            shards: Vec::new(),
            lineage: None,
            durable: LineageRows::default(),
            seen: BTreeSet::new(),
            ended_before: BTreeSet::new(),
        };
        (0..shards).for_each(|_| world.add(None));
        world
    }

    fn add(&mut self, parent: Option<usize>) {
        let (records, read) = (Vec::new(), Vec::new());
        self.shards.push(Truth { parent, records, trimmed: 0, read, closed: None, omitted: 0, present: self.now });
    }

    fn is_there(&self, shard: usize) -> bool {
        self.shards[shard].closed.is_none_or(|closed| closed + RETENTION >= self.now)
    }

    fn take(&mut self, step: &Step) {
        let open: Vec<usize> = (0..self.shards.len()).filter(|i| self.shards[*i].closed.is_none()).collect();
        match *step {
            Step::Write { shard, count } => {
                let shard = &mut self.shards[open[shard % open.len()]];
                shard.records.extend(std::iter::repeat_n(self.now, count));
                shard.read.extend(std::iter::repeat_n(0, count));
            }
            Step::Split { shard, children } => {
                let parent = open[shard % open.len()];
                self.shards[parent].closed = Some(self.now);
                (0..children).for_each(|_| self.add(Some(parent)));
            }
            Step::Wait { seconds } => {
                self.now += seconds;
                for shard in &mut self.shards {
                    shard.trimmed = shard.records.iter().filter(|created| **created + RETENTION < self.now).count();
                }
            }
            Step::List { left_out, seed } => self.list(left_out, seed, true),
            Step::Read { shard, count, crash } => {
                self.read(shard, count, crash);
                if crash {
                    self.crash();
                }
            }
            Step::Crash => self.crash(),
        }
    }

    fn list(&mut self, left_out: u64, seed: u64, enabled: bool) {
        // What was written before a listing was written in an earlier second.
        self.take(&Step::Wait { seconds: 1 });
        let mut order: Vec<usize> = (0..self.shards.len()).filter(|shard| self.is_there(*shard)).collect();
        // No shard is left out so often that anybody would believe it gone.
        for shard in &order {
            let truth = &mut self.shards[*shard];
            let believed = truth.omitted + 2 < ABSENT_LISTINGS && self.now < truth.present + INCONSISTENT;
            if left_out >> (shard % 64) & 1 == 1 && believed {
                truth.omitted += 1;
            } else {
                (truth.omitted, truth.present) = (0, self.now);
            }
        }
        let complete = order.iter().all(|shard| self.shards[*shard].omitted == 0);
        order.retain(|shard| self.shards[*shard].omitted == 0);
        order.sort_by_key(|shard| (*shard as u64 + 1).wrapping_mul(seed | 1).rotate_left(17));
        let entry = |shard: &usize| {
            let truth = &self.shards[*shard];
            Listed { id: name(*shard), parent: truth.parent.map(name), closed: truth.closed.is_some() }
        };
        let listing: Vec<Listed> = order.iter().map(entry).collect();
        self.seen.extend(&order);
        match &mut self.lineage {
            None => {
                let continued: BTreeSet<usize> = order.iter().filter_map(|shard| self.shards[*shard].parent).collect();
                let ended = order.iter().filter(|shard| self.shards[**shard].closed.is_some());
                self.ended_before = ended.filter(|shard| continued.contains(shard)).copied().collect();
                self.lineage = Some(begin(&listing, enabled, Some(self.now)));
            }
            Some(lineage) => lineage.observe(&listing, enabled, Some(self.now)),
        }
        self.remember();
        let moment = self.now - 1;
        if complete && self.lineage.as_ref().unwrap().drained_to(moment).is_some() {
            self.demand_accounted(moment);
        }
    }

    fn remember(&mut self) {
        let Some(LineageChange { rows, forgotten }) = self.lineage.as_mut().unwrap().changes() else { return };
        let before = std::mem::replace(&mut self.durable, rows);
        let kept =
            |row: &ShardRow| !forgotten.contains(&row.id) && self.durable.shards.iter().all(|new| new.id != row.id);
        let kept: Vec<ShardRow> = before.shards.into_iter().filter(kept).collect();
        self.durable.shards.extend(kept);
    }

    fn crash(&mut self) {
        if self.lineage.is_some() {
            self.lineage = Some(Lineage::restore(self.durable.clone(), 0));
        }
    }

    /// Reads some records of a shard that may be read. Unless it crashes, they are done durably.
    fn read(&mut self, shard: usize, count: usize, crash: bool) {
        let Some(lineage) = &mut self.lineage else { return };
        let readable: Vec<String> = lineage.readable().map(str::to_owned).collect();
        if readable.is_empty() {
            return;
        }
        let id = &readable[shard % readable.len()];
        let shard = number(id);
        let place = lineage.open(id, Some(self.now));
        if self.shards[shard].closed.is_some_and(|closed| closed + RETENTION < self.now) {
            self.lineage.as_mut().unwrap().gone(id, Some(self.now));
        } else {
            let truth = &mut self.shards[shard];
            let from = match place {
                Place::NotStarted => Some(truth.trimmed),
                Place::After(last) => Some(last.parse::<usize>().unwrap() + 1).filter(|next| *next > truth.trimmed),
                Place::Drained | Place::Gone => panic!("{id} was done"),
            };
            match from {
                None => lineage.trimmed(id, Some(self.now)),
                Some(from) => {
                    let to = truth.records.len().min(from + count);
                    if !crash {
                        truth.read[from..to].iter_mut().for_each(|times| *times += 1);
                    }
                    if to > from {
                        lineage.done(id, &(to - 1).to_string(), Some(truth.records[to - 1]));
                    }
                    if to == truth.records.len() && truth.closed.is_some() {
                        lineage.drained(id);
                    } else if to == truth.records.len() && count > 0 {
                        lineage.quiet(id, Some(self.now));
                    }
                    if to > from {
                        self.demand_not_overtaken(shard);
                    }
                }
            }
        }
        if !crash {
            self.remember();
        }
    }

    /// Before a record of a shard is read, everything of the shard that it continues was read or lost.
    fn demand_not_overtaken(&self, shard: usize) {
        let Some(parent) = self.shards[shard].parent else { return };
        if self.seen.contains(&parent) && !self.ended_before.contains(&parent) {
            for (record, created) in self.shards[parent].records.iter().enumerate() {
                let done = self.shards[parent].read[record] > 0 || self.is_lost(parent, *created);
                let before = self.lineage.as_ref().unwrap().start.is_some_and(|start| *created < start);
                assert!(done || before, "{} overtakes record {record} of its parent", name(shard));
            }
        }
    }

    /// Whether a record is in a gap of its shard, or of one that came before or after it in its line.
    fn is_lost(&self, shard: usize, created: u64) -> bool {
        let line = |shard| std::iter::successors(Some(shard), |shard: &usize| self.shards[*shard].parent);
        self.lineage.as_ref().unwrap().gaps().any(|(id, gap)| {
            let within = gap.from.is_none_or(|from| from <= created) && gap.to.is_none_or(|to| created <= to);
            let other = number(id);
            within && (line(shard).any(|above| above == other) || line(other).any(|above| above == shard))
        })
    }

    /// Every record from the start up to a moment was read exactly once, or is in a gap.
    fn demand_accounted(&self, moment: u64) {
        let start = self.lineage.as_ref().unwrap().start.unwrap();
        for (shard, truth) in self.shards.iter().enumerate() {
            for (record, (created, times)) in truth.records.iter().zip(&truth.read).enumerate() {
                assert!(*times <= 1, "record {record} of {} was done {times} times", name(shard));
                if (start..=moment).contains(created) && *times == 0 {
                    assert!(self.is_lost(shard, *created), "record {record} of {} was skipped: {self:#?}", name(shard));
                }
            }
        }
    }

    /// The stream is disabled, and read to its end.
    fn end(&mut self) {
        for shard in &mut self.shards {
            shard.closed.get_or_insert(self.now);
        }
        for turn in 0..2 * u64::from(ABSENT_LISTINGS) {
            self.list(0, turn, turn < u64::from(ABSENT_LISTINGS) + 1);
            while self.lineage.as_ref().unwrap().readable().next().is_some() {
                self.read(0, 100, false);
            }
        }
        let drained = self.lineage.as_ref().unwrap().drained_to(self.now);
        assert!(drained.is_some(), "not drained: {self:#?}");
        self.demand_accounted(self.now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_shard_is_read_once_and_after_its_parent_or_is_a_gap(
        shards in 1..4_usize,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(shards);
        for step in &steps {
            world.take(step);
        }
        world.end();
    }
}

fn gaps(lineage: &Lineage) -> Vec<(&str, Option<u64>, Option<u64>, u32)> {
    lineage.gaps().map(|(id, Gap { from, to, pass })| (id, from, to, pass)).collect()
}

#[test]
fn from_the_trim_horizon_everything_is_read() {
    let listing = [listed("a", None, true), listed("b", Some("a"), false), listed("c", None, false)];
    let mut lineage = Lineage::begin("stream", From::TrimHorizon, 0, &listing, true, Some(1000));
    assert_eq!(readable(&lineage), ["a", "c"]);
    assert!(!lineage.is_before_start(Some(0)));
    assert!(lineage.open("a", Some(1000 + RETENTION)) == Place::NotStarted && lineage.gaps().next().is_none());
    let mut late = lineage.clone();
    late.open("a", Some(1001 + RETENTION));
    assert_eq!(gaps(&late), [("a", None, Some(1001), 0)]);
    // Not begun with for a day, something of unknown age was lost.
    let day = RETENTION + 1000;
    lineage.done("c", "1", Some(1000));
    lineage.observe(&listing, true, Some(day));
    assert!(gaps(&lineage).contains(&("a", Some(0), Some(day), 0)));
}

#[test]
fn what_came_and_went_while_nobody_looked_is_a_gap() {
    // What was there at the start, and what continued it, were missing in the listings: nobody ever saw them.
    let mut lineage = begin(&[], true, Some(10_000));
    lineage.observe(&[listed("c", Some("b"), false)], true, Some(10_001));
    lineage.quiet("c", Some(10_001));
    let later = 10_001 + RETENTION;
    lineage.observe(&[listed("c", Some("b"), false)], true, Some(later));
    assert_eq!(gaps(&lineage), [("c", Some(10_001 - INCONSISTENT), Some(later), 0)]);
    let mut nothing = begin(&[], true, Some(10_000));
    nothing.observe(&[listed("c", None, false)], true, Some(later));
    assert_eq!(gaps(&nothing), [("c", Some(10_000 - INCONSISTENT), Some(later), 0)]);
}

#[test]
fn a_later_whole_pass_makes_a_gap_good() {
    let listing = [listed("a", None, false), listed("b", None, false)];
    let mut lineage = Lineage::begin("stream", From::Now, 3, &listing, true, Some(1000));
    assert_eq!(lineage.pass_wanted(), 4);
    lineage.pass_began(4);
    lineage.trimmed("a", Some(2000));
    // Pages of it were read before the loss was found.
    lineage.pass_ended(4);
    assert_eq!((lineage.pass_wanted(), gaps(&lineage)), (5, vec![("a", Some(1000), Some(2000), 4)]));
    lineage.pass_began(5);
    lineage.trimmed("b", Some(3000));
    lineage.changes();
    lineage.pass_ended(5);
    assert!(!lineage.scanned());
    assert_eq!((lineage.pass_wanted(), gaps(&lineage)), (6, vec![("b", Some(1000), Some(3000), 5)]));
    let change = lineage.changes().unwrap();
    assert!(matches!(&change.rows.shards[..], [ShardRow { id, gap: None, .. }] if id == "a"), "{change:?}");
    let mut again = Lineage::restore(LineageRows { shards: Vec::new(), ..change.rows }, 5);
    assert_eq!(again.pass_wanted(), 4);
    again.pass_ended(6);
    assert!(again.scanned() && again.changes().is_none());
}

#[test]
fn another_stream_is_a_gap_and_a_start() {
    let mut before = begin(&[listed("a", None, false), listed("b", None, true)], true, Some(1000));
    before.done("a", "1", Some(1500));
    let rows = before.changes().unwrap().rows;
    let listing = [listed("c", None, true), listed("d", Some("c"), false)];
    let mut lineage = Lineage::replace(rows, "another", 2, &listing, true, Some(9000));
    assert_eq!(gaps(&lineage), [("a", Some(1500), Some(9000), 2), ("b", Some(1000), Some(9000), 2)]);
    assert_eq!((readable(&lineage), lineage.pass_wanted(), lineage.start()), (vec!["c"], 3, None));
    let rows = lineage.changes().unwrap().rows;
    assert_eq!((rows.stream.as_str(), rows.pass, rows.shards.len()), ("another", 2, 4));
    lineage.pass_ended(3);
    for _ in 0..ABSENT_LISTINGS {
        lineage.observe(&listing, true, Some(9001));
    }
    assert_eq!(lineage.changes().unwrap().forgotten, ["a", "b"]);
}

#[test]
fn of_what_was_not_begun_with_another_stream_loses_all_that_is_younger_than_what_it_continues() {
    let listing = [listed("a", None, true), listed("b", Some("a"), true), listed("c", Some("b"), false)];
    let mut before = begin(&listing[..1], true, Some(1000));
    before.observe(&listing, true, Some(1700));
    before.done("a", "1", Some(1500));
    let rows = before.changes().unwrap().rows;
    let lineage = Lineage::replace(rows, "another", 0, &[], true, Some(9000));
    let since = |id| (id, Some(1500), Some(9000), 0);
    assert_eq!(gaps(&lineage), ["a", "b", "c"].map(since));

    // From the trim horizon nobody knows how old the records of any shard are.
    let rows = Lineage::begin("stream", From::TrimHorizon, 0, &listing, true, Some(1700)).changes().unwrap().rows;
    let lineage = Lineage::replace(rows, "another", 0, &[], true, Some(9000));
    assert_eq!(gaps(&lineage), ["a", "b", "c"].map(|id| (id, None, Some(9000), 0)));
}

#[test]
fn another_stream_is_a_gap_even_if_nothing_is_known_of_the_one_before() {
    let rows = begin(&[], true, Some(1000)).changes().unwrap().rows;
    let lineage = Lineage::replace(rows, "another", 2, &[listed("d", None, false)], true, Some(9000));
    assert_eq!(gaps(&lineage), [("d", Some(0), Some(9000), 2)]);
}

#[test]
fn children_may_be_told_apart_from_a_listing() {
    let mut lineage = begin(&[listed("a", None, true)], true, Some(0));
    lineage.drained("a");
    lineage.observe_children(&[listed("b", Some("a"), false)]);
    lineage.observe_children(&[listed("b", Some("a"), false)]);
    assert_eq!(readable(&lineage), ["b"]);
}
