//! The system's allocator, counting for each thread and for all of them.

#![allow(unsafe_code, reason = "an allocator is unsafe to implement")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    /// Allocated and not freed; less than nothing if this thread freed what another had allocated.
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

static BYTES_OF_ALL: AtomicIsize = AtomicIsize::new(0);

struct Counting;

impl Counting {
    fn count(bytes: isize) {
        BYTES.set(BYTES.get() + bytes);
        BYTES_OF_ALL.fetch_add(bytes, Relaxed);
    }
}

// SAFETY: everything is the system allocator's; the count touches no memory of anybody else's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        Self::count(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        Self::count(-(layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocated on this thread.
pub fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Bytes that this thread allocated and nobody freed.
pub fn bytes_of_this_thread() -> isize {
    BYTES.get()
}

/// Bytes that are allocated, by all threads.
pub fn bytes() -> isize {
    BYTES_OF_ALL.load(Relaxed)
}
