//! Which daemon serves which mount point: one small file each in a directory of the user's own.
//!
//! Root's are in `/run/cwdfs`, a user's in `$XDG_RUNTIME_DIR/cwdfs` or, without one, below the cache. Root
//! also looks into those of the user who mounted.

use crate::fuse::table;
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A daemon and its mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// `major:minor` of the mount; none before it is there, and once it is gone: the kernel gives the number to another.
    pub device: Option<String>,
    /// The daemon.
    pub pid: u32,
    /// When it was started, in the kernel's ticks since boot: tells it from a later process of that number.
    pub started: u64,
    /// Where it listens.
    pub socket: PathBuf,
    /// Which session it serves.
    pub session_key: String,
    /// Its store, for people.
    pub store: String,
    /// The session's cache folder.
    pub cache: PathBuf,
}

impl Entry {
    /// Whether the daemon lives.
    pub fn is_alive(&self) -> bool {
        started(self.pid) == Some(self.started)
    }

    /// Whether this mount is the one that the daemon serves, or served before it died.
    pub fn is_of(&self, mounted: &table::Mounted) -> bool {
        self.device.as_ref() == Some(&mounted.device)
    }

    /// Returns once the daemon has ended, or `false` when `limit` has passed before.
    pub fn wait_for_end(&self, limit: Duration) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return true };
        let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return true };
        if !self.is_alive() {
            return true;
        }
        let Ok(limit) = rustix::time::Timespec::try_from(limit) else { return false };
        let mut end = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
        // An interrupted wait counts as one that has ended early.
        rustix::event::poll(&mut end, Some(&limit)).is_ok_and(|ready| ready > 0)
    }
}

/// When a process was started, in ticks since boot; `None` when there is none of that number, or only what its parent
/// has not asked after (where process 1 never does, as in many containers, that stays for ever).
pub fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(start)
}

/// An absolute path from the environment.
fn from_environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// `$HOME`, or what the list of users says: mount(8) and systemd run programs without the variable.
pub fn home() -> Option<PathBuf> {
    from_environment("HOME").or_else(|| {
        let users = fs::read_to_string("/etc/passwd").ok()?;
        home_of(rustix::process::geteuid().as_raw(), &users)
    })
}

/// The home of a user by its number, in the form of `/etc/passwd`.
fn home_of(uid: u32, users: &str) -> Option<PathBuf> {
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut homes = fields.filter(|f| f.len() == 7 && f[2].parse() == Ok(uid)).map(|f| PathBuf::from(f[5]));
    homes.next().filter(|home| home.is_absolute())
}

/// `$XDG_CACHE_HOME/cwdfs`, or `~/.cache/cwdfs`.
pub fn user_cache() -> Option<PathBuf> {
    let base = from_environment("XDG_CACHE_HOME").or_else(|| home().map(|home| home.join(".cache")));
    base.map(|base| base.join("cwdfs"))
}

/// A directory of entries.
#[derive(Debug, Clone)]
pub struct Registry {
    dir: PathBuf,
}

impl Registry {
    /// This user's.
    pub fn own() -> io::Result<Registry> {
        if rustix::process::geteuid().is_root() {
            return Ok(Registry { dir: PathBuf::from("/run/cwdfs") });
        }
        let runtime = from_environment("XDG_RUNTIME_DIR");
        let dir = runtime.map(|dir| dir.join("cwdfs")).or_else(|| user_cache().map(|dir| dir.join("run")));
        let none = || io::Error::other("neither $XDG_RUNTIME_DIR nor $HOME is set");
        Ok(Registry { dir: dir.ok_or_else(none)? })
    }

    /// A registry in this directory.
    pub fn at(dir: impl Into<PathBuf>) -> Registry {
        Registry { dir: dir.into() }
    }

    /// Where the daemon of a mount point listens. Short: a socket's path has at most 107 bytes.
    pub fn socket(&self, mountpoint: &Path) -> PathBuf {
        self.dir.join(format!("{}.sock", name(mountpoint)))
    }

