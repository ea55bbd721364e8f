//! passwd and group files, as moby/sys/user reads them: empty lines count for nothing, fields that are missing or no
//! numbers are empty and 0.

/// A line of a passwd file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User<'t> {
    pub(crate) name: &'t str,
    pub(crate) uid: i64,
    pub(crate) gid: i64,
    pub(crate) home: &'t str,
}

/// A line of a group file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group<'t> {
    pub(crate) name: &'t str,
    pub(crate) gid: i64,
    /// Names of users, with commas between them.
    pub(crate) members: &'t str,
}

/// The users of a passwd file, in its order.
pub(crate) fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(fields).map(|fields| User {
        name: fields[0],
        uid: number(&fields, 2),
        gid: number(&fields, 3),
        home: fields.get(5).copied().unwrap_or(""),
    })
}

/// The groups of a group file, in its order.
pub(crate) fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(fields).map(|fields| Group {
        name: fields[0],
        gid: number(&fields, 2),
        members: fields.get(3).copied().unwrap_or(""),
    })
}

fn fields(line: &str) -> Option<Vec<&str>> {
    let line = line.trim();
    (!line.is_empty()).then(|| line.split(':').collect())
}

fn number(fields: &[&str], index: usize) -> i64 {
    fields.get(index).and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_may_be_short() {
        let found: Vec<User<'_>> = users("\n app:x:7:8::/home/app:/bin/sh \nshort\nodd:x:y\n").collect();
        let user = |name, uid, gid, home| User { name, uid, gid, home };
        assert_eq!(found, [user("app", 7, 8, "/home/app"), user("short", 0, 0, ""), user("odd", 0, 0, "")]);
        let found: Vec<Group<'_>> = groups("staff:x:50:app,other\nwheel:x:10\n").collect();
        let group = |name, gid, members| Group { name, gid, members };
        assert_eq!(found, [group("staff", 50, "app,other"), group("wheel", 10, "")]);
    }
}
