//! Runs the program as a user would, in a world of its own.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::accounts::Account;
use super::golden;
use super::layout::Layout;

/// A context, a store and a home directory of somebody; all go with the value.
pub struct World {
    dir: tempfile::TempDir,
    account: Account,
    program: PathBuf,
}

impl World {
    /// The world of whoever runs the tests.
    pub fn new() -> Self {
        Self::at(&std::env::temp_dir(), Account::mine())
    }

    /// The world of that user, who must be able to run the program wherever the build directory is.
    pub fn of(account: Account) -> Self {
        Self::at(&std::env::temp_dir(), account)
    }

    /// The world of that user for whole Debian images, in memory where there is room: to delete tens of thousands of files takes
    /// a minute on a disk that discards what is freed.
    pub fn large(account: Account) -> Self {
        Self::at(&roomy_folder(), account)
    }

    /// The world of that user, on the file system of `parent`.
    pub fn at(parent: &Path, account: Account) -> Self {
        let dir = tempfile::Builder::new().prefix("rbuild-test-").tempdir_in(parent).unwrap();
        // tempfile makes it 0700; containers of other users look into it.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let built = PathBuf::from(env!("CARGO_BIN_EXE_rbuild"));
        let program = match account == Account::mine() {
            true => built,
            false => reachable_copy(&built, dir.path()),
        };
        let world = Self { dir, account, program };
        for folder in [world.path(), &world.context(), &world.path().join("home")] {
            fs::create_dir_all(folder).unwrap();
            chown(folder, Some(account.uid), Some(account.gid)).unwrap();
        }
        world
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The build context, where the program is started.
    pub fn context(&self) -> PathBuf {
        self.path().join("context")
    }

    /// The program's `--root`.
    pub fn store(&self) -> PathBuf {
        self.path().join("store")
    }

    /// The records of builds in the store, the oldest first, by time and id.
    pub fn records(&self) -> Vec<(String, serde_json::Value)> {
        records_in(&self.store().join("rbuild/history"))
    }

    /// The store as other programs read it.
    pub fn images(&self) -> Layout {
        Layout::at(&self.store())
    }

    pub fn account(&self) -> Account {
        self.account
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    pub fn dockerfile(&self, text: &str) -> &Self {
        self.file("Dockerfile", text)
    }

    /// Writes a file of the context, mode 0644, and the folders that lead to it.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.context().join(name);
        let folder = path.parent().unwrap();
        fs::create_dir_all(folder).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        for made in [folder, &path] {
            chown(made, Some(self.account.uid), Some(self.account.gid)).unwrap();
        }
        self
    }

    pub fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.context().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Sets a time of modification in seconds.
    pub fn set_mtime(&self, name: &str, seconds: u64) {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let file = fs::File::open(self.context().join(name)).unwrap();
        file.set_modified(time).unwrap();
    }

    /// `rbuild --root STORE …`
    pub fn rbuild<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Rbuild<'_> {
        self.through(&[], args)
    }

    /// `rbuild --root STORE --progress=plain … .`
    pub fn build<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Rbuild<'_> {
        self.rbuild(["--progress=plain"]).args(args).arg(".")
    }

    /// The same through another program, such as `unshare --net`.
    pub fn through<S: AsRef<OsStr>>(
        &self,
        wrapper: &[&str],
        args: impl IntoIterator<Item = S>,
    ) -> Rbuild<'_> {
        let mut command = match wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("LC_ALL", "C.UTF-8");
        // A daemon of this machine's is no test's affair.
        command.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
        command.env("HOME", self.path().join("home")).env("TERM", "dumb").current_dir(self.context());
        // Wrappers such as `unshare` need the rights of who runs the tests, and give them up themselves.
        if wrapper.is_empty() && self.account != Account::mine() {
            command.uid(self.account.uid).gid(self.account.gid);
        }
        command.arg("--root").arg(self.store()).args(args);
        Rbuild {
            world: self,
            command,
            stdin: Vec::new(),
            status: Some(0),
            stdout: Some(String::new()),
            remarks: false,
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // An ordinary user's trees hold files of ids that only a user namespace can delete.
        if !super::is_root() {
            let own = ["--user", "--map-root-user", "--map-auto", "rm", "-rf"];
            let _ = Command::new("unshare").args(own).arg(self.store()).output();
        }
    }
}

