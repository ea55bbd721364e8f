//! What a git repository may reach of this machine, and which repositories can be read.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::http::{Received, Reply, Server};

/// Repositories, a server for them, and a store.
struct Bench {
    dir: tempfile::TempDir,
}

/// How the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// By `git http-backend`.
    Smart,
    /// With plain files.
    Plain,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        for folder in ["served", "local", "home"] {
            fs::create_dir(bench.path(folder)).unwrap();
        }
        bench
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Runs a script with git as its author, where `$top` is the bench; what it prints.
    fn script(&self, script: &str) -> String {
        let mut command = Command::new("sh");
        command.args(["-euc", script]).current_dir(self.dir.path()).env("top", self.dir.path());
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "t").env(format!("GIT_{who}_EMAIL"), "t@example.com");
            command.env(format!("GIT_{who}_DATE"), "1500000000 +0000");
        }
        command.env("GIT_CONFIG_GLOBAL", "/dev/null");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A repository below `served`, or another folder, with a file and a Dockerfile that copies all; its commit.
    fn repository(&self, path: &str, text: &str, options: &str) -> String {
        self.script(&format!(
            "git init -q -b main {options} {path}; cd {path}; echo {text} > f; mkdir d; \
             printf 'FROM scratch\\nCOPY . /\\n' > Dockerfile; git add -A; git commit -qm one; \
             git update-server-info; git rev-parse HEAD"
        ))
    }

    /// Adds a submodule to a repository: name, path and lines of `.gitmodules`.
    fn submodule(&self, path: &str, commit: &str, name: &str, lines: &str) {
        fs::write(
            self.path(path).join(".gitmodules"),
            format!("[submodule {name:?}]\n\tpath = sub\n{lines}\n"),
        )
        .unwrap();
        self.script(&format!(
            "cd {path}; git add .gitmodules; git update-index --add --cacheinfo 160000,{commit},sub; \
             git commit -qm sub; git update-server-info"
        ));
    }

    fn server(&self, kind: Kind) -> Server {
        let root = self.path("served");
        Server::start(move |request| match kind {
            Kind::Smart => smart(&root, request),
            Kind::Plain => {
                let path = request.path.split('?').next().unwrap().trim_start_matches('/').to_owned();
                fs::read(root.join(&path))
                    .map_or_else(|_| Reply::new(404, ""), |bytes| Reply::new(200, bytes))
            }
        })
    }

    /// rbuild with a configuration of the user's in `home/config`, and these variables.
    fn run(&self, arguments: &[&str], env: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
        command.current_dir(self.dir.path()).arg("--root").arg(self.path("store")).args(arguments);
        command.env("GIT_CONFIG_GLOBAL", self.path("home/config")).env("GIT_CONFIG_NOSYSTEM", "1");
        command.env_remove("SOURCE_DATE_EPOCH").envs(env.iter().copied()).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Builds to a folder; the text of its files, sorted, without the Dockerfile and git's own.
    fn files(&self, arguments: &[&str], env: &[(&str, &str)]) -> Vec<String> {
        let output = self.run(&[&["--progress=quiet", "-o", "out"], arguments].concat(), env);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let out = self.path("out");
        let files = self.script(
            "cd out; find . ! -type d ! -name .git ! -path '*/.git/*' ! -name .gitmodules ! -name .gitattributes ! -name Dockerfile \
             | LC_ALL=C sort",
        );
        let line = |name: &str| match fs::read_link(out.join(name)) {
            Ok(to) => format!("{name} -> {}", to.display()),
            Err(_) => format!("{name} {:?}", fs::read_to_string(out.join(name)).unwrap()),
        };
        let lines = files.lines().map(line).collect();
        fs::remove_dir_all(&out).unwrap();
        lines
    }

    /// Builds, which fails; what it says.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(&[&["--progress=plain", "-o", "out"], arguments].concat(), &[]);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(!self.path("out").exists(), "{said}");
        said
    }
}

/// A request answered by git's own server program.
fn smart(root: &Path, request: &Received) -> Reply {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let mut command = Command::new("git");
    command.arg("http-backend").env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1");
    command.env("PATH_INFO", path).env("QUERY_STRING", query).env("REQUEST_METHOD", &request.method);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null");
    for (variable, header) in [
        ("CONTENT_TYPE", "content-type"),
        ("HTTP_CONTENT_ENCODING", "content-encoding"),
        ("GIT_PROTOCOL", "git-protocol"),
    ] {
        command.env(variable, request.header(header).unwrap_or_default());
    }
    command.env("CONTENT_LENGTH", request.body.len().to_string());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(&request.body);
    let output = child.wait_with_output().unwrap().stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0);
    let mut reply = Reply::new(200, output.get(end + 4..).unwrap_or_default());
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        match line.split_once(": ") {
            Some(("Status", status)) => reply.status = status[..3].parse().unwrap(),
            Some((name, value)) => reply = reply.header(name, value),
            None => {}
        }
    }
    reply
}

