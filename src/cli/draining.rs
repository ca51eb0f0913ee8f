//! Telling how far a daemon is with what it owes: to the log of the daemon, and on the terminal of whoever waits.

use super::running::Shared;
use super::values::human_size;
use crate::control::registry::Entry;
use crate::control::{Request, Response, client};
use crate::measure::Progress;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc;
use std::time::Duration;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);
/// What ends sooner is not shown on a terminal.
const SOON: Duration = Duration::from_secs(2);

/// What is left of some work, beside the most that it was.
struct Left {
    progress: Progress,
    steps: u64,
    bytes: u64,
}

impl Left {
    fn new(work: &'static str) -> Left {
        Left { progress: Progress::new(work), steps: 0, bytes: 0 }
    }

    /// So much is left; what comes in meanwhile is more of it.
    fn is(&mut self, steps: u64, bytes: u64) {
        (self.steps, self.bytes) = (self.steps.max(steps), self.bytes.max(bytes));
        if self.steps > 0 {
            self.progress.at(self.steps - steps, self.steps, self.bytes - bytes);
        }
    }
}

/// Does `work`, and tells the log every few seconds how much is stored and published.
pub(super) async fn told<T>(shared: &Shared, work: impl Future<Output = T>) -> T {
    let (mut stored, mut published) = (Left::new("store"), Left::new("publish"));
    let mut ticks = tokio::time::interval(EVERY);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => {
                let unstored = shared.session.unstored();
                stored.is(unstored.files, unstored.bytes);
                if let Some(view) = shared.view.status() {
                    published.is(view.pending_objects, view.pending_bytes);
                }
            }
        }
    }
}

/// Does `work`, which waits for the daemon `entry`, and shows on a terminal what the daemon still has to do.
pub(super) fn shown<T>(entry: &Entry, work: impl FnOnce() -> T) -> T {
    if !io::stderr().is_terminal() {
        return work();
    }
    std::thread::scope(|threads| {
        let (done, waiting) = mpsc::channel::<()>();
        threads.spawn(move || show(entry, &waiting));
        let result = work();
        drop(done);
        result
    })
}

fn show(entry: &Entry, waiting: &mpsc::Receiver<()>) {
    let (mut pause, mut shows) = (SOON, false);
    while waiting.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
        pause = EVERY;
        // A daemon that says nothing has nothing to be shown.
        if let Ok(Response::Status(status)) = client::ask(entry, &Request::Status, EVERY) {
            let (files, bytes) = (status.uncommitted.files, human_size(status.uncommitted.bytes));
            let objects = status.view.map_or(0, |view| view.unpublished.files);
            line(&format!("cwdfs: to be stored: {files} files, {bytes}; to be published: {objects} objects"));
            shows = true;
        }
    }
    if shows {
        line("");
    }
}

/// Puts a line in the place of the last one; a terminal that is gone needs none.
pub(super) fn line(text: &str) {
    let _ = write!(io::stderr(), "\r\u{1b}[K{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_meanwhile_is_part_of_the_whole() {
        let mut left = Left::new("store");
        for (steps, bytes) in [(10, 100), (4, 40), (12, 20), (0, 0)] {
            left.is(steps, bytes);
        }
        assert_eq!((left.steps, left.bytes), (12, 100));
    }
}