/// A folder in memory that can hold stores, else the usual one.
fn roomy_folder() -> PathBuf {
    const ROOM: u64 = 6 << 30;
    let memory = Path::new("/dev/shm");
    let has_room = rustix::fs::statvfs(memory).is_ok_and(|stat| {
        stat.f_bavail * stat.f_frsize >= ROOM && !stat.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC)
    });
    // Before Linux 6.6 a tmpfs has no attributes of users, which stores of ordinary users need.
    let takes_attributes = || {
        tempfile::tempdir_in(memory).is_ok_and(|folder| {
            rustix::fs::setxattr(folder.path(), "user.test", b"x", rustix::fs::XattrFlags::empty()).is_ok()
        })
    };
    if has_room && takes_attributes() { memory.to_owned() } else { std::env::temp_dir() }
}

/// A link, or else a copy, of the program in the world.
fn reachable_copy(built: &Path, dir: &Path) -> PathBuf {
    let copy = dir.join("rbuild");
    if fs::hard_link(built, &copy).is_err() {
        super::copy_program(built, &copy);
    }
    copy
}

/// One run of the program. Unless told otherwise it must succeed, print nothing on standard output, and
/// neither warn nor note anything.
pub struct Rbuild<'w> {
    world: &'w World,
    command: Command,
    stdin: Vec<u8>,
    status: Option<i32>,
    stdout: Option<String>,
    remarks: bool,
}

impl<'w> Rbuild<'w> {
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Where it is started, in place of the context.
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// The exit code that is expected.
    pub fn status(mut self, code: i32) -> Self {
        self.status = Some(code);
        self
    }

    /// Exit code and messages are the caller's to check.
    pub fn any_status(mut self) -> Self {
        self.status = None;
        self
    }

    /// What standard output must be.
    pub fn stdout(mut self, text: impl Into<String>) -> Self {
        self.stdout = Some(text.into());
        self
    }

    /// Standard output is the caller's to check.
    pub fn any_stdout(mut self) -> Self {
        self.stdout = None;
        self
    }

    /// Warnings and notes are the caller's to check.
    pub fn remarks(mut self) -> Self {
        self.remarks = true;
        self
    }

    /// Starts it and leaves it to the caller.
    pub fn spawn(mut self) -> Child {
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs it and checks what was promised.
    #[track_caller]
    pub fn run(mut self) -> Ran {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("{:?}: {e}", self.command));
        // A program that does not read its input is no failure.
        let _ = child.stdin.take().unwrap().write_all(&self.stdin);
        let output = child.wait_with_output().unwrap();
        let ran = Ran {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            world: self.world.path().to_owned(),
        };
        self.check(&ran);
        ran
    }

    #[track_caller]
    fn check(&self, ran: &Ran) {
        let told = format!("{:?}\n--- stdout\n{}--- stderr\n{}", self.command, ran.stdout, ran.stderr);
        assert!(self.status.is_none() || ran.status == self.status, "exit code {:?} of {told}", ran.status);
        assert!(!ran.stderr.contains("rbuild: bug"), "a bug in {told}");
        if let Some(expected) = &self.stdout {
            assert_eq!(&ran.stdout, expected, "standard output of {told}");
        }
        // Who commands run as is told by each build that runs one.
        let runs_as = ["note: RUN runs ", "note: one id: ", "note: this container allows no namespaces: "];
        let is_note =
            |line: &str| line.starts_with("note") && !runs_as.iter().any(|own| line.starts_with(own));
        let remark = |line: &str| line.starts_with("warning") || is_note(line);
        assert!(
            self.remarks || self.status.is_none() || !ran.stderr.lines().any(remark),
            "a remark in {told}"
        );
        let is_failure = self.status.is_some_and(|status| status > 0);
        assert!(self.status.is_none() || is_failure == ran.stderr.contains("error: "), "an error in {told}");
    }
}

