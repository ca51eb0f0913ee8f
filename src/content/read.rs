//! Reading a file: at once from what is here, or after a fetch; large files are fetched into their image,
//! ahead of a reader that goes in order.

use super::chunks::SMALL as SMALL_PIECE;
use super::fetch::is_right;
use super::file::{File, MAX_SIZE};
use super::ranges::Ranges;
use super::{ContentError, extents};
use crate::log::ids::Blob;
use crate::log::row::ExtentRow;
use crate::measure::Progress;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use futures::stream::{StreamExt, TryStreamExt};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

/// Files from this size on are fetched into their image, and so are those in large pieces, which are in no chunk; others
/// are read from chunks of blobs.
const LARGE: u64 = 4 << 20;

/// What is fetched at once for a reader that jumps, and for one that goes in order.
const STEP: u64 = 1 << 20;
const STRIDE: u64 = 4 << 20;

/// How far ahead of a reader in order a large file is fetched: twice as far as it has come by then, within these bounds. The
/// upper one is what is fetched at once at the most: with less, a store that is far away would be waited for.
const AHEAD: RangeInclusive<u64> = 16 << 20..=64 << 20;

/// Of the cache, what is ahead of a reader takes this part at the most: it must not drive out what it reads.
const PART: u64 = 4;

/// The most bytes of one request.
const RUN: u64 = 8 << 20;

/// What a fetch into an image has fetched.
pub(super) struct Filled {
    /// Of the file; the rest of what was asked for was in the image, or removed, when the fetch began.
    ranges: Ranges,
    /// Content by its offset in the file; what of the ranges is in none is zeros.
    parts: Vec<(u64, Bytes)>,
}

/// A fetch into an image that others can wait for too.
pub(super) type Filling = Shared<BoxFuture<'static, Result<Arc<Filled>, ContentError>>>;

/// A read that is answered in part.
struct Plan {
    buf: Vec<u8>,
    offset: u64,
    /// Ranges of the file that come from extents.
    outside: Vec<Range<u64>>,
    size: u64,
}

impl Plan {
    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let range = self.offset..self.offset + self.buf.len() as u64;
        let (from, to) = (offset.max(range.start), (offset + bytes.len() as u64).min(range.end));
        if from < to {
            let part = &bytes[(from - offset) as usize..(to - offset) as usize];
            self.buf[(from - range.start) as usize..(to - range.start) as usize].copy_from_slice(part);
        }
    }
}

/// The bytes that `extent` shows of its piece.
fn shown(extent: &ExtentRow, piece: &Bytes) -> Bytes {
    let start = (extent.skip as usize).min(piece.len());
    piece.slice(start..(start + extent.len as usize).min(piece.len()))
}

impl File {
    /// Up to `len` bytes from `offset` on, fewer only at the end; `None` when they have to be fetched.
    pub fn read_here(self: &Arc<Self>, offset: u64, len: u32) -> Result<Option<Bytes>, ContentError> {
        let here = self.look_here(offset, len)?;
        match &here {
            Some(bytes) => {
                self.core.counts.hits.one();
                self.stay_ahead(offset, bytes.len() as u64);
            }
            None => self.core.counts.misses.one(),
        }
        Ok(here)
    }

    fn look_here(&self, offset: u64, len: u32) -> Result<Option<Bytes>, ContentError> {
        let mut plan = self.plan(offset, len)?;
        let whole = plan.offset..plan.offset + plan.buf.len() as u64;
        for range in std::mem::take(&mut plan.outside) {
            for (at, extent) in self.core.rows.extents(self.ino, range.clone())? {
                let Some((at, extent)) = extents::slice(at, &extent, &range) else { continue };
                let Some(piece) = self.core.fetcher.local(&extent)? else { return Ok(None) };
                let bytes = shown(&extent, &piece);
                if at == whole.start && bytes.len() as u64 == whole.end - whole.start {
                    return Ok(Some(bytes));
                }
                plan.put(at, &bytes);
            }
        }
        Ok(Some(plan.buf.into()))
    }

    /// Like [`File::read_here`], after a fetch where it needs one.
    pub async fn read(self: &Arc<Self>, offset: u64, len: u32) -> Result<Bytes, ContentError> {
        let plan = self.plan(offset, len)?;
        self.complete(plan).await
    }

