//! What a store answers to requests, changed: XML, headers, lengths. The S3 store has to read it or refuse it.

use crate::config;
use crate::mutate::{Edit, apply, edits};
use crate::server::{Answer, Framing, Server};
use cwdfs::store::{
    Condition, CopyOptions, ETag, ObjectStore, Part, PutOptions, S3Options, S3Store, StoreError, UploadId,
    list_all,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// No request may take longer, whatever it is answered.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ask {
    List,
    ListAll,
    Folders,
    Uploads,
    Delete,
    DeleteMany,
    Create,
    Complete,
    Copy,
    Put,
    Head,
    Get,
    GetRange(u64, u64),
}

impl Ask {
    /// The answer of a store that means well.
    fn template(self) -> Vec<u8> {
        let name = match self {
            Ask::List | Ask::ListAll => "list",
            Ask::Folders => "folders",
            Ask::Uploads => "uploads",
            Ask::DeleteMany => "delete",
            Ask::Create => "create",
            Ask::Complete => "complete",
            Ask::Copy => "copy",
            Ask::Put | Ask::Head | Ask::Delete => return Vec::new(),
            Ask::Get | Ask::GetRange(..) => return b"0123456789".to_vec(),
        };
        file(name)
    }
}

fn file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/answers").join(format!("{name}.xml"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What becomes of an answer's XML.
#[derive(Debug, Clone)]
enum Change {
    /// What is between these tags, wherever they are, becomes this.
    Field(&'static str, String),
    /// The element of this name is taken out, and once more put in.
    Gone(&'static str),
    Twice(&'static str),
    /// Elements in elements.
    Deep(&'static str, usize),
    Bytes(Vec<Edit>),
}

const FIELDS: [&str; 19] = [
    "Key",
    "Prefix",
    "IsTruncated",
    "NextContinuationToken",
    "NextKeyMarker",
    "NextUploadIdMarker",
    "Size",
    "ETag",
    "LastModified",
    "Initiated",
    "Code",
    "Message",
    "UploadId",
    "Contents",
    "CommonPrefixes",
    "Upload",
    "Error",
    "KeyCount",
    "MaxKeys",
];

/// What may stand in a field.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(vec![
            "", "pre/", "pre/log/", "pre/log/..", "pre/../other", "pre//", "pre/log//x", "other/log/a", "/", "..",
            "pre/log/&#0;", "pre/log/&#27;[2J", "&unknown;", "&#x110000;", "&#xD800;", "&", "<", "<Key>pre/log/z</Key>",
            "true", "false", "TRUE", "1", "token", "-1", "0", "9223372036854775807", "9223372036854775808", "1e400", "NaN",
            "\"\"", "W/\"x\"", "\u{7f}", "\r\n", "x\"\r\nx-injected: 1", "9999-12-31T23:59:59Z", "0000-00-00T00:00:00Z",
            "-9999-01-01T00:00:00Z", "99999-01-01T00:00:00Z", "2026-02-30T25:61:61Z", "1601-01-01T00:00:00Z",
            "SlowDown", "NoSuchKey", "NotImplemented", "ExpiredToken", "PreconditionFailed",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,30}",
        1 => (1..200_000usize).prop_map(|len| format!("pre/log/{}", "k".repeat(len))),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        5 => (select(&FIELDS[..]), text()).prop_map(|(name, text)| Change::Field(name, text)),
        1 => select(&FIELDS[..]).prop_map(Change::Gone),
        1 => select(&FIELDS[..]).prop_map(Change::Twice),
        1 => (select(&FIELDS[..]), select(vec![1, 10, 1000, 20_000])).prop_map(|(name, deep)| Change::Deep(name, deep)),
        2 => edits().prop_map(Change::Bytes),
    ]
}

fn changed(body: Vec<u8>, change: &Change) -> Vec<u8> {
    let of = |name: &str| (format!("<{name}>"), format!("</{name}>"));
    let text = match (change, String::from_utf8(body)) {
        (Change::Bytes(edits), Ok(text)) => return apply(text.into_bytes(), edits),
        (Change::Bytes(edits), Err(bytes)) => return apply(bytes.into_bytes(), edits),
        (_, Err(bytes)) => return bytes.into_bytes(),
        (_, Ok(text)) => text,
    };
    let element = |name: &str| {
        let (open, close) = of(name);
        let from = text.find(&open)?;
        Some((from, from + text[from..].find(&close)? + close.len()))
    };
    match change {
        Change::Field(name, value) => {
            let (open, close) = of(name);
            let whole = format!("{open}{value}{close}");
            match element(name) {
                Some((from, to)) => [&text[..from], &whole, &text[to..]].concat(),
                // Where the last element ends: a field that was not there.
                None => {
                    let at = text.rfind("</").unwrap_or(text.len());
                    [&text[..at], &whole, &text[at..]].concat()
                }
            }
        }
        Change::Gone(name) => {
            element(name).map_or(text.clone(), |(from, to)| [&text[..from], &text[to..]].concat())
        }
        Change::Twice(name) => {
            element(name).map_or(text.clone(), |(from, to)| [&text[..to], &text[from..]].concat())
        }
        Change::Deep(name, deep) => {
            let (open, close) = of(name);
            let at = text.rfind("</").unwrap_or(text.len());
            [&text[..at], &open.repeat(*deep), "x", &close.repeat(*deep), &text[at..]].concat()
        }
        Change::Bytes(_) => text,
    }
    .into_bytes()
}

/// Headers that mean something to who asks.
fn header() -> impl Strategy<Value = (String, Vec<u8>)> {
    let name = prop_oneof![
        select(vec![
            "etag",
            "last-modified",
            "content-range",
            "content-type",
            "content-encoding",
            "x-amz-request-charged"
        ])
        .prop_map(str::to_owned),
        "x-amz-meta-[a-zA-Z-]{0,20}",
        select(vec![
            "x-amz-expiration",
            "x-amz-missing-meta",
            "x-amz-mp-parts-count",
            "x-amz-checksum-crc32",
            "retry-after"
        ])
        .prop_map(str::to_owned),
    ];
    let value = prop_oneof![
        select(vec![
            "",
            "\"etag\"",
            "etag",
            "\"",
            "\"\"\"",
            "W/\"e\"",
            "bytes 0-9/10",
            "bytes 2-5/10",
            "bytes 0-9/18446744073709551615",
            "bytes 0-9/99999999999999999999",
            "bytes 0-9/*",
            "bytes 9-0/10",
            "bytes 2-5/3",
            "bytes",
            "items 0-1/2",
            "bytes -/",
            "Wed, 12 Oct 2009 17:50:00 GMT",
            "Mon, 01 Jan 9999 00:00:00 GMT",
            "Mon, 99 Zzz 10000 99:99:99 GMT",
            "0",
            "-1",
            "1700000000",
            "=?UTF-8?B?/////w==?=",
            "=?UTF-8?B?",
            "%",
            "%00",
            "gzip",
            "aws-chunked",
            "application/xml",
        ])
        .prop_map(|value| value.as_bytes().to_vec()),
        vec(0x80..=0xffu8, 1..20),
        (1..60_000usize).prop_map(|len| vec![b'v'; len]),
    ];
    (name, value)
}

/// An answer: what changes the one that is right.
#[derive(Debug, Clone)]
struct Said {
    error: bool,
    status: u16,
    changes: Vec<Change>,
    etag: bool,
    headers: Vec<(String, Vec<u8>)>,
    framing: Framing,
}

fn said() -> impl Strategy<Value = Said> {
    let status = prop_oneof![
        6 => Just(200u16),
        1 => Just(206u16),
        3 => select(vec![201u16, 204, 299, 300, 301, 304, 307, 400, 403, 404, 405, 409, 412, 416, 429, 500, 501, 503, 507, 599, 999]),
    ];
    let framing = prop_oneof![
        6 => Just(Framing::Length),
        2 => (-2000..2000i64).prop_map(Framing::Lie),
        1 => Just(Framing::Lie(1 << 62)),
        2 => Just(Framing::Chunked),
        2 => Just(Framing::Close),
    ];
    let (changes, headers) = (vec(change(), 0..4), vec(header(), 0..3));
    (prop::bool::weighted(0.2), status, changes, prop::bool::weighted(0.8), headers, framing).prop_map(
        |(error, status, changes, etag, headers, framing)| Said {
            error,
            status,
            changes,
            etag,
            headers,
            framing,
        },
    )
}

impl Said {
    fn answer(&self, ask: Ask) -> Answer {
        let base = if self.error { file("error") } else { ask.template() };
        let body = self.changes.iter().fold(base, changed);
        let mut headers = self.headers.clone();
        if self.etag {
            headers.push(("ETag".to_owned(), b"\"0cc175b9c0f1b6a831c399e269772661\"".to_vec()));
        }
        Answer { status: self.status, headers, body, framing: self.framing, times: 1 }
    }
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        3 => Just(Ask::List),
        3 => Just(Ask::ListAll),
        1 => Just(Ask::Folders),
        1 => Just(Ask::Uploads),
        1 => select(vec![Ask::Delete, Ask::Create, Ask::Complete, Ask::Copy, Ask::Put]),
        2 => Just(Ask::DeleteMany),
        1 => Just(Ask::Head),
        2 => Just(Ask::Get),
        2 => (0..12u64, 1..12u64).prop_map(|(from, len)| Ask::GetRange(from, from + len)),
    ]
}

