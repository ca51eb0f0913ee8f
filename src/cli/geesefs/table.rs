//! Every flag of geesefs 0.43.8 and TigrisFS 1.2.1, and what becomes of it. `packaging/geesefs.md` shows this
//! table; a test holds the two together.

/// What a flag takes, as Go's flag package reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing, or `=true` and `=false`.
    Switch,
    /// Any text.
    Text,
    /// A whole number, in octal with a leading 0.
    Int,
    /// A number.
    Float,
    /// A time with its unit, such as 30s or 1m30s.
    Time,
}

/// Whose flag it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Of both programs.
    Both,
    /// Of geesefs alone.
    Geesefs,
    /// Of TigrisFS alone.
    Tigrisfs,
}

/// What a flag that is honoured becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Nothing: it is what happens in any case.
    Nothing,
    /// An option of `cwdfs mount` with the same value.
    Option(&'static str),
    /// A switch of `cwdfs mount`.
    Switch(&'static str),
    /// Nothing for these values, which say what happens in any case; others are refused.
    Only(&'static [&'static str]),
    /// What `translate` makes of it.
    Special,
}

/// What becomes of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does what it says.
    Honoured(To),
    /// It has no meaning here: accepted, with a warning.
    Meaningless,
    /// It asks for what cwdfs does not do.
    Refused,
}

/// A flag, or an option of `-o`.
#[derive(Debug)]
pub struct Flag {
    /// Without hyphens.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Whose it is.
    pub of: Of,
    /// What becomes of it.
    pub verdict: Verdict,
    /// How, or why not: a clause without a full stop.
    pub what: &'static str,
}

use Kind::{Float, Int, Switch, Text, Time};
use Of::{Both, Geesefs, Tigrisfs};

const fn honoured(name: &'static str, kind: Kind, to: To, what: &'static str) -> Flag {
    Flag { name, kind, of: Both, verdict: Verdict::Honoured(to), what }
}

const fn meaningless(name: &'static str, kind: Kind, what: &'static str) -> Flag {
    Flag { name, kind, of: Both, verdict: Verdict::Meaningless, what }
}

const fn refused(name: &'static str, kind: Kind, what: &'static str) -> Flag {
    Flag { name, kind, of: Both, verdict: Verdict::Refused, what }
}

impl Flag {
    const fn of(mut self, of: Of) -> Flag {
        self.of = of;
        self
    }

    /// The flag of this name.
    pub fn find(name: &str) -> Option<&'static Flag> {
        FLAGS.iter().find(|flag| flag.name == name)
    }

    /// The option of `-o` of this name, where it is one that `cwdfs mount` does not know itself.
    pub fn find_option(name: &str) -> Option<&'static Flag> {
        OPTIONS.iter().find(|flag| flag.name == name)
    }

    /// As it is typed, with a word for its value.
    pub fn typed(&self, hyphens: bool) -> String {
        let value = match self.kind {
            Switch => "",
            Text => "TEXT",
            Int => "N",
            Float => "X",
            Time => "TIME",
        };
        let (before, between) = match (hyphens, self.name.len()) {
            (false, _) => ("", "="),
            (true, 1) => ("-", " "),
            (true, _) => ("--", " "),
        };
        let between = if value.is_empty() { "" } else { between };
        format!("{before}{}{between}{value}", self.name)
    }

    /// Whose it is where it is not both programs', in brackets.
    pub fn of_which(&self) -> &'static str {
        match self.of {
            Both => "",
            Geesefs => " (geesefs)",
            Tigrisfs => " (TigrisFS)",
        }
    }

    /// The first word of its verdict, as the table shows it.
    pub fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Honoured(_) => "honoured",
            Verdict::Meaningless => "no meaning",
            Verdict::Refused => "refused",
        }
    }
}

const PARALLEL: &str = "cwdfs decides by itself what it sends at once";
const READING: &str = "cwdfs decides by itself how far it reads ahead";
const RETRIES: &str = "every request is tried again until `CWDFS_TIMEOUT` (60 s) is over";
const PARTS: &str = "cwdfs decides by itself what it uploads in which parts";
const DISK_CACHE: &str = "the cache is kept within `CWDFS_CACHE_SIZE`, the longest unused goes first";
const IAM: &str = "only `--iam` uses it";
const HEADER: &str = "only the name that is the default; the headers have these names";
const CLUSTER: &str = "one writer at a time: mount on one host, or read-only on others";
const WINDOWS: &str = "of the Windows builds only; set the attribute `.invalidate` instead";
const PATCH: &str = "a change sends its own size in any case, without PATCH";

