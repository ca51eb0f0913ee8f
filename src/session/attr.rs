//! Attributes: getattr, setattr, statfs.

use crate::log::row::Time;

/// The time of day.
pub(super) fn now() -> Time {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    // The kernel keeps nanoseconds below 10^9.
    Time { sec: t.tv_sec, nsec: t.tv_nsec as u32 }
}
