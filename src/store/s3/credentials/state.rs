//! What is known of the credentials, and what follows for a request.

use super::Lack;
use aws_credential_types::Credentials;
use std::time::{Duration, Instant, SystemTime};

/// How long before their end credentials are renewed, where they can be.
const EARLY: Duration = Duration::from_secs(300);

/// How long credentials without a stated end are kept.
const KEEP: Duration = Duration::from_secs(900);

/// The least time between two looks where there is nothing to sign with.
pub(super) const PAUSE: Duration = Duration::from_secs(2);

/// The most between two looks where there is.
const LONG_PAUSE: Duration = Duration::from_secs(30);

/// The least time between two looks because of refusals that others may not get either.
const DOUBT_PAUSE: Duration = Duration::from_secs(10);

/// Credentials that a look has found, or somebody handed over.
pub(super) struct Found {
    pub credentials: Credentials,
    pub at: Instant,
    /// The store has said that they have ended.
    pub refused: bool,
    /// The store has refused something, which may be their fault.
    pub doubted: bool,
}

impl Found {
    pub fn new(credentials: Credentials) -> Found {
        Found { credentials, at: Instant::now(), refused: false, doubted: false }
    }

    /// Time until the end that they state; zero once it is past.
    fn left(&self) -> Option<Duration> {
        let left = |end: SystemTime| end.duration_since(SystemTime::now()).unwrap_or_default();
        self.credentials.expiry().map(left)
    }

    pub fn has_ended(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// Whether the store may take them: right after a look it is asked, whatever they state.
    fn is_usable(&self) -> bool {
        self.at.elapsed() < PAUSE || !self.refused && !self.has_ended()
    }

    /// How long after the last look others are to be looked for meanwhile; `None`: not yet.
    fn renewed_after(&self) -> Option<Duration> {
        match self.left() {
            _ if self.doubted => Some(DOUBT_PAUSE),
            Some(left) if left < EARLY => Some((left / 10).clamp(PAUSE, LONG_PAUSE)),
            _ => (self.at.elapsed() > KEEP).then_some(LONG_PAUSE),
        }
    }
}

/// All that is known.
#[derive(Default)]
pub(super) struct State {
    pub found: Option<Found>,
    /// What somebody handed over.
    pub handed: Option<Credentials>,
    /// Since when a look is under way.
    pub looking: Option<Instant>,
    /// When the last one ended.
    pub looked: Option<Instant>,
    /// Why the last one found nothing, and when.
    pub lack: Option<(SystemTime, Lack)>,
    /// It was logged that there is a lack.
    pub told: bool,
}

/// What a request does.
pub(super) enum Now {
    Signs(Credentials),
    Fails(Lack),
    Waits,
}

impl State {
    pub fn handed(&self) -> Option<&Credentials> {
        let ends_later = |c: &&Credentials| c.expiry().is_none_or(|end| end > SystemTime::now());
        self.handed.as_ref().filter(ends_later)
    }

    pub fn usable(&self) -> Option<&Found> {
        self.found.as_ref().filter(|found| found.is_usable())
    }

    /// What a request does now, and whether credentials are to be looked for.
    pub fn consider(&mut self) -> (Now, bool) {
        let rested = |pause| self.looked.is_none_or(|at| at.elapsed() >= pause);
        if let Some(found) = self.usable() {
            let due = found.renewed_after().is_some_and(rested) && self.handed().is_none();
            return (Now::Signs(found.credentials.clone()), due);
        }
        if let Some(handed) = self.handed().cloned() {
            self.found = Some(Found::new(handed.clone()));
            return (Now::Signs(handed), false);
        }
        match &self.lack {
            Some((_, lack)) if !rested(PAUSE) => (Now::Fails(lack.clone()), false),
            _ => (Now::Waits, true),
        }
    }

    /// Says once that there is a lack.
    pub fn tell(&mut self, lack: &Lack) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(error = %lack, "no new credentials can be had; trying again");
        }
    }
}
