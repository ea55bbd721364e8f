//! Whom rbuild trusts when it fetches what is no image: files for ADD, contexts, Dockerfiles, repositories.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::tls::{TlsServer, certificates};

/// A folder that a server with an authority of its own serves, and a store.
struct Bench {
    dir: tempfile::TempDir,
    server: TlsServer,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let served = dir.path().join("served");
        fs::create_dir(&served).unwrap();
        certificates(dir.path());
        let server = TlsServer::of_files(&served, dir.path());
        Self { dir, server }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.server.port)
    }

    /// Runs rbuild with an empty store; its status and what it says.
    fn run(&self, arguments: &[&str], env: &[(&str, PathBuf)]) -> (Option<i32>, String) {
        let _ = fs::remove_dir_all(self.path("store"));
        let _ = fs::remove_dir_all(self.path("out"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
        command.current_dir(self.dir.path()).arg("--root").arg(self.path("store"));
        command.args(["--progress=plain", "-o", "out"]).args(arguments).stdin(Stdio::null());
        command.env("GIT_CONFIG_GLOBAL", self.path("gitconfig")).env("GIT_CONFIG_NOSYSTEM", "1");
        for name in ["SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "SOURCE_DATE_EPOCH"] {
            command.env_remove(name);
        }
        let output = command.envs(env.iter().map(|(name, value)| (*name, value))).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// What is fetched is refused without the authority, and with a variable that names it becomes `out/f`.
    fn is_trusted_by(&self, arguments: &[&str], variables: &[(&str, &str)]) {
        let (code, said) = self.run(arguments, &[]);
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
        assert!(said.contains("certificate"), "{arguments:?}: {said}");
        for (name, path) in variables {
            let (code, said) = self.run(arguments, &[(name, self.path(path))]);
            assert_eq!(code, Some(0), "{arguments:?} {name}: {said}");
            assert_eq!(fs::read_to_string(self.path("out/f")).unwrap(), "fetched\n", "{arguments:?} {name}");
        }
    }
}

/// Both say whom Go's programs and openssl's trust.
const VARIABLES: [(&str, &str); 2] = [("SSL_CERT_FILE", "ca.crt"), ("SSL_CERT_DIR", "authorities")];

#[test]
fn the_authorities_of_the_machine_count_for_files_contexts_and_dockerfiles() {
    let bench = Bench::new();
    fs::create_dir(bench.path("authorities")).unwrap();
    fs::copy(bench.path("ca.crt"), bench.path("authorities/ca.pem")).unwrap();
    fs::write(bench.path("served/f"), "fetched\n").unwrap();

    fs::write(bench.path("Dockerfile"), format!("FROM scratch\nADD {} /f\n", bench.url("f"))).unwrap();
    bench.is_trusted_by(&["."], &VARIABLES);
    let (_, said) = bench.run(&["."], &[]);
    assert!(said.contains("SSL_CERT_FILE"), "the help names it: {said}");

    fs::write(bench.path("served/Dockerfile"), "FROM scratch\nCOPY f /f\n").unwrap();
    let tar =
        Command::new("tar").args(["-czf", "../context.tgz", "."]).current_dir(bench.path("served")).status();
    assert!(tar.unwrap().success());
    fs::rename(bench.path("context.tgz"), bench.path("served/context.tgz")).unwrap();
    bench.is_trusted_by(&[&bench.url("context.tgz")], &VARIABLES);

    // A Dockerfile as the context, and a Dockerfile beside a context.
    fs::write(bench.path("served/alone"), "FROM scratch\nCOPY <<here /f\nfetched\nhere\n").unwrap();
    bench.is_trusted_by(&[&bench.url("alone")], &VARIABLES);
    fs::create_dir(bench.path("context")).unwrap();
    bench.is_trusted_by(&["-f", &bench.url("alone"), "context"], &VARIABLES);
}

#[test]
fn the_authorities_of_the_machine_count_for_repositories() {
    let bench = Bench::new();
    let script = "git init -q -b main r.git; cd r.git; echo fetched > f; printf 'FROM scratch\\nCOPY f /f\\n' > Dockerfile; \
         git add -A; git -c user.name=t -c user.email=t@example.com commit -qm one; git update-server-info";
    let made = Command::new("sh").args(["-euc", script]).current_dir(bench.path("served")).status();
    assert!(made.unwrap().success());
    let url = bench.url("r.git/.git");
    fs::write(bench.path("Dockerfile"), format!("FROM scratch\nADD {url} /\n")).unwrap();
    fs::write(bench.path("empty.crt"), "").unwrap();
    for context in [url.as_str(), "."] {
        bench.is_trusted_by(&[context], &[("SSL_CERT_FILE", "ca.crt"), ("GIT_SSL_CAINFO", "ca.crt")]);
        // What is meant for git alone goes before.
        let both = [("SSL_CERT_FILE", bench.path("empty.crt")), ("GIT_SSL_CAINFO", bench.path("ca.crt"))];
        assert_eq!(bench.run(&[context], &both).0, Some(0));
        fs::write(
            bench.path("gitconfig"),
            format!("[http]\n\tsslCAInfo = {}\n", bench.path("ca.crt").display()),
        )
        .unwrap();
        let (code, said) = bench.run(&[context], &[("SSL_CERT_FILE", bench.path("empty.crt"))]);
        assert_eq!(code, Some(0), "{said}");
        fs::remove_file(bench.path("gitconfig")).unwrap();
    }
}
