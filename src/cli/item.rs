//! `reseal item`: single items, as DynamoDB JSON lines from standard input to standard output.

use std::pin::pin;
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt as _};
use serde_json::{Map, Value as Json, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

use super::args::ItemCommand;
use super::exit::Exit;
use super::failure::Failure;
use super::job::{Job, Target};
use super::keyrings::{self, Use};
use super::output;
use crate::crypto::{Recipient, Secret};
use crate::format::dbesdk::{self, Inspection};
use crate::format::{RESERVED_PREFIX, Schema};
use crate::item::{Item, json};
use crate::keyring::Keyring;
use crate::migration::Policy;

/// Lines that are worked on at once: enough to hide the round trips of a key service, and few enough for memory when
/// every line is as long as an item can be.
const LINES_IN_FLIGHT: usize = 32;

/// Answers each line of standard input with one line, in their order.
///
/// # Errors
/// [`Failure`] when the job does not allow the command, a key cannot be had, or input or output fails. A line that
/// cannot be done is no failure of the command.
pub(super) async fn run(command: ItemCommand) -> Result<Exit, Failure> {
    let work = Arc::new(Work::begin(command).await?);
    let answers = lines(tokio::io::stdin()).map(|line| {
        let work = Arc::clone(&work);
        // A task of its own for each line: the work is the processor's as much as the key service's.
        tokio::spawn(async move {
            match line {
                Ok(line) => Ok(work.answer(&line).await),
                Err(error) => Err(Failure::of_input(&error)),
            }
        })
    });
    let mut answers = pin!(answers.buffered(LINES_IN_FLIGHT));
    let mut exit = Exit::Done;
    while let Some(answer) = answers.next().await {
        let answer = answer.map_err(|error| Failure::new(Exit::Fatal, format!("a line's task: {error}"), REPORT))??;
        let line = answer.unwrap_or_else(|problem| {
            exit = Exit::FailedItems;
            json!({ "Error": problem })
        });
        output::line(line)?;
    }
    Ok(exit)
}

const REPORT: &str = "this is a defect of reseal; please report it";

/// The lines of the input. They end at line feeds and nowhere else: values may hold other separators.
fn lines(input: impl AsyncRead + Unpin) -> impl Stream<Item = std::io::Result<Vec<u8>>> {
    stream::unfold(Some(BufReader::new(input)), async |input| {
        let mut input = input?;
        let mut line = Vec::new();
        match input.read_until(b'\n', &mut line).await {
            Ok(0) => None,
            Ok(_) => {
                line.pop_if(|byte| *byte == b'\n');
                Some((Ok(line), Some(input)))
            }
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// The item of a line.
fn item_of(line: &[u8]) -> Result<Item, String> {
    let line: Json = serde_json::from_slice(line).map_err(|error| format!("the line is not JSON: {error}"))?;
    let item = line.get("Item").ok_or("the line has no \"Item\"")?;
    json::from_json(item).map_err(|error| error.to_string())
}
/// What is done with each line, and what is needed for it.
enum Work {
    Inspect(Schema),
    Open { schema: Schema, keyrings: Vec<Arc<dyn Keyring>> },
    Seal { policy: Policy, keyring: Arc<dyn Keyring> },
}

impl Work {
    async fn begin(command: ItemCommand) -> Result<Self, Failure> {
        let (ItemCommand::Inspect(args) | ItemCommand::Open(args) | ItemCommand::Seal(args)) = &command;
        let job = Job::read(&args.job)?;
        let target = match &job.target {
            Target::Plaintext => None,
            Target::Dbesdk { keyring, .. } => Some(keyring),
        };
        Ok(match (command, target) {
            (ItemCommand::Inspect(_), _) => Self::Inspect(job.schema),
            (ItemCommand::Open(_), target) => {
                let mut keyrings = Vec::new();
                for settings in target.into_iter().chain(&job.source.keyrings) {
                    keyrings
                        .push(keyrings::open(settings, Use { wraps: false, examined: false, refreshes: false }).await?);
                }
                Self::Open { schema: job.schema, keyrings }
            }
            (ItemCommand::Seal(_), Some(target)) => Self::Seal {
                policy: job.policy(),
                keyring: keyrings::open(target, Use { wraps: true, examined: false, refreshes: false }).await?,
            },
            (ItemCommand::Seal(_), None) => {
                let remedy = "use a job whose target is \"dbesdk\"";
                return Err(Failure::new(Exit::Usage, "the job's target is plaintext: nothing to seal with", remedy));
            }
        })
    }

    /// The answer to one line, or why there is none.
    async fn answer(&self, line: &[u8]) -> Result<Json, String> {
        let item = item_of(line)?;
        let done = match self {
            Self::Inspect(schema) => return inspect(schema, &item),
            Self::Open { schema, keyrings } => open(schema, keyrings, &item).await?,
            Self::Seal { policy, keyring } => seal(policy, keyring.as_ref(), &item).await?,
        };
        Ok(json!({ "Item": json::to_json(&done) }))
    }
}

/// What can be said of an item without any key, as JSON. Of the encryption context only the keys: values may be long.
fn inspect(schema: &Schema, item: &Item) -> Result<Json, String> {
    let sealed = match dbesdk::inspect(schema, item).map_err(told)? {
        Inspection::Plaintext => return Ok(json!({ "Form": "plaintext" })),
        Inspection::Sealed(sealed) => sealed,
    };
    let actions: Map<String, Json> =
        sealed.fields.iter().map(|(name, action)| (name.clone(), action.name().into())).collect();
    let recipients =
        sealed.head.recipients().map(|Recipient { provider, key }| json!({ "Provider": provider, "Key": key }));
    Ok(json!({
        "Form": "dbesdk",
        "Version": sealed.head.version,
        "Suite": sealed.head.suite.name(),
        "Actions": actions,
        "EncryptedDataKeys": recipients.collect::<Vec<_>>(),
        "Context": sealed.context.iter().map(|(key, _)| key).collect::<Vec<_>>(),
    }))
}

/// Opens a sealed item with whichever keyring can. The result is what the official client gives an application:
/// without beacons, which that client makes anew whenever it writes the item.
async fn open(schema: &Schema, keyrings: &[Arc<dyn Keyring>], item: &Item) -> Result<Item, String> {
    let Inspection::Sealed(sealed) = dbesdk::inspect(schema, item).map_err(told)? else {
        return Err("the item is in plaintext: there is nothing to open".to_owned());
    };
    let mut problem = None;
    for keyring in keyrings {
        for (index, found) in sealed.head.edks.iter().enumerate() {
            let Some(wrapped) = found.wrapped().filter(|wrapped| keyring.accepts(*wrapped)) else { continue };
            match keyring.unwrap(wrapped, &sealed.context).await {
                Ok(key) => {
                    let mut opened = dbesdk::open(item, &sealed, index, &key).map_err(told)?;
                    for name in item.names().filter(|name| name.starts_with(RESERVED_PREFIX)) {
                        opened.remove(name);
                    }
                    return Ok(opened);
                }
                Err(error) => problem = Some(error.to_string()),
            }
        }
    }
    Err(problem.unwrap_or_else(|| {
        let recipients: Vec<String> = sealed.head.recipients().map(told).collect();
        format!("the item is sealed for {}: add a keyring that opens it to source.keyrings", recipients.join(", "))
    }))
}

/// Seals an item; what it becomes was opened again before it is given back (rule V).
async fn seal(policy: &Policy, keyring: &dyn Keyring, item: &Item) -> Result<Item, String> {
    let work = policy.prepare(item).map_err(told)?;
    let wrapped = keyring.generate(work.context().ok_or("the job's target is plaintext")?).await.map_err(told)?;
    let verified = policy.finish(item, item, work, (&Secret::random(), rand::random()), &wrapped).map_err(told)?;
    Ok(verified.rewrite.applied_to(item))
}

#[expect(clippy::needless_pass_by_value, reason = "callers hand over an error that they are done with")]
fn told(problem: impl ToString) -> String {
    problem.to_string()
}
