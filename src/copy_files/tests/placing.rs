//! Where files go, whose they are, and what is in the way.

use super::*;

const CONTEXT: &[&str] = &[
    "a=aa",
    "b.txt=bb",
    "d/",
    "d/x=x",
    "d/sub@700/",
    "d/sub/y.txt=y",
    "d/sub/z@600=z",
    "link->a",
    "dlink->d/sub",
    "esc->../../../d/x",
    "x1.txt=glob",
];

const PARENT: &[&str] = &[
    "etc/",
    "etc/passwd=",
    "etc/group=",
    "tmp@1777/",
    "have@700:5:6/",
    "have/sub@755:5:6/",
    "have/x@600:5:6=old",
    "file=f",
    "real/",
    "real/target=t",
    "alias->real",
    "filelink->real/target",
    "loop->loop",
    "dangling->nowhere/file",
];

/// Each instruction on [`CONTEXT`] and [`PARENT`].
fn check(cases: &[(&str, &[&str])]) {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), CONTEXT);
    let parent = image(PARENT);
    for (instruction, expected) in cases {
        assert_eq!(listing(&run(instruction, &context(dir.path()), &parent)), *expected, "{instruction}");
    }
}

#[test]
fn where_files_land() {
    check(&[
        ("COPY a /new", &["new 644 0:0 aa"]),
        ("COPY a /new/", &["new/ 755 0:0", "new/a 644 0:0 aa"]),
        ("COPY a /n/o/p", &["n/ 755 0:0", "n/o/ 755 0:0", "n/o/p 644 0:0 aa"]),
        ("COPY a /tmp", &["tmp/a 644 0:0 aa"]),
        ("COPY a /", &["a 644 0:0 aa"]),
        ("COPY a /file", &["file 644 0:0 aa"]),
        ("COPY a b.txt /t", &["t 644 0:0 bb"]),
        ("COPY a b.txt /t/", &["t/ 755 0:0", "t/a 644 0:0 aa", "t/b.txt 644 0:0 bb"]),
        (
            "COPY d a /t",
            &[
                "t/ 755 0:0",
                "t/a 644 0:0 aa",
                "t/sub/ 700 0:0",
                "t/sub/y.txt 644 0:0 y",
                "t/sub/z 600 0:0 z",
                "t/x 644 0:0 x",
            ],
        ),
        ("COPY *.txt /t/", &["t/ 755 0:0", "t/b.txt 644 0:0 bb", "t/x1.txt 644 0:0 glob"]),
        ("COPY d/*/*.txt /t/", &["t/ 755 0:0", "t/y.txt 644 0:0 y"]),
        ("COPY x[1].txt /t", &["t 644 0:0 glob"]),
        ("COPY *.absent /t/", &[]),
        ("COPY ../../a /x", &["x 644 0:0 aa"]),
        ("COPY <<one a /t/", &["t/ 755 0:0", "t/a 644 0:0 aa", "t/one 644 0:0 one text"]),
    ]);
}

#[test]
fn existing_directories_keep_mode_and_owner_but_nested_ones_do_not() {
    check(&[
        (
            "COPY d /have",
            &["have/sub/ 700 0:0", "have/sub/y.txt 644 0:0 y", "have/sub/z 600 0:0 z", "have/x 644 0:0 x"],
        ),
        (
            "COPY --chown=7:8 d /have/",
            &["have/sub/ 700 7:8", "have/sub/y.txt 644 7:8 y", "have/sub/z 600 7:8 z", "have/x 644 7:8 x"],
        ),
        (
            "COPY --chmod=755 --chown=5:6 d/sub /have/sub",
            &["have/sub/y.txt 755 5:6 y", "have/sub/z 755 5:6 z"],
        ),
    ]);
}

#[test]
fn symlinks_of_source_and_destination() {
    check(&[
        ("COPY link /t", &["t 644 0:0 aa"]),
        ("COPY link /t/", &["t/ 755 0:0", "t/link 644 0:0 aa"]),
        ("COPY dlink /t", &["t/ 755 0:0", "t/y.txt 644 0:0 y", "t/z 600 0:0 z"]),
        ("COPY dlink/z /t", &["t 600 0:0 z"]),
        ("COPY esc /t", &["t 644 0:0 x"]),
        ("COPY a /alias/sub/a", &["real/sub/ 755 0:0", "real/sub/a 644 0:0 aa"]),
        ("COPY a /filelink", &["real/target 644 0:0 aa"]),
        ("COPY a /dangling", &["nowhere/ 755 0:0", "nowhere/file 644 0:0 aa"]),
        ("COPY a /alias", &["real/a 644 0:0 aa"]),
        ("COPY a /loop", &["error: too many levels of symbolic links in `/loop`"]),
    ]);
}

