//! Worlds: a table, applications, a job, services that fail and processes that die, all from one number.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::crypto::{Matching, Suite, Wanted};
use crate::format::{Action, Schema, Unsigned};
use crate::item::{Item, KeyNames, Number, Value};
use crate::testing::View;

/// A generator whose numbers are the same on every machine and in every version.
pub(super) type Rng = Xoshiro256PlusPlus;

/// Everything that happens by choice in one simulation. The same world runs the same way.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// The number it was made from; also seeds what is not written down here: delays, and which calls fail.
    pub seed: u64,
    /// What is to be done.
    pub job: Job,
    /// How the table's items look.
    pub shape: Shape,
    /// The items at the beginning.
    pub items: Vec<Form>,
    /// What applications do.
    pub acts: Vec<Act>,
    /// The processes that work on the job, one after the other. When they are done, more follow until nothing is left.
    pub lives: Vec<Life>,
    /// How the engine is set.
    pub pace: Pace,
    /// How the services behave.
    pub weather: Weather,
    /// The table's stream, if there is one.
    pub stream: Option<Stream>,
    /// What there is to a rotation.
    pub rotation: Rotation,
}

/// What there is to a rotation: nothing of it in the worlds of other jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Whether the data key of an item that is sealed already stays.
    pub rewraps: bool,
    /// Whether the older form has the other suite.
    pub other_suite: bool,
    /// The versions of the target's key.
    pub versions: Versions,
    /// The Regions of the target's key.
    pub regions: Regions,
}

/// The versions of the target's key, and which one a process seals under.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Versions {
    /// There is one.
    #[default]
    One,
    /// The one that was active when the process began.
    Cached,
    /// The one that is active.
    Latest,
}

/// The Regions of the target's key, and in which of them the target's readers accept it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Regions {
    /// Nobody uses another one than the target's.
    #[default]
    One,
    /// Applications seal in another one, too, which the target's readers do not accept.
    Strict,
    /// Applications seal in another one, too, and the target's readers accept it.
    Any,
}

/// A table's stream, and what goes on while the last process reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// What records say.
    pub view: View,
    /// Shards in a page of a listing, and records in an answer, at most.
    pub pages: (usize, usize),
    /// What applications do while the last process works; times are from its beginning.
    pub last: Vec<Act>,
}

/// A job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// From plaintext to sealed.
    Seal,
    /// From whatever there is to sealed for another key.
    Rotate,
    /// From sealed to plaintext.
    Unseal,
}

/// How the items of a table look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The header version.
    pub version: u8,
    /// Whether the target signs.
    pub signs: bool,
    /// Whether there is a sort key.
    pub sort: bool,
    /// Whether the older form signed `note` only, which the newer one encrypts.
    pub widens: bool,
}

/// The form of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// In plaintext.
    Plain,
    /// Sealed under the job's older key.
    Old,
    /// At the target already, or what a client that was switched would write.
    New,
    /// The same, in another Region of the target's key.
    Replica,
    /// In plaintext, with an attribute that the job does not name.
    Unnamed,
    /// In plaintext, and so large that it cannot be sealed.
    Large,
}

/// Something that an application, or the service on its own, does to one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// When.
    pub when: When,
    /// Which item: by its number, or at another item's moment that one.
    pub item: usize,
    /// What.
    pub what: What,
}

/// When something is done. The worst moments are those around the engine's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At this millisecond.
    At(u64),
    /// Just before the n-th rewrite takes effect, to its item.
    BeforeWrite(u64),
    /// Just after the n-th rewrite took effect, to its item.
    AfterWrite(u64),
    /// Just after the n-th item was read, to that item.
    AfterRead(u64),
    /// Just after the n-th batch of records was read that is not empty, to the item of the first.
    AfterRecords(u64),
}

/// What an application does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Puts a whole item, with content of its own.
    Put(Form),
    /// Reads the item, adds an attribute or takes it away, and puts the whole item, all else as it was.
    Amend,
    /// Puts the item back as it was so many writes ago.
    PutBack(usize),
    /// Changes an attribute outside the signature.
    Touch,
    /// Deletes the item; so does the service when its time to live is over.
    Delete,
    /// Sets a single attribute that the job protects: a mistake.
    RawSet(&'static str),
    /// Adds an attribute that nobody configured: a mistake.
    RawNew,
    /// Nothing: but the machine's clock is set by so many seconds.
    Jump(i64),
    /// Nothing: but the target's key gets another version, which is active from then on.
    NewVersion,
    /// Nothing: but an open shard of the stream is closed, and so many continue it.
    Split(u64),
    /// Nothing: but the stream is disabled, until somebody wants to read it.
    Disable,
    /// Nothing: but the stream is disabled, and another one enabled.
    Renew,
}

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// How it ends before its time.
    pub end: Option<End>,
    /// What it does.
    pub work: Work,
    /// The most items that it may rewrite.
    pub max_items: Option<u64>,
    /// Seconds that nobody works after it, besides the second that always passes.
    pub pause: u64,
}

