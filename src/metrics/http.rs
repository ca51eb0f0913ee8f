//! Serving pages over HTTP/1: one request a connection. The head is parsed by httparse, as hyper does it; more of HTTP
//! is not needed for a scrape.

use super::address::Bound;
use super::page::Form;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

/// From when a scraper is accepted until it has its answer; then it is hung up on.
const PATIENCE: Duration = Duration::from_secs(10);
/// Scrapers at once; one more is hung up on.
const MOST: usize = 8;
/// The longest head of a request.
const HEAD: usize = 8 << 10;
/// The most headers in it.
const HEADERS: usize = 64;
/// How long a page is waited for; while it is being made, others get no answer either.
const MAKING: Duration = Duration::from_secs(5);

/// Makes a page; may block.
pub type Pages = Arc<dyn Fn(Form) -> String + Send + Sync>;

/// Serves pages until dropped.
pub async fn serve(bound: Bound, pages: Pages) -> io::Result<()> {
    let maker = Maker::new(pages, MAKING);
    let places = Arc::new(Semaphore::new(MOST));
    match bound {
        Bound::Tcp(listener) => {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                let accepted = listener.accept().await;
                answer(accepted.map(|(client, _)| client), &places, &maker).await;
            }
        }
        Bound::Unix(listener, _file) => {
            let listener = tokio::net::UnixListener::from_std(listener)?;
            loop {
                let accepted = listener.accept().await;
                answer(accepted.map(|(client, _)| client), &places, &maker).await;
            }
        }
    }
}

/// Answers a scraper on a task of its own.
async fn answer<C>(accepted: io::Result<C>, places: &Arc<Semaphore>, maker: &Arc<Maker>)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let client = match accepted {
        Ok(client) => client,
        Err(error) => {
            tracing::warn!(%error, "no scraper can be accepted");
            return tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        tracing::debug!("one scraper too many is hung up on");
        return;
    };
    let maker = Arc::clone(maker);
    tokio::spawn(async move {
        let _place = place;
        match tokio::time::timeout(PATIENCE, exchange(client, &maker)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a scraper went away"),
            Err(_) => tracing::debug!("a slow scraper was hung up on"),
        }
    });
}

/// Makes one page at a time, on a thread that may block.
struct Maker {
    pages: Pages,
    one: Arc<Semaphore>,
    patience: Duration,
}

impl Maker {
    fn new(pages: Pages, patience: Duration) -> Arc<Maker> {
        Arc::new(Maker { pages, one: Arc::new(Semaphore::new(1)), patience })
    }

    /// `None`: it takes too long.
    async fn page(&self, form: Form) -> Option<String> {
        let turn = Arc::clone(&self.one).acquire_owned();
        let turn = tokio::time::timeout(self.patience, turn).await.ok()?.ok()?;
        let pages = Arc::clone(&self.pages);
        let making = tokio::task::spawn_blocking(move || {
            // Until it is made, whoever waits for it.
            let _turn = turn;
            pages(form)
        });
        tokio::time::timeout(self.patience, making).await.ok()?.ok()
    }
}

/// What is answered.
struct Reply {
    status: &'static str,
    content_type: &'static str,
    body: String,
}

impl Reply {
    fn plain(status: &'static str, body: &str) -> Reply {
        Reply { status, content_type: "text/plain; charset=utf-8", body: format!("{body}\n") }
    }
}

/// What is asked.
struct Asked {
    head_only: bool,
    form: Form,
}

async fn exchange<C: AsyncRead + AsyncWrite + Unpin>(mut client: C, maker: &Maker) -> io::Result<()> {
    let asked = read(&mut client).await?;
    let head_only = matches!(&asked, Ok(asked) if asked.head_only);
    let reply = match asked {
        Err(refusal) => refusal,
        Ok(asked) => match maker.page(asked.form).await {
            Some(body) => Reply { status: "200 OK", content_type: asked.form.content_type(), body },
            None => Reply::plain("503 Service Unavailable", "the figures cannot be had now"),
        },
    };
    let Reply { status, content_type, body } = reply;
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let length = body.len();
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
    );
    if !head_only {
        answer.push_str(&body);
    }
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}

