use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rbuild::config::Flags;
use rbuild::http::{Environment, Problem};
use rbuild::registry::{Client, Error};

use super::{amd64, client, client_in, client_with_certs_d, configured, flagged, reference, store};
use crate::support::tls::{TlsServer, certificates};

/// docker-registry with TLS on a free port.
pub(crate) fn tls_registry(dir: &Path) -> TlsServer {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = dir.display();
    let config = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: '{folder}/data'}}}}\n\
         http: {{addr: '127.0.0.1:{port}', tls: {{certificate: '{folder}/tls.crt', key: '{folder}/tls.key'}}}}\n"
    );
    std::fs::write(dir.join("config.yml"), config).unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(dir.join("config.yml"));
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    TlsServer { child, port }
}

#[test]
fn a_registry_on_this_machine_may_speak_https() {
    let (dir, store) = store();
    certificates(dir.path());
    let registry = tls_registry(dir.path());
    let host = format!("localhost:{}", registry.port);
    let name = reference(&host, "base:1");

    let error = client().resolve(&store, &name, &amd64()).unwrap_err();
    let Error::Unreachable { problem: Problem::Certificate, .. } = &error else { panic!("{error}") };
    assert!(error.help().unwrap().contains(&format!("/etc/docker/certs.d/{host}/ca.crt")));

    let certs_d: PathBuf = dir.path().join("certs.d");
    std::fs::create_dir_all(certs_d.join(&host)).unwrap();
    std::fs::copy(dir.path().join("ca.crt"), certs_d.join(&host).join("ca.crt")).unwrap();
    let trusting = [
        client_with_certs_d(certs_d),
        client_in(Environment::empty().with("SSL_CERT_FILE", dir.path().join("ca.crt"))),
    ];
    for client in trusting {
        // Empty as it is, it answers: that is all that matters here.
        let error = client.resolve(&store, &name, &amd64()).unwrap_err();
        assert!(matches!(error, Error::UnknownManifest { .. }), "{error}");
    }
}

#[test]
fn configuration_and_flags_say_whom_to_trust() {
    let (dir, store) = store();
    certificates(dir.path());
    let registry = tls_registry(dir.path());
    let host = format!("localhost:{}", registry.port);
    let ask = |client: Client| client.resolve(&store, &reference(&host, "base:1"), &amd64()).unwrap_err();
    let ca = dir.path().join("ca.crt");
    let certificates_of_all = dir.path().join("all");
    std::fs::create_dir(&certificates_of_all).unwrap();
    std::fs::copy(&ca, certificates_of_all.join("ca.crt")).unwrap();
    let trusting = [
        configured(&format!("[registry.'{host}']\nca = [{ca:?}]\n")),
        configured(&format!("[registry.'{host}']\ninsecure = true\n")),
        flagged("", Flags { cert_dir: Some(certificates_of_all), ..Flags::default() }),
        flagged("", Flags { tls_verify: Some(false), ..Flags::default() }),
        flagged("", Flags { insecure: vec![host.clone()], ..Flags::default() }),
        flagged("", Flags { insecure: vec!["127.0.0.0/8".to_owned(), host.clone()], ..Flags::default() }),
    ];
    for client in trusting {
        let error = ask(client);
        assert!(matches!(error, Error::UnknownManifest { .. }), "{error}");
    }
    let strict = Flags { tls_verify: Some(true), insecure: vec![host.clone()], ..Flags::default() };
    for client in [flagged("", strict), configured("[registry.'localhost:1']\ninsecure = true\n")] {
        let error = ask(client);
        assert!(matches!(error, Error::Unreachable { problem: Problem::Certificate, .. }), "{error}");
    }
}
