//! How far a run comes: limits, chosen keys, the ledger, signals, the ways of writing.

use aws_sdk_dynamodb::types::{AttributeValue, StreamViewType};
use serde_json::{Value as Json, json};

use crate::bench::{Bench, Change, FOOT, HEAD, b, item, key_line, order, ran, s};

const RUN: &str = "run --job job.toml --execute --state-dir state";
/// A budget under which a page is a few items, and pages come about once per second.
pub(crate) const SLOW: Change<'_> = ("[target]", "[budget]\nread_units_per_second = 1\n\n[target]");

#[tokio::test(flavor = "multi_thread")]
async fn so_many_items_and_then_the_rest() {
    let bench = Bench::with(60).await;
    bench.job(&[]);
    bench.reseal(&format!("{RUN} --max-items 10")).expect(5, &["10 rewritten", "stopped at --max-items"]);
    assert_eq!(bench.sealed().await, 10);
    bench.reseal("verify --job job.toml").expect(4, &["60 items: 10 at target and opened", "50 in plaintext"]);
    bench.reseal(RUN).expect(0, &["complete"]);
    bench.reseal("verify --job job.toml").expect(0, &["60 items: 60 at target and opened"]);
    bench.reseal(RUN).expect(0, &["0 rewritten, 60 at target"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_keys_only() {
    let bench = Bench::with(30).await;
    bench.job(&[]);
    bench.write("keys.jsonl", &format!("{}\n{}\n{}\n", key_line(3), key_line(11), key_line(3)));
    bench.reseal(&format!("{RUN} --keys keys.jsonl")).expect(0, &["2 rewritten"]);
    let sealed = bench.items().await.into_iter().filter(|(_, item)| item.contains_key(HEAD)).map(|((_, sk), _)| sk);
    assert_eq!(sealed.collect::<Vec<_>>(), ["order-00003", "order-00011"]);
    bench.write("keys.jsonl", "{\"pk\": {\"S\": \"customer-1\"}}\n");
    bench.reseal(&format!("{RUN} --keys keys.jsonl")).expect(2, &["keys.jsonl:1", "sk", "one key per line"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn items_that_cannot_be_done_are_in_the_ledger_until_they_can() {
    let bench = Bench::with(20).await;
    bench.job(&[]);
    let with = |number: usize, attributes: &[(&str, AttributeValue)]| {
        let mut changed = order(number);
        changed.extend(item(attributes));
        changed
    };
    let odd = [
        (with(0, &[("colour", s("crimson"))]), "unknown-attribute", "\"colour\" has no action"),
        (with(1, &[(HEAD, b(&[1, 1]))]), "broken", "\"aws_dbe_head\" without \"aws_dbe_foot\""),
        (with(2, &[(FOOT, b(&[1, 1]))]), "broken", "\"aws_dbe_foot\" without \"aws_dbe_head\""),
        (with(3, &[(HEAD, b(b"garbage")), (FOOT, b(&[0; 48]))]), "broken", "\"aws_dbe_head\" is damaged"),
        (with(4, &[("note", b(&vec![7; 409_400]))]), "too-large", "DynamoDB stores at most 409600"),
    ];
    for (item, _, _) in &odd {
        bench.put(item).await;
    }
    let before = bench.items().await;
    let ran = bench.reseal(RUN);
    ran.expect(4, &["complete, but 5 items could not be done"]);
    let after = bench.items().await;
    for (item, kind, detail) in &odd {
        let (pk, key) = (item["pk"].as_s().unwrap(), item["sk"].as_s().unwrap());
        let told = ran.out.lines().find(|line| line.starts_with("failed ") && line.contains(key)).unwrap();
        assert!(told.contains(kind) && told.contains(detail), "{told}");
        let place = (pk.clone(), key.clone());
        assert_eq!(before[&place], after[&place], "left as it was");
    }
    assert!(!ran.out.contains("crimson") && !ran.err.contains("crimson"), "no value is told");
    bench.reseal("verify --job job.toml").expect(4, &["15 at target and opened"]);
    // Mended, one by one or all; the ledger closes what is done.
    bench.put(&order(0)).await;
    bench.reseal(RUN).expect(4, &["complete, but 4 items could not be done"]);
    for number in 1..5 {
        bench.put(&order(number)).await;
    }
    bench.reseal(RUN).expect(0, &["complete: everything written before the last pass began is at target"]);
    bench.reseal("verify --job job.toml").expect(0, &["20 items: 20 at target and opened"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_vanishes_leaves_the_ledger() {
    let bench = Bench::with(5).await;
    bench.job(&[]);
    let mut odd = order(1);
    odd.insert("colour".to_owned(), s("red"));
    bench.put(&odd).await;
    bench.reseal(RUN).expect(4, &["unknown-attribute"]);
    let delete = bench.client.delete_item().table_name(crate::bench::TABLE);
    delete.key("pk", odd["pk"].clone()).key("sk", odd["sk"].clone()).send().await.unwrap();
    bench.reseal(RUN).expect(0, &["complete"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_stops_a_run_that_goes_on_later() {
    for signal in ["INT", "TERM"] {
        let bench = Bench::with(200).await;
        bench.job(&[SLOW]);
        let mut run = bench.start("--state-dir state");
        run.wait_for(&json!({ "event": "page-done" }));
        run.signal(signal);
        run.wait_for(&json!({ "result": "interrupted" }));
        assert_eq!(run.end(), 5, "{signal}");
        let sealed = bench.sealed().await;
        assert!((1..200).contains(&sealed), "{signal}: {sealed} sealed");
        bench.job(&[]);
        let mut run = bench.start("--state-dir state");
        run.wait_for(&json!({ "event": "pass-began", "pass": 1, "resumed": true }));
        assert_eq!(run.end(), 0, "{signal}");
        assert_eq!(bench.sealed().await, 200, "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_at_once() {
    let bench = Bench::with(200).await;
    // Reading is quick and writing is not: pages are in flight, and would take minutes.
    bench.job(&[("[target]", "[budget]\nwrite_units_per_second = 1\n\n[target]")]);
    let mut run = bench.start("--state-dir state");
    run.wait_for(&json!({ "event": "ground-proved" }));
    run.signal("INT");
    run.signal("INT");
    run.wait_for(&json!({ "result": "interrupted" }));
    assert_eq!(run.end(), 5);
    bench.job(&[]);
    bench.reseal(RUN).expect(0, &["complete"]);
    bench.reseal("verify --job job.toml").expect(0, &["200 items: 200 at target and opened"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_of_writing() {
    for (arguments, writer) in [("", "batch"), ("--writer update-item", "update-item")] {
        let bench = Bench::with(30).await;
        bench.job(&[]);
        let mut run = bench.start(&format!("--state-dir state {arguments}"));
        run.wait_for(&json!({ "event": "ground-proved", "writer": writer }));
        let result = run.wait_for(&json!({ "result": "complete" }));
        assert_eq!(result["passes"][0]["rewritten"], 30, "{writer}");
        assert_eq!(run.end(), 0, "{writer}");
        bench.reseal("verify --job job.toml").expect(0, &["30 items: 30 at target and opened"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_pass_allowed_still_found_work() {
    let bench = Bench::with(5).await;
    bench.job(&[]);
    bench.reseal(&format!("{RUN} --max-passes 1")).expect(6, &["the last pass still found work: run again"]);
    assert_eq!(bench.sealed().await, 5);
    bench.reseal(&format!("{RUN} --max-passes 1")).expect(0, &["complete"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_table() {
    let bench = Bench::with(0).await;
    bench.job(&[]);
    bench.reseal("plan --job job.toml").expect(0, &["sample of 0 items"]);
    bench.reseal(RUN).expect(0, &["complete"]);
    bench.reseal("verify --job job.toml").expect(0, &["0 items"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_kept_where_the_users_programs_keep_it() {
    let bench = Bench::with(5).await;
    bench.job(&[]);
    bench.reseal("run --job job.toml --execute --max-items 2").expect(5, &["2 rewritten"]);
    bench.reseal("run --job job.toml --execute").expect(0, &["complete"]);
    let home = bench.path(".local/state/reseal");
    assert!(home.join("locks").is_dir());
    let jobs: Vec<_> = std::fs::read_dir(home.join("jobs")).unwrap().collect();
    assert_eq!(jobs.len(), 1, "one job on one table");
    assert!(jobs[0].as_ref().unwrap().path().join("journal.sqlite3").is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_names_the_stream_and_what_it_is_enough_for() {
    let bench = Bench::with(0).await;
    bench.job(&[]);
    let json = || serde_json::from_str::<Json>(&bench.reseal("plan --job job.toml --json").out).unwrap();
    bench.reseal("plan --job job.toml").expect(0, &["stream    none"]);
    for (view, enough) in [
        (StreamViewType::NewAndOldImages, "enough to follow every change without reading the table"),
        (StreamViewType::NewImage, "enough to follow every change, but not to see every partial update"),
        (StreamViewType::OldImage, "each changed item is read by its key besides"),
        (StreamViewType::KeysOnly, "each changed item is read by its key besides"),
    ] {
        bench.set_stream(Some(view.clone())).await;
        let named = format!("stream    {}, arn:", view.as_str());
        bench.reseal("plan --job job.toml").expect(0, &[&named, "/stream/", enough]);
        let plan = json();
        assert_eq!(plan["stream-view"], view.as_str());
        assert!(plan["stream-arn"].as_str().unwrap().contains("/stream/"), "{plan}");
        bench.set_stream(None).await;
    }
    // A stream that was is not one to follow.
    bench.reseal("plan --job job.toml").expect(0, &["stream    none"]);
    assert!(json()["stream-arn"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_warns_of_partial_updates_that_the_stream_shows() {
    let bench = Bench::with(0).await;
    bench.job(&[]);
    let json = || serde_json::from_str::<Json>(&bench.reseal("plan --job job.toml --json").out).unwrap();
    bench.set_stream(Some(StreamViewType::NewAndOldImages)).await;
    bench.put(&order(0)).await;
    bench.put(&order(1)).await;
    let none = json();
    assert_eq!((&none["writers"]["records"], &none["writers"]["partial"]), (&2.into(), &0.into()), "{none}");
    bench.update(0, "SET #s = :v", s("shipped")).await;
    bench.update(1, "SET amount = amount + :v REMOVE #s", AttributeValue::N("1".to_owned())).await;
    bench.update(1, "ADD amount :v", AttributeValue::N("1".to_owned())).await;
    bench.reseal("plan --job job.toml").expect(
        0,
        &["3 changes of plaintext items, 3 of them of few", "(amount: 2, status: 2): if these are UpdateItem"],
    );

    bench.reseal(RUN).expect(0, &["complete"]);
    bench.update(0, "SET #s = :v", s("back")).await;
    let plan = json();
    assert_eq!(
        (&plan["writers"]["raw"], &plan["writers"]["raw-attributes"]["status"]),
        (&1.into(), &1.into()),
        "{plan}"
    );
    let warned = |text: &str| plan["warnings"].as_array().unwrap().iter().any(|of| of.as_str().unwrap().contains(text));
    assert!(warned("1 changes in the stream's sample wrote into a sealed item"), "{plan}");

    // What the stream does not let us see is said, and refuses nothing.
    let mut command = bench.command("plan --job job.toml");
    ran(command.env("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", "http://127.0.0.1:1")).expect(0, &["writers   unknown ("]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_takes_a_tail_and_both_images() {
    let bench = Bench::with(1).await;
    bench.job(&[("[source]", "[source]\non_mixed = \"repair\"")]);
    bench.reseal("tail --job job.toml --execute").expect(3, &["the table has no stream", "source.on_mixed"]);
    bench.set_stream(Some(StreamViewType::NewImage)).await;
    bench.reseal("plan --job job.toml").expect(3, &["the stream's view is NEW_IMAGE", "source.on_mixed"]);
    bench.set_stream(None).await;
    bench.set_stream(Some(StreamViewType::NewAndOldImages)).await;
    bench.reseal("plan --job job.toml").expect(0, &["NEW_AND_OLD_IMAGES"]);
    bench.reseal(RUN).expect(3, &["without following the table's stream"]);
    assert_eq!(bench.sealed().await, 0);
    // It is no part of the plan that a state belongs to.
    bench.job(&[]);
    bench.reseal("run --job job.toml --execute --state-dir state").expect(0, &["complete"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_writes_into_a_sealed_item_is_repaired_by_a_tail() {
    let bench = Bench::with(3).await;
    bench.job(&[("[source]", "[source]\non_mixed = \"repair\"")]);
    bench.set_stream(Some(StreamViewType::NewAndOldImages)).await;
    let mut run = bench.start("--tail --keep-tailing --state-dir state");
    run.wait_for(&json!({ "event": "pass-ended" }));
    assert_eq!(bench.sealed().await, 3);
    bench.update(0, "SET #s = :v REMOVE note", s("shipped")).await;
    // The scan's own writes come by as well.
    while run.wait_for(&json!({ "event": "page-done" }))["tally"]["rewritten"] == 0 {}
    run.signal("INT");
    run.end();
    bench.reseal("verify --job job.toml").expect(0, &["3 items"]);
    let items = bench.items().await;
    let item = items.values().find(|item| item["sk"] == order(0)["sk"]).unwrap();
    assert!(item["status"] == s("shipped") && !item.contains_key("note"));
}
