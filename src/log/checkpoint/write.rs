//! Writing a checkpoint, as a stream of bytes.

use super::format::{BLOCK, BLOCK_HEADER, END, Header, MAX_BLOCK};
use crate::log::records;
use crate::log::row::{KeyBytes, Record};
use crate::log::source::LocalError;

/// zstd's level: a fifth smaller than 1 at half its speed, and still far faster than a network.
const LEVEL: i32 = 3;

/// Makes a checkpoint's bytes out of its rows, given in key order.
pub struct Writer {
    out: Vec<u8>,
    hash: blake3::Hasher,
    block: Vec<u8>,
    block_rows: u32,
    rows: u64,
    blocks: u64,
    last: Option<KeyBytes>,
}

impl Writer {
    /// Starts a checkpoint.
    pub fn new(header: &Header) -> Writer {
        let mut writer = Writer {
            out: Vec::new(),
            hash: blake3::Hasher::new(),
            block: Vec::with_capacity(BLOCK + BLOCK / 4),
            block_rows: 0,
            rows: 0,
            blocks: 0,
            last: None,
        };
        writer.emit(&header.encode());
        writer
    }

    /// Adds the next row. Fails when its key is not behind the last one, or it is too large to be a row.
    pub fn push(&mut self, record: &Record) -> Result<(), LocalError> {
        if self.last.as_ref().is_some_and(|last| *last >= record.key) {
            return Err(LocalError::failed("rows for a checkpoint came out of order"));
        }
        records::push(&mut self.block, record);
        self.block_rows += 1;
        self.rows += 1;
        match &mut self.last {
            Some(last) => last.clone_from(&record.key),
            none => *none = Some(record.key.clone()),
        }
        if self.block.len() >= BLOCK { self.end_block() } else { Ok(()) }
    }

    /// The bytes made since the last call; hand them on and go on pushing.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// How many bytes wait to be taken.
    pub fn ready(&self) -> usize {
        self.out.len()
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Ends the checkpoint and returns its last bytes.
    pub fn finish(mut self) -> Result<Vec<u8>, LocalError> {
        if self.block_rows > 0 {
            self.end_block()?;
        }
        let mut end = Vec::with_capacity(END);
        end.extend_from_slice(&0u32.to_le_bytes());
        end.extend_from_slice(&self.rows.to_le_bytes());
        end.extend_from_slice(&self.blocks.to_le_bytes());
        self.emit(&end);
        let hash = self.hash.finalize();
        self.out.extend_from_slice(hash.as_bytes());
        Ok(self.out)
    }

    fn end_block(&mut self) -> Result<(), LocalError> {
        let packed = zstd::bulk::compress(&self.block, LEVEL)
            .map_err(|e| LocalError::failed(format!("a checkpoint's block cannot be compressed: {e}")))?;
        if self.block.len() > MAX_BLOCK || packed.len() > MAX_BLOCK {
            return Err(LocalError::failed("a row is too large for a checkpoint"));
        }
        // Both lengths are at most MAX_BLOCK, so they fit.
        let mut head = Vec::with_capacity(BLOCK_HEADER);
        head.extend_from_slice(&(packed.len() as u32).to_le_bytes());
        head.extend_from_slice(&(self.block.len() as u32).to_le_bytes());
        head.extend_from_slice(&self.block_rows.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), &packed);
        head.extend_from_slice(&crc.to_le_bytes());
        self.emit(&head);
        self.emit(&packed);
        self.block.clear();
        self.block_rows = 0;
        self.blocks += 1;
        Ok(())
    }

    fn emit(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.out.extend_from_slice(bytes);
    }
}
