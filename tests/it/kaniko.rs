//! rbuild under the name `executor`: jobs that were written for kaniko.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::registry::tls::tls_registry;
use crate::support::base::{busybox, busybox_registry, with_busybox};
use crate::support::nginx::Nginx;
use crate::support::program::World;
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::tls::certificates;
use crate::support::tools;

/// A job with kaniko's folder, which is not `/kaniko` here.
struct Job {
    world: World,
}

/// What it came to.
struct Ended {
    code: Option<i32>,
    stderr: String,
    stdout: String,
}

impl Job {
    fn new(dockerfile: &str) -> Self {
        let world = World::new();
        world.dockerfile(dockerfile);
        fs::create_dir_all(world.path().join("kaniko/.docker")).unwrap();
        symlink(world.program(), world.path().join("kaniko/executor")).unwrap();
        Self { world }
    }

    fn kaniko(&self) -> PathBuf {
        self.world.path().join("kaniko")
    }

    fn at(&self, name: &str) -> String {
        self.world.path().join(name).display().to_string()
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("LC_ALL", "C.UTF-8");
        command
            .env("HOME", self.world.path().join("home"))
            .env("DOCKER_CONFIG", self.kaniko().join(".docker"));
        command.env("RBUILD_ROOT", self.world.store()).env("BUILDKIT_PROGRESS", "plain");
        command.current_dir(self.world.context()).stdin(Stdio::null());
        command
    }

    fn executor(&self, args: &[&str]) -> Command {
        let mut command = self.command(self.kaniko().join("executor"));
        command.args(args);
        command
    }

    #[track_caller]
    fn ends(&self, mut command: Command, code: i32) -> Ended {
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ended =
            Ended { code: output.status.code(), stderr: text(output.stderr), stdout: text(output.stdout) };
        assert_eq!(ended.code, Some(code), "{command:?}\n{}{}", ended.stdout, ended.stderr);
        ended
    }

    /// Builds the context, with more options.
    #[track_caller]
    fn builds(&self, args: &[&str]) -> Ended {
        let mut command = self.executor(&["-c", "."]);
        command.args(args);
        self.ends(command, 0)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.world.context().join(name)).unwrap()
    }
}

/// The digest that a registry has under a name.
pub(crate) fn digest_at(host: &str, name: &str) -> String {
    let image = format!("docker://{host}/{name}");
    let creds = format!("{USER}:{PASSWORD}");
    let args = ["inspect", "--tls-verify=false", "--creds", &creds, "--format", "{{.Digest}}", &image];
    tools::run("skopeo", args).trim().to_owned()
}

/// The script of a job in a file of GitLab's, `/kaniko` being another folder.
pub(crate) fn script_of(file: &str, job: &str, kaniko: &Path) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/gitlab-ci").join(file);
    let jobs = tools::yaml(&path);
    let lines = jobs[0][job]["script"].as_array().unwrap();
    let lines: Vec<&str> = lines.iter().map(|line| line.as_str().unwrap()).collect();
    lines.join("\n").replace("/kaniko", kaniko.to_str().unwrap())
}

#[test]
fn a_job_of_gitlab_runs_as_it_is() {
    let registry = Registry::start_with_login();
    let job = Job::new("");
    with_busybox(&job.world, "ARG VERSION\nRUN [\"/bin/sh\", \"-c\", \"echo $VERSION >/version\"]");
    let script = script_of("kaniko.yml", "image", &job.kaniko());
    let run = || {
        let mut command = job.command("sh");
        command.args(["-euc", &script]);
        for (name, value) in [
            ("CI_REGISTRY", registry.host()),
            ("CI_REGISTRY_USER", USER.to_owned()),
            ("CI_REGISTRY_PASSWORD", PASSWORD.to_owned()),
            ("CI_REGISTRY_IMAGE", format!("{}/group/app", registry.host())),
            ("CI_COMMIT_TAG", "v1".to_owned()),
            ("CI_PROJECT_DIR", job.at("context")),
        ] {
            command.env(name, value);
        }
        job.ends(command, 0)
    };
    let first = run();
    let digest = job.read("digest");
    assert_eq!(digest_at(&registry.host(), "group/app:v1"), digest);
    assert_eq!(digest_at(&registry.host(), "group/app:latest"), digest);
    // What means nothing is said once, and not on standard output.
    for note in ["note: `--snapshot-mode` changes nothing: ", "note: `--cleanup` changes nothing: "] {
        assert_eq!(first.stderr.matches(note).count(), 1, "{}", first.stderr);
    }
    assert_eq!(first.stdout, "");
    // The next job begins with an empty store, and finds the layers in the registry.
    fs::remove_dir_all(job.world.store()).unwrap();
    let second = run();
    assert!(second.stderr.contains("; nothing to do, all from the cache\n"), "{}", second.stderr);
    assert_eq!(job.read("digest"), digest);
}

