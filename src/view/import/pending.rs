//! Headers of imported files that came from a listing alone.
//!
//! Invariant: an inode and its row of the view have version 0 exactly until these are in.

use super::{Importer, PARALLEL};
use crate::log::row::{Key, Row, ViewRow, prefix_end};
use crate::session::outside::{Outside, Placed};
use crate::view::error::Result;
use crate::view::headers;
use crate::view::names::place_of;
use crate::view::settle::millis;
use crate::view::tree::after;
use futures::stream::StreamExt;

/// Rows read at a time.
const PAGE: usize = 1000;

impl Importer {
    /// Reads the headers of all files that wait for them.
    pub(super) async fn read_headers(&self) -> Result<()> {
        let pending = self.pending()?;
        self.shared.figures.lock().headers_pending = pending.len() as u64;
        let reading = pending.into_iter().map(async |(key, row)| self.header(&key, &row).await);
        let mut reading = std::pin::pin!(futures::stream::iter(reading).buffer_unordered(PARALLEL));
        while let Some(read) = reading.next().await {
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
                let inode = if row.version == 0 { self.shared.journal.inode(row.ino)? } else { None };
                if inode.is_some_and(|inode| inode.version == 0) {
                    pending.push((key, row));
                }
            }
        }
    }

    async fn header(&self, key: &str, row: &ViewRow) -> Result<()> {
        let Ok(place) = place_of(key) else { return Ok(()) };
        self.shared.writable().await?;
        let _lock = self.shared.keys.lock(key).await;
        let head = self.shared.store.head(key).await?;
        if head.etag.0 != row.etag || head.size != row.size {
            // Edited since: the next pass sees that.
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
        if let Placed::Noted(seq) = self.shared.session.outside_headers(&outside, row)? {
            self.shared.note_import(key, seq);
        }
        Ok(())
    }
}
