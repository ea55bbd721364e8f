//! rbuild where a container or its pid namespace takes something away: a seccomp listener of its own, `openat2`,
//! executable memory.

use std::fs;

use crate::process_limits::worlds;
use crate::support::accounts::Account;
use crate::support::base::with_busybox;
use crate::support::program::{Ran, World};
use crate::support::{is_root, skip};

/// Runs the rest of its arguments under a filter that allows everything and has a listener, as the agent of a container does.
const LISTEN: &str = "\
import ctypes, struct, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
allow = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))
class Program(ctypes.Structure): _fields_ = [('length', ctypes.c_ushort), ('code', ctypes.c_void_p)]
program = Program(1, ctypes.addressof(allow))
# seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, …)
number = {'x86_64': 317, 'aarch64': 277}[__import__('platform').machine()]
assert libc.syscall(number, 1, 8, ctypes.byref(program)) >= 0, ctypes.get_errno()
sys.exit(subprocess.call(sys.argv[1:]))
";

/// Runs `rbuild` with `words` in `world`, under a listener of somebody else.
fn under_a_listener(world: &World, words: &[&str]) -> Ran {
    let account = world.account();
    let (uid, gid) = (account.uid.to_string(), account.gid.to_string());
    let become_it = ["setpriv", "--reuid", &uid, "--regid", &gid, "--clear-groups", "--"];
    let wrapper = [&["python3", "-c", LISTEN][..], if uid == "0" { &[] } else { &become_it[..] }].concat();
    world.through(&wrapper, words).any_status().remarks().run()
}

/// The kernel allows one listener above a process. Then nobody can be asked about a step's calls: the filter refuses those
/// that it would ask about, and with one id, where owners need that, no step runs.
#[test]
fn where_somebody_listens_already_only_one_id_runs_no_step() {
    if !is_root() {
        skip!("only root sets filters that change no privilege");
    }
    let mut ran_as = Vec::new();
    for world in worlds() {
        with_busybox(&world, "RUN busybox touch /f; busybox chown 7:7 /f; busybox stat -c %u:%g /f >/seen");
        let ran = under_a_listener(&world, &["--progress=plain", "."]);
        if ran.status == Some(0) {
            let files = world.images().image(&ran.digest()).files();
            assert_eq!((files["f"].uid, files["seen"].content.as_slice()), (7, &b"7:7\n"[..]));
            ran_as.push(world.account());
        } else {
            assert_eq!(ran.status, Some(1), "{}", ran.stderr);
            let why =
                "cannot keep the owners that a step sets with one id: a container or program around rbuild";
            assert!(ran.stderr.contains(why), "{}", ran.stderr);
        }
    }
    assert_eq!(ran_as, [Account::mine(), Account::with_ranges().unwrap()]);
}

/// Runs the rest of its arguments where openat2(2) answers the error of that number.
const WITHOUT_OPENAT2: &str = "\
import ctypes, struct, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
load_number, when_437, refuse, allow = (0x20, 0, 0, 0), (0x15, 0, 1, 437), (6, 0, 0, 0x50000 | int(sys.argv[1])), (6, 0, 0, 0x7fff0000)
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *one) for one in (load_number, when_437, refuse, allow)))
class Program(ctypes.Structure): _fields_ = [('length', ctypes.c_ushort), ('code', ctypes.c_void_p)]
program = Program(4, ctypes.addressof(code))
# prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, …)
assert libc.prctl(22, 2, ctypes.byref(program)) == 0, ctypes.get_errno()
sys.exit(subprocess.call(sys.argv[2:]))
";

/// Linux before 5.6 does not know the call (`ENOSYS`), and filters that are older than it refuse it (`EPERM`).
#[test]
fn builds_are_the_same_without_openat2() {
    if !is_root() {
        skip!("only root sets filters that change no privilege");
    }
    let built = |wrapper: &[&str]| {
        let world = World::new();
        world.file("files/d/file", "text\n");
        std::os::unix::fs::symlink("d/file", world.context().join("files/link")).unwrap();
        with_busybox(
            &world,
            "RUN busybox mkdir -p /real/deep; busybox ln -s /real /alias\nCOPY files /alias/deep/../copied/\n\
             RUN busybox cat /real/copied/link >/seen\nFROM scratch\nCOPY --from=0 /alias/copied/link /seen /real/ /files/",
        );
        // The times of its own steps are no part of what is compared.
        world.through(wrapper, ["--reproducible", "--progress=plain", "."]).remarks().run().digest()
    };
    let expected = built(&["env"]);
    for error in ["38", "1"] {
        assert_eq!(built(&["python3", "-c", WITHOUT_OPENAT2, error]), expected, "{error}");
    }
}

/// `vm.memfd_noexec` holds for a pid namespace and those below it. `exec 3` is the program of another mount namespace, in
/// which nothing is where its path says: no mount can be made of it, so that it takes a copy in memory.
#[test]
fn where_memory_may_not_be_executed_steps_run_from_a_mount_or_not_at_all() {
    if !is_root() {
        skip!("only root sets vm.memfd_noexec");
    }
    if !fs::exists("/proc/sys/vm/memfd_noexec").unwrap() {
        skip!("Linux 6.3 has vm.memfd_noexec");
    }
    let plain = "echo \"$0\" >/proc/sys/vm/memfd_noexec; \"$@\"; exit";
    let unmountable = "level=$1 folder=$2; shift 3; echo $level >/proc/sys/vm/memfd_noexec; \
        mount -t tmpfs none $folder; /proc/self/fd/3 \"$@\"; exit";
    let outer = "exec 3<\"$3\"; exec unshare --mount --pid --fork --mount-proc sh -c \"$0\" sh \"$@\"";
    for level in ["0", "1", "2"] {
        let world = World::new();
        with_busybox(&world, "RUN true");
        let words = ["--progress=plain", "."];
        let wrapper = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", plain, level];
        world.through(&wrapper, words).remarks().run();
        let elsewhere = world.program().parent().unwrap().to_str().unwrap().to_owned();
        let ran = world
            .through(
                &["sh", "-c", outer, unmountable, level, &elsewhere],
                ["--no-cache", "--progress=plain", "."],
            )
            .any_status()
            .remarks()
            .run();
        match level {
            "2" => {
                assert_eq!(ran.status, Some(1), "{}", ran.stderr);
                let why = "(Permission denied (os error 13)); does `vm.memfd_noexec` forbid it?";
                assert!(ran.stderr.contains(why), "{}", ran.stderr);
            }
            _ => assert_eq!(ran.status, Some(0), "{level}: {}", ran.stderr),
        }
    }
    assert_eq!(fs::read_to_string("/proc/sys/vm/memfd_noexec").unwrap().trim(), "0", "of this namespace");
}
