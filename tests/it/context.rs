//! Contexts that are no folder, named contexts, and images of the store under a name.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::http::{Ending, Reply, Server};
use crate::support::program::World;

/// A folder with a store in it; rbuild runs there.
struct Bench {
    dir: tempfile::TempDir,
}

/// What rbuild did.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self
    }

    /// It failed with this message, and did not say anything about bugs.
    fn failed(self, message: &str) -> Self {
        assert!([1, 2, 75].contains(&self.code), "{}: {}", self.code, self.stderr);
        assert!(self.stderr.contains(message), "{message:?} is not in\n{}", self.stderr);
        assert!(!self.stderr.contains("bug"), "{}", self.stderr);
        self
    }
}

impl Bench {
    fn new(files: &[(&str, &str)]) -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        for (path, text) in files {
            let path = bench.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        bench
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, b"", &[])
    }

    fn run_with(&self, arguments: &[&str], stdin: &[u8], env: &[(&str, &str)]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
        command.current_dir(self.dir.path()).arg("--root").arg(self.path("store")).args(arguments);
        command.env_remove("SOURCE_DATE_EPOCH").envs(env.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // rbuild may well end before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Builds, and lists the files of the result: `/a 0644 0:0 mtime "text"`.
    fn files(&self, arguments: &[&str], stdin: &[u8]) -> Vec<String> {
        let file = self.path("out.tar");
        // With their own times, whatever SOURCE_DATE_EPOCH says.
        let output = format!("type=tar,dest={},source-date-epoch=", file.display());
        let arguments = [&["--progress=quiet", "-o", &output], arguments].concat();
        self.run_with(&arguments, stdin, &[]).ok();
        listing(&file)
    }
}

fn listing(tar: &Path) -> Vec<String> {
    use std::io::Read as _;
    let mut archive = tar::Archive::new(fs::File::open(tar).unwrap());
    let mut lines = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        let header = entry.header();
        let (mode, uid, gid) = (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
        let (mtime, is_file) = (header.mtime().unwrap(), header.entry_type().is_file());
        let path = entry.path().unwrap().display().to_string();
        if is_file {
            entry.read_to_end(&mut bytes).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            lines.push(format!("/{path} {mode:04o} {uid}:{gid} {mtime} {text:?}"));
        }
    }
    lines
}

/// A tar of these files: name, text, owner.
fn tar_of(files: &[(&str, &str, u64)]) -> Vec<u8> {
    let files: Vec<_> =
        files.iter().map(|(path, text, owner)| (*path, *text, *owner, 1_500_000_000)).collect();
    dated_tar(&files)
}

/// A tar of these files: name, text, owner, time.
fn dated_tar(files: &[(&str, &str, u64, u64)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, text, owner, time) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o640);
        header.set_uid(*owner);
        header.set_gid(*owner);
        header.set_mtime(*time);
        builder.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A tar with one entry of that type whose name nobody cleaned.
fn raw_tar(name: &[u8], kind: tar::EntryType, link: &[u8], data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
    header.set_entry_type(kind);
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn git(folder: &Path, script: &str) {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(folder);
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "t").env(format!("GIT_{who}_EMAIL"), "t@example.com");
        command.env(format!("GIT_{who}_DATE"), "1500000000 +0000");
    }
    assert!(command.status().unwrap().success());
}

const COPY_ALL: &str = "FROM scratch\nCOPY . /\n";

#[test]
fn a_tar_on_standard_input_in_every_compression() {
    let bench = Bench::new(&[]);
    let tar = tar_of(&[("./Dockerfile", "FROM scratch\nCOPY sub/ /\n", 0), ("./sub/a", "one\n", 7)]);
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&tar).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&tar).unwrap();
    let packed = [
        tar.clone(),
        gzip(&tar),
        bzip2.finish().unwrap(),
        xz.finish().unwrap(),
        zstd::encode_all(&tar[..], 1).unwrap(),
    ];
    for bytes in packed {
        // The owner is that of the archive, as with BuildKit.
        assert_eq!(bench.files(&["-"], &bytes), ["/a 0640 7:7 1500000000 \"one\\n\""]);
    }
}

