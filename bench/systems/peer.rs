//! A mounted peer: its program as a child, its cache, and how it is known to have stored everything.

use super::peers::Style;
use super::{Kind, Mounted, System};
use crate::shell;
use crate::support::World;
use crate::support::seaweed::{ACCESS_KEY, REGION, SECRET_KEY};
use crate::support::world::BUCKET;
use crate::watch::Capped;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long one may take to answer, or to end.
const READY: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(120);
/// How long one may take to store what is left.
const SETTLED: Duration = Duration::from_secs(600);

/// A peer.
pub struct Peer {
    /// Its name.
    pub name: &'static str,
    /// Its command line.
    pub style: Style,
    /// What a caller may rely on.
    pub promise: &'static str,
    /// Its program, or why there is none.
    pub program: Result<PathBuf, String>,
}

struct Mount<'w> {
    world: &'w World,
    child: Child,
    /// It was waited for.
    ended: bool,
    mountpoint: PathBuf,
    cache: PathBuf,
    ready_after: Duration,
    quiet: Duration,
}

impl System for Peer {
    fn name(&self) -> String {
        self.name.into()
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn promise(&self) -> String {
        self.promise.into()
    }

    fn absent(&self) -> Option<String> {
        self.program.as_ref().err().cloned()
    }

    fn mount<'w>(&self, world: &'w World, host: &str, _options: &[&str]) -> Box<dyn Mounted + 'w> {
        let mountpoint = super::mountpoint(world, host);
        let cache = world.local(&format!("{host}/cache"));
        let mut command = self.command(world, &mountpoint, &cache);
        let log = fs::File::create(cache.with_file_name("log")).expect("a log file");
        let shown = log.try_clone().expect("a second handle");
        command.stdin(Stdio::null()).stdout(log).stderr(shown);
        // Some start others, which are ended with them.
        command.process_group(0);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot run {}: {e}", self.name));
        let start = Instant::now();
        super::answers(&mountpoint, READY, || {
            let ended = child.try_wait().expect("look at a peer");
            ended.map(|status| format!("{} ended: {status}", self.name))
        });
        let quiet = Duration::from_secs(if self.style == Style::Rclone { 7 } else { 2 });
        Box::new(Mount { world, child, ended: false, mountpoint, cache, ready_after: start.elapsed(), quiet })
    }
}

impl Peer {
    fn command(&self, world: &World, mountpoint: &Path, cache: &Path) -> Command {
        let program = self.program.as_ref().expect("the runner asks only those that are there");
        // It goes when the bench does, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command
            .env("AWS_REGION", REGION)
            .env("HOME", cache)
            .env_remove("http_proxy")
            .env_remove("HTTP_PROXY");
        let endpoint = world.endpoint();
        match self.style {
            Style::Geesefs => {
                command.args(["--endpoint", endpoint, "--region", REGION, "--no-detect", "--list-type", "2"]);
                command
                    .args(["--fsync-on-close", "-f", "-o", "allow_other"])
                    .arg(&world.store)
                    .arg(mountpoint);
            }
            Style::Rclone => {
                command.arg("mount").arg(format!(":s3:{BUCKET}/{}", world.prefix)).arg(mountpoint);
                command.args(["--vfs-cache-mode", "full", "--allow-other", "--config", "/dev/null"]);
                command.args(["--s3-provider", "Other", "--s3-env-auth", "--s3-endpoint", endpoint]);
                command.args(["--s3-region", REGION, "--dir-cache-time", "1h"]).arg("--cache-dir").arg(cache);
            }
            Style::Juicefs => {
                let meta = format!("sqlite3://{}", world.local("juicefs").join("meta.db").display());
                self.format(program, world, &meta);
                command
                    .args(["mount", "--no-usage-report", "-o", "allow_other"])
                    .arg("--cache-dir")
                    .arg(cache);
                command.arg(meta).arg(mountpoint);
            }
            Style::S3fs => {
                // Its prefix has to be an object.
                world.witness.put("", Vec::new());
                let option = |text: String| ["-o".to_owned(), text];
                command.arg(format!("{BUCKET}:/{}", world.prefix)).arg(mountpoint).arg("-f");
                command.args(option(format!("url={endpoint}"))).args(option("use_path_request_style".into()));
                command.args(option("allow_other".into())).args(option(format!("endpoint={REGION}")));
                command.env("AWSACCESSKEYID", ACCESS_KEY).env("AWSSECRETACCESSKEY", SECRET_KEY);
            }
        }
        command
    }

    /// Makes the volume, once in a world.
    fn format(&self, program: &Path, world: &World, meta: &str) {
        if world.local("juicefs").join("meta.db").exists() {
            return;
        }
        let mut command = Command::new(program);
        command.args(["format", "--storage", "s3", "--trash-days", "0", "--access-key", ACCESS_KEY]);
        command.args(["--secret-key", SECRET_KEY, "--bucket"]).arg(format!("{}/{BUCKET}", world.endpoint()));
        shell::run(command.arg(meta).arg(&world.prefix).env("HOME", world.local("juicefs")));
    }
}

impl Mount<'_> {
    /// Ends all its processes, and takes the mount away.
    fn kill(&mut self) {
        // The group cannot be another's as long as its leader was not waited for.
        if !self.ended
            && let Some(group) = Pid::from_raw(self.child.id() as i32)
        {
            // One that ended just now is what we want.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
        self.ended = true;
        // Gone already, where its own end took it away.
        let _ = rustix::mount::unmount(&self.mountpoint, UnmountFlags::DETACH);
    }
}

impl Mounted for Mount<'_> {
    fn root(&self) -> &Path {
        &self.mountpoint
    }

    fn pids(&self) -> Vec<u32> {
        // juicefs serves in a child of the process that was started.
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        std::iter::once(id).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
    }

    fn ready_after(&self) -> Duration {
        self.ready_after
    }

    fn settle(&self) -> Instant {
        let relay = self.world.relay();
        let start = Instant::now();
        let count = || relay.counts().values().sum::<usize>();
        let (mut last, mut seen) = (start, count());
        while last.elapsed() < self.quiet {
            std::thread::sleep(Duration::from_millis(20));
            let now = count();
            if now != seen || relay.held() > 0 {
                (last, seen) = (Instant::now(), now);
            }
            if start.elapsed() > SETTLED {
                std::panic::resume_unwind(Box::new(Capped(SETTLED)));
            }
        }
        last
    }

    fn lose(mut self: Box<Self>) {
        self.kill();
        fs::remove_dir_all(&self.cache).expect("wipe the cache");
    }

    fn unmount(mut self: Box<Self>) {
        rustix::mount::unmount(&self.mountpoint, UnmountFlags::empty()).expect("unmount a peer");
        let start = Instant::now();
        while self.child.try_wait().expect("look at a peer").is_none() {
            assert!(start.elapsed() < END, "it did not end within {END:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.ended = true;
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}
