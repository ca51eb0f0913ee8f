//! Credentials that somebody hands over: tried first, then used.

use super::S3Store;
use crate::store::{Handed, Keys, Kind, ObjectStore, Result, StoreError};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_s3::Client;
use std::sync::Arc;
use std::time::Duration;

/// How long the store may take to say whether it takes them.
const PATIENCE: Duration = Duration::from_secs(20);

impl Keys {
    fn credentials(&self) -> Credentials {
        let (id, secret, token) = (&self.access_key_id, &self.secret_access_key, self.session_token.clone());
        Credentials::new(id, secret, token, self.expiration, "handed over")
    }
}

impl S3Store {
    /// Uses `keys` from now on. The store is asked first for one name below the prefix; what it refuses is not used.
    pub async fn hand(&self, keys: &Keys) -> Result<Handed> {
        let trial = self.with(keys.credentials());
        let asked = tokio::time::timeout(PATIENCE, trial.list("", None, 1)).await;
        let late = || StoreError::new(Kind::Timeout, "list", "", format!("no answer within {PATIENCE:?}"));
        let handed = match asked.unwrap_or_else(|_| Err(late())) {
            Ok(_) => Handed::Accepted,
            Err(error) if error.kind.is_retryable() => Handed::Unchecked(error),
            Err(error) => return Err(error),
        };
        self.credentials.hand(keys.credentials());
        Ok(handed)
    }

    /// The same store, entered with `credentials`.
    fn with(&self, credentials: Credentials) -> S3Store {
        let source = Arc::new(self.credentials.with(credentials));
        let provider = Arc::clone(&source) as Arc<dyn ProvideCredentials>;
        let config = self.client.config().to_builder().credentials_provider(provider).build();
        self.over(Client::from_conf(config), source, self.prefix.clone())
    }
}
