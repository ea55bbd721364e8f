//! Where docker's daemon is: `$DOCKER_HOST`, the context that is in use, or the usual socket; as docker itself finds it.

use std::fmt;
use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use serde_json::Value;

use super::stream::{Program, Stream};
use crate::engine::Error;
use crate::http::{Environment, Unverified};
use crate::oci::Digest;

/// Where the daemon listens when nothing else is said.
const USUAL: &str = "/var/run/docker.sock";
/// For opening a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// The longest file of a context.
const FILE_LIMIT: u64 = 1 << 20;

/// Where a daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Unix(PathBuf),
    Tcp {
        host: String,
        port: u16,
        /// The folder with `ca.pem`, `cert.pem` and `key.pem`.
        tls: Option<Tls>,
    },
    /// `ssh://[USER@]HOST[:PORT]`: what `ssh` is told.
    Ssh {
        words: Vec<String>,
        shown: String,
    },
}

/// How the two know each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tls {
    /// Docker's three files.
    folder: PathBuf,
    /// Whether the daemon may show any certificate, as the context's user said (`skip-tls-verify=true`).
    takes_any: bool,
}

impl Address {
    /// The daemon of `context`, or of what docker would take. Nothing is connected yet.
    pub(super) fn find(environment: &Environment, context: Option<&str>) -> Result<Self, Error> {
        let variable = |name: &str| environment.get(name).and_then(|value| value.to_str());
        let folder = environment.get("DOCKER_CONFIG").map(PathBuf::from);
        let folder = folder.or_else(|| environment.path("HOME", ".docker"));
        if let (None, Some(host)) = (context, variable("DOCKER_HOST")) {
            let certificates = || environment.get("DOCKER_CERT_PATH").map(PathBuf::from).or(folder.clone());
            let tls = variable("DOCKER_TLS_VERIFY").and_then(|_| certificates());
            let tls = tls.map(|folder| Tls { folder, takes_any: false });
            return Self::parse(host, tls, "$DOCKER_HOST");
        }
        let chosen = context.or_else(|| variable("DOCKER_CONTEXT")).map(str::to_owned);
        let chosen = chosen.or_else(|| folder.as_deref().and_then(current_context));
        match chosen.filter(|name| name != "default") {
            None => Ok(Self { kind: Kind::Unix(PathBuf::from(USUAL)) }),
            Some(name) => Self::of_context(folder.as_deref(), &name),
        }
    }

    fn of_context(folder: Option<&Path>, name: &str) -> Result<Self, Error> {
        let id = Digest::of(name.as_bytes()).hex();
        let bad = |reason: &str| Error::BadAddress {
            text: name.to_owned(),
            origin: "docker's context",
            reason: reason.to_owned(),
        };
        let contexts = folder
            .ok_or_else(|| bad("neither $DOCKER_CONFIG nor $HOME says where it is kept"))?
            .join("contexts");
        let file = contexts.join("meta").join(&id).join("meta.json");
        let text = read(&file).map_err(|e| {
            bad(&match e.kind() {
                io::ErrorKind::NotFound => {
                    "there is no such context; `docker context ls` lists them".to_owned()
                }
                _ => format!("cannot read `{}`: {e}", file.display()),
            })
        })?;
        let meta: Value =
            serde_json::from_slice(&text).map_err(|e| bad(&format!("`{}`: {e}", file.display())))?;
        let endpoint = &meta["Endpoints"]["docker"];
        let (folder, takes_any) =
            (contexts.join("tls").join(&id).join("docker"), endpoint["SkipTLSVerify"] == true);
        let host = endpoint["Host"].as_str().unwrap_or_default();
        let tls = (takes_any || folder.is_dir()).then_some(Tls { folder, takes_any });
        Self::parse(host, tls, "docker's context")
    }

