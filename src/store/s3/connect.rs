//! The SDK's client for one store: endpoint, region, credentials, connections.

use super::credentials::CredentialSource;
use super::extra::{AddHeaders, Extra};
use super::guard::GuardBodies;
use crate::store::{Kind, Result, StoreError};
use aws_config::default_provider::region::DefaultRegionChain;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::ProvideRegion;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The region of stores that have none.
const NO_REGION: &str = "us-east-1";

/// Idle connections are closed before servers and load balancers do so on their side (the least is 20 s).
const IDLE: Duration = Duration::from_secs(12);

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How a store on S3 is reached, beyond what environment and profile say.
#[derive(Debug, Clone, Default)]
pub struct S3Options {
    /// `http://host:port`; else `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` or the profile's, else AWS.
    pub endpoint: Option<String>,
    /// Else that of the environment or the profile; `us-east-1` where an endpoint is given and no region.
    pub region: Option<String>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
    /// A file in the format of `~/.aws/credentials`, in place of all other sources of credentials.
    pub credentials_file: Option<PathBuf>,
    /// Put the bucket in the host name also where an endpoint is given.
    pub virtual_host: bool,
    /// What goes with requests beyond what they ask.
    pub extra: Extra,
}

/// A client, what goes with it, and how a person names the server.
pub(super) struct Connected {
    pub client: Client,
    pub credentials: Arc<CredentialSource>,
    pub server: String,
}

/// Makes a client; nothing is sent to the store.
pub(super) async fn connect(options: &S3Options, name: &str) -> Result<Connected> {
    let invalid = |message: String| StoreError::new(Kind::Invalid, "open", name, message);
    if let Some(endpoint) = &options.endpoint {
        check_endpoint(endpoint).map_err(invalid)?;
    }
    let tls = tls().map_err(invalid)?;
    let shared = shared_config(options).await;
    let given = std::env::var("AWS_ENDPOINT_URL_S3").ok().filter(|url| !url.is_empty());
    let endpoint = options.endpoint.clone().or(given).or_else(|| shared.endpoint_url().map(str::to_owned));
    let has_endpoint = endpoint.is_some();
    let region = region(options, has_endpoint).await;
    let server = endpoint.unwrap_or_else(|| format!("S3 in {region}"));
    let credentials =
        Arc::new(CredentialSource::new(options, region.clone(), client_of_sources(tls.clone())));
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .region(region)
        .credentials_provider(Arc::clone(&credentials) as Arc<dyn ProvideCredentials>)
        .http_client(http_client(tls))
        // The source of credentials keeps them itself.
        .identity_cache(IdentityCache::no_cache())
        // Retries are the wrapper's, which knows how long it may take.
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .interceptor(GuardBodies)
        // Else uploads are sent in signed chunks with trailers, which other stores than AWS refuse.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if has_endpoint {
        config = config.force_path_style(!options.virtual_host);
    }
    if let Some(endpoint) = &options.endpoint {
        config = config.endpoint_url(endpoint);
    }
    if !options.extra.is_none() {
        config = config.interceptor(AddHeaders(options.extra.clone()));
    }
    Ok(Connected { client: Client::from_conf(config.build()), credentials, server })
}

async fn shared_config(options: &S3Options) -> SdkConfig {
    // The region is looked for below, where it is known whether asking IMDS for it makes sense.
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(Region::new(NO_REGION));
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(endpoint) = &options.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    loader.load().await
}

async fn region(options: &S3Options, has_endpoint: bool) -> Region {
    if let Some(region) = &options.region {
        return Region::new(region.clone());
    }
    let found = if has_endpoint {
        // Without IMDS: off AWS it would be waited for in vain.
        let mut profile = ProfileFileRegionProvider::builder();
        if let Some(name) = &options.profile {
            profile = profile.profile_name(name);
        }
        match EnvironmentVariableRegionProvider::new().region().await {
            Some(region) => Some(region),
            None => profile.build().region().await,
        }
    } else {
        let mut chain = DefaultRegionChain::builder();
        if let Some(name) = &options.profile {
            chain = chain.profile_name(name);
        }
        chain.build().region().await
    };
    found.unwrap_or(Region::from_static(NO_REGION))
}

