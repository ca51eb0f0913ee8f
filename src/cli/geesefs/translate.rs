//! From geesefs's command line to that of `cwdfs mount`.
//!
//! Invariant: a flag is turned into what it asks for, named in the warning, or refused with its reason; none
//! is left out.

use super::Program;
use super::table::{Flag, To, Verdict};
use super::words::{Given, Words};
use std::ffi::{OsStr, OsString};

/// Where geesefs looks for buckets when it is not told.
const YANDEX: &str = "https://storage.yandexcloud.net";
/// Where TigrisFS does.
const TIGRIS: &str = "https://t3.storage.dev";
/// Setting this extended attribute refreshes, unless another name is given.
const REFRESH: &str = ".invalidate";
/// In the environment, these keys would go before a profile.
const KEYS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// A mount, in cwdfs's own terms.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// What comes after `cwdfs mount`.
    pub words: Vec<OsString>,
    /// Variables of the environment to set, or to take away.
    pub variables: Vec<(&'static str, Option<String>)>,
    /// Flags without meaning here, with hyphens.
    pub meaningless: Vec<String>,
}

/// What the rest of a call depends on.
struct Around<'a> {
    program: Program,
    words: &'a Words,
    /// Real user and group.
    ids: (u32, u32),
    /// `AWS_ENDPOINT_URL` is set.
    endpoint_known: bool,
}

/// Translates a call that mounts. `ids` are the caller's user and group; `endpoint_known`: the environment
/// names an endpoint.
pub fn translate(
    program: Program,
    words: &Words,
    ids: (u32, u32),
    endpoint_known: bool,
) -> Result<Call, String> {
    let around = Around { program, words, ids, endpoint_known };
    let mut call = Call::default();
    around.defaults(&mut call)?;
    for given in &words.given {
        let Given { flag, value } = given;
        // Of a flag given twice, the last one counts; one that can be given more than once looks for itself.
        if words.value(flag.name) == Some(value) {
            around.one(&mut call, flag, value)?;
        }
    }
    around.options(&mut call)?;
    call.meaningless.dedup();
    call.words.push("--".into());
    let [store, mountpoint] = words.rest.as_slice() else {
        return Err(format!(
            "give a bucket and a mount point: {} [FLAGS] bucket[:prefix] DIR",
            program.name()
        ));
    };
    call.words.push(location(store)?);
    call.words.push(mountpoint.clone());
    dedup(&mut call.words);
    Ok(call)
}

/// Switches that several flags ask for are given once.
fn dedup(words: &mut Vec<OsString>) {
    let mut seen = Vec::new();
    words.retain(|word| {
        let again = word.as_encoded_bytes().starts_with(b"--") && seen.contains(word);
        seen.push(word.clone());
        !again
    });
}

impl Call {
    fn option(&mut self, name: &str, value: &str) {
        self.words.push(format!("--{name}={value}").into());
    }
}