/// Every flag, in the order of geesefs's help.
pub const FLAGS: &[Flag] = &[
    // File system
    honoured("o", Text, To::Special, "mount options, see below; an item that starts with a hyphen is a flag"),
    honoured(
        "cache",
        Text,
        To::Option("cache-dir"),
        "`cwdfs mount --cache-dir`; without it cwdfs has a cache too",
    ),
    honoured(
        "dir-mode",
        Int,
        To::Special,
        "mode of directories whose object does not tell one, and of the root of a new session; what is made on the mount has the mode that it is made with",
    ),
    honoured(
        "file-mode",
        Int,
        To::Special,
        "mode of files whose object does not tell one; what is made on the mount has the mode that it is made with",
    ),
    meaningless("cache-file-mode", Int, "the cache is its user's alone"),
    honoured(
        "uid",
        Int,
        To::Special,
        "`cwdfs mount --uid`: everything is shown as this user's; not together with `--enable-perms`",
    ),
    honoured("gid", Int, To::Special, "the same for the group"),
    honoured(
        "setuid",
        Int,
        To::Special,
        "only the user that it is started as; the daemon does not change users: start it as that user",
    ),
    honoured("setgid", Int, To::Special, "the same for the group"),
    meaningless("refresh-dirs", Switch, "it is for Windows"),
    meaningless("ignore-setting-attrs-for-root-dir-erros", Switch, "the root's attributes can be set")
        .of(Geesefs),
    meaningless("tigris-prefetch", Switch, "the tree comes with the log, not from listings").of(Tigrisfs),
    meaningless("tigris-list-content", Switch, "the tree comes with the log, not from listings").of(Tigrisfs),
    // S3
    honoured(
        "endpoint",
        Text,
        To::Special,
        "`cwdfs mount --endpoint`; without it that of geesefs (Yandex Object Storage), or `AWS_ENDPOINT_URL` and that of TigrisFS; `https://` goes before a bare host",
    ),
    honoured(
        "project-id",
        Text,
        To::Only(&[""]),
        "only empty; buckets of another Ceph tenant cannot be named",
    ),
    refused(
        "iam",
        Switch,
        "requests are signed with AWS keys, not sent with an IAM token: give a static key of the service account by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile with credential_process",
    ),
    meaningless("iam-header", Text, IAM),
    meaningless("iam-flavor", Text, IAM),
    meaningless("iam-url", Text, IAM),
    honoured(
        "region",
        Text,
        To::Special,
        "`cwdfs mount --region`; without it that of the environment or the profile, else us-east-1: it is not asked of the bucket",
    ),
    honoured("requester-pays", Switch, To::Switch("requester-pays"), "`cwdfs mount --requester-pays`"),
    honoured(
        "storage-class",
        Text,
        To::Only(&["", "STANDARD"]),
        "only STANDARD; objects get the bucket's own class: let a lifecycle rule of the bucket move them",
    ),
    meaningless("cold-min-size", Int, "only a cold `--storage-class` uses it"),
    honoured(
        "profile",
        Text,
        To::Special,
        "`cwdfs mount --profile`; as in geesefs it goes before keys in the environment",
    ),
    honoured(
        "shared-config",
        Text,
        To::Special,
        "one file, in place of both AWS files; name two by AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE",
    ),
    honoured(
        "use-content-type",
        Switch,
        To::Switch("content-type"),
        "`cwdfs mount --content-type`: from a list of its own, not from /etc/mime.types",
    ),
    honoured("sse", Switch, To::Special, "`cwdfs mount --sse=AES256`"),
    honoured(
        "sse-kms",
        Text,
        To::Special,
        "`cwdfs mount --sse=aws:kms --sse-kms-key-id`; empty: the account's key",
    ),
    refused("sse-c", Text, "no key is sent with requests"),
    meaningless("no-checksum", Switch, "content is always checked"),
    meaningless("list-type", Text, "cwdfs lists with version 2, and knows no other"),
    honoured(
        "no-detect",
        Switch,
        To::Nothing,
        "nothing is detected in any case, and nothing asked outside the prefix",
    ),
    honoured("no-expire-multipart", Switch, To::Nothing, "uploads of others are never touched"),
    meaningless(
        "multipart-age",
        Text,
        "uploads of others are never touched: let a lifecycle rule of the bucket abort old ones",
    ),
    meaningless("multipart-copy-threshold", Int, PARTS),
    honoured(
        "acl",
        Text,
        To::Only(&["", "private"]),
        "only private; no ACL is sent: use a policy of the bucket",
    ),
    honoured("subdomain", Switch, To::Switch("virtual-host"), "`cwdfs mount --virtual-host`"),
    meaningless("sdk-max-retries", Int, RETRIES),
    meaningless("sdk-min-retry-delay", Time, RETRIES),
    meaningless("sdk-max-retry-delay", Time, RETRIES),
    meaningless("sdk-min-throttle-delay", Time, RETRIES),
    meaningless("sdk-max-throttle-delay", Time, RETRIES),
    refused(
        "no-verify-ssl",
        Switch,
        "the server's certificate is always checked: name its authority by AWS_CA_BUNDLE=FILE",
    ),
    // Tuning
    meaningless("memory-limit", Int, "content is kept on disk, bounded by `CWDFS_CACHE_SIZE`, not in memory"),
    meaningless("use-enomem", Switch, "content is kept on disk, not in memory").of(Geesefs),
    meaningless("entry-limit", Int, "the tree is kept on disk, not in memory"),
    meaningless("gc-interval", Int, "nothing here is collected by a garbage collector"),
    meaningless("cheap", Switch, "a commit is one request, reading the tree none"),
    meaningless("no-preload-dir", Switch, "the tree comes with the log, not from listings"),
    meaningless(
        "no-implicit-dir",
        Switch,
        "a directory is imported with or without its object, and looking it up asks nothing of the store",
    ),
    refused("no-dir-object", Switch, "directories are published as objects `dir/`"),
    meaningless("max-flushers", Int, PARALLEL),
    meaningless("max-parallel-parts", Int, PARALLEL),
    meaningless("max-parallel-copy", Int, PARALLEL),
    meaningless("read-ahead", Int, READING),
    meaningless("small-read-count", Int, READING),
    meaningless("small-read-cutoff", Int, READING),
    meaningless("read-ahead-small", Int, READING),
    meaningless("large-read-cutoff", Int, READING),
    meaningless("read-ahead-large", Int, READING),
    meaningless("read-ahead-parallel", Int, READING),
    meaningless("read-merge", Int, READING),
    meaningless("single-part", Int, PARTS),
    meaningless("part-sizes", Text, PARTS),
    meaningless("enable-patch", Switch, PATCH),
    meaningless("drop-patch-conflicts", Switch, PATCH),
    meaningless("prefer-patch-uploads", Switch, PATCH),
    meaningless("max-merge-copy", Int, PARTS),
    meaningless("ignore-fsync", Switch, "fsync always waits"),
    honoured(
        "fsync-on-close",
        Switch,
        To::Special,
        "`cwdfs mount --durability close`, and here it holds: close waits; without it the same, unless `CWDFS_DURABILITY` says otherwise",
    ),
    honoured("enable-perms", Switch, To::Special, "modes and owners are always kept"),
    honoured("enable-specials", Switch, To::Nothing, "FIFOs, sockets and device nodes are always kept"),
    meaningless("no-specials", Switch, "FIFOs, sockets and device nodes are always kept"),
    honoured("enable-mtime", Switch, To::Nothing, "times are always kept"),
    meaningless("emulate-hardlinks-as-symlinks", Switch, "there are hard links").of(Geesefs),
    meaningless("disable-xattr", Switch, "extended attributes are always kept"),
    honoured("uid-attr", Text, To::Only(&["uid"]), HEADER),
    honoured("gid-attr", Text, To::Only(&["gid"]), HEADER),
    honoured("mode-attr", Text, To::Only(&["mode"]), HEADER),
    honoured("rdev-attr", Text, To::Only(&["rdev"]), HEADER),
    honoured("mtime-attr", Text, To::Only(&["mtime"]), HEADER),
    honoured("symlink-attr", Text, To::Only(&["--symlink-target"]), HEADER),
    honoured(
        "refresh-attr",
        Text,
        To::Special,
        "`cwdfs mount --refresh-attr`, `.invalidate` by default: setting it on anything in the mount imports what other clients did to the whole prefix",
    ),
    meaningless(
        "stat-cache-ttl",
        Time,
        "nobody else changes the tree; what other clients did to the objects is imported every 10 s to 5 min, and at once by the attribute `.invalidate`",
    ),
    meaningless("http-timeout", Time, RETRIES),
    meaningless("retry-interval", Time, RETRIES),
    meaningless("read-retry-interval", Time, RETRIES),
    meaningless("read-retry-mul", Float, RETRIES),
    meaningless("read-retry-max-interval", Time, RETRIES),
    meaningless("read-retry-attempts", Int, RETRIES),
    meaningless("cache-popular-threshold", Int, DISK_CACHE).of(Tigrisfs),
    meaningless("cache-max-hits", Int, DISK_CACHE).of(Tigrisfs),
    meaningless("cache-age-interval", Int, DISK_CACHE).of(Tigrisfs),
    meaningless("cache-age-decrement", Int, DISK_CACHE).of(Tigrisfs),
    meaningless("cache-to-disk-hits", Int, DISK_CACHE).of(Tigrisfs),
    meaningless("max-disk-cache-fd", Int, DISK_CACHE),
    refused("refresh-filename", Text, WINDOWS),
    refused("flush-filename", Text, WINDOWS),
    // Debugging
    honoured("debug", Switch, To::Special, "`cwdfs mount --log-level debug`"),
    honoured("debug_fuse", Switch, To::Special, "`cwdfs mount --log-level debug`"),
    honoured("debug_s3", Switch, To::Special, "`cwdfs mount --log-level debug`"),
    meaningless("pprof", Text, "there is no Go profiler"),
    honoured("f", Switch, To::Switch("foreground"), "`cwdfs mount --foreground`"),
    honoured(
        "log-file",
        Text,
        To::Special,
        "`cwdfs mount --log-file`, or stderr; syslog is refused: name a file, or run it with -f under a supervisor",
    ),
    honoured(
        "log-level",
        Text,
        To::Special,
        "`cwdfs mount --log-level`; fatal, panic and disabled are error",
    )
    .of(Tigrisfs),
    honoured("log-format", Text, To::Special, "`cwdfs mount --log-format`: console is text").of(Tigrisfs),
    honoured("no-log-color", Switch, To::Nothing, "the log has no colours").of(Tigrisfs),
    meaningless("print-stats", Time, "`cwdfs status` shows the figures"),
    meaningless("debug_grpc", Switch, "only `--cluster` uses it"),
    // Cluster
    refused("cluster", Switch, CLUSTER),
    refused("grpc-reflection", Switch, CLUSTER),
    refused("cluster-me", Text, CLUSTER),
    refused("cluster-peer", Text, CLUSTER),
    // Of the program
    honoured("help", Switch, To::Special, "prints this table"),
    honoured("h", Switch, To::Special, "prints this table"),
    honoured("version", Switch, To::Special, "prints cwdfs's version"),
    honoured("v", Switch, To::Special, "prints cwdfs's version"),
];