#[test]
fn owners_and_modes() {
    check(&[
        ("COPY --chown=app a /n/a", &["n/ 755 1000:1000", "n/a 644 1000:1000 aa"]),
        ("COPY --chown=app:staff a /a", &["a 644 1000:50 aa"]),
        ("COPY --chown=ghost a /a", &["a 644 0:0 aa"]),
        ("COPY --chown=56 a /a", &["a 644 56:56 aa"]),
        ("COPY --chmod=7 a /4/5/6", &["4/ 7 0:0", "4/5/ 7 0:0", "4/5/6 7 0:0 aa"]),
        ("COPY --chmod=4755 a /n/a", &["n/ 755 0:0", "n/a 4755 0:0 aa"]),
        ("COPY --chmod=g=u d/sub /4", &["4/ 755 0:0", "4/y.txt 664 0:0 y", "4/z 660 0:0 z"]),
        (
            "COPY --chmod=a+x d /4",
            &["4/ 755 0:0", "4/sub/ 711 0:0", "4/sub/y.txt 755 0:0 y", "4/sub/z 711 0:0 z", "4/x 755 0:0 x"],
        ),
        (
            "COPY --chown=app --chmod=750 <<run.sh /opt/",
            &["opt/ 750 1000:1000", "opt/run.sh 750 1000:1000 run.sh text"],
        ),
    ]);
}

#[test]
fn link_knows_nothing_of_the_parent() {
    check(&[
        ("COPY --link a /tmp", &["tmp 644 0:0 aa"]),
        ("COPY --link d/sub /have/", &["have/ 755 0:0", "have/y.txt 644 0:0 y", "have/z 600 0:0 z"]),
        ("COPY --link a /alias/a", &["alias/ 755 0:0", "alias/a 644 0:0 aa"]),
        ("COPY --link --chmod=701 a /alias/a", &["real/a 701 0:0 aa"]),
        ("COPY --link --chown=1000:50 a /a", &["a 644 1000:50 aa"]),
        (
            "COPY --link --chown=app a /a",
            &[
                "error: invalid user index: `--chown=app` names an account, but --link has no base to look it up in",
            ],
        ),
    ]);
}

#[test]
fn parents_and_exclude() {
    check(&[
        (
            "COPY --parents d/sub/z /o/",
            &["o/ 755 0:0", "o/d/ 755 0:0", "o/d/sub/ 700 0:0", "o/d/sub/z 600 0:0 z"],
        ),
        ("COPY --parents d/./sub/z /o/", &["o/ 755 0:0", "o/sub/ 700 0:0", "o/sub/z 600 0:0 z"]),
        (
            "COPY --parents ./d/./sub /o/",
            &["o/ 755 0:0", "o/sub/ 700 0:0", "o/sub/y.txt 644 0:0 y", "o/sub/z 600 0:0 z"],
        ),
        (
            "COPY --parents **/*.txt /o/",
            &[
                "o/ 755 0:0",
                "o/b.txt 644 0:0 bb",
                "o/d/ 755 0:0",
                "o/d/sub/ 700 0:0",
                "o/d/sub/y.txt 644 0:0 y",
                "o/x1.txt 644 0:0 glob",
            ],
        ),
        (
            "COPY --parents --chown=9:9 d/*/z /o/",
            &["o/ 755 9:9", "o/d/ 755 9:9", "o/d/sub/ 700 9:9", "o/d/sub/z 600 9:9 z"],
        ),
        ("COPY --parents d/nope /o/", &["error: `/d/nope` not found in the build context"]),
        (
            "COPY --exclude=sub/z d /o",
            &["o/ 755 0:0", "o/sub/ 700 0:0", "o/sub/y.txt 644 0:0 y", "o/x 644 0:0 x"],
        ),
        ("COPY --exclude=sub d /o", &["o/ 755 0:0", "o/x 644 0:0 x"]),
        (
            "COPY --exclude=sub --exclude=!sub/z d /o",
            &["o/ 755 0:0", "o/sub/ 700 0:0", "o/sub/z 600 0:0 z", "o/x 644 0:0 x"],
        ),
        ("COPY --exclude=*.txt *.txt /o/", &["o/ 755 0:0", "o/b.txt 644 0:0 bb", "o/x1.txt 644 0:0 glob"]),
        ("COPY --exclude=a[ a /o/", &["error: syntax error in pattern `a[` of --exclude"]),
    ]);
}

#[test]
fn what_is_in_the_way() {
    check(&[
        ("COPY d /file", &["error: cannot copy a directory onto `/file`: it is a file, not a directory"]),
        (
            "COPY a /etc/passwd/x",
            &["error: cannot make the directory `/etc/passwd`: `/etc/passwd` is not a directory"],
        ),
        ("COPY nope /x", &["error: `/nope` not found in the build context"]),
        (
            "COPY ../Dockerfile /x",
            &[
                "error: `/Dockerfile` not found in the build context: `../Dockerfile` is forbidden, it leads outside",
            ],
        ),
        ("COPY a[ /x", &["error: syntax error in pattern `a[`"]),
    ]);
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), &["n/sub=file", "m/alias/in=in"]);
    let parent = image(&["t/", "t/sub/", "t/sub/in=x", "alias->t"]);
    for (instruction, expected) in [
        ("COPY n /t", "error: cannot replace the directory `/t/sub` with a file"),
        ("COPY m /", "error: cannot copy a directory onto `/alias`: it is a symlink, not a directory"),
    ] {
        assert_eq!(listing(&run(instruction, &context(dir.path()), &parent)), [expected]);
    }
}

