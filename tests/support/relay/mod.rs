//! A relay between a client and an S3 store, which can make the network and the store bad.
//!
//! It forwards every byte of a request unchanged, the `Host` header too, so signatures made for the relay's
//! own address hold at a store that checks them against the header it receives.
//!
//! Invariants:
//! - a request is forwarded only after its whole body has come and its delay has passed: until then it has
//!   had no effect;
//! - a request that was dropped ([`Relay::drop_held`], or a client that went away) never reaches the store;
//! - every request is counted once, with what became of it.

// Each program uses a part of this.
#![allow(dead_code)]

mod connection;
mod guard;
pub mod http;
mod pace;
mod request;

pub use guard::Issued;
pub use request::{Kind, Request};

use pace::Pace;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What happens to a request that a rule picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The store never sees it; the client gets this status with a matching S3 error body.
    Status(u16),
    /// The same with this status and error code.
    Code(u16, &'static str),
    /// It takes effect, and the connection ends instead of an answer.
    LoseAnswer,
    /// The store never sees it; the connection ends.
    Cut,
    /// It takes effect; the answer ends in the middle of its body, and with it the connection.
    Truncate,
    /// It takes effect this much later than it would have.
    Delay(Duration),
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is on its way: being held, or with the store.
    UnderWay,
    /// The store's answer, with this status, went back to the client.
    Answered(u16),
    /// It never reached the store.
    Dropped,
    /// It reached the store; the client got no answer, or not all of it.
    AnswerLost,
    /// The relay answered this status itself; the store never saw it.
    Refused(u16),
}

/// One request that came by.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What it asked.
    pub request: Request,
    /// What became of it.
    pub fate: Fate,
    /// Bytes of the request's body.
    pub up: u64,
    /// Bytes of the answer's body.
    pub down: u64,
}

impl Seen {
    /// Whether it was to store a segment, or content that one refers to.
    pub fn carries_changes(&self) -> bool {
        let key = &self.request.key;
        self.request.kind.changes_the_store()
            && (key.contains("/.cwdfs/log/") || key.contains("/.cwdfs/data/"))
    }

    /// Whether its client has no answer.
    pub fn is_unanswered(&self) -> bool {
        matches!(self.fate, Fate::UnderWay | Fate::Dropped | Fate::AnswerLost)
    }
}

type Pick = Box<dyn Fn(&Request) -> bool + Send>;

struct Rule {
    pick: Pick,
    skip: usize,
    times: usize,
    act: Act,
}

/// What is asked of requests, and who sends them on.
struct Guard {
    issued: Vec<Issued>,
    /// The key that the store knows, and its secret.
    real: (&'static str, &'static str),
}

#[derive(Default)]
struct State {
    delay: Duration,
    hole: bool,
    cut: bool,
    deliver_orphans: bool,
    drops: u64,
    resets: u64,
    held: usize,
    rules: Vec<Rule>,
    guard: Option<Guard>,
    seen: Vec<Seen>,
}

struct Shared {
    upstream: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
    clients: Mutex<HashMap<u64, TcpStream>>,
    next_client: AtomicU64,
    stopping: AtomicBool,
    up: Pace,
    down: Pace,
}

