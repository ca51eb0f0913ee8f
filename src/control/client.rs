//! Asking a daemon.

use super::registry::{self, Entry};
use super::{ControlError, Request, Response};
use crate::fuse::table;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The mount point as the mount table writes it: absolute, without symlinks; the mount itself is not touched.
pub fn mountpoint(given: &Path) -> Result<PathBuf, ControlError> {
    let local = |error| ControlError::Local { what: given.display().to_string(), error };
    let full = std::path::absolute(given).map_err(local)?;
    let full: PathBuf = full.components().collect();
    if table::at(&full).map_err(local)?.is_some() {
        return Ok(full);
    }
    match (full.parent(), full.file_name()) {
        (Some(parent), Some(name)) => match parent.canonicalize() {
            Ok(parent) if table::at(&parent.join(name)).map_err(local)?.is_some() => Ok(parent.join(name)),
            // A symlink to a mount point; nothing is mounted at its own name.
            _ => Ok(full.canonicalize().unwrap_or(full)),
        },
        _ => Ok(full),
    }
}

/// The daemon of a mount point. Of a mount that a directory above has moved, or that is bound to a second place, too:
/// `mountpoint` in the answer is where the mount itself is now.
pub fn daemon(mountpoint: &Path) -> Result<Entry, ControlError> {
    let local = |error| ControlError::Local { what: "the list of mounts".into(), error };
    let owned = || mountpoint.to_owned();
    let mounted = table::at(mountpoint).map_err(local)?.filter(table::Mounted::is_ours);
    let known = registry::find(mountpoint).map_err(local)?;
    let is_alive = known.as_ref().is_some_and(Entry::is_alive);
    if let (false, Some(mounted)) = (is_alive, &mounted)
        && !known.as_ref().is_some_and(|entry| entry.is_of(mounted))
        && let Some(entry) = registry::serving(mounted).map_err(local)?
    {
        let stays = table::at(&entry.mountpoint).map_err(local)?.is_some_and(|m| m.device == mounted.device);
        return Ok(if stays { entry } else { Entry { mountpoint: owned(), ..entry } });
    }
    match (known, mounted) {
        (Some(entry), _) if is_alive => Ok(entry),
        (_, None) => Err(ControlError::NotMounted { mountpoint: owned() }),
        (Some(_), Some(_)) => Err(ControlError::Dead { mountpoint: owned() }),
        (None, Some(mounted)) if rustix::process::geteuid().is_root() => match mounted.user {
            Some(uid) if uid != 0 => Err(ControlError::Elsewhere { mountpoint: owned(), uid }),
            _ => Err(ControlError::Dead { mountpoint: owned() }),
        },
        (None, Some(_)) => Err(ControlError::NotYours { mountpoint: owned() }),
    }
}

/// Asks a daemon and waits for its answer, at most `limit`.
pub fn ask(entry: &Entry, request: &Request, limit: Duration) -> Result<Response, ControlError> {
    let mountpoint = || entry.mountpoint.clone();
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            ControlError::Silent { mountpoint: mountpoint(), seconds: limit.as_secs() }
        }
        io::ErrorKind::PermissionDenied => ControlError::NotYours { mountpoint: mountpoint() },
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            ControlError::Dead { mountpoint: mountpoint() }
        }
        _ => ControlError::Local { what: entry.socket.display().to_string(), error },
    };
    let start = Instant::now();
    let mut socket = connect(&entry.socket, limit).map_err(failed)?;
    let rest = Some(limit.saturating_sub(start.elapsed()).max(Duration::from_millis(1)));
    socket.set_read_timeout(rest).and_then(|()| socket.set_write_timeout(rest)).map_err(failed)?;
    let mut line = serde_json::to_vec(request)
        .map_err(|error| ControlError::Protocol { mountpoint: mountpoint(), what: error.to_string() })?;
    line.push(b'\n');
    socket.write_all(&line).map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(socket).read_line(&mut answer).map_err(failed)?;
    let nonsense = |what: String| ControlError::Protocol { mountpoint: mountpoint(), what };
    if answer.is_empty() {
        return Err(nonsense("it ended without an answer".into()));
    }
    match serde_json::from_str(&answer).map_err(|error| nonsense(error.to_string()))? {
        Response::Failed { exit, message } => Err(ControlError::Failed { exit, message }),
        answer => Ok(answer),
    }
}

/// Connects within `limit`: a daemon that is stopped accepts nobody, and its queue may be full.
fn connect(socket: &Path, limit: Duration) -> io::Result<UnixStream> {
    let ours = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let (place, start) = (SocketAddrUnix::new(socket)?, Instant::now());
    loop {
        let rest = limit.saturating_sub(start.elapsed()).max(Duration::from_millis(1));
        net::sockopt::set_socket_timeout(&ours, net::sockopt::Timeout::Send, Some(rest))?;
        match net::connect(&ours, &place) {
            // A signal, such as that of a window's new size; with a limit set the kernel does not go on by itself.
            Err(rustix::io::Errno::INTR) => {}
            done => return Ok(done.map(|()| UnixStream::from(ours))?),
        }
    }
}

/// Asks the daemon of a mount point for something that is done or not, and returns its notes.
pub fn done(given: &Path, request: &Request, limit: Duration) -> Result<Vec<String>, ControlError> {
    let entry = daemon(&mountpoint(given)?)?;
    match ask(&entry, request, limit)? {
        Response::Done { notes } => Ok(notes),
        other => Err(ControlError::Protocol { mountpoint: entry.mountpoint, what: format!("{other:?}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that accepts nobody, and whose queue is full.
    fn full(path: &Path) -> (impl Sized, Vec<UnixStream>) {
        let listener = net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
        net::bind(&listener, &SocketAddrUnix::new(path).expect("short")).expect("bound");
        net::listen(&listener, 0).expect("it listens");
        let mut waiting = Vec::new();
        while let Ok(stream) = connect(path, Duration::from_millis(50)) {
            waiting.push(stream);
            assert!(waiting.len() < 100, "its queue is never full");
        }
        (listener, waiting)
    }

    #[test]
    fn a_daemon_that_accepts_nobody_is_not_waited_for_longer_than_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("full");
        let _full = full(&path);
        let error = connect(&path, Duration::from_millis(200)).expect_err("nobody accepts");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
    }

    #[test]
    fn a_signal_ends_no_wait_for_a_daemon() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("full");
        let _full = full(&path);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _guard = runtime.enter();
        let resized = tokio::signal::unix::SignalKind::window_change();
        let _handled = tokio::signal::unix::signal(resized).expect("a handler");
        let (this, limit) = (nix::sys::pthread::pthread_self(), Duration::from_millis(500));
        let (start, done) = (Instant::now(), std::sync::atomic::AtomicBool::new(false));
        let error = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    nix::sys::pthread::pthread_kill(this, nix::sys::signal::Signal::SIGWINCH).expect("sent");
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
            let error = connect(&path, limit).expect_err("nobody accepts");
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            error
        });
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        assert!(start.elapsed() >= limit, "it gave up after {:?}", start.elapsed());
    }
}
