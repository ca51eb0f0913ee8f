//! `-o`, as mount(8) passes it: options of ours become the words they stand for, generic ones become mount
//! flags or are accepted, the rest is refused.

use super::options::MountArgs;
use clap::{Arg, Args, Command};
use rustix::mount::MountFlags;

/// Without `-o`: like every FUSE mount.
pub const DEFAULT: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// Meant for mount(8), fstab and systemd, or what a FUSE mount is anyway; they change nothing here.
const ACCEPTED: [&str; 26] = [
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
    "atime",
    "diratime",
    "relatime",
    "norelatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "iversion",
    "noiversion",
    "async",
    "nomand",
    "silent",
    "loud",
    "default_permissions",
    "symfollow",
    "remount",
];

/// What the kernel shows of a FUSE mount; mount(8) passes it on when it mounts one anew.
const OF_THE_KERNEL: [&str; 8] =
    ["user_id", "group_id", "rootmode", "fd", "max_read", "blksize", "subtype", "fsname"];

/// Where credentials come from instead.
const NO_SECRETS: &str = "no secrets in options, where every user can read them: use the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), environment-file=, profile= or a role";

/// Names of options that hold secrets elsewhere, as parts of the name in small letters.
const SECRETS: [&str; 7] = ["secret", "passw", "token", "access-key", "accesskey", "credential", "api-key"];

/// What a list of options asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Translated {
    /// Those of ours, as words of the command line.
    pub words: Vec<String>,
    /// Those of the mount.
    pub flags: MountFlags,
}

impl Default for Translated {
    fn default() -> Translated {
        Translated { words: Vec::new(), flags: DEFAULT }
    }
}

/// Why an option is not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is none of this name.
    Unknown(String),
    /// It cannot be so.
    Wrong(String),
}

impl Refused {
    /// For people.
    pub fn line(self) -> String {
        let (Refused::Unknown(line) | Refused::Wrong(line)) = self;
        line
    }
}

/// What the options ask for. The last of `ro` and `rw` counts.
pub fn translate(lists: &[String]) -> Result<Translated, Refused> {
    let known = MountArgs::augment_args(Command::new("mount"));
    let mut all = Translated::default();
    for option in each(lists)? {
        if option == "remount" {
            let line = "-o remount: only mount(8) can ask for it: mount -o remount,ro MOUNTPOINT";
            return Err(Refused::Wrong(line.to_owned()));
        }
        take(&option, &known, &mut all)?;
    }
    Ok(all)
}

/// The options with those left out that nobody knows, and their refusals.
pub fn without_unknown(lists: &[String]) -> Result<(Vec<String>, Vec<String>), Refused> {
    let known = MountArgs::augment_args(Command::new("mount"));
    let (mut taken, mut left) = (Vec::new(), Vec::new());
    for option in each(lists)? {
        match take(&option, &known, &mut Translated::default()) {
            Err(Refused::Unknown(line)) => left.push(line),
            Err(wrong) => return Err(wrong),
            // In quotes, for a value may have commas.
            Ok(()) => taken.push(quoted(&option)),
        }
    }
    Ok((taken, left))
}

/// The same for a mount that is there already: what the kernel shows of it is left out.
pub fn translate_remount(lists: &[String]) -> Result<Translated, Refused> {
    let known = MountArgs::augment_args(Command::new("mount"));
    let mut all = Translated::default();
    for option in each(lists)? {
        let name = option.split_once('=').map_or(option.as_str(), |(name, _)| name);
        if !OF_THE_KERNEL.contains(&name) {
            take(&option, &known, &mut all)?;
        }
    }
    Ok(all)
}

/// Whether a mount that is there already shall get other options.
pub fn is_remount(lists: &[String]) -> Result<bool, Refused> {
    Ok(each(lists)?.iter().any(|option| option == "remount"))
}

