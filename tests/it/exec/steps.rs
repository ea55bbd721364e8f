//! What a command finds, and what it leaves.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rbuild::exec::{
    Config, Credentials, ExecError, Executor, ExitStatus, MountSource, Network, Printed, RootSource,
    Security, State, Ulimit, Writes,
};

use super::stage::{Stage, listing, mount};
use crate::support::{copy_program, write_program};

#[test]
fn the_exit_code_is_the_commands() {
    let stage = Stage::new();
    let ran = stage.run(&stage.spec("a", "echo out; echo err >&2; exit 42"));
    assert_eq!((ran.status(), ran.out.as_str(), ran.err.as_str()), (ExitStatus::Code(42), "out\n", "err\n"));
}

#[test]
fn a_signal_from_inside_spares_the_first_process() {
    let stage = Stage::new();
    let out = stage.sh("a", "sh -c 'kill -9 $$'; echo $?; kill -TERM $$; kill -9 $$; echo alive $$");
    assert_eq!(out, "137\nalive 1\n");
}

#[test]
fn identity_is_that_of_a_fresh_login_without_a_terminal() {
    let stage = Stage::new();
    let script = "id -u; id -g; umask; pwd; hostname; tty; wc -c < /dev/stdin; ls /proc/self/fd | wc -l; \
                  (echo x > /dev/tty) 2>/dev/null || echo no terminal";
    // The listing itself opens one more file than 0, 1 and 2.
    assert_eq!(stage.sh("a", script), "0\n0\n0022\n/\nbuildkitsandbox\nnot a tty\n0\n4\nno terminal\n");
}

/// Nobody waits for a disk: neither the step's own syncs nor the unmount of its root.
#[test]
fn the_root_is_volatile() {
    let stage = Stage::new();
    let options = stage.sh("a", "awk '$2 == \"/\" { print $3, $4 }' /proc/mounts | tail -n 1");
    let (kind, options) = options.trim().split_once(' ').unwrap();
    // The kernel shows it as `fsync=volatile` since 6.18.
    assert!(kind != "overlay" || options.split(',').any(|option| option.ends_with("volatile")), "{options}");
}

/// Nor does the C library leave its own two signals ignored, as it does in what it spawns.
#[test]
fn no_signal_is_blocked_or_ignored() {
    let stage = Stage::new();
    // A shell ignores some for itself.
    let out = stage.sh_with("a", "", |spec| {
        spec.args = ["/bin/grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"].map(str::to_owned).to_vec();
    });
    let none = "0".repeat(16);
    assert_eq!(out, format!("SigBlk:\t{none}\nSigIgn:\t{none}\n"));
}

#[test]
fn the_environment_is_the_given_one_and_home() {
    let stage = Stage::new();
    let out = stage.sh_with("a", "env | grep -v -e SHLVL -e PWD | sort", |spec| {
        spec.env.push(("A".into(), "1".into()));
        spec.env.push(("A".into(), "2".into()));
    });
    assert_eq!(out, "A=2\nHOME=/root\nPATH=/usr/bin:/bin\n");
}

#[test]
fn capabilities_are_dockers() {
    let stage = Stage::new();
    let script = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status";
    let expected = "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n\
                    CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n";
    assert_eq!(stage.sh("a", script), expected);
    if stage.has_ids() {
        let out = stage.sh_with("b", script, |spec| {
            spec.credentials = Credentials { uid: 1000, gid: 1000, groups: vec![1000, 50], home: "/".into() };
        });
        let expected = expected.replacen("00000000a80425fb", "0000000000000000", 2);
        assert_eq!(out, expected);
    }
}

#[test]
fn a_user_has_its_groups_and_home() {
    let stage = Stage::new();
    let user = |spec: &mut rbuild::exec::Spec| {
        spec.credentials =
            Credentials { uid: 1000, gid: 1001, groups: vec![1001, 50], home: "/home/x".into() };
        spec.cwd = "/new/dir".into();
    };
    let out = stage.sh_with("a", "id; echo $HOME; stat -c '%u %g' /new /new/dir; pwd; touch f", user);
    assert_eq!(out, "uid=1000 gid=1001 groups=50,1001\n/home/x\n1000 1001\n1000 1001\n/new/dir\n");
}

