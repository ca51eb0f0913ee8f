//! The file system calls: the same program runs on the mount and on the local disk, and what it saw is
//! compared. Where the two may differ the expectation is written out.

use crate::support::{Tree, World, sh};
use crate::work::noise;
use rustix::fs::{FallocateFlags, RenameFlags, SeekFrom};
use rustix::io::Errno;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

/// Runs a program on the mount and on the local disk; both have to tell the same story and leave the same
/// tree, which has to be there after a cold remount too.
#[track_caller]
fn same_as_local(name: &str, program: impl Fn(&Path, &mut String)) {
    let world = World::new(name);
    let options = ["--durability", "fsync", "--no-publish", "--allow-other"];
    let mount = world.host("a").mount(&options);
    let local = world.local("reference");
    let mut stories = [String::new(), String::new()];
    program(&local, &mut stories[0]);
    program(mount.root(), &mut stories[1]);
    assert_eq!(stories[0], stories[1], "left: the local disk, right: the mount");
    let (theirs, ours) = (Tree::of(&local).elsewhere(), Tree::of(mount.root()));
    without_times(&theirs).assert_same(&without_times(&ours.elsewhere()), "local disk -> mount");
    mount.unmount();
    let mount = world.host("b").mount(&["--no-publish"]);
    ours.assert_same(&Tree::of(mount.root()), "after a cold remount");
    mount.unmount();
}

fn without_times(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    for entry in tree.0.values_mut() {
        // Times of now differ between the two; those that were set are long ago.
        if entry.mtime.0 > 1_700_000_000 {
            entry.mtime = (0, 0);
        }
    }
    tree
}

/// Notes a result: a value, or the error's number.
fn note<T: std::fmt::Debug>(story: &mut String, what: &str, result: std::io::Result<T>) {
    let result = result.map_err(|e| e.raw_os_error().map_or(e.to_string(), |n| format!("errno {n}")));
    writeln!(story, "{what}: {result:?}").expect("a string takes it");
}

fn errno<T: std::fmt::Debug>(story: &mut String, what: &str, result: rustix::io::Result<T>) {
    note(story, what, result.map_err(Into::into));
}

#[test]
fn names_and_their_errors() {
    same_as_local("names", |dir, story| {
        let at = |name: &str| dir.join(name);
        note(story, "mkdir", fs::create_dir(at("d")));
        note(story, "mkdir again", fs::create_dir(at("d")));
        note(story, "create", fs::write(at("d/f"), "x"));
        note(story, "create exclusively", File::create_new(at("d/f")).map(drop));
        note(story, "rmdir of a full one", fs::remove_dir(at("d")));
        note(story, "rmdir of a file", fs::remove_dir(at("d/f")));
        note(story, "unlink of a directory", fs::remove_file(at("d")));
        note(story, "unlink of nothing", fs::remove_file(at("nothing")));
        note(story, "below a file", fs::write(at("d/f/g"), "x"));
        note(story, "open a directory to write", OpenOptions::new().write(true).open(at("d")).map(drop));
        note(story, "name of 255", fs::write(at(&"n".repeat(255)), "x"));
        note(story, "name of 256", fs::write(at(&"n".repeat(256)), "x"));
        note(story, "symlink", symlink("d/f", at("l")));
        note(story, "symlink loop", symlink("loop", at("loop")));
        note(story, "open the loop", fs::read(at("loop")));
        note(story, "through the symlink", fs::read_to_string(at("l")));
        note(story, "link", fs::hard_link(at("d/f"), at("g")));
        note(story, "link of a directory", fs::hard_link(at("d"), at("dd")));
        note(story, "link over a name", fs::hard_link(at("d/f"), at("l")));
        note(story, "links", fs::metadata(at("g")).map(|m| m.nlink()));
        note(story, "directory links", fs::metadata(at("d")).map(|m| m.nlink()));
        note(story, "rename over a link of itself", fs::rename(at("g"), at("d/f")));
        note(story, "both names stay", fs::metadata(at("g")).map(|m| m.nlink()));
        note(story, "rename a directory below itself", fs::rename(at("d"), at("d/e")));
        note(story, "mkdir target", fs::create_dir(at("t")));
        note(story, "rename a directory over an empty one", fs::rename(at("d"), at("t")));
        note(story, "rename a file over a directory", fs::rename(at("g"), at("t")));
        note(story, "rename a directory over a file", fs::rename(at("t"), at("g")));
        note(story, "rename of nothing", fs::rename(at("nothing"), at("x")));
    });
}

