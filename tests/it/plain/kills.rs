//! `kill -9` in a plain container, where no pid namespace ends what is left.

use super::{SHELL, plain};
use crate::support::attack::{Tally, rounds};

#[test]
fn nothing_is_left_whoever_is_killed() {
    let plain = plain!();
    let times = rounds(12, 200);
    let dockerfile = format!(
        "{SHELL}RUN for i in 1 2 3 4 5 6 7 8; do (exec setsid sleep 300) & done; (setsid sh -c 'while :; do (:); done') & \
         i=0; while :; do i=$((i+1)); echo $i > /file$((i % 100)); done\n"
    );
    plain.context("kill", &dockerfile, &[]);
    std::fs::write(plain.work().join("kill/Whole"), format!("{SHELL}RUN test ! -e /file1 && echo whole\n"))
        .unwrap();
    std::fs::copy(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/plain/kill.py"),
        plain.work().join("kill.py"),
    )
    .unwrap();
    let script = format!("exec python3 /work/kill.py /work/rbuild /var/lib/store /work/kill {times} 1 2>&1");
    let (text, _) = plain.run(&[], &script);
    assert_eq!(text, format!("killed {times}\n"));
    let mut tally = Tally::of("kills in a plain container");
    (0..times).for_each(|_| tally.count("nothing left"));
}

/// A cache that was in the root goes back to its place, and a secret goes, by whoever of the build is left, or the next one.
#[test]
fn caches_and_secrets_outlive_nobody() {
    let plain = plain!();
    let mounts = "--mount=type=cache,id=k,target=/c --mount=type=secret,id=s,target=/run/s,required";
    let dockerfile =
        format!("{SHELL}RUN {mounts} echo line >> /c/lines && test -s /run/s && echo begun && sleep 300\n");
    plain.context("left", &dockerfile, &[]);
    let whole = format!("{SHELL}ARG AT\nRUN {mounts} echo lines $(wc -l < /c/lines)\n");
    std::fs::write(plain.work().join("left/Whole"), whole).unwrap();
    std::fs::copy(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/plain/left.py"),
        plain.work().join("left.py"),
    )
    .unwrap();
    let script = "exec python3 /work/left.py /work/rbuild /var/lib/store /work/left 2>&1";
    let (text, _) = plain.run(&[], script);
    let victims = ["rbuild", "zygote", "keeper", "supervisor", "keeper and rbuild", "all"];
    let expected: String =
        victims.iter().map(|victim| format!("{victim}: secret gone, lines all\n")).collect();
    assert_eq!(text, expected);
}
