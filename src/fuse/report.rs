//! Failed operations in the daemon's log: named, and not more than a few a second.

use crate::log::ids::Ino;
use crate::session::{Session, SessionError};
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// At most this many lines in each [`SPAN`].
const MOST: u32 = 10;
const SPAN: Duration = Duration::from_secs(1);

/// An operation, for messages.
#[derive(Debug, Clone, Copy)]
pub struct Op {
    /// Its name.
    pub name: &'static str,
    /// The inode it is about; of a name, its directory.
    pub ino: Ino,
    /// The task that asks; 0 when it cannot be seen.
    pub pid: u32,
}

/// Writes failures to the log.
#[derive(Default)]
pub struct Report {
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    since: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Window {
    /// Whether one more line may be written now, and how many were left out before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= SPAN) {
            self.since = Some(now);
            self.written = 0;
        }
        if self.written >= MOST {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Report {
    /// A plain refusal (no such file) is an answer and not an event; anything else is.
    pub fn failed(&self, session: &Session, op: Op, error: &SessionError) {
        if matches!(error, SessionError::Errno(_)) {
            return;
        }
        let Some(left_out) = self.window.lock().admit(Instant::now()) else { return };
        let path = match session.path_of(op.ino) {
            Ok(Some(path)) => String::from_utf8_lossy(&path).into_owned(),
            Ok(None) | Err(_) => String::new(),
        };
        let Op { name, ino, pid } = op;
        tracing::error!(operation = name, ino = ino.0, path, pid, left_out, %error, "operation failed");
    }

    /// A failure of the protocol's own.
    pub fn trouble(&self, op: Op, error: &std::io::Error) {
        if let Some(left_out) = self.window.lock().admit(Instant::now()) {
            tracing::error!(operation = op.name, ino = op.ino.0, left_out, %error, "the kernel refused");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut window = Window::default();
        let start = Instant::now();
        let written = (0..100).filter(|_| window.admit(start).is_some()).count();
        assert_eq!(written, MOST as usize);
        assert_eq!(window.admit(start + SPAN), Some(100 - u64::from(MOST)));
        assert_eq!(window.admit(start + SPAN), Some(0));
    }
}