/// What a process does. Without a stream, those that would read it make passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Passes.
    Run,
    /// Passes, and the stream beside them.
    RunAndTail,
    /// The stream alone: until it is stopped, or if nobody stops it, until it is drained.
    Tail,
    /// Some keys.
    Keys,
}

/// How a process ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It dies at its n-th moment: two for each call of a port.
    Killed(u64),
    /// The operator stops it after so many milliseconds.
    Stopped(u64),
    /// The operator stops it at once after so many milliseconds.
    StoppedAtOnce(u64),
}

/// How the engine is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Segments.
    pub segments: u32,
    /// Items per page.
    pub page_items: u32,
    /// Pages in flight per lane.
    pub pages_in_flight: usize,
    /// Write and key requests in flight per page.
    pub in_flight: usize,
    /// Looks at one item.
    pub attempts: u32,
    /// Whether it writes one by one.
    pub single: bool,
    /// Budgets: read units, write units, key requests per second.
    pub budgets: [Option<u32>; 3],
}

/// How the services behave. Chances are per thousand calls, or per thousand statements where it says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weather {
    /// The longest that a request or an answer is on its way, in milliseconds.
    pub delay_ms: u64,
    /// Asked for fewer requests, without any capacity being short.
    pub throttled: u32,
    /// Nobody answers; whether the request takes effect, and when, differs.
    pub silent: u32,
    /// Statements that fail in a batch whose others do not.
    pub partial: u32,
    /// Failed conditions that come back without the item.
    pub without_item: u32,
    /// Write units per second that the table has, its index, and each of its four ranges of keys a third of.
    pub provisioned: Option<u32>,
    /// Between these milliseconds the credentials are expired.
    pub expired: Option<(u64, u64)>,
    /// Batches are not allowed.
    pub batch_denied: bool,
    /// Writes are applied whatever their condition: nothing may be written.
    pub ignores_conditions: bool,
    /// Requests for keys that are throttled.
    pub keys_throttled: u32,
    /// Requests for keys that nobody answers.
    pub keys_silent: u32,
    /// Of a thousand encryption contexts, those under which no key is given.
    pub keys_denied: u32,
    /// Between these milliseconds the key is disabled.
    pub key_disabled: Option<(u64, u64)>,
    /// What is wrapped cannot be unwrapped: nothing may be written.
    pub keys_damaged: bool,
    /// Answers without records although there are some.
    pub held_back: u32,
    /// Listings of shards that lack one, or show one as open that is closed.
    pub listings: u32,
    /// Iterators that have expired before their time.
    pub iterators: u32,
    /// The n-th call to the stream takes so many seconds: nobody is there, or the machine sleeps.
    pub stalled: Option<(u64, u64)>,
}

