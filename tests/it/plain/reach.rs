//! What a step reaches of its container: nothing.

use super::{SHELL, plain};
use crate::support::attack::{Tally, rounds};

/// Files of the container, its processes, devices, and calls that no filter sees.
#[test]
fn a_step_reaches_nothing_of_its_container() {
    let plain = plain!();
    let dockerfile = format!("{SHELL}COPY reach /\nRUN [\"/reach\"]\nRUN echo gone on\n");
    plain.context("reach", &dockerfile, &["reach"]);
    for options in [&["-e", "TOKEN=of-the-job"][..], &["--cap-drop=MKNOD"]] {
        let script = "sleep 300 & one=$!; sleep 300 & other=$!; \
            /work/rbuild --root /var/lib/store --progress=plain --no-cache /work/reach 2>&1; echo code $?; \
            kill $one $other && echo others are left";
        let (text, _) = plain.run(options, script);
        for word in ["REACHED", "OTHERWISE", "MISSING", "OPEN", "LISTED"] {
            assert!(!text.contains(word), "{options:?}: {text}");
        }
        assert!(text.contains(" done\n") && text.contains(" gone on\n"), "{options:?}: {text}");
        assert!(text.contains("code 0\n") && text.contains("others are left\n"), "{options:?}: {text}");
    }
}

/// Links are exchanged, and paths in memory changed, while somebody uses them.
#[test]
fn links_that_are_swapped_lead_nowhere() {
    let plain = plain!();
    let tries = rounds(3000, 24_000);
    let dockerfile =
        format!("{SHELL}COPY swap /\nRUN echo inside > /etc/hostname && /swap {tries} 1 && echo said\n");
    plain.context("swap", &dockerfile, &["swap"]);
    let (text, code) = plain.build("swap", &["-e", "MARKER=MARKER-OF-THE-CONTAINER"], "");
    assert!(text.contains(&format!("swapped {tries} seen 0")), "{text}");
    assert_eq!(code, Some(0), "{text}");
    let mut tally = Tally::of("swapped links in a plain container");
    (0..tries).for_each(|_| tally.count("nothing of the container"));
}