#[test]
fn the_command_is_alone_in_its_pid_namespace() {
    let stage = Stage::new();
    let script =
        "echo $$; ls -d /proc/[0-9]* | wc -l; readlink /proc/1/exe; cat /proc/1/cmdline | tr '\\0' ' '";
    let out = stage.sh("a", script);
    assert!(out.starts_with("1\n3\n/bin/busybox\n/bin/sh -c echo") || out.starts_with("1\n"), "{out}");
    assert!(out.contains("/bin/busybox\n/bin/sh -c") && !out.contains("rbuild"), "{out}");
}

#[test]
fn kernel_interfaces_are_masked() {
    let stage = Stage::new();
    let script = "for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/mm/ksm/run; do
           (echo h > $f) 2>/dev/null && echo wrote $f; done
        mkdir /sys/kernel/x 2>/dev/null && echo sysfs
        head -c 1 /proc/kcore 2>/dev/null | wc -c; ls /sys/firmware | wc -l; ls /proc/acpi 2>/dev/null | wc -l
        cat /proc/keys | wc -c; cat /proc/interrupts | wc -c
        for d in /sys/devices/system/cpu/cpu*/thermal_throttle; do [ -d $d ] && ls $d; done; true";
    assert_eq!(stage.sh("a", script), "0\n0\n0\n0\n0\n");
}

#[test]
fn devices_are_the_usual_ones() {
    let stage = Stage::new();
    let script = "ls /dev | sort | tr '\\n' ' '; ls -ld /dev/shm | cut -c1-10; df -k /dev/shm | tail -1 | awk '{print $2}'
        head -c 3 /dev/zero | wc -c; echo x > /dev/null; readlink /dev/ptmx; readlink /dev/fd";
    let expected = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero drwxrwxrwt\n\
                    65536\n3\npts/ptmx\n/proc/self/fd\n";
    assert_eq!(stage.sh("a", script), expected);
    let bigger = stage.sh_with("b", "df -k /dev/shm | tail -1 | awk '{print $2}'", |spec| {
        spec.shm_size_bytes = 128 << 20;
    });
    assert_eq!(bigger, "131072\n");
}

#[test]
fn hosts_and_resolv_conf_are_there_only_during_the_step() {
    let stage = Stage::new();
    let ran = stage.run(
        &stage.spec("a", "cat /etc/hosts /etc/resolv.conf; (echo x >> /etc/hosts) 2>/dev/null || echo ro"),
    );
    assert_eq!(ran.out, "127.0.0.1\tlocalhost\nnameserver 192.0.2.1\nro\n");
    assert_eq!(listing(&ran.upper), Vec::<String>::new());
}

#[test]
fn what_a_step_does_beside_mount_points_stays() {
    let stage = Stage::new();
    let ran = stage.run(&stage.spec("a", "echo x > /etc/mine; mkdir /etc/dir"));
    assert_eq!(listing(&ran.upper), ["etc", "etc/dir", "etc/mine"]);
    let ran = stage.run(&stage.spec("b", "rm -r /tmp; chmod 700 /etc"));
    assert_eq!(listing(&ran.upper), ["etc", "tmp"]);
}

#[test]
fn mount_points_follow_links_inside_the_root_only() {
    let stage = Stage::new();
    let etc = stage.path().join("base/etc");
    std::os::unix::fs::symlink("../run/systemd/resolv.conf", etc.join("resolv.conf")).unwrap();
    std::os::unix::fs::symlink("/../../../proc/self/fd/../../../tmp/hosts", etc.join("hosts")).unwrap();
    let ran =
        stage.run(&stage.spec("a", "cat /run/systemd/resolv.conf /etc/resolv.conf; ls -A /tmp /run/systemd"));
    let twice = "nameserver 192.0.2.1\n".repeat(2);
    assert_eq!(ran.out, format!("{twice}/run/systemd:\nresolv.conf\n\n/tmp:\nhosts\n"));
    assert_eq!(listing(&ran.upper), Vec::<String>::new());
}

