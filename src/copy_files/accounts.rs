//! `--chown` and USER: from names to numbers, by the accounts of the root that a step starts from.

use std::io;

use crate::text::passwd::{groups, users};

/// Reads a small file (`etc/passwd`, `etc/group`) of the parent's root, symlinks followed inside it; `None`
/// if it is not there. Called only when a name has to be looked up.
pub type Accounts<'a> = dyn Fn(&str) -> io::Result<Option<Vec<u8>>> + 'a;

/// An owner as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerText<'t> {
    user: Id<'t>,
    group: Option<Id<'t>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Id<'t> {
    Number(u32),
    Name(&'t str),
}

impl<'t> OwnerText<'t> {
    /// Splits `user[:group]`.
    pub fn new(text: &'t str) -> Self {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        Self { user: id(user), group: group.map(id) }
    }

    /// Whether accounts are needed to resolve it.
    pub fn has_names(&self) -> bool {
        matches!(self.user, Id::Name(_)) || matches!(self.group, Some(Id::Name(_)))
    }

    /// Its names that no account has, in words.
    pub fn unknown(&self, accounts: &Accounts<'_>) -> io::Result<Vec<String>> {
        let mut unknown = Vec::new();
        if let Id::Name(name) = self.user
            && !name.is_empty()
            && !users(&read(accounts, "etc/passwd")?).any(|user| user.name == name)
        {
            unknown.push(format!("the image has no user `{name}`, so root is the owner"));
        }
        if let Some(Id::Name(name)) = self.group
            && !groups(&read(accounts, "etc/group")?).any(|group| group.name == name)
        {
            unknown.push(format!("the image has no group `{name}`, so the user's own is taken"));
        }
        Ok(unknown)
    }

    /// User and group id. As in BuildKit a single number stands for both, an unknown user is 0, and an unknown
    /// group is the user's own.
    pub fn resolve(&self, accounts: &Accounts<'_>) -> io::Result<(u32, u32)> {
        let (uid, mut gid) = match self.user {
            Id::Number(number) => (number, number),
            Id::Name(name) => {
                let passwd = read(accounts, "etc/passwd")?;
                let user = users(&passwd).find(|user| user.name == name);
                user.map_or((0, 0), |user| (number(user.uid), number(user.gid)))
            }
        };
        match self.group {
            Some(Id::Number(number)) => gid = number,
            Some(Id::Name(name)) => {
                let file = read(accounts, "etc/group")?;
                if let Some(group) = groups(&file).find(|group| group.name == name) {
                    gid = number(group.gid);
                }
            }
            None => {}
        }
        Ok((uid, gid))
    }
}

fn id(text: &str) -> Id<'_> {
    match text.parse::<i32>() {
        _ if text == "root" => Id::Number(0),
        Ok(number) if number >= 0 => Id::Number(number.unsigned_abs()),
        _ => Id::Name(text),
    }
}

/// The text of a file; nothing when it is not there.
fn read(accounts: &Accounts<'_>, file: &str) -> io::Result<String> {
    let bytes = accounts(file)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What no id can be counts as 0, as in moby's parser.
fn number(field: i64) -> u32 {
    u32::try_from(field).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn accounts(file: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(match file {
            "etc/passwd" => {
                Some(b"root:x:0:0::/root:/bin/sh\n\napp:x:1000:1000::/home/app:/bin/sh\n".to_vec())
            }
            _ => Some(b"root:x:0:\nstaff:x:50:\n".to_vec()),
        })
    }

    #[test]
    fn names_and_numbers() {
        for (text, expected) in [
            ("app", (1000, 1000)),
            ("app:staff", (1000, 50)),
            ("app:77", (1000, 77)),
            ("77:staff", (77, 50)),
            ("12:34", (12, 34)),
            ("56", (56, 56)),
            (":staff", (0, 50)),
            ("ghost", (0, 0)),
            ("app:spooks", (1000, 1000)),
            ("root", (0, 0)),
            ("app:root", (1000, 0)),
        ] {
            assert_eq!(OwnerText::new(text).resolve(&accounts).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn names_that_nobody_has_are_told() {
        let unknown = |text| OwnerText::new(text).unknown(&accounts).unwrap().join("; ");
        for known in ["app", "app:staff", "77:33", ":staff", "root:root"] {
            assert_eq!(unknown(known), "", "{known}");
        }
        let (user, group) = ("no user `ghost`", "no group `spooks`");
        assert!(unknown("ghost").contains(user) && unknown("7:spooks").contains(group));
        assert!(unknown("ghost:spooks").contains(user) && unknown("ghost:spooks").contains(group));
    }

    #[test]
    fn without_files_every_name_is_unknown() {
        let none = |_: &str| Ok(None);
        assert_eq!(OwnerText::new("app:staff").resolve(&none).unwrap(), (0, 0));
        assert!(!OwnerText::new("1:2").has_names());
        assert!(OwnerText::new("1:staff").has_names());
    }
}
