//! rbuild's own program: what a step can do to it when it gets to run, and who notices (CVE-2019-5736).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rbuild::exec::{Config, ExecError, MountSource, Printed, Spec};
use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::stage::{Stage, config, mount};
use crate::support::{copy_program, write_program};

/// What a step's own script tries when rbuild, which a step has made to run in it, starts that as a helper.
const ATTACK: &str = "#!/bin/sh
for try in 'chmod 700' 'touch -c' 'dd if=/dev/zero bs=1 count=1 conv=notrunc of='; do
    case $try in dd*) line=\"$try/proc/1/exe\";; *) line=\"$try /proc/1/exe\";; esac
    $line 2>/dev/null && echo \"done: $line $(readlink /proc/1/exe)\" >>/c/seen || echo refused >>/c/seen
done
exit 1
";

/// A stage whose steps run a program of its own, in which that program finds helpers that attack it.
struct Trap {
    stage: Stage,
    program: PathBuf,
    before: Vec<(u64, u32, i64, i64)>,
    bytes: Vec<u8>,
}

impl Trap {
    fn new() -> Self {
        let stage = Stage::new();
        let program = stage.path().join("rbuild");
        copy_program(&config().program, &program);
        let stage = stage.restarted(Config { program: program.clone(), ..config() });
        let base = stage.path().join("base");
        give_libraries(&program, &base);
        for helper in ["git", "docker-credential-evil"] {
            write_program(&base.join("bin").join(helper), ATTACK.as_bytes());
        }
        fs::create_dir(base.join("root/.docker")).unwrap();
        fs::write(base.join("root/.docker/config.json"), r#"{"credsStore":"evil"}"#).unwrap();
        stage.layer("cache");
        let bytes = fs::read(&program).unwrap();
        let before = vec![state(&program)];
        Self { stage, program, before, bytes }
    }

    fn base(&self) -> PathBuf {
        self.stage.path().join("base")
    }

    fn cache(&self) -> PathBuf {
        self.stage.path().join("cache")
    }

    /// A step of this command, with the cache at `/c`.
    fn spec(&self, name: &str, args: &[&str]) -> Spec {
        let mut spec = self.stage.spec(name, "");
        spec.args = args.iter().map(|&arg| arg.to_owned()).collect();
        spec.mounts = vec![mount("/c", MountSource::Bind { source: self.cache() })];
        spec
    }

    /// What the helpers saw.
    fn seen(&self) -> Vec<String> {
        let seen = fs::read_to_string(self.cache().join("seen")).unwrap_or_default();
        seen.lines().map(str::to_owned).collect()
    }

    fn assert_unchanged(&self) {
        let seen = self.seen();
        assert!(seen.iter().all(|line| line == "refused"), "{seen:?}");
        assert_eq!(vec![state(&self.program)], self.before);
        assert!(fs::read(&self.program).unwrap() == self.bytes);
    }
}

/// Changes with everything that was done to a file but reading.
fn state(file: &Path) -> (u64, u32, i64, i64) {
    let stat = fs::metadata(file).unwrap();
    (stat.len(), stat.mode(), stat.ctime(), stat.ctime_nsec())
}

/// Copies the libraries of a program, which has some unless it is the static one that is released.
fn give_libraries(program: &Path, root: &Path) {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for library in text.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new) {
        let to = root.join(library.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(library, to).unwrap();
    }
}

/// `start` reads a script's first line as text. The kernel reads bytes, and so runs rbuild. That it does is no harm.
#[test]
fn a_script_gets_rbuild_to_run_but_not_to_be_written() {
    let trap = Trap::new();
    let name: &OsStr = OsStrExt::from_bytes(b"\xff");
    symlink("/proc/self/exe", trap.base().join(name)).unwrap();
    // Its path is also the address of a repository, which rbuild fetches with `git`.
    let folder = trap.base().join("w/https:/h");
    fs::create_dir_all(&folder).unwrap();
    write_program(&folder.join("x.git"), b"#!/\xff\n");
    let mut spec = trap.spec("script", &["https://h/x.git"]);
    spec.cwd = "/w".to_owned();
    let ran = trap.stage.try_run(&spec);
    assert!(!trap.seen().is_empty(), "rbuild did not run: {ran:?}");
    trap.assert_unchanged();
}

/// What the kernel loads a program with.
#[test]
fn an_interpreter_that_is_rbuild_changes_nothing() {
    let trap = Trap::new();
    let mut program = fs::read("/bin/true").unwrap();
    let at = ["/lib64/ld-", "/lib/ld-"].iter().find_map(|text| find(&program, text.as_bytes()));
    let (at, own) = (at.expect("a program with an interpreter"), b"/proc/self/exe\0");
    program[at..at + own.len()].copy_from_slice(own);
    write_program(&trap.base().join("bin/loaded"), &program);
    fs::hard_link(&trap.program, trap.base().join("bin/hard")).unwrap();
    let hard = state(&trap.program);
    for (at, command) in ["/bin/loaded", "/bin/hard"].iter().enumerate() {
        let _ = trap.stage.try_run(&trap.spec(&format!("step{at}"), &[command, "logout", "reg.example"]));
    }
    // The overlay's file is another: what is done to it is in the layer.
    assert_eq!(state(&trap.program), hard);
    assert!(fs::read(&trap.program).unwrap() == trap.bytes);
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// Sets it also when a test fails, so that a thread that minds it ends.
struct StopWhenDone<'a>(&'a AtomicBool);

impl Drop for StopWhenDone<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Another step of the same cache exchanges the command between the look and the execution.
#[test]
fn a_command_that_is_exchanged_under_way_cannot_write_to_rbuild() {
    let trap = Trap::new();
    let (command, link) = (trap.cache().join("command"), trap.cache().join("link"));
    write_program(&command, b"#!/bin/sh\necho real\n");
    symlink("/proc/self/exe", &link).unwrap();
    let rounds = if std::env::var_os("RBUILD_TEST_LONG").is_some() { 3000 } else { 60 };
    let (stop, exchanges) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let cwd = rustix::fs::CWD;
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(cwd, &command, cwd, &link, RenameFlags::EXCHANGE).unwrap();
                exchanges.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _stop = StopWhenDone(&stop);
        trap.stage.executor.expect(rounds);
        for round in 0..rounds {
            let name = format!("step{round}");
            let ran = trap.stage.try_run(&trap.spec(&name, &["/c/command", "logout", "reg.example"]));
            match ran {
                Ok(_) | Err(ExecError::NotExecutable { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    println!(
        "{} exchanges, {} tries of rbuild in the step",
        exchanges.load(Ordering::Relaxed),
        trap.seen().len() / 3
    );
    assert!(exchanges.load(Ordering::Relaxed) > 1000);
    trap.assert_unchanged();
}

/// A process around a step: the zygote, or an init.
struct Around {
    pid: i32,
    is_init: bool,
    /// What it runs, opened through its `/proc/PID/exe`.
    program: File,
}

/// Those that run this file, or what `readlink` tells of it.
fn around(program: &Path, name: &str) -> Vec<Around> {
    let wanted = fs::metadata(program).unwrap();
    let is_zygote = |pid: &str| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.starts_with(b"rbuild-zygote"))
    };
    let parent = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().find_map(|line| line.strip_prefix("PPid:")).map(|pid| pid.trim().to_owned())
    };
    let all =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let found = all.filter(|pid| pid.parse::<i32>().is_ok() && is_zygote(pid)).filter_map(|pid| {
        let path = format!("/proc/{pid}/exe");
        let (stat, target) = (fs::metadata(&path).ok()?, fs::read_link(&path).ok()?);
        let is_it = (stat.dev(), stat.ino()) == (wanted.dev(), wanted.ino());
        let is_named = target.to_str() == Some(name);
        let program = (is_it || is_named).then(|| File::open(&path).ok())??;
        let is_init = parent(&pid).is_some_and(|parent| is_zygote(&parent));
        Some(Around { pid: pid.parse().unwrap(), is_init, program })
    });
    found.collect()
}

/// The file again, as whoever holds the descriptor can open it.
fn path_of(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Runs a step that waits, calls `look` meanwhile, and lets the step go on; gives how it ended.
fn while_a_step_runs(stage: &Stage, look: impl FnOnce()) -> Result<(), ExecError> {
    let folder = stage.layer("pipes");
    let pipe = folder.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .unwrap();
    let mut spec = stage.spec("waiting", "echo here; read line </p/pipe");
    spec.mounts = vec![mount("/p", MountSource::Bind { source: folder })];
    let mut look = Some(look);
    // Open for both and until the end, so that nobody waits for the other.
    let pipe = rustix::fs::open(&pipe, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let ran = stage.executor.run(&spec, |_, printed| {
        let Printed::Line(_) = printed else { return };
        look.take().into_iter().for_each(|look| look());
        rustix::io::write(&pipe, b"on\n").unwrap();
    });
    ran.map(drop)
}

/// As one that was kept open until nobody runs it any more.
#[test]
fn a_descriptor_of_what_runs_around_a_step_refuses_writing() {
    let trap = Trap::new();
    let mut found = Vec::new();
    while_a_step_runs(&trap.stage, || found = around(&trap.program, "")).unwrap();
    assert!(found.iter().any(|one| one.is_init) && found.iter().any(|one| !one.is_init));
    let Trap { stage, program, before, .. } = trap;
    // The folder stays until the end, the processes do not.
    let stage = stage.restarted(config());
    for Around { program, .. } in &found {
        let path = path_of(program);
        for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::WRONLY | OFlags::TRUNC] {
            let refused = rustix::fs::open(path.as_str(), flags, Mode::empty()).map(drop);
            assert_eq!(refused, Err(Errno::ROFS), "{flags:?}");
        }
        assert_eq!(rustix::fs::fchmod(program, Mode::from_raw_mode(0o777)), Err(Errno::ROFS));
    }
    assert_eq!(vec![state(&program)], before);
    // Through its own path the file is as it was: nothing holds it any more.
    File::options().write(true).open(&program).unwrap();
    drop(stage);
}

/// A program of another mount namespace cannot be mounted in this one: then a copy in memory runs, sealed.
#[test]
fn where_no_mount_can_be_made_a_sealed_copy_runs() {
    // Others find their program in their own namespace.
    if Stage::new().executor.is_rootless() {
        return;
    }
    let mut elsewhere = Command::new("unshare")
        .args(["--mount", "sh", "-c", "echo; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    elsewhere.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let program = fs::canonicalize(config().program).unwrap();
    let program = PathBuf::from(format!("/proc/{}/root{}", elsewhere.id(), program.display()));
    let stage = Stage::with(Config { program: program.clone(), ..config() });
    let mut found = Vec::new();
    while_a_step_runs(&stage, || found = around(&program, "/memfd:rbuild (deleted)")).unwrap();
    found.retain(|one| fs::read_link(path_of(&one.program)).unwrap().starts_with("/memfd:rbuild (deleted)"));
    assert!(found.iter().any(|one| one.is_init), "no copy runs");
    drop(stage);
    for Around { program, .. } in &found {
        let file = File::options().write(true).open(path_of(program)).unwrap();
        assert_eq!(rustix::io::write(&file, b"x"), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&file, 0), Err(Errno::PERM));
    }
    drop(elsewhere.stdin.take());
    assert!(elsewhere.wait().is_ok());
}

/// As the kernel does where memory runs out.
#[test]
fn a_killed_init_is_told_as_what_it_is() {
    let trap = Trap::new();
    let killed = while_a_step_runs(&trap.stage, || {
        let found = around(&trap.program, "");
        let init = found.iter().find(|one| one.is_init).expect("a step has an init");
        rustix::process::kill_process(Pid::from_raw(init.pid).unwrap(), Signal::KILL).unwrap();
    });
    let Err(error @ ExecError::Killed { signal: 9, .. }) = killed else { panic!("{killed:?}") };
    assert!(error.to_string().contains("killed"), "{error}");
}
