//! COPY and ADD.

use super::{build, dump, same};

/// The transfer that an instruction on `base` becomes, and its line of the history.
#[track_caller]
fn check(instructions: &str, op: &str, history: &str) {
    let plan = build(&format!("FROM base\n{instructions}")).plan();
    let steps = dump::steps(&plan);
    let last = steps.lines().last().unwrap_or_default();
    let shown = last.split_once(' ').map_or(last, |(_, rest)| rest);
    assert_eq!(shown.rsplit_once(" on ").map_or(shown, |(shown, _)| shown), op, "{instructions}");
    let all = dump::history(&plan);
    assert_eq!(
        all.lines().last().and_then(|line| line.rsplit_once(" @")).map(|(text, _)| text),
        Some(history)
    );
}

#[test]
fn destinations() {
    for (directory, destination, expected) in [
        ("/w", ".", "/w/"),
        ("/w", "x", "/w/x"),
        ("/w", "x/", "/w/x/"),
        ("/w", "/y/.", "/y/"),
        ("//a//b//", "c", "/a/b/c"),
        ("/", "/", "/"),
    ] {
        let plan = build(&format!("FROM base\nWORKDIR {directory}\nCOPY a {destination}")).plan();
        let steps = dump::steps(&plan);
        assert!(steps.contains(&format!("a -> {expected} on")), "{directory} {destination}: {steps}");
    }
}

#[test]
fn flags() {
    check("COPY a b /d/", "copy 1:a 1:b -> /d/", "COPY a b /d/ # buildkit");
    check(
        "ARG U=app\nARG M=640\nCOPY --chmod=$M --chown=$U:staff --parents --exclude=$x --exclude=*.o a /d",
        "copy 1:a -> /d chown=app:staff chmod=0640 parents exclude=$x,*.o",
        "COPY --parents --chown=app:staff --chmod=640 a /d # buildkit",
    );
    check("COPY --link a /d", "copy 1:a -> /d link", "COPY a /d # buildkit");
    check("COPY --link=false a /d", "copy 1:a -> /d", "COPY a /d # buildkit");
    check("COPY --link --chmod=u+x a /d", "copy 1:a -> /d chmod=u+x", "COPY --chmod=u+x a /d # buildkit");
    check("COPY --chown= a /d", "copy 1:a -> /d", "COPY a /d # buildkit");
    check("ENV D=/x\nCOPY \"a\"b $D/'c'", "copy 1:ab -> /x/c", "COPY ab /x/c # buildkit");
    check("COPY x\\[1\\].txt [[]y /d/", "copy 1:x[1].txt 1:[[]y -> /d/", "COPY x[1].txt [[]y /d/ # buildkit");
    check("COPY [\"a b\", \"/d\"]", "copy 1:a b -> /d", "COPY a b /d # buildkit");
}

#[test]
fn remote_sources() {
    check("ADD http://h/x /d", "add url http://h/x -> /d", "ADD http://h/x /d # buildkit");
    check(
        "ADD --unpack=false a.tar http://h/x /d/",
        "add 1:a.tar url http://h/x -> /d/ unpack=false",
        "ADD a.tar http://h/x /d/ # buildkit",
    );
    check(
        "ADD --keep-git-dir https://h/r.git?branch=b&subdir=s /d",
        "add git https://h/r.git?branch=b&subdir=s -> /d keep-git-dir",
        "ADD https://h/r.git?branch=b&subdir=s /d # buildkit",
    );
    check("ADD git@h:r /d", "add git git@h:r -> /d", "ADD git@h:r /d # buildkit");
    let digest = format!("sha256:{}", "0".repeat(64));
    check(
        &format!("ADD --checksum={digest} http://h/x /d"),
        &format!("add url http://h/x -> /d checksum={digest}"),
        "ADD http://h/x /d # buildkit",
    );
    check(
        "ADD --checksum=0123abc https://h/r.git /d",
        "add git https://h/r.git -> /d checksum=0123abc",
        "ADD https://h/r.git /d # buildkit",
    );
}

#[test]
fn passwords_of_urls_stay_out_of_history_and_titles() {
    let plan = build("FROM scratch\nARG PW=geheim\nADD https://me:$PW@h/x /d").plan();
    assert!(dump::steps(&plan).contains("url https://me:geheim@h/x"));
    assert!(dump::history(&plan).contains("ADD https://xxxxx:xxxxx@h/x /d"));
    assert!(dump::listing(&plan).contains("ADD https://xxxxx:xxxxx@h/x /d"));
}

#[test]
fn here_documents() {
    check("COPY <<F /d\na\nF", "copy <<F=\"a\\n\" -> /d", "COPY <<F /d # buildkit");
    check(
        "ENV X=v\nCOPY a <<F <<\"G\" /d/\n$X \"q\" \\n\nF\n$X\nG",
        "copy 1:a <<F=\"v \\\"q\\\" n\\n\" <<G=\"$X\\n\" -> /d/",
        "COPY a <<F <<G /d/ # buildkit",
    );
    check("ADD <<-F /d\n\ta\n\t\tb\n\tF", "add <<F=\"a\\nb\\n\" -> /d", "ADD <<F /d # buildkit");
    // No source but here-documents: the context is not needed.
    same(
        &dump::steps(&build("FROM scratch\nCOPY <<F /d\na\nF").plan()),
        "0 scratch\n1 copy <<F=\"a\\n\" -> /d on 0",
    );
}
