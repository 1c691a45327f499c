//! A table with a few orders, a job for it, and the binary.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, PutRequest, ScalarAttributeType, StreamSpecification, StreamViewType, TimeToLiveSpecification,
    WriteRequest,
};
use reseal::local::{Options, StandIns, start};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

pub(crate) const TABLE: &str = "orders-of-a-test";
pub(crate) const HEAD: &str = "aws_dbe_head";
pub(crate) const FOOT: &str = "aws_dbe_foot";

pub(crate) type Item = HashMap<String, AttributeValue>;

/// The job of most tests. They change it by replacing text, and fail when there is nothing to replace.
pub(crate) const JOB: &str = r#"version = 1

[table]
name = "orders-of-a-test"
partition_key = "pk"
sort_key = "sk"
schema = "frozen"
readers = "accept-both"
writers = "whole-item"

[attributes]
pk = "SIGN_ONLY"
sk = "SIGN_ONLY"
status = "SIGN_ONLY"
note = "ENCRYPT_AND_SIGN"
amount = "ENCRYPT_AND_SIGN"
ttl = "DO_NOTHING"

[unsigned]
names = ["ttl"]

[source]
formats = ["plaintext"]

[target]
format = "dbesdk"
keyring = { type = "raw-aes", namespace = "acme", name = "k1", key_file = "k1.key" }
"#;

/// A replacement in [`JOB`]: old text, new text.
pub(crate) type Change<'a> = (&'a str, &'a str);

pub(crate) struct Bench {
    pub(crate) stand_ins: StandIns,
    pub(crate) client: Client,
    folder: TempDir,
}

/// A command that ran to its end.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Demands an exit code, and that both outputs together hold these texts.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, code, "{self:#?}");
        for text in texts {
            assert!(self.out.contains(text) || self.err.contains(text), "no {text:?} in {self:#?}");
        }
    }
}

impl Bench {
    /// Stand-ins without a table.
    pub(crate) fn bare() -> Self {
        Self::on(Options::default())
    }

    fn on(options: Options) -> Self {
        let stand_ins = start(options).unwrap();
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(stand_ins.region().to_owned()))
            .credentials_provider(Credentials::new("local", "local", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .endpoint_url(stand_ins.dynamodb_endpoint());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("k1.key"), [7; 32]).unwrap();
        Self { client: Client::from_conf(config.build()), stand_ins, folder }
    }

    /// Stand-ins with a table of so many orders in plaintext, without index and TTL.
    pub(crate) async fn with(orders: usize) -> Self {
        Self::with_options(Options::default(), orders).await
    }

    pub(crate) async fn with_options(options: Options, orders: usize) -> Self {
        let bench = Self::on(options);
        bench.create_table(None).await;
        let orders: Vec<Item> = (0..orders).map(order).collect();
        for chunk in orders.chunks(25) {
            let put = |item: &Item| PutRequest::builder().set_item(Some(item.clone())).build().unwrap();
            let puts = chunk.iter().map(|item| WriteRequest::builder().put_request(put(item)).build()).collect();
            bench.client.batch_write_item().request_items(TABLE, puts).send().await.unwrap();
        }
        bench
    }

    /// Creates the table, perhaps with an index by status.
    pub(crate) async fn create_table(&self, index: Option<Projection>) {
        let kind = |name: &str| AttributeDefinition::builder().attribute_name(name);
        let text = |name: &str| kind(name).attribute_type(ScalarAttributeType::S).build().unwrap();
        let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
        let request = self.client.create_table().table_name(TABLE).billing_mode(BillingMode::PayPerRequest);
        let request = request.attribute_definitions(text("pk")).attribute_definitions(text("sk"));
        let mut request = request.key_schema(key("pk", KeyType::Hash)).key_schema(key("sk", KeyType::Range));
        if let Some(projection) = index {
            let index = GlobalSecondaryIndex::builder().index_name("by-status").projection(projection);
            let index = index.key_schema(key("status", KeyType::Hash)).build().unwrap();
            request = request.attribute_definitions(text("status")).global_secondary_indexes(index);
        }
        request.send().await.unwrap();
    }

    pub(crate) async fn set_ttl(&self, attribute: &str) {
        let ttl = TimeToLiveSpecification::builder().attribute_name(attribute).enabled(true).build().unwrap();
        self.client.update_time_to_live().table_name(TABLE).time_to_live_specification(ttl).send().await.unwrap();
    }

    /// Gives the table a stream of this view, or none.
    pub(crate) async fn set_stream(&self, view: Option<StreamViewType>) {
        let stream = StreamSpecification::builder().stream_enabled(view.is_some()).set_stream_view_type(view);
        let update = self.client.update_table().table_name(TABLE).stream_specification(stream.build().unwrap());
        update.send().await.unwrap();
    }

