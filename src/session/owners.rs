//! `--uid` and `--gid`: one owner is shown, whoever is stored.
//!
//! Invariant: rows hold stored owners, which only a chown to somebody else changes; what stat shows, and so
//! what the kernel checks, is [`Owners::shown`]. Both ids work alone, too.

use super::api::{Caller, SetAttr};
use crate::log::row::InodeRow;

/// Who is shown as the owner of everything; `None` shows who is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owners {
    /// User id.
    pub uid: Option<u32>,
    /// Group id.
    pub gid: Option<u32>,
}

impl Owners {
    /// The user and group that stat shows.
    pub(super) fn shown(&self, row: &InodeRow) -> (u32, u32) {
        (self.uid.unwrap_or(row.uid), self.gid.unwrap_or(row.gid))
    }

    /// The user and group that are stored of what `caller` makes in the directory `dir`: where one owner is
    /// shown it does not matter who made it, and it is its directory's, so that a session stays of one owner.
    pub(super) fn of_new(&self, caller: Caller, dir: &InodeRow) -> (u32, u32) {
        let uid = if self.uid.is_some() { dir.uid } else { caller.uid };
        let as_dir = self.gid.is_some() || dir.mode & libc::S_ISGID != 0;
        (uid, if as_dir { dir.gid } else { caller.gid })
    }

    /// Stores the owners that a chown asks for. One that is shown anyway stands for who is stored, so a
    /// `chown -R` to it loses nothing.
    pub(super) fn chown(&self, row: &mut InodeRow, set: &SetAttr) {
        if set.uid != self.uid {
            row.uid = set.uid.unwrap_or(row.uid);
        }
        if set.gid != self.gid {
            row.gid = set.gid.unwrap_or(row.gid);
        }
    }

    /// The user and group of what has none: a new session's root, objects put into the prefix by others. Who
    /// is shown, or else the user that mounts.
    pub(super) fn of_nobody(&self) -> (u32, u32) {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        (self.uid.unwrap_or(uid), self.gid.unwrap_or(gid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::make::root_row;
    use crate::session::options::{Modes, Untold};

    const BOTH: Owners = Owners { uid: Some(1001), gid: Some(1002) };
    const USER: Owners = Owners { uid: Some(1001), gid: None };

    fn row(uid: u32, gid: u32, mode: u32) -> InodeRow {
        InodeRow { uid, gid, mode, ..root_row(Untold { owner: (7, 7), modes: Modes::default() }) }
    }

    #[test]
    fn each_id_is_shown_in_the_place_of_the_stored_one() {
        let stored = row(5, 6, 0);
        assert_eq!(Owners::default().shown(&stored), (5, 6));
        assert_eq!(USER.shown(&stored), (1001, 6));
        assert_eq!(BOTH.shown(&stored), (1001, 1002));
    }

    #[test]
    fn what_is_made_is_its_directorys_where_one_owner_is_shown() {
        let caller = Caller { uid: 1001, gid: 1002, pid: 0 };
        let (dir, set_gid) = (row(5, 6, 0), row(5, 6, libc::S_ISGID));
        assert_eq!(Owners::default().of_new(caller, &dir), (1001, 1002));
        assert_eq!(Owners::default().of_new(caller, &set_gid), (1001, 6));
        assert_eq!(USER.of_new(caller, &dir), (5, 1002));
        assert_eq!(BOTH.of_new(caller, &dir), (5, 6));
    }

    #[test]
    fn a_chown_to_who_is_shown_keeps_who_is_stored() {
        let after = |owners: Owners, uid, gid| {
            let mut row = row(5, 6, 0);
            owners.chown(&mut row, &SetAttr { uid, gid, ..SetAttr::default() });
            (row.uid, row.gid)
        };
        assert_eq!(after(Owners::default(), Some(8), None), (8, 6));
        assert_eq!(after(Owners::default(), None, Some(9)), (5, 9));
        assert_eq!(after(BOTH, Some(1001), Some(1002)), (5, 6));
        assert_eq!(after(BOTH, Some(8), Some(1002)), (8, 6));
        assert_eq!(after(USER, Some(1001), Some(9)), (5, 9));
        assert_eq!(after(BOTH, None, None), (5, 6));
    }

    #[test]
    fn what_has_no_owner_is_shown_and_stored_alike() {
        assert_eq!(BOTH.of_nobody(), (1001, 1002));
        assert_eq!(USER.of_nobody(), (1001, rustix::process::getegid().as_raw()));
    }
}