/// Options of `-o` that geesefs hands to FUSE, besides those that `cwdfs mount -o` knows: the generic ones of
/// mount(8), `allow_other`, `default_permissions`, and all of its own.
pub const OPTIONS: &[Flag] = &[
    honoured("nonempty", Switch, To::Nothing, "a mount point may have files in it; they are hidden"),
    meaningless("max_read", Int, "cwdfs decides by itself how much it reads at once"),
    meaningless("max_readahead", Int, READING),
    meaningless("blksize", Int, "it is for block devices"),
    meaningless("big_writes", Switch, "writes are always big"),
    meaningless("async_read", Switch, READING),
    meaningless("sync_read", Switch, READING),
    honoured(
        "ro",
        Switch,
        To::Special,
        "`cwdfs mount --read-only --require-session`: follows a session that somebody writes; a prefix without one is refused",
    ),
    refused("allow_root", Switch, "there is no such right: give allow_other, permissions hold"),
    refused(
        "auto_unmount",
        Switch,
        "a mount whose daemon died is cleared away by the next mount at its place",
    ),
    refused("fsname", Text, "the mount table shows the store"),
    refused("subtype", Text, "the mount table shows fuse.cwdfs"),
    refused("user_id", Int, "the mount is its daemon's user's: start it as that user"),
    refused("group_id", Int, "the mount is its daemon's user's: start it as that user"),
];

