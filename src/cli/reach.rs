//! Reaching a store: the options for it, and what keeps a writer away from a store that cannot fence.

use super::exit::Failure;
use super::options::Fencing;
use super::values;
use crate::store::{
    self, Access, Encryption, Extra, Gate, Location, ObjectStore, Opened, S3Options, Stats, StoreOptions,
    Unfenced,
};
use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
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

    #[command(flatten)]
    pub extra: ExtraArgs,
}

/// What goes with requests beyond what they ask.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct ExtraArgs {
    /// How the store encrypts what is written; without it, as the bucket says
    #[arg(long, env = "CWDFS_SSE", value_name = "KIND", help_heading = STORE)]
    pub sse: Option<Sse>,

    /// The KMS key that it encrypts with; without it, the account's for S3
    #[arg(long, env = "CWDFS_SSE_KMS_KEY_ID", value_name = "ID", help_heading = STORE)]
    pub sse_kms_key_id: Option<String>,

    /// The account that the bucket must belong to
    #[arg(long, env = "CWDFS_EXPECTED_BUCKET_OWNER", value_name = "ACCOUNT", help_heading = STORE)]
    pub expected_bucket_owner: Option<String>,

    /// Requests and downloads are charged to who asks, not to the bucket's owner
    #[arg(long, env = "CWDFS_REQUESTER_PAYS", help_heading = STORE, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
        value_parser = BoolishValueParser::new(), hide_possible_values = true, hide_default_value = true)]
    pub requester_pays: bool,
}

/// A kind of encryption on the server's side, in the words of the AWS command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Sse {
    /// With keys of the store (SSE-S3)
    #[value(name = "AES256", alias = "aes256")]
    Aes256,
    /// With a key of the key management service (SSE-KMS)
    #[value(name = "aws:kms")]
    Kms,
    /// The same in two layers (DSSE-KMS)
    #[value(name = "aws:kms:dsse")]
    KmsTwice,
}

impl ExtraArgs {
    /// As the store takes them. A key alone says that there is one.
    fn extra(&self) -> Extra {
        let key = self.sse_kms_key_id.clone();
        let encryption = match self.sse {
            Some(Sse::Aes256) => Some(Encryption::Aes256),
            Some(Sse::Kms) => Some(Encryption::Kms { key, twice: false }),
            Some(Sse::KmsTwice) => Some(Encryption::Kms { key, twice: true }),
            None => key.map(|key| Encryption::Kms { key: Some(key), twice: false }),
        };
        let bucket_owner = self.expected_bucket_owner.clone();
        Extra { encryption, bucket_owner, requester_pays: self.requester_pays }
    }

    fn words(&self) -> Vec<String> {
        let sse = self.sse.and_then(|sse| Some(sse.to_possible_value()?.get_name().to_owned()));
        let named = [
            ("sse", &sse),
            ("sse-kms-key-id", &self.sse_kms_key_id),
            ("expected-bucket-owner", &self.expected_bucket_owner),
        ];
        let given =
            named.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value.as_ref()?)));
        given.chain(self.requester_pays.then(|| "--requester-pays".to_owned())).collect()
    }

    /// These, and `others` where these say nothing.
    pub fn or(self, others: ExtraArgs) -> ExtraArgs {
        ExtraArgs {
            sse: self.sse.or(others.sse),
            sse_kms_key_id: self.sse_kms_key_id.or(others.sse_kms_key_id),
            expected_bucket_owner: self.expected_bucket_owner.or(others.expected_bucket_owner),
            requester_pays: self.requester_pays || others.requester_pays,
        }
    }
}

impl ReachArgs {
    /// As the store takes them.
    pub fn store_options(&self) -> StoreOptions {
        let s3 = S3Options {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            profile: self.profile.clone(),
            virtual_host: self.virtual_host,
            extra: self.extra.extra(),
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
        let virtual_host = self.virtual_host.then(|| "--virtual-host".to_owned());
        given.chain(virtual_host).chain(self.extra.words()).collect()
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
