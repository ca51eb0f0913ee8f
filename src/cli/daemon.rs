//! Leaving a daemon behind: this program once more, in a session of its own, that says over its standard
//! output when the mount answers.

use super::environment::Variables;
use super::exit::{Exit, Failure};
use super::log;
use super::options::MountArgs;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

const READY: &str = "ready";

/// How a daemon that was started went on.
pub enum Launched {
    /// Its mount answers.
    Serving(Child),
    /// It ended instead; it has said why on standard error.
    Ended(Exit),
}

/// Starts the daemon of this command line and waits until its mount answers. The daemon itself says on
/// standard error why it could not start; its exit code is ours.
pub fn start(args: &[OsString], variables: &Variables) -> Result<Exit, Failure> {
    match launch(args.get(2..).unwrap_or_default(), variables)? {
        Launched::Serving(_) => Ok(Exit::Done),
        Launched::Ended(exit) => Ok(exit),
    }
}

/// Starts a daemon with these words after `mount`, and these variables besides those that are set.
pub fn launch(words: &[OsString], variables: &Variables) -> Result<Launched, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Exit::CannotStart, format!("cannot start the daemon: {error}"));
    let mut child = program()
        .map_err(failed)?
        .arg("mount")
        .arg("--daemon")
        .args(words)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line.map_err(failed)?;
            if line == READY {
                return Ok(Launched::Serving(child));
            }
            super::say(&format!("{line}\n"))?;
        }
    }
    let status = child.wait().map_err(failed)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).and_then(Exit::of_code);
    let exit = code.ok_or_else(|| Failure::new(Exit::LoopDied, format!("the daemon died: {status}")))?;
    Ok(Launched::Ended(exit))
}

/// This program once more, under its own name, whatever we were called as.
pub fn program() -> std::io::Result<Command> {
    let path = std::env::current_exe()?;
    // In another mount namespace, or once replaced, it is not at its path any more.
    let path = if path.exists() { path } else { "/proc/self/exe".into() };
    let mut command = Command::new(path);
    command.arg0("cwdfs");
    Ok(command)
}

/// Leaves the terminal's session, so that its signals go elsewhere.
pub fn detach() -> Result<(), Failure> {
    let failed = |error: rustix::io::Errno| Failure::new(Exit::CannotStart, format!("setsid: {error}"));
    rustix::process::setsid().map(|_| ()).map_err(failed)
}

/// Says that the mount answers, and lets go of the terminal: what is written from now on goes to the log
/// file, or nowhere.
pub fn ready(args: &MountArgs) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::CannotStart, format!("standard output: {error}"));
    let null = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
    let errors = args.log_file.as_deref().map(log::open).transpose()?;
    rustix::stdio::dup2_stderr(errors.as_ref().unwrap_or(&null)).map_err(|e| failed(e.into()))?;
    // Nobody waiting for it any more means that the command was ended: then there shall be no mount.
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{READY}").and_then(|()| stdout.flush()).map_err(failed)?;
    rustix::stdio::dup2_stdout(&null).map_err(|e| failed(e.into()))?;
    rustix::process::chdir("/").map_err(|e| failed(e.into()))
}