/// Each option of comma-separated lists. A value in double quotes may have commas, as mount(8) has it.
fn each(lists: &[String]) -> Result<Vec<String>, Refused> {
    let mut options = Vec::new();
    for list in lists {
        let (mut option, mut inside) = (String::new(), false);
        for c in list.chars() {
            match c {
                '"' => inside = !inside,
                ',' if !inside => options.push(std::mem::take(&mut option)),
                c => option.push(c),
            }
        }
        if inside {
            return Err(Refused::Wrong("-o: a double quote is not closed".to_owned()));
        }
        options.push(option);
    }
    options.retain(|option| !option.is_empty());
    Ok(options)
}

fn quoted(option: &str) -> String {
    match option.split_once('=') {
        Some((name, value)) if value.contains(',') => format!("{name}=\"{value}\""),
        _ => option.to_owned(),
    }
}

fn take(option: &str, known: &Command, all: &mut Translated) -> Result<(), Refused> {
    if option == "rw" {
        all.words.retain(|word| word != READ_ONLY);
    } else if !is_generic(option, &mut all.flags) {
        all.words.push(word(option, known)?);
    }
    Ok(())
}

/// Takes in an option that mount(8) knows for every file system.
fn is_generic(option: &str, flags: &mut MountFlags) -> bool {
    match option {
        "nosuid" => *flags |= MountFlags::NOSUID,
        "suid" => *flags -= MountFlags::NOSUID,
        "nodev" => *flags |= MountFlags::NODEV,
        "dev" => *flags -= MountFlags::NODEV,
        "noexec" => *flags |= MountFlags::NOEXEC,
        "exec" => *flags -= MountFlags::NOEXEC,
        "noatime" => *flags |= MountFlags::NOATIME,
        "strictatime" => *flags |= MountFlags::STRICTATIME,
        "nodiratime" => *flags |= MountFlags::NODIRATIME,
        "nosymfollow" => *flags |= MountFlags::NOSYMFOLLOW,
        "sync" => *flags |= MountFlags::SYNCHRONOUS,
        "dirsync" => *flags |= MountFlags::DIRSYNC,
        other => {
            let for_others = ["x-", "X-", "comment=", "user=", "uhelper=", "helper="];
            return ACCEPTED.contains(&other) || for_others.iter().any(|start| other.starts_with(start));
        }
    }
    true
}

const READ_ONLY: &str = "--read-only";