#[test]
fn an_unchanged_archive_is_all_cached() {
    let bench = Bench::new(&[]);
    let tar = gzip(&tar_of(&[("Dockerfile", COPY_ALL, 0), ("a", "1", 0)]));
    assert!(bench.run_with(&["-"], &tar, &[]).ok().stderr.contains("1 step ran"));
    assert!(bench.run_with(&["-"], &tar, &[]).ok().stderr.contains("all from the cache"));
}

#[test]
fn the_dockerfile_of_an_archive_may_be_anywhere() {
    let bench = Bench::new(&[("local", "FROM scratch\nCOPY a /from-local\n")]);
    let tar = tar_of(&[
        ("sub/other", "FROM scratch\nCOPY a /from-other\n", 0),
        ("dockerfile", "FROM scratch\nCOPY a /from-lower-case\n", 0),
        ("a", "1", 0),
    ]);
    assert_eq!(bench.files(&["-"], &tar), ["/from-lower-case 0640 0:0 1500000000 \"1\""]);
    assert_eq!(bench.files(&["-f", "sub/other", "-"], &tar), ["/from-other 0640 0:0 1500000000 \"1\""]);
    bench
        .run_with(&["-f", "local", "-"], &tar, &[])
        .failed("the context has no Dockerfile `local`")
        .failed("name another file of the context");
    bench.run_with(&["-f", "-", "-"], &tar, &[]).failed("cannot be both");
}

#[test]
fn a_dockerfile_on_standard_input() {
    let bench = Bench::new(&[("a", "1")]);
    assert_eq!(bench.files(&["-"], b"FROM scratch\nCOPY <<x /\ny\nx\n"), ["/x 0644 0:0 0 \"y\\n\""]);
    bench.run_with(&["-"], b"FROM scratch\nCOPY a /\n", &[]).failed("`/a` not found");
    assert_eq!(bench.files(&["-f", "-", "."], b"FROM scratch\nCOPY a /b\n").len(), 1);
    bench.run_with(&["-f", "x", "-"], b"FROM scratch\n", &[]).failed("two Dockerfiles");
    bench.run_with(&["-"], b"", &[]).failed("standard input is empty");
}

#[test]
fn hostile_archives_stay_inside() {
    use tar::EntryType as Type;
    let bench = Bench::new(&[("secret", "host")]);
    let dockerfile = tar_of(&[("Dockerfile", COPY_ALL, 0)]);
    let dockerfile = &dockerfile[..dockerfile.len() - 1024];
    let with = |entries: &[Vec<u8>]| [dockerfile, &entries.concat(), &[0; 1024]].concat();
    // Names that lead out are cut at the root, as docker cuts them.
    let up =
        with(&[raw_tar(b"../../up", Type::Regular, b"", b"x"), raw_tar(b"/abs", Type::Regular, b"", b"y")]);
    let names: Vec<String> = bench.files(&["-"], &up);
    assert!(names.iter().any(|l| l.starts_with("/up ")) && names.iter().any(|l| l.starts_with("/abs ")));
    assert!(!bench.path("up").exists() && !Path::new("/abs").exists());
    // A file through a symlink that leads to the host lands inside.
    let outside = bench.dir.path().to_str().unwrap().to_owned();
    let through = with(&[
        raw_tar(b"link", Type::Symlink, outside.as_bytes(), b""),
        raw_tar(b"link/planted", Type::Regular, b"", b"x"),
    ]);
    let lines = bench.files(&["-"], &through);
    assert!(lines.iter().any(|line| line.starts_with(&format!("{outside}/planted "))), "{lines:?}");
    assert!(!bench.path("planted").exists());
    let dockerfile_link =
        [raw_tar(b"Dockerfile", Type::Symlink, format!("{outside}/secret").as_bytes(), b""), vec![0; 1024]]
            .concat();
    bench.run_with(&["-"], &dockerfile_link, &[]).failed("no Dockerfile");
    let hard = with(&[raw_tar(b"h", Type::Link, b"../../../../etc/passwd", b"")]);
    bench.run_with(&["-"], &hard, &[]).failed("hard link").failed("the context is standard input");
    let sparse = with(&[raw_tar(b"s", Type::GNUSparse, b"", b"")]);
    bench.run_with(&["-"], &sparse, &[]).failed("sparse");
}

