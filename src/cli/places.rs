//! Directories: the mount point, the cache, a session's own folder in it.

use super::exit::{Exit, Failure};
use super::options::MountArgs;
use crate::control::registry;
use crate::fuse::table::{self, Mounted};
use crate::metrics::Address;
use crate::store::Location;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a mount may take to say whether it is dead; one that says nothing is not.
const PATIENCE: Duration = Duration::from_secs(3);

/// Paths of the arguments made absolute, before the working directory is left.
pub fn absolute(args: &mut MountArgs) -> Result<(), Failure> {
    let full = |path: &Path| {
        std::path::absolute(path)
            .map_err(|error| Failure::new(Exit::CannotStart, format!("{}: {error}", path.display())))
    };
    args.mountpoint = full(&args.mountpoint)?;
    for path in [&mut args.cache_dir, &mut args.log_file].into_iter().flatten() {
        *path = full(path)?;
    }
    if let Some(Address::Unix(path)) = &mut args.metrics {
        *path = full(path)?;
    }
    Ok(())
}

/// Fails where something that the daemon works with lies below the mount point: it would wait for itself.
pub fn are_apart(args: &MountArgs) -> Result<(), Failure> {
    let store = match &args.store {
        Location::Dir { path } => Some(path.clone()),
        Location::S3 { .. } => None,
    };
    let metrics = match &args.metrics {
        Some(Address::Unix(path)) => Some(path.clone()),
        Some(Address::Tcp(_)) | None => None,
    };
    let places = [
        ("cache directory", Some(cache_dir(args)?), "choose another with --cache-dir"),
        ("log file", args.log_file.clone(), "choose another with --log-file"),
        ("metrics socket", metrics, "choose another with --metrics"),
        ("store", store, "mount it elsewhere"),
    ];
    for (what, path, advice) in places {
        if let Some(path) = path.filter(|path| resolved(path).starts_with(&args.mountpoint)) {
            let (path, at) = (path.display(), args.mountpoint.display());
            let why = format!("{what} {path}: lies in the mount point {at}, which would hide it; {advice}");
            return Err(Failure::new(Exit::CannotStart, why));
        }
    }
    Ok(())
}

/// A path without symlinks, as far as there is something at it.
fn resolved(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(full), _, _) => full,
        (Err(_), Some(parent), Some(name)) => resolved(parent).join(name),
        (Err(_), _, _) => path.to_owned(),
    }
}

/// The session's own folder in the cache, made if need be, for its user alone. A follower has one of its own
/// for each mount point: in the writer's it would be kept out, or take the place of changes to be replayed.
pub fn cache_folder(args: &MountArgs, key: &str) -> Result<PathBuf, Failure> {
    let folder = match args.read_only {
        false => cache_dir(args)?.join(key),
        true => {
            let place = blake3::hash(args.mountpoint.as_os_str().as_encoded_bytes()).to_hex();
            cache_dir(args)?.join(format!("{key}-follower-{}", &place[..16]))
        }
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.and_then(|()| keep_others_out(&folder)).map_err(|error| {
        let what = format!("cache directory {}: {error}; choose another with --cache-dir", folder.display());
        Failure::new(Exit::CannotStart, what)
    })?;
    Ok(folder)
}

/// Makes a folder its user's alone. Where the cache lies in a place that others can write, one of them may have put
/// something there first: neither a symlink nor a folder of somebody else is taken.
fn keep_others_out(folder: &Path) -> io::Result<()> {
    let opened =
        rustix::fs::open(folder, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let opened = opened.map_err(|error| match error {
        Errno::NOTDIR | Errno::LOOP => io::Error::other("it is no directory, or a symlink"),
        error => error.into(),
    })?;
    let owner = rustix::fs::fstat(&opened)?.st_uid;
    if owner != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(format!("it belongs to user {owner}")));
    }
    Ok(rustix::fs::fchmod(&opened, Mode::RWXU)?)
}

fn cache_dir(args: &MountArgs) -> Result<PathBuf, Failure> {
    if let Some(dir) = &args.cache_dir {
        return Ok(dir.clone());
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/cache/cwdfs"));
    }
    registry::user_cache()
        .ok_or_else(|| Failure::new(Exit::CannotStart, "no $HOME: say where with --cache-dir"))
}

/// What stands in the way at a mount point, or does not.
#[derive(Debug)]
pub enum Ground {
    /// An empty directory; or one with files that the mount will hide.
    Free { hides: bool },
    /// Somebody's mount.
    Taken(Mounted),
}

