//! Containers that lack something, agents, and terminals.

use std::collections::BTreeMap;
use std::fs;

use serde_json::json;

use super::{Plain, SHELL, plain};

/// What Docker's profile refuses that matters here, and what else is refused, with the error that the call ends with.
fn profile(plain: &Plain, name: &str, more: &serde_json::Value) -> String {
    let refused = json!({
        "names": ["mount", "umount2", "unshare", "setns", "pivot_root", "open_tree", "move_mount", "fsopen", "fsmount",
            "mount_setattr", "pidfd_getfd"],
        "action": "SCMP_ACT_ERRNO",
    });
    write_profile(plain, name, &json!([refused, more]))
}

fn write_profile(plain: &Plain, name: &str, calls: &serde_json::Value) -> String {
    let path = plain.work().join(name);
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls});
    fs::write(&path, profile.to_string()).unwrap();
    format!("seccomp={}", path.display())
}

/// What doctor says (by name of what was tried: state, detail, ways out), and what a build says.
fn told(plain: &Plain, options: &[&str], before: &str) -> (BTreeMap<String, String>, String) {
    let rbuild = format!("{before} /work/rbuild --root /var/lib/store");
    let (found, _) = plain.run(options, &format!("{rbuild} doctor --format json"));
    let found: serde_json::Value = serde_json::from_str(&found).unwrap_or_else(|e| panic!("{e}: {found}"));
    let findings = found["findings"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let said = |finding: &serde_json::Value| {
        let remedies: Vec<_> = finding["remedies"].as_array().into_iter().flatten().map(text).collect();
        let said = format!("{} {} {}", text(&finding["state"]), text(&finding["detail"]), remedies.join(" "));
        (text(&finding["name"]), said.trim_end().to_owned())
    };
    let found = findings.iter().map(said).collect();
    let (built, _) = plain.run(options, &format!("{rbuild} --progress=plain /work/said 2>&1; echo code $?"));
    (found, built)
}

/// As in gVisor, and beside a program that has such a listener.
#[test]
fn without_a_listener_nothing_is_begun() {
    let plain = plain!();
    plain.context("said", &format!("{SHELL}RUN echo said\n"), &["listener"]);
    let new_listener = json!([{"index": 1, "value": 8, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}]);
    let einval =
        json!({"names": ["seccomp"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22, "args": new_listener});
    let einval = profile(&plain, "einval.json", &einval);
    for (options, before, why) in [
        (
            &["--security-opt", einval.as_str()][..],
            "",
            "this kernel, or what stands in for it (gVisor), cannot do that",
        ),
        (
            &[],
            "/work/said/listener",
            "a container or program around rbuild does so already, and the kernel allows one",
        ),
    ] {
        let (found, built) = told(&plain, options, before);
        let owners = &found["recorded owners"];
        assert!(owners.starts_with("unused ") && owners.contains(why), "{owners}");
        let found = &found["plain container"];
        assert!(found.starts_with("blocked ") && found.contains(why), "{found}");
        assert!(built.contains(&format!("error: no RUN works here: cannot have a program of rbuild's answer system calls (seccomp): {why}")), "{built}");
        assert!(built.ends_with("code 1\n") && !built.contains("#1"), "{built}");
    }
}

/// Then the supervisor alone keeps a step from others.
#[test]
fn a_kernel_without_landlock_will_do() {
    let plain = plain!();
    plain.context("said", &format!("{SHELL}COPY reach /\nRUN [\"/reach\"]\nRUN echo said\n"), &["reach"]);
    let none = json!({"names": ["landlock_create_ruleset"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38});
    let none = profile(&plain, "no-landlock.json", &none);
    let (found, built) = told(&plain, &["-e", "TOKEN=of-the-job", "--security-opt", &none], "");
    assert!(found["plain container"].starts_with("works "), "{found:?}");
    let sockets = &found["abstract sockets"];
    assert!(sockets.starts_with("limited ") && !sockets.contains("rbuild --network none"), "{sockets}");
    for word in ["REACHED", "OTHERWISE", "MISSING", "OPEN", "LISTED"] {
        assert!(!built.contains(word), "{built}");
    }
    assert!(built.contains(" done\n") && built.contains(" said\n") && built.ends_with("code 0\n"), "{built}");
}

/// A user namespace keeps nobody from the container's processes: root does better without, and others are told.
#[test]
fn without_pid_namespaces_steps_are_kept_apart_all_the_same() {
    let plain = plain!();
    plain.context("said", &format!("{SHELL}COPY reach /\nRUN [\"/reach\"]\nRUN echo said\n"), &["reach"]);
    let new_pid =
        json!([{"index": 0, "value": 0x2000_0000, "valueTwo": 0x2000_0000, "op": "SCMP_CMP_MASKED_EQ"}]);
    let calls = json!([
        {"names": ["clone", "unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": new_pid},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
    ]);
    let filter = write_profile(&plain, "no-pid.json", &calls);
    let options = ["-e", "TOKEN=of-the-job", "--security-opt", &filter];
    let (found, built) = told(&plain, &options, "");
    assert!(found["plain container"].starts_with("works "), "{found:?}");
    for word in ["REACHED", "OTHERWISE", "MISSING", "OPEN", "LISTED"] {
        assert!(!built.contains(word), "{built}");
    }
    assert!(built.contains(" done\n") && built.contains(" said\n") && built.ends_with("code 0\n"), "{built}");
    let other = [&options[..], &["--user", "1000", "--tmpfs", "/store:mode=1777"]].concat();
    let (built, _) = plain.run(&other, "/work/rbuild --root /store/s /work/said 2>&1; echo code $?");
    assert!(built.contains("user namespaces are allowed, and pid namespaces in them are not"), "{built}");
    assert!(built.contains("`--user 0`") && built.ends_with("code 1\n"), "{built}");
}

#[test]
fn a_step_talks_to_an_agent() {
    let plain = plain!();
    let dockerfile = format!(
        "{SHELL}COPY agent /\nRUN --mount=type=ssh /agent && stat -c 'socket %a %u' $SSH_AUTH_SOCK\n\
         RUN --mount=type=ssh,target=/run/mine,mode=0666,uid=7 SSH_AUTH_SOCK=/run/mine /agent && stat -c 'mine %a %u' /run/mine\n\
         RUN ls -A /run 2>/dev/null; echo \"none ${{SSH_AUTH_SOCK-at all}}\"\n"
    );
    plain.context("agent", &dockerfile, &["agent"]);
    let script = "eval $(ssh-agent) >/dev/null && ssh-keygen -q -t ed25519 -N '' -f /tmp/key && ssh-add -q /tmp/key && \
        /work/rbuild --root /var/lib/store --progress=plain --ssh default /work/agent 2>&1; echo code $?";
    let (text, _) = plain.run(&[], script);
    for line in ["answer 12 keys 1", "socket 600 0", "mine 666 7", "none at all"] {
        assert!(text.lines().any(|said| said.ends_with(&format!(" {line}"))), "`{line}`: {text}");
    }
    assert!(text.ends_with("code 0\n"), "{text}");
}

#[test]
fn a_shell_has_a_terminal() {
    let plain = plain!();
    plain.context("terminal", &SHELL.replacen("scratch", "scratch AS shell", 1), &[]);
    fs::copy(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/plain/terminal.py"),
        plain.work().join("terminal.py"),
    )
    .unwrap();
    let script = "exec timeout 100 python3 /work/terminal.py /work/rbuild /var/lib/store /work/terminal 2>&1";
    let (text, _) = plain.run(&[], script);
    for line in ["33 77", "to-tty", "is-there", "still-42", "code 7"] {
        assert!(text.lines().any(|said| said.trim() == line), "`{line}`: {text}");
    }
    assert!(text.lines().any(|said| said.starts_with("/dev/pts/")), "{text}");
}