/// A store over a server of ours.
struct World {
    server: Server,
    store: S3Store,
    runtime: Runtime,
    _dir: TempDir,
}

impl World {
    fn new() -> World {
        let (server, dir) = (Server::start(), tempfile::tempdir().expect("a folder"));
        let credentials = dir.path().join("credentials");
        fs::write(&credentials, "[default]\naws_access_key_id = id\naws_secret_access_key = key\n")
            .expect("written");
        let options = S3Options {
            endpoint: Some(server.endpoint.clone()),
            credentials_file: Some(credentials),
            ..S3Options::default()
        };
        let runtime = Runtime::new().expect("a runtime");
        let store = runtime.block_on(S3Store::open("bucket", "pre", &options)).expect("a store");
        World { server, store, runtime, _dir: dir }
    }

    /// Asks, with these answers in turn; an error is told in words that can be shown.
    fn ask(&self, ask: Ask, answers: Vec<Answer>) -> Result<String, StoreError> {
        let mut answers = answers.into_iter().cycle();
        self.server.answers(move |_| answers.next().expect("it goes round"));
        let asked =
            self.runtime.block_on(async { tokio::time::timeout(PATIENCE, asked(&self.store, ask)).await });
        let got = asked.unwrap_or_else(|_| panic!("{ask:?} is not answered in {PATIENCE:?}"));
        assert!(self.server.requests() < 500, "{ask:?} asks {} times", self.server.requests());
        if let Err(error) = &got {
            let told = error.to_string();
            assert!(!told.contains(char::is_control), "{told:?} goes to a terminal");
            assert!(told.len() < 6000, "{} bytes are said of an error", told.len());
        }
        got
    }
}

