//! `reseal item`: single items, as DynamoDB JSON lines from standard input to standard output.

use std::pin::pin;
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt as _};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

use super::args::ItemCommand;
use super::exit::Exit;
use super::failure::Failure;
use super::job::Job;
use super::output;
use crate::item::{Item, json};

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
struct Work;
impl Work {
    async fn begin(command: ItemCommand) -> Result<Self, Failure> {
        let (ItemCommand::Inspect(args) | ItemCommand::Open(args) | ItemCommand::Seal(args)) = command;
        let _job = Job::read(&args.job)?;
        Ok(Self)
    }
    async fn answer(&self, line: &[u8]) -> Result<Json, String> {
        item_of(line).map(|item| json!({ "Item": json::to_json(&item) }))
    }
}
