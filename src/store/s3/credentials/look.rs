//! One look for credentials: the chain of sources that any AWS SDK has.
//!
//! The SDK's chain reads a profile once and keeps it: a file rewritten by another program would not be seen. So it is
//! made anew for each look.
//!
//! Invariant: a look ends in time, and so does what it has started.

use super::Lack;
use crate::store::s3::S3Options;
use aws_config::BehaviorVersion;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::config::{Region, SharedHttpClient};
use rustix::process::{Pid, Signal, WaitOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long a look may take: processes and the network are part of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where credentials are looked for.
pub(super) struct Sources {
    profile: Option<String>,
    file: Option<PathBuf>,
    region: Region,
    http: SharedHttpClient,
}

impl Sources {
    pub fn new(options: &S3Options, region: Region, http: SharedHttpClient) -> Sources {
        let (profile, file) = (options.profile.clone(), options.credentials_file.clone());
        Sources { profile, file, region, http }
    }

    /// Looks on this thread, which has nothing else to do: what it has started and does not end is killed. `served`:
    /// the store has taken earlier ones.
    pub fn look(&self, served: bool) -> Result<Credentials, Lack> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime
            .map_err(|error| Lack::trouble(&format!("nothing runs to look for them: {error}"), served))?;
        let looked = runtime.block_on(async { tokio::time::timeout(PATIENCE, self.search()).await });
        runtime.shutdown_background();
        match looked {
            Ok(found) => found.and_then(whole).map_err(|error| Lack::of(&error, served)),
            Err(_) => {
                end_children();
                Err(Lack::late(PATIENCE, served))
            }
        }
    }

    async fn search(&self) -> Result<Credentials, CredentialsError> {
        if let Some(file) = &self.file {
            return self.search_in(file).await;
        }
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(self.region.clone())
            .http_client(self.http.clone());
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        let config = loader.load().await;
        let Some(provider) = config.credentials_provider() else {
            return Err(CredentialsError::not_loaded("no credentials are configured"));
        };
        provider.provide_credentials().await
    }

    async fn search_in(&self, file: &Path) -> Result<Credentials, CredentialsError> {
        let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, file).build();
        let mut provider = ProfileFileCredentialsProvider::builder().profile_files(files);
        if let Some(profile) = &self.profile {
            provider = provider.profile_name(profile);
        }
        provider.build().provide_credentials().await
    }
}

/// The SDK makes up what an answer of STS that broke off does not have.
fn whole(found: Credentials) -> Result<Credentials, CredentialsError> {
    let is_part = found.access_key_id().is_empty()
        || found.secret_access_key().is_empty()
        || found.expiry() == Some(SystemTime::UNIX_EPOCH);
    match is_part {
        true => Err(CredentialsError::provider_error("what the source gave is not whole")),
        false => Ok(found),
    }
}

/// Kills what this thread has started, and what that has: a `credential_process` that hangs, which the SDK only forgets.
fn end_children() {
    for child in children("/proc/thread-self/children") {
        let mut family = vec![child];
        let mut at = 0;
        while let Some(pid) = family.get(at).map(|pid| pid.as_raw_nonzero()) {
            family.extend(children(&format!("/proc/{pid}/task/{pid}/children")));
            at += 1;
        }
        for pid in family {
            // One that has ended by itself is as good.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        let _ = rustix::process::waitpid(Some(child), WaitOptions::empty());
    }
}

/// The processes that such a file of /proc names; none where the kernel has no such files.
fn children(file: &str) -> Vec<Pid> {
    let listed = std::fs::read_to_string(file).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Instant;

    #[test]
    fn credentials_of_which_a_part_is_missing_are_none() {
        let keys = |id: &str, secret: &str, end| whole(Credentials::new(id, secret, None, end, "test"));
        assert!(keys("id", "secret", None).is_ok());
        assert!(keys("id", "secret", Some(SystemTime::now())).is_ok());
        assert!(keys("", "secret", None).is_err());
        assert!(keys("id", "", None).is_err());
        let lack =
            keys("id", "hunter2", Some(SystemTime::UNIX_EPOCH)).map_err(|error| Lack::of(&error, true));
        assert!(lack.is_err_and(|lack| lack.to_string().contains("not whole")));
    }

    #[test]
    fn what_a_thread_has_started_ends_with_all_that_it_started() {
        let (mine, others) = std::thread::scope(|scope| {
            let elsewhere = Command::new("sleep").arg("60").spawn().expect("sleep");
            let looking = scope.spawn(|| {
                let mut shell = Command::new("sh").args(["-c", "sleep 60; true"]).spawn().expect("sh");
                let begun = Instant::now();
                let below = format!("/proc/{0}/task/{0}/children", shell.id());
                while children(&below).is_empty() && begun.elapsed() < Duration::from_secs(30) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                let mut family = children(&below);
                assert_eq!(family.len(), 1, "the shell has begun");
                end_children();
                // Reaped already: nobody is there to be waited for.
                let _ = shell.wait();
                family.extend(Pid::from_raw(shell.id() as i32));
                family
            });
            (looking.join().expect("no panic"), elsewhere)
        });
        for pid in mine {
            let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
            // The grandchild may wait for its new parent to look.
            let lives = || std::fs::read_to_string(&path).is_ok_and(|state| !state.contains(") Z "));
            let begun = Instant::now();
            while lives() && begun.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(10));
            }
            assert!(!lives(), "{pid:?} lives: {:?}", std::fs::read_to_string(&path));
        }
        let mut others = others;
        assert!(others.try_wait().expect("look").is_none(), "another thread's child was killed");
        others.kill().and_then(|()| others.wait()).expect("end it");
    }
}
