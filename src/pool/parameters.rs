//! How many parameters a statement has, and how many it was given.
//!
//! The engine takes a parameter that is not given for NULL, without a word, and does not say how many there are. But it
//! refuses to bind one more than that, which is how they are counted: once, when a statement is prepared. To compare is all
//! that a statement costs which is kept.

use turso::params::Params;
use turso::{Statement, Value};

use super::engine::engine;
use crate::error::{Error, Result};
use crate::sql::variables;

/// How many parameters a statement has; those that a `?3` skips count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parameters(usize);

impl Parameters {
    /// Counts those of a statement that was prepared just now, and is probably given as many as it has. What it binds in
    /// doing so the engine forgets when the statement runs.
    pub(super) async fn of(statement: &mut Statement, params: &Params) -> Result<Self> {
        let guess = given(params).unwrap_or(0);
        let (mut least, mut too_many) = match has(statement, guess).await? {
            true => (guess, guess + 1),
            false => (0, guess),
        };
        while has(statement, too_many).await? {
            (least, too_many) = (too_many, 2 * too_many);
        }
        while too_many - least > 1 {
            let middle = usize::midpoint(least, too_many);
            match has(statement, middle).await? {
                true => least = middle,
                false => too_many = middle,
            }
        }
        Ok(Self(least))
    }

    /// Whether `params` are as many.
    ///
    /// # Errors
    /// [`Error::Misuse`] says how many there are, and how many were given.
    pub(super) fn are_given(self, params: &Params) -> Result<()> {
        match given(params) {
            Some(given) if given != self.0 => {
                let s = if self.0 == 1 { "" } else { "s" };
                let were = if given == 1 { "was" } else { "were" };
                let why = format!("the statement has {} parameter{s}, {given} {were} given: it was not run", self.0);
                Err(Error::Misuse(why.into()))
            }
            _ => Ok(()),
        }
    }

    /// Whether those that a text names by their number are given, if any is given so.
    ///
    /// # Errors
    /// [`Error::Misuse`] names the first that is not.
    pub(super) fn are_given_by_number(self, params: &Params, sql: &str) -> Result<()> {
        let Params::Named(values) = params else { return Ok(()) };
        if values.iter().all(|(name, _)| !name.starts_with('?')) {
            return Ok(());
        }
        let is_missing = |name: &String| values.iter().all(|(given, _)| given != name);
        match variables(sql).into_iter().find(is_missing) {
            Some(name) => {
                Err(Error::Misuse(format!("the statement has {name}, which was not given: it was not run").into()))
            }
            None => Ok(()),
        }
    }
}

/// Whether the statement has so many.
async fn has(statement: &mut Statement, count: usize) -> Result<bool> {
    // It does not run before a row is fetched.
    match engine(statement.query(vec![Value::Null; count])).await {
        Ok(_rows) => Ok(true),
        Err(Error::Engine(turso::Error::Misuse(why))) if why.contains("out of bounds") => Ok(false),
        Err(error) => Err(error),
    }
}

/// How many parameters are given. `None` if nobody can tell how many that should be: one that is given by the name `?3` says
/// nothing of the two before it, which may not be there.
fn given(params: &Params) -> Option<usize> {
    match params {
        Params::None => Some(0),
        Params::Positional(values) => Some(values.len()),
        Params::Named(values) if values.iter().any(|(name, _)| name.starts_with('?')) => None,
        Params::Named(values) => {
            let is_new = |place: &usize| values[..*place].iter().all(|(name, _)| *name != values[*place].0);
            Some((0..values.len()).filter(is_new).count())
        }
    }
}
