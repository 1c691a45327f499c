//! What a human sees while a run is under way, or a script reads: a fold over the engine's events.

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::{output, report};

use crate::migration::Tally;
use crate::pipeline::{Event, Observer};

/// The status line of a run, on standard error; or, for `--json`, one line per event on standard output.
pub(super) struct Progress {
    shown: Arc<Shown>,
}

/// What the events have added up to.
struct Shown {
    bar: ProgressBar,
    json: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of the present pass.
    tally: Tally,
    /// Of the stream.
    tailed: Tally,
    following: bool,
    rates: Rates,
    /// Seconds by which the tail is behind.
    behind: Option<u64>,
    /// What the run waits for, if it says that it does.
    waiting: String,
}

/// Units per second, over stretches of at least a second.
#[derive(Default)]
struct Rates {
    since: Option<(Instant, [f64; 3])>,
    per_second: [f64; 3],
}

impl Rates {
    /// Takes the sums so far: read units, write units, KMS requests.
    fn add(&mut self, sums: [f64; 3]) {
        let now = Instant::now();
        let (start, before) = *self.since.get_or_insert((now, sums));
        let seconds = (now - start).as_secs_f64();
        if seconds >= 1.0 {
            self.per_second = std::array::from_fn(|i| (sums[i] - before[i]) / seconds);
            self.since = Some((now, sums));
        }
    }
}

impl Progress {
    /// Begins to show a run over about so many items.
    pub(super) fn start(items: u64, json: bool) -> Self {
        let target = if json || !std::io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(4)
        };
        let bar = ProgressBar::with_draw_target(Some(items.max(1)), target);
        let style = "{prefix} [{bar:24}] {pos}/{len} items {per_sec} eta {eta} {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { shown: Arc::new(Shown { bar, json, state: Mutex::default() }) }
    }

    /// Who hears the events.
    pub(super) fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.shown) as Arc<dyn Observer>
    }

    /// Ends the status line.
    pub(super) fn finish(&self) {
        self.shown.bar.finish_and_clear();
    }
}

impl Observer for Shown {
    fn on(&self, event: &Event) {
        if self.json {
            // A reader that is gone must not stop a run that is writing to a table; the end of the run will tell.
            drop(output::json(event));
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::PassBegan { pass, resumed, .. } => {
                state.tally = Tally::default();
                self.bar.set_position(0);
                self.bar.set_prefix(format!("pass {pass}{}", if *resumed { " (resumed)" } else { "" }));
            }
            Event::PageDone { shard, tally, read_units, write_units, kms_requests, .. } => {
                state.waiting.clear();
                state.rates.add([*read_units, *write_units, *kms_requests as f64]);
                if shard.is_none() {
                    state.tally += *tally;
                    self.bar.set_position(state.tally.scanned);
                } else {
                    state.tailed += *tally;
                }
            }
            Event::Failed { key, kind, detail } => self.note(&format!("failed {key}: {kind}: {detail}")),
            Event::Holding { reason } => {
                self.note(&format!("holding: {reason}"));
                state.waiting = format!("holding: {reason}");
            }
            Event::Throttled { reason } => state.waiting = format!("throttled: {reason}"),
            Event::FellBack { reason } => self.note(&format!("single updates from here on: {reason}")),
            Event::Gap { shard, .. } => {
                self.note(&format!("records of {shard} were lost unread: the table must be scanned again"));
            }
            Event::Following { start, resumed, .. } => {
                state.following = true;
                self.note(match (start, resumed) {
                (_, true) => "following the stream from the checkpoint",
                (Some(_), false) => "following the stream from now on",
                (None, false) => "following the stream from its oldest record",
            });
            }
            Event::Exposed { exposed, .. } => self.note(&format!("within the last hour {}", report::exposure(exposed))),
            Event::Health { behind, .. } => state.behind = *behind,
            Event::FallingBehind { field, needed, budget } => self.note(&format!(
                "applications write more than the budget lets reseal follow: budget.{field} is {budget}, about {needed} \
                 would do"
            )),
            Event::Complete => self.note("the scan is done and the stream is drained; following it on"),
            Event::GroundProved { .. } => {}
            Event::PassEnded { pass, tally } => self.note(&format!(
                "pass {pass}: {} scanned, {} rewritten, {} at target, {} superseded, {} failed",
                tally.scanned, tally.rewritten, tally.current, tally.superseded, tally.failed
            )),
        }
        let State { tally, tailed, following, rates, behind, waiting } = &*state;
        let stream = if *following {
            let behind = behind.map_or_else(String::new, |seconds| format!(", {seconds} s behind"));
            format!("; stream: {} rewritten, {} failed{behind}", tailed.rewritten, tailed.failed)
        } else {
            String::new()
        };
        let [read, write, kms] = rates.per_second;
        self.bar.set_message(format!(
            "{} rewritten, {} failed, {read:.0} RCU/s, {write:.0} WCU/s, {kms:.0} KMS/s{stream} {waiting}",
            tally.rewritten, tally.failed
        ));
    }
}

impl Shown {
    /// A line that stays, above the status line or, without a terminal, on standard error.
    fn note(&self, text: &str) {
        if self.bar.is_hidden() {
            output::note(text);
        } else {
            self.bar.println(text);
        }
    }
}
