//! Reading a checkpoint, as a stream of bytes that nobody vouches for.

use super::format::{BLOCK_HEADER, END, HEADER, Header, MAX_BLOCK, damaged, take};
use crate::log::LogError;
use crate::log::records;
use crate::log::row::{KeyBytes, Record};
use crate::log::sound;

/// Turns a checkpoint's bytes, fed piece by piece, into its rows. Only after [`Reader::finish`] has agreed
/// is it certain that the rows were all of them.
pub struct Reader {
    key: String,
    /// Fed and not consumed yet; `at` is where the rest begins.
    buffer: Vec<u8>,
    at: usize,
    header: Option<Header>,
    hash: blake3::Hasher,
    rows: u64,
    blocks: u64,
    last: Option<KeyBytes>,
    ended: bool,
}

impl Reader {
    /// A reader of the object `key`, which errors name.
    pub fn new(key: impl Into<String>) -> Reader {
        Reader {
            key: key.into(),
            buffer: Vec::new(),
            at: 0,
            header: None,
            hash: blake3::Hasher::new(),
            rows: 0,
            blocks: 0,
            last: None,
            ended: false,
        }
    }

    /// Adds the next bytes of the object. Take all rows before feeding more, and memory stays small.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// What the checkpoint says of itself, once enough is fed.
    pub fn header(&mut self) -> Result<Option<&Header>, LogError> {
        if self.header.is_none() {
            let Some(bytes) = self.rest().first_chunk::<HEADER>().copied() else { return Ok(None) };
            self.header = Some(Header::decode(&self.key, &bytes)?);
            self.consume(HEADER);
        }
        Ok(self.header.as_ref())
    }

    /// The rows of the next whole block; `None` when more has to be fed, or at the end.
    pub fn next_rows(&mut self) -> Result<Option<Vec<Record>>, LogError> {
        if self.header()?.is_none() || self.ended {
            return Ok(None);
        }
        let Some(length) = self.rest().first_chunk::<4>() else { return Ok(None) };
        match u32::from_le_bytes(*length) as usize {
            0 => self.read_end().map(|()| None),
            packed => self.read_block(packed),
        }
    }

    /// Checks that the object ended where it should, with all its rows; returns how many there were.
    pub fn finish(mut self) -> Result<u64, LogError> {
        if self.next_rows()?.is_some() {
            return Err(damaged(&self.key, "rows were left unread"));
        }
        if !self.ended {
            return Err(damaged(&self.key, "it ends early"));
        }
        if !self.rest().is_empty() {
            return Err(damaged(&self.key, "there are bytes behind its end"));
        }
        Ok(self.rows)
    }

    fn read_block(&mut self, packed: usize) -> Result<Option<Vec<Record>>, LogError> {
        if packed > MAX_BLOCK {
            return Err(damaged(&self.key, "a block is larger than any can be"));
        }
        let whole = BLOCK_HEADER + packed;
        let Some(bytes) = self.rest().get(..whole) else { return Ok(None) };
        let records = unpack(&self.key, self.blocks, bytes)?;
        sound::check_all(&records).map_err(|what| damaged(&self.key, what))?;
        let mut last = self.last.take();
        for record in &records {
            if last.as_ref().is_some_and(|last| *last >= record.key) {
                return Err(damaged(
                    &self.key,
                    format!("the rows of block {} are not in order", self.blocks),
                ));
            }
            match &mut last {
                Some(last) => last.clone_from(&record.key),
                none => *none = Some(record.key.clone()),
            }
        }
        self.last = last;
        self.rows += records.len() as u64;
        self.blocks += 1;
        self.consume(whole);
        Ok(Some(records))
    }

    fn read_end(&mut self) -> Result<(), LogError> {
        let Some(end) = self.rest().first_chunk::<END>().copied() else { return Ok(()) };
        let mut at = &end[4..];
        let rows = u64::from_le_bytes(take(&mut at));
        let blocks = u64::from_le_bytes(take(&mut at));
        self.consume(END - 32);
        if self.hash.finalize().as_bytes() != at {
            return Err(damaged(&self.key, "it does not match its checksum"));
        }
        self.at += 32;
        if (rows, blocks) != (self.rows, self.blocks) {
            let what = format!("it has {} rows, and should have {rows}", self.rows);
            return Err(damaged(&self.key, what));
        }
        self.ended = true;
        Ok(())
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    fn consume(&mut self, n: usize) {
        self.hash.update(&self.buffer[self.at..self.at + n]);
        self.at += n;
    }
}

/// The rows of a whole block, its header included.
fn unpack(key: &str, number: u64, block: &[u8]) -> Result<Vec<Record>, LogError> {
    let bad = |what: &str| damaged(key, format!("block {number} {what}"));
    let (head, packed) = block.split_at(BLOCK_HEADER);
    let mut at = &head[4..];
    let raw = u32::from_le_bytes(take(&mut at)) as usize;
    let rows = u32::from_le_bytes(take(&mut at)) as usize;
    let crc = u32::from_le_bytes(take(&mut at));
    if crc32c::crc32c_append(crc32c::crc32c(&head[..12]), packed) != crc {
        return Err(bad("does not match its checksum"));
    }
    if raw > MAX_BLOCK {
        return Err(bad("is larger than any can be"));
    }
    let bytes = zstd::bulk::decompress(packed, raw).map_err(|_| bad("cannot be decompressed"))?;
    let records = records::decode(&bytes).map_err(|_| bad("holds what is no row"))?;
    if bytes.len() != raw || records.len() != rows || rows == 0 {
        return Err(bad("does not hold what it says"));
    }
    Ok(records)
}
