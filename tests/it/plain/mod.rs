//! RUN in an ordinary container: one of a real Docker, with its default profile and capabilities.
//!
//! The container has the programs of this machine (`/usr` and `/etc`, read-only), and folders of the test.

mod conformance;
mod kills;
mod reach;
mod steps;
mod surroundings;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::dockerd::Dockerd;
use crate::support::{copy_program, is_root, tools};

/// A daemon, an image, and a folder that containers see as `/work`.
struct Plain {
    daemon: Dockerd,
    folder: tempfile::TempDir,
}

impl Plain {
    /// `None` where there is no Docker, or this is not root: why.
    fn start() -> Result<Self, &'static str> {
        if !is_root() {
            return Err("only root starts a daemon of Docker's");
        }
        if !tools::has("dockerd") || !tools::has("docker") {
            return Err("`docker.io` is not installed");
        }
        let folder = tempfile::tempdir().unwrap();
        let docker = folder.path().join("docker");
        fs::create_dir(&docker).unwrap();
        let daemon = Dockerd::start(&docker);
        let plain = Self { daemon, folder };
        fs::create_dir(plain.work()).unwrap();
        copy_program(Path::new(env!("CARGO_BIN_EXE_rbuild")), &plain.work().join("rbuild"));
        copy_program(Path::new("/bin/busybox"), &plain.work().join("busybox"));
        plain.import();
        Ok(plain)
    }

    /// What containers have as `/work`.
    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn import(&self) {
        let root = self.folder.path().join("root");
        for name in ["usr", "etc", "proc", "sys", "dev", "tmp", "root", "run", "work", "var/tmp", "var/lib"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).unwrap();
        }
        // 4242 bytes, which no other file has.
        let marker = format!("{:4241}\n", "MARKER-OF-THE-CONTAINER");
        fs::write(root.join("marker"), marker).unwrap();
        let tar = self.folder.path().join("root.tar");
        tools::run("tar", ["-C", root.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "."]);
        self.daemon.docker(&["import", tar.to_str().unwrap(), "plain"]);
    }

    /// A container with these options of `docker run`, in which a shell runs `script`.
    fn container(&self, options: &[&str], script: &str) -> Command {
        let mut command =
            self.daemon.command(&["run", "--rm", "-v", "/usr:/usr:ro", "-v", "/etc:/etc:ro", "-v"]);
        command.arg(format!("{}:/work", self.work().display()));
        if !options.iter().any(|option| option.starts_with("--network")) {
            command.arg("--network=none");
        }
        command.args(options).args(["plain", "/bin/sh", "-c", script]);
        command
    }

    /// Runs it; gives what it said, errors after output, and its exit code.
    fn run(&self, options: &[&str], script: &str) -> (String, Option<i32>) {
        let Output { status, stdout, stderr } = self.container(options, script).output().unwrap();
        (String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned(), status.code())
    }

    /// A context with a Dockerfile, a shell and these programs, which are compiled; in containers `/work/NAME`.
    fn context(&self, name: &str, dockerfile: &str, programs: &[&str]) {
        let context = self.work().join(name);
        fs::create_dir(&context).unwrap();
        fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        copy_program(Path::new("/bin/busybox"), &context.join("busybox"));
        for program in programs {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/plain/{program}.c"));
            let to = context.join(program);
            let args = ["-O1", "-static", "-pthread", "-o", to.to_str().unwrap(), source.to_str().unwrap()];
            tools::run("gcc", args);
        }
    }

    /// Builds such a context in a container; gives what rbuild said, and its exit code.
    fn build(&self, name: &str, options: &[&str], args: &str) -> (String, Option<i32>) {
        let script = format!("/work/rbuild --root /var/lib/store --progress=plain {args} /work/{name} 2>&1");
        self.run(options, &script)
    }
}

/// The start of a Dockerfile with a shell.
const SHELL: &str = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"\
    /bin/busybox mkdir -p /tmp /etc && /bin/busybox chmod 1777 /tmp && /bin/busybox --install -s /bin\"]\n";

/// Skips the test where there is no container to try it in.
macro_rules! plain {
    () => {
        match $crate::plain::Plain::start() {
            Ok(plain) => plain,
            Err(why) => $crate::support::skip!("{why}"),
        }
    };
}
use plain;
