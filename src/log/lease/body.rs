//! The lease object's bytes.

use crate::log::LogError;
use crate::log::ids::{Epoch, SessionId, Slot, keys};
use bytes::Bytes;
use rand::TryRngCore;
use serde::{Deserialize, Serialize};

/// The version of the whole bucket layout that this code writes, and the newest it reads.
pub const FORMAT: u32 = 1;
/// The most bytes of a lease that are read.
const MAX_BYTES: usize = 64 << 10;
/// The most characters of a holder's name that are shown.
const MAX_HOLDER: usize = 300;

/// Whether somebody writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseState {
    /// A writer renews it.
    Held,
    /// Its writer is quiet; the next mount may take it at once.
    Parked,
    /// Nobody.
    Free,
}

/// A removal that has begun: the session cannot be mounted any more, only its removal be gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// Its plain objects go first, then the rest.
    Rm,
    /// Its plain objects stay.
    Eject,
}

impl Ending {
    /// The command that goes on with it.
    pub fn command(self) -> &'static str {
        match self {
            Ending::Rm => "rm",
            Ending::Eject => "eject",
        }
    }
}

/// The lease object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseBody {
    /// Version of the whole bucket layout.
    pub format: u32,
    /// Whose lease this is.
    pub session: SessionId,
    /// The session's first writer, whose log holds slot 1.
    pub origin: Epoch,
    /// The writer.
    pub epoch: Epoch,
    /// Host, process and mount point, for people.
    pub holder: String,
    /// Milliseconds after which a holder that stopped renewing may be succeeded.
    pub ttl_ms: u64,
    /// Raised by each write, so that each has another ETag.
    pub count: u64,
    /// How far collection may go.
    pub floor: Slot,
    /// Whether somebody writes.
    pub state: LeaseState,
    /// When it was written, milliseconds since 1970; for people only, never compared.
    pub written_ms: i64,
    /// Random for each write: tells the writes of cloned machines apart.
    pub stamp: String,
    /// The removal that has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

impl LeaseBody {
    /// The object's bytes.
    pub(super) fn encode(&self) -> Bytes {
        // Strings and numbers only, and no map: serialising has no failing path.
        let mut json = serde_json::to_vec_pretty(self).expect("a lease serialises");
        json.push(b'\n');
        json.into()
    }

    /// What `bytes` say; the format first, so that a newer lease is called newer and nothing else.
    pub(super) fn decode(bytes: &[u8]) -> Result<LeaseBody, LogError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = |what: String| LogError::Damaged { key: keys::LEASE.to_owned(), what };
        if bytes.len() > MAX_BYTES {
            return Err(damaged(format!("it has {} bytes, which is no lease", bytes.len())));
        }
        let bad = |e: serde_json::Error| damaged(format!("it cannot be read: {e}"));
        let Format { format } = serde_json::from_slice(bytes).map_err(bad)?;
        if format > FORMAT {
            return Err(LogError::NewerFormat { key: keys::LEASE.to_owned(), found: format, known: FORMAT });
        }
        let mut body: LeaseBody = serde_json::from_slice(bytes).map_err(bad)?;
        body.holder = printable(&body.holder);
        Ok(body)
    }
}

/// What a store says of a holder ends on terminals: no control characters, no novel.
fn printable(text: &str) -> String {
    text.chars().take(MAX_HOLDER).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Random bits from the kernel, asked each time: a generator in memory would repeat itself in a cloned
/// machine.
pub(crate) fn random() -> Result<u64, LogError> {
    #[cfg(test)]
    if let Some(number) = crate::log::testing::drawn() {
        return Ok(number);
    }
    rand::rngs::OsRng.try_next_u64().map_err(|e| {
        crate::log::source::LocalError::failed(format!("the kernel gives no random numbers: {e}")).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> LeaseBody {
        LeaseBody {
            format: FORMAT,
            session: SessionId(1),
            origin: Epoch { counter: 1, nonce: 4 },
            epoch: Epoch { counter: 2, nonce: 3 },
            holder: "host:1".into(),
            ttl_ms: 15_000,
            count: 7,
            floor: Slot(5),
            state: LeaseState::Held,
            written_ms: 1,
            stamp: "00".into(),
            ending: None,
        }
    }

    #[test]
    fn a_lease_comes_back_and_reads_as_documented() {
        let bytes = body().encode();
        assert_eq!(LeaseBody::decode(&bytes).unwrap(), body());
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["epoch"], "0000000002-0000000000000003");
        assert_eq!(json["floor"], 5);
        assert_eq!(json["state"], "held");
    }

    #[test]
    fn a_newer_lease_is_called_newer_whatever_else_it_holds() {
        let newer = LeaseBody::decode(br#"{"format":9,"something":"else"}"#).unwrap_err();
        assert!(matches!(newer, LogError::NewerFormat { found: 9, known: FORMAT, .. }));
    }

    #[test]
    fn what_is_no_lease_is_damage_and_a_hostile_holder_is_made_harmless() {
        for bad in [&b""[..], b"{}", b"[1]", b"{\"format\":1}", &vec![b' '; MAX_BYTES + 1]] {
            assert!(matches!(LeaseBody::decode(bad), Err(LogError::Damaged { .. })));
        }
        let hostile = LeaseBody { holder: format!("\x1b[31m{}", "x".repeat(1000)), ..body() };
        let read = LeaseBody::decode(&hostile.encode()).unwrap();
        assert!(read.holder.starts_with("?[31mxxx") && read.holder.len() == MAX_HOLDER);
    }
}