/// What is made ready for a step is of its kind, and shares nothing with the step before.
#[test]
fn a_step_that_was_prepared_is_like_any_other() {
    let mut stage = Stage::new();
    // A program of its own shows which processes belong to this test.
    let program = stage.path().join("rbuild");
    copy_program(Path::new(env!("CARGO_BIN_EXE_rbuild")), &program);
    let program_file = fs::metadata(&program).unwrap();
    stage.executor = Executor::new(Config { program, ..Config::default() });
    stage.executor.expect(100);
    let script = "ip -o link | wc -l; stat -c %a /dev/shm; df -k /dev/shm | awk 'NR == 2 { print $2 }'; \
        echo x > /dev/shm/x; echo x > /dev/x; hostname; ls -A /dev/shm /dev/mqueue | sort; ls /proc/self/fd | wc -l; \
        mknod /disk b 8 0 && dd if=/disk of=/dev/null 2>/dev/null || echo refused";
    let run = |name: &str, network, shm_size_bytes| {
        stage.sh_with(name, script, |spec| {
            (spec.network, spec.shm_size_bytes, spec.hostname) = (network, shm_size_bytes, name.to_owned());
        })
    };
    let alone = run("a", Network::None, 0);
    assert!(alone.starts_with("1\n1777\n65536\na\n"), "{alone}");
    // The second and the third were prepared; the fourth is of another kind.
    assert_eq!(run("b", Network::None, 0), alone.replace("\na\n", "\nb\n"));
    assert_eq!(run("c", Network::None, 0), alone.replace("\na\n", "\nc\n"));
    let small = alone.replace("\n65536\na\n", "\n1024\nd\n");
    assert_eq!(run("d", Network::None, 1 << 20), small);
    assert_ne!(run("e", Network::Host, 0).lines().next(), Some("1"));
    assert!(is_run(&program_file));
    drop(stage);
    assert!(!is_run(&program_file));
}

/// Whether there is a process whose program is this file, through whatever mount.
fn is_run(file: &fs::Metadata) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut programs = processes.filter_map(|process| fs::metadata(process.path().join("exe")).ok());
    programs.any(|program| (program.dev(), program.ino()) == (file.dev(), file.ino()))
}

#[test]
fn nothing_is_mounted_but_what_a_step_needs() {
    let stage = Stage::new();
    let points = "cut -d' ' -f5 /proc/self/mountinfo | grep -vE '^/(proc|sys)/' | sort";
    let script = format!("{points}; ls -di / /.. /etc/.. | sed 's/ .*//' | sort -u | wc -l");
    let devices = "full mqueue null pts random shm tty urandom zero".split(' ');
    let devices: String = devices.map(|name| format!("/dev/{name}\n")).collect();
    let expected = format!("/\n/dev\n{devices}/etc/hosts\n/etc/resolv.conf\n/proc\n/sys\n1\n");
    assert_eq!(stage.sh("a", &script), expected);
}

#[test]
fn a_root_of_nothing_gets_directories_to_mount_on() {
    let stage = Stage::new();
    let bare = stage.layer("bare");
    fs::create_dir(bare.join("bin")).unwrap();
    copy_program(Path::new("/bin/busybox"), &bare.join("bin/sh"));
    let ran = stage.run(&stage.spec_on("a", &["bare"], "echo x > /x"));
    assert_eq!(listing(&ran.upper), ["dev", "proc", "sys", "x"]);
    let spec = stage.spec_on("b", &[], "true");
    assert!(matches!(stage.try_run(&spec), Err(ExecError::NotFound { .. })));
}

#[test]
fn network_none_has_loopback_only() {
    let stage = Stage::new();
    let out = stage.sh_with("a", "ip -o link | cut -d: -f2; ip -o link | grep -c ,UP", |spec| {
        spec.network = Network::None;
    });
    assert_eq!(out, " lo\n1\n");
}