async fn asked(store: &S3Store, ask: Ask) -> Result<String, StoreError> {
    let (key, etag, upload) = ("log/a", ETag("\"x\"".into()), UploadId("up".into()));
    Ok(match ask {
        Ask::List => {
            let page = store.list("log/", Some("log/a"), 2).await?;
            assert!(page.objects.len() <= 2 && (!page.more || !page.objects.is_empty()), "{page:?}");
            assert!(page.objects.iter().all(|object| object.key.starts_with("log/")), "{page:?}");
            assert!(page.objects.iter().all(|object| object.key != "log/a"), "it was before: {page:?}");
            format!("{page:?}")
        }
        Ask::ListAll => {
            let all = list_all(store, "log/", None).await?;
            assert!(all.iter().all(|object| object.key.starts_with("log/")), "{all:?}");
            format!("{all:?}")
        }
        Ask::Folders => {
            let folders = store.folders().await?;
            assert!(!folders.iter().any(|name| name.is_empty() || name.contains('/')), "{folders:?}");
            format!("{folders:?}")
        }
        Ask::Uploads => {
            let uploads = store.list_multipart("log/").await?;
            assert!(uploads.iter().all(|(key, _)| key.starts_with("log/")), "{uploads:?}");
            format!("{uploads:?}")
        }
        Ask::DeleteMany => {
            let keys = ["log/a".to_owned(), "log/b".to_owned()];
            let failed = store.delete_many(&keys).await?;
            assert!(failed.iter().all(|(key, _)| keys.contains(key)), "{failed:?}");
            failed.iter().map(|(key, error)| format!("{key}: {error}")).collect()
        }
        Ask::Delete => format!("{:?}", store.delete(key, &Condition::Match(etag)).await?),
        Ask::Create => store.create_multipart(key, &PutOptions::default()).await?.0,
        Ask::Complete => {
            let parts = [Part { number: 1, etag }];
            store.complete_multipart(key, &upload, &parts, &Condition::Absent).await?.0
        }
        Ask::Copy => store.copy(key, "log/b", &CopyOptions::default()).await?.0,
        Ask::Put => store.put(key, "body".into(), &PutOptions::default()).await?.0,
        Ask::Head => {
            let meta = store.head(key).await?;
            let _ = cwdfs::view::headers::read(&meta.metadata);
            format!("{meta:?}")
        }
        Ask::Get => {
            let got = store.get(key, None, None).await?;
            assert_eq!(got.body.len() as u64, got.meta.size);
            format!("{got:?}")
        }
        Ask::GetRange(from, to) => {
            let got = store.get(key, Some(from..to), None).await?;
            assert_eq!(got.body.len() as u64, to.min(got.meta.size) - from, "of {:?}", got.meta);
            format!("{got:?}")
        }
    })
}

