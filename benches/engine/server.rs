//! A table that costs nothing: it speaks as much of DynamoDB's protocol as a run needs, from answers made beforehand.
//!
//! How it behaves is part of the table's name: `bench-PAGES-LATENCY-THROTTLED-PARTIAL`. Every segment has so many pages,
//! all with the same items; every answer comes so many milliseconds late; every so-many-th write is throttled, or
//! answered with its first statement throttled (0 for never). Writes change nothing, and every condition holds, but for
//! the probe of the ground, which asks for an attribute that no item has.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use reseal::item::{json, read_units, write_units};
use serde_json::json;

use super::items::{self, PAGE};
use super::sealing;

/// Statements of one batch at most.
const BATCH_MAX: usize = 25;
/// Probes are small: whoever looks for them in every request would look long.
const PROBE_BYTES_MAX: usize = 2048;

/// The answers, and what was asked.
struct Table {
    /// The end of a Scan's answer: the items.
    page: Vec<u8>,
    page_units: f64,
    item_units: f64,
    /// Requests that write, and the bytes of their bodies.
    writes: AtomicU64,
    written_bytes: AtomicU64,
}

/// What a table's name says.
struct Behaviour {
    pages: u64,
    latency: Duration,
    throttled: u64,
    partial: u64,
}

impl Behaviour {
    /// Of the first table named in a request.
    fn of(body: &[u8]) -> Option<Self> {
        let name = after(body, b"bench-")?;
        let name = name.split(|byte| !byte.is_ascii_digit() && *byte != b'-').next()?;
        let mut numbers = std::str::from_utf8(name).ok()?.split('-').map(str::parse);
        let mut number = || numbers.next()?.ok();
        let (pages, latency, throttled, partial) = (number()?, number()?, number()?, number()?);
        Some(Self { pages, latency: Duration::from_millis(latency), throttled, partial })
    }
}

/// Serves until the process is ended, and prints the address first.
pub(crate) fn serve() -> sealing::Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let page: Vec<_> = (0..PAGE).map(items::item).collect();
    let bytes: usize = page.iter().map(reseal::item::Item::size).sum();
    let sealed = sealing::seal(&items::keyring(), &items::policy().schema, items::SUITE, &page[0])?;
    let page: Vec<_> = page.iter().map(json::to_json).collect();
    let page = json!({ "Count": PAGE, "ScannedCount": PAGE, "Items": page }).to_string();
    let table = Arc::new(Table {
        page: page.into_bytes().split_off(1),
        page_units: f64::from(read_units(bytes)),
        item_units: f64::from(write_units(sealed.size())),
        writes: AtomicU64::new(0),
        written_bytes: AtomicU64::new(0),
    });
    for stream in listener.incoming() {
        let (stream, table) = (stream?, Arc::clone(&table));
        // A client that hangs up, however it does, is done.
        thread::spawn(move || drop(table.talk(&stream)));
    }
    Ok(())
}

impl Table {
    fn talk(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::with_capacity(1 << 18, stream);
        let (mut line, mut body) = (String::new(), Vec::new());
        loop {
            let (mut operation, mut length) = (String::new(), 0);
            loop {
                line.clear();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                match line.trim_end().split_once(": ") {
                    Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                        length = value.parse().map_err(io::Error::other)?;
                    }
                    Some((name, value)) if name.eq_ignore_ascii_case("x-amz-target") => {
                        value.clone_into(&mut operation);
                    }
                    None if line == "\r\n" => break,
                    _ => {}
                }
            }
            body.resize(length, 0);
            reader.read_exact(&mut body)?;
            let (status, answer, rest) = self.answer(&operation, &body);
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len() + rest.len()
            );
            stream.write_all(head.as_bytes())?;
            stream.write_all(rest)?;
        }
    }

    /// Status and body of an answer, the body in two parts.
    fn answer(&self, operation: &str, body: &[u8]) -> (&'static str, String, &[u8]) {
        const OK: &str = "200 OK";
        const BAD: &str = "400 Bad Request";
        let operation = operation.rsplit('.').next().unwrap_or_default();
        let Some(behaviour) = Behaviour::of(body) else {
            let counts = [&self.writes, &self.written_bytes].map(|count| count.load(Ordering::Relaxed));
            return (OK, json!(counts).to_string(), &[]);
        };
        wait(behaviour.latency);
        if operation == "Scan" {
            let page = after(body, b"page-").map_or(0, |digits| {
                digits
                    .iter()
                    .take_while(|byte| byte.is_ascii_digit())
                    .fold(0, |n, byte| n * 10 + u64::from(byte - b'0'))
            });
            let last = if page + 1 < behaviour.pages {
                format!(r#""LastEvaluatedKey":{{"{}":{{"S":"page-{}"}}}},"#, items::KEY, page + 1)
            } else {
                String::new()
            };
            let units = self.page_units;
            let capacity = format!(r#"{{"ConsumedCapacity":{{"TableName":"bench","CapacityUnits":{units:.1}}},{last}"#);
            return (OK, capacity, &self.page);
        }
        if body.len() < PROBE_BYTES_MAX && after(body, b"reseal-probe-").is_some() {
            let item = json::to_json(&items::item(0));
            let answer = if operation == "UpdateItem" {
                error("ConditionalCheckFailedException", &item)
            } else {
                let error = json!({ "Code": "ConditionalCheckFailed", "Message": "false", "Item": item });
                json!({ "Responses": [{ "Error": error }] }).to_string()
            };
            return (if operation == "UpdateItem" { BAD } else { OK }, answer, &[]);
        }
        let write = 1 + self.writes.fetch_add(1, Ordering::Relaxed);
        self.written_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        let is_nth = |every: u64| every > 0 && write.is_multiple_of(every);
        if is_nth(behaviour.throttled) {
            return (BAD, error("ProvisionedThroughputExceededException", &json!(null)), &[]);
        }
        let written = match operation {
            "BatchExecuteStatement" => count(body, b"\"Statement\":"),
            "BatchWriteItem" => count(body, b"\"PutRequest\":"),
            _ => 1,
        };
        let partial = is_nth(behaviour.partial) && operation == "BatchExecuteStatement";
        let units = self.item_units * (written - usize::from(partial)) as f64;
        let capacity = json!({ "TableName": "bench", "CapacityUnits": units });
        let answer = match operation {
            "UpdateItem" => json!({ "ConsumedCapacity": capacity }),
            "BatchWriteItem" => json!({ "ConsumedCapacity": [capacity], "UnprocessedItems": {} }),
            _ => {
                let mut responses = vec![json!({ "TableName": "bench" }); written.min(BATCH_MAX)];
                if partial {
                    responses[0] = json!({ "Error": { "Code": "ThrottlingError", "Message": "slower" } });
                }
                json!({ "ConsumedCapacity": [capacity], "Responses": responses })
            }
        };
        (OK, answer.to_string(), &[])
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, and to the tenth of a millisecond")]
fn wait(latency: Duration) {
    thread::sleep(latency);
}

fn error(code: &str, item: &serde_json::Value) -> String {
    json!({ "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": "as asked for", "Item": item })
        .to_string()
}

/// What follows the first occurrence of a text.
fn after<'a>(bytes: &'a [u8], text: &[u8]) -> Option<&'a [u8]> {
    let at = bytes.windows(text.len()).position(|window| window == text)?;
    Some(&bytes[at + text.len()..])
}

fn count(bytes: &[u8], text: &[u8]) -> usize {
    bytes.windows(text.len()).filter(|window| *window == text).count()
}
