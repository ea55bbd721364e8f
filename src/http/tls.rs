//! TLS for those who speak something else than HTTP/1 over it: the same roots and certificates, as `rustls` takes them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};

use super::Environment;
use super::trust::{Trusted, system_roots};

/// What one server's own configuration has, in PEM. The key is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Pem {
    /// Who is trusted, and nobody else; `None` for the machine's roots.
    pub(crate) ca: Option<Vec<u8>>,
    /// What is shown: a certificate, with others up to an authority, and its key.
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
    /// Any certificate will do.
    pub(crate) is_unverified: bool,
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ca, client, is_unverified } = self;
        let (ca, client) = (ca.is_some(), client.is_some());
        write!(f, "ca: {ca}, client: {client}, is_unverified: {is_unverified}")
    }
}

/// Settings for connections that speak HTTP/1.
///
/// # Errors
/// In words; none of them has a part of a key in it.
pub(crate) fn client_config_of(environment: &Environment, pem: &Pem) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
    let builder = match (pem.is_unverified, &pem.ca) {
        (true, _) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(super::Unverified(provider)))
        }
        (false, Some(ca)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates_in(ca).map_err(|e| format!("the server's authority: {e}"))? {
                roots.add(certificate).map_err(|e| format!("the server's authority: {e}"))?;
            }
            builder.with_root_certificates(roots)
        }
        (false, None) => {
            let mut roots = RootCertStore::empty();
            for root in system_roots(environment) {
                // The machine's bundle may have one that is not understood.
                let _ = roots.add(root.der().to_vec().into());
            }
            if roots.is_empty() {
                return Err("this machine has no trusted certificates, and none is named".to_owned());
            }
            builder.with_root_certificates(roots)
        }
    };
    let mut config = match &pem.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key =
                PrivateKeyDer::from_pem_slice(key).map_err(|_| "the client's key is none".to_owned())?;
            let chain = certificates_in(certificate).map_err(|e| format!("the client's certificate: {e}"))?;
            let shown = builder.with_client_auth_cert(chain, key);
            shown.map_err(|e| format!("the client's certificate: {e}"))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates_in(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if certificates.is_empty() => Err("it holds no certificate".to_owned()),
        read => read.map_err(|e| e.to_string()),
    }
}

/// Settings for connections that speak `protocol` (as ALPN names it). Files that are named and cannot be used are errors.
///
/// # Errors
/// In words, with the file's name.
pub(crate) fn client_config(
    environment: &Environment,
    trusted: &Trusted,
    protocol: &str,
) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for root in system_roots(environment) {
        // The machine's bundle may have one that is not understood.
        let _ = roots.add(root.der().to_vec().into());
    }
    for file in &trusted.ca {
        for certificate in certificates(file)? {
            roots.add(certificate).map_err(|e| in_file(file, &e))?;
        }
    }
    if roots.is_empty() {
        return Err("this machine has no trusted certificates; name a file of them".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| e.to_string())?.with_root_certificates(roots);
    let mut config = match &trusted.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|e| in_file(key, &e))?;
            let shown = builder.with_client_auth_cert(certificates(certificate)?, private);
            shown.map_err(|e| in_file(certificate, &e))?
        }
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Ok(config)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(in_file(file, &"it holds no certificate")),
        read => read.map_err(|e| in_file(file, &e)),
    }
}

fn in_file(file: &Path, what: &dyn std::fmt::Display) -> String {
    format!("`{}`: {what}", file.display())
}
