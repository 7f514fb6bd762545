//! Runs of benchmarks: what belongs together is written together, and a log is never more than what was acknowledged.

use std::fs;
use std::path::Path;

use poolproof::runs::{
    AgentConfig, BenchmarkFile, BenchmarkId, Ended, Error, NewSession, PerformanceFilter, Runs, SessionFilter,
    SessionId, SessionStatus, StepDone, ToolCall,
};
use tempfile::TempDir;

async fn open() -> (TempDir, Runs) {
    let folder = tempfile::tempdir().unwrap();
    let runs = Runs::open(folder.path().join("runs.db")).await.unwrap();
    (folder, runs)
}

fn benchmark(name: &str) -> BenchmarkFile {
    BenchmarkFile::parse(&format!("name: {name}\nprompt: do it")).unwrap()
}

async fn begin(runs: &Runs, benchmark: &BenchmarkId, agent: &str) -> SessionId {
    let id = SessionId::fresh();
    let (benchmark, agent, interface) = (benchmark.clone(), agent.to_owned(), "http".to_owned());
    runs.create_session(NewSession { id: id.clone(), benchmark, agent, interface, seed: 7 }).await.unwrap();
    id
}

fn ended(succeeded: bool, score: f64) -> Ended {
    Ended { succeeded, score, final_status: "done".to_owned() }
}

fn call(number: u32) -> ToolCall {
    let [name, input, output] = ["balance", "A", "5"].map(str::to_owned);
    ToolCall { number, at_ms: 1, name, input, output, duration_ms: 3, succeeded: true }
}

fn text(log: &poolproof::runs::SessionLog) -> Vec<&str> {
    log.chunks.iter().map(|chunk| chunk.content.as_str()).collect()
}

#[tokio::test]
async fn a_session_from_its_beginning_to_its_end() {
    let (_folder, runs) = open().await;
    let benchmark = runs.upsert_benchmark(&benchmark("transfer")).await.unwrap();
    let id = begin(&runs, &benchmark, "a").await;
    runs.append_log(&id, 1, "first").await.unwrap();
    runs.record_tool_call(&id, call(1)).await.unwrap();
    let log = runs.session_log(id.clone()).await.unwrap();
    assert_eq!((log.session.status, text(&log)), (SessionStatus::Running, vec!["first"]));
    assert_eq!(log.tool_calls, [call(1)]);
    assert!(runs.agent_performance(&PerformanceFilter::default()).await.unwrap().is_empty(), "it has not ended");

    runs.append_log(&id, 2, "second").await.unwrap();
    runs.complete_session(&id, ended(true, 0.75)).await.unwrap();
    let log = runs.session_log(id.clone()).await.unwrap();
    assert_eq!((log.session.status, log.session.score), (SessionStatus::Succeeded, Some(0.75)));
    assert_eq!((text(&log), log.session.final_status.as_deref()), (vec!["first", "second"], Some("done")));
    let performances = runs.agent_performance(&PerformanceFilter::default()).await.unwrap();
    let [performance] = &performances[..] else { panic!("{performances:?}") };
    assert_eq!((&performance.session_id, performance.score), (&id, 0.75));
    assert_eq!(performance.duration_ms, log.session.ended_ms.unwrap() - log.session.started_ms);

    let statistics = runs.statistics().await.unwrap();
    let counts = [statistics.benchmarks, statistics.sessions, statistics.running, statistics.log_chunks];
    assert_eq!((counts, statistics.tool_calls, statistics.performances), ([1, 1, 0, 2], 1, 1));
}