/// What a run of the program said.
#[derive(Debug)]
pub struct Ran {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    world: PathBuf,
}

impl Ran {
    /// Standard error without what differs from run to run.
    pub fn messages(&self) -> String {
        golden::normalise(&self.stderr, &self.world)
    }

    /// The digest that the last line of a build's progress names.
    #[track_caller]
    pub fn digest(&self) -> String {
        let line =
            self.stderr.lines().find(|l| l.starts_with("built ")).expect("the build says what it built");
        line.split(' ').find(|word| word.starts_with("sha256:")).unwrap().to_owned()
    }

    /// What became of the step whose title has `part` in it, by the plain progress: `CACHED` or `DONE …`.
    #[track_caller]
    pub fn outcome(&self, part: &str) -> &str {
        let lines = self.of_step(part);
        lines.iter().find(|l| l.starts_with("CACHED") || l.starts_with("DONE")).copied().unwrap_or_else(
            || {
                panic!("no outcome of `{part}` in\n{}", self.stderr);
            },
        )
    }

    /// Why the step whose title has `part` in it was not in the cache; `None` if it was.
    #[track_caller]
    pub fn miss(&self, part: &str) -> Option<&str> {
        self.of_step(part).iter().find_map(|line| line.strip_prefix("not cached: "))
    }

    /// The titles of all steps that ran, in the order of their numbers.
    pub fn ran(&self) -> Vec<&str> {
        let is_mine = |number: &str| {
            let prefix = format!("{number} DONE ");
            let line = self.stderr.lines().find(|l| l.starts_with(&prefix));
            line.is_some_and(|l| !l.contains("configuration only"))
        };
        self.titles().into_iter().filter(|(number, _)| is_mine(number)).map(|(_, title)| title).collect()
    }

    /// The lines of a step without its number.
    fn of_step(&self, part: &str) -> Vec<&str> {
        let titles = self.titles();
        let (number, _) = titles.iter().find(|(_, title)| title.contains(part)).unwrap_or_else(|| {
            panic!("no step `{part}` in\n{}", self.stderr);
        });
        let prefix = format!("{number} ");
        self.stderr.lines().filter_map(|line| line.strip_prefix(&prefix)).collect()
    }

    /// The first line of each step: its number with `#`, its title.
    fn titles(&self) -> Vec<(&str, &str)> {
        let mut titles: Vec<(&str, &str)> = Vec::new();
        for (number, text) in self.stderr.lines().filter_map(|line| line.split_once(' ')) {
            if number.starts_with('#') && !titles.iter().any(|(known, _)| *known == number) {
                titles.push((number, text));
            }
        }
        titles.sort_by_key(|(number, _)| number[1..].parse::<u32>().unwrap_or(0));
        titles
    }
}

/// The records of builds in a store's folder of them, the oldest first, by time and id: some have files of their own, others are lines of one.
pub fn records_in(folder: &Path) -> Vec<(String, serde_json::Value)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        if path.extension().is_some_and(|extension| extension == "json") {
            found.push((path.file_stem().unwrap().to_str().unwrap().to_owned(), text));
        } else if path.file_name().unwrap() == "recent" {
            let lines = text.lines().filter_map(|line| line.split_once(' '));
            found.extend(
                lines.map(|(name, rest)| (name.to_owned(), rest.split_once(' ').unwrap().1.to_owned())),
            );
        }
    }
    found.sort();
    found.into_iter().map(|(name, text)| (name, serde_json::from_str(&text).unwrap())).collect()
}
