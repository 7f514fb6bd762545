//! A program that differs made smaller: without groups, without calls, without statements, as long as it differs in the same way.

use super::program::{Environment, Program};

/// Makes it smaller. `what`: how it differs; `differs`: how a smaller one does, if in the same way.
pub(super) fn minimise(
    program: Program,
    what: String,
    differs: impl Fn(&Program) -> Option<String>,
) -> (Program, String) {
    let (mut best, mut what) = (program, what);
    loop {
        let before = best.statements();
        let smaller: [fn(&Program, usize) -> Option<Program>; 5] =
            [plainly, without_group, without_call, without_statement, apart];
        for step in smaller {
            let mut place = 0;
            while let Some(candidate) = step(&best, place) {
                match differs(&candidate) {
                    Some(other) => (best, what) = (candidate, other),
                    None => place += 1,
                }
            }
        }
        if best.statements() >= before {
            return (best, what);
        }
    }
}

/// In an environment of which one thing less is said.
fn plainly(program: &Program, place: usize) -> Option<Program> {
    let mut smaller = program.clone();
    let said = smaller.environment.all().into_iter().filter(|(is, _)| **is);
    *said.map(|(is, _)| is).nth(place)? = false;
    let Environment { file, two_pools, link, relative, odd_name, .. } = &mut smaller.environment;
    // They need a file.
    [two_pools, link, relative, odd_name].into_iter().for_each(|needs| *needs &= *file);
    Some(smaller)
}

fn without_group(program: &Program, place: usize) -> Option<Program> {
    let mut smaller = program.clone();
    (place < smaller.groups.len()).then(|| drop(smaller.groups.remove(place)))?;
    Some(smaller)
}

fn without_call(program: &Program, place: usize) -> Option<Program> {
    let mut smaller = program.clone();
    let mut left = place;
    for group in &mut smaller.groups {
        if left < group.len() {
            group.remove(left);
            smaller.groups.retain(|group| !group.is_empty());
            return Some(smaller);
        }
        left -= group.len();
    }
    None
}

fn without_statement(program: &Program, place: usize) -> Option<Program> {
    let mut smaller = program.clone();
    let mut left = place;
    for call in smaller.groups.iter_mut().flatten().filter(|call| call.statements.len() > 1) {
        if left < call.statements.len() {
            call.statements.remove(left);
            return Some(smaller);
        }
        left -= call.statements.len();
    }
    None
}

/// Two that were at the same time, one after the other.
fn apart(program: &Program, place: usize) -> Option<Program> {
    let mut smaller = program.clone();
    let together = smaller.groups.iter().enumerate().filter(|(_, group)| group.len() > 1).nth(place)?.0;
    let rest = smaller.groups[together].split_off(1);
    smaller.groups.insert(together + 1, rest);
    Some(smaller)
}
