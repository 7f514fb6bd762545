//! The built-in agent: what it does in a session, all of it decided by a seed, so that a session that was interrupted goes
//! on as it would have.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::runs::{AgentConfig, BenchmarkFile, Ended, StepDone, ToolCall};

/// Something that it is going to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planned {
    /// How long that takes.
    pub(super) takes: Duration,
    /// What it says of it then; the time of the call is noted when it ends.
    pub(super) done: StepDone,
}

/// All that it does in a session of this benchmark.
pub(super) fn plan(file: &BenchmarkFile, config: &AgentConfig, seed: u64) -> Vec<Planned> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let each = file.steps.iter().flat_map(|step| (1..=step.times).map(move |time| (step, time)));
    let planned = each.zip(1..).map(|((step, time), number)| {
        // Drawn for each step, needed or not: what a step does must not depend on the pace, nor on those before it.
        let [jitter, luck, answer] = [rng.next_u64(), rng.next_u64(), rng.next_u64()];
        let takes = Duration::from_millis(step.take_ms).mul_f64((0.5 + part(jitter)) / config.pace);
        let call = step.call.as_ref().map(|name| {
            let succeeded = part(luck) >= config.failure_rate;
            let output = if succeeded { format!("{:06x}", answer >> 40) } else { "no answer".to_owned() };
            let input = step.input.clone().unwrap_or_default();
            let duration_ms = takes.as_millis() as u64;
            ToolCall { number, at_ms: 0, name: name.clone(), input, output, duration_ms, succeeded }
        });
        let said = step.say.as_deref().unwrap_or("Working.");
        let content = if step.times == 1 { said.to_owned() } else { format!("{said} ({time} of {})", step.times) };
        Planned { takes, done: StepDone { number, content, call } }
    });
    planned.collect()
}

/// How a session ends in which all of this was done: well, if at least half of the calls did what they were called for.
pub(super) fn end(plan: &[Planned]) -> Ended {
    let calls: Vec<_> = plan.iter().filter_map(|planned| planned.done.call.as_ref()).collect();
    let succeeded = calls.iter().filter(|call| call.succeeded).count();
    let score = if calls.is_empty() { 1.0 } else { succeeded as f64 / calls.len() as f64 };
    let final_status = format!("{} steps, {succeeded} of {} calls succeeded", plan.len(), calls.len());
    Ended { succeeded: score >= 0.5, score, final_status }
}

/// From 0 to 1, without the 1.
fn part(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> BenchmarkFile {
        let text = "name: n\nprompt: p\nsteps:\n  - say: Look.\n    call: look\n    take_ms: 10\n    times: 40";
        BenchmarkFile::parse(text).unwrap()
    }

    #[test]
    fn a_seed_decides_everything_but_the_pace() {
        let config = AgentConfig::of("a");
        let first = plan(&file(), &config, 7);
        assert_eq!(first, plan(&file(), &config, 7));
        assert_ne!(first, plan(&file(), &config, 8));
        let quick = plan(&file(), &AgentConfig { pace: 10.0, ..config }, 7);
        let answers =
            |plan: &[Planned]| -> Vec<_> { plan.iter().map(|step| step.done.call.clone().unwrap().output).collect() };
        assert_eq!(answers(&first), answers(&quick));
        assert!(quick[0].takes < first[0].takes);
    }

    #[test]
    fn a_session_ends_by_what_its_calls_did() {
        let never = AgentConfig { failure_rate: 0.0, ..AgentConfig::of("a") };
        let always = AgentConfig { failure_rate: 1.0, ..AgentConfig::of("a") };
        assert_eq!((end(&plan(&file(), &never, 1)).score, end(&plan(&file(), &never, 1)).succeeded), (1.0, true));
        assert_eq!((end(&plan(&file(), &always, 1)).score, end(&plan(&file(), &always, 1)).succeeded), (0.0, false));
        assert!(end(&[]).succeeded, "nothing was asked for, and nothing failed");
    }
}
