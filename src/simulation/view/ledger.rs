//! Who was promised what: every token that was ever written, whether its writer was told that it is stored, and
//! whether somebody took it away.
//!
//! What has to hold at the end:
//! - a token that was acknowledged, and that nobody took away, is there: on the mount, as [`super::tree`] reads it;
//! - a token that the mount took away, of which that was acknowledged, is not there any more.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};

/// A token's number.
pub type Token = u64;

/// How a token came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// It did not.
    None,
    /// It was replaced or removed where it was seen; whether that counts is not promised.
    Taken,
    /// That was acknowledged.
    Surely,
}

struct Entry {
    by: String,
    acknowledged: bool,
    end: End,
}

/// All tokens.
#[derive(Default)]
pub struct Ledger {
    entries: Mutex<BTreeMap<Token, Entry>>,
}

impl Ledger {
    /// A new one, for `by` to write.
    pub fn token(&self, by: &str) -> Token {
        let mut entries = self.entries.lock();
        let token = entries.len() as Token;
        entries.insert(token, Entry { by: by.to_owned(), acknowledged: false, end: End::None });
        token
    }

    fn each(&self, tokens: &[Token], change: impl Fn(&mut Entry)) {
        let mut entries = self.entries.lock();
        for token in tokens {
            if let Some(entry) = entries.get_mut(token) {
                change(entry);
            }
        }
    }

    /// Their writer was told that they are stored.
    pub fn acknowledge(&self, tokens: &[Token]) {
        self.each(tokens, |entry| entry.acknowledged = true);
    }

    /// Somebody takes away what has them.
    pub fn take(&self, tokens: &[Token]) {
        self.each(tokens, |entry| entry.end = entry.end.max(End::Taken));
    }

    /// The mount that took them away was told that this is stored.
    pub fn surely(&self, tokens: &[Token]) {
        self.each(tokens, |entry| entry.end = End::Surely);
    }

    /// The mount writes a token once more.
    pub fn again(&self, token: Token) {
        self.each(&[token], |entry| (entry.acknowledged, entry.end) = (false, End::None));
    }

    /// What is wrong, if these are all that are there.
    pub fn judge(&self, there: &BTreeSet<Token>) -> Result<(), String> {
        for (token, Entry { by, acknowledged, end }) in self.entries.lock().iter() {
            let wrong = match (there.contains(token), end) {
                (false, End::None) if *acknowledged => "was stored, nobody took it away, and it is nowhere",
                (true, End::Surely) => "was taken away, that was stored, and it is back",
                _ => continue,
            };
            return Err(format!("{} by {by} {wrong}", text(*token)));
        }
        Ok(())
    }
}

/// How a token is written.
pub fn text(token: Token) -> String {
    format!("<{token:06}>")
}

/// The tokens in some bytes.
pub fn tokens(bytes: &[u8]) -> Vec<Token> {
    let mut found = Vec::new();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'<') {
        let digits = bytes.get(at + 1..at + 7).and_then(|digits| std::str::from_utf8(digits).ok());
        let closed = bytes.get(at + 7) == Some(&b'>');
        found.extend(digits.filter(|_| closed).and_then(|digits| digits.parse::<Token>().ok()));
    }
    found
}

#[test]
fn tokens_are_found() {
    let bytes = [b"..<<", text(17).as_bytes(), b"x", text(3).as_bytes(), b"<00000"].concat();
    assert_eq!(tokens(&bytes), [17, 3]);
}
