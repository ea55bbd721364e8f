//! Caches that machines share: `machine` after `machine` with a store of its own, and one cache between them.

mod care;
mod faults;
mod folder;
mod gha;
mod http;
mod inline;
mod lies;
mod mounts;
mod options;
mod plan;
mod reapi;
mod registry;
mod s3;
mod servers;
mod signed;
mod worth;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A context, and machines that build it.
struct Project {
    dir: tempfile::TempDir,
}

/// What a build said.
struct Said {
    code: i32,
    stderr: String,
}

const DOCKERFILE: &str = "FROM scratch AS base
COPY busybox /bin/sh
COPY busybox /bin/busybox
RUN echo one > /one
FROM base AS b
COPY a /a
RUN /bin/busybox cat /a > /b
FROM base
COPY --from=b /b /b
WORKDIR /w
RUN echo two > /two
";

impl Project {
    fn new() -> Self {
        let project = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(project.path().join("context")).unwrap();
        let busybox = fs::read("/bin/busybox").expect("needs the package busybox-static");
        project.write("busybox", busybox);
        let program = project.path().join("context/busybox");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(program, mode).unwrap();
        project.write("a", "a file\n");
        project.write("Dockerfile", DOCKERFILE);
        project
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path().join("context").join(name), content).unwrap();
    }

    fn store(&self, machine: &str) -> PathBuf {
        self.path().join(machine)
    }

    /// Builds on a machine, which has an empty store when it is named first.
    fn build(&self, machine: &str, arguments: &[&str]) -> Said {
        self.build_in(machine, &[], arguments)
    }

    /// A build that must work, with these variables.
    fn built_in(&self, machine: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Said {
        let said = self.build_in(machine, variables, arguments);
        assert_eq!(said.code, 0, "{}", said.stderr);
        said
    }

    fn build_in(&self, machine: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Said {
        let output = self.command(machine, arguments).envs(variables.iter().copied()).output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// That build, not begun.
    fn command(&self, machine: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
        command.current_dir(self.path().join("context")).arg("--root").arg(self.store(machine));
        command.args(["build", "--progress=plain"]).args(arguments).arg(".");
        command
    }

    /// Another subcommand on a machine.
    fn rbuild(&self, machine: &str, arguments: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
        let output = command.arg("--root").arg(self.store(machine)).args(arguments).output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// A build that must work.
    fn built(&self, machine: &str, arguments: &[&str]) -> Said {
        let said = self.build(machine, arguments);
        assert_eq!(said.code, 0, "{}", said.stderr);
        said
    }
}

/// Machines that build at once lose nothing of what each leaves.
fn writers_at_once_lose_nothing(project: &Project, from: &str, to: &str) {
    let machines: Vec<String> = (0..8).map(|number| format!("machine{number}")).collect();
    project.write("Numbered", format!("{DOCKERFILE}ARG N\nRUN echo $N > /n\n"));
    // What all stand on.
    project.built("first", &["--file=Numbered", to]);
    std::thread::scope(|scope| {
        for machine in &machines {
            let argument = format!("--build-arg=N={machine}");
            scope.spawn(move || project.built(machine, &["--file=Numbered", from, to, &argument]));
        }
    });
    // What lost a race for the head lies beside it, until the next who has something to say.
    project.built("last", &["--file=Numbered", from, to, "--build-arg=N=last"]);
    for machine in &machines {
        let argument = format!("--build-arg=N={machine}");
        let said = project.built(&format!("{machine}-again"), &["--file=Numbered", from, &argument]);
        assert_eq!(said.ran(), 0, "{machine}: {}", said.stderr);
    }
}

impl Said {
    /// The digest of the image.
    fn digest(&self) -> &str {
        let line = self.stderr.lines().rev().find_map(|line| line.strip_prefix("built "));
        line.expect("a digest at the end").trim()
    }

    /// How many steps ran.
    fn ran(&self) -> usize {
        let summary = self.stderr.rsplit("built sha256:").next().unwrap();
        let words: Vec<&str> = summary.split_whitespace().collect();
        let at = words.windows(3).position(|w| w[1].starts_with("step") && w[2].starts_with("ran"));
        at.map_or(0, |at| words[at].parse().unwrap())
    }
}
