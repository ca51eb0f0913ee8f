//! Where a file has data and where holes: by its extents and changes, never by what happens to be local.

use super::ContentError;
use super::backing::Backing;
use super::file::File;
use super::ranges::Ranges;

impl File {
    /// The next byte of data (or, with `hole`, of a hole) from `offset` on. `None` at or past the end, and
    /// where no data follows. The end counts as a hole.
    pub fn seek(&self, offset: u64, hole: bool) -> Result<Option<u64>, ContentError> {
        let (size, changed, removed, unseen) = {
            let state = self.look();
            let mut removed = state.removed.clone();
            let mut changed = state.dirty.clone();
            if let Some(frozen) = &state.frozen {
                removed.extend(&frozen.removed);
                // Frozen ranges that were removed since are no data any more.
                frozen.dirty.iter().flat_map(|r| state.valid.within(r)).for_each(|r| changed.insert(r));
            }
            // What the kernel wrote by itself since the last capture is found by comparing only; else the rows tell.
            let suspect = state.backing.as_ref().is_some_and(Backing::is_suspect);
            let unseen = suspect && state.count != state.captured;
            (state.size, changed, removed, unseen)
        };
        if offset >= size {
            return Ok(None);
        }
        let mut data = Ranges::new();
        if unseen {
            data.insert(0..size);
        } else {
            for (at, extent) in self.core.rows.extents(self.ino, offset..size)? {
                data.insert(at..at + extent.len);
            }
            removed.within(0..size).into_iter().for_each(|r| data.remove(r));
            data.extend(&changed);
        }
        let inside = data.holding(offset);
        Ok(match (hole, inside) {
            (true, Some(range)) => Some(range.end.min(size)),
            (true, None) => Some(offset),
            (false, Some(_)) => Some(offset),
            (false, None) => data.next_after(offset).filter(|at| *at < size),
        })
    }
}
