//! The proof must be able to fail: with a broken pool `poolproof prove` says "not proved" and exits 1.

use std::process::{Command, Output};

use serde_json::Value;

/// Runs the proof the quick way on `subject`; its exit code and its JSON.
fn prove(subject: &str) -> (Output, Value) {
    crate::common::affected_engine();
    let folder = tempfile::tempdir().unwrap();
    let (json, junit) = (folder.path().join("proof.json"), folder.path().join("proof.xml"));
    let mut command = Command::new(crate::common::poolproof());
    command.args(["prove", "--quick", "--subject", subject, "--json"]).arg(&json).arg("--junit").arg(&junit);
    let output = command.output().unwrap();
    let text = std::fs::read_to_string(&json).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let junit = std::fs::read_to_string(&junit).unwrap();
    let failures = junit.matches("<failure").count();
    assert_eq!(failures == 0, output.status.success(), "JUnit and exit code must agree: {junit}");
    (output, serde_json::from_str(&text).unwrap())
}

/// Names of the phases that are part of the proof and do not hold.
fn failed(proof: &Value) -> Vec<&str> {
    let phases = proof["phases"].as_array().unwrap().iter();
    phases
        .filter(|phase| phase["required"] == true && phase["ok"] == false)
        .map(|phase| phase["name"].as_str().unwrap())
        .collect()
}

#[test]
fn the_pool_is_proved_and_the_report_has_every_field() {
    let (output, proof) = prove("pool");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(proof["verdict"], "proved");
    for phase in proof["phases"].as_array().unwrap() {
        for field in [
            "name",
            "engine",
            "connections",
            "runs",
            "operations",
            "panics",
            "locations",
            "rejected",
            "failed",
            "acknowledged",
            "lost",
            "duplicated",
            "integrity",
            "sqlite_integrity",
            "max_open",
            "p50_us",
            "p99_us",
            "ops_per_s",
            "seconds",
            "ok",
        ] {
            assert!(phase.get(field).is_some(), "{field} is missing in {phase}");
        }
    }
    let text = String::from_utf8_lossy(&output.stdout);
    for said in
        ["statements: ", "as the engine alone", "isolation: 1,000 transactions, strict serializable, by two checkers"]
    {
        assert!(text.contains(said), "{said}: {text}");
    }
    let gate = &proof["phases"][0];
    assert_eq!(gate["as_expected"], gate["runs"]);
    assert_eq!(gate["panics"], gate["runs"], "one panic a gated run: {gate}");
}

#[test]
fn a_pool_that_lends_a_connection_to_two_holders_is_not_proved() {
    let (output, proof) = prove("double-holder");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(proof["verdict"], "not proved");
    assert!(failed(&proof).iter().any(|name| name.contains("at once")), "{proof}");
    // Whoever judges them finds out the control of each.
    assert!(["statements", "isolation"].iter().all(|name| failed(&proof).contains(name)), "{proof}");
}

#[test]
fn a_pool_with_the_flaws_of_the_first_fix_is_not_proved() {
    let (output, proof) = prove("number-20");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(proof["verdict"], "not proved");
    assert!(failed(&proof).iter().any(|name| name.contains("cold")), "{proof}");
}