    /// Makes the directory, or checks that nobody else can write to it.
    pub fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let meta = fs::metadata(&self.dir)?;
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other(format!("{} belongs to another user", self.dir.display())));
        }
        fs::set_permissions(&self.dir, Permissions::from_mode(0o700))
    }

    /// Writes an entry, in the place of an older one.
    pub fn add(&self, entry: &Entry) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        serde_json::to_writer(&mut file, entry)?;
        file.flush()?;
        file.persist(self.file(&entry.mountpoint)).map_err(|error| error.error)?;
        Ok(())
    }

    /// The entry of a mount point.
    pub fn find(&self, mountpoint: &Path) -> io::Result<Option<Entry>> {
        let text = match fs::read(self.file(mountpoint)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let entry: Entry = serde_json::from_slice(&text)?;
        Ok((entry.mountpoint == mountpoint).then_some(entry))
    }

    /// All entries that can be read.
    pub fn all(&self) -> Vec<Entry> {
        let files = fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|file| file.path());
        let entries = files.filter(|path| path.extension().is_some_and(|kind| kind == "json"));
        // One that goes at this moment is none.
        entries.filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok()).collect()
    }

    /// Notes that the mount is gone and its daemon still here, unless the entry is another's by now.
    pub fn note_gone(&self, entry: &mut Entry) -> io::Result<()> {
        let gone = Entry { device: None, ..entry.clone() };
        if self.find(&entry.mountpoint)?.as_ref() == Some(entry) {
            self.add(&gone)?;
        }
        *entry = gone;
        Ok(())
    }

    /// Takes an entry away, if it is still this one.
    pub fn remove(&self, entry: &Entry) -> io::Result<()> {
        if self.find(&entry.mountpoint)?.as_ref() != Some(entry) {
            return Ok(());
        }
        fs::remove_file(self.file(&entry.mountpoint))?;
        match fs::remove_file(&entry.socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn file(&self, mountpoint: &Path) -> PathBuf {
        self.dir.join(format!("{}.json", name(mountpoint)))
    }
}

fn name(mountpoint: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    blake3::hash(mountpoint.as_os_str().as_bytes()).to_hex()[..20].to_owned()
}

/// The entry of a mount point, in this user's registry; for root in any.
pub fn find(mountpoint: &Path) -> io::Result<Option<Entry>> {
    let us = rustix::process::geteuid();
    // root looks where the user has it who mounted.
    let by = if us.is_root() { table::at(mountpoint)?.and_then(|m| m.user) } else { Some(us.as_raw()) };
    let users = by.filter(|uid| *uid != 0).map(of_user).unwrap_or_default();
    let own = Registry::own().map(|registry| registry.dir);
    for dir in own.into_iter().chain(users) {
        match Registry::at(dir).find(mountpoint) {
            // Of another environment, which need not be open to us.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Ok(None) => {}
            found => return found,
        }
    }
    Ok(None)
}

/// Where a user's entries are: made after a login, and without one, as by mount(8).
fn of_user(uid: u32) -> Vec<PathBuf> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let home = home_of(uid, &users).map(|home| home.join(".cache/cwdfs/run"));
    [Some(PathBuf::from(format!("/run/user/{uid}/cwdfs"))), home].into_iter().flatten().collect()
}

/// The entry of a live daemon by the mount that it serves, wherever that is by now: root's own, or the one of the
/// user who mounted.
pub fn serving(mounted: &table::Mounted) -> io::Result<Option<Entry>> {
    let users = mounted.user.filter(|uid| *uid != 0 && rustix::process::geteuid().is_root());
    let users = users.map(of_user).unwrap_or_default();
    // A mount of another user has no daemon among our own; numbers of devices are used again.
    let is_own = mounted.user.is_none_or(|uid| uid == rustix::process::geteuid().as_raw());
    let own = is_own.then(Registry::own).transpose()?.map(|registry| registry.dir);
    let entries = own.into_iter().chain(users).flat_map(|dir| Registry::at(dir).all());
    let serving: Vec<Entry> = entries.filter(|entry| entry.is_alive() && entry.is_of(mounted)).collect();
    let mounts = table::all()?;
    let is_there =
        |entry: &Entry| mounts.iter().any(|m| m.mountpoint == entry.mountpoint && m.device == mounted.device);
    Ok(choose(serving, is_there))
}

