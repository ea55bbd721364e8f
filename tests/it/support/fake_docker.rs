//! Something that answers as docker's daemon does.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

/// What becomes of a request.
pub enum Reply {
    /// A status and a body.
    Says(u16, String),
    /// Nothing: the connection is closed at once, its body unread.
    HangsUp,
    /// A status and a body, before the request's body is read.
    Interrupts(u16, String),
}

/// A daemon at a socket; every request is noted.
pub struct FakeDocker {
    socket: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeDocker {
    /// `answer` hears what is asked, `GET /info`, and the body of the request.
    pub fn new(socket: PathBuf, answer: impl Fn(&str, &[u8]) -> Reply + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, answer) = (Arc::clone(&asked), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, noted, answer) = (stream.unwrap(), Arc::clone(&noted), Arc::clone(&answer));
                thread::spawn(move || serve(&stream, &noted, &*answer));
            }
        });
        Self { socket, asked }
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Every request until now.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: &UnixStream, noted: &Mutex<Vec<String>>, answer: &dyn Fn(&str, &[u8]) -> Reply) {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    if reader.read_line(&mut first).unwrap() == 0 {
        return;
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
    }
    let asked = first.rsplit_once(' ').unwrap().0.to_owned();
    noted.lock().unwrap().push(asked.clone());
    let early = answer(&asked, b"");
    let reply = match early {
        Reply::Says(..) if length > 0 => {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            answer(&asked, &body)
        }
        reply => reply,
    };
    if let Reply::Says(status, body) | Reply::Interrupts(status, body) = reply {
        let text = format!(
            "HTTP/1.1 {status} X\r\nApi-Version: 1.41\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let _ = stream.write_all(text.as_bytes());
    }
}
