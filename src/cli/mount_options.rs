//! `-o`, as mount(8) passes it: options of ours become the words they stand for, generic ones become mount
//! flags or are accepted, the rest is refused.

use super::options::MountArgs;
use clap::{Arg, Args, Command};
use rustix::mount::MountFlags;

/// Without `-o`: like every FUSE mount.
pub const DEFAULT: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// Meant for mount(8), fstab and systemd; they change nothing here.
const ACCEPTED: [&str; 24] = [
    "rw",
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "exec",
    "atime",
    "diratime",
    "relatime",
    "norelatime",
    "lazytime",
    "nolazytime",
    "async",
    "nomand",
    "silent",
    "loud",
    "nosymfollow",
    "default_permissions",
];

/// Where credentials come from instead.
const NO_SECRETS: &str = "no secrets in options, where every user can read them: use the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), a profile or a role";

/// The words that the options stand for, and the flags of the mount.
pub fn translate(options: &[String]) -> Result<(Vec<String>, MountFlags), String> {
    let known = MountArgs::augment_args(Command::new("mount"));
    let mut words = Vec::new();
    let mut flags = DEFAULT;
    for option in options.iter().flat_map(|list| list.split(',')).filter(|option| !option.is_empty()) {
        if is_generic(option, &mut flags) {
            continue;
        }
        words.push(word(option, &known)?);
    }
    Ok((words, flags))
}

/// Takes in an option that mount(8) knows for every file system.
fn is_generic(option: &str, flags: &mut MountFlags) -> bool {
    match option {
        "nosuid" => *flags |= MountFlags::NOSUID,
        "suid" => *flags -= MountFlags::NOSUID,
        "nodev" => *flags |= MountFlags::NODEV,
        "dev" => *flags -= MountFlags::NODEV,
        "noexec" => *flags |= MountFlags::NOEXEC,
        "noatime" => *flags |= MountFlags::NOATIME,
        "strictatime" => *flags |= MountFlags::STRICTATIME,
        "nodiratime" => *flags |= MountFlags::NODIRATIME,
        "sync" => *flags |= MountFlags::SYNCHRONOUS,
        "dirsync" => *flags |= MountFlags::DIRSYNC,
        other => {
            return ACCEPTED.contains(&other) || other.starts_with("x-") || other.starts_with("comment=");
        }
    }
    true
}

/// `name` or `name=value` as a word of the command line.
fn word(option: &str, known: &Command) -> Result<String, String> {
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    let name = name.replace('_', "-");
    if is_secret(&name) {
        return Err(format!("-o {name}: {NO_SECRETS}"));
    }
    let long = if name == "ro" { "read-only" } else { name.as_str() };
    let argument = known.get_arguments().find(|a| a.get_long() == Some(long) && may_be_in_o(a));
    let Some(argument) = argument else {
        return Err(format!("-o {name}: no such option; `cwdfs mount --help` lists them"));
    };
    match value {
        Some(value) => Ok(format!("--{long}={value}")),
        None if is_switch(argument) => Ok(format!("--{long}")),
        None => Err(format!("-o {name}: needs a value: {name}=…")),
    }
}

fn is_secret(name: &str) -> bool {
    ["secret", "passw", "token", "access-key", "credential"].iter().any(|part| name.contains(part))
}

/// Options of the command itself, not of the mount.
fn may_be_in_o(argument: &Arg) -> bool {
    !matches!(argument.get_long(), Some("foreground" | "daemon"))
}

fn is_switch(argument: &Arg) -> bool {
    argument.get_num_args().is_some_and(|n| n.min_values() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(options: &str) -> Result<(Vec<String>, MountFlags), String> {
        translate(&[options.to_owned()])
    }

    #[test]
    fn ours_become_words() {
        let (words, flags) =
            translated("endpoint=http://h:1/,allow_other,commit_interval=2s,ro").expect("known");
        assert_eq!(words, ["--endpoint=http://h:1/", "--allow-other", "--commit-interval=2s", "--read-only"]);
        assert_eq!(flags, DEFAULT);
    }

    #[test]
    fn generic_ones_are_accepted_or_become_flags() {
        let (words, flags) =
            translated("rw,,nofail,_netdev,x-systemd.automount,comment=a b,suid,dev,noexec,noatime")
                .expect("known");
        assert!(words.is_empty());
        assert_eq!(flags, MountFlags::NOEXEC | MountFlags::NOATIME);
    }

    #[test]
    fn what_is_none_is_refused_by_name() {
        assert!(translated("nonsense=1").is_err_and(|e| e.contains("nonsense")));
        assert!(translated("foreground").is_err());
        assert!(translated("endpoint").is_err_and(|e| e.contains("needs a value")));
    }

    #[test]
    fn secrets_are_refused_with_the_reason_and_not_repeated() {
        for secret in
            ["secret_key=hunter2", "passwd_file=hunter2", "access_key=hunter2", "session_token=hunter2"]
        {
            let error = translated(secret).expect_err("a secret");
            assert!(error.contains("every user can read") && !error.contains("hunter2"), "{error}");
        }
    }
}
