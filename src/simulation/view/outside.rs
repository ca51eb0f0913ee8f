//! A client of the store that knows nothing of sessions: writes, deletes and changes plain objects.

use super::ledger::{Ledger, Token, text};
use super::site::At;
use super::tree::tokens_of_object;
use crate::log::ids::keys;
use crate::simulation::world::World;
use crate::store::{Condition, PutOptions};
use crate::view::headers::TARGET;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Somebody at a web page.
pub struct Outside {
    pub world: Arc<World>,
    pub ledger: Arc<Ledger>,
}

impl Outside {
    fn put(&self, key: &str, body: Bytes, metadata: BTreeMap<String, String>) {
        self.ledger.take(&tokens_of_object(&self.world, key));
        let options = PutOptions { metadata, ..PutOptions::default() };
        // Without a condition, and past all faults, it does not fail.
        let _ =
            self.world.effect(None, ("put", key), |bucket, now| bucket.put(key, body.clone(), &options, now));
    }

    /// Writes an object, in the place of whatever is there.
    pub fn write(&self, at: At) {
        let token = self.ledger.token("outside");
        let padding = vec![b'o'; self.world.draw(0..=200) as usize];
        let body = [text(token).into_bytes(), padding].concat();
        self.put(&at.key(), body.into(), BTreeMap::new());
        self.told(at, "writes", token);
    }

    /// Writes the bytes of a token that was removed once more.
    pub fn write_again(&self, at: At, token: Token) {
        self.put(&at.key(), text(token).into_bytes().into(), BTreeMap::new());
        self.ledger.again(token);
        self.told(at, "writes", token);
    }

    /// Writes an empty object that is a symlink to a token. In the place of an empty one that somebody has
    /// just looked at, nobody can be sure to see it: an ETag tells of bytes alone, and no store has a condition on the rest.
    pub fn symlink(&self, at: At) {
        let token = self.ledger.token("outside");
        let metadata = BTreeMap::from([(TARGET.to_owned(), text(token))]);
        let unseen = self.world.bucket.lock().hides_empty(&at.key(), self.world.wall());
        self.put(&at.key(), Bytes::new(), metadata);
        self.told(at, "links", token);
        if unseen {
            self.ledger.take(&[token]);
        }
    }

    fn told(&self, at: At, what: &str, token: u64) {
        self.ledger.acknowledge(&[token]);
        self.world.count("outside: writes");
        self.world.note(format_args!("outside {what} {}: {token}", at.key()));
    }

    /// Deletes an object.
    pub fn delete(&self, at: At) {
        let key = at.key();
        let took = tokens_of_object(&self.world, &key);
        self.ledger.take(&took);
        self.world.count("outside: deletes");
        self.world.note(format_args!("outside deletes {key}: {took:?}"));
        // As above.
        let _ = self.world.effect(None, ("delete", &key), |bucket, _| bucket.delete(&key, &Condition::None));
    }

    /// Deletes a folder, as a web page does it: each key below, and the marker.
    pub fn delete_folder(&self, directory: &str) {
        let prefix = format!("{directory}/");
        debug_assert!(!prefix.starts_with(keys::ROOT));
        let keys: Vec<String> = self.world.bucket.lock().below(&prefix).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.ledger.take(&tokens_of_object(&self.world, &key));
            let _ =
                self.world.effect(None, ("delete", &key), |bucket, _| bucket.delete(&key, &Condition::None));
        }
        self.world.note(format_args!("outside deletes {prefix}"));
    }
}
