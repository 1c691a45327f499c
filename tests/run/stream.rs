//! Following the table's stream: what is written is sealed, checkpoints hold, and what cannot be followed is said.

use std::time::Duration;

use aws_sdk_dynamodb::types::StreamViewType;
use serde_json::json;

use crate::bench::{Bench, Running, order, ran};

const TAIL: &str = "tail --job job.toml --execute --state-dir state";

impl Bench {
    fn tail(&self, arguments: &str) -> Running {
        let mut tail = self.started(&format!("{TAIL} --json {arguments}"));
        tail.wait_for(&json!({ "event": "following" }));
        tail
    }

    async fn put_orders(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            self.put(&order(number)).await;
        }
    }
}

impl Running {
    /// Reads on until so many items were rewritten on the word of the stream.
    fn wait_for_rewrites(&mut self, count: u64) {
        let mut rewritten = 0;
        while rewritten < count {
            let done = self.wait_for(&json!({ "event": "page-done" }));
            rewritten += if done["shard"].is_null() { 0 } else { done["tally"]["rewritten"].as_u64().unwrap() };
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_stream_and_leave_to_make_one_it_is_refused() {
    let bench = Bench::with(3).await;
    bench.job(&[]);
    for command in [TAIL, "run --job job.toml --execute --tail"] {
        bench.reseal(command).expect(3, &["orders-of-a-test has no stream to follow", "remedy: add --create-stream"]);
    }
    assert_eq!(bench.sealed().await, 0);
    // Without --execute it is the plan.
    bench.reseal("tail --job job.toml --create-stream").expect(0, &["stream    none"]);
    bench.reseal("run --job job.toml --create-stream").expect(2, &["--tail"]);
    let nobody = bench.command(TAIL).env("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", "http://127.0.0.1:1").output();
    assert!(!nobody.unwrap().status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_seals_what_is_written_and_goes_on_where_it_was() {
    let bench = Bench::with(3).await;
    bench.job(&[]);
    let mut tail = bench.tail("--create-stream");
    bench.put_orders(2..6).await;
    tail.wait_for_rewrites(4);
    tail.signal("TERM");
    let result = tail.wait_for(&json!({ "result": "stopped" }));
    assert_eq!((&result["stream"]["rewritten"], &result["stream"]["gaps"]), (&4.into(), &json!([])), "{result}");
    assert_eq!(result["stream"]["exposed"]["items"], 4, "{result}");
    assert_eq!(tail.end(), 0);
    // What nobody wrote is not its business.
    assert_eq!(bench.sealed().await, 4);

    // What is written while it is away waits for it.
    bench.put_orders(6..9).await;
    let refused = "this job has followed the stream before, and goes on from its checkpoint";
    bench.reseal(&format!("{TAIL} --from now")).expect(3, &[refused, "remedy: leave --from out"]);
    let mut tail = bench.started(&format!("{TAIL} --json"));
    tail.wait_for(&json!({ "event": "following", "resumed": true }));
    tail.wait_for_rewrites(3);
    tail.signal("INT");
    assert_eq!(tail.end(), 0);
    assert_eq!(bench.sealed().await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_may_begin_with_the_oldest_record() {
    let bench = Bench::with(0).await;
    bench.job(&[]);
    bench.set_stream(Some(StreamViewType::KeysOnly)).await;
    bench.put_orders(0..5).await;
    let mut tail = bench.started(&format!("{TAIL} --json --from trim-horizon"));
    tail.wait_for(&json!({ "event": "following", "start": null }));
    tail.wait_for_rewrites(5);
    tail.signal("INT");
    assert_eq!(tail.end(), 0);
    assert_eq!(bench.sealed().await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_the_stream_is_complete_after_one_pass_and_may_follow_on() {
    let bench = Bench::with(20).await;
    bench.job(&[]);
    let mut run =
        bench.started("run --job job.toml --execute --json --state-dir state --tail --create-stream --keep-tailing");
    // Records that are younger than the scan prove that the stream is drained; without any it takes half a minute.
    let done = tokio::task::spawn_blocking(move || {
        run.wait_for(&json!({ "event": "complete" }));
        run
    });
    let mut number = 20;
    while !done.is_finished() {
        bench.put(&order(number)).await;
        number += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut run = done.await.unwrap();
    while bench.sealed().await < number {}
    run.signal("INT");
    let result = run.wait_for(&json!({ "result": "complete" }));
    assert_eq!(run.end(), 0);
    assert_eq!(result["passes"].as_array().unwrap().len(), 1, "{result}");
    let drained = result["stream"]["drained"].as_object().unwrap();
    assert!(drained.values().all(|way| way == "younger-record") && drained.len() == 1, "{result}");
    bench.reseal("verify --job job.toml").expect(0, &[&format!("{number} items: {number} at target and opened")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_enabled_anew_is_a_gap_until_the_table_is_scanned() {
    let bench = Bench::with(0).await;
    bench.job(&[]);
    bench.set_stream(Some(StreamViewType::NewImage)).await;
    let mut tail = bench.tail("");
    bench.put_orders(0..2).await;
    tail.wait_for_rewrites(2);
    tail.signal("INT");
    assert_eq!(tail.end(), 0);
    bench.set_stream(None).await;
    bench.put_orders(2..4).await;
    bench.set_stream(Some(StreamViewType::NewAndOldImages)).await;
    bench.put_orders(4..6).await;
    let mut tail = bench.started(&format!("{TAIL} --json"));
    tail.wait_for(&json!({ "event": "gap" }));
    tail.wait_for_rewrites(2);
    tail.signal("INT");
    let result = tail.wait_for(&json!({ "result": "stopped" }));
    assert_eq!(result["stream"]["gaps"].as_array().unwrap().len(), 1, "{result}");
    assert_eq!(tail.end(), 6);
    assert_eq!(bench.sealed().await, 4);
    // And whoever reads it is told so.
    bench.put_orders(6..8).await;
    let told = ran(&mut bench.command(&format!("{TAIL} --max-items 1")));
    assert!(told.err.contains("records of") && told.err.contains("were lost unread") && told.code == 5, "{told:#?}");
}