#[test]
fn a_missing_source_says_why_and_what_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), &["a.txt=", "src/main.rs=", "package.json=", ".dockerignore=# x\na.txt\n"]);
    let parent = FileTree::empty();
    let error = |text| run(text, &context(dir.path()), &parent).unwrap_err();
    let ignored = error("COPY a.txt /");
    assert_eq!(
        ignored.to_string(),
        "`/a.txt` not found in the build context: excluded by .dockerignore line 2: `a.txt`"
    );
    assert_eq!(ignored.help(), ["add the line `!a.txt` below it in .dockerignore to keep the file"]);
    assert_eq!(error("COPY pakage.json /").help(), ["did you mean `package.json`?"]);
    assert_eq!(error("COPY src/mian.rs /").help(), ["did you mean `src/main.rs`?"]);
}

#[test]
fn files_of_an_image() {
    let source = image(&[
        "o@2750:7:8/",
        "o/x@4755:7:8=x",
        "o/l->/no/where",
        "o/h@4755:7:8=>o/x",
        "up->../../o",
        "top=t",
    ]);
    for (instruction, expected) in [
        ("COPY o /o", vec!["o/ 755 0:0", "o/h 4755 7:8 x", "o/l -> /no/where 0:0", "o/x => o/h"]),
        ("COPY up/x /new/", vec!["new/ 755 0:0", "new/x 4755 7:8 x"]),
        ("COPY --chown=1 o/x /x", vec!["x 4755 1:1 x"]),
        ("COPY /top /", vec!["top 644 0:0 t"]),
        ("COPY none /x", vec!["error: `/none` not found in the files of the stage or image"]),
    ] {
        assert_eq!(listing(&run(instruction, &source, &FileTree::empty())), expected, "{instruction}");
    }
}

#[test]
fn hard_links_survive_the_loss_of_their_first_name() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), &["d/h1=h", "d/h2=>d/h1", "d/h3=>d/h1", "e/h1=new"]);
    let outcome = run("COPY d e /o/", &context(dir.path()), &FileTree::empty());
    let expected = ["o/ 755 0:0", "o/h1 644 0:0 new", "o/h2 644 0:0 h", "o/h3 => o/h2"];
    assert_eq!(listing(&outcome), expected);
}

#[test]
fn times() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), &["d/sub/", "d/x=x"]);
    folder(dir.path(), &["e/old/a/x=x", "e/new/y=y"]);
    let late = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(2000);
    std::fs::File::open(dir.path().join("e/new/y")).unwrap().set_modified(late).unwrap();
    let mtimes = |instruction: &str, parent: &FileTree| {
        let outcome = run(instruction, &context(dir.path()), parent).unwrap();
        let times: Vec<_> = outcome.entries.iter().map(|entry| entry.mtime).collect();
        (outcome.time, times)
    };
    let empty = FileTree::empty();
    assert_eq!(mtimes("COPY d /o", &empty), (1000, vec![1000, 1000, 1000]));
    assert_eq!(mtimes("COPY --epoch=9 d /o", &empty), (9, vec![9, 9, 1000]));
    assert_eq!(mtimes("COPY <<f /o/", &empty), (700, vec![700, 700]));
    assert_eq!(mtimes("COPY d/sub /o/", &empty), (700, vec![700]));
    // /o, new, new/y, old, old/a, old/a/x
    assert_eq!(mtimes("COPY e /o", &empty), (2000, vec![2000, 2000, 2000, 1000, 1000, 1000]));
    assert_eq!(mtimes("COPY e/old /p/q", &empty), (1000, vec![1000, 1000, 1000, 1000]));
}

#[test]
fn workdir_makes_what_is_missing() {
    let parent = image(PARENT);
    let accounts = |file: &str| Ok((file == "etc/passwd").then(|| b"app:x:1000:1000:::\n".to_vec()));
    for (path, user, expected) in [
        ("/a/b", "", vec!["a/ 755 0:0", "a/b/ 755 0:0"]),
        ("/tmp/deep/er", "app", vec!["tmp/deep/ 755 1000:1000", "tmp/deep/er/ 755 1000:1000"]),
        ("/num", "77:88", vec!["num/ 755 77:88"]),
        ("/tmp", "app", vec![]),
        ("/alias/x", "", vec!["real/x/ 755 0:0"]),
        ("/file/x", "", vec!["error: cannot make the directory `/file/x`: `/file` is not a directory"]),
    ] {
        let op = crate::plan::graph::WorkdirOp { path: path.to_owned(), user: user.to_owned(), epoch: None };
        let outcome = crate::copy_files::workdir::workdir(&op, &parent, &accounts, 700);
        assert_eq!(listing(&outcome), expected, "{path}");
    }
}
