//! What was loaded is kept for a time, and loaded once however many ask for it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::time::Instant;

use super::super::{KeyringClass, KeyringError};

/// How long an answer that concerns one item only is kept: so many items of a tenant without a branch key do not ask for
/// it one by one.
const REFUSAL_KEPT: Duration = Duration::from_mins(1);

/// A load under way, or what came of it.
type Flight<V> = Shared<BoxFuture<'static, Result<Arc<V>, KeyringError>>>;

/// Values by key, the least recently used ones dropped first. What is dropped is wiped with its last user.
pub(super) struct Cache<K, V> {
    entries: Mutex<Entries<K, V>>,
    time_to_live: Duration,
    most: usize,
}

struct Entries<K, V> {
    by_key: HashMap<K, Entry<V>>,
    uses: u64,
}

struct Entry<V> {
    flight: Flight<V>,
    begun: Instant,
    used: u64,
}

impl<V> Entry<V> {
    /// Whether it may still be used: what is loaded is as old as its load's beginning.
    fn serves(&self, time_to_live: Duration) -> bool {
        let age = self.begun.elapsed();
        match self.flight.peek() {
            Some(Err(error)) => error.class == KeyringClass::Item && age < time_to_live.min(REFUSAL_KEPT),
            Some(Ok(_)) | None => age < time_to_live,
        }
    }
}

impl<K: Eq + Hash + Clone, V: Send + Sync + 'static> Cache<K, V> {
    /// An empty cache for at most so many values, each for so long.
    pub(super) fn new(time_to_live: Duration, most: usize) -> Self {
        let entries = Mutex::new(Entries { by_key: HashMap::new(), uses: 0 });
        Self { entries, time_to_live, most: most.max(1) }
    }

    /// The value of the key, loaded if there is none: by one load, whose outcome everybody gets who asks meanwhile.
    pub(super) async fn get(
        &self,
        key: &K,
        load: impl FnOnce() -> BoxFuture<'static, Result<V, KeyringError>>,
    ) -> Result<Arc<V>, KeyringError> {
        self.flight(key, load).await
    }

    /// Has the key loaded anew when it is asked for next.
    pub(super) fn forget(&self, key: &K) {
        self.lock().by_key.remove(key);
    }

    fn flight(&self, key: &K, load: impl FnOnce() -> BoxFuture<'static, Result<V, KeyringError>>) -> Flight<V> {
        let mut entries = self.lock();
        entries.uses += 1;
        let used = entries.uses;
        if let Some(entry) = entries.by_key.get_mut(key).filter(|entry| entry.serves(self.time_to_live)) {
            entry.used = used;
            return entry.flight.clone();
        }
        entries.by_key.remove(key);
        entries.by_key.retain(|_, entry| entry.serves(self.time_to_live));
        if entries.by_key.len() >= self.most {
            let oldest = entries.by_key.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            oldest.and_then(|key| entries.by_key.remove(&key));
        }
        let flight = load().map(|loaded| loaded.map(Arc::new)).boxed().shared();
        entries.by_key.insert(key.clone(), Entry { flight: flight.clone(), begun: Instant::now(), used });
        flight
    }

    fn lock(&self) -> MutexGuard<'_, Entries<K, V>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::join_all;
    use tokio::time::{advance, sleep};

    use super::*;

    struct World {
        cache: Cache<&'static str, u32>,
        loads: Arc<AtomicU32>,
    }

    impl World {
        fn new(most: usize) -> Self {
            Self { cache: Cache::new(Duration::from_mins(10), most), loads: Arc::default() }
        }

        /// The value of the key: how many loads there were with its own.
        async fn get(&self, key: &'static str, refused: Option<KeyringClass>) -> Result<Arc<u32>, KeyringError> {
            let loads = Arc::clone(&self.loads);
            let load = move || async move {
                let load = loads.fetch_add(1, Ordering::Relaxed) + 1;
                sleep(Duration::from_secs(1)).await;
                let error = |class| KeyringError { class, key: String::new(), problem: String::new() };
                refused.map_or(Ok(load), |class| Err(error(class)))
            };
            self.cache.get(&key, || load().boxed()).await
        }

        async fn loads_of(&self, key: &'static str) -> u32 {
            *self.get(key, None).await.unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_at_once_make_one_load() {
        let world = World::new(10);
        let all = join_all((0..100).map(|_| world.loads_of("a"))).await;
        assert_eq!((all, world.loads.load(Ordering::Relaxed)), (vec![1; 100], 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_goes_on_when_whoever_began_it_is_gone() {
        let world = World::new(10);
        let begun = tokio::time::timeout(Duration::from_millis(500), world.get("a", None)).await;
        assert!(begun.is_err());
        assert_eq!((world.loads_of("a").await, world.loads.load(Ordering::Relaxed)), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_lives_from_the_beginning_of_its_load() {
        let world = World::new(10);
        assert_eq!(world.loads_of("a").await, 1);
        advance(Duration::from_secs(598)).await;
        assert_eq!(world.loads_of("a").await, 1);
        advance(Duration::from_secs(1)).await;
        assert_eq!(world.loads_of("a").await, 2);
        world.cache.forget(&"a");
        assert_eq!(world.loads_of("a").await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_recently_used_value_goes_first_and_with_it_what_expired() {
        let world = World::new(2);
        for (key, load) in [("a", 1), ("b", 2), ("a", 1), ("c", 3), ("a", 1), ("b", 4)] {
            assert_eq!(world.loads_of(key).await, load, "{key}");
        }
        let gone = Arc::downgrade(&world.get("a", None).await.unwrap());
        advance(Duration::from_mins(10)).await;
        assert!(gone.upgrade().is_some());
        world.loads_of("d").await;
        assert!(gone.upgrade().is_none(), "nobody asked for it again, and it is wiped");
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_tried_again_but_what_an_item_lacks_is_not_at_once() {
        let world = World::new(10);
        let failures = join_all((0..10).map(|_| world.get("a", Some(KeyringClass::Throttled)))).await;
        assert!(failures.iter().all(Result::is_err));
        assert_eq!(world.loads_of("a").await, 2);
        assert!(world.get("b", Some(KeyringClass::Item)).await.is_err());
        assert!(world.get("b", None).await.is_err(), "not asked for again");
        advance(Duration::from_mins(1)).await;
        assert_eq!(world.loads_of("b").await, 4);
    }
}
