//! Servers that speak TLS with certificates of an authority of their own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A certificate authority (`ca.crt`) and a certificate of `localhost` (`tls.crt`, `tls.key`), made by openssl.
pub fn certificates(dir: &Path) {
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca \
         -keyout ca.key -out ca.crt 2>/dev/null && \
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
         -keyout tls.key -out tls.csr 2>/dev/null && \
         printf 'subjectAltName=DNS:localhost' > ext && \
         openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out tls.crt 2>/dev/null";
    assert!(Command::new("sh").arg("-c").arg(script).current_dir(dir).status().unwrap().success());
}

/// A server with TLS on this machine; ends with the value.
pub struct TlsServer {
    pub child: Child,
    pub port: u16,
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves the folder's files, as the certificate of `localhost` in `certificates`.
const FILES: &str = "import http.server, ssl, sys\n\
    class Quiet(http.server.SimpleHTTPRequestHandler):\n\
    \tdef log_message(self, *words): pass\n\
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Quiet)\n\
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
    context.load_cert_chain(sys.argv[1], sys.argv[2])\n\
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)\n\
    print(server.server_address[1], flush=True)\n\
    server.serve_forever()\n";

impl TlsServer {
    /// Serves the files of a folder, with the certificate that [`certificates`] left in another.
    pub fn of_files(folder: &Path, certificates: &Path) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", FILES]).arg(certificates.join("tls.crt")).arg(certificates.join("tls.key"));
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }
}
