//! What a program saw of a file system, line by line, to be compared with what it sees of another one.

use super::Disk;
use super::mount::Mount;
use super::world::World;
use std::fmt::{Debug, Write};
use std::path::Path;

/// Results in the order they came.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Story(String);

impl Story {
    /// Notes a result: a value, or the error's number.
    pub fn note<T: Debug>(&mut self, what: &str, result: std::io::Result<T>) {
        let result = result.map_err(|e| e.raw_os_error().map_or(e.to_string(), |n| format!("errno {n}")));
        writeln!(self.0, "{what}: {result:?}").expect("a string takes it");
    }

    /// Notes the result of a system call.
    pub fn call<T: Debug>(&mut self, what: &str, result: rustix::io::Result<T>) {
        self.note(what, result.map_err(Into::into));
    }
}

/// Runs a program on an ext4 and on a mount: both have to tell the same story. Hands the mount back.
#[track_caller]
pub fn same_as_ext4<'w>(
    world: &'w World,
    options: &[&str],
    program: impl Fn(&Path, &mut Story),
) -> Mount<'w> {
    let disk = Disk::ext4(&world.local("ext4"), "256M");
    let mount = world.host("a").mount(options);
    let (mut theirs, mut ours) = (Story::default(), Story::default());
    program(disk.path(), &mut theirs);
    program(mount.root(), &mut ours);
    let differ = theirs.0.lines().zip(ours.0.lines()).filter(|(a, b)| a != b);
    let differ: String = differ.map(|(a, b)| format!("\next4:  {a}\nmount: {b}")).collect();
    assert!(theirs == ours, "{differ}\n-- all of it on the mount:\n{}", ours.0);
    mount
}
