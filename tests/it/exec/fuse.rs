//! A root that fuse-overlayfs serves. As root alone: `/dev/fuse` is not for everybody on every machine.

use rbuild::exec::RootSource;

use super::stage::{Stage, listing};
use crate::support::{is_root, skip};

#[test]
fn fuse_overlayfs_serves_where_the_kernel_does_not() {
    if !is_root() {
        skip!("ordinary users may not open /dev/fuse everywhere");
    }
    let stage = Stage::new();
    let program = std::path::PathBuf::from("/usr/bin/fuse-overlayfs");
    if !program.exists() {
        skip!("there is no fuse-overlayfs");
    }
    let mut spec = stage.spec("a", "echo x > /etc/x; cat /etc/hosts; ls -d /proc/[0-9]* | wc -l");
    if let RootSource::Overlay { lowers, upper, work, merged } = spec.root {
        spec.root = RootSource::Fuse { program, lowers, upper, work, merged };
    }
    let ran = stage.run(&spec);
    assert_eq!(ran.out, "127.0.0.1\tlocalhost\n3\n");
    assert_eq!(listing(&ran.upper), ["etc", "etc/x"]);
}
