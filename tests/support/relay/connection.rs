//! One client's connection: requests are taken, held, forwarded and answered one after another.

use super::http::{self, Framing, Head};
use super::request::Request;
use super::{Act, Fate, Shared, Ticket};
use rustix::net::RecvFlags;
use std::io::{self, BufReader, Write};
use std::net::TcpStream;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How soon a held request notices that its client has gone away.
const GLANCE: Duration = Duration::from_millis(10);

type Upstream = Option<(TcpStream, BufReader<TcpStream>)>;

/// Serves a connection until either side ends it or a rule does.
pub fn serve(shared: &Shared, client: &TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client.try_clone()?);
    let mut upstream = None;
    while let Some(head) = http::read_head(&mut reader)? {
        let request = Request::of(&head);
        let (ticket, act) = shared.arrived(&request);
        let mut exchange = Exchange { shared, client, ticket, act, fate: Fate::Dropped };
        let outcome = exchange.run(&head, &request, &mut reader, &mut upstream);
        let fate = exchange.fate;
        shared.note(&exchange.ticket, |seen| seen.fate = fate);
        if !outcome? {
            return Ok(());
        }
    }
    Ok(())
}

struct Exchange<'a> {
    shared: &'a Shared,
    client: &'a TcpStream,
    ticket: Ticket,
    act: Option<Act>,
    /// What has become of the request if nothing more happens.
    fate: Fate,
}

impl Exchange<'_> {
    /// Takes one request through; true when the connection may carry another one.
    fn run(
        &mut self,
        head: &Head,
        request: &Request,
        reader: &mut BufReader<TcpStream>,
        upstream: &mut Upstream,
    ) -> io::Result<bool> {
        let body = self.take_body(head, reader)?;
        let extra = match self.act {
            Some(Act::Delay(extra)) => extra,
            _ => Duration::ZERO,
        };
        if !self.hold(extra) || self.act == Some(Act::Cut) {
            return Ok(false);
        }
        if let Some(Act::Status(status) | Act::Code(status, _)) = self.act {
            self.fate = Fate::Refused(status);
            let (reason, code) = match self.act {
                Some(Act::Code(_, code)) => ("Injected", code),
                _ => usual(request, status),
            };
            return refuse(self.client, request, (status, reason), code).map(|()| true);
        }
        let raw = match self.shared.admit(head) {
            Ok(raw) => raw,
            Err((status, code)) => {
                self.fate = Fate::Refused(status);
                return refuse(self.client, request, (status, "Refused"), code).map(|()| true);
            }
        };
        let (to, from) = connected(self.shared, upstream)?;
        self.fate = Fate::AnswerLost;
        to.write_all(&raw)?;
        to.write_all(&body)?;
        let answer = loop {
            let answer = http::read_head(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            // An interim answer (100 Continue) was given by the relay already.
            if answer.status()? >= 200 {
                break answer;
            }
        };
        self.answer(&answer, request, from)
    }

    /// Reads the whole request body at the set rate.
    fn take_body(&mut self, head: &Head, reader: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
        if head.header("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue")) {
            (&*self.client).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let shared = self.shared;
        let mut body = Vec::new();
        let size = http::read_body(reader, head.request_framing()?, shared.up.piece(), &mut |piece| {
            shared.up.spend(piece.len(), || shared.stopping.load(Ordering::SeqCst));
            body.extend_from_slice(piece);
            Ok(())
        })?;
        shared.note(&self.ticket, |seen| seen.up = size);
        Ok(body)
    }

    /// Holds the request for the delay and as long as there is a black hole. False: it is to be dropped.
    fn hold(&self, extra: Duration) -> bool {
        let mut state = self.shared.lock();
        let start = Instant::now();
        state.held += 1;
        self.shared.changed.notify_all();
        let pass = loop {
            if state.drops != self.ticket.drops || (!state.deliver_orphans && gone(self.client)) {
                break false;
            }
            let left = (start + state.delay + extra).saturating_duration_since(Instant::now());
            if left.is_zero() && !state.hole {
                break true;
            }
            let slice = if left.is_zero() { GLANCE } else { left.min(GLANCE) };
            state = self.shared.changed.wait_timeout(state, slice).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.held -= 1;
        pass
    }

    fn answer(
        &mut self,
        answer: &Head,
        request: &Request,
        from: &mut BufReader<TcpStream>,
    ) -> io::Result<bool> {
        let shared = self.shared;
        let framing = answer.answer_framing(&request.method)?;
        if self.act == Some(Act::LoseAnswer) {
            // Read to its end, so that the effect is complete before the client learns of the cut.
            http::read_body(from, framing, 64 * 1024, &mut |_| Ok(()))?;
            return Ok(false);
        }
        let keep = match (self.act, framing) {
            (Some(Act::Truncate), Framing::Length(n)) => n / 2,
            (Some(Act::Truncate), _) => 1,
            _ => u64::MAX,
        };
        let mut to = self.client;
        to.write_all(&answer.raw)?;
        let mut passed = 0;
        let size = http::read_body(from, framing, shared.down.piece(), &mut |piece| {
            let take = piece.len().min((keep - passed) as usize);
            shared.down.spend(take, || shared.stopping.load(Ordering::SeqCst));
            to.write_all(&piece[..take])?;
            passed += take as u64;
            Ok(())
        });
        shared.note(&self.ticket, |seen| seen.down = passed);
        size?;
        if self.act == Some(Act::Truncate) {
            return Ok(false);
        }
        self.fate = Fate::Answered(answer.status()?);
        Ok(framing != Framing::UntilClose)
    }
}

/// The connection to the store, made anew when the store has ended the one at hand.
fn connected<'u>(
    shared: &Shared,
    upstream: &'u mut Upstream,
) -> io::Result<&'u mut (TcpStream, BufReader<TcpStream>)> {
    if upstream.as_ref().is_some_and(|(to, _)| gone(to)) {
        *upstream = None;
    }
    if upstream.is_none() {
        let to = TcpStream::connect_timeout(&shared.upstream, Duration::from_secs(5))?;
        to.set_nodelay(true)?;
        let from = BufReader::new(to.try_clone()?);
        *upstream = Some((to, from));
    }
    upstream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
}

