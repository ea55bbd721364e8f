#![allow(clippy::unwrap_used)]

use super::*;

/// Runs a filter as the kernel would, all arguments being the same.
fn decide(program: &[Instruction], architecture: u32, number: u32, argument: u32) -> u32 {
    decide_all(program, architecture, number, [argument; 6])
}

use super::run as decide_all;

const EPERM: u32 = RETURN_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = RETURN_ERRNO | libc::ENOSYS as u32;

#[test]
#[cfg(target_arch = "x86_64")]
fn decides_as_docker_does() {
    const NATIVE: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;
    let program = compile(Profile::Default);
    for (architecture, number, argument, expected) in [
        (NATIVE, 0, 0, RETURN_ALLOW),             // read
        (NATIVE, 59, 0, RETURN_ALLOW),            // execve
        (NATIVE, 165, 0, EPERM),                  // mount
        (NATIVE, 272, 0, EPERM),                  // unshare
        (NATIVE, 250, 0, EPERM),                  // keyctl
        (NATIVE, 425, 0, EPERM),                  // io_uring_setup
        (NATIVE, 161, 0, RETURN_ALLOW),           // chroot
        (NATIVE, 101, 0, RETURN_ALLOW),           // ptrace
        (NATIVE, 435, 0, ENOSYS),                 // clone3
        (NATIVE, 469, 0, EPERM),                  // file_setattr
        (NATIVE, 470, 0, ENOSYS),                 // newer than the profile
        (NATIVE, 0x3fff_ffff, 0, ENOSYS),         // no call at all
        (NATIVE, 56, 0x11, RETURN_ALLOW),         // clone, SIGCHLD
        (NATIVE, 56, 0x1000_0011, EPERM),         // clone, NEWUSER
        (NATIVE, 56, 0x0002_0000, EPERM),         // clone, NEWNS
        (NATIVE, 41, 1, RETURN_ALLOW),            // socket, AF_UNIX
        (NATIVE, 41, 16, RETURN_ALLOW),           // socket, AF_NETLINK
        (NATIVE, 41, 38, EPERM),                  // socket, AF_ALG
        (NATIVE, 41, 39, RETURN_ALLOW),           // socket, AF_NFC
        (NATIVE, 41, 40, EPERM),                  // socket, AF_VSOCK
        (NATIVE, 41, 44, RETURN_ALLOW),           // socket, AF_XDP
        (NATIVE, 135, 8, RETURN_ALLOW),           // personality, LINUX32
        (NATIVE, 135, 0x0040_0000, EPERM),        // personality, READ_IMPLIES_EXEC
        (NATIVE, X32_BIT, 0, RETURN_ALLOW),       // x32 read
        (NATIVE, X32_BIT + 165, 0, EPERM),        // x32 mount
        (NATIVE, X32_BIT + 512, 0, RETURN_ALLOW), // x32 rt_sigaction
        (NATIVE, X32_BIT + 528, 0, EPERM),        // x32 kexec_load
        (NATIVE, X32_BIT + 548, 0, ENOSYS),
        (I386, 3, 0, RETURN_ALLOW),               // read
        (I386, 21, 0, EPERM),                     // mount
        (I386, 102, 0, RETURN_ALLOW),             // socketcall
        (I386, 102, 1, RETURN_USER_NOTIFICATION), // socketcall, socket
        (I386, 102, 14, RETURN_ALLOW),            // socketcall, setsockopt
        (I386, 359, 38, EPERM),                   // socket, AF_ALG
        (I386, 120, 0x2000_0000, EPERM),          // clone, NEWPID
        (0xc000_00b7, 0, 0, RETURN_KILL_PROCESS),
    ] {
        let got = decide(&program, architecture, number, argument);
        assert_eq!(got, expected, "{architecture:x} {number} {argument:x}: {got:x}");
    }
}

