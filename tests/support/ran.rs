//! Programs that are run to their end, with what they said.

use std::io::{Seek, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How a program ended.
#[derive(Debug)]
pub struct Ran {
    /// The command line, for messages.
    pub line: String,
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// How long it took.
    pub took: Duration,
}

impl Ran {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Ran {
        Ran::with(command.stdin(Stdio::null()))
    }

    /// The same, with this on its standard input.
    pub fn fed(command: &mut Command, input: &str) -> Ran {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(input.as_bytes()).and_then(|()| file.rewind()).expect("the input");
        Ran::with(command.stdin(file))
    }

    fn with(command: &mut Command) -> Ran {
        let line = format!("{command:?}");
        let start = Instant::now();
        let output: Output = command
            .output()
            .unwrap_or_else(|e| panic!("cannot run {line}: {e} (tests/run installs what the tests need)"));
        Ran {
            line,
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: start.elapsed(),
        }
    }

    /// Panics unless the exit code was 0.
    #[track_caller]
    pub fn ok(self) -> Ran {
        self.exits(0)
    }

    /// Panics unless the exit code was this one.
    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "exit code of {self}");
        self
    }

    /// Panics unless each of these words is in what was said to the user; upper and lower case are the same.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Ran {
        let said = format!("{}\n{}", self.out, self.err).to_lowercase();
        for word in words {
            assert!(said.contains(&word.to_lowercase()), "expected {word:?} in the output of {self}");
        }
        self
    }

    /// Panics unless standard error is a few plain lines: no backtrace, no panic, no debug dump.
    #[track_caller]
    pub fn plainly(self) -> Ran {
        let lines = self.err.lines().filter(|l| !l.trim().is_empty()).count();
        assert!((1..=4).contains(&lines), "expected one clear message on standard error of {self}");
        for ugly in ["panicked at", "RUST_BACKTRACE", "SdkError", "DispatchFailure", "ServiceError", "Some("]
        {
            assert!(!self.err.contains(ugly), "{ugly:?} is no word for a user: {self}");
        }
        self
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n-- exit {:?} after {:.1?}\n-- stdout:\n{}\n-- stderr:\n{}",
            self.line, self.code, self.took, self.out, self.err
        )
    }
}

/// The same command, as the last words of another program that runs it.
pub fn run_by(mut runner: Command, command: &Command) -> Command {
    runner.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => runner.env(name, value),
            None => runner.env_remove(name),
        };
    }
    runner
}

/// Runs a shell script in a directory and panics when any command of it fails.
#[track_caller]
pub fn sh(dir: &Path, script: &str) -> String {
    Ran::of(&mut bash(dir, script)).ok().out
}

/// A shell script in a directory, which ends at the first command that fails.
pub fn bash(dir: &Path, script: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).current_dir(dir);
    // A git of the tests' own: no configuration of the machine or the user, fixed names.
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    // And no git that goes on in the background after its command.
    command.env("GIT_CONFIG_COUNT", "2");
    for (n, name, value) in [(0, "gc.auto", "0"), (1, "maintenance.auto", "false")] {
        command.env(format!("GIT_CONFIG_KEY_{n}"), name).env(format!("GIT_CONFIG_VALUE_{n}"), value);
    }
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Test").env(format!("GIT_{role}_EMAIL"), "test@example.com");
    }
    command
}
