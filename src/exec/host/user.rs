//! Who a command runs as: USER's text to numbers, with the rules of BuildKit (moby/sys/user).

use serde::{Deserialize, Serialize};

use crate::text::passwd::{Group, groups, users};

/// The identity of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The user's number in the image.
    pub uid: u32,
    /// The primary group's number in the image.
    pub gid: u32,
    /// Supplementary groups, the group itself always among them.
    pub groups: Vec<u32>,
    /// The user's home according to passwd, else `/`.
    pub home: String,
}

/// Why a user cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// A name that passwd does not have.
    #[error("no user `{0}` in /etc/passwd of the image")]
    UnknownUser(String),
    /// A name that group does not have.
    #[error("no group `{0}` in /etc/group of the image")]
    UnknownGroup(String),
    /// A number that is no id.
    #[error("`{0}` is out of the range of user and group ids")]
    OutOfRange(String),
}

/// Resolves `user[:group]` against the texts of the root's passwd and group files (empty when absent).
///
/// A numeric user is looked up all the same, for its groups; one that is not there runs with group 0. A
/// group given by name or number replaces the supplementary ones. No text at all is root.
pub fn resolve_user(user: &str, passwd: &[u8], group: &[u8]) -> Result<Credentials, UserError> {
    let passwd = String::from_utf8_lossy(passwd);
    let group = String::from_utf8_lossy(group);
    let user = if user.is_empty() { "0" } else { user };
    let (uid, gid, mut groups) = match both_numbers(user) {
        Some((uid, gid)) => (uid, gid, Vec::new()),
        None => look_up(user, &passwd, &group)?,
    };
    if !groups.contains(&gid) {
        groups.insert(0, gid);
    }
    let home = users(&passwd)
        .find(|entry| entry.uid == i64::from(uid) && !entry.home.is_empty())
        .map_or("/", |entry| entry.home)
        .to_owned();
    Ok(Credentials { uid, gid, groups, home })
}

/// `1000:50` is taken as it stands, without any supplementary group; `root` counts as a number.
fn both_numbers(user: &str) -> Option<(u32, u32)> {
    let number = |text: &str| if text == "root" { Some(0) } else { text.parse().ok() };
    let (uid, gid) = user.split_once(':')?;
    Some((number(uid)?, number(gid)?))
}

fn look_up(user: &str, passwd: &str, group: &str) -> Result<(u32, u32, Vec<u32>), UserError> {
    let (user_text, group_text) = user.split_once(':').unwrap_or((user, ""));
    let number = user_text.parse::<i64>().ok();
    let found = users(passwd).find(|entry| match number {
        _ if user_text.is_empty() => entry.uid == 0,
        Some(number) => entry.uid == number,
        None => entry.name == user_text,
    });
    let uid = match (&found, number) {
        (Some(entry), _) => entry.uid,
        (None, Some(number)) => number,
        (None, None) if user_text.is_empty() => 0,
        (None, None) => return Err(UserError::UnknownUser(user_text.to_owned())),
    };
    let (gid, supplementary) = if group_text.is_empty() {
        let name = found.as_ref().map_or("", |entry| entry.name);
        let member = |entry: &Group<'_>| !name.is_empty() && entry.members.split(',').any(|m| m == name);
        let all = groups(group).filter(member).map(|entry| entry.gid).collect();
        (found.as_ref().map_or(0, |entry| entry.gid), all)
    } else {
        (look_up_group(group_text, group)?, Vec::new())
    };
    let supplementary: Result<Vec<u32>, UserError> = supplementary.into_iter().map(id).collect();
    Ok((id(uid)?, id(gid)?, supplementary?))
}

fn look_up_group(text: &str, group: &str) -> Result<i64, UserError> {
    let number = text.parse::<i64>().ok();
    let found = groups(group).find(|entry| match number {
        Some(number) => entry.gid == number,
        None => entry.name == text,
    });
    match (found, number) {
        (Some(entry), _) => Ok(entry.gid),
        (None, Some(number)) => Ok(number),
        (None, None) => Err(UserError::UnknownGroup(text.to_owned())),
    }
}

/// moby/sys/user accepts 0 to 2^31 - 1.
fn id(number: i64) -> Result<u32, UserError> {
    match u32::try_from(number) {
        Ok(id) if id <= i32::MAX as u32 => Ok(id),
        _ => Err(UserError::OutOfRange(number.to_string())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n\nshort:x:7\n";
    const GROUP: &[u8] = b"root:x:0:\nstaff:x:50:app,other\nwheel:x:10:app\nappgroup:x:1001:\n";

    fn check(user: &str, expected: &str) {
        let got = match resolve_user(user, PASSWD, GROUP) {
            Ok(c) => format!("{}:{} {:?} {}", c.uid, c.gid, c.groups, c.home),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected, "{user}");
    }

    #[test]
    fn follows_the_rules_of_buildkit() {
        check("", "0:0 [0] /root");
        check("root", "0:0 [0] /root");
        check("app", "1000:1001 [1001, 50, 10] /home/app");
        check("1000", "1000:1001 [1001, 50, 10] /home/app");
        check("app:staff", "1000:50 [50] /home/app");
        check("app:77", "1000:77 [77] /home/app");
        check("1000:50", "1000:50 [50] /home/app");
        check("4242", "4242:0 [0] /");
        check("4242:7", "4242:7 [7] /");
        check("root:root", "0:0 [0] /root");
        check("short", "7:0 [0] /");
        check(":staff", "0:50 [50] /root");
        check("nobody", "no user `nobody` in /etc/passwd of the image");
        check("app:none", "no group `none` in /etc/group of the image");
        check("-1", "`-1` is out of the range of user and group ids");
        check("4294967296", "`4294967296` is out of the range of user and group ids");
    }

    #[test]
    fn an_image_without_passwd_has_numbers_only() {
        assert_eq!(resolve_user("", b"", b"").unwrap().home, "/");
        assert_eq!(resolve_user("5", b"", b"").unwrap().gid, 0);
        assert!(resolve_user("app", b"", b"").is_err());
    }
}
