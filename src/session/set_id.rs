//! Set-user-id and set-group-id: what a change leaves of them.
//!
//! On a local disk a change of content takes both, unless the caller may keep them (CAP_FSETID): set-group-id,
//! where the group may not execute, only from a caller outside the group. A kernel knows the rule but not this
//! last part for a FUSE file system. It sends the mode that is left by the rest of the rule, or, where that is
//! all of it, a setattr of nothing; and it leaves direct writes, truncations at open and the like to us. Where all of
//! it is left to us ([`Session::privileges_are_ours`]), it says with each write whether bits go, and still sends a
//! setattr of nothing before one that takes any.
//!
//! Invariants:
//! - a group is judged by the one that stat shows, which is what the kernel checks;
//! - when a change returns, the kernel knows what it left: it runs programs by the mode that it has.

use super::api::{Caller, SetAttr};
use super::{Session, owners::Owners};
use crate::log::ids::Ino;
use crate::log::row::InodeRow;
use std::sync::atomic::Ordering;

/// Both bits.
pub(super) const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;

/// CAP_FSETID in a set of capabilities.
const FSETID: u64 = 1 << 4;

/// Whether a caller is a member of a group, or may set what only members may, as far as we can see.
pub(super) fn in_group(caller: Caller, gid: u32) -> bool {
    Seen::of(caller).is_in(caller, gid)
}

/// A regular file's mode after a change of its content.
pub(super) fn after_content(caller: Caller, mode: u32, gid: u32) -> u32 {
    if mode & SET_ID == 0 {
        return mode;
    }
    let seen = Seen::of(caller);
    match seen.may_keep(caller) {
        true => mode,
        false => without(mode, seen.is_in(caller, gid)),
    }
}

impl Owners {
    /// The mode after a chown of `row`, whose owners are still the old ones: it takes the bits whoever asks.
    pub(super) fn mode_after_chown(&self, caller: Caller, row: &InodeRow) -> u32 {
        match row.is_dir() || row.mode & SET_ID == 0 {
            true => row.mode,
            false => without(row.mode, in_group(caller, self.shown(row).1)),
        }
    }
}

impl Session {
    /// The mode that `set` leaves of `row`, which has the mode that `set` says and still its old owners.
    pub(super) fn mode_after_setattr(&self, caller: Caller, ino: Ino, row: &InodeRow, set: &SetAttr) -> u32 {
        let owners = &self.options.owners;
        let (uid, gid) = owners.shown(row);
        if set.uid.is_some() || set.gid.is_some() {
            return owners.mode_after_chown(caller, row);
        }
        let is_nothing = row.is_file() && *set == SetAttr::default();
        if is_nothing && self.is_chown_to_nobody(caller, ino) {
            return owners.mode_after_chown(caller, row);
        }
        // A setattr of nothing announces a change of content, or is a chown to nobody, which only the owner may
        // do where it takes a bit.
        let changes = || caller.uid == uid || self.nodes.get(ino).is_some_and(|node| node.file.is_open());
        if set.size.is_some() || is_nothing && changes() {
            return after_content(caller, row.mode, gid);
        }
        // What announces a change of content can look like a chmod; one by the owner was checked by the kernel,
        // which knows more groups than we may see.
        match set.mode.is_some() && row.mode & libc::S_ISGID != 0 && Seen::of(caller).is_outside(caller, gid)
        {
            true => row.mode & !libc::S_ISGID,
            false => row.mode,
        }
    }

    /// The kernel leaves it to us what a change of content takes (FUSE_HANDLE_KILLPRIV_V2).
    pub fn privileges_are_ours(&self) {
        self.privileges_are_ours.store(true, Ordering::Release);
    }

    /// Whether a setattr of nothing by somebody who may keep the bits is surely a chown: a write of theirs announces
    /// itself only where it takes capabilities.
    fn is_chown_to_nobody(&self, caller: Caller, ino: Ino) -> bool {
        self.privileges_are_ours.load(Ordering::Acquire)
            && !self.nodes.get(ino).is_some_and(|node| node.file.take_lost_capability())
            && Seen::of(caller).may_keep(caller)
    }
}

