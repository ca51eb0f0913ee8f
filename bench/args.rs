//! What the command line asks for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How it is called.
pub const USAGE: &str = "bench/run [--quick] [--only WORK]… [--system NAME]… [--rtt MS] [--peer NAME=PROGRAM]… \
[--rounds N] [--files N] [--cap SECONDS] [--halt] [--continue]";

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Fewer rounds, smaller sizes, fewer peers: minutes.
    pub quick: bool,
    /// Only these works; all if empty.
    pub only: Vec<String>,
    /// Only these systems; all if empty.
    pub systems: Vec<String>,
    /// How long the relay holds each request.
    pub rtt: Duration,
    /// Programs of peers, by name.
    pub peers: BTreeMap<String, PathBuf>,
    /// How often each work runs on each system, where the work does not say otherwise.
    pub rounds: Option<usize>,
    /// One more size for the works on many files.
    pub files: Option<usize>,
    /// How long a work may take on a peer, each time.
    pub cap: Duration,
    /// Idle processors halt, as they do when nothing is measured.
    pub halt: bool,
    /// Only what the last run of the same command has left, or has measured while the machine was slow.
    pub resume: bool,
}

impl Asked {
    /// Reads the arguments; the error says what is wrong with them.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Asked, String> {
        let mut asked = Asked {
            quick: false,
            only: Vec::new(),
            systems: Vec::new(),
            rtt: Duration::from_millis(20),
            peers: BTreeMap::new(),
            rounds: None,
            files: None,
            cap: Duration::from_secs(600),
            halt: false,
            resume: false,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                // cargo bench adds it.
                "--bench" => {}
                "--quick" => asked.quick = true,
                "--halt" => asked.halt = true,
                "--continue" => asked.resume = true,
                "--only" => asked.only.push(value()?),
                "--system" => asked.systems.push(value()?),
                "--rtt" => asked.rtt = Duration::from_millis(number(&value()?)?),
                "--rounds" => asked.rounds = Some(number(&value()?)? as usize),
                "--cap" => asked.cap = Duration::from_secs(number(&value()?)?),
                "--files" => asked.files = Some(number(&value()?)? as usize),
                "--peer" => {
                    let value = value()?;
                    let (name, path) = value.split_once('=').ok_or(format!("{value}: not NAME=PROGRAM"))?;
                    asked.peers.insert(name.to_owned(), path.into());
                }
                other => return Err(format!("unknown argument {other}")),
            }
        }
        Ok(asked)
    }

    /// What was asked for, as a command: two runs are of the same if it is the same. Programs of peers have no path in
    /// it, as that is this machine's.
    pub fn command(&self) -> String {
        let mut words = vec!["bench/run".to_owned()];
        let flags = [("--quick", self.quick), ("--halt", self.halt)];
        words.extend(flags.iter().filter(|(_, set)| *set).map(|(flag, _)| (*flag).to_owned()));
        words.extend(self.only.iter().map(|work| format!("--only {work}")));
        words.extend(self.systems.iter().map(|system| format!("--system {system}")));
        words.extend(self.peers.keys().map(|peer| format!("--peer {peer}=…")));
        words.extend(self.rounds.map(|n| format!("--rounds {n}")));
        words.extend(self.files.map(|n| format!("--files {n}")));
        words.push(format!("--rtt {} --cap {}", self.rtt.as_millis(), self.cap.as_secs()));
        words.join(" ")
    }

    /// One of two sizes: that of a quick run, or the full one.
    pub fn size<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// Whether a name is asked for: everything is if nothing is; one that is a name of `all` means that one, any other
/// means those that contain it.
pub fn wants(asked: &[String], name: &str, all: &[String]) -> bool {
    let means = |one: &String| if all.contains(one) { one == name } else { name.contains(one.as_str()) };
    asked.is_empty() || asked.iter().any(means)
}

fn number(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{text} is no number above 0")),
    }
}
