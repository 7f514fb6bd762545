//! What a cached answer is found by: the query's text and its parameters, as bytes.
//!
//! Equal bytes, equal query: a float counts by its bits (so that NaN is itself, and 0.0 is not -0.0), 1 is not 1.0 nor '1',
//! and a blob is not the text of the same bytes.

use std::sync::Arc;

use turso::Value;
use turso::params::Params;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(Arc<[u8]>);

impl Key {
    pub(super) fn new(sql: &str, params: &Params) -> Self {
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
        Self(bytes.into())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
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
            queries.iter().flat_map(|sql| params.iter().map(move |params| Key::new(sql, params))).collect();
        for (one, key) in keys.iter().enumerate() {
            for (other, found) in keys.iter().enumerate() {
                assert_eq!(one == other, key == found, "{one}, {other}");
            }
        }
        assert_eq!(Key::new("SELECT 1", &params[6]), keys[6], "a NaN is found again");
    }
}