/// Of the daemons that were given one device number, the one that has it: a daemon that outlives its mount, to store
/// what it owes, had it before. A mount that was moved is at the place of none.
fn choose(serving: Vec<Entry>, is_there: impl Fn(&Entry) -> bool) -> Option<Entry> {
    let (there, elsewhere): (Vec<_>, Vec<_>) = serving.into_iter().partition(is_there);
    there.into_iter().next().or_else(|| elsewhere.into_iter().max_by_key(|entry| entry.started))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_ended_is_not_alive_though_nobody_has_asked_after_it() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        assert!(started(child.id()).is_some());
        child.kill().expect("kill it");
        let pid = rustix::process::Pid::from_child(&child);
        let ended = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), ended).expect("wait, and leave it");
        assert_eq!(started(child.id()), None);
        child.wait().expect("it has ended");
    }

    #[test]
    fn a_home_comes_from_the_list_of_users() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\nbroken\nme:x:1000:1000::/home/me:/bin/sh\nno:x:7:7::-:x\n";
        assert_eq!(home_of(1000, users), Some("/home/me".into()));
        assert_eq!(home_of(0, users), Some("/root".into()));
        assert_eq!(home_of(7, users), None, "no absolute path");
        assert_eq!(home_of(4, users), None);
    }

    fn entry(registry: &Registry, pid: u32) -> Entry {
        let mountpoint = PathBuf::from("/mnt/a b");
        Entry {
            device: Some("0:42".into()),
            pid,
            started: started(pid).unwrap_or(7),
            socket: registry.socket(&mountpoint),
            mountpoint,
            session_key: "key".into(),
            store: "s3://demo/sid42".into(),
            cache: "/c".into(),
        }
    }

    #[test]
    fn an_entry_is_found_replaced_and_taken_away() {
        let dir = tempfile::tempdir().expect("a directory");
        let registry = Registry::at(dir.path().join("run"));
        registry.prepare().expect("a directory of ours");
        assert_eq!(fs::metadata(dir.path().join("run")).expect("it").permissions().mode() & 0o777, 0o700);
        let (first, second) = (entry(&registry, std::process::id()), entry(&registry, 1));
        assert_eq!(registry.find(&first.mountpoint).expect("readable"), None);
        registry.add(&first).expect("written");
        assert_eq!(registry.find(&first.mountpoint).expect("readable"), Some(first.clone()));
        registry.add(&second).expect("written");
        registry.remove(&first).expect("it is another's by now");
        assert_eq!(registry.find(&first.mountpoint).expect("readable"), Some(second.clone()));
        assert_eq!(registry.all().as_slice(), std::slice::from_ref(&second));
        registry.remove(&second).expect("removed");
        assert_eq!(registry.all(), []);
        assert_eq!(registry.find(&first.mountpoint).expect("readable"), None);
    }

    #[test]
    fn a_daemon_that_outlives_its_mount_is_not_taken_for_the_next_one_of_its_number() {
        let registry = Registry::at("/x");
        let made = |pid, started| Entry { started, ..entry(&registry, pid) };
        let both = || vec![made(1, 5), made(2, 9), made(3, 7)];
        assert_eq!(choose(both(), |entry| entry.pid == 3).map(|entry| entry.pid), Some(3));
        assert_eq!(choose(both(), |_| false).map(|entry| entry.pid), Some(2), "the newest");
        assert_eq!(choose(Vec::new(), |_| false), None);
    }

    #[test]
    fn an_entry_whose_mount_is_gone_is_of_no_mount_and_leaves_its_successors_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let registry = Registry::at(dir.path().join("run"));
        registry.prepare().expect("a directory of ours");
        let mut first = entry(&registry, 1);
        registry.add(&first).expect("written");
        registry.note_gone(&mut first).expect("written");
        assert_eq!(first.device, None);
        assert_eq!(registry.find(&first.mountpoint).expect("readable"), Some(first.clone()));
        let second = entry(&registry, 2);
        registry.add(&second).expect("written");
        registry.note_gone(&mut first).expect("another's");
        registry.remove(&first).expect("another's");
        assert_eq!(registry.find(&second.mountpoint).expect("readable"), Some(second));
    }

    #[test]
    fn a_live_process_is_told_from_a_later_one_of_its_number() {
        let registry = Registry::at("/x");
        let alive = entry(&registry, std::process::id());
        assert!(alive.is_alive());
        assert!(!alive.wait_for_end(Duration::from_millis(20)));
        assert!(!Entry { started: alive.started + 1, ..alive.clone() }.is_alive());
        let mut child = std::process::Command::new("sleep").arg("0.1").spawn().expect("a child");
        let child_entry = entry(&registry, child.id());
        assert!(child_entry.wait_for_end(Duration::from_secs(5)));
        child.wait().expect("reaped");
        assert!(!child_entry.is_alive());
    }

    #[test]
    fn a_sockets_path_is_short_for_the_deepest_mount_point() {
        let deep = PathBuf::from(format!("/{}", "x/".repeat(2000)));
        assert!(Registry::at("/run/user/4294967295/cwdfs").socket(&deep).as_os_str().len() < 108);
    }
}
