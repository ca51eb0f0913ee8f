//! In containers: one with no capability but CAP_SYS_ADMIN, the cache on its overlay root; one whose process 1
//! is the daemon; ones that may too little.

use crate::support::container::Container;
use crate::support::way::Way;
use crate::support::{Tree, World, eventually};
use std::fs;
use std::time::Duration;

/// Nothing but what FUSE needs.
const LEAST: [&str; 4] = ["--cap-drop", "all", "--cap-add", "SYS_ADMIN"];
const WAITS: [&str; 2] = ["sleep", "infinity"];

/// git, SQLite and a large file in /work.
const WORK: &str = r#"
cd /work
export GIT_AUTHOR_NAME=T GIT_AUTHOR_EMAIL=t@example.com GIT_COMMITTER_NAME=T GIT_COMMITTER_EMAIL=t@example.com
git init -q -b main repo && cd repo
for i in $(seq 60); do mkdir -p d$((i % 7)); seq $i > d$((i % 7))/$i; done
git add . && git commit -q -m one && git rm -q -r d3 && git commit -q -m two && git gc -q
cd ..
sqlite3 work.db 'pragma journal_mode=wal; create table t(id integer primary key, v text);
  with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000)
  insert into t select i, hex(randomblob(50)) from n;' > /dev/null
head -c 20000000 /dev/urandom > large && sha256sum large > large.sum && cat large > /dev/null
ln -s repo/d1 link && ln large linked && mkfifo fifo && chmod 2750 repo/d2
touch -d '1969-07-20 20:17:40.5' repo/d1/1
"#;

/// What has to hold of it afterwards.
const CHECK: &str = r#"
cd /work
git -C repo fsck --strict --full --no-progress
test -z "$(git -C repo status --porcelain)" && git -C repo log --oneline | grep two > /dev/null
test "$(sqlite3 work.db 'pragma integrity_check; select count(*) from t')" = $'ok\n3000'
sha256sum --quiet -c large.sum
"#;

#[test]
fn work_goes_on_elsewhere_when_a_container_is_killed() {
    for way in Way::drawn("container") {
        println!("{way}");
        let world = World::with_relay(&format!("container-{way}"));
        let options = way.options(&[]).join(" ");
        let container = Container::start(&world, &LEAST, &WAITS);
        let had = container.run("grep CapEff /proc/self/status; grep Seccomp: /proc/self/status").ok().out;
        assert!(had.contains("0000000000200000") && had.contains("Seccomp:\t2"), "only CAP_SYS_ADMIN: {had}");
        let on = container.run("stat -f -c %T / && mkdir -p /var/cache/cwdfs").ok().out;
        assert_eq!(on.trim(), "overlayfs", "the cache's file system");
        container.mount(&options, "/work").ok();
        container.run(WORK).ok();
        container.run("cwdfs flush /work").ok();
        let before = Tree::of(&container.path("/work"));
        container.lose();
        world.relay().drop_held();

        // In another one, and then on the host.
        let container = Container::start(&world, &LEAST, &WAITS);
        container.mount(&format!("{options} --takeover"), "/work").ok();
        before.assert_same(&Tree::of(&container.path("/work")), "in another container");
        container.run(CHECK).ok();
        container.run("cwdfs flush /work").ok();
        let before = Tree::of(&container.path("/work"));
        container.lose();
        let mount = world.host("a").mount(&way.options(&["--takeover"]));
        before.assert_same(&Tree::of(mount.root()), "on the host");
        mount.unmount();
    }
}

#[test]
fn as_process_1_it_serves_and_drains_when_told_to_stop() {
    let world = World::with_relay("container-pid1");
    let inside = ["/usr/local/bin/cwdfs", "mount", "--foreground", "--commit-interval", "1h"];
    let command = [&inside[..], &["--durability", "fsync", &world.store, "/mnt"]].concat();
    let container = Container::start(&world, &["--cap-add", "SYS_ADMIN"], &command);
    eventually("the mount of process 1", Duration::from_secs(60), || {
        container.run("grep -q ' /mnt fuse.cwdfs ' /proc/mounts").code == Some(0)
    });
    container.run("test \"$(cat /proc/1/comm)\" = cwdfs && cwdfs status /mnt").ok();
    // Processes that lose their parents become ours, and end.
    container.run("for n in $(seq 20); do (sh -c \"sleep 0.1; echo $n > /mnt/orphan-$n\" &); done").ok();
    eventually("what orphans write", Duration::from_secs(30), || {
        container.run("test $(ls /mnt | grep -c orphan) = 20").code == Some(0)
    });
    eventually("no zombies", Duration::from_secs(30), || {
        container.run("! grep -l '^State:.Z' /proc/[0-9]*/status").code == Some(0)
    });
    container.run("seq 1000 > /mnt/unsaved && chmod 640 /mnt/unsaved").ok();
    let before = Tree::of(&container.path("/mnt"));
    assert_eq!(container.stop(), Some(0), "{}", container.log());
    drop(container);
    // It gave the session back, so nothing has to be taken over.
    let mount = world.host("a").mount(&["--lease-ttl", "1h"]);
    before.assert_same(&Tree::of(mount.root()), "after SIGTERM for process 1");
    assert_eq!(fs::read_to_string(mount.path("unsaved")).expect("read").lines().count(), 1000);
    mount.unmount();
}

#[test]
fn a_container_that_may_too_little_is_told_what_to_add() {
    let world = World::with_relay("container-refused");
    let container = Container::start(&world, &["--cap-drop", "all"], &WAITS);
    let ran = container.mount("", "/work").exits(5);
    ran.says(&["--device /dev/fuse --cap-add SYS_ADMIN"]).plainly();
    // It gave the session back, so nothing has to be taken over.
    world.host("a").mount(&["--lease-ttl", "1h"]).unmount();
}

#[test]
fn as_process_1_it_is_killed_and_what_was_acknowledged_is_in_the_store() {
    let world = World::with_relay("container-pid1-killed");
    let command = ["/usr/local/bin/cwdfs", "mount", "--foreground", &world.store, "/mnt"];
    let container = Container::start(&world, &["--cap-add", "SYS_ADMIN"], &command);
    eventually("the mount of process 1", Duration::from_secs(60), || {
        container.run("grep -q ' /mnt fuse.cwdfs ' /proc/mounts").code == Some(0)
    });
    container.run("cd /mnt && mkdir -p a/b && seq 9000 > a/b/n && ln a/b/n hard && ln -s a/b link").ok();
    // A close that returns covers all that happened before it.
    container.run("echo last > /mnt/last").ok();
    world.relay().cut();
    let before = Tree::of(&container.path("/mnt"));
    container.lose();
    world.relay().heal();
    let mount = world.host("a").mount(&["--takeover"]);
    before.assert_same(&Tree::of(mount.root()), "after process 1 was killed");
    mount.unmount();
}