    async fn complete(self: &Arc<Self>, mut plan: Plan) -> Result<Bytes, ContentError> {
        let outside = std::mem::take(&mut plan.outside);
        if plan.size < LARGE && !self.is_in_large_pieces(&outside)? {
            for range in outside {
                for (at, bytes) in self.fetch(range).await? {
                    plan.put(at, &bytes);
                }
            }
            return Ok(plan.buf.into());
        }
        let end = plan.offset + plan.buf.len() as u64;
        let in_order = self.went_on(plan.offset, plan.buf.len() as u64, true);
        // What is damaged in a file that is not large costs its own step only.
        let strides = in_order && plan.size >= LARGE;
        if strides {
            // What is waited for is the first of it.
            self.go_ahead(plan.offset, plan.size);
        }
        let step = if strides { STRIDE } else { STEP };
        let mut outside: Ranges = outside.into_iter().collect();
        loop {
            let Some(range) = outside.iter().next() else { break };
            let unit = self.unit_of(range.start, step, plan.size);
            let wanted = range.start..range.end.min(unit.end);
            let filled = self.fill(unit).await?;
            outside.remove(wanted.clone());
            for more in self.take(&mut plan, &filled, wanted)? {
                outside.insert(more);
            }
        }
        if in_order && !strides {
            self.go_ahead(end, plan.size);
        }
        Ok(plan.buf.into())
    }

    /// What is fetched for a byte that is not here: `step` bytes around it, or what is being fetched already for who goes
    /// in order.
    fn unit_of(&self, at: u64, step: u64, size: u64) -> Range<u64> {
        let around = |step: u64| {
            let start = at / step * step;
            start..(start + step).min(size)
        };
        let (large, generation) = (around(STRIDE), self.state.lock().generation);
        let under_way =
            self.core.filling.lock().contains_key(&(self.ino, large.start, large.end, generation));
        if under_way { large } else { around(step) }
    }

