//! pjdfstest as root: no case fails that does not fail on ext4 in the same run, and each that runs there
//! runs here, but for those in `pjdfstest-skips.txt`. Every feature it can be told of is switched on.

use super::ext4::Ext4;
use super::short::Short;
use super::{skips, tool};
use crate::support::ran::Ran;
use crate::support::way::{Way, comes_back};
use crate::support::{Tree, World};
use crate::work;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// How a case ended, with what was said of it.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

type Cases = BTreeMap<String, Outcome>;

/// The users are any two that every Debian has.
const CONFIG: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
stat_st_birthtime = {}
utime_now = {}
utimensat = {}
secondary_fs = "OTHER"
[settings]
naptime = 0.01
allow_remount = REMOUNT
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// Fewer cases than this are not pjdfstest 0.2.2.
const CASES: usize = 398;

/// Runs every case in a new directory of `root`; `own` is a directory of the local disk.
///
/// The cases of a read-only file system come in a run of their own: earlier cases leave files open, and ext4
/// is not remounted while there are any.
fn run(root: &Path, own: &Path) -> Cases {
    let mut cases = run_once(root, own, false, &[]);
    let remounted = run_once(root, own, true, &["erofs"]);
    assert!(remounted.len() >= 13, "cases of a read-only file system: {}", remounted.len());
    cases.extend(remounted);
    assert!(cases.len() >= CASES, "only {} cases", cases.len());
    cases
}

fn run_once(root: &Path, own: &Path, remount: bool, only: &[&str]) -> Cases {
    let config = own.join("config.toml");
    let other = own.to_str().expect("our own path is UTF-8");
    let text = CONFIG.replace("OTHER", other).replace("REMOUNT", &remount.to_string());
    fs::write(&config, text).expect("write the configuration");
    let short = Short::of(root);
    let dir = short.path().join("pjdfstest");
    fs::create_dir(&dir).expect("a directory to run in");
    let mut command = Command::new(tool("pjdfstest"));
    command.arg("-c").arg(&config).arg("-p").arg(&dir).args(only);
    let ran = Ran::of(command.env("RUST_BACKTRACE", "0").env("NO_COLOR", "1").env("PATH", path(own)));
    let cases = parse(&ran);
    let left = fs::read_dir(&dir).expect("list").count();
    assert_eq!(left, 0, "pjdfstest left something in {}", dir.display());
    fs::remove_dir(&dir).expect("remove the directory");
    cases
}

/// A PATH whose mount(8) leaves the remount to the kernel: for `fuse.*` it would look for a helper.
fn path(own: &Path) -> String {
    let bin = own.join("bin");
    fs::create_dir_all(&bin).expect("a directory for programs");
    let wrapper = bin.join("mount");
    fs::write(&wrapper, "#!/bin/sh\nexec /bin/mount -i \"$@\"\n").expect("write the wrapper");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("chmod");
    format!("{}:/usr/sbin:/sbin:/usr/bin:/bin", bin.display())
}

/// Reads `NAME ok`, `NAME FAILED` and `NAME skipped`, each with indented lines that say why.
fn parse(ran: &Ran) -> Cases {
    let mut cases = Cases::new();
    let mut last: Option<String> = None;
    for line in ran.out.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let outcome = match words[..] {
            [_, "ok"] => Outcome::Passed,
            [_, "FAILED"] => Outcome::Failed(String::new()),
            [_, "skipped"] => Outcome::Skipped(String::new()),
            _ => {
                let of = last.as_ref().and_then(|name| cases.get_mut(name));
                if let Some(Outcome::Failed(why) | Outcome::Skipped(why)) = of {
                    why.push_str(line.trim());
                }
                continue;
            }
        };
        let before = cases.insert(words[0].to_owned(), outcome);
        assert_eq!(before, None, "{} came twice", words[0]);
        last = Some(words[0].to_owned());
    }
    let total = format!(" {} total", cases.len());
    assert!(ran.out.contains(&total), "read {} cases, which is not the summary's: {ran}", cases.len());
    cases
}

fn count(cases: &Cases, of: impl Fn(&Outcome) -> bool) -> usize {
    cases.values().filter(|outcome| of(outcome)).count()
}

/// Prints the counts, and each case that failed or was skipped with why.
fn report(on: &str, cases: &Cases) {
    let passed = count(cases, |o| *o == Outcome::Passed);
    let failed = count(cases, |o| matches!(o, Outcome::Failed(_)));
    println!(
        "pjdfstest on {on}: {passed} passed, {failed} failed, {} skipped",
        cases.len() - passed - failed
    );
    for (name, outcome) in cases.iter().filter(|(_, outcome)| **outcome != Outcome::Passed) {
        println!("  {name}: {outcome:?}");
    }
}

/// What ext4 does, once for all ways.
fn on_ext4(world: &World) -> &'static Cases {
    static CASES: OnceLock<Cases> = OnceLock::new();
    CASES.get_or_init(|| {
        let ext4 = Ext4::new(world, 256);
        let cases = run(ext4.root(), &world.local("for-ext4"));
        report("ext4 (loop device)", &cases);
        let failed = count(&cases, |o| matches!(o, Outcome::Failed(_)));
        assert_eq!(failed, 0, "ext4 itself fails cases: this machine lacks something they need");
        cases
    })
}

/// Panics unless cwdfs does what ext4 does.
fn compare(there: &Cases, here: &Cases) {
    let listed = skips(include_str!("pjdfstest-skips.txt"));
    let mut wrong = Vec::new();
    for (name, on_ext4) in there {
        match (on_ext4, here.get(name)) {
            (_, Some(Outcome::Passed)) if listed.contains_key(name.as_str()) => {
                wrong.push(format!("{name} is listed as skipped, and is not"));
            }
            (_, Some(Outcome::Passed)) => {}
            (_, Some(Outcome::Skipped(_))) if listed.contains_key(name.as_str()) => {}
            (_, outcome) => wrong.push(format!("{name} on ext4: {on_ext4:?}, here: {outcome:?}")),
        }
    }
    let unknown = listed.keys().filter(|name| !there.contains_key(**name));
    wrong.extend(unknown.map(|name| format!("{name} is listed as skipped, and is no case")));
    assert!(wrong.is_empty(), "{} cases differ from ext4:\n{}", wrong.len(), wrong.join("\n"));
}

fn cases_end_as_on_ext4(way: Way) {
    let world = World::with_relay(&format!("pjdfstest-{way}"));
    let there = on_ext4(&world);
    let options = way.options(&["-o", "suid,dev", "--allow-other"]);
    let mount = world.host("a").mount(&options);
    work::one_of_everything(mount.root());
    let before = Tree::of(mount.root());
    let here = run(mount.root(), &world.local("own"));
    report(&way.to_string(), &here);
    compare(there, &here);
    // The cases came and went; nothing else has changed.
    before.elsewhere().assert_same(&Tree::of(mount.root()).elsewhere(), "what pjdfstest left");
    comes_back(&world, mount, "b", &options).unmount();
}

in_every_way!(cases_end_as_on_ext4);
