//! TLS to an engine: a directory's `ca.pem`, `cert.pem`, `key.pem`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_model::plain;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{Error, Result};

/// Certificates for a connection.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Authorities trusted for the server; without, those of the system (`SSL_CERT_FILE`, `SSL_CERT_DIR`).
    pub ca: Option<PathBuf>,
    /// The client's certificate, with `key`.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// False: encrypt only, whoever the server is (`--tls` without `--tlsverify`).
    pub verify: bool,
}

impl TlsFiles {
    /// The usual names in a directory, those that exist.
    pub fn in_dir(dir: &Path, verify: bool) -> TlsFiles {
        let file = |name: &str| Some(dir.join(name)).filter(|path| path.exists());
        TlsFiles { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem"), verify }
    }

    /// Reads the files.
    ///
    /// # Errors
    /// A file that is missing or malformed; a certificate without its key.
    pub fn client_config(&self) -> Result<Arc<rustls::ClientConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|why| Error::argument("cannot set up TLS").with_source(why))?;
        let builder = if self.verify {
            builder.with_root_certificates(self.roots()?)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
        };
        let config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = read_certs(cert)?;
                let key_der =
                    PrivateKeyDer::from_pem_file(key).map_err(|why| unreadable("private key", key).with_source(why))?;
                builder
                    .with_client_auth_cert(chain, key_der)
                    .map_err(|why| unreadable("client certificate", cert).with_source(why))?
            }
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), None) => {
                return Err(Error::argument(format!("the key of the certificate {} is missing", cert.display())));
            }
            (None, Some(key)) => {
                return Err(Error::argument(format!("the certificate of the key {} is missing", key.display())));
            }
        };
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let Some(ca) = &self.ca else {
            // Bundles hold the odd certificate no library reads; the rest still counts.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return Ok(roots);
        };
        for cert in read_certs(ca)? {
            roots.add(cert).map_err(|why| unreadable("CA certificate", ca).with_source(why))?;
        }
        Ok(roots)
    }
}

fn unreadable(what: &str, path: &Path) -> Error {
    Error::argument(format!("could not read {what} {}", path.display()))
}

fn read_certs(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = std::fs::read(path).map_err(|why| unreadable("certificate", path).with_source(plain(why.to_string())))?;
    let certs: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certs = certs.map_err(|why| unreadable("certificate", path).with_source(why))?;
    if certs.is_empty() {
        return Err(unreadable("certificate", path).with_source("no certificate in the file"));
    }
    Ok(certs)
}

/// Accepts every server: what `--tls` without `--tlsverify` means.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
