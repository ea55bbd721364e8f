//! Full disks: whatever is written when the disk is full, it is said, nothing half-written stays, and with room again it works.

use crate::support::attack::{Chance, Tally, rounds};
use crate::support::program::World;
use crate::support::{is_root, skip};

/// Fills up at another place each time: while layers are written, unpacked, made by a step, or recorded.
#[test]
fn a_full_disk_is_told_and_works_again_with_room() {
    if !is_root() {
        skip!("only root can mount a small disk");
    }
    let mut chance = Chance::of("full disks");
    let mut tally = Tally::of("full disks");
    let world = World::new();
    let noise: Vec<u8> = (0..300_000).flat_map(|_| chance.next().to_le_bytes()).collect();
    world.file("noise", noise);
    for number in 0..500 {
        world.file(&format!("many/{number}"), format!("{number}\n"));
    }
    crate::support::base::with_busybox(
        &world,
        "COPY noise /noise\nCOPY many /many\nRUN cat /noise >/two; echo done >/result\nRUN rm /noise",
    );
    // From what hardly holds the first layer to what holds nearly everything.
    let (smallest, largest, tries) = (400, 18_000, rounds(6, 90));
    for number in 0..tries {
        let is_disk = number % 2 == 1;
        let step = (largest - smallest) / tries as usize;
        let kib = smallest + step * number as usize + chance.below(step);
        let told = format!("try {number}: {kib} KiB {}", if is_disk { "of ext4" } else { "of tmpfs" });
        let mount = match is_disk {
            // Fewer inodes than files on some of them.
            true => format!(
                "truncate -s {kib}K ../disk; mkfs.ext4 -q -O ^has_journal -N {} ../disk; mount -o loop ../disk ../store",
                200 + chance.below(kib.min(6000))
            ),
            false => format!("mount -t tmpfs -o size={kib}k none ../store"),
        };
        let more = match is_disk {
            true => {
                "umount ../store; truncate -s 64M ../disk; e2fsck -fyD ../disk >/dev/null || [ $? -lt 4 ]; \
                     resize2fs ../disk >/dev/null 2>&1; mount -o loop ../disk ../store"
            }
            false => "mount -o remount,size=64m ../store",
        };
        // What is left in tmp and among the names is printed: nothing may be there.
        let script = format!(
            "set -e; rm -rf ../store ../disk; mkdir ../store; {mount}; code=0; \"$@\" || code=$?; echo \"code $code\"; \
             find ../store/rbuild/tags ../store/rbuild/tmp -mindepth 1 2>/dev/null || true; [ $code != 0 ] || exit 0; \
             echo 'with room' >&2; {more}; shift 3; rbuild=$1; shift; \"$rbuild\" --root ../store --progress=quiet -o ../out . >&2; \
             \"$rbuild\" --root ../store verify >/dev/null; cat ../out/result; rm -rf ../out"
        );
        let wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh", "timeout", "--signal=KILL", "120"];
        let words = ["--progress=quiet", "-t", "never", "."];
        let ran = world.through(&wrapper, words).any_status().any_stdout().remarks().run();
        let (first, _) = ran.stderr.split_once("with room").unwrap_or((&ran.stderr, ""));
        let shown = format!("{told}\n{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.status, Some(0), "{shown}");
        if ran.stdout.starts_with("code 0\n") {
            tally.count("built");
            continue;
        }
        assert_eq!(ran.stdout, "code 1\ndone\n", "{shown}");
        for part in ["error: ", "rbuild prune --all", "--root DIR", " free", "/store"] {
            assert!(first.contains(part), "`{part}` is missing: {shown}");
        }
        tally.count("told, and built with room");
    }
    assert!(tally.came_to("told, and built with room") > tries / 2);
}
