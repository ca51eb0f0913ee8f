//! git: a story of everything people do with it, a repository of many files, several processes in one
//! repository, and commits when the machine is lost. Dates and names are fixed, so the ids of commits are those
//! of the same work on a local disk.

use super::acknowledged::{Change, Losses, Record, Work};
use crate::support::way::{Way, comes_back};
use crate::support::{Ran, Tree, World, bash, full, sh};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const STORY: &str = include_str!("git/story.sh");
const REPORT: &str = include_str!("git/report.sh");
/// Every value that git itself writes at one moment.
const DATE: &str = "export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'";

/// Names, types, modes, links and bytes of what is checked out; git's own files are its business.
fn checked_out(dir: &Path) -> Tree {
    let mut tree = Tree::of(dir).elsewhere();
    tree.0.retain(|name, _| !name.iter().any(|part| part == ".git" || part == "bare.git"));
    tree.0.values_mut().for_each(|entry| entry.mtime = (0, 0));
    tree
}

#[test]
fn what_people_do_gives_the_same_commits_as_on_a_local_disk() {
    for way in Way::drawn("git") {
        for fsync in if full() { &["all", "default"][..] } else { &["all"] } {
            println!("{way} core.fsync={fsync}");
            let world = World::with_relay(&format!("git-{fsync}-{way}"));
            let options = way.options(&[]);
            let mount = world.host("a").mount(&options);
            let local = world.local("here");
            let (here, story) = (mount.path("here"), format!("FSYNC={fsync}\n{STORY}"));
            fs::create_dir(&here).expect("mkdir");
            assert_eq!(sh(&here, &story), "bisect blames step 11\n");
            sh(&local, &story);
            let report = sh(&local, REPORT);
            assert_eq!(sh(&here, REPORT), report, "in the mount, and on a local disk");
            let files = checked_out(&local);
            files.assert_same(&checked_out(&here), "on a local disk, then in the mount");

            // At the same path: a worktree and its repository know each other by their full names.
            let mount = comes_back(&world, mount, "a", &options);
            assert_eq!(sh(&mount.path("here"), REPORT), report, "after the machine was lost");
            mount.unmount();
        }
    }
}

/// A repository of many files, and a change of every tenth of them; says what came of it.
fn many(dir: &Path, files: usize) -> String {
    let script = format!(
        r#"{DATE}
        git init -q -b main many && cd many
        for ((part = 0; part < 8; part++)); do
            (for ((d = part; d < 100; d += 8)); do
                mkdir -p "d$d"
                for ((f = d; f < {files}; f += 100)); do echo "file $f" > "d$d/$f"; done
            done) &
        done
        for job in $(jobs -p); do wait "$job"; done
        git add . && git commit -q -m all
        for ((f = 0; f < {files}; f += 10)); do echo "$f again" >> "d$((f % 100))/$f"; done
        test "$(git status --porcelain | wc -l)" = {tenth}
        git commit -q -a -m tenth
        git checkout -q HEAD~1 && git checkout -q main
        git clone -q . ../linked
        git gc -q && git fsck --full --strict --no-progress
        git diff-files --quiet && git -C ../linked status --porcelain
        git rev-parse HEAD && git ls-files | wc -l && git -C ../linked rev-parse HEAD"#,
        tenth = files.div_ceil(10),
    );
    sh(dir, &script)
}

#[test]
fn a_repository_of_many_files_is_the_same_as_on_a_local_disk() {
    for way in Way::drawn("git-many") {
        // Where each close waits for the store, ten thousand of them one after another take minutes.
        let files = match (full(), way.level) {
            (true, _) => 10_000,
            (false, "fsync") => 2_000,
            (false, _) => 300,
        };
        println!("{way}: {files} files");
        let world = World::with_relay(&format!("git-many-{way}"));
        let options = way.options(&["--publish-exclude", "many/"]);
        let mount = world.host("a").mount(&options);
        let local = world.local("here");
        assert_eq!(many(mount.root(), files), many(&local, files), "in the mount, and on a local disk");

        let mount = comes_back(&world, mount, "b", &options);
        let check = "for r in many linked; do
            git -C $r diff-files --quiet && git -C $r fsck --full --strict --no-progress; done";
        assert_eq!(sh(mount.root(), check), "");
        checked_out(&local).assert_same(&checked_out(mount.root()), "on a local disk, then in the mount");
        mount.unmount();
    }
}

#[test]
fn a_lock_on_the_index_is_honoured() {
    let world = World::new("git-lock");
    let mount = world.host("a").mount(&["--durability", "fsync"]);
    // While a commit of all files waits for its message, another git is told that the index is locked.
    let script = format!(
        "{DATE}
         git init -q -b main repo && cd repo && echo 1 > a && echo 1 > b && git add . && git commit -q -m one
         echo 2 > a
         export GIT_EDITOR='sh -c \"! env -u GIT_INDEX_FILE git add b 2> .git/refused && echo two > \\$0\"'
         git commit -q -a && git log --format=%s && grep -o \"index.lock': File exists\" .git/refused
         test ! -e .git/index.lock && git add b && git status --porcelain --untracked-files=no"
    );
    assert_eq!(sh(mount.root(), &script), "two\none\nindex.lock': File exists\n");
    mount.unmount();
}

/// How many processes commit to one repository at once.
const PROCESSES: usize = 4;

