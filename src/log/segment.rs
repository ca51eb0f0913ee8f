//! A segment's bytes: what one commit is in the store. `FORMAT.md` describes them byte by byte.
//!
//! Content comes first, so that the places of its pieces are known before the records that name them are
//! encoded. Decoding believes nothing: lengths are checked against the object, the checksum before anything
//! is parsed, memory follows what is really there.

use super::error::LogError;
use super::ids::{Blob, Epoch, LocalId, Slot, keys};
use super::lease::SessionId;
use super::row::{ExtentRow, Key, Record, Row};
use super::run;
use super::sound;
use super::source::{Checksum, LocalError, Sealed};
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The segment format this code writes, and the newest it reads.
pub const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"cwdfsseg";
/// Magic, format, zero, content length.
const PRELUDE: usize = 24;
/// Stored and plain length of the records, header length, checksum.
const TRAILER: usize = 20 + DIGEST;
/// Bytes of the checksum that ends the object.
pub const DIGEST: usize = 32;
/// The most bytes of a header.
const MAX_HEADER: usize = 4096;
const MAX_RUN: u64 = run::MAX_RUN as u64;

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A commit.
    Changes,
    /// The end of this epoch's log: its history goes on in the successor's, at the same number.
    Seal {
        /// The next writer.
        successor: Epoch,
    },
}

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Whose history it is part of.
    pub session: SessionId,
    /// Whose log it lies in.
    pub epoch: Epoch,
    /// Its place.
    pub slot: Slot,
    /// When it was made, milliseconds since 1970; for people.
    pub wall_ms: i64,
    /// A name for this commit, where somebody gave one.
    pub label: Option<String>,
    /// The slot up to which its writer knew everything to be committed.
    pub committed: Slot,
    /// A commit or a seal.
    pub kind: Kind,
}

/// A segment ready to be sent.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The object.
    pub bytes: Bytes,
    /// Its last bytes.
    pub checksum: Checksum,
    /// Where in the object each local piece lies.
    pub placed: Vec<(LocalId, u64)>,
    /// The records, in the order of their keys, with every local piece resolved to its place.
    pub records: Vec<Record>,
}

/// A segment that was read.
#[derive(Debug, Clone)]
pub struct Segment {
    /// What it says of itself.
    pub header: Header,
    /// Its records, in the order of their keys.
    pub records: Vec<Record>,
    /// Bytes of content inside it.
    pub content_len: u64,
    /// Its checksum, which matched.
    pub checksum: Checksum,
    /// Content inside it that was fetched along and is worth keeping.
    pub pieces: Vec<(ExtentRow, Bytes)>,
    /// The whole object, where it has more content than [`Segment::pieces`] are made of.
    pub object: Option<Bytes>,
}

/// Lays out a commit. Fails when a record names a local piece that the journal did not hand over.
pub fn encode(header: &Header, sealed: Sealed) -> Result<Encoded, LocalError> {
    let content_len: usize = sealed.pieces.iter().map(|(_, bytes)| bytes.len()).sum();
    let mut out = BytesMut::with_capacity(PRELUDE + content_len + 1024 + TRAILER);
    out.put_slice(MAGIC);
    out.put_u32_le(FORMAT);
    out.put_u32_le(0);
    out.put_u64_le(content_len as u64);
    let mut placed = Vec::with_capacity(sealed.pieces.len());
    for (id, bytes) in &sealed.pieces {
        placed.push((*id, out.len() as u64));
        out.put_slice(bytes);
    }
    let mut rows = sealed.records;
    resolve(&mut rows, &placed, header)?;
    rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let run = run::pack(&rows);
    if run.plain_len > MAX_RUN {
        return Err(LocalError::failed(format!(
            "one commit of {} bytes of rows is too large",
            run.plain_len
        )));
    }
    out.put_slice(&run.stored);
    let checksum = finish(&mut out, header, run.stored.len() as u64, run.plain_len);
    Ok(Encoded { bytes: out.freeze(), checksum, placed, records: rows })
}

