//! Shared mappings, which stay when their descriptor is closed.

use super::super::ops::Op;
use super::super::sys::Mapping;
use super::{Actor, Told, bytes_told, ok, pattern};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

const PAGE: usize = 4096;

/// A mapping, and how to ask for the size of its file without holding it open.
pub struct Mapped {
    mapping: Mapping,
    at: usize,
    file: OwnedFd,
}

impl Actor {
    pub(super) fn mapping(&mut self, op: &Op) -> Told {
        match op {
            Op::Map { map, fd, page, pages, write } => {
                let fd = self.fd(*fd)?;
                let (at, len) = (*page as usize * PAGE, usize::from(*pages) * PAGE);
                let mapping = Mapping::new(fd, at as i64, len, *write)?;
                let file = self.jail.unopened(fd)?;
                self.maps[usize::from(*map)] = Some(Mapped { mapping, at, file });
                Ok("ok".to_owned())
            }
            Op::Load { map, at, len } => {
                let mapped = self.mapped(*map)?;
                let Some((at, len)) = mapped.range(*at, *len)? else { return Ok("beyond".to_owned()) };
                let mut bytes = vec![0u8; len];
                let got = mapped.mapping.load(at, &mut bytes)?;
                Ok(bytes_told(&bytes[..got]))
            }
            Op::Store { map, at, len, fill, meanwhile } => {
                let mapped = self.mapped(*map)?;
                let Some((at, len)) = mapped.range(*at, *len)? else { return Ok("beyond".to_owned()) };
                let stored = mapped.mapping.store(at, &pattern(*fill, len))?;
                let also = meanwhile.as_ref().map(|op| self.tell(op)).unwrap_or_default();
                let synced = self.tell(&Op::Msync { map: *map });
                Ok(format!("{stored} bytes; {also}; {synced}"))
            }
            Op::Msync { map } => ok(self.mapped(*map)?.mapping.sync()),
            Op::Unmap { map } => match self.maps[usize::from(*map)].take() {
                Some(mapped) => {
                    drop(mapped);
                    Ok("ok".to_owned())
                }
                None => Err(Errno::INVAL),
            },
            other => unreachable!("{other:?} is no mapping's"),
        }
    }

    fn mapped(&self, n: u8) -> Result<&Mapped, Errno> {
        let mut there = self.maps.iter().cycle().skip(usize::from(n)).take(self.maps.len());
        there.find_map(Option::as_ref).ok_or(Errno::INVAL)
    }
}

impl Mapped {
    /// What of a range lies in the mapping and in the file, as it is now: what is stored behind the end of a
    /// file is nobody's.
    fn range(&self, at: u32, len: u32) -> Result<Option<(usize, usize)>, Errno> {
        let size = usize::try_from(rustix::fs::fstat(&self.file)?.st_size).unwrap_or(0);
        let end = size.saturating_sub(self.at).min(self.mapping.len());
        if end == 0 {
            return Ok(None);
        }
        let at = at as usize % end;
        Ok(Some((at, (len as usize).min(end - at))))
    }
}