#[test]
fn abstract_sockets_of_the_machine_are_closed_off() {
    use std::os::linux::net::SocketAddrExt as _;
    let stage = Stage::new();
    let name = format!("rbuild-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    for link in ["lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{link}"), stage.path().join("base").join(link)).unwrap();
    }
    // 444 is landlock_create_ruleset, which tells its version; scopes came with 6.
    let script = "use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0); my $v = syscall(444, 0, 0, 1);
        my $c = connect($s, pack('S a*', AF_UNIX, \"\\0$ARGV[0]\"));
        print $v < 6 ? 'no scopes' : $c ? 'reached' : $!, qq(\n);";
    let out = stage.sh_with("a", "", |spec| {
        spec.args = ["/usr/bin/perl", "-e", script, &name].map(str::to_owned).to_vec();
        spec.mounts = vec![mount("/usr", MountSource::Bind { source: "/usr".into() })];
    });
    assert!(["Operation not permitted\n", "no scopes\n"].contains(&out.as_str()), "{out}");
}

#[test]
fn a_background_process_neither_outlives_nor_blocks_the_step() {
    let stage = Stage::new();
    // To wait for them would be to wait for ever.
    let out = stage.sh("a", "sleep infinity & setsid sleep infinity & echo started");
    assert_eq!(out, "started\n");
}

#[test]
fn much_output_arrives_whole() {
    let stage = Stage::new();
    let ran = stage.run(&stage.spec("a", "seq 1 300000; echo end >&2; printf 'no newline'"));
    assert_eq!(ran.out.lines().count(), 300_001);
    assert!(ran.out.ends_with("\n300000\nno newline\n"));
    assert_eq!(ran.err, "end\n");
}

#[test]
fn bytes_that_are_no_text_are_replaced() {
    let stage = Stage::new();
    assert_eq!(stage.sh("a", "printf 'a\\377b\\n'"), "a\u{fffd}b\n");
}

#[test]
fn a_program_that_cannot_start_is_told_apart() {
    let stage = Stage::new();
    fs::write(stage.path().join("base/bin/text"), "no program").unwrap();
    write_program(&stage.path().join("base/bin/odd"), b"no program");
    let error = |name: &str, program: &str| {
        let mut spec = stage.spec(name, "");
        spec.args = vec![program.into()];
        stage.try_run(&spec).unwrap_err().to_string()
    };
    assert_eq!(error("a", "gone"), "`gone` was not found in the root file system along PATH");
    assert_eq!(error("b", "/bin/gone"), "`/bin/gone` was not found in the root file system");
    assert!(error("c", "text").starts_with("`text` cannot be executed: Permission denied"));
    assert!(error("d", "odd").starts_with("`odd` is no program that this machine can run (linux/"));
}

/// A program that is there is not told to be missing when what it runs with is.
#[test]
fn a_missing_loader_is_told_by_its_name() {
    let stage = Stage::new();
    let error = |name: &str, content: &[u8]| {
        write_program(&stage.path().join("base/bin").join(name), content);
        let mut spec = stage.spec(name, "");
        spec.args = vec![name.into()];
        stage.try_run(&spec).unwrap_err().to_string()
    };
    let told = |name: &str, loader: &str| {
        format!(
            "`/bin/{name}` is there, but what it runs with is not: `{loader}` was not found in the root file system"
        )
    };
    assert_eq!(error("script", b"#!/bin/none -e\n"), told("script", "/bin/none"));
    let windows = error("windows", b"#!/bin/sh\r\n");
    assert_eq!(
        windows,
        format!("{}; the script has line ends of Windows (CRLF)", told("windows", "/bin/sh\r"))
    );
    let dynamic = error("dynamic", &dynamic_program("/lib/ld-musl-x86_64.so.1"));
    assert!(dynamic.starts_with(&told("dynamic", "/lib/ld-musl-x86_64.so.1")), "{dynamic}");
    assert!(dynamic.contains("linked for musl, as in Alpine"), "{dynamic}");
}

/// As much of an ELF file as the kernel reads before it looks for the loader.
fn dynamic_program(loader: &str) -> Vec<u8> {
    let machine = if cfg!(target_arch = "aarch64") { 183_u16 } else { 62 };
    let name = format!("{loader}\0");
    let mut elf = vec![0; 120];
    let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &2_u16.to_le_bytes());
    put(18, &machine.to_le_bytes());
    put(20, &1_u32.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    for (at, value) in [(52, 64_u16), (54, 56), (56, 1)] {
        put(at, &value.to_le_bytes());
    }
    // One program header: PT_INTERP, and where the name is.
    put(64, &3_u32.to_le_bytes());
    put(72, &120_u64.to_le_bytes());
    put(96, &(name.len() as u64).to_le_bytes());
    put(104, &(name.len() as u64).to_le_bytes());
    [elf, name.into_bytes()].concat()
}

#[test]
fn binds_see_the_machine_and_can_be_read_only() {
    let stage = Stage::new();
    let cache = stage.layer("cache");
    fs::write(cache.join("f"), "from outside\n").unwrap();
    let out = stage.sh_with(
        "a",
        "cat /c/d/f /one; echo new > /c/d/g; (echo x > /ro/f) 2>/dev/null || echo ro",
        |spec| {
            let bind = |source| MountSource::Bind { source };
            spec.mounts = vec![mount("/one", bind(cache.join("f"))), mount("/c/d", bind(cache.clone()))];
            spec.mounts.push(rbuild::exec::MountSpec { readonly: true, ..mount("/ro", bind(cache.clone())) });
        },
    );
    assert_eq!(out, "from outside\nfrom outside\nro\n");
    assert_eq!(fs::read_to_string(cache.join("g")).unwrap(), "new\n");
    assert_eq!(listing(&stage.path().join("a/upper")), Vec::<String>::new());
}

#[test]
fn stacked_layers_are_read_only_or_thrown_away() {
    let stage = Stage::new();
    let (low, high) = (stage.layer("low"), stage.layer("high"));
    fs::create_dir_all(low.join("d")).unwrap();
    fs::create_dir_all(high.join("d")).unwrap();
    fs::write(low.join("d/a"), "low a\n").unwrap();
    fs::write(low.join("d/b"), "low b\n").unwrap();
    fs::write(high.join("d/a"), "high a\n").unwrap();
    std::os::unix::fs::symlink("/d", high.join("link")).unwrap();
    let scratch = stage.layer("scratch");
    let layers = |path: &str, writes| MountSource::Layers {
        lowers: vec![high.clone(), low.clone()],
        path: path.into(),
        writes,
    };
    let script = "cat /s/a /s/b /one; (echo x > /s/c) 2>/dev/null || echo ro; echo more >> /w/a; cat /w/a";
    let out = stage.sh_with("a", script, |spec| {
        spec.mounts = vec![
            mount("/s", layers("/link", Writes::Refused)),
            mount("/one", layers("/d/b", Writes::Refused)),
            mount("/w", layers("/d", Writes::ToFolder(scratch))),
        ];
    });
    assert_eq!(out, "high a\nlow b\nlow b\nro\nhigh a\nmore\n");
    assert_eq!(fs::read_to_string(high.join("d/a")).unwrap(), "high a\n");
    assert_eq!(listing(&stage.path().join("a/upper")), Vec::<String>::new());
}

#[test]
fn files_in_memory_have_owner_and_mode() {
    let stage = Stage::new();
    let owner = (1000, 50);
    let ran_out = stage.sh_with(
        "a",
        "stat -c '%a %u %g' /run/secrets/t; cat /run/secrets/t; /dev/pipes/EOF; grep ' /t ' /proc/mounts | cut -d' ' -f3; \
         stat -c %a /t",
        |spec| {
            let file = |text: &str, mode, (uid, gid)| MountSource::File { content: text.into(), mode, uid, gid };
            spec.mounts = vec![
                mount("/run/secrets/t", file("s3cret\n", 0o440, owner)),
                mount("/dev/pipes/EOF", file("#!/bin/sh\necho script\n", 0o755, (0, 0))),
                mount("/t", MountSource::Tmpfs { size_bytes: 1 << 20, mode: 0o1777 }),
            ];
        },
    );
    assert_eq!(ran_out, format!("440 {} {}\ns3cret\nscript\ntmpfs\n1777\n", owner.0, owner.1));
    assert_eq!(listing(&stage.path().join("a/upper")), Vec::<String>::new());
}

#[test]
fn a_socket_of_the_machine_can_be_mounted() {
    let stage = Stage::new();
    let path = stage.path().join("agent");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let out = stage.sh_with("a", "stat -c '%F %a %u' /run/agent.0", |spec| {
        spec.mounts =
            vec![mount("/run/agent.0", MountSource::Socket { source: path, mode: 0o600, uid: 0, gid: 0 })];
    });
    assert_eq!(out, "socket 600 0\n");
}

#[test]
fn a_sandboxed_step_cannot_mount_and_an_insecure_one_can() {
    let stage = Stage::new();
    let script = "mkdir /m; mount -t tmpfs none /m 2>/dev/null && echo mounted; unshare -m true 2>/dev/null && echo unshared";
    let mut spec = stage.spec("a", script);
    assert_eq!(stage.run(&spec).out, "");
    spec = stage.spec("b", script);
    spec.security = Security::Insecure;
    assert_eq!(stage.run(&spec).out, "mounted\nunshared\n");
}

#[test]
fn devices_can_be_made_but_not_opened() {
    let stage = Stage::new();
    let cache = stage.layer("cache");
    let script = "for d in / /dev/ /dev/shm/ /tmp/ /c/ /t/; do
            mknod ${d}zero c 1 5 2>/dev/null || echo $d; 
            [ $(head -c 1 ${d}zero 2>/dev/null | wc -c) = 1 ] && echo opened $d; done; rm -f /c/zero";
    let out = stage.sh_with("a", script, |spec| {
        spec.mounts = vec![
            mount("/c", MountSource::Bind { source: cache }),
            mount("/t", MountSource::Tmpfs { size_bytes: 0, mode: 0o755 }),
        ];
    });
    // /dev/zero is there already, and is the one that works. With one id, empty files stand for the others.
    let refused = stage.executor.is_rootless() && stage.has_ids();
    let expected = if refused { "/\n/dev/\nopened /dev/\n" } else { "/dev/\nopened /dev/\n" };
    assert!(out.starts_with(expected) && out.matches("opened").count() == 1, "{out:?}");
}

#[test]
fn limits_are_set() {
    let stage = Stage::new();
    let out = stage.sh_with("a", "ulimit -n; ulimit -Hn", |spec| {
        spec.ulimits = vec![Ulimit { name: "nofile".into(), soft: 100, hard: 200 }];
    });
    assert_eq!(out, "100\n200\n");
}

/// The kernel counts files on their way between processes of one user, and compares with the limit of who sends: what sets
/// a step up sends one, and that is not the step's affair.
#[test]
fn a_limit_on_files_concerns_the_command_alone() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    let stage = Stage::new();
    let (sender, _receiver) = std::os::unix::net::UnixStream::pair().unwrap();
    let file = fs::File::open("/dev/null").unwrap();
    let files = [std::os::fd::AsFd::as_fd(&file); 60];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(60))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&files)));
    let byte = [std::io::IoSlice::new(b"x")];
    rustix::net::sendmsg(&sender, &byte, &mut ancillary, SendFlags::empty()).unwrap();
    let out = stage.sh_with("a", "ulimit -n", |spec| {
        spec.ulimits = vec![Ulimit { name: "nofile".into(), soft: 50, hard: 50 }];
    });
    assert_eq!(out, "50\n");
}

