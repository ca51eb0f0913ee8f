//! Headers of imported files that came from a listing alone.
//!
//! Invariant: a row of the view has the version [`UNREAD`] exactly until these are in, and so has its inode
//! unless it was changed meanwhile.

use super::{Importer, PARALLEL};
use crate::log::row::{Key, Row, ViewRow, prefix_end};
use crate::measure::Progress;
use crate::session::outside::{Outside, Placed, UNREAD};
use crate::view::error::Result;
use crate::view::headers;
use crate::view::names::place_of;
use crate::view::settle::millis;
use crate::view::shared::Shared;
use crate::view::tree::after;
use futures::stream::StreamExt;

/// Rows read at a time.
const PAGE: usize = 1000;

impl Importer {
    /// Reads the headers of all files that wait for them.
    pub(super) async fn read_headers(&self) -> Result<()> {
        let pending = self.pending()?;
        self.shared.figures.lock().headers_pending = pending.len() as u64;
        let progress = Progress::of("read headers", pending.len() as u64);
        let reading = pending.into_iter().map(async |(key, row)| self.header(&key, &row).await);
        let mut reading = std::pin::pin!(futures::stream::iter(reading).buffer_unordered(PARALLEL));
        while let Some(read) = reading.next().await {
            progress.step(1, 0);
            match read {
                Ok(()) => {
                    let mut figures = self.shared.figures.lock();
                    figures.headers_pending = figures.headers_pending.saturating_sub(1);
                }
                Err(error) => self.failed(&error),
            }
        }
        Ok(())
    }

    fn pending(&self) -> Result<Vec<(String, ViewRow)>> {
        let mut from = Key::views("");
        let end = prefix_end(&from);
        let mut pending = Vec::new();
        loop {
            let page = self.shared.journal.scan(&from, end.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(pending) };
            from = after(last);
            for (key, value) in page {
                let Some(Key::View { key }) = Key::decode(&key) else { continue };
                let row = ViewRow::decode(&value)?;
                if row.version == UNREAD {
                    pending.push((key, row));
                }
            }
        }
    }

    async fn header(&self, key: &str, row: &ViewRow) -> Result<()> {
        self.shared.writable().await?;
        let _lock = self.shared.keys.lock(key).await;
        read_headers(&self.shared, key, row).await
    }
}

/// Reads the headers of the object `key` and brings them into the tree. Nothing happens when the object, or
/// its row, is another one by now. The caller holds the key's lock.
pub(in crate::view) async fn read_headers(shared: &Shared, key: &str, row: &ViewRow) -> Result<()> {
    let Ok(place) = place_of(key) else { return Ok(()) };
    let head = match shared.store.head(key).await {
        Ok(head) => head,
        // The next pass sees that.
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if head.etag.0 != row.etag || head.size != row.size {
        return Ok(());
    }
    let outside = Outside {
        key: key.to_owned(),
        path: place.path.to_owned(),
        directory: place.directory,
        etag: head.etag.0,
        size: head.size,
        modified_ms: millis(head.modified),
        headers: Some(headers::read(&head.metadata)),
    };
    if let Placed::Noted(seq) = shared.session.outside_headers(&outside, row)? {
        shared.note_import(key, seq);
    }
    Ok(())
}