#[test]
fn logins_are_found_in_variables_too() {
    let registry = Registry::start_with_login();
    let job = Job::new("FROM scratch\nCOPY Dockerfile /\n");
    let name = format!("{}/app:1", registry.host());
    let with = |args: &[&str], variables: &[(&str, &str)], code: i32| {
        let mut command = job.executor(&["-c", ".", "-d", &name]);
        command.args(args).envs(variables.iter().copied());
        job.ends(command, code)
    };
    let kaniko = format!("KANIKO_{}", registry.host().to_uppercase());
    let (user, password) = (format!("{kaniko}_USER"), format!("{kaniko}_PASSWORD"));
    let of_kaniko = [(user.as_str(), USER), (password.as_str(), PASSWORD)];
    let host = registry.host();
    let of_gitlab =
        [("CI_REGISTRY", host.as_str()), ("CI_REGISTRY_USER", USER), ("CI_REGISTRY_PASSWORD", PASSWORD)];
    let auth = crate::support::registry::basic(USER, PASSWORD).replace("Basic ", "");
    let held = format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"{auth}\"}}}}}}");
    assert!(with(&[], &[], 1).stderr.contains("login"));
    with(&[], &of_kaniko, 0);
    with(&[], &of_gitlab, 0);
    with(&["--credential-helpers=gitlab"], &of_gitlab, 0);
    with(&["--credential-helpers=gitlab"], &of_kaniko, 1);
    with(&["--credential-helpers="], &of_gitlab, 1);
    with(&["--credential-helpers="], &[("DOCKER_AUTH_CONFIG", &held)], 0);
    // `login` keeps one where all jobs write theirs.
    let mut login = job.executor(&["login", &host, "-u", USER, "--password-stdin"]);
    let password = job.at("password");
    fs::write(&password, PASSWORD).unwrap();
    login.stdin(fs::File::open(&password).unwrap());
    job.ends(login, 0);
    assert!(job.kaniko().join(".docker/config.json").exists());
    with(&["--credential-helpers="], &[], 0);
}

#[test]
fn files_tell_what_was_built() {
    let registry = Registry::start();
    let host = registry.host();
    let job = Job::new("FROM scratch\nCOPY Dockerfile /\n");
    let (one, two) = (format!("{host}/a/b:1"), format!("{host}/c"));
    fs::create_dir(job.world.context().join("out")).unwrap();
    let mut command = job.executor(&["-c", "dir://.", "-d", &one, "--destination", &two]);
    command.args(["--tar-path=image.tar", "--oci-layout-path=layout", "--digest-file=deep/folder/digest"]);
    command.args(["--image-name-with-digest-file=names", "--image-name-tag-with-digest-file=tags"]);
    command.env("BUILDER_OUTPUT", "out");
    job.ends(command, 0);
    let digest = job.read("deep/folder/digest");
    assert_eq!(digest_at(&host, "a/b:1"), digest);
    assert_eq!(digest_at(&host, "c:latest"), digest);
    assert_eq!(job.read("names"), format!("{host}/a/b@{digest}\n{host}/c@{digest}\n"));
    assert_eq!(job.read("tags"), format!("{host}/a/b:1@{digest}\n{host}/c:latest@{digest}\n"));
    assert_eq!(
        job.read("out/images").lines().next().unwrap(),
        format!("{{\"name\":\"{host}/a/b:1\",\"digest\":\"{digest}\"}}")
    );
    let inspect =
        |place: &str| tools::json("skopeo", ["inspect", "--config", place])["rootfs"]["diff_ids"].clone();
    let (tar, layout) = (job.at("context/image.tar"), job.at("context/layout"));
    let in_archive = inspect(&format!("docker-archive:{tar}:{one}"));
    assert_eq!(in_archive.as_array().unwrap().len(), 1);
    let index: serde_json::Value = serde_json::from_str(&job.read("layout/index.json")).unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest);
    // What was written goes to registries without a build.
    for (path, name) in [(&tar, "from-tar:1"), (&layout, "from-layout:1")] {
        job.ends(job.executor(&["push", path, "-d", &format!("{host}/{name}"), "--digest-file=pushed"]), 0);
        assert_eq!(digest_at(&host, name), job.read("pushed"));
    }
    assert_eq!(digest_at(&host, "from-layout:1"), digest);
    // Nothing is pushed that shall not be.
    let told = job.builds(&["--no-push", "-d", &format!("{host}/never:1"), "--tar-path", "again.tar"]);
    assert!(!told.stderr.contains("push"), "{}", told.stderr);
    let gone = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", &format!("docker://{host}/never:1")])
        .output()
        .unwrap();
    assert!(!gone.status.success());
    let mut command = job.executor(&["-c", ".", "-d", &one]);
    command.env("KANIKO_NO_PUSH", "true");
    assert!(!job.ends(command, 0).stderr.contains("push"));
}