#[test]
fn renameat2_keeps_and_exchanges() {
    same_as_local("renameat2", |dir, story| {
        let cwd = rustix::fs::CWD;
        let mv = |from: &str, to: &str, flags| {
            rustix::fs::renameat_with(cwd, dir.join(from), cwd, dir.join(to), flags)
        };
        fs::write(dir.join("a"), "a").expect("write");
        fs::write(dir.join("b"), "b").expect("write");
        fs::create_dir(dir.join("d")).expect("mkdir");
        fs::write(dir.join("d/inner"), "i").expect("write");
        errno(story, "noreplace over a name", mv("a", "b", RenameFlags::NOREPLACE));
        errno(story, "noreplace", mv("a", "c", RenameFlags::NOREPLACE));
        errno(story, "exchange a file and a directory", mv("b", "d", RenameFlags::EXCHANGE));
        errno(story, "exchange with nothing", mv("b", "nothing", RenameFlags::EXCHANGE));
        note(story, "the directory is b", fs::read_to_string(dir.join("b/inner")));
        note(story, "the file is d", fs::read_to_string(dir.join("d")));
    });
}

#[test]
fn reads_writes_appends_and_truncates() {
    same_as_local("io", |dir, story| {
        let path = dir.join("f");
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).expect("open");
        note(story, "write", file.write(b"hello world"));
        note(story, "write beyond the end", file.write_at(b"far", 100_000));
        note(story, "size", file.metadata().map(|m| m.len()));
        let mut hole = [1u8; 8];
        note(story, "read a hole", file.read_at(&mut hole, 50_000).map(|n| (n, hole)));
        note(story, "truncate", file.set_len(5));
        note(story, "grow", file.set_len(9));
        note(story, "what is left", fs::read(&path));
        let mut append = OpenOptions::new().append(true).open(&path).expect("open");
        note(story, "append", append.write(b"+1"));
        note(story, "write elsewhere", file.write_at(b"H", 0));
        note(story, "append again", append.write(b"+2"));
        note(story, "seek to the end", file.seek(std::io::SeekFrom::End(0)));
        note(story, "now", fs::read(&path));
        note(story, "truncating open", File::create(&path).map(drop));
        note(story, "empty", fs::metadata(&path).map(|m| m.len()));
        note(
            story,
            "truncate a path",
            rustix::fs::open(&path, rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty())
                .and_then(|f| rustix::fs::ftruncate(f, 3 << 20))
                .map_err(Into::into),
        );
        note(story, "write a lot", fs::write(dir.join("lot"), noise(5 << 20, 9)));
        let lot = File::open(dir.join("lot")).expect("open");
        let mut piece = vec![0; 100_000];
        for at in [0u64, 4_000_000, 262_100, 5_200_000] {
            let n = lot.read_at(&mut piece, at).expect("read");
            writeln!(story, "{at}: {n} {}", blake3::hash(&piece[..n])).expect("a string takes it");
        }
    });
}

