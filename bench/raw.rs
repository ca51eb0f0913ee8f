//! The same bytes with the same SDK through the same relay, without a file system: what no client of the store beats.

use crate::support::World;
use crate::support::seaweed;
use crate::support::world::BUCKET;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use futures::{StreamExt, TryStreamExt, stream};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Bytes of a part, and how many are on their way at once.
pub const PART: usize = 8 << 20;
const PARALLEL: usize = 16;

/// A client of the world's prefix.
pub struct Raw {
    client: Client,
    prefix: String,
    runtime: Runtime,
}

impl Raw {
    /// A client whose requests go through the world's relay.
    pub fn new(world: &World) -> Raw {
        let credentials = Credentials::new(seaweed::ACCESS_KEY, seaweed::SECRET_KEY, None, None, "bench");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(seaweed::REGION))
            .endpoint_url(world.endpoint())
            .force_path_style(true)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .credentials_provider(credentials)
            .build();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let prefix = format!("{}-raw/", world.prefix);
        Raw { client: Client::from_conf(config), prefix, runtime: runtime.expect("a runtime") }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Writes an object, and tells how long that took.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Duration {
        let request =
            self.client.put_object().bucket(BUCKET).key(self.key(name)).body(ByteStream::from(bytes));
        let start = Instant::now();
        self.runtime.block_on(request.send()).expect("a raw PUT");
        start.elapsed()
    }

    /// Reads an object in one request, and tells how long that took.
    pub fn get(&self, name: &str) -> (Vec<u8>, Duration) {
        self.get_at(&self.key(name))
    }

    /// The same of any key of the bucket.
    pub fn get_at(&self, key: &str) -> (Vec<u8>, Duration) {
        let start = Instant::now();
        let bytes = self.runtime.block_on(async {
            let answer = self.client.get_object().bucket(BUCKET).key(key).send().await.expect("a raw GET");
            answer.body.collect().await.expect("the body of a raw GET").to_vec()
        });
        (bytes, start.elapsed())
    }

    /// The shortest way to the store and back, the middle of several: a GET of a few bytes.
    pub fn round_trip(&self) -> Duration {
        self.put("round-trip", b"x".to_vec());
        let mut took: Vec<_> = (0..7).map(|_| self.get("round-trip").1).collect();
        took.sort();
        took[took.len() / 2]
    }

    /// Writes an object in parts, many at once, and tells how long that took.
    pub fn multipart(&self, name: &str, bytes: &[u8]) -> Duration {
        let start = Instant::now();
        self.runtime.block_on(self.send_parts(&self.key(name), bytes));
        start.elapsed()
    }

    async fn send_parts(&self, key: &str, bytes: &[u8]) {
        let begun = self.client.create_multipart_upload().bucket(BUCKET).key(key).send().await;
        let upload = begun.expect("a raw upload").upload_id.unwrap_or_default();
        let parts = bytes.chunks(PART).zip(1..).map(|(piece, number)| {
            let part =
                self.client.upload_part().bucket(BUCKET).key(key).upload_id(&upload).part_number(number);
            let body = ByteStream::from(piece.to_vec());
            async move {
                let sent = part.body(body).send().await.expect("a raw part");
                CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build()
            }
        });
        let parts: Vec<_> = stream::iter(parts).buffered(PARALLEL).collect().await;
        let whole = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let done = self.client.complete_multipart_upload().bucket(BUCKET).key(key).upload_id(&upload);
        done.multipart_upload(whole).send().await.expect("the end of a raw upload");
    }

    /// Reads an object in pieces, many at once; returns its bytes and how long it took.
    pub fn get_parallel(&self, name: &str, size: usize) -> (Vec<u8>, Duration) {
        let key = self.key(name);
        let piece = |from: usize| {
            let range = format!("bytes={from}-{}", (from + PART).min(size) - 1);
            let request = self.client.get_object().bucket(BUCKET).key(&key).range(range);
            async move { request.send().await.expect("a raw GET").body.collect().await }
        };
        let start = Instant::now();
        let pieces = stream::iter((0..size).step_by(PART).map(piece)).buffered(PARALLEL);
        let pieces: Vec<_> = self.runtime.block_on(pieces.try_collect()).expect("the bodies of raw GETs");
        // Putting them together is not the store's work.
        let took = start.elapsed();
        (pieces.into_iter().flat_map(|piece| piece.to_vec()).collect(), took)
    }
}
