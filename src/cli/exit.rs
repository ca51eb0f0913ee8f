//! Exit codes: the one place where an error becomes one.

use crate::control::ControlError;
use crate::fuse::sys::MountError;
use crate::log::LogError;
use crate::log::source::{LocalError, LocalKind};
use crate::session::SessionError;
use crate::store::{Kind, StoreError};
use crate::view::ViewError;
use std::fmt;
use std::process::ExitCode;

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The command line makes no sense.
    Usage = 2,
    /// The serving loop died.
    LoopDied = 3,
    /// Unmounted, or a flush timed out, but not everything is in the store.
    NotStored = 4,
    /// Cannot start, and trying again will not help.
    CannotStart = 5,
    /// Cannot start now.
    TryAgain = 6,
    /// Another writer holds the session, or we were fenced.
    Held = 7,
    /// A check found something wrong.
    CheckFailed = 8,
}

impl Exit {
    /// All of them.
    pub const ALL: [Exit; 8] = [
        Exit::Done,
        Exit::Usage,
        Exit::LoopDied,
        Exit::NotStored,
        Exit::CannotStart,
        Exit::TryAgain,
        Exit::Held,
        Exit::CheckFailed,
    ];

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The one with this number.
    pub fn of_code(code: u8) -> Option<Exit> {
        Exit::ALL.into_iter().find(|exit| exit.code() == code)
    }

    /// What it means, for `--help`.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Usage => "usage",
            Exit::LoopDied => "the serving loop died",
            Exit::NotStored => {
                "unmounted, or a flush timed out, but not everything is in the store: it is kept locally"
            }
            Exit::CannotStart => {
                "cannot start, and trying again will not help: no such bucket, access denied, bad mount point, newer format"
            }
            Exit::TryAgain => "cannot now, try again: store unreachable, throttled, mount in use",
            Exit::Held => "another writer holds the session, or we were fenced",
            Exit::CheckFailed => "a check found something wrong",
        }
    }
}

impl Exit {
    /// The same in the bits that mount(8) and umount(8) expect of a helper.
    pub fn for_mount8(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Usage => mount8::USAGE,
            Exit::LoopDied => mount8::FAILED | mount8::BUG,
            Exit::NotStored => mount8::PARTLY,
            Exit::TryAgain => mount8::FAILED | mount8::SYSTEM,
            Exit::CannotStart | Exit::Held | Exit::CheckFailed => mount8::FAILED,
        }
    }
}

/// What mount(8) calls its exit codes: bits. 8 (interrupted) and 16 (mtab) do not come from us.
mod mount8 {
    /// Incorrect invocation or permissions.
    pub const USAGE: u8 = 1;
    /// System error.
    pub const SYSTEM: u8 = 2;
    /// Internal bug.
    pub const BUG: u8 = 4;
    /// Mount failure.
    pub const FAILED: u8 = 32;
    /// Some of it succeeded.
    pub const PARTLY: u8 = 64;
}

/// The table of the helpers' `--help`.
pub fn table_for_mount8() -> String {
    let rows = Exit::ALL.map(|exit| format!("  {:>2}  {}\n", exit.for_mount8(), exit.meaning()));
    format!("Exit codes, as bits of mount(8):\n{}", rows.concat())
}

/// How `batch` ends where it does not end with its command's status. Where something was run and then failed, it is 110
/// and the code that other commands would end with; of several mounts, the highest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum BatchExit {
    /// Whether everything is in the store cannot be told.
    Unsure = 110 + Exit::LoopDied as u8,
    /// Not everything is in the store.
    NotStored = 110 + Exit::NotStored as u8,
    /// The session is another's by now.
    Lost = 110 + Exit::Held as u8,
    /// The command was not run.
    NotRun = 125,
    /// It cannot be run.
    NoProgram = 126,
    /// It is not there.
    NotFound = 127,
}

impl BatchExit {
    /// All of them.
    pub const ALL: [BatchExit; 6] = [
        BatchExit::Unsure,
        BatchExit::NotStored,
        BatchExit::Lost,
        BatchExit::NotRun,
        BatchExit::NoProgram,
        BatchExit::NotFound,
    ];

