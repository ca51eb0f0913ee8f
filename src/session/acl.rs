//! POSIX ACLs: the kernel's xattr form, its rules, and what they mean for the permission bits.
//!
//! Invariant: an [`Acl`] is valid: entries in the kernel's order, each class once, a mask where one is needed.

use super::SessionError;
use super::api::Result;

/// The xattr that holds who may access an inode.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The xattr that holds what is inherited by what is made in a directory.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const NO_ID: u32 = u32::MAX;

/// Whom an entry is about; in the order in which entries stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Owner,
    User(u32),
    OwningGroup,
    Group(u32),
    Mask,
    Other,
}

impl Who {
    fn decode(tag: u16, id: u32) -> Option<Who> {
        Some(match tag {
            0x01 => Who::Owner,
            0x02 => Who::User(id),
            0x04 => Who::OwningGroup,
            0x08 => Who::Group(id),
            0x10 => Who::Mask,
            0x20 => Who::Other,
            _ => return None,
        })
    }

    fn encode(self) -> (u16, u32) {
        match self {
            Who::Owner => (0x01, NO_ID),
            Who::User(id) => (0x02, id),
            Who::OwningGroup => (0x04, NO_ID),
            Who::Group(id) => (0x08, id),
            Who::Mask => (0x10, NO_ID),
            Who::Other => (0x20, NO_ID),
        }
    }

    /// Entries stand in the order of their classes.
    fn class(self) -> u8 {
        match self {
            Who::Owner => 0,
            Who::User(_) => 1,
            Who::OwningGroup => 2,
            Who::Group(_) => 3,
            Who::Mask => 4,
            Who::Other => 5,
        }
    }

    fn many(self) -> bool {
        matches!(self, Who::User(_) | Who::Group(_))
    }
}

/// A valid access control list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acl {
    entries: Vec<(Who, u16)>,
}

impl Acl {
    /// Reads the xattr form. `None` for a list without entries, which means "remove it"; EINVAL for anything
    /// the kernel would not take, EOPNOTSUPP for another version.
    pub fn decode(bytes: &[u8]) -> Result<Option<Acl>> {
        let invalid = || SessionError::Errno(libc::EINVAL);
        let (version, rest) = bytes.split_first_chunk::<4>().ok_or_else(invalid)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(SessionError::Errno(libc::EOPNOTSUPP));
        }
        let (chunks, rest) = rest.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(invalid());
        }
        if chunks.is_empty() {
            return Ok(None);
        }
        let entries = chunks.iter().map(entry).collect::<Option<Vec<_>>>().ok_or_else(invalid)?;
        let acl = Acl { entries };
        acl.is_valid().then_some(Some(acl)).ok_or_else(invalid)
    }

    /// The xattr form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        for (who, perm) in &self.entries {
            let (tag, id) = who.encode();
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&perm.to_le_bytes());
            out.extend_from_slice(&id.to_le_bytes());
        }
        out
    }

    /// The permission bits that this list means: the group bits are the mask, where there is one.
    pub fn mode(&self) -> u32 {
        let owner = self.perm(Who::Owner);
        let group = self.mask_or_group();
        owner << 6 | group << 3 | self.perm(Who::Other)
    }

    /// Whether the permission bits alone say as much.
    pub fn is_mode_only(&self) -> bool {
        self.entries.len() == 3
    }

    /// What the list becomes when the permission bits are set to `mode`.
    pub fn chmod(&mut self, mode: u32) {
        let has_mask = self.has(Who::Mask);
        for (who, perm) in &mut self.entries {
            match who {
                Who::Owner => *perm = (mode >> 6 & 7) as u16,
                Who::Mask => *perm = (mode >> 3 & 7) as u16,
                Who::OwningGroup if !has_mask => *perm = (mode >> 3 & 7) as u16,
                Who::Other => *perm = (mode & 7) as u16,
                Who::OwningGroup | Who::User(_) | Who::Group(_) => {}
            }
        }
    }

    /// What something made with `mode` in a directory with this default list gets: its access list (`None`
    /// where the bits say it all) and its permission bits. The umask plays no part.
    pub fn inherit(&self, mode: u32) -> (Option<Acl>, u32) {
        let mut acl = self.clone();
        let has_mask = acl.has(Who::Mask);
        for (who, perm) in &mut acl.entries {
            let asked = match who {
                Who::Owner => mode >> 6,
                Who::Mask => mode >> 3,
                Who::OwningGroup if !has_mask => mode >> 3,
                Who::Other => mode,
                Who::OwningGroup | Who::User(_) | Who::Group(_) => 7,
            };
            *perm &= (asked & 7) as u16;
        }
        let mode = mode & !0o777 | acl.mode();
        ((!acl.is_mode_only()).then_some(acl), mode)
    }

    fn perm(&self, who: Who) -> u32 {
        self.entries.iter().find(|(w, _)| *w == who).map_or(0, |(_, perm)| u32::from(*perm))
    }

    fn has(&self, who: Who) -> bool {
        self.entries.iter().any(|(w, _)| *w == who)
    }

    fn mask_or_group(&self) -> u32 {
        self.perm(if self.has(Who::Mask) { Who::Mask } else { Who::OwningGroup })
    }

    fn is_valid(&self) -> bool {
        let in_order = self.entries.windows(2).all(|pair| {
            let (a, b) = (pair[0].0, pair[1].0);
            a.class() < b.class() || a.class() == b.class() && a.many()
        });
        let needs_mask = self.entries.iter().any(|(who, _)| who.many());
        in_order
            && self.has(Who::Owner)
            && self.has(Who::OwningGroup)
            && self.has(Who::Other)
            && (!needs_mask || self.has(Who::Mask))
    }
}

