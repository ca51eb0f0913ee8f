//! What a plain object says of its file besides the bytes: geesefs's metadata headers, both ways.
//!
//! `mode` (decimal `st_mode`), `uid`, `gid`, `mtime` (decimal Unix seconds), `rdev`, `--symlink-target`, and
//! each other name for the xattr `user.NAME`; `%XX` stands for what a header cannot carry. `cwdfs-mtime`
//! adds nanoseconds.
//!
//! Invariants:
//! - what we write is printable ASCII with lower-case names, and never more than stores take;
//! - what we read is hostile: a value that makes no sense is as if it were not there.

use super::tag;
use crate::log::row::{InodeRow, Time};
pub use crate::session::outside::Headers;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The most bytes of user metadata that stores take, names and values together.
const MAX_BYTES: usize = 2048;
/// What each name costs besides itself: it is sent as `x-amz-meta-NAME`.
const NAME_PREFIX: usize = "x-amz-meta-".len();
/// Room kept for the [`tag`].
const TAG_BYTES: usize = NAME_PREFIX + tag::NAME.len() + 150;
/// The longest name of an xattr, bytes.
const MAX_XATTR_NAME: usize = 255;

const MODE: &str = "mode";
const UID: &str = "uid";
const GID: &str = "gid";
const MTIME: &str = "mtime";
const RDEV: &str = "rdev";
pub(crate) const TARGET: &str = "--symlink-target";
const FINE_MTIME: &str = "cwdfs-mtime";
const USER: &[u8] = b"user.";

/// The headers do not fit: the file cannot be in the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the symlink's target is too long for object metadata")]
pub struct TooLong;