#[tokio::test]
async fn what_is_not_there_or_is_over_says_so() {
    let (_folder, runs) = open().await;
    let nobody = SessionId::from("nobody");
    let missing = NewSession {
        id: SessionId::fresh(),
        benchmark: BenchmarkId::from("nothing"),
        agent: "a".to_owned(),
        interface: "http".to_owned(),
        seed: 7,
    };
    assert!(matches!(runs.create_session(missing).await, Err(Error::NoBenchmark(id)) if id.as_str() == "nothing"));
    assert!(matches!(runs.benchmark(&BenchmarkId::from("nothing")).await, Err(Error::NoBenchmark(_))));
    assert!(matches!(runs.append_log(&nobody, 1, "x").await, Err(Error::NoSession(id)) if id == nobody));
    assert!(matches!(runs.complete_session(&nobody, ended(true, 1.0)).await, Err(Error::NoSession(_))));
    assert!(matches!(runs.session_log(nobody.clone()).await, Err(Error::NoSession(_))));

    let benchmark = runs.upsert_benchmark(&benchmark("transfer")).await.unwrap();
    let id = begin(&runs, &benchmark, "a").await;
    runs.complete_session(&id, ended(false, 0.0)).await.unwrap();
    assert!(matches!(runs.append_log(&id, 1, "late").await, Err(Error::Over(_))));
    assert!(matches!(runs.record_tool_call(&id, call(1)).await, Err(Error::Over(_))));
    assert!(matches!(runs.complete_session(&id, ended(true, 1.0)).await, Err(Error::Over(_))), "once");
    assert!(matches!(runs.resume_session(&id).await, Err(Error::Over(_))));
    let log = runs.session_log(id.clone()).await.unwrap();
    assert_eq!((log.session.status, log.chunks.len()), (SessionStatus::Failed, 0));
}

#[tokio::test]
async fn a_part_that_is_written_again_is_there_once() {
    let (_folder, runs) = open().await;
    let benchmark = runs.upsert_benchmark(&benchmark("transfer")).await.unwrap();
    let id = begin(&runs, &benchmark, "a").await;
    for content in ["first", "not this"] {
        runs.append_log(&id, 1, content).await.unwrap();
        runs.record_tool_call(&id, call(1)).await.unwrap();
    }
    let log = runs.session_log(id.clone()).await.unwrap();
    assert_eq!((text(&log), log.tool_calls.len()), (vec!["first"], 1));
}

#[tokio::test]
async fn an_interrupted_session_goes_on_where_it_was() {
    let (_folder, runs) = open().await;
    let benchmark = runs.upsert_benchmark(&benchmark("transfer")).await.unwrap();
    let id = begin(&runs, &benchmark, "a").await;
    let other = begin(&runs, &benchmark, "a").await;
    runs.append_log(&id, 1, "first").await.unwrap();
    runs.complete_session(&other, ended(true, 1.0)).await.unwrap();
    assert_eq!(runs.interrupt_all().await.unwrap(), 1, "the other one is over");
    assert!(matches!(runs.append_log(&id, 2, "x").await, Err(Error::Over(_))), "nobody runs it");
    let only = SessionFilter { status: Some(SessionStatus::Interrupted), ..SessionFilter::default() };
    let sessions = runs.list_sessions(&only).await.unwrap();
    assert_eq!(sessions.iter().map(|session| &session.id).collect::<Vec<_>>(), [&id]);
    runs.resume_session(&id).await.unwrap();
    runs.append_log(&id, 2, "second").await.unwrap();
    runs.complete_session(&id, ended(true, 1.0)).await.unwrap();
    assert_eq!(text(&runs.session_log(id.clone()).await.unwrap()), ["first", "second"]);
}

#[tokio::test]
async fn lists_show_what_was_asked_for_the_latest_first() {
    let (_folder, runs) = open().await;
    let one = runs.upsert_benchmark(&benchmark("one")).await.unwrap();
    let two = runs.upsert_benchmark(&benchmark("two")).await.unwrap();
    let mut ids = Vec::new();
    for (benchmark, agent, score) in [(&one, "a", 1.0), (&two, "a", 0.5), (&one, "b", 0.0), (&one, "a'; --", 0.25)] {
        let id = begin(&runs, benchmark, agent).await;
        runs.complete_session(&id, ended(score > 0.4, score)).await.unwrap();
        ids.push(id);
    }
    let found = async |filter: PerformanceFilter| -> Vec<f64> {
        runs.agent_performance(&filter).await.unwrap().iter().map(|row| row.score).collect()
    };
    let all = PerformanceFilter::default;
    let agent = |agent: &str| Some(agent.to_owned());
    assert_eq!(found(PerformanceFilter { agent: agent("a"), ..all() }).await, [0.5, 1.0]);
    assert_eq!(found(PerformanceFilter { benchmark: Some(one.clone()), ..all() }).await, [0.25, 0.0, 1.0]);
    assert_eq!(found(PerformanceFilter { agent: agent("a"), benchmark: Some(one), ..all() }).await, [1.0]);
    assert_eq!(found(PerformanceFilter { agent: agent("a'; --"), ..all() }).await, [0.25]);
    assert_eq!(found(PerformanceFilter { limit: Some(1), ..all() }).await, [0.25]);
    assert_eq!(found(PerformanceFilter { since_ms: Some(i64::MAX), ..all() }).await, [0.0; 0]);
    let sessions = runs.list_sessions(&SessionFilter { limit: Some(2), ..SessionFilter::default() }).await.unwrap();
    assert_eq!(sessions.iter().map(|session| &session.id).collect::<Vec<_>>(), [&ids[3], &ids[2]]);
    let summary = runs.performance_summary().await.unwrap();
    let summary: Vec<_> = summary.iter().map(|agent| (&*agent.agent, agent.runs, agent.succeeded)).collect();
    assert_eq!(summary, [("a", 2, 2), ("a'; --", 1, 0), ("b", 1, 0)]);
    assert_eq!(runs.performance_summary().await.unwrap()[0].mean_score, 0.75);
}