#[test]
fn contexts_come_from_archives_and_git() {
    let job = Job::new("FROM scratch\nCOPY name /\n");
    job.world.file("name", "a folder");
    let builds = |mut command: Command| {
        command.args(["--no-push", "--digest-file=digest"]);
        job.ends(command, 0);
        job.read("digest")
    };
    tools::run("tar", ["-C", &job.at("context"), "-czf", &job.at("c.tar.gz"), "Dockerfile", "name"]);
    let (archive, folder) = (job.at("c.tar.gz"), job.at("context"));
    let of_file = builds(job.executor(&["-c", &format!("tar://{archive}")]));
    let mut piped = job.executor(&["--context=tar://stdin", "--dockerfile=Dockerfile"]);
    piped.stdin(fs::File::open(&archive).unwrap());
    assert_eq!(builds(piped), of_file);
    job.ends(job.executor(&["-c", &format!("tar://{folder}/name"), "--no-push"]), 1);
    // A file of that name here goes before one in the context, as with kaniko.
    job.world
        .file("sub/Dockerfile", "FROM scratch\nLABEL which=sub\nCOPY . /\n")
        .file("sub/name", "a sub-folder");
    let here = builds(job.executor(&["-c", ".", "--context-sub-path=sub"]));
    fs::remove_file(job.world.context().join("Dockerfile")).unwrap();
    let inside = builds(job.executor(&["-c", ".", "--context-sub-path=sub"]));
    assert_ne!(here, inside);
    // A repository behind http, with a branch and a folder in it.
    let nginx = Nginx::start();
    let script = "set -e; cd \"$1\"; git init -q -b main r; cd r; mkdir d; echo x >d/name; \
        printf 'FROM scratch\\nCOPY name /\\n' >d/Dockerfile; git add -A; \
        git -c user.name=t -c user.email=t@example.com commit -qm one; git branch other; git update-server-info";
    let data = nginx.data();
    tools::run("sh", ["-c", script, "sh", data.to_str().unwrap()]);
    let url = format!("git://{}/r/.git#refs/heads/other", nginx.host());
    let git = |login: &[(&str, &str)]| {
        let mut command =
            job.executor(&["-c", &url, "--context-sub-path=d", "--no-push", "--digest-file=git"]);
        command.env("GIT_PULL_METHOD", "http").envs(login.iter().copied());
        command
    };
    job.ends(git(&[("GIT_TERMINAL_PROMPT", "0")]), 1);
    use crate::support::nginx;
    job.ends(git(&[("GIT_USERNAME", nginx::USER), ("GIT_PASSWORD", nginx::PASSWORD)]), 0);
    assert!(job.read("git").starts_with("sha256:"));
}

