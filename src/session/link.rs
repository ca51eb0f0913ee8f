//! Hard links.

use super::api::*;
use super::file::PendingCapture;
use super::level::Place;
use super::path::check_new_name;
use super::remove::link_key;
use super::{Session, SessionError};
use crate::log::ids::Ino;
use crate::log::row::Record;
use crate::log::source::Seq;
use std::sync::Arc;

/// The most names of an inode, as on ext4.
const MAX_LINKS: u32 = 65_000;

impl Session {
    /// Gives an inode another name.
    pub fn link(self: &Arc<Self>, caller: Caller, ino: Ino, parent: Ino, name: &[u8]) -> Outcome<Attr> {
        // Its content goes with the name: see the design's prefix consistency.
        let capture = match self.capture_for_names(&[ino]) {
            Ok(capture) => capture,
            Err(error) => return Outcome::Ready(Err(error)),
        };
        match self.link_now(ino, parent, name, capture) {
            Ok((seq, attr)) => self.settle(caller, seq, Place::Name(parent, name), attr),
            Err(error) => Outcome::Ready(Err(error)),
        }
    }

    fn link_now(
        &self,
        ino: Ino,
        parent: Ino,
        name: &[u8],
        capture: Option<PendingCapture>,
    ) -> Result<(Option<Seq>, Attr)> {
        check_new_name(parent, name)?;
        let mut change = self.change()?;
        change.directory(parent)?;
        let mut row = change.inode(ino)?;
        let refused = if change.entry(parent, name)?.is_some() {
            Some(libc::EEXIST)
        } else if row.is_dir() {
            Some(libc::EPERM)
        } else if row.nlink == 0 {
            Some(libc::ENOENT)
        } else {
            (row.nlink >= MAX_LINKS).then_some(libc::EMLINK)
        };
        if let Some(errno) = refused {
            return Err(SessionError::Errno(errno));
        }
        row.nlink += 1;
        row.ctime = change.now();
        let place = change.put_entry(parent, name, ino, row.mode);
        change.record(Record::put_raw(&link_key(ino, place, name), Vec::new()));
        change.put_inode(ino, row);
        change.touch_directory(parent, 0)?;
        let seq = change.apply_with(capture)?;
        self.nodes.looked_up(ino);
        Ok((seq, self.attr(ino)?))
    }
}
