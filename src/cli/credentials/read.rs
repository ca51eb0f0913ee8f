//! Credentials in the forms that tools give them in. No error repeats what was read.

use crate::cli::environment::{self, Variables};
use crate::cli::exit::{Exit, Failure};
use crate::store::Keys;
use serde::Deserialize;
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Credentials are far shorter.
const LONGEST: u64 = 64 * 1024;

/// JSON as `credential_process`, IMDS and container endpoints give it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    access_key_id: String,
    secret_access_key: String,
    #[serde(alias = "Token")]
    session_token: Option<String>,
    expiration: Option<String>,
}

/// JSON as STS gives it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wrapped {
    credentials: Document,
}

/// What is on standard input.
pub fn from_input() -> Result<Keys, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(LONGEST).read_to_string(&mut text);
    read.map_err(|error| Failure::new(Exit::Usage, format!("standard input: {error}")))?;
    keys(&text).map_err(|why| Failure::new(Exit::Usage, format!("standard input: {why}")))
}

/// What is in a file that nobody else may read.
pub fn from_file(path: &Path) -> Result<Keys, Failure> {
    let text = environment::read_private(path, "credentials file")?;
    let wrong =
        |why: String| Failure::new(Exit::Usage, format!("credentials file {}: {why}", path.display()));
    keys(&text).map_err(wrong)
}

fn keys(text: &str) -> Result<Keys, String> {
    let document = match text.trim_start().starts_with('{') {
        true => from_json(text),
        false => from_lines(text),
    }?;
    let expiration = document.expiration.as_deref().map(moment).transpose()?;
    if expiration.is_some_and(|end| end <= SystemTime::now()) {
        return Err("these credentials have ended already".into());
    }
    for (name, value) in [("access key id", &document.access_key_id), ("secret", &document.secret_access_key)]
    {
        if value.is_empty() || value.chars().any(char::is_control) {
            return Err(format!("the {name} is empty or no text"));
        }
    }
    Ok(Keys {
        access_key_id: document.access_key_id,
        secret_access_key: document.secret_access_key,
        session_token: document.session_token.filter(|token| !token.is_empty()),
        expiration,
    })
}

fn from_json(text: &str) -> Result<Document, String> {
    // serde's errors may repeat values: only where they lie is told.
    let plain = serde_json::from_str::<Document>(text);
    let found = plain.or_else(|_| serde_json::from_str::<Wrapped>(text).map(|wrapped| wrapped.credentials));
    found.map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("not credentials in JSON (line {line}, column {column}): AccessKeyId and SecretAccessKey are needed")
    })
}

fn from_lines(text: &str) -> Result<Document, String> {
    let variables: Variables = environment::parse(text)
        .map_err(|line| format!("line {line} is not NAME=VALUE, and it is no JSON"))?;
    let find = |name: &str| {
        let found = variables.iter().rev().find(|(n, _)| n == name);
        found.map(|(_, value)| value.to_string_lossy().into_owned())
    };
    let need = |name: &str| find(name).ok_or_else(|| format!("{name} is missing"));
    Ok(Document {
        access_key_id: need("AWS_ACCESS_KEY_ID")?,
        secret_access_key: need("AWS_SECRET_ACCESS_KEY")?,
        session_token: find("AWS_SESSION_TOKEN"),
        expiration: find("AWS_CREDENTIAL_EXPIRATION").filter(|end| !end.is_empty()),
    })
}

fn moment(text: &str) -> Result<SystemTime, String> {
    let read = OffsetDateTime::parse(text, &Rfc3339);
    read.map(SystemTime::from).map_err(|_| "the expiration is no time such as 2030-01-31T12:00:00Z".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_tools_give_is_read() {
        let forms = [
            "AWS_ACCESS_KEY_ID=id\nexport AWS_SECRET_ACCESS_KEY='s'\nAWS_SESSION_TOKEN=t\nAWS_CREDENTIAL_EXPIRATION=2100-01-01T00:00:00Z\n",
            r#"{"Version":1,"AccessKeyId":"id","SecretAccessKey":"s","SessionToken":"t","Expiration":"2100-01-01T00:00:00Z"}"#,
            r#"{"Code":"Success","AccessKeyId":"id","SecretAccessKey":"s","Token":"t","Expiration":"2100-01-01T00:00:00Z"}"#,
            r#" {"Credentials":{"AccessKeyId":"id","SecretAccessKey":"s","SessionToken":"t","Expiration":"2100-01-01T02:00:00+02:00"},"AssumedRoleUser":{}}"#,
        ];
        for form in forms {
            let read = keys(form).unwrap_or_else(|why| panic!("{form}: {why}"));
            let end = moment("2100-01-01T00:00:00Z").expect("a time");
            assert_eq!((&*read.access_key_id, &*read.secret_access_key), ("id", "s"), "{form}");
            assert_eq!((read.session_token.as_deref(), read.expiration), (Some("t"), Some(end)), "{form}");
        }
        let short = keys("AWS_ACCESS_KEY_ID=id\nAWS_SECRET_ACCESS_KEY=s\nAWS_SESSION_TOKEN=").expect("read");
        assert_eq!((short.session_token, short.expiration), (None, None));
    }

    #[test]
    fn what_makes_no_sense_is_said_without_repeating_it() {
        for (form, told) in [
            ("", "AWS_ACCESS_KEY_ID is missing"),
            ("AWS_ACCESS_KEY_ID=hunter2", "AWS_SECRET_ACCESS_KEY is missing"),
            ("hunter2", "line 1"),
            ("{\"AccessKeyId\":\"hunter2\"}", "JSON"),
            ("{\"AccessKeyId\":\"hunter2\",\"SecretAccessKey\":7}", "JSON"),
            ("{hunter2", "JSON"),
            ("AWS_ACCESS_KEY_ID=\nAWS_SECRET_ACCESS_KEY=hunter2", "access key id is empty"),
            ("AWS_ACCESS_KEY_ID=a\nAWS_SECRET_ACCESS_KEY=hunter2\nAWS_CREDENTIAL_EXPIRATION=soon", "no time"),
            (
                "AWS_ACCESS_KEY_ID=a\nAWS_SECRET_ACCESS_KEY=hunter2\nAWS_CREDENTIAL_EXPIRATION=2001-01-01T00:00:00Z",
                "ended",
            ),
        ] {
            let why = keys(form).expect_err(form);
            assert!(why.contains(told) && !why.contains("hunter2"), "{form}: {why}");
        }
    }
}
