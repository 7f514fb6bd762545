//! The command line's judges: generated SQL, transactions that are recorded, histories from a file.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use std::{fs, io, thread};

use serde_json::Value;

use crate::common::poolproof as program;
use crate::common::running::Running;

fn poolproof(args: &[&str]) -> Output {
    Command::new(program()).args(args).output().unwrap()
}

/// Its exit code, and what it said on stdout.
fn said(output: &Output) -> (Option<i32>, String) {
    assert!(output.stderr.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Exit code 2 and one line on stderr that holds all of `words`.
fn assert_refused(output: &Output, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), stderr.trim().lines().count()), (Some(2), 1), "{stderr}");
    assert!(words.iter().all(|word| stderr.contains(word)), "{words:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

fn history(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/histories").join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_history_is_judged_by_its_level() {
    let skew = history("write-skew.jsonl");
    let (code, text) = said(&poolproof(&["check", &skew]));
    assert!(code == Some(1) && text.contains("G2-item") && text.contains("process 1"), "{text}");
    assert!(
        text.contains("not judged, since the history does not tell it") && text.ends_with("DOES NOT HOLD\n"),
        "{text}"
    );
    let (code, text) = said(&poolproof(&["check", "--level", "snapshot-isolation", &skew]));
    assert!(code == Some(0) && text.ends_with("holds\n"), "{text}");
}

#[test]
fn a_history_of_others_is_read_in_elles_formats() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.edn");
    let edn = "{:type :invoke, :process 0, :f :txn, :value [[:append :x 1] [:r :y nil]]}\n\
               {:type :invoke, :process 1, :f :txn, :value [[:append :y 1] [:r :x nil]]}\n\
               {:type :ok, :process 0, :f :txn, :value [[:append :x 1] [:r :y nil]]}\n\
               {:type :ok, :process 1, :f :txn, :value [[:append :y 1] [:r :x nil]]}\n";
    fs::write(&file, edn).unwrap();
    let (code, text) = said(&poolproof(&["check", file.to_str().unwrap()]));
    assert!(code == Some(1) && text.contains("list-append") && text.contains("G2-item"), "{text}");
}

/// What of a text is no client's transaction is told, and what was found is written for programs, too.
#[test]
fn what_is_passed_over_is_told() {
    let line = |kind: &str, process: &str, f: &str, value: &str| {
        format!("{{\"type\":\"{kind}\",\"process\":{process},\"f\":\"{f}\",\"value\":{value}}}\n")
    };
    let two = |value: &str, read: &str| {
        line("invoke", "0", "txn", value)
            + &line("ok", "0", "txn", value)
            + &line("invoke", "1", "txn", "[]")
            + &line("ok", "1", "txn", read)
    };
    let transaction = two("[[\"append\",1,1]]", "[[\"r\",1,[1]]]");
    let nemesis = line("info", "\"nemesis\"", "start", "null") + &line("info", "9", "stop", "null");
    let lines = transaction.clone() + &nemesis;
    let array = format!("[{}]", lines.trim().replace('\n', ","));
    let edn = "{:type :invoke, :process 0, :f :txn, :value [[:append 1 1]]}\n{:type :ok, :process 0, :f :txn, :value [[:append 1 1]]}\n\
               {:type :invoke, :process 1, :f :txn, :value []}\n{:type :ok, :process 1, :f :txn, :value [[:r 1 [1]]]}\n\
               {:type :info, :process :nemesis, :f :start, :value \"a :type b\"}\n{:type :info, :process :nemesis, :f :stop, :value nil}\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history");
    for (text, passed_over) in [(lines, 2), (array, 2), (edn.to_owned(), 2), (transaction, 0)] {
        fs::write(&file, &text).unwrap();
        let (code, said_of_it) = said(&poolproof(&["check", file.to_str().unwrap()]));
        assert_eq!(code, Some(0), "{said_of_it}");
        let told = said_of_it.lines().next().unwrap().ends_with("; 2 events of no client passed over");
        assert_eq!(told, passed_over > 0, "{said_of_it}");
        let mut check = Command::new(program());
        let check = check.args(["check", "-", "--json", "-"]).stdin(fs::File::open(&file).unwrap()).output().unwrap();
        let report: Value = serde_json::from_slice(&check.stdout).unwrap();
        assert_eq!((&report["ok"], &report["passed_over"]), (&true.into(), &passed_over.into()), "{report}");
        assert_eq!((&report["file"], &report["shape"]), (&"stdin".into(), &"list-append".into()), "{report}");
    }
    let skew = history("write-skew.jsonl");
    let output = poolproof(&["check", "--quiet", &skew]);
    let line = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{output:?}");
    assert!(line.lines().count() == 1 && line.contains("not strict serializable: G2-item"), "{line}");
}

