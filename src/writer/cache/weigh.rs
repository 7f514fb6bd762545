//! How many bytes something takes: what keeps a cache of anything within its bound.

/// A value or a key that a cache may keep: it says how much memory it points to.
///
/// Of a value that is larger than it says, the cache keeps more than its bound.
///
/// ```
/// use poolproof::Weigh;
///
/// struct Account {
///     id: i64,
///     owner: String,
/// }
///
/// impl Weigh for Account {
///     fn heap_bytes(&self) -> usize {
///         self.id.heap_bytes() + self.owner.heap_bytes()
///     }
/// }
///
/// let accounts = vec![Account { id: 1, owner: "Ada".to_owned() }];
/// assert!(accounts.heap_bytes() >= size_of::<Account>() + 3);
/// ```
pub trait Weigh {
    /// About as many bytes it holds beside its own size.
    fn heap_bytes(&self) -> usize;
}

macro_rules! nothing_beside {
    ($($of:ty),*) => {
        $(impl Weigh for $of {
            fn heap_bytes(&self) -> usize {
                0
            }
        })*
    };
}

nothing_beside!((), bool, char, i8, i16, i32, i64, u8, u16, u32, u64, usize, f32, f64);

impl Weigh for String {
    fn heap_bytes(&self) -> usize {
        self.capacity()
    }
}

impl Weigh for &'static str {
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl<T: Weigh> Weigh for Option<T> {
    fn heap_bytes(&self) -> usize {
        self.as_ref().map_or(0, T::heap_bytes)
    }
}

impl<T: Weigh> Weigh for Vec<T> {
    fn heap_bytes(&self) -> usize {
        self.capacity() * size_of::<T>() + self.iter().map(T::heap_bytes).sum::<usize>()
    }
}

impl<A: Weigh, B: Weigh> Weigh for (A, B) {
    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes() + self.1.heap_bytes()
    }
}

impl<A: Weigh, B: Weigh, C: Weigh> Weigh for (A, B, C) {
    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes() + self.1.heap_bytes() + self.2.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pointed_to_counts_at_every_depth() {
        let name = "a".repeat(100);
        assert_eq!((1, true).heap_bytes(), 0);
        assert_eq!(Some(name.clone()).heap_bytes(), 100);
        assert_eq!((1, name.clone(), None::<String>).heap_bytes(), 100);
        let names = vec![name.clone(), name];
        assert_eq!(names.heap_bytes(), 200 + names.capacity() * size_of::<String>());
    }
}
