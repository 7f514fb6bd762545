//! What a cached answer is found by: a query's text and its parameters, as bytes; or a closure and what it was given.
//!
//! Equal bytes, equal query: a float counts by its bits (so that NaN is itself, and 0.0 is not -0.0), 1 is not 1.0 nor '1',
//! and a blob is not the text of the same bytes. A closure is told from others by its type, which it shares with none, and
//! holds nothing of its own.

use std::any::{Any, TypeId};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use turso::Value;
use turso::params::Params;

use super::Weigh;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::writer) enum Key {
    Query(Arc<[u8]>),
    Work(Work),
}

impl Key {
    pub(super) fn query(sql: &str, params: &Params) -> Self {
        let mut bytes = Vec::with_capacity(sql.len() + 64);
        push(&mut bytes, b'q', sql.as_bytes());
        match params {
            Params::None => {}
            Params::Positional(values) => values.iter().for_each(|value| push_value(&mut bytes, value)),
            Params::Named(values) => {
                for (name, value) in values {
                    push(&mut bytes, b':', name.as_bytes());
                    push_value(&mut bytes, value);
                }
            }
        }
        Self::Query(bytes.into())
    }

    /// About as many bytes it takes beside its own size.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Query(bytes) => bytes.len(),
            Self::Work(work) => work.0.bytes(),
        }
    }
}

/// A closure of the type `F`, and what it is given.
#[derive(Clone)]
pub(in crate::writer) struct Work(Arc<dyn Given>);

impl Work {
    pub(super) fn of<F: 'static, K: Hash + Eq + Weigh + Send + Sync + 'static>(given: &Arc<GivenTo<F, K>>) -> Self {
        Self(Arc::clone(given) as Arc<dyn Given>)
    }
}

/// What a closure of the type `F` is given.
pub(super) struct GivenTo<F, K> {
    pub(super) given: K,
    to: PhantomData<fn() -> F>,
}

impl<F, K> GivenTo<F, K> {
    pub(super) fn new(given: K) -> Arc<Self> {
        Arc::new(Self { given, to: PhantomData })
    }
}

trait Given: Any + Send + Sync {
    fn is(&self, other: &dyn Given) -> bool;
    fn feed(&self, state: &mut dyn Hasher);
    fn bytes(&self) -> usize;
}

impl<F: 'static, K: Hash + Eq + Weigh + Send + Sync + 'static> Given for GivenTo<F, K> {
    fn is(&self, other: &dyn Given) -> bool {
        let other: &dyn Any = other;
        other.downcast_ref::<Self>().is_some_and(|other| self.given == other.given)
    }

    fn feed(&self, mut state: &mut dyn Hasher) {
        TypeId::of::<F>().hash(&mut state);
        self.given.hash(&mut state);
    }

    fn bytes(&self) -> usize {
        size_of::<K>() + self.given.heap_bytes()
    }
}

impl PartialEq for Work {
    fn eq(&self, other: &Self) -> bool {
        self.0.is(&*other.0)
    }
}

impl Eq for Work {}

impl Hash for Work {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.feed(state);
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Work")
    }
}

fn push_value(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => push(bytes, b'n', &[]),
        Value::Integer(integer) => push(bytes, b'i', &integer.to_le_bytes()),
        Value::Real(real) => push(bytes, b'r', &real.to_bits().to_le_bytes()),
        Value::Text(text) => push(bytes, b't', text.as_bytes()),
        Value::Blob(blob) => push(bytes, b'b', blob),
    }
}

/// With its length, so that no two lists of parts are the same bytes.
fn push(bytes: &mut Vec<u8>, kind: u8, part: &[u8]) {
    bytes.push(kind);
    bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
    bytes.extend_from_slice(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_text_with_the_same_parameters_is_the_same_query() {
        let positional = |values: Vec<Value>| Params::Positional(values);
        let params = [
            Params::None,
            positional(vec![Value::Null]),
            positional(vec![Value::Integer(1)]),
            positional(vec![Value::Real(1.0)]),
            positional(vec![Value::Real(0.0)]),
            positional(vec![Value::Real(-0.0)]),
            positional(vec![Value::Real(f64::NAN)]),
            positional(vec![Value::Text("1".into())]),
            positional(vec![Value::Blob(b"1".to_vec())]),
            positional(vec![Value::Text("1".into()), Value::Text("23".into())]),
            positional(vec![Value::Text("12".into()), Value::Text("3".into())]),
            positional(vec![Value::Text("123".into())]),
            Params::Named(vec![(":a".into(), Value::Integer(1))]),
            Params::Named(vec![(":b".into(), Value::Integer(1))]),
        ];
        let queries = ["SELECT 1", "SELECT 1 "];
        let keys: Vec<Key> =
            queries.iter().flat_map(|sql| params.iter().map(move |params| Key::query(sql, params))).collect();
        for (one, key) in keys.iter().enumerate() {
            for (other, found) in keys.iter().enumerate() {
                assert_eq!(one == other, key == found, "{one}, {other}");
            }
        }
        assert_eq!(Key::query("SELECT 1", &params[6]), keys[6], "a NaN is found again");
    }

    #[test]
    fn a_closure_is_found_by_its_type_and_what_it_is_given() {
        fn key<F: 'static>(_: F, given: impl Hash + Eq + Weigh + Send + Sync + 'static) -> Key {
            Key::Work(Work::of(&GivenTo::<F, _>::new(given)))
        }
        let (one, other) = (|| 1, || 2);
        assert_eq!(key(one, 7), key(one, 7));
        let keys = [key(one, 7), key(one, 8), key(other, 7), key(one, "7"), key(one, (7, 7))];
        for (place, key) in keys.iter().enumerate() {
            assert_eq!(keys.iter().position(|other| other == key), Some(place));
        }
        assert!(key(one, "a".repeat(1000)).len() >= 1000);
    }
}