    /// What it means, for `--help`.
    pub fn meaning(self) -> &'static str {
        match self {
            BatchExit::Unsure => "whether everything is in the store cannot be told: the daemon is gone",
            BatchExit::NotStored => "not everything is in the store: it is kept locally, and tried again",
            BatchExit::Lost => "another writer has taken the session, or it was deleted",
            BatchExit::NotRun => "CMD was not run: usage, no mount, or no batch is possible there",
            BatchExit::NoProgram => "CMD cannot be run",
            BatchExit::NotFound => "CMD is not there",
        }
    }

    /// The table of its `--help`.
    pub fn table() -> String {
        let rows = BatchExit::ALL.map(|exit| format!("  {:>3}  {}\n", exit as u8, exit.meaning()));
        let own = "    *  CMD's own; 128 and the signal where one ended it. Everything is in the store\n";
        format!("Exit codes:\n{own}{}", rows.concat())
    }
}

impl From<BatchExit> for ExitCode {
    fn from(exit: BatchExit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// The table of `--help`.
pub fn table() -> String {
    let rows = Exit::ALL.map(|exit| format!("  {}  {}\n", exit.code(), exit.meaning()));
    format!("Exit codes:\n{}", rows.concat())
}

/// What stands below a command's `--help`.
pub fn below_help(examples: &[&str]) -> String {
    let lines: String = examples.iter().map(|line| format!("  {line}\n")).collect();
    format!("Examples:\n{lines}\n{}", table())
}

/// Why a command failed, and with which exit code.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// For people.
    pub message: Message,
}

/// What is said to people.
#[derive(Debug)]
pub enum Message {
    /// A line of ours.
    Line(String),
    /// As the parser words it.
    Clap(Box<clap::Error>),
}

impl Failure {
    /// A failure with a line for people.
    pub fn new(exit: Exit, line: impl fmt::Display) -> Failure {
        Failure { exit, message: Message::Line(line.to_string()) }
    }

    /// The same failure, with what was being done in front.
    pub fn context(mut self, what: impl fmt::Display) -> Failure {
        if let Message::Line(line) = &mut self.message {
            *line = format!("{what}: {line}");
        }
        self
    }

    /// The same failure, with what else failed behind it.
    pub fn and(mut self, what: &str) -> Failure {
        if let Message::Line(line) = &mut self.message {
            *line = format!("{line}; {what}");
        }
        self
    }

    /// The same failure of something that was to be stored: unless the session is no longer ours, it is kept,
    /// and that is what matters.
    pub fn not_stored(mut self) -> Failure {
        if self.exit != Exit::Held {
            self.exit = Exit::NotStored;
        }
        self
    }

    /// The line, without a line end.
    pub fn line(&self) -> String {
        match &self.message {
            Message::Line(line) => line.clone(),
            Message::Clap(error) => error.to_string().trim_end().to_owned(),
        }
    }