#[test]
fn mirrors_stand_before_registries_or_in_their_place() {
    let mirror = busybox_registry();
    let empty = Registry::start();
    let (full, asked) = (mirror.host(), empty.host());
    let job = Job::new(&format!("FROM {asked}/busybox\nCOPY Dockerfile /\n"));
    let map = format!("--registry-map={asked}={full}");
    job.ends(job.executor(&["-c", ".", "--no-push"]), 1);
    job.builds(&["--no-push", &map]);
    fs::remove_dir_all(job.world.store()).unwrap();
    let mut by_variable = job.executor(&["-c", ".", "--no-push"]);
    by_variable.env("KANIKO_REGISTRY_MAP", format!("{asked}={full};other.example={full}"));
    job.ends(by_variable, 0);
    // What the mirror does not have, the registry may have.
    empty.push(&busybox(), "only-here", "latest");
    job.world.dockerfile(&format!("FROM {asked}/only-here\nCOPY Dockerfile /\n"));
    fs::remove_dir_all(job.world.store()).unwrap();
    let told = job.ends(job.executor(&["-c", ".", "--no-push", &map, "--skip-default-registry-fallback"]), 1);
    assert!(told.stderr.contains(&full) && !told.stderr.contains("going on"), "{}", told.stderr);
    job.builds(&["--no-push", &map]);
    // `--registry-mirror` is for Docker Hub.
    job.world.dockerfile("FROM busybox\nCOPY Dockerfile /\n");
    mirror.push(&busybox(), "library/busybox", "latest");
    fs::remove_dir_all(job.world.store()).unwrap();
    job.builds(&["--no-push", "--registry-mirror", &full, "--skip-default-registry-fallback"]);
}

#[test]
fn certificates_belong_to_registries() {
    let job = Job::new("FROM scratch\nCOPY Dockerfile /\n");
    let folder = job.world.path().join("tls");
    fs::create_dir(&folder).unwrap();
    certificates(&folder);
    let registry = tls_registry(&folder);
    let host = format!("localhost:{}", registry.port);
    let name = format!("{host}/app:1");
    let ca = folder.join("ca.crt").display().to_string();
    let build = |args: &[&str], code: i32| {
        let mut command = job.executor(&["-c", ".", "-d", &name]);
        command.args(args);
        job.ends(command, code).stderr
    };
    assert!(build(&[], 1).contains("certificate"));
    build(&[&format!("--registry-certificate=other.example={ca}")], 1);
    build(&["--skip-tls-verify-pull"], 1);
    build(&["--skip-tls-verify"], 0);
    build(&[&format!("--registry-certificate={host}={ca}")], 0);
    build(&["--skip-tls-verify-registry", &host], 0);
    // What is said of pushing is not said of pulling.
    job.world.dockerfile(&format!("FROM {name}\nCOPY Dockerfile /again\n"));
    build(&["--skip-tls-verify"], 1);
    build(&["--skip-tls-verify", "--skip-tls-verify-pull"], 0);
    // A registry that wants to see one.
    let served = Wanting::start(&folder, &host);
    job.world.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    let name = format!("{}/app:2", served.host());
    let trusted = format!("--registry-certificate={}={ca}", served.host());
    let shown = format!(
        "--registry-client-cert={}={},{}",
        served.host(),
        folder.join("tls.crt").display(),
        folder.join("tls.key").display()
    );
    job.ends(job.executor(&["-c", ".", "-d", &name, &trusted]), 1);
    job.ends(job.executor(&["-c", ".", "-d", &name, &trusted, &shown]), 0);
}

/// nginx in front of a registry, which takes nobody without a certificate.
struct Wanting {
    child: std::process::Child,
    port: u16,
}

impl Wanting {
    fn start(folder: &Path, behind: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = folder.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {at}/temporary;\n"))
            .collect();
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/errors;\nevents {{}}\nhttp {{\n\
             access_log off; {temporary} client_max_body_size 0;\nserver {{ listen 127.0.0.1:{port} ssl;\n\
             ssl_certificate {at}/tls.crt; ssl_certificate_key {at}/tls.key;\n\
             ssl_client_certificate {at}/ca.crt; ssl_verify_client on;\n\
             location / {{ proxy_pass https://{behind}; proxy_set_header Host $http_host; \
             proxy_request_buffering off; }} }} }}\n"
        );
        fs::write(folder.join("nginx.conf"), config).unwrap();
        let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(folder.join("nginx.conf"))
            .arg("-e")
            .arg(folder.join("errors"))
            .arg("-p")
            .arg(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("nginx is missing; apt-get install nginx");
        let listens = crate::support::registry::wait_until_it_listens(&mut child, port);
        assert!(listens, "{:?}", fs::read_to_string(folder.join("errors")));
        Self { child, port }
    }

    fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }
}

