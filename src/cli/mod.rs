//! The command line: one file a command; what all share is parsing, exit codes, places and the log.
//!
//! Invariants:
//! - an exit code is decided in [`exit`] and nowhere else;
//! - bad input is one clear line (what, to which thing, what to do), and changes nothing;
//! - no secret is taken from the command line, and none is ever printed.

mod batch;
mod check;
mod completions;
mod credentials;
mod daemon;
mod demo;
mod draining;
mod du;
mod eject;
mod environment;
pub mod exit;
mod figures;
mod finish;
mod flush;
mod fsck;
mod geesefs;
mod helper;
mod holders;
mod init;
mod inspect;
mod log;
mod man;
mod metrics;
mod mount;
mod mount_options;
mod options;
mod origin;
mod places;
mod reach;
mod ready;
mod refresh;
mod require;
mod rest;
mod rm;
mod running;
mod salvage;
mod secrets;
mod serve;
mod sessions;
mod signals;
mod start;
mod status;
mod unmount;
mod values;
mod version;

use clap::{Parser, Subcommand};
use exit::{BatchExit, Exit, Failure};
use std::ffi::OsString;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  cwdfs mount demo:sid42 /mnt/sid42                 mount a session; its prefix may be empty
  cwdfs mount --endpoint http://127.0.0.1:8333 --region us-east-1 demo:sid42 /mnt/sid42
  cwdfs mount file:///srv/sessions/sid42 /mnt/sid42 a session in a local directory
  cwdfs status /mnt/sid42                           what is in the store, and what is not yet
  cwdfs flush --timeout 30 /mnt/sid42               returns when everything is in the store
  cwdfs batch -- sh -c 'make'                       one wait for all that it closes, at its end
  cwdfs unmount /mnt/sid42
  cwdfs inspect demo:sid42                          look inside a session
  cwdfs sessions demo:                              all sessions of a bucket
  cwdfs rm demo:sid42                               delete a session
  cwdfs fsck demo:sid42                             whether all of it is sound in the store
  cwdfs salvage --list /var/cache/cwdfs             what a succeeded writer had not stored
  cwdfs demo                                        a session killed, wiped and resumed elsewhere
";

/// Mounts an S3 prefix as a durable working directory.
#[derive(Debug, Parser)]
#[command(name = "cwdfs", version, long_version = version::long(), about, long_about = None, disable_help_subcommand = true)]
#[command(after_help = after_help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Mount(Box<options::MountArgs>),
    Unmount(unmount::Args),
    Status(status::Args),
    Flush(flush::Args),
    Batch(batch::Args),
    Refresh(refresh::Args),
    Credentials(credentials::Args),
    Inspect(inspect::Args),
    Eject(Box<eject::Args>),
    Sessions(sessions::Args),
    Du(du::Args),
    Rm(rm::Args),
    Fsck(Box<fsck::Args>),
    Salvage(Box<salvage::Args>),
    Demo(demo::Args),
    #[command(visible_alias = "tigrisfs")]
    Geesefs(geesefs::Args),
    Completions(completions::Args),
    Man(man::Args),
}

fn after_help() -> String {
    format!("{EXAMPLES}\n{}", exit::table())
}

/// Runs the command that `args` (the program's name first) ask for.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    // The command that it runs has the same environment, and with hidepid the daemon could not see who keeps to itself.
    if !is_batch(&args) {
        secrets::keep();
    }
    if let Some(called) = helper::called_as(&args) {
        return helper::run(called, &args);
    }
    let done = match geesefs::in_place_of(&args) {
        Some((program, words)) => geesefs::run(program, words).map(ExitCode::from),
        None => own(&args),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            match failure.exit {
                Exit::Usage if is_batch(&args) => BatchExit::NotRun.into(),
                exit => exit.into(),
            }
        }
    }
}

fn is_batch(args: &[OsString]) -> bool {
    args.get(1).is_some_and(|command| command == "batch")
}

/// Runs a command line of cwdfs's own.
fn own(args: &[OsString]) -> Result<ExitCode, Failure> {
    let (cli, flags) = parse(args)?;
    let done = match cli.command {
        // Its command's exit code is none of ours.
        Command::Batch(args) => return Ok(batch::run(&args)),
        Command::Mount(mount) => mount::run(*mount, flags, args),
        Command::Unmount(args) => unmount::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Flush(args) => flush::run(&args),
        Command::Refresh(args) => refresh::run(&args),
        Command::Credentials(args) => credentials::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Eject(args) => eject::run(*args),
        Command::Sessions(args) => sessions::run(&args),
        Command::Du(args) => du::run(&args),
        Command::Rm(args) => rm::run(&args),
        Command::Fsck(args) => fsck::run(&args),
        Command::Salvage(args) => salvage::run(&args),
        Command::Demo(args) => demo::run(&args),
        // Taken before, but where options of ours come first.
        Command::Geesefs(args) => geesefs::run(geesefs::Program::Geesefs, &args.args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    };
    done.map(ExitCode::from)
}

/// Runs what a command does, on this thread.
fn wait_for<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(Exit::CannotStart, error))?.block_on(work)
}

