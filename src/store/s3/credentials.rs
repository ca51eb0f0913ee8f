//! Credentials as any AWS SDK finds them, found again when they expire or are refused.
//!
//! The SDK's own chain reads a profile once and keeps it: a file rewritten by another program would not be
//! seen. So the chain is made anew for each look, and what it gave is kept here. What somebody handed over serves in
//! its place, until it ends.

use super::S3Options;
use aws_config::BehaviorVersion;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::config::Region;
use parking_lot::Mutex;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How long before their end credentials are renewed, where they can be.
const EARLY: Duration = Duration::from_secs(300);

/// How long credentials without a stated end are kept.
const KEEP: Duration = Duration::from_secs(900);

/// The least time between two looks, unless there are no credentials at all.
const PAUSE: Duration = Duration::from_secs(2);

/// How long a look may take: the network is part of it (web identity, IMDS).
const PATIENCE: Duration = Duration::from_secs(20);

struct Found {
    credentials: Credentials,
    at: Instant,
    refused: bool,
}

impl Found {
    fn ends_within(&self, time: Duration) -> bool {
        self.credentials.expiry().is_some_and(|end| end < SystemTime::now() + time)
    }

    fn is_good(&self) -> bool {
        let fresh = self.at.elapsed() < PAUSE;
        fresh || !(self.refused || self.ends_within(EARLY) || self.at.elapsed() > KEEP)
    }
}

/// The credentials of one store.
pub(super) struct CredentialSource {
    profile: Option<String>,
    file: Option<PathBuf>,
    region: Region,
    found: Mutex<Option<Found>>,
    /// What somebody handed over.
    handed: Mutex<Option<Credentials>>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
}

impl CredentialSource {
    pub fn new(options: &S3Options, region: Region) -> Self {
        CredentialSource {
            profile: options.profile.clone(),
            file: options.credentials_file.clone(),
            region,
            found: Mutex::new(None),
            handed: Mutex::new(None),
            looking: tokio::sync::Mutex::new(()),
        }
    }

    /// When the credentials in use end, if they say so.
    pub fn expiry(&self) -> Option<SystemTime> {
        self.found.lock().as_ref().and_then(|found| found.credentials.expiry())
    }

    /// Uses `credentials` from now on, in the place of all other sources until they end.
    pub fn hand(&self, credentials: Credentials) {
        *self.handed.lock() = Some(credentials.clone());
        *self.found.lock() = Some(Found { credentials, at: Instant::now(), refused: false });
    }

    fn handed(&self) -> Option<Credentials> {
        let ends_later = |c: &Credentials| c.expiry().is_none_or(|end| end > SystemTime::now());
        self.handed.lock().clone().filter(ends_later)
    }

    /// The store refused the credentials: the next request looks for others.
    pub fn refused(&self) {
        if let Some(found) = self.found.lock().as_mut() {
            found.refused = true;
        }
    }

    fn good(&self) -> Option<Credentials> {
        self.found.lock().as_ref().filter(|found| found.is_good()).map(|found| found.credentials.clone())
    }

    async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        if let Some(credentials) = self.good() {
            return Ok(credentials);
        }
        let _looking = self.looking.lock().await;
        if let Some(credentials) = self.good() {
            return Ok(credentials);
        }
        let looked = tokio::time::timeout(PATIENCE, self.look()).await;
        match looked.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(PATIENCE))) {
            Ok(credentials) => {
                let found = Found { credentials: credentials.clone(), at: Instant::now(), refused: false };
                *self.found.lock() = Some(found);
                Ok(credentials)
            }
            Err(error) => self.go_on_with_old(error),
        }
    }

    /// Credentials that could not be renewed serve until they end.
    fn go_on_with_old(&self, error: CredentialsError) -> Result<Credentials, CredentialsError> {
        let found = self.found.lock();
        match found.as_ref().filter(|found| !found.ends_within(Duration::ZERO)) {
            Some(found) => {
                tracing::warn!("credentials could not be renewed, going on with the old ones: {error}");
                Ok(found.credentials.clone())
            }
            None => Err(error),
        }
    }

    async fn look(&self) -> Result<Credentials, CredentialsError> {
        if let Some(handed) = self.handed() {
            return Ok(handed);
        }
        if let Some(file) = &self.file {
            return self.look_in(file).await;
        }
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(self.region.clone());
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        let config = loader.load().await;
        let Some(provider) = config.credentials_provider() else {
            return Err(CredentialsError::not_loaded("no credentials are configured"));
        };
        provider.provide_credentials().await
    }

    async fn look_in(&self, file: &Path) -> Result<Credentials, CredentialsError> {
        let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, file).build();
        let mut provider = ProfileFileCredentialsProvider::builder().profile_files(files);
        if let Some(profile) = &self.profile {
            provider = provider.profile_name(profile);
        }
        provider.build().provide_credentials().await
    }
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialSource").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl ProvideCredentials for CredentialSource {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}
