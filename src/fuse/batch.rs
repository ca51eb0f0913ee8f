//! What `cwdfs batch` and the daemon say to each other: an ioctl on any directory of the mount.
//!
//! Not the control socket, which answers only the daemon's own user: who may change files here may batch, and of an
//! ioctl the kernel itself says which process asks, in the daemon's pid namespace.
//!
//! Both ways a buffer of [`SIZE`] bytes goes over, with JSON in it and zeros behind.

use crate::session::api::{Caller, Outcome};
use crate::session::{Session, SessionError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::sync::Arc;

/// Of what is asked and of what is answered.
pub const SIZE: usize = 2048;
/// The longest message of a failure.
const LONGEST: usize = 1024;
/// The ioctl's number, as `_IOWR('c', 0xba, [u8; SIZE])`.
pub const COMMAND: u32 = rustix::ioctl::opcode::read_write::<[u8; SIZE]>(b'c', 0xba);

/// What a wrapper asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// Begin a batch of this process.
    Begin {
        /// fsync does not wait in it either.
        fsync: bool,
    },
    /// End it, and wait until all that was closed in it is in the store.
    End {
        /// Which.
        id: u64,
    },
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Told {
    /// It has begun.
    Begun {
        /// Its number.
        id: u64,
    },
    /// Everything is in the store.
    Stored,
    /// It could not be done.
    Failed {
        /// What a call would have failed with.
        errno: i32,
        /// For people.
        message: String,
    },
}

/// In a buffer; `None` of what does not fit.
pub fn encode(words: &impl Serialize) -> Option<[u8; SIZE]> {
    let json = serde_json::to_vec(words).ok()?;
    let mut buffer = [0; SIZE];
    buffer.get_mut(..json.len())?.copy_from_slice(&json);
    Some(buffer)
}

/// Out of a buffer; `None` of what makes no sense.
pub fn decode<T: DeserializeOwned>(buffer: &[u8]) -> Option<T> {
    let end = buffer.iter().position(|byte| *byte == 0).unwrap_or(buffer.len());
    serde_json::from_slice(&buffer[..end]).ok()
}

/// Does what a wrapper asks.
pub(super) fn answer(session: &Arc<Session>, caller: Caller, asked: &[u8]) -> Outcome<Vec<u8>> {
    match decode(asked) {
        None => Outcome::Ready(Err(SessionError::Errno(libc::EINVAL))),
        Some(Ask::Begin { fsync }) => {
            Outcome::Ready(tell(session.begin_batch(caller, fsync).map(|id| Told::Begun { id })))
        }
        Some(Ask::End { id }) => match session.end_batch(caller, id) {
            Outcome::Ready(ended) => Outcome::Ready(tell(ended.map(|()| Told::Stored))),
            Outcome::Later(wait) => {
                Outcome::Later(Box::pin(async move { tell(wait.await.map(|()| Told::Stored)) }))
            }
        },
    }
}

/// A failure is an answer too: its words reach whoever asked.
fn tell(done: Result<Told, SessionError>) -> Result<Vec<u8>, SessionError> {
    let told = done.unwrap_or_else(|error| {
        let mut message = error.to_string();
        message.truncate(message.floor_char_boundary(LONGEST));
        Told::Failed { errno: error.errno(), message }
    });
    // With every character escaped it may be too long after all.
    let too_long = || Told::Failed { errno: libc::EIO, message: "the reason is too long to be told".into() };
    let buffer = encode(&told).or_else(|| encode(&too_long()));
    buffer.map(Vec::from).ok_or(SessionError::Errno(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_and_nonsense_does_not() {
        assert_eq!(COMMAND, 0xc800_63ba);
        let asked = Ask::End { id: 7 };
        assert_eq!(decode(&encode(&asked).expect("it fits")), Some(asked));
        assert_eq!(decode::<Ask>(&[0; SIZE]), None);
        assert_eq!(decode::<Ask>(br#"{"ask":"dance"}"#), None);
        assert_eq!(decode::<Ask>(br#"{"ask":"begin","fsync":true,"more":1}"#), None, "a newer one's");
    }

    #[test]
    fn a_reason_of_any_length_is_told() {
        for character in ["x", "é", "\u{1}"] {
            let failed = SessionError::NoBatch(character.repeat(5000));
            let buffer = tell(Err(failed)).expect("an answer");
            assert_eq!(buffer.len(), SIZE);
            let told = decode::<Told>(&buffer).expect("it makes sense");
            let Told::Failed { message, .. } = told else { panic!("{told:?}") };
            assert!(message.starts_with(character) || message.contains("too long"), "{message}");
        }
    }
}
