//! Why there is nothing to sign with.

use crate::store::Kind;
use aws_credential_types::provider::error::CredentialsError;
use std::error::Error;
use std::time::Duration;

/// The most that is repeated of what a source says: a process may say anything.
const LONGEST: usize = 600;

/// No credentials, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(in crate::store::s3) struct Lack {
    /// [`Kind::Expired`] where the store has taken earlier ones, so that others may come. Else whether there is a source.
    pub kind: Kind,
    message: String,
}

impl Lack {
    /// What a look has met. `served`: the store has taken earlier ones.
    pub fn of(error: &CredentialsError, served: bool) -> Lack {
        let why = causes(error);
        // What each source says follows, of which most were never meant.
        let short = why.split(". Attempted:").next().unwrap_or_default();
        match error {
            CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)
                if served =>
            {
                Lack::new(Kind::Expired, format!("no credentials are found any more: {short}"))
            }
            CredentialsError::CredentialsNotLoaded(_) => {
                let what = "no credentials were found (set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --profile)";
                Lack::new(Kind::AccessDenied, format!("{what}: {short}"))
            }
            CredentialsError::InvalidConfiguration(_) => {
                let what = "how credentials are to be had is not well configured";
                Lack::new(Kind::AccessDenied, format!("{what}: {why}"))
            }
            _ => Lack::trouble(&why, served),
        }
    }

    /// A source that has not answered for so long.
    pub fn late(time: Duration, served: bool) -> Lack {
        Lack::trouble(&format!("their source has not answered for {} s", time.as_secs()), served)
    }

    /// A source that does not work just now.
    pub fn trouble(why: &str, served: bool) -> Lack {
        match served {
            true => Lack::new(Kind::Expired, format!("credentials cannot be renewed: {why}")),
            false => Lack::new(Kind::Unavailable, format!("credentials cannot be had: {why}")),
        }
    }

    fn new(kind: Kind, message: String) -> Lack {
        Lack { kind, message }
    }
}

/// The causes of an error on one line. The error itself, which only names its kind, is left out where there are any.
fn causes(error: &CredentialsError) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !said.last().is_some_and(|before| before.ends_with(&words)) {
            said.push(words);
        }
        next = cause.source();
    }
    let said = if said.is_empty() { error.to_string() } else { said.join(": ") };
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let line = lines.join("; ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_source_says_is_one_line_and_not_long() {
        let said = CredentialsError::provider_error("Stderr: one\n\n  two\n");
        assert_eq!(Lack::of(&said, true).to_string(), "credentials cannot be renewed: Stderr: one; two");
        let flood = CredentialsError::provider_error("ü".repeat(100_000));
        assert!(Lack::of(&flood, false).to_string().chars().count() < LONGEST + 50);
        let late = CredentialsError::provider_timed_out(Duration::from_secs(5));
        assert!(Lack::of(&late, false).to_string().ends_with("timed out after 5 seconds"));
    }

    #[test]
    fn sources_that_were_never_meant_are_not_told() {
        let all =
            CredentialsError::not_loaded("no credentials found in chain. Attempted:\nEnvironment: not set");
        for served in [false, true] {
            let told = Lack::of(&all, served).to_string();
            assert!(told.ends_with("no credentials found in chain"), "{told}");
        }
    }

    #[test]
    fn who_had_credentials_may_have_others_soon() {
        let missing = CredentialsError::not_loaded("no file");
        assert_eq!(Lack::of(&missing, false).kind, Kind::AccessDenied);
        assert_eq!(Lack::of(&missing, true).kind, Kind::Expired, "a file that is being written anew");
        let down = CredentialsError::unhandled("connection refused");
        assert_eq!(Lack::of(&down, false).kind, Kind::Unavailable, "there is a source: it may come");
        assert_eq!(Lack::of(&down, true).kind, Kind::Expired);
    }
}
