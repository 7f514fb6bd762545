//! What a person reads of `poolproof stress --http`.

use poolproof::harness::http::HttpReport;

use crate::output::{counted, micros, number, verdict};

/// The whole of it.
pub fn text(report: &HttpReport) -> String {
    let run = &report.run;
    let mut lines = vec![format!(
        "{}, service, {}: {} and {} for {:.1} s on {}",
        run.engine,
        run.connections,
        counted(report.runs, "run"),
        counted(report.browsers, "browser"),
        run.seconds,
        counted(run.workers, "thread")
    )];
    lines.push(format!("{}, {:.0}/s", counted(run.operations, "request"), run.ops_per_s));
    let statuses = report.statuses.iter().map(|(status, count)| format!("{} x {status}", number(*count)));
    lines.push(format!("    {}", statuses.collect::<Vec<_>>().join(", ")));
    for (route, latency) in &report.latencies {
        lines.push(format!(
            "    {route:18} p50 {:>8}, p99 {:>8}, p999 {:>8}",
            micros(latency.p50_us),
            micros(latency.p99_us),
            micros(latency.p999_us)
        ));
    }
    lines.push(format!(
        "{} completed, {} in their logs, {} lost",
        counted(report.completed, "run"),
        counted(run.acknowledged, "part"),
        number(run.lost)
    ));
    lines.push(format!("runtime late by p99 {}, at most {}", micros(report.delay_p99_us), micros(report.delay_max_us)));
    if let Some(most) = run.max_open {
        lines.push(format!("at most {} open", counted(most, "connection")));
    }
    for (by, verdict) in [("the engine", &run.integrity), ("SQLite", &run.sqlite_integrity)] {
        lines.push(format!("integrity_check by {by}: {verdict}"));
    }
    lines.extend(run.locations.iter().map(|(location, count)| format!("panic x {count} at {location}")));
    lines.extend(run.findings.iter().map(|finding| format!("finding: {finding}")));
    lines.extend(ends(report));
    lines.push(String::new());
    lines.join("\n")
}

/// The last of it.
pub fn ends(report: &HttpReport) -> Vec<String> {
    verdict(report.run.ok, report.run.stopped, &report.run.faults(), &report.run.repeat)
}
