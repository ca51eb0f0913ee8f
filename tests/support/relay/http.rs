//! Just enough of HTTP/1.1 to know where a message ends: heads are kept byte for byte, because a signed
//! request must reach the store unchanged.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Error, ErrorKind, Read};

/// The largest head that is accepted, in bytes.
const HEAD_LIMIT: usize = 64 * 1024;

/// The start line and the headers of a request or an answer.
pub struct Head {
    /// The bytes as they came, the empty line included.
    pub raw: Vec<u8>,
    /// `PUT /bucket/key HTTP/1.1` or `HTTP/1.1 200 OK`.
    pub start: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The headers whose names begin with `x-amz-`.
    pub fn amz_headers(&self) -> BTreeMap<String, String> {
        self.headers.iter().filter(|(name, _)| name.starts_with("x-amz-")).cloned().collect()
    }

    /// The status of an answer.
    pub fn status(&self) -> io::Result<u16> {
        let status = self.start.split(' ').nth(1).and_then(|s| s.parse().ok());
        status.ok_or_else(|| bad("an answer without a status"))
    }

    /// How the body that follows a request's head is delimited.
    pub fn request_framing(&self) -> io::Result<Framing> {
        Ok(match self.declared()? {
            Framing::UntilClose => Framing::Length(0),
            framing => framing,
        })
    }

    /// How the body that follows an answer to `method` is delimited.
    pub fn answer_framing(&self, method: &str) -> io::Result<Framing> {
        let status = self.status()?;
        if method == "HEAD" || status == 204 || status == 304 || status < 200 {
            return Ok(Framing::Length(0));
        }
        self.declared()
    }

    fn declared(&self) -> io::Result<Framing> {
        if self.header("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked")) {
            return Ok(Framing::Chunked);
        }
        match self.header("content-length") {
            Some(n) => Ok(Framing::Length(n.trim().parse().map_err(|_| bad("a bad Content-Length"))?)),
            None => Ok(Framing::UntilClose),
        }
    }
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks, the last one empty.
    Chunked,
    /// Whatever comes until the connection ends.
    UntilClose,
}

/// Reads a head; `None` when the connection ended before one began.
pub fn read_head(from: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut raw = Vec::new();
    let mut lines = Vec::new();
    loop {
        let line = match read_line(from, HEAD_LIMIT - raw.len())? {
            line if line.is_empty() && raw.is_empty() => return Ok(None),
            line if line.is_empty() => return Err(ErrorKind::UnexpectedEof.into()),
            line => line,
        };
        raw.extend_from_slice(&line);
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if text.is_empty() {
            break;
        }
        lines.push(text);
    }
    let mut lines = lines.into_iter();
    let start = lines.next().ok_or_else(|| bad("a head without a start line"))?;
    let headers = lines
        .filter_map(|l| l.split_once(':').map(|(n, v)| (n.trim().to_ascii_lowercase(), v.trim().to_owned())))
        .collect();
    Ok(Some(Head { raw, start, headers }))
}

/// Passes a body on, framing included, in pieces of at most `piece` bytes; returns how many bytes of
/// content it had.
pub fn read_body(
    from: &mut impl BufRead,
    framing: Framing,
    piece: usize,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    match framing {
        Framing::Length(n) => pass(from, n, piece, sink).map(|()| n),
        Framing::Chunked => {
            let mut total = 0;
            loop {
                let line = read_line(from, HEAD_LIMIT)?;
                let size = chunk_size(&line)?;
                sink(&line)?;
                if size == 0 {
                    return pass_trailer(from, sink).map(|()| total);
                }
                pass(from, size + 2, piece, sink)?;
                total += size;
            }
        }
        Framing::UntilClose => {
            let mut total = 0;
            let mut buffer = vec![0; piece];
            loop {
                let n = from.read(&mut buffer)?;
                if n == 0 {
                    return Ok(total);
                }
                sink(&buffer[..n])?;
                total += n as u64;
            }
        }
    }
}

fn pass(
    from: &mut impl BufRead,
    mut left: u64,
    piece: usize,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; piece];
    while left > 0 {
        let want = left.min(piece as u64) as usize;
        let n = from.read(&mut buffer[..want])?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        sink(&buffer[..n])?;
        left -= n as u64;
    }
    Ok(())
}

fn pass_trailer(from: &mut impl BufRead, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    loop {
        let line = read_line(from, HEAD_LIMIT)?;
        sink(&line)?;
        if line == b"\r\n" || line.is_empty() {
            return Ok(());
        }
    }
}

fn chunk_size(line: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(line).map_err(|_| bad("a bad chunk header"))?;
    let digits = text.trim_end().split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(digits, 16).map_err(|_| bad("a bad chunk size"))
}

fn read_line(from: &mut impl BufRead, limit: usize) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.by_ref().take(limit as u64).read_until(b'\n', &mut line)?;
    if line.len() >= limit {
        return Err(bad("a head that does not end"));
    }
    Ok(line)
}

fn bad(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}
