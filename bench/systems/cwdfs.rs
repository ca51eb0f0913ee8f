//! cwdfs at each level and in each I/O mode.

use super::{Kind, Mounted, System};
use crate::support::World;
use crate::support::mount::Mount;
use crate::support::world::binary;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A way to mount it.
#[derive(Debug, Clone, Copy)]
pub struct Cwdfs {
    level: &'static str,
    passthrough: bool,
    /// Commands are run by `cwdfs batch`.
    batch: bool,
}

/// Every way.
pub const ALL: [Cwdfs; 7] = [
    Cwdfs::at("fsync"),
    Cwdfs::at("fsync").by_daemon(),
    Cwdfs { batch: true, ..Cwdfs::at("close") },
    Cwdfs::at("close"),
    Cwdfs::at("close").by_daemon(),
    Cwdfs::at("sync"),
    Cwdfs::at("sync").by_daemon(),
];

impl Cwdfs {
    const fn at(level: &'static str) -> Cwdfs {
        Cwdfs { level, passthrough: true, batch: false }
    }

    const fn by_daemon(self) -> Cwdfs {
        Cwdfs { passthrough: false, ..self }
    }
}

struct Session<'w> {
    way: Cwdfs,
    mount: Mount<'w>,
}

impl System for Cwdfs {
    fn name(&self) -> String {
        let how = if self.batch { "batch" } else { self.level };
        format!("cwdfs-{how}{}", if self.passthrough { "" } else { "-daemon" })
    }

    fn kind(&self) -> Kind {
        Kind::Ours
    }

    fn promise(&self) -> String {
        let waits = match self.level {
            _ if self.batch => "a command returns once the store has all it did, its closes do not wait",
            "fsync" => "fsync waits until the store has it, the rest is there within 1 s",
            "close" => "close and fsync wait until the store has it",
            _ => "every change waits until the store has it",
        };
        let mode =
            if self.passthrough { "large files may bypass the daemon" } else { "all I/O by the daemon" };
        format!("{waits}; {mode}")
    }

    fn absent(&self) -> Option<String> {
        let asked = self.batch.then(|| Command::new(binary()).args(["batch", "--help"]).output());
        let has = asked.is_none_or(|said| said.is_ok_and(|said| said.status.success()));
        (!has).then(|| "this cwdfs has no `batch`".into())
    }

    fn mount<'w>(&self, world: &'w World, host: &str, options: &[&str]) -> Box<dyn Mounted + 'w> {
        let passthrough = if self.passthrough { "on" } else { "off" };
        let way = ["--durability", self.level, "--passthrough", passthrough, "--timeout", "600s"];
        let way = [&way[..], &["--metrics", "127.0.0.1:0"]].concat();
        let mount = world.host(host).mount(&[&way[..], options].concat());
        Box::new(Session { way: *self, mount })
    }
}

impl Mounted for Session<'_> {
    fn root(&self) -> &Path {
        self.mount.root()
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.mount.pid().as_raw_nonzero().get() as u32]
    }

    fn ready_after(&self) -> Duration {
        self.mount.ready_after
    }

    fn settle(&self) -> Instant {
        self.mount.flush();
        Instant::now()
    }

    fn publishes(&self, options: &[&str]) -> bool {
        !options.contains(&"--no-publish")
    }

    fn publish(&self) {
        self.mount.publish();
    }

    fn made_sure(&self) -> String {
        let status = self.mount.status();
        assert_eq!(status["durability"], self.way.level, "the level of the mount");
        assert_eq!(status["passthrough"], self.way.passthrough, "the I/O mode of the mount");
        assert_eq!(status["state"], "mounted", "the state of the mount");
        let mode = if self.way.passthrough { "on" } else { "off" };
        format!("level {}, passthrough {mode}", self.way.level)
    }

    fn command(&self, program: &str) -> Command {
        if !self.way.batch {
            return Command::new(program);
        }
        let mut command = Command::new(binary());
        command.arg("batch").arg("--mount").arg(self.mount.root()).args(["--", program]);
        command
    }

    fn status(&self) -> Option<Value> {
        Some(self.mount.status())
    }

    fn opens(&self) -> BTreeMap<String, u64> {
        let status = self.mount.status();
        let address = status["metrics"].as_str().expect("it serves metrics").to_owned();
        let place = address.trim_start_matches("http://").trim_end_matches("/metrics");
        let mut stream = TcpStream::connect(place).expect("its metrics answer");
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: bench\r\n\r\n").expect("ask for metrics");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("read metrics");
        let lines = text.lines().filter_map(|line| line.strip_prefix("cwdfs_opens_total{mode=\""));
        let of = |line: &str| {
            let (mode, count) = line.split_once("\"} ")?;
            Some((mode.to_owned(), count.trim().parse().ok()?))
        };
        lines.filter_map(of).collect()
    }

    fn lose(self: Box<Self>) {
        self.mount.lose_machine();
    }

    fn unmount(self: Box<Self>) {
        self.mount.unmount();
    }
}
