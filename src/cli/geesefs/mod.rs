//! In geesefs's place: called as `geesefs` or `tigrisfs` (a link), or as `cwdfs geesefs …`, the command line of
//! those programs mounts with cwdfs. [`table`] has every flag; [`words`] reads a command line as they do;
//! [`translate`] makes one of `cwdfs mount` of it, which then takes this process's place.
//!
//! Invariant: a flag is honoured, named in one warning, or refused with its reason.

mod table;
mod translate;
mod words;

use super::exit::{Exit, Failure};
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Mount with the command line of geesefs or TigrisFS
///
/// The same as calling cwdfs by a link of that name. `cwdfs geesefs --help` lists the flags and what becomes of
/// them.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// As geesefs takes them: `[FLAGS] bucket[:prefix] DIR`
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<OsString>,
}

/// In whose place we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// geesefs.
    Geesefs,
    /// TigrisFS.
    Tigrisfs,
}

impl Program {
    const ALL: [Program; 2] = [Program::Geesefs, Program::Tigrisfs];

    /// As it is called.
    pub fn name(self) -> &'static str {
        match self {
            Program::Geesefs => "geesefs",
            Program::Tigrisfs => "tigrisfs",
        }
    }

    fn of(name: &OsStr) -> Option<Program> {
        Program::ALL.into_iter().find(|program| name == program.name())
    }
}

/// In whose place a command line is, by the name it was called by or by its first word, and what follows that.
pub fn in_place_of(args: &[OsString]) -> Option<(Program, &[OsString])> {
    let (called, rest) = args.split_first()?;
    if let Some(program) = Path::new(called).file_name().and_then(Program::of) {
        return Some((program, rest));
    }
    let (first, rest) = rest.split_first()?;
    Some((Program::of(first)?, rest))
}

/// The flags, as the parser of our own command line would define them: for completions, which know no other form.
pub fn arguments() -> Vec<clap::Arg> {
    let argument = |flag: &table::Flag| {
        let action = match flag.kind {
            table::Kind::Switch => clap::ArgAction::SetTrue,
            _ => clap::ArgAction::Set,
        };
        let arg = clap::Arg::new(flag.name).action(action).help(format!("{}: {}", flag.word(), flag.what));
        let mut letters = flag.name.chars();
        match (letters.next(), letters.next()) {
            (Some(letter), None) => arg.short(letter),
            _ => arg.long(flag.name),
        }
    };
    table::FLAGS.iter().map(argument).collect()
}

/// The flags and the options of `-o` as a list: how each is typed, and what becomes of it.
pub fn entries() -> [(&'static str, Vec<(String, String)>); 2] {
    let entry = |flag: &table::Flag, hyphens| {
        (flag.typed(hyphens) + flag.of_which(), format!("{}: {}", flag.word(), flag.what))
    };
    [
        ("Flags", table::FLAGS.iter().map(|flag| entry(flag, true)).collect()),
        ("Options of -o", table::OPTIONS.iter().map(|flag| entry(flag, false)).collect()),
    ]
}

/// Runs such a command line; returns only if it does not mount.
pub fn run(program: Program, args: &[OsString]) -> Result<Exit, Failure> {
    let usage = |error: String| Failure::new(Exit::Usage, format!("{}: {error}", program.name()));
    let words = words::read(args).map_err(usage)?;
    if words.is_on("help") || words.is_on("h") {
        super::say(&help(program))?;
        return Ok(Exit::Done);
    }
    if words.is_on("version") || words.is_on("v") {
        super::say(&format!("cwdfs {}, in the place of {}\n", env!("CARGO_PKG_VERSION"), program.name()))?;
        return Ok(Exit::Done);
    }
    let ids = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let endpoint_known = std::env::var_os("AWS_ENDPOINT_URL").is_some_and(|url| !url.is_empty());
    let call = translate::translate(program, &words, ids, endpoint_known).map_err(usage)?;
    if !call.meaningless.is_empty() {
        let names = call.meaningless.join(", ");
        eprintln!("{}: warning: without meaning in cwdfs, and ignored: {names}", program.name());
    }
    mount(call)
}

/// Lets `cwdfs mount` take this process's place.
fn mount(call: translate::Call) -> Result<Exit, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Exit::CannotStart, format!("cannot start cwdfs: {error}"));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.arg0("cwdfs").arg("mount").args(call.words);
    for (name, value) in call.variables {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Err(failed(command.exec()))
}

fn help(program: Program) -> String {
    let name = program.name();
    format!(
        "Usage: {name} [FLAGS] bucket[:prefix] DIR\n\n\
         cwdfs in the place of {name}. Returns when the mount answers, leaving a daemon, or stays with -f.\n\
         The options of `cwdfs mount` hold by their variables: CWDFS_COMMIT_INTERVAL=5s.\n\n\
         Flags:\n{}\nOptions of -o, besides those of `cwdfs mount`:\n{}\n{}",
        table::rows(table::FLAGS, true),
        table::rows(table::OPTIONS, false),
        super::exit::table()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_or_the_first_word_tells() {
        let of = |line: &str| {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            in_place_of(&args).map(|(program, rest)| (program, rest.len()))
        };
        assert_eq!(of("geesefs -f a b"), Some((Program::Geesefs, 3)));
        assert_eq!(of("/usr/bin/tigrisfs a b"), Some((Program::Tigrisfs, 2)));
        assert_eq!(of("/usr/bin/cwdfs geesefs a b"), Some((Program::Geesefs, 2)));
        assert_eq!(of("cwdfs mount a b"), None);
        assert_eq!(of("cwdfs"), None);
    }
}