    fn is_in_large_pieces(&self, ranges: &[Range<u64>]) -> Result<bool, ContentError> {
        for range in ranges {
            let extents = self.core.rows.extents(self.ino, range.clone())?;
            if extents.iter().any(|(_, extent)| extent.piece_len as usize > SMALL_PIECE) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts what was fetched of `wanted` into a plan. Another fetch may have brought the rest into the image
    /// since the plan was made: that is looked at anew. Returns what is still to be fetched.
    fn take(
        &self,
        plan: &mut Plan,
        filled: &Filled,
        wanted: Range<u64>,
    ) -> Result<Vec<Range<u64>>, ContentError> {
        for (at, bytes) in &filled.parts {
            // Only what this read did not find in the image: that may be newer.
            let (from, to) = (wanted.start.max(*at), wanted.end.min(at + bytes.len() as u64));
            if from < to {
                plan.put(from, &bytes[(from - at) as usize..(to - at) as usize]);
            }
        }
        let mut outside = Vec::new();
        for here in filled.ranges.missing(wanted) {
            // At most what one read asked for.
            let again = self.plan(here.start, (here.end - here.start) as u32)?;
            plan.put(here.start, &again.buf);
            outside.extend(again.outside);
        }
        Ok(outside)
    }

    /// Fetches all of the file that is not here, so that [`File::is_whole`]; it may be evicted again.
    pub async fn fetch_whole(self: &Arc<Self>) -> Result<(), ContentError> {
        let size = self.size();
        let progress = Progress::of("fetch a file", size.div_ceil(STRIDE));
        let units = (0..size.div_ceil(STRIDE)).map(|n| n * STRIDE..((n + 1) * STRIDE).min(size));
        let fills = units.map(|unit| {
            let (progress, bytes) = (&progress, unit.end - unit.start);
            self.clone().fill(unit).map(move |filled| {
                progress.step(1, bytes);
                filled.map(drop)
            })
        });
        let fills: Vec<_> = fills.collect();
        futures::stream::iter(fills).buffer_unordered(4).try_collect::<()>().await
    }

    fn plan(&self, offset: u64, len: u32) -> Result<Plan, ContentError> {
        let mut state = self.look();
        let end = offset.saturating_add(u64::from(len)).min(state.size).max(offset);
        let (range, size) = (offset..end, state.size);
        let mut outside = Vec::new();
        let buf = match state.valid.covers(range.clone()) {
            true => state.image.read_new(range)?,
            false => {
                outside = state.outside(range.clone());
                let mut buf = vec![0; (end - offset) as usize];
                for part in state.valid.within(range) {
                    let at = (part.start - offset) as usize..(part.end - offset) as usize;
                    state.image.read(part.start, &mut buf[at])?;
                }
                buf
            }
        };
        state.used_at = self.core.budget.tick();
        Ok(Plan { buf, offset, outside, size })
    }

    /// Notes where a reader is; whether it goes on where the last one ended.
    fn went_on(&self, offset: u64, len: u64, missed: bool) -> bool {
        let mut state = self.state.lock();
        let in_order = offset.abs_diff(state.reader) <= STRIDE;
        state.reader = offset + len;
        state.in_order = if in_order { state.in_order + len } else { 0 };
        if missed || !in_order {
            // What was asked for may be gone again.
            state.ahead = 0;
        }
        in_order
    }

    /// A reader found what it asked for: sees to it that the next finds it too, before it has to wait.
    fn stay_ahead(self: &Arc<Self>, offset: u64, len: u64) {
        let size = {
            let state = self.state.lock();
            // Most reads are of files that are whole, or read from chunks.
            if state.size < LARGE || state.ahead == 0 || state.ahead >= state.size {
                return;
            }
            state.size
        };
        if self.went_on(offset, len, false) {
            self.go_ahead(offset + len, size);
        }
    }

    /// Has the units ahead of a reader fetched, each once.
    fn go_ahead(self: &Arc<Self>, from: u64, size: u64) {
        let units = {
            let mut state = self.state.lock();
            let window =
                (2 * state.in_order).clamp(*AHEAD.start(), *AHEAD.end()).min(self.core.budget.limit() / PART);
            let last = from.saturating_add(window).min(size).div_ceil(STRIDE);
            let first = (state.ahead.max(from) / STRIDE).min(last);
            state.ahead = state.ahead.max(last * STRIDE);
            first..last
        };
        for index in units {
            let unit = index * STRIDE..((index + 1) * STRIDE).min(size);
            if !self.state.lock().outside(unit.clone()).is_empty() {
                // It runs on its own; whoever needs it finds it under way, and its error there.
                drop(self.fill(unit));
            }
        }
    }

    /// Fetches what of a unit is not here, and puts it in the image. Shared by all who ask for it at once, while
    /// what was fetched before is up to date.
    fn fill(self: &Arc<Self>, unit: Range<u64>) -> Filling {
        let generation = self.state.lock().generation;
        let mut filling = self.core.filling.lock();
        let key = (self.ino, unit.start, unit.end, generation);
        if let Some(under_way) = filling.get(&key) {
            return under_way.clone();
        }
        let this = self.clone();
        let task = self.core.runtime.spawn(async move {
            let filled = this.fill_now(unit).await;
            this.core.filling.lock().remove(&key);
            filled
        });
        let ended = |joined: Result<_, tokio::task::JoinError>| joined.unwrap_or(Err(ContentError::Stopped));
        let under_way = task.map(ended).boxed().shared();
        filling.insert(key, under_way.clone());
        under_way
    }

    async fn fill_now(self: &Arc<Self>, unit: Range<u64>) -> Result<Arc<Filled>, ContentError> {
        let (generation, outside) = {
            let state = self.state.lock();
            (state.generation, state.outside(unit.clone()))
        };
        let mut parts = Vec::new();
        for range in &outside {
            parts.extend(self.fetch(range.clone()).await?);
        }
        if let Err(e) = self.keep(generation, &outside, &parts) {
            // The reader has its bytes; only the next one has to fetch them again.
            tracing::warn!("cannot keep fetched content of inode {}: {e}", self.ino);
            self.core.budget.could_not_keep(&e);
        }
        // Here, and not where somebody reads: one who finds all that he asks for fetched ahead never waits for a fetch.
        self.core.relieve();
        Ok(Arc::new(Filled { ranges: outside.into_iter().collect(), parts }))
    }

    /// Puts fetched bytes in the image, unless they may be out of date by now.
    fn keep(
        &self,
        generation: u64,
        outside: &[Range<u64>],
        parts: &[(u64, Bytes)],
    ) -> Result<(), ContentError> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.generation != generation {
            return Ok(());
        }
        let still: Ranges = outside.iter().flat_map(|range| state.outside(range.clone())).collect();
        state.image.move_to_disk(&self.core.pool, &state.valid)?;
        for (at, bytes) in parts {
            for range in still.within(*at..at + bytes.len() as u64) {
                let part = &bytes[(range.start - at) as usize..(range.end - at) as usize];
                state.image.write(&self.core.pool, &state.valid, range.start, part)?;
            }
        }
        let size = state.size;
        // Holes are valid too: the image has zeros there.
        still.within(0..size.min(MAX_SIZE)).into_iter().for_each(|range| state.valid.insert(range));
        self.account(&mut guard);
        Ok(())
    }

    /// The content of `range` according to the extents.
    async fn fetch(&self, range: Range<u64>) -> Result<Vec<(u64, Bytes)>, ContentError> {
        let mut rows = self.core.rows.extents(self.ino, range.clone())?;
        loop {
            let cut = rows.iter().filter_map(|(at, extent)| extents::slice(*at, extent, &range));
            let runs: Vec<_> = runs(cut).into_iter().map(|run| self.fetch_run(run)).collect();
            let parts: Result<Vec<Vec<_>>, _> = futures::stream::iter(runs).buffered(8).try_collect().await;
            let error = match parts {
                Ok(parts) => return Ok(parts.into_iter().flatten().collect()),
                Err(error) => error,
            };
            // The content may lie elsewhere since the rows were read: committed, or packed and its old place gone.
            let now = self.core.rows.extents(self.ino, range.clone())?;
            if now == rows {
                return Err(error);
            }
            rows = now;
        }
    }

    async fn fetch_run(&self, run: Vec<(u64, ExtentRow)>) -> Result<Vec<(u64, Bytes)>, ContentError> {
        let fetcher = &self.core.fetcher;
        if let [(at, extent)] = &run[..]
            && extent.piece_len as usize <= SMALL_PIECE
        {
            return Ok(vec![(*at, shown(extent, &fetcher.piece(extent).await?))]);
        }
        let mut parts = Vec::with_capacity(run.len());
        let mut missing = Vec::new();
        for (at, extent) in run {
            match fetcher.local(&extent)? {
                Some(piece) => parts.push((at, shown(&extent, &piece))),
                None => missing.push((at, extent)),
            }
        }
        let (Some((_, first)), Some((_, last))) = (missing.first(), missing.last()) else { return Ok(parts) };
        let (start, end) = (first.piece_off, last.piece_off.saturating_add(u64::from(last.piece_len)));
        let bytes = fetcher.run(&first.blob, start..end).await?;
        for (at, extent) in &missing {
            let from = (extent.piece_off - start).min(bytes.len() as u64) as usize;
            let piece = bytes.slice(from..(from + extent.piece_len as usize).min(bytes.len()));
            let piece = if is_right(extent, &piece) { piece } else { fetcher.again(extent).await? };
            parts.push((*at, shown(extent, &piece)));
        }
        Ok(parts)
    }
}

/// Groups extents whose large pieces follow each other in one blob, for one request; a small piece is alone.
fn runs(extents: impl Iterator<Item = (u64, ExtentRow)>) -> Vec<Vec<(u64, ExtentRow)>> {
    let mut runs: Vec<Vec<(u64, ExtentRow)>> = Vec::new();
    for (at, extent) in extents {
        let joins = runs.last().is_some_and(|run| {
            let (first, last) = (&run[0].1, &run[run.len() - 1].1);
            let end = last.piece_off.saturating_add(u64::from(last.piece_len));
            let large = |e: &ExtentRow| e.piece_len as usize > SMALL_PIECE;
            let in_object = !matches!(extent.blob, Blob::Local(_));
            large(last)
                && large(&extent)
                && in_object
                && last.blob == extent.blob
                && end == extent.piece_off
                && end - first.piece_off < RUN
        });
        match runs.last_mut() {
            Some(run) if joins => run.push((at, extent)),
            _ => runs.push(vec![(at, extent)]),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::{Arc, File, STRIDE};
    use crate::content::ContentError;
    use crate::content::tests::{Bench, at, pattern};
    use std::pin::pin;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_another_fetch_brings_in_meanwhile_is_not_read_as_zeros() {
        let data = pattern(8 << 20, 5);
        let (_bench, file) = Bench::elsewhere(&data, 64 << 20).await;
        let planned = file.plan(3 << 20, 2 << 20).unwrap();
        assert_eq!(planned.outside.len(), 1, "nothing is here yet");
        // Another reader has the first of the two megabytes fetched.
        assert!(file.read(3 << 20, 4096).await.unwrap() == data[3 << 20..(3 << 20) + 4096]);
        assert!(file.complete(planned).await.unwrap() == data[3 << 20..5 << 20]);
    }

    /// Reads all as the kernel does, from a store that keeps up; the most bytes that the cache had meanwhile.
    async fn read_in_order(file: &Arc<File>, data: &[u8]) -> u64 {
        let (mut at, mut most) = (0, 0);
        while at < data.len() {
            let bytes = match file.read_here(at as u64, 1 << 20).unwrap() {
                Some(bytes) => bytes,
                None => file.read(at as u64, 1 << 20).await.unwrap(),
            };
            assert!(bytes == data[at..at + bytes.len()]);
            at += bytes.len();
            while !file.core.filling.lock().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            most = most.max(file.core.budget.used());
        }
        most
    }

    /// Nobody who goes in order waits again once what he asked for first is here, as long as the store keeps up.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_reader_in_order_waits_once() {
        let data = pattern(80 << 20, 5);
        let (bench, file) = Bench::elsewhere(&data, 256 << 20).await;
        read_in_order(&file, &data).await;
        assert_eq!(bench.content.usage().misses, 1);
    }

    /// Nor does the cache grow beyond its bound for him, though what he reads is always there already.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_reader_in_order_of_a_file_larger_than_the_cache_waits_once_too() {
        const CACHE: u64 = 32 << 20;
        let data = pattern(160 << 20, 5);
        let (bench, file) = Bench::elsewhere(&data, CACHE).await;
        let most = read_in_order(&file, &data).await;
        assert!(most <= CACHE + CACHE / 4, "{most} bytes in a cache of {CACHE}");
        assert_eq!(bench.content.usage().misses, 1, "what is ahead of him was evicted");
    }

    /// The kernel's requests of a reader in order come in any order, some from far ahead of the last.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_fetched_ahead_is_not_fetched_again_for_who_jumps_there() {
        let data = pattern(24 << 20, 5);
        let (bench, file) = Bench::elsewhere(&data, 64 << 20).await;
        bench.rows.held.store(true, Ordering::SeqCst);
        let under_way = file.fill(4 * STRIDE..5 * STRIDE);
        while bench.rows.waiting.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let at = 4 * STRIDE as usize + (1 << 20);
        let mut read = pin!(file.read(at as u64, 4096));
        let waits = futures::poll!(&mut read).is_pending();
        let filling: Vec<u64> = file.core.filling.lock().keys().map(|(_, start, ..)| *start).collect();
        // Before anything can fail: held rows keep the runtime from ending.
        bench.rows.held.store(false, Ordering::SeqCst);
        assert!(waits, "it has to be fetched");
        assert_eq!(filling, [4 * STRIDE], "it is fetched twice");
        under_way.await.unwrap();
        assert!(read.await.unwrap() == data[at..at + 4096]);
    }

