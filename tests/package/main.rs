//! What the package says of itself: the README is true, and misuse does not compile. Links no engine.

mod compile_fail;
mod readme;
