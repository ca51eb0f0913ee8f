//! What the twin has found, as the smallest steps that show it.

use super::ops::{Op::*, *};
use super::{again, again_whoever_does_the_io, capability};

const CREATE: i32 = libc::O_RDWR | libc::O_CREAT;

fn set_capability(fd: u8) -> Op {
    SetXattr { on: On::Fd(fd), name: "security.capability".into(), value: capability(), flags: 0 }
}

fn open(fd: u8, path: &str) -> Step {
    by(0, Open { fd, at: at(path), flags: CREATE, mode: 0o644 })
}

#[test]
fn an_xattr_that_must_and_must_not_be_there_is_refused_as_either() {
    let set = |flags| SetXattr { on: On::Fd(0), name: "user.a".into(), value: vec![1], flags };
    let both = libc::XATTR_CREATE | libc::XATTR_REPLACE;
    again(
        "twin-xattr-flags",
        &[open(0, "f"), by(0, set(both)), by(0, set(0)), by(0, set(both)), by(0, set(8))],
    );
}

#[test]
fn a_kind_of_xattr_alone_is_no_name() {
    let name = || "user.".to_owned();
    again(
        "twin-xattr-names",
        &[
            open(0, "f"),
            by(0, SetXattr { on: On::Fd(0), name: name(), value: vec![1], flags: 0 }),
            by(0, GetXattr { on: On::Fd(0), name: name(), room: 9 }),
            by(0, RemoveXattr { on: On::Path(at("f"), false), name: name() }),
        ],
    );
}

#[test]
fn a_rename_leaves_a_whiteout_where_asked_for() {
    let mv = |from: &str, to: &str, flags| Rename { from: at(from), to: at(to), flags };
    let (whiteout, keep) = (libc::RENAME_WHITEOUT, libc::RENAME_WHITEOUT | libc::RENAME_NOREPLACE);
    again(
        "twin-whiteout",
        &[
            open(0, "f"),
            by(0, Mkdir { at: at("e"), mode: 0o2755 }),
            by(0, mv("f", "e/b", whiteout)).watching(at("f")),
            by(0, Stat { on: On::Path(at("f"), false) }),
            by(0, mv("e", "g", keep)).watching(at("g")),
            by(0, mv("g/b", "f", keep)),
            by(0, mv("g/b", "f", whiteout)).watching(at("g")),
            by(0, Lose { end: End::Machine }),
            // Making a device node is root's.
            by(1, Chown { on: On::Path(at("f"), true), uid: 1001, gid: 1001 }),
            by(1, mv("f", "h", whiteout)),
        ],
    );
}

#[test]
fn fallocate_moves_the_times_whatever_it_finds_to_do() {
    let allocate = |mode, at, len| by(0, Fallocate { fd: 0, mode, at, len });
    let keep = libc::FALLOC_FL_KEEP_SIZE;
    again(
        "twin-fallocate-times",
        &[
            open(0, "f"),
            allocate(keep, 0, 1).watching(at("f")),
            allocate(keep | libc::FALLOC_FL_PUNCH_HOLE, 5000, 10).watching(at("f")),
            allocate(0, 0, 100).watching(at("f")),
            allocate(0, 0, 100).watching(at("f")),
            allocate(libc::FALLOC_FL_ZERO_RANGE, 0, 100).watching(at("f")),
        ],
    );
}

#[test]
fn holes_show_while_the_kernel_reads_the_file_by_itself() {
    again(
        "twin-holes-in-passthrough",
        &[
            open(0, "f"),
            by(0, Write { fd: 0, at: None, len: 9_374_611, fill: 188 }),
            by(0, Fallocate { fd: 0, mode: 3, at: 3276, len: 2367 }),
            by(0, Lose { end: End::Machine }),
        ],
    );
}

