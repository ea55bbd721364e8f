//! What a hostile image or step tries against the machine that builds it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rbuild::exec::{ExecError, MountSource};

use super::stage::{Stage, config, mount};
use crate::support::{copy_program, write_program};

/// The program that a step starts from is rbuild itself: an image that names it must not get hold of it.
#[test]
fn an_image_cannot_run_rbuild_as_its_program() {
    let stage = Stage::new();
    let base = stage.path().join("base");
    symlink("/proc/self/exe", base.join("bin/trap")).unwrap();
    symlink("trap", base.join("bin/trap2")).unwrap();
    for (name, text) in [("script", "#!/proc/self/exe\n"), ("outer", "#! /bin/script -x\n")] {
        let path = base.join("bin").join(name);
        write_program(&path, text.as_bytes());
    }
    for (at, program) in
        ["/proc/self/exe", "/proc/1/exe", "/bin/trap", "trap2", "/bin/script", "outer"].iter().enumerate()
    {
        let mut spec = stage.spec(&format!("step{at}"), "");
        spec.args = vec![(*program).to_owned(), "--version".to_owned()];
        let refused = stage.try_run(&spec).err();
        assert!(matches!(refused, Some(ExecError::NotExecutable { .. })), "{program}: {refused:?}");
    }
    assert_eq!(stage.sh("usual", "echo '#!/bin/sh' >s; echo 'echo ran' >>s; chmod +x s; ./s"), "ran\n");
}

#[test]
fn no_program_outside_the_root_can_be_written() {
    let stage = Stage::new();
    let before = fs::read(config().program).unwrap();
    let script =
        "for e in /proc/[0-9]*/exe; do readlink $e; (echo x > $e) 2>/dev/null && echo wrote; done; true";
    let out = stage.sh("a", script);
    assert!(out.lines().all(|line| line == "/bin/busybox"), "{out}");
    assert!(fs::read(config().program).unwrap() == before);
}

/// Until a command is executed, its path may lead through the open files of the process that executes it (as in
/// CVE-2024-21626): those of the machine, and one that rbuild was started with.
#[test]
fn no_command_leads_through_an_open_file() {
    const INHERITED: i32 = 200;
    let stage = Stage::new();
    let outside = stage.layer("outside").join("busybox");
    copy_program(Path::new("/bin/busybox"), &outside);
    let root = fs::File::open("/").unwrap();
    let inherited = rustix::io::fcntl_dupfd_cloexec(&root, INHERITED).unwrap();
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
    let script = stage.path().join("base/bin/script");
    for fd in (3..20).chain([std::os::fd::AsRawFd::as_raw_fd(&inherited)]) {
        let there = format!("/proc/self/fd/{fd}{}", outside.display());
        write_program(&script, format!("#!{there} true\n").as_bytes());
        for (at, program) in
            [there, format!("/proc/self/fd/{fd}/bin/busybox"), "script".into()].iter().enumerate()
        {
            let mut spec = stage.spec(&format!("step{fd}.{at}"), "");
            spec.args = vec![program.clone(), "true".to_owned()];
            let refused = stage.try_run(&spec).err();
            let is_refused = match refused {
                Some(ExecError::NotFound { .. }) => true,
                // The script is there; what it names is not.
                Some(ExecError::NoLoader { .. }) => program == "script",
                _ => false,
            };
            assert!(is_refused, "{program}: {refused:?}");
        }
    }
}

/// The capability to send raw packets is for `ping`; what others send over the machine's network is none of a step's business.
#[test]
fn no_packets_of_the_machines_network_are_read() {
    let stage = Stage::new();
    let packets = "busybox arping -c 1 -w 1 -I lo 127.0.0.1 2>&1; true";
    let out = stage.sh("packets", packets);
    assert!(out.contains("permitted"), "{out}");
    // In a user namespace the kernel lets nobody do either there.
    if !stage.executor.is_rootless() {
        stage.sh("ping", "busybox ping -c 1 -W 5 127.0.0.1");
        // Its own network is its own.
        let own = stage.sh_with("own", packets, |spec| spec.network = rbuild::exec::Network::None);
        assert!(!own.contains("permitted"), "{own}");
        stage.sh_with("insecure", packets, |spec| spec.security = rbuild::exec::Security::Insecure);
    }
}

/// Two steps share a cache, and one of them swaps a folder for a link while the other mounts on it.
#[test]
fn a_mount_point_that_changes_under_way_leads_nowhere() {
    let stage = Stage::new();
    let (cache, outside) = (stage.layer("cache"), stage.layer("outside"));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (point, link) = (cache.join("point"), cache.join("link"));
            while !stop.load(Ordering::Relaxed) {
                let _ = fs::create_dir(&point);
                let _ = symlink(&outside, &link);
                let _ = fs::remove_dir(&point);
                let _ = fs::rename(&link, &point);
                let _ = fs::remove_file(&point);
            }
        });
        for round in 0..20 {
            let mut spec = stage.spec(&format!("step{round}"), "echo x > /c/point/inner/file");
            spec.mounts = vec![
                mount("/c", MountSource::Bind { source: cache.clone() }),
                mount("/c/point/inner", MountSource::Tmpfs { size_bytes: 0, mode: 0o755 }),
            ];
            // It may fail: what was found is gone by now. It must not reach the machine.
            let _ = stage.try_run(&spec);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    // Inside, that path of the machine does not exist; it may have been made there and is thrown away.
    assert!(!stage.path().join("outside/inner").exists());
}

/// Filling what is limited, and forking without end, is an error of the step and of nobody else.
#[test]
fn a_step_that_takes_all_it_gets_ends_in_an_error() {
    let stage = Stage::new();
    let spec = stage.spec("disk", "dd if=/dev/zero of=/dev/shm/x bs=1M 2>&1");
    let ran = stage.run(&spec);
    assert!(ran.out.contains("No space left on device"), "{}", ran.out);
    // Busybox's shell gives up when it cannot fork. Processes in the background die with the first.
    let mut spec = stage.spec("forks", "i=0; while [ $i -lt 400 ]; do sleep 1000 & i=$((i+1)); done; exit 3");
    let limit = |soft| rbuild::exec::Ulimit { name: "nofile".into(), soft, hard: soft };
    spec.ulimits = vec![limit(64)];
    assert_eq!(stage.run(&spec).status(), rbuild::exec::ExitStatus::Code(3));
    assert_eq!(stage.sh("after", "echo alive"), "alive\n");
}

/// A terminal that pretends to be typed into is no way out: a step has none.
#[test]
fn a_step_has_no_terminal() {
    let stage = Stage::new();
    let out =
        stage.sh("a", "for fd in 0 1 2; do [ -t $fd ] && echo terminal $fd; done; cat /dev/tty 2>&1 || true");
    assert!(!out.contains("terminal"), "{out}");
    assert!(out.contains("/dev/tty"), "{out}");
}
