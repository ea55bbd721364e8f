//! RUN.

use super::graph::{Network, Op};
use super::{Entitlement, build, dump, same};

/// The command of the last RUN on `base`, with all that surrounds it.
fn exec(instructions: &str) -> String {
    let plan = build(&format!("FROM base\n{instructions}"))
        .allow(Entitlement::NetworkHost)
        .allow(Entitlement::SecurityInsecure)
        .plan();
    let steps = dump::steps(&plan);
    let last = steps.lines().last().unwrap_or_default();
    let text = last.split_once("exec ").map_or(last, |(_, rest)| rest);
    text.rsplit_once(" on ")
        .map_or(text, |(text, _)| text)
        .replace(" env=PATH=/bin", "")
        .replace(" cwd=/ user=``", "")
}

#[test]
fn forms() {
    for (instructions, expected) in [
        ("RUN echo \"$X\" && b", r#"["/bin/sh", "-c", "echo \"$X\" && b"]"#),
        ("RUN [\"a\", \"$X\"]", r#"["a", "$X"]"#),
        ("SHELL [\"/bin/bash\", \"-c\"]\nRUN a", r#"["/bin/bash", "-c", "a"]"#),
        ("RUN --network=none a", r#"["/bin/sh", "-c", "a"] None Sandbox"#),
        ("RUN --network=host --security=insecure a", r#"["/bin/sh", "-c", "a"] Host Insecure"#),
        ("USER app\nWORKDIR /w\nRUN a", r#"["/bin/sh", "-c", "a"] cwd=/w user=`app`"#),
    ] {
        assert_eq!(exec(instructions), expected, "{instructions}");
    }
}

#[test]
fn here_documents() {
    for (instructions, expected) in [
        // Alone, it is the script.
        ("RUN <<EOF\na $X\nb\nEOF", r#"["/bin/sh", "-c", "a $X\nb\n"]"#),
        ("RUN <<-EOF\n\ta\n\tEOF", r#"["/bin/sh", "-c", "a\n"]"#),
        ("RUN --network=none <<\"EOF\"\na\nEOF", r#"["/bin/sh", "-c", "a\n"] None Sandbox"#),
        ("RUN 3<<EOF\na\nEOF", r#"["/bin/sh", "-c", "a\n"]"#),
        // With a shebang it is a file.
        ("RUN <<EOF\n#!/bin/x\na\nEOF", r##"["/bin/sh", "-c", "/dev/pipes/EOF"] pipe EOF="#!/bin/x\na\n""##),
        // Else the shell reads it.
        ("RUN sh -e <<EOF\na\nEOF", r#"["/bin/sh", "-c", "sh -e <<EOF\na\nEOF"]"#),
        ("RUN cat <<A <<B\n1\nA\n2\nB", r#"["/bin/sh", "-c", "cat <<A <<B\n1\nA\n2\nB"]"#),
        ("RUN <<EOF cat\na\nEOF", r#"["/bin/sh", "-c", "<<EOF cat\na\nEOF"]"#),
    ] {
        assert_eq!(exec(instructions), expected, "{instructions}");
    }
    let plan = build("FROM base\nRUN <<EOF\n#!/bin/x\na\nEOF").plan();
    same(&dump::history(&plan), "RUN /bin/sh -c /dev/pipes/EOF # buildkit @1");
    same(&dump::listing(&plan), "[1/2] FROM base = 0\n[2/2] RUN <<EOF (#!/bin/x...) = 1");
}

#[test]
fn mounts() {
    for (mount, expected) in [
        ("target=/t", "/t bind 1:/"),
        ("type=bind,source=a/../b,target=t,rw", "/w/t bind 1:/b rw"),
        ("src=$S,dst=/$S/x", "/v/x bind 1:/v"),
        ("type=cache,target=/c", "/c cache /c Shared"),
        ("type=cache,target=c/,sharing=locked,ro", "/w/c cache c Locked ro"),
        ("type=cache,id=i$S,target=/c,mode=0700,uid=1,gid=2,sharing=private", "/c cache iv Private 0700 1:2"),
        ("type=cache,target=/c,from=base,source=/s", "/c cache /c Shared from 1:/s"),
        ("type=cache,target=/c,mode=0755", "/c cache /c Shared 0755 0:0"),
        ("type=cache,target=/c,uid=7", "/c cache /c Shared 0755 7:0"),
        // What is at a source keeps its owner; without one there is a directory of its own, as in BuildKit.
        ("type=cache,target=/c,from=base,source=/s,uid=7", "/c cache /c Shared from 1:/s"),
        ("type=cache,target=/c,from=base,uid=7", "/c cache /c Shared from 1:/cache 0755 7:0"),
        ("type=tmpfs,target=/t,size=1m", "/t tmpfs 1048576"),
        ("type=secret,id=a/tok", "/run/secrets/tok secret a/tok file=true required=false 0400 0:0"),
        ("type=secret,target=here", "/w/here secret here file=true required=false 0400 0:0"),
        ("type=secret,id=t,env=TOK", "/run/secrets/t secret t file=false env=TOK required=false 0400 0:0"),
        (
            "type=secret,id=t,env=,target=/x,required,mode=0444",
            "/x secret t file=true env=t required=true 0444 0:0",
        ),
        ("type=ssh", "/run/buildkit/ssh_agent.0 ssh default required=false 0600 0:0"),
        ("type=ssh,id=k,target=/s,required=true,uid=3", "/s ssh k required=true 0600 3:0"),
    ] {
        let text = format!("ENV S=v\nWORKDIR /w\nRUN --mount={mount} x");
        let shown = exec(&text)
            .replace("bind 2:", "bind 1:")
            .replace("from 2:", "from 1:")
            .replace("from 0:", "from 1:");
        let shown = shown.split_once("mount ").map(|(_, rest)| rest.to_owned());
        assert_eq!(shown.as_deref(), Some(expected), "{mount}");
    }
}

#[test]
fn caches_have_a_namespace() {
    let plan =
        build("FROM base\nRUN --mount=type=cache,target=/c x").arg("BUILDKIT_CACHE_MOUNT_NS", "me").plan();
    assert!(dump::steps(&plan).contains("cache me//c Shared"), "{}", dump::steps(&plan));
}

#[test]
fn the_agent_is_named_even_if_there_is_none() {
    let env = exec("RUN --mount=type=secret,id=a --mount=type=ssh --mount=type=ssh,id=b x");
    assert!(env.contains("SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0"), "{env}");
    assert!(env.contains("mount /run/buildkit/ssh_agent.1 ssh b"), "{env}");
    assert!(exec("ENV SSH_AUTH_SOCK=/mine\nRUN --mount=type=ssh x").contains("SSH_AUTH_SOCK=/mine "));
}

#[test]
fn secrets_are_masked_in_titles() {
    let plan =
        build("FROM base\nARG TOKEN=geheim\nRUN --mount=type=secret,id=t,env=TOKEN use $TOKEN $PATH $nope")
            .plan();
    let listing = dump::listing(&plan);
    assert!(listing.contains("use **** /bin $nope"), "{listing}");
}

#[test]
fn what_surrounds_a_command() {
    let mut build = build("FROM base\nRUN x\nRUN --network=default y").arg("BUILDKIT_SANDBOX_HOSTNAME", "h");
    build.options.network = Network::None;
    build.options.extra_hosts = vec![("a".to_owned(), "1.2.3.4".to_owned())];
    build.options.shm_size_bytes = 5;
    build.options.ulimits = vec![("nofile".to_owned(), 1, 2)];
    let plan = build.plan();
    for step in &plan.graph.steps[1..] {
        let Op::Exec { op: exec, .. } = &step.op else { panic!("{step:?}") };
        assert_eq!((exec.network, exec.hostname.as_str(), exec.shm_size_bytes), (Network::None, "h", 5));
        assert_eq!((exec.extra_hosts.len(), exec.ulimits.len()), (1, 1));
    }
    assert!(plan.warnings.is_empty());
}