#[test]
fn broken_archives_say_where() {
    let bench = Bench::new(&[]);
    let noise: String = (0..40_000_u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
    let tar = tar_of(&[("Dockerfile", COPY_ALL, 0), ("a", &noise, 0)]);
    let packed = gzip(&tar);
    bench.run_with(&["-"], &packed[..packed.len() / 2], &[]).failed("cannot read the archive at byte");
    bench.run_with(&["-"], &tar[..tar.len() / 2], &[]).failed("the archive ends within an entry");
    let mut corrupt = packed.clone();
    corrupt[packed.len() / 2..][..64].fill(0x55);
    bench.run_with(&["-"], &corrupt, &[]).failed("cannot unpack");
    bench.run_with(&["-"], &gzip(b"FROM scratch\n"), &[]).failed("there is no tar archive in it");
    // Nothing of all that was kept.
    assert_eq!(bench.run(&["images", "-q"]).ok().stdout, "");
    assert_eq!(fs::read_dir(bench.path("store/rbuild/tmp")).map_or(0, Iterator::count), 0);
}

#[test]
fn urls_of_archives_and_dockerfiles() {
    let bench = Bench::new(&[("a", "local")]);
    let tar = gzip(&tar_of(&[("d/Dockerfile", "FROM scratch\nCOPY a /\n", 0), ("a", "remote", 0)]));
    let server = Server::start(move |request| match request.path.as_str() {
        "/ctx" => Reply::new(200, tar.clone()),
        "/Dockerfile" => Reply::new(200, "FROM scratch\nCOPY context /d\n"),
        "/copies-a" => Reply::new(200, "FROM scratch\nCOPY a /\n"),
        "/packed" => Reply::new(200, gzip(b"FROM scratch\n")),
        "/half" => Reply::new(200, tar.clone()).ending(Ending::CutAfter(20)),
        _ => Reply::new(404, ""),
    });
    let url = |path: &str| format!("http://{}{path}", server.host());
    let remote = ["/a 0640 0:0 1500000000 \"remote\""];
    assert_eq!(bench.files(&["-f", "d/Dockerfile", &url("/ctx")], b""), remote);
    assert_eq!(bench.files(&["-f", "-", &url("/ctx")], b"FROM scratch\nCOPY a /\n"), remote);
    assert!(bench.files(&[&url("/Dockerfile")], b"")[0].starts_with("/d "));
    assert!(bench.files(&["-f", &url("/copies-a"), "."], b"")[0].contains("local"));
    bench.run(&[&url("/ctx")]).failed("the context has no Dockerfile `Dockerfile`");
    bench.run(&[&url("/nothing")]).failed("invalid response status 404").failed("spelling");
    bench.run(&[&url("/packed")]).failed("no tar archive");
    bench.run(&[&url("/half")]).failed("the connection was closed after 20 bytes");
    bench.run(&["-f", &url("/nothing"), "."]).failed("no Dockerfile").failed("404");
}

#[test]
fn repositories() {
    let bench = Bench::new(&[]);
    fs::create_dir_all(bench.path("r/sub")).unwrap();
    git(
        &bench.path("r"),
        "git init -q -b main . && echo main > sub/a && printf 'FROM scratch\\nCOPY . /\\n' > sub/Dockerfile && \
         echo '*' > sub/.dockerignore && ln -s /etc/hostname sub/out && git add -A && git commit -qm one && \
         git checkout -q -b topic && echo topic > sub/a && git commit -qam two && git checkout -q main && \
         git clone -q --bare . ../r.git && git --git-dir=../r.git update-server-info",
    );
    let root = bench.path("");
    let server = Server::start(move |request| {
        let path = request.path.split('?').next().unwrap().trim_start_matches('/').to_owned();
        match fs::read(root.join(&path)) {
            Ok(bytes) => Reply::new(200, bytes),
            Err(_) => Reply::new(404, ""),
        }
    });
    let url = |rest: &str| format!("http://{}/r.git{rest}", server.host());
    let a = |text: &str| format!("/a 0644 0:0 1500000000 \"{text}\\n\"");
    for (rest, text) in [("#topic:sub", "topic"), ("#:sub", "main"), ("?ref=topic&subdir=sub", "topic")] {
        let lines = bench.files(&[&url(rest)], b"");
        // Ignore files count in folders only, as with BuildKit.
        assert!(lines.contains(&a(text)), "{rest}: {lines:?}");
    }
    assert_eq!(bench.files(&["-f", "-", &url("#:sub")], b"FROM scratch\nCOPY a /\n"), [a("main")]);
    bench.run(&[&url("#nope:sub")]).failed("couldn't find remote ref").failed("git ls-remote");
    bench.run(&[&url("#main:not/there")]).failed("has no directory `not/there`");
    bench.run(&[&url("#main")]).failed("the context has no Dockerfile");
    bench.run(&["-f", "out", &url("#:sub")]).failed("the context has no Dockerfile `out`");
    bench.run(&[&url("?what=x")]).failed("unexpected query `what`");
    let empty = bench.path("");
    let no_git = bench.run_with(&[&url("#:sub")], b"", &[("PATH", empty.to_str().unwrap())]);
    no_git.failed("cannot run git").failed("install it");
    // A named context.
    fs::write(bench.path("Dockerfile"), "FROM scratch\nCOPY --from=src a /\n").unwrap();
    let named = format!("src={}", url("#topic:sub"));
    assert_eq!(bench.files(&["--build-context", &named, "."], b""), [a("topic")]);
}

#[test]
fn a_secret_logs_in_to_the_server_of_a_repository() {
    let bench = Bench::new(&[("token", "t0ken\n")]);
    fs::create_dir(bench.path("r")).unwrap();
    git(
        &bench.path("r"),
        "git init -q -b main . && echo x > a && printf 'FROM scratch\nCOPY a /\n' > Dockerfile && git add -A && \
         git commit -qm one && git clone -q --bare . ../r.git && git --git-dir=../r.git update-server-info",
    );
    let root = bench.path("");
    let server = Server::start(move |request| {
        // `x-access-token:t0ken`, as BuildKit sends it.
        if request.header("authorization") != Some("basic eC1hY2Nlc3MtdG9rZW46dDBrZW4=") {
            return Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"r\"");
        }
        let path = request.path.split('?').next().unwrap().trim_start_matches('/').to_owned();
        fs::read(root.join(&path)).map_or_else(|_| Reply::new(404, ""), |bytes| Reply::new(200, bytes))
    });
    let url = format!("http://{}/r.git", server.host());
    bench.run(&[&url]).failed("--secret id=GIT_AUTH_TOKEN");
    let secret = format!("id=GIT_AUTH_TOKEN.{},src={}", server.host(), bench.path("token").display());
    assert_eq!(bench.files(&["--secret", &secret, &url], b""), ["/a 0644 0:0 1500000000 \"x\\n\""]);
    // The same for ADD; and in another store, where nothing is fetched already.
    fs::write(bench.path("Dockerfile"), format!("FROM scratch\nADD {url}#main /r/\n")).unwrap();
    fs::remove_dir_all(bench.path("store")).unwrap();
    bench.run(&["."]).failed("--secret id=GIT_AUTH_TOKEN");
    let given = bench.run(&["--secret", &secret, "."]);
    assert_eq!(given.code, 0, "{}", given.stderr);
}

