//! Backing files of opens in a passthrough mode: one number per inode, shared by its opens and given back
//! with the last of them (two numbers for one inode are an I/O error in the kernel).

use crate::log::ids::Ino;
use crate::session::api::Fh;
use fuser::BackingId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// The backing files in use.
#[derive(Default)]
pub struct Backings {
    shared: Mutex<HashMap<Ino, Shared>>,
}

struct Shared {
    id: Arc<BackingId>,
    opens: Vec<Fh>,
}

impl Backings {
    /// The number for an open of `ino`; `register` makes the first.
    pub fn of_open(
        &self,
        ino: Ino,
        fh: Fh,
        register: impl FnOnce() -> io::Result<BackingId>,
    ) -> io::Result<Arc<BackingId>> {
        // Held while registering, so that two first opens share one number.
        let mut shared = self.shared.lock();
        if let Some(known) = shared.get_mut(&ino) {
            known.opens.push(fh);
            return Ok(Arc::clone(&known.id));
        }
        let id = Arc::new(register()?);
        shared.insert(ino, Shared { id: Arc::clone(&id), opens: vec![fh] });
        Ok(id)
    }

    /// An open is gone; the last one of an inode takes its number along.
    pub fn release(&self, ino: Ino, fh: Fh) {
        let mut shared = self.shared.lock();
        if let Some(known) = shared.get_mut(&ino) {
            known.opens.retain(|open| *open != fh);
            if known.opens.is_empty() {
                shared.remove(&ino);
            }
        }
    }
}
