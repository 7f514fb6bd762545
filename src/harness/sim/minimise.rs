//! A failing run made smaller: delta debugging over its decisions.
//!
//! Zeller and Hildebrandt's ddmin ("Simplifying and Isolating Failure-Inducing Input", 2002) on the answers that were not the
//! default: parts of the plan are taken out, first large ones and then small, as long as the run still fails in the same
//! way. Numbers that stay become 1, or are made smaller by halves. Since a question is named by whose it is and which of
//! theirs, the rest of a plan still means what it meant.

use std::time::{Duration, Instant};

use super::decisions::{About, Answer, Decision, Plan};
use super::failure::Failure;
use super::run::Ran;

/// What became of it.
pub(super) struct Minimised {
    pub(super) plan: Plan,
    /// How many runs it took.
    pub(super) runs: u64,
}

struct Search<'a> {
    failure: &'a Failure,
    run: &'a dyn Fn(&Plan) -> Ran,
    best: Plan,
    runs: u64,
    until: Instant,
}

/// Makes `plan` smaller as long as `run` fails like `failure`, for `limit` at most.
pub(super) fn minimise(plan: Plan, failure: &Failure, limit: Duration, run: &dyn Fn(&Plan) -> Ran) -> Minimised {
    let mut search = Search { failure, run, best: plan, runs: 0, until: Instant::now() + limit };
    loop {
        let before = search.best.decisions.len();
        search.without_kinds();
        search.with_fewer_lives();
        search.without_parts();
        search.with_smaller_numbers();
        if search.best.decisions.len() >= before || search.is_late() {
            break;
        }
    }
    Minimised { plan: search.best, runs: search.runs }
}

impl Search<'_> {
    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Takes the plan if it fails still, and with no more decisions. Whether it was taken.
    fn tries(&mut self, decisions: Vec<Decision>) -> bool {
        if self.is_late() {
            return false;
        }
        self.runs += 1;
        let ran = (self.run)(&Plan { seed: self.best.seed, decisions });
        let is_like = ran.failure.is_some_and(|failure| failure.is_like(self.failure));
        let is_taken = is_like && ran.plan.decisions.len() <= self.best.decisions.len();
        if is_taken {
            // What it did not come to is no part of it any more.
            self.best = ran.plan;
        }
        is_taken
    }

    /// All faults but those that it takes, and all that is not about order.
    fn without_kinds(&mut self) {
        for kind in [About::Pass, About::Fault, About::Cancel, About::Panic, About::Crash, About::Order, About::Number]
        {
            if self.best.decisions.iter().any(|decision| decision.about == kind) {
                let rest = self.best.decisions.iter().filter(|decision| decision.about != kind);
                let rest = rest.cloned().collect();
                self.tries(rest);
            }
        }
    }

    /// As if what was done by the second of a name had been done by the first: one power failure less.
    fn with_fewer_lives(&mut self) {
        while self.best.decisions.iter().any(|decision| decision.whose.contains('#')) {
            let before = self.best.clone();
            let earlier = before.decisions.iter().cloned().map(|decision| Decision {
                answer: match decision.answer {
                    Answer::Actor(name) => Answer::Actor(one_life_less(&name)),
                    number => number,
                },
                whose: one_life_less(&decision.whose),
                ..decision
            });
            if !self.tries(earlier.collect()) || self.best == before {
                break;
            }
        }
    }

    fn without_parts(&mut self) {
        let mut size = self.best.decisions.len().div_ceil(2);
        while size > 0 && !self.is_late() {
            let (mut from, mut is_smaller) = (0, false);
            while from < self.best.decisions.len() && !self.is_late() {
                let upto = (from + size).min(self.best.decisions.len());
                let mut rest = self.best.decisions.clone();
                rest.drain(from..upto);
                let before = self.best.decisions.len();
                if self.tries(rest) && self.best.decisions.len() < before {
                    is_smaller = true;
                } else {
                    from = upto;
                }
            }
            if size > 1 || !is_smaller {
                size /= 2;
            }
        }
    }

    /// 1 if that does, and otherwise as many halves as it bears.
    fn with_smaller_numbers(&mut self) {
        for place in 0..self.best.decisions.len() {
            if !self.tries_number(place, |_| 1) {
                while self.tries_number(place, |number| number / 2) {}
            }
        }
    }

    /// Takes another number for an answer that is more than 1. Whether that went.
    fn tries_number(&mut self, place: usize, other: impl Fn(u64) -> u64) -> bool {
        match self.best.decisions.get(place) {
            Some(&Decision {
                about: About::Number | About::Pass | About::Crash,
                answer: Answer::Number(number),
                ..
            }) if number > 1 => {
                let mut decisions = self.best.decisions.clone();
                decisions[place].answer = Answer::Number(other(number));
                self.tries(decisions)
            }
            _ => false,
        }
    }
}

/// `lane#3` was `lane#2`, and that was `lane`.
fn one_life_less(name: &str) -> String {
    let (task, work) = name.split_at(name.rfind('/').filter(|_| !name.starts_with("disk/")).unwrap_or(name.len()));
    let earlier = match task.rsplit_once('#') {
        Some((base, number)) => match number.parse::<u32>() {
            Ok(2) => base.to_owned(),
            Ok(number) => format!("{base}#{}", number - 1),
            Err(_) => task.to_owned(),
        },
        None => task.to_owned(),
    };
    format!("{earlier}{work}")
}