#[test]
fn a_plain_directory_is_changed_in_place() {
    let stage = Stage::new();
    let mut spec = stage.spec("a", "echo x > /etc/x; cat /etc/hosts");
    let dir = stage.path().join("base");
    spec.root = RootSource::Plain { dir: dir.clone() };
    assert_eq!(stage.run(&spec).out, "127.0.0.1\tlocalhost\n");
    assert_eq!(listing(&dir.join("etc")), ["x"]);
}

#[test]
fn a_refused_overlay_is_told_with_the_kernels_reason() {
    let stage = Stage::new();
    let mut spec = stage.spec("a", "true");
    if let RootSource::Overlay { upper, work, .. } = &mut spec.root {
        (*upper, *work) = ("/sys/fs".into(), "/sys/kernel".into());
    }
    let error = stage.try_run(&spec).unwrap_err();
    assert!(matches!(error, ExecError::Overlay { .. }), "{error}");
    assert!(error.to_string().starts_with("the kernel refuses an overlay mount: "), "{error}");
}

#[test]
fn a_hundred_layers_can_be_stacked() {
    let stage = Stage::new();
    let names: Vec<String> = (0..100).map(|number| format!("{number}-{}", "long".repeat(40))).collect();
    for name in &names {
        fs::write(stage.layer(name).join(&name[..4]), "").unwrap();
    }
    let mut layers: Vec<&str> = names.iter().map(String::as_str).collect();
    layers.push("base");
    let ran = stage.run(&stage.spec_on("a", &layers, "ls -d /*-* | wc -l"));
    assert_eq!(ran.out, "100\n");
}

