//! Limits of RUN, and the names it asks for.

use crate::support::base::busybox_registry;
use crate::support::is_root;
use crate::support::program::World;

/// Where groups can be divided, as root can nearly everywhere, the step is killed and the reason told; elsewhere the
/// build says why it cannot keep to the limit, and does not run without.
#[test]
fn a_greedy_step_is_killed_and_told_apart() {
    let registry = busybox_registry();
    let world = World::new();
    let greedy = "dd if=/dev/zero of=/dev/null bs=200M count=1";
    world.dockerfile(&format!("FROM {}/busybox\nRUN {greedy}\n", registry.host()));
    let ran = world.build(["--memory", "64m"]).status(1).run();
    if is_root() && !ran.stderr.contains("cannot limit a step") {
        assert!(ran.stderr.contains("killed: out of memory, 6"), "{}", ran.stderr);
    } else {
        assert!(ran.stderr.contains("cannot limit a step: "), "{}", ran.stderr);
    }
    // A limit counts in no key.
    let free = world.build(["-t", "free"]).run();
    assert_eq!(free.outcome("RUN dd").split(' ').next(), Some("DONE"));
}

#[test]
fn names_are_asked_for_where_it_was_said() {
    let registry = busybox_registry();
    let world = World::new();
    let show = "RUN grep -v ^search /etc/resolv.conf >/resolv; grep gateway /etc/hosts >/hosts";
    world.dockerfile(&format!("FROM {}/busybox\n{show}\n", registry.host()));
    let options = ["--dns", "192.0.2.7", "--dns-option", "ndots:3", "--add-host", "gateway:host-gateway"];
    let built = world.build(options).run();
    let files = world.images().image(&built.digest()).files();
    assert_eq!(files["resolv"].content, b"nameserver 192.0.2.7\noptions ndots:3\n");
    assert_eq!(files["hosts"].content, b"127.0.0.1\tgateway\n");
}