#[test]
fn a_server_reaches_nothing_of_this_machine_through_submodules() {
    let bench = Bench::new();
    let secret = bench.repository("local/secret", "top-secret", "");
    let local = bench.path("local/secret").display().to_string();
    let marker = bench.path("marker");
    let touch = format!("touch {}", marker.display());
    let server = bench.server(Kind::Smart);
    let up = "../".repeat(12);
    let cases = [
        ("m", format!("\turl = {local}"), "is a path of this machine"),
        ("m", format!("\turl = file://{local}"), "is a path of this machine"),
        ("m", format!("\turl = FILE://{local}"), "is a path of this machine"),
        ("m", format!("\turl = file::{local}"), "a program as transport"),
        ("m", format!("\turl = \"ext::sh -c {touch}\""), "a program as transport"),
        ("m", format!("\turl = ../{up}{local}"), "submodule"),
        ("m", format!("\turl = \"-u{touch}\""), "submodule"),
        ("m", format!("\turl = \"--upload-pack={touch}\""), "submodule"),
        ("m", format!("\turl = \"http://{}/r\\nx\"", server.host()), "submodule"),
        ("../../../x", format!("\turl = {local}"), "submodule"),
        ("m", format!("\turl = http://{}/sub\n\tupdate = \"!{touch}\"", server.host()), "submodule"),
    ];
    for (at, (name, lines, expected)) in cases.iter().enumerate() {
        let path = format!("served/r{at}.git");
        bench.repository(&path, "x", "");
        bench.submodule(&path, &secret, name, lines);
        let url = format!("http://{}/r{at}.git/.git", server.host());
        let said = bench.fails(&[&url]);
        assert!(said.contains(expected), "{lines}: {said}");
        assert!(!said.contains("top-secret"), "{said}");
        assert!(!marker.exists(), "{lines}");
    }
    // The same through ADD, which can leave them out.
    fs::write(
        bench.path("Dockerfile"),
        format!("FROM scratch\nADD http://{}/r0.git/.git /\n", server.host()),
    )
    .unwrap();
    let said = bench.fails(&["."]);
    assert!(said.contains("the submodule `m` is refused") && said.contains("?submodules=false"), "{said}");
    let url = format!("http://{}/r0.git/.git?submodules=false", server.host());
    assert_eq!(bench.files(&[&url], &[]), ["./f \"x\\n\""]);
}

#[test]
fn a_submodule_of_a_submodule_is_judged_by_where_its_own_repository_is() {
    let bench = Bench::new();
    let server = bench.server(Kind::Smart);
    let secret = bench.repository("local/secret", "top-secret", "");
    let local = format!("\turl = {}", bench.path("local/secret").display());
    bench.repository("served/middle.git", "middle", "");
    bench.submodule("served/middle.git", &secret, "m", &local);
    let middle = bench.script("git -C served/middle.git rev-parse HEAD");
    // This one is here, and may name what is here; what it takes from a server may not.
    bench.repository("local/top.git", "top", "");
    bench.submodule(
        "local/top.git",
        &middle,
        "m",
        &format!("\turl = http://{}/middle.git/.git", server.host()),
    );
    bench.repository("local/fine.git", "fine", "");
    bench.submodule("local/fine.git", &secret, "m", &local);
    let config =
        format!("[url \"file://{}/\"]\n\tinsteadOf = git@localhost:\n", bench.path("local").display());
    fs::write(bench.path("home/config"), config).unwrap();
    let said = bench.fails(&["git@localhost:top.git"]);
    assert!(said.contains("is a path of this machine"), "{said}");
    let files = bench.files(&["git@localhost:fine.git"], &[]);
    assert_eq!(files, ["./f \"fine\\n\"", "./sub/f \"top-secret\\n\""]);
}