#[test]
fn named_contexts() {
    let bench = Bench::new(&[
        ("Dockerfile", "FROM scratch AS own\nCOPY <<x /\nown\nx\nFROM scratch\nCOPY --from=lib x /\n"),
        ("other/x", "other\n"),
        ("base", "FROM scratch\nCOPY <<x /\nbase\nx\n"),
    ]);
    let lib = |what: &str| {
        let lines = bench.files(&["--build-context", &format!("lib={what}"), "."], b"");
        lines[0].split(' ').next_back().unwrap().to_owned()
    };
    bench.run(&["-f", "base", "-t", "kept:1", "-o", "type=oci,dest=lay,tar=false", "."]).ok();
    assert_eq!(lib("other"), "\"other\\n\"");
    assert_eq!(lib("target:own"), "\"own\\n\"");
    assert_eq!(lib("docker-image://kept:1"), "\"base\\n\"");
    assert_eq!(lib("oci-layout://lay:1"), "\"base\\n\"");
    bench.run(&["--build-context", "lib=oci-layout://lay:2", "."]).failed("does not have `2`");
    bench.run(&["--build-context", "lib=-", "."]).failed("only the main context");
    bench.run(&["--build-context", "lib=not/there", "."]).failed("not/there");
}

#[test]
fn a_named_context_for_one_platform() {
    let bench = Bench::new(&[
        ("Dockerfile", "FROM scratch\nCOPY --from=lib x /\n"),
        ("any/x", "any"),
        ("arm/x", "arm"),
    ]);
    let contexts = ["--build-context", "lib=any", "--build-context", "lib::linux/arm64=arm", "."];
    for (platform, text) in [("linux/amd64", "any"), ("linux/arm64", "arm")] {
        let lines = bench.files(&[&["--platform", platform], &contexts[..]].concat(), b"");
        assert!(lines[0].contains(text), "{lines:?}");
    }
}

