//! Base images: a small one of busybox in memory, and Debian's.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::image::{TestImage, TestLayer};
use super::registry::Registry;

/// A registry with `busybox:latest` in it.
pub fn busybox_registry() -> Registry {
    let registry = Registry::start();
    registry.push(&busybox(), "busybox", "latest");
    registry
}

/// A context and Dockerfile that need no registry: busybox, and these lines.
pub fn with_busybox(world: &super::program::World, lines: &str) {
    world.file("busybox", std::fs::read("/bin/busybox").expect("needs the package busybox-static"));
    world.set_mode("busybox", 0o755);
    world.dockerfile(&format!(
        "FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\nCOPY busybox /bin/true\n{lines}\n"
    ));
}

/// An image of Debian's static busybox, its applets as links, and the usual folders.
pub fn busybox() -> TestImage {
    let program = std::fs::read("/bin/busybox").expect("needs the package busybox-static");
    let mut tar = tar::Builder::new(Vec::new());
    for (name, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("proc", 0o755),
        ("sys", 0o755),
        ("root", 0o700),
        ("tmp", 0o1777),
    ] {
        append(&mut tar, tar::EntryType::Directory, name, mode, b"");
    }
    append(&mut tar, tar::EntryType::Regular, "bin/busybox", 0o755, &program);
    for applet in APPLETS.split_whitespace() {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    append(
        &mut tar,
        tar::EntryType::Regular,
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n",
    );
    append(&mut tar, tar::EntryType::Regular, "etc/group", 0o644, b"root:x:0:\napp:x:1000:\n");
    let mut image = TestImage::new("linux/amd64", vec![TestLayer::gzip(&tar.into_inner().unwrap())]);
    let history = serde_json::json!([{"created_by": "busybox"}]);
    image.config.history = serde_json::from_value(history).unwrap();
    image.config.created = Some("2025-01-01T00:00:00Z".to_owned());
    image
}

const APPLETS: &str = "sh ls cat id env mkdir rmdir rm mv cp touch chmod chown mkfifo ln head tail grep stat wc ps \
    sleep kill echo test true false seq dd sync find pwd printf date sort sha256sum od yes usleep";

fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(1_735_689_600);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append(tar: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, mode: u32, content: &[u8]) {
    tar.append_data(&mut header(kind, mode, content.len()), name, content).unwrap();
}

/// Debian's base image in a real registry, by the project's own script; stopped with the value.
pub struct DebianRegistry {
    folder: PathBuf,
    port: u16,
}

impl DebianRegistry {
    /// Making the image takes a minute the first time on a machine, and needs Debian's mirrors.
    pub fn start() -> Self {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        let folder = cache.expect("$HOME is set").join("rbuild-fixtures");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let registry = Self { folder, port };
        registry.script("start");
        registry
    }

    /// `localhost:PORT/debian:bookworm`
    pub fn debian(&self) -> String {
        format!("localhost:{}/debian:bookworm", self.port)
    }

    fn script(&self, verb: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fixtures/debian-base.sh");
        let mut command = Command::new("sh");
        command.arg(script).arg("--dir").arg(&self.folder).args(["--port", &self.port.to_string(), verb]);
        // A pipe would stay open as long as the registry lives.
        let log = tempfile::NamedTempFile::new().unwrap();
        let status = command.stdout(log.reopen().unwrap()).stderr(log.reopen().unwrap()).status().unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(log.path()).unwrap());
    }
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        self.script("stop");
    }
}
