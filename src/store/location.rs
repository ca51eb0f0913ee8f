//! Where a session lives, as a person writes it, and opening it.

use super::retry::Retrying;
use super::stats::Stats;
use super::{Access, DirStore, Kind, ObjectStore, Result, S3Options, S3Store, StoreError};
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// `bucket:prefix`, `s3://bucket/prefix` or `file:///directory`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// A prefix of a bucket; empty for the whole bucket, never with a slash at its ends.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// Below which all keys lie.
        prefix: String,
    },
    /// A local directory.
    Dir {
        /// Absolute, without `.` and `..`.
        path: PathBuf,
    },
}

/// How a store is reached.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// For stores on S3.
    pub s3: S3Options,
    /// How long a request is tried again before it fails.
    pub timeout: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions { s3: S3Options::default(), timeout: Duration::from_secs(60) }
    }
}

/// A store that retries, and what is seen of it.
pub struct Opened {
    /// For all use.
    pub store: Arc<dyn ObjectStore>,
    /// Latency, counters.
    pub stats: Arc<Stats>,
    /// Its credentials.
    pub access: Access,
    place: Place,
    timeout: Duration,
}

/// What is behind a handle.
enum Place {
    S3(Arc<S3Store>),
    Dir(PathBuf),
}

impl Opened {
    fn of(place: Place, timeout: Duration) -> Opened {
        let (inner, s3): (Arc<dyn ObjectStore>, Option<Arc<S3Store>>) = match &place {
            Place::Dir(path) => (Arc::new(DirStore::new(path)), None),
            Place::S3(store) => (Arc::clone(store) as _, Some(Arc::clone(store))),
        };
        let stats = Arc::new(Stats::default());
        let store = Arc::new(Retrying::new(inner, timeout, Arc::clone(&stats)));
        Opened { store, stats, access: Access::new(s3), place, timeout }
    }

    /// The store at a folder of this one ([`ObjectStore::folders`] names them), over the same connections.
    pub fn below(&self, folder: &str) -> Opened {
        let place = match &self.place {
            Place::S3(store) => Place::S3(Arc::new(store.below(folder))),
            Place::Dir(path) => Place::Dir(path.join(folder)),
        };
        Opened::of(place, self.timeout)
    }
}

/// Opens the store at `location`; nothing is written, and nothing asked of the store.
pub async fn open(location: &Location, options: &StoreOptions) -> Result<Opened> {
    let place = match location {
        Location::Dir { path } => Place::Dir(path.clone()),
        Location::S3 { bucket, prefix } => {
            Place::S3(Arc::new(S3Store::open(bucket, prefix, &options.s3).await?))
        }
    };
    Ok(Opened::of(place, options.timeout))
}

impl Location {
    /// Reads what a person wrote; the error says what is wrong with it and what is right.
    pub fn parse(text: &str) -> Result<Location> {
        let refuse = |why: &str| {
            let message =
                format!("{why}: give bucket:prefix, s3://bucket/prefix or file:///directory (absolute)");
            Err(StoreError::new(Kind::Invalid, "open", text, message))
        };
        if let Some(path) = text.strip_prefix("file://") {
            return match directory(path) {
                Ok(path) => Ok(Location::Dir { path }),
                Err(why) => refuse(why),
            };
        }
        let (bucket, prefix) = match text.strip_prefix("s3://") {
            Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
            None if text.contains("://") => return refuse("no store of this kind is known"),
            None => match text.split_once(':') {
                Some(parts) => parts,
                None => return refuse("a store has a colon after the bucket"),
            },
        };
        let prefix = prefix.trim_matches('/');
        match check_bucket(bucket).and_then(|()| check_prefix(prefix)) {
            Ok(()) => Ok(Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() }),
            Err(why) => refuse(why),
        }
    }

    /// The location of a folder of this one.
    pub fn below(&self, folder: &str) -> Location {
        match self {
            Location::S3 { bucket, prefix } if prefix.is_empty() => {
                Location::S3 { bucket: bucket.clone(), prefix: folder.to_owned() }
            }
            Location::S3 { bucket, prefix } => {
                Location::S3 { bucket: bucket.clone(), prefix: format!("{prefix}/{folder}") }
            }
            Location::Dir { path } => Location::Dir { path: path.join(folder) },
        }
    }

    /// A name for the session's local folder: the same for the same store on every run, and for no other.
    /// `endpoint` tells apart buckets of one name on several servers.
    pub fn session_key(&self, endpoint: Option<&str>) -> String {
        let (whole, last) = match self {
            Location::S3 { bucket, prefix } => {
                let last = prefix.rsplit('/').next().filter(|part| !part.is_empty()).unwrap_or(bucket);
                let server = endpoint.unwrap_or_default().trim_end_matches('/');
                (format!("s3\n{server}\n{bucket}\n{prefix}"), last.to_owned())
            }
            Location::Dir { path } => {
                let last = path.file_name().map(|name| name.to_string_lossy().into_owned());
                (format!("file\n{}", path.display()), last.unwrap_or_default())
            }
        };
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
        let readable: String = last.chars().take(40).map(plain).collect();
        format!("{readable}-{}", &blake3::hash(whole.as_bytes()).to_hex()[..24])
    }

    /// A name for the server and bucket, whatever the prefix.
    pub fn server_key(&self, endpoint: Option<&str>) -> String {
        match self {
            Location::S3 { bucket, .. } => {
                Location::S3 { bucket: bucket.clone(), prefix: String::new() }.session_key(endpoint)
            }
            Location::Dir { .. } => self.session_key(None),
        }
    }
}

