//! Which certificates are trusted, and which one is shown: read when the first https request is made.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::environment::Environment;

/// Where distributions keep the bundle of roots (the list of Go's `crypto/x509`).
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A file of certificates larger than this is not one.
const FILE_LIMIT: u64 = 16 << 20;

/// What a connection to a host needs to be trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trusted {
    /// Any certificate will do.
    pub insecure: bool,
    /// Files and folders of certificates beside the usual ones.
    pub ca: Vec<PathBuf>,
    /// What is shown: files of a certificate and of its key. Goes before what the folders have.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// The trusted roots, read once.
#[derive(Default)]
pub(super) struct Trust {
    system: OnceLock<Arc<Vec<Certificate<'static>>>>,
}

impl Trust {
    /// The settings for hosts whose own certificates are in `folders` (from [`host_folders`]) and in `trusted`.
    pub(super) fn config(
        &self,
        environment: &Environment,
        folders: &[PathBuf],
        trusted: &Trusted,
    ) -> TlsConfig {
        let system = self.system.get_or_init(|| Arc::new(system_roots(environment)));
        let mut roots = system.to_vec();
        let (named_folders, named_files): (Vec<&PathBuf>, Vec<&PathBuf>) =
            trusted.ca.iter().partition(|path| path.is_dir());
        let folders: Vec<&PathBuf> = named_folders.into_iter().chain(folders).collect();
        for file in folders.iter().flat_map(|folder| files(folder, "crt")) {
            roots.extend(certificates(&read(&file)));
        }
        roots.extend(named_files.into_iter().flat_map(|file| certificates(&read(file)).collect::<Vec<_>>()));
        // Without any root of the system those of Mozilla, which are compiled in, are better than none.
        let roots = if roots.is_empty() { RootCerts::WebPki } else { RootCerts::new_with_certs(&roots) };
        let named = trusted.client.as_ref();
        let client = named.and_then(|(certificate, key)| client_certificate(certificate, key));
        let client = client.or_else(|| folders.iter().find_map(|folder| client_certificate_of(folder)));
        let builder = TlsConfig::builder().root_certs(roots).client_cert(client);
        builder.disable_verification(trusted.insecure).build()
    }
}

/// The folders `certs.d/<host[:port]>` that exist for a host.
pub(super) fn host_folders(certs_d: &[PathBuf], host: &str, port: u16) -> Vec<PathBuf> {
    let mut names = vec![format!("{host}:{port}")];
    if port == 443 {
        names.push(host.to_owned());
    }
    let candidates = certs_d.iter().flat_map(|base| names.iter().map(|name| base.join(name)));
    candidates.filter(|folder| folder.is_dir()).collect()
}

/// `SSL_CERT_FILE` replaces the usual bundle, `SSL_CERT_DIR` adds to it.
pub(super) fn system_roots(environment: &Environment) -> Vec<Certificate<'static>> {
    let bundle = match environment.get("SSL_CERT_FILE") {
        Some(file) => Some(PathBuf::from(file)),
        None => BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file()),
    };
    let mut seen = BTreeSet::new();
    let mut roots = Vec::new();
    let folders = environment.get("SSL_CERT_DIR").map(std::env::split_paths).into_iter().flatten();
    let others = folders.flat_map(|folder| every_file(&folder));
    for file in bundle.into_iter().chain(others) {
        for certificate in certificates(&read(&file)) {
            if seen.insert(certificate.der().to_vec()) {
                roots.push(certificate);
            }
        }
    }
    roots
}

/// Docker's pair `NAME.cert` and `NAME.key`.
fn client_certificate_of(folder: &Path) -> Option<ClientCert> {
    let file = files(folder, "cert").into_iter().next()?;
    client_certificate(&file, &file.with_extension("key"))
}

fn client_certificate(file: &Path, key: &Path) -> Option<ClientCert> {
    let chain: Vec<_> = certificates(&read(file)).collect();
    let key = PrivateKey::from_pem(&read(key)).ok()?;
    (!chain.is_empty()).then(|| ClientCert::new_with_certs(&chain, key))
}

fn certificates(pem: &[u8]) -> impl Iterator<Item = Certificate<'static>> {
    parse_pem(pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    })
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = every_file(folder);
    found.retain(|path| path.extension().is_some_and(|e| e == extension));
    found
}

fn every_file(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    found.sort();
    found
}

/// A certificate that cannot be read is one that is not trusted; the handshake then tells.
fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(FILE_LIMIT).read_to_end(&mut bytes);
    }
    bytes
}