/// A seal's bytes and checksum.
pub fn encode_seal(header: &Header) -> (Bytes, Checksum) {
    let mut out = BytesMut::with_capacity(PRELUDE + 256 + TRAILER);
    out.put_slice(MAGIC);
    out.put_u32_le(FORMAT);
    out.put_u32_le(0);
    out.put_u64_le(0);
    let checksum = finish(&mut out, header, 0, 0);
    (out.freeze(), checksum)
}

/// Appends the header, the lengths and the checksum of all before it.
fn finish(out: &mut BytesMut, header: &Header, stored: u64, plain: u64) -> Checksum {
    // Serialising numbers and one short string into a growing Vec has no failing path.
    let header = postcard::to_stdvec(header).expect("a header serialises");
    out.put_slice(&header);
    out.put_u64_le(stored);
    out.put_u64_le(plain);
    out.put_u32_le(header.len() as u32);
    let checksum = *blake3::hash(out).as_bytes();
    out.put_slice(&checksum);
    checksum
}

/// Rewrites extents of local pieces to their place in this segment.
fn resolve(rows: &mut [Record], placed: &[(LocalId, u64)], header: &Header) -> Result<(), LocalError> {
    let places: HashMap<LocalId, u64> = placed.iter().copied().collect();
    for row in rows {
        let (Some(Key::Extent { .. }), Some(value)) = (Key::decode(&row.key), &row.value) else { continue };
        let mut extent = ExtentRow::decode(value).map_err(|e| LocalError::failed(e.to_string()))?;
        let Blob::Local(id) = extent.blob else { continue };
        let place = places
            .get(&id)
            .ok_or_else(|| LocalError::failed(format!("the bytes of local piece {} are gone", id.0)))?;
        extent.blob = Blob::Segment { epoch: header.epoch, slot: header.slot };
        extent.piece_off += place;
        row.value = Some(extent.encode());
    }
    Ok(())
}

/// Reads the object `log/<epoch>/<slot>`, all of it.
pub fn decode(epoch: Epoch, slot: Slot, bytes: &[u8]) -> Result<Segment, LogError> {
    let key = keys::segment(epoch, slot);
    let layout = Layout::of(&key, bytes)?;
    let header = layout.header(&key, bytes, (epoch, slot))?;
    let damaged = |what: &str| LogError::Damaged { key: key.clone(), what: what.to_owned() };
    let rows = run::unpack(layout.stored(bytes), layout.plain_len).map_err(damaged)?;
    sound::check_all(&rows).map_err(damaged)?;
    if matches!(header.kind, Kind::Seal { .. }) && !(rows.is_empty() && layout.content_len == 0) {
        return Err(damaged("a seal holds nothing"));
    }
    Ok(Segment {
        header,
        records: rows,
        content_len: layout.content_len as u64,
        checksum: layout.checksum,
        pieces: Vec::new(),
        object: None,
    })
}

/// The content inside a segment that its own records name, `object` being the segment's bytes.
pub fn pieces(segment: &Segment, object: &Bytes) -> Vec<(ExtentRow, Bytes)> {
    let here = Blob::Segment { epoch: segment.header.epoch, slot: segment.header.slot };
    let extents = segment.records.iter().filter(|record| Key::is_extent(&record.key));
    extents
        .filter_map(|record| ExtentRow::decode(record.value.as_ref()?).ok())
        .filter(|extent| extent.blob == here)
        .filter_map(|extent| {
            let start = usize::try_from(extent.piece_off).ok()?;
            let end = start.checked_add(extent.piece_len as usize).filter(|end| *end <= object.len())?;
            Some((extent, object.slice(start..end)))
        })
        .collect()
}

/// What the object `log/<epoch>/<slot>` says of itself, its checksum verified, its records unread.
pub fn decode_header(epoch: Epoch, slot: Slot, bytes: &[u8]) -> Result<Header, LogError> {
    let key = keys::segment(epoch, slot);
    Layout::of(&key, bytes)?.header(&key, bytes, (epoch, slot))
}