impl World {
    /// The world that a number stands for.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let rng = &mut Rng::seed_from_u64(seed);
        let job =
            *[Job::Seal, Job::Seal, Job::Seal, Job::Rotate, Job::Rotate, Job::Unseal].choose(rng).unwrap_or(&Job::Seal);
        let shape = Shape {
            version: rng.random_range(1..=2),
            signs: rng.random_ratio(1, 30),
            sort: rng.random(),
            widens: rng.random_ratio(1, 3),
        };
        // Applications that make no mistakes, some, or all.
        let (raw, unnamed) = *[(false, false), (false, false), (false, true), (true, false), (true, true)]
            .choose(rng)
            .unwrap_or(&(false, false));
        let starts: &[Form] = match job {
            Job::Seal => &[Form::Plain, Form::Plain, Form::Plain, Form::Plain, Form::New],
            Job::Rotate => &[Form::Old, Form::Old, Form::Old, Form::Plain, Form::New],
            Job::Unseal => &[Form::Old, Form::Old, Form::Old, Form::New],
        };
        let mut items: Vec<Form> =
            (0..rng.random_range(1..=14)).map(|_| starts.choose(rng).copied().unwrap_or(Form::Plain)).collect();
        if job != Job::Unseal && rng.random_ratio(1, 4) {
            items.push(Form::Unnamed);
        }
        if job == Job::Seal && rng.random_ratio(1, 300) {
            items.push(Form::Large);
        }
        let acts = (0..rng.random_range(0..=24)).map(|_| Act::random(rng, job, items.len(), raw, unnamed)).collect();
        let lives = (0..rng.random_range(0..=4)).map(|_| Life::random(rng)).collect();
        let (pace, weather) = (Pace::random(rng), Weather::random(rng));
        let mut world =
            Self { seed, job, shape, items, acts, lives, pace, weather, stream: None, rotation: Rotation::default() };
        if rng.random() {
            world.add_stream(rng, raw, unnamed);
        }
        if job == Job::Rotate {
            world.add_rotation(&mut Rng::seed_from_u64(seed ^ 0x0407_A7E5), raw, unnamed);
        }
        world
    }

    /// Makes a rotation of what would be no more than another key.
    fn add_rotation(&mut self, rng: &mut Rng, raw: bool, unnamed: bool) {
        self.rotation = Rotation {
            rewraps: rng.random(),
            other_suite: rng.random_ratio(1, 8),
            versions: *[Versions::One, Versions::One, Versions::Cached, Versions::Latest]
                .choose(rng)
                .unwrap_or(&Versions::One),
            regions: *[Regions::One, Regions::Strict, Regions::Any].choose(rng).unwrap_or(&Regions::One),
        };
        if self.rotation.rewraps {
            self.shape.signs |= rng.random_ratio(1, 8);
            // A rewrap refuses to change what is encrypted.
            self.shape.widens &= rng.random_ratio(1, 4);
        }
        let last = self.stream.as_mut().map_or(&mut [][..], |stream| &mut stream.last);
        let put = self.acts.iter_mut().chain(last).filter_map(|act| match &mut act.what {
            What::Put(form) => Some(form),
            _ => None,
        });
        if self.rotation.regions != Regions::One {
            for form in self.items.iter_mut().chain(put).filter(|form| matches!(form, Form::Old | Form::New)) {
                if rng.random_ratio(1, 3) {
                    *form = Form::Replica;
                }
            }
        }
        if self.rotation.versions != Versions::One {
            let mut activation = || {
                let act = Act::random(rng, self.job, self.items.len(), raw, unnamed);
                Act { what: What::NewVersion, ..act }
            };
            self.acts.extend([activation(), activation()]);
            if let Some(stream) = &mut self.stream {
                stream.last.push(activation());
            }
        }
    }

    /// Gives the table a stream, and the processes something to do with it.
    fn add_stream(&mut self, rng: &mut Rng, raw: bool, unnamed: bool) {
        let views = [View::KeysOnly, View::NewImage, View::OldImage, View::NewAndOldImages, View::NewAndOldImages];
        let mut last = Vec::new();
        for life in &mut self.lives {
            life.add_stream(rng);
        }
        // What happens while nobody reads happens too.
        let paused: u64 = self.lives.iter().map(|life| life.pause).sum();
        for _ in 0..rng.random_range(0..=16) {
            let mut act = Act::random(rng, self.job, self.items.len(), raw, unnamed);
            act.when = match (act.when, rng.random_range(0..4)) {
                (When::At(_), 0) => When::At(1000 * rng.random_range(0..60 + paused)),
                (When::At(ms), _) => When::At(20 * ms),
                (_, 0) => When::AfterRecords(rng.random_range(0..12)),
                (when, _) => when,
            };
            match rng.random_range(0..12) {
                0..=2 => act.what = What::Split(rng.random_range(1..=3)),
                3 if rng.random_ratio(1, 3) => {
                    act.what = if rng.random() { What::Disable } else { What::Renew };
                }
                _ => {}
            }
            self.acts.push(act);
        }
        for _ in 0..rng.random_range(0..=12) {
            let mut act = Act::random(rng, self.job, self.items.len(), raw, unnamed);
            if let When::At(ms) = act.when {
                act.when = When::At(ms * rng.random_range(1..25));
            }
            match rng.random_range(0..8) {
                0 => act.what = What::Split(rng.random_range(1..=3)),
                1..=4 => act.what = What::Put(if self.job == Job::Unseal { Form::Old } else { Form::Plain }),
                _ => {}
            }
            last.push(act);
        }
        let chance = |rng: &mut Rng| if rng.random_ratio(1, 3) { rng.random_range(50..500) } else { 0 };
        self.weather.held_back = chance(rng);
        self.weather.listings = chance(rng);
        self.weather.iterators = chance(rng) / 5;
        self.weather.stalled = rng.random_ratio(1, 10).then(|| (rng.random_range(0..60), Life::long(rng)));
        let (shards, records) = (rng.random_range(1..=4), rng.random_range(1..=9));
        let view = *views.choose(rng).unwrap_or(&View::NewAndOldImages);
        self.stream = Some(Stream { view, pages: (shards, records), last });
    }

    /// The items' schema under the target, or under the older form.
    pub(super) fn schema(&self, form: Form) -> Schema {
        let context =
            if self.shape.version == 2 { Action::SignAndIncludeInEncryptionContext } else { Action::SignOnly };
        let note = if form == Form::Old && self.shape.widens { Action::SignOnly } else { Action::EncryptAndSign };
        let mut actions = BTreeMap::from([
            ("id".to_owned(), context),
            ("email".to_owned(), Action::EncryptAndSign),
            ("note".to_owned(), note),
            ("region".to_owned(), context),
            ("visits".to_owned(), Action::DoNothing),
        ]);
        if self.shape.sort {
            actions.insert("at".to_owned(), context);
        }
        Schema {
            logical_table: "customers".to_owned(),
            keys: self.keys(),
            actions,
            unsigned: Unsigned { names: BTreeSet::from(["visits".to_owned()]), prefix: Some(":".to_owned()) },
        }
    }

    pub(super) fn keys(&self) -> KeyNames {
        KeyNames { partition: "id".to_owned(), sort: self.shape.sort.then(|| "at".to_owned()) }
    }

    /// The suite of a form.
    pub(super) fn suite(&self, form: Form) -> Suite {
        let other = form == Form::Old && self.rotation.other_suite;
        if self.shape.signs == other { Suite::HmacSha384 } else { Suite::EcdsaP384 }
    }

    /// The key of a form.
    pub(super) const fn key_of(form: Form) -> &'static str {
        match form {
            Form::Old => OLD_KEY,
            Form::Replica => REPLICA,
            Form::New | Form::Plain | Form::Unnamed | Form::Large => NEW_KEY,
        }
    }

    /// Whom the target's items are for.
    pub(super) fn wanted(&self) -> Wanted {
        let matching = match self.rotation.regions {
            Regions::Any => Matching::AnyRegion,
            Regions::One | Regions::Strict => Matching::Exact,
        };
        Wanted { matching, ..Wanted::exactly(super::keys::recipient(NEW_KEY)) }
    }

    /// An item in plaintext, the n-th that is written; its secrets carry a mark that is looked for where it must not be.
    pub(super) fn item(&self, number: usize, n: u64, form: Form) -> Item {
        let mut item: Item = [
            ("id".to_owned(), Value::from(format!("c{:02}", number / 2 * 2).as_str())),
            ("email".to_owned(), Value::from(format!("{SECRET}{n}@example.org").as_str())),
            ("region".to_owned(), Value::from(if n.is_multiple_of(3) { "us" } else { "eu" })),
            ("visits".to_owned(), number_value(n)),
        ]
        .into_iter()
        .collect();
        if self.shape.sort {
            // Two items share a partition.
            item.insert("at", number_value(number as u64));
        } else {
            item.insert("id", Value::from(format!("c{number:02}").as_str()));
        }
        if n % 4 != 1 {
            item.insert("note", Value::List(vec![number_value(n), Value::from(SECRET)]));
        }
        match form {
            Form::Unnamed => drop(item.insert(UNNAMED, Value::from("x"))),
            Form::Large => drop(item.insert("email", Value::from("x".repeat(400 * 1024 - 200).as_str()))),
            Form::Plain | Form::Old | Form::New | Form::Replica => {}
        }
        item
    }
}

