//! A registry with one image, on this machine's loopback, for the length of one pull.
//!
//! Its name is unguessable, so that nobody else on the machine reads the image; it can only be read from, and is closed when the pull
//! is over. It gives a layer that is promised elsewhere once somebody asks for it.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::engine::{Error, Load};
use crate::image::MANIFEST_LIMIT;
use crate::oci::{Descriptor, Digest, MediaType};
use crate::sync::lock;

/// The longest head of a request.
const HEAD_LIMIT: u64 = 64 << 10;
/// A connection on which nothing moves for so long is broken.
const PATIENCE: Duration = Duration::from_secs(60);
/// Manifests that the image may be found by.
const TAG: &str = "latest";

pub(super) struct Registry<'a> {
    load: &'a Load<'a>,
    listener: TcpListener,
    address: SocketAddr,
    /// The repository.
    secret: String,
    is_closed: AtomicBool,
    sent: AtomicU64,
    failure: Mutex<Option<Error>>,
}

/// What is asked for.
enum Asked {
    Alive,
    Manifest(String),
    Blob(Digest),
}

impl<'a> Registry<'a> {
    pub(super) fn open(load: &'a Load<'a>) -> Result<Self, Error> {
        let failed = |source| Error::System { action: "listen on this machine's loopback", source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let mut random = [0; 16];
        let read = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        read.map_err(|e| Error::System { action: "get random numbers", source: e.into() })?;
        let secret = format!("rbuild-{:032x}", u128::from_ne_bytes(random));
        let (is_closed, sent, failure) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(None));
        Ok(Self { load, listener, address, secret, is_closed, sent, failure })
    }

    /// What the image is called in it.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.address, self.secret)
    }

    /// Bytes of blobs and manifests that were asked for.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Why something was not given.
    pub(super) fn failure(&self) -> Option<Error> {
        lock(&self.failure).take()
    }

    /// Answers until it is closed.
    pub(super) fn serve(&self) {
        std::thread::scope(|scope| {
            for stream in self.listener.incoming() {
                if self.is_closed.load(Ordering::Acquire) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                scope.spawn(move || {
                    let limits = stream.set_read_timeout(Some(PATIENCE));
                    let limits = limits.and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
                    // Who hangs up has what they wanted.
                    let _ = limits.and_then(|()| self.answer(&stream));
                });
            }
        });
    }

    /// Lets `serve` end.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
    }

    /// One request for each connection: a pull makes a handful.
    fn answer(&self, stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream.take(HEAD_LIMIT));
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let mut range = None;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            if let Some(from) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                range = from.split('-').next().and_then(|from| from.parse::<u64>().ok());
            }
        }
        let mut words = first.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let with_body = match method {
            "GET" => true,
            "HEAD" => false,
            _ => return head(stream, "405 Method Not Allowed", None, 0),
        };
        match self.asked(path) {
            Some(Asked::Alive) => head(stream, "200 OK", None, 0),
            Some(Asked::Manifest(wanted)) => self.manifest(stream, &wanted, with_body),
            Some(Asked::Blob(digest)) => self.blob(stream, digest, (range.unwrap_or(0), with_body)),
            None => head(stream, "404 Not Found", None, 0),
        }
    }

    fn asked(&self, path: &str) -> Option<Asked> {
        let path = path.split('?').next().unwrap_or_default();
        let rest = path.strip_prefix("/v2")?;
        if rest.is_empty() || rest == "/" {
            return Some(Asked::Alive);
        }
        let rest = rest.strip_prefix('/')?.strip_prefix(self.secret.as_str())?;
        match rest.strip_prefix("/manifests/") {
            Some(wanted) => Some(Asked::Manifest(wanted.to_owned())),
            None => Some(Asked::Blob(rest.strip_prefix("/blobs/")?.parse().ok()?)),
        }
    }

    /// The image itself by its tag, and any document of the store by its digest: what is in the image names them.
    fn manifest(&self, stream: &TcpStream, wanted: &str, with_body: bool) -> io::Result<()> {
        let target = self.load.target;
        let (digest, media_type) = match wanted.parse::<Digest>() {
            _ if wanted == TAG => (target.digest, target.media_type.clone()),
            Ok(digest) if digest == target.digest => (digest, target.media_type.clone()),
            Ok(digest) => (digest, MediaType::MANIFEST),
            Err(_) => return head(stream, "404 Not Found", None, 0),
        };
        let Some(size) = self.load.store.has_blob(&digest) else {
            return head(stream, "404 Not Found", None, 0);
        };
        let Ok(bytes) =
            self.load.store.read_blob(&Descriptor::new(media_type.clone(), digest, size), MANIFEST_LIMIT)
        else {
            return head(stream, "404 Not Found", None, 0);
        };
        head(stream, "200 OK", Some((media_type.as_str(), &digest)), bytes.len() as u64)?;
        if with_body {
            self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            (&*stream).write_all(&bytes)?;
        }
        Ok(())
    }

    fn blob(&self, mut stream: &TcpStream, digest: Digest, (from, with_body): (u64, bool)) -> io::Result<()> {
        let blob = Descriptor::new(MediaType::LAYER_GZIP, digest, 0);
        if let Err(error) = self.load.bring([&blob]) {
            *lock(&self.failure) = Some(error);
            return head(stream, "404 Not Found", None, 0);
        }
        let (Some(size), Ok(mut file)) =
            (self.load.store.has_blob(&digest), self.load.store.open_blob(&digest))
        else {
            return head(stream, "404 Not Found", None, 0);
        };
        let from = from.min(size);
        let status = match from {
            0 => "200 OK".to_owned(),
            _ => format!(
                "206 Partial Content\r\nContent-Range: bytes {from}-{}/{size}",
                size.saturating_sub(1)
            ),
        };
        head(stream, &status, Some(("application/octet-stream", &digest)), size - from)?;
        if with_body {
            io::Seek::seek(&mut file, io::SeekFrom::Start(from))?;
            let copied = io::copy(&mut file.take(size - from), &mut stream)?;
            let sent = self.sent.fetch_add(copied, Ordering::Relaxed) + copied;
            (self.load.hear)(sent, sent);
        }
        Ok(())
    }
}

fn head(mut stream: &TcpStream, status: &str, what: Option<(&str, &Digest)>, length: u64) -> io::Result<()> {
    let mut text = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nDocker-Distribution-Api-Version: registry/2.0\r\nContent-Length: {length}\r\n"
    );
    if let Some((media_type, digest)) = what {
        text.push_str(&format!("Content-Type: {media_type}\r\nDocker-Content-Digest: {digest}\r\n"));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes())
}
