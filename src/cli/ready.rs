//! Telling a supervisor how a mount goes: on a descriptor that it left open (`--ready-fd`), and on systemd's
//! socket (`NOTIFY_SOCKET`).
//!
//! Invariants:
//! - "ready" is said once, when the mount answers;
//! - the descriptor gets one line and is closed; without a line it is closed by our end;
//! - a supervisor that does not listen is no reason to unmount.

use super::exit::{Exit, Failure};
use super::options::MountArgs;
use crate::fuse::sys;
use parking_lot::Mutex;
use rustix::io::FdFlags;
use serde::Serialize;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How long systemd may take to read what it is told.
const PATIENCE: Duration = Duration::from_secs(1);
/// While draining, systemd is asked this often for more time.
const EVERY: Duration = Duration::from_secs(10);
/// Each time, for as much.
const MORE: Duration = Duration::from_secs(60);

/// Whoever supervises us; there may be nobody.
#[derive(Debug, Default)]
pub struct Supervisor {
    descriptor: Mutex<Option<File>>,
    socket: Option<OsString>,
}

/// The line on the descriptor.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Ready { ready: bool, store: String, mountpoint: String, pid: u32, already_mounted: bool },
    Failed { ready: bool, exit: u8, retry: bool, error: &'a str },
}

impl Supervisor {
    /// Takes the descriptor over; to be called before anything else is opened.
    pub fn of(args: &MountArgs) -> Result<Supervisor, Failure> {
        let wrong = |n: i32, error: io::Error| Failure::new(Exit::Usage, format!("--ready-fd {n}: {error}"));
        let taken = args.ready_fd.map(|n| sys::inherited(n).map_err(|error| wrong(n, error))).transpose()?;
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        Ok(Supervisor { descriptor: Mutex::new(taken.map(File::from)), socket })
    }

    /// The program that we become next gets the descriptor.
    pub fn hand_on(&self) -> Result<(), Failure> {
        let descriptor = self.descriptor.lock();
        let handed = descriptor.as_ref().map(|file| rustix::io::fcntl_setfd(file, FdFlags::empty()));
        handed.transpose().map(drop).map_err(|error| Failure::new(Exit::CannotStart, error))
    }

    /// The mount answers, served by `pid`; another one than ours where it was there already.
    pub fn ready(&self, args: &MountArgs, pid: u32) {
        let (store, mountpoint) = (args.store.to_string(), args.mountpoint.display().to_string());
        let status = format!("serving {store} at {mountpoint}");
        let already_mounted = pid != std::process::id();
        self.write(&Line::Ready { ready: true, store, mountpoint, pid, already_mounted });
        self.notify(&format!("READY=1\nMAINPID={pid}\nSTATUS={status}"));
    }

    /// There will be no mount, or there is none any more.
    pub fn failed(&self, failure: &Failure) {
        let line = failure.line();
        let retry = failure.exit == Exit::TryAgain;
        self.write(&Line::Failed { ready: false, exit: failure.exit.code(), retry, error: &line });
        self.notify(&format!("STATUS={}", line.replace('\n', " ")));
    }

    /// Says that we are on our way out, and asks for time until `end` has come.
    pub async fn while_stopping<T>(&self, end: impl Future<Output = T>) -> T {
        self.notify("STOPPING=1\nSTATUS=unmounted; storing what is not in the store yet");
        let mut ticks = tokio::time::interval(EVERY);
        tokio::pin!(end);
        loop {
            tokio::select! {
                done = &mut end => return done,
                _ = ticks.tick() => self.notify(&format!("EXTEND_TIMEOUT_USEC={}", MORE.as_micros())),
            }
        }
    }

    /// Writes the line and closes the descriptor; later lines go nowhere.
    fn write(&self, line: &Line<'_>) {
        let Some(mut file) = self.descriptor.lock().take() else { return };
        let text = serde_json::to_string(line).unwrap_or_default() + "\n";
        if let Err(error) = file.write_all(text.as_bytes()) {
            tracing::warn!(%error, "--ready-fd: nobody could be told");
        }
    }

    fn notify(&self, text: &str) {
        let Some(name) = &self.socket else { return };
        if let Err(error) = send(name, text) {
            tracing::warn!(%error, socket = %name.to_string_lossy(), "NOTIFY_SOCKET: nobody could be told");
        }
    }
}

/// Sends a datagram to a socket by its path, or, where it begins with `@`, by its abstract name.
fn send(name: &OsStr, text: &str) -> io::Result<()> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::other("neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut space = [0; 512];
        let length = socket.recv(&mut space).expect("a datagram");
        String::from_utf8_lossy(&space[..length]).into_owned()
    }

    #[test]
    fn both_kinds_of_socket_are_reached_and_others_are_errors() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).expect("a socket");
        send(path.as_os_str(), "A=1").expect("sent");
        assert_eq!(received(&by_path), "A=1");
        let name = format!("cwdfs-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let abstract_one = UnixDatagram::bind_addr(&address).expect("a socket");
        send(format!("@{name}").as_ref(), "B=2").expect("sent");
        assert_eq!(received(&abstract_one), "B=2");
        assert!(send("vsock:2:1234".as_ref(), "x").is_err());
        assert!(send(dir.path().join("nobody").as_os_str(), "x").is_err());
    }

    #[test]
    fn a_failure_says_whether_to_retry_once() {
        let (mut read, write) = io::pipe().expect("a pipe");
        let file = File::from(std::os::fd::OwnedFd::from(write));
        let supervisor = Supervisor { descriptor: Mutex::new(Some(file)), socket: None };
        supervisor.failed(&Failure::new(Exit::TryAgain, "not now"));
        supervisor.failed(&Failure::new(Exit::CannotStart, "never"));
        let mut said = String::new();
        io::Read::read_to_string(&mut read, &mut said).expect("it is closed");
        assert_eq!(said, "{\"ready\":false,\"exit\":6,\"retry\":true,\"error\":\"not now\"}\n");
    }
}