#[test]
fn a_deleted_file_lives_while_it_is_open() {
    let world = World::new("deleted-open");
    let mount = world.host("a").mount(&[]);
    let mut file =
        File::options().read(true).write(true).create_new(true).open(mount.path("f")).expect("open");
    file.write_all(&noise(600_000, 1)).expect("write");
    fs::remove_file(mount.path("f")).expect("unlink");
    assert_eq!(file.metadata().expect("fstat").nlink(), 0);
    file.write_all_at(b"changed", 300_000).expect("write");
    file.set_len(400_000).expect("truncate");
    let mut bytes = Vec::new();
    file.rewind().expect("seek");
    file.read_to_end(&mut bytes).expect("read");
    let mut expected = noise(600_000, 1);
    expected[300_000..300_007].copy_from_slice(b"changed");
    expected.truncate(400_000);
    assert!(bytes == expected, "the deleted file's content");
    let over = mount.path("over");
    fs::write(&over, "old").expect("write");
    let old = File::open(&over).expect("open");
    fs::write(mount.path("new"), "new").expect("write");
    fs::rename(mount.path("new"), &over).expect("rename");
    let mut text = String::new();
    (&old).read_to_string(&mut text).expect("read");
    assert_eq!((text.as_str(), fs::read_to_string(&over).expect("read").as_str()), ("old", "new"));
    drop((file, old));
    mount.unmount();
}

#[test]
fn a_deleted_file_is_read_from_where_its_content_went() {
    let world = World::new("deleted-stored");
    let mount = world.host("a").mount(&["--durability", "fsync", "--commit-interval", "300ms"]);
    for round in 0..3 {
        let open: Vec<File> = (0..20)
            .map(|n| {
                fs::write(mount.path(format!("f{n}")), noise(50_000, n)).expect("write");
                if round == 1 {
                    mount.flush();
                }
                let file = File::open(mount.path(format!("f{n}"))).expect("open");
                fs::remove_file(mount.path(format!("f{n}"))).expect("unlink");
                file
            })
            .collect();
        if round > 0 {
            mount.flush();
        }
        for (n, file) in open.iter().enumerate() {
            // Not from the kernel's pages.
            rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).expect("fadvise");
            let mut bytes = vec![0; 50_000];
            file.read_exact_at(&mut bytes, 0).expect("read");
            assert!(bytes == noise(50_000, n as u64), "round {round}: file {n} differs");
        }
    }
    mount.unmount();
}

#[test]
fn holes_are_punched_found_and_kept() {
    same_as_local("holes", |dir, story| {
        let path = dir.join("f");
        let file = File::options().read(true).write(true).create_new(true).open(&path).expect("open");
        file.write_all_at(&noise(1 << 20, 2), 0).expect("write");
        let call = |flags, at, len| rustix::fs::fallocate(&file, flags, at, len);
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        errno(story, "punch", call(punch, 128 << 10, 256 << 10));
        errno(story, "first hole", rustix::fs::seek(&file, SeekFrom::Hole(0)));
        errno(story, "data behind it", rustix::fs::seek(&file, SeekFrom::Data(128 << 10)));
        errno(story, "zero range", call(FallocateFlags::ZERO_RANGE, 600_000, 5_000));
        errno(story, "keep size", call(FallocateFlags::KEEP_SIZE, 1 << 20, 1 << 20));
        note(story, "size", file.metadata().map(|m| m.len()));
        errno(story, "allocate", call(FallocateFlags::empty(), 0, 3 << 20));
        note(story, "size", file.metadata().map(|m| m.len()));
        errno(story, "beyond the end", rustix::fs::seek(&file, SeekFrom::Data(4 << 20)));
        file.set_len(1 << 30).expect("grow");
        errno(story, "a hole at the end", rustix::fs::seek(&file, SeekFrom::Hole(3 << 20)));
    });
}

#[test]
fn copy_file_range_and_cp_reflink_copy_the_bytes() {
    same_as_local("copy", |dir, story| {
        fs::write(dir.join("from"), noise(3 << 20, 8)).expect("write");
        let from = File::open(dir.join("from")).expect("open");
        let to = File::options().read(true).write(true).create_new(true).open(dir.join("to")).expect("open");
        let (mut off_in, mut off_out) = (1_000u64, 70_000u64);
        let mut left = 2_500_000;
        while left > 0 {
            let n = rustix::fs::copy_file_range(&from, Some(&mut off_in), &to, Some(&mut off_out), left)
                .expect("copy_file_range");
            assert!(n > 0, "it stops early");
            left -= n;
        }
        note(story, "size", to.metadata().map(|m| m.len()));
        drop((from, to));
        sh(dir, "cp from again && cp --sparse=always to sparse && rsync -a from synced");
        for name in ["to", "again", "sparse", "synced"] {
            writeln!(story, "{name} {}", crate::support::tree::hash(&dir.join(name)))
                .expect("a string takes it");
        }
        note(story, "remove", fs::remove_file(dir.join("synced")));
    });
}