/// Looks at a mount point; a dead mount of ours is cleared away first.
pub fn ground(mountpoint: &Path) -> Result<Ground, Failure> {
    let wrong = |error: io::Error| {
        let why = if error.raw_os_error() == Some(libc::ENOENT) {
            "no such directory".to_owned()
        } else {
            error.to_string()
        };
        Failure::new(Exit::CannotStart, format!("mount point {}: {why}", mountpoint.display()))
    };
    while let Some(mounted) = table::at(mountpoint).map_err(wrong)? {
        // On another file system's mount point (a volume, a bind mount) a session may be mounted.
        if !mounted.kind.starts_with("fuse") {
            break;
        }
        if is_served(&mounted) || !is_dead(mountpoint) {
            return Ok(Ground::Taken(mounted));
        }
        eprintln!("cwdfs: clearing away a dead mount at {}", mountpoint.display());
        crate::fuse::sys::unmount(mountpoint, &mounted.device, crate::fuse::sys::Unmount::Detach)
            .map_err(wrong)?;
    }
    if !fs::metadata(mountpoint).map_err(wrong)?.is_dir() {
        return Err(wrong(io::Error::from_raw_os_error(libc::ENOTDIR)));
    }
    let hides = fs::read_dir(mountpoint).map_err(wrong)?.next().is_some();
    Ok(Ground::Free { hides })
}

/// Whether a daemon of ours serves it: told by the list of mounts alone, since one that hangs answers nothing.
fn is_served(mounted: &Mounted) -> bool {
    let known = registry::find(&mounted.mountpoint).ok().flatten();
    known.is_some_and(|entry| entry.is_alive() && entry.is_of(mounted))
}

/// Whether nobody serves the mount any more ("transport endpoint is not connected").
pub fn is_dead(mountpoint: &Path) -> bool {
    let path = mountpoint.to_owned();
    let asked = within(PATIENCE, move || rustix::fs::statfs(&path));
    matches!(asked, Some(Err(rustix::io::Errno::NOTCONN)))
}

/// A call that may hang with the mount it touches, on a thread that is left behind if it does.
fn within<T: Send + 'static>(limit: Duration, call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(call()));
    told.recv_timeout(limit).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_mount_point_has_to_be_a_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(matches!(ground(dir.path()), Ok(Ground::Free { hides: false })));
        let file = dir.path().join("file");
        fs::write(&file, "x").expect("write");
        assert!(matches!(ground(dir.path()), Ok(Ground::Free { hides: true })));
        let error = ground(&file).expect_err("a file");
        assert!(error.exit == Exit::CannotStart && error.line().to_lowercase().contains("not a directory"));
        let error = ground(&dir.path().join("missing")).expect_err("nothing");
        assert!(error.line().contains("no such"), "{}", error.line());
        assert!(
            matches!(ground(Path::new("/proc")), Ok(Ground::Free { hides: true })),
            "a mount, but not of FUSE"
        );
    }

    #[test]
    fn a_cache_folder_is_for_its_user_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let key = "sid42-0";
        let folder = dir.path().join("deep").join(key);
        fs::create_dir_all(&folder).expect("mkdir");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("chmod");
        let cli = <crate::cli::Cli as clap::Parser>::try_parse_from([
            "cwdfs".as_ref(),
            "mount".as_ref(),
            "--cache-dir".as_ref(),
            dir.path().join("deep").as_os_str(),
            "demo:sid42".as_ref(),
            "/mnt".as_ref(),
        ]);
        let Ok(crate::cli::Command::Mount(args)) = cli.map(|cli| cli.command) else { panic!("it parses") };
        assert_eq!(cache_folder(&args, key).expect("a folder"), folder);
        assert_eq!(fs::metadata(&folder).expect("it is there").permissions().mode() & 0o777, 0o700);
        // What somebody else may have put there.
        let (elsewhere, refused) =
            (dir.path().join("elsewhere"), || cache_folder(&args, key).expect_err("refused"));
        fs::rename(&folder, &elsewhere).expect("rename");
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o755)).expect("chmod");
        std::os::unix::fs::symlink(&elsewhere, &folder).expect("a symlink");
        assert!(refused().line().contains("symlink"), "{}", refused().line());
        assert_eq!(
            fs::metadata(&elsewhere).expect("it").permissions().mode() & 0o777,
            0o755,
            "it was not touched"
        );
        fs::remove_file(&folder).expect("rm");
        fs::write(&folder, "x").expect("a file");
        refused();
        if rustix::process::geteuid().is_root() {
            fs::remove_file(&folder).expect("rm");
            fs::create_dir(&folder).expect("mkdir");
            std::os::unix::fs::chown(&folder, Some(4242), None).expect("chown");
            assert!(refused().line().contains("belongs to user 4242"), "{}", refused().line());
        }
    }
}