    /// Says it on standard error (help and version on standard output).
    pub fn print(&self) {
        match &self.message {
            Message::Line(line) => eprintln!("cwdfs: {line}"),
            Message::Clap(error) => {
                // A closed standard output is no reason to fail louder.
                let _ = error.print();
            }
        }
    }
}

/// The exit code of a store that failed.
fn of_store(kind: Kind) -> Exit {
    match kind {
        Kind::AccessDenied
        | Kind::Expired
        | Kind::NoSuchBucket
        | Kind::NotFound
        | Kind::NoSpace
        | Kind::ReadOnly
        | Kind::InvalidRange
        | Kind::Unsupported
        | Kind::Invalid => Exit::CannotStart,
        Kind::Precondition
        | Kind::Conflict
        | Kind::Throttled
        | Kind::Unavailable
        | Kind::Timeout
        | Kind::Corrupt => Exit::TryAgain,
    }
}

fn of_log(error: &LogError) -> Exit {
    match error {
        LogError::Store(store) => of_store(store.kind),
        LogError::Local(_)
        | LogError::Damaged { .. }
        | LogError::NewerFormat { .. }
        | LogError::Ending { .. }
        | LogError::Gap { .. } => Exit::CannotStart,
        LogError::Held { .. }
        | LogError::Parked { .. }
        | LogError::Fenced { .. }
        | LogError::Deleted { .. } => Exit::Held,
        LogError::Timeout { .. } => Exit::NotStored,
    }
}

fn of_local(kind: LocalKind) -> Exit {
    match kind {
        // Another mount of this session, on this machine.
        LocalKind::Busy => Exit::Held,
        LocalKind::Full
        | LocalKind::Descriptors
        | LocalKind::Damaged
        | LocalKind::Newer
        | LocalKind::Failed => Exit::CannotStart,
    }
}

fn of_session(error: &SessionError) -> Exit {
    match error {
        SessionError::Log(log) => of_log(log),
        SessionError::Store(store) => of_store(store.kind),
        SessionError::Errno(errno) if *errno == libc::ESTALE => Exit::Held,
        SessionError::Local(local) => of_local(local.kind),
        SessionError::Errno(_) | SessionError::Corrupt { .. } => Exit::CannotStart,
        SessionError::CacheFull(_) | SessionError::NoBatch(_) => Exit::CannotStart,
    }
}

/// The exit code of a check (`inspect`): damage is what it looks for.
pub fn of_check(error: &LogError) -> Exit {
    match error {
        LogError::Damaged { .. } | LogError::Gap { .. } => Exit::CheckFailed,
        other => of_log(other),
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::new(of_store(error.kind), error)
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Failure {
        Failure::new(of_log(&error), error)
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Failure {
        Failure::new(of_session(&error), error)
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Failure {
        Failure::new(of_local(error.kind), error)
    }
}

impl From<ViewError> for Failure {
    fn from(error: ViewError) -> Failure {
        let exit = match &error {
            ViewError::Store(store) => of_store(store.kind),
            ViewError::Local(local) => of_local(local.kind),
            ViewError::Log(log) => of_log(log),
            ViewError::Session(session) => of_session(session),
            ViewError::Row(_)
            | ViewError::Unpublishable { .. }
            | ViewError::TooLarge { .. }
            | ViewError::Lost { .. }
            | ViewError::InTheWay { .. }
            | ViewError::Corrupt { .. } => Exit::CannotStart,
            ViewError::NotYet { .. }
            | ViewError::BadListing { .. }
            | ViewError::Incomplete { .. }
            | ViewError::Stopped(_) => Exit::TryAgain,
        };
        Failure::new(exit, error)
    }
}

impl From<MountError> for Failure {
    fn from(error: MountError) -> Failure {
        let exit = match &error {
            MountError::Device(_)
            | MountError::Privilege(_)
            | MountError::Helper(_)
            | MountError::Kernel { .. } => Exit::CannotStart,
        };
        Failure::new(exit, error)
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Failure {
        let exit = match &error {
            ControlError::NotMounted { .. }
            | ControlError::Dead { .. }
            | ControlError::NotYours { .. }
            | ControlError::Elsewhere { .. }
            | ControlError::Protocol { .. }
            | ControlError::Local { .. } => Exit::CannotStart,
            ControlError::Silent { .. } => Exit::TryAgain,
            ControlError::Failed { exit, .. } => Exit::of_code(*exit).unwrap_or(Exit::CannotStart),
        };
        Failure::new(exit, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::ids::{Epoch, Slot};

    fn store(kind: Kind) -> StoreError {
        StoreError::new(kind, "get", "k", "said so")
    }

    #[test]
    fn every_kind_of_store_failure_has_its_code() {
        use Kind::*;
        for kind in [
            AccessDenied,
            Expired,
            NoSuchBucket,
            NotFound,
            NoSpace,
            ReadOnly,
            InvalidRange,
            Unsupported,
            Invalid,
        ] {
            assert_eq!(Failure::from(store(kind)).exit, Exit::CannotStart, "{kind:?}");
        }
        for kind in [Precondition, Conflict, Throttled, Unavailable, Timeout, Corrupt] {
            assert_eq!(Failure::from(store(kind)).exit, Exit::TryAgain, "{kind:?}");
        }
    }

    #[test]
    fn every_failure_of_the_log_has_its_code() {
        let key = || "log/x".to_owned();
        let epoch = Epoch { counter: 1, nonce: 2 };
        let cases = [
            (LogError::Store(store(Kind::Timeout)), Exit::TryAgain, Exit::TryAgain),
            (LogError::Local(LocalError::failed("disk")), Exit::CannotStart, Exit::CannotStart),
            (LogError::Damaged { key: key(), what: "x".into() }, Exit::CannotStart, Exit::CheckFailed),
            (LogError::NewerFormat { key: key(), found: 9, known: 1 }, Exit::CannotStart, Exit::CannotStart),
            (LogError::Ending { command: "rm" }, Exit::CannotStart, Exit::CannotStart),
            (LogError::Held { holder: "h".into(), renew_s: 5 }, Exit::Held, Exit::Held),
            (LogError::Parked { holder: "h".into() }, Exit::Held, Exit::Held),
            (LogError::Fenced { by: "b".into() }, Exit::Held, Exit::Held),
            (LogError::Deleted { key: key() }, Exit::Held, Exit::Held),
            (LogError::Timeout { seconds: 1, last: "l".into() }, Exit::NotStored, Exit::NotStored),
            (LogError::Gap { epoch, slot: Slot(1) }, Exit::CannotStart, Exit::CheckFailed),
        ];
        for (error, starting, checking) in cases {
            assert_eq!(of_check(&error), checking, "{error}");
            assert_eq!(Failure::from(SessionError::Log(error.clone())).exit, starting, "{error}");
            assert_eq!(Failure::from(error.clone()).exit, starting, "{error}");
        }
    }

    #[test]
    fn every_other_failure_has_its_code() {
        assert_eq!(Failure::from(SessionError::Errno(libc::ESTALE)).exit, Exit::Held);
        assert_eq!(Failure::from(SessionError::Errno(libc::EIO)).exit, Exit::CannotStart);
        assert_eq!(Failure::from(SessionError::CacheFull("x".into())).exit, Exit::CannotStart);
        let corrupt = SessionError::Corrupt { object: "o".into(), offset: 1 };
        assert_eq!(Failure::from(corrupt).exit, Exit::CannotStart);
        assert_eq!(Failure::from(LocalError::failed("x")).exit, Exit::CannotStart);
        assert_eq!(Failure::from(LocalError::new(LocalKind::Busy, "x")).exit, Exit::Held);
        assert_eq!(Failure::from(MountError::Helper("x".into())).exit, Exit::CannotStart);
        let view = [
            (ViewError::Store(store(Kind::AccessDenied)), Exit::CannotStart),
            (ViewError::Store(store(Kind::Throttled)), Exit::TryAgain),
            (ViewError::Incomplete { failed: 1, why: "x".into() }, Exit::TryAgain),
            (ViewError::Session(SessionError::Errno(libc::ESTALE)), Exit::Held),
            (ViewError::Local(LocalError::failed("x")), Exit::CannotStart),
        ];
        for (error, exit) in view {
            assert_eq!(Failure::from(error.clone()).exit, exit, "{error}");
        }
        assert_eq!(Failure::from(store(Kind::AccessDenied)).not_stored().exit, Exit::NotStored);
        let fenced = LogError::Fenced { by: "b".into() };
        assert_eq!(Failure::from(fenced).not_stored().exit, Exit::Held);
        let mountpoint = || "/m".into();
        assert_eq!(
            Failure::from(ControlError::NotMounted { mountpoint: mountpoint() }).exit,
            Exit::CannotStart
        );
        assert_eq!(
            Failure::from(ControlError::Silent { mountpoint: mountpoint(), seconds: 1 }).exit,
            Exit::TryAgain
        );
        let failed = ControlError::Failed { exit: 4, message: "m".into() };
        assert_eq!(Failure::from(failed).exit, Exit::NotStored);
    }

    #[test]
    fn codes_come_back_and_are_in_the_table() {
        for exit in Exit::ALL {
            assert_eq!(Exit::of_code(exit.code()), Some(exit));
            assert!(table().contains(&format!("  {}  {}", exit.code(), exit.meaning())));
        }
        assert_eq!(Exit::of_code(1), None);
    }

    #[test]
    fn a_helper_fails_with_the_bits_of_mount_8() {
        let bits = Exit::ALL.map(Exit::for_mount8);
        assert_eq!(bits, [0, 1, 36, 64, 32, 34, 32, 32]);
        assert!(table_for_mount8().contains("34  cannot now, try again"), "{}", table_for_mount8());
    }
}
