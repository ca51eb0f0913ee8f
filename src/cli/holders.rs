//! Which processes hold a mount.

use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A process, and with what it holds the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub command: String,
    /// `working directory`, `open file` ...
    pub by: &'static str,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}, {})", self.command, self.pid, self.by)
    }
}

/// How long looking into the memory maps of processes may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The processes that hold something at or below `mountpoint`, except `daemon`. Only links are read, so that
/// the mount is not asked anything; and memory maps, which the kernel may keep from us for long while a
/// process hangs: those come last, as far as time allows.
pub fn of(mountpoint: &Path, daemon: u32) -> Vec<Holder> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let ids: Vec<u32> = ids.filter(|pid| *pid != daemon).collect();
    let mut found: Vec<_> = ids.iter().filter_map(|pid| by_link(*pid, mountpoint)).collect();
    let rest = ids.into_iter().filter(|pid| found.iter().all(|holder| holder.pid != *pid)).collect();
    found.extend(by_maps(rest, mountpoint.to_owned()));
    found.sort_by_key(|holder| holder.pid);
    found
}

/// Each is asked on a thread of its own, which is left behind where it hangs.
fn by_maps(pids: Vec<u32>, mountpoint: PathBuf) -> Vec<Holder> {
    let (tell, told) = std::sync::mpsc::channel();
    let mountpoint = Arc::new(mountpoint);
    for pid in pids {
        let (tell, mountpoint) = (tell.clone(), Arc::clone(&mountpoint));
        let look = move || {
            let mapped = maps(&proc_of(pid), &mountpoint).then(|| named(pid, "mapped file"));
            // Nobody listens once the time is over.
            let _ = tell.send(mapped);
        };
        if std::thread::Builder::new().stack_size(256 << 10).spawn(look).is_err() {
            break;
        }
    }
    drop(tell);
    let until = Instant::now() + PATIENCE;
    std::iter::from_fn(|| told.recv_timeout(until.saturating_duration_since(Instant::now())).ok())
        .flatten()
        .collect()
}

fn proc_of(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

fn named(pid: u32, by: &'static str) -> Holder {
    let command = fs::read_to_string(proc_of(pid).join("comm")).unwrap_or_default().trim().to_owned();
    Holder { pid, command, by }
}

fn by_link(pid: u32, mountpoint: &Path) -> Option<Holder> {
    let dir = proc_of(pid);
    let leads_in = |link: PathBuf| fs::read_link(link).is_ok_and(|to| is_in(&to, mountpoint));
    let by = if leads_in(dir.join("cwd")) {
        "working directory"
    } else if leads_in(dir.join("root")) {
        "root directory"
    } else if fs::read_dir(dir.join("fd")).is_ok_and(|fds| fds.flatten().any(|fd| leads_in(fd.path()))) {
        "open file"
    } else {
        return None;
    };
    Some(named(pid, by))
}

/// `/mnt/a (deleted)` is in `/mnt` as well.
fn is_in(path: &Path, mountpoint: &Path) -> bool {
    path.starts_with(mountpoint)
}

fn maps(dir: &Path, mountpoint: &Path) -> bool {
    let Ok(maps) = fs::read(dir.join("maps")) else { return false };
    let paths = maps
        .split(|b| *b == b'\n')
        .filter_map(|line| line.iter().position(|b| *b == b'/').map(|at| &line[at..]));
    paths.into_iter().any(|path| is_in(Path::new(std::ffi::OsStr::from_bytes(path)), mountpoint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_working_directory_and_an_open_file_are_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("it is there");
        let file = fs::File::create(root.join("held")).expect("a file");
        let mut inside = Command::new("sleep").arg("600").current_dir(&root).spawn().expect("sleep");
        let mut outside =
            Command::new("sleep").arg("600").current_dir("/").stdin(file).spawn().expect("sleep");
        // Until both run their own program.
        let pids = [inside.id(), outside.id()];
        let ready = |found: &Vec<Holder>| {
            pids.iter().all(|pid| found.iter().any(|h| h.pid == *pid && h.command == "sleep"))
        };
        let found = (0..1000)
            .map(|_| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                of(&root, std::process::id())
            })
            .find(ready);
        for child in [&mut inside, &mut outside] {
            child.kill().expect("kill");
            child.wait().expect("reap");
        }
        let found = found.expect("both are found");
        let by = |pid| found.iter().find(|h| h.pid == pid).map(|h| h.by);
        assert_eq!(by(inside.id()), Some("working directory"));
        assert_eq!(by(outside.id()), Some("open file"));
        assert!(
            found.iter().filter(|h| pids.contains(&h.pid)).all(|h| h.to_string().contains("sleep (pid "))
        );
    }
}
