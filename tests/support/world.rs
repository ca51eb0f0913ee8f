//! Everything one test has to itself: a prefix of the shared store, a relay in front of it where asked for,
//! and hosts, each with a cache directory and a mount point of its own.

use super::mount::Mount;
use super::network::{Network, Segment};
use super::ran::{Ran, run_by};
use super::relay::Relay;
use super::seaweed::{self, Seaweed};
use super::tell_panics_at_once;
use super::witness::Witness;
use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The bucket that all tests share; each has a prefix of its own in it.
pub const BUCKET: &str = "cwdfs-tests";

/// The binary under test: the one that was built with the tests, or the one that `CWDFS_TEST_BINARY` names.
pub fn binary() -> PathBuf {
    match std::env::var_os("CWDFS_TEST_BINARY") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_BIN_EXE_cwdfs")),
    }
}

/// Whether every size there is shall be run (`tests/run --full`).
pub fn full() -> bool {
    std::env::var_os("CWDFS_TEST_FULL").is_some_and(|v| v == "1")
}

/// A test's own corner of store and disk.
pub struct World {
    /// Looks at the bucket directly, past the relay.
    pub witness: Witness,
    /// `bucket:prefix`, as the command line takes it.
    pub store: String,
    /// The session's prefix.
    pub prefix: String,
    relay: Option<Relay>,
    endpoint: String,
    dir: PathBuf,
    mounts: PathBuf,
}

impl World {
    /// A world whose hosts talk to the store directly. `name` is the test's.
    pub fn new(name: &str) -> World {
        World::make(name, false)
    }

    /// A world whose hosts talk to the store through a relay.
    pub fn with_relay(name: &str) -> World {
        World::make(name, true)
    }

    /// As [`World::with_relay`], with its mount points and local directories where any user gets to, wherever
    /// this project lies.
    pub fn for_any_user(name: &str) -> World {
        let mut world = World::make(name, true);
        world.mounts = std::env::temp_dir().join(format!("cwdfs-{}", world.prefix));
        world
    }

    /// A world over this server, whose hosts have networks of their own.
    pub fn over(name: &str, server: &Seaweed, network: &Network) -> World {
        let relay = Relay::start_at(network.address(), server.address()).expect("a relay");
        World::at(name, server, Some(relay))
    }

    fn make(name: &str, relayed: bool) -> World {
        let server = seaweed::shared();
        let relay = relayed.then(|| Relay::start(server.address()).expect("a relay"));
        World::at(name, server, relay)
    }

    fn at(name: &str, server: &Seaweed, relay: Option<Relay>) -> World {
        tell_panics_at_once();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let prefix = format!("{name}-{:x}", now.as_micros());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&prefix);
        fs::create_dir_all(&dir).expect("a directory for the test");
        let witness =
            Witness::new(&server.endpoint(), seaweed::ACCESS_KEY, seaweed::SECRET_KEY, BUCKET, &prefix);
        // Once for each server: one that two clients ask at once for the same bucket may not know it for minutes.
        static MADE: Mutex<Vec<SocketAddr>> = Mutex::new(Vec::new());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if !made.contains(&server.address()) {
            witness.create_bucket();
            made.push(server.address());
        }
        drop(made);
        let endpoint = relay.as_ref().map_or_else(|| server.endpoint(), Relay::endpoint);
        World {
            witness,
            store: format!("{BUCKET}:{prefix}"),
            prefix,
            relay,
            endpoint,
            mounts: dir.clone(),
            dir,
        }
    }

    /// The URL at which the hosts reach the store.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The URL of the store itself, past the relay.
    pub fn direct_endpoint(&self) -> String {
        seaweed::shared().endpoint()
    }

    /// A second client whose requests go through the relay too: what the same bytes cost without cwdfs.
    pub fn relayed_witness(&self) -> Witness {
        Witness::new(&self.endpoint, seaweed::ACCESS_KEY, seaweed::SECRET_KEY, BUCKET, &self.prefix)
    }

    /// The relay; panics in a world without one.
    pub fn relay(&self) -> &Relay {
        self.relay.as_ref().expect("this world was made with a relay")
    }

    /// A machine by name: the same name is the same machine.
    pub fn host(&self, name: &str) -> Host<'_> {
        let (cache, mountpoint) = (self.dir.join(name).join("cache"), self.mounts.join(name).join("mnt"));
        let (program, home) = (binary(), self.dir.clone());
        let host = Host { world: self, cache, mountpoint, program, home, segment: None };
        fs::create_dir_all(&host.mountpoint).expect("a mount point");
        host
    }

    /// The machine of the user whose home this is, who runs `program`.
    pub fn host_of(&self, program: PathBuf, home: &Path) -> Host<'_> {
        let (cache, mountpoint) = (home.join("cache"), home.join("mnt"));
        let home = home.to_owned();
        let host = Host { world: self, cache, mountpoint, program, home, segment: None };
        fs::create_dir_all(&host.mountpoint).expect("a mount point");
        host
    }

    /// A directory on the local disk for the test's own use.
    pub fn local(&self, name: &str) -> PathBuf {
        let dir = self.mounts.join("local").join(name);
        fs::create_dir_all(&dir).expect("a local directory");
        dir
    }

    /// `cwdfs ARGS` with this world's endpoint and credentials and nothing else from the environment.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.command_of(&binary(), &self.dir);
        command.args(args);
        command
    }

    fn command_of(&self, program: &Path, home: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let ours = ["CWDFS_", "AWS_", "XDG_"].iter().any(|ours| text.starts_with(ours));
            if ours || text.to_ascii_lowercase().ends_with("_proxy") {
                command.env_remove(&name);
            }
        }
        command
            .env("CWDFS_ENDPOINT", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", seaweed::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", seaweed::SECRET_KEY)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("HOME", home);
        command
    }

    /// Runs `cwdfs ARGS` to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        Ran::of(&mut self.command(args))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A failed test's caches and logs are worth a look, and a mount may still be inside.
        if !std::thread::panicking() && std::env::var_os("CWDFS_TEST_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.dir);
            let _ = fs::remove_dir_all(&self.mounts);
        }
    }
}

