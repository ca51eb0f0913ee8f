//! A file's local bytes: a window in memory while they are few, a sparse local file at the same offsets once
//! they are more. What of it is meant is the [`super::File`]'s to know.

use super::ContentError;
use super::pool::{Pool, PoolFile};
use super::ranges::Ranges;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a window in memory.
pub(super) const MAX_WINDOW: u64 = 256 << 10;

/// Local bytes.
#[derive(Default)]
pub(super) enum Image {
    /// None.
    #[default]
    Empty,
    /// `bytes` from `base` on.
    Memory { base: u64, bytes: Vec<u8> },
    /// A sparse local file.
    Disk(Arc<PoolFile>),
}

impl Image {
    /// Whether `range` can be written without going to the disk.
    pub fn fits(&self, range: &Range<u64>) -> bool {
        match self {
            Image::Empty => range.end - range.start <= MAX_WINDOW,
            Image::Memory { base, bytes } => {
                let end = (base + bytes.len() as u64).max(range.end);
                end - (*base).min(range.start) <= MAX_WINDOW
            }
            Image::Disk(_) => false,
        }
    }

    /// Writes `data`; `meant` are the ranges to take along when the window goes to the disk.
    pub fn write(
        &mut self,
        pool: &Arc<Pool>,
        meant: &Ranges,
        offset: u64,
        data: &[u8],
    ) -> Result<(), ContentError> {
        let range = offset..offset + data.len() as u64;
        if self.fits(&range) {
            self.write_window(offset, data);
            return Ok(());
        }
        self.move_to_disk(pool, meant)?.write(offset, data)
    }

    /// Moves a window to the disk.
    pub fn move_to_disk(&mut self, pool: &Arc<Pool>, meant: &Ranges) -> Result<&Arc<PoolFile>, ContentError> {
        if !matches!(self, Image::Disk(_)) {
            let file = pool.take();
            if let Image::Memory { base, bytes } = self {
                let window = *base..*base + bytes.len() as u64;
                for r in meant.within(window) {
                    file.write(r.start, &bytes[(r.start - *base) as usize..(r.end - *base) as usize])?;
                }
            }
            *self = Image::Disk(Arc::new(file));
        }
        match self {
            Image::Disk(file) => Ok(file),
            // It was just made one.
            Image::Empty | Image::Memory { .. } => Err(ContentError::Stopped),
        }
    }

    /// Fills `buf`; bytes that were never written are zeros.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), ContentError> {
        match self {
            Image::Empty => buf.fill(0),
            Image::Memory { base, bytes } => {
                let end = base + bytes.len() as u64;
                let from = offset.clamp(*base, end);
                let to = (offset + buf.len() as u64).clamp(from, end);
                buf.fill(0);
                if from < to {
                    let at = (from - offset) as usize;
                    let part = &bytes[(from - base) as usize..(to - base) as usize];
                    buf[at..at + part.len()].copy_from_slice(part);
                }
            }
            Image::Disk(file) => file.read(offset, buf)?,
        }
        Ok(())
    }

    /// A range in a buffer of its own, which is not filled with zeros first.
    pub fn read_new(&self, range: Range<u64>) -> Result<Vec<u8>, ContentError> {
        let len = (range.end - range.start) as usize;
        match self {
            Image::Disk(file) => file.read_new(range.start, len),
            Image::Empty | Image::Memory { .. } => {
                let mut buf = vec![0; len];
                self.read(range.start, &mut buf)?;
                Ok(buf)
            }
        }
    }

    /// Makes a range zeros and gives its room back.
    pub fn punch(&mut self, range: Range<u64>) -> Result<(), ContentError> {
        match self {
            Image::Empty => {}
            Image::Memory { base, bytes } => {
                let len = bytes.len() as u64;
                let from = range.start.saturating_sub(*base).min(len) as usize;
                let to = range.end.saturating_sub(*base).min(len) as usize;
                match to == bytes.len() {
                    true => bytes.truncate(from),
                    false => bytes[from..to].fill(0),
                }
            }
            Image::Disk(file) => file.punch(range)?,
        }
        Ok(())
    }

    fn write_window(&mut self, offset: u64, data: &[u8]) {
        let Image::Memory { base, bytes } = self else {
            *self = Image::Memory { base: offset, bytes: data.to_vec() };
            return;
        };
        if offset < *base {
            let grow = (*base - offset) as usize;
            bytes.splice(0..0, std::iter::repeat_n(0, grow));
            *base = offset;
        }
        let at = (offset - *base) as usize;
        if at == bytes.len() {
            bytes.extend_from_slice(data);
            return;
        }
        if bytes.len() < at + data.len() {
            bytes.resize(at + data.len(), 0);
        }
        bytes[at..at + data.len()].copy_from_slice(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Op {
        Write(u64, u8, u64),
        Punch(u64, u64),
        ToDisk,
    }

    fn ops() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (0u64..900_000, any::<u8>(), 1u64..120_000).prop_map(|(o, b, l)| Op::Write(o, b, l)),
            2 => (0u64..900_000, 1u64..300_000).prop_map(|(o, l)| Op::Punch(o, l)),
            1 => Just(Op::ToDisk),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn reads_what_was_written(ops in proptest::collection::vec(ops(), 1..14)) {
            let dir = tempfile::tempdir().unwrap();
            let pool = Pool::open(dir.path(), |_| false).unwrap();
            let (mut image, mut meant) = (Image::default(), Ranges::new());
            let mut model = vec![0u8; 1_100_000];
            for op in ops {
                match op {
                    Op::Write(offset, byte, len) => {
                        image.write(&pool, &meant, offset, &vec![byte; len as usize]).unwrap();
                        meant.insert(offset..offset + len);
                        model[offset as usize..(offset + len) as usize].fill(byte);
                    }
                    Op::Punch(offset, len) => {
                        image.punch(offset..offset + len).unwrap();
                        meant.remove(offset..offset + len);
                        let end = (offset + len).min(model.len() as u64);
                        model[offset as usize..end as usize].fill(0);
                    }
                    Op::ToDisk => { image.move_to_disk(&pool, &meant).unwrap(); }
                }
            }
            let mut all = vec![1u8; model.len()];
            image.read(0, &mut all).unwrap();
            prop_assert!(all == model);
            prop_assert!(image.read_new(0..model.len() as u64).unwrap() == model);
            prop_assert!(image.read_new(5..70_000).unwrap() == model[5..70_000]);
        }
    }
}
