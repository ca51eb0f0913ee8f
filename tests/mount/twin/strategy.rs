//! How sequences of steps are made up. Names are few, so that operations meet; what is odd is drawn too.

use super::ops::{At, End, On, Op, P, Step, When, at, by, p};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Descriptors of a process.
pub const FDS: u8 = 5;
/// Mappings of a process.
pub const MAPS: u8 = 2;
/// Processes.
pub const WORKERS: u8 = 4;

const PAGE: i64 = 4096;

fn name() -> impl Strategy<Value = String> {
    prop_oneof![40 => select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned), 1 => odd_name()]
}

fn odd_name() -> impl Strategy<Value = String> {
    let long = |n: usize| "n".repeat(n);
    select(vec![".".into(), "..".into(), String::new(), long(255), long(256), "ü \n\\".into(), "a ".into()])
}

fn path() -> BoxedStrategy<P> {
    // The directories that are there at the start lead to most that is below.
    let dir = || prop_oneof![8 => select(vec!["a", "b"]).prop_map(str::to_owned), 1 => name()];
    let whole = prop_oneof![
        10 => vec(name(), 1),
        10 => (dir(), name()).prop_map(|(a, b)| vec![a, b]),
        1 => vec(name(), 2),
        2 => (dir(), dir(), name()).prop_map(|(a, b, c)| vec![a, b, c]),
    ];
    let slash = prop_oneof![30 => Just(""), 1 => Just("/"), 1 => Just("/.")];
    (whole, slash).prop_map(|(names, slash)| p(&(names.join("/") + slash))).boxed()
}

fn place() -> BoxedStrategy<At> {
    prop_oneof![
        6 => path().prop_map(|path| At { dir: None, path }),
        1 => (slot(), path()).prop_map(|(dir, path)| At { dir: Some(dir), path }),
    ]
    .boxed()
}

/// A place for a descriptor.
fn slot() -> impl Strategy<Value = u8> {
    0..FDS
}

/// A descriptor to use: from [`FDS`] on, one that is open for reading and writing a file, where there is one.
fn fd() -> impl Strategy<Value = u8> {
    0..3 * FDS
}

fn directory() -> BoxedStrategy<At> {
    prop_oneof![2 => select(vec!["a", "b", ".", "a/a", "a/d"]).prop_map(at), 1 => place()].boxed()
}

fn on() -> impl Strategy<Value = On> {
    prop_oneof![
        4 => (place(), proptest::bool::weighted(0.7)).prop_map(|(at, follow)| On::Path(at, follow)),
        2 => fd().prop_map(On::Fd),
    ]
}

/// A position or size: mostly small, some at pages, some large enough for passthrough, a few that are wrong.
fn offset() -> impl Strategy<Value = i64> {
    prop_oneof![
        20 => 0..6000i64,
        8 => 0..200_000i64,
        6 => (0..40i64).prop_map(|n| n * PAGE),
        3 => 0..(10i64 << 20),
        1 => select(vec![-1, i64::MIN, i64::MAX, i64::MAX - 1]),
    ]
}

fn size() -> impl Strategy<Value = i64> {
    // ext4 ends at 16 TiB, cwdfs does not, and each comparison reads files whole.
    offset().prop_filter("sizes that can be read whole", |size| *size < 1 << 30)
}

fn len() -> impl Strategy<Value = u32> {
    prop_oneof![
        20 => 1..3000u32,
        8 => 1..70_000u32,
        4 => (1..20u32).prop_map(|n| n * PAGE as u32),
        2 => 1..400_000u32,
        1 => (8u32 << 20)..(10 << 20),
        1 => Just(0),
    ]
}

fn mode() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => select(vec![0o644, 0o755, 0o600, 0o777, 0o666, 0o700]),
        2 => 0..0o1000u32,
        1 => 0..0o10000u32,
        1 => select(vec![0o4755, 0o2755, 0o2745, 0o6777, 0o1777, 0o2777, 0o3777]),
    ]
}