#[test]
fn what_is_no_history_is_refused_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere.jsonl");
    assert_refused(&poolproof(&["check", nowhere.to_str().unwrap()]), &["cannot read", "nowhere.jsonl"]);
    let deep = "[".repeat(3_000_000);
    for text in [&deep, "", "{\"type\":\"ok\"", "SELECT 1", "[1, 2]", "{\"type\":\"done\",\"process\":0,\"value\":[]}"]
    {
        let file = folder.path().join("text");
        fs::write(&file, text).unwrap();
        assert_refused(
            &poolproof(&["check", file.to_str().unwrap()]),
            &["text is no history that can be judged", "give Elle's format"],
        );
    }
    assert_refused(&poolproof(&["check", "--level", "chaos", "x"]), &["chaos", "snapshot-isolation"]);
}

#[test]
fn transactions_hold_and_their_history_is_judged_the_same_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.jsonl");
    let file = file.to_str().unwrap();
    for shape in ["list-append", "rw-register"] {
        let run = ["isolation", "--transactions", "800", "--shape", shape, "--history", file];
        let (code, text) = said(&poolproof(&run));
        assert!(code == Some(0) && text.contains("800 transactions") && text.ends_with("holds\n"), "{text}");
        let (code, again) = said(&poolproof(&["check", file]));
        let judged = text.lines().find(|line| line.starts_with("by the order of commits")).unwrap();
        assert!(code == Some(0) && again.contains(judged) && again.contains(shape), "{again}");
    }
    let both = ["isolation", "--history", "-", "--json", "-"];
    assert_refused(&poolproof(&both), &["--json and --history both go to stdout"]);
}

#[test]
fn a_planted_flaw_of_isolation_does_not_hold() {
    let flawed = ["isolation", "--transactions", "800", "--flaw", "two-snapshots"];
    let (code, text) = said(&poolproof(&flawed));
    assert!(code == Some(1) && text.contains("DOES NOT HOLD") && text.contains("not strict serializable"), "{text}");
    assert!(text.contains("repeat: poolproof isolation ") && text.contains("--flaw two-snapshots"), "{text}");
}

/// Too few transactions for a flaw: that it holds shows nothing, and this is said.
#[test]
fn a_flaw_that_was_not_seen_is_told() {
    let (code, text) = said(&poolproof(&["isolation", "--transactions", "1", "--flaw", "two-snapshots"]));
    assert_ne!(code, Some(2), "{text}");
    let holds = text.ends_with("holds\n");
    assert_eq!(text.contains("the flaw was not seen: give more --transactions"), holds, "{text}");
}

/// Both end what they have begun, tell so, and leave no folder behind.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_judges_cleanly() {
    for command in [["isolation", "--transactions", "1000000"], ["statements", "--programs", "0..1000000"]] {
        let folder = tempfile::tempdir().unwrap();
        let (place, json) = (folder.path().join("tmp"), folder.path().join("report.json"));
        fs::create_dir(&place).unwrap();
        let untouched = fs::metadata(&place).unwrap().modified().unwrap();
        let mut running = Command::new(program());
        running.args(command).args(["--quiet", "--json"]).arg(&json).env("TMPDIR", &place);
        let mut running = Running::start(running.stderr(Stdio::piped()));
        // Whoever has made a folder watches for Ctrl-C.
        while fs::metadata(&place).unwrap().modified().unwrap() == untouched {
            assert!(running.try_wait().unwrap().is_none(), "it ended early");
            thread::sleep(Duration::from_millis(5));
        }
        assert!(Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap().success());
        assert_eq!(running.wait().unwrap().code(), Some(130), "{command:?}");
        let said = io::read_to_string(running.stderr.take().unwrap()).unwrap();
        assert_eq!(said, "error: stopped before its end, so it shows nothing; run it again\n");
        let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
        assert_eq!((&report["stopped"], &report["ok"]), (&true.into(), &false.into()), "{report}");
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "{command:?} leaves a folder");
    }
}

#[test]
fn generated_programs_are_as_on_the_engine_alone_and_a_naive_writer_is_not() {
    let (code, text) = said(&poolproof(&["statements", "--programs", "0..20"]));
    assert!(code == Some(0) && text.contains("20 programs") && text.ends_with("holds\n"), "{text}");
    let (code, text) = said(&poolproof(&["statements", "--programs", "0..200", "--subject", "naive"]));
    assert!(code == Some(1) && text.contains("not as on the engine alone"), "{text}");
    let repeat = text.lines().find(|line| line.starts_with("repeat: ")).unwrap();
    let again: Vec<&str> = repeat.split_whitespace().skip(2).collect();
    let (code, again) = said(&poolproof(&again));
    assert!(code == Some(1) && again.contains(repeat), "{again}");
    for range in ["5..5", "1", "a..b", "9..3"] {
        assert_refused(&poolproof(&["statements", "--programs", range]), &["--programs", "choose A..B"]);
    }
}