impl Around<'_> {
    /// What holds without any flag.
    fn defaults(&self, call: &mut Call) -> Result<(), String> {
        if self.words.value("endpoint").is_none() {
            match self.program {
                Program::Geesefs => call.option("endpoint", YANDEX),
                Program::Tigrisfs if !self.endpoint_known => call.option("endpoint", TIGRIS),
                Program::Tigrisfs => {}
            }
        }
        let name = self.words.value("refresh-attr").unwrap_or(REFRESH);
        if name.is_empty() {
            return Err("--refresh-attr: an attribute has a name".into());
        }
        call.option("refresh-attr", name);
        if self.words.is_on("enable-perms") && ["uid", "gid"].iter().any(|id| self.words.value(id).is_some())
        {
            let why = "everything is shown as one user's, or as its own: leave one of them out";
            return Err(format!("--uid and --gid with --enable-perms: {why}"));
        }
        Ok(())
    }

    fn one(&self, call: &mut Call, flag: &Flag, value: &str) -> Result<(), String> {
        let off = matches!(flag.kind, super::table::Kind::Switch) && value == "false";
        match flag.verdict {
            _ if off => {}
            Verdict::Refused => return Err(format!("--{}: {}", flag.name, flag.what)),
            Verdict::Meaningless => call.meaningless.push(format!("--{}", flag.name)),
            Verdict::Honoured(To::Nothing) => {}
            Verdict::Honoured(To::Option(name)) if !value.is_empty() => call.option(name, value),
            Verdict::Honoured(To::Option(_)) => {}
            Verdict::Honoured(To::Switch(name)) => call.words.push(format!("--{name}").into()),
            Verdict::Honoured(To::Only(values)) => {
                if !values.contains(&value) {
                    return Err(format!("--{} {value}: {}", flag.name, flag.what));
                }
            }
            Verdict::Honoured(To::Special) => self.special(call, flag, value)?,
        }
        Ok(())
    }

    fn special(&self, call: &mut Call, flag: &Flag, value: &str) -> Result<(), String> {
        let refuse = |value: &str| Err(format!("--{} {value}: {}", flag.name, flag.what));
        match flag.name {
            "file-mode" | "dir-mode" => call.option(flag.name, &mode(flag.name, value)?),
            "uid" | "gid" => call.option(flag.name, value),
            "setuid" if value != self.ids.0.to_string() => return refuse(value),
            "setgid" if value != self.ids.1.to_string() => return refuse(value),
            // Empty: as for any AWS SDK.
            "endpoint" if !value.is_empty() => call.option("endpoint", &with_scheme(value)),
            "region" if !value.is_empty() => call.option("region", value),
            "profile" if !value.is_empty() => {
                call.option("profile", value);
                call.variables.extend(KEYS.map(|key| (key, None)));
            }
            // A key of the other says more.
            "sse" if self.words.given.iter().all(|given| given.flag.name != "sse-kms") => {
                call.option("sse", "AES256");
            }
            "sse-kms" => {
                call.option("sse", "aws:kms");
                if !value.is_empty() {
                    call.option("sse-kms-key-id", value);
                }
            }
            "shared-config" => self.shared_config(call, flag)?,
            "fsync-on-close" => call.option("durability", "close"),
            "debug" | "debug_fuse" | "debug_s3" => call.option("log-level", "debug"),
            "log-level" if !self.is_debugged() => call.option("log-level", level(value)?),
            "log-format" => match value {
                "" => {}
                "console" => call.option("log-format", "text"),
                "json" => call.option("log-format", "json"),
                _ => return refuse(value),
            },
            "log-file" => self.log_file(call, flag, value)?,
            // Made up elsewhere, or the same as what holds without them.
            _ => {}
        }
        Ok(())
    }

    fn is_debugged(&self) -> bool {
        ["debug", "debug_fuse", "debug_s3"].iter().any(|name| self.words.is_on(name))
    }

    fn shared_config(&self, call: &mut Call, flag: &Flag) -> Result<(), String> {
        let files: Vec<_> = self.words.given.iter().filter(|given| given.flag.name == flag.name).collect();
        match files.as_slice() {
            [one] if !one.value.is_empty() => {
                let file = std::path::absolute(&one.value).map_err(|e| format!("--{}: {e}", flag.name))?;
                let file = file.to_string_lossy().into_owned();
                call.variables.push(("AWS_SHARED_CREDENTIALS_FILE", Some(file.clone())));
                call.variables.push(("AWS_CONFIG_FILE", Some(file)));
                Ok(())
            }
            _ => Err(format!("--{}: {}", flag.name, flag.what)),
        }
    }

    fn log_file(&self, call: &mut Call, flag: &Flag, value: &str) -> Result<(), String> {
        match value {
            "" => {}
            "syslog" => return Err(format!("--{} {value}: {}", flag.name, flag.what)),
            "stderr" | "/dev/stderr" if self.words.is_on("f") => {}
            "stderr" => call.option("log-file", "/dev/stderr"),
            file => call.option("log-file", file),
        }
        Ok(())
    }

    /// What `-o` holds besides flags: `cwdfs mount -o` takes what the table does not have.
    fn options(&self, call: &mut Call) -> Result<(), String> {
        let mut ours = Vec::new();
        for option in &self.words.options {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match Flag::find_option(name) {
                None => ours.push(option.as_str()),
                Some(flag) => match flag.verdict {
                    Verdict::Honoured(To::Special) => {
                        call.words.extend(["--read-only".into(), "--require-session".into()]);
                    }
                    Verdict::Honoured(_) => {}
                    Verdict::Meaningless => call.meaningless.push(format!("-o {name}")),
                    Verdict::Refused if value.is_empty() => return Err(format!("-o {name}: {}", flag.what)),
                    Verdict::Refused => return Err(format!("-o {name}={value}: {}", flag.what)),
                },
            }
        }
        if !ours.is_empty() {
            call.words.extend(["-o".into(), ours.join(",").into()]);
        }
        Ok(())
    }
}

