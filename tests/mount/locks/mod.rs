//! Locks (POSIX, OFD, flock) between processes of a mount: the same processes do the same on a local disk, and
//! are told the same. What is the mount's own: a store that is away, a daemon that died, a machine that is gone.

mod agent;

use crate::support::World;
use crate::support::way::{Way, no_error_logged};
use crate::work::noise;
use agent::Agent;
use std::fs;
use std::path::Path;

const KINDS: [&str; 3] = ["posix", "ofd", "flock"];
/// Large enough to be opened in passthrough.
const LARGE: usize = 9 << 20;

type Story = Vec<String>;

/// Runs a program on a local disk and on mounts; it has to be told the same everywhere.
#[track_caller]
fn same_as_local(name: &str, ways: &[Way], program: impl Fn(&Path, &mut Story)) {
    let world = World::new(name);
    let local = world.local("reference");
    prepare(&local);
    let mut expected = Story::new();
    program(&local, &mut expected);
    for way in ways {
        println!("{way}");
        let mount = world.host(&way.to_string()).mount(&way.options(&[]));
        let dir = mount.path(way.to_string());
        fs::create_dir(&dir).expect("mkdir");
        prepare(&dir);
        let mut story = Story::new();
        program(&dir, &mut story);
        assert_eq!(expected, story, "left: the local disk, right: the mount");
        no_error_logged(&mount);
        mount.unmount();
    }
}

fn file(dir: &Path, name: &str) -> fs::Metadata {
    fs::metadata(dir.join(name)).expect("stat")
}

/// Two files to lock.
fn prepare(dir: &Path) {
    fs::write(dir.join("f"), "0123456789").expect("write");
    fs::write(dir.join("large"), noise(LARGE, 1)).expect("write");
}

#[test]
fn shared_and_exclusive_ones_exclude_each_other() {
    same_as_local("locks-exclude", &Way::ALL, |dir, story| {
        for (kind, file) in KINDS.into_iter().flat_map(|kind| [(kind, "f"), (kind, "large")]) {
            let (mut a, mut b) = (Agent::new(dir, "a"), Agent::new(dir, "b"));
            for agent in [&mut a, &mut b] {
                agent.note(story, &format!("open h {file} rw"));
                agent.note(story, &format!("open reads {file} r"));
                agent.note(story, &format!("open writes {file} w"));
            }
            for (first, second) in [("sh", "sh"), ("sh", "ex"), ("ex", "sh"), ("ex", "ex")] {
                a.note(story, &format!("lock {kind} h {first}"));
                b.note(story, &format!("lock {kind} h {second}"));
                a.note(story, &format!("lock {kind} h un"));
                b.note(story, &format!("lock {kind} h {second}"));
                b.note(story, &format!("lock {kind} h un"));
            }
            // What a descriptor's mode allows.
            for (handle, kind_of) in [("reads", "sh"), ("reads", "ex"), ("writes", "sh"), ("writes", "ex")] {
                a.note(story, &format!("lock {kind} {handle} {kind_of}"));
                a.note(story, &format!("lock {kind} {handle} un"));
            }
        }
    });
}

#[test]
fn ranges_split_merge_and_change_their_type() {
    same_as_local("locks-ranges", &Way::drawn("lock ranges"), |dir, story| {
        for kind in ["posix", "ofd"] {
            let (mut a, mut b) = (Agent::new(dir, "a"), Agent::new(dir, "b"));
            a.note(story, "open h f rw");
            b.note(story, "open h f rw");
            a.note(story, &format!("lock {kind} h ex 0 100"));
            a.note(story, &format!("lock {kind} h un 40 20"));
            for range in ["0 10", "30 20", "45 10", "50 20", "99 1", "100 1", "0 0", "1000000 0"] {
                b.note(story, &format!("who {kind} h ex {range}"));
                b.note(story, &format!("who {kind} h sh {range}"));
            }
            b.note(story, &format!("lock {kind} h ex 40 20"));
            // Downgraded, and upgraded where nobody shares.
            a.note(story, &format!("lock {kind} h sh 0 40"));
            b.note(story, &format!("lock {kind} h sh 10 10"));
            a.note(story, &format!("lock {kind} h ex 0 40"));
            a.note(story, &format!("lock {kind} h ex 0 10"));
            b.note(story, &format!("lock {kind} h un 10 10"));
            a.note(story, &format!("lock {kind} h ex 0 40"));
            // Beyond the end, and to the end of all files.
            a.note(story, &format!("lock {kind} h ex 9223372036854775806 1"));
            b.note(story, &format!("lock {kind} h ex 9223372036854775000 0"));
            b.note(story, &format!("lock {kind} h ex -1 1"));
            a.note(story, &format!("lock {kind} h un"));
            b.note(story, &format!("lock {kind} h ex"));
        }
    });
}

