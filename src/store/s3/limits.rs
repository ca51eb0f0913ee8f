//! How many requests at once, and how long each may take.

use super::refusal::Refusal;
use crate::store::Kind;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Requests at once.
const ALL: usize = 64;

/// Of them, those that move much: the others (a lease's renewal) must not wait behind them.
const BULK: usize = 40;

/// From how many bytes on a request moves much.
const MUCH: u64 = 1 << 20;

/// How long an answer may take to begin, beyond the time its upload takes.
const ANSWER: Duration = Duration::from_secs(15);

/// The slowest upload that is not taken for a stall, in bytes a second.
const SLOWEST: u64 = 64 << 10;

/// How long a body may pause.
const PAUSE: Duration = Duration::from_secs(15);

/// The most that is set aside for a body before its bytes come.
const TRUSTED: u64 = 8 << 20;

/// Room for requests.
pub(super) struct Limits {
    all: Semaphore,
    bulk: Semaphore,
}

/// The room of one request.
pub(super) struct Room<'a> {
    _bulk: Option<SemaphorePermit<'a>>,
    _one: Option<SemaphorePermit<'a>>,
}

impl Limits {
    pub fn new() -> Self {
        Limits { all: Semaphore::new(ALL), bulk: Semaphore::new(BULK) }
    }

    /// Waits for room for a request that moves so many bytes.
    pub async fn room(&self, bytes: u64) -> Room<'_> {
        // The semaphores are never closed, so both are always had.
        let bulk = if bytes >= MUCH { self.bulk.acquire().await.ok() } else { None };
        Room { _bulk: bulk, _one: self.all.acquire().await.ok() }
    }
}

/// Waits for an answer to a request that uploads so many bytes.
pub(super) async fn answer<T, E: Into<Refusal>>(
    upload: u64,
    request: impl Future<Output = Result<T, E>>,
) -> Result<T, Refusal> {
    let patience = ANSWER + Duration::from_secs(upload / SLOWEST);
    match tokio::time::timeout(patience, request).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(Refusal::new(Kind::Timeout, format!("no answer within {} s", patience.as_secs()))),
    }
}

/// Reads a body of exactly `length` bytes.
pub(super) async fn read(mut body: ByteStream, length: u64) -> Result<Bytes, Refusal> {
    let mut bytes = BytesMut::with_capacity(length.min(TRUSTED) as usize);
    loop {
        let chunk = match tokio::time::timeout(PAUSE, body.try_next()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => {
                return Err(Refusal::new(Kind::Corrupt, format!("the body broke off: {error}")));
            }
            Err(_) => {
                let message = format!("the body stood still for {} s", PAUSE.as_secs());
                return Err(Refusal::new(Kind::Timeout, message));
            }
        };
        if (bytes.len() + chunk.len()) as u64 > length {
            return Err(Refusal::new(
                Kind::Corrupt,
                format!("the body has more than the {length} bytes declared"),
            ));
        }
        bytes.extend_from_slice(&chunk);
    }
    if bytes.len() as u64 != length {
        let message = format!("the body has {} bytes of the {length} declared", bytes.len());
        return Err(Refusal::new(Kind::Corrupt, message));
    }
    Ok(bytes.freeze())
}
