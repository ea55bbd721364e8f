//! What is published of a release: `packaging/dist/make` packs the tests' own program, and it is installed, used, exchanged for a newer one
//! and removed as its users do. The static programs themselves are made by `packaging/dist/twice`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::Value;

use crate::support::accounts::Account;
use crate::support::base::DebianRegistry;
use crate::support::http::{Reply, Server};
use crate::support::layout::sha256;
use crate::support::program::World;
use crate::support::{copy_program, is_root, skip, tools};

const TARGET: &str = "x86_64-unknown-linux-musl";

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

/// What is published of this version.
fn pack(folder: &Path, version: &str, umask: &str, formats: &str) {
    let program = folder.join("rbuild");
    tools::run("strip", ["-o", program.to_str().unwrap(), env!("CARGO_BIN_EXE_rbuild")]);
    let (make, program, out) = (packaging("dist/make"), program.display(), folder.join("dist"));
    let script = format!(
        "umask {umask}; {} --quick --formats {formats} --as {version} --program {TARGET}={program} --out {}",
        make.display(),
        out.display()
    );
    // No commit may be known where the tests are a copy of the repository.
    let done =
        Command::new("sh").args(["-c", &script]).env("SOURCE_DATE_EPOCH", "1764500000").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::remove_file(folder.join("rbuild")).unwrap();
}

/// Releases of these versions; they go with the value.
struct Releases(tempfile::TempDir);

impl Releases {
    fn of(versions: &[&str], formats: &str) -> Self {
        let releases = Self(tempfile::tempdir().unwrap());
        for version in versions {
            let at = releases.0.path().join(version);
            fs::create_dir_all(&at).unwrap();
            pack(&at, version, "022", formats);
        }
        releases
    }

