//! `poolproof sim --audit`: each seed in two processes. And those.

use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;

use poolproof::harness::sim::audit::{answer, compare};
use poolproof::harness::sim::{Faults, Sim, Strategy, Workload};

use super::Args;
use super::watcher::Meter;
use crate::Trouble;
use crate::output::say;

/// Runs the seeds that an audit asks for
#[derive(clap::Args)]
pub struct ChildArgs {
    #[arg(long, value_parser = str::parse::<Workload>)]
    workload: Workload,
    #[arg(long, value_parser = str::parse::<Faults>)]
    faults: Faults,
    #[arg(long, value_parser = str::parse::<Strategy>)]
    strategy: Strategy,
}

/// One of the two processes.
pub fn child(args: &ChildArgs) -> Result<bool, Trouble> {
    let sim = Sim::new().faults(args.faults).strategy(args.strategy);
    let workload = args.workload;
    match answer(&sim, async |world| workload.run(world).await) {
        Ok(true) => Ok(true),
        Ok(false) => Err("sim-child is started by an audit; run poolproof sim --audit".to_owned()),
        Err(error) => Err(format!("cannot answer an audit: {error}")),
    }
}

/// Compares; whether they agree.
pub fn audit(args: &Args, seeds: &Range<u64>) -> Result<bool, Trouble> {
    let own = || std::env::current_exe().map_err(|error| format!("cannot find this program's own file: {error}"));
    let program = args.audited.clone().map_or_else(own, Ok::<PathBuf, Trouble>)?;
    let mut ok = true;
    for &workload in &args.workload {
        let child = || {
            let mut command = Command::new(&program);
            command.args(["sim-child".to_owned(), format!("--workload={workload}")]);
            command.args([format!("--faults={}", args.faults), format!("--strategy={}", args.strategy)]);
            command
        };
        let meter = Meter::new(seeds.end - seeds.start, &workload.to_string(), args.quiet);
        let audit = compare(seeds.clone(), child, |audit| {
            meter.shows(audit.seeds, || format!("{} distinct traces", audit.distinct));
        });
        meter.clear();
        let audit = audit.map_err(|error| format!("a child: {error}; run it again"))?;
        ok &= audit.holds();
        if !args.quiet {
            say(&format!("{workload}: {audit}"))?;
        } else if !audit.holds() {
            eprint!("{workload}: {audit}");
        }
    }
    if !args.quiet {
        say(if ok { "holds\n" } else { "DOES NOT HOLD: something beside the seed decides\n" })?;
    }
    Ok(ok)
}