/// The job's older key.
pub(super) const OLD_KEY: &str = "old";
/// The target's key.
pub(super) const NEW_KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/mrk-new";
/// The same in another Region.
pub(super) const REPLICA: &str = "arn:aws:kms:us-east-1:111122223333:key/mrk-new";
/// The attribute that nobody configured.
pub(super) const UNNAMED: &str = "surprise";
/// In every value that is to be encrypted.
pub(super) const SECRET: &str = "TOPSECRET";

pub(super) fn number_value(n: u64) -> Value {
    Value::Number(Number::parse(&n.to_string()).expect("digits are a number"))
}

impl Act {
    fn random(rng: &mut Rng, job: Job, items: usize, raw: bool, unnamed: bool) -> Self {
        let when = match rng.random_range(0..8) {
            0..=2 => When::At(rng.random_range(0..3_000)),
            3..=4 => When::BeforeWrite(rng.random_range(0..40)),
            5..=6 => When::AfterWrite(rng.random_range(0..40)),
            _ => When::AfterRead(rng.random_range(0..60)),
        };
        let mut whats = vec![What::Put(Form::Plain), What::Put(Form::New), What::Amend, What::Amend];
        whats.extend([What::Touch, What::Touch, What::Delete, What::PutBack(rng.random_range(1..4))]);
        if job == Job::Rotate {
            whats.push(What::Put(Form::Old));
        }
        if raw {
            whats.extend(["email", "note", "region"].map(What::RawSet));
        }
        if unnamed {
            whats.extend([What::RawNew; 2]);
        }
        if rng.random_ratio(1, 20) {
            whats = vec![What::Jump(rng.random_range(-4_000..4_000))];
        }
        Self { when, item: rng.random_range(0..items), what: whats.choose(rng).copied().unwrap_or(What::Touch) }
    }
}