/// A machine: a cache directory and a mount point.
#[derive(Clone)]
pub struct Host<'w> {
    world: &'w World,
    /// Its cache directory.
    pub cache: PathBuf,
    /// Where it mounts the session.
    pub mountpoint: PathBuf,
    program: PathBuf,
    home: PathBuf,
    segment: Option<Segment>,
}

impl<'w> Host<'w> {
    /// The same machine with its cache in this directory.
    pub fn with_cache(self, cache: PathBuf) -> Host<'w> {
        Host { cache, ..self }
    }

    /// The same machine, behind this piece of network.
    pub fn behind(self, segment: Segment) -> Host<'w> {
        Host { segment: Some(segment), ..self }
    }

    /// Mounts the world's session here, as a child in the foreground, and returns when it answers.
    #[track_caller]
    pub fn mount(&self, options: &[&str]) -> Mount<'w> {
        match Mount::start(self.world, self, self.mount_command(options)) {
            Ok(mount) => mount,
            Err(ran) => panic!("the mount did not start: {ran}"),
        }
    }

    /// The command of [`Host::mount`], to change before it is started with [`Host::start`].
    pub fn mount_command(&self, options: &[&str]) -> Command {
        let mut command = self.command("mount");
        command.arg("--foreground");
        command.arg("--cache-dir").arg(&self.cache).args(options);
        command.arg(&self.world.store).arg(&self.mountpoint);
        command
    }

    /// Starts a foreground mount command; the error is how it ended without ever having mounted.
    pub fn start(&self, command: Command) -> Result<Mount<'w>, Ran> {
        Mount::start(self.world, self, command)
    }

    /// Runs a mount that is expected to fail, or to leave a daemon, to its end.
    pub fn run_mount(&self, options: &[&str]) -> Ran {
        let mut command = self.command("mount");
        command.arg("--cache-dir").arg(&self.cache).args(options);
        Ran::of(command.arg(&self.world.store).arg(&self.mountpoint))
    }

    /// `cwdfs COMMAND OPTIONS... MOUNTPOINT`, run to its end.
    pub fn run(&self, command: &str, options: &[&str]) -> Ran {
        Ran::of(self.command(command).args(options).arg(&self.mountpoint))
    }

    /// `cwdfs COMMAND`, as it is run on this machine.
    pub fn command(&self, command: &str) -> Command {
        let mut run = self.world.command_of(&self.program, &self.home);
        run.arg(command);
        match &self.segment {
            Some(segment) => run_by(segment.runner(), &run),
            None => run,
        }
    }

    /// Deletes everything this machine has kept.
    pub fn wipe(&self) {
        match fs::remove_dir_all(&self.cache) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                panic!("wipe {}: {e}", self.cache.display())
            }
            _ => {}
        }
    }
}
