//! Reaching a store: the options for it, and what keeps a writer away from a store that cannot fence.

use super::exit::Failure;
use super::options::Fencing;
use super::values;
use crate::store::{
    self, Access, Gate, Location, ObjectStore, Opened, S3Options, Stats, StoreOptions, Unfenced,
};
use clap::Args;
use clap::builder::BoolishValueParser;
use std::sync::Arc;
use std::time::Duration;

const STORE: &str = "Store";

/// How a store is reached: the options that every command with a STORE takes.
#[derive(Debug, Clone, Args)]
pub struct ReachArgs {
    /// Bound of every wait for the store
    #[arg(long, env = "CWDFS_TIMEOUT", value_name = "TIME", default_value = "60s",
        value_parser = values::positive_duration, help_heading = STORE)]
    pub timeout: Duration,

    /// An S3 endpoint other than AWS
    #[arg(long, env = "CWDFS_ENDPOINT", value_name = "URL", help_heading = STORE)]
    pub endpoint: Option<String>,

    /// The bucket's region
    #[arg(long, env = "CWDFS_REGION", value_name = "NAME", help_heading = STORE)]
    pub region: Option<String>,

    /// A profile of the AWS configuration files
    #[arg(long, env = "CWDFS_PROFILE", value_name = "NAME", help_heading = STORE)]
    pub profile: Option<String>,

    /// The bucket goes into the host name also with an endpoint
    #[arg(long, env = "CWDFS_VIRTUAL_HOST", help_heading = STORE, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
        value_parser = BoolishValueParser::new(), hide_possible_values = true, hide_default_value = true)]
    pub virtual_host: bool,
}

impl ReachArgs {
    /// As the store takes them.
    pub fn store_options(&self) -> StoreOptions {
        let s3 = S3Options {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            profile: self.profile.clone(),
            virtual_host: self.virtual_host,
            ..S3Options::default()
        };
        StoreOptions { s3, timeout: self.timeout }
    }

    /// The endpoint that will be used, as far as the command line and environment say.
    pub fn known_endpoint(&self) -> Option<String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let given = self.endpoint.clone();
        given.or_else(|| variable("AWS_ENDPOINT_URL_S3")).or_else(|| variable("AWS_ENDPOINT_URL"))
    }

    /// The words of a command line that reaches the same store.
    pub fn words(&self) -> Vec<String> {
        let named = [("endpoint", &self.endpoint), ("region", &self.region), ("profile", &self.profile)];
        let given =
            named.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value.as_ref()?)));
        given.chain(self.virtual_host.then(|| "--virtual-host".to_owned())).collect()
    }
}

/// A store as a mount uses it.
pub struct Reached {
    /// For all use.
    pub store: Arc<dyn ObjectStore>,
    /// What is seen of it.
    pub stats: Arc<Stats>,
    /// Its credentials.
    pub access: Access,
    guard: Guard,
}

/// What stands between a mount and a store that cannot fence.
enum Guard {
    /// A store of our own, which keeps every condition; or a mount that writes nothing.
    NotNeeded,
    /// Writes wait for what a probe finds.
    Gate(Arc<Gate>),
    /// The user does: `--fencing none`.
    User,
}

impl Reached {
    /// Opens a store that is only read.
    pub async fn to_read(location: &Location, reach: &ReachArgs) -> Result<Reached, Failure> {
        let opened = store::open(location, &reach.store_options()).await?;
        let Opened { store, stats, access, .. } = opened;
        Ok(Reached { store, stats, access, guard: Guard::NotNeeded })
    }

    /// Opens a store for a writer.
    pub async fn to_write(
        location: &Location,
        reach: &ReachArgs,
        fencing: Fencing,
    ) -> Result<Reached, Failure> {
        let opened = Reached::to_read(location, reach).await?;
        let (store, guard): (Arc<dyn ObjectStore>, Guard) = match (fencing, location) {
            (Fencing::None, _) => {
                tracing::warn!(
                    "--fencing none: nothing keeps a second writer out; two of them destroy each other's work"
                );
                (Arc::new(Unfenced::new(opened.store)), Guard::User)
            }
            (Fencing::Lease, Location::Dir { .. }) => (opened.store, Guard::NotNeeded),
            (Fencing::Lease, Location::S3 { .. }) => {
                let place = location.server_key(reach.known_endpoint().as_deref());
                let gate = Gate::new(opened.store, place);
                gate.look_ahead();
                (Arc::clone(&gate) as _, Guard::Gate(gate))
            }
        };
        Ok(Reached { store, stats: opened.stats, access: opened.access, guard })
    }

    /// Whether a DELETE takes a condition. A writer that has written knows without asking again.
    pub async fn deletes_with_condition(&self) -> Result<bool, Failure> {
        match &self.guard {
            Guard::NotNeeded => Ok(true),
            Guard::Gate(gate) => Ok(gate.capabilities().await?.conditional_delete),
            Guard::User => Ok(false),
        }
    }
}