/// The mode without set-user-id, and without set-group-id where the group may execute (without that it once
/// meant mandatory locking, which stays for a member).
fn without(mode: u32, in_group: bool) -> u32 {
    let group = !in_group || mode & libc::S_IXGRP != 0;
    mode & !libc::S_ISUID & if group { !libc::S_ISGID } else { !0 }
}

/// What /proc tells of a thread; `None` of one that is gone, hidden, or in no namespace of ours.
struct Seen(Option<Status>);

struct Status {
    groups: Vec<u32>,
    capabilities: u64,
}

impl Seen {
    fn of(caller: Caller) -> Seen {
        let status = || std::fs::read_to_string(format!("/proc/{}/status", caller.pid)).ok();
        Seen((caller.pid != 0).then(status).flatten().and_then(|text| Status::parse(&text)))
    }

    /// Whether CAP_FSETID is effective. Another user than root may have it in a user namespace only, as far as
    /// can be told: it counts for root, who can lack it.
    fn may_keep(&self, caller: Caller) -> bool {
        caller.uid == 0 && self.0.as_ref().is_none_or(|status| status.capabilities & FSETID != 0)
    }

    fn is_in(&self, caller: Caller, gid: u32) -> bool {
        // Nothing seen is no further group: the strict side.
        let further = || self.0.as_ref().is_some_and(|status| status.groups.contains(&gid));
        caller.gid == gid || self.may_keep(caller) || further()
    }

    /// Whether it is certain that the caller is neither a member nor may set what only members may.
    fn is_outside(&self, caller: Caller, gid: u32) -> bool {
        self.0.is_some() && !self.is_in(caller, gid)
    }
}

impl Status {
    fn parse(text: &str) -> Option<Status> {
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let groups = field("Groups:")?.split_ascii_whitespace().map(str::parse);
        let capabilities = u64::from_str_radix(field("CapEff:")?, 16).ok()?;
        Some(Status { groups: groups.collect::<std::result::Result<_, _>>().ok()?, capabilities })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Caller = Caller { uid: 1000, gid: 1000, pid: 0 };
    use crate::session::testing::ROOT;

    fn seen(groups: &str, capabilities: &str) -> Seen {
        let text =
            format!("Name:\tx\nGroups:\t{groups} \nCapInh:\t0000000000000000\nCapEff:\t{capabilities}\n");
        Seen(Status::parse(&text))
    }

    #[test]
    fn set_id_bits_go_as_the_kernel_has_it() {
        assert_eq!(without(0o6755, true), 0o755);
        assert_eq!(without(0o6745, true), 0o2745, "no group execution: it stays for a member");
        assert_eq!(without(0o6745, false), 0o745);
        assert_eq!(after_content(USER, 0o2745, 1000), 0o2745);
        assert_eq!(after_content(USER, 0o2745, 4), 0o745);
        assert_eq!(after_content(ROOT, 0o6755, 4), 0o6755);
    }

    #[test]
    fn a_caller_we_cannot_see_has_its_own_group_only() {
        assert!(in_group(USER, 1000));
        assert!(!in_group(USER, 4));
        assert!(in_group(ROOT, 4));
        assert!(!Seen::of(USER).is_outside(USER, 4), "but that is not certain");
    }

    #[test]
    fn further_groups_and_a_missing_capability_count() {
        let full = "000001ffffffffff";
        assert!(seen("4 24", "0").is_in(USER, 24) && seen("4 24", "0").is_outside(USER, 25));
        assert!(seen("", full).may_keep(ROOT) && !seen("", full).may_keep(USER));
        let bare = seen("0", "00000000a80425eb");
        assert!(!bare.may_keep(ROOT) && bare.is_outside(ROOT, 4) && bare.is_in(ROOT, 0));
        assert!(Status::parse("Groups:\tx\nCapEff:\t0").is_none());
    }

    #[test]
    fn this_process_is_seen() {
        let status = Seen::of(Caller { pid: std::process::id(), ..USER }).0.expect("it is there");
        let groups = rustix::process::getgroups().expect("getgroups");
        assert_eq!(status.groups, groups.iter().map(|gid| gid.as_raw()).collect::<Vec<_>>());
    }
}
