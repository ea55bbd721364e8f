//! A root file system of busybox and its applets, and a step to run in it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rbuild::exec::{
    Config, Credentials, ExecError, Executor, ExitReport, ExitStatus, MountSpec, Network, Printed,
    RootSource, Security, Spec,
};
use rbuild::oci::Platform;
use rbuild::report::Stream;

use crate::support::copy_program;

/// A directory for one test: an unpacked layer, and an upper directory for each step.
pub(super) struct Stage {
    directory: tempfile::TempDir,
    pub(super) executor: Executor,
}

/// What a step printed and how it ended.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) out: String,
    pub(super) err: String,
    pub(super) report: ExitReport,
    pub(super) upper: PathBuf,
}

impl Ran {
    pub(super) fn status(&self) -> ExitStatus {
        self.report.status
    }
}

impl Stage {
    pub(super) fn new() -> Self {
        Self::with(config())
    }

    pub(super) fn with(config: Config) -> Self {
        let directory = tempfile::Builder::new().prefix("rbuild-exec-").tempdir().unwrap();
        let stage = Self { directory, executor: Executor::new(config) };
        let base = stage.layer("base");
        for name in ["bin", "etc", "root", "tmp", "proc", "sys", "dev"] {
            fs::create_dir(base.join(name)).unwrap();
        }
        // Needs the package busybox-static.
        copy_program(Path::new("/bin/busybox"), &base.join("bin/busybox"));
        for applet in APPLETS.split_whitespace() {
            symlink("busybox", base.join("bin").join(applet)).unwrap();
        }
        stage
    }

    /// The same directories, with nothing left of what has run.
    pub(super) fn restarted(self, config: Config) -> Self {
        let Self { directory, executor } = self;
        drop(executor);
        Self { directory, executor: Executor::new(config) }
    }

    /// Whether other ids than root's exist in a step.
    pub(super) fn has_ids(&self) -> bool {
        self.executor.privilege().unwrap().has_other_ids()
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// An empty directory to be filled as a layer.
    pub(super) fn layer(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// A step of `sh -c script` on the base, with an upper directory of its own.
    pub(super) fn spec(&self, name: &str, script: &str) -> Spec {
        self.spec_on(name, &["base"], script)
    }

    /// The same on these layers, top first.
    pub(super) fn spec_on(&self, name: &str, layers: &[&str], script: &str) -> Spec {
        let active = self.layer(name);
        for part in ["upper", "work", "merged"] {
            fs::create_dir(active.join(part)).unwrap();
        }
        Spec {
            root: RootSource::Overlay {
                lowers: layers.iter().map(|layer| self.path().join(layer)).collect(),
                upper: active.join("upper"),
                work: active.join("work"),
                merged: active.join("merged"),
            },
            args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            cwd: "/".into(),
            credentials: Credentials { uid: 0, gid: 0, groups: vec![0], home: "/root".into() },
            hostname: "buildkitsandbox".into(),
            network: Network::Host,
            security: Security::Sandbox,
            hidden: Vec::new(),
            mounts: Vec::new(),
            hosts: "127.0.0.1\tlocalhost\n".into(),
            resolv_conf: "nameserver 192.0.2.1\n".into(),
            shm_size_bytes: 0,
            ulimits: Vec::new(),
            owned_paths: Vec::new(),
            platform: Platform::host(),
            limits: None,
        }
    }

    pub(super) fn run(&self, spec: &Spec) -> Ran {
        match self.try_run(spec) {
            Ok(ran) => ran,
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn try_run(&self, spec: &Spec) -> Result<Ran, ExecError> {
        let text = Mutex::new((String::new(), String::new()));
        let report = self.executor.run(spec, |stream, printed| {
            let Printed::Line(line) = printed else { return };
            let mut text = text.lock().unwrap();
            let into = if stream == Stream::Stdout { &mut text.0 } else { &mut text.1 };
            *into += line;
            *into += "\n";
        })?;
        let (out, err) = text.into_inner().unwrap();
        let upper = match &spec.root {
            RootSource::Overlay { upper, .. } => upper.clone(),
            RootSource::Plain { dir } => dir.clone(),
        };
        Ok(Ran { out, err, report, upper })
    }

    /// Runs a script on the base and returns its output; it must succeed.
    pub(super) fn sh(&self, name: &str, script: &str) -> String {
        self.sh_with(name, script, |_| {})
    }

    /// The same with changes to the step.
    pub(super) fn sh_with(&self, name: &str, script: &str, change: impl FnOnce(&mut Spec)) -> String {
        let mut spec = self.spec(name, script);
        change(&mut spec);
        let ran = self.run(&spec);
        assert_eq!(ran.status(), ExitStatus::Code(0), "{}{}", ran.out, ran.err);
        ran.out
    }
}

pub(super) fn config() -> Config {
    // As an ordinary user the tests run from a copy, wherever the build directory is.
    let program = std::env::var_os("RBUILD_TEST_PROGRAM").unwrap_or(env!("CARGO_BIN_EXE_rbuild").into());
    Config { program: PathBuf::from(program), ..Config::default() }
}

pub(super) fn mount(target: &str, kind: rbuild::exec::MountSource) -> MountSpec {
    MountSpec { target: target.into(), readonly: false, kind }
}

/// Everything below a directory, as sorted relative paths; what a diff would show.
pub(super) fn listing(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            }
            found.push(entry.path().strip_prefix(directory).unwrap().display().to_string());
        }
    }
    found.sort();
    found
}

const APPLETS: &str = "sh ls cat id env mkdir rmdir rm touch chmod chown mknod mkfifo head tail grep stat wc ps sleep \
    kill hostname ip mount umount df awk tr cut sort echo test true false seq yes dd readlink ln nc unshare setpriv \
    sync find pwd printf date tty nproc chroot sed setsid";
