//! Texts that were read, for whoever is given the same ones again and again without a place of its own to keep them.

use std::collections::HashMap;
use std::sync::Arc;

use super::Text;
use crate::sync::Mutex;

/// As many are kept. A text that has its values in it will not come again.
const MOST: usize = 256;

/// A longer one is not kept.
const LONGEST: usize = 4 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Texts(Mutex<HashMap<Arc<str>, Arc<Text>>>);

impl Texts {
    /// What `sql` says of itself. To look it up takes a tenth of the time that it takes to read it.
    pub(crate) fn of(&self, sql: &Arc<str>) -> Arc<Text> {
        if let Some(known) = self.0.with(|all| all.get(sql).cloned()) {
            return known;
        }
        let text = Text::of(sql);
        if sql.len() <= LONGEST {
            self.0.with(|all| {
                if all.len() >= MOST {
                    // Those that come again are read again.
                    all.clear();
                }
                all.insert(Arc::clone(sql), Arc::clone(&text));
            });
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_once_and_no_more_are_kept_than_there_is_room_for() {
        let texts = Texts::default();
        let sql: Arc<str> = "DELETE FROM t".into();
        let text = texts.of(&sql);
        assert!(Arc::ptr_eq(&text, &texts.of(&"DELETE FROM t".into())));
        for number in 0..10 * MOST {
            texts.of(&format!("DELETE FROM t{number}").into());
            assert!(texts.0.with(|all| all.len()) <= MOST);
        }
        let long: Arc<str> = format!("DELETE FROM t{}", " ".repeat(LONGEST)).into();
        assert!(!Arc::ptr_eq(&texts.of(&long), &texts.of(&long)));
    }
}
