//! Where a key lies below the directory.
//!
//! Invariants: a key has the path a person expects whenever it can be a path; two keys never share a place;
//! no key reaches outside the directory or into the store's own folder.

/// The store's own folder below the directory: locks, unfinished files, uploads and odd keys.
pub(super) const HIDDEN: &str = ".cwdfs-store";

/// The longest key, in bytes, as on S3.
pub(super) const MAX_KEY: usize = 1024;

/// The longest file name Linux file systems take, in bytes.
const MAX_NAME: usize = 255;

/// Where a key would lie if nothing else were in its way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// A plain file `name` in the folders `parents`.
    File { parents: Vec<&'a str>, name: &'a str },
    /// A marker `dir/`: the last of these folders itself.
    Marker { folders: Vec<&'a str> },
    /// The key cannot be a path (`..`, empty or over-long components ...): a file named by its hash.
    Odd,
}

impl<'a> Place<'a> {
    /// The place of `key`.
    pub fn of(key: &'a str) -> Place<'a> {
        let (path, is_marker) = match key.strip_suffix('/') {
            Some(folder) => (folder, true),
            None => (key, false),
        };
        let mut parts: Vec<&str> = path.split('/').collect();
        if parts.iter().any(|part| !is_name(part)) || parts[0] == HIDDEN {
            return Place::Odd;
        }
        if is_marker {
            return Place::Marker { folders: parts };
        }
        match parts.pop() {
            Some(name) => Place::File { parents: parts, name },
            None => Place::Odd,
        }
    }
}

/// The file name of an odd key in the store's folder of odd keys.
pub(super) fn odd_name(key: &str) -> String {
    blake3::hash(key.as_bytes()).to_hex().to_string()
}

fn is_name(part: &str) -> bool {
    !part.is_empty() && part != "." && part != ".." && part.len() <= MAX_NAME && !part.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_keys_are_paths() {
        assert_eq!(Place::of("a"), Place::File { parents: vec![], name: "a" });
        assert_eq!(Place::of("a/b c/é"), Place::File { parents: vec!["a", "b c"], name: "é" });
        assert_eq!(Place::of("a/b/"), Place::Marker { folders: vec!["a", "b"] });
    }

    #[test]
    fn hostile_keys_are_not() {
        let long = "x".repeat(256);
        for key in ["..", "../x", "a/../b", "a//b", "/a", "/", "a//", "./a", "a/.", "a\0b", &long] {
            assert_eq!(Place::of(key), Place::Odd, "{key:?}");
        }
        assert_eq!(Place::of(".cwdfs-store/lock/00"), Place::Odd);
        assert_eq!(Place::of(".cwdfs-store"), Place::Odd);
    }
}