/// `name` or `name=value` as a word of the command line.
fn word(option: &str, known: &Command) -> Result<String, Refused> {
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    let name = name.replace('_', "-");
    if is_secret(&name) || value.is_some_and(shows_secret) {
        return Err(Refused::Wrong(format!("-o {name}: {NO_SECRETS}")));
    }
    if name == "ro" {
        return Ok(READ_ONLY.to_owned());
    }
    let argument = known.get_arguments().find(|a| a.get_long() == Some(&name) && may_be_in_o(a));
    let Some(argument) = argument else {
        return Err(Refused::Unknown(format!("-o {name}: no such option; `cwdfs mount --help` lists them")));
    };
    match value {
        Some(value) => Ok(format!("--{name}={value}")),
        None if is_switch(argument) => Ok(format!("--{name}")),
        None => Err(Refused::Wrong(format!("-o {name}: needs a value: {name}=…"))),
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRETS.iter().any(|part| name.contains(part))
}

/// A value that is an access key id, or a URL with a password.
fn shows_secret(value: &str) -> bool {
    let key_id = ["AKIA", "ASIA"].iter().any(|start| value.starts_with(start))
        && value.len() >= 16
        && value.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let authority = value.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
    key_id || authority.is_some_and(|authority| authority.contains('@'))
}

/// Options of the command itself, not of the mount.
fn may_be_in_o(argument: &Arg) -> bool {
    !argument.is_hide_set() && !matches!(argument.get_long(), Some("foreground" | "ready-fd"))
}

fn is_switch(argument: &Arg) -> bool {
    argument.get_num_args().is_some_and(|n| n.min_values() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(options: &str) -> Result<(Vec<String>, MountFlags), String> {
        let all = translate(&[options.to_owned()]).map_err(Refused::line)?;
        Ok((all.words, all.flags))
    }

    #[test]
    fn ours_become_words() {
        let (words, flags) =
            translated("endpoint=http://h:1/,allow_other,commit_interval=2s,ro,uid=7").expect("known");
        assert_eq!(
            words,
            ["--endpoint=http://h:1/", "--allow-other", "--commit-interval=2s", "--read-only", "--uid=7"]
        );
        assert_eq!(flags, DEFAULT);
    }

    #[test]
    fn generic_ones_are_accepted_or_become_flags() {
        let (words, flags) = translated(
            "rw,,nofail,_netdev,x-systemd.automount,X-a,comment=a b,suid,dev,noexec,noatime,user=me,nosymfollow",
        )
        .expect("known");
        assert!(words.is_empty());
        assert_eq!(flags, MountFlags::NOEXEC | MountFlags::NOATIME | MountFlags::NOSYMFOLLOW);
        // As mount(8) adds them for a user, and takes them back where fstab says so.
        assert_eq!(translated("noexec,nosuid,nodev,exec").expect("known").1, DEFAULT);
    }

    #[test]
    fn the_last_of_ro_and_rw_counts() {
        assert_eq!(translated("ro,rw").expect("known").0, [""; 0]);
        assert_eq!(translated("rw,ro").expect("known").0, ["--read-only"]);
    }

    #[test]
    fn a_value_in_quotes_may_have_commas() {
        let (words, _) = translated("lazy=\"a,b\",region=r").expect("known");
        assert_eq!(words, ["--lazy=a,b", "--region=r"]);
        assert!(translated("lazy=\"a").is_err_and(|e| e.contains("quote")));
    }

    #[test]
    fn what_is_none_is_refused_by_name() {
        assert!(translated("nonsense=1").is_err_and(|e| e.contains("nonsense")));
        for of_the_command in ["foreground", "daemon", "keep_for_tests", "ready_fd=5"] {
            assert!(translated(of_the_command).is_err(), "{of_the_command}");
        }
        assert!(translated("endpoint").is_err_and(|e| e.contains("needs a value")));
        assert!(translated("remount,ro").is_err_and(|e| e.contains("mount(8)")));
    }

    #[test]
    fn sloppy_leaves_out_what_nobody_knows_and_nothing_else() {
        let lists = ["nonsense=1,lazy=\"a,b\",ro".to_owned()];
        let (taken, left) = without_unknown(&lists).expect("no secret");
        assert_eq!(taken, ["lazy=\"a,b\"", "ro"]);
        assert!(matches!(&left[..], [line] if line.contains("nonsense")), "{left:?}");
        assert!(without_unknown(&["secret_key=x".to_owned()]).is_err());
    }

    #[test]
    fn mounting_anew_skips_what_the_kernel_shows() {
        let lists = ["remount,ro,nosuid,noexec,user_id=0,group_id=0,max_read=4096,allow_other".to_owned()];
        assert_eq!(is_remount(&lists), Ok(true));
        let all = translate_remount(&lists).expect("known");
        assert_eq!(all.words, ["--read-only", "--allow-other"]);
        assert_eq!(all.flags, DEFAULT | MountFlags::NOEXEC);
    }

    #[test]
    fn secrets_are_refused_with_the_reason_and_not_repeated() {
        for secret in [
            "secret_key=hunter2",
            "passwd_file=hunter2",
            "access_key=hunter2",
            "session_token=hunter2",
            "AWS_SECRET_ACCESS_KEY=hunter2",
            "credentials=hunter2",
            "endpoint=https://me:hunter2@host/",
            "nonsense=AKIAHUNTER2HUNTER2",
        ] {
            let error = translated(secret).expect_err("a secret");
            let repeated = error.to_lowercase().contains("hunter2");
            assert!(error.contains("every user can read") && !repeated, "{error}");
        }
    }
}