#[test]
fn processes_commit_to_one_repository_at_once() {
    for way in Way::drawn("git-at-once") {
        println!("{way}");
        let world = World::with_relay(&format!("git-at-once-{way}"));
        let options = way.options(&[]);
        let mount = world.host("a").mount(&options);
        let (repo, outside) = (mount.path("repo"), world.local("outside"));
        let count = if full() { 100 } else { 12 };
        sh(
            mount.root(),
            &format!("{DATE}\ngit init -q -b main repo && cd repo && git commit -q --allow-empty -m 0"),
        );
        // Tried until it works: each refusal is noted, and none of them may have left anything. Both together,
        // as git reads the index before it locks it and so loses what another has added in between, anywhere.
        let work = |process: usize| {
            let script = format!(
                r#"{DATE}
                make() {{ git add "$1" && git commit -q -m "$2" -- "$1"; }}
                for ((i = 0; i < {count}; i++)); do
                    echo "{process} $i" > "{process}-$i"
                    for ((times = 0; times < 2000; times++)); do
                        if make "{process}-$i" "{process} $i" 2>> {outside}/refused; then continue 2; fi
                        sleep 0.0$((RANDOM % 10))
                    done
                    echo "refused too often:" && tail {outside}/refused && exit 1
                done"#,
                outside = outside.display(),
            );
            sh(&repo, &script)
        };
        std::thread::scope(|scope| {
            let at_work: Vec<_> = (0..PROCESSES).map(|p| scope.spawn(move || work(p))).collect();
            at_work.into_iter().for_each(|thread| drop(thread.join().expect("a git process")));
        });
        println!(
            "refused by index.lock: {}",
            sh(&outside, "touch refused; grep -c index.lock refused || true")
        );
        check_all_committed(&repo, count);

        let mount = comes_back(&world, mount, "b", &options);
        check_all_committed(&mount.path("repo"), count);
        mount.unmount();
    }
}

/// Every commit that was reported is in the one line of history, once, and every file is in the last.
#[track_caller]
fn check_all_committed(repo: &Path, count: usize) {
    let said = sh(repo, "git fsck --full --strict --no-progress >&2; git log --format='%s %p'");
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split(' ').collect()).collect();
    assert!(lines.iter().rev().skip(1).all(|words| words.len() == 3), "not one line of history: {said}");
    let mut names: Vec<String> =
        (0..PROCESSES).flat_map(|p| (0..count).map(move |i| format!("{p}-{i}"))).collect();
    names.sort();
    let mut subjects: Vec<String> =
        lines.iter().rev().skip(1).map(|words| format!("{}-{}", words[0], words[1])).collect();
    subjects.sort();
    assert_eq!(subjects, names, "commits in the history, and commits that succeeded");
    let mut files: Vec<String> =
        sh(repo, "git ls-tree -r --name-only HEAD").lines().map(str::to_owned).collect();
    files.sort();
    assert_eq!(files, names, "files of the last commit, and files that were added");
    let script =
        "git reset -q && git status --porcelain --untracked-files=all && ! ls .git/*.lock 2> /dev/null";
    assert_eq!(sh(repo, script), "", "what is not committed, or still locked");
}

#[test]
fn commits_are_there_whenever_the_machine_is_lost() {
    for way in Way::drawn("git-lost") {
        println!("{way}");
        let world = World::with_relay(&format!("git-lost-{way}"));
        let mut losses = Losses::new(&world, &way.options(&[]), "git");
        let mount = losses.mount_elsewhere();
        for (name, fsync) in REPOSITORIES {
            let first = "echo start > last && git add . && git commit -q -m start";
            let make = format!("git init -q -b main {name} && cd {name} && git config core.fsync {fsync}");
            sh(mount.root(), &format!("{DATE}\n{make} && {first}"));
        }
        let (mount, missing) = losses.rounds(mount, if full() { 25 } else { 3 }, &Repositories);
        println!("{missing} commits whose last rename was not stored");
        mount.unmount();
    }
}

/// Repositories by their `core.fsync`.
const REPOSITORIES: [(&str, &str); 2] = [("fsync-all", "all"), ("fsync-none", "none")];

struct Repositories;

impl Work for Repositories {
    fn databases(&self) -> Vec<&'static str> {
        REPOSITORIES.map(|(name, _)| name).to_vec()
    }

    fn writers(&self) -> u64 {
        1
    }

    /// After a crash, as after one of an ordinary machine: locks are removed and the index is made anew.
    fn start(&self, root: &Path, database: &str, writer: u64, first: u64) -> Command {
        let script = format!(
            r#"{DATE}
            find .git -name '*.lock' -delete
            git reset -q --hard
            for ((n = {first}; ; n++)); do
                mkdir -p "d$((n % 3))" && seq $((n * 50)) > "d$((n % 3))/$n" && echo "$n" > last
                git add .
                echo begun {database} {writer} $n
                git commit -q -m $n
                echo done {database} {writer} $n
            done"#
        );
        bash(&root.join(database), &script)
    }

    /// The history is a line from 0 on and nothing in it is damaged. Git does not sync the directory after the
    /// rename that makes a commit the branch's: the last may be missing, or all since something was synced.
    fn check(&self, root: &Path, record: &Record) -> usize {
        let check = |(name, fsync): (&str, &str)| {
            let repo = root.join(name);
            let last = "test $(git show HEAD:last) = $(git log -1 --format=%s)";
            let fsck = "git fsck --full --strict --no-progress --no-dangling >&2";
            let ran =
                Ran::of(&mut bash(&repo, &format!("{fsck}; git log --reverse --format=%s; {last}"))).ok();
            let numbers: Vec<u64> =
                ran.out.lines().skip(1).map(|line| line.parse().expect("a number")).collect();
            assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{name}: {numbers:?}");
            let change = |n| Change { database: name.to_owned(), writer: 0, n };
            let there: BTreeSet<_> = numbers.into_iter().map(change).collect();
            record.check(name, &there, if fsync == "all" { 1 } else { usize::MAX })
        };
        REPOSITORIES.into_iter().map(check).sum()
    }
}