    /// `unix://PATH`, `tcp://HOST[:PORT]`, `http://…`, `https://…` or `ssh://…`
    fn parse(text: &str, tls: Option<Tls>, origin: &'static str) -> Result<Self, Error> {
        let bad =
            |reason: &str| Error::BadAddress { text: text.to_owned(), origin, reason: reason.to_owned() };
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        let kind = match scheme {
            "unix" if rest.is_empty() => Kind::Unix(PathBuf::from(USUAL)),
            "unix" => Kind::Unix(PathBuf::from(rest)),
            "tcp" | "http" | "https" => {
                let authority = rest.split('/').next().unwrap_or_default();
                let port = if tls.is_some() { 2376 } else { 2375 };
                let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
                    Some((host, port)) => (host, port.parse().map_err(|_| bad("its port is no number"))?),
                    None => (authority, port),
                };
                let host = host.trim_start_matches('[').trim_end_matches(']');
                // As docker has it, an address without a host is on this machine.
                let host = if host.is_empty() { "127.0.0.1" } else { host };
                Kind::Tcp { host: host.to_owned(), port, tls }
            }
            "ssh" => {
                let authority = rest.split('/').next().unwrap_or_default();
                let (user, host) =
                    authority.rsplit_once('@').map_or((None, authority), |(u, h)| (Some(u), h));
                let (host, port) = host.split_once(':').map_or((host, None), |(h, p)| (h, Some(p)));
                let is_word = |text: &str| !text.is_empty() && !text.starts_with('-');
                if ![Some(host), user, port].into_iter().flatten().all(is_word) {
                    return Err(bad("write it as ssh://[USER@]HOST[:PORT]"));
                }
                let option =
                    |name: &str, value: Option<&str>| value.map(|value| [name.to_owned(), value.to_owned()]);
                let options = [option("-l", user), option("-p", port)].into_iter().flatten().flatten();
                let words = options
                    .chain(["--", host, "docker", "system", "dial-stdio"].map(str::to_owned))
                    .collect();
                Kind::Ssh { words, shown: format!("ssh://{host}") }
            }
            _ => return Err(bad("it is unix://PATH, tcp://HOST:PORT or ssh://HOST")),
        };
        Ok(Self { kind })
    }

    /// Whether the daemon sees this machine's loopback.
    pub(super) fn is_here(&self) -> bool {
        match &self.kind {
            Kind::Unix(_) => true,
            Kind::Tcp { host, .. } => crate::http::is_loopback_host(host),
            Kind::Ssh { .. } => false,
        }
    }

    /// What requests name in `Host`.
    pub(super) fn host(&self) -> &str {
        match &self.kind {
            Kind::Tcp { host, .. } => host,
            Kind::Unix(_) | Kind::Ssh { .. } => "docker",
        }
    }

    pub(super) fn connect(&self) -> Result<Stream, Error> {
        let failed =
            |source: io::Error| Error::NotThere { engine: "docker", place: self.to_string(), source };
        match &self.kind {
            Kind::Unix(path) => UnixStream::connect(path).map(Stream::Unix).map_err(failed),
            Kind::Tcp { host, port, tls } => {
                let stream = dial(host, *port).map_err(failed)?;
                match tls {
                    None => Ok(Stream::Tcp(stream)),
                    Some(tls) => secured(host, stream, tls).map_err(failed),
                }
            }
            Kind::Ssh { words, .. } => {
                let mut command = Command::new("ssh");
                command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
                let mut child = command.spawn().map_err(failed)?;
                let ends = (child.stdin.take(), child.stdout.take());
                let (Some(input), Some(output)) = ends else {
                    return Err(failed(io::ErrorKind::BrokenPipe.into()));
                };
                Ok(Stream::Program(Program { child, input, output }))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Unix(path) => write!(f, "unix://{}", path.display()),
            Kind::Tcp { host, port, .. } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Kind::Tcp { host, port, .. } => write!(f, "tcp://{host}:{port}"),
            Kind::Ssh { shown, .. } => f.write_str(shown),
        }
    }
}

