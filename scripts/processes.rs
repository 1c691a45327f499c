//! What the tests share that run the program as a process of its own, while applications write: the stand-ins, also a
//! process; the table, with what its applications remember; and what its stream says of everybody's writes.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodbstreams::types::{AttributeValue, Record, ShardIteratorType, StreamRecord};
use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reseal::aws::AwsConfig;
use reseal::cli::job::{Job, Target};
use reseal::format::dbesdk;
use reseal::keyring::{KeyArn, Keyring, KmsKeyring, RawAes};
use reseal::local::world::{self, Oracle};
use reseal::migration::{self, Policy};
use reseal::store::{DynamoTable, enable_stream};

/// Any failure, as a sentence.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// `reseal local`, stopped when dropped.
pub(crate) struct StandIns {
    process: Child,
    environment: BTreeMap<String, String>,
}

impl StandIns {
    /// Starts the binary's stand-ins, which keep their files in the folder.
    pub(crate) fn start(reseal: &Path, work: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(reseal);
        command.arg("local").arg("--data").arg(work.join("stand-ins"));
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(process.stdout.take().ok_or("no standard output")?).lines();
        let mut environment = BTreeMap::new();
        for line in lines {
            let line = line?;
            let pair = line.strip_prefix("export ").and_then(|pair| pair.split_once('='));
            let (name, value) = pair.ok_or("not an export line")?;
            environment.insert(name.to_owned(), value.to_owned());
            // The last one that is printed.
            if name == "AWS_SECRET_ACCESS_KEY" {
                return Ok(Self { process, environment });
            }
        }
        Err("the stand-ins did not start".into())
    }

    fn config(&self, service: &str) -> Result<AwsConfig, Failure> {
        Ok(AwsConfig::stand_in(&self.endpoint(service), self.region())?)
    }

    fn endpoint(&self, service: &str) -> String {
        self.environment[&format!("AWS_ENDPOINT_URL_{service}")].clone()
    }

    fn region(&self) -> &str {
        &self.environment["AWS_REGION"]
    }
}

impl Drop for StandIns {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to stop.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What the items are sealed with.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum KeyringType {
    RawAes,
    AwsKms,
}

/// What a table is made from.
pub(crate) struct Settings<'a> {
    /// The binary.
    pub(crate) reseal: &'a Path,
    /// Where everything is kept.
    pub(crate) work: &'a Path,
    pub(crate) seed: u64,
    pub(crate) keyring: KeyringType,
    /// The job's `[budget]`.
    pub(crate) budget: &'a str,
}

/// The table, its applications' memory, and how to start the program.
pub(crate) struct Bench {
    reseal: PathBuf,
    work: PathBuf,
    environment: BTreeMap<String, String>,
    config: AwsConfig,
    streams: aws_sdk_dynamodbstreams::Client,
    pub(crate) client: Client,
    pub(crate) table: DynamoTable,
    pub(crate) policy: Policy,
    pub(crate) keyring: Arc<dyn Keyring>,
    pub(crate) oracle: Arc<Oracle>,
}

/// A command that ran to its end.
pub(crate) struct Ran {
    words: String,
    pub(crate) code: i32,
    output: String,
}

impl Ran {
    pub(crate) fn demand(self, code: i32) -> Result<Self, Failure> {
        let Self { words, code: found, output } = &self;
        if *found == code { Ok(self) } else { Err(format!("`reseal {words}` ended with {found}: {output}").into()) }
    }
}

