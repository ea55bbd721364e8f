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