#[test]
fn settings_of_this_machine_change_no_byte_and_run_nothing() {
    let bench = Bench::new();
    let server = bench.server(Kind::Smart);
    let sub = bench.script(
        "git init -q -b main served/sub.git; cd served/sub.git; printf 'a\\nb\\n' > f; ln -s f l; \
         echo '* filter=x text=auto' > .gitattributes; git add -A; git commit -qm one; git rev-parse HEAD",
    );
    bench.script(
        "git clone -q served/sub.git served/r.git; cd served/r.git; printf 'FROM scratch\\nCOPY . /\\n' > Dockerfile; \
         mkdir .githooks; printf '[core]\\n\\thooksPath = .githooks\\n\\tfsmonitor = touch $top/marker\\n' > .gitconfig; \
         git add -A; git commit -qm two",
    );
    bench.submodule("served/r.git", &sub, "m", "\turl = ../../sub.git/.git");
    bench.script(
        "for hooks in hooks template/hooks; do mkdir -p $hooks; for hook in post-checkout reference-transaction; do \
         printf \"#!/bin/sh\\ntouch $top/marker\\n\" > $hooks/$hook; chmod 755 $hooks/$hook; done; done",
    );
    let top = bench.dir.path().display().to_string();
    let touch = format!("touch {top}/marker; cat");
    fs::write(
        bench.path("home/config"),
        format!(
            "[core]\n\thooksPath = {top}/hooks\n\tfsmonitor = {top}/hooks/post-checkout\n\tautocrlf = true\n\tsymlinks = false\n\
             \teol = crlf\n\tattributesFile = {top}/home/attributes\n[init]\n\ttemplateDir = {top}/template\n\tdefaultObjectFormat = sha256\n\
             [filter \"x\"]\n\tsmudge = \"{touch}\"\n\tclean = \"{touch}\"\n\trequired = true\n\
             [filter \"y.z\"]\n\tprocess = \"{touch}\"\n\trequired = true\n\
             [log]\n\tshowSignature = true\n[submodule]\n\trecurse = true\n[safe]\n\tbareRepository = explicit\n"
        ),
    )
    .unwrap();
    fs::write(bench.path("home/attributes"), "f filter=y.z\n").unwrap();
    let url = format!("http://{}/r.git/.git", server.host());
    let gone = bench.path("gone").display().to_string();
    // As a hook of git has them, and worse.
    let variables = [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_TEMPLATE_DIR",
        "GIT_SHALLOW_FILE",
        "GIT_NAMESPACE",
        "GIT_DEFAULT_HASH",
        "GIT_ATTR_SOURCE",
        "LANGUAGE",
    ];
    let env: Vec<(&str, &str)> = variables.iter().map(|name| (*name, gone.as_str())).collect();
    let found = bench.files(&[&url], &env);
    let config = "./.gitconfig \"[core]\\n\\thooksPath = .githooks\\n\\tfsmonitor = touch ";
    assert!(found[0].starts_with(config), "{found:?}");
    assert_eq!(
        found[1..],
        ["./f \"a\\nb\\n\"", "./l -> f", "./sub/f \"a\\nb\\n\"", "./sub/l -> f"].map(str::to_owned)
    );
    assert!(!bench.path("marker").exists());
}

#[test]
fn repositories_of_both_hashes_on_every_server() {
    for options in ["", "--object-format=sha256"] {
        let bench = Bench::new();
        let inner = bench.repository("served/inner.git", "inner", options);
        bench.repository("served/sub.git", "sub", options);
        bench.submodule("served/sub.git", &inner, "i", "\turl = ../../inner.git/.git");
        let sub = bench.script("git -C served/sub.git rev-parse HEAD");
        bench.repository("served/r.git", "top", options);
        bench.submodule("served/r.git", &sub, "m", "\turl = ../../sub.git/.git");
        let commit = bench.script("git -C served/r.git rev-parse HEAD");
        let config = format!("[url \"{}/\"]\n\tinsteadOf = git@localhost:\n", bench.path("served").display());
        fs::write(bench.path("home/config"), config).unwrap();
        let servers = [bench.server(Kind::Smart), bench.server(Kind::Plain)];
        let mut urls =
            servers.each_ref().map(|server| format!("http://{}/r.git/.git", server.host())).to_vec();
        urls.push("git@localhost:r.git/.git".to_owned());
        let expected = ["./f \"top\\n\"", "./sub/f \"sub\\n\"", "./sub/sub/f \"inner\\n\""];
        for url in urls {
            // A single commit is what servers of plain files have no word for.
            let is_plain = url.contains(&servers[1].host());
            for suffix in [String::new(), format!("#{commit}")].iter().take(1 + usize::from(is_plain)) {
                let files = bench.files(&[&format!("{url}{suffix}")], &[]);
                assert_eq!(files, expected, "{options} {url}{suffix}");
                // Nothing is remembered for the next.
                fs::remove_dir_all(bench.path("store")).unwrap();
            }
        }
        let add =
            format!("FROM scratch\nADD --checksum={commit} http://{}/r.git/.git /\n", servers[1].host());
        fs::write(bench.path("Dockerfile"), add).unwrap();
        assert_eq!(bench.files(&["."], &[]), expected, "{options}");
    }
}

#[test]
fn what_a_checksum_expects_is_no_part_of_the_key() {
    let bench = Bench::new();
    let commit = bench.repository("served/r.git", "top", "");
    bench.script("cd served/r.git; git tag v1; ln -s / out; ln -s .. up; git add -A; git commit -qm links");
    let server = bench.server(Kind::Smart);
    let url = format!("http://{}/r.git/.git", server.host());
    let build = |flag: &str| {
        fs::write(bench.path("Dockerfile"), format!("FROM scratch\nADD {flag} {url}#v1 /\n")).unwrap();
        let output = bench.run(&["--progress=plain", "."], &[]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = build("");
    assert!(code == Some(0) && !said.contains("#2 CACHED"), "{said}");
    for flag in [format!("--checksum={commit}"), format!("--checksum={}", commit[..9].to_uppercase())] {
        let (code, said) = build(&flag);
        assert!(code == Some(0) && said.contains("#2 CACHED"), "{said}");
    }
    let (code, said) = build("--checksum=0123456");
    assert!(code == Some(1) && said.contains("expected checksum"), "{said}");
    // A folder is one of the checkout, whatever links say.
    for link in ["out", "up", "out/etc"] {
        let said = bench.fails(&[&format!("{url}#:{link}")]);
        assert!(said.contains(&format!("has no directory `{link}`")), "{said}");
    }
}
