//! A change ships its own size, measured on the way to the store.

use crate::support::relay::Kind;
use crate::support::{World, full, sh};
use crate::work::{noise, write_closed};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

fn large() -> usize {
    if full() { 1 << 30 } else { 48 << 20 }
}

/// Bytes that go to the store for some work, up to the flush behind it.
fn shipped(world: &World, work: impl FnOnce()) -> u64 {
    world.relay().reset();
    work();
    world.relay().bytes().0
}

#[test]
fn a_line_appended_to_a_large_file_ships_kilobytes() {
    let world = World::with_relay("append");
    let mount = world.host("a").mount(&["--no-publish"]);
    write_closed(&mount.path("large"), &noise(large(), 1)).expect("write");
    mount.flush();
    let up = shipped(&world, || {
        let mut file = File::options().append(true).open(mount.path("large")).expect("open");
        file.write_all(b"one more line\n").expect("append");
        drop(file);
        mount.flush();
    });
    assert!(up < 64 << 10, "appending 14 bytes shipped {up}");
    mount.lose_machine();

    // The same on a machine that has nothing of the file, and in its middle.
    let mount = world.host("b").mount(&["--no-publish", "--takeover"]);
    let up = shipped(&world, || {
        let file = File::options().write(true).open(mount.path("large")).expect("open");
        file.write_all_at(b"here", large() as u64 / 2).expect("write");
        drop(file);
        mount.flush();
    });
    assert!(up < 64 << 10, "writing 4 bytes shipped {up}");
    let (_, down) = world.relay().bytes();
    assert!(down < 16 << 20, "writing 4 bytes fetched {down}");
    let mut expected = noise(large(), 1);
    let middle = large() / 2;
    expected[middle..middle + 4].copy_from_slice(b"here");
    expected.extend_from_slice(b"one more line\n");
    assert!(fs::read(mount.path("large")).expect("read") == expected, "the content is not what was written");
    mount.unmount();
}

#[test]
fn one_commit_in_a_large_database_ships_kilobytes() {
    let world = World::with_relay("database");
    let mount = world.host("a").mount(&["--no-publish"]);
    let rows = large() / 1100;
    sh(
        mount.root(),
        &format!(
            "sqlite3 big.db 'create table t(id integer primary key, v blob);
             with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows})
             insert into t select i, randomblob(1000) from n;'"
        ),
    );
    mount.flush();
    let size = fs::metadata(mount.path("big.db")).expect("stat").len();
    assert!(size as usize > large() * 9 / 10, "the database has only {size} bytes");
    let up = shipped(&world, || {
        sh(mount.root(), "sqlite3 big.db \"update t set v = 'changed' where id = 77\"");
        mount.flush();
    });
    assert!(up < 256 << 10, "one changed row of {size} bytes shipped {up}");
    mount.lose_machine();
    let mount = world.host("b").mount(&["--no-publish", "--takeover"]);
    let said = sh(mount.root(), "sqlite3 big.db 'select v from t where id = 77; pragma quick_check'");
    assert_eq!(said, "changed\nok\n");
    mount.unmount();
}

#[test]
fn a_copy_of_a_large_file_ships_kilobytes_and_is_a_file_of_its_own() {
    let world = World::with_relay("copy");
    let mount = world.host("a").mount(&["--no-publish"]);
    let content = noise(large(), 2);
    write_closed(&mount.path("large"), &content).expect("write");
    mount.flush();
    let up = shipped(&world, || {
        // What std and cp use too: copy_file_range(2).
        let copied = fs::copy(mount.path("large"), mount.path("copy")).expect("copy");
        assert_eq!(copied, large() as u64);
        mount.flush();
    });
    assert!(up < 256 << 10, "a copy shipped {up}");
    // A change of one of the two is not one of the other.
    let file = File::options().write(true).open(mount.path("copy")).expect("open");
    file.write_all_at(b"here", 5_000_000).expect("write");
    drop(file);
    fs::remove_file(mount.path("large")).expect("unlink");
    mount.flush();
    mount.lose_machine();
    let mount = world.host("b").mount(&["--no-publish", "--takeover"]);
    let mut expected = content;
    expected[5_000_000..5_000_004].copy_from_slice(b"here");
    assert!(fs::read(mount.path("copy")).expect("read") == expected, "the copy is not what was copied");
    mount.unmount();
}

#[test]
fn a_rename_of_a_large_directory_ships_no_content() {
    let world = World::with_relay("rename-dir");
    let mount = world.host("a").mount(&["--no-publish", "--durability", "fsync"]);
    fs::create_dir(mount.path("d")).expect("mkdir");
    for n in 0..300 {
        fs::write(mount.path(format!("d/{n}")), noise(10_000, n)).expect("write");
    }
    mount.flush();
    let up = shipped(&world, || {
        fs::rename(mount.path("d"), mount.path("e")).expect("rename");
        mount.flush();
    });
    assert!(up < 16 << 10, "a rename shipped {up} bytes");
    let copies = world.relay().counts().get(&Kind::Copy).copied().unwrap_or(0);
    assert_eq!(copies, 0);
    mount.unmount();
}

#[test]
fn what_is_deleted_before_it_was_committed_is_not_shipped() {
    let world = World::with_relay("temporary");
    let mount = world.host("a").mount(&["--durability", "fsync", "--commit-interval", "5s"]);
    mount.flush();
    let up = shipped(&world, || {
        for n in 0..20 {
            fs::write(mount.path("tmp"), noise(200_000, n)).expect("write");
            fs::remove_file(mount.path("tmp")).expect("unlink");
        }
        mount.flush();
    });
    assert!(up < 200_000, "temporary files shipped {up} bytes");
    mount.unmount();
}