    fn file(&self, version: &str, name: &str) -> PathBuf {
        self.0.path().join(version).join("dist").join(name)
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// A command that must succeed.
#[track_caller]
fn done(command: &mut Command) -> String {
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; `tests/run` installs it"));
    assert!(output.status.success(), "{command:?}: {}", told(&output));
    told(&output)
}

/// Debian's base in a folder, to change the root to.
fn debian_root() -> World {
    let world = World::new();
    let registry = DebianRegistry::start();
    world.dockerfile(&format!("FROM {}\n", registry.debian()));
    world.build(["-o", world.path().join("root").to_str().unwrap()]).run();
    world
}

fn within(root: &Path, script: &str) -> String {
    done(Command::new("chroot").arg(root).args(["sh", "-euc", script]).env("LC_ALL", "C.UTF-8"))
}

/// Files of a root, but for what package managers keep.
fn files(root: &Path) -> Vec<String> {
    let listed =
        within(root, "find / -xdev ! -path '/var/*' ! -path '/tmp/*' ! -path '/proc/*' -print | sort");
    listed.lines().map(str::to_owned).collect()
}

/// Builds as README's first lines do.
const USE: &str = "rbuild --version; mkdir -p /tmp/app; cd /tmp/app; printf 'FROM scratch\\nCOPY Dockerfile /\\n' >Dockerfile; \
     rbuild --root /tmp/store -t hello . ; rbuild --root /tmp/store images | grep -q hello; \
     test -s /usr/share/bash-completion/completions/rbuild; test -s /usr/share/man/man1/rbuild-build.1.gz";

#[test]
fn debians_package_is_installed_used_upgraded_and_removed() {
    if !is_root() {
        skip!("to change the root needs root");
    }
    let releases = Releases::of(&["0.1.0", "0.1.1"], "deb");
    let package = |version: &str| releases.file(version, &format!("rbuild_{version}_amd64.deb"));
    // The program of the tests is not static, and says what it needs nowhere. It reads databases of packages, in images.
    let lint = [
        "--allow-root",
        "--fail-on",
        "error,warning",
        "--suppress-tags",
        "undeclared-elf-prerequisites,uses-dpkg-database-directly",
    ];
    done(Command::new("lintian").args(lint).arg(package("0.1.0")));
    let world = debian_root();
    let root = world.path().join("root");
    let before = files(&root);
    for version in ["0.1.0", "0.1.1"] {
        fs::copy(package(version), root.join("tmp/rbuild.deb")).unwrap();
        within(&root, "dpkg -i /tmp/rbuild.deb");
        within(&root, USE);
        let known = within(&root, "dpkg-query -W -f '${Version}' rbuild; dpkg -V rbuild");
        assert_eq!(known, version);
    }
    within(&root, "dpkg -P rbuild");
    tools::same_lines("a root before and after", &before, &files(&root));
    // Where AppArmor can forbid user namespaces, the package brings a profile, and takes it away.
    within(
        &root,
        "mkdir -p /etc/apparmor.d/abi; touch /etc/apparmor.d/abi/4.0; dpkg -i /tmp/rbuild.deb; grep -q userns, /etc/apparmor.d/rbuild",
    );
    within(&root, "dpkg -r rbuild; test ! -e /etc/apparmor.d/rbuild");
}

#[test]
fn the_rpm_is_installed_used_upgraded_and_removed() {
    if !is_root() {
        skip!("rpm changes its root, which needs root");
    }
    let releases = Releases::of(&["0.1.0", "0.1.1"], "rpm");
    let world = debian_root();
    let root = world.path().join("root");
    let before = files(&root);
    let rpm = |words: &[&str]| done(Command::new("rpm").arg("--root").arg(&root).args(words));
    rpm(&["--initdb"]);
    for (version, verb) in [("0.1.0", "-i"), ("0.1.1", "-U")] {
        rpm(&[verb, releases.file(version, &format!("rbuild-{version}-1.x86_64.rpm")).to_str().unwrap()]);
        within(&root, USE);
        assert!(rpm(&["-q", "rbuild"]).contains(&format!("rbuild-{version}-1.x86_64")));
        rpm(&["-V", "rbuild"]);
    }
    rpm(&["-e", "rbuild"]);
    let kept = |path: &String| !path.contains("rpm");
    let (before, after): (Vec<_>, Vec<_>) =
        (before.into_iter().filter(kept).collect(), files(&root).into_iter().filter(kept).collect());
    tools::same_lines("a root before and after", &before, &after);
}

#[test]
fn the_same_commit_gives_the_same_bytes() {
    let releases = Releases::of(&["0.1.0"], "tar,deb,rpm,sbom");
    let other = tempfile::tempdir().unwrap();
    pack(other.path(), "0.1.0", "077", "tar,deb,rpm,sbom");
    let sums = |path: &Path| fs::read_to_string(path).unwrap();
    assert_eq!(sums(&releases.file("0.1.0", "SHA256SUMS")), sums(&other.path().join("dist/SHA256SUMS")));
    // The sums are those of the files.
    done(
        Command::new("sha256sum")
            .args(["--check", "--quiet", "SHA256SUMS"])
            .current_dir(other.path().join("dist")),
    );
    let json = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(releases.file("0.1.0", name)).unwrap()).unwrap()
    };
    let spdx = json(&format!("rbuild-0.1.0-{TARGET}.spdx.json"));
    // The crates of a program that was compiled for a release are looked at by `tests/programs.sh`: this one has no list of them.
    assert_eq!(spdx["packages"][0]["name"], "rbuild:0.1.0");
    assert_eq!(json(&format!("rbuild-0.1.0-{TARGET}.cdx.json"))["bomFormat"], "CycloneDX");
    // The provenance is about every other file, and speaks of no folder of this machine.
    let provenance = json("provenance.json");
    assert_eq!(provenance["predicateType"], "https://slsa.dev/provenance/v1");
    assert!(!provenance.to_string().contains(&*releases.0.path().to_string_lossy()));
    let about = provenance["subject"].as_array().unwrap().iter();
    let about: BTreeMap<_, _> = about
        .map(|file| (file["name"].as_str().unwrap(), file["digest"]["sha256"].as_str().unwrap()))
        .collect();
    for entry in fs::read_dir(releases.file("0.1.0", "")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name != "provenance.json" {
            let digest = sha256(&fs::read(&path).unwrap());
            assert_eq!(about.get(name).copied(), digest.strip_prefix("sha256:"), "{name} in {about:?}");
        }
    }
    // Where cargo-binstall looks for the program.
    let manifest = fs::read_to_string(packaging("../Cargo.toml")).unwrap();
    let (_, table) = manifest.split_once("[package.metadata.binstall]").unwrap();
    let value = |key: &str| {
        let line = table.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        let text = line.split('"').nth(1).unwrap();
        [("{ version }", "0.1.0"), ("{ target }", TARGET), ("{ bin }", "rbuild")]
            .iter()
            .fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    };
    let archive = releases.file("0.1.0", value("pkg-url").rsplit('/').next().unwrap());
    let listed = done(Command::new("tar").arg("-tzf").arg(archive));
    assert!(listed.lines().any(|line| line == value("bin-dir")), "{listed}");
}