/// The user metadata that shows `row` and its xattrs, without our tag. Xattrs that do not fit, or whose
/// name is one of the headers, are left out.
pub fn write(row: &InodeRow, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<BTreeMap<String, String>, TooLong> {
    let mut out = BTreeMap::new();
    let mut put = |name: &str, value: String| drop(out.insert(name.to_owned(), value));
    put(MODE, row.mode.to_string());
    put(UID, row.uid.to_string());
    put(GID, row.gid.to_string());
    put(MTIME, row.mtime.sec.to_string());
    if row.mtime.nsec != 0 {
        put(FINE_MTIME, format!("{}:{}", row.mtime.sec, row.mtime.nsec));
    }
    match row.kind() {
        libc::S_IFCHR | libc::S_IFBLK => put(RDEV, row.rdev.to_string()),
        libc::S_IFLNK => put(TARGET, escape_value(&row.target)),
        _ => (),
    }
    let mut left = MAX_BYTES
        .checked_sub(TAG_BYTES + out.iter().map(|(n, v)| cost(n, v)).sum::<usize>())
        .ok_or(TooLong)?;
    for (name, value) in xattrs {
        let Some(name) = name.strip_prefix(USER).filter(|name| !name.is_empty()) else { continue };
        let (name, value) = (escape_name(name), escape_value(value));
        if is_ours(&name) || cost(&name, &value) > left {
            continue;
        }
        left -= cost(&name, &value);
        out.insert(name, value);
    }
    Ok(out)
}

/// How many of the xattrs an object that shows `row` does not hold.
pub fn left_out(row: &InodeRow, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<usize, TooLong> {
    let held = write(row, xattrs)?.len() - write(row, &[])?.len();
    Ok(xattrs.len() - held)
}

fn cost(name: &str, value: &str) -> usize {
    NAME_PREFIX + name.len() + value.len()
}

fn is_ours(name: &str) -> bool {
    matches!(name, MODE | UID | GID | MTIME | RDEV | TARGET | FINE_MTIME | tag::NAME)
}

/// What an object's user metadata says.
pub fn read(metadata: &BTreeMap<String, String>) -> Headers {
    let mut headers = Headers::default();
    let mut fine = None;
    for (name, value) in metadata {
        match name.as_str() {
            MODE => headers.mode = value.parse().ok(),
            UID => headers.uid = value.parse().ok(),
            GID => headers.gid = value.parse().ok(),
            MTIME => headers.mtime = time(value),
            FINE_MTIME => fine = fine_time(value),
            RDEV => headers.rdev = value.parse().ok(),
            TARGET => headers.target = Some(unescape(value)).filter(|t| is_target(t)),
            tag::NAME => (),
            _ => {
                let name = [USER, &unescape(&name.to_ascii_lowercase())].concat();
                if name.len() > USER.len() && name.len() <= MAX_XATTR_NAME && !name.contains(&0) {
                    headers.xattrs.push((name, unescape(value)));
                }
            }
        }
    }
    // A client that set another mtime and kept our finer one means its own.
    if fine.map(|t: Time| t.sec) == headers.mtime.map(|t| t.sec) {
        headers.mtime = fine.or(headers.mtime);
    }
    headers
}

fn is_target(target: &[u8]) -> bool {
    !target.is_empty() && target.len() < libc::PATH_MAX as usize && !target.contains(&0)
}

/// Seconds and nanoseconds, as [`Time`] counts them.
fn fine_time(value: &str) -> Option<Time> {
    let (sec, nsec) = value.split_once(':')?;
    let nsec = nsec.parse().ok().filter(|n| *n < 1_000_000_000)?;
    Some(Time { sec: sec.parse().ok()?, nsec })
}

/// Seconds, with a decimal fraction where a tool (rclone, s3fs) wrote one.
fn time(value: &str) -> Option<Time> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let sec: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nsec: u32 = digits.parse().ok()?;
    // A negative time with a fraction counts towards zero as text, and upwards as a Time.
    Some(match value.starts_with('-') && nsec > 0 {
        true => Time { sec: sec.checked_sub(1)?, nsec: 1_000_000_000 - nsec },
        false => Time { sec, nsec },
    })
}

/// Escapes what a header's name cannot hold; capitals too, since stores turn names to lower case.
fn escape_name(name: &[u8]) -> String {
    escape(name, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}

/// Escapes what a header's value cannot hold, and spaces at its ends, which are not kept.
fn escape_value(value: &[u8]) -> String {
    let last = value.len().saturating_sub(1);
    let mut at = 0;
    escape(value, |b| {
        let edge = at == 0 || at == last;
        at += 1;
        b != b'%' && (b.is_ascii_graphic() || b == b' ' && !edge)
    })
}

fn escape(bytes: &[u8], mut plain: impl FnMut(u8) -> bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &b in bytes {
        match plain(b) {
            true => out.push(char::from(b)),
            false => write!(out, "%{b:02x}").expect("a String takes all that is written"),
        }
    }
    out
}

/// Undoes `%XX`; a `%` that starts no escape stands for itself.
fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%').and_then(|hex| {
            let digits = hex.iter().all(u8::is_ascii_hexdigit).then_some(hex)?;
            u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        });
        match escaped {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(mode: u32, mtime: Time, target: &[u8]) -> InodeRow {
        InodeRow {
            mode,
            uid: 1000,
            gid: 100,
            nlink: 1,
            rdev: 0x0801,
            size: 0,
            allocated: 0,
            atime: mtime,
            mtime,
            ctime: mtime,
            btime: mtime,
            version: 1,
            home: None,
            target: target.to_vec(),
        }
    }

    fn text(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_comes_back(
            sec in -5_000_000_000i64..5_000_000_000,
            nsec in 0u32..1_000_000_000,
            target in proptest::collection::vec(1u8..=255, 1..200),
            name in proptest::collection::vec(1u8..=255, 1..60),
            value in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let mtime = Time { sec, nsec };
            let row = row(libc::S_IFLNK | 0o777, mtime, &target);
            let xattrs = vec![([USER, &name].concat(), value)];
            prop_assume!(!is_ours(&escape_name(&name)));
            let written = write(&row, &xattrs).unwrap();
            for (name, value) in &written {
                prop_assert!(name.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()));
                prop_assert!(value.bytes().all(|b| b.is_ascii_graphic() || b == b' '));
                prop_assert_eq!(value.trim(), value);
            }
            let back = read(&written);
            prop_assert_eq!(back.mode, Some(row.mode));
            prop_assert_eq!((back.uid, back.gid), (Some(1000), Some(100)));
            prop_assert_eq!(back.mtime, Some(mtime));
            prop_assert_eq!(back.target, Some(target));
            prop_assert_eq!(back.xattrs, xattrs);
        }

        #[test]
        fn any_metadata_is_read_without_panic(pairs in proptest::collection::btree_map(".*", ".*", 0..6)) {
            read(&pairs);
        }
    }

    #[test]
    fn headers_of_geesefs_are_understood() {
        let headers = read(&text(&[
            ("--symlink-target", "../a%20b%25"),
            ("mode", "41471"),
            ("uid", "7"),
            ("mtime", "1700000000"),
            ("note", "caf%C3%A9"),
        ]));
        assert_eq!(headers.target.as_deref(), Some(&b"../a b%"[..]));
        assert_eq!((headers.mode, headers.uid, headers.gid), (Some(41471), Some(7), None));
        assert_eq!(headers.mtime, Some(Time { sec: 1_700_000_000, nsec: 0 }));
        assert_eq!(headers.xattrs, vec![(b"user.note".to_vec(), "café".into())]);
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let headers = read(&text(&[
            ("mode", "rw-r--r--"),
            ("uid", "-1"),
            ("mtime", "yesterday"),
            ("--symlink-target", ""),
            ("x", "50%"),
        ]));
        assert_eq!(
            headers,
            Headers { xattrs: vec![(b"user.x".to_vec(), b"50%".to_vec())], ..Headers::default() }
        );
        assert_eq!(
            read(&text(&[("mtime", "5"), ("cwdfs-mtime", "4:5")])).mtime,
            Some(Time { sec: 5, nsec: 0 })
        );
        assert_eq!(time("1.25"), Some(Time { sec: 1, nsec: 250_000_000 }));
    }

    #[test]
    fn metadata_stays_within_what_stores_take() {
        let mtime = Time { sec: 1_700_000_000, nsec: 1 };
        let long = |n: usize| (format!("user.x{n}").into_bytes(), vec![b'v'; 600]);
        let written =
            write(&row(libc::S_IFREG | 0o644, mtime, b""), &[long(1), long(2), long(3), long(4)]).unwrap();
        assert!(written.contains_key("x1") && written.contains_key("x2") && !written.contains_key("x4"));
        assert!(written.iter().map(|(n, v)| cost(n, v)).sum::<usize>() + TAG_BYTES <= MAX_BYTES);
        let link = row(libc::S_IFLNK | 0o777, mtime, &[b'a'; 2000]);
        assert_eq!(write(&link, &[]), Err(TooLong));
        let clash = [(b"user.mode".to_vec(), b"1".to_vec()), (b"security.x".to_vec(), b"1".to_vec())];
        let written = write(&row(libc::S_IFREG | 0o644, mtime, b""), &clash).unwrap();
        assert_eq!(written.get("mode"), Some(&(libc::S_IFREG | 0o644).to_string()));
        assert_eq!(written.len(), 5);
    }
}
