//! The pod's side of a build: waits for who placed it, lays out what is sent, runs rbuild with that, and gives what was made.
//!
//! The pod's own process is this. Whoever placed the build runs another program there (`connect`), which passes on bytes between its
//! standard input and output and a socket of this one: so a connection that breaks ends nothing, and what a build says is in the pod's
//! log, too. When nobody is connected any more the process ends, and with it the job.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rustix::net::{RecvFlags, recv};
use rustix::process::{Pid, Signal, kill_process_group};
use walkdir::WalkDir;

use super::link::{self, Done, Frames, Get, Hello, NAME, PIECE, Run};
use super::worker;
use crate::exec::Stop;
use crate::oci::{Digest, Hasher};
use crate::reapi::Blob;
use crate::sync::lock;

/// rbuild itself.
const SELF: &str = "/proc/self/exe";
/// So long nobody need be connected.
const ALONE: Duration = Duration::from_secs(120);
/// How often it is looked at what is to be ended.
const LOOK: Duration = Duration::from_millis(100);
/// What was told to end is killed after so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// A socket that is not there yet is waited for.
const BEGINS: Duration = Duration::from_secs(10);
/// Files that nobody used for so long go, where a volume keeps them.
const UNUSED: Duration = Duration::from_secs(3 * 24 * 3600);
/// Who follows hears something at least so often.
const SIGN: Duration = Duration::from_secs(10);
/// What is printed beside the log is shorter.
const PRINTED: u64 = 1 << 20;
const SOCKET: &str = "socket";
const LOG: &str = "log";

/// What several connections share.
struct Attending {
    /// Where things are put together.
    folder: PathBuf,
    /// Blobs that were sent, by digest.
    blobs: PathBuf,
    /// Those whose bytes were looked at.
    intact: Mutex<BTreeSet<Digest>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    connections: usize,
    /// When the last one ended.
    alone: Option<Instant>,
    child: Option<Pid>,
    /// Bytes of the log.
    said: u64,
    has_begun: bool,
    /// All of the log is there.
    is_read: bool,
    /// What runs is ended then.
    until: Option<Instant>,
    is_late: bool,
    is_stopped: bool,
    done: Option<Done>,
}

/// Attends in a folder of its own until nobody is interested any more; gives the exit code of what ran.
///
/// # Errors
/// When the folder cannot be used.
pub fn attend(folder: &Path, stop: &Stop) -> io::Result<i32> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        Ok(()) | Err(_) => {}
    }
    // Beside the store that stays, if there is one.
    let kept = worker::kept_root().and_then(|root| Some(root.parent()?.join("inbox")));
    // Not every user may write there.
    let kept = kept.filter(|place| {
        fs::create_dir_all(place).is_ok()
            && rustix::fs::access(place, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
    });
    let blobs = kept.unwrap_or_else(|| folder.join("inbox"));
    fs::create_dir_all(&blobs)?;
    forget_unused(&blobs);
    let listener = UnixListener::bind(folder.join(SOCKET))?;
    let state = Mutex::new(State { alone: Some(Instant::now()), ..State::default() });
    let (changed, intact) = (Condvar::new(), Mutex::default());
    let attending = Arc::new(Attending { folder: folder.to_owned(), blobs, intact, state, changed });
    let its = Arc::clone(&attending);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let its = Arc::clone(&its);
            lock(&its.state).connections += 1;
            std::thread::spawn(move || {
                // Whoever is gone hears nothing.
                let _ = its.serve(&stream);
                let mut state = lock(&its.state);
                state.connections -= 1;
                state.alone = Some(Instant::now());
            });
        }
    });
    loop {
        let mut state = lock(&attending.state);
        let is_alone = state.connections == 0 && state.alone.is_some_and(|since| since.elapsed() > ALONE);
        if stop.is_wanted() || is_alone {
            // Whatever comes of it now is not how the build came out.
            state.is_stopped = state.done.is_none();
            let (child, done) = (state.child, state.done.as_ref().map(|done| done.code));
            drop(state);
            if let Some(child) = child {
                attending.end(child);
            }
            return Ok(done.unwrap_or(1));
        }
        let late = state.child.filter(|_| state.until.is_some_and(|until| Instant::now() > until));
        drop(state);
        if let Some(child) = late {
            lock(&attending.state).is_late = true;
            attending.end(child);
        }
        std::thread::sleep(LOOK);
    }
}

