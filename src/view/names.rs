//! Paths of the tree and keys of the view, both ways.
//!
//! Invariants:
//! - a directory's key ends in `/`, nothing else's does;
//! - [`key_of`] and [`place_of`] are inverse to each other where both answer;
//! - no key below `.cwdfs` is ever made from a path, or taken for one.

use crate::log::ids::keys;

/// The longest key that stores take, bytes.
const MAX_KEY: usize = 1024;
/// The longest name in a directory, bytes.
const MAX_NAME: usize = 255;
/// The name at the root that is ours.
const OURS: &str = ".cwdfs";

/// Why a path cannot be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// It is not UTF-8.
    #[error("the name is not UTF-8")]
    NotUtf8,
    /// It is longer than a key may be.
    #[error("the path is longer than {MAX_KEY} bytes")]
    TooLong,
    /// It has a backslash, which some stores take for a slash.
    #[error("the name has a backslash")]
    Backslash,
    /// It is where our own objects lie.
    #[error("the name is reserved")]
    Ours,
}

/// Why a key cannot be a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPath {
    /// An empty component, `.`, `..`, a NUL or a backslash.
    #[error("the key has an empty component, `.`, `..`, a NUL or a backslash")]
    Component,
    /// A component longer than a name may be.
    #[error("a component is longer than {MAX_NAME} bytes")]
    TooLong,
    /// It is ours.
    #[error("the key is reserved")]
    Ours,
}

/// The key of `path` (from the root, without a leading slash; never empty).
pub fn key_of(path: &[u8], directory: bool) -> Result<String, NoKey> {
    let path = std::str::from_utf8(path).map_err(|_| NoKey::NotUtf8)?;
    if path == OURS || path.starts_with(keys::ROOT) {
        return Err(NoKey::Ours);
    }
    if path.contains('\\') {
        return Err(NoKey::Backslash);
    }
    if path.len() + usize::from(directory) > MAX_KEY {
        return Err(NoKey::TooLong);
    }
    Ok(if directory { format!("{path}/") } else { path.to_owned() })
}

/// Where a key's object belongs in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    /// From the root, without a leading or trailing slash.
    pub path: &'a str,
    /// It marks a directory.
    pub directory: bool,
}

impl<'a> Place<'a> {
    /// The names on the way, the last one included.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.path.split('/')
    }
}

/// The path that `key` names.
pub fn place_of(key: &str) -> Result<Place<'_>, NoPath> {
    let (path, directory) = match key.strip_suffix('/') {
        Some(path) => (path, true),
        None => (key, false),
    };
    for (depth, name) in path.split('/').enumerate() {
        if depth == 0 && name == OURS {
            return Err(NoPath::Ours);
        }
        if matches!(name, "" | "." | "..") || name.contains(['\0', '\\']) {
            return Err(NoPath::Component);
        }
        if name.len() > MAX_NAME {
            return Err(NoPath::TooLong);
        }
    }
    Ok(Place { path, directory })
}

/// The name of the file that keeps an outside edit of `name` beside ours: `NAME.outside-<etag>`, with the
/// letters, digits and dashes of the ETag (at most 32), and as much of `name` as fits; `attempt` from 0.
pub fn outside_name(name: &str, etag: &str, attempt: u32) -> String {
    let etag: String = etag.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(32).collect();
    let suffix = match attempt {
        0 => format!(".outside-{etag}"),
        n => format!(".outside-{etag}.{n}"),
    };
    let mut end = name.len().min(MAX_NAME - suffix.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_names_the_path_it_came_from(path in "[a-z.]{1,4}(/[^/\0]{1,12}){0,3}", directory: bool) {
            let Ok(key) = key_of(path.as_bytes(), directory) else { return Ok(()) };
            if let Ok(place) = place_of(&key) {
                prop_assert_eq!(place, Place { path: &path, directory });
            }
        }

        #[test]
        fn any_key_is_a_path_or_refused(key in ".*") {
            if let Ok(place) = place_of(&key) {
                prop_assert_eq!(key_of(place.path.as_bytes(), place.directory).unwrap(), key);
            }
        }
    }

    #[test]
    fn hostile_keys_are_refused() {
        for key in ["", "/", "/a", "a//b", "a/", "../a", "a/../b", "./a", "a/.", "a\0b", "a//", "a\\b"] {
            let refused = place_of(key).is_err();
            assert_eq!(refused, key != "a/", "{key:?}");
        }
        assert_eq!(place_of(&format!("a/{}", "x".repeat(256))), Err(NoPath::TooLong));
        for key in [".cwdfs", ".cwdfs/", ".cwdfs/lease", ".cwdfs/log/1"] {
            assert_eq!(place_of(key), Err(NoPath::Ours), "{key}");
        }
        assert!(place_of("a/.cwdfs").is_ok() && place_of(".cwdfs2/a").is_ok());
    }

    #[test]
    fn paths_without_a_key() {
        assert_eq!(key_of(b"a/\xff", false), Err(NoKey::NotUtf8));
        assert_eq!(key_of("a".repeat(1024).as_bytes(), false), Ok("a".repeat(1024)));
        assert_eq!(key_of("a".repeat(1024).as_bytes(), true), Err(NoKey::TooLong));
        assert_eq!(key_of(b".cwdfs/x", false), Err(NoKey::Ours));
        assert_eq!(key_of(b"a/b\\c", false), Err(NoKey::Backslash));
    }

    #[test]
    fn the_name_beside_fits_a_directory() {
        assert_eq!(outside_name("notes.md", "\"9f3a-2\"", 0), "notes.md.outside-9f3a-2");
        assert_eq!(outside_name("a", "\"e\"", 2), "a.outside-e.2");
        let long = outside_name(&"ü".repeat(127), &"f".repeat(100), 7);
        assert!(long.len() <= MAX_NAME && long.ends_with(&format!("{}.7", "f".repeat(32))));
    }
}