/// Of a folder with something else nothing is removed; a pre-release has names that package managers sort before the release.
#[test]
fn a_release_takes_the_place_of_another_alone() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    fs::write(&program, "x").unwrap();
    let out = folder.path().join("out");
    let make = |words: &[&str]| {
        let mut make = Command::new(packaging("dist/make"));
        make.args(["--quick", "--formats=deb", "--teller", env!("CARGO_BIN_EXE_rbuild")]).args(words);
        make.args(["--program", &format!("{TARGET}={}", program.display()), "--out"]).arg(&out);
        let output = make.env("SOURCE_DATE_EPOCH", "1764500000").output().unwrap();
        (output.status.success(), told(&output))
    };
    let names = || tools::listing(&out).len();
    for (version, package) in
        [("1.2.0-rc.1", "rbuild_1.2.0~rc.1_amd64.deb"), ("1.2.0", "rbuild_1.2.0_amd64.deb")]
    {
        let (well, told) = make(&["--as", version]);
        assert!(well && out.join(package).exists(), "{told}");
    }
    assert!(!out.join("rbuild_1.2.0~rc.1_amd64.deb").exists(), "the earlier one is gone");
    let before = names();
    fs::write(out.join("mine"), "").unwrap();
    let (well, told) = make(&["--as=1.2.1"]);
    assert!(!well && told.contains("has what no release has: mine"), "{told}");
    fs::remove_file(out.join("SHA256SUMS")).unwrap();
    let (well, told) = make(&["--as=1.2.1"]);
    assert!(!well && told.contains("is no release of an earlier time"), "{told}");
    assert_eq!(names(), before);
}

/// A server that has the releases, and breaks the archive of `broken`.
fn server(releases: &Arc<Releases>, broken: &'static str) -> Server {
    let releases = Arc::clone(releases);
    Server::start(move |request| {
        let path = request.path.trim_start_matches('/').to_owned();
        let (version, name) = path.split_once('/').unwrap_or((&path, ""));
        match fs::read(releases.file(version, name)) {
            Ok(mut bytes) if version == broken && name.ends_with(".gz") => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                Reply::new(200, bytes)
            }
            Ok(bytes) => Reply::new(200, bytes),
            Err(_) => Reply::new(404, ""),
        }
    })
}

fn installer(releases: &Releases, world: &World, version: &str, words: &[&str]) -> (bool, String) {
    let mut command = Command::new("sh");
    command.arg(releases.file(version, "install.sh")).args(words);
    command.env("HOME", world.path().join("home")).env_remove("XDG_DATA_HOME");
    let output = command.output().unwrap();
    (output.status.success(), told(&output))
}