/// Passes on what comes on standard input, and what is answered.
///
/// # Errors
/// When nobody attends there.
pub fn connect(folder: &Path) -> io::Result<()> {
    let began = Instant::now();
    let stream = loop {
        match UnixStream::connect(folder.join(SOCKET)) {
            Ok(stream) => break stream,
            Err(e) if began.elapsed() > BEGINS => return Err(e),
            Err(_) => std::thread::sleep(LOOK),
        }
    };
    let other = stream.try_clone()?;
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut &other);
        // Nobody asks any more, so nobody hears either.
        let _ = other.shutdown(Shutdown::Both);
    });
    let (mut buffer, mut out) = (vec![0; PIECE], io::stdout().lock());
    loop {
        match (&stream).read(&mut buffer)? {
            0 => return Ok(()),
            size => {
                out.write_all(&buffer[..size])?;
                out.flush()?;
            }
        }
    }
}

/// Removes what a volume kept that nobody used for long.
fn forget_unused(folder: &Path) {
    let old = |path: &Path| -> Option<bool> {
        Some(fs::symlink_metadata(path).ok()?.modified().ok()?.elapsed().ok()? > UNUSED)
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if old(&entry.path()) == Some(true) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A file that goes with the value, unless it has another name by then.
struct Fresh<'p>(&'p Path);

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

fn hash(path: &Path) -> io::Result<Digest> {
    let (mut file, mut hasher, mut buffer) = (File::open(path)?, Hasher::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            size => hasher.update(&buffer[..size]),
        }
    }
}

/// One connection's frames.
struct Asked<'s> {
    stream: &'s UnixStream,
    frames: Frames,
}

impl Asked<'_> {
    /// The next frame; `None` when there is none any more.
    fn next(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let mut buffer = vec![0; PIECE];
        loop {
            match self.frames.next() {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(()) => return Err(io::Error::other("a frame is too long")),
            }
            match self.stream.read(&mut buffer)? {
                0 => return Ok(None),
                size => self.frames.push(&buffer[..size]),
            }
        }
    }

    fn answer(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(&link::frame(kind, bytes))
    }
}

/// What is sent, as a stream of bytes.
struct Sent<'a, 's> {
    asked: &'a mut Asked<'s>,
    piece: io::Cursor<Vec<u8>>,
    is_over: bool,
}