#[test]
fn data_that_was_stored_through_a_mapping_is_found_by_seek() {
    let store =
        |meanwhile| Store { map: 0, at: 5000, len: 5000, fill: 9, meanwhile: Some(Box::new(meanwhile)) };
    again(
        "twin-mapped-data",
        &[
            open(0, "f"),
            by(0, Ftruncate { fd: 0, size: 1 << 20 }),
            by(0, Map { map: 0, fd: 0, page: 70, pages: 4, write: true }),
            by(0, store(Seek { fd: 0, to: 0, whence: libc::SEEK_DATA })),
            by(0, store(Seek { fd: 0, to: 290_000, whence: libc::SEEK_HOLE })),
        ],
    );
}

#[test]
fn a_listing_from_a_moved_directory_goes_on_where_it_was() {
    let change = Rename { from: at("e"), to: at("g"), flags: 0 };
    let directory = libc::O_RDONLY | libc::O_DIRECTORY;
    again(
        "twin-moved-directory",
        &[
            by(0, Mkdir { at: at("e"), mode: 0o755 }),
            by(0, Populate { at: at("e"), n: 60 }),
            by(2, Open { fd: 1, at: at("e"), flags: directory, mode: 0 }),
            by(2, List { at: below(1, "."), first: 20, change: Box::new(change), again: true }),
            by(2, Unlink { at: below(1, "f007") }).watching(at("g")),
            by(2, List { at: below(1, ""), first: 0, change: Box::new(Getcwd), again: false }),
        ],
    );
}

#[test]
fn a_change_of_content_takes_the_capabilities() {
    let set = || set_capability(0);
    let get = || GetXattr { on: On::Fd(0), name: "security.capability".into(), room: 99 };
    let write = |fd| by(0, Write { fd, at: Some(0), len: 1, fill: 7 });
    let mut steps = vec![open(0, "f"), by(0, Open { fd: 1, at: at("f"), flags: libc::O_WRONLY, mode: 0 })];
    let truncate = Open { fd: 2, at: at("f"), flags: libc::O_WRONLY | libc::O_TRUNC, mode: 0 };
    let changes = [write(1), write(0), write(1), by(0, truncate), by(0, Ftruncate { fd: 1, size: 9 })];
    for change in changes {
        steps.extend([by(0, set()), by(0, get()), change, by(0, get()), write(1)]);
    }
    again_whoever_does_the_io("twin-capabilities", &steps);
}

#[test]
fn a_file_that_the_kernel_wrote_by_itself_is_stored_at_a_clean_end() {
    let rewrite = Open { fd: 0, at: at("b/c"), flags: libc::O_WRONLY | libc::O_TRUNC, mode: 0 };
    again(
        "twin-passthrough-unmount",
        &[
            by(0, rewrite),
            by(0, Write { fd: 0, at: None, len: 9 << 20, fill: 1 }),
            by(0, Write { fd: 0, at: Some(5000), len: 100, fill: 2 }),
            by(0, Close { fd: 0 }),
            by(0, Lose { end: End::Unmount }),
        ],
    );
}

#[test]
fn set_gid_without_group_execution_goes_when_a_stranger_truncates() {
    again(
        "twin-set-gid",
        &[
            by(0, Open { fd: 0, at: at("c"), flags: libc::O_RDWR, mode: 0 }),
            by(0, Open { fd: 1, at: at("c"), flags: libc::O_RDWR, mode: 0 }),
            by(0, Chmod { on: On::Path(at("c"), true), mode: 0o2262 }),
            by(1, Truncate { at: at("c"), size: 0 }),
        ],
    );
}

