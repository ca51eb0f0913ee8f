//! The names of things: inodes, slots, epochs, blobs.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// An inode number; stable for the session's life and never given out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory.
    pub const ROOT: Ino = Ino(1);
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The place of a segment in a session's history; counts on through epochs, from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slot(pub u64);

impl Slot {
    /// The slot after this one.
    pub fn next(self) -> Slot {
        Slot(self.0 + 1)
    }
}

/// Twelve digits, so that keys list in slot order.
impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012}", self.0)
    }
}

impl FromStr for Slot {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        digits(s, 12).map(Slot).ok_or(BadName)
    }
}

/// 128 random bits that name a session; 32 hexadecimal digits where people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub u128);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for SessionId {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let hex = s.len() == 32 && s.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| u128::from_str_radix(s, 16).ok()).flatten().map(SessionId).ok_or(BadName)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { self.0.to_be_bytes().serialize(s) }
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            return String::deserialize(d)?.parse().map_err(serde::de::Error::custom);
        }
        <[u8; 16]>::deserialize(d).map(|bytes| SessionId(u128::from_be_bytes(bytes)))
    }
}

/// One writer's time with the session: a counter that rises with each writer, and a nonce so that a prefix
/// deleted and made again cannot look like the old lineage. In JSON it is a string, as in keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch {
    /// One more than the predecessor's.
    pub counter: u64,
    /// Random.
    pub nonce: u64,
}

/// `0000000012-9f3ab2c4d1e0f00d`: lists in the order of counters.
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}-{:016x}", self.counter, self.nonce)
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { (self.counter, self.nonce).serialize(s) }
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            return String::deserialize(d)?.parse().map_err(serde::de::Error::custom);
        }
        <(u64, u64)>::deserialize(d).map(|(counter, nonce)| Epoch { counter, nonce })
    }
}

impl FromStr for Epoch {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let (counter, nonce) = s.split_once('-').ok_or(BadName)?;
        if nonce.len() != 16 || !nonce.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(BadName);
        }
        let nonce = u64::from_str_radix(nonce, 16).map_err(|_| BadName)?;
        Ok(Epoch { counter: digits(counter, 10).ok_or(BadName)?, nonce })
    }
}

/// A name that is not of the form it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a name of that form")]
pub struct BadName;

fn digits(s: &str, min: usize) -> Option<u64> {
    (s.len() >= min && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok()).flatten()
}

/// The number of a captured content that no slot has carried yet; local, never in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LocalId(pub u64);

/// Where immutable bytes lie. A name is never used twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Blob {
    /// Inside the segment `log/<epoch>/<slot>`.
    Segment { epoch: Epoch, slot: Slot },
    /// The object `data/<epoch>-<n>`: one content's blob, or a pack of many.
    Data { epoch: Epoch, n: u64 },
    /// A plain object of the view, imported and not copied yet; read with `If-Match`.
    Object { key: String, etag: String },
    /// In the local journal only, until a slot carries it. Never in a segment or checkpoint.
    Local(LocalId),
}

/// A key of the bucket layout, relative to the session's prefix.
pub mod keys {
    use super::{Epoch, Slot};

    /// Everything of ours lies below this.
    pub const ROOT: &str = ".cwdfs/";
    /// Who may write.
    pub const LEASE: &str = ".cwdfs/lease";
    /// Prefix of all segments.
    pub const LOG: &str = ".cwdfs/log/";
    /// Prefix of blobs and packs.
    pub const DATA: &str = ".cwdfs/data/";
    /// Prefix of images and deltas.
    pub const CHECKPOINT: &str = ".cwdfs/checkpoint/";

    /// The segments of one writer.
    pub fn log_of(epoch: Epoch) -> String {
        format!("{LOG}{epoch}/")
    }

    /// One segment, or a seal.
    pub fn segment(epoch: Epoch, slot: Slot) -> String {
        format!("{LOG}{epoch}/{slot}")
    }

    /// A blob or pack.
    pub fn data(epoch: Epoch, n: u64) -> String {
        format!("{DATA}{epoch}-{n:010}")
    }

    /// The epoch and number of a `data/` key; `None` for anything else.
    pub fn parse_data(key: &str) -> Option<(Epoch, u64)> {
        let (epoch, n) = key.strip_prefix(DATA)?.rsplit_once('-')?;
        Some((epoch.parse().ok()?, super::digits(n, 10)?))
    }

    /// The epoch and slot of a `log/` key; `None` for anything else.
    pub fn parse_segment(key: &str) -> Option<(Epoch, Slot)> {
        let (epoch, slot) = key.strip_prefix(LOG)?.split_once('/')?;
        Some((epoch.parse().ok()?, slot.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_text_in_json_and_numbers_in_rows() {
        let epoch = Epoch { counter: 12, nonce: u64::MAX };
        let json = serde_json::to_string(&(epoch, SessionId(10))).unwrap();
        assert_eq!(json, r#"["0000000012-ffffffffffffffff","0000000000000000000000000000000a"]"#);
        assert_eq!(serde_json::from_str::<(Epoch, SessionId)>(&json).unwrap(), (epoch, SessionId(10)));
        let bytes = postcard::to_stdvec(&(epoch, SessionId(10))).unwrap();
        assert_eq!(bytes.len(), 1 + 10 + 16);
        assert_eq!(postcard::from_bytes::<(Epoch, SessionId)>(&bytes).unwrap(), (epoch, SessionId(10)));
    }

    #[test]
    fn names_come_back_and_others_are_refused() {
        let epoch = Epoch { counter: 12, nonce: 0x9f3a_b2c4_d1e0_f00d };
        assert_eq!(epoch.to_string(), "0000000012-9f3ab2c4d1e0f00d");
        assert_eq!(keys::parse_segment(&keys::segment(epoch, Slot(7))), Some((epoch, Slot(7))));
        assert_eq!(keys::parse_data(&keys::data(epoch, 3)), Some((epoch, 3)));
        for bad in ["", "1-2", "0000000012-9f3ab2c4d1e0f00", "0000000012-+f3ab2c4d1e0f00d", "../x-0"] {
            assert!(bad.parse::<Epoch>().is_err(), "{bad}");
        }
        assert_eq!(keys::parse_segment(".cwdfs/log/0000000012-9f3ab2c4d1e0f00d/1"), None);
    }
}