#[test]
fn images_of_the_store_by_name() {
    let bench = Bench::new(&[
        ("base", "FROM scratch\nCOPY <<x /\nbase\nx\n"),
        ("Dockerfile", "FROM kept AS a\nFROM scratch AS build\nCOPY --from=kept x /y\n"),
        (
            "wrong",
            "FROM scratch AS build\nCOPY <<x /\ny\nx\nFROM scratch\nCOPY --from=localhost:1/biuld x /y\n",
        ),
        ("near", "FROM scratch AS build\nFROM scratch\nCOPY --from=biuld x /y\n"),
    ]);
    bench.run(&["-f", "base", "-t", "kept", "."]).ok();
    assert!(bench.files(&["."], b"")[0].starts_with("/y "));
    let wrong = bench.run(&["-f", "wrong", "."]).failed("cannot reach `localhost`");
    assert!(!wrong.stderr.contains("did you mean"), "{}", wrong.stderr);
    // The hint does not depend on whether there is a network.
    let env = [("HTTPS_PROXY", "http://127.0.0.1:9"), ("https_proxy", "http://127.0.0.1:9")];
    bench.run_with(&["-f", "near", "."], b"", &env).failed("did you mean `build`, defined on line 1?");
}

#[test]
fn the_epoch_rules_every_time() {
    let bench = Bench::new(&[
        ("Dockerfile", "ARG SOURCE_DATE_EPOCH=1000\nFROM scratch\nCOPY new /\nENV a=b\nWORKDIR /w\n"),
        ("new", "x"),
    ]);
    // One that the Dockerfile sets counts as one of the command line does.
    for (arguments, time) in [
        (&[] as &[&str], "1970-01-01T00:16:40Z"),
        (&["--build-arg", "SOURCE_DATE_EPOCH=60"], "1970-01-01T00:01:00Z"),
    ] {
        bench.run(&[arguments, &["-t", "e", "."]].concat()).ok();
        let inspected = bench
            .run(&[
                "inspect",
                "-f",
                "{{range .ImageConfig.history}}\"created\" {{.created}}\n{{end}}\"created\" {{.Created}}",
                "e",
            ])
            .ok()
            .stdout;
        let times: Vec<&str> = inspected.lines().filter(|line| line.contains("\"created\"")).collect();
        assert!(times.len() == 4 && times.iter().all(|line| line.contains(time)), "{times:?}");
    }
}

