//! Answers to calls that name another process: a step reaches its own, and no other is there.

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use super::Supervisor;
use crate::exec::owners::caller::Caller;
use crate::exec::owners::notify::{Answer, Question};
use crate::exec::owners::{CARRIER, Call};
use crate::exec::plain::calls::{ProcessCall, SET_OWNER};
use crate::exec::plain::members;
use crate::exec::seccomp::Convention;
use crate::exec::sys::landlock::Wall;

/// `PTRACE_ATTACH` and `PTRACE_SEIZE`: the others are for who is traced already.
const ATTACH: [u64; 2] = [16, 0x4206];
/// `PRIO_PROCESS`, `PRIO_PGRP`.
const OF_PROCESS: u64 = 0;
const OF_GROUP: u64 = 1;

impl Supervisor {
    pub(super) fn process(&mut self, call: ProcessCall, question: &Question) -> Result<Answer, Errno> {
        let args = question.args;
        let first = args[0] as i32;
        match call {
            ProcessCall::Kill => self.kill(question, first, args[1] as i32),
            ProcessCall::Signal => self.if_member(first),
            ProcessCall::First if first == 0 => Ok(Answer::Continue),
            ProcessCall::First => self.if_member(first),
            ProcessCall::PidfdOpen => self.open_process(first, args[1]),
            ProcessCall::Ptrace if ATTACH.contains(&args[0]) => self.if_member(args[1] as i32),
            ProcessCall::Ptrace => Ok(Answer::Continue),
            ProcessCall::Priority => self.priority(args[0], args[1] as i32),
            ProcessCall::FileOwner if args[1] as u32 == SET_OWNER => self.file_owner(args[2] as i32),
            ProcessCall::FileOwner => {
                // A kind (thread, process, group) and a number.
                let [kind, number] = [0, 4].map(|at| Caller { pid: question.pid }.bytes::<4>(args[2] + at));
                let number = i32::from_ne_bytes(number?);
                self.file_owner(if i32::from_ne_bytes(kind?) == 2 { -number } else { number })
            }
            ProcessCall::IoctlOwner => {
                let number = Caller { pid: question.pid }.bytes::<4>(args[2])?;
                self.file_owner(i32::from_ne_bytes(number))
            }
        }
    }

    fn if_member(&self, pid: i32) -> Result<Answer, Errno> {
        match u32::try_from(pid) {
            Ok(pid) if self.is_member(pid) => Ok(Answer::Continue),
            Ok(_) => Err(Errno::SRCH),
            // What is wrong with it the kernel says.
            Err(_) => Ok(Answer::Continue),
        }
    }

    fn kill(&self, question: &Question, pid: i32, signal: i32) -> Result<Answer, Errno> {
        // The kernel itself lets no signal of the step out.
        let is_safe = self.wall == Wall::Whole;
        match pid {
            // The group of a process of the step is of a session of the step.
            0 => Ok(Answer::Continue),
            1.. if is_safe => self.if_member(pid),
            1.. => {
                // The number of a thread stands for its process.
                let pid = self.process_of(Caller { pid: pid as u32 })?;
                members::send(pid, signal, || self.is_member(pid)).map(|()| Answer::Value(0))
            }
            -1 if is_safe => Ok(Answer::Continue),
            _ if is_safe && self.members().any(|member| self.is_in_group(member, pid)) => {
                Ok(Answer::Continue)
            }
            _ => {
                let own = self.process_of(Caller { pid: question.pid })?;
                let is_meant = |member: &u32| match pid {
                    -1 => *member != own,
                    _ => self.is_in_group(*member, pid),
                };
                let meant: Vec<u32> = self.members().filter(is_meant).collect();
                if meant.is_empty() {
                    return Err(Errno::SRCH);
                }
                for member in meant {
                    let _ = members::send(member, signal, || self.is_member(member));
                }
                Ok(Answer::Value(0))
            }
        }
    }

    fn members(&self) -> impl Iterator<Item = u32> {
        members::all_below(self.owners.proc(), self.keeper, &[self.own]).into_iter()
    }

    /// `group` is the negative number of a process group.
    fn is_in_group(&self, member: u32, group: i32) -> bool {
        let Some(process) = Pid::from_raw(member as i32) else { return false };
        let found = rustix::process::getpgid(Some(process));
        found.is_ok_and(|found| found.as_raw_nonzero().get() == -group)
    }

    fn open_process(&self, pid: i32, flags: u64) -> Result<Answer, Errno> {
        let process = Pid::from_raw(pid).filter(|_| pid > 0).ok_or(Errno::INVAL)?;
        let file = rustix::process::pidfd_open(process, PidfdFlags::from_bits_retain(flags as u32));
        // Looked at when it is open: now it is no other's number.
        if !self.is_member(pid as u32) {
            return Err(Errno::SRCH);
        }
        Ok(Answer::File(file?, true))
    }

    fn priority(&self, kind: u64, number: i32) -> Result<Answer, Errno> {
        match (kind, number) {
            (OF_PROCESS | OF_GROUP, 0) => Ok(Answer::Continue),
            (OF_PROCESS, pid) => self.if_member(pid),
            (OF_GROUP, group) if self.members().any(|member| self.is_in_group(member, -group)) => {
                Ok(Answer::Continue)
            }
            (OF_GROUP, _) => Err(Errno::SRCH),
            // All of a user's: to the kernel that is everybody of the container.
            _ => Err(Errno::PERM),
        }
    }

    fn file_owner(&self, number: i32) -> Result<Answer, Errno> {
        match number {
            0 => Ok(Answer::Continue),
            1.. => self.if_member(number),
            group if self.members().any(|member| self.is_in_group(member, group)) => Ok(Answer::Continue),
            _ => Err(Errno::SRCH),
        }
    }

    /// `prlimit` of another process.
    pub(super) fn others_limit(
        &mut self,
        question: &Question,
        convention: Convention,
    ) -> Result<Answer, Errno> {
        if !self.is_member(question.args[0] as u32) {
            return Err(Errno::SRCH);
        }
        match question.args[1] as u32 == CARRIER {
            true => self.owners.decide_call(question, (Call::Prlimit, convention)),
            false => Ok(Answer::Continue),
        }
    }
}