impl Drop for Wanting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn several_targets_are_built_and_the_first_is_pushed() {
    let registry = Registry::start();
    let host = registry.host();
    let dockerfile = "FROM scratch AS one\nCOPY <<x /one\n1\nx\nFROM scratch AS two\nCOPY <<x /two\n2\nx\n";
    let job = Job::new(dockerfile);
    let name = format!("{host}/app:1");
    let told = job.builds(&["-d", &name, "--target=one", "--target", "two", "--digest-file=digest"]);
    assert!(
        told.stderr.contains("] COPY <<x /one") && told.stderr.contains("] COPY <<x /two"),
        "{}",
        told.stderr
    );
    assert_eq!(told.stderr.matches("push ").count(), 1, "{}", told.stderr);
    let alone = job.builds(&["--no-push", "--target=one", "--digest-file=alone"]);
    assert!(!alone.stderr.contains("/two"), "{}", alone.stderr);
    assert_eq!(job.read("digest"), job.read("alone"));
    // A stage that fails keeps the image at home.
    job.world.dockerfile(&format!("{dockerfile}FROM scratch AS bad\nCOPY nothing /\n"));
    let never = format!("{host}/never:1");
    job.ends(job.executor(&["-c", ".", "-d", &never, "--target=one,bad"]), 1);
}

#[test]
fn reproducible_is_the_same_bytes_whenever_it_is_built() {
    let job = Job::new("FROM scratch\nCOPY name /\n");
    let mut digests = Vec::new();
    for seconds in [1_500_000_000, 1_700_000_000] {
        job.world.file("name", "content");
        job.world.set_mtime("name", seconds);
        job.builds(&["--no-push", "--reproducible", "--digest-file=digest"]);
        digests.push(job.read("digest"));
    }
    assert_eq!(digests[0], digests[1]);
    let plain = || {
        job.builds(&["--no-push", "--digest-file=digest"]);
        job.read("digest")
    };
    let before = plain();
    job.world.set_mtime("name", 1_600_000_000);
    assert_ne!(before, plain());
}

#[test]
fn a_single_snapshot_is_one_layer() {
    let job = Job::new("FROM scratch\nCOPY <<x /one\n1\nx\nCOPY <<x /two\n2\nx\n");
    for (args, layers) in
        [(&["--oci-layout-path=many"][..], 2), (&["--oci-layout-path=one", "--single-snapshot"], 1)]
    {
        job.builds(&[&["--no-push"], args].concat());
        let folder = args[0].strip_prefix("--oci-layout-path=").unwrap();
        let place = format!("oci:{}", job.at(&format!("context/{folder}")));
        let image = tools::json("skopeo", ["inspect", "--config", &place]);
        assert_eq!(image["rootfs"]["diff_ids"].as_array().unwrap().len(), layers, "{args:?}");
    }
}

#[test]
fn what_is_wrong_is_told_in_kanikos_words() {
    let job = Job::new("FROM scratch\nCOPY Dockerfile /\n");
    for (args, expected) in [
        (
            &["-c", "s3://b/c.tar.gz", "--no-push"][..],
            "error: `--context=s3://b/c.tar.gz`: rbuild reads nothing from a bucket",
        ),
        (&["-c", "."], "error: there is neither `--destination` nor `--no-push`"),
        (&["-c", ".", "-b", "bucket", "--no-push"], "error: `--bucket` is not possible"),
        (&["-c", ".", "--no-push", "--dockerfle=x"], "= help: did you mean `--dockerfile`?"),
        (&["push", "x"], "error: `push` needs a `--destination`"),
    ] {
        let told = job.ends(job.executor(args), 2);
        assert!(told.stderr.contains(expected), "{args:?}: {}", told.stderr);
    }
    let help = job.ends(job.executor(&["--help"]), 0).stdout;
    assert!(help.contains("  -d, --destination=…\n") && help.contains("--bucket=…: "), "{help}");
    assert!(job.ends(job.executor(&["version"]), 0).stdout.starts_with("rbuild "));
    let plan = job.ends(job.executor(&["-c", ".", "--dryrun"]), 0);
    assert!(plan.stdout.contains("COPY Dockerfile /"), "{}", plan.stdout);
    let mut switched = job.executor(&["-c", ".", "--no-push"]);
    switched.env("FF_KANIKO_OCI_WARMER", "1");
    let told = job.ends(switched, 0).stderr;
    assert!(told.contains("note: `FF_KANIKO_OCI_WARMER` switched something inside of kaniko"), "{told}");
}