/// The rows of the table, as the document shows them.
pub fn rows(flags: &[Flag], hyphens: bool) -> String {
    flags.iter().map(|flag| row(flag, hyphens)).collect()
}

fn row(flag: &Flag, hyphens: bool) -> String {
    format!("| `{}`{} | {} | {} |\n", flag.typed(hyphens), flag.of_which(), flag.word(), flag.what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const DOCUMENT: &str = include_str!("../../../packaging/geesefs.md");

    #[test]
    fn the_document_shows_this_table_and_nothing_else() {
        for (flags, hyphens) in [(FLAGS, true), (OPTIONS, false)] {
            assert!(
                DOCUMENT.contains(&rows(flags, hyphens)),
                "packaging/geesefs.md lacks:\n{}",
                rows(flags, hyphens)
            );
        }
        let shown = DOCUMENT.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(shown, FLAGS.len() + OPTIONS.len(), "rows that are not in the table");
    }

    #[test]
    fn every_name_is_there_once() {
        for flags in [FLAGS, OPTIONS] {
            let names: BTreeSet<_> = flags.iter().map(|flag| flag.name).collect();
            assert_eq!(names.len(), flags.len());
        }
    }

    #[test]
    fn what_flags_become_are_options_of_mount() {
        use clap::Args;
        let mount = crate::cli::options::MountArgs::augment_args(clap::Command::new("mount"));
        for flag in FLAGS {
            if let Verdict::Honoured(To::Option(name) | To::Switch(name)) = flag.verdict {
                assert!(mount.get_arguments().any(|a| a.get_long() == Some(name)), "{}: --{name}", flag.name);
            }
        }
    }
}
