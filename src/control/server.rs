//! Answering clients.

use super::{Request, Response};
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::task::TaskTracker;

/// A request is far shorter.
const LONGEST: u64 = 64 * 1024;
/// A client that says nothing is hung up on.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer in the making.
pub type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;
/// What the daemon does with a request.
pub type Handler = Arc<dyn Fn(Request) -> Answer + Send + Sync>;

/// Listens on `socket`, in the place of a dead daemon's.
pub fn listen(socket: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers clients until dropped; those that are being answered then are `clients`.
pub async fn run(listener: UnixListener, handler: Handler, clients: TaskTracker) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let handler = Arc::clone(&handler);
                clients.spawn(async move {
                    if let Err(error) = serve(client, handler).await {
                        tracing::debug!(%error, "a client went away");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no client can be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn serve(client: UnixStream, handler: Handler) -> io::Result<()> {
    let peer = client.peer_cred()?.uid();
    let (read, mut write) = client.into_split();
    if peer != 0 && peer != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {peer} is not answered")));
    }
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(LONGEST));
    tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await??;
    let response = match serde_json::from_str(&line) {
        Ok(request) => handler(request).await,
        Err(error) => Response::Failed { exit: 2, message: format!("not a request: {error}") },
    };
    let mut answer = serde_json::to_vec(&response)?;
    answer.push(b'\n');
    write.write_all(&answer).await?;
    write.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::super::client;
    use super::super::registry::{Entry, Registry, started};
    use super::super::{ControlError, Request};
    use super::*;

    fn entry(dir: &Path) -> Entry {
        let registry = Registry::at(dir);
        Entry {
            mountpoint: "/m".into(),
            device: Some("0:1".into()),
            pid: std::process::id(),
            started: started(std::process::id()).expect("we live"),
            socket: registry.socket(Path::new("/m")),
            session_key: "k".into(),
            store: "s".into(),
            cache: "/c".into(),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_request_is_answered_and_nonsense_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let entry = entry(dir.path());
        let listener = listen(&entry.socket).expect("a socket");
        let handler: Handler = Arc::new(|request| {
            Box::pin(async move {
                match request {
                    Request::Refresh => Response::Done { notes: vec!["3 changes".into()] },
                    Request::Flush { .. } => std::future::pending().await,
                    _ => Response::Failed { exit: 4, message: "kept".into() },
                }
            })
        });
        let server = tokio::spawn(run(listener, handler, TaskTracker::new()));
        let ask = |request: Request, limit| {
            let entry = entry.clone();
            tokio::task::spawn_blocking(move || client::ask(&entry, &request, limit))
        };
        let second = Duration::from_secs(1);
        let done = ask(Request::Refresh, second).await.expect("no panic").expect("an answer");
        assert_eq!(done, Response::Done { notes: vec!["3 changes".into()] });
        let failed = ask(Request::Status, second).await.expect("no panic").expect_err("a failure");
        assert!(matches!(failed, ControlError::Failed { exit: 4, .. }));
        let hangs = Request::Flush { timeout_ms: None, view: false };
        let silent = ask(hangs, Duration::from_millis(100)).await.expect("no panic").expect_err("no answer");
        assert!(matches!(silent, ControlError::Silent { .. }), "{silent}");

        let mut raw = UnixStream::connect(&entry.socket).await.expect("connect");
        raw.write_all(b"hello\n").await.expect("write");
        let mut said = String::new();
        raw.read_to_string(&mut said).await.expect("read");
        assert!(said.contains("not a request"), "{said}");
        server.abort();
    }
}
