//! A process that ends with its test, however that ends; and what is left of those that should have.

use std::ops::{Deref, DerefMut};
use std::process::{Child, Command};

/// Killed and waited for when it is dropped.
pub struct Running(Child);

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display())))
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process inherits this variable from who started it, so it marks all that come from one test.
pub const MARK: &str = "POOLPROOF_TEST_MARK";

/// Numbers and command lines of the processes that have this mark, and of those that they started.
#[cfg(target_os = "linux")]
pub fn marked(mark: &str) -> Vec<(u32, String)> {
    let variable = format!("{MARK}={mark}");
    let read = |number: u32, file: &str| std::fs::read(format!("/proc/{number}/{file}")).unwrap_or_default();
    let is_marked =
        |number: u32| read(number, "environ").split(|byte| *byte == 0).any(|one| one == variable.as_bytes());
    // Behind the name in parentheses, which can contain anything: the state and the parent.
    let parent = |number: u32| -> Option<u32> {
        let status = String::from_utf8_lossy(&read(number, "stat")).into_owned();
        status.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let names = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let all: Vec<u32> = names.filter_map(|name| name.parse().ok()).collect();
    let mut marked: Vec<u32> = all.iter().copied().filter(|number| is_marked(*number)).collect();
    let mut place = 0;
    while let Some(&number) = marked.get(place) {
        let children = all.iter().copied().filter(|child| parent(*child) == Some(number));
        let new: Vec<u32> = children.filter(|child| !marked.contains(child)).collect();
        marked.extend(new);
        place += 1;
    }
    marked.into_iter().map(|number| (number, command_line(number))).collect()
}

/// Empty for a process that has ended.
#[cfg(target_os = "linux")]
pub fn command_line(number: u32) -> String {
    let line = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}
