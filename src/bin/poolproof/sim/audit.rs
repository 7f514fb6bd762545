//! `poolproof sim --audit`: each seed in two processes. And those.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use poolproof::harness::drive::Control;
use poolproof::harness::sim::audit::{Audit, answer, compare};
use poolproof::harness::sim::{Faults, Sim, Strategy, Workload};

use super::Args;
use super::watcher::Meter;
use crate::output::{counted, say, tell};
use crate::signals::stop_on_signal;
use crate::{Outcome, Trouble};

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
        // Whoever asked was stopped.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("cannot answer an audit: {error}")),
    }
}

/// Compares; whether they agree.
pub fn audit(args: &Args, seeds: &Range<u64>) -> Result<Outcome, Trouble> {
    let own = || std::env::current_exe().map_err(|error| format!("cannot find this program's own file: {error}"));
    let program = args.audited.clone().map_or_else(own, Ok::<PathBuf, Trouble>)?;
    let control = Arc::new(Control::default());
    stop_on_signal(&control)?;
    let mut ok = true;
    for &workload in &args.workload {
        let arguments = [
            "sim-child".to_owned(),
            format!("--workload={workload}"),
            format!("--faults={}", args.faults),
            format!("--strategy={}", args.strategy),
        ];
        let program = program.clone();
        let child = move || {
            let mut command = Command::new(&program);
            command.args(&arguments);
            // Ctrl-C is for whoever asks: a child that it ends would be one that failed.
            #[cfg(unix)]
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            command
        };
        let meter = Meter::new(seeds.end - seeds.start, &workload.to_string(), args.quiet);
        let Some(audit) = unless_stopped(&control, seeds, child, meter)? else { return Ok(Outcome::Stopped) };
        ok &= audit.holds();
        if !args.quiet {
            say(&format!("{workload}: {audit}"))?;
        } else if !audit.holds() {
            tell(format!("{workload}: {audit}").trim_end());
        }
    }
    if !args.quiet {
        say(if ok { "holds\n" } else { "DOES NOT HOLD: something beside the seed decides\n" })?;
    }
    Ok(ok.into())
}

/// How soon a signal is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Compares in a thread of its own, which is left as it is if a signal comes: this process ends then, and with it the pipes to which
/// the children write.
fn unless_stopped(
    control: &Control,
    seeds: &Range<u64>,
    child: impl Fn() -> Command + Send + Sync + 'static,
    meter: Meter,
) -> Result<Option<Audit>, Trouble> {
    let (ends, ended) = mpsc::channel();
    let (seeds, meter) = (seeds.clone(), Arc::new(meter));
    let shown = Arc::clone(&meter);
    thread::spawn(move || {
        let audit = compare(seeds, child, |audit| {
            shown.shows(audit.seeds, || counted(audit.distinct as u64, "distinct trace"));
        });
        // Nobody listens any more to one that was stopped.
        let _ = ends.send(audit);
    });
    let outcome = loop {
        match ended.recv_timeout(LOOK) {
            Ok(audit) => break audit.map(Some).map_err(|error| format!("a child: {error}; run it again")),
            Err(RecvTimeoutError::Timeout) if control.is_stopped() => break Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                break Err("the audit itself panicked; this is a defect of poolproof".to_owned());
            }
        }
    };
    meter.clear();
    outcome
}
