//! The flags that lsattr(1) shows and chattr(1) sets: there are none, and none can be set.

use fuser::Errno;

/// `FS_IOC_GETFLAGS` and `FS_IOC_SETFLAGS`, whose value is 32 bits whatever the number says, as 64-bit and
/// 32-bit callers ask them.
const GET_FLAGS: [u32; 2] = [0x8008_6601, 0x8004_6601];
const SET_FLAGS: [u32; 2] = [0x4008_6602, 0x4004_6602];
const FLAGS_SIZE: usize = 4;
/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR`, with a `struct fsxattr`: flags, hints, a project.
const GET_EXTENDED: u32 = 0x801c_581f;
const SET_EXTENDED: u32 = 0x401c_5820;
const EXTENDED_SIZE: usize = 28;

/// What an ioctl answers: the bytes that come back, or an errno. ENOTTY for what is not about flags,
/// EOPNOTSUPP for flags that shall be set.
pub fn answer(command: u32, given: &[u8]) -> Result<&'static [u8], Errno> {
    const NOTHING: [u8; EXTENDED_SIZE] = [0; EXTENDED_SIZE];
    let is_nothing = || given.iter().all(|byte| *byte == 0);
    match command {
        _ if GET_FLAGS.contains(&command) => Ok(&NOTHING[..FLAGS_SIZE]),
        GET_EXTENDED => Ok(&NOTHING),
        _ if SET_FLAGS.contains(&command) || command == SET_EXTENDED => match is_nothing() {
            true => Ok(&[]),
            false => Err(Errno::EOPNOTSUPP),
        },
        _ => Err(Errno::ENOTTY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_flags_and_taking_none_away_works() {
        assert_eq!(answer(GET_FLAGS[0], &[]).map(<[u8]>::len), Ok(4));
        assert_eq!(answer(GET_EXTENDED, &[]).map(<[u8]>::len), Ok(28));
        assert_eq!(answer(SET_FLAGS[0], &[0; 4]), Ok(&[][..]));
        assert_eq!(answer(SET_FLAGS[0], &[16, 0, 0, 0]), Err(Errno::EOPNOTSUPP), "chattr +i");
        assert_eq!(answer(SET_EXTENDED, &[1; 28]), Err(Errno::EOPNOTSUPP));
        assert_eq!(answer(0x5401, &[]), Err(Errno::ENOTTY), "TCGETS");
    }
}
