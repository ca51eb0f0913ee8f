//! What the agents are made to do, and what has to be there afterwards: the expectations are the host's, from what
//! was asked, not from what an agent says.

use crate::model::{Script, Step, Tool, Turn};
use crate::support::sh;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

/// A file that is in the bucket before there is a session.
pub const NOTES: (&str, &str) = ("notes.md", "# Notes\n\nstatus: open\n\nThe end.\n");

const REPORT: &str = "#!/usr/bin/env python3\n# \"Grüße\" aus 東京\nprint('a\\tb')\nLAST = 1\n";

/// Before the first turn: agents tell projects apart by their repositories.
pub const REPOSITORY: &str = "git init -q -b main . && printf '.agent/\\nwork.db*\\n' > .gitignore && git add .gitignore \
  && git -c user.name=T -c user.email=t@example.com commit -q -m zero";

/// In the first turn: links, modes, a repository, a database.
const FIRST: &str = r#"set -eu
mkdir -p data && seq 1 20000 > data/numbers
ln -s numbers data/link && ln data/numbers data/hard && chmod 750 report.py
git add -A
git -c user.name=T -c user.email=t@example.com commit -q -m first
sqlite3 work.db 'pragma journal_mode=wal; create table t(v); insert into t values (41), (1)'
echo "sum $(sha256sum < data/numbers | cut -c1-16)""#;

/// In the second: that all of it is there, and one more commit.
const SECOND: &str = r#"set -eu
git fsck --strict --no-progress
echo "clean $(git status --porcelain -uno | wc -l)"
sqlite3 work.db "pragma integrity_check; select 'sum ' || sum(v) from t; insert into t values (58)"
test data/numbers -ef data/hard && readlink data/link
cat report.py >> data/copied
git add -A && git -c user.name=T -c user.email=t@example.com commit -q -m second
echo "commits $(git rev-list --count HEAD)""#;

/// Two turns; `nonce` is in what is said, so that no conversation is taken for another.
pub fn script(nonce: &str) -> Script {
    let step = |tool: Tool, shows: &str| Step { tool, shows: shows.to_owned() };
    let first = vec![
        step(Tool::Read { path: "notes.md" }, "status: open"),
        step(Tool::Edit { path: "notes.md", old: "status: open".into(), new: "status: done".into() }, ""),
        step(Tool::Write { path: "report.py", text: REPORT.into() }, ""),
        step(Tool::Run { command: FIRST.into() }, "sum f6351f5ead9a700e"),
    ];
    let second = vec![
        step(Tool::Run { command: SECOND.into() }, "sum 42\nnumbers\ncommits 3"),
        step(Tool::Read { path: "notes.md" }, "status: done"),
        step(Tool::Edit { path: "notes.md", old: "The end.".into(), new: "More.\nThe end.".into() }, ""),
    ];
    let turn = |n: &str, steps| Turn {
        prompt: format!("{n} prompt {nonce}"),
        steps,
        say: format!("{n} answer {nonce}"),
    };
    Script(vec![turn("First", first), turn("Second", second)])
}

/// What has to be in the session after `turns` of them; panics with what is not.
pub fn check(root: &Path, turns: usize) {
    let read =
        |name: &str| std::fs::read_to_string(root.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let meta =
        |name: &str| std::fs::symlink_metadata(root.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (_, before) = NOTES;
    let mut notes = before.replace("open", "done");
    if turns == 2 {
        notes = notes.replace("The end.", "More.\nThe end.");
        assert_eq!(read("data/copied"), REPORT, "data/copied");
    }
    assert_eq!(read("notes.md"), notes, "notes.md");
    assert_eq!(read("report.py"), REPORT, "report.py");
    assert_eq!(meta("report.py").permissions().mode() & 0o7777, 0o750, "the mode of report.py");
    let numbers: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    assert!(read("data/numbers") == numbers, "data/numbers is not what seq writes");
    assert_eq!(meta("data/numbers").ino(), meta("data/hard").ino(), "the hard link");
    assert_eq!(std::fs::read_link(root.join("data/link")).expect("readlink").to_str(), Some("numbers"));
    check_repository(root, turns + 1);
}

/// Of a copy, as a directory in another mount namespace has no path here that git could resolve.
fn check_repository(root: &Path, commits: usize) {
    let copy = tempfile::tempdir().expect("a directory for a copy");
    let copied = Command::new("cp").arg("-a").arg(root.join(".git")).arg(copy.path()).status();
    assert!(copied.is_ok_and(|status| status.success()), "cannot copy the repository");
    let git = "git -c safe.directory='*' --git-dir .git";
    let counted = format!("test $({git} rev-list --count HEAD) = {commits}");
    sh(copy.path(), &format!("{git} fsck --strict --full --no-progress && {counted}"));
}
