//! STORE, as people write it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a session lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A prefix of a bucket; the prefix has no slash at either end and is not empty.
    S3 {
        /// The bucket.
        bucket: String,
        /// The prefix.
        prefix: String,
    },
    /// A local directory, absolute.
    Directory(PathBuf),
}

/// The shortest form.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::S3 { bucket, prefix } => write!(f, "{bucket}:{prefix}"),
            Location::Directory(path) => write!(f, "file://{}", path.display()),
        }
    }
}

const FORMS: &str = "write bucket:prefix, s3://bucket/prefix or file:///directory";

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Location, String> {
        if let Some(path) = text.strip_prefix("file://") {
            return directory(path)
                .ok_or_else(|| format!("{text}: not an absolute path; write file:///directory"));
        }
        let parts = match (text.strip_prefix("s3://"), text.contains("://")) {
            (Some(rest), _) => Some(rest.split_once('/').unwrap_or((rest, ""))),
            (None, true) => None,
            (None, false) => text.split_once(':'),
        };
        let Some((bucket, prefix)) = parts else { return Err(format!("{text}: no store; {FORMS}")) };
        object_prefix(bucket, prefix).map_err(|why| format!("{text}: {why}; {FORMS}"))
    }
}

fn directory(path: &str) -> Option<Location> {
    let path = PathBuf::from(path);
    let plain = path.components().all(|c| !matches!(c, std::path::Component::ParentDir));
    // Without its last slashes, so that every way to write it is one session.
    (path.is_absolute() && plain).then(|| Location::Directory(path.components().collect()))
}

fn object_prefix(bucket: &str, prefix: &str) -> Result<Location, &'static str> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if bucket.len() < 2 || !bucket.chars().all(good) {
        return Err("no name of a bucket");
    }
    let prefix = prefix.trim_matches('/');
    if prefix.is_empty() {
        return Err("a session needs a prefix");
    }
    if prefix.split('/').any(|part| matches!(part, "" | "." | ".." | ".cwdfs")) || prefix.contains('\0') {
        return Err("a prefix has no empty part, no `.`, `..` or `.cwdfs`");
    }
    Ok(Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(bucket: &str, prefix: &str) -> Location {
        Location::S3 { bucket: bucket.into(), prefix: prefix.into() }
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!("demo:sid42".parse(), Ok(s3("demo", "sid42")));
        assert_eq!("demo:/a/b/".parse(), Ok(s3("demo", "a/b")));
        assert_eq!("s3://demo/a/b".parse(), Ok(s3("demo", "a/b")));
        assert_eq!("demo:a:b".parse(), Ok(s3("demo", "a:b")));
        assert_eq!("file:///srv/x/".parse(), Ok(Location::Directory("/srv/x".into())));
        assert_eq!("s3://demo/a/b".parse::<Location>().map(|l| l.to_string()), Ok("demo:a/b".into()));
    }

    #[test]
    fn what_is_none_is_refused_with_the_forms() {
        for wrong in [
            "",
            "demo",
            "demo:",
            "s3://demo",
            "s3://demo/",
            "ftp://x/y",
            "demo:a/../b",
            "demo:a//b",
            ":x",
            "b c:x",
            "demo:.cwdfs",
        ] {
            let error = wrong.parse::<Location>().expect_err(wrong);
            assert!(error.starts_with(wrong) && error.contains("bucket:prefix"), "{error}");
        }
        for wrong in ["file://relative/dir", "file://", "file:///a/../b"] {
            assert!(wrong.parse::<Location>().is_err_and(|e| e.contains("file:///")), "{wrong}");
        }
    }
}
