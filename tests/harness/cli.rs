//! Bad input gets one clear line, exit code 2, and nothing is lost.

use std::path::Path;
use std::process::{Child, Command, Output};

use crate::common::running::Running;

fn poolproof(args: &[&str]) -> Output {
    Command::new(crate::common::poolproof()).args(args).output().unwrap()
}

/// Exit code 2 and one line on stderr that holds all of `words`.
fn assert_refused(output: &Output, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.trim().lines().count(), 1, "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in {stderr:?}");
    }
    assert!(output.stdout.is_empty(), "{output:?}");
}

fn stress_on(database: &Path) -> Output {
    poolproof(&["stress", "--database", database.to_str().unwrap()])
}

#[test]
fn a_pool_without_connections_is_refused() {
    assert_refused(&poolproof(&["stress", "--pool-size", "0"]), &["'0' for '--pool-size <N>'", "choose 1 to 10000"]);
}

#[test]
fn a_writer_with_one_connection_is_refused() {
    assert_refused(&poolproof(&["stress", "--pool-size", "1"]), &["--pool-size is 1", "at least 2"]);
}

#[test]
fn an_unknown_flag_is_refused_with_the_one_that_was_meant() {
    assert_refused(&poolproof(&["stress", "--sideways"]), &["--sideways", "--help"]);
    let words =
        &["unexpected argument '--operation' found; tip: a similar argument exists: '--operations' (see --help)"];
    assert_refused(&poolproof(&["stress", "--operation", "3"]), words);
}

#[test]
fn an_unknown_subject_is_refused_with_the_known_ones() {
    assert_refused(&poolproof(&["stress", "--subject", "nobody"]), &["nobody", "double-holder"]);
    let words =
        &["for '--subject <SUBJECT>'; possible values: pool, mutex,", "number-20; tip: a similar value exists: 'pool'"];
    assert_refused(&poolproof(&["stress", "--subject", "pol"]), words);
}

#[test]
fn flags_that_do_not_go_together_are_named() {
    let output = poolproof(&["stress", "--kill", "--warm", "--workers", "2"]);
    assert_refused(&output, &["cannot be used with: --warm, --workers <N> (see --help)"]);
    assert_refused(&poolproof(&["stress", "--rounds", "3"]), &["were not provided: --kill[=<WRITER>] (see"]);
}

#[test]
fn a_number_that_cannot_work_is_refused_by_its_flag_with_those_that_can() {
    for (flag, most) in [
        ("--operations", "1000000000"),
        ("--concurrency", "1048576"),
        ("--pool-size", "10000"),
        ("--workers", "256"),
        ("--write-every", "1000000000"),
        ("--seconds", "604800"),
        ("--watchdog", "604800"),
    ] {
        let too_many = format!("{most}0");
        for value in ["0", "-1", "ten", "1.5", &too_many] {
            let value = format!("{flag}={value}");
            assert_refused(&poolproof(&["stress", &value]), &[flag, &format!("choose 1 to {most} (see --help)")]);
        }
    }
    for value in ["--rounds=0", "--rounds=1000001", "--rounds=many"] {
        assert_refused(&poolproof(&["stress", "--kill", value]), &["--rounds", "choose 1 to 1000000 (see --help)"]);
    }
    assert_refused(&poolproof(&["stress", "--seed", "x"]), &["'--seed <N>'", "invalid digit"]);
}

#[test]
fn a_folder_that_does_not_exist_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("app.db");
    assert_refused(&stress_on(&path), &["missing", "does not exist", "create it"]);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    // Not even root can make a file in /proc.
    assert_refused(&stress_on(Path::new("/proc/app.db")), &["/proc/app.db"]);
}

#[test]
fn a_folder_in_place_of_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert_refused(&stress_on(folder.path()), &["is a folder"]);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter.db");
    let letter = "Dear reader, this is no database, however long it is. ".repeat(200);
    std::fs::write(&path, &letter).unwrap();
    assert_refused(&stress_on(&path), &["letter.db", "no database"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), letter);
}

#[test]
fn an_existing_database_is_refused_and_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.db");
    rusqlite_with_a_row(&path);
    let before = std::fs::read(&path).unwrap();
    assert_refused(&stress_on(&path), &["mine.db", "exists"]);
    assert!(std::fs::read(&path).unwrap() == before, "not a byte may change");
}

fn rusqlite_with_a_row(path: &Path) {
    let sqlite = rusqlite::Connection::open(path).unwrap();
    sqlite.execute_batch("CREATE TABLE mine (x); INSERT INTO mine VALUES (42)").unwrap();
}

#[test]
fn a_database_that_another_process_has_open_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("busy.db");
    let mut holder = Command::new(crate::common::poolproof());
    holder.args(["stress", "--seconds", "60", "--quiet", "--database"]).arg(&path);
    let mut holder = Running::start(&mut holder);
    wait_until_at_work(&mut holder, &path);
    let output = stress_on(&path);
    drop(holder);
    assert_refused(&output, &["busy.db", "another process"]);
}

