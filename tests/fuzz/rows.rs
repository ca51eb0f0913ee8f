//! Rows that no writer makes: each is well formed, none makes sense.

use crate::mutate::border;
use bytes::Bytes;
use cwdfs::log::LogError;
use cwdfs::log::ids::{Blob, Epoch, Ino, SessionId, Slot};
use cwdfs::log::row::{Cookie, DentryRow, ExtentRow, Home, InodeRow, Key, Record, Time, ViewRow, meta};
use cwdfs::log::segment::{self, Header, Kind, Segment};
use cwdfs::log::source::Sealed;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// What a session with such rows has besides.
#[derive(Debug, Clone, Copy)]
pub struct Around {
    /// Whose session it is.
    pub session: SessionId,
    /// Its writer so far.
    pub epoch: Epoch,
    /// Its last slot.
    pub slot: Slot,
    /// The key of its cookies: who can write the bucket knows it.
    pub cookies: [u8; 16],
}

/// Some rows for one commit, each key once. Mostly only such as are taken one by one, so that something is left to
/// be used; else one bad row is enough for the whole to be refused.
pub fn rows(around: Around) -> impl Strategy<Value = Vec<Record>> {
    (vec(record(around), 1..40), prop::bool::weighted(0.9)).prop_map(move |(mut records, only_taken)| {
        records.sort_by(|a, b| a.key.cmp(&b.key));
        records.dedup_by(|a, b| a.key == b.key);
        if only_taken {
            records.retain(|record| around.commit(vec![record.clone()]).1.is_ok());
        }
        records
    })
}

impl Around {
    /// The next segment with these rows, under right checksums, and whether it is taken.
    pub fn commit(&self, records: Vec<Record>) -> (Bytes, Result<Segment, LogError>) {
        let slot = self.slot.next();
        let header = Header {
            session: self.session,
            epoch: self.epoch,
            slot,
            wall_ms: i64::MIN,
            label: Some("\u{1b}[2J".into()),
            committed: self.slot,
            kind: Kind::Changes,
        };
        let sealed = Sealed { last_seq: 1, records, pieces: Vec::new() };
        let bytes = segment::encode(&header, sealed).expect("no piece of its own is named").bytes;
        let taken = segment::decode(self.epoch, slot, &bytes);
        (bytes, taken)
    }
}

fn record(around: Around) -> BoxedStrategy<Record> {
    let inode = (ino(), inode()).prop_map(|(ino, row)| Record::put(&Key::Inode { ino }, &row));
    let dentry = (ino(), name(around), ino(), kind()).prop_map(|(parent, (cookie, name), ino, kind)| {
        Record::put(&Key::Dentry { parent, cookie, name }, &DentryRow { ino, kind })
    });
    let link = (ino(), ino(), name(around)).prop_map(|(ino, parent, (cookie, name))| {
        Record::put_raw(&Key::Link { ino, parent, cookie, name }, Vec::new())
    });
    let xattr = (ino(), xattr(), vec(any::<u8>(), 0..80))
        .prop_map(|(ino, name, value)| Record::put_raw(&Key::Xattr { ino, name }, value));
    let offset = prop_oneof![border(), select(vec![0, 1, 4096, 1 << 20, i64::MAX as u64 - 10])];
    let extent = (ino(), offset, extent(around))
        .prop_map(|(ino, offset, row)| Record::put(&Key::Extent { ino, offset }, &row));
    let view = (key(), ino(), border(), etag(), border()).prop_map(|(key, ino, version, etag, size)| {
        Record::put(&Key::View { key }, &ViewRow { ino, version, etag, size, modified_ms: Some(size as i64) })
    });
    let meta = (
        select(vec![meta::NEXT_INO, meta::COOKIE_KEY, meta::VIEW_SLOT, b"unknown"]),
        vec(any::<u8>(), 0..20),
    )
        .prop_map(|(name, value)| Record::put_raw(&Key::Meta { name: name.to_vec() }, value));
    let gone = ino().prop_map(|ino| Record::delete(&Key::Inode { ino }));
    prop_oneof![
        8 => inode, 8 => dentry, 2 => link, 2 => xattr, 6 => extent, 3 => view, 1 => meta, 1 => gone
    ]
    .boxed()
}

fn ino() -> impl Strategy<Value = Ino> {
    select(vec![0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 1 << 20, u64::MAX - 1, u64::MAX]).prop_map(Ino)
}

fn kind() -> impl Strategy<Value = u32> {
    select(vec![
        libc::S_IFREG,
        libc::S_IFDIR,
        libc::S_IFLNK,
        libc::S_IFCHR,
        libc::S_IFSOCK,
        libc::S_IFIFO,
        0,
        u32::MAX,
    ])
}