    /// Updates an order in place, as `UpdateItem` does.
    pub(crate) async fn update(&self, number: usize, expression: &str, value: AttributeValue) {
        let order = order(number);
        let update = self.client.update_item().table_name(TABLE).key("pk", order["pk"].clone());
        let update = update.key("sk", order["sk"].clone()).update_expression(expression);
        let names = expression.contains("#s").then(|| HashMap::from([("#s".to_owned(), "status".to_owned())]));
        let update = update.set_expression_attribute_names(names).expression_attribute_values(":v", value);
        update.send().await.unwrap();
    }

    pub(crate) async fn put(&self, item: &Item) {
        self.client.put_item().table_name(TABLE).set_item(Some(item.clone())).send().await.unwrap();
    }

    /// Every item, by key.
    pub(crate) async fn items(&self) -> BTreeMap<(String, String), Item> {
        let mut items = BTreeMap::new();
        let mut pages = self.client.scan().table_name(TABLE).consistent_read(true).into_paginator().items().send();
        while let Some(item) = pages.next().await {
            let item = item.unwrap();
            let text = |name: &str| item[name].as_s().unwrap().clone();
            items.insert((text("pk"), text("sk")), item);
        }
        items
    }

    /// How many items are sealed.
    pub(crate) async fn sealed(&self) -> usize {
        self.items().await.values().filter(|item| item.contains_key(HEAD)).count()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the job file, with changes.
    #[track_caller]
    pub(crate) fn job(&self, changes: &[Change<'_>]) {
        let job = changes.iter().fold(JOB.to_owned(), |job, (old, new)| {
            assert!(job.contains(old), "no {old:?} in the job");
            job.replace(old, new)
        });
        self.write("job.toml", &job);
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The binary with these arguments, in the folder of the job, with nothing of the user's AWS configuration.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_reseal"));
        command.args(arguments.split_whitespace());
        command
    }

    /// The same of any program.
    pub(crate) fn program(&self, file: &str) -> Command {
        let mut command = Command::new(file);
        command.current_dir(self.folder.path()).env_clear();
        command.envs([
            ("AWS_ENDPOINT_URL_DYNAMODB", self.stand_ins.dynamodb_endpoint()),
            ("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", self.stand_ins.dynamodb_endpoint()),
            ("AWS_ENDPOINT_URL_KMS", self.stand_ins.kms_endpoint()),
            ("AWS_REGION", self.stand_ins.region().to_owned()),
        ]);
        command.envs([
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]);
        command.env("HOME", self.folder.path());
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn reseal(&self, arguments: &str) -> Ran {
        ran(&mut self.command(arguments))
    }

    /// Starts `reseal run --execute --json` and leaves it running.
    pub(crate) fn start(&self, arguments: &str) -> Running {
        self.started(&format!("run --job job.toml --execute --json {arguments}"))
    }

    /// Starts a command that prints JSON lines, and leaves it running.
    pub(crate) fn started(&self, command: &str) -> Running {
        let mut process = self.command(command).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Running { process, lines }
    }
}

pub(crate) fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// A run under way. Killed when dropped: a test that failed leaves none behind.
pub(crate) struct Running {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// Reads on to the first line that holds all these members.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, members: &Json) -> Json {
        let wanted = members.as_object().unwrap();
        for line in self.lines.by_ref() {
            let line: Json = serde_json::from_str(&line.unwrap()).unwrap();
            if wanted.iter().all(|(name, value)| line.get(name) == Some(value)) {
                return line;
            }
        }
        panic!("the run ended without {members}");
    }

    pub(crate) fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.process.id());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }

    /// Waits for the end: the exit code.
    pub(crate) fn end(mut self) -> i32 {
        // Until it is read, the process may wait for its output to be taken.
        self.lines.by_ref().for_each(drop);
        self.process.wait().unwrap().code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// An order in plaintext.
pub(crate) fn order(number: usize) -> Item {
    item(&[
        ("pk", s(&format!("customer-{}", number % 7))),
        ("sk", s(&format!("order-{number:05}"))),
        ("status", s("open")),
        ("note", s(&format!("ring twice, {number}"))),
        ("amount", AttributeValue::N(format!("{number}.50"))),
        ("ttl", AttributeValue::N("4000000000".to_owned())),
    ])
}

pub(crate) fn item(attributes: &[(&str, AttributeValue)]) -> Item {
    attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

pub(crate) fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

pub(crate) fn b(bytes: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// A projection of the index: everything, or its keys and these.
pub(crate) fn projection(included: Option<&str>) -> Projection {
    let builder = Projection::builder();
    match included {
        None => builder.projection_type(ProjectionType::All).build(),
        Some(name) => builder.projection_type(ProjectionType::Include).non_key_attributes(name).build(),
    }
}

/// A line for a `--keys` file.
pub(crate) fn key_line(number: usize) -> String {
    json!({ "pk": { "S": format!("customer-{}", number % 7) }, "sk": { "S": format!("order-{number:05}") } })
        .to_string()
}

/// Whether the path has anything in it.
pub(crate) fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none())
}