fn node() -> impl Strategy<Value = (u32, (u32, u32))> {
    let kind = select(vec![libc::S_IFIFO, libc::S_IFIFO, libc::S_IFSOCK, libc::S_IFREG, 0, libc::S_IFDIR]);
    // null, zero, and numbers that nothing has.
    let device = select(vec![(libc::S_IFCHR, (1, 3)), (libc::S_IFCHR, (1, 5)), (libc::S_IFBLK, (243, 7))]);
    prop_oneof![
        3 => (kind, mode()).prop_map(|(kind, mode)| (kind | mode, (0, 0))),
        1 => (device, mode()).prop_map(|((kind, rdev), mode)| (kind | mode, rdev)),
    ]
}

fn target() -> impl Strategy<Value = P> {
    // One `..` at most: it stays in what the case compares.
    let up = (Just("../"), path()).prop_map(|(up, path)| P(format!("{up}{}", path.0)));
    let inside = path().prop_filter("no way out", |path| !path.0.contains(".."));
    prop_oneof![6 => inside, 1 => up.prop_filter("one level", |p| !p.0[2..].contains(".."))]
}

fn names() -> BoxedStrategy<Op> {
    let flags = prop_oneof![
        12 => Just(0),
        3 => Just(libc::RENAME_NOREPLACE),
        4 => Just(libc::RENAME_EXCHANGE),
        2 => Just(libc::RENAME_WHITEOUT),
        1 => 0..9u32
    ];
    prop_oneof![
        5 => (place(), mode()).prop_map(|(at, mode)| Op::Mkdir { at, mode }),
        2 => (place(), node()).prop_map(|(at, (mode, rdev))| Op::Mknod { at, mode, rdev }),
        2 => (target(), place()).prop_map(|(target, at)| Op::Symlink { target, at }),
        1 => place().prop_map(|at| Op::Readlink { at }),
        3 => (place(), place(), any::<bool>()).prop_map(|(from, to, follow)| Op::Link { from, to, follow }),
        1 => (fd(), place()).prop_map(|(fd, to)| Op::LinkFd { fd, to }),
        3 => place().prop_map(|at| Op::Unlink { at }),
        2 => directory().prop_map(|at| Op::Rmdir { at }),
        6 => (place(), place(), flags).prop_map(|(from, to, flags)| Op::Rename { from, to, flags }),
    ]
    .boxed()
}

fn directories() -> BoxedStrategy<Op> {
    let change =
        prop_oneof![4 => names(), 1 => (place(), 1..30u16).prop_map(|(at, n)| Op::Populate { at, n })];
    prop_oneof![
        1 => (directory(), 1..120u16).prop_map(|(at, n)| Op::Populate { at, n }),
        3 => (directory(), 0..40u8, change, any::<bool>()).prop_map(|(at, first, change, again)| Op::List {
            at,
            first,
            change: Box::new(change),
            again
        }),
        2 => directory().prop_map(|at| Op::Chdir { at }),
        1 => slot().prop_map(|fd| Op::Fchdir { fd }),
        1 => Just(Op::Getcwd),
    ]
    .boxed()
}

