//! The hand-off between tokio and rayon: one job for many items of a page, never one per item.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Where the processor's work of a page is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// On rayon's threads.
    Rayon,
    /// In the calling task: for tests on paused time, which rayon would let run away.
    Inline,
}

/// The work panicked: a defect of ours. The process goes on to stop in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a page's work panicked; this is a defect of reseal, please report it")]
pub struct Panicked;

impl Pool {
    /// Does the work and gives its result back to the calling task.
    ///
    /// # Errors
    /// [`Panicked`] when the work did.
    pub async fn run<T, F>(self, work: F) -> Result<T, Panicked>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        // The closure owns all it works on, so nothing half-done is seen after a panic.
        let work = move || catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked);
        match self {
            Self::Inline => work(),
            Self::Rayon => {
                let (sender, receiver) = tokio::sync::oneshot::channel();
                // A receiver that is gone belongs to a page that was dropped: nobody wants the result.
                rayon::spawn(move || drop(sender.send(work())));
                receiver.await.unwrap_or(Err(Panicked))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_come_back_and_panics_become_errors() {
        for pool in [Pool::Rayon, Pool::Inline] {
            assert_eq!(pool.run(|| 6 * 7).await, Ok(42));
            assert_eq!(pool.run(|| -> u8 { panic!("planted") }).await, Err(Panicked));
        }
    }
}
