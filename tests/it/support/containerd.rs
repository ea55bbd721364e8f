//! A containerd for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// containerd with folders of its own; ends with the value.
pub struct Containerd {
    child: Child,
    socket: PathBuf,
}

impl Containerd {
    /// Starts it, and waits until it answers.
    pub fn start(folder: &Path) -> Self {
        let at = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{}\"\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{}\"\n",
            at("root"),
            at("state"),
            at("containerd.sock"),
            at("opt"),
        );
        fs::write(folder.join("config.toml"), config).unwrap();
        let log = fs::File::create(folder.join("containerd.log")).unwrap();
        let child = Command::new("containerd")
            .args(["--config", &at("config.toml")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut daemon = Self { child, socket: folder.join("containerd.sock") };
        while !daemon.command("default", &["version"]).output().unwrap().status.success() {
            let log = || fs::read_to_string(folder.join("containerd.log")).unwrap();
            assert!(daemon.child.try_wait().unwrap().is_none(), "{}", log());
        }
        daemon
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `ctr …` that speaks to it.
    pub fn command(&self, namespace: &str, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket).args(["--namespace", namespace]).args(args);
        command
    }

    /// Runs `ctr`, which must succeed; gives what it printed.
    #[track_caller]
    pub fn ctr(&self, namespace: &str, args: &[&str]) -> String {
        let output = self.command(namespace, args).output().unwrap();
        assert!(output.status.success(), "ctr {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// An image is there as a whole and unpacked, as `ctr images check` has it.
    #[track_caller]
    pub fn check(&self, namespace: &str, name: &str) {
        let checked = self.ctr(namespace, &["images", "check"]);
        let line = checked.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{checked}"));
        assert!(
            line.contains("complete") && !line.contains("incomplete") && line.trim_end().ends_with("true"),
            "{line}"
        );
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}