impl FromStr for Location {
    type Err = String;

    /// As [`Location::parse`], for a command line that names the text itself.
    fn from_str(text: &str) -> std::result::Result<Location, String> {
        Location::parse(text).map_err(|error| error.message)
    }
}

/// The shortest form; it can be typed.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::S3 { bucket, prefix } => write!(f, "{bucket}:{prefix}"),
            Location::Dir { path } => write!(f, "file://{}", path.display()),
        }
    }
}

fn directory(path: &str) -> std::result::Result<PathBuf, &'static str> {
    if !path.starts_with('/') {
        return Err("the directory is not absolute (file:///...)");
    }
    let path: PathBuf = Path::new(path).components().collect();
    if path.components().any(|part| part == Component::ParentDir) {
        return Err("the directory contains `..`");
    }
    if path == Path::new("/") {
        return Err("the root directory cannot be a store");
    }
    if path.to_string_lossy().contains('\0') {
        return Err("the directory contains a NUL");
    }
    Ok(path)
}

fn check_bucket(bucket: &str) -> std::result::Result<(), &'static str> {
    if bucket.is_empty() {
        return Err("the bucket is empty");
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if !bucket.chars().all(allowed) || bucket.starts_with('.') {
        return Err("a bucket's name has letters, digits, dots and hyphens");
    }
    Ok(())
}

fn check_prefix(prefix: &str) -> std::result::Result<(), &'static str> {
    if prefix.is_empty() {
        return Ok(());
    }
    if prefix.split('/').any(|part| matches!(part, "" | "." | ".." | ".cwdfs")) {
        return Err("the prefix has an empty, `.`, `..` or `.cwdfs` component");
    }
    if prefix.chars().any(char::is_control) {
        return Err("the prefix has a control character");
    }
    if prefix.len() > 512 {
        return Err("the prefix has more than 512 bytes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(bucket: &str, prefix: &str) -> Location {
        Location::S3 { bucket: bucket.into(), prefix: prefix.into() }
    }

    #[test]
    fn what_people_write_is_understood() {
        for (text, location, said) in [
            ("demo:sid42", s3("demo", "sid42"), "demo:sid42"),
            ("demo:a/b/", s3("demo", "a/b"), "demo:a/b"),
            ("demo:", s3("demo", ""), "demo:"),
            ("s3://demo", s3("demo", ""), "demo:"),
            ("s3://demo/a:b", s3("demo", "a:b"), "demo:a:b"),
            ("file:///srv//x/./y/", Location::Dir { path: "/srv/x/y".into() }, "file:///srv/x/y"),
        ] {
            let parsed = Location::parse(text).unwrap();
            assert_eq!(parsed, location, "{text}");
            assert_eq!(parsed.to_string(), said);
            assert_eq!(Location::parse(said).unwrap(), location, "what is shown can be typed");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_advice() {
        for text in [
            "",
            "demo",
            ":x",
            "s3://",
            "s3:///x",
            "demo:../x",
            "demo:a//b",
            "demo:a/./b",
            "demo:a/.cwdfs",
            "de mo:x",
            "../x:y",
            "file://relative",
            "file://./x",
            "file:///",
            "file:///a/../b",
            "http://host/x",
            "demo:a\nb",
        ] {
            let error = Location::parse(text).expect_err(text);
            assert_eq!(error.kind, Kind::Invalid);
            assert!(error.message.contains("give bucket:prefix"), "{error}");
        }
    }

    #[test]
    fn session_keys_are_stable_and_apart() {
        let key = s3("demo", "sid42").session_key(None);
        assert_eq!(key, s3("demo", "sid42").session_key(None));
        assert!(key.starts_with("sid42-"), "{key}");
        let others = [
            s3("demo2", "sid42").session_key(None),
            s3("demo", "sid43").session_key(None),
            s3("demo", "sid42").session_key(Some("http://localhost:8333")),
            Location::Dir { path: "/demo/sid42".into() }.session_key(None),
        ];
        assert!(!others.contains(&key));
        let hostile = Location::Dir { path: "/x/a b:c".into() }.session_key(None);
        assert!(hostile.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')), "{hostile}");
    }
}
