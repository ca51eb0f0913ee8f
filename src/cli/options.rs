//! The options of `mount`: command line, environment, `-o`.

use super::reach::ReachArgs;
use super::values::{self, After};
use crate::metrics;
use crate::session::Durability;
use crate::store::Location;
use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

const DURABILITY: &str = "Durability";
const WRITER: &str = "One writer";
const VIEW: &str = "Plain objects";
const MOUNT: &str = "Mount";
const LOG: &str = "Log and metrics";

/// Tells the globs in one variable apart.
const ENV_SEPARATOR: char = ':';

/// What waits for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Every change waits
    Sync,
    /// close of a changed file, fsync and O_SYNC writes wait
    Close,
    /// Only fsync and O_SYNC writes wait
    Fsync,
}

impl From<Level> for Durability {
    fn from(level: Level) -> Durability {
        match level {
            Level::Sync => Durability::Sync,
            Level::Close => Durability::Close,
            Level::Fsync => Durability::Fsync,
        }
    }
}

/// How a second writer is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fencing {
    /// By the store's conditional writes
    Lease,
    /// Not at all: for stores without them; you see to it that there is one writer
    None,
}

/// Whether the kernel may read and write local files past the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PassthroughMode {
    /// Where kernel and privileges allow it
    Auto,
    /// Or the mount fails
    On,
    /// Never
    Off,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// The least that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Mount a session
///
/// Returns when the mount answers, leaving a daemon. Each option is an environment variable too:
/// --commit-interval 5s is CWDFS_COMMIT_INTERVAL=5s; the command line wins. Credentials come as for any AWS
/// SDK: environment, profile files, web identity, container endpoint, IMDS.
#[derive(Debug, Clone, Args)]
#[command(after_help = super::exit::below_help(&["cwdfs mount demo:sid42 /mnt/sid42", "cwdfs mount --endpoint http://127.0.0.1:8333 --region us-east-1 demo:sid42 /mnt/sid42", "cwdfs mount --read-only demo:sid42 /mnt/look", "cwdfs mount -f --durability fsync --lazy \"node_modules/\" demo:sid42 /mnt/sid42", "cwdfs mount -o endpoint=http://127.0.0.1:8333,allow_other demo:sid42 /mnt/sid42"]))]
pub struct MountArgs {
    /// `bucket:prefix`, `s3://bucket/prefix` or `file:///directory`; a missing one is a new, empty session
    #[arg(value_name = "STORE")]
    pub store: Location,

    /// An existing directory
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,

