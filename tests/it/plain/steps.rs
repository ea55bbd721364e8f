//! What a step finds: `/proc`, identities, mounts, and its root handed on.

use super::{SHELL, plain};
use crate::support::layout::Layout;

/// Each line of a script is a RUN of its own where it begins with `RUN`; what it prints must be what follows `#`.
#[track_caller]
fn prints(text: &str, lines: &[&str]) {
    for line in lines {
        let is_there = text.lines().any(|said| said.ends_with(&format!(" {line}")));
        assert!(is_there, "`{line}` was not printed: {text}");
    }
}

const PROC: &str = r#"RUN <<END
set -e
echo "own $(test $$ = $(readlink /proc/self 2>/dev/null || echo no) || sh -c 'test $$ = $(exec readlink /proc/self) || echo same')"
echo "name $(cat /proc/self/comm)"
echo "exe $(readlink /proc/self/exe) $(stat -Lc %F /proc/$$/exe)"
echo "links $(readlink /proc/$$/root) $(readlink /proc/$$/cwd) $(readlink /proc/thread-self | sed 's/[0-9][0-9]*/N/g')"
exec 7</etc/hosts
echo "fd $(readlink /proc/$$/fd/7) $(ls /proc/$$/fd | tr '\n' ' ')"
echo "dir $(stat -c %F /proc/self/fd) $(stat -c %F /proc/$$)"
echo through > /proc/$$/root/tmp/through && cat /tmp/through
(cd /tmp && cat /proc/self/cwd/through)
ln -s /dev/stdout /tmp/log && echo logged > /tmp/log
echo to-stdout > /dev/stdout; echo to-stderr > /dev/stderr; echo piped | cat /dev/stdin
echo "mounts $(cut -d' ' -f2 /proc/mounts | tr '\n' ' ')"
grep -q . /proc/cpuinfo && grep -q MemTotal /proc/meminfo && grep -q busybox /proc/self/maps && echo machine
echo "kernel $(cat /proc/sys/kernel/ostype) $(ls /proc/sys/kernel | grep -c '^ostype$')"
(echo x > /proc/sys/kernel/hostname) 2>/dev/null || echo read-only
echo 500 > /proc/self/oom_score_adj && echo adjusted
sleep 100 & child=$!
until grep -q ^sleep /proc/$child/cmdline; do :; done
echo "child $(tr '\0' ' ' < /proc/$child/cmdline) $(test -d /proc/$child && echo there) $(ls /proc | grep -cx $child)"
kill $child; wait $child || true; test -d /proc/$child || echo ended
test ! -e /proc/1 && echo alone
(cd /proc/$$ && cat comm && cd fd && ls | head -1)
echo "host $(hostname) $(uname -n)"
/who again
test -c /dev/null && echo x > /dev/null && head -c 3 /dev/zero | wc -c
echo x > /dev/shm/x && cat /dev/shm/x
END
"#;

#[test]
fn proc_is_that_of_the_step() {
    let plain = plain!();
    let after = "RUN ls -A /dev/shm | wc -l\n";
    plain.context("proc", &format!("{SHELL}COPY who /\n{PROC}{after}"), &["who"]);
    for options in [&[][..], &["--cap-drop=MKNOD"]] {
        let (text, code) = plain.build("proc", options, "");
        assert_eq!(code, Some(0), "{options:?}: {text}");
        prints(
            &text,
            &[
                "name cat",
                "exe /bin/busybox regular file",
                "links / / N/task/N",
                "fd /etc/hosts 0 1 2 3 7 ",
                "dir directory directory",
                "through",
                "logged",
                "to-stdout",
                "to-stderr",
                "piped",
                "mounts / /proc /dev /sys ",
                "machine",
                "kernel Linux 1",
                "read-only",
                "adjusted",
                "child sleep 100  there 1",
                "ended",
                "alone",
                "sh",
                "host buildkitsandbox buildkitsandbox",
                "by-proc-self-exe",
                "3",
                "x",
            ],
        );
    }
}