    /// The first round trip of a reader in order is spent on all that he is sent ahead.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_ahead_is_fetched_together_with_what_is_waited_for() {
        let data = pattern(24 << 20, 5);
        let (bench, file) = Bench::elsewhere(&data, 64 << 20).await;
        bench.rows.held.store(true, Ordering::SeqCst);
        let mut read = pin!(file.read(0, 4096));
        let waits = futures::poll!(&mut read).is_pending();
        let mut filling: Vec<u64> = file.core.filling.lock().keys().map(|(_, start, ..)| *start).collect();
        filling.sort();
        // Before anything can fail: held rows keep the runtime from ending.
        bench.rows.held.store(false, Ordering::SeqCst);
        assert!(waits, "it has to be fetched");
        assert_eq!(filling, [0, STRIDE, 2 * STRIDE, 3 * STRIDE]);
        assert!(read.await.unwrap() == data[..4096]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_fetch_that_began_before_a_change_is_not_read_after_it() {
        let data = pattern(8 << 20, 5);
        let (bench, file) = Bench::elsewhere(&data, 64 << 20).await;
        // A fetch has the old rows and takes its time; then a copy puts other rows there.
        bench.rows.held.store(true, Ordering::SeqCst);
        let under_way = file.fill(0..STRIDE);
        while bench.rows.waiting.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let replaced = file.replace(0..1 << 20, at(2), || {
            bench.rows.make_hole(0..1 << 20);
            Ok::<_, ContentError>(1)
        });
        assert_eq!(replaced.unwrap(), Some(1));
        let mut read = pin!(file.read(0, 4096));
        assert!(futures::poll!(&mut read).is_pending(), "it has to be fetched");
        bench.rows.held.store(false, Ordering::SeqCst);
        under_way.await.unwrap();
        assert!(read.await.unwrap() == [0; 4096][..], "what was there before the change");
    }
}