#[test]
fn many_steps_at_once() {
    let stage = Stage::new();
    std::thread::scope(|scope| {
        for number in 0..100 {
            let stage = &stage;
            scope.spawn(move || {
                let out = stage.sh(&format!("s{number}"), &format!("echo {number} > /n; cat /n"));
                assert_eq!(out, format!("{number}\n"));
            });
        }
    });
}

#[test]
fn cancelled_steps_end_soon() {
    let stage = Stage::new();
    let (sender, ready) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for (name, script) in [
            ("polite", "trap 'echo bye; exit 3' TERM; echo ready; while true; do sleep 0.1; done"),
            ("stubborn", "echo ready; while true; do sleep infinity; done"),
        ] {
            let (stage, sender) = (&stage, sender.clone());
            scope.spawn(move || {
                let spec = stage.spec(name, script);
                let result = stage.executor.run(&spec, |_, printed| {
                    let Printed::Line(line) = printed else { return };
                    sender.send(line.to_owned()).unwrap();
                });
                assert!(matches!(result, Err(ExecError::Cancelled)), "{result:?}");
            });
        }
        let two = [ready.recv().unwrap(), ready.recv().unwrap()];
        assert_eq!(two, ["ready", "ready"]);
        stage.executor.cancel_all();
    });
    assert!(matches!(stage.try_run(&stage.spec("late", "true")), Err(ExecError::Cancelled)));
    assert!(ready.try_iter().any(|line| line == "bye"));
}

