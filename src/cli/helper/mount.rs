//! `mount.cwdfs STORE DIR [-sfnv] [-N ns] [-o options] [-t type.subtype]`.

use super::super::exit::{Exit, Failure};
use super::super::mount_options::{self, Refused};
use super::super::{Command, environment, mount, parse, places, refused};
use super::{enter, remount};
use clap::Parser;
use std::ffi::OsString;
use std::path::PathBuf;

/// The helper of mount(8) for cwdfs: mounts a session
///
/// Called by mount(8), by hand only to try. The options are those of `cwdfs mount`, and the generic ones of
/// mount(8); secrets are refused.
#[derive(Debug, Parser)]
#[command(name = "mount.cwdfs", version, after_help = super::super::exit::table_for_mount8())]
pub(super) struct Words {
    /// `bucket:prefix`, `s3://bucket/prefix` or `file:///directory`
    #[arg(value_name = "STORE")]
    pub store: OsString,
    /// An existing directory
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Options, separated by commas
    #[arg(short = 'o', value_name = "OPTS")]
    pub options: Vec<String>,
    /// Leave out options that nobody knows, with a warning
    #[arg(short)]
    pub sloppy: bool,
    /// Check everything, mount nothing
    #[arg(short)]
    pub fake: bool,
    /// Say what was done
    #[arg(short)]
    pub verbose: bool,
    /// Nothing here writes /etc/mtab
    #[arg(short = 'n')]
    _no_mtab: bool,
    /// The mount namespace to mount in
    #[arg(short = 'N', value_name = "NAMESPACE")]
    pub namespace: Option<PathBuf>,
    /// The file system's type, ours in any case
    #[arg(short = 't', value_name = "TYPE")]
    _kind: Option<String>,
}

/// Mounts, or gives a mount other flags.
pub(super) fn run(args: &[OsString]) -> Result<Exit, Failure> {
    let mut words = Words::try_parse_from(args).map_err(refused)?;
    enter(words.namespace.as_deref())?;
    let wrong = |refused: Refused| Failure::new(Exit::Usage, refused.line());
    if words.sloppy {
        let (taken, left) = mount_options::without_unknown(&words.options).map_err(wrong)?;
        left.iter().for_each(|line| eprintln!("cwdfs: warning: left out: {line}"));
        words.options = taken;
    }
    if mount_options::is_remount(&words.options).map_err(wrong)? {
        return remount::run(&words);
    }
    let argv = command_line(&words);
    let (cli, flags) = parse(&argv)?;
    let Command::Mount(args) = cli.command else {
        return Err(Failure::new(Exit::Usage, "a mount helper only mounts"));
    };
    if words.fake {
        environment::missing(&args)?;
        places::ground(&args.mountpoint)?;
        return Ok(Exit::Done);
    }
    let (store, at) = (args.store.to_string(), words.dir.display());
    let done = mount::run(*args, flags, &argv)?;
    if words.verbose && done == Exit::Done {
        super::super::say(&format!("cwdfs: {store} mounted on {at}\n"))?;
    }
    Ok(done)
}

/// The same as a command line of `cwdfs mount`.
fn command_line(words: &Words) -> Vec<OsString> {
    let mut argv: Vec<OsString> = vec!["cwdfs".into(), "mount".into()];
    for list in &words.options {
        // In one word: a list may begin with a dash.
        argv.push(format!("-o{list}").into());
    }
    argv.extend(["--".into(), words.store.clone(), words.dir.clone().into()]);
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(args: &[&str]) -> Words {
        Words::try_parse_from(args).expect("as mount(8) calls it")
    }

    #[test]
    fn the_words_are_taken_in_the_order_of_mount_8() {
        let all = ["mount.fuse.cwdfs", "demo:s", "/m", "-s", "-f", "-n", "-v", "-o", "rw,a=b"];
        let tail = ["-t", "fuse.cwdfs", "-N", "/proc/1/ns/mnt"];
        let words = words(&[&all[..], &tail[..]].concat());
        assert!(words.sloppy && words.fake && words.verbose);
        assert_eq!(
            (words.store.to_str(), words.options.as_slice()),
            (Some("demo:s"), &["rw,a=b".to_owned()][..])
        );
        assert_eq!(words.namespace, Some("/proc/1/ns/mnt".into()));
    }

    #[test]
    fn the_command_line_is_one_of_cwdfs_mount() {
        let argv = command_line(&words(&["mount.cwdfs", "demo:s", "/m", "-o", "rw,noexec,durability=fsync"]));
        let (cli, flags) = parse(&argv).expect("it parses");
        let Command::Mount(args) = cli.command else { panic!("a mount") };
        assert_eq!((args.store.to_string(), args.mountpoint), ("demo:s".to_owned(), "/m".into()));
        assert!(flags.contains(rustix::mount::MountFlags::NOEXEC));
        assert!(Words::try_parse_from(["mount.cwdfs", "demo:s"]).is_err());
    }
}