#[test]
fn rewritten_times_are_in_other_layers() {
    let bench = Bench::new(&[("Dockerfile", "FROM scratch\nCOPY new old /d/\n"), ("new", "x"), ("old", "y")]);
    fs::File::open(bench.path("new"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(5000))
        .unwrap();
    fs::File::open(bench.path("old"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(10))
        .unwrap();
    let epoch = [("SOURCE_DATE_EPOCH", "1000")];
    let times = |more: &str| {
        let image = format!("type=oci,dest=image.tar{more}");
        let files = format!("type=tar,dest={},source-date-epoch=", bench.path("out.tar").display());
        bench.run_with(&["-o", &image, "-o", &files, "."], b"", &epoch).ok();
        let lines = listing(&bench.path("out.tar"));
        lines.iter().map(|line| line.split(' ').nth(3).unwrap().to_owned()).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        assert_eq!(times(""), ["5000", "10"]);
        assert_eq!(times(",rewrite-timestamp=true"), ["1000", "10"]);
    }
    let no_epoch = bench.run(&["-o", "type=oci,dest=i.tar,rewrite-timestamp=true", "."]).ok();
    assert!(no_epoch.stderr.contains("does nothing without SOURCE_DATE_EPOCH"), "{}", no_epoch.stderr);
}

#[test]
fn rewritten_times_of_commands() {
    let registry = crate::support::base::busybox_registry();
    let base = format!("FROM {}/busybox\n", registry.host());
    let run = "RUN touch -d @5000 /new && touch -d @10 /old\nRUN stat -c %Y /new /old > /seen && touch -d @1 /seen\n";
    let bench = Bench::new(&[("Dockerfile", &(base + run))]);
    let epoch = [("SOURCE_DATE_EPOCH", "1000")];
    let times = |more: &str| {
        let image = format!("type=image{more}");
        let files = format!("type=tar,dest={},source-date-epoch=", bench.path("out.tar").display());
        bench.run_with(&["-o", &image, "-o", &files, "."], b"", &epoch).ok();
        let lines = listing(&bench.path("out.tar"));
        let of = |name: &str| lines.iter().find(|line| line.starts_with(name)).unwrap().clone();
        let time = |name: &str| of(name).split(' ').nth(3).unwrap().to_owned();
        (time("/new "), time("/old "), of("/seen ").split(' ').nth(4).unwrap().to_owned())
    };
    let expected = |new: &str| (new.to_owned(), "10".to_owned(), format!("\"{new}\\n10\\n\""));
    for _ in 0..2 {
        // A later command sees what the layer holds, whether the earlier one just ran or not.
        assert_eq!(times(""), expected("5000"));
        assert_eq!(times(",rewrite-timestamp=true"), expected("1000"));
    }
}

#[test]
fn compressions_are_in_other_layers() {
    let bench = Bench::new(&[("Dockerfile", "FROM scratch\nCOPY a /\n"), ("a", "x")]);
    let media_type = |keys: &str| {
        bench.run(&["-t", "c", "-o", &format!("type=image{keys}"), "."]).ok();
        let text = bench.run(&["inspect", "c"]).ok().stdout;
        let at = text.find("application/vnd.oci.image.layer").unwrap();
        text[at..].split('"').next().unwrap().to_owned()
    };
    for _ in 0..2 {
        assert_eq!(media_type(""), "application/vnd.oci.image.layer.v1.tar+gzip");
        assert_eq!(media_type(",compression=zstd"), "application/vnd.oci.image.layer.v1.tar+zstd");
        assert_eq!(media_type(",compression=estargz"), "application/vnd.oci.image.layer.v1.tar+gzip");
        assert_eq!(media_type(",compression=uncompressed"), "application/vnd.oci.image.layer.v1.tar");
    }
    // What the build makes itself has the form already.
    let forced = media_type(",compression=zstd,force-compression=true");
    assert_eq!(forced, "application/vnd.oci.image.layer.v1.tar+zstd");
    for other in ["zstd", "estargz"] {
        let other = format!("type=oci,dest=a,compression={other}");
        let two = ["-o", &other, "-o", "type=oci,dest=b,compression=gzip", "."];
        bench.run(&two).failed("different compressions");
    }
}

#[test]
fn the_context_command_says_what_decided() {
    let bench = Bench::new(&[
        (".dockerignore", "node_modules\n*/*.log\n!logs/keep.log\n"),
        ("Dockerfile", "FROM scratch\n"),
        ("src/big", &"x".repeat(3000)),
        ("node_modules/m", "m"),
        ("logs/x.log", "x"),
        ("logs/keep.log", "k"),
    ]);
    assert_eq!(
        bench.run(&["context"]).ok().stdout,
        "\
SIZE    PATH           RULE
3.0 kB  src/big
36 B    .dockerignore
13 B    Dockerfile
1 B     logs/keep.log  .dockerignore line 3: `!logs/keep.log`
3.0 kB in 4 files and 2 directories

LEFT OUT       RULE
logs/x.log     .dockerignore line 2: `*/*.log`
node_modules/  .dockerignore line 1: `node_modules`
"
    );
    for (path, answer) in [
        ("src/big", "`src/big` is in the context; no line of .dockerignore matches it\n"),
        ("node_modules/m", "`node_modules/m` is left out; .dockerignore line 1: `node_modules`\n"),
        ("logs/keep.log", "`logs/keep.log` is in the context; .dockerignore line 3: `!logs/keep.log`\n"),
        ("a/b.log", "`a/b.log` is not there, and would be left out; .dockerignore line 2: `*/*.log`\n"),
    ] {
        assert_eq!(bench.run(&["context", "--why", path, "."]).ok().stdout, answer);
    }
    bench.run(&["context", "-"]).failed("only folders can be listed");
    bench.run(&["context", "nowhere"]).failed("cannot open the context `nowhere`");
}

#[test]
fn links_out_of_the_context_are_refused() {
    let world = World::new();
    let secret = world.path().join("secret");
    std::fs::write(&secret, "TOP SECRET\n").unwrap();
    let context = world.context();
    std::fs::create_dir_all(&context).unwrap();
    let dockerfile = context.join("Dockerfile");
    let refused = |told: &str| {
        let ran = world.build([""; 0]).any_status().run();
        assert_eq!(ran.status, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
        assert!(!ran.stderr.contains("TOP"), "{}", ran.stderr);
    };
    for target in ["../secret", secret.to_str().unwrap()] {
        std::os::unix::fs::symlink(target, &dockerfile).unwrap();
        refused(&format!("`Dockerfile` is a link that leads out of the context, to `{target}`"));
        std::fs::remove_file(&dockerfile).unwrap();
    }
    std::os::unix::fs::symlink("gone", &dockerfile).unwrap();
    refused("`Dockerfile` is a link to `gone`, which is not there");
    std::fs::remove_file(&dockerfile).unwrap();
    // Within the context it is followed, and anywhere when it is named.
    world.file("real", "FROM scratch\nCOPY real /\n");
    std::os::unix::fs::symlink("real", &dockerfile).unwrap();
    world.build([""; 0]).run();
    std::fs::write(&secret, "FROM scratch\nCOPY real /\n").unwrap();
    std::os::unix::fs::symlink("../secret", context.join("elsewhere")).unwrap();
    world.build(["-f".as_ref(), context.join("elsewhere").as_os_str()]).run();
    for name in [".dockerignore", "Dockerfile.dockerignore"] {
        std::fs::write(&secret, "TOP SECRET[\n").unwrap();
        std::os::unix::fs::symlink("../secret", context.join(name)).unwrap();
        refused(&format!("{name}` is a link that leads out of the context"));
        std::fs::remove_file(context.join(name)).unwrap();
    }
}

#[test]
fn a_named_context_may_be_nothing() {
    let world = World::new();
    world.file("a", "").dockerfile("FROM whatever\nCOPY --from=whatever / /none/\nCOPY a /\n");
    world.build(["--build-context=whatever=docker-image://scratch", "--offline"]).run();
}

#[test]
fn images_for_windows_are_refused() {
    let world = World::new();
    world.dockerfile("FROM scratch\nWORKDIR C:\\app\n");
    let ran = world.build(["--platform=windows/amd64"]).any_status().run();
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("does not build images for windows"), "{}", ran.stderr);
    world.dockerfile("FROM --platform=windows/amd64 scratch AS windows\nFROM scratch\n");
    world.build([""; 0]).remarks().run();
    world.rbuild(["--check", "--target=windows", "."]).any_stdout().run();
}

#[test]
fn the_epoch_may_be_the_time_of_a_context_or_of_a_stage() {
    let bench = Bench::new(&[
        ("Dockerfile", "FROM scratch\nCOPY stage /\n"),
        ("stage", "FROM scratch AS src\nARG F=dated\nADD http://HOST/$F /\nFROM scratch\nWORKDIR /w\n"),
        (
            "repository",
            "ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nADD http://HOST/r.git#main /\nFROM scratch\nWORKDIR /w\n",
        ),
    ]);
    fs::create_dir_all(bench.path("r")).unwrap();
    git(
        &bench.path("r"),
        "git init -q -b main . && printf 'FROM scratch\\nCOPY . /\\n' > Dockerfile && git add -A && git commit -qm one && \
         git clone -q --bare . ../r.git && git --git-dir=../r.git update-server-info",
    );
    let files = [("Dockerfile", "FROM scratch\nCOPY a /\n", 0, 60), ("a", "a", 0, 120), ("b", "b", 0, 90)];
    let tar = dated_tar(&files);
    let (root, sent) = (bench.path(""), tar.clone());
    let server = Server::start(move |request| match request.path.as_str() {
        "/dated" => Reply::new(200, sent.clone()).header("Last-Modified", "Thu, 01 Jan 1970 00:10:00 GMT"),
        "/plain" => Reply::new(200, sent.clone()),
        path => match fs::read(root.join(path.split('?').next().unwrap().trim_start_matches('/'))) {
            Ok(bytes) => Reply::new(200, bytes),
            Err(_) => Reply::new(404, ""),
        },
    });
    for file in ["stage", "repository"] {
        let text = fs::read_to_string(bench.path(file)).unwrap().replace("HOST", &server.host());
        fs::write(bench.path(file), text).unwrap();
    }
    let url = |path: &str| format!("http://{}/{path}", server.host());
    let by_context = ["--build-arg", "SOURCE_DATE_EPOCH=context"];
    let created = |arguments: &[&str], stdin: &[u8]| {
        bench.run_with(&[arguments, &["-t", "e"]].concat(), stdin, &[]).ok();
        bench.run(&["inspect", "-f", "{{.Created}}", "e"]).ok().stdout.trim().to_owned()
    };
    let commit = "2017-07-14T02:40:00Z";
    assert_eq!(created(&[&by_context[..], &[&url("r.git")]].concat(), b""), commit);
    assert_eq!(created(&[&by_context[..], &[&url("dated")]].concat(), b""), "1970-01-01T00:10:00Z");
    assert_eq!(created(&[&by_context[..], &[&url("plain")]].concat(), b""), "1970-01-01T00:02:00Z");
    assert_eq!(created(&[&by_context[..], &["-"]].concat(), &tar), "1970-01-01T00:02:00Z");
    let named =
        ["--build-context", &format!("lib={}", url("r.git")), "--build-arg", "SOURCE_DATE_EPOCH=lib", "."];
    assert_eq!(created(&named, b""), commit);
    assert_eq!(created(&["-f", "repository", "."], b""), commit);
    let by_stage = ["-f", "stage", "--build-arg", "SOURCE_DATE_EPOCH=SRC"];
    assert_eq!(created(&[&by_stage[..], &["."]].concat(), b""), "1970-01-01T00:10:00Z");
    assert_eq!(
        created(&[&by_stage[..], &["--build-arg", "F=plain", "."]].concat(), b""),
        "1970-01-01T00:02:00Z"
    );
    // A folder has no time of its own: SOURCE_DATE_EPOCH is unset.
    let unset = created(&["."], b"");
    assert_eq!(created(&[&by_context[..], &["."]].concat(), b""), unset);
    bench.run(&["--build-arg", "SOURCE_DATE_EPOCH=nobody", "."]).failed("invalid SOURCE_DATE_EPOCH `nobody`");
    bench.run(&[&by_stage[..], &["--offline", "."]].concat()).failed("`--offline` forbids");
}

#[test]
fn an_epoch_is_the_time_of_files_that_are_written_out() {
    let bench = Bench::new(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /d/\n")]);
    let times = |arguments: &[&str]| {
        let lines = bench.files(&[arguments, &["."]].concat(), b"");
        lines.iter().map(|line| line.split(' ').nth(3).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_ne!(times(&["--build-arg=SOURCE_DATE_EPOCH=60"]), ["60"]);
    let tar = format!("type=tar,dest={}", bench.path("plain.tar").display());
    bench.run(&["--build-arg=SOURCE_DATE_EPOCH=60", "-o", &tar, "."]).ok();
    assert!(listing(&bench.path("plain.tar"))[0].contains(" 60 "));
    let dated = format!("type=tar,dest={},source-date-epoch=90", bench.path("dated.tar").display());
    bench.run(&["--build-arg=SOURCE_DATE_EPOCH=60", "-o", &dated, "."]).ok();
    assert!(listing(&bench.path("dated.tar"))[0].contains(" 90 "));
    bench.run(&["-o", "type=local,dest=out,source-date-epoch=90", "."]).ok();
    use std::os::unix::fs::MetadataExt as _;
    for path in ["out/d", "out/d/Dockerfile"] {
        assert_eq!(fs::metadata(bench.path(path)).unwrap().mtime(), 90, "{path}");
    }
    bench
        .run(&["-t", "e", "-o", "type=oci,dest=e.tar,source-date-epoch=90,rewrite-timestamp=true", "."])
        .ok();
    assert_eq!(bench.run(&["inspect", "-f", "{{.Created}}", "e"]).ok().stdout, "1970-01-01T00:01:30Z\n");
    bench.run(&["-o", "type=tar,dest=x,source-date-epoch=soon", "."]).failed("seconds since 1970");
}
