//! A row whose values fail with this crate's own error.

use turso::Value;

use crate::error::{Error, Result};

/// One row of a query.
#[derive(Debug, PartialEq)]
pub struct Row(turso::Row);

impl Row {
    pub(super) fn new(row: turso::Row) -> Self {
        Self(row)
    }

    pub(super) fn into_engines(self) -> turso::Row {
        self.0
    }

    /// The value of a column, counted from 0, as `T`: an integer, a float, text, a blob, or an `Option` of those where it may
    /// be NULL.
    ///
    /// # Errors
    /// If there is no such column, or its value is no `T`; NULL is only an `Option`.
    pub fn get<T: FromValue>(&self, column: usize) -> Result<T> {
        let value = self.value(column)?;
        let (found, number) = match &value {
            Value::Null => (None, None),
            // Or it does not fit.
            Value::Integer(number) => (Some("the integer "), Some(*number)),
            Value::Real(_) => (Some("a float"), None),
            Value::Text(_) => (Some("text"), None),
            Value::Blob(_) => (Some("a blob"), None),
        };
        let number = || number.map(|number| number.to_string()).unwrap_or_default();
        T::from_value(value).ok_or_else(|| {
            let wanted = without_modules(std::any::type_name::<T>());
            Error::Engine(turso::Error::ConversionFailure(match found {
                Some(found) => format!("column {column} is {found}{}, not {wanted}", number()),
                None => format!("column {column} is NULL: use Option<{wanted}>"),
            }))
        })
    }

    /// The value of a column, counted from 0, as the engine has it.
    ///
    /// # Errors
    /// If there is no such column.
    pub fn value(&self, column: usize) -> Result<Value> {
        Ok(self.0.get_value(column)?)
    }

    /// The bytes of a text or a blob; of other values none.
    #[cfg(feature = "cache")]
    pub(crate) fn size(&self, column: usize) -> u64 {
        match self.value(column) {
            Ok(Value::Text(text)) => text.len() as u64,
            Ok(Value::Blob(blob)) => blob.len() as u64,
            _ => 0,
        }
    }

    /// How many columns it has.
    #[must_use]
    pub fn column_count(&self) -> usize {
        self.0.column_count()
    }
}

/// A type's name as it is written where it is in scope: `Vec<u8>`, not `alloc::vec::Vec<u8>`.
fn without_modules(name: &str) -> String {
    let is_of_a_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let paths = name.split_inclusive(|letter| !is_of_a_path(letter));
    paths.map(|path| path.rsplit("::").next().unwrap_or(path)).collect()
}

/// What a column's value can be read as.
pub trait FromValue: Sized {
    /// The value as `Self`, if it is one.
    fn from_value(value: Value) -> Option<Self>;
}

impl FromValue for Value {
    fn from_value(value: Value) -> Option<Self> {
        Some(value)
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

impl FromValue for i64 {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Integer(value) => Some(value),
            _ => None,
        }
    }
}

macro_rules! from_integer {
    ($($integer:ty),*) => {$(
        impl FromValue for $integer {
            fn from_value(value: Value) -> Option<Self> {
                i64::from_value(value)?.try_into().ok()
            }
        }
    )*};
}
from_integer!(i8, i16, i32, u8, u16, u32, u64, usize);

impl FromValue for bool {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Integer(value) => Some(value != 0),
            _ => None,
        }
    }
}

impl FromValue for f64 {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Real(value) => Some(value),
            Value::Integer(value) => Some(value as f64),
            _ => None,
        }
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Text(value) => Some(value),
            _ => None,
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Blob(value) => Some(value),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_what_it_is_and_as_nothing_else() {
        assert_eq!(i64::from_value(Value::Integer(7)), Some(7));
        assert_eq!(u8::from_value(Value::Integer(256)), None);
        assert_eq!(f64::from_value(Value::Integer(2)), Some(2.0));
        assert_eq!(String::from_value(Value::Integer(2)), None);
        assert_eq!(Option::<i64>::from_value(Value::Null), Some(None));
        assert_eq!(Option::<i64>::from_value(Value::Text("x".into())), None);
        assert_eq!(bool::from_value(Value::Integer(0)), Some(false));
    }

    #[test]
    fn a_type_is_named_without_its_modules() {
        let name = |name| without_modules(name);
        assert_eq!(name(std::any::type_name::<Option<Vec<String>>>()), "Option<Vec<String>>");
        assert_eq!(name(std::any::type_name::<(i64, &str)>()), "(i64, &str)");
        assert_eq!(name("a::b_1::C<d::E, f::G<'_>>"), "C<E, G<'_>>");
    }
}
