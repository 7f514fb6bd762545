//! Generated programs: the library as the engine alone.

use poolproof::harness::statements::{Searched, search};

/// Programs, unless the environment says another number.
const PROGRAMS: u64 = 200;

#[test]
fn every_generated_program_is_as_on_the_engine_alone() {
    let range = std::env::var("POOLPROOF_PROGRAMS").unwrap_or_else(|_| format!("0..{PROGRAMS}"));
    let (from, upto) = range.split_once("..").expect("A..B");
    let Searched { programs, statements, refused, failed, differ } =
        search(from.parse().unwrap()..upto.parse().unwrap());
    println!("{programs} programs, {statements} statements, {refused} calls refused, {failed} failed");
    if let Some(difference) = differ.first() {
        panic!("{difference}");
    }
    assert!(failed * 10 > programs && refused < statements / 4, "they show too little");
}
