//! Credentials as any AWS SDK finds them, found again when they end or are refused.
//!
//! Looking may take long, and may hang: it is done on a thread of its own ([`look`]), one look at a time, and what
//! several requests want is looked for once. What somebody handed over serves in the place of all that, until it ends.
//!
//! Invariants: no request waits for a look while there are credentials that the store may take; none waits longer than
//! [`WAIT`]; a failed look is not repeated within [`PAUSE`]; that there are none is logged once.

mod lack;
mod look;
mod state;

pub(super) use lack::Lack;

use super::S3Options;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_s3::config::{Region, SharedHttpClient};
use look::Sources;
use parking_lot::Mutex;
use state::{Found, Now, PAUSE, State};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// How long a request waits for a look: less than it waits for an answer, so that the reason is told.
const WAIT: Duration = Duration::from_secs(10);

/// Makes one look, on a thread of its own; told whether the store has taken earlier credentials.
type MakeLook = dyn Fn(bool) -> Result<Credentials, Lack> + Send + Sync;

struct Shared {
    make: Arc<MakeLook>,
    state: Mutex<State>,
    /// How many looks have ended.
    looks: watch::Sender<u64>,
    /// The store has taken some.
    served: AtomicBool,
    /// It was logged that the store takes none that can be had.
    refusing: AtomicBool,
}

/// The credentials of one store.
pub(super) struct CredentialSource(Arc<Shared>);

impl CredentialSource {
    /// What the options and the environment name; `http` is how network sources are reached.
    pub fn new(options: &S3Options, region: Region, http: SharedHttpClient) -> Self {
        let sources = Sources::new(options, region, http);
        CredentialSource::over(Arc::new(move |served| sources.look(served)))
    }

    fn over(make: Arc<MakeLook>) -> Self {
        let (state, looks) = (Mutex::default(), watch::Sender::new(0));
        let (served, refusing) = (AtomicBool::new(false), AtomicBool::new(false));
        CredentialSource(Arc::new(Shared { make, state, looks, served, refusing }))
    }

    /// Another one, which has these only.
    pub fn with(&self, credentials: Credentials) -> CredentialSource {
        let other = CredentialSource::over(Arc::clone(&self.0.make));
        other.hand(credentials);
        other
    }

    /// When the credentials in use end, if they say so.
    pub fn expiry(&self) -> Option<SystemTime> {
        self.0.state.lock().found.as_ref().and_then(|found| found.credentials.expiry())
    }

    /// Why no new ones can be had just now, and since when that is known.
    pub fn trouble(&self) -> Option<(SystemTime, String)> {
        let state = self.0.state.lock();
        let late = state.looking.map(|since| since.elapsed()).filter(|time| *time > WAIT);
        match late {
            Some(time) => Some((SystemTime::now(), Lack::late(time, self.0.served()).to_string())),
            None => state.lack.as_ref().map(|(at, lack)| (*at, lack.to_string())),
        }
    }

    /// Uses `credentials` from now on, in the place of all other sources until they end.
    pub fn hand(&self, credentials: Credentials) {
        let mut state = self.0.state.lock();
        state.handed = Some(credentials.clone());
        state.found = Some(Found::new(credentials));
        (state.lack, state.told) = (None, false);
    }

    /// The store has answered to them.
    pub fn taken(&self) {
        // Read first: after the first answer nothing changes any more.
        if !self.0.served() {
            self.0.served.store(true, Ordering::Relaxed);
        }
        if self.0.refusing.load(Ordering::Relaxed) {
            self.0.taken_again();
        }
    }

    /// The store has taken some, and those in use are past their end.
    pub fn have_ended(&self) -> bool {
        self.0.served() && self.0.state.lock().found.as_ref().is_some_and(Found::has_ended)
    }

    /// Whether the store has taken some.
    pub fn have_served(&self) -> bool {
        self.0.served()
    }

