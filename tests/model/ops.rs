//! What a test does, and how such sequences are made up.

use proptest::prelude::*;

/// A path of at most three names out of four: small, so that operations meet.
#[derive(Clone, PartialEq, Eq)]
pub struct Path(pub Vec<u8>);

impl Path {
    /// The names.
    pub fn names(&self) -> Vec<Vec<u8>> {
        self.0.iter().map(|n| vec![b'a' + n]).collect()
    }
}

impl std::fmt::Debug for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.0.iter().map(|n| char::from(b'a' + n).to_string()).collect();
        write!(f, "p({:?})", names.join("/"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Dir,
    Fifo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    Replace,
    NoReplace,
    Exchange,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    Grow,
    KeepSize,
    Punch,
    Zero,
    ZeroKeep,
}

/// How a mount ends without being unmounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The next mount finds the cache folder.
    KeepCache,
    /// The next mount has the store alone.
    WipeCache,
}

#[derive(Debug, Clone)]
pub enum Op {
    Make {
        at: Path,
        kind: Kind,
        mode: u32,
    },
    Symlink {
        at: Path,
        target: u8,
    },
    Unlink(Path),
    Rmdir(Path),
    Rename {
        from: Path,
        to: Path,
        how: Move,
    },
    Link {
        from: Path,
        to: Path,
    },
    Chmod(Path, u32),
    Chown(Path, u32, u32),
    Utimens(Path, i64),
    SetXattr {
        at: Path,
        name: u8,
        len: u16,
    },
    RemoveXattr {
        at: Path,
        name: u8,
    },
    Truncate(Path, u64),
    Open {
        slot: usize,
        at: Path,
        create: bool,
        truncate: bool,
    },
    Write {
        slot: usize,
        offset: u64,
        len: u64,
        fill: u8,
    },
    Reserve {
        slot: usize,
        offset: u64,
        len: u64,
        how: Reserve,
    },
    Copy {
        from: usize,
        from_at: u64,
        to: usize,
        to_at: u64,
        len: u64,
    },
    Read {
        slot: usize,
        offset: u64,
        len: u32,
    },
    Flush(usize),
    Fsync(usize),
    Close(usize),
    FsyncDir(Path),
    FlushAll,
    /// Lets timers and commits run.
    Pause,
    Remount,
    Crash(Crash),
}

/// How many files a test holds open at most.
pub const SLOTS: usize = 4;

fn path() -> impl Strategy<Value = Path> {
    // Short paths are met more often.
    prop_oneof![
        5 => proptest::collection::vec(0u8..4, 1),
        4 => proptest::collection::vec(0u8..4, 2),
        2 => proptest::collection::vec(0u8..4, 3),
    ]
    .prop_map(Path)
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0u64..5000, 2 => 0u64..100_000, 1 => 0u64..700_000, 2 => (0u64..40).prop_map(|n| n * 4096)]
}

fn len() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 1u64..3000, 2 => 1u64..60_000, 1 => 1u64..500_000, 2 => (1u64..20).prop_map(|n| n * 4096)]
}

fn names() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![4 => Just(Kind::File), 5 => Just(Kind::Dir), 1 => Just(Kind::Fifo)];
    let how = prop_oneof![4 => Just(Move::Replace), 1 => Just(Move::NoReplace), 2 => Just(Move::Exchange)];
    prop_oneof![
        4 => (path(), kind, 0u32..0o1000).prop_map(|(at, kind, mode)| Op::Make { at, kind, mode }),
        1 => (path(), any::<u8>()).prop_map(|(at, target)| Op::Symlink { at, target }),
        2 => path().prop_map(Op::Unlink),
        1 => path().prop_map(Op::Rmdir),
        4 => (path(), path(), how).prop_map(|(from, to, how)| Op::Rename { from, to, how }),
        2 => (path(), path()).prop_map(|(from, to)| Op::Link { from, to }),
    ]
}

fn attributes() -> impl Strategy<Value = Op> {
    prop_oneof![
        (path(), 0u32..0o10000).prop_map(|(at, mode)| Op::Chmod(at, mode)),
        (path(), 0u32..3, 0u32..3).prop_map(|(at, uid, gid)| Op::Chown(at, uid, gid)),
        (path(), -5_000_000_000i64..5_000_000_000).prop_map(|(at, t)| Op::Utimens(at, t)),
        (path(), 0u8..3, 0u16..2000).prop_map(|(at, name, len)| Op::SetXattr { at, name, len }),
        (path(), 0u8..3).prop_map(|(at, name)| Op::RemoveXattr { at, name }),
        (path(), offset()).prop_map(|(at, size)| Op::Truncate(at, size)),
    ]
}

fn content() -> impl Strategy<Value = Op> {
    let slot = 0..SLOTS;
    let how = prop_oneof![
        Just(Reserve::Grow),
        Just(Reserve::KeepSize),
        Just(Reserve::Punch),
        Just(Reserve::Zero),
        Just(Reserve::ZeroKeep),
    ];
    prop_oneof![
        4 => (slot.clone(), path(), any::<bool>(), proptest::bool::weighted(0.2))
            .prop_map(|(slot, at, create, truncate)| Op::Open { slot, at, create, truncate }),
        6 => (slot.clone(), offset(), len(), any::<u8>())
            .prop_map(|(slot, offset, len, fill)| Op::Write { slot, offset, len, fill }),
        2 => (slot.clone(), offset(), len(), how)
            .prop_map(|(slot, offset, len, how)| Op::Reserve { slot, offset, len, how }),
        1 => (slot.clone(), offset(), slot.clone(), offset(), len())
            .prop_map(|(from, from_at, to, to_at, len)| Op::Copy { from, from_at, to, to_at, len }),
        2 => (slot.clone(), offset(), 1u32..100_000)
            .prop_map(|(slot, offset, len)| Op::Read { slot, offset, len }),
        1 => slot.clone().prop_map(Op::Flush),
        1 => slot.clone().prop_map(Op::Fsync),
        2 => slot.prop_map(Op::Close),
    ]
}

fn whole() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => path().prop_map(Op::FsyncDir),
        2 => Just(Op::FlushAll),
        3 => Just(Op::Pause),
        1 => Just(Op::Remount),
        1 => Just(Op::Crash(Crash::KeepCache)),
        2 => Just(Op::Crash(Crash::WipeCache)),
    ]
}

/// One operation.
pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![10 => names(), 5 => attributes(), 12 => content(), 2 => whole()]
}
