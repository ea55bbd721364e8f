//! A real nginx with WebDAV for tests (Debian's package `nginx`).

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::registry::wait_until_it_listens;

/// The login that it wants.
pub const USER: &str = "someone";
/// Its password.
pub const PASSWORD: &str = "hidden-word";

/// A server on a free port of 127.0.0.1 that takes whatever is put there; it and its files go with the value.
pub struct Nginx {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Nginx {
    pub fn start() -> Self {
        Self::launch(|folder, port| {
            format!(
                "listen 127.0.0.1:{port}; root {folder}/data;\n\
                 auth_basic tests; auth_basic_user_file {folder}/users;\n\
                 location / {{ dav_methods PUT; create_full_put_path on; }}\n"
            )
        })
    }

    /// Passes on calls of gRPC to a server, without TLS.
    pub fn before(server: &str) -> Self {
        Self::launch(|_, port| {
            format!("listen 127.0.0.1:{port} http2; location / {{ grpc_pass grpc://{server}; }}")
        })
    }

    /// Passes on calls of gRPC to a server, as platforms do that let nobody in whom they do not know: over TLS, to those who show a
    /// certificate of the authority in `certificates` (see `tls::certificates`) and say [`PASSWORD`] as a bearer's token.
    pub fn guarding(server: &str, certificates: &Path) -> Self {
        let files = certificates.display().to_string();
        Self::launch(|_, port| {
            format!(
                "listen 127.0.0.1:{port} ssl http2;\n\
                 ssl_certificate {files}/tls.crt; ssl_certificate_key {files}/tls.key;\n\
                 ssl_client_certificate {files}/ca.crt; ssl_verify_client on;\n\
                 location / {{\n\
                 if ($http_authorization != \"Bearer {PASSWORD}\") {{ return 401; }}\n\
                 grpc_pass grpc://{server};\n\
                 }}\n"
            )
        })
    }

    /// A server of which `says`, given its folder and port, says the most.
    fn launch(says: impl Fn(&str, u16) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        std::fs::write(dir.path().join("users"), format!("{USER}:{{PLAIN}}{PASSWORD}\n")).unwrap();
        // Between choosing the port and using it someone else may take it: then nginx exits.
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let says = says(&dir.path().display().to_string(), port);
            let mut child = spawn(dir.path(), &says);
            if wait_until_it_listens(&mut child, port) {
                return Self { child, port, dir };
            }
        }
        panic!("nginx does not start: {:?}", std::fs::read_to_string(dir.path().join("errors")));
    }

    /// `localhost:PORT`
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Where the files are.
    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// What was asked so far, as `GET /path 200`.
    pub fn requests(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.dir.path().join("requests")).unwrap();
        log.lines().map(str::to_owned).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &Path, says: &str) -> Child {
    let folder = dir.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String =
        temporary.iter().map(|kind| format!("{kind}_temp_path {folder}/temporary;\n")).collect();
    // One process, so that killing it leaves none.
    let config = format!(
        "daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;\n\
         events {{}}\n\
         http {{\n\
         log_format short '$request_method $uri $status'; access_log {folder}/requests short;\n\
         {temporary}\
         client_max_body_size 0;\n\
         server {{\n{says}\n}} }}\n"
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    // Where root has it, and nobody's PATH leads.
    let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
    let mut command = Command::new(program);
    command.arg("-c").arg(&file).arg("-e").arg(dir.join("errors")).arg("-p").arg(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("nginx is missing; apt-get install nginx")
}