/// A run's log is written once its clients are at work; by then it holds its file, and watches for Ctrl-C.
fn wait_until_at_work(running: &mut Child, database: &Path) {
    let log = database.with_extension("db-wal");
    while !std::fs::metadata(&log).is_ok_and(|log| log.len() > 100_000) {
        assert!(running.try_wait().unwrap().is_none(), "it ended early");
        std::thread::yield_now();
    }
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_the_run() {
    assert_refused(&poolproof(&["stress", "--json", "/proc/report.json"]), &["/proc/report.json", "cannot write"]);
}

#[test]
fn a_proof_without_the_affected_engine_and_without_cargo_says_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("poolproof");
    std::fs::copy(crate::common::poolproof(), &alone).unwrap();
    let output = Command::new(&alone).arg("prove").env_clear().env("PATH", folder.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let last = stderr.lines().last().unwrap();
    assert!(last.contains("affected engine") && last.contains("cargo build -p affected-engine"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_run_cleanly_and_what_was_found_is_still_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (database, json) = (folder.path().join("app.db"), folder.path().join("report.json"));
    let mut running = Command::new(crate::common::poolproof());
    running.args(["stress", "--seconds", "60", "--quiet", "--database"]).arg(&database).arg("--json").arg(&json);
    let mut running = Running::start(&mut running);
    wait_until_at_work(&mut running, &database);
    assert!(Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap().success());
    assert_eq!(running.wait().unwrap().code(), Some(130), "a run that was stopped shows nothing");
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((&report["stopped"], &report["ok"]), (&true.into(), &false.into()), "{report}");
    assert!(report["acknowledged"].as_u64() > Some(0), "{report}");
    assert_eq!(report["sqlite_integrity"], "ok");
}

#[test]
fn a_control_that_is_not_found_out_is_said_to_have_had_too_few_rounds() {
    // Of this seed the only child is killed before it could acknowledge anything.
    let killed = |subject: &str, more: &[&str]| {
        let output = poolproof(&[&["stress", subject], more].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text.lines().skip_while(|line| *line != "holds").map(str::to_owned).collect::<Vec<_>>())
    };
    let one = ["--rounds", "1", "--seed", "15"];
    let but = "but early-ack is a control, which must not hold: that it was not found out shows that 1 child is too few; give \
               more --rounds";
    assert_eq!(killed("--kill=early-ack", &one), (Some(0), vec!["holds".to_owned(), but.to_owned()]));
    assert_eq!(killed("--kill=writer", &one), (Some(0), vec!["holds".to_owned()]));
    assert_eq!(killed("--kill=unsynced", &["--rounds", "5"]), (Some(1), vec![]));
}

#[test]
fn a_quiet_run_that_does_not_hold_says_so_in_a_line() {
    let quietly = |more: &[&str]| {
        let output = poolproof(&[&["stress", "--quiet"], more].concat());
        assert!(output.stdout.is_empty(), "{output:?}");
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, line) = quietly(&["--kill=unsynced", "--rounds", "5"]);
    assert!(code == Some(1) && line.starts_with("DOES NOT HOLD: ") && line.lines().count() == 1, "{line}");
    assert!(line.ends_with(" writes lost; repeat: poolproof stress --kill=unsynced --rounds 5 --seed 1\n"), "{line}");
    let (code, line) = quietly(&["--subject", "number-20", "--operations", "2000", "--concurrency", "64"]);
    assert!(code == Some(1) && line.starts_with("DOES NOT HOLD: ") && line.lines().count() == 1, "{line}");
    assert_eq!(quietly(&[]), (Some(0), String::new()));
}

#[test]
fn a_name_that_is_no_file_is_refused() {
    for name in [":memory:", "file:x.db?mode=memory"] {
        assert_refused(&poolproof(&["stress", "--database", name]), &["needs a file"]);
    }
}

#[test]
fn json_on_stdout_stands_alone() {
    let output = poolproof(&["stress", "--json", "-"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["ok"]), (Some(0), &true.into()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_stdout_that_takes_nothing_is_said_so() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(crate::common::poolproof()).arg("stress").stdout(full).output().unwrap();
    assert_refused(&output, &["stdout"]);
}

#[test]
fn the_documented_stress_run_holds() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("stress.json");
    let line = ["stress", "--operations", "20000", "--concurrency", "64", "--seed", "7", "--json"];
    let output = Command::new(crate::common::poolproof()).args(line).arg(&json).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    for field in ["failed", "lost", "duplicated"] {
        assert_eq!(report[field], 0, "{report}");
    }
    assert!(report["max_open"].as_u64().unwrap() <= 10, "{report}");
    assert_eq!(report["acknowledged"], 4_000);
}

#[test]
fn help_says_how_with_an_example() {
    for command in ["", "prove", "stress", "statements", "isolation", "check", "serve", "sim", "merge"] {
        let args: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let output = poolproof(&args);
        assert!(output.status.success());
        let help = String::from_utf8_lossy(&output.stdout);
        assert!(help.contains("Example"), "{args:?}");
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "too wide for a terminal: {line}");
        }
    }
}

/// A file system of 256 KiB, in a mount namespace of the command's own. `None` where this machine does not allow it.
fn on_a_small_disk(program: &Path) -> Option<Output> {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    let mount = format!("mount -t tmpfs -o size=256k tmpfs '{place}'");
    let allowed = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "sh", "-c", &mount]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        return None;
    }
    let line = format!("{mount} && exec '{}' stress --operations 2000 --database '{place}/app.db'", program.display());
    Some(Command::new("unshare").args(["--user", "--map-root-user", "--mount", "sh", "-c", &line]).output().unwrap())
}

#[test]
fn a_full_disk_is_named() {
    match on_a_small_disk(&crate::common::poolproof()) {
        Some(output) => assert_refused(&output, &["full", "app.db", "free some room"]),
        None => eprintln!("this machine allows no mount in a namespace of its own: no small disk to fill"),
    }
}