#[tokio::test]
async fn tables_are_made_once_and_a_newer_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    let runs = Runs::open(&path).await.unwrap();
    let id = runs.upsert_benchmark(&benchmark("transfer")).await.unwrap();
    runs.db().close().await;
    let runs = Runs::open(&path).await.unwrap();
    assert_eq!(runs.benchmark(&id).await.unwrap().name, "transfer", "what was there stays");
    runs.db().execute("INSERT INTO migrations VALUES (99, 'of tomorrow')", ()).await.unwrap();
    runs.db().close().await;
    let refused = Runs::open(&path).await.unwrap_err().to_string();
    assert!(refused.contains("version 99") && refused.contains("use a newer program"), "{refused}");
}

#[tokio::test]
async fn foreign_keys_are_minded_on_every_connection() {
    let (_folder, runs) = open().await;
    let mut guards = Vec::new();
    for _ in 0..3 {
        guards.push(runs.db().pool().get().await.unwrap());
    }
    for guard in &mut guards {
        let sql = "INSERT INTO log_chunks VALUES ('nobody', 1, 0, '')";
        let error = guard.execute(sql, ()).await.unwrap_err();
        assert!(error.constraint().is_some(), "{error}");
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

#[tokio::test]
async fn a_folder_of_benchmarks_is_stored_whole_or_not_at_all() {
    let (folder, runs) = open().await;
    let files = folder.path().join("benchmarks");
    fs::create_dir(&files).unwrap();
    write(&files, "b.yml", "name: b\nprompt: do b");
    write(&files, "a.yaml", "name: a\nprompt: do a");
    write(&files, "notes.txt", "no benchmark");
    let ids = runs.sync_benchmarks(&files).await.unwrap();
    assert_eq!(ids, [BenchmarkId::of("a", "do a"), BenchmarkId::of("b", "do b")]);
    write(&files, "a.yaml", "name: a\nprompt: do a\nsteps:\n  - say: changed");
    write(&files, "c.yml", "name: c\nprompt: do c\nsteps:\n  - sya: wrong");
    let refused = runs.sync_benchmarks(&files).await.unwrap_err().to_string();
    assert!(refused.contains("c.yml") && refused.contains("sya") && refused.contains('4'), "{refused}");
    assert!(!runs.benchmark(&ids[0]).await.unwrap().content.contains("changed"), "none of them");
    fs::remove_file(files.join("c.yml")).unwrap();
    assert_eq!(runs.sync_benchmarks(&files).await.unwrap(), ids, "the same benchmarks");
    assert!(runs.benchmark(&ids[0]).await.unwrap().content.contains("changed"));
    assert_eq!(runs.benchmarks().await.unwrap().len(), 2);
    let missing = runs.sync_benchmarks(files.join("nowhere")).await.unwrap_err().to_string();
    assert!(missing.contains("nowhere"), "{missing}");
}

#[tokio::test]
async fn the_benchmarks_that_come_with_it_can_be_read() {
    let (_folder, runs) = open().await;
    assert_eq!(runs.sync_benchmarks("fixtures/benchmarks").await.unwrap().len(), 3);
}

/// Readers see logs that grow without gaps while eight sessions write.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_log_that_is_read_while_it_grows_has_no_gap() {
    const PARTS: u32 = 40;
    let (_folder, runs) = open().await;
    let benchmark = runs.upsert_benchmark(&benchmark("transfer")).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(begin(&runs, &benchmark, "a").await);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for id in ids.clone() {
        let (writer, reader, read) = (runs.clone(), runs.clone(), id.clone());
        tasks.spawn(async move {
            for number in 1..=PARTS {
                writer.append_log(&id, number, format!("part {number}")).await.unwrap();
            }
            writer.complete_session(&id, ended(true, 1.0)).await.unwrap();
        });
        tasks.spawn(async move {
            let mut before = 0;
            loop {
                let log = reader.session_log(read.clone()).await.unwrap();
                let numbers: Vec<u32> = log.chunks.iter().map(|chunk| chunk.number).collect();
                assert_eq!(numbers, (1..=numbers.len() as u32).collect::<Vec<_>>(), "without a gap");
                assert!(numbers.len() >= before, "a log never shrinks");
                before = numbers.len();
                if log.session.status == SessionStatus::Succeeded {
                    assert_eq!(numbers.len() as u32, PARTS, "whatever is complete is whole");
                    return;
                }
                tokio::task::yield_now().await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(runs.statistics().await.unwrap().log_chunks, u64::from(8 * PARTS));
}

#[tokio::test]
async fn a_step_is_a_part_of_the_log_and_a_call_and_can_be_written_again() {
    let (_folder, runs) = open().await;
    let benchmark = runs.upsert_benchmark(&benchmark("transfer")).await.unwrap();
    assert_eq!(*runs.latest_log(benchmark.clone(), None).await.unwrap(), None);
    let id = begin(&runs, &benchmark, "a").await;
    let step = StepDone { number: 1, content: "moves".to_owned(), call: Some(call(1)) };
    for _ in 0..2 {
        runs.append_step(&id, step.clone()).await.unwrap();
    }
    let latest = runs.latest_log(benchmark.clone(), Some("a".to_owned())).await.unwrap();
    let latest = Option::as_ref(&latest).unwrap();
    assert_eq!((text(latest), &latest.tool_calls[..]), (vec!["moves"], &[call(1)][..]));
    assert_eq!((latest.session.id.clone(), latest.session.seed), (id.clone(), 7));
    assert_eq!(*runs.latest_log(benchmark.clone(), Some("b".to_owned())).await.unwrap(), None);
    let unknown = runs.latest_log(BenchmarkId::from("nothing"), None).await.unwrap_err();
    assert!(matches!(unknown, Error::NoBenchmark(_)), "{unknown}");

    runs.complete_session(&id, ended(true, 0.5)).await.unwrap();
    assert!(matches!(runs.append_step(&id, step).await.unwrap_err(), Error::Over(over) if over == id));
    let report = runs.performance_report(PerformanceFilter::default()).await.unwrap();
    assert_eq!((report.performances.len(), report.summary[0].runs), (1, 1));
}

#[tokio::test]
async fn how_an_agent_works_is_kept_and_can_be_changed() {
    let (_folder, runs) = open().await;
    assert_eq!(runs.agent_configs().await.unwrap(), []);
    let quick = AgentConfig { pace: 10.0, ..AgentConfig::of("a") };
    for config in [AgentConfig::of("a"), quick.clone()] {
        runs.put_agent_config(&config).await.unwrap();
    }
    assert_eq!(runs.agent_configs().await.unwrap(), [quick]);
}

#[test]
fn how_no_agent_can_work_is_said() {
    let of = |config: AgentConfig| config.validate().unwrap_err();
    assert_eq!(of(AgentConfig::of("")), "agent: give it 1 to 64 letters, digits, - or _");
    assert_eq!(of(AgentConfig::of("a/../b")), "agent: give it 1 to 64 letters, digits, - or _");
    assert_eq!(of(AgentConfig { pace: 0.0, ..AgentConfig::of("a") }), "pace: choose 0.01 to 1000");
    assert_eq!(of(AgentConfig { pace: f64::NAN, ..AgentConfig::of("a") }), "pace: choose 0.01 to 1000");
    assert_eq!(of(AgentConfig { failure_rate: 1.5, ..AgentConfig::of("a") }), "failure_rate: choose 0 to 1");
    assert_eq!(AgentConfig::of("a-1_b").validate(), Ok(()));
}
