//! Docker's default seccomp profile as a BPF program.
//!
//! For each architecture that the kernel runs here, the sorted numbers become ranges with one action each,
//! and the ranges a binary search: some seven comparisons for a call.

mod table;

use std::collections::BTreeMap;
use std::io;
use std::sync::OnceLock;

use super::owners::{Call, WATCHED, When};
use super::plain;
use super::spec::{Network, Security};
use super::sys::Instruction;
use crate::exec::privilege::Privilege;
use table::{ALLOWED, CLONE, CLONE3, Column, NEWEST, NEWEST_X32, PERSONALITY, Row, SOCKET};

/// Which filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    /// Docker's default.
    Default,
    /// The default, and no sockets with which root could read or forge what others send over the machine's network.
    DefaultOnHost,
    /// The default, and calls about owners and identities are for the supervisor of them.
    DefaultSingleId,
    /// The default without namespaces or mounts: calls that name paths, processes or identities are for the supervisor.
    Plain,
    /// Everything is allowed, but calls about owners and identities are for the supervisor of them.
    OnlySingleId,
}

impl Profile {
    /// The one for a step, if it has any.
    pub(super) fn of(privilege: Privilege, network: Network, security: Security) -> Option<Self> {
        match (security, privilege) {
            (Security::Insecure, Privilege::Single) => Some(Profile::OnlySingleId),
            (Security::Insecure, Privilege::Root | Privilege::Ranges) => None,
            (_, Privilege::Plain) => Some(Profile::Plain),
            (Security::Sandbox, Privilege::Single) => Some(Profile::DefaultSingleId),
            // In a user namespace root has no power over the machine's network.
            (Security::Sandbox, Privilege::Root) if network == Network::Host => Some(Profile::DefaultOnHost),
            (Security::Sandbox, Privilege::Root | Privilege::Ranges) => Some(Profile::Default),
        }
    }
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Allow,
    Errno(u16),
    /// Allowed when `argument 0 & mask == 0`, else EPERM.
    FirstArgumentWithout(u32),
    /// Allowed when argument 0 is none of these, else EPERM.
    FirstArgumentNot(&'static [u32]),
    /// Allowed when argument 0 is one of these, else EPERM.
    FirstArgumentIs(&'static [u32]),
    /// `socket` without packets of any kind, and raw only for ICMP, else EPERM.
    SocketWithoutPackets,
    /// `setsockopt` without what lets a socket send under a foreign address, else EPERM.
    OptionWithoutForging,
    /// Passed on to whoever holds the filter's listener.
    Ask,
    /// Passed on when this argument has one of these bits, else allowed.
    AskBits(u8, u32),
    /// Passed on when this argument is this, else allowed.
    AskValue(u8, u32),
    /// Passed on when argument 0 is one of these, else allowed.
    AskFirst(&'static [u32]),
    /// Passed on when this argument is one of these, else allowed.
    AskOneOf(u8, &'static [u32]),
    /// Passed on when this argument has none of these bits, else allowed.
    AskWithout(u8, u32),
    /// Passed on when argument 0 is not 0, or argument 1 is this, else allowed.
    AskOthersOr(u32),
}

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;
/// AF_ALG and AF_VSOCK.
const REFUSED_FAMILIES: &[u32] = &[38, 40];
/// AF_PACKET, AF_ALG, AF_VSOCK and AF_XDP.
const REFUSED_FAMILIES_ON_HOST: &[u32] = &[17, 38, 40, 44];
/// AF_UNIX and AF_NETLINK, in which SOCK_RAW is nothing special.
const FAMILIES_WITHOUT_RAW: &[u32] = &[1, 16];
/// `SOCK_TYPE_MASK` of `linux/net.h`.
const SOCKET_TYPE: u32 = 0xf;
const SOCK_RAW: u32 = 3;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
/// The old name of AF_PACKET.
const SOCK_PACKET: u32 = 10;
/// IPPROTO_ICMP and IPPROTO_ICMPV6.
const PING_PROTOCOLS: &[u32] = &[1, 58];
/// IP_HDRINCL and IP_TRANSPARENT.
const FORGING_OPTIONS: &[u32] = &[3, 19];
/// IPV6_HDRINCL and IPV6_TRANSPARENT; the first counts on the level SOL_RAW, too.
const FORGING_OPTIONS_V6: &[u32] = &[36, 75];
const SOL_IP: u32 = 0;
const SOL_IPV6: u32 = 41;
const SOL_RAW: u32 = 255;
/// `socket` and `setsockopt` as `socketcall` numbers them, whose arguments no filter sees.
const SOCKETCALL_SOCKET: &[u32] = &[1];
const SOCKETCALL_SOCKET_AND_OPTION: &[u32] = &[1, 14];
/// What waits for the disk. Where there are mounts they are `volatile`, so that nothing does; elsewhere these calls do nothing.
const SYNCING: &[&str] =
    &["fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "sync_file_range2", "arm_sync_file_range"];
/// PER_LINUX, PER_LINUX32, each also with UNAME26, and the query.
const PERSONALITIES: &[u32] = &[0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Numbers of x32 calls have this bit.
const X32_BIT: u32 = 0x4000_0000;

/// `AUDIT_ARCH_*` of `linux/audit.h`.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: &[(u32, Column)] = &[(0xc000_003e, Column::X86_64), (0x4000_0003, Column::X86)];
#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: &[(u32, Column)] = &[(0xc000_00b7, Column::Aarch64), (0x4000_0028, Column::Arm)];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the seccomp profile has no system call numbers for this architecture");

/// Offsets in `struct seccomp_data`.
const NUMBER_OFFSET: u32 = 0;
const ARCHITECTURE_OFFSET: u32 = 4;
const FIRST_ARGUMENT_OFFSET: u32 = 16;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

const RETURN_KILL_PROCESS: u32 = 0x8000_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;
const RETURN_ALLOW: u32 = 0x7fff_0000;
const RETURN_USER_NOTIFICATION: u32 = 0x7fc0_0000;

const fn instruction(code: u16, value: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, value }
}

const fn branch(code: u16, value: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, value }
}

/// A compiled profile, made once for a process and what it forks.
pub(super) fn compiled(profile: Profile) -> &'static [Instruction] {
    static COMPILED: [OnceLock<Vec<Instruction>>; 5] = [const { OnceLock::new() }; 5];
    COMPILED[profile as usize].get_or_init(|| compile(profile))
}

/// Compiles a profile for this machine's architecture and its 32-bit relatives. A process of any other
/// architecture is killed.
fn compile(profile: Profile) -> Vec<Instruction> {
    let mut program = vec![instruction(LOAD, ARCHITECTURE_OFFSET)];
    for (architecture, column) in ARCHITECTURES {
        let mut section = vec![instruction(LOAD, NUMBER_OFFSET)];
        if matches!(column, Column::X86_64) {
            let native = tree(&ranges(profile, Column::X86_64));
            let x32 = tree(&ranges(profile, Column::X32));
            section.extend(split(JUMP_AT_LEAST, X32_BIT, native, x32));
        } else {
            section.extend(tree(&ranges(profile, *column)));
        }
        program.push(branch(JUMP_EQUAL, *architecture, 1, 0));
        program.push(instruction(JUMP, section.len() as u32));
        program.extend(section);
    }
    program.push(instruction(RETURN, RETURN_KILL_PROCESS));
    program
}

/// Whether the kernel can pass calls on (Linux 5.0).
pub(super) fn can_ask() -> bool {
    super::sys::has_seccomp_action(RETURN_USER_NOTIFICATION)
}

/// Tries to have calls passed on, for a thread that does no more. The kernel can allow it, and this place not.
pub(super) fn try_to_listen() -> io::Result<()> {
    let allow = [instruction(RETURN, RETURN_ALLOW)];
    let listen = || {
        rustix::thread::set_no_new_privs(true)?;
        super::sys::install_asking_filter(&allow).map(drop)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, listen)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Why no calls are passed on, where somebody is in the way.
pub(super) fn why_nobody_listens(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error()? {
        libc::EBUSY => {
            Some("a container or program around rbuild does so already, and the kernel allows one")
        }
        libc::EINVAL => Some("this kernel, or what stands in for it (gVisor), cannot do that"),
        _ => None,
    }
}

/// Whether the filter passes calls on to a listener.
pub(super) fn asks(filter: &[Instruction]) -> bool {
    filter.iter().any(is_ask)
}

/// The filter for where there can be no listener: what it would pass on is refused.
pub(super) fn without_asking(filter: &[Instruction]) -> Vec<Instruction> {
    let refuse = instruction(RETURN, RETURN_ERRNO | libc::EPERM as u32);
    filter.iter().map(|one| if is_ask(one) { refuse } else { *one }).collect()
}

fn is_ask(one: &Instruction) -> bool {
    one.code == RETURN && one.value == RETURN_USER_NOTIFICATION
}

/// Whether the profile's filter lets a process of this machine's own architecture make this call.
pub(super) fn would_allow(profile: Profile, name: &str, arguments: [u32; 6]) -> bool {
    let (architecture, column) = ARCHITECTURES[0];
    let row = if name == SOCKET.0 { &SOCKET } else { listed(name) };
    row.1[column as usize]
        .is_some_and(|number| run(compiled(profile), architecture, number, arguments) == RETURN_ALLOW)
}

/// Runs a filter of this module as the kernel does.
fn run(program: &[Instruction], architecture: u32, number: u32, arguments: [u32; 6]) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let Instruction { code, jump_true, jump_false, value } = program[at];
        at += 1;
        match code {
            LOAD if value == NUMBER_OFFSET => accumulator = number,
            LOAD if value == ARCHITECTURE_OFFSET => accumulator = architecture,
            LOAD => accumulator = arguments[(value - FIRST_ARGUMENT_OFFSET) as usize / 8],
            AND => accumulator &= value,
            JUMP => at += value as usize,
            JUMP_EQUAL => at += usize::from(if accumulator == value { jump_true } else { jump_false }),
            JUMP_AT_LEAST => at += usize::from(if accumulator >= value { jump_true } else { jump_false }),
            RETURN => return value,
            other => unreachable!("no filter has the code {other}"),
        }
    }
}

/// How a watched call passes its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Convention {
    /// Ids have 16 bits.
    pub(super) narrow: bool,
    /// Machine words have 64 bits.
    pub(super) wide: bool,
}

/// Which watched call a number stands for.
pub(super) fn watched_call(architecture: u32, number: i32) -> Option<(Call, Convention)> {
    let (name, convention) = named_call(architecture, number)?;
    if name == "socketcall" {
        return Some((Call::Socketcall, Convention { narrow: false, wide: false }));
    }
    let (_, call, _) = WATCHED.iter().find(|watched| watched.0 == name)?;
    Some((*call, convention))
}

/// The name of an allowed call.
pub(super) fn named_call(architecture: u32, number: i32) -> Option<(&'static str, Convention)> {
    let (_, column) = ARCHITECTURES.iter().find(|(value, _)| *value == architecture)?;
    let number = number as u32;
    let (column, number) = match column {
        Column::X86_64 if number >= X32_BIT => (Column::X32, number - X32_BIT),
        column => (*column, number),
    };
    let is_it = |row: &&Row| row.1[column as usize] == Some(number);
    let name = ALLOWED.iter().find(is_it)?.0;
    let narrow = !column.is_wide() && has_wider_sibling(name);
    Some((name, Convention { narrow, wide: column.is_wide() }))
}

/// Whether there is a call of the same name with 32 at its end, for ids of 32 bits.
fn has_wider_sibling(name: &str) -> bool {
    WATCHED.iter().any(|watched| watched.0.strip_suffix("32") == Some(name))
}

/// First number and action of each range, from 0 up.
fn ranges(profile: Profile, column: Column) -> Vec<(u32, Action)> {
    let (base, newest) = match column {
        Column::X32 => (X32_BIT, NEWEST_X32),
        Column::X86_64 | Column::X86 | Column::Aarch64 | Column::Arm => (0, NEWEST),
    };
    let mut actions = BTreeMap::new();
    let mut set = |row: &Row, action| {
        if let Some(number) = row.1[column as usize] {
            actions.insert(number, action);
        }
    };
    let usual = if profile == Profile::OnlySingleId {
        Action::Allow
    } else {
        ALLOWED.iter().for_each(|row| set(row, Action::Allow));
        set(&CLONE, Action::FirstArgumentWithout(CLONE_NAMESPACES));
        set(&CLONE3, Action::Errno(libc::ENOSYS as u16));
        set(&SOCKET, Action::FirstArgumentNot(REFUSED_FAMILIES));
        set(&PERSONALITY, Action::FirstArgumentIs(PERSONALITIES));
        if matches!(profile, Profile::DefaultOnHost | Profile::Plain) {
            set(&SOCKET, Action::SocketWithoutPackets);
            set(listed("setsockopt"), Action::OptionWithoutForging);
            // To set an option in a caller's place takes a copy of its socket, which containers do not let one have.
            let asked =
                if profile == Profile::Plain { SOCKETCALL_SOCKET } else { SOCKETCALL_SOCKET_AND_OPTION };
            set(listed("socketcall"), Action::AskFirst(asked));
        } else {
            set(listed("socketcall"), Action::AskFirst(SOCKETCALL_SOCKET));
        }
        if profile == Profile::Plain {
            let syncing = ALLOWED.iter().filter(|row| SYNCING.contains(&row.0));
            syncing.for_each(|row| set(row, Action::Errno(0)));
        }
        Action::Errno(libc::EPERM as u16)
    };
    for (name, when) in watched_by(profile) {
        let row = ALLOWED.iter().find(|row| row.0 == name);
        let action = match when {
            When::Wide | When::WideWithout(..) if !column.is_wide() => continue,
            When::Wide | When::Always => Action::Ask,
            When::BitsInMemory(..) if !column.is_wide() => Action::Ask,
            When::Bits(argument, bits) | When::BitsInMemory(argument, bits) => {
                Action::AskBits(argument, bits)
            }
            When::Value(argument, value) => Action::AskValue(argument, value),
            When::OneOf(argument, values) => Action::AskOneOf(argument, values),
            When::WideWithout(argument, bits) | When::Without(argument, bits) => {
                Action::AskWithout(argument, bits)
            }
            When::OthersOr(value) => Action::AskOthersOr(value),
        };
        row.into_iter().for_each(|row| set(row, action));
    }
    let beyond = if usual == Action::Allow { usual } else { Action::Errno(libc::ENOSYS as u16) };
    let default_of = |number| if number > newest { beyond } else { usual };
    let mut list = Vec::new();
    for number in 0..=newest + 1 {
        let action = actions.get(&number).copied().unwrap_or(default_of(number));
        push(&mut list, base + number, action);
    }
    for (number, action) in actions.range(newest + 2..) {
        push(&mut list, base + number, *action);
        push(&mut list, base + number + 1, beyond);
    }
    list
}

/// The calls that a supervisor answers, by name.
fn watched_by(profile: Profile) -> Vec<(&'static str, When)> {
    match profile {
        Profile::Default | Profile::DefaultOnHost => Vec::new(),
        Profile::DefaultSingleId | Profile::OnlySingleId => {
            WATCHED.iter().map(|(name, _, when)| (*name, *when)).collect()
        }
        Profile::Plain => plain::WATCHED.iter().map(|(name, _, when)| (*name, *when)).collect(),
    }
}

fn listed(name: &str) -> &'static Row {
    ALLOWED.iter().find(|row| row.0 == name).expect("the name stands in the table")
}

