//! A second S3 client that looks at a session's prefix with eyes of its own: nothing of the store code
//! under test is used.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// An object as the witness saw it.
#[derive(Debug, Clone)]
pub struct Plain {
    /// What it says of its content, if anything.
    pub content_type: Option<String>,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its version.
    pub etag: String,
    /// User metadata, names without the `x-amz-meta-` prefix.
    pub metadata: HashMap<String, String>,
}

/// A client for one prefix of one bucket; keys are relative to the prefix.
pub struct Witness {
    client: Client,
    bucket: String,
    prefix: String,
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().expect("a runtime for the witness")
    })
}

impl Witness {
    /// A witness of `bucket:prefix/` at a path-style endpoint.
    pub fn new(endpoint: &str, key: &str, secret: &str, bucket: &str, prefix: &str) -> Witness {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(endpoint)
            .force_path_style(true)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new(key, secret, None, None, "tests"))
            .build();
        let client = Client::from_conf(config);
        Witness { client, bucket: bucket.to_owned(), prefix: format!("{}/", prefix.trim_matches('/')) }
    }

    /// Makes the bucket; one that is there already is fine.
    pub fn create_bucket(&self) {
        let made = runtime().block_on(self.client.create_bucket().bucket(&self.bucket).send());
        if let Err(e) = made {
            let e = e.into_service_error();
            let there = e.is_bucket_already_exists() || e.is_bucket_already_owned_by_you();
            assert!(there, "cannot create bucket {}: {e:?}", self.bucket);
        }
        // On a busy machine the server's front learns of it a little later than it says that it is made.
        let until = Instant::now() + Duration::from_secs(30);
        while !self.knows_bucket() {
            assert!(Instant::now() < until, "bucket {} is made, and cannot be read", self.bucket);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn knows_bucket(&self) -> bool {
        let request = self.client.get_object().bucket(&self.bucket).key(self.full("none"));
        match runtime().block_on(request.send()) {
            Ok(_) => true,
            Err(e) => e.into_service_error().is_no_such_key(),
        }
    }

    /// All keys with their sizes, in order; those of cwdfs itself (`.cwdfs/`) included.
    pub fn keys(&self) -> BTreeMap<String, u64> {
        let pages =
            self.client.list_objects_v2().bucket(&self.bucket).prefix(&self.prefix).into_paginator().send();
        let pages = runtime().block_on(pages.try_collect()).expect("the witness lists the prefix");
        let objects = pages.into_iter().flat_map(|page| page.contents.unwrap_or_default());
        let rows = objects.map(|o| {
            let key = o.key.unwrap_or_default();
            (key.strip_prefix(&self.prefix).unwrap_or(&key).to_owned(), o.size.unwrap_or(0) as u64)
        });
        rows.collect()
    }

    /// The keys of the view: all but those of cwdfs itself.
    pub fn plain_keys(&self) -> Vec<String> {
        self.keys().into_keys().filter(|k| !k.starts_with(".cwdfs/")).collect()
    }

    /// An object with its bytes and metadata; `None` when there is none.
    pub fn object(&self, key: &str) -> Option<Plain> {
        let request = self.client.get_object().bucket(&self.bucket).key(self.full(key));
        runtime().block_on(async {
            match request.send().await {
                Ok(answer) => Some(Plain {
                    etag: answer.e_tag.unwrap_or_default(),
                    metadata: answer.metadata.unwrap_or_default(),
                    content_type: answer.content_type,
                    bytes: answer.body.collect().await.expect("the witness reads an object").to_vec(),
                }),
                Err(e) => {
                    let e = e.into_service_error();
                    assert!(e.is_no_such_key(), "witness: get {key}: {e:?}");
                    None
                }
            }
        })
    }

    /// An object's bytes as text; panics when there is none.
    #[track_caller]
    pub fn text(&self, key: &str) -> String {
        let object =
            self.object(key).unwrap_or_else(|| panic!("no object {key:?} in {:?}", self.plain_keys()));
        String::from_utf8_lossy(&object.bytes).into_owned()
    }

    /// Writes an object as any other tool would.
    pub fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        self.put_with(key, bytes, &[]);
    }

    /// Writes an object with user metadata.
    pub fn put_with(&self, key: &str, bytes: impl Into<Vec<u8>>, metadata: &[(&str, &str)]) {
        let mut request = self.client.put_object().bucket(&self.bucket).key(self.full(key));
        for (name, value) in metadata {
            request = request.metadata(*name, *value);
        }
        let sent = runtime().block_on(request.body(ByteStream::from(bytes.into())).send());
        sent.unwrap_or_else(|e| panic!("witness: put {key}: {:?}", e.into_service_error()));
    }

    /// Writes an object, unless the store refuses its key.
    pub fn try_put(&self, key: &str, bytes: impl Into<Vec<u8>>) -> bool {
        let request = self.client.put_object().bucket(&self.bucket).key(self.full(key));
        runtime().block_on(request.body(ByteStream::from(bytes.into())).send()).is_ok()
    }

    /// Deletes an object.
    pub fn delete(&self, key: &str) {
        let sent =
            runtime().block_on(self.client.delete_object().bucket(&self.bucket).key(self.full(key)).send());
        sent.unwrap_or_else(|e| panic!("witness: delete {key}: {:?}", e.into_service_error()));
    }

    /// Deletes every object whose key starts with `start`; returns how many there were.
    pub fn delete_all(&self, start: &str) -> usize {
        let keys: Vec<_> = self.keys().into_keys().filter(|k| k.starts_with(start)).collect();
        keys.iter().for_each(|key| self.delete(key));
        keys.len()
    }

    /// Waits until `done` holds of the plain keys; panics with them when `limit` passes first.
    #[track_caller]
    pub fn wait_for(&self, what: &str, limit: Duration, done: impl Fn(&[String]) -> bool) {
        let start = Instant::now();
        loop {
            let keys = self.plain_keys();
            if done(&keys) {
                return;
            }
            assert!(start.elapsed() < limit, "{what}: not within {limit:?}; the view has {keys:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}
