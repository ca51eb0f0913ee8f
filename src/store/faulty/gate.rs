//! Holding requests back until a test lets them go or loses them.

use std::sync::Arc;
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open,
    Lost,
}

/// Where held requests wait.
#[derive(Debug)]
pub(super) struct Gate {
    state: watch::Sender<State>,
    waiting: watch::Sender<usize>,
}

impl Gate {
    pub fn new() -> Arc<Gate> {
        let (state, waiting) = (watch::Sender::new(State::Closed), watch::Sender::new(0));
        Arc::new(Gate { state, waiting })
    }

    /// Waits until the gate is decided; whether the request goes on.
    pub async fn pass(&self) -> bool {
        let mut state = self.state.subscribe();
        self.waiting.send_modify(|count| *count += 1);
        // The sender is in this gate, which we borrow: it cannot be closed.
        let decided = state.wait_for(|state| *state != State::Closed).await.map(|state| *state);
        self.waiting.send_modify(|count| *count -= 1);
        matches!(decided, Ok(State::Open))
    }

    pub fn is_closed(&self) -> bool {
        *self.state.borrow() == State::Closed
    }
}

/// Requests that are held back; they go on when this is dropped.
#[derive(Debug)]
pub struct Held {
    pub(super) gate: Arc<Gate>,
}

impl Held {
    /// How many requests wait here now.
    pub fn waiting(&self) -> usize {
        *self.gate.waiting.borrow()
    }

    /// Waits until `count` requests are held back at once.
    pub async fn reached(&self, count: usize) {
        let mut waiting = self.gate.waiting.subscribe();
        // The sender is in the gate, which we hold: it cannot be closed.
        let _ = waiting.wait_for(|waiting| *waiting >= count).await;
    }

    /// Lets all go on; later requests are not held.
    pub fn release(self) {}

    /// Loses all: those held before their effect never have it, and all answer [`crate::store::Kind::Unavailable`].
    pub fn lose(self) {
        self.gate.state.send_replace(State::Lost);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gate.state.send_modify(|state| {
            if *state == State::Closed {
                *state = State::Open;
            }
        });
    }
}
