//! stress-ng: which stressors there are, a run of some of them at once, and what it says of each.

use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A stressor and the options that keep it small.
pub type Stressor = (&'static str, &'static [&'static str]);

/// The stressors that work on files in the directory they are given. Left out are `io`, which syncs the whole
/// machine, and `fanotify`, which opens files of every mount there is, also of other tests.
pub const STRESSORS: [Stressor; 53] = [
    ("access", &[]),
    ("aio", &[]),
    ("aiol", &[]),
    ("chattr", &[]),
    ("chdir", &["--chdir-dirs", "512"]),
    ("chmod", &[]),
    ("chown", &[]),
    ("copy-file", &["--copy-file-bytes", "128M"]),
    ("dentry", &["--dentries", "1024"]),
    ("dir", &["--dir-dirs", "1024"]),
    ("dirdeep", &["--dirdeep-inodes", "1000"]),
    ("dirmany", &[]),
    ("dnotify", &[]),
    ("dup", &[]),
    ("fallocate", &["--fallocate-bytes", "16M"]),
    ("fcntl", &[]),
    ("fiemap", &["--fiemap-bytes", "16M"]),
    ("fifo", &[]),
    ("file-ioctl", &[]),
    ("filename", &[]),
    ("flock", &[]),
    ("fpunch", &[]),
    ("fsize", &[]),
    ("fstat", &[]),
    ("getdent", &[]),
    ("handle", &[]),
    ("hdd", &["--hdd-bytes", "16M"]),
    ("inode-flags", &[]),
    ("inotify", &[]),
    ("io-uring", &[]),
    ("iomix", &["--iomix-bytes", "16M"]),
    ("lease", &[]),
    ("link", &[]),
    ("locka", &[]),
    ("lockf", &[]),
    ("lockofd", &[]),
    ("metamix", &[]),
    ("mknod", &[]),
    ("mmap", &["--mmap-file", "--mmap-bytes", "16M"]),
    ("msync", &["--msync-bytes", "16M"]),
    ("open", &["--open-max", "4000"]),
    ("readahead", &["--readahead-bytes", "16M"]),
    ("rename", &[]),
    ("revio", &["--revio-bytes", "16M"]),
    ("seek", &["--seek-size", "16M"]),
    ("sendfile", &[]),
    ("splice", &[]),
    ("symlink", &[]),
    ("sync-file", &["--sync-file-bytes", "16M"]),
    ("touch", &[]),
    ("utime", &[]),
    ("verity", &[]),
    ("xattr", &[]),
];

/// What a run says of its stressors, by name, with the first line that says why.
#[derive(Debug, Default)]
pub struct Said {
    pub failed: BTreeMap<String, String>,
    pub skipped: BTreeMap<String, String>,
    /// How much each did.
    pub operations: BTreeMap<String, u64>,
}

/// Those that the installed stress-ng has.
pub fn known() -> BTreeSet<String> {
    let ran = crate::support::ran::Ran::of(Command::new("stress-ng").arg("--stressors")).ok();
    ran.out.split_whitespace().map(str::to_owned).collect()
}

/// A stress-ng that is under way, with every process it made.
pub struct Run {
    main: Child,
    line: String,
    said: std::path::PathBuf,
}

impl Run {
    /// Starts `each` of the stressors so many times in `dir`; what it says goes below `own`.
    pub fn start(stressors: &[Stressor], each: u32, span: Duration, dir: &Path, own: &Path) -> Run {
        let said = own.join("stress-ng.log");
        let file = File::create(&said).expect("a file for what stress-ng says");
        let copy = file.try_clone().expect("a second handle");
        let mut command = Command::new("stress-ng");
        command.args(["--verify", "--metrics", "--oomable", "--temp-path"]).arg(dir);
        command.args(["--timeout", &format!("{}s", span.as_secs())]);
        command.args(["--seed", &(crate::support::way::seed() >> 1).to_string()]);
        for (name, options) in stressors {
            command.arg(format!("--{name}")).arg(each.to_string()).args(*options);
        }
        // A process group of its own, by which all of it can be killed.
        command.current_dir(own).process_group(0).stdin(Stdio::null()).stdout(file).stderr(copy);
        let line = format!("{command:?}");
        let main =
            command.spawn().unwrap_or_else(|e| panic!("cannot run {line}: {e} (tests/run installs it)"));
        Run { main, line, said }
    }

    /// Waits for the end; after `limit` it is a hang, and panics.
    pub fn finish(mut self, limit: Duration) -> Said {
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.main.try_wait().expect("look at stress-ng") {
                break status;
            }
            if Instant::now() > end {
                let text = self.text();
                self.kill();
                panic!("no end within {limit:?}: {text}");
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let said = parse(&self.text());
        let blamed = !said.failed.is_empty() || !said.skipped.is_empty();
        assert!(status.success() || blamed, "{status} without a reason: {} says\n{}", self.line, self.text());
        said
    }

    /// Kills all of it, and waits until none of it is left.
    pub fn kill(mut self) {
        let group = Pid::from_child(&self.main);
        kill_process_group(group, Signal::KILL).expect("kill stress-ng");
        self.main.wait().expect("reap stress-ng");
        let end = Instant::now() + Duration::from_secs(120);
        while lives(group) {
            assert!(Instant::now() < end, "a stressor survived SIGKILL");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.said).expect("what stress-ng said")
    }
}

/// Whether a process of the group is there that is more than a zombie.
fn lives(group: Pid) -> bool {
    let group = group.as_raw_nonzero().to_string();
    fs::read_dir("/proc").expect("list the processes").flatten().any(|entry| {
        // One that has just ended has no such file any more. The name, in brackets, may hold anything.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let words: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        matches!(words[..], [state, _, of, ..] if of == group && state != "Z" && state != "X")
    })
}

/// Reads the lines `stress-ng: KIND: [PID] STRESSOR: …`.
fn parse(text: &str) -> Said {
    let mut said = Said::default();
    for line in text.lines() {
        let Some((kind, rest)) = line.strip_prefix("stress-ng: ").and_then(|l| l.split_once(": ")) else {
            continue;
        };
        let rest = rest.split_once("] ").map_or(rest, |(_, rest)| rest);
        let named = rest.split_once(": ").map(|(name, _)| name.trim().to_owned());
        match (kind, named) {
            ("metrc", _) => operations(rest, &mut said.operations),
            ("fail", Some(name)) => drop(said.failed.entry(name).or_insert_with(|| rest.to_owned())),
            ("error" | "fail", _) => {
                // `process 7 (dentry) terminated with an error`
                let name =
                    rest.split_once('(').and_then(|(_, r)| r.split_once(')')).map_or(rest, |(name, _)| name);
                said.failed.entry(name.to_owned()).or_insert_with(|| rest.to_owned());
            }
            ("info", Some(name)) if rest.contains("skipping stress") => {
                said.skipped.entry(name).or_insert_with(|| rest.to_owned());
            }
            _ => {}
        }
    }
    said
}

/// A line of the table of metrics: the stressor, what it did, and times.
fn operations(line: &str, into: &mut BTreeMap<String, u64>) {
    let words: Vec<_> = line.split_whitespace().collect();
    if let [name, done, _, _, _, _, ..] = words[..]
        && let (Ok(done), true) = (done.parse(), words[2].parse::<f64>().is_ok())
    {
        into.insert(name.to_owned(), done);
    }
}