fn plain(body: Vec<u8>) -> Answer {
    let headers = vec![
        ("ETag".to_owned(), b"\"x\"".to_vec()),
        ("Last-Modified".to_owned(), b"Mon, 12 Oct 2026 17:50:00 GMT".to_vec()),
    ];
    Answer { status: 200, headers, body, framing: Framing::Length, times: 1 }
}

#[test]
fn what_stores_answer_is_understood() {
    let world = World::new();
    for (ask, says) in [
        (Ask::List, "log/b"),
        (Ask::ListAll, "log/a&b"),
        (Ask::Folders, "one\", \"two"),
        (Ask::Uploads, "XMgbGlrZSBlbHZpbmc"),
        (Ask::DeleteMany, "log/b: delete_many log/b: AccessDenied"),
        (Ask::Delete, ""),
        (Ask::Create, "VXBsb2FkIElE"),
        (Ask::Complete, "f300c664312c11f-9"),
        (Ask::Copy, "9b2cf535f27731c974343645a3985328"),
        (Ask::Put, "x"),
        (Ask::Get, "0123456789"),
        (Ask::GetRange(0, 20), "0123456789"),
    ] {
        let got =
            world.ask(ask, vec![plain(ask.template())]).unwrap_or_else(|error| panic!("{ask:?}: {error}"));
        assert!(got.contains(says), "{ask:?}: {got}");
    }
    let missing = Answer { status: 404, ..plain(file("error")) };
    assert!(world.ask(Ask::Get, vec![missing]).is_err_and(|error| error.is_not_found()));
}

#[test]
fn hostile_answers_are_read_or_refused() {
    let world = World::new();
    proptest!(config(1500, "tests/fuzz/regressions/answers.txt"), |(ask in ask(), said in vec(said(), 1..4))| {
        let _ = world.ask(ask, said.iter().map(|said| said.answer(ask)).collect());
    });
}

