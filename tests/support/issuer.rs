//! An endpoint that gives out keys, as a container's and as STS, to who shows the right token.

use super::relay::{Issued, http};
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How soon something new is noticed.
const GLANCE: Duration = Duration::from_millis(20);

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gives {
    /// These keys.
    Keys(Issued),
    /// A failure.
    Status(u16),
    /// These keys, broken off in the middle of the secret.
    Half(Issued),
    /// Nothing, until there is something else to give.
    Silence,
}

struct State {
    gives: Gives,
    /// What a caller has to show.
    token: String,
    stopped: bool,
}

/// A running endpoint; dropping it ends it.
pub struct Issuer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Issuer {
    /// On a free port of 127.0.0.1.
    pub fn start(token: &str, keys: &Issued) -> Issuer {
        Issuer::at(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"), token, keys)
    }

    /// Where somebody listens already.
    pub fn at(listener: TcpListener, token: &str, keys: &Issued) -> Issuer {
        let address = listener.local_addr().expect("its address");
        listener.set_nonblocking(true).expect("a listener that does not wait");
        let (gives, token) = (Gives::Keys(keys.clone()), token.to_owned());
        let state = Arc::new(Mutex::new(State { gives, token, stopped: false }));
        let theirs = Arc::clone(&state);
        std::thread::spawn(move || {
            while !lock(&theirs).stopped {
                match listener.accept() {
                    Ok((client, _)) => {
                        let state = Arc::clone(&theirs);
                        // An error is a client that went away: it asks again, or somebody misses the keys.
                        std::thread::spawn(move || drop(serve(&client, &state)));
                    }
                    Err(_) => std::thread::sleep(GLANCE),
                }
            }
        });
        Issuer { address, state }
    }

    /// `http://ADDRESS:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it gives this.
    pub fn gives(&self, gives: Gives) {
        lock(&self.state).gives = gives;
    }

    /// From now on a caller has to show this.
    pub fn asks_for(&self, token: &str) {
        lock(&self.state).token = token.to_owned();
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        lock(&self.state).stopped = true;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut client: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let mut reader = BufReader::new(client.try_clone()?);
    while let Some(head) = http::read_head(&mut reader)? {
        let mut body = Vec::new();
        http::read_body(&mut reader, head.request_framing()?, 4096, &mut |piece| {
            body.extend_from_slice(piece);
            Ok(())
        })?;
        // STS is asked by POST, a container's endpoint by GET.
        let form = head.start.starts_with("POST").then(|| String::from_utf8_lossy(&body).into_owned());
        let shown = match &form {
            Some(form) => form.split('&').find_map(|pair| pair.strip_prefix("WebIdentityToken=")),
            None => head.header("authorization"),
        };
        let (status, text) = loop {
            let state = lock(state);
            if state.stopped {
                return Ok(());
            }
            if shown != Some(&state.token) {
                break (if form.is_some() { 400 } else { 401 }, refusal("InvalidIdentityToken"));
            }
            match &state.gives {
                Gives::Silence => {}
                Gives::Status(status) => break (*status, refusal("InternalFailure")),
                Gives::Keys(keys) => break (200, document(keys, form.is_some())),
                Gives::Half(keys) => {
                    let whole = document(keys, form.is_some());
                    let end = whole.find(&keys.secret).map_or(whole.len(), |at| at + keys.secret.len());
                    break (200, whole[..end].to_owned());
                }
            }
            drop(state);
            std::thread::sleep(GLANCE);
        };
        let length = text.len();
        write!(client, "HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\n\r\n{text}")?;
    }
    // Whatever else comes is no request.
    reader.read_to_end(&mut Vec::new()).map(drop)
}

fn refusal(code: &str) -> String {
    format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>of the test</Message></Error>\
         <RequestId>1</RequestId></ErrorResponse>"
    )
}

/// The keys as the endpoint of a container gives them, or as STS does.
fn document(keys: &Issued, sts: bool) -> String {
    let (id, secret, token) = (&keys.id, &keys.secret, keys.token.as_deref().unwrap_or_default());
    let end = rfc3339(keys.ends.unwrap_or_else(|| SystemTime::now() + Duration::from_secs(3600)));
    match sts {
        false => serde_json::json!({
            "AccessKeyId": id, "SecretAccessKey": secret, "Token": token, "Expiration": end, "RoleArn": "arn:aws:iam::123456789012:role/r",
        })
        .to_string(),
        true => format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><AssumedRoleUser>\
             <Arn>arn:aws:sts::123456789012:assumed-role/r/s</Arn><AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser>\
             <Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
             <SessionToken>{token}</SessionToken><Expiration>{end}</Expiration></Credentials>\
             </AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>\
             </AssumeRoleWithWebIdentityResponse>"
        ),
    }
}

/// A time as JSON and XML have it.
pub fn rfc3339(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).expect("a time of this century")
}