/// Whether the other side has ended the connection.
fn gone(stream: &TcpStream) -> bool {
    let mut byte = [0u8; 1];
    match rustix::net::recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, n)) => n == 0,
        Err(e) => e != rustix::io::Errno::AGAIN && e != rustix::io::Errno::INTR,
    }
}

/// The reason and the code that S3 gives with a status.
fn usual(request: &Request, status: u16) -> (&'static str, &'static str) {
    match status {
        301 => ("Moved Permanently", "PermanentRedirect"),
        400 => ("Bad Request", "InvalidRequest"),
        403 => ("Forbidden", "AccessDenied"),
        404 if request.key.is_empty() => ("Not Found", "NoSuchBucket"),
        404 => ("Not Found", "NoSuchKey"),
        409 => ("Conflict", "ConditionalRequestConflict"),
        412 => ("Precondition Failed", "PreconditionFailed"),
        429 => ("Too Many Requests", "TooManyRequests"),
        500 => ("Internal Server Error", "InternalError"),
        501 => ("Not Implemented", "NotImplemented"),
        503 => ("Service Unavailable", "SlowDown"),
        507 => ("Insufficient Storage", "QuotaExceeded"),
        _ => ("Injected", "Injected"),
    }
}

fn refuse(
    mut client: &TcpStream,
    request: &Request,
    (status, reason): (u16, &str),
    code: &str,
) -> io::Result<()> {
    let body = match request.method.as_str() {
        "HEAD" => String::new(),
        _ => format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code>\
             <Message>injected by the relay</Message><RequestId>relay</RequestId></Error>"
        ),
    };
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())
}