/// What `docker context use` chose.
fn current_context(folder: &Path) -> Option<String> {
    let config: Value = serde_json::from_slice(&read(&folder.join("config.json")).ok()?).ok()?;
    config["currentContext"].as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for address in (host, port).to_socket_addrs()? {
        outcome = TcpStream::connect_timeout(&address, CONNECT);
        if outcome.is_ok() {
            break;
        }
    }
    let stream = outcome?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// TLS with docker's three files: who may sign the daemon's certificate, and what the client shows.
fn secured(host: &str, stream: TcpStream, Tls { folder, takes_any }: &Tls) -> io::Result<Stream> {
    let in_file = |name: &str, e: &dyn fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("`{}`: {e}", folder.join(name).display()))
    };
    let certificates = |name: &str| -> io::Result<Vec<CertificateDer<'static>>> {
        let read = CertificateDer::pem_file_iter(folder.join(name)).and_then(Iterator::collect);
        read.map_err(|e| in_file(name, &e))
    };
    let other = |e: rustls::Error| io::Error::new(io::ErrorKind::InvalidInput, e.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions();
    let builder = match takes_any {
        true => builder
            .map_err(other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider))),
        false => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in certificates("ca.pem")? {
                roots.add(certificate).map_err(|e| in_file("ca.pem", &e))?;
            }
            builder.map_err(other)?.with_root_certificates(roots)
        }
    };
    let config = match folder.join("cert.pem").is_file() {
        false => builder.with_no_client_auth(),
        true => {
            let key =
                PrivateKeyDer::from_pem_file(folder.join("key.pem")).map_err(|e| in_file("key.pem", &e))?;
            builder
                .with_client_auth_cert(certificates("cert.pem")?, key)
                .map_err(|e| in_file("cert.pem", &e))?
        }
    };
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))?;
    let mut stream = rustls::StreamOwned::new(
        rustls::ClientConnection::new(Arc::new(config), name).map_err(other)?,
        stream,
    );
    // What is wrong with certificates is said now, not in the middle of a request.
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Stream::Tls(Box::new(stream)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(environment: &Environment, context: Option<&str>) -> String {
        Address::find(environment, context)
            .map_or_else(|e| e.to_string(), |address| format!("{:?}", address.kind))
    }

    #[test]
    fn docker_host_is_read_as_docker_reads_it() {
        for (host, expected) in [
            ("unix:///x/y.sock", "Unix(\"/x/y.sock\")"),
            ("tcp://h", "Tcp { host: \"h\", port: 2375, tls: None }"),
            ("tcp://[::1]:77", "Tcp { host: \"::1\", port: 77, tls: None }"),
            ("h:1", "Tcp { host: \"h\", port: 1, tls: None }"),
            ("tcp://:1", "Tcp { host: \"127.0.0.1\", port: 1, tls: None }"),
            ("", "Unix(\"/var/run/docker.sock\")"),
        ] {
            assert_eq!(found(&Environment::empty().with("DOCKER_HOST", host), None), expected, "{host}");
        }
        let ssh = found(&Environment::empty().with("DOCKER_HOST", "ssh://u@h:7"), None);
        assert!(
            ssh.contains(r#"["-l", "u", "-p", "7", "--", "h", "docker", "system", "dial-stdio"]"#),
            "{ssh}"
        );
        for (host, expected) in [
            ("tcp://h:x", "its port is no number"),
            ("npipe:////x", "it is unix://PATH"),
            ("ssh://-o", "write it as ssh://"),
        ] {
            let told = found(&Environment::empty().with("DOCKER_HOST", host), None);
            assert!(told.contains(expected) && told.contains(host), "{told}");
        }
        let tls = Environment::empty()
            .with("DOCKER_HOST", "tcp://h")
            .with("DOCKER_TLS_VERIFY", "1")
            .with("HOME", "/u");
        assert_eq!(
            found(&tls, None),
            "Tcp { host: \"h\", port: 2376, tls: Some(Tls { folder: \"/u/.docker\", takes_any: false }) }"
        );
    }

    #[test]
    fn contexts_are_those_of_docker() {
        let dir = tempfile::tempdir().unwrap();
        let meta = dir.path().join("contexts/meta").join(Digest::of(b"far").hex());
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(
            meta.join("meta.json"),
            r#"{"Name":"far","Endpoints":{"docker":{"Host":"tcp://far:1"}}}"#,
        )
        .unwrap();
        let environment = Environment::empty().with("DOCKER_CONFIG", dir.path());
        let far = "Tcp { host: \"far\", port: 1, tls: None }";
        assert_eq!(found(&environment, None), "Unix(\"/var/run/docker.sock\")");
        assert_eq!(found(&environment, Some("far")), far);
        assert_eq!(found(&environment.clone().with("DOCKER_CONTEXT", "far"), None), far);
        assert_eq!(
            found(&environment.clone().with("DOCKER_CONTEXT", "default"), None),
            "Unix(\"/var/run/docker.sock\")"
        );
        assert!(found(&environment, Some("near")).contains("there is no such context"));
        let any = dir.path().join("contexts/meta").join(Digest::of(b"any").hex());
        std::fs::create_dir_all(&any).unwrap();
        let meta = r#"{"Name":"any","Endpoints":{"docker":{"Host":"tcp://h:1","SkipTLSVerify":true}}}"#;
        std::fs::write(any.join("meta.json"), meta).unwrap();
        assert!(found(&environment, Some("any")).ends_with("takes_any: true }) }"));
        std::fs::write(dir.path().join("config.json"), r#"{"currentContext":"far"}"#).unwrap();
        assert_eq!(found(&environment, None), far);
        // As in docker, the host counts more than the context.
        assert_eq!(found(&environment.with("DOCKER_HOST", "unix:///s"), None), "Unix(\"/s\")");
    }
}