#[test]
fn the_script_installs_upgrades_and_removes() {
    let world = World::new();
    let prefix = world.path().join("prefix of mine");
    // Empty folders that somebody made stay, too.
    for folder in ["bin", "share/man"] {
        fs::create_dir_all(prefix.join(folder)).unwrap();
    }
    fs::write(prefix.join("kept"), "").unwrap();
    let before = tools::listing(&prefix);
    let place = prefix.display().to_string();
    let releases = Arc::new(Releases::of(&["0.1.0", "0.1.1"], "tar"));
    let server = server(&releases, "none");
    for version in ["0.1.0", "0.1.1"] {
        let from = format!("http://{}/{version}", server.host());
        let (well, told) = installer(&releases, &world, version, &["--prefix", &place, "--from", &from]);
        assert!(well && told.contains(&format!("rbuild {version} is in {place}/bin")), "{told}");
        assert!(told.contains("your shell does not look there yet"), "{told}");
        let output = done(Command::new(prefix.join("bin/rbuild")).arg("--version"));
        assert!(output.starts_with("rbuild "), "{output}");
        assert!(prefix.join("share/man/man1/rbuild-build.1").exists());
    }
    let (well, told) = installer(&releases, &world, "0.1.1", &["--prefix", &place, "--uninstall"]);
    assert!(well && told.contains("rbuild is gone"), "{told}");
    assert_eq!(tools::listing(&prefix), before);
    let (well, told) = installer(&releases, &world, "0.1.1", &["--prefix", &place, "--uninstall"]);
    assert!(!well && told.contains("nothing in"), "{told}");
}

#[test]
fn the_script_takes_nothing_that_is_not_the_release() {
    let world = World::new();
    let place = world.path().join("prefix").display().to_string();
    let releases = Arc::new(Releases::of(&["0.1.0", "0.1.1"], "tar"));
    let server = server(&releases, "0.1.0");
    let install = |version: &str, from: &str| {
        installer(&releases, &world, version, &["--prefix", &place, "--from", from])
    };
    let url = |path: &str| format!("http://{}/{path}", server.host());
    for (version, from, expected) in [
        ("0.1.0", url("0.1.0"), "is not what was released: its SHA-256 is"),
        ("0.1.0", url("nowhere"), "cannot fetch"),
        // Another release's archive has another name.
        ("0.1.1", url("0.1.0"), "cannot fetch"),
        ("0.1.1", "/nowhere".to_owned(), "there is no /nowhere/rbuild-0.1.1"),
        ("0.1.1", String::new(), "it is not known where to fetch from"),
    ] {
        let (well, told) = install(version, &from);
        assert!(!well && told.contains(expected), "{from}: {told}");
        assert!(!Path::new(&place).exists(), "{from}");
    }
    // The repository's own copy is of no release.
    let output = Command::new("sh").arg(packaging("install.sh")).args(["--from", "/"]).output().unwrap();
    assert!(told(&output).contains("belongs to no release"), "{}", told(&output));
}