/// Whatever the flags and the upper halves of arguments.
#[test]
#[cfg(target_arch = "x86_64")]
fn on_the_machines_network_nothing_reads_or_forges_packets() {
    const NATIVE: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;
    let program = compile(Profile::DefaultOnHost);
    let anywhere = compile(Profile::Default);
    let flags = (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u32;
    for (family, kind, protocol, expected) in [
        (2, 1, 0, RETURN_ALLOW),
        (2, 2, 1, RETURN_ALLOW), // ping without privileges
        (2, 3, 1, RETURN_ALLOW), // ping
        (10, 3, 58, RETURN_ALLOW),
        (1, 3, 0, RETURN_ALLOW),
        (16, 3, 0, RETURN_ALLOW),  // NETLINK_ROUTE
        (16, 3, 15, RETURN_ALLOW), // NETLINK_KOBJECT_UEVENT
        (17, 3, 0x300, EPERM),
        (17, 2, 0x300, EPERM),
        (2, 10, 0x300, EPERM), // SOCK_PACKET
        (2, 3, 255, EPERM),
        (2, 3, 6, EPERM),
        (2, 3, 0, EPERM),
        (10, 3, 17, EPERM),
        (29, 3, 1, EPERM), // AF_CAN
        (31, 3, 0, EPERM),
        (38, 5, 0, EPERM),
        (40, 1, 0, EPERM),
        (44, 3, 0, EPERM),
    ] {
        for (architecture, number) in [(NATIVE, 41), (NATIVE, X32_BIT + 41), (I386, 359)] {
            for kind in [kind, kind | flags] {
                let got = decide_all(&program, architecture, number, [family, kind, protocol, 7, 7, 7]);
                assert_eq!(got, expected, "{architecture:x} {family} {kind:x} {protocol}: {got:x}");
            }
        }
    }
    for (level, option, expected) in [
        (1, 3, RETURN_ALLOW),
        (6, 19, RETURN_ALLOW),
        (0, 1, RETURN_ALLOW),
        (0, 3, EPERM),
        (0, 19, EPERM),
        (0, 36, RETURN_ALLOW),
        (41, 3, RETURN_ALLOW),
        (41, 36, EPERM),
        (41, 75, EPERM),
        (255, 36, EPERM),
        (255, 1, RETURN_ALLOW),
        (58, 36, RETURN_ALLOW),
    ] {
        for (architecture, number) in [(NATIVE, 54), (NATIVE, X32_BIT + 541), (I386, 366)] {
            let got = decide_all(&program, architecture, number, [9, level, option, 0, 4, 0]);
            assert_eq!(got, expected, "{architecture:x} {level} {option}: {got:x}");
            assert_eq!(
                decide_all(&anywhere, architecture, number, [9, level, option, 0, 4, 0]),
                RETURN_ALLOW
            );
        }
    }
    assert_eq!(decide_all(&anywhere, NATIVE, 41, [17, 3, 0, 0, 0, 0]), RETURN_ALLOW);
    // Its arguments are elsewhere: with a listener they are looked at there, without one there are none.
    let deaf = without_asking(&program);
    for (call, expected, without) in [
        (1, RETURN_USER_NOTIFICATION, EPERM),
        (14, RETURN_USER_NOTIFICATION, EPERM),
        (2, RETURN_ALLOW, RETURN_ALLOW),
        (3, RETURN_ALLOW, RETURN_ALLOW),
        (15, RETURN_ALLOW, RETURN_ALLOW),
    ] {
        assert_eq!(decide(&program, I386, 102, call), expected, "socketcall {call}");
        assert_eq!(decide(&deaf, I386, 102, call), without, "socketcall {call}");
    }
    assert!(asks(&program) && asks(&anywhere) && !asks(&deaf));
    assert!(would_allow(Profile::DefaultOnHost, "socket", [2, 3, 1, 0, 0, 0]));
    assert!(!would_allow(Profile::DefaultOnHost, "socket", [2, 3, 6, 0, 0, 0]));
    assert!(!would_allow(Profile::DefaultOnHost, "setsockopt", [9, 0, 3, 0, 4, 0]));
    assert!(would_allow(Profile::Default, "socket", [17, 3, 0, 0, 0, 0]));
    assert!(!would_allow(Profile::DefaultSingleId, "socket", [40, 1, 0, 0, 0, 0]));
    // A ring would open sockets past the filter.
    for (architecture, number) in [(NATIVE, 425), (NATIVE, X32_BIT + 425), (I386, 425)] {
        assert_eq!(decide(&program, architecture, number, 0), EPERM);
    }
}

#[test]
fn every_architecture_agrees_with_its_table() {
    for (column, base) in [
        (Column::X86_64, 0),
        (Column::X86, 0),
        (Column::X32, X32_BIT),
        (Column::Aarch64, 0),
        (Column::Arm, 0),
    ] {
        let program: Vec<Instruction> = [instruction(LOAD, NUMBER_OFFSET)]
            .into_iter()
            .chain(tree(&ranges(Profile::Default, column)))
            .collect();
        let allowed: Vec<u32> = ALLOWED.iter().filter_map(|row| row.1[column as usize]).collect();
        let special: Vec<u32> =
            [SOCKET, CLONE, CLONE3, PERSONALITY].iter().filter_map(|row| row.1[column as usize]).collect();
        for number in (0..700).filter(|number| !special.contains(number)) {
            let expected = allowed.contains(&number);
            let got = decide(&program, 0, base + number, 0) == RETURN_ALLOW;
            assert_eq!(got, expected, "{column:?} {number}");
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn with_a_single_id_owners_are_asked_about() {
    const ASK: u32 = RETURN_USER_NOTIFICATION;
    const NATIVE: u32 = 0xc000_003e;
    for profile in [Profile::DefaultSingleId, Profile::OnlySingleId] {
        let program = compile(profile);
        assert_eq!(decide(&program, NATIVE, 92, 0), ASK); // chown
        assert_eq!(decide(&program, NATIVE, 105, 0), ASK); // setuid
        assert_eq!(decide(&program, 0x4000_0003, 199, 0), ASK); // getuid32 of i386
        assert_eq!(decide(&program, NATIVE, 0, 0), RETURN_ALLOW);
        assert_eq!(decide(&program, NATIVE, 257, libc::O_CREAT as u32), ASK);
        assert_eq!(decide(&program, NATIVE, 257, libc::O_RDONLY as u32), RETURN_ALLOW);
        assert_eq!(decide(&program, NATIVE, 302, 5), ASK); // prlimit64
        assert_eq!(decide(&program, NATIVE, 302, 7), RETURN_ALLOW);
    }
    assert_eq!(decide(&compile(Profile::OnlySingleId), NATIVE, 165, 0), RETURN_ALLOW);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn watched_calls_are_found_by_number() {
    let full = Convention { narrow: false, wide: true };
    assert_eq!(watched_call(0xc000_003e, 92), Some((Call::Chown, full)));
    assert_eq!(watched_call(0xc000_003e, X32_BIT as i32 + 520), Some((Call::Execve, full)));
    let old = Convention { narrow: true, wide: false };
    assert_eq!(watched_call(0x4000_0003, 182), Some((Call::Chown, old)));
    assert_eq!(
        watched_call(0x4000_0003, 212),
        Some((Call::Chown, Convention { narrow: false, wide: false }))
    );
    assert_eq!(watched_call(0xc000_003e, 0), None);
    assert!(WATCHED.iter().all(|(name, ..)| ALLOWED.iter().any(|row| row.0 == *name)));
}

/// Shared mappings are noted; of 32-bit x86's first call no filter sees what is mapped.
#[test]
#[cfg(target_arch = "x86_64")]
fn without_mounts_mappings_are_asked_about() {
    let plain = compile(Profile::Plain);
    let with_flags =
        |architecture, number, flags| decide_all(&plain, architecture, number, [0, 4096, 3, flags, 3, 0]);
    const SHARED: u32 = libc::MAP_SHARED as u32;
    const PRIVATE: u32 = libc::MAP_PRIVATE as u32;
    for (architecture, number) in [(0xc000_003e, 9), (0x4000_0003, 192)] {
        assert_eq!(with_flags(architecture, number, SHARED), RETURN_USER_NOTIFICATION);
        assert_eq!(with_flags(architecture, number, PRIVATE), RETURN_ALLOW);
    }
    assert_eq!(with_flags(0x4000_0003, 90, PRIVATE), RETURN_USER_NOTIFICATION);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn without_mounts_nothing_waits_for_the_disk() {
    const NATIVE: u32 = 0xc000_003e;
    // fsync, fdatasync, sync, syncfs, sync_file_range.
    for number in [74, 75, 162, 306, 277] {
        assert_eq!(decide(&compile(Profile::Plain), NATIVE, number, 3), RETURN_ERRNO);
        assert_eq!(decide(&compile(Profile::Default), NATIVE, number, 3), RETURN_ALLOW);
    }
}
