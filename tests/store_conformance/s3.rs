//! What only the S3 store does.

use crate::stores::{credentials, s3_at, write_credentials};
use crate::{seaweed, suite};
use cwdfs::store::{Condition, ETag, Kind, ObjectStore, PutOptions, S3Options, S3Store};
use std::sync::Arc;

fn options() -> S3Options {
    S3Options {
        endpoint: Some(seaweed::shared().endpoint()),
        credentials_file: Some(credentials().to_owned()),
        ..S3Options::default()
    }
}

#[tokio::test]
async fn nothing_outside_the_prefix_is_seen_or_touched() {
    let bucket = seaweed::shared().bucket();
    let whole = s3_at(&bucket, "").await;
    for key in ["sid4/x", "sid42x", "sid42-/x", "other"] {
        whole.put(key, "outside".into(), &PutOptions::default()).await.unwrap();
    }
    let store: suite::Store = Arc::new(s3_at(&bucket, "sid42").await);
    assert!(store.list("", None, 100).await.unwrap().objects.is_empty());
    suite::put(&store, "x", "inside").await;
    let witness = seaweed::shared().client();
    let found = witness.get_object().bucket(&bucket).key("sid42/x").send().await.unwrap();
    assert_eq!(found.body.collect().await.unwrap().into_bytes(), "inside");
    assert_eq!(store.describe(), format!("s3://{bucket}/sid42"));
    assert!(store.delete_many(&["x".to_owned()]).await.unwrap().is_empty());
    let left: Vec<String> =
        whole.list("", None, 100).await.unwrap().objects.into_iter().map(|object| object.key).collect();
    assert_eq!(left, ["other", "sid4/x", "sid42-/x", "sid42x"]);
}

#[tokio::test]
async fn the_marker_of_the_prefix_itself_is_no_object() {
    let bucket = seaweed::shared().bucket();
    s3_at(&bucket, "").await.put("sid42/", "".into(), &PutOptions::default()).await.unwrap();
    let store: suite::Store = Arc::new(s3_at(&bucket, "sid42").await);
    assert!(store.list("", None, 1).await.unwrap().objects.is_empty());
    suite::put(&store, "a", "").await;
    suite::put(&store, "b", "").await;
    let page = store.list("", None, 1).await.unwrap();
    assert_eq!((page.objects[0].key.as_str(), page.more), ("a", true));
}

#[tokio::test]
async fn a_missing_bucket_is_said() {
    let store = s3_at("no-such-bucket-here", "p").await;
    for error in [store.list("", None, 1).await.unwrap_err(), store.get("k", None, None).await.unwrap_err()] {
        assert_eq!(error.kind, Kind::NoSuchBucket, "{error}");
    }
}

#[tokio::test]
async fn wrong_credentials_are_said() {
    let bucket = seaweed::shared().bucket();
    for (access, secret) in [(seaweed::ACCESS_KEY, "wrong"), ("nobody", seaweed::SECRET_KEY)] {
        let file = write_credentials(access, secret);
        let options = S3Options { credentials_file: Some(file.to_path_buf()), ..options() };
        let store = S3Store::open(&bucket, "p", &options).await.unwrap();
        for error in [
            store.put("k", "x".into(), &PutOptions::default()).await.unwrap_err(),
            store.head("k").await.unwrap_err(),
        ] {
            assert_eq!(error.kind, Kind::AccessDenied, "{error}");
            assert!(!error.to_string().contains(secret), "{error}");
        }
    }
}

#[tokio::test]
async fn no_credentials_are_said() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let options = S3Options { credentials_file: Some(empty.path().to_owned()), ..options() };
    let store = S3Store::open("bucket", "p", &options).await.unwrap();
    let error = store.head("k").await.unwrap_err();
    assert_eq!(error.kind, Kind::AccessDenied, "{error}");
    assert!(error.message.contains("credentials"), "{error}");
}

#[tokio::test]
async fn credentials_that_were_replaced_are_found() {
    let bucket = seaweed::shared().bucket();
    let file = write_credentials(seaweed::ACCESS_KEY, "wrong");
    let options = S3Options { credentials_file: Some(file.to_path_buf()), ..options() };
    let store = S3Store::open(&bucket, "p", &options).await.unwrap();
    assert_eq!(store.head("k").await.unwrap_err().kind, Kind::AccessDenied);
    std::fs::copy(credentials(), &file).unwrap();
    // A refusal that may be somebody's lack of a right has others looked for beside the requests, now and then.
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while store.head("k").await.unwrap_err().kind != Kind::NotFound {
        assert!(tokio::time::Instant::now() < until, "what is in the file now is not used");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn an_unreachable_store_is_said() {
    let options = S3Options { endpoint: Some("http://127.0.0.1:9".to_owned()), ..options() };
    let store = S3Store::open("bucket", "p", &options).await.unwrap();
    let error = store.head("k").await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
}

#[tokio::test]
async fn deleting_what_is_gone_with_its_etag_does_no_harm() {
    let store = s3_at(&seaweed::shared().bucket(), "p").await;
    let gone = Condition::Match(ETag("\"0123456789abcdef0123456789abcdef\"".to_owned()));
    match store.delete("k", &gone).await {
        // SeaweedFS's way, and that of AWS.
        Ok(()) => {}
        Err(error) => assert_eq!(error.kind, Kind::Precondition, "{error}"),
    }
}
