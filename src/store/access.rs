//! What a store is entered with: when it ends, and other keys in its place.

use super::{Kind, Result, S3Store, StoreError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Credentials that somebody hands over. They are never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// Which key it is; not secret in itself.
    pub access_key_id: String,
    /// What requests are signed with.
    pub secret_access_key: String,
    /// For those that end.
    pub session_token: Option<String>,
    /// When they end, where that is known.
    pub expiration: Option<SystemTime>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("expiration", &self.expiration).finish_non_exhaustive()
    }
}

/// What became of keys that were handed over and are in use now.
#[derive(Debug)]
pub enum Handed {
    /// The store has answered to them.
    Accepted,
    /// The store could not be asked, for this reason.
    Unchecked(StoreError),
}

/// The way into one store.
#[derive(Clone)]
pub struct Access {
    /// `None`: a directory, which is entered by its permissions.
    s3: Option<Arc<S3Store>>,
}

impl Access {
    pub(super) fn new(s3: Option<Arc<S3Store>>) -> Access {
        Access { s3 }
    }

    /// When the credentials in use end, if known.
    pub fn expiry(&self) -> Option<SystemTime> {
        self.s3.as_ref().and_then(|store| store.credential_expiry())
    }

    /// Why no new credentials can be had just now, and since when that is known.
    pub fn trouble(&self) -> Option<(SystemTime, String)> {
        self.s3.as_ref().and_then(|store| store.credential_trouble())
    }

    /// Uses `keys` from now on, in the place of all other sources until they end. Keys that the store refuses are
    /// an error, and change nothing.
    pub async fn hand(&self, keys: &Keys) -> Result<Handed> {
        match &self.s3 {
            Some(store) => store.hand(keys).await,
            None => {
                let why = "this session is in a directory: no credentials are used";
                Err(StoreError::new(Kind::Unsupported, "credentials", "", why))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_never_shown() {
        let keys = Keys {
            access_key_id: "AKIA-shown".into(),
            secret_access_key: "hunter2".into(),
            session_token: Some("hunter3".into()),
            expiration: None,
        };
        let shown = format!("{keys:?}");
        assert!(!shown.contains("hunter") && !shown.contains("AKIA"), "{shown}");
    }
}