/// Adds a range; a neighbour with the same action grows instead.
fn push(list: &mut Vec<(u32, Action)>, start: u32, action: Action) {
    if list.last().is_some_and(|(last, _)| *last == start) {
        list.pop();
    }
    if list.last().is_none_or(|(_, last)| *last != action) {
        list.push((start, action));
    }
}

/// A binary search over ranges; the number is in the accumulator.
fn tree(ranges: &[(u32, Action)]) -> Vec<Instruction> {
    match ranges {
        [] => vec![],
        [(_, action)] => leaf(*action),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            split(JUMP_AT_LEAST, high[0].0, tree(low), tree(high))
        }
    }
}

/// `low` when the comparison fails, else `high`. Conditional jumps reach 255 instructions only.
fn split(code: u16, value: u32, low: Vec<Instruction>, high: Vec<Instruction>) -> Vec<Instruction> {
    let mut program = match u8::try_from(low.len()) {
        Ok(distance) => vec![branch(code, value, distance, 0)],
        Err(_) => vec![branch(code, value, 0, 1), instruction(JUMP, low.len() as u32)],
    };
    program.extend(low);
    program.extend(high);
    program
}

/// Of arguments only the lower half counts: the kernel reads these as 32-bit values, or, for clone's
/// flags, has all namespaces there.
fn leaf(action: Action) -> Vec<Instruction> {
    let allow = instruction(RETURN, RETURN_ALLOW);
    let refuse = instruction(RETURN, RETURN_ERRNO | libc::EPERM as u32);
    let ask = instruction(RETURN, RETURN_USER_NOTIFICATION);
    let argument = load(0);
    match action {
        Action::Allow => vec![allow],
        Action::Errno(errno) => vec![instruction(RETURN, RETURN_ERRNO | u32::from(errno))],
        Action::FirstArgumentWithout(mask) => {
            vec![argument, instruction(AND, mask), branch(JUMP_EQUAL, 0, 0, 1), allow, refuse]
        }
        Action::FirstArgumentNot(values) => one_of(argument, values, refuse, allow),
        Action::FirstArgumentIs(values) => one_of(argument, values, allow, refuse),
        Action::SocketWithoutPackets => socket_without_packets(allow, refuse),
        Action::OptionWithoutForging => option_without_forging(allow, refuse),
        Action::Ask => vec![ask],
        Action::AskBits(at, bits) => {
            vec![load(at), instruction(AND, bits), branch(JUMP_EQUAL, 0, 0, 1), allow, ask]
        }
        Action::AskFirst(values) => one_of(argument, values, ask, allow),
        Action::AskOneOf(at, values) => one_of(load(at), values, ask, allow),
        Action::AskWithout(at, bits) => {
            vec![load(at), instruction(AND, bits), branch(JUMP_EQUAL, 0, 0, 1), ask, allow]
        }
        Action::AskOthersOr(value) => vec![
            argument,
            branch(JUMP_EQUAL, 0, 1, 0),
            ask,
            load(1),
            branch(JUMP_EQUAL, value, 0, 1),
            ask,
            allow,
        ],
        Action::AskValue(at, value) => vec![load(at), branch(JUMP_EQUAL, value, 0, 1), ask, allow],
    }
}