/// A running relay; dropping it ends every connection.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts a relay on a free port of 127.0.0.1 in front of `upstream`.
    pub fn start(upstream: SocketAddr) -> io::Result<Relay> {
        Relay::start_at(Ipv4Addr::LOCALHOST, upstream)
    }

    /// Starts a relay on a free port of this address in front of `upstream`.
    pub fn start_at(address: Ipv4Addr, upstream: SocketAddr) -> io::Result<Relay> {
        let listener = TcpListener::bind((address, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            state: Mutex::default(),
            changed: Condvar::new(),
            clients: Mutex::default(),
            next_client: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            up: Pace::unlimited(),
            down: Pace::unlimited(),
        });
        let theirs = shared.clone();
        let acceptor = std::thread::Builder::new()
            .name("relay-accept".into())
            .spawn(move || accept(&listener, &theirs))?;
        Ok(Relay { address, shared, acceptor: Some(acceptor) })
    }

    /// Where clients connect: `http://ADDRESS:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Holds each request this long, from now on, before the store gets it.
    pub fn set_delay(&self, delay: Duration) {
        self.change(|state| state.delay = delay);
    }

    /// Limits what passes, to the store and back, in bytes per second.
    pub fn set_rate(&self, bytes_per_second: Option<u64>) {
        self.shared.up.set(bytes_per_second);
        self.shared.down.set(bytes_per_second);
    }

    /// Whether a held request still reaches the store after its client has gone away. Off at first.
    pub fn set_deliver_orphans(&self, deliver: bool) {
        self.change(|state| state.deliver_orphans = deliver);
    }

    /// Ends every connection and refuses new ones until [`Relay::heal`]. What was held is dropped.
    pub fn cut(&self) {
        self.change(|state| {
            state.cut = true;
            state.drops += 1;
        });
        self.shared.end_clients();
    }

    /// Takes requests and answers nothing until [`Relay::heal`]; those still waiting then go on.
    pub fn black_hole(&self) {
        self.change(|state| state.hole = true);
    }

    /// Undoes [`Relay::cut`] and [`Relay::black_hole`]; rules, delay and rate stay.
    pub fn heal(&self) {
        self.change(|state| {
            state.cut = false;
            state.hole = false;
        });
    }

    /// Applies `act` to the `nth` (from 1) request from now on that `pick` accepts, and to `times - 1`
    /// such requests after it.
    pub fn rule(&self, nth: usize, times: usize, act: Act, pick: impl Fn(&Request) -> bool + Send + 'static) {
        assert!(nth >= 1, "requests are counted from 1");
        self.change(|state| state.rules.push(Rule { pick: Box::new(pick), skip: nth - 1, times, act }));
    }

    /// From now on requests are checked: only what is signed with one of these keys, and has its token, goes on, and
    /// the store gets it signed with `real`.
    pub fn guard(&self, issued: &[Issued], real: (&'static str, &'static str)) {
        self.change(|state| state.guard = Some(Guard { issued: issued.to_vec(), real }));
    }

    /// Undoes [`Relay::guard`].
    pub fn open(&self) {
        self.change(|state| state.guard = None);
    }

    /// Forgets all rules.
    pub fn clear_rules(&self) {
        self.change(|state| state.rules.clear());
    }

    /// Ends the connections of all requests that are being held: they never reach the store. Returns how
    /// many those were.
    pub fn drop_held(&self) -> usize {
        let mut state = self.shared.lock();
        state.drops += 1;
        let held = state.held;
        self.shared.changed.notify_all();
        held
    }

    /// How many requests are being held.
    pub fn held(&self) -> usize {
        self.shared.lock().held
    }

    /// Waits until at least `count` requests are being held; false when `limit` passed first.
    pub fn wait_until_held(&self, count: usize, limit: Duration) -> bool {
        self.wait(limit, |state| state.held >= count)
    }

    /// Waits until a request that `pick` accepts has come by since the counts were reset; false when `limit` passed first.
    pub fn wait_until_seen(&self, limit: Duration, pick: impl Fn(&Request) -> bool) -> bool {
        self.wait(limit, |state| state.seen.iter().any(|s| pick(&s.request)))
    }

    /// Every request since the start or the last [`Relay::reset`], in the order their heads came.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    /// How many requests of each kind there were.
    pub fn counts(&self) -> BTreeMap<Kind, usize> {
        let mut counts = BTreeMap::new();
        for seen in &self.shared.lock().seen {
            *counts.entry(seen.request.kind).or_default() += 1;
        }
        counts
    }

    /// Bytes of request bodies and of answer bodies so far.
    pub fn bytes(&self) -> (u64, u64) {
        let state = self.shared.lock();
        (state.seen.iter().map(|s| s.up).sum(), state.seen.iter().map(|s| s.down).sum())
    }

    /// Forgets what was seen. Requests under way are not counted any further.
    pub fn reset(&self) {
        self.change(|state| {
            state.seen.clear();
            state.resets += 1;
        });
    }

    fn change(&self, with: impl FnOnce(&mut State)) {
        with(&mut self.shared.lock());
        self.shared.changed.notify_all();
    }

    fn wait(&self, limit: Duration, done: impl Fn(&State) -> bool) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.shared.lock();
        while !done(&state) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.drop_held();
        self.shared.end_clients();
        // Wakes the acceptor so that it sees the flag; if that fails it has already ended.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The head as it goes on to the store; or status and code of the refusal.
    fn admit(&self, head: &http::Head) -> Result<Vec<u8>, (u16, &'static str)> {
        match &self.lock().guard {
            Some(guard) => guard::admit(head, &guard.issued, guard.real),
            None => Ok(head.raw.clone()),
        }
    }

    fn end_clients(&self) {
        for client in self.clients.lock().unwrap_or_else(PoisonError::into_inner).values() {
            // A client that is already gone is what we want.
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    /// Counts a request and returns its place in the list and the act of the first rule that picks it.
    fn arrived(&self, request: &Request) -> (Ticket, Option<Act>) {
        let mut state = self.lock();
        let fate = Fate::UnderWay;
        state.seen.push(Seen { request: request.clone(), fate, up: 0, down: 0 });
        let ticket = Ticket { index: state.seen.len() - 1, drops: state.drops, resets: state.resets };
        let mut act = None;
        for rule in &mut state.rules {
            if act.is_some() || rule.times == 0 || !(rule.pick)(request) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.times -= 1;
            act = Some(rule.act);
        }
        self.changed.notify_all();
        (ticket, act)
    }

    fn note(&self, ticket: &Ticket, with: impl FnOnce(&mut Seen)) {
        let mut state = self.lock();
        // After a reset the place may be another request's.
        if state.resets == ticket.resets
            && let Some(seen) = state.seen.get_mut(ticket.index)
        {
            with(seen);
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// A request's place among those seen, and how many drops and resets there had been when it came.
struct Ticket {
    index: usize,
    drops: u64,
    resets: u64,
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        if shared.lock().cut {
            continue;
        }
        let id = shared.next_client.fetch_add(1, Ordering::SeqCst);
        let Ok(copy) = client.try_clone() else { continue };
        shared.clients.lock().unwrap_or_else(PoisonError::into_inner).insert(id, copy);
        let theirs = shared.clone();
        let served = std::thread::Builder::new().name(format!("relay-{id}")).spawn(move || {
            // An error here is a connection that ended; the fates of its requests are noted already.
            let _ = connection::serve(&theirs, &client);
            let _ = client.shutdown(Shutdown::Both);
            theirs.clients.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
        if served.is_err() {
            shared.clients.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        }
    }
}
