//! The seal: the last slot of a predecessor's log, which stops it.

use super::walk::{Fetched, fetch};
use crate::log::LogError;
use crate::log::ids::{Epoch, Slot, keys};
use crate::log::segment::{Header, Kind, Segment, encode_seal};
use crate::store::{Condition, ObjectStore, PutOptions};
use std::time::Duration;

const TRIES: u32 = 6;

/// Puts the seal of `epoch` at `header.slot`; `Some` when something else lies there.
pub(super) async fn put(
    store: &dyn ObjectStore,
    epoch: Epoch,
    slot: Slot,
    mut header: Header,
    successor: Epoch,
) -> Result<Option<Segment>, LogError> {
    header.kind = Kind::Seal { successor };
    let (bytes, checksum) = encode_seal(&header);
    let options = PutOptions { condition: Condition::Absent, ..PutOptions::default() };
    let mut tries = 0;
    loop {
        let error = match store.put(&keys::segment(epoch, slot), bytes.clone(), &options).await {
            Ok(_etag) => return Ok(None),
            Err(error) if error.kind.is_retryable() || error.is_precondition() => error,
            Err(error) => return Err(error.into()),
        };
        match fetch(store, epoch, slot).await? {
            Fetched::Segment(found) if found.checksum == checksum => return Ok(None),
            Fetched::Segment(found) => return Ok(Some(*found)),
            Fetched::Absent => {}
        }
        tries += 1;
        if tries >= TRIES {
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_millis(20 << tries)).await;
    }
}