/// Changes of a file's content by a process that has it open three times, and another as descriptor 3.
fn changes(path: &str) -> Vec<Op> {
    let fallocate = |fd, mode| Fallocate { fd, mode, at: 0, len: 5000 };
    let copy = |to| Copy { from: 3, from_at: 0, to, to_at: 10, len: 100 };
    let write = |fd, at| Write { fd, at, len: 100, fill: 3 };
    vec![
        Truncate { at: at(path), size: 9000 },
        Ftruncate { fd: 0, size: 8000 },
        Ftruncate { fd: 1, size: 9000 },
        write(0, Some(0)),
        write(1, Some(0)),
        write(2, None),
        write(2, Some(0)),
        fallocate(0, 0),
        fallocate(1, libc::FALLOC_FL_KEEP_SIZE),
        fallocate(1, libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE),
        fallocate(2, libc::FALLOC_FL_ZERO_RANGE),
        copy(0),
        copy(1),
        Sendfile { from: 3, from_at: 0, to: 1, len: 100 },
        Splice { from: 3, from_at: 0, to: 0, to_at: 0, len: 100 },
        Open { fd: 4, at: at(path), flags: libc::O_WRONLY | libc::O_TRUNC, mode: 0 },
        // These change nothing of the content.
        write(0, Some(0)),
        Chmod { on: On::Path(at(path), true), mode: 0o6262 },
    ]
}

/// Every change of `path` by root, members of its group (one by a further group), its owner and strangers.
fn changes_of_set_id_files(path: &str, first: i32) -> Vec<Step> {
    let mut steps = vec![by(0, Write { fd: 4, at: Some(0), len: 20_000, fill: 9 })];
    steps.insert(0, by(0, Open { fd: 4, at: at("e"), flags: libc::O_RDWR | libc::O_CREAT, mode: 0o644 }));
    for user in [0, 1, 3] {
        let open = |fd, path, flags| by(user, Open { fd, at: at(path), flags, mode: 0 });
        steps.extend([open(1, path, first), open(0, path, libc::O_RDWR)]);
        steps.extend([open(2, path, libc::O_WRONLY | libc::O_APPEND), open(3, "e", libc::O_RDONLY)]);
    }
    let on = || On::Path(at(path), true);
    for (uid, gid) in [(0, 0), (0, 1001), (0, 2000), (1001, 0)] {
        steps.push(by(0, Chown { on: on(), uid, gid }));
        for (mode, user) in
            [0o2262, 0o6262, 0o2272, 0o6272].into_iter().flat_map(|m| [0, 1, 3].map(|u| (m, u)))
        {
            for change in changes(path) {
                steps.extend([by(0, Chmod { on: on(), mode }), by(user, change), by(0, Stat { on: on() })]);
            }
            // One to nobody takes them, too; by a stranger it differs.
            if user == 0 || user == 1 && uid == 1001 {
                let chown = by(user, Chown { on: on(), uid: u32::MAX, gid: u32::MAX });
                steps.extend([by(0, Chmod { on: on(), mode }), chown, by(0, Stat { on: on() })]);
            }
        }
    }
    steps
}

#[test]
fn set_id_bits_go_by_who_changes_a_file() {
    again_whoever_does_the_io("twin-set-id", &changes_of_set_id_files("c", libc::O_WRONLY));
}

#[test]
fn set_id_bits_go_where_the_kernel_writes_by_itself() {
    again_whoever_does_the_io(
        "twin-set-id-passthrough",
        &changes_of_set_id_files("b/c", libc::O_WRONLY | libc::O_TRUNC),
    );
}

#[test]
fn who_may_keep_set_id_bits_keeps_them_where_a_write_takes_capabilities() {
    let on = || On::Path(at("c"), true);
    let mut steps = vec![by(0, Open { fd: 0, at: at("c"), flags: libc::O_RDWR, mode: 0 })];
    for change in [
        Write { fd: 0, at: Some(0), len: 100, fill: 3 },
        Ftruncate { fd: 0, size: 9 },
        Write { fd: 0, at: Some(50), len: 100, fill: 4 },
    ] {
        steps.extend([by(0, Chmod { on: on(), mode: 0o6755 }), by(0, set_capability(0))]);
        steps.extend([by(0, change).watching(at("c")), by(0, Stat { on: on() })]);
    }
    again_whoever_does_the_io("twin-kept-set-id", &steps);
}
