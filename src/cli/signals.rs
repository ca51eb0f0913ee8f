//! What ends a mount from outside: SIGTERM, SIGINT, and, while it starts, the end of the command that waits
//! for it.

use super::exit::{Exit, Failure};
use rustix::event::{PollFd, PollFlags};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// The signals that ask for the end.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// geesefs frees memory at SIGUSR1; here it has no meaning, and must not end the daemon.
    _without_meaning: Signal,
}

impl Signals {
    /// From now on these signals are ours to answer.
    pub fn listen() -> Result<Signals, Failure> {
        let failed = |error: std::io::Error| Failure::new(Exit::CannotStart, format!("signals: {error}"));
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            _without_meaning: signal(SignalKind::user_defined1()).map_err(failed)?,
        })
    }

    /// Returns when one comes, and its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Returns when nobody reads our standard output any more; never, where that cannot be told.
pub async fn reader_gone() {
    let (tell, told) = oneshot::channel::<()>();
    let watch = move || {
        let stdout = std::io::stdout();
        // Without events asked for, only the pipe's other end going away wakes it.
        let mut pipe = [PollFd::new(&stdout, PollFlags::empty())];
        while let Err(rustix::io::Errno::INTR) = rustix::event::poll(&mut pipe, None) {}
        // Nobody listens once the mount answers.
        let _ = tell.send(());
    };
    let watched = std::thread::Builder::new().name("cwdfs-caller".into()).spawn(watch);
    if watched.is_err() || told.await.is_err() {
        std::future::pending::<()>().await;
    }
}
