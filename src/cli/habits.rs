//! What the table's stream tells of how applications write: a sample of its records, and what is said of it.

use std::collections::BTreeMap;

use crate::migration::{Change, FEW, Habits, Policy};
use crate::store::{Shards, ShardsError, Start, StoreClass};

/// Shards that are looked into, spread over a page of the listing, and calls for the records of each.
const SHARDS: usize = 4;
const CALLS: usize = 4;

/// Reads some records, the oldest of a few shards. The reason in words where the stream does not let us.
pub(super) async fn sample(policy: &Policy, shards: &dyn Shards) -> Result<Habits, String> {
    let mut habits = Habits::default();
    let listed = shards.list(None).await.map_err(|error| reason(&error))?.shards;
    for shard in listed.iter().step_by(listed.len().div_ceil(SHARDS).max(1)) {
        match look(policy, shards, &shard.id, &mut habits).await {
            // Its 24 hours were over while it was looked at.
            Ok(()) | Err(ShardsError::Gone(_) | ShardsError::Trimmed(_) | ShardsError::Expired(_)) => {}
            Err(error) => return Err(reason(&error)),
        }
    }
    Ok(habits)
}

async fn look(policy: &Policy, shards: &dyn Shards, id: &str, habits: &mut Habits) -> Result<(), ShardsError> {
    let mut next = Some(shards.iterator(id, &Start::TrimHorizon).await?);
    for _ in 0..CALLS {
        let Some(iterator) = next else { break };
        let read = shards.records(&iterator).await?;
        for record in &read.records {
            habits.add(policy, Change { old: record.old.as_ref(), new: record.new.as_ref() });
        }
        next = read.next;
    }
    Ok(())
}

fn reason(error: &ShardsError) -> String {
    match error {
        ShardsError::Store(error) if error.class == StoreClass::Denied => "denied".to_owned(),
        error => error.to_string(),
    }
}

/// What stands out.
pub(super) fn warnings(habits: &Habits) -> Vec<String> {
    let Habits { changes, partial, partial_attributes, counters, raw, raw_attributes, .. } = habits;
    let mut warnings = Vec::new();
    if *raw > 0 {
        warnings.push(format!(
            "{raw} changes in the stream's sample wrote into a sealed item without sealing it anew ({}): nobody can open \
             such an item; find who does that before the run",
            names(raw_attributes)
        ));
    }
    if *partial > 0 {
        warnings.push(format!(
            "{partial} of {changes} changes of existing items in the stream's sample left all but {FEW} or fewer of the \
             attributes to be signed as they were ({}): if these are UpdateItem, and not PutItem of the whole item, they \
             will break the signatures of sealed items, and writers = \"whole-item\" is not true",
            names(partial_attributes)
        ));
    }
    if !counters.is_empty() {
        let list: Vec<&str> = counters.iter().map(String::as_str).collect();
        warnings.push(format!(
            "numbers that change alone, as counters do, would be signed: {}; if they are updated in place, make them \
             DO_NOTHING and declare them unsigned",
            list.join(", ")
        ));
    }
    warnings
}

fn names(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(name, times)| format!("{name}: {times}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use async_trait::async_trait;

    use super::*;
    use crate::cli::job::Job;
    use crate::store::{Listing, Records, StoreError};

    /// A stream that the caller may not list, or not read.
    struct Refused {
        lists: bool,
        class: StoreClass,
    }

    impl Refused {
        fn error(&self) -> ShardsError {
            StoreError { operation: "GetRecords", class: self.class.clone(), problem: "why".to_owned() }.into()
        }
    }

    #[async_trait]
    impl Shards for Refused {
        fn arn(&self) -> &'static str {
            "an arn"
        }

        async fn list(&self, _: Option<&str>) -> Result<Listing, ShardsError> {
            let shards =
                ["a", "b"].map(|id| crate::migration::Listed { id: id.to_owned(), parent: None, closed: false });
            if self.lists {
                Ok(Listing { shards: shards.to_vec(), next: None, enabled: true, at: None })
            } else {
                Err(self.error())
            }
        }

        async fn children(&self, _: &str) -> Result<Option<Listing>, ShardsError> {
            Ok(None)
        }

        async fn iterator(&self, _: &str, _: &Start) -> Result<String, ShardsError> {
            Err(self.error())
        }

        async fn records(&self, _: &str) -> Result<Records, ShardsError> {
            Err(self.error())
        }
    }

    #[tokio::test]
    async fn a_stream_that_may_not_be_read_is_unknown() {
        let job = "version = 1\n[table]\nname = \"table\"\npartition_key = \"id\"\n[attributes]\nid = \"SIGN_ONLY\"\n\
                   [target]\nformat = \"dbesdk\"\n\
                   keyring = { type = \"raw-aes\", namespace = \"acme\", name = \"k1\", key_env = \"K1\" }\n";
        let policy = Job::parse(job, Path::new("job.toml")).unwrap().policy();
        for lists in [false, true] {
            let denied = sample(&policy, &Refused { lists, class: StoreClass::Denied }).await;
            assert_eq!(denied, Err("denied".to_owned()));
            let fatal = sample(&policy, &Refused { lists, class: StoreClass::Fatal }).await;
            assert_eq!(fatal, Err("GetRecords: why".to_owned()));
        }
    }

    #[test]
    fn what_does_not_stand_out_is_not_warned_of() {
        assert!(warnings(&Habits { records: 9, changes: 7, ..Habits::default() }).is_empty());
        let counters = Habits { counters: ["balance".to_owned()].into(), ..Habits::default() };
        assert!(matches!(&warnings(&counters)[..], [one] if one.contains("signed: balance;")));
    }
}