#[test]
fn times_are_kept_to_the_nanosecond_before_1970_too() {
    let world = World::new("times");
    let mount = world.host("a").mount(&[]);
    let cases = [
        ("now-ish", UNIX_EPOCH + Duration::new(1_700_000_000, 987_654_321)),
        ("epoch", UNIX_EPOCH),
        ("before", UNIX_EPOCH - Duration::new(1_000_000, 1)),
        ("far", UNIX_EPOCH + Duration::new(32_503_680_000, 5)),
    ];
    for (name, time) in cases {
        fs::write(mount.path(name), name).expect("write");
        let file = File::options().write(true).open(mount.path(name)).expect("open");
        file.set_times(fs::FileTimes::new().set_modified(time).set_accessed(time)).expect("utimens");
    }
    fs::create_dir(mount.path("d")).expect("mkdir");
    fs::write(mount.path("d/f"), "x").expect("write");
    sh(mount.root(), "touch -d 2001-02-03T04:05:06.000000007 d && ln -s x l && touch -h -d 1999-01-01 l");
    let before = Tree::of(mount.root());
    mount.unmount();
    let mount = world.host("b").mount(&[]);
    for (name, time) in cases {
        assert_eq!(fs::metadata(mount.path(name)).expect("stat").modified().expect("mtime"), time, "{name}");
    }
    before.assert_same(&Tree::of(mount.root()), "times after a remount");
    mount.unmount();
}

#[test]
fn extended_attributes_and_their_errors() {
    same_as_local("xattrs", |dir, story| {
        use rustix::fs::{XattrFlags, lgetxattr, lremovexattr, lsetxattr};
        let path = dir.join("f");
        fs::write(&path, "x").expect("write");
        let set = |name: &str, value: &[u8], flags| lsetxattr(&path, name, value, flags);
        errno(story, "set", set("user.a", b"1", XattrFlags::empty()));
        errno(story, "create again", set("user.a", b"2", XattrFlags::CREATE));
        errno(story, "replace", set("user.a", b"2", XattrFlags::REPLACE));
        errno(story, "replace nothing", set("user.b", b"2", XattrFlags::REPLACE));
        errno(story, "empty value", set("user.empty", b"", XattrFlags::empty()));
        errno(story, "trusted", set("trusted.t", b"t", XattrFlags::empty()));
        errno(story, "unknown namespace", set("nonsense.t", b"t", XattrFlags::empty()));
        let mut small = [0u8; 0];
        errno(story, "size", lgetxattr(&path, "user.a", &mut small[..]));
        errno(story, "get nothing", lgetxattr(&path, "user.none", &mut small[..]));
        errno(story, "remove", lremovexattr(&path, "user.empty"));
        errno(story, "remove again", lremovexattr(&path, "user.empty"));
        let mut short = [0u8; 1];
        errno(story, "set longer", set("user.long", b"longer", XattrFlags::empty()));
        errno(story, "too short a buffer", lgetxattr(&path, "user.long", &mut short[..]));
    });
}

#[test]
fn acls_are_enforced_kept_and_inherited() {
    same_as_local("acls", |dir, story| {
        sh(
            dir,
            "mkdir d && setfacl -m u:1234:rwx,d:u:1234:rwx,d:g::r-x d && umask 022 &&
             echo x > d/f && mkdir d/sub && echo y > d/sub/g",
        );
        let acls = sh(dir, "getfacl -n d d/f d/sub d/sub/g");
        story.push_str(&acls);
        note(story, "mode", fs::metadata(dir.join("d/f")).map(|m| m.mode()));
        sh(dir, "chmod 700 d/sub/g && setfacl -x u:1234 d/f && setfacl -k d/sub");
        story.push_str(&sh(dir, "getfacl -n d/f d/sub d/sub/g"));
    });
}