    /// Stay in the foreground; the log goes to standard error
    #[arg(short, long, env = "CWDFS_FOREGROUND", help_heading = MOUNT, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
        value_parser = BoolishValueParser::new(), hide_possible_values = true, hide_default_value = true)]
    pub foreground: bool,

    /// Where what is not yet in the store, and what was read, is kept [default: $XDG_CACHE_HOME/cwdfs, or
    /// /var/cache/cwdfs for root]
    #[arg(long, env = "CWDFS_CACHE_DIR", value_name = "DIR", help_heading = MOUNT)]
    pub cache_dir: Option<PathBuf>,

    /// Bound of the local content; what is not in the store yet is never dropped
    #[arg(long, env = "CWDFS_CACHE_SIZE", value_name = "SIZE", default_value = "10G",
        value_parser = values::cache_size, help_heading = MOUNT)]
    pub cache_size: u64,

    /// Bound of what the session holds, counted as du(1) does; beyond it writes fail with EDQUOT. df shows it
    #[arg(long, env = "CWDFS_QUOTA", value_name = "SIZE", value_parser = values::quota, help_heading = MOUNT)]
    pub quota: Option<u64>,

    /// What returns only once the store has it
    #[arg(long, env = "CWDFS_DURABILITY", value_name = "LEVEL", default_value = "close", help_heading = DURABILITY)]
    pub durability: Level,

    /// Paths that behave as with `fsync` (gitignore syntax; may be given again; in the variable, separated
    /// by colons) [env: CWDFS_LAZY=]
    #[arg(long, value_name = "GLOB", help_heading = DURABILITY)]
    pub lazy: Vec<String>,

    /// Everything changed, also in files still open, is in the store within this; 0: each change starts a commit
    #[arg(long, env = "CWDFS_COMMIT_INTERVAL", value_name = "TIME", default_value = "1s",
        value_parser = values::duration, help_heading = DURABILITY)]
    pub commit_interval: Duration,

    #[command(flatten)]
    pub reach: ReachArgs,

    /// Do not wait for a holder: it is fenced at once
    #[arg(long, env = "CWDFS_TAKEOVER", help_heading = WRITER, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
        value_parser = BoolishValueParser::new(), hide_possible_values = true, hide_default_value = true)]
    pub takeover: bool,

    /// Leave a session alone that another writer has parked: it is quiet, but may be live. For restarts that
    /// nobody watches
    #[arg(long, env = "CWDFS_LEAVE_PARKED", help_heading = WRITER, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
        value_parser = BoolishValueParser::new(), hide_possible_values = true, hide_default_value = true,
        conflicts_with = "takeover")]
    pub leave_parked: bool,

    /// After which we may be succeeded when we vanish
    #[arg(long, env = "CWDFS_LEASE_TTL", value_name = "TIME", default_value = "15s",
        value_parser = values::positive_duration, help_heading = WRITER)]
    pub lease_ttl: Duration,

    /// After this long without change the next mount succeeds at once; `never`
    #[arg(long, env = "CWDFS_PARK_AFTER", value_name = "TIME", default_value = "30s",
        value_parser = values::after, help_heading = WRITER)]
    pub park_after: After,

    /// Follow the writer; needs no lease and no right to write
    #[arg(long, env = "CWDFS_READ_ONLY", help_heading = WRITER, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
        value_parser = BoolishValueParser::new(), hide_possible_values = true, hide_default_value = true)]
    pub read_only: bool,

    /// The session has to be there already: a mistyped name is an error, and not a new session
    #[arg(long, env = "CWDFS_REQUIRE_SESSION", help_heading = WRITER, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
        value_parser = BoolishValueParser::new(), hide_possible_values = true, hide_default_value = true)]
    pub require_session: bool,

    /// Nothing may be there: neither a session nor plain objects
    #[arg(long, env = "CWDFS_REQUIRE_EMPTY", help_heading = WRITER, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
        value_parser = BoolishValueParser::new(), hide_possible_values = true, hide_default_value = true)]
    pub require_empty: bool,

    /// How a second writer is kept out
    #[arg(long, env = "CWDFS_FENCING", value_name = "HOW", default_value = "lease", help_heading = WRITER)]
    pub fencing: Fencing,

    /// Paths that get no plain object (gitignore syntax; may be given again; in the variable, separated by
    /// colons) [env: CWDFS_PUBLISH_EXCLUDE=]
    #[arg(long, value_name = "GLOB", help_heading = VIEW)]
    pub publish_exclude: Vec<String>,

    /// No plain objects at all; what is closed is in the log all the same
    #[arg(long, env = "CWDFS_NO_PUBLISH", help_heading = VIEW, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
        value_parser = BoolishValueParser::new(), hide_possible_values = true, hide_default_value = true)]
    pub no_publish: bool,

    /// A file is published this long after its last change
    #[arg(long, env = "CWDFS_PUBLISH_DELAY", value_name = "TIME", default_value = "1s",
        value_parser = values::duration, help_heading = VIEW)]
    pub publish_delay: Duration,

    /// How long an unmount publishes; the next mount goes on with the rest
    #[arg(long, env = "CWDFS_DRAIN_TIMEOUT", value_name = "TIME", default_value = "30s",
        value_parser = values::duration, help_heading = VIEW)]
    pub drain_timeout: Duration,

    /// Other users may enter the mount (permissions hold)
    #[arg(long, env = "CWDFS_ALLOW_OTHER", help_heading = MOUNT, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
        value_parser = BoolishValueParser::new(), hide_possible_values = true, hide_default_value = true)]
    pub allow_other: bool,

    /// Mode of files whose plain object, made by another client, does not tell one (in octal)
    #[arg(long, env = "CWDFS_FILE_MODE", value_name = "MODE", default_value = "0644",
        value_parser = values::mode, help_heading = VIEW)]
    pub file_mode: u32,

    /// Mode of directories whose plain object does not tell one, and of the root of a new session (in octal)
    #[arg(long, env = "CWDFS_DIR_MODE", value_name = "MODE", default_value = "0755",
        value_parser = values::mode, help_heading = VIEW)]
    pub dir_mode: u32,

    /// Setting the extended attribute NAME on anything in the mount does what `cwdfs refresh` does; geesefs's
    /// name is `.invalidate`
    #[arg(long, env = "CWDFS_REFRESH_ATTR", value_name = "NAME", help_heading = VIEW)]
    pub refresh_attr: Option<String>,

    /// Plain objects get a Content-Type by their file's extension
    #[arg(long, env = "CWDFS_CONTENT_TYPE", help_heading = VIEW, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
        value_parser = BoolishValueParser::new(), hide_possible_values = true, hide_default_value = true)]
    pub content_type: bool,

    /// Show everything as this user's, whoever is stored. What is stored stays, for mounts without it; what is
    /// made gets the stored owner of its directory (a new session is this user's); a chown to this user
    /// changes nothing, to another is stored
    #[arg(long, env = "CWDFS_UID", value_name = "ID", value_parser = values::id, help_heading = MOUNT)]
    pub uid: Option<u32>,

    /// The same for the group
    #[arg(long, env = "CWDFS_GID", value_name = "ID", value_parser = values::id, help_heading = MOUNT)]
    pub gid: Option<u32>,

    /// Options as mount(8) passes them, separated by commas: those above (`endpoint=…,uid=1001,ro`), and
    /// the generic ones; nosuid and nodev are the default
    #[arg(short, env = "CWDFS_OPTIONS", value_name = "OPTS", help_heading = MOUNT)]
    pub options: Vec<String>,

    /// Large files bypass the daemon where possible (needs CAP_SYS_ADMIN and Linux 6.9)
    #[arg(long, env = "CWDFS_PASSTHROUGH", value_name = "WHEN", default_value = "auto", help_heading = MOUNT)]
    pub passthrough: PassthroughMode,

    /// Where the log goes [default: standard error with --foreground, else nowhere]
    #[arg(long, env = "CWDFS_LOG_FILE", value_name = "FILE", help_heading = LOG)]
    pub log_file: Option<PathBuf>,

    /// Its form
    #[arg(long, env = "CWDFS_LOG_FORMAT", value_name = "FORM", default_value = "text", help_heading = LOG)]
    pub log_format: LogFormat,

    /// The least that is logged
    #[arg(long, env = "CWDFS_LOG_LEVEL", value_name = "LEVEL", default_value = "info", help_heading = LOG)]
    pub log_level: LogLevel,

    /// Serve metrics in Prometheus's text form at /metrics: on an address of this machine (127.0.0.1:9464), or on a
    /// Unix socket (unix:/run/cwdfs.metrics). Whoever reaches it can read them
    #[arg(long, env = "CWDFS_METRICS", value_name = "ADDRESS", help_heading = LOG)]
    pub metrics: Option<metrics::Address>,

    /// Variables for the mount, one NAME=VALUE a line, as systemd reads them: credentials, or options. They go
    /// before those that are set already. The file is its user's or root's, and other users cannot read it
    #[arg(long, env = "CWDFS_ENVIRONMENT_FILE", value_name = "FILE", help_heading = MOUNT)]
    pub environment_file: Option<PathBuf>,

    /// Tell on this open descriptor, in one line of JSON, that the mount answers or why not, and close it
    #[arg(long, env = "CWDFS_READY_FD", value_name = "N", help_heading = MOUNT,
        value_parser = clap::value_parser!(i32).range(3..))]
    pub ready_fd: Option<i32>,

    /// For tests: the log is shortened after a few commits instead of hundreds.
    #[arg(long, hide = true)]
    pub keep_for_tests: bool,

    /// The environment is as it shall be.
    #[arg(long, hide = true)]
    pub settled: bool,

    /// We are the daemon of another `cwdfs mount`, which reads our standard output.
    #[arg(long, hide = true)]
    pub daemon: bool,
}

/// Globs of the command line, or else of the environment variable.
pub fn globs(given: &[String], variable: &str) -> Vec<String> {
    if !given.is_empty() {
        return given.to_vec();
    }
    let listed = std::env::var(variable).unwrap_or_default();
    listed.split(ENV_SEPARATOR).filter(|glob| !glob.is_empty()).map(str::to_owned).collect()
}
