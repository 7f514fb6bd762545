//! A slot released twice is a connection above the maximum. The core's lease is the crate's own affair, so this compiles the
//! core itself.

mod sync {
    pub use std::sync::Arc;

    pub struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
            f(&mut self.0.lock().unwrap())
        }
    }
}

#[path = "../../../src/pool/core/mod.rs"]
#[allow(unused_imports)]
mod core;

fn main() {}

struct Any;

impl core::Parts for Any {
    const BUSY: usize = 1;

    type Connection = ();
    type Holder = ();
    type Stamp = ();
    type Clock = ();
    type Note = ();
    type Context = ();
}

fn released_twice(lease: core::Lease<Any>) {
    drop(lease);
    drop(lease); //~ E0382
}
