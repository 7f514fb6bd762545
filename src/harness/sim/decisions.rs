//! Everything that a run leaves open, and who settles it: a seed, or a plan.
//!
//! A run asks questions: who goes next after the n-th step of a task, does this write fail, where does time pass. Each has
//! a default, the one that makes the plainest run: who was going goes on, nothing fails. A seed settles a question by a
//! random number; whatever was not settled by default is recorded, and that record is a [`Plan`]. A plan settles the same
//! questions in the same way, so it repeats the run.
//!
//! A question is named by who it is about and which of theirs it is (`client-2`'s 14th step), not by its place in the whole
//! run. So an answer can be taken out of a plan, and the others still mean what they meant: that is what makes a failure
//! smaller.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::script::Script;
use super::strategy::{Pick, Strategy};
use super::trace::What;

/// Who can be next: a task, or the disk on behalf of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Actor(u32);

impl Actor {
    /// Nobody: the run begins.
    pub(super) const NOBODY: Actor = Actor(u32::MAX);
    /// The clock: time passes though somebody could go on.
    pub(super) const CLOCK: Actor = Actor(u32::MAX - 1);

    pub(super) const fn task(task: usize) -> Self {
        Self(task as u32 * 2)
    }

    /// The disk, which works for a task.
    pub(super) fn disk(task: usize) -> Self {
        Self(task as u32 * 2 + 1)
    }

    /// Which task it is, or works for.
    pub(super) fn of(self) -> Option<usize> {
        (self < Self::CLOCK).then_some(self.0 as usize / 2)
    }

    pub(super) fn is_disk(self) -> bool {
        self < Self::CLOCK && self.0 % 2 == 1
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum About {
    /// Who goes next after a step.
    Next,
    /// Which of several calls of one task the disk completes first.
    Order,
    /// How a call of the disk fails.
    Fault,
    /// How much of what is not synced survives a crash.
    Crash,
    /// How long time passes.
    Pass,
    /// Whether a future is dropped at a poll.
    Cancel,
    /// Whether a task panics at a poll.
    Panic,
    /// A number that the workload asked for.
    Number,
}

/// An answer that is not the default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Answer {
    Number(u64),
    Actor(String),
}

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Decision {
    pub(super) about: About,
    /// Whose question it is.
    pub(super) whose: String,
    /// Which of theirs, from 0 on.
    pub(super) nth: u32,
    pub(super) answer: Answer,
}

/// Every answer of a run that is not the default. The engine's random numbers come from the seed as before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub(super) seed: u64,
    pub(super) decisions: Vec<Decision>,
}

/// The streams of random numbers of one seed; taking from one does not move another.
#[derive(Clone, Copy)]
enum Stream {
    Decisions = 0,
    Engine = 1,
}

fn stream(seed: u64, stream: Stream) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream as u64);
    rng
}

enum Source {
    Seed { rng: Box<ChaCha8Rng>, strategy: Box<dyn Pick> },
    Plan(Planned),
    Script(Script),
}

/// A plan, with the names replaced by who has them in this run.
struct Planned {
    named: HashMap<String, Vec<(About, u32, Answer)>>,
    known: HashMap<(About, Actor, u32), Answer>,
}

#[derive(Clone, Copy)]
enum Taken {
    Actor(Actor),
    Number(u64),
}

/// Settles the questions of one run.
pub(super) struct Decider {
    seed: u64,
    source: Source,
    engine: Box<ChaCha8Rng>,
    names: Vec<(Actor, Arc<str>)>,
    asked: HashMap<(About, Actor), u32>,
    taken: Vec<(About, Actor, u32, Taken)>,
    /// What has to happen, in its order, though it decides nothing.
    expected: Option<Script>,
}

impl Decider {
    pub(super) fn of_seed(seed: u64, strategy: Strategy) -> Self {
        let mut rng = Box::new(stream(seed, Stream::Decisions));
        let strategy = strategy.begin(&mut rng);
        Self::new(seed, Source::Seed { rng, strategy })
    }

    pub(super) fn of_plan(plan: &Plan) -> Self {
        let mut named: HashMap<String, Vec<_>> = HashMap::new();
        for decision in &plan.decisions {
            let answer = (decision.about, decision.nth, decision.answer.clone());
            named.entry(decision.whose.clone()).or_default().push(answer);
        }
        let mut decider = Self::new(plan.seed, Source::Plan(Planned { named, known: HashMap::new() }));
        decider.is_called(Actor::NOBODY, "start".into());
        decider.is_called(Actor::CLOCK, "clock".into());
        decider
    }

    /// The plan, in whose run all of that has to happen.
    pub(super) fn of_plan_and_table(plan: &Plan, table: Script) -> Self {
        Self { expected: Some(table), ..Self::of_plan(plan) }
    }

    pub(super) fn of_script(seed: u64, script: Script) -> Self {
        Self::new(seed, Source::Script(script))
    }

    fn new(seed: u64, source: Source) -> Self {
        let names = vec![(Actor::NOBODY, "start".into()), (Actor::CLOCK, "clock".into())];
        Self {
            seed,
            source,
            engine: Box::new(stream(seed, Stream::Engine)),
            names,
            asked: HashMap::new(),
            taken: Vec::new(),
            expected: None,
        }
    }

