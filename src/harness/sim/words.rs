//! What stands in a cell of a table: whatever somebody notes, in one line, without what has a meaning there.
//!
//! Almost every note stands as it is. A backslash is before `|` (the next cell), `;` (the next step), itself, a `#` that would
//! begin a comment, and a dot that is alone; `\n` is the end of a line, `\u{20}` a space at either end or what cannot be seen, and
//! `\e` a note without a letter.

use std::fmt::Write as _;

/// What is before a letter that means itself.
const BEFORE: char = '\\';

/// A text as it stands in a cell.
pub(super) fn written(text: &str) -> String {
    escaped(text, |_| false)
}

/// A task's name, as it stands in an answer: one word, and the answer is behind a `=`.
pub(super) fn written_name(name: &str) -> String {
    escaped(name, |letter| letter.is_whitespace() || letter == '=')
}

fn escaped(text: &str, has_meaning: impl Fn(char) -> bool) -> String {
    let mut cell = String::with_capacity(text.len());
    if text.is_empty() {
        cell.push_str("\\e");
    }
    let end = text.trim_end().len();
    for (place, letter) in text.char_indices() {
        let is_at_an_end = place == 0 || place >= end;
        match letter {
            BEFORE | '|' | ';' => cell.extend([BEFORE, letter]),
            '#' if place == 0 => cell.extend([BEFORE, letter]),
            '.' if text.len() == 1 => cell.extend([BEFORE, letter]),
            '\n' => cell.push_str("\\n"),
            _ if letter.is_control() || has_meaning(letter) || (is_at_an_end && letter.is_whitespace()) => {
                // A String takes whatever is written to it.
                let _ = write!(cell, "\\u{{{:x}}}", u32::from(letter));
            }
            _ => cell.push(letter),
        }
    }
    cell
}

/// The text that stands in a cell.
///
/// # Errors
/// Which backslash means nothing.
pub(super) fn read(cell: &str) -> Result<String, String> {
    let mut text = String::with_capacity(cell.len());
    let mut letters = cell.chars();
    while let Some(letter) = letters.next() {
        if letter != BEFORE {
            text.push(letter);
            continue;
        }
        let meant = match letters.next() {
            Some('n') => Some('\n'),
            Some('e') => continue,
            Some('u') => {
                letters.as_str().strip_prefix('{').and_then(|rest| rest.split_once('}')).and_then(|(code, rest)| {
                    letters = rest.chars();
                    char::from_u32(u32::from_str_radix(code, 16).ok()?)
                })
            }
            other => other.filter(|other| !other.is_alphanumeric()),
        };
        text.push(
            meant.ok_or_else(|| format!("a backslash in {cell:?} means nothing: \\\\ is one that means itself"))?,
        );
    }
    Ok(text)
}

/// The parts of a line between those `at` that have no backslash before them, without the spaces around them.
pub(super) fn split(line: &str, at: char) -> impl Iterator<Item = &str> {
    let mut is_meant = false;
    let is_end = move |letter: char| {
        let is_end = letter == at && !is_meant;
        is_meant = letter == BEFORE && !is_meant;
        is_end
    };
    line.split(is_end).map(str::trim)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_means_nothing_in_a_table_stands_as_it_is() {
        for text in ["write 3 rolled back", "fsync log fails: EIO", "a.b #2 = 3", "läuft ▲"] {
            assert_eq!(written(text), text);
        }
    }

    #[test]
    fn what_has_a_meaning_there_is_written_otherwise() {
        let pairs = [
            ("a | b; c", r"a \| b\; c"),
            ("# no comment", r"\# no comment"),
            (".", r"\."),
            ("two\nlines\r", r"two\nlines\u{d}"),
            (" wide\u{a0} ", r"\u{20}wide\u{a0}\u{20}"),
            ("", r"\e"),
            (r"C:\", r"C:\\"),
        ];
        for (text, cell) in pairs {
            assert_eq!((written(text).as_str(), read(cell).as_deref()), (cell, Ok(text)));
        }
        assert_eq!(written_name("client 1=2"), r"client\u{20}1\u{3d}2");
    }

    #[test]
    fn a_backslash_that_means_nothing_is_refused() {
        for cell in [r"\x", r"\", r"\u", r"\u{", r"\u{x}", r"\u{d800}"] {
            let problem = format!("a backslash in {cell:?} means nothing: \\\\ is one that means itself");
            assert_eq!(read(cell), Err(problem));
        }
    }

    proptest! {
        #[test]
        fn any_texts_stand_in_a_line_and_are_read_back(texts in prop::collection::vec(any::<String>(), 1..4)) {
            let line = texts.iter().map(|text| written(text)).collect::<Vec<_>>().join(" | ");
            prop_assert_eq!(line.lines().count(), 1);
            prop_assert!(!line.trim_start().starts_with('#'));
            let read = split(&line, '|').map(|cell| {
                assert!(cell != "." && !cell.is_empty());
                assert_eq!(split(cell, ';').count(), 1);
                read(cell)
            });
            prop_assert_eq!(read.collect::<Result<Vec<_>, _>>(), Ok(texts.clone()));
            let names: Vec<String> = texts.iter().map(|text| written_name(text)).collect();
            prop_assert_eq!(names.join(" ").split_whitespace().count(), names.len());
        }
    }
}
