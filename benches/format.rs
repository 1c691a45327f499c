//! What it costs to seal and to open an item, in CPU time: three shapes, both suites, the raw AES keyring included.
//!
//! `cargo bench --bench format`; results with date and machine are in `docs/BENCHMARKS.md`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, criterion_group, criterion_main};
use reseal::crypto::Suite;
use reseal::format::{Action, Schema, Unsigned};
use reseal::item::{Item, KeyNames, Value};

#[path = "../tests/sealing/mod.rs"]
mod sealing;

/// Name, number and bytes of the encrypted attributes; the key and two more attributes are signed.
const SHAPES: [(&str, usize, usize); 3] = [("5x40", 5, 40), ("1x4096", 1, 4096), ("20x100", 20, 100)];

fn shaped(count: usize, bytes: usize) -> (Schema, Item) {
    let text =
        |i: usize, bytes: usize| Value::String((0..bytes).map(|j| char::from(b'a' + ((i + j) % 26) as u8)).collect());
    let encrypted = (0..count).map(|i| (format!("attribute_{i:02}"), text(i, bytes), Action::EncryptAndSign));
    let signed = ["pk", "created", "region"].into_iter().map(|name| (name.to_owned(), text(3, 12), Action::SignOnly));
    let attributes: Vec<(String, Value, Action)> = encrypted.chain(signed).collect();
    let schema = Schema {
        logical_table: "customers".into(),
        keys: KeyNames { partition: "pk".into(), sort: None },
        actions: attributes.iter().map(|(name, _, action)| (name.clone(), *action)).collect(),
        unsigned: Unsigned::default(),
    };
    (schema, attributes.into_iter().map(|(name, value, _)| (name, value)).collect())
}

/// The CPU time of the measuring thread: unlike wall time it does not grow when the machine is busy.
struct CpuTime;

impl CpuTime {
    fn now() -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    }
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        Self::now()
    }

    fn end(&self, start: Duration) -> Duration {
        Self::now().saturating_sub(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn format(criterion: &mut Criterion<CpuTime>) {
    let keyring = sealing::keyring();
    for suite in Suite::ALL {
        let signature = if suite.signs() { "ecdsa" } else { "hmac" };
        for (shape, count, bytes) in SHAPES {
            let (schema, item) = shaped(count, bytes);
            criterion.bench_function(&format!("seal/{signature}/{shape}"), |bench| {
                bench.iter(|| sealing::seal(&keyring, &schema, suite, black_box(&item)).unwrap());
            });
            let sealed = sealing::seal(&keyring, &schema, suite, &item).unwrap();
            criterion.bench_function(&format!("open/{signature}/{shape}"), |bench| {
                bench.iter(|| sealing::open(&keyring, &schema, black_box(&sealed)).unwrap());
            });
        }
    }
}

criterion_group!(name = benches; config = Criterion::default().with_measurement(CpuTime); targets = format);
criterion_main!(benches);
