//! The bare FUSE server of `bench/bare`, as a process of its own.

use super::{Kind, Mounted, System};
use crate::support::World;
use rustix::mount::UnmountFlags;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A way to run it.
#[derive(Debug, Clone, Copy)]
pub struct Bare {
    passthrough: bool,
    checked: bool,
}

/// Every way.
pub const ALL: [Bare; 3] = [
    Bare { passthrough: false, checked: false },
    Bare { passthrough: false, checked: true },
    Bare { passthrough: true, checked: false },
];

/// How long it may take to answer.
const READY: Duration = Duration::from_secs(20);

struct Served {
    child: Child,
    mountpoint: PathBuf,
    ready_after: Duration,
}

impl System for Bare {
    fn name(&self) -> String {
        match self {
            Bare { passthrough: true, .. } => "bare-passthrough",
            Bare { checked: true, .. } => "bare-checked",
            Bare { .. } => "bare",
        }
        .into()
    }

    fn kind(&self) -> Kind {
        Kind::Limit
    }

    fn promise(&self) -> String {
        let what = match self {
            Bare { passthrough: true, .. } => "a FUSE server that does nothing else, contents in local files",
            Bare { checked: true, .. } => {
                "a FUSE server that does nothing else, the kernel checks permissions"
            }
            Bare { .. } => "a FUSE server that does nothing else, all in its memory",
        };
        format!("{what}; keeps nothing")
    }

    fn mount<'w>(&self, world: &'w World, host: &str, _options: &[&str]) -> Box<dyn Mounted + 'w> {
        let mountpoint = super::mountpoint(world, host);
        let mut command = Command::new(std::env::current_exe().expect("the bench's own path"));
        command.arg("bare").arg(&mountpoint).stdin(Stdio::null());
        if self.passthrough {
            command.arg("--passthrough").arg(world.local(&format!("{host}/backing")));
        }
        if self.checked {
            command.arg("--checked");
        }
        let mut child = command.spawn().expect("the bench runs itself");
        let ready_after = super::answers(&mountpoint, READY, || {
            let ended = child.try_wait().expect("look at the bare server");
            ended.map(|status| format!("the bare server ended: {status}"))
        });
        Box::new(Served { child, mountpoint, ready_after })
    }
}

impl Mounted for Served {
    fn root(&self) -> &Path {
        &self.mountpoint
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.child.id()]
    }

    fn ready_after(&self) -> Duration {
        self.ready_after
    }

    fn settle(&self) -> Instant {
        Instant::now()
    }

    fn lose(self: Box<Self>) {}

    fn unmount(self: Box<Self>) {}
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Err(error) = rustix::mount::unmount(&self.mountpoint, UnmountFlags::DETACH) {
            eprintln!("{}: not unmounted: {error}", self.mountpoint.display());
        }
        // One that has ended already is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
