//! Where credentials come from, as the test makes it: each gives what it is told, and fails in its own ways.

use crate::support::issuer::{Gives, Issuer, rfc3339};
use crate::support::network::Segment;
use crate::support::relay::Issued;
use serde_json::json;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A way in which a source fails, and what `status` says of it then.
pub type Trouble<'s> = (&'static str, Box<dyn Fn() + 's>);

/// One source of credentials.
pub trait Source {
    /// Names it to a mount.
    fn name_to(&self, mount: &mut Command);
    /// From now on it gives these.
    fn gives(&self, keys: &Issued);
    /// The ways in which it fails.
    fn troubles<'s>(&'s self, keys: &'s Issued) -> Vec<Trouble<'s>>;
}

/// A profile file that is written anew in its place.
pub struct Profile(pub PathBuf);

impl Profile {
    fn write(&self, text: &str) {
        fs::write(&self.0, text).expect("write the profile");
    }
}

impl Source for Profile {
    fn name_to(&self, mount: &mut Command) {
        mount.env("AWS_SHARED_CREDENTIALS_FILE", &self.0);
    }

    fn gives(&self, keys: &Issued) {
        let Issued { id, secret, token, .. } = keys;
        let token = token.as_deref().unwrap_or_default();
        self.write(&format!(
            "[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\naws_session_token = {token}\n"
        ));
    }

    fn troubles<'s>(&'s self, keys: &'s Issued) -> Vec<Trouble<'s>> {
        let half = format!("[default]\naws_access_key_id = {}\n", keys.id);
        vec![
            ("no credentials are found any more", Box::new(|| self.write(""))),
            ("no credentials are found any more", Box::new(move || self.write(&half))),
            ("no credentials are found any more", Box::new(|| fs::remove_file(&self.0).expect("remove it"))),
        ]
    }
}

/// A `credential_process` that prints a file.
pub struct Process {
    dir: PathBuf,
}

impl Process {
    /// With its files in `dir`, which is empty.
    pub fn new(dir: &Path) -> Process {
        let script = dir.join("process");
        let config = format!("[default]\ncredential_process = sh {} --secret hunter2\n", script.display());
        fs::write(dir.join("config"), config).expect("write");
        Process { dir: dir.to_owned() }
    }

    /// From now on it does this, in its directory.
    fn does(&self, script: &str) {
        let (new, dir) = (self.dir.join("process.new"), self.dir.display());
        fs::write(&new, format!("cd {dir}\necho x >> runs\n{script}\n")).expect("write");
        fs::rename(new, self.dir.join("process")).expect("rename");
    }

    /// How often it was run.
    pub fn runs(&self) -> usize {
        fs::read_to_string(self.dir.join("runs")).unwrap_or_default().lines().count()
    }

    /// Waits until what hung, and told who it is, is gone.
    pub fn is_gone(&self) -> bool {
        let pids = fs::read_to_string(self.dir.join("hung")).expect("it hung");
        pids.split_whitespace().all(|pid| {
            let state = fs::read_to_string(format!("/proc/{pid}/stat"));
            state.map_or(true, |state| state.contains(") Z "))
        })
    }
}

impl Source for Process {
    fn name_to(&self, mount: &mut Command) {
        mount.env("AWS_CONFIG_FILE", self.dir.join("config"));
    }

    fn gives(&self, keys: &Issued) {
        let mut document = json!({"Version": 1, "AccessKeyId": keys.id, "SecretAccessKey": keys.secret});
        document["SessionToken"] = keys.token.clone().into();
        document["Expiration"] = keys.ends.map(rfc3339).into();
        fs::write(self.dir.join("keys"), document.to_string()).expect("write");
        self.does("cat keys");
    }