impl Bench {
    /// Writes the job, and makes the table with the customers of these numbers.
    pub(crate) async fn prepare(
        settings: Settings<'_>,
        stand_ins: &StandIns,
        customers: impl IntoIterator<Item = u64>,
    ) -> Result<Self, Failure> {
        let Settings { reseal, work, seed, keyring, budget } = settings;
        let key: [u8; 32] = StdRng::seed_from_u64(seed).random();
        fs::write(work.join("k1.key"), key)?;
        let (keyring, text): (Arc<dyn Keyring>, _) = match keyring {
            KeyringType::RawAes => {
                let text = r#"{ type = "raw-aes", namespace = "acme", name = "k1", key_file = "k1.key" }"#;
                (Arc::new(RawAes::new("acme", "k1", &key)?), text.to_owned())
            }
            KeyringType::AwsKms => {
                let arn = create_key(stand_ins).await?;
                let keyring = KmsKeyring::new(&stand_ins.config("KMS")?, KeyArn::parse(&arn)?)?;
                (Arc::new(keyring), format!(r#"{{ type = "aws-kms", key_arn = "{arn}" }}"#))
            }
        };
        let text = format!("{}\n[target]\nformat = \"dbesdk\"\nkeyring = {text}\n{budget}", world::job_head());
        let file = work.join("job.toml");
        fs::write(&file, &text)?;
        let job = Job::parse(&text, &file)?;
        let Target::Dbesdk { suite, keyring: settings, depth, .. } = &job.target else {
            return Err("no target".into());
        };
        let target = migration::Target::Dbesdk { suite: *suite, recipients: settings.recipients() };
        let policy = Policy { schema: job.schema, accept_plaintext: true, accept_dbesdk: true, target, depth: *depth };
        let sdk = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(stand_ins.region().to_owned()))
            .credentials_provider(Credentials::new("local", "local", None, None, "stand-in"))
            .retry_config(RetryConfig::disabled())
            .endpoint_url(stand_ins.endpoint("DYNAMODB"));
        let streams = aws_sdk_dynamodbstreams::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(stand_ins.region().to_owned()))
            .credentials_provider(Credentials::new("local", "local", None, None, "stand-in"))
            .endpoint_url(stand_ins.endpoint("DYNAMODB_STREAMS"));
        let config = stand_ins.config("DYNAMODB")?;
        let bench = Self {
            reseal: reseal.to_owned(),
            work: work.to_owned(),
            environment: stand_ins.environment.clone(),
            table: DynamoTable::read_only(&config, world::TABLE, world::key_names()),
            config,
            streams: aws_sdk_dynamodbstreams::Client::from_conf(streams.build()),
            client: Client::from_conf(sdk.build()),
            policy,
            keyring,
            oracle: Arc::default(),
        };
        world::create(&bench.client, seed, customers, &bench.oracle).await?;
        Ok(bench)
    }

    /// From now on, the stream keeps every write.
    pub(crate) async fn enable_stream(&self) -> Result<(), Failure> {
        Ok(enable_stream(&self.config, world::TABLE).await?)
    }

    /// A command on the table's job, to be started.
    pub(crate) fn reseal(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.reseal);
        command.args(words).arg("--job").arg(self.work.join("job.toml")).arg("--json");
        command.envs(&self.environment).env("XDG_STATE_HOME", self.work.join("home"));
        if words.contains(&"--execute") {
            command.arg("--state-dir").arg(self.state());
        }
        command
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.work.join("state")
    }

    /// Runs a command to its end.
    pub(crate) fn command(&self, words: &[&str]) -> Result<Ran, Failure> {
        let ran = self.reseal(words).output()?;
        let code = ran.status.code().ok_or("ended by a signal")?;
        let last =
            |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().rsplit('\n').next().unwrap_or_default().to_owned();
        let output = format!("{} {}", last(&ran.stdout), last(&ran.stderr));
        println!("`reseal {}` ended with {code}: {output}", words.join(" "));
        Ok(Ran { words: words.join(" "), code, output })
    }

    /// Opens every item and compares it with what the applications left.
    pub(crate) async fn compare(&self) -> Result<(), Failure> {
        let found = world::open_all(&self.table, &self.policy, self.keyring.as_ref()).await?;
        let count = found.len();
        let differences = self.oracle.compare(found);
        println!(
            "oracle: {count} items opened and compared: {} lost, {} resurrected, {} changed",
            differences.lost.len(),
            differences.resurrected.len(),
            differences.changed.len()
        );
        if differences.is_empty() { Ok(()) } else { Err(format!("{differences:?}").into()) }
    }

    /// Reads the whole stream, from its first record to the present.
    pub(crate) async fn changes(&self) -> Result<Changes, Failure> {
        let table = self.client.describe_table().table_name(world::TABLE).send().await?;
        let arn = table.table.and_then(|table| table.latest_stream_arn).ok_or("no stream")?;
        let stream = self.streams.describe_stream().stream_arn(&arn).send().await?;
        let stream = stream.stream_description.ok_or("no stream")?;
        if stream.last_evaluated_shard_id.is_some() {
            return Err("the stream has more shards than a listing's page holds".into());
        }
        let mut changes = Changes::default();
        for shard in stream.shards.unwrap_or_default() {
            let request = self.streams.get_shard_iterator().stream_arn(&arn).set_shard_id(shard.shard_id);
            let first = request.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await?;
            let mut iterator = first.shard_iterator;
            while let Some(token) = iterator {
                let answer = self.streams.get_records().shard_iterator(token).send().await?;
                let records = answer.records.unwrap_or_default();
                // Nobody writes any more: what comes after an empty answer is empty too.
                iterator = answer.next_shard_iterator.filter(|_| !records.is_empty());
                for record in records {
                    changes.add(record)?;
                }
            }
        }
        Ok(changes)
    }
}