/// Where the parts of a segment lie, its checksum verified.
struct Layout {
    content_len: usize,
    stored_len: usize,
    plain_len: u64,
    header_len: usize,
    checksum: Checksum,
}

impl Layout {
    fn of(key: &str, bytes: &[u8]) -> Result<Layout, LogError> {
        let damaged = |what: &str| LogError::Damaged { key: key.to_owned(), what: what.to_owned() };
        if bytes.get(..8) != Some(MAGIC.as_slice()) {
            return Err(damaged("it is not a segment"));
        }
        let cut = || damaged("it is cut short");
        let found = u32::from_le_bytes(array(bytes, 8).ok_or_else(cut)?);
        if found > FORMAT {
            return Err(LogError::NewerFormat { key: key.to_owned(), found, known: FORMAT });
        }
        let body =
            bytes.len().checked_sub(DIGEST).filter(|n| *n >= PRELUDE + TRAILER - DIGEST).ok_or_else(cut)?;
        let checksum: Checksum = array(bytes, body).ok_or_else(cut)?;
        if blake3::hash(&bytes[..body]).as_bytes() != &checksum {
            return Err(damaged("its checksum does not match"));
        }
        let size = |at: usize| array(bytes, at).map(u64::from_le_bytes).ok_or_else(cut);
        let (content, stored, plain) = (size(16)?, size(body - 20)?, size(body - 12)?);
        let header = u32::from_le_bytes(array(bytes, body - 4).ok_or_else(cut)?) as u64;
        let total = [content, stored, header].into_iter().try_fold(PRELUDE as u64 + 20, u64::checked_add);
        if found == 0 || header > MAX_HEADER as u64 || total != Some(body as u64) {
            return Err(damaged("its lengths do not add up"));
        }
        // Each is less than the object's length, which is a usize.
        let [content_len, stored_len, header_len] = [content, stored, header].map(|n| n as usize);
        Ok(Layout { content_len, stored_len, plain_len: plain, header_len, checksum })
    }

