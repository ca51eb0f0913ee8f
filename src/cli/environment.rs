//! What a mount is given in its environment besides what is set already: the variables of
//! `--environment-file`, and a home where mount(8) and systemd leave none (profile files are looked for there).

use super::daemon;
use super::exit::{Exit, Failure};
use super::options::MountArgs;
use crate::control::registry;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

/// Names and values.
pub type Variables = Vec<(OsString, OsString)>;

/// Permission bits that let others change or read a file with secrets.
const OPEN_TO_OTHERS: u32 = 0o027;

/// What is missing in the environment of this mount.
pub fn missing(args: &MountArgs) -> Result<Variables, Failure> {
    let mut variables = Variables::new();
    if std::env::var_os("HOME").is_none()
        && let Some(home) = registry::home()
    {
        variables.push(("HOME".into(), home.into()));
    }
    if let Some(file) = &args.environment_file {
        variables.extend(read(file)?);
    }
    Ok(variables)
}

/// Becomes the same command with these variables; returns only where that fails.
pub fn start_over(argv: &[OsString], variables: &Variables) -> Failure {
    let failed = |error| Failure::new(Exit::CannotStart, format!("cannot start anew: {error}"));
    let mut program = match daemon::program() {
        Ok(program) => program,
        Err(error) => return failed(error),
    };
    let words = argv.get(2..).unwrap_or_default();
    let set = variables.iter().map(|(name, value)| (name, value));
    failed(program.args(["mount", "--settled"]).args(words).envs(set).exec())
}

/// The variables of a file that nobody else may read.
pub fn read(path: &Path) -> Result<Variables, Failure> {
    const WHAT: &str = "environment file";
    parse(&read_private(path, WHAT)?)
        .map_err(|line| wrong(WHAT, path, &format!("line {line} is not NAME=VALUE")))
}

fn wrong(what: &str, path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::CannotStart, format!("{what} {}: {why}", path.display()))
}

/// What is in a file of ours or root's that nobody else may read; `what` it is to people.
pub fn read_private(path: &Path, what: &str) -> Result<String, Failure> {
    let wrong = |why: &dyn std::fmt::Display| wrong(what, path, why);
    let mut file = File::open(path).map_err(|error| wrong(&error))?;
    let meta = file.metadata().map_err(|error| wrong(&error))?;
    if !meta.is_file() {
        return Err(wrong(&"not a file"));
    }
    if meta.uid() != 0 && meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(wrong(&format!("it belongs to user {}; it has to be yours or root's", meta.uid())));
    }
    if meta.mode() & OPEN_TO_OTHERS != 0 {
        let mode = meta.mode() & 0o7777;
        return Err(wrong(&format!("its mode {mode:03o} opens it to others; chmod 600 it")));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|error| wrong(&error))?;
    Ok(text)
}

/// As systemd reads an EnvironmentFile: one assignment a line, `#` and `;` begin comments, quotes around a value
/// are taken off. The error is the line that makes no sense; what it holds is not repeated.
pub fn parse(text: &str) -> Result<Variables, usize> {
    let mut variables = Variables::new();
    for (number, line) in (1_usize..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let assignment = line.strip_prefix("export ").unwrap_or(line).split_once('=');
        let (name, value) = assignment.filter(|(name, _)| is_name(name)).ok_or(number)?;
        variables.push((name.into(), unquote(value.trim()).ok_or(number)?.into()));
    }
    Ok(variables)
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// A value without its quotes; `None` where they do not match.
fn unquote(value: &str) -> Option<String> {
    for quote in ['"', '\''] {
        let Some(rest) = value.strip_prefix(quote) else { continue };
        let inner = rest.strip_suffix(quote)?;
        return Some(if quote == '"' { unescape(inner) } else { inner.to_owned() });
    }
    Some(unescape(value))
}

/// A backslash stands for what follows it.
fn unescape(text: &str) -> String {
    let mut chars = text.chars();
    let mut out = String::with_capacity(text.len());
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn assignments_are_read_as_systemd_reads_them() {
        let text = "# a comment\n; another\n\n A=1 \nB=\"two words\"\nexport C='a\\b'\nD=a\\ b=c\nE=\nF=\"q\\\"q\"\n";
        let read = parse(text).expect("it makes sense");
        let read: Vec<(&str, &str)> =
            read.iter().map(|(n, v)| (n.to_str().expect("utf-8"), v.to_str().expect("utf-8"))).collect();
        let wanted =
            [("A", "1"), ("B", "two words"), ("C", "a\\b"), ("D", "a b=c"), ("E", ""), ("F", "q\"q")];
        assert_eq!(read, wanted);
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named_by_its_number() {
        for (text, line) in [("A=1\nhunter2", 2), ("1A=x", 1), ("=x", 1), ("A B=x", 1), ("\n\nA=\"x", 3)] {
            assert_eq!(parse(text), Err(line), "{text:?}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_or_write_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("env");
        fs::write(&path, "AWS_SECRET_ACCESS_KEY=hunter2\n").expect("write");
        for (mode, good) in [(0o600, true), (0o640, true), (0o400, true), (0o644, false), (0o620, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
            let read = read(&path);
            assert_eq!(read.is_ok(), good, "{mode:o}");
            if let Err(failure) = read {
                assert!(failure.line().contains("chmod 600") && failure.exit == Exit::CannotStart);
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        fs::write(&path, "hunter2\n").expect("write");
        let failure = read(&path).expect_err("no assignment");
        assert!(
            failure.line().contains("line 1") && !failure.line().contains("hunter2"),
            "{}",
            failure.line()
        );
        assert!(read(dir.path()).is_err_and(|f| f.line().contains("not a file")));
        assert!(read(&dir.path().join("missing")).is_err_and(|f| f.line().contains("missing")));
    }
}
