//! A real docker-registry for tests (Debian's package `docker-registry`).

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rbuild::oci::{Descriptor, Digest, Index, MediaType};

use super::image::TestImage;

/// The login of [`Registry::start_with_login`].
pub const USER: &str = "someone";
/// Its password.
pub const PASSWORD: &str = "pass word";
/// What `htpasswd -nbB` makes of the two.
const HTPASSWD: &str = "someone:$2y$05$abcdefghijklmnopqrstuuIt/9/tGzLcigNq/.RWIDjeEVR30RSf.\n";

/// A registry on a free port of 127.0.0.1 with an empty store of its own; both go with the value.
pub struct Registry {
    child: Child,
    port: u16,
    authorization: Option<String>,
    _dir: tempfile::TempDir,
}

impl Registry {
    pub fn start() -> Self {
        Self::launch(false, None)
    }

    /// One that wants [`USER`] and [`PASSWORD`].
    pub fn start_with_login() -> Self {
        Self::launch(true, None)
    }

    /// One that keeps everything in that folder.
    pub fn start_in(data: &std::path::Path) -> Self {
        Self::launch(false, Some(data))
    }

    fn launch(login: bool, data: Option<&std::path::Path>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Between choosing the port and using it someone else may take it: then the registry exits.
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let data = data.map_or_else(|| dir.path().join("data"), std::path::Path::to_owned);
            let mut child = spawn(dir.path(), &data, port, login);
            if wait_until_it_listens(&mut child, port) {
                let authorization = login.then(|| basic(USER, PASSWORD));
                return Self { child, port, authorization, _dir: dir };
            }
        }
        panic!("docker-registry does not start; apt-get install docker-registry");
    }

    /// `localhost:PORT`, as it stands in names of images.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Pushes an image under a tag; gives its manifest's descriptor.
    pub fn push(&self, image: &TestImage, repository: &str, tag: &str) -> Descriptor {
        for layer in &image.layers {
            self.push_blob(repository, &layer.blob);
        }
        self.push_blob(repository, &image.config_bytes());
        let descriptor = image.descriptor();
        self.push_manifest(repository, tag, &descriptor.media_type, &image.manifest_bytes());
        descriptor
    }

    /// Pushes an index of manifests that are there already.
    pub fn push_index(&self, manifests: Vec<Descriptor>, repository: &str, tag: &str) -> Digest {
        let media_type = Some(MediaType::INDEX);
        let index = Index { schema_version: 2, media_type, manifests, annotations: Default::default() };
        let bytes = serde_json::to_vec(&index).unwrap();
        self.push_manifest(repository, tag, &MediaType::INDEX, &bytes);
        Digest::of(&bytes)
    }

    pub fn push_manifest(&self, repository: &str, tag: &str, media_type: &MediaType, bytes: &[u8]) {
        let url = format!("http://{}/v2/{repository}/manifests/{tag}", self.host());
        self.send("PUT", &url, media_type.as_str(), bytes);
    }

    pub fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let url = format!("http://{}/v2/{repository}/blobs/uploads/", self.host());
        let location = self.send("POST", &url, "application/octet-stream", b"");
        let digest = Digest::of(bytes);
        let url = format!("{location}&digest={digest}");
        self.send("PUT", &url, "application/octet-stream", bytes);
        digest
    }

    /// Makes a request that must succeed; gives its `Location`.
    fn send(&self, method: &str, url: &str, content_type: &str, body: &[u8]) -> String {
        let mut request =
            ureq::http::Request::builder().method(method).uri(url).header("content-type", content_type);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let response = ureq::run(request.body(body).unwrap()).unwrap();
        let location = response.headers().get("location").map(|v| v.to_str().unwrap().to_owned());
        location.unwrap_or_default()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The header of basic authentication.
pub fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    let text = format!("{user}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

fn spawn(dir: &std::path::Path, data: &std::path::Path, port: u16, login: bool) -> Child {
    let (folder, data) = (dir.display(), data.display());
    let mut config = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: '{data}'}}, delete: {{enabled: true}}}}\n\
         http: {{addr: '127.0.0.1:{port}'}}\n"
    );
    if login {
        std::fs::write(dir.join("htpasswd"), HTPASSWD).unwrap();
        config.push_str(&format!("auth: {{htpasswd: {{realm: tests, path: '{folder}/htpasswd'}}}}\n"));
    }
    let file = dir.join("config.yml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("docker-registry is missing; apt-get install docker-registry")
}

/// Whether the program serves its port before it ends.
pub fn wait_until_it_listens(child: &mut Child, port: u16) -> bool {
    listens_within(child, port, Duration::from_secs(20))
}

/// The same, of one that takes its time to start.
pub fn listens_within(child: &mut Child, port: u16, patience: Duration) -> bool {
    let patience = Instant::now() + patience;
    while Instant::now() < patience {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}
