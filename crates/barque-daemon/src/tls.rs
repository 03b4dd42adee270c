//! TLS of TCP listeners.

use std::path::Path;
use std::sync::Arc;

use barque_model::{Error, Result};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use crate::config::TlsSettings;

/// Reads the files.
///
/// # Errors
/// A file that is missing or malformed, with its path.
pub(crate) fn server_config(settings: &TlsSettings) -> Result<Arc<rustls::ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|why| Error::internal("cannot set up TLS").with_source(why))?;
    let builder = if settings.verify {
        let mut roots = RootCertStore::empty();
        for cert in certificates(&settings.ca)? {
            roots.add(cert).map_err(|why| unreadable("CA certificate", &settings.ca, why))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|why| unreadable("CA certificate", &settings.ca, why))?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let chain = certificates(&settings.cert)?;
    let key =
        PrivateKeyDer::from_pem_file(&settings.key).map_err(|why| unreadable("private key", &settings.key, why))?;
    let mut config =
        builder.with_single_cert(chain, key).map_err(|why| unreadable("certificate", &settings.cert, why))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn unreadable(what: &str, path: &Path, why: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::invalid(format!("could not read the {what} {} for TLS", path.display()))
        .with_source(why)
        .with_hint("--tlscacert, --tlscert and --tlskey name the files")
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certs: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match certs {
        Ok(certs) if certs.is_empty() => Err(Error::invalid(format!("no certificate in {}", path.display()))),
        Ok(certs) => Ok(certs),
        Err(why) => Err(unreadable("certificate", path, why)),
    }
}