#[test]
fn the_machine_can_be_probed() {
    let stage = Stage::new();
    let found = stage.executor.examine(stage.path());
    let roots = found.findings.iter().find(|finding| finding.name == "writable roots").unwrap();
    assert_eq!(roots.state, State::Works, "{roots:?}");
    assert_eq!(found.privilege, Some(stage.executor.privilege().unwrap()));
    assert_eq!(listing(stage.path()).iter().filter(|path| path.contains("probe")).count(), 0);
}

#[test]
fn an_unknown_job_is_an_error() {
    let stage = Stage::new();
    let error = stage.executor.run_job("nothing", b"").unwrap_err();
    assert_eq!(error.to_string(), "no job is named `nothing`");
}

#[test]
fn no_descriptor_is_left_behind() {
    let stage = Stage::new();
    stage.sh("warm", "true");
    let count = || fs::read_dir("/proc/self/fd").unwrap().count();
    // Other tests of this process open and close files meanwhile; the lowest count is ours.
    let lowest = |_: u32| (0..5).map(|_| count()).min().unwrap();
    let before = lowest(0);
    for number in 0..30 {
        stage.sh(&format!("s{number}"), "true");
    }
    assert!(lowest(0) < before + 25, "{before} before, {} after", count());
}

#[test]
fn a_line_that_has_not_ended_is_told_so_far() {
    let stage = Stage::new();
    // The step waits until somebody has seen the question, and answers itself.
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("seen");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o666)).unwrap();
    let mut spec = stage.spec("so-far", r"printf '10%%\r50%%'; cat /p/seen; printf '\r100%%\n'");
    spec.mounts = vec![mount("/p", MountSource::Bind { source: folder.path().to_owned() })];
    let mut told = Vec::new();
    let report = stage.executor.run(&spec, |_, printed| match printed {
        Printed::SoFar(text) => {
            told.push(format!("… {text}"));
            std::fs::write(&pipe, "").unwrap();
        }
        Printed::Line(line) => told.push(line.to_owned()),
    });
    assert_eq!(report.unwrap().status, ExitStatus::Code(0));
    assert_eq!(told, ["… 10%\r50%", "10%\r50%\r100%"]);
}