impl Read for Sent<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let size = self.piece.read(buffer)?;
            if size > 0 || self.is_over {
                return Ok(size);
            }
            match self.asked.next()? {
                Some((b'D', bytes)) => self.piece = io::Cursor::new(bytes),
                Some((b'E', _)) => self.is_over = true,
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

impl Attending {
    fn serve(self: &Arc<Self>, stream: &UnixStream) -> io::Result<()> {
        let mut asked = Asked { stream, frames: Frames::default() };
        while let Some((kind, bytes)) = asked.next()? {
            let done = match kind {
                b'H' => {
                    let hello =
                        Hello { version: link::VERSION, rbuild: env!("CARGO_PKG_VERSION").to_owned() };
                    asked.answer(b'h', &serde_json::to_vec(&hello)?)
                }
                b'M' => match link::named(&bytes) {
                    Some(names) => {
                        let missing = names.into_iter().filter(|blob| !self.has(blob));
                        asked.answer(b'm', &link::names(missing))
                    }
                    None => Err(io::Error::other("names are none")),
                },
                b'P' => self.take(&mut asked).and_then(|()| asked.answer(b'p', b"")),
                b'R' => self.run(&bytes).and_then(|()| asked.answer(b'r', b"")),
                b'F' => match bytes.try_into() {
                    Ok(from) => self.follow(u64::from_be_bytes(from), &mut asked),
                    Err(_) => Err(io::Error::other("a place in the log is none")),
                },
                b'G' => self.give(&bytes, &mut asked),
                _ => Err(io::Error::other("nothing of that kind is known")),
            };
            if let Err(error) = done {
                asked.answer(b'x', error.to_string().as_bytes())?;
            }
        }
        Ok(())
    }

    fn path_of(&self, blob: &Blob) -> PathBuf {
        self.blobs.join(blob.digest.hex())
    }

    /// Whether a blob is there; then it is used.
    fn has(&self, blob: &Blob) -> bool {
        let path = self.path_of(blob);
        let is_there = fs::metadata(&path).is_ok_and(|meta| meta.len() == blob.size);
        // Once, as what a volume keeps may have been damaged since, and nobody else would send it again.
        if is_there && !lock(&self.intact).contains(&blob.digest) {
            if !hash(&path).is_ok_and(|digest| digest == blob.digest) {
                let _ = fs::remove_file(&path);
                return false;
            }
            lock(&self.intact).insert(blob.digest);
        }
        if is_there && let Ok(file) = File::options().write(true).open(&path) {
            let _ = file.set_modified(SystemTime::now());
        }
        is_there
    }

    /// Takes blobs, each of which is what its name says, or none of it stays.
    fn take(&self, asked: &mut Asked<'_>) -> io::Result<()> {
        let mut sent = Sent { asked, piece: io::Cursor::new(Vec::new()), is_over: false };
        let taken = self.take_from(&mut sent);
        // What comes behind something that is wrong is not taken for a question.
        if taken.is_err() && !sent.is_over {
            io::copy(&mut sent, &mut io::sink())?;
        }
        taken
    }

    fn take_from(&self, sent: &mut Sent<'_, '_>) -> io::Result<()> {
        let mut reader = zstd::stream::read::Decoder::new(sent)?;
        let mut name = [0; NAME];
        while read_name(&mut reader, &mut name)? {
            let blob = link::blob(&name);
            let fresh = self.folder.join(format!("fresh-{}", crate::store::unique()));
            let _fresh = Fresh(&fresh);
            let (mut file, mut hasher, mut left) = (File::create(&fresh)?, Hasher::new(), blob.size);
            let mut buffer = vec![0; PIECE];
            while left > 0 {
                let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let size = match reader.read(&mut buffer[..most])? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    size => size,
                };
                hasher.update(&buffer[..size]);
                file.write_all(&buffer[..size])?;
                left -= size as u64;
            }
            if hasher.finish() != blob.digest {
                return Err(io::Error::other("a file changed while it was sent"));
            }
            self.keep(&fresh, &self.path_of(&blob))?;
            lock(&self.intact).insert(blob.digest);
        }
        Ok(())
    }

    /// Puts a file where it is kept, which may be another volume.
    fn keep(&self, fresh: &Path, place: &Path) -> io::Result<()> {
        if fs::rename(fresh, place).is_ok() {
            return Ok(());
        }
        let beside = self.blobs.join(format!("fresh-{}", crate::store::unique()));
        let _beside = Fresh(&beside);
        fs::copy(fresh, &beside)?;
        fs::rename(&beside, place)
    }

    /// Lays out what is wanted, and begins it.
    fn run(self: &Arc<Self>, bytes: &[u8]) -> io::Result<()> {
        let run: Run = serde_json::from_slice(bytes)?;
        let mut state = lock(&self.state);
        // Whoever lost the answer asks again.
        if state.has_begun {
            return Ok(());
        }
        let work = self.folder.join("work");
        fs::create_dir_all(&work)?;
        for (path, digest, size) in &run.files {
            let digest =
                format!("sha256:{digest}").parse().map_err(|_| io::Error::other("a name is none"))?;
            let target = work.join(plain(path)?);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            symlink(self.path_of(&Blob { digest, size: *size }), &target)?;
        }
        let log = File::create(self.folder.join(LOG))?;
        let printed = File::create(self.folder.join("printed"))?;
        let mut command = Command::new(SELF);
        command.args(&run.words).current_dir(&work).process_group(0);
        command.stdin(Stdio::null()).stdout(printed).stderr(Stdio::piped());
        let child = command.spawn()?;
        state.child = Pid::from_raw(child.id() as i32);
        state.has_begun = true;
        state.until =
            run.timeout.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
        drop(state);
        self.watch(child, log, run.output);
        Ok(())
    }

    /// Keeps what it says, and then how it ended.
    fn watch(self: &Arc<Self>, mut child: Child, mut log: File, output: Option<String>) {
        let began = Instant::now();
        let mut stderr = child.stderr.take();
        let its = Arc::clone(self);
        std::thread::spawn(move || {
            let mut buffer = vec![0; PIECE];
            while let Some(pipe) = stderr.as_mut() {
                let size = match pipe.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(size) => size,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(_) => break,
                };
                // The pod's own log is for whoever looks there.
                let _ = io::stderr().write_all(&buffer[..size]);
                if log.write_all(&buffer[..size]).is_err() {
                    break;
                }
                lock(&its.state).said += size as u64;
                its.changed.notify_all();
            }
            lock(&its.state).is_read = true;
            its.changed.notify_all();
        });
        let its = Arc::clone(self);
        std::thread::spawn(move || {
            let status = child.wait().ok();
            let code = status.and_then(|status| status.code()).unwrap_or(-1);
            let signal = status.and_then(|status| status.signal());
            let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            // What a killed build leaves may hold the pipe open.
            let state = lock(&its.state);
            let waited = its.changed.wait_timeout_while(state, PATIENCE, |state| !state.is_read);
            let mut state = waited.map_or_else(|poison| poison.into_inner().0, |(state, _)| state);
            let work = its.folder.join("work");
            let files = output.map(|output| listed(&work, &output)).unwrap_or_default();
            let printed = File::open(its.folder.join("printed")).and_then(|file| {
                let mut bytes = Vec::new();
                file.take(PRINTED).read_to_end(&mut bytes).map(|_| bytes)
            });
            let printed = printed.unwrap_or_default();
            state.child = None;
            let (is_late, is_stopped) = (state.is_late, state.is_stopped);
            state.done = Some(Done { code, is_late, is_stopped, signal, took_ms, files, printed });
            its.changed.notify_all();
        });
    }

    /// Tells the log from a place on while it is written, and in the end how it ended.
    fn follow(&self, mut from: u64, asked: &mut Asked<'_>) -> io::Result<()> {
        let mut told: Option<Instant> = None;
        loop {
            let state = lock(&self.state);
            if !state.has_begun {
                return Err(io::Error::other("nothing was begun"));
            }
            let is_new = |state: &mut State| state.said <= from && state.done.is_none();
            let waited = self.changed.wait_timeout_while(state, LOOK * 5, is_new);
            let state = waited.map_or_else(|poison| poison.into_inner().0, |(state, _)| state);
            let (said, done) = (state.said, state.done.clone());
            drop(state);
            while from < said {
                let mut piece = Vec::new();
                let mut log = File::open(self.folder.join(LOG))?;
                log.seek(SeekFrom::Start(from))?;
                let size = log.take((said - from).min(PIECE as u64)).read_to_end(&mut piece)?;
                if size == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                asked.answer(b'l', &piece)?;
                told = Some(Instant::now());
                from += size as u64;
            }
            if done.is_none() && told.is_none_or(|told| told.elapsed() > SIGN) {
                asked.answer(b'l', b"")?;
                told = Some(Instant::now());
            }
            if let Some(done) = done {
                return asked.answer(b'c', &serde_json::to_vec(&done)?);
            }
            // Who is gone does not keep the pod.
            let peeked = recv(asked.stream, &mut [0; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
            if peeked.is_ok_and(|(size, _)| size == 0) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
    }

    /// Gives a file of the result.
    fn give(&self, bytes: &[u8], asked: &mut Asked<'_>) -> io::Result<()> {
        let Get { path } = serde_json::from_slice(bytes)?;
        let path = plain(&path)?;
        if !path.starts_with(worker::OUTPUT) {
            return Err(io::Error::other("it is no part of the result"));
        }
        let mut file = File::open(self.folder.join("work").join(path))?;
        let mut buffer = vec![0; PIECE];
        loop {
            match file.read(&mut buffer)? {
                0 => return asked.answer(b'g', b""),
                size => asked.answer(b'd', &buffer[..size])?,
            }
        }
    }

    /// Ends what runs: politely, and then by force.
    fn end(&self, child: Pid) {
        let _ = kill_process_group(child, Signal::TERM);
        let state = lock(&self.state);
        let waited = self.changed.wait_timeout_while(state, PATIENCE, |state| state.child.is_some());
        let is_left = waited.map_or(true, |(state, _)| state.child.is_some());
        if is_left {
            let _ = kill_process_group(child, Signal::KILL);
        }
        lock(&self.state).until = None;
    }
}

/// Reads a name; `false` where there is none any more.
fn read_name(reader: &mut impl Read, name: &mut [u8; NAME]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < NAME {
        match reader.read(&mut name[filled..])? {
            0 if filled == 0 => return Ok(false),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            size => filled += size,
        }
    }
    Ok(true)
}

/// A path that stays below where it begins.
fn plain(path: &str) -> io::Result<&Path> {
    let is_plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    match is_plain && !path.is_empty() {
        true => Ok(Path::new(path)),
        false => Err(io::Error::other(format!("`{}` is no path", path.escape_default()))),
    }
}

/// The files below a folder, by their paths in the one above.
fn listed(above: &Path, folder: &str) -> Vec<(String, u64)> {
    let walk = WalkDir::new(above.join(folder)).into_iter().flatten();
    let file = |entry: walkdir::DirEntry| {
        let path = entry.path().strip_prefix(above).ok()?.to_str()?.to_owned();
        entry.file_type().is_file().then_some((path, entry.metadata().ok()?.len()))
    };
    walk.filter_map(file).collect()
}
