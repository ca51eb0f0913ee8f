//! A server that answers whatever it is told to.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How the end of a body is told.
#[derive(Debug, Clone, Copy)]
pub enum Framing {
    /// By its length.
    Length,
    /// By a length that is wrong by so many bytes; the connection ends behind the body.
    Lie(i64),
    /// In chunks.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub framing: Framing,
    /// How often the body is sent, one behind the other: in chunks, or until the connection ends.
    pub times: u64,
}

type Script = Box<dyn FnMut(&str) -> Answer + Send>;

/// A server; its threads end with their connections.
pub struct Server {
    pub endpoint: String,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Script>,
    requests: AtomicU64,
    sent: AtomicU64,
}

impl Server {
    /// Starts one on a port of its own.
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let unset: Script = Box::new(|_| unreachable!("no answer was set"));
        let (requests, sent) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Arc::new(Shared { script: Mutex::new(unset), requests, sent });
        let of_all = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&of_all);
                // A connection that breaks is what the client wanted.
                std::thread::spawn(move || drop(shared.serve(stream)));
            }
        });
        Server { endpoint, shared }
    }

    /// Answers each request, of which it is told the first line, so from now on; counts anew.
    pub fn answers(&self, script: impl FnMut(&str) -> Answer + Send + 'static) {
        *self.shared.script.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(script);
        self.shared.requests.store(0, Ordering::Relaxed);
        self.shared.sent.store(0, Ordering::Relaxed);
    }

    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Bytes of bodies.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut read = Vec::new();
        while let Some((line, head)) = read_request(&mut stream, &mut read)? {
            self.requests.fetch_add(1, Ordering::Relaxed);
            let answer = (self.script.lock().unwrap_or_else(PoisonError::into_inner))(&line);
            if !self.send(&mut stream, &answer, head)? {
                break;
            }
        }
        Ok(())
    }

    /// Sends an answer; whether another can follow on this connection.
    fn send(&self, stream: &mut TcpStream, answer: &Answer, head: bool) -> io::Result<bool> {
        let mut out = format!("HTTP/1.1 {} Said\r\n", answer.status).into_bytes();
        for (name, value) in &answer.headers {
            out.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        let len = answer.body.len() as i64;
        let (goes_on, line) = match answer.framing {
            Framing::Length => (true, format!("content-length: {len}\r\n")),
            Framing::Lie(by) => (false, format!("content-length: {}\r\n", (len + by).max(0))),
            Framing::Chunked => (true, "transfer-encoding: chunked\r\n".to_owned()),
            Framing::Close => (false, "connection: close\r\n".to_owned()),
        };
        out.extend([line.as_bytes(), b"\r\n"].concat());
        stream.write_all(&out)?;
        if head {
            return Ok(goes_on);
        }
        for _ in 0..answer.times {
            if matches!(answer.framing, Framing::Chunked) {
                write!(stream, "{:x}\r\n", answer.body.len())?;
            }
            stream.write_all(&answer.body)?;
            if matches!(answer.framing, Framing::Chunked) {
                stream.write_all(b"\r\n")?;
            }
            self.sent.fetch_add(answer.body.len() as u64, Ordering::Relaxed);
        }
        if matches!(answer.framing, Framing::Chunked) && !answer.body.is_empty() {
            stream.write_all(b"0\r\n\r\n")?;
        }
        Ok(goes_on)
    }
}

/// The first line of the next request, and whether it asks for a head alone. Its body is read and forgotten.
fn read_request(stream: &mut TcpStream, read: &mut Vec<u8>) -> io::Result<Option<(String, bool)>> {
    let mut part = [0; 4096];
    let end = loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut part)? {
            0 => return Ok(None),
            n => read.extend(&part[..n]),
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
    let told = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let body: usize = told.map_or(0, |told| told.trim().parse().expect("a length"));
    while read.len() < end + body {
        match stream.read(&mut part)? {
            0 => return Ok(None),
            n => read.extend(&part[..n]),
        }
    }
    let line = String::from_utf8_lossy(&read[..end]).lines().next().unwrap_or_default().to_owned();
    read.drain(..end + body);
    let is_head = line.starts_with("HEAD ");
    Ok(Some((line, is_head)))
}