#[test]
fn kinds_meet_as_they_do_locally() {
    same_as_local("locks-kinds", &Way::drawn("lock kinds"), |dir, story| {
        for first in KINDS {
            for second in KINDS {
                let (mut a, mut b) = (Agent::new(dir, "a"), Agent::new(dir, "b"));
                a.note(story, "open h f rw");
                b.note(story, "open h f rw");
                a.note(story, &format!("lock {first} h ex"));
                b.note(story, &format!("lock {second} h ex"));
                for kind in ["posix", "ofd"] {
                    b.note(story, &format!("who {kind} h ex"));
                }
            }
        }
        // Two descriptions of one process.
        for kind in KINDS {
            let mut a = Agent::new(dir, "a");
            a.note(story, "open h f rw");
            a.note(story, "open second f rw");
            a.note(story, &format!("lock {kind} h ex"));
            a.note(story, &format!("lock {kind} second ex"));
        }
    });
}

#[test]
fn who_waits_is_woken_when_the_holder_lets_go() {
    same_as_local("locks-wait", &Way::ALL, |dir, story| {
        let f = file(dir, "f");
        for kind in KINDS {
            // In each of the ways a holder lets go.
            for way in [&format!("lock {kind} h un"), &format!("lock {kind} h sh"), "close h", "killed"] {
                let (mut a, mut b) = (Agent::new(dir, "a"), Agent::new(dir, "b"));
                a.note(story, "open h f rw");
                b.note(story, "open h f rw");
                a.note(story, &format!("lock {kind} h ex"));
                b.wait_for(&format!("lock {kind} h sh 0 0 wait"), &f);
                match way {
                    "killed" => a.kill(),
                    way => a.note(story, way),
                }
                story.push(format!("{kind}: b waited: {}", b.answer()));
                b.note(story, &format!("lock {kind} h ex"));
            }
        }
    });
}

#[test]
fn a_wait_ends_by_a_signal_or_with_its_process() {
    same_as_local("locks-interrupted", &Way::drawn("lock waits"), |dir, story| {
        let f = file(dir, "f");
        for kind in KINDS {
            let (mut a, mut b) = (Agent::new(dir, "a"), Agent::new(dir, "b"));
            a.note(story, "open h f rw");
            b.note(story, "open h f rw");
            a.note(story, &format!("lock {kind} h ex"));
            b.note(story, &format!("interrupted 0.2 lock {kind} h ex 0 0 wait"));
            b.wait_for(&format!("lock {kind} h ex 0 0 wait"), &f);
            b.kill();
            a.note(story, &format!("lock {kind} h un"));
            a.note(story, &format!("lock {kind} h ex"));
        }
    });
}

