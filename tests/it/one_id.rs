//! A user with one id gets the image that root gets: owners are recorded, and programs see them.

use crate::install_vim::assert_same;
use crate::support::accounts::Account;
use crate::support::base::DebianRegistry;
use crate::support::is_root;
use crate::support::program::World;

/// Makes a user, gives files to it, and has a program that is setuid and its group's.
const INSTALL: &str = "RUN apt-get update && apt-get install -y --no-install-recommends dbus\n\
    RUN stat -c '%U:%G %a %n' /usr/lib/dbus-1.0/dbus-daemon-launch-helper /var/mail /etc/shadow >/seen\n\
    USER messagebus\nRUN id >/tmp/id && ln -s id /tmp/link\n";

#[test]
fn a_package_with_a_user_of_its_own() {
    let registry = DebianRegistry::start();
    let dockerfile = format!("FROM {}\nCOPY --chown=www-data:mail file /srv/\n{INSTALL}", registry.debian());
    let build = |account: Account| {
        let world = World::of(account);
        world.file("file", "text").dockerfile(&dockerfile);
        let built = world.build(["-t", "dbus"]).run();
        (world.images().image(&built.digest()), built.stderr)
    };
    let (image, told) = build(Account::without_ranges());
    assert!(told.contains("one id: RUN records owners"), "{told}");
    let files = image.files();
    let owner = |path: &str| (files[path].uid, files[path].gid);
    let helper = &files["usr/lib/dbus-1.0/dbus-daemon-launch-helper"];
    let messagebus = helper.gid;
    assert_eq!((helper.uid, helper.mode), (0, 0o4754));
    assert_eq!(owner("srv/file"), (33, 8));
    assert_eq!(owner("etc/shadow"), (0, 42));
    assert_eq!(owner("var/mail"), (0, 8));
    assert_eq!(owner("tmp/id").1, messagebus);
    assert_eq!(owner("tmp/link"), owner("tmp/id"));
    let seen = String::from_utf8(files["seen"].content.clone()).unwrap();
    assert!(seen.starts_with("root:messagebus 4754 /usr") && seen.contains("root:shadow 640"), "{seen}");
    let id = String::from_utf8(files["tmp/id"].content.clone()).unwrap();
    assert!(id.contains("(messagebus) gid="), "{id}");
    if is_root() {
        let (as_root, _) = build(Account::mine());
        assert_same(&as_root.listing(), &image.listing());
    }
}
