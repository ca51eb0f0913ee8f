//! The processes that act: this test program runs itself, as several users, once for each side. A request and
//! its answer are frames (length, then bytes) on a socket that is the process's standard input.

use super::apply::Actor;
use super::jail::Jail;
use super::ops::Step;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const WHO: &str = "CWDFS_TEST_TWIN";

/// The users that act: id (of the group too) and further groups. Two processes are root's.
const USERS: [(u32, &[u32]); 4] = [(0, &[0]), (1001, &[1001, 2000]), (0, &[0]), (1002, &[1002, 1001])];

/// Longer than the longest wait for the store.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// Gives everything back, and works below this directory.
    Reset(PathBuf),
    Step(Step),
}

/// A process of one side.
pub struct Worker {
    child: Child,
    socket: UnixStream,
}

impl Worker {
    /// Starts process `n` of the reference's side, or of the mount's.
    pub fn start(n: u8, reference: bool) -> Worker {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        ours.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let itself = std::env::current_exe().expect("this program has a path");
        let child = Command::new(itself)
            .args(["--exact", "twin::worker::act", "--ignored", "--nocapture", "--test-threads=1"])
            .env(WHO, format!("{n} {reference}"))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .expect("start a worker");
        Worker { child, socket: ours }
    }

    /// Gives everything back, and works below `base` from now on.
    pub fn reset(&mut self, base: &Path) {
        self.ask(&Request::Reset(base.to_owned()));
        assert_eq!(self.answer(), "ready");
    }

    /// Begins a step, whose answer is to be waited for.
    pub fn begin(&mut self, step: &Step) {
        self.ask(&Request::Step(step.clone()));
    }

    /// The answer to what was begun.
    pub fn answer(&mut self) -> String {
        let frame = receive(&mut self.socket);
        let frame = frame.unwrap_or_else(|e| panic!("no answer from worker {}: {e}", self.child.id()));
        String::from_utf8(frame).expect("an answer in words")
    }

    fn ask(&mut self, request: &Request) {
        let frame = postcard::to_stdvec(request).expect("a request has a form");
        send(&mut self.socket, &frame).unwrap_or_else(|e| panic!("worker {} is gone: {e}", self.child.id()));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may wait for a mount that hangs; that it has ended is all that is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What each of the processes does, until its socket ends.
#[test]
#[ignore = "run by the twin's tests, as processes of their own"]
fn act() {
    let who = std::env::var(WHO).expect("the twin's tests start it");
    let (n, reference) = who.split_once(' ').expect("which one, and of which side");
    let (uid, groups) = USERS[n.parse::<usize>().expect("a number")];
    let jail = Jail::new(uid, groups).expect("a jail");
    let socket = io::stdin().as_fd().try_clone_to_owned().expect("the socket");
    let mut socket = UnixStream::from(socket);
    let mut actor = Actor::new(reference == "true", jail);
    while let Ok(frame) = receive(&mut socket) {
        let told = match postcard::from_bytes(&frame).expect("a request") {
            Request::Reset(base) => {
                actor.reset(&base);
                "ready".to_owned()
            }
            Request::Step(step) => actor.step(&step),
        };
        send(&mut socket, told.as_bytes()).expect("answer");
    }
}

fn send(socket: &mut UnixStream, frame: &[u8]) -> io::Result<()> {
    // A frame is a few hundred bytes.
    socket.write_all(&(frame.len() as u32).to_le_bytes())?;
    socket.write_all(frame)
}

fn receive(socket: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    socket.read_exact(&mut len)?;
    let mut frame = vec![0; u32::from_le_bytes(len) as usize];
    socket.read_exact(&mut frame)?;
    Ok(frame)
}