#[test]
fn an_answer_that_was_cut_off_is_never_taken_for_a_whole_one() {
    let world = World::new();
    for ask in [Ask::List, Ask::ListAll, Ask::Folders, Ask::Uploads, Ask::DeleteMany, Ask::Create, Ask::Copy]
    {
        let whole = ask.template();
        for cut in (1..whole.trim_ascii_end().len()).step_by(7) {
            for framing in [Framing::Close, Framing::Chunked] {
                let answer = Answer { framing, ..plain(whole[..cut].to_vec()) };
                let got = world.ask(ask, vec![answer]);
                let error = got.expect_err("half an answer");
                assert!(error.kind.is_retryable(), "{ask:?}, cut at {cut}: {error}");
            }
        }
    }
}

#[test]
fn after_an_answer_without_sense_a_request_may_have_had_its_effect() {
    let world = World::new();
    for ask in [Ask::List, Ask::DeleteMany, Ask::Create, Ask::Complete, Ask::Copy] {
        for body in ["<html><body>Welcome</body></html>", "{}"] {
            let got = world.ask(ask, vec![plain(body.into())]);
            let error = got.expect_err("no answer to what was asked");
            assert!(error.kind.is_retryable() && error.kind.is_ambiguous(), "{ask:?} {body:?}: {error}");
        }
    }
}

#[test]
fn an_endless_answer_is_not_read_to_its_end() {
    let world = World::new();
    let body = vec![b' '; 1 << 20];
    for ask in [Ask::List, Ask::Folders, Ask::Head, Ask::Put, Ask::Copy, Ask::DeleteMany, Ask::Get] {
        for (status, framing) in
            [(200, Framing::Chunked), (200, Framing::Close), (500, Framing::Chunked), (404, Framing::Close)]
        {
            let endless = Answer { status, framing, times: 1 << 10, ..plain(body.clone()) };
            let refused = world.ask(ask, vec![endless]);
            assert!(refused.is_err() || ask == Ask::Head, "{ask:?} {status}: {refused:?}");
            // What lies between the two is some mebibytes.
            assert!(world.server.sent() < 40 << 20, "{ask:?} {status} took {} bytes", world.server.sent());
        }
    }
    // One that says how much it has is not read at all.
    let large = Answer { framing: Framing::Lie(300 << 20), ..plain(body) };
    let refused = world.ask(Ask::Get, vec![large]).expect_err("300 MiB were read at once");
    assert!(refused.message.contains("read at once"), "{refused}");
}

#[test]
fn a_listing_that_does_not_end_is_refused() {
    let world = World::new();
    let page = |keys: &[&str], more: &str| {
        let rows: String =
            keys.iter().map(|key| format!("<Contents><Key>pre/log/{key}</Key></Contents>")).collect();
        let xml = format!("<ListBucketResult><IsTruncated>true</IsTruncated>{more}{rows}</ListBucketResult>");
        plain(xml.into_bytes())
    };
    let token = |token: &str| format!("<NextContinuationToken>{token}</NextContinuationToken>");
    for answers in [
        vec![page(&["a"], "")],
        vec![page(&["a"], &token("t"))],
        vec![page(&["a", "b"], ""), page(&["a"], "")],
        vec![page(&["a-"], ""), page(&["a/b"], "")],
        vec![page(&[], "")],
        vec![page(&[], &token("t"))],
        vec![page(&[], &token("t")), page(&[], &token("u"))],
        vec![page(&["../../other/a"], &token("t")), page(&[""], "")],
    ] {
        let refused = world.ask(Ask::ListAll, answers.clone());
        assert!(refused.is_err(), "{answers:?} is {refused:?}");
    }
    let folder = |name: &str, token: &str| {
        let below = format!("<CommonPrefixes><Prefix>pre/{name}/</Prefix></CommonPrefixes>");
        let token = format!("<NextContinuationToken>{token}</NextContinuationToken>");
        plain(
            format!("<ListBucketResult><IsTruncated>true</IsTruncated>{token}{below}</ListBucketResult>")
                .into(),
        )
    };
    assert!(world.ask(Ask::Folders, vec![folder("a", "t")]).is_err());
}
