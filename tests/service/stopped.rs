//! The program `poolproof serve`, stopped in the middle of runs: by a signal that it heeds, and by one that it cannot.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::served::Served;

async fn is_kept_and_resumable_after(signal: Signal) -> Option<i32> {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("runs.db");
    let served = Served::start(&database, &["--benchmarks", "fixtures/benchmarks"]);
    let benchmarks = served.get("/benchmarks").await;
    let survey = benchmarks.as_array().unwrap().iter().find(|benchmark| benchmark["name"] == "survey").unwrap();
    let survey = survey["id"].as_str().unwrap().to_owned();
    let mut ids = Vec::new();
    for seed in 0..4 {
        let (status, begun) = served.run(&survey, &json!({ "agent": format!("a{seed}"), "seed": seed })).await;
        assert_eq!(status, 202);
        ids.push(begun["execution_id"].as_str().unwrap().to_owned());
    }
    // Until each has shown something.
    let mut shown = vec![Vec::new(); ids.len()];
    while shown.iter().any(|chunks: &Vec<Value>| chunks.len() < 3) {
        for (number, chunks) in shown.iter_mut().enumerate() {
            let log = served.get(&format!("/flow-logs/{survey}?agent=a{number}")).await;
            chunks.clone_from(log["chunks"].as_array().unwrap());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let code = tokio::task::spawn_blocking(move || served.end(signal).code()).await.unwrap();

    let again = Served::start(&database, &[]);
    for (number, (id, chunks)) in ids.iter().zip(&shown).enumerate() {
        let log = again.get(&format!("/flow-logs/{survey}?agent=a{number}")).await;
        assert_eq!(log["execution"]["state"], "interrupted", "{id}");
        let kept = log["chunks"].as_array().unwrap();
        assert!(kept.starts_with(chunks), "of {} parts that were shown, {} are there", chunks.len(), kept.len());
    }
    let (status, _) = again.run(&survey, &json!({ "resume": ids[0] })).await;
    assert_eq!(status, 202);
    let ended = loop {
        let status = again.get(&format!("/benchmarks/{survey}/status/{}", ids[0])).await;
        if status["state"] != "running" {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((&ended["state"], &ended["log_chunks"]), (&json!("completed"), &json!(102)));
    let (status, problem) = again.run(&survey, &json!({ "resume": ids[0] })).await;
    assert_eq!((status, problem["status"].as_u64()), (409, Some(409)));
    code
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_killed_keeps_what_it_had_shown_and_its_runs_can_be_resumed() {
    assert_eq!(is_kept_and_resumable_after(Signal::KILL).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_asked_to_stop_marks_its_runs_and_ends_well() {
    assert_eq!(is_kept_and_resumable_after(Signal::TERM).await, Some(0));
}

#[test]
fn what_others_could_reach_needs_a_flag() {
    let output = Command::new(crate::common::poolproof())
        .args(["serve", "--database", "never-made.db", "--listen", "0.0.0.0:0"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(2), 1), "{stderr}");
    assert!(stderr.contains("--allow-remote") && !Path::new("never-made.db").exists(), "{stderr}");
}