#[test]
fn permissions_set_id_and_sticky_as_the_kernel_checks_them() {
    same_as_local("permissions", |dir, story| {
        // The directories above belong to root and may be closed to others: work by relative names.
        let nobody = |script: &str| {
            let wrapped = format!(
                "setpriv --reuid 65534 --regid 65534 --clear-groups bash -c '{script}' 2>&1 || echo code $?"
            );
            sh(dir, &wrapped).replace(&dir.display().to_string(), "DIR")
        };
        sh(
            dir,
            "chmod 755 . && mkdir -m 1777 tmp && mkdir -m 700 secret && mkdir -m 2775 team && chgrp 4242 team
             echo s > secret/f && chmod 644 secret/f && echo mine > tmp/mine && echo ro > ro && chmod 644 ro
             mkdir team/sub && echo x > team/f",
        );
        for script in [
            "cat secret/f",
            "echo x > tmp/theirs && cat tmp/theirs",
            "rm -f tmp/mine",
            "mv tmp/mine tmp/stolen",
            "echo x > ro",
            "cat ro",
            "chmod 777 ro",
            "mkdir here",
        ] {
            writeln!(story, "{script}: {}", nobody(script)).expect("a string takes it");
        }
        for name in ["team/sub", "team/f", "tmp"] {
            let stat = fs::metadata(dir.join(name)).map(|m| (format!("{:o}", m.mode()), m.gid()));
            note(story, name, stat);
        }
        sh(dir, "echo x > tmp/suid && chown 65534 tmp/suid && chmod 6755 tmp/suid");
        nobody("echo more >> tmp/suid");
        note(story, "a write clears set-id", fs::metadata(dir.join("tmp/suid")).map(|m| m.mode()));
        sh(dir, "chmod 6755 tmp/suid && chown 1234 tmp/suid");
        note(story, "chown clears set-id", fs::metadata(dir.join("tmp/suid")).map(|m| m.mode()));
    });
}