fn inode() -> impl Strategy<Value = InodeRow> {
    let small = select(vec![0u32, 1, 2, 3, 1000, u32::MAX]);
    let bits = select(vec![0u32, 0o644, 0o755, 0o7777, u32::MAX]);
    let home = proptest::option::of((ino(), border()))
        .prop_map(|home| home.map(|(parent, cookie)| Home { parent, cookie: Cookie(cookie) }));
    let target = select(vec![0usize, 1, 20, 4095, 4096, 70_000])
        .prop_map(|len| b"/../etc"[..].iter().cycle().take(len).copied().collect());
    let target = prop_oneof![6 => Just(Vec::new()), 2 => target, 1 => Just(b"a\0b".to_vec())];
    (kind(), bits, small.clone(), small, border(), border(), time(), border(), home, target).prop_map(
        |(kind, bits, nlink, owner, size, allocated, time, version, home, target)| InodeRow {
            mode: kind | (bits & !libc::S_IFMT),
            uid: owner,
            gid: owner,
            nlink,
            rdev: owner,
            size,
            allocated,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            version,
            home,
            target,
        },
    )
}

fn time() -> impl Strategy<Value = Time> {
    let seconds = select(vec![0, 1, -1, 1_700_000_000, i64::MAX, i64::MIN, 1 << 40]);
    (seconds, select(vec![0, 1, 999_999_999, 1_000_000_000, u32::MAX]))
        .prop_map(|(sec, nsec)| Time { sec, nsec })
}

/// A name with its cookie, most often the right one.
fn name(around: Around) -> impl Strategy<Value = (Cookie, Vec<u8>)> {
    let usual = select(vec!["f", "d", "g", "link", "x", "y", ".cwdfs", ".cwdfsx"])
        .prop_map(|name| name.as_bytes().to_vec());
    let odd = select(vec![
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/",
        "a\0b",
        "\n",
        "\u{1b}[31m",
        ".fuse_hidden1",
        ".invalidate",
    ])
    .prop_map(|name| name.as_bytes().to_vec());
    let long = select(vec![255usize, 256, 5000]).prop_map(|len| vec![b'n'; len]);
    let raw = vec(any::<u8>(), 0..10);
    (prop_oneof![8 => usual, 3 => odd, 1 => long, 1 => raw], proptest::option::weighted(0.2, border()))
        .prop_map(move |(name, wrong)| {
            (wrong.map_or_else(|| Cookie::of(&around.cookies, &name), Cookie), name)
        })
}

fn xattr() -> impl Strategy<Value = Vec<u8>> {
    select(vec![
        &b"user.x"[..],
        b"user.",
        b"",
        b"security.capability",
        b"trusted.overlay.opaque",
        b"system.posix_acl_access",
        b"system.posix_acl_default",
        b"user.a\0b",
        &[b'u'; 300],
    ])
    .prop_map(<[u8]>::to_vec)
}

fn extent(around: Around) -> impl Strategy<Value = ExtentRow> {
    let wild = || select(vec![0u32, 1, 7, 10, 24, 4096, 1 << 20, (1 << 20) + 1, u32::MAX]);
    let wild = (border(), wild(), wild());
    let likely = (1u32..=1 << 20)
        .prop_flat_map(|piece| (Just(piece), 0..piece))
        .prop_flat_map(|(piece, skip)| (1..=u64::from(piece - skip), Just(piece), Just(skip)));
    let lengths = prop_oneof![1 => wild, 5 => likely];
    (lengths, blob(around), border(), proptest::option::weighted(0.8, any::<u32>())).prop_map(
        |((len, piece_len, skip), blob, piece_off, crc)| ExtentRow {
            len,
            blob,
            piece_off,
            piece_len,
            skip,
            crc,
        },
    )
}

fn blob(around: Around) -> impl Strategy<Value = Blob> {
    let Around { epoch, slot, .. } = around;
    let epochs =
        select(vec![epoch, Epoch { counter: 0, nonce: 0 }, Epoch { counter: u64::MAX, nonce: u64::MAX }]);
    let slots = select(vec![Slot(0), Slot(1), slot, slot.next(), Slot(u64::MAX)]);
    prop_oneof![
        (epochs.clone(), slots).prop_map(|(epoch, slot)| Blob::Segment { epoch, slot }),
        (epochs, border()).prop_map(|(epoch, n)| Blob::Data { epoch, n }),
        (key(), etag()).prop_map(|(key, etag)| Blob::Object { key, etag }),
    ]
}

fn key() -> impl Strategy<Value = String> {
    select(vec![
        "f",
        "d/",
        "d/g",
        "",
        "/",
        "..",
        "../../outside",
        "/etc/passwd",
        "a//b",
        ".cwdfs/lease",
        ".cwdfs/",
        "\0",
        "x\n",
        "d/../x",
    ])
    .prop_map(str::to_owned)
}

fn etag() -> impl Strategy<Value = String> {
    select(vec!["\"0\"", "", "*", "\"\r\nx: y\"", "W/\"x\""]).prop_map(str::to_owned)
}