fn when() -> impl Strategy<Value = When> {
    // The range of ext4's inodes of 256 bytes.
    let seconds = prop_oneof![
        3 => 1 - (1i64 << 31)..0x3_7fff_ffffi64,
        1 => select(vec![0, -1, 1, 1 - (1i64 << 31), (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32])
    ];
    let nanos = prop_oneof![8 => 0..1_000_000_000i64, 1 => select(vec![-1, 1_000_000_000, i64::MAX])];
    prop_oneof![
        2 => Just(When::Omit),
        2 => Just(When::Now),
        5 => (seconds, nanos)
            .prop_filter("not about now", |(s, _)| !(1_700_000_000..2_200_000_000).contains(s))
            .prop_map(|(s, n)| When::To(s, n)),
    ]
}

fn id() -> impl Strategy<Value = u32> {
    select(vec![u32::MAX, u32::MAX, 0, 1001, 1002, 1001, 1002, 2000, 77])
}

/// Not a chown to nobody, which differs where a stranger asks for it (`differs.rs`); `regressions.rs` has the others.
fn owners() -> impl Strategy<Value = (u32, u32)> {
    (id(), id())
        .prop_map(|(uid, gid)| if (uid, gid) == (u32::MAX, u32::MAX) { (uid, 1001) } else { (uid, gid) })
}

fn acl() -> impl Strategy<Value = Vec<u8>> {
    let perm = || prop_oneof![40 => 0..8u16, 1 => Just(9u16)];
    let named = vec((select(vec![0x02u16, 0x08]), perm(), select(vec![0u32, 1001, 1002, 2000])), 0..3);
    let fields = (perm(), perm(), perm(), proptest::option::weighted(0.8, perm()), named);
    fields.prop_map(|(owner, group, other, mask, mut named)| {
        let mut entries = vec![(0x01, owner, u32::MAX), (0x04, group, u32::MAX), (0x20, other, u32::MAX)];
        entries.extend(mask.map(|mask| (0x10, mask, u32::MAX)));
        entries.append(&mut named);
        entries.sort();
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (tag, perm, id) in entries {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&perm.to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    })
}

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

fn xattr_name() -> impl Strategy<Value = String> {
    let odd = vec!["nonsense.a", "user.", "system.other", "", "user"];
    prop_oneof![
        // Names are set where they are asked for often enough only if most are the same.
        16 => Just("user.a"),
        8 => select(vec!["user.b", "trusted.t", "security.s", "security.capability"]),
        4 => select(vec![ACCESS, DEFAULT]),
        1 => select(odd),
    ]
    .prop_map(str::to_owned)
}

/// File capabilities: cap_net_bind_service, effective.
pub fn capability() -> Vec<u8> {
    [0x0200_0001u32, 1 << 10, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn xattr() -> impl Strategy<Value = (String, Vec<u8>)> {
    prop_oneof![
        5 => (xattr_name(), vec(any::<u8>(), 1..60)),
        1 => (Just("security.capability".to_owned()), Just(capability())),
        5 => (select(vec![ACCESS, DEFAULT]).prop_map(str::to_owned), acl()),
    ]
}

fn attributes() -> BoxedStrategy<Op> {
    let flags = select(vec![0, 0, 0, libc::XATTR_CREATE, libc::XATTR_REPLACE, 3, 8]);
    let access = select(vec![0, 0, 0x200, 0x100, 0x300]);
    prop_oneof![
        4 => on().prop_map(|on| Op::Stat { on }),
        4 => (on(), mode()).prop_map(|(on, mode)| Op::Chmod { on, mode }),
        4 => (on(), owners()).prop_map(|(on, (uid, gid))| Op::Chown { on, uid, gid }),
        4 => (on(), when(), when()).prop_map(|(on, atime, mtime)| Op::Utimens { on, atime, mtime }),
        3 => (place(), size()).prop_map(|(at, size)| Op::Truncate { at, size }),
        2 => (place(), 0..8u32, access).prop_map(|(at, mode, flags)| Op::Access { at, mode, flags }),
        1 => place().prop_map(|at| Op::Statfs { at }),
        1 => select(vec![0o022, 0o077, 0, 0o777]).prop_map(|mask| Op::Umask { mask }),
        5 => (on(), xattr(), flags).prop_map(|(on, (name, value), flags)| Op::SetXattr { on, name, value, flags }),
        2 => (on(), xattr_name(), select(vec![200, 200, 0, 3]))
            .prop_map(|(on, name, room)| Op::GetXattr { on, name, room }),
        1 => on().prop_map(|on| Op::ListXattr { on }),
        2 => (on(), xattr_name()).prop_map(|(on, name)| Op::RemoveXattr { on, name }),
    ]
    .boxed()
}

fn open() -> BoxedStrategy<Op> {
    let access = prop_oneof![2 => Just(libc::O_RDONLY), 3 => Just(libc::O_WRONLY), 5 => Just(libc::O_RDWR)];
    let maybe = |flag: i32, weight: f64| {
        proptest::bool::weighted(weight).prop_map(move |set| if set { flag } else { 0 })
    };
    let how = (
        access,
        maybe(libc::O_CREAT, 0.6),
        maybe(libc::O_EXCL, 0.15),
        maybe(libc::O_TRUNC, 0.2),
        maybe(libc::O_APPEND, 0.2),
    );
    let more = (
        maybe(libc::O_NOFOLLOW, 0.1),
        maybe(libc::O_DIRECTORY, 0.1),
        maybe(libc::O_SYNC, 0.05),
        maybe(libc::O_PATH, 0.04),
        maybe(libc::O_NOATIME, 0.04),
        maybe(libc::O_DIRECT, 0.04),
    );
    let flags = (how, more)
        .prop_map(|((a, b, c, d, e), (f, g, h, i, j, k))| a | b | c | d | e | f | g | h | i | j | k);
    let plain = select(vec![libc::O_RDWR | libc::O_CREAT, libc::O_RDWR, libc::O_WRONLY, libc::O_RDONLY]);
    let directory = Just(libc::O_RDONLY | libc::O_DIRECTORY);
    let flags = prop_oneof![5 => flags, 4 => plain, 1 => directory];
    (slot(), place(), flags, mode())
        .prop_map(|(fd, at, flags, mode)| Op::Open { fd, at, flags, mode })
        .boxed()
}

fn content() -> BoxedStrategy<Op> {
    let position = || proptest::option::weighted(0.5, size());
    let seek = (fd(), size(), select(vec![0, 1, 2, libc::SEEK_DATA, libc::SEEK_HOLE, 9]));
    let sound = select(vec![0, 1, 3, 3, 16, 17]);
    let allocate = prop_oneof![8 => sound, 1 => 0..0x100i32];
    prop_oneof![
        9 => open(),
        2 => slot().prop_map(|fd| Op::Close { fd }),
        1 => (fd(), slot()).prop_map(|(fd, to)| Op::Dup { fd, to }),
        4 => (fd(), position(), len()).prop_map(|(fd, at, len)| Op::Read { fd, at, len }),
        9 => (fd(), position(), len(), any::<u8>())
            .prop_map(|(fd, at, len, fill)| Op::Write { fd, at, len, fill }),
        3 => seek.prop_map(|(fd, to, whence)| Op::Seek { fd, to, whence }),
        2 => (fd(), size()).prop_map(|(fd, size)| Op::Ftruncate { fd, size }),
        3 => (fd(), allocate, size(), len())
            .prop_map(|(fd, mode, at, len)| Op::Fallocate { fd, mode, at, len: i64::from(len) }),
        2 => (fd(), offset(), fd(), size(), len())
            .prop_map(|(from, from_at, to, to_at, len)| Op::Copy { from, from_at, to, to_at, len }),
        1 => (fd(), offset(), fd(), len())
            .prop_map(|(from, from_at, to, len)| Op::Sendfile { from, from_at, to, len }),
        1 => (fd(), offset(), fd(), size(), 0..60_000u32)
            .prop_map(|(from, from_at, to, to_at, len)| Op::Splice { from, from_at, to, to_at, len }),
        1 => (fd(), any::<bool>()).prop_map(|(fd, data)| Op::Fsync { fd, data }),
    ]
    .boxed()
}

fn mappings() -> BoxedStrategy<Op> {
    let map = || 0..MAPS;
    let meanwhile = proptest::option::weighted(0.5, content().prop_map(Box::new));
    let start = prop_oneof![3 => 0..9000u32, 1 => 0..300_000u32];
    prop_oneof![
        3 => (map(), fd(), 0..4u32, 1..80u16, proptest::bool::weighted(0.8))
            .prop_map(|(map, fd, page, pages, write)| Op::Map { map, fd, page, pages, write }),
        3 => (map(), start.clone(), len()).prop_map(|(map, at, len)| Op::Load { map, at, len }),
        4 => (map(), start, len(), any::<u8>(), meanwhile).prop_map(
            |(map, at, len, fill, meanwhile)| Op::Store { map, at, len, fill, meanwhile }
        ),
        1 => map().prop_map(|map| Op::Msync { map }),
        1 => map().prop_map(|map| Op::Unmap { map }),
    ]
    .boxed()
}

fn locks() -> BoxedStrategy<Op> {
    let how = select(vec![libc::LOCK_SH, libc::LOCK_EX, libc::LOCK_UN]);
    let kind = select(vec![libc::F_RDLCK as i16, libc::F_WRLCK as i16, libc::F_UNLCK as i16]);
    let range = (0..40i64, 0..30i64);
    prop_oneof![
        1 => (fd(), how).prop_map(|(fd, how)| Op::Flock { fd, how }),
        2 => (fd(), any::<bool>(), any::<bool>(), kind, range).prop_map(
            |(fd, ofd, test, kind, (start, len))| Op::Lock { fd, ofd, test, kind, start, len }
        ),
    ]
    .boxed()
}

fn whole() -> BoxedStrategy<Op> {
    prop_oneof![
        8 => Just(Op::Pause),
        8 => Just(Op::Flush),
        2 => Just(Op::Lose { end: End::Machine }),
        1 => Just(Op::Lose { end: End::Daemon }),
        1 => Just(Op::Lose { end: End::Unmount }),
    ]
    .boxed()
}

fn op() -> BoxedStrategy<Op> {
    prop_oneof![
        220 => names(),
        60 => directories(),
        200 => attributes(),
        320 => content(),
        60 => mappings(),
        40 => locks(),
        12 => whole(),
    ]
    .boxed()
}

/// Who acts: root's first process most, so that not all is refused.
fn actor() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(0u8), 6 => 0..WORKERS]
}

/// Opens of what each case begins with.
fn opening() -> impl Strategy<Value = Step> {
    let there = select(vec!["c", "b/c", "a/b", "b/a", "a/a/a", "a", "b", "a/a"]);
    let flags = select(vec![libc::O_RDWR, libc::O_RDWR, libc::O_RDWR, libc::O_WRONLY, libc::O_RDONLY]);
    (0..WORKERS, slot(), there, flags).prop_map(|(who, fd, path, flags)| {
        // A directory opens for reading only.
        let is_dir = matches!(path, "a" | "b" | "a/a");
        let flags = if is_dir { libc::O_RDONLY | libc::O_DIRECTORY } else { flags };
        by(who, Op::Open { fd, at: at(path), flags, mode: 0 })
    })
}

/// One case: what is done, in order.
pub fn case(longest: usize) -> impl Strategy<Value = Vec<Step>> {
    let watch = proptest::option::weighted(0.2, select(vec!["a", "b", "c", ".", "a/b", "a/a", "b/a", "b/c"]));
    let step = (actor(), op(), watch).prop_map(|(by, op, watch)| Step { by, op, watch: watch.map(at) });
    let map = (0..WORKERS, 0..MAPS, 0..2u32, 1..80u16);
    let map =
        map.prop_map(|(who, map, page, pages)| by(who, Op::Map { map, fd: FDS, page, pages, write: true }));
    (vec(opening(), 0..16), vec(map, 0..4), vec(step, 1..longest))
        .prop_map(|(opening, maps, steps)| [opening, maps, steps].concat())
}