#[test]
fn a_shared_mapping_is_written_and_read() {
    let world = World::new("mmap");
    let mount = world.host("a").mount(&[]);
    let script = r#"
import mmap, os
f = os.open("m", os.O_RDWR | os.O_CREAT)
os.ftruncate(f, 1 << 20)
m = mmap.mmap(f, 1 << 20)
m[5000:5005] = b"hello"
assert os.pread(f, 5, 5000) == b"hello"
os.pwrite(f, b"other", 700000)
assert m[700000:700005] == b"other"
m.flush()
os.close(f)
m[9000:9004] = b"late"
m.flush()
m.close()
p = os.open("m", os.O_RDONLY)
q = mmap.mmap(p, 1 << 20, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
q[0:3] = b"own"
assert os.pread(p, 3, 0) == b"\0\0\0"
"#;
    fs::write(world.local("script").join("m.py"), script).expect("write");
    sh(mount.root(), &format!("python3 {}", world.local("script").join("m.py").display()));
    mount.flush();
    mount.kill();
    world.host("a").wipe();
    let mount = world.host("b").mount(&["--takeover"]);
    let bytes = fs::read(mount.path("m")).expect("read");
    assert_eq!(bytes.len(), 1 << 20);
    for (at, text) in [(5000, &b"hello"[..]), (700_000, b"other"), (9000, b"late")] {
        assert_eq!(&bytes[at..at + text.len()], text);
    }
    mount.unmount();
}

#[test]
fn locks_hold_between_processes() {
    let world = World::new("locks");
    let mount = world.host("a").mount(&[]);
    let said = sh(
        mount.root(),
        "touch l; exec 9>l; flock -n 9 && (flock -n l -c 'echo got' || echo refused); exec 9>&-
         flock -n l -c 'echo got'",
    );
    assert_eq!(said, "refused\ngot\n");
    let script = "import fcntl, os, sys
f = open('p', 'w'); fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
pid = os.fork()
if pid == 0:
    try: fcntl.lockf(open('p', 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError: os._exit(7)
    os._exit(0)
sys.exit(0 if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7 else 1)";
    sh(mount.root(), &format!("python3 -c \"{script}\""));
    mount.unmount();
}

#[test]
fn a_large_directory_lists_every_name_once_while_it_changes() {
    let world = World::new("readdir");
    let mount = world.host("a").mount(&["--durability", "fsync", "--no-publish"]);
    for n in 0..3000 {
        fs::write(mount.path(format!("f{n}")), "").expect("write");
    }
    let mut listing = fs::read_dir(mount.root()).expect("list");
    let mut names = Vec::new();
    for _ in 0..100 {
        names.push(listing.next().expect("more").expect("entry").file_name());
    }
    for n in 0..500 {
        fs::write(mount.path(format!("new{n}")), "").expect("write");
        // Removed and renamed names are among those that were listed already, or are allowed to be missing.
        fs::remove_file(mount.path(format!("f{}", n * 6))).expect("unlink");
    }
    names.extend(listing.map(|e| e.expect("entry").file_name()));
    let unique: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "a name was listed twice");
    for n in (0..3000).filter(|n| n % 6 != 0) {
        let name = std::ffi::OsString::from(format!("f{n}"));
        assert!(unique.contains(&name), "{name:?} was not listed");
    }
    mount.unmount();
}

#[test]
fn statfs_and_synced_opens_answer() {
    let world = World::new("statfs");
    let mount = world.host("a").mount(&[]);
    let space = rustix::fs::statvfs(mount.root()).expect("statfs");
    assert!(space.f_bavail * space.f_frsize > 1 << 40, "the cache's size is not the session's");
    assert_eq!(space.f_namemax, 255);
    let flags = rustix::fs::OFlags::SYNC.bits() as i32;
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(flags)
        .open(mount.path("f"))
        .expect("open");
    file.write_all(b"synced").expect("write");
    let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
    let direct = File::options().read(true).custom_flags(flags).open(mount.path("f")).expect("O_DIRECT");
    let mut bytes = vec![0; 4096];
    assert_eq!(direct.read_at(&mut bytes, 0).expect("read"), 6);
    let mode = fs::Permissions::from_mode(0o400);
    fs::set_permissions(mount.path("f"), mode).expect("chmod");
    let error = rustix::fs::open(mount.path("gone"), rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    assert_eq!(error.expect_err("no such file"), Errno::NOENT);
    drop((file, direct));
    mount.unmount();
}

#[test]
fn a_running_program_is_opened_for_writing_and_emptied_by_nobody() {
    let world = World::new("busy-text");
    let (mount, local) = (world.host("a").mount(&[]), world.local("disk").join("sleep"));
    let whole = fs::metadata("/usr/bin/sleep").expect("stat").len();
    for path in [&local, &mount.path("sleep")] {
        fs::copy("/usr/bin/sleep", path).expect("copy");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
        let mut running = Command::new(path).arg("60").spawn().expect("run");
        // The second asks for what only a writer may do, though it is none.
        let both = [
            File::options().write(true).truncate(true).open(path),
            File::options().read(true).custom_flags(libc::O_TRUNC).open(path),
        ];
        let still_runs = running.try_wait().expect("look").is_none();
        // It may have ended by itself.
        let _ = running.kill();
        running.wait().expect("reap");
        for opened in both {
            let refused = opened.expect_err("it runs");
            assert_eq!(refused.kind(), ErrorKind::ExecutableFileBusy, "{}", path.display());
        }
        assert!(still_runs);
        assert_eq!(fs::metadata(path).expect("stat").len(), whole, "{}", path.display());
    }
    mount.unmount();
}
