//! Where a path leads: below `/proc`, or elsewhere.
//!
//! Most paths lead elsewhere, and that must be seen quickly. What names neither `proc` nor `dev` gets there only from a directory
//! that lies there, or by a symbolic link. Of links, the last component is looked at, which is how programs
//! that write to files are made to write to `/dev/stdout`.

use std::collections::VecDeque;

use rustix::fs::CWD;
use rustix::io::Errno;

use super::Supervisor;
use crate::exec::owners::caller::Caller;
use crate::exec::plain::furnish::DEVICES;

pub(super) const HERE: u64 = libc::AT_FDCWD as u32 as u64;
/// As many symbolic links as the kernel follows.
const LINK_LIMIT: u32 = 40;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Not where anything has to be answered.
    Elsewhere,
    /// To this below `/proc`.
    Proc(VecDeque<Vec<u8>>),
    /// To this below `/dev`: `ptmx`, `pts` and what follows.
    Terminal(Vec<Vec<u8>>),
    /// To a device for which there is no node.
    Device(String),
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

impl Supervisor {
    /// Where `path` leads; `follows` if it is followed when it is a symbolic link.
    pub(super) fn locate(
        &self,
        caller: Caller,
        directory: u64,
        path: &[u8],
        follows: bool,
    ) -> Result<Place, Errno> {
        if !self.may_be_special(caller, directory, path, follows) {
            return Ok(Place::Elsewhere);
        }
        let base = match path.first() {
            Some(b'/') => Vec::new(),
            _ => base(caller, directory)?,
        };
        // Deleted directories, and what is no path, such as `pipe:[7]`.
        if !base.is_empty() && (!base.starts_with(b"/") || base.ends_with(b" (deleted)")) {
            return Ok(Place::Elsewhere);
        }
        self.walk(&base, path, follows)
    }

    fn may_be_special(&self, caller: Caller, directory: u64, path: &[u8], follows: bool) -> bool {
        if let Some(rest) = path.strip_prefix(b"/dev/")
            && !rest.contains(&b'/')
            && self.is_plain_device(rest)
        {
            return false;
        }
        if components(path).any(|part| part == b"proc" || part == b"dev") {
            return true;
        }
        let is_absolute = path.starts_with(b"/");
        if !is_absolute && self.is_special_base(caller, directory) {
            return true;
        }
        if !follows {
            return false;
        }
        let mut text = [0; 1];
        // This process has the same root.
        match is_absolute {
            true => rustix::fs::readlinkat_raw(CWD, path, &mut text[..]).is_ok(),
            false => rustix::fs::readlinkat_raw(CWD, caller.path(directory, path), &mut text[..]).is_ok(),
        }
    }

    fn is_plain_device(&self, name: &[u8]) -> bool {
        self.has_devices && DEVICES.iter().any(|(device, ..)| device.as_bytes() == name)
    }

    fn is_special_base(&self, caller: Caller, directory: u64) -> bool {
        let base = caller.path(directory, b"");
        rustix::fs::stat(&base).is_ok_and(|stat| self.special.contains(&(stat.st_dev, stat.st_ino)))
    }

    /// From the step's root on, link by link.
    pub(super) fn walk(&self, base: &[u8], path: &[u8], follows: bool) -> Result<Place, Errno> {
        let mut above: Vec<Vec<u8>> = Vec::new();
        let mut rest: VecDeque<Vec<u8>> =
            components(base).chain(components(path)).map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == b".." {
                above.pop();
                continue;
            }
            if above.is_empty() && part == b"proc" {
                return Ok(Place::Proc(rest));
            }
            let is_dev = above.len() == 1 && above[0] == b"dev";
            if is_dev && (part == b"pts" || part == b"ptmx") {
                rest.push_front(part);
                return Ok(Place::Terminal(rest.into()));
            }
            above.push(part);
            if rest.is_empty() && !follows {
                break;
            }
            let here = [&b"/"[..], &above.join(&b'/')].concat();
            let Ok(text) = rustix::fs::readlinkat(CWD, here, Vec::new()) else { continue };
            links += 1;
            if links > LINK_LIMIT {
                return Err(Errno::LOOP);
            }
            above.pop();
            if text.to_bytes().starts_with(b"/") {
                above.clear();
            }
            for part in components(text.to_bytes()).rev() {
                rest.push_front(part.to_vec());
            }
        }
        if !self.has_devices
            && let [dev, name] = &above[..]
            && dev == b"dev"
            && let Some((name, ..)) = DEVICES.iter().find(|(device, ..)| device.as_bytes() == name)
        {
            return Ok(Place::Device((*name).to_owned()));
        }
        Ok(Place::Elsewhere)
    }
}

/// The path of a process's directory, as all in the step's root see it.
fn base(caller: Caller, directory: u64) -> Result<Vec<u8>, Errno> {
    let path = caller.path(directory, b"");
    Ok(rustix::fs::readlinkat(CWD, &path, Vec::new())?.into_bytes())
}
