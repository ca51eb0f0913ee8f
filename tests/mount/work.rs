//! The work that tests do in a session: what people do, with the programs they use.

use crate::support::descriptors::apart;
use crate::support::{sh, tree};
use rustix::fs::{FileType, Mode};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// Clones this project's repository and goes on working in it: branches, commits, a merge, a repack.
pub fn git(dir: &Path) {
    git_from(dir, Path::new(env!("CARGO_MANIFEST_DIR")));
}

/// A copy of this project's repository that belongs to a user, for [`git_from`].
pub fn source_of(copy: &Path, uid: u32) {
    let (source, copy) = (env!("CARGO_MANIFEST_DIR"), copy.display());
    let clone = "git -c safe.directory='*' clone -q --bare --no-local";
    sh(Path::new("/"), &format!("{clone} 'file://{source}' '{copy}' && chown -R {uid}:{uid} '{copy}'"));
}

/// As [`git`], from a repository of the caller's.
pub fn git_from(dir: &Path, source: &Path) {
    let source = source.display();
    sh(
        dir,
        &format!(
            "git -c safe.directory='*' clone -q --no-local 'file://{source}' repo
             cd repo
             git checkout -q -b work
             for i in $(seq 20); do mkdir -p made/$((i % 4)); seq $i > made/$((i % 4))/$i; done
             git add made && git commit -q -m one
             git checkout -q -b side HEAD && seq 99 > made/side && git add made && git commit -q -m side
             git checkout -q work && git rm -q -r made/1 && git mv made/2 moved && git commit -q -m two
             git merge -q -m merged side && git gc -q && seq 7 > made/later && git add made
             git commit -q -m three && git fsck --strict --no-progress"
        ),
    );
}

/// What git says of the clone: nothing is damaged, nothing is changed.
pub fn check_git(dir: &Path) {
    let repo = dir.join("repo");
    sh(&repo, "git fsck --strict --full --no-progress && git log --oneline work | grep three");
    assert_eq!(sh(&repo, "git status --porcelain"), "", "git sees changes after the mount");
}

/// Installs two packages of the test's own, without any network: files, `.bin` symlinks, a lock file.
pub fn npm(dir: &Path) {
    let script = r#"
        export npm_config_cache="$PWD/../npm-cache" npm_config_update_notifier=false
        rm -rf ../npm-packages && mkdir -p ../npm-packages/tool/lib ../npm-packages/dep app
        for i in $(seq 60); do echo "module.exports = $i" > ../npm-packages/tool/lib/m$i.js; done
        echo '{"name":"dep","version":"1.0.0","main":"index.js"}' > ../npm-packages/dep/package.json
        echo 'module.exports = 42' > ../npm-packages/dep/index.js
        echo '{"name":"tool","version":"1.0.0","bin":{"tool":"run.js"}}' > ../npm-packages/tool/package.json
        printf '#!/usr/bin/env node\nconsole.log(require("./lib/m7") + require("dep"))\n' \
            > ../npm-packages/tool/run.js
        (cd ../npm-packages && npm pack --silent ./dep ./tool > ../npm-packed)
        cd app && echo '{"name":"app","version":"1.0.0"}' > package.json
        npm install --offline --no-audit --no-fund --silent \
            ../../npm-packages/dep-1.0.0.tgz ../../npm-packages/tool-1.0.0.tgz
        test -L node_modules/.bin/tool && node_modules/.bin/tool"#;
    assert_eq!(sh(dir, script).trim(), "49");
}

/// Runs what npm installed.
pub fn check_npm(dir: &Path) {
    assert_eq!(sh(&dir.join("app"), "node_modules/.bin/tool").trim(), "49");
}

/// A database with a write-ahead log, in which rows are added, changed and deleted.
pub fn sqlite(dir: &Path) {
    sh(
        dir,
        "sqlite3 work.db 'pragma journal_mode=wal; create table t(id integer primary key, v text);
           with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000)
           insert into t select i, hex(randomblob(50)) from n;' > /dev/null
         for i in 1 2 3; do
           sqlite3 work.db \"update t set v = 'changed $i' where id % 7 = $i; delete from t where id % 11 = $i\"
         done",
    );
}

/// The database is whole and has what was committed.
pub fn check_sqlite(dir: &Path) {
    let count = "select count(*) from t where v like 'changed %'";
    let said = sh(dir, &format!("sqlite3 work.db \"pragma integrity_check; {count}\""));
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "ok");
    assert!(lines[1].parse::<u32>().is_ok_and(|n| n > 1000), "rows changed: {said}");
}

/// One of everything a directory can hold.
pub fn one_of_everything(dir: &Path) {
    let at = |name: &str| dir.join(name);
    fs::create_dir_all(at("sub/deep/er")).expect("mkdir");
    fs::write(at("plain"), "plain").expect("write");
    fs::write(at("empty"), "").expect("write");
    fs::write(at("script"), "#!/bin/sh\necho hi\n").expect("write");
    fs::set_permissions(at("script"), fs::Permissions::from_mode(0o750)).expect("chmod");
    fs::write(at("sub/big"), noise(3 << 20, 1)).expect("write");
    fs::hard_link(at("sub/big"), at("sub/deep/big-too")).expect("link");
    symlink("../plain", at("sub/to-plain")).expect("symlink");
    symlink("nowhere/at all", at("dangling")).expect("symlink");
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), Mode::from_raw_mode(0o640)).expect("mkfifo");
    let device = rustix::fs::makedev(1, 3);
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, at("null"), FileType::CharacterDevice, mode, device).expect("mknod");
    drop(UnixListener::bind(at("s")).expect("socket"));
    fs::write(at("ünï ☃ 'q' \"d\" \\ back"), "name").expect("write");
    fs::write(at("new\nline"), "name").expect("write");
    tree::set_xattr(&at("plain"), "user.note", b"with \0 zero").expect("setxattr");
    tree::set_xattr(&at("sub"), "user.dir", b"d").expect("setxattr");
    std::os::unix::fs::chown(at("empty"), Some(1234), Some(5678)).expect("chown");
    fs::set_permissions(at("sub/deep"), fs::Permissions::from_mode(0o1777)).expect("chmod");
    let sparse = File::create(at("sparse")).expect("create");
    sparse.set_len(100 << 20).expect("truncate");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"island", 50 << 20).expect("pwrite");
    drop(sparse);
    let file = File::options().write(true).open(at("script")).expect("open");
    file.set_modified(UNIX_EPOCH + Duration::new(1_000_000_007, 123_456_789)).expect("utimens");
    drop(file);
    let before_1970 = UNIX_EPOCH - Duration::new(86_400, 250);
    let file = File::options().write(true).open(at("empty")).expect("open");
    file.set_modified(before_1970).expect("utimens before 1970");
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// close(2) with its error, which dropping a `File` would hide.
pub fn close(file: File) -> std::io::Result<()> {
    nix::unistd::close(file).map_err(Into::into)
}

/// Writes a whole file and closes it; the error may be that of the close. Its daemon may stand still meanwhile.
pub fn write_closed(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    apart(|| {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        close(file)
    })
}