/// Reads the head of a request; a refusal where it asks for nothing that there is.
async fn read<C: AsyncRead + Unpin>(client: &mut C) -> io::Result<Result<Asked, Reply>> {
    let mut head = Vec::with_capacity(1024);
    loop {
        if client.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Ok(httparse::Status::Complete(_)) => return Ok(understand(&request)),
            Ok(httparse::Status::Partial) if head.len() < HEAD => {}
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Ok(Err(Reply::plain("431 Request Header Fields Too Large", "too long")));
            }
            Err(error) => return Ok(Err(Reply::plain("400 Bad Request", &error.to_string()))),
        }
    }
}

fn understand(request: &httparse::Request<'_, '_>) -> Result<Asked, Reply> {
    let head_only = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Err(Reply::plain("405 Method Not Allowed", "only GET and HEAD")),
    };
    let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
    if path != "/metrics" {
        return Err(Reply::plain("404 Not Found", "the metrics are at /metrics"));
    }
    let accepts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("accept"));
    let accept: Vec<_> = accepts.map(|header| String::from_utf8_lossy(header.value)).collect();
    Ok(Asked { head_only, form: Form::accepted(&accept.join(",")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn maker(pages: impl Fn(Form) -> String + Send + Sync + 'static) -> Arc<Maker> {
        Maker::new(Arc::new(pages), MAKING)
    }

    /// What a scraper is answered that says this.
    async fn answered(maker: &Arc<Maker>, said: &[&str]) -> String {
        let (mut ours, theirs) = tokio::io::duplex(64 << 10);
        let maker = Arc::clone(maker);
        let serving = tokio::spawn(async move { exchange(theirs, &maker).await });
        for part in said {
            ours.write_all(part.as_bytes()).await.expect("written");
            tokio::task::yield_now().await;
        }
        let mut answer = String::new();
        ours.read_to_string(&mut answer).await.expect("text");
        serving.await.expect("no panic").expect("it was answered");
        answer
    }

    #[tokio::test]
    async fn scrapes_are_answered_in_the_form_that_is_asked_for() {
        let maker = maker(|form| format!("{form:?}"));
        let plain = answered(&maker, &["GET /metrics?x=1 HT", "TP/1.1\r\nHost: x\r\n", "\r\n"]).await;
        assert!(plain.starts_with("HTTP/1.1 200 OK\r\n") && plain.ends_with("\r\n\r\nPrometheus"), "{plain}");
        assert!(plain.contains("Content-Type: text/plain; version=0.0.4"), "{plain}");
        let open = "GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text\r\n\r\n";
        assert!(answered(&maker, &[open]).await.ends_with("OpenMetrics"));
        let head = answered(&maker, &["HEAD /metrics HTTP/1.1\r\n\r\n"]).await;
        assert!(head.contains("Content-Length: 10\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused() {
        let maker = maker(|_| String::new());
        let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(HEAD));
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "X: x\r\n".repeat(HEADERS + 1));
        for (said, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("\u{1}\u{2}\r\n\r\n", "400"),
            (&long, "431"),
            (&many, "431"),
        ] {
            let answer = answered(&maker, &[said]).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_scraper_that_says_nothing_or_takes_nothing_is_hung_up_on() {
        let maker = maker(|_| "x".repeat(1 << 20));
        let places = Arc::new(Semaphore::new(1));
        for said in ["", "GET /metrics HTTP/1.1\r\n\r\n"] {
            let (mut ours, theirs) = tokio::io::duplex(16);
            answer(Ok(theirs), &places, &maker).await;
            let (_one, other) = tokio::io::duplex(16);
            answer(Ok(other), &places, &maker).await;
            // What is in the way of more is not read; the connection ends all the same.
            let _ = tokio::time::timeout(PATIENCE * 2, ours.write_all(said.as_bytes())).await;
            tokio::time::sleep(PATIENCE * 2).await;
            assert_eq!(places.available_permits(), 1, "its place is free again");
        }
    }

    #[tokio::test]
    async fn a_page_that_hangs_keeps_only_pages_waiting() {
        let hangs = Arc::new(AtomicBool::new(true));
        let until = Arc::clone(&hangs);
        let pages = move |_| {
            while until.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            "made".to_owned()
        };
        let maker = Maker::new(Arc::new(pages), Duration::from_millis(100));
        assert_eq!(maker.page(Form::Prometheus).await, None);
        assert_eq!(maker.page(Form::Prometheus).await, None, "no second thread hangs with it");
        hangs.store(false, Ordering::Relaxed);
        while maker.page(Form::Prometheus).await.is_none() {}
    }
}
