#![allow(clippy::unwrap_used)]

use std::process::{Command, Output, Stdio};

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::time::Duration;

use rsa::rand_core::{self, CryptoRng, RngCore};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::protocol::{LONGEST_BYTES, Request, parse, read, refusal, write};
use super::*;

fn keygen(folder: &Path, arguments: &[&str]) -> Output {
    let output = Command::new("ssh-keygen").args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    output.expect("needs the package openssh-client")
}

fn key(folder: &Path, kind: &str, passphrase: &str) -> PathBuf {
    let made = keygen(folder, &["-q", "-t", kind, "-N", passphrase, "-C", kind, "-f", kind]);
    assert!(made.status.success(), "{made:?}");
    folder.join(kind)
}

/// Signs with OpenSSH's own client, through the agent, and has OpenSSH check it.
fn sign_and_check(folder: &Path, socket: &Path, kind: &str) {
    std::fs::write(folder.join("text"), "signed").unwrap();
    let public = format!("{kind}.pub");
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", "test", "-U", "-f", &public, "text"])
        .env("SSH_AUTH_SOCK", socket)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(signed.status.success(), "{kind}: {}", String::from_utf8_lossy(&signed.stderr));
    let text = std::fs::File::open(folder.join("text")).unwrap();
    let checked = Command::new("ssh-keygen")
        .args(["-Y", "check-novalidate", "-n", "test", "-s", "text.sig"])
        .stdin(text)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{kind}: {}", String::from_utf8_lossy(&checked.stderr));
    std::fs::remove_file(folder.join("text.sig")).unwrap();
}

#[test]
fn keys_of_files_sign() {
    let folder = tempfile::tempdir().unwrap();
    let kinds = ["ed25519", "ecdsa", "rsa"];
    let keys = kinds.map(|kind| key(folder.path(), kind, ""));
    let agent = Agent::start(&SshSource::Keys(keys.to_vec()), folder.path()).unwrap();
    for kind in kinds {
        sign_and_check(folder.path(), &agent.path, kind);
    }
    let path = agent.path.clone();
    drop(agent);
    assert!(UnixStream::connect(path).is_err(), "nobody listens any more");
}

#[test]
fn an_agent_is_forwarded_for_signing_only() {
    let (outer, inner) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keys = SshSource::Keys(vec![key(outer.path(), "ed25519", "")]);
    let user = Agent::start(&keys, outer.path()).unwrap();
    let agent = Agent::start(&SshSource::Agent(user.path.clone()), inner.path()).unwrap();
    sign_and_check(outer.path(), &agent.path, "ed25519");
    let client = UnixStream::connect(&agent.path).unwrap();
    // Remove all keys, lock, add an empty key, an extension, nothing.
    for request in [&[19][..], &[22, 0, 0, 0, 0], &[17], &[27], &[]] {
        write(&client, request).unwrap();
        assert_eq!(read(&client).unwrap(), Some(refusal()), "{request:?}");
    }
    sign_and_check(outer.path(), &agent.path, "ed25519");
}

#[test]
fn what_is_no_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("text"), "no key").unwrap();
    let locked = key(folder.path(), "ed25519", "secret");
    for (path, expected) in [
        (folder.path().join("text"), "cannot use the key"),
        (locked, "it has a passphrase"),
        (folder.path().join("none"), "No such file"),
    ] {
        let error = Agent::start(&SshSource::Keys(vec![path]), folder.path()).err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let gone = SshSource::Agent(folder.path().join("gone"));
    assert!(matches!(Agent::start(&gone, folder.path()), Err(AgentError::Unreachable { .. })));
}

/// An agent of one key.
fn agent(folder: &Path, limits: Limits) -> Agent {
    Agent::start_with(&SshSource::Keys(vec![key(folder, "ed25519", "")]), folder, limits).unwrap()
}

/// The numbers of threads with that name.
fn threads(name: &str) -> Vec<PathBuf> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    // One that ends meanwhile has no name.
    let is_named =
        |task: &PathBuf| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
    tasks.filter(is_named).collect()
}

/// Raises the number of descriptors to what is allowed.
fn many_files() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.unwrap_or(1 << 20)
}

fn socket(flags: SocketFlags) -> UnixStream {
    let flags = flags | SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap().into()
}

fn lists_keys(client: &UnixStream) -> bool {
    write(client, &[11]).unwrap();
    read(client).unwrap().is_some_and(|answer| answer[0] == 12)
}

#[test]
fn thousands_of_connections_are_a_bounded_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let idle = Duration::from_secs(3600);
    let agent = agent(folder.path(), Limits { clients: 64, idle });
    let address = SocketAddrUnix::new(&agent.path).unwrap();
    let number = (many_files() / 2).min(5000);
    let mut waiting = Vec::new();
    let mut refused = 0;
    for _ in 0..number {
        let client = socket(SocketFlags::NONBLOCK);
        match rustix::net::connect(&client, &address) {
            Ok(()) => waiting.push(client),
            Err(error) => {
                assert_eq!(error, rustix::io::Errno::AGAIN);
                refused += 1;
            }
        }
    }
    assert!(waiting.len() >= 64, "{} of {number}, {refused} not", waiting.len());
    let mut most = 0;
    for (number, client) in waiting.into_iter().enumerate() {
        client.set_nonblocking(false).unwrap();
        assert!(lists_keys(&client));
        if number % 64 == 0 {
            most = most.max(threads("ssh client").len());
        }
    }
    // Some that were hung up on may be about to end.
    assert!((1..=128).contains(&most), "{most}");
}