#[test]
fn a_deadlock_is_refused() {
    same_as_local("locks-deadlock", &Way::drawn("deadlock"), |dir, story| {
        let f = file(dir, "f");
        let mut agents = [Agent::new(dir, "a"), Agent::new(dir, "b"), Agent::new(dir, "c")];
        for (n, agent) in agents.iter_mut().enumerate() {
            agent.note(story, "open h f rw");
            agent.note(story, &format!("lock posix h ex {n} 1"));
        }
        let [a, b, c] = &mut agents;
        a.wait_for("lock posix h ex 1 1 wait", &f);
        b.wait_for("lock posix h ex 2 1 wait", &f);
        c.note(story, "lock posix h ex 0 1 wait");
        c.note(story, "lock posix h un");
        story.push(format!("b waited: {}", b.answer()));
        b.note(story, "lock posix h un");
        story.push(format!("a waited: {}", a.answer()));
        // The other kinds know of no deadlock; who waits goes on waiting.
        for kind in ["ofd", "flock"] {
            let (mut d, mut e) = (Agent::new(dir, "d"), Agent::new(dir, "e"));
            d.note(story, "open h large rw");
            e.note(story, "open h large rw");
            d.note(story, &format!("lock {kind} h sh"));
            e.note(story, &format!("lock {kind} h sh"));
            if kind == "ofd" {
                d.wait_for("lock ofd h ex 0 0 wait", &file(dir, "large"));
                e.note(story, "lock ofd h un");
                story.push(format!("d waited: {}", d.answer()));
            } else {
                // An upgrade gives up the shared lock first.
                e.note(story, "lock flock h ex");
                d.note(story, "lock flock h ex");
            }
        }
    });
}

#[test]
fn closes_forks_and_execs_keep_and_release_as_locally() {
    same_as_local("locks-lives", &Way::drawn("lock lives"), |dir, story| {
        for kind in KINDS {
            let other = |story: &mut Story, what: &str| {
                let mut b = Agent::new(dir, "b");
                b.ask("open h f rw");
                let answer = b.ask(&format!("lock {kind} h ex"));
                story.push(format!("{kind}: {what}: {answer}"));
            };
            let holder = |story: &mut Story| {
                let mut a = Agent::new(dir, "a");
                a.note(story, "open h f rw");
                a.note(story, &format!("lock {kind} h ex"));
                a
            };
            let mut a = holder(story);
            a.note(story, "dup h copy");
            a.note(story, "close copy");
            other(story, "a copy was closed");
            let mut a2 = holder(story);
            a2.note(story, "open again f r");
            a2.note(story, "close again");
            other(story, "another description was closed");
            drop((a, a2));

            let mut a = holder(story);
            a.note(story, "fork");
            other(story, "while there is a child");
            a.note(story, "close h");
            other(story, "the parent closed, the child did not");
            a.note(story, "end");
            other(story, "the child ended");
            drop(a);
            let mut a = holder(story);
            a.note(story, "fork");
            a.note(story, &format!("lock {kind} h un"));
            other(story, "the parent unlocked");
            a.note(story, "end");
            drop(a);

            let mut a = holder(story);
            a.note(story, "exec h");
            other(story, "after exec");
            a.note(story, "close h");
            other(story, "after exec and close");
            drop(a);
            let mut a = holder(story);
            a.note(story, "exec");
            other(story, "after an exec that closed it");
        }
    });
}

#[test]
fn a_lock_goes_with_the_file_not_with_its_name() {
    same_as_local("locks-names", &Way::drawn("locks and names"), |dir, story| {
        for kind in KINDS {
            let at = |name: &str| dir.join(format!("{kind}-{name}"));
            fs::write(at("one"), "1").expect("write");
            let one = fs::metadata(at("one")).expect("stat");
            let (mut a, mut b) = (Agent::new(dir, "a"), Agent::new(dir, "b"));
            a.note(story, &format!("open h {kind}-one rw"));
            a.note(story, &format!("lock {kind} h ex"));
            fs::rename(at("one"), at("two")).expect("rename");
            b.note(story, &format!("open moved {kind}-two rw"));
            b.note(story, &format!("lock {kind} moved ex"));
            fs::hard_link(at("two"), at("three")).expect("link");
            b.note(story, &format!("open linked {kind}-three rw"));
            b.note(story, &format!("lock {kind} linked ex"));
            for name in ["two", "three"] {
                fs::remove_file(at(name)).expect("unlink");
            }
            b.note(story, &format!("lock {kind} moved ex"));
            // A new file of the same name is another file.
            b.note(story, &format!("open new {kind}-two rw"));
            b.note(story, &format!("lock {kind} new ex"));
            b.wait_for(&format!("lock {kind} moved ex 0 0 wait"), &one);
            a.note(story, "write h still-open");
            a.note(story, "close h");
            story.push(format!("{kind}: b waited: {}", b.answer()));
        }
    });
}