type Image = HashMap<String, AttributeValue>;

/// What a table's stream says of the writes to it: its applications' ("theirs") put plaintext, delete, or change the
/// attribute `visits` alone; everything that writes a header or a footer is ours.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Items that were put where there was none.
    pub(crate) created: u64,
    /// Items that were put over a plaintext one.
    pub(crate) over_plaintext: u64,
    /// Items that were put over a sealed one.
    pub(crate) over_sealed: u64,
    /// Changes of `visits`.
    pub(crate) changed: u64,
    /// Deletions.
    pub(crate) deleted: u64,
    /// Items that we sealed.
    pub(crate) ours: u64,
    /// Items that were sealed already when we wrote: each is a defect.
    pub(crate) ours_again: u64,
    /// Since which second each item lies in plaintext that an application put and nobody sealed.
    plaintext: HashMap<String, i64>,
    /// Sealings by the seconds that the item had lain in plaintext, by the dates of the records.
    lain: BTreeMap<i64, u64>,
}

impl Changes {
    /// All writes of the applications.
    pub(crate) const fn theirs(&self) -> u64 {
        self.created + self.over_plaintext + self.over_sealed + self.changed + self.deleted
    }

    /// The longest that an item lay in plaintext before it was sealed, in seconds.
    pub(crate) fn lain_max(&self) -> Option<i64> {
        self.lain.last_key_value().map(|(seconds, _)| *seconds)
    }

    /// Items put by applications that are still in plaintext.
    pub(crate) fn left_in_plaintext(&self) -> usize {
        self.plaintext.len()
    }

    fn add(&mut self, record: Record) -> Result<(), Failure> {
        let change = record.dynamodb.ok_or("a record without a change")?;
        let second = change.approximate_creation_date_time.ok_or("a record without a date")?.secs();
        let StreamRecord { keys, old_image: old, new_image: new, .. } = change;
        let key = format!("{:?}", keys.unwrap_or_default().into_iter().collect::<BTreeMap<_, _>>());
        let sealed = |image: &Image| image.contains_key(dbesdk::HEAD) || image.contains_key(dbesdk::FOOT);
        match (old, new) {
            (_, None) => {
                self.deleted += 1;
                self.plaintext.remove(&key);
            }
            (Some(old), Some(new)) if same_but_visits(&old, &new) => self.changed += 1,
            (old, Some(new)) if sealed(&new) => {
                let again = old.as_ref().is_some_and(sealed);
                *(if again { &mut self.ours_again } else { &mut self.ours }) += 1;
                if let Some(since) = self.plaintext.remove(&key) {
                    *self.lain.entry(second - since).or_default() += 1;
                }
            }
            (old, Some(_)) => {
                *match &old {
                    None => &mut self.created,
                    Some(old) if sealed(old) => &mut self.over_sealed,
                    Some(_) => &mut self.over_plaintext,
                } += 1;
                self.plaintext.entry(key).or_insert(second);
            }
        }
        Ok(())
    }
}

fn same_but_visits(old: &Image, new: &Image) -> bool {
    let without = |image: &Image| image.len() - usize::from(image.contains_key("visits"));
    without(old) == without(new) && old.iter().all(|(name, value)| name == "visits" || new.get(name) == Some(value))
}

/// The lines that a process prints; the channel closes when it ends.
pub(crate) fn lines(process: &mut Child) -> Result<Receiver<String>, Failure> {
    let lines = BufReader::new(process.stdout.take().ok_or("no standard output")?).lines();
    let (sender, receiver) = channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    Ok(receiver)
}

async fn create_key(stand_ins: &StandIns) -> Result<String, Failure> {
    let config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(stand_ins.region().to_owned()))
        .credentials_provider(Credentials::new("local", "local", None, None, "stand-in"))
        .endpoint_url(stand_ins.endpoint("KMS"));
    let made = aws_sdk_kms::Client::from_conf(config.build()).create_key().send().await?;
    Ok(made.key_metadata.and_then(|key| key.arn).ok_or("a key without ARN")?)
}