/// Of `socket(family, type, protocol)`.
fn socket_without_packets(allow: Instruction, refuse: Instruction) -> Vec<Instruction> {
    let mut program = if_one_of(load(0), REFUSED_FAMILIES_ON_HOST, refuse);
    program.extend([load(1), instruction(AND, SOCKET_TYPE), branch(JUMP_EQUAL, SOCK_PACKET, 0, 1), refuse]);
    program.extend([branch(JUMP_EQUAL, SOCK_RAW, 1, 0), allow]);
    program.extend(if_one_of(load(0), FAMILIES_WITHOUT_RAW, allow));
    program.extend([branch(JUMP_EQUAL, AF_INET, 2, 0), branch(JUMP_EQUAL, AF_INET6, 1, 0), refuse]);
    program.extend(one_of(load(2), PING_PROTOCOLS, allow, refuse));
    program
}

/// Of `setsockopt(socket, level, option, …)`.
fn option_without_forging(allow: Instruction, refuse: Instruction) -> Vec<Instruction> {
    let old = one_of(load(2), FORGING_OPTIONS, refuse, allow);
    let new = one_of(load(2), FORGING_OPTIONS_V6, refuse, allow);
    let mut program = vec![load(1), branch(JUMP_EQUAL, SOL_IP, 0, old.len() as u8)];
    program.extend(old);
    program.extend([branch(JUMP_EQUAL, SOL_IPV6, 2, 0), branch(JUMP_EQUAL, SOL_RAW, 1, 0), allow]);
    program.extend(new);
    program
}

/// Loads an argument.
fn load(at: u8) -> Instruction {
    instruction(LOAD, FIRST_ARGUMENT_OFFSET + 8 * u32::from(at))
}

fn one_of(load: Instruction, values: &[u32], found: Instruction, other: Instruction) -> Vec<Instruction> {
    let mut program = if_one_of(load, values, found);
    program.push(other);
    program
}

/// Goes on after it when the value is none of these.
fn if_one_of(load: Instruction, values: &[u32], found: Instruction) -> Vec<Instruction> {
    let tests = values.iter().flat_map(|value| [branch(JUMP_EQUAL, *value, 0, 1), found]);
    [load].into_iter().chain(tests).collect()
}

#[cfg(test)]
mod tests;