impl Life {
    fn random(rng: &mut Rng) -> Self {
        let end = match rng.random_range(0..10) {
            0..=5 => Some(End::Killed(rng.random_range(0..120))),
            6 => Some(End::Stopped(rng.random_range(0..2_000))),
            7 => Some(End::StoppedAtOnce(rng.random_range(0..2_000))),
            _ => None,
        };
        let max_items = rng.random_ratio(1, 8).then(|| rng.random_range(0..6));
        let work = if rng.random_ratio(1, 10) { Work::Keys } else { Work::Run };
        Self { end, work, max_items, pause: 0 }
    }

    /// What it does where there is a stream.
    fn add_stream(&mut self, rng: &mut Rng) {
        if self.work == Work::Run {
            self.work = *[Work::RunAndTail, Work::RunAndTail, Work::Tail, Work::Run].choose(rng).unwrap_or(&Work::Tail);
        }
        self.end = match self.end {
            // To be quiet takes half a minute.
            Some(End::Stopped(ms)) => Some(End::Stopped(20 * ms)),
            Some(End::StoppedAtOnce(ms)) => Some(End::StoppedAtOnce(20 * ms)),
            Some(End::Killed(moment)) => Some(End::Killed(moment * rng.random_range(1..4))),
            None => None,
        };
        if self.work == Work::Tail && rng.random() {
            self.end = None;
        }
        if rng.random_ratio(1, 3) {
            self.pause = Self::long(rng);
        }
    }

    /// So many seconds that iterators expire, or records are trimmed.
    fn long(rng: &mut Rng) -> u64 {
        match rng.random_range(0..4) {
            0 => rng.random_range(0..3_600),
            1 => rng.random_range(0..24 * 3_600),
            _ => rng.random_range(23 * 3_600..50 * 3_600),
        }
    }
}

impl Pace {
    fn random(rng: &mut Rng) -> Self {
        let budget = |rng: &mut Rng| rng.random_ratio(1, 3).then(|| rng.random_range(1..40));
        Self {
            segments: *[1, 1, 2, 4].choose(rng).unwrap_or(&1),
            page_items: rng.random_range(1..=6),
            pages_in_flight: rng.random_range(1..=3),
            in_flight: rng.random_range(1..=4),
            attempts: rng.random_range(1..=4),
            single: rng.random_ratio(1, 5),
            budgets: [budget(rng), budget(rng), budget(rng)],
        }
    }
}

impl Weather {
    fn random(rng: &mut Rng) -> Self {
        let delay_ms = rng.random_range(0..=40);
        if rng.random_ratio(1, 5) {
            return Self { delay_ms, ..Self::default() };
        }
        if rng.random_ratio(1, 40) {
            return Self { delay_ms, ignores_conditions: true, ..Self::default() };
        }
        if rng.random_ratio(1, 40) {
            return Self { delay_ms, keys_damaged: true, ..Self::default() };
        }
        let chance = |rng: &mut Rng| if rng.random_ratio(1, 3) { rng.random_range(10..300) } else { 0 };
        let window = |rng: &mut Rng| {
            let from = rng.random_range(0..1_500);
            rng.random_ratio(1, 10).then(|| (from, from + rng.random_range(0..20_000)))
        };
        Self {
            delay_ms,
            throttled: chance(rng),
            silent: chance(rng),
            partial: chance(rng),
            without_item: chance(rng),
            provisioned: rng.random_ratio(1, 6).then(|| rng.random_range(3..30)),
            expired: window(rng),
            batch_denied: rng.random_ratio(1, 12),
            keys_throttled: chance(rng),
            keys_silent: chance(rng),
            keys_denied: [150, 150, 1000].choose(rng).copied().filter(|_| rng.random_ratio(1, 6)).unwrap_or(0),
            key_disabled: window(rng),
            ..Self::default()
        }
    }
}