    fn troubles<'s>(&'s self, keys: &'s Issued) -> Vec<Trouble<'s>> {
        let half = format!("printf '%s' '{{\"Version\": 1, \"SecretAccessKey\": \"{}'", keys.secret);
        vec![
            (
                "the portal is closed",
                Box::new(|| self.does("cat keys; echo the portal is closed >&2; exit 1")),
            ),
            ("could not parse", Box::new(move || self.does(&half))),
            ("has not answered", Box::new(|| self.does("echo $$ >> hung; sleep 1000; true"))),
        ]
    }
}

/// How an endpoint is reached.
enum Way {
    Sts,
    Full,
    Relative,
}

/// An endpoint over HTTP that asks for a token, which is in a file.
pub struct Endpoint {
    issuer: Issuer,
    token: PathBuf,
    way: Way,
    tokens: AtomicU32,
}

impl Endpoint {
    /// `AWS_WEB_IDENTITY_TOKEN_FILE` and STS.
    pub fn sts(dir: &Path, keys: &Issued) -> Endpoint {
        Endpoint::new(dir, Issuer::start("token-0", keys), Way::Sts)
    }

    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    pub fn full(dir: &Path, keys: &Issued) -> Endpoint {
        Endpoint::new(dir, Issuer::start("token-0", keys), Way::Full)
    }

    /// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, on a machine that has the address below which it is.
    pub fn relative(dir: &Path, keys: &Issued, machine: &Segment) -> Endpoint {
        let listener = machine.listen(Ipv4Addr::new(169, 254, 170, 2), 80);
        Endpoint::new(dir, Issuer::at(listener, "token-0", keys), Way::Relative)
    }

    fn new(dir: &Path, issuer: Issuer, way: Way) -> Endpoint {
        let token = dir.join("token");
        fs::write(&token, "token-0").expect("write");
        Endpoint { issuer, token, way, tokens: AtomicU32::new(0) }
    }

    /// What it gives from now on.
    pub fn answers(&self, gives: Gives) {
        self.issuer.gives(gives);
    }

    /// From now on it takes another token only; who reads the file anew has it.
    fn changes_token(&self) -> String {
        let token = format!("token-{}", self.tokens.fetch_add(1, Ordering::Relaxed) + 1);
        self.issuer.asks_for(&token);
        token
    }
}

impl Source for Endpoint {
    fn name_to(&self, mount: &mut Command) {
        let endpoint = self.issuer.endpoint();
        match self.way {
            Way::Sts => {
                mount.env("AWS_WEB_IDENTITY_TOKEN_FILE", &self.token).env("AWS_ENDPOINT_URL_STS", endpoint);
                mount.env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r");
                return;
            }
            Way::Full => mount.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{endpoint}/v1/keys")),
            Way::Relative => {
                // A proxy, which is not there, is for the wide world: not for the store's network, and never for this.
                mount.env("HTTP_PROXY", "http://127.0.0.1:9").env("NO_PROXY", "100.64.0.0/10");
                mount.env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/abc")
            }
        };
        mount.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &self.token);
    }

    fn gives(&self, keys: &Issued) {
        // Written in place, as a kubelet's and an agent's are.
        fs::write(&self.token, self.changes_token()).expect("write");
        self.issuer.gives(Gives::Keys(keys.clone()));
    }

    fn troubles<'s>(&'s self, keys: &'s Issued) -> Vec<Trouble<'s>> {
        let words = match self.way {
            Way::Sts => ["InternalFailure", "InvalidIdentityToken"],
            Way::Full | Way::Relative => ["500", "401"],
        };
        vec![
            (words[0], Box::new(|| self.issuer.gives(Gives::Status(500)))),
            ("cannot be renewed", Box::new(|| self.issuer.gives(Gives::Half(keys.clone())))),
            ("has not answered", Box::new(|| self.issuer.gives(Gives::Silence))),
            (
                words[1],
                Box::new(|| {
                    self.changes_token();
                    self.issuer.gives(Gives::Keys(keys.clone()));
                }),
            ),
        ]
    }
}