    fn stored<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[PRELUDE + self.content_len..][..self.stored_len]
    }

    fn header(&self, key: &str, bytes: &[u8], place: (Epoch, Slot)) -> Result<Header, LogError> {
        let damaged = |what: String| LogError::Damaged { key: key.to_owned(), what };
        let bytes = &bytes[PRELUDE + self.content_len + self.stored_len..][..self.header_len];
        let header: Header = match postcard::take_from_bytes(bytes) {
            Ok((header, [])) => header,
            _ => return Err(damaged("its header cannot be read".into())),
        };
        if (header.epoch, header.slot) != place {
            let what = format!("it is slot {} of epoch {}, under another name", header.slot, header.epoch);
            return Err(damaged(what));
        }
        Ok(header)
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

#[cfg(test)]
mod tests {
    use super::super::ids::Ino;
    use super::*;

    const EPOCH: Epoch = Epoch { counter: 2, nonce: 77 };

    fn header() -> Header {
        Header {
            session: SessionId(5),
            epoch: EPOCH,
            slot: Slot(9),
            wall_ms: 1_700_000_000_000,
            label: Some("before lunch".into()),
            committed: Slot(7),
            kind: Kind::Changes,
        }
    }

    fn local(id: u64, len: u32) -> ExtentRow {
        ExtentRow {
            len: u64::from(len),
            blob: Blob::Local(LocalId(id)),
            piece_off: 0,
            piece_len: len,
            skip: 0,
            crc: Some(1),
        }
    }

    fn sealed() -> Sealed {
        let key = |offset| Key::Extent { ino: Ino(4), offset };
        Sealed {
            last_seq: 3,
            records: vec![
                Record::put(&key(8192), &local(2, 3)),
                Record::put(&key(0), &local(1, 5)),
                Record::delete(&Key::Inode { ino: Ino(3) }),
            ],
            pieces: vec![
                (LocalId(1), Bytes::from_static(b"hello")),
                (LocalId(2), Bytes::from_static(b"abc")),
            ],
        }
    }

    #[test]
    fn a_commit_comes_back_with_its_pieces_where_its_extents_say() {
        let encoded = encode(&header(), sealed()).unwrap();
        let segment = decode(EPOCH, Slot(9), &encoded.bytes).unwrap();
        assert_eq!(segment.header, header());
        assert_eq!(segment.records, encoded.records);
        assert_eq!(segment.checksum, encoded.checksum);
        assert_eq!(segment.content_len, 8);
        let extent = ExtentRow::decode(segment.records[1].value.as_ref().unwrap()).unwrap();
        assert_eq!(extent.blob, Blob::Segment { epoch: EPOCH, slot: Slot(9) });
        let at = extent.piece_off as usize;
        assert_eq!(&encoded.bytes[at..at + 5], b"hello");
        assert_eq!(encoded.placed, vec![(LocalId(1), at as u64), (LocalId(2), at as u64 + 5)]);
        assert_eq!(decode_header(EPOCH, Slot(9), &encoded.bytes).unwrap(), header());
    }

    #[test]
    fn a_seal_comes_back() {
        let seal = Header { kind: Kind::Seal { successor: Epoch { counter: 3, nonce: 1 } }, ..header() };
        let (bytes, checksum) = encode_seal(&seal);
        let segment = decode(EPOCH, Slot(9), &bytes).unwrap();
        assert_eq!((segment.header, segment.checksum), (seal, checksum));
        assert!(segment.records.is_empty());
    }

    #[test]
    fn a_local_piece_that_was_not_handed_over_is_an_error() {
        let mut sealed = sealed();
        sealed.pieces.pop();
        assert!(encode(&header(), sealed).unwrap_err().to_string().contains("local piece 2"));
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_damage() {
        let bytes = encode(&header(), sealed()).unwrap().bytes;
        for at in 0..bytes.len() {
            let mut bad = bytes.to_vec();
            bad[at] ^= 0x10;
            assert!(decode(EPOCH, Slot(9), &bad).is_err(), "byte {at}");
            assert!(decode(EPOCH, Slot(9), &bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn hostile_lengths_under_a_right_checksum_are_refused() {
        let good = encode(&header(), sealed()).unwrap().bytes;
        let body = good.len() - DIGEST;
        for at in [16, body - 20, body - 12, body - 4] {
            for value in [0u32, 1, 0x7fff_ffff, u32::MAX] {
                let mut bad = good[..body].to_vec();
                bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
                let digest = *blake3::hash(&bad).as_bytes();
                bad.extend_from_slice(&digest);
                assert!(decode(EPOCH, Slot(9), &bad).is_err(), "{value} at {at}");
            }
        }
    }

    #[test]
    fn a_newer_format_and_a_copy_under_another_name_are_told_apart_from_damage() {
        let mut bytes = encode(&header(), sealed()).unwrap().bytes.to_vec();
        let err = decode(EPOCH, Slot(8), &bytes).unwrap_err().to_string();
        assert!(err.contains("is slot 000000000009 of epoch"), "{err}");
        bytes[8] = 2;
        let newer = decode(EPOCH, Slot(9), &bytes).unwrap_err();
        assert!(matches!(newer, LogError::NewerFormat { found: 2, .. }), "{newer}");
    }

    #[test]
    fn a_record_no_writer_makes_is_refused() {
        for record in [
            Record { key: vec![99], value: None },
            Record::put_raw(&Key::Inode { ino: Ino(1) }, b"xx".as_slice()),
        ] {
            let sealed = Sealed { last_seq: 1, records: vec![record], pieces: vec![] };
            let bytes = encode(&header(), sealed).unwrap().bytes;
            assert!(decode(EPOCH, Slot(9), &bytes).is_err());
        }
    }
}
