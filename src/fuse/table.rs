//! The kernel's mount table, read without touching any mount (a stat of a dead or hung one fails or hangs).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One row of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The kernel's number of the mount.
    pub id: u64,
    /// `major:minor` of the file system's device.
    pub device: String,
    /// Where it is.
    pub mountpoint: PathBuf,
    /// `fuse.cwdfs`, `ext4` ...
    pub kind: String,
    /// What is mounted; of ours, the store.
    pub source: String,
    /// Nothing can be changed through it.
    pub read_only: bool,
    /// Who mounted it; of a FUSE file system only.
    pub user: Option<u32>,
}

/// The file system type of our mounts.
pub const KIND: &str = "fuse.cwdfs";

impl Mounted {
    /// Whether it is one of ours.
    pub fn is_ours(&self) -> bool {
        self.kind == KIND
    }
}

/// All mounts, in the order they were made.
pub fn all() -> io::Result<Vec<Mounted>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse).collect())
}

/// What is mounted at `mountpoint`, the topmost if several are.
pub fn at(mountpoint: &Path) -> io::Result<Option<Mounted>> {
    Ok(all()?.into_iter().rev().find(|m| m.mountpoint == mountpoint))
}

fn parse(line: &[u8]) -> Option<Mounted> {
    let words: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let dash = words.iter().position(|w| *w == b"-")?;
    let text = |w: &[u8]| String::from_utf8_lossy(&unescape(w)).into_owned();
    // Of this mount, and of its file system.
    let options = [words.get(5), words.get(dash + 3)].into_iter().flatten();
    let read_only = options.flat_map(|list| list.split(|b| *b == b',')).any(|option| option == b"ro");
    let user = words.get(dash + 3).and_then(|list| {
        let id = list.split(|b| *b == b',').find_map(|option| option.strip_prefix(b"user_id="))?;
        std::str::from_utf8(id).ok()?.parse().ok()
    });
    Some(Mounted {
        id: text(words.first()?).parse().ok()?,
        device: text(words.get(2)?),
        mountpoint: PathBuf::from(OsString::from_vec(unescape(words.get(4)?))),
        kind: text(words.get(dash + 1)?),
        source: text(words.get(dash + 2)?),
        read_only,
        user,
    })
}

/// Undoes the kernel's `\040` for a space, and the like.
pub(super) fn unescape(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = match (first, tail.get(..3)) {
            (b'\\', Some(digits)) => octal(digits),
            _ => None,
        };
        out.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    out
}

fn octal(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_with_its_escapes() {
        let line = b"36 35 0:48 / /mnt/a\\040b\\134 rw,noatime shared:1 master:2 - fuse.cwdfs s3://demo/x\\040y rw,user_id=0";
        let row = parse(line).expect("a row");
        assert_eq!(row.id, 36);
        assert_eq!(row.device, "0:48");
        assert_eq!(row.mountpoint, Path::new("/mnt/a b\\"));
        assert_eq!(row.source, "s3://demo/x y");
        assert!(row.is_ours() && !row.read_only && row.user == Some(0));
        for ro in
            [&b"1 2 0:4 / /m ro,x - fuse.cwdfs s rw"[..], b"1 2 0:4 / /m rw shared:1 - fuse.cwdfs s ro,x"]
        {
            assert!(parse(ro).is_some_and(|row| row.read_only));
        }
    }

    #[test]
    fn rows_that_are_none_are_left_out() {
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"36 35 0:48 / /mnt rw"), None);
        assert_eq!(unescape(b"\\04"), b"\\04");
        assert_eq!(unescape(b"\\999"), b"\\999");
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(at(Path::new("/")).expect("the mount table").is_some_and(|m| !m.is_ours()));
        assert_eq!(at(Path::new("/no/such/mount")).expect("the mount table"), None);
    }
}
