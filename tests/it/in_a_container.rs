//! rbuild in containers of a real Docker: what `doctor` says there, that following it once is enough, and what a build does.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::dockerd::Dockerd;
use crate::support::{copy_program, is_root, skip, tools};

/// What one container came to.
struct Told {
    found: Value,
    /// Exit code and output of a build with a RUN.
    build: (String, String),
}

impl Told {
    fn works(&self) -> bool {
        self.found["works"] == true
    }

    fn finding(&self, name: &str) -> &Value {
        let findings = self.found["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["name"] == name).unwrap_or(&Value::Null)
    }

    /// The options that doctor asks for.
    fn asked(&self) -> Vec<String> {
        let blocked = ["mounts", "one id"].map(|name| self.finding(name));
        let blocked = blocked.into_iter().find(|finding| finding["state"] == "blocked").unwrap();
        let remedies = blocked["remedies"].as_array().unwrap();
        assert_eq!(remedies.len(), 1, "{:#}", self.found);
        remedies[0].as_str().unwrap().split_whitespace().map(str::to_owned).collect()
    }
}

/// An image with rbuild, a shell and a context.
fn import(daemon: &Dockerd, folder: &Path) {
    let root = folder.join("root");
    for name in ["bin", "etc", "proc", "dev", "sys", "work"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    let program = env!("CARGO_BIN_EXE_rbuild");
    copy_program(Path::new(program), &root.join("bin/rbuild"));
    for name in ["bin/sh", "bin/cat", "work/busybox"] {
        copy_program(Path::new("/bin/busybox"), &root.join(name));
    }
    for library in tools::run("ldd", [program]).split_whitespace().filter(|word| word.starts_with('/')) {
        let to = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(library, to).unwrap();
    }
    // Of others than its own processes a step sees nothing that tells what they know.
    let dockerfile = "FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/busybox\n\
        RUN busybox grep -q '^Name:.busybox' /proc/self/status && echo said; \
        if busybox grep -qa OF_THE_JOB /proc/[0-9]*/environ 2>/dev/null; then echo leaked; fi\n";
    fs::write(root.join("work/Dockerfile"), dockerfile).unwrap();
    let tar = folder.join("root.tar");
    tools::run("tar", ["-C", root.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "."]);
    daemon.docker(&["import", tar.to_str().unwrap(), "rbuild"]);
}

fn in_container(daemon: &Dockerd, volume: &Path, options: &[String]) -> Told {
    let script = "export HOME=/store RBUILD_ROOT=/store/s; rbuild doctor --format json; echo; echo --; \
        rbuild --progress=plain /work >/store/log 2>&1; echo $?; echo --; cat /store/log";
    let mut command = daemon.command(&["run", "--rm", "--network=none", "-e", "OF_THE_JOB=1", "-v"]);
    command.arg(format!("{}:/store", volume.display())).args(options);
    let output = command.args(["rbuild", "/bin/sh", "-c", script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let parts: Vec<&str> = text.split("--\n").collect();
    let [found, code, log] = parts[..] else {
        panic!("{options:?}: {text}{}", String::from_utf8_lossy(&output.stderr))
    };
    Told { found: serde_json::from_str(found).unwrap(), build: (code.trim().to_owned(), log.to_owned()) }
}

/// What is needed for the fourth rung is there by default, and little else is needed.
#[test]
fn run_works_for_root_of_a_plain_container() {
    if !is_root() || !tools::has("dockerd") || !tools::has("docker") {
        skip!("no dockerd of root here");
    }
    let directory = tempfile::tempdir().unwrap();
    let daemon = Dockerd::start(directory.path());
    import(&daemon, directory.path());
    for (at, options) in [
        "",
        "--security-opt systempaths=unconfined",
        "--security-opt no-new-privileges",
        "--cap-drop ALL --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add FOWNER --cap-add SYS_CHROOT",
        "--read-only",
        "--pids-limit 64 --memory 1g",
    ]
    .into_iter()
    .enumerate()
    {
        let volume = directory.path().join(format!("volume{at}"));
        fs::create_dir(&volume).unwrap();
        let options: Vec<String> = options.split_whitespace().map(str::to_owned).collect();
        let told = in_container(&daemon, &volume, &options);
        assert!(told.works() && told.found["rung"] == 4, "{options:?}: {:#}", told.found);
        let (code, log) = &told.build;
        assert!(code == "0" && log.contains(" said"), "{options:?}: {log}");
        assert!(log.contains("this container allows no namespaces"), "{options:?}: {log}");
    }
    let volume = directory.path().join("volume");
    fs::create_dir(&volume).unwrap();
    // Where namespaces are allowed they are better, though parts of /proc are masked.
    let told = in_container(&daemon, &volume, &["--security-opt=seccomp=unconfined".to_owned()]);
    assert!(told.works() && told.found["rung"] == 2, "{:#}", told.found);
    assert_eq!(told.finding("mounts")["state"], "limited", "{:#}", told.found);
    let (code, log) = &told.build;
    assert!(code == "0" && log.contains(" said") && log.contains("so RUN has this machine's /proc"), "{log}");
    let volume = directory.path().join("without");
    fs::create_dir(&volume).unwrap();
    let told = in_container(&daemon, &volume, &["--cap-drop=SYS_CHROOT".to_owned()]);
    assert!(!told.works(), "{:#}", told.found);
    let plain = told.finding("plain container");
    assert_eq!((&plain["state"], &plain["detail"]), (&"blocked".into(), &"root lacks SYS_CHROOT".into()));
    assert_eq!(plain["remedies"], serde_json::json!(["--cap-add SYS_CHROOT"]));
    assert_eq!(told.build.0, "1", "{}", told.build.1);
}

/// Whoever does what doctor says has what they need, and nothing more.
#[test]
fn what_doctor_says_in_a_container_is_enough() {
    if !is_root() || !tools::has("dockerd") || !tools::has("docker") {
        println!("no dockerd of root here: `doctor::` emulates what it does");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let daemon = Dockerd::start(directory.path());
    import(&daemon, directory.path());
    let volume = directory.path().join("volume");
    fs::create_dir(&volume).unwrap();
    tools::run("chmod", ["1777", volume.to_str().unwrap()]);
    let filter = "seccomp=unconfined";
    for (given, asked) in [
        ("--user 1000", &[filter][..]),
        ("--user 1000 --cap-drop ALL", &[filter]),
        ("--user 1000 --security-opt no-new-privileges --read-only", &[filter]),
        ("--cap-drop ALL", &[filter, "1000"]),
        ("--cap-add SYS_ADMIN", &[filter]),
    ] {
        let as_root = match given {
            "--user 1000 --cap-drop ALL" => {
                "--user 0 --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add FOWNER --cap-add SYS_CHROOT"
            }
            _ if given.starts_with("--user 1000") => "--user 0",
            _ => "",
        };
        let mut options: Vec<String> = given.split_whitespace().map(str::to_owned).collect();
        let of_case = |name: &str| {
            let folder = volume.join(format!("{given}{name}").replace(' ', "_"));
            fs::create_dir(&folder).unwrap();
            tools::run("chmod", ["1777", folder.to_str().unwrap()]);
            folder
        };
        let before = in_container(&daemon, &of_case("before"), &options);
        assert!(!before.works(), "{given}: {:#}", before.found);
        let (code, log) = &before.build;
        assert!(code == "1" && log.contains("`rbuild doctor` tries"), "{given}: {log}");
        assert!(!log.contains("#1"), "{given}: no step was begun: {log}");
        if !as_root.is_empty() {
            assert_eq!(
                before.finding("plain container")["remedies"],
                serde_json::json!([as_root]),
                "{given}"
            );
            assert!(
                log.contains(&format!("the least that lets RUN work here: `{as_root}`")),
                "{given}: {log}"
            );
        }
        let more = before.asked();
        let values: Vec<&str> = more.iter().skip(1).step_by(2).map(String::as_str).collect();
        assert_eq!(values, asked, "{given}");
        options.extend(more);
        let after = in_container(&daemon, &of_case("after"), &options);
        assert!(after.works(), "{options:?}: {:#}", after.found);
        assert_eq!(after.finding("writable roots")["state"], "works", "{options:?}: {:#}", after.found);
        let (code, log) = &after.build;
        assert!(code == "0" && log.contains(" said"), "{options:?}: {log}");
        // What masks /proc is still there, and root of the machine needs no other one.
        let shares = log.contains("so RUN has this machine's /proc");
        assert_eq!(shares, after.found["rung"] != 1, "{options:?}: {log}");
        assert!(!log.lines().any(|line| line.ends_with(" leaked")), "{options:?}: {log}");
    }
}
