//! A daemon of Docker's for one test.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Docker's daemon with folders of its own, without a network; ends with the value.
pub struct Dockerd {
    child: Child,
    socket: String,
    /// What it leaves mounted.
    namespace: String,
}

impl Dockerd {
    /// Starts it, and waits until it answers.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    /// Starts it with more options.
    pub fn start_with(folder: &Path, more: &[&str]) -> Self {
        let at = |name: &str| folder.join(name).display().to_string();
        let socket = format!("unix://{}", at("docker.sock"));
        let log = fs::File::create(folder.join("dockerd.log")).unwrap();
        let child = Command::new("dockerd")
            .args([
                "--iptables=false",
                "--bridge=none",
                "--data-root",
                &at("data"),
                "--exec-root",
                &at("exec"),
            ])
            .args(["--pidfile", &at("pid"), "-H", &socket])
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut daemon = Self { child, socket, namespace: at("exec/netns/default") };
        let is_up = |daemon: &Self| daemon.command(&["version"]).output().unwrap().status.success();
        while !is_up(&daemon) {
            let log = || fs::read_to_string(folder.join("dockerd.log")).unwrap();
            assert!(daemon.child.try_wait().unwrap().is_none(), "{}", log());
        }
        daemon
    }

    /// `docker …` that speaks to it.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &self.socket]).args(args);
        command
    }

    /// Runs `docker`, which must succeed; gives what it printed.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // It takes its containerd along, and unmounts what it mounted.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
        let _ = Command::new("umount").arg(&self.namespace).output();
    }
}
