//! Where metrics are served: a TCP address, or a Unix socket.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest path of a Unix socket, in bytes; two digits less than the kernel's bound, for the name it is made under.
const LONGEST: usize = 100;

const ADVICE: &str = "write 127.0.0.1:9464, [::1]:9464 or unix:/run/cwdfs.metrics";

/// Where metrics are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An address of this machine, and a port.
    Tcp(SocketAddr),
    /// A socket at this path.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    /// `IP:PORT`, `localhost:PORT` or `unix:PATH`. A port alone is refused: it would be open to everybody.
    fn from_str(text: &str) -> Result<Address, String> {
        let refused = |why: &str| Err(format!("{text}: {why}; {ADVICE}"));
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => refused("no path"),
                long if long.len() > LONGEST => refused("too long for a socket's path"),
                path => Ok(Address::Unix(path.into())),
            };
        }
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        match numeric.parse() {
            Ok(address) => Ok(Address::Tcp(address)),
            Err(_) => refused("no address and port"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address that is ours.
pub enum Bound {
    /// Of TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket, which goes with it.
    Unix(UnixListener, SocketFile),
}

impl Address {
    /// Takes the address. A socket that nobody listens at any more is replaced.
    pub fn bind(&self) -> io::Result<Bound> {
        match self {
            Address::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Bound::Tcp(listener))
            }
            Address::Unix(path) => {
                let (listener, file) = bind_unix(path)?;
                listener.set_nonblocking(true)?;
                Ok(Bound::Unix(listener, file))
            }
        }
    }
}

impl Bound {
    /// For people: `http://127.0.0.1:9464/metrics`, `unix:/run/cwdfs.metrics`.
    pub fn url(&self) -> io::Result<String> {
        match self {
            Bound::Tcp(listener) => Ok(format!("http://{}/metrics", listener.local_addr()?)),
            Bound::Unix(_, file) => Ok(format!("unix:{}", file.path.display())),
        }
    }
}

/// A socket's file; dropped, it is removed, unless another one has its place.
pub struct SocketFile {
    path: PathBuf,
    ino: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.ino)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, path = %self.path.display(), "the metrics' socket stays");
        }
    }
}

/// A socket for its user alone: it has its mode before it has its name.
fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    is_free(path)?;
    let mut made = path.as_os_str().to_owned();
    made.push(format!(".{}", std::process::id() % 10_000));
    let made = PathBuf::from(made);
    let listener = UnixListener::bind(&made)?;
    let placed = fs::set_permissions(&made, Permissions::from_mode(0o600))
        .and_then(|()| fs::symlink_metadata(&made))
        .and_then(|file| fs::rename(&made, path).map(|()| file.ino()));
    match placed {
        Ok(ino) => Ok((listener, SocketFile { path: path.to_owned(), ino })),
        Err(error) => {
            // What is left over is in nobody's way.
            let _ = fs::remove_file(&made);
            Err(error)
        }
    }
}

fn is_free(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is there already, and no socket"))
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens there")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_what_would_be_open_to_all_is_not_guessed() {
        for (text, shown) in [
            ("127.0.0.1:9464", "127.0.0.1:9464"),
            ("[::1]:0", "[::1]:0"),
            ("localhost:80", "127.0.0.1:80"),
            ("0.0.0.0:9464", "0.0.0.0:9464"),
            ("unix:/run/x", "unix:/run/x"),
        ] {
            assert_eq!(text.parse::<Address>().map(|a| a.to_string()).as_deref(), Ok(shown));
        }
        let long = format!("unix:/{}", "x".repeat(LONGEST));
        for wrong in
            ["", "9464", ":9464", "127.0.0.1", "127.0.0.1:port", "host:80", "127.0.0.1:70000", "unix:", &long]
        {
            let error = wrong.parse::<Address>().expect_err(wrong);
            assert!(error.contains("write 127.0.0.1:9464") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_socket_is_its_users_alone_replaces_a_dead_one_and_goes_with_its_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("m");
        let address = Address::Unix(path.clone());
        drop(UnixListener::bind(&path).expect("a socket that is dead at once"));
        let bound = address.bind().expect("the dead one is replaced");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(address.bind().err().map(|e| e.kind()), Some(io::ErrorKind::AddrInUse));
        drop(bound);
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 0);
        fs::write(&path, "precious").expect("a file");
        assert_eq!(address.bind().err().map(|e| e.kind()), Some(io::ErrorKind::AlreadyExists));
        assert_eq!(fs::read(&path).expect("it is there"), b"precious");
    }

    #[test]
    fn a_port_that_is_taken_is_an_error() {
        let taken = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))).bind().expect("a port");
        let Bound::Tcp(listener) = &taken else { panic!("it is one of TCP") };
        let same = Address::Tcp(listener.local_addr().expect("it has one"));
        assert_eq!(same.bind().err().map(|e| e.kind()), Some(io::ErrorKind::AddrInUse));
    }
}
