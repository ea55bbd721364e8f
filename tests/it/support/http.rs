//! A small HTTP server that says what a test wants, and can break off anywhere.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What to answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub ending: Ending,
}

/// How far to get with the answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Whole,
    /// The connection is closed after so many bytes of the body.
    CutAfter(usize),
    /// Nothing comes after so many bytes of the body, but the connection stays until the client closes it.
    StallAfter(usize),
    /// The connection is closed without a word.
    NoAnswer,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), ending: Ending::Whole }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }
}

/// A server on a free port of 127.0.0.1; ends with the value.
pub struct Server {
    port: u16,
    log: Arc<Mutex<Vec<Received>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (log, stop) = (Arc::<Mutex<Vec<Received>>>::default(), Arc::new(AtomicBool::new(false)));
        let handler = Arc::new(handler);
        let (its_log, its_stop) = (Arc::clone(&log), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if its_stop.load(Ordering::SeqCst) {
                    return;
                }
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&its_log));
                // A client that goes away in the middle is no failure of the test.
                std::thread::spawn(move || stream.and_then(|stream| serve(stream, &*handler, &log)));
            }
        });
        Self { port, log, stop, thread: Some(thread) }
    }

    /// A server that passes everything on to `upstream` (`host:port`), through `change`.
    pub fn between(
        upstream: String,
        change: impl Fn(&Received, Reply) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |request| change(request, forward(&upstream, request)))
    }

    /// `localhost:PORT`
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// What was asked so far, as `GET /path`.
    pub fn requests(&self) -> Vec<String> {
        self.received().iter().map(|r| format!("{} {}", r.method, r.path)).collect()
    }

    /// What was asked so far.
    pub fn received(&self) -> Vec<Received> {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread from accept().
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        self.thread.take().map(JoinHandle::join);
    }
}

/// Makes the request at `upstream` and gives the whole answer.
pub fn forward(upstream: &str, request: &Received) -> Reply {
    let mut stream = TcpStream::connect(upstream.replace("localhost", "127.0.0.1")).unwrap();
    let mut head = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", request.method, request.path);
    for (name, value) in request.headers.iter().filter(|(name, _)| name != "connection") {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(&request.body).unwrap();
    let mut reader = BufReader::new(stream);
    let (first, headers) = read_head(&mut reader).unwrap();
    let mut body = Vec::new();
    if request.method != "HEAD" {
        reader.read_to_end(&mut body).unwrap();
    }
    let status = first.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, headers, body, ending: Ending::Whole }
}

fn serve(
    stream: TcpStream,
    handler: &dyn Fn(&Received) -> Reply,
    log: &Mutex<Vec<Received>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (first, headers) = read_head(&mut reader)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Received { method, path, headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_end(&mut request.body)?;
    if request.body.len() as u64 != length {
        // It was cut off on the way, and so whoever sent it hears nothing.
        return Ok(());
    }
    log.lock().unwrap().push(request.clone());
    answer(stream, &request, &handler(&request))
}

fn answer(mut stream: TcpStream, request: &Received, reply: &Reply) -> std::io::Result<()> {
    if reply.ending == Ending::NoAnswer {
        return stream.shutdown(Shutdown::Both);
    }
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    let given = reply.headers.iter().any(|(name, _)| name == "content-length");
    if !given {
        head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
    }
    for (name, value) in reply.headers.iter().filter(|(name, _)| name != "connection") {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    let length = match reply.ending {
        Ending::CutAfter(n) | Ending::StallAfter(n) => n.min(reply.body.len()),
        _ => reply.body.len(),
    };
    if request.method != "HEAD" {
        stream.write_all(&reply.body[..length])?;
    }
    if matches!(reply.ending, Ending::StallAfter(_)) {
        // Ends when the client has had enough and closes.
        let _ = stream.read(&mut [0]);
    }
    stream.shutdown(Shutdown::Both)
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<(String, Vec<(String, String)>)> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).map(|_| line.trim_end().to_owned())
    };
    let first = line()?;
    let mut headers = Vec::new();
    loop {
        let text = line()?;
        let Some((name, value)) = text.split_once(':') else { return Ok((first, headers)) };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}
