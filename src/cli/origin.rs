//! Which store a folder of the cache is of, for commands that are given only the cache. No secrets.

use super::options::MountArgs;
use super::reach::{ExtraArgs, ReachArgs};
use crate::store::Location;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

const FILE: &str = "origin.json";

/// Where a session was mounted from, and how its store is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    store: String,
    endpoint: Option<String>,
    region: Option<String>,
    profile: Option<String>,
    #[serde(default)]
    virtual_host: bool,
    #[serde(default)]
    extra: ExtraArgs,
}

impl Origin {
    /// Notes it in a session's folder.
    pub fn note(args: &MountArgs, folder: &Path) -> io::Result<()> {
        let ReachArgs { region, profile, virtual_host, extra, .. } = args.reach.clone();
        // A password may stand in front of the host.
        let endpoint = args.reach.known_endpoint().filter(|endpoint| !endpoint.contains('@'));
        let origin = Origin { store: args.store.to_string(), endpoint, region, profile, virtual_host, extra };
        let new = folder.join("origin.new");
        std::fs::write(&new, serde_json::to_vec_pretty(&origin)?)?;
        std::fs::rename(&new, folder.join(FILE))
    }

    /// What was noted, if anything.
    pub fn of(folder: &Path) -> Option<Origin> {
        serde_json::from_slice(&std::fs::read(folder.join(FILE)).ok()?).ok()
    }

    /// The store; `None` where it is none.
    pub fn store(&self) -> Option<Location> {
        Location::parse(&self.store).ok()
    }

    /// As `mount` takes it.
    pub fn name(&self) -> &str {
        &self.store
    }

    /// `reach`, with what was noted where it says nothing.
    pub fn complete(&self, reach: &ReachArgs) -> ReachArgs {
        let mut reach = reach.clone();
        reach.endpoint = reach.known_endpoint().or_else(|| self.endpoint.clone());
        reach.region = reach.region.or_else(|| self.region.clone());
        reach.profile = reach.profile.or_else(|| self.profile.clone());
        reach.virtual_host |= self.virtual_host;
        reach.extra = reach.extra.or(self.extra.clone());
        reach
    }
}
