//! The work that the demo does in its session, and what programs say of it afterwards.

use rusqlite::Connection;
use rustix::fs::XattrFlags;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

/// The file that gets the last line.
pub const NOTES: &str = "notes.txt";

/// What can go wrong while working.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Does a part of the work; says what is missing where it cannot.
type Part = fn(&Path) -> Result<Option<&'static str>, Error>;

/// The parts, each with what is said of it.
pub const PARTS: [(&str, Part); 4] = [
    ("a git repository with three commits and a merge", repository),
    ("a SQLite database with 2,000 rows, its log written ahead", database),
    ("an executable script, symlinks, a hard link, an xattr, a time of 1999", small_things),
    ("a file of 8 MiB, changed in the middle", large_file),
];

const SCRIPT: &str = "#!/bin/sh\necho it runs\n";
const ROWS: u32 = 2000;
const NO_GIT: &str = "git is not installed (apt-get install git): the demo goes on without a repository";

fn repository(at: &Path) -> Result<Option<&'static str>, Error> {
    let repo = at.join("repo");
    fs::create_dir(&repo)?;
    if git(&repo, &["--version"]).is_err() {
        fs::remove_dir(&repo)?;
        return Ok(Some(NO_GIT));
    }
    git(&repo, &["init", "-q", "--template=", "-b", "main"])?;
    for (n, message) in ["first", "second"].into_iter().enumerate() {
        fs::create_dir_all(repo.join("src"))?;
        for file in 0..4 {
            fs::write(repo.join(format!("src/{file}.txt")), format!("{message} {file}\n").repeat(n + 1))?;
        }
        git(&repo, &["add", "."])?;
        git(&repo, &["commit", "-q", "-m", message])?;
    }
    git(&repo, &["checkout", "-q", "-b", "side", "HEAD~1"])?;
    fs::write(repo.join("README"), "a session survives its machine\n")?;
    git(&repo, &["add", "."])?;
    git(&repo, &["commit", "-q", "-m", "side"])?;
    git(&repo, &["checkout", "-q", "main"])?;
    git(&repo, &["merge", "-q", "-m", "merged", "side"])?;
    Ok(None)
}

/// Runs git with nothing of the user's configuration; the error has what it said.
fn git(dir: &Path, words: &[&str]) -> Result<String, Error> {
    let mut command = Command::new("git");
    command.args(["-c", "safe.directory=*", "-c", "gc.auto=0"]).args(words).current_dir(dir);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "demo").env(format!("GIT_{role}_EMAIL"), "demo@example.com");
    }
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("git {}: {}", words.join(" "), last_line(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn last_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    said.trim().lines().last().unwrap_or("it said nothing").to_owned()
}

fn database(at: &Path) -> Result<Option<&'static str>, Error> {
    let mut database = Connection::open(at.join("work.db"))?;
    database
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE fact (id INTEGER PRIMARY KEY, text TEXT);")?;
    let step = database.transaction()?;
    for n in 0..ROWS {
        step.execute("INSERT INTO fact (text) VALUES (?)", [format!("fact number {n}")])?;
    }
    step.commit()?;
    database.execute("UPDATE fact SET text = 'changed' WHERE id % 7 = 0", [])?;
    database.close().map_err(|(_, error)| error)?;
    Ok(None)
}

fn small_things(at: &Path) -> Result<Option<&'static str>, Error> {
    let script = at.join("run.sh");
    fs::write(&script, SCRIPT)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o750))?;
    symlink("run.sh", at.join("run"))?;
    symlink("nowhere/at/all", at.join("dangling"))?;
    fs::write(at.join(NOTES), "a first line\n")?;
    fs::hard_link(&script, at.join("the same script"))?;
    rustix::fs::setxattr(&script, "user.made-by", b"cwdfs demo", XattrFlags::empty())?;
    let old = File::create(at.join("old.txt"))?;
    old.set_modified(UNIX_EPOCH + Duration::new(915_148_799, 123_456_789))?;
    Ok(None)
}

fn large_file(at: &Path) -> Result<Option<&'static str>, Error> {
    let mut bytes = vec![0; 8 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    fs::write(at.join("large.bin"), bytes)?;
    let file = File::options().write(true).open(at.join("large.bin"))?;
    std::os::unix::fs::FileExt::write_all_at(&file, b"changed in the middle", 4 << 20)?;
    Ok(None)
}

/// Adds a line to a file and closes it; once this returns, the line is in the store.
pub fn last_words(at: &Path) -> Result<&'static str, Error> {
    const LINE: &str = "written just before the end";
    let mut file = File::options().append(true).open(at.join(NOTES))?;
    writeln!(file, "{LINE}")?;
    // This close waits for the store. Its error would be hidden here: then the line is missing elsewhere.
    drop(file);
    Ok(LINE)
}

/// Looks at a part of the work.
type Check = fn(&Path) -> Result<(), Error>;

/// What programs find wrong, a line each.
pub fn check(at: &Path) -> Vec<String> {
    let checks: [(&str, Check); 3] =
        [("git", check_repository), ("SQLite", check_database), ("the script", check_script)];
    let wrong = |(what, check): (&str, Check)| check(at).err().map(|error| format!("{what}: {error}"));
    checks.into_iter().filter_map(wrong).collect()
}

fn check_repository(at: &Path) -> Result<(), Error> {
    let repo = at.join("repo");
    if !repo.exists() {
        return Ok(());
    }
    git(&repo, &["fsck", "--strict", "--full", "--no-progress"])?;
    let changed = git(&repo, &["status", "--porcelain"])?;
    let commits = git(&repo, &["rev-list", "--count", "main"])?;
    if !changed.is_empty() || commits.trim() != "4" {
        return Err(format!("{} commits, changes: {changed:?}", commits.trim()).into());
    }
    Ok(())
}

fn check_database(at: &Path) -> Result<(), Error> {
    let database = Connection::open(at.join("work.db"))?;
    let integrity: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    let rows: u32 = database.query_row("SELECT count(*) FROM fact", [], |row| row.get(0))?;
    if integrity != "ok" || rows != ROWS {
        return Err(format!("{integrity}, {rows} rows").into());
    }
    Ok(())
}

fn check_script(at: &Path) -> Result<(), Error> {
    let output = Command::new(at.join("run")).output()?;
    match output.stdout == b"it runs\n" {
        true => Ok(()),
        false => Err(format!("it said {:?}", String::from_utf8_lossy(&output.stdout)).into()),
    }
}