    /// Somebody new is there.
    pub(super) fn is_called(&mut self, actor: Actor, name: Arc<str>) {
        if let Source::Plan(planned) = &mut self.source {
            for (about, nth, answer) in planned.named.remove(&*name).unwrap_or_default() {
                planned.known.insert((about, actor, nth), answer);
            }
        }
        self.names.push((actor, name));
    }

    /// Everybody's name.
    pub(super) fn names(&self) -> BTreeMap<Actor, Arc<str>> {
        self.names.iter().cloned().collect()
    }

    /// Who of `options`, of which the first is the default, goes after the step `nth` of `last`.
    ///
    /// # Errors
    /// Why a script no longer applies.
    pub(super) fn next(&mut self, last: Actor, nth: u32, options: &[Actor]) -> Result<Actor, String> {
        let chosen = match &mut self.source {
            Source::Script(script) => options[script.next(options, &self.names)?],
            _ if options.len() == 1 => options[0],
            Source::Seed { rng, strategy } => options[strategy.pick(rng, options)],
            Source::Plan(planned) => match planned.known.get(&(About::Next, last, nth)) {
                Some(Answer::Actor(name)) => {
                    let names = &self.names;
                    let is_named =
                        |option: &Actor| names.iter().any(|(actor, known)| actor == option && **known == **name);
                    options.iter().copied().find(is_named).unwrap_or(options[0])
                }
                _ => options[0],
            },
        };
        if chosen != options[0] {
            self.taken.push((About::Next, last, nth, Taken::Actor(chosen)));
        }
        Ok(chosen)
    }

    /// A number; 0 unless the seed says otherwise by `draw`.
    pub(super) fn number(&mut self, about: About, whose: Actor, draw: impl FnOnce(&mut ChaCha8Rng) -> u64) -> u64 {
        let asked = self.asked.entry((about, whose)).or_default();
        let nth = *asked;
        *asked += 1;
        let number = match &mut self.source {
            Source::Seed { rng, .. } => draw(rng),
            Source::Plan(planned) => match planned.known.get(&(about, whose, nth)) {
                Some(Answer::Number(number)) => *number,
                _ => 0,
            },
            Source::Script(script) => script.number(about, name_of(&self.names, whose), nth),
        };
        if number != 0 {
            self.taken.push((about, whose, nth, Taken::Number(number)));
        }
        number
    }

    /// Whether something happens that happens `per_million` times in a million.
    pub(super) fn happens(&mut self, about: About, whose: Actor, per_million: u32) -> bool {
        per_million > 0 && self.number(about, whose, |rng| u64::from(is_lucky(rng, per_million))) != 0
    }

    /// Something happened: a script follows it.
    pub(super) fn saw(&mut self, actor: Actor, what: &What) {
        let name = name_of(&self.names, actor);
        if let Source::Script(script) = &mut self.source {
            script.saw(name, what);
        }
        if let Some(table) = &mut self.expected {
            table.saw(name, what);
        }
    }

    /// Why the call that `disk` is about to do fails, if a script says so.
    pub(super) fn scripted_fault(&self, disk: Actor, call: &str) -> Option<String> {
        match &self.source {
            Source::Script(script) => script.fault(name_of(&self.names, disk), call),
            _ => None,
        }
    }

    /// Whether a script says that the power fails now.
    pub(super) fn scripted_crash(&self, disk: Actor) -> bool {
        matches!(&self.source, Source::Script(script) if script.crashes(name_of(&self.names, disk)))
    }

    /// What is left of a script that was not reached.
    pub(super) fn left_over(&self) -> Option<String> {
        match &self.source {
            Source::Script(script) => script.left_over(),
            _ => self.expected.as_ref()?.left_over(),
        }
    }

    /// Random numbers for the engine.
    pub(super) fn engine(&mut self) -> &mut ChaCha8Rng {
        &mut self.engine
    }

    /// What was settled otherwise than by default so far.
    pub(super) fn plan(&self) -> Plan {
        let names: BTreeMap<Actor, &Arc<str>> = self.names.iter().map(|(actor, name)| (*actor, name)).collect();
        let decision = |&(about, whose, nth, taken): &(About, Actor, u32, Taken)| Decision {
            about,
            whose: names[&whose].to_string(),
            nth,
            answer: match taken {
                Taken::Actor(actor) => Answer::Actor(names[&actor].to_string()),
                Taken::Number(number) => Answer::Number(number),
            },
        };
        Plan { seed: self.seed, decisions: self.taken.iter().map(decision).collect() }
    }
}

fn name_of(names: &[(Actor, Arc<str>)], actor: Actor) -> &str {
    names.iter().find(|(known, _)| *known == actor).map_or("", |(_, name)| name)
}

/// True `per_million` times in a million.
pub(super) fn is_lucky(rng: &mut ChaCha8Rng, per_million: u32) -> bool {
    below(rng, 1_000_000) < u64::from(per_million)
}

/// A number below `bound`, which is small beside 2^64: the bias is less than one in 2^32.
pub(super) fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    debug_assert!(bound > 0 && bound < 1 << 32, "{bound}");
    rng.next_u64() % bound
}