fn entry(bytes: &[u8; 8]) -> Option<(Who, u16)> {
    let [t0, t1, p0, p1, id @ ..] = *bytes;
    let (id, perm) = (u32::from_le_bytes(id), u16::from_le_bytes([p0, p1]));
    let who = Who::decode(u16::from_le_bytes([t0, t1]), id)?;
    let valid = perm <= 7 && (!who.many() || id != NO_ID);
    valid.then_some((who, perm))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn acl(entries: &[(Who, u16)]) -> Acl {
        Acl { entries: entries.to_vec() }
    }

    fn small() -> Acl {
        acl(&[(Who::Owner, 7), (Who::OwningGroup, 5), (Who::Other, 4)])
    }

    fn large() -> Acl {
        acl(&[
            (Who::Owner, 7),
            (Who::User(1000), 6),
            (Who::OwningGroup, 5),
            (Who::Group(7), 7),
            (Who::Mask, 6),
            (Who::Other, 1),
        ])
    }

    #[test]
    fn lists_come_back() {
        for acl in [small(), large()] {
            assert_eq!(Acl::decode(&acl.encode()).unwrap(), Some(acl));
        }
        assert_eq!(Acl::decode(&VERSION.to_le_bytes()).unwrap(), None, "an empty list removes");
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        let mut without_mask = large();
        without_mask.entries.remove(4);
        let mut out_of_order = small();
        out_of_order.entries.swap(0, 1);
        let mut twice = small();
        twice.entries.insert(0, (Who::Owner, 7));
        let rights = acl(&[(Who::Owner, 8), (Who::OwningGroup, 5), (Who::Other, 4)]);
        let nobody = acl(&[
            (Who::Owner, 7),
            (Who::User(NO_ID), 1),
            (Who::OwningGroup, 5),
            (Who::Mask, 7),
            (Who::Other, 4),
        ]);
        let no_other = acl(&[(Who::Owner, 7), (Who::OwningGroup, 5)]);
        for bad in [without_mask, out_of_order, twice, rights, nobody, no_other] {
            assert_eq!(Acl::decode(&bad.encode()).unwrap_err().errno(), libc::EINVAL, "{bad:?}");
        }
        let mut version = small().encode();
        version[0] = 1;
        assert_eq!(Acl::decode(&version).unwrap_err().errno(), libc::EOPNOTSUPP);
        assert_eq!(Acl::decode(&small().encode()[..11]).unwrap_err().errno(), libc::EINVAL);
    }

    #[test]
    fn the_group_bits_are_the_mask() {
        assert_eq!(small().mode(), 0o754);
        assert_eq!(large().mode(), 0o761);
        assert!(small().is_mode_only() && !large().is_mode_only());
        let mut changed = large();
        changed.chmod(0o640);
        assert_eq!(changed.mode(), 0o640);
        assert_eq!(changed.perm(Who::OwningGroup), 5, "chmod changes the mask, not the group");
        let mut changed = small();
        changed.chmod(0o640);
        assert_eq!(changed.perm(Who::OwningGroup), 4);
    }

    #[test]
    fn a_default_list_takes_the_place_of_the_umask() {
        let (acl, mode) = large().inherit(libc::S_IFREG | 0o664);
        assert_eq!(mode, libc::S_IFREG | 0o660);
        let acl = acl.unwrap();
        assert_eq!((acl.perm(Who::Mask), acl.perm(Who::User(1000))), (6, 6));
        let (acl, mode) = small().inherit(libc::S_IFDIR | 0o2777);
        assert_eq!((acl, mode), (None, libc::S_IFDIR | 0o2754));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_list_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(Some(acl)) = Acl::decode(&bytes) {
                prop_assert_eq!(acl.encode(), bytes);
            }
        }
    }
}
