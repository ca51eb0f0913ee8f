//! Containers as sandboxes are: podman with runc, its default seccomp profile, an overlay as root, and no more
//! than the capabilities asked for. `tests/run` makes the root file system.

use super::ran::Ran;
use super::seaweed;
use super::world::{World, binary};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

/// A running container of a world; dropping it kills it and everything in it.
pub struct Container<'w> {
    world: &'w World,
    name: String,
}

/// podman and its options; crun and systemd's cgroups are not everywhere.
const PODMAN: [&str; 5] = ["podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs"];

fn podman() -> Command {
    let mut podman = Command::new(PODMAN[0]);
    podman.args(&PODMAN[1..]);
    podman
}

/// The root file system that containers stand on; nothing in it is changed.
pub fn rootfs() -> PathBuf {
    let rootfs = match std::env::var_os("CWDFS_TEST_ROOTFS") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/container/rootfs"),
    };
    assert!(rootfs.join("usr/bin/git").exists(), "{}: not there; tests/run makes it", rootfs.display());
    rootfs
}

impl<'w> Container<'w> {
    /// Runs `command` as process 1, with /dev/fuse and what `options` give, next to the world's store.
    #[track_caller]
    pub fn start(world: &'w World, options: &[&str], command: &[&str]) -> Container<'w> {
        let program = format!("{}:/usr/local/bin/cwdfs:ro", binary().display());
        // An overlay over it that goes with the container.
        let root = format!("{}:O", rootfs().display());
        let options = [options, &["--volume", &program, "--rootfs", &root]].concat();
        Container::run_new(world, &options, command)
    }

    /// The same of an image that is there, which brings its own cwdfs as its entry point.
    #[track_caller]
    pub fn of_image(world: &'w World, image: &str, options: &[&str], command: &[&str]) -> Container<'w> {
        Container::run_new(world, &[options, &[image]].concat(), command)
    }

    #[track_caller]
    fn run_new(world: &'w World, options: &[&str], command: &[&str]) -> Container<'w> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("cwdfs-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut run = podman();
        run.args(["run", "--detach", "--network", "host", "--device", "/dev/fuse", "--name", &name]);
        run.args(["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"]);
        run.args(["--env", &format!("CWDFS_ENDPOINT={}", world.endpoint())]);
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", seaweed::ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", seaweed::SECRET_KEY),
            ("AWS_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ] {
            run.args(["--env", &format!("{name}={value}")]);
        }
        Ran::of(run.args(options).args(command)).ok();
        Container { world, name }
    }

    /// Runs a shell script in it.
    pub fn run(&self, script: &str) -> Ran {
        Ran::of(podman().args(["exec", &self.name, "bash", "-euo", "pipefail", "-c", script]))
    }

    /// `cwdfs mount OPTIONS STORE DIR` in it, which leaves a daemon.
    pub fn mount(&self, options: &str, dir: &str) -> Ran {
        self.run(&format!("mkdir -p {dir} && cwdfs mount {options} {} {dir}", self.world.store))
    }

    /// A path of it as the host sees it, while it runs.
    pub fn path(&self, inside: &str) -> PathBuf {
        let pid = Ran::of(podman().args(["inspect", "--format", "{{.State.Pid}}", &self.name])).ok();
        PathBuf::from(format!("/proc/{}/root{inside}", pid.out.trim()))
    }

    /// SIGKILL for all its processes; its disk goes with them.
    pub fn lose(self) {
        Ran::of(podman().args(["kill", &self.name])).ok();
    }

    /// SIGTERM for process 1, which has to end within a minute; its exit code.
    #[track_caller]
    pub fn stop(&self) -> Option<i32> {
        Ran::of(podman().args(["stop", "--time", "60", &self.name])).ok();
        let code = Ran::of(podman().args(["inspect", "--format", "{{.State.ExitCode}}", &self.name])).ok();
        code.out.trim().parse().ok()
    }

    /// Waits until process 1 has ended by itself; its exit code.
    #[track_caller]
    pub fn wait(&self) -> Option<i32> {
        let code = Ran::of(Command::new("timeout").arg("300").args(PODMAN).args(["wait", &self.name])).ok();
        code.out.trim().parse().ok()
    }

    /// What process 1 wrote.
    pub fn log(&self) -> String {
        let ran = Ran::of(podman().args(["logs", &self.name]));
        ran.out + &ran.err
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // One that is gone already is what we want.
        let ended = podman().args(["rm", "--force", "--time", "0", &self.name]).output();
        if let Ok(output) = ended.as_ref()
            && !output.status.success()
            && !std::thread::panicking()
        {
            eprintln!("podman rm {}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        }
    }
}
