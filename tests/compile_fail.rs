//! What the types refuse: each case is a misuse that some pool lets through, and it must not compile, for the reason that its
//! `.stderr` file states.
//!
//! `TRYBUILD=overwrite cargo test --test compile_fail` writes those files anew; read them before committing.

#[test]
fn misuse_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