fn check_endpoint(endpoint: &str) -> std::result::Result<(), String> {
    let host = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.starts_with('/') && !host.contains(char::is_whitespace) => {
            Ok(())
        }
        _ => Err(format!("the endpoint {endpoint:?} is not of the form http://host:port or https://host")),
    }
}

fn tls() -> std::result::Result<TlsContext, String> {
    let mut trust = TrustStore::default();
    if let Some(path) = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()) {
        let pem = std::fs::read(&path)
            .map_err(|error| format!("AWS_CA_BUNDLE={}: {error}", path.to_string_lossy()))?;
        trust = trust.with_pem_certificate(pem);
    }
    let tls = TlsContext::builder().with_trust_store(trust).build();
    tls.map_err(|error| format!("TLS cannot be set up: {error}"))
}

/// For the store.
fn http_client(tls: TlsContext) -> SharedHttpClient {
    // All requests share one pool of connections.
    let connector = OnceLock::new();
    http_client_fn(move |settings, components| {
        // HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY.
        let connect = || connector_by(ProxyConfig::from_env(), &tls, settings, components);
        connector.get_or_init(connect).clone()
    })
}

/// For the sources of credentials: each look makes connections of its own, as it has a runtime of its own.
fn client_of_sources(tls: TlsContext) -> SharedHttpClient {
    http_client_fn(move |settings, components| {
        let by = |proxy| connector_by(proxy, &tls, settings, components);
        let (near, far) = (by(ProxyConfig::disabled()), by(ProxyConfig::from_env()));
        SharedHttpConnector::new(NearAndFar { near, far })
    })
}

fn connector_by(
    proxy: ProxyConfig,
    tls: &TlsContext,
    settings: &HttpConnectorSettings,
    components: &RuntimeComponents,
) -> SharedHttpConnector {
    let mut builder = Connector::builder()
        .pool_idle_timeout(IDLE)
        .proxy_config(proxy)
        .connector_settings(settings.clone())
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(tls.clone());
    builder.set_sleep_impl(components.sleep_impl());
    SharedHttpConnector::new(builder.build())
}

/// What serves this machine alone (a container's endpoint, IMDS) is not asked through a proxy.
#[derive(Debug)]
struct NearAndFar {
    near: SharedHttpConnector,
    far: SharedHttpConnector,
}

impl HttpConnector for NearAndFar {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match is_near(request.uri()) {
            true => self.near.call(request),
            false => self.far.call(request),
        }
    }
}

/// Whether a URL's host is this machine, or of a range that no router passes on.
fn is_near(url: &str) -> bool {
    let after = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = after.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next(),
        None => authority.split(':').next(),
    };
    match host.unwrap_or_default().parse() {
        Ok(IpAddr::V4(v4)) => v4.is_loopback() || v4.is_link_local(),
        // IMDS has a unique local address there.
        Ok(IpAddr::V6(v6)) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unique_local(),
        Err(_) => host == Some("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::{check_endpoint, is_near};

    #[test]
    fn what_serves_one_machine_is_known() {
        for near in [
            "http://169.254.170.2/v2/credentials",
            "http://169.254.169.254:80/latest",
            "http://127.0.0.1:1234",
            "http://localhost:1/x",
            "http://[fd00:ec2::254]/x",
            "http://[::1]:1/",
        ] {
            assert!(is_near(near), "{near}");
        }
        for far in [
            "https://sts.amazonaws.com/",
            "http://10.0.0.1/",
            "http://[2001:db8::1]:443/",
            "localhost.example",
            "",
        ] {
            assert!(!is_near(far), "{far}");
        }
    }

    #[test]
    fn endpoints_are_checked_before_use() {
        for good in ["http://127.0.0.1:8333", "https://s3.example.com", "https://example.com/s3"] {
            assert_eq!(check_endpoint(good), Ok(()), "{good}");
        }
        for bad in ["", "localhost:8333", "ftp://host", "http://", "http:///x", "http://a b"] {
            assert!(check_endpoint(bad).is_err(), "{bad}");
        }
    }
}