#[test]
fn who_says_nothing_makes_room_for_who_waits() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(folder.path(), Limits { clients: 2, idle: Duration::ZERO });
    let silent = [(); 2].map(|()| UnixStream::connect(&agent.path).unwrap());
    // Half a message is nothing.
    (&silent[0]).write_all(&[0, 0, 0]).unwrap();
    for _ in 0..3 {
        assert!(lists_keys(&UnixStream::connect(&agent.path).unwrap()));
    }
    let gone = silent.iter().filter(|client| {
        client.set_nonblocking(true).unwrap();
        matches!(read(*client), Ok(None) | Err(_)) && !is_open(client)
    });
    assert!(gone.count() >= 1);
}

fn is_open(mut client: &UnixStream) -> bool {
    client.read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

#[test]
fn a_connection_that_cannot_be_taken_is_no_busy_loop() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(folder.path(), Limits::USUAL);
    let address = SocketAddrUnix::new(&agent.path).unwrap();
    let client = socket(SocketFlags::empty());
    // Its thread has its name by then.
    let first = UnixStream::connect(&agent.path).unwrap();
    assert!(lists_keys(&first));
    let [thread] = threads("ssh agent").try_into().unwrap();
    let mut status = File::open(thread.join("status")).unwrap();
    let mut waits = || {
        let mut text = String::new();
        status.rewind().unwrap();
        status.read_to_string(&mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), ..before }).unwrap();
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    rustix::net::connect(&client, &address).unwrap();
    let start = waits();
    // Whoever turns in a circle never waits.
    let mut rounds = 0_u32;
    while waits() < start + 4 && rounds < 1_000_000 {
        rounds += 1;
        std::thread::yield_now();
    }
    assert!(waits() >= start + 4, "it waited {} times", waits() - start);
    drop(files);
    assert!(lists_keys(&client), "it is taken as soon as it can be");
    drop(first);
    setrlimit(Resource::Nofile, before).unwrap();
}

#[test]
fn messages_are_bounded_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(folder.path(), Limits::USUAL);
    // It is closed before anything is allocated.
    for length in [LONGEST_BYTES + 1, u32::MAX] {
        let client = UnixStream::connect(&agent.path).unwrap();
        (&client).write_all(&length.to_be_bytes()).unwrap();
        assert_eq!(read(&client).unwrap(), None);
    }
    let client = UnixStream::connect(&agent.path).unwrap();
    write(&client, &vec![13; LONGEST_BYTES as usize]).unwrap();
    assert_eq!(read(&client).unwrap(), Some(refusal()));
    assert!(lists_keys(&client));
    for (message, expected) in [
        (&[11][..], Some(Request::Identities)),
        (&[11, 0], None),
        (
            &[13, 0, 0, 0, 1, 7, 0, 0, 0, 0, 0, 0, 0, 2],
            Some(Request::Sign { public: &[7], data: &[], flags: 2 }),
        ),
        (&[13, 0, 0, 0, 1, 7, 0, 0, 0, 0, 0, 0, 0, 2, 9], None),
        (&[13, 255, 255, 255, 255, 7], None),
        (&[13, 0, 0, 0, 1, 7], None),
        (&[17], None),
        (&[], None),
    ] {
        assert_eq!(parse(message), expected, "{message:?}");
    }
}

#[test]
fn what_waits_for_the_users_agent_ends_with_the_step() {
    let folder = tempfile::tempdir().unwrap();
    // It takes connections and never answers.
    let silent = folder.path().join("silent");
    let listener = UnixListener::bind(&silent).unwrap();
    let source = SshSource::Agent(silent);
    let agent = Agent::start(&source, folder.path()).unwrap();
    let client = UnixStream::connect(&agent.path).unwrap();
    write(&client, &[11]).unwrap();
    // The first was to see whether it is there.
    let (_first, second) = (listener.accept().unwrap(), listener.accept().unwrap());
    assert_eq!(read(&second.0).unwrap(), Some(vec![11]));
    drop(agent);
    assert!(matches!(read(&client), Ok(None) | Err(_)));
    assert_eq!(read(&second.0).unwrap(), None, "nothing of it is left");
}

/// Counts what is taken from it.
struct Random(usize);

impl RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 += 1;
            *byte = self.0 as u8;
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Random {}

#[test]
fn rsa_signatures_are_blinded() {
    let folder = tempfile::tempdir().unwrap();
    // The smaller, the sooner it is found.
    let made = keygen(folder.path(), &["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", "rsa"]);
    assert!(made.status.success(), "{made:?}");
    let text = std::fs::read(folder.path().join("rsa")).unwrap();
    let private = ssh_key::PrivateKey::from_openssh(text).unwrap();
    let ssh_key::private::KeypairData::Rsa(pair) = private.key_data() else { panic!("{private:?}") };
    let mut signatures = Vec::new();
    for start in [0, 100] {
        let mut random = Random(start);
        signatures.push(keys::sign_with_rsa(pair, b"text", 4, &mut random).unwrap());
        // A number as long as the modulus.
        assert!(random.0 - start >= 256, "{}", random.0 - start);
    }
    assert_eq!(signatures[0], signatures[1], "what is signed is the same");
}
