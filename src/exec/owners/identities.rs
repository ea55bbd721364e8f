//! Answers to who a process is, and to what it wants to become.

use rustix::io::Errno;

use super::OwnerSupervisor;
use super::call::Call;
use super::caller::Caller;
use super::identity::{Change, Identity, Ids};
use super::notify::{self, Answer, Question};

/// NGROUPS_MAX.
const MOST_GROUPS: u64 = 65_536;

/// Ids of 16 bits say 65534 for what they cannot hold; as arguments, 65535 is "unchanged".
fn narrowed(id: u32) -> u16 {
    u16::try_from(id).unwrap_or(65_534)
}

fn widened(id: u64, narrow: bool) -> u32 {
    match id as u32 {
        id if !narrow => id,
        id if id & 0xffff == 0xffff => u32::MAX,
        id => id & 0xffff,
    }
}

fn id_bytes(ids: &[u32], narrow: bool) -> Vec<u8> {
    if narrow {
        ids.iter().flat_map(|id| narrowed(*id).to_ne_bytes()).collect()
    } else {
        ids.iter().flat_map(|id| id.to_ne_bytes()).collect()
    }
}

impl OwnerSupervisor {
    pub(in crate::exec) fn identity(&self, pid: u32) -> &Identity {
        // A process that cannot be asked is gone, and its answer goes nowhere.
        self.identities.get(notify::carried(pid).unwrap_or(0))
    }

    pub(super) fn become_identity(&mut self, pid: u32, identity: Identity) -> Result<(), Errno> {
        let number = self.identities.number(identity);
        notify::carry(pid, number).map_err(|_| Errno::AGAIN)
    }

    /// The get… calls.
    pub(super) fn tell_identity(
        &self,
        call: Call,
        question: &Question,
        narrow: bool,
    ) -> Result<Answer, Errno> {
        let caller = Caller { pid: question.pid };
        let who = self.identity(question.pid);
        let value = |id: u32| Ok(Answer::Value(if narrow { narrowed(id).into() } else { id }));
        let three = |ids: Ids| {
            for (address, id) in question.args.iter().zip([ids.real, ids.effective, ids.saved]) {
                caller.write(*address, &id_bytes(&[id], narrow))?;
            }
            Ok(Answer::Value(0))
        };
        match call {
            Call::Getuid => value(who.users.real),
            Call::Geteuid => value(who.users.effective),
            Call::Getgid => value(who.group.real),
            Call::Getegid => value(who.group.effective),
            Call::Getresuid => three(who.users),
            Call::Getresgid => three(who.group),
            _ => {
                let count = who.groups.len() as u32;
                match question.args[0] as i32 {
                    0 => {}
                    size if size < count as i32 => return Err(Errno::INVAL),
                    _ => caller.write(question.args[1], &id_bytes(&who.groups, narrow))?,
                }
                Ok(Answer::Value(count))
            }
        }
    }

    /// The set… calls.
    pub(super) fn change_identity(
        &mut self,
        call: Call,
        question: &Question,
        narrow: bool,
    ) -> Result<Answer, Errno> {
        let id = |at: usize| widened(question.args[at], narrow);
        let one = |id: u32| if id == u32::MAX { Err(Errno::INVAL) } else { Ok(id) };
        let change = match call {
            Call::Setuid => Change::Uid(one(id(0))?),
            Call::Setgid => Change::Gid(one(id(0))?),
            Call::Setreuid => Change::TwoUids(id(0), id(1)),
            Call::Setregid => Change::TwoGids(id(0), id(1)),
            Call::Setresuid => Change::ThreeUids([id(0), id(1), id(2)]),
            Call::Setresgid => Change::ThreeGids([id(0), id(1), id(2)]),
            Call::Setfsuid => Change::FilesUid(id(0)),
            Call::Setfsgid => Change::FilesGid(id(0)),
            _ => Change::Groups(groups(question, narrow)?),
        };
        let mut who = self.identity(question.pid).clone();
        let value = who.apply(change).map_err(|_| Errno::PERM)?;
        self.become_identity(question.pid, who)?;
        Ok(Answer::Value(value))
    }

    /// PR_SET_KEEPCAPS, which the kernel notes as well.
    pub(super) fn keep_capabilities(&mut self, question: &Question) -> Result<Answer, Errno> {
        let mut who = self.identity(question.pid).clone();
        who.keeps_capabilities = question.args[1] != 0;
        self.become_identity(question.pid, who)?;
        Ok(Answer::Continue)
    }

    /// SO_PEERCRED: who is at the other end of a unix socket. For the kernel, everybody is root.
    pub(super) fn tell_peer(&self, question: &Question) -> Result<Answer, Errno> {
        let [socket, level, _, value, length, _] = question.args;
        let caller = Caller { pid: question.pid };
        if level as i32 != libc::SOL_SOCKET || u32::from_ne_bytes(caller.bytes(length)?) < 12 {
            return Ok(Answer::Continue);
        }
        let process = caller.process()?;
        let other = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let socket = notify::take_file(std::os::fd::AsFd::as_fd(&process), socket as i32).map_err(other)?;
        let (pid, ..) = notify::peer(std::os::fd::AsFd::as_fd(&socket)).map_err(other)?;
        // The last is the number in the innermost namespace, where the caller is.
        let inner = Caller { pid }.status("NSpid");
        let inner = inner.and_then(|text| text.split_whitespace().last()?.parse::<u32>().ok());
        let Some(inner) = inner.filter(|_| pid != 0) else { return Ok(Answer::Continue) };
        let who = self.identity(pid);
        let credentials = [inner, who.users.effective, who.group.effective];
        caller.write(value, &id_bytes(&credentials, false))?;
        caller.write(length, &12u32.to_ne_bytes())?;
        Ok(Answer::Value(0))
    }

    /// The limit that carries a process's number seems to be none, whatever is asked or set.
    pub(super) fn hide_carrier(call: Call, question: &Question, wide: bool) -> Result<Answer, Errno> {
        let caller = Caller { pid: question.pid };
        let address = match call {
            Call::Getrlimit => question.args[1],
            Call::Prlimit => question.args[3],
            _ => 0,
        };
        // `prlimit64` has 64 bits everywhere.
        let length = if wide || call == Call::Prlimit { 16 } else { 8 };
        if address != 0 {
            caller.write(address, &[0xff; 16][..length])?;
        }
        Ok(Answer::Value(0))
    }
}

fn groups(question: &Question, narrow: bool) -> Result<Vec<u32>, Errno> {
    let count = question.args[0];
    if count > MOST_GROUPS {
        return Err(Errno::INVAL);
    }
    let size = if narrow { 2 } else { 4 };
    let bytes = Caller { pid: question.pid }.long_bytes(question.args[1], count as usize * size)?;
    let id = |bytes: &[u8]| match *bytes {
        [a, b] => u32::from(u16::from_ne_bytes([a, b])),
        [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]),
        _ => 0,
    };
    let mut groups: Vec<u32> = bytes.chunks_exact(size).map(id).collect();
    // The kernel sorts them, too.
    groups.sort_unstable();
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_ids_have_16_bits() {
        assert_eq!(widened(0xffff, true), u32::MAX);
        assert_eq!(widened(0xffff, false), 65_535);
        assert_eq!(widened(0xffff_ffff, false), u32::MAX);
        assert_eq!(widened(1000, true), 1000);
        assert_eq!(id_bytes(&[1, 70_000], true), [1u16, 65_534].map(u16::to_ne_bytes).concat());
    }
}