/// Permission bits, in octal; `value` is in decimal.
fn mode(name: &str, value: &str) -> Result<String, String> {
    match value.parse::<u32>() {
        Ok(bits) if bits <= 0o7777 => Ok(format!("{bits:04o}")),
        _ => Err(format!("--{name}: {value} is no mode; write it in octal with a leading 0: 0644")),
    }
}

fn with_scheme(endpoint: &str) -> String {
    match endpoint.contains("://") {
        true => endpoint.to_owned(),
        false => format!("https://{endpoint}"),
    }
}

fn level(value: &str) -> Result<&'static str, String> {
    match value.to_ascii_lowercase().as_str() {
        "trace" => Ok("trace"),
        "debug" => Ok("debug"),
        "info" | "" => Ok("info"),
        "warn" => Ok("warn"),
        "error" | "fatal" | "panic" | "disabled" => Ok("error"),
        _ => Err(format!("--log-level {value}: give trace, debug, info, warn or error")),
    }
}

/// `bucket` or `bucket:prefix` as a store; `s3://` and `file://` are ours already.
fn location(store: &OsStr) -> Result<OsString, String> {
    let Some(text) = store.to_str() else { return Err(format!("{}: not UTF-8", store.to_string_lossy())) };
    match text.split_once("://") {
        Some(("s3" | "file", _)) => Ok(store.to_owned()),
        Some((kind, _)) => {
            Err(format!("{text}: cwdfs keeps sessions in S3 and local directories, not in {kind}"))
        }
        None if text.contains(':') => Ok(store.to_owned()),
        None => Ok(format!("{text}:").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::words;
    use super::*;

    fn call_of(program: Program, line: &str) -> Result<Call, String> {
        let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        translate(program, &words::read(&args)?, (0, 0), false)
    }

    fn line(line: &str) -> String {
        let call = call_of(Program::Geesefs, line).expect("it is translated");
        let words: Vec<_> = call.words.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn deployments_get_what_they_ask_for() {
        assert_eq!(
            line(
                "--endpoint http://h:1 --region r --no-detect --fsync-on-close -f -o allow_other demo:mounts/p/m /mnt"
            ),
            "--refresh-attr=.invalidate --endpoint=http://h:1 --region=r --durability=close --foreground \
             -o allow_other -- demo:mounts/p/m /mnt"
        );
        assert_eq!(
            line("demo:p /mnt -o rw,_netdev,allow_other,--file-mode=0666,--dir-mode=0777"),
            "--endpoint=https://storage.yandexcloud.net --refresh-attr=.invalidate --file-mode=0666 \
             --dir-mode=0777 -o rw,_netdev,allow_other -- demo:p /mnt"
        );
        assert_eq!(
            line(
                "--endpoint minio.example:9000 --subdomain --uid 1001 --gid=1002 --debug --debug_s3 demo /mnt"
            ),
            "--refresh-attr=.invalidate --endpoint=https://minio.example:9000 --virtual-host --uid=1001 \
             --gid=1002 --log-level=debug -- demo: /mnt"
        );
    }

    #[test]
    fn encryption_and_who_pays_are_told_with_requests() {
        assert!(line("--sse --requester-pays b /m").contains("--sse=AES256 --requester-pays -- "));
        assert!(line("--sse --sse-kms= b /m").contains(" --sse=aws:kms -- "));
        assert!(line("--sse-kms arn b /m").contains(" --sse=aws:kms --sse-kms-key-id=arn -- "));
    }

    #[test]
    fn a_read_only_mount_follows_a_session_that_is_there() {
        assert!(line("b /m -o ro,_netdev").contains(" --read-only --require-session -o _netdev -- "));
    }

    #[test]
    fn tigrisfs_has_an_endpoint_of_its_own() {
        let call = call_of(Program::Tigrisfs, "b /m").expect("it is translated");
        assert_eq!(call.words[0], "--endpoint=https://t3.storage.dev");
        let words = words::read(&["b".into(), "/m".into()]).expect("it is read");
        let call = translate(Program::Tigrisfs, &words, (0, 0), true).expect("it is translated");
        assert_eq!(call.words[0], "--refresh-attr=.invalidate");
    }

    #[test]
    fn what_has_no_meaning_is_named_once() {
        let call = call_of(
            Program::Geesefs,
            "--memory-limit 4000 --stat-cache-ttl 1s --cheap=false --max-flushers 3 -o max_read=4096 b /m",
        );
        let call = call.expect("it is translated");
        assert_eq!(call.meaningless, ["--memory-limit", "--stat-cache-ttl", "--max-flushers", "-o max_read"]);
    }

    #[test]
    fn the_last_of_two_counts() {
        assert!(
            line("--endpoint http://a --region x --endpoint http://b b /m").contains("--endpoint=http://b")
        );
        assert!(!line("--endpoint http://a --endpoint http://b b /m").contains("//a"));
        assert_eq!(line("-f --f b /m").matches("--foreground").count(), 1);
    }

    #[test]
    fn a_profile_goes_before_keys_in_the_environment() {
        let call =
            call_of(Program::Geesefs, "--profile p --shared-config /etc/s3 b /m").expect("it is translated");
        assert!(call.words.contains(&"--profile=p".into()));
        assert!(call.variables.contains(&("AWS_SECRET_ACCESS_KEY", None)));
        assert!(call.variables.contains(&("AWS_CONFIG_FILE", Some("/etc/s3".into()))));
        assert!(call.variables.contains(&("AWS_SHARED_CREDENTIALS_FILE", Some("/etc/s3".into()))));
    }

    #[test]
    fn what_cwdfs_does_not_do_is_refused_with_the_reason() {
        for (line, named) in [
            ("--iam b /m", "static key"),
            ("--cluster b /m", "one writer"),
            ("--sse-c key b /m", "no key is sent"),
            ("--storage-class STANDARD_IA b /m", "lifecycle rule"),
            ("--acl public-read b /m", "no ACL"),
            ("--mode-attr perms b /m", "only the name"),
            ("--setuid 1000 b /m", "start it as that user"),
            ("--shared-config a --shared-config b b /m", "AWS_CONFIG_FILE"),
            ("--log-file syslog b /m", "name a file"),
            ("--file-mode 0x10000 b /m", "no mode"),
            ("--uid 5 --enable-perms b /m", "--enable-perms"),
            ("--refresh-attr= b /m", "has a name"),
            ("-o allow_root b /m", "allow_other"),
            ("-o user_id=7 b /m", "user_id=7"),
            ("wasb://c@a /m", "not in wasb"),
            ("b", "a mount point"),
            ("b /m /n", "a mount point"),
        ] {
            let error = call_of(Program::Geesefs, line).expect_err(line);
            assert!(error.contains(named), "{line}: {error}");
        }
        for line in ["--iam=false b /m", "--setuid 0 b /m", "--acl= b /m", "--storage-class STANDARD b /m"] {
            call_of(Program::Geesefs, line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}
