//! The stores under test, each empty.

use crate::seaweed;
use cwdfs::store::faulty::FaultyStore;
use cwdfs::store::{DirStore, ObjectStore, S3Options, S3Store};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tempfile::{NamedTempFile, TempDir, TempPath};

/// A store, and what must live as long.
pub struct Fixture {
    pub store: Arc<dyn ObjectStore>,
    _dir: Option<TempDir>,
}

pub async fn dir() -> Fixture {
    let dir = TempDir::new().expect("a directory");
    let store = Arc::new(DirStore::new(dir.path().join("session")));
    Fixture { store, _dir: Some(dir) }
}

pub async fn faulty() -> Fixture {
    let inner = dir().await;
    Fixture { store: FaultyStore::new(inner.store, 1), _dir: inner._dir }
}

pub async fn s3() -> Fixture {
    Fixture { store: Arc::new(s3_at(&seaweed::shared().bucket(), "a/session").await), _dir: None }
}

/// A store at a prefix of the test server.
pub async fn s3_at(bucket: &str, prefix: &str) -> S3Store {
    let server = seaweed::shared();
    let options = S3Options {
        endpoint: Some(server.endpoint()),
        credentials_file: Some(credentials().to_owned()),
        ..S3Options::default()
    };
    S3Store::open(bucket, prefix, &options).await.expect("a store")
}

/// A file with the credentials of the test server.
pub fn credentials() -> &'static Path {
    static FILE: OnceLock<TempPath> = OnceLock::new();
    FILE.get_or_init(|| write_credentials(seaweed::ACCESS_KEY, seaweed::SECRET_KEY))
}

/// A file with these credentials.
pub fn write_credentials(access: &str, secret: &str) -> TempPath {
    let mut file = NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a file of credentials");
    write!(file, "[default]\naws_access_key_id={access}\naws_secret_access_key={secret}\n")
        .expect("a file of credentials");
    file.into_temp_path()
}