/// Nothing but busybox, and the libraries that the tests' program needs.
#[test]
fn one_line_installs_where_there_is_nothing() {
    if !is_root() {
        skip!("to change the root needs root");
    }
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    for folder in ["bin", "tmp", "root", "proc", "dev"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    copy_program(Path::new("/bin/busybox"), &at("bin/busybox"));
    done(Command::new("chroot").arg(root.path()).args(["/bin/busybox", "--install", "-s", "/bin"]));
    for library in tools::run("ldd", [env!("CARGO_BIN_EXE_rbuild")])
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        let to = at(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        copy_program(Path::new(library), &to);
    }
    let releases = Arc::new(Releases::of(&["0.1.0"], "tar"));
    let server = server(&releases, "none");
    let url = format!("http://{}/0.1.0", server.host().replace("localhost", "127.0.0.1"));
    let script = format!(
        "wget -q -O - {url}/install.sh | sh -s -- --prefix /usr --from {url}; \
         mkdir app; cd app; printf 'FROM scratch\\nCOPY Dockerfile /\\n' >Dockerfile; rbuild --root /tmp/store -t hello ."
    );
    let mut command = Command::new("chroot");
    command.arg(root.path()).args(["/bin/sh", "-euc", &script]);
    command.env_clear().env("PATH", "/bin:/usr/bin:/usr/sbin").env("HOME", "/root");
    let told = done(&mut command);
    assert!(told.contains("rbuild 0.1.0 is in /usr/bin") && told.contains("1 step ran"), "{told}");
}

/// The images, from archives with a file in place of each program.
#[test]
fn images_of_a_release_have_its_version_and_both_platforms() {
    let world = World::large(Account::mine());
    let debian = DebianRegistry::start();
    let releases = world.path().join("dist");
    let (own, other) = (world.path().join("own"), world.path().join("other"));
    fs::write(&own, "for x86_64").unwrap();
    fs::write(&other, "for aarch64").unwrap();
    let mut make = Command::new(packaging("dist/make"));
    make.args(["--quick", "--formats=tar", "--as=1.2.3", "--teller", env!("CARGO_BIN_EXE_rbuild")]);
    for (target, program) in [(TARGET, &own), ("aarch64-unknown-linux-musl", &other)] {
        make.args(["--program", &format!("{target}={}", program.display())]);
    }
    done(make.arg("--out").arg(&releases).env("SOURCE_DATE_EPOCH", "1764500000"));
    let repository = packaging("..").display().to_string();
    let bake = |version: &str, targets: &[&str]| {
        let (set, allow) = (
            format!("*.contexts.releases={}", releases.display()),
            format!("--allow=fs.read={}", releases.display()),
        );
        let ran = world
            .rbuild(["bake", "-f", "packaging/image/docker-bake.hcl", "--set", &set, &allow])
            .args(targets);
        let ran = ran.env("VERSION", version).env("DEBIAN", debian.debian()).env("IMAGE", "h.example/rbuild");
        ran.folder(&repository).remarks().run()
    };
    // What runs commands of the other platform is not tried: Debian's base is here for one.
    bake("1.2.3", &["rbuild", "debug", "executor"]);
    bake("1.2.3", &["job", "worker", "--set=*.platform=linux/amd64"]);
    let layout = world.images();
    let mut expected: Vec<String> = Vec::new();
    for target in ["", "-debug", "-executor", "-job", "-worker"] {
        let short = target.strip_prefix('-').unwrap_or("latest").to_owned();
        let tags = [short, format!("1.2{target}"), format!("1.2.3{target}")];
        expected.extend(tags.map(|tag| format!("h.example/rbuild:{tag}")));
    }
    expected.sort();
    let names = layout.names();
    let attested = |name: &&String| !name.contains(":sha256-");
    assert_eq!(names.iter().filter(attested).cloned().collect::<Vec<_>>(), expected);
    let digest = |name: &str| {
        let index = layout.index();
        let named = index.manifests().iter().find(|image| {
            image.annotations().as_ref().is_some_and(|all| all.values().any(|value| value == name))
        });
        named.unwrap().digest().to_string()
    };
    let platforms = layout.platforms(&digest("h.example/rbuild:1.2.3-debug"));
    let program = |platform: &str| {
        let files = layout.image(&platforms[platform]).files();
        for file in ["busybox/busybox", "bin/sh", "kaniko/executor", "etc/ssl/certs/ca-certificates.crt"] {
            assert!(files.contains_key(file), "{file} for {platform}");
        }
        // Bytes 18 and 19 of a program are its processor.
        (files["usr/bin/rbuild"].content.clone(), files["busybox/busybox"].content[18])
    };
    assert_eq!(program("linux/arm64"), (b"for aarch64".to_vec(), 183));
    assert_eq!(program("linux/amd64"), (b"for x86_64".to_vec(), 62));
    let worker = layout.image(&digest("h.example/rbuild:worker"));
    let files = worker.files();
    for file in [
        "usr/bin/git",
        "usr/bin/newuidmap",
        "usr/bin/rbuild",
        "var/cache/rbuild-worker",
        "etc/rbuild/worker-secrets",
    ] {
        assert!(files.contains_key(file), "{file}");
    }
    let labels = worker.config.config().as_ref().unwrap().labels().clone().unwrap();
    assert_eq!(labels["org.opencontainers.image.version"], "1.2.3");
}
