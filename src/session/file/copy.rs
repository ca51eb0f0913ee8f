//! Copies from one file to another: they share blobs where that can be, else bytes are read and written.
//!
//! Invariant: a shared copy changes its target's rows, size and cached content as one step.

use super::super::api::*;
use super::super::attr::now;
use super::super::change::Change;
use super::super::outside::is_imported;
use super::super::{Session, SessionError};
use super::Handle;
use crate::content::{Place, Placed, extents};
use crate::log::ids::{Blob, Ino, LocalId};
use crate::log::row::ExtentRow;
use std::sync::Arc;

/// Bytes that a copy reads at once.
const COPY: u64 = 1 << 20;

/// The most bytes that one request copies; the caller asks again for the rest.
const MAX_COPY: u64 = 64 << 20;

/// The most bytes that one request shares: a row for each MiB.
const MAX_SHARE: u64 = 4 << 30;

/// Fewer bytes are copied: sharing them would capture both files, for rows as large as the bytes.
const MIN_SHARE: u64 = 64 << 10;

/// A copy that was asked for.
struct Wanted {
    source: Arc<Handle>,
    from: u64,
    target: Arc<Handle>,
    to: u64,
    len: u64,
}

impl Session {
    /// Copies a range between two files; returns how many bytes, fewer at the source's end and for a range
    /// that is long.
    pub fn copy_range(
        self: &Arc<Self>,
        caller: Caller,
        from: (Fh, Ino, u64),
        to: (Fh, Ino, u64),
        len: u64,
    ) -> Outcome<u64> {
        let len = len.min(MAX_SHARE);
        let handles = self.handle(from.0).and_then(|source| {
            let target = self.may_write(to.0, to.2, len)?;
            let overlaps = from.1 == to.1 && from.2.abs_diff(to.2) < len;
            match overlaps {
                true => Err(SessionError::Errno(libc::EINVAL)),
                false => self.clear_set_id(caller, to.1).map(|_| (source, target)),
            }
        });
        let (source, target) = match handles {
            Ok(handles) => handles,
            Err(error) => return Outcome::Ready(Err(error)),
        };
        let wanted = Wanted { source, from: from.2, target, to: to.2, len };
        let session = self.clone();
        Outcome::Later(Box::pin(async move {
            let done = match session.share(&wanted).await? {
                Some(done) => done,
                None => session.copy_bytes(&wanted).await?,
            };
            session.after_write(caller, &wanted.target, done).get().await
        }))
    }

    /// Lets the target's range name what the source's names. `None`: its bytes have to be copied.
    async fn share(self: &Arc<Self>, wanted: &Wanted) -> Result<Option<u64>> {
        let files = [&wanted.source, &wanted.target];
        if wanted.len < MIN_SHARE
            || files.iter().any(|h| h.file.is_orphan())
            || wanted.target.file.is_backing()
        {
            return Ok(None);
        }
        for handle in files {
            // What cannot be sent now can be copied all the same.
            if let Err(error) = self.captured_in_time(&handle.node).await {
                tracing::info!("inode {}: {error}; its copy is made of bytes", handle.node.ino);
                return Ok(None);
            }
        }
        // What an import left in its object must not become part of a file that changes here.
        if let Err(error) = self.own_content(wanted.target.node.ino).await {
            tracing::info!("inode {}: {error}; its copy is made of bytes", wanted.target.node.ino);
            return Ok(None);
        }
        self.share_rows(wanted)
    }

    fn share_rows(&self, wanted: &Wanted) -> Result<Option<u64>> {
        let source = wanted.source.node.ino;
        let over =
            wanted.to..wanted.to + wanted.len.min(wanted.source.file.size().saturating_sub(wanted.from));
        let _turn = self.room_for(&wanted.target.node, &wanted.target.file, over)?;
        let change = self.change()?;
        if wanted.source.node.is_orphan() || wanted.target.node.is_orphan() {
            return Ok(None);
        }
        let len = wanted.len.min(change.inode(source)?.size.saturating_sub(wanted.from));
        if len == 0 {
            return Ok(Some(0));
        }
        let range = wanted.from..wanted.from + len;
        let named = self.journal.extents(source, range.clone())?;
        if named.iter().any(|(_, extent)| is_imported(&extent.blob)) {
            return Ok(None);
        }
        let named = named.iter().filter_map(|(at, extent)| extents::slice(*at, extent, &range));
        let mut copied = Vec::new();
        let shared = self.put_shared(wanted, len, change, named, &mut copied);
        if !matches!(shared, Ok(Some(_))) {
            self.journal.abandon_local(&copied);
        }
        shared
    }

    /// Puts the source's extents where the target's range is, as one change. `copied`: the pieces made for it.
    fn put_shared(
        &self,
        wanted: &Wanted,
        len: u64,
        mut change: Change<'_>,
        named: impl Iterator<Item = (u64, ExtentRow)>,
        copied: &mut Vec<LocalId>,
    ) -> Result<Option<u64>> {
        let (target, over) = (wanted.target.node.ino, wanted.to..wanted.to + len);
        let mut pieces = Vec::new();
        for (at, extent) in named {
            let shared = self.shared_piece(extent)?;
            if let Blob::Local(id) = shared.blob {
                copied.push(id);
            }
            pieces.push((at - wanted.from + wanted.to, shared));
        }
        let mut row = change.inode(target)?;
        let now = change.now();
        let placed = Placed {
            pieces,
            removed: std::iter::once(over.clone()).collect(),
            size: row.size.max(over.end),
            ctime: now,
        };
        self.put_content(&mut change, target, &mut row, &placed, now)?;
        change.put_inode(target, row);
        let applied =
            wanted.target.file.replace(over, now, || Ok::<_, SessionError>(change.apply()?.unwrap_or(0)));
        Ok(applied?.map(|_| len))
    }

    /// What a second extent names: the same piece in the store, but a copy of one that is in no slot yet.
    fn shared_piece(&self, extent: ExtentRow) -> Result<ExtentRow> {
        let Blob::Local(_) = extent.blob else { return Ok(extent) };
        let Some(bytes) = self.journal.piece(&extent)? else {
            // It has gone to the store since the row was read.
            return Ok(self.journal.resolve(&extent));
        };
        let start = extent.skip as usize;
        // A row shows a part of its piece, which is at most MAX_PIECE long.
        let shown = bytes.slice(start..start + extent.len as usize);
        let (len, crc) = (shown.len() as u32, crc32c::crc32c(&shown));
        let blob = Blob::Local(self.journal.put_local(shown)?);
        Ok(ExtentRow { len: extent.len, blob, piece_off: 0, piece_len: len, skip: 0, crc: Some(crc) })
    }

    async fn copy_bytes(self: &Arc<Self>, wanted: &Wanted) -> Result<u64> {
        let Wanted { source, from, target, to, len } = wanted;
        let len = (*len).min(MAX_COPY);
        let mut done = 0;
        while done < len {
            let step = (len - done).min(COPY) as u32;
            let read = tokio::time::timeout(self.options.timeout, source.file.read(from + done, step)).await;
            let bytes = read.map_err(|_| SessionError::Errno(libc::EIO))??;
            if bytes.is_empty() {
                break;
            }
            self.until_room().await?;
            {
                let at = to + done;
                let _turn = self.room_for(&target.node, &target.file, at..at + bytes.len() as u64)?;
                target.file.write(Place::At(at), &bytes, now())?;
            }
            self.changed(&target.node)?;
            done += bytes.len() as u64;
        }
        Ok(done)
    }
}
