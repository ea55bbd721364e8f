//! A real engine for tests: BuildGrid (PyPI's package `buildgrid`) on PostgreSQL, with workers that run actions as ordinary processes
//! (`tests/reapi_worker.py`).

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::registry::listens_within;

/// The user and group of a database server that root starts, and of actions that are not to be root's: `nobody`.
pub const NOBODY: u32 = 65534;

/// An engine with a CAS of its own; it and its workers go with the value.
pub struct BuildGrid {
    database: Child,
    server: Child,
    port: u16,
    dir: tempfile::TempDir,
}

/// A worker, and what it prints.
pub struct Worker {
    child: Child,
    lines: Receiver<String>,
}

fn python(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/buildgrid/bin").join(name)
}

/// Debian keeps the server's programs in no PATH.
fn postgres(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("needs the package postgresql");
    let newest = versions.map(|entry| entry.unwrap().path()).max().unwrap();
    newest.join("bin").join(name)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// As nobody, where root starts it: the database server wants that.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    if super::is_root() {
        use std::os::unix::process::CommandExt as _;
        command.uid(NOBODY).gid(NOBODY);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

impl BuildGrid {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = dir.path().join("database");
        fs::create_dir(&data).unwrap();
        if super::is_root() {
            chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let made =
            as_nobody(&postgres("initdb")).args(["-A", "trust", "-U", "postgres", "-D"]).arg(&data).status();
        assert!(made.unwrap().success());
        let (database, database_port) = listening(|port| {
            let mut command = as_nobody(&postgres("postgres"));
            command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
            command.args(["-c", "fsync=off", "-c", "unix_socket_directories="]).spawn().unwrap()
        });
        let url = format!("postgres@127.0.0.1:{database_port}/postgres");
        // It listens a moment before it answers.
        let migrated = (0..50).any(|_| {
            let mut command = Command::new(python("bgd"));
            command.args(["migrate", "apply", &format!("postgresql://{url}")]).stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command.status().expect("bgd is missing; `tests/run` installs it").success()
        });
        assert!(migrated, "BuildGrid's database cannot be made");
        let (server, port) = listening(|port| {
            let file = dir.path().join("buildgrid.yml");
            fs::write(&file, configuration(port, &url, dir.path())).unwrap();
            let mut command = Command::new(python("bgd"));
            command.args(["server", "start"]).arg(&file).stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        });
        Self { database, server, port, dir }
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Whether some of what its CAS has holds these bytes.
    pub fn has_bytes(&self, wanted: &[u8]) -> bool {
        fn any(folder: &Path, wanted: &[u8]) -> bool {
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| match path.is_dir() {
                true => any(&path, wanted),
                false => memchr::memmem::find(&fs::read(&path).unwrap(), wanted).is_some(),
            })
        }
        any(&self.dir.path().join("cas"), wanted)
    }

    /// Starts a worker, which runs actions as this user or as nobody, and waits until it is ready.
    pub fn worker(&self, name: &str, is_nobody: bool) -> Worker {
        self.worker_with(name, is_nobody, &[])
    }

    /// The same with variables that all actions get, and no others of rbuild's, nor other logins.
    pub fn worker_with(&self, name: &str, is_nobody: bool, variables: &[(&str, &Path)]) -> Worker {
        let folder = self.dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        let mut command = Command::new(python("python"));
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reapi_worker.py"));
        command.arg(self.host()).arg(name).arg(&folder).stdin(Stdio::null()).stdout(Stdio::piped());
        if is_nobody {
            command.arg(NOBODY.to_string());
        }
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RBUILD_")) {
            command.env_remove(name);
        }
        command.env_remove("DOCKER_CONFIG");
        command.envs(variables.iter().copied());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        let worker = Worker { child, lines };
        worker.wait_for("ready");
        worker
    }
}

impl Worker {
    /// Waits for a line with this word.
    pub fn wait_for(&self, word: &str) {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(120));
            match line {
                Ok(line) if line.contains(word) => return,
                Ok(_) => {}
                Err(error) => panic!("the worker did not say `{word}`: {error}"),
            }
        }
    }

    /// Whether it printed a line with this word since it was asked last.
    pub fn said(&self, word: &str) -> bool {
        self.lines.try_iter().filter(|line| line.contains(word)).count() > 0
    }

    /// Takes it away in the middle of whatever it does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Drop for BuildGrid {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.database] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Between choosing a port and using it someone else may take it: then the program exits, and another is tried.
fn listening(mut start: impl FnMut(u16) -> Child) -> (Child, u16) {
    for _ in 0..4 {
        let port = free_port();
        let mut child = start(port);
        // Python reads much before it listens, and the machine may be busy.
        if listens_within(&mut child, port, Duration::from_secs(120)) {
            return (child, port);
        }
    }
    panic!("it does not start");
}

fn configuration(port: u16, database: &str, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"
server:
  - !channel
    address: "127.0.0.1:{port}"
    insecure-mode: true
authorization:
  method: none
connections:
  - !sql-connection &sql
    # Not its library's usual driver, with which it hears nothing of jobs.
    connection-string: postgresql+psycopg2://{database}
    pool-size: 5
    max-overflow: 10
storages:
  - !disk-storage &cas
    path: {folder}/cas
caches:
  - !lru-action-cache &results
    storage: *cas
    max-cached-refs: 10000
    allow-updates: true
    cache-failed-actions: false
schedulers:
  - !sql-scheduler &scheduler
    sql: *sql
    action-cache: *results
    storage: *cas
    # A worker that is killed keeps its job so long.
    bot-session-keepalive-timeout: 8
    session-expiry-timer-interval: 1
    poll-interval: 0.1
    bot-poll-interval: 0.1
    property-set:
      !dynamic-property-set
      match-property-keys: [OSFamily, ISA]
      wildcard-property-keys: [pool]
    assigners:
      - !priority-age-assigner
        count: 1
        interval: 0.1
instances:
  - name: ''
    services:
      - !action-cache
        cache: *results
      - !execution
        scheduler: *scheduler
      - !cas
        storage: *cas
      - !bytestream
        storage: *cas
thread-pool-size: 40
"#
    )
}
