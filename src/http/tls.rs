//! TLS for those who speak something else than HTTP/1 over it: the same roots and certificates, as `rustls` takes them.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};

use super::Environment;
use super::trust::{Trusted, system_roots};

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