/// As JSON, with a line end.
fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string_pretty(value);
    json.map(|json| json + "\n").map_err(|error| Failure::new(Exit::CannotStart, error))
}

/// Writes to standard output; whoever reads it may have had enough.
fn say(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::CannotStart, format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Parses a command line; what `-o` holds is put into the words it stands for.
fn parse(args: &[OsString]) -> Result<(Cli, rustix::mount::MountFlags), Failure> {
    let cli = Cli::try_parse_from(args).map_err(refused)?;
    let Command::Mount(mount) = &cli.command else { return Ok((cli, mount_options::DEFAULT)) };
    let translated = mount_options::translate(&mount.options);
    let mount_options::Translated { words, flags } =
        translated.map_err(|refused| Failure::new(Exit::Usage, refused.line()))?;
    if words.is_empty() {
        return Ok((cli, flags));
    }
    // The command's name comes first: there are no options before it.
    let (head, tail) = args.split_at(args.len().min(2));
    let all = head.iter().cloned().chain(words.into_iter().map(OsString::from)).chain(tail.iter().cloned());
    Ok((Cli::try_parse_from(all).map_err(refused)?, flags))
}

/// Help and version are no failures: they are printed, and the exit code is 0.
fn refused(error: clap::Error) -> Failure {
    let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
    Failure { exit, message: exit::Message::Clap(Box::new(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::mount::MountFlags;
    use std::time::Duration;

    fn parsed(args: &[&str]) -> Result<(options::MountArgs, MountFlags), Failure> {
        let args: Vec<OsString> = ["cwdfs", "mount"].iter().chain(args).map(OsString::from).collect();
        match parse(&args)? {
            (Cli { command: Command::Mount(mount) }, flags) => Ok((*mount, flags)),
            (cli, _) => panic!("{cli:?} is no mount"),
        }
    }

    #[test]
    fn the_command_is_well_formed() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn defaults_are_as_documented() {
        let (mount, flags) = parsed(&["demo:sid42", "/mnt"]).expect("it parses");
        assert_eq!(mount.durability, options::Level::Close);
        assert_eq!(mount.reach.timeout, Duration::from_secs(60));
        assert_eq!(mount.park_after.0, Some(Duration::from_secs(30)));
        assert!(!mount.takeover && !mount.foreground && !mount.read_only && !mount.allow_other);
        assert_eq!(flags, MountFlags::NOSUID | MountFlags::NODEV);
    }

    #[test]
    fn o_options_are_options() {
        let words =
            ["-o", "rw,durability=fsync,allow_other,_netdev", "-o", "noexec,lazy=a,lazy=b", "demo:s", "/m"];
        let (mount, flags) = parsed(&words).expect("it parses");
        assert_eq!(mount.durability, options::Level::Fsync);
        assert!(mount.allow_other && flags.contains(MountFlags::NOEXEC));
        assert_eq!(mount.lazy, ["a", "b"]);
    }

    #[test]
    fn bad_usage_is_2_and_names_the_thing() {
        for (words, named) in [
            (&["demo:s"][..], "MOUNTPOINT"),
            (&["no-prefix", "/m"], "no-prefix"),
            (&["--durability", "maybe", "demo:s", "/m"], "maybe"),
            (&["--timeout", "soon", "demo:s", "/m"], "soon"),
            (&["--timeout", "0", "demo:s", "/m"], "--timeout"),
            (&["--cache-size", "big", "demo:s", "/m"], "big"),
            (&["--takeover=perhaps", "demo:s", "/m"], "perhaps"),
            (&["-o", "nonsense=1", "demo:s", "/m"], "nonsense"),
            (&["-o", "durability=maybe", "demo:s", "/m"], "maybe"),
            (&["--durability", "close", "-o", "durability=sync", "demo:s", "/m"], "durability"),
            (&["-o", "secret_key=x", "demo:s", "/m"], "secret"),
        ] {
            let failure = parsed(words).expect_err("bad usage");
            assert_eq!(failure.exit, Exit::Usage, "{words:?}");
            assert!(failure.line().contains(named), "{words:?}: {}", failure.line());
        }
    }

    #[test]
    fn help_and_version_are_no_failures() {
        for word in ["--help", "--version"] {
            let failure = parse(&["cwdfs".into(), word.into()]).expect_err("it is printed");
            assert_eq!(failure.exit, Exit::Done);
        }
        let help = <Cli as clap::CommandFactory>::command().render_help().to_string();
        assert!(help.contains("cwdfs mount demo:") && help.contains("  7  another writer"), "{help}");
    }

    /// Every mount option has its variable.
    #[test]
    fn every_mount_option_is_an_environment_variable() {
        let known = <options::MountArgs as clap::Args>::augment_args(clap::Command::new("mount"));
        for argument in known.get_arguments().filter(|a| !a.is_hide_set()) {
            let Some(long) = argument.get_long() else { continue };
            let variable = format!("CWDFS_{}", long.to_uppercase().replace('-', "_"));
            let by_clap = argument.get_env().is_some_and(|env| env == variable.as_str());
            let by_us = argument.get_help().is_some_and(|help| help.to_string().contains(&variable));
            assert!(by_clap || by_us, "--{long} has no {variable}");
        }
    }
}
