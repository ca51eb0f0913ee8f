//! The fixed parts of a checkpoint object.

use super::name::Name;
use crate::log::LogError;
use crate::log::ids::{Epoch, Slot};
use crate::log::lease::SessionId;

/// The newest format that this code reads, and the one that it writes.
pub const FORMAT: u32 = 1;

pub(super) const MAGIC: [u8; 8] = *b"cwdfsckp";
/// Bytes of the header, its checksum included.
pub(super) const HEADER: usize = 81;
/// Bytes before each block's packed records.
pub(super) const BLOCK_HEADER: usize = 16;
/// Bytes of the end: a block header's length field of zero, two counts, BLAKE3 of all before.
pub(super) const END: usize = 4 + 8 + 8 + 32;
/// The most bytes of a block's records, packed or not; a reader refuses more before it allocates.
pub(super) const MAX_BLOCK: usize = 4 << 20;
/// A writer ends a block once it has this many bytes of records.
pub(super) const BLOCK: usize = 256 << 10;

/// What a checkpoint says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Whose tree it is.
    pub session: SessionId,
    /// Which one: the same as the object's key says.
    pub name: Name,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let (base_slot, base_epoch) = self.name.base.unwrap_or((Slot(0), Epoch { counter: 0, nonce: 0 }));
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.session.0.to_le_bytes());
        out.push(u8::from(self.name.base.is_some()));
        for n in [self.name.slot, base_slot] {
            out.extend_from_slice(&n.0.to_le_bytes());
        }
        for e in [self.name.epoch, base_epoch] {
            out.extend_from_slice(&e.counter.to_le_bytes());
            out.extend_from_slice(&e.nonce.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        let mut fixed = [0; HEADER];
        fixed.copy_from_slice(&out);
        fixed
    }

    /// Reads the header of the object `key`; the format first, so that a newer one is called newer.
    pub(super) fn decode(key: &str, bytes: &[u8; HEADER]) -> Result<Header, LogError> {
        let mut at = &bytes[..];
        if take::<8>(&mut at) != MAGIC {
            return Err(damaged(key, "it does not start like a checkpoint"));
        }
        let format = u32::from_le_bytes(take(&mut at));
        if format > FORMAT {
            return Err(LogError::NewerFormat { key: key.to_owned(), found: format, known: FORMAT });
        }
        let (body, crc) = bytes.split_at(HEADER - 4);
        if crc32c::crc32c(body).to_le_bytes() != crc || format == 0 {
            return Err(damaged(key, "its header does not match its checksum"));
        }
        let session = SessionId(u128::from_le_bytes(take(&mut at)));
        let [delta] = take(&mut at);
        let mut number = || u64::from_le_bytes(take(&mut at));
        let (slot, base_slot) = (Slot(number()), Slot(number()));
        let epoch = Epoch { counter: number(), nonce: number() };
        let base_epoch = Epoch { counter: number(), nonce: number() };
        let base = (delta == 1).then_some((base_slot, base_epoch));
        Ok(Header { session, name: Name { slot, epoch, base } })
    }
}

/// The first `N` bytes, taken off `at`.
///
/// # Panics
/// When fewer are left: callers have checked the length.
pub(super) fn take<const N: usize>(at: &mut &[u8]) -> [u8; N] {
    let (head, rest) = at.split_first_chunk::<N>().expect("the caller has checked the length");
    *at = rest;
    *head
}

pub(super) fn damaged(key: &str, what: impl Into<String>) -> LogError {
    LogError::Damaged { key: key.to_owned(), what: what.into() }
}
