//! The server: reads a request, finds its place in the script, answers.

use super::Dialect;
use super::item::{Item, list};
use super::script::{Call, Next, Script, Tool, id};
use crate::support::relay::http::{Framing, Head, read_body, read_head};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How an agent calls a tool of the script.
pub type Translate = fn(&Tool) -> Call;

/// A running model server; dropping it ends it.
pub struct Model {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Script,
    translate: Translate,
    told: Mutex<Told>,
    stopping: AtomicBool,
}

/// What a server has seen.
#[derive(Debug, Default, Clone)]
pub struct Told {
    /// The turns that came to their end.
    pub ended: BTreeSet<usize>,
    /// What was wrong with requests, in words.
    pub wrong: Vec<String>,
    /// Every request: what was asked and what was answered.
    pub log: Vec<String>,
}

impl Model {
    /// Starts one on a free port of 127.0.0.1.
    pub fn start(script: Script, translate: Translate) -> io::Result<Model> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (told, stopping) = (Mutex::default(), AtomicBool::new(false));
        let shared = Arc::new(Shared { script, translate, told, stopping });
        let theirs = shared.clone();
        std::thread::Builder::new().name("model".into()).spawn(move || accept(&listener, &theirs))?;
        Ok(Model { address, shared })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it has seen so far.
    pub fn told(&self) -> Told {
        self.shared.told().clone()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor so that it sees the flag; if that fails it has already ended.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a request: its status and its body.
    fn answer(&self, head: &Head, body: &[u8]) -> (u16, String) {
        let path = head.start.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default();
        let (true, Some(dialect)) = (head.start.starts_with("POST "), Dialect::at(path)) else {
            self.told().log.push(format!("{}: not served", head.start));
            return (404, json!({"error": {"message": "not served"}}).to_string());
        };
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return self.refuse(format!("{}: the body is no JSON", head.start));
        };
        // Titles and the like are asked for without tools.
        if list(&body["tools"]).is_empty() {
            self.told().log.push(format!("{path}: without tools"));
            return (200, dialect.say("title", "A title"));
        }
        self.in_script(dialect, &dialect.items(&body))
    }

    fn in_script(&self, dialect: Dialect, items: &[Item]) -> (u16, String) {
        match self.script.next(items) {
            Err(wrong) => self.refuse(format!("{wrong}; the request had {items:?}")),
            Ok(Next::Say { turn }) => {
                let mut told = self.told();
                told.ended.insert(turn);
                told.log.push(format!("{}: turn {turn} ended", dialect.path()));
                (200, dialect.say(&format!("end_{turn}"), &self.script.0[turn].say))
            }
            Ok(Next::Step { turn, step }) => {
                self.told().log.push(format!("{}: turn {turn}, step {step}", dialect.path()));
                let call = (self.translate)(&self.script.0[turn].steps[step].tool);
                (200, dialect.call(&id(turn, step), &call))
            }
        }
    }

    /// An error that no client tries again.
    fn refuse(&self, wrong: String) -> (u16, String) {
        let said = json!({"type": "error",
            "error": {"type": "invalid_request_error", "message": "not as the script has it"}});
        self.told().wrong.push(wrong);
        (400, said.to_string())
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let (Ok(client), theirs) = (client, shared.clone()) else { continue };
        std::thread::spawn(move || {
            if let Err(e) = serve(&theirs, &client) {
                theirs.told().log.push(format!("a connection ended: {e}"));
            }
        });
    }
}

/// One request, one answer, one connection.
fn serve(shared: &Shared, mut client: &TcpStream) -> io::Result<()> {
    let mut from = BufReader::new(client);
    let Some(head) = read_head(&mut from)? else { return Ok(()) };
    if head.header("expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = Vec::new();
    let framing = head.request_framing()?;
    if framing == Framing::Chunked {
        shared.told().wrong.push(format!("{}: a chunked body, which is not read here", head.start));
    }
    read_body(&mut from, framing, 64 * 1024, &mut |piece| {
        body.extend_from_slice(piece);
        Ok(())
    })?;
    let (status, answer) = shared.answer(&head, &body);
    let kind = if status == 200 { "text/event-stream" } else { "application/json" };
    let length = answer.len();
    let head = format!(
        "HTTP/1.1 {status} Scripted\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes())?;
    // In pieces, as a model's words come.
    for piece in answer.as_bytes().chunks(512) {
        client.write_all(piece)?;
        client.flush()?;
    }
    Ok(())
}