    /// The store says, in these words, that they have ended: others are looked for.
    pub fn refused(&self, words: &str) {
        let mut state = self.0.state.lock();
        let Some(found) = state.found.as_mut() else { return };
        found.refused = true;
        // Those that were found before may have been replaced already: that is no news.
        let none_better = found.at.elapsed() < PAUSE && self.0.served();
        if none_better && !self.0.refusing.swap(true, Ordering::Relaxed) {
            tracing::warn!(error = words, "the store takes no credentials that can be had; trying again");
        }
    }

    /// The store has refused something: others may be had that it does not refuse.
    pub fn doubted(&self) {
        if let Some(found) = self.0.state.lock().found.as_mut() {
            found.doubted = true;
        }
    }
}

impl Shared {
    fn served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// Says so, unless the answer is to a request from before those in use were refused.
    fn taken_again(&self) {
        let refused = self.state.lock().found.as_ref().is_some_and(|found| found.refused);
        if !refused && self.refusing.swap(false, Ordering::Relaxed) {
            tracing::info!("the store takes the credentials again");
        }
    }

    async fn credentials(self: &Arc<Self>) -> Result<Credentials, Lack> {
        let mut looks = self.looks.subscribe();
        match self.now() {
            Now::Signs(credentials) => return Ok(credentials),
            Now::Fails(lack) => return Err(lack),
            Now::Waits => {}
        }
        let since = self.state.lock().looking;
        let left = since.map_or(Duration::ZERO, |since| WAIT.saturating_sub(since.elapsed()));
        let ended = tokio::time::timeout(left, looks.changed()).await.is_ok();
        let mut state = self.state.lock();
        if let Some(found) = state.usable() {
            return Ok(found.credentials.clone());
        }
        let lack = match state.lack.as_ref().filter(|_| ended || state.looking.is_none()) {
            Some((_, lack)) => lack.clone(),
            None => Lack::late(state.looking.map_or(WAIT, |since| since.elapsed()), self.served()),
        };
        state.tell(&lack);
        Err(lack)
    }

    fn now(self: &Arc<Self>) -> Now {
        let mut state = self.state.lock();
        let (now, look) = state.consider();
        let begins = look && state.looking.is_none();
        if begins {
            state.looking = Some(Instant::now());
        }
        drop(state);
        if begins {
            self.begin();
        }
        now
    }

    fn begin(self: &Arc<Self>) {
        let shared = Arc::clone(self);
        let begun = std::thread::Builder::new().name("cwdfs-keys".into()).spawn(move || {
            let broken = Err(Lack::trouble("looking for them broke off", shared.served()));
            let mut look = Look { shared, result: Some(broken) };
            look.result = Some((look.shared.make)(look.shared.served()));
        });
        if let Err(error) = begun {
            self.ended(Err(Lack::trouble(&format!("no thread to look for them: {error}"), self.served())));
        }
    }

    fn ended(&self, result: Result<Credentials, Lack>) {
        let mut state = self.state.lock();
        (state.looking, state.looked) = (None, Some(Instant::now()));
        match result {
            // Handed over meanwhile: those serve.
            Ok(_) if state.handed().is_some() => {}
            Ok(credentials) => {
                state.found = Some(Found::new(credentials));
                state.lack = None;
                if std::mem::take(&mut state.told) {
                    tracing::info!("new credentials were found");
                }
            }
            Err(lack) => {
                // Who never had any is told by the request that fails.
                if self.served() {
                    state.tell(&lack);
                }
                state.lack = Some((SystemTime::now(), lack));
            }
        }
        drop(state);
        self.looks.send_modify(|looks| *looks += 1);
    }
}

/// A look under way: however it ends, those who wait are told.
struct Look {
    shared: Arc<Shared>,
    result: Option<Result<Credentials, Lack>>,
}

impl Drop for Look {
    fn drop(&mut self) {
        if let Some(result) = self.result.take() {
            self.shared.ended(result);
        }
    }
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialSource").finish_non_exhaustive()
    }
}

impl ProvideCredentials for CredentialSource {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.0.credentials().await.map_err(CredentialsError::provider_error)
        })
    }
}

#[cfg(test)]
mod tests;
