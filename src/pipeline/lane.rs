//! The lane: an ordered run of pages with a resumable cursor. A scan segment is a lane.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::engine::{Drift, Engine, RunError};
use super::pool::Panicked;
use crate::item::{Item, Key};
use crate::store::{Cursor, Scan};

/// Items as they were read, and the drift of the clocks before that.
pub(super) struct Seen {
    pub(super) items: Vec<Item>,
    pub(super) drift: Drift,
}

/// What a lane does with the items of one page. The page's task owns them to the end.
pub(super) type Process<T> = fn(Arc<Engine>, Seen) -> BoxFuture<'static, Result<T, RunError>>;

/// A page that was worked on, with the lane's cursor after it.
pub(super) type Done<T> = Result<(T, Cursor), RunError>;

/// One page as it was read, with its place in memory.
struct Read {
    seen: Seen,
    next: Option<Key>,
    memory: OwnedSemaphorePermit,
}

/// Where a lane goes on reading.
struct Position {
    engine: Arc<Engine>,
    segment: u32,
    after: Option<Key>,
    /// Read units that the next page is expected to consume.
    estimate: f64,
}

/// Works through a segment from a cursor on: so many pages in flight, their results in the pages' order. A page that
/// was begun is finished even when `stop` comes meanwhile; no further page is begun then. Dropping the stream drops the
/// pages in flight.
pub(super) fn work<T: Send + 'static>(
    engine: &Arc<Engine>,
    segment: u32,
    from: Cursor,
    process: Process<T>,
    stop: &CancellationToken,
) -> BoxStream<'static, Done<T>> {
    let after = match from {
        Cursor::End => return stream::empty().boxed(),
        Cursor::Start => None,
        Cursor::After(key) => Some(key),
    };
    let position = Position { engine: Arc::clone(engine), segment, after, estimate: engine.settings.page_units };
    let engine = Arc::clone(engine);
    let pages_in_flight = engine.settings.pages_in_flight.max(1);
    stream::unfold(Some(position), |position| Box::pin(read_apart(position)))
        .take_until(stop.clone().cancelled_owned())
        // Each page in a task of its own: otherwise pages starve while an earlier one is being committed.
        .map(move |read| {
            let engine = Arc::clone(&engine);
            AbortOnDropHandle::new(tokio::spawn(async move {
                let Read { seen, next, memory } = read?;
                let result = process(engine, seen).await?;
                drop(memory);
                Ok((result, next.map_or(Cursor::End, Cursor::After)))
            }))
        })
        .buffered(pages_in_flight)
        .map(|page| page.unwrap_or_else(|_| Err(Panicked.into())))
        .boxed()
}

/// A page that was read or not, and where the lane goes on.
type Next = (Result<Read, RunError>, Option<Position>);

/// Reads the next page in a task of its own. The lane's stream is not polled while a page is being committed, nor after
/// a stop; a read that waits in it for its budget would keep everybody else from theirs.
async fn read_apart(position: Option<Position>) -> Option<Next> {
    let read = AbortOnDropHandle::new(tokio::spawn(next_page(position?)));
    read.await.unwrap_or_else(|_| Some((Err(Panicked.into()), None)))
}

/// Reads the next page of a segment.
async fn next_page(position: Position) -> Option<Next> {
    let Position { engine, segment, after, estimate } = position;
    let memory = Arc::clone(&engine.memory).acquire_owned().await.expect("the semaphore is never closed");
    let scan = Scan { segment, total_segments: engine.settings.segments, after, limit: engine.settings.page_items };
    let drift = engine.drift();
    match engine.read_page(&scan, estimate).await {
        Ok(page) => {
            // The next page will cost about what this one did.
            let estimate = page.units.filter(|units| *units > 0.0).unwrap_or(estimate);
            let rest = page.next.clone().map(|next| Position { engine, segment, after: Some(next), estimate });
            Some((Ok(Read { seen: Seen { items: page.items, drift }, next: page.next, memory }), rest))
        }
        Err(error) => Some((Err(error), None)),
    }
}
