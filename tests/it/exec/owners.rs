//! Owners and identities inside a step. They are the same for root, in a user namespace with ranges of ids, and where
//! there is one id and owners are only written down.

use rbuild::exec::Credentials;
use rbuild::rootfs::{OWNER_ATTRIBUTE, RecordedOwner};

use super::stage::Stage;

/// A stage with an account besides root's.
fn stage() -> Stage {
    let stage = Stage::new();
    let etc = stage.path().join("base/etc");
    std::fs::write(etc.join("passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")
        .unwrap();
    std::fs::write(etc.join("group"), "root:x:0:\napp:x:1001:\nmail:x:8:app\n").unwrap();
    for applet in ["su", "whoami", "tar", "cp", "mv", "dirname"] {
        std::os::unix::fs::symlink("busybox", stage.path().join("base/bin").join(applet)).unwrap();
    }
    stage
}

fn check(script: &str, expected: &str) {
    assert_eq!(stage().sh("a", &format!("set -e; {script}")), expected);
}

#[test]
fn files_can_be_given_away() {
    check(
        "mkdir d; touch d/f; ln -s f d/l; chown -R 1000:8 d; chown -h 5:6 d/l; chown 7 d/f
         stat -c '%u:%g %n' d d/f d/l; stat -L -c %u:%g d/l",
        "1000:8 d\n7:8 d/f\n5:6 d/l\n7:8\n",
    );
}

#[test]
fn a_new_owner_takes_setuid_bits_away() {
    check("touch f; chmod 6755 f; chown 1000 f; stat -c '%a %u' f", "755 1000\n");
}

#[test]
fn an_owner_goes_where_the_file_goes() {
    check(
        "touch f; chown 1000:8 f; mv f g; ln g h; mkdir d; mv h d/i; touch f; stat -c '%u:%g %n' f g d/i
         tar c g d | (mkdir e; cd e; tar x); stat -c '%u:%g %n' e/g e/d/i; rm g; touch g; stat -c %u:%g g",
        "0:0 f\n1000:8 g\n1000:8 d/i\n1000:8 e/g\n1000:8 e/d/i\n0:0\n",
    );
}

#[test]
fn another_user_is_somebody_else() {
    check(
        "chmod 1777 /tmp; su app -c 'id -u; id -g; id -G | tr \" \" \"\\n\" | sort -n | tr \"\\n\" \" \"; whoami; touch /tmp/f; mkdir /tmp/d; \
             ln -s x /tmp/l; mkfifo /tmp/p; chown 0 /tmp/f 2>/dev/null || echo refused; chown app:mail /tmp/f; \
             su root -c id </dev/null >/dev/null 2>&1 || echo refused'
         stat -c '%u:%g %n' /tmp/f /tmp/d /tmp/l /tmp/p; id -u",
        "1000\n1001\n8 1001 app\nrefused\nrefused\n1000:8 /tmp/f\n1000:1001 /tmp/d\n1000:1001 /tmp/l\n1000:1001 /tmp/p\n0\n",
    );
}

#[test]
fn a_folder_with_a_group_hands_it_on() {
    check(
        "mkdir d; touch d/before; chown 0:8 d; chmod 2775 d; touch d/f; mkdir d/sub; ln -s x d/l; su app -c 'touch d/g'
         stat -c '%u:%g %a %n' d/before d/f d/sub d/g; stat -c %u:%g d/l",
        "0:0 644 d/before\n0:8 644 d/f\n0:8 2755 d/sub\n1000:8 644 d/g\n0:8\n",
    );
}

#[test]
fn a_setuid_program_runs_as_its_owner() {
    check(
        "cp /bin/busybox id; chown 1000:8 id; chmod 6755 id; ln -s id whoami; ln -s id touch; ./id -u; ./whoami
         mkdir -m 777 d; ./touch d/f; stat -c %u:%g d/f; printf '#!/bin/sh\\nid -u\\n' > script; chown 1000 script; chmod 4755 script; ./script",
        "1000\napp\n1000:8\n0\n",
    );
}

#[test]
fn a_process_in_another_root_is_answered_there() {
    check(
        "mkdir -p r/bin r/d; cp /bin/busybox r/bin/sh; for a in touch chown stat ln; do ln r/bin/sh r/bin/$a; done
         chroot r sh -c 'touch /d/f; ln -s /d/f /l; chown 1000:8 /l; stat -L -c %u:%g /l'
         stat -c %u:%g r/d/f; touch f; chown 5 f; stat -c %u f",
        "1000:8\n1000:8\n5\n",
    );
}

#[test]
fn files_belong_to_the_steps_user() {
    let stage = stage();
    let user = Credentials { uid: 1000, gid: 1001, groups: vec![1001, 8], home: "/home/app".into() };
    let out = stage.sh_with("a", "touch f; echo x >> f; stat -c %u:%g . f; id -u", |spec| {
        spec.credentials = user;
        spec.cwd = "/srv/app".into();
    });
    assert_eq!(out, "1000:1001\n1000:1001\n1000\n");
}

#[test]
fn what_one_step_recorded_the_next_sees() {
    let stage = stage();
    if stage.has_ids() {
        return;
    }
    let ran =
        stage.run(&stage.spec("a", "touch f; chown 1000:8 f; mknod null c 1 3; ln -s x l; chown -h 7:7 l"));
    let read = |name: &str| {
        let mut value = [0; 64];
        let length = rustix::fs::getxattr(ran.upper.join(name), OWNER_ATTRIBUTE, &mut value).unwrap();
        RecordedOwner::from_bytes(&value[..length]).unwrap().to_string()
    };
    assert_eq!([read("f"), read("null")], ["1000:8", "0:0:c:1:3"]);
    let [link] = ran.report.special_owners.as_slice() else { panic!("{:?}", ran.report) };
    assert_eq!((link.uid, link.gid), (7, 7));
    let mut spec =
        stage.spec_on("b", &["a/upper", "base"], "stat -c '%F %t:%T %u:%g' f null; stat -c %u:%g l");
    spec.owned_paths = vec![rbuild::exec::OwnedPath { path: b"l".to_vec(), uid: 7, gid: 7 }];
    let expected = "regular empty file 0:0 1000:8\ncharacter special file 1:3 0:0\n7:7\n";
    assert_eq!(stage.run(&spec).out, expected);
}