#[test]
fn locks_work_while_the_store_is_away() {
    let world = World::with_relay("locks-away");
    let mount = world.host("a").mount(&["--durability", "fsync"]);
    prepare(mount.root());
    mount.flush();
    let f = file(mount.root(), "f");
    world.relay().black_hole();
    for kind in KINDS {
        let (mut a, mut b) = (Agent::new(mount.root(), "a"), Agent::new(mount.root(), "b"));
        assert_eq!(a.ask("open h f rw"), "ok");
        assert_eq!(b.ask("open h f rw"), "ok");
        assert_eq!(a.ask(&format!("lock {kind} h ex")), "ok");
        assert_eq!(a.ask("write h changed"), "ok");
        assert_eq!(b.ask(&format!("lock {kind} h sh")), "EAGAIN");
        b.wait_for(&format!("lock {kind} h sh 0 0 wait"), &f);
        a.kill();
        assert_eq!(b.answer(), "ok", "{kind}");
    }
    world.relay().heal();
    mount.flush();
    mount.unmount();
}

#[test]
fn with_the_machine_its_locks_are_gone() {
    let world = World::with_relay("locks-lost");
    let mount = world.host("a").mount(&["--durability", "fsync"]);
    prepare(mount.root());
    mount.flush();
    let mut holders: Vec<Agent> = KINDS.into_iter().map(|kind| held(mount.root(), kind)).collect();
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover"]);
    for kind in KINDS {
        drop(held(mount.root(), kind));
    }
    // Whoever held one on the lost mount can let go of it, and nothing else.
    for (holder, kind) in holders.iter_mut().zip(KINDS) {
        assert_eq!(holder.ask(&format!("lock {kind} h un")), "ok");
        assert_eq!(holder.ask("write h lost"), "ENOTCONN");
    }
    mount.unmount();
}

/// A process that holds an exclusive lock on a file of that kind's own.
fn held(dir: &Path, kind: &str) -> Agent {
    let mut holder = Agent::new(dir, "holder");
    assert_eq!(holder.ask(&format!("open h locked-{kind} rw")), "ok");
    assert_eq!(holder.ask(&format!("lock {kind} h ex")), "ok", "{kind}");
    holder
}

#[test]
fn a_daemon_that_died_takes_its_locks_with_it() {
    let world = World::new("locks-died");
    let host = world.host("a");
    let mut mount = host.mount(&["--durability", "fsync"]);
    prepare(mount.root());
    mount.flush();
    let (mut holder, mut waiter) = (held(mount.root(), "flock"), Agent::new(mount.root(), "waiter"));
    assert_eq!(waiter.ask("open h locked-flock rw"), "ok");
    let f = file(mount.root(), "locked-flock");
    waiter.wait_for("lock flock h ex 0 0 wait", &f);
    mount.kill_only();
    // The files of a dead mount answer nothing, but the kernel still keeps who holds what among those that
    // have them open.
    assert_eq!(holder.ask("write h x"), "ENOTCONN");
    assert_eq!(holder.ask("lock flock h un"), "ok");
    assert_eq!(waiter.answer(), "ok", "who waits is not left hanging");
    assert_eq!(waiter.ask("write h x"), "ENOTCONN");
    // On a mount in its place the old locks mean nothing.
    let again = host.mount(&[]);
    drop(held(again.root(), "flock"));
    assert_eq!(waiter.ask("open new f rw"), "ENOTCONN", "its directory is the dead mount's");
    drop((holder, waiter));
    again.unmount();
}