const IDENTITIES: &str = r#"RUN <<END
set -e
echo 'root:x:0:0::/:/bin/sh' > /etc/passwd; echo 'app:x:1000:1000::/:/bin/sh' >> /etc/passwd
echo 'root:x:0:' > /etc/group; echo 'app:x:1000:' >> /etc/group
chmod 4755 /who
mkdir /shared && chown 0:1000 /shared && chmod 2777 /shared
touch /given && chown 12:34 /given
END
USER app
RUN <<END
id -u; touch /tmp/new; mkdir /tmp/folder; ln -s x /tmp/link; mkfifo /tmp/pipe; touch /shared/file
chown 0:0 /given 2>/dev/null || echo "may not give"
mknod /tmp/device c 1 3 2>/dev/null || echo "may not make devices"
/who
stat -c '%n %u:%g' /tmp/* /shared/file /given
END
USER root
RUN stat -c '%n %u:%g %a' /tmp/new /tmp/folder /tmp/pipe /given; id -u
"#;

#[test]
fn files_belong_to_whom_a_process_is() {
    let plain = plain!();
    plain.context("ids", &format!("{SHELL}COPY who /\n{IDENTITIES}"), &["who"]);
    let (text, code) = plain.build("ids", &[], "");
    assert_eq!(code, Some(0), "{text}");
    prints(
        &text,
        &[
            "1000",
            "may not give",
            "may not make devices",
            "real 1000 effective 0 then 0",
            "/tmp/new 1000:1000",
            "/tmp/folder 1000:1000",
            "/tmp/link 1000:1000",
            "/tmp/pipe 1000:1000",
            "/shared/file 1000:1000",
            "/given 12:34",
            "/tmp/new 1000:1000 644",
            "/tmp/folder 1000:1000 755",
            "/tmp/pipe 1000:1000 644",
            "/given 12:34 644",
        ],
    );
}

/// A file in memory keeps its times when it is written to through a mapping; of other ways directories that are watched are not told.
#[test]
fn what_is_changed_in_untold_ways_is_in_the_layer() {
    let plain = plain!();
    let shell = SHELL.replacen("scratch", "scratch AS shell", 1);
    let ways = ["mapped", "protected", "linked", "spliced", "aio"];
    // A step for each, so that none of them has the others' found.
    let steps: String = ways.iter().map(|way| format!("RUN [\"/untold\", \"{way}:/d/{way}\"]\n")).collect();
    let show = "for f in mapped protected linked spliced aio; do echo \"$f $(head -c 4 /d/$f)\"; done";
    let dockerfile = format!(
        "{shell}FROM shell AS changed\nCOPY untold /\nRUN mkdir /d /other; for f in protected linked spliced aio; do echo aaaa > /d/$f; done\n\
         COPY Dockerfile /d/mapped\n{steps}RUN {show}\nFROM shell\nCOPY --from=changed /d /d\nRUN {show} | sed 's/^/layer: /'\n"
    );
    plain.context("untold", &dockerfile, &["untold"]);
    for options in [&[][..], &["--tmpfs=/var/lib/store:exec"]] {
        let (text, code) = plain.build("untold", options, "");
        assert_eq!(code, Some(0), "{options:?}: {text}");
        let lines = ["mapped XROM", "protected Xaaa", "linked Xaaa", "spliced Xaaa", "aio Xaaa"];
        prints(&text, &lines);
        prints(&text, &lines.map(|line| format!("layer: {line}")).each_ref().map(String::as_str));
    }
}

/// A root that is left is made what it was copied from, and kept for the next build that begins with it.
#[test]
fn a_root_is_kept_from_build_to_build_and_nothing_of_a_step_in_it() {
    let plain = plain!();
    let shell = SHELL.replacen("scratch", "scratch AS shell", 1);
    let look = "find / -xdev ! -path '/proc*' ! -path '/dev*' ! -path '/sys*' ! -path / ! -path '/etc*' -exec stat -c '%n %F %a %u:%g %s %Y' '{}' + \
        | sort | md5sum | cut -c1-32";
    let dockerfile = format!(
        "{shell}RUN mkdir -p /d/e/f /g && echo one > /d/one && echo two > /d/e/two && ln -s one /d/link && chown 7:8 /d/e/two\n\
         FROM shell\nARG ROUND\nRUN echo \"sum $({look}) inode $(stat -c %i /bin/busybox) $ROUND\"\n\
         RUN rm -r /d/e; echo other > /d/one; chmod 700 /g /d; rm /d/link; mkdir /d/link /h; echo more > /g/more; mkfifo /h/p; touch -d @5 /d\n\
         COPY Dockerfile /g/\nRUN rm /g/Dockerfile; mkdir /d/e\n"
    );
    plain.context("kept", &dockerfile, &[]);
    let build = "/work/rbuild --root /var/lib/store --progress=plain /work/kept 2>&1 --build-arg ROUND=";
    let kept = "ls /var/lib/store/rbuild/trees | grep spare | while read d; do ls /var/lib/store/rbuild/trees/$d | wc -l; done | sed 's/^/kept /'";
    let script = format!(
        "for n in 1 2 3; do {build}$n || exit 1; {kept}; done; /work/rbuild --root /var/lib/store verify; echo code $?"
    );
    let (text, code) = plain.run(&[], &script);
    assert_eq!(code, Some(0), "{text}");
    let told: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(" sum ").map(|(_, rest)| rest)).collect();
    let words: Vec<Vec<&str>> =
        told.iter().filter(|line| !line.contains('$')).map(|line| line.split(' ').collect()).collect();
    assert_eq!(words.len(), 3, "{text}");
    // The first goes on from a root that a step has left, with times of its own; the second has a copy.
    assert_eq!(words[1][0], words[2][0], "a step finds what another build left: {text}");
    assert_eq!(words[1][2], words[2][2], "the root was not kept: {text}");
    assert_eq!(text.lines().filter(|line| *line == "kept 1").count(), 3, "{text}");
    assert!(text.ends_with("code 0\n"), "{text}");
}

const MOUNTS: &str = r#"COPY Dockerfile /kept
FROM scratch AS other
COPY busybox /part/file
FROM shell
RUN --mount=type=cache,id=k,target=/c --mount=type=cache,id=k,target=/again --mount=type=bind,target=/ctx \
    --mount=type=bind,from=other,source=/part,target=/deep/er/part --mount=type=tmpfs,target=/t \
    --mount=type=secret,id=s,target=/run/secrets/s,mode=0440,uid=7 <<END
set -e
echo one > /c/one; cat /again/one
cmp /ctx/busybox /deep/er/part/file && echo bound; echo written > /ctx/new; echo x > /t/x
echo read $(wc -c < /run/secrets/s); stat -c '%a %u' /run/secrets/s
grep -c localhost /etc/hosts; test -s /etc/resolv.conf || echo "no servers"
END
RUN --mount=type=cache,id=k,target=/other <<END
cat /other/one
ls -A / | tr '\n' ' '; ls -A /etc /run 2>/dev/null | tr '\n' ' '; echo listed
echo own > /etc/hosts
END
"#;

/// By files and sockets that are put in place, and taken out again.
#[test]
fn mounts_come_and_go() {
    let plain = plain!();
    std::fs::write(plain.work().join("secret"), "of-the-secret\n").unwrap();
    plain.context("mounts", &format!("{}{MOUNTS}", SHELL.replacen("scratch", "scratch AS shell", 1)), &[]);
    let args = "--secret id=s,src=/work/secret -o type=tar,dest=/work/out.tar";
    let (text, code) = plain.build("mounts", &["-v", "/etc/hosts:/unused"], args);
    assert_eq!(code, Some(0), "{text}");
    prints(&text, &["one", "bound", "read 14", "440 7"]);
    prints(&text, &["bin dev etc kept other proc sys tmp /etc: hosts resolv.conf listed"]);
    let tar = crate::support::tools::run("tar", ["-tf", plain.work().join("out.tar").to_str().unwrap()]);
    for gone in [
        "c/",
        "again",
        "ctx",
        "deep",
        "t/",
        "run",
        "other",
        "etc/hosts",
        "etc/resolv.conf",
        "dev/null",
        "proc/self",
    ] {
        assert!(!tar.lines().any(|line| line.starts_with(gone)), "{gone}: {tar}");
    }
    // Nothing of the store's holds the secret, and of the container's own root nothing was written.
    let script = "/work/rbuild --root /var/lib/store --progress=plain --secret id=s,src=/work/secret /work/mounts >/dev/null 2>&1; \
        ls -A / /root /run /tmp /dev/shm > /tmp/after; grep -rl --exclude-dir=logs of-the-secret /var/lib/store /tmp /root /run; \
        find / -xdev -newer /marker -type f ! -path '/var/lib/store/*' ! -path '/tmp/after' ! -path /.dockerenv ! -path '/proc/*' ! -path '/sys/*' ! -path '/work/*'";
    let (text, _) = plain.run(&[], script);
    assert_eq!(text, "", "what is left");
}

/// What is asked for and cannot be had is no build that goes on without.
#[test]
fn what_cannot_be_had_is_refused() {
    let plain = plain!();
    plain.context("plainly", &format!("{SHELL}RUN --network=none true\n"), &[]);
    let folder = plain.work().join("plainly");
    for (run, args, said) in [
        ("RUN --network=none true", "", "a network of its own (`--network`) cannot be had in this container"),
        ("RUN true", "--network=none", "a network of its own (`--network`) cannot be had"),
        (
            "RUN --security=insecure true",
            "--allow security.insecure",
            "more rights than the container (`--security=insecure`)",
        ),
        (
            "RUN --mount=type=tmpfs,target=/t,size=1m true",
            "",
            "a bound for what the tmpfs at /t holds (`size=`) cannot be had",
        ),
        ("RUN true", "--memory=100m", "limits of a RUN"),
        ("RUN true", "--pids-limit=10", "limits of a RUN"),
    ] {
        std::fs::write(folder.join("Dockerfile"), format!("{SHELL}{run}\n")).unwrap();
        let (text, code) = plain.build("plainly", &[], args);
        assert!(code == Some(1) && text.contains(said), "{run} {args}: {text}");
    }
}

/// A step gets the root of the one before, and a failure leaves it to nobody.
#[test]
fn roots_are_handed_on() {
    let plain = plain!();
    let many: String = (0..12).map(|n| format!("RUN echo {n} > /tmp/{n} && ls /tmp | wc -l\n")).collect();
    let dockerfile = format!(
        "{many}FROM shell AS a\nRUN echo a > /a\nFROM shell AS b\nRUN echo b > /b; ls /a 2>/dev/null || echo apart\n\
         FROM shell\nCOPY --from=a /a /\nCOPY --from=b /b /\nRUN cat /a /b; rm /tmp/3; mv /tmp/4 /moved; chmod 600 /tmp/5; echo more >> /tmp/6; touch -d @1 /tmp/8\n\
         RUN ls /tmp | tr '\\n' ' '; cat /moved\n"
    );
    plain.context("on", &format!("{}{dockerfile}", SHELL.replacen("scratch", "scratch AS shell", 1)), &[]);
    let (text, code) = plain.build("on", &[], "-o type=oci,tar=false,dest=/work/layout");
    assert_eq!(code, Some(0), "{text}");
    prints(&text, &["12", "apart", "a", "b", "0 1 10 11 2 5 6 7 8 9 4"]);
    let layout = Layout::at(&plain.work().join("layout"));
    let image = layout.image(layout.index().manifests()[0].digest().as_ref());
    let changed = &image.layers[image.layers.len() - 2].entries;
    let mut changed: Vec<&str> = changed.iter().map(|(path, _)| path.as_str()).collect();
    changed.sort_unstable();
    assert_eq!(changed, ["moved", "tmp/.wh.3", "tmp/.wh.4", "tmp/5", "tmp/6", "tmp/8"]);
}
