//! TLS settings per host: the system's roots, `certs.d` directories, client certificates, and hosts that need none.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::sync::OnceCell;

/// Makes the TLS settings for one host at a time.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    certs_dirs: Vec<PathBuf>,
    extra_roots: Vec<PathBuf>,
    /// Read on first use: most hosts of a development machine need no TLS at all.
    roots: OnceCell<Arc<RootCertStore>>,
}

impl Tls {
    pub(super) fn new(certs_dirs: Vec<PathBuf>, extra_roots: Vec<PathBuf>) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Self { provider, certs_dirs, extra_roots, roots: OnceCell::new() }
    }

    /// The settings for `authority` (`host[:port]`); with `insecure`, any certificate will do.
    pub(super) async fn config_for(&self, authority: &str, insecure: bool) -> io::Result<Arc<ClientConfig>> {
        let own = host_files(&self.certs_dirs, authority).await?;
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let builder = if insecure {
            let verifier = Arc::new(AcceptAny { provider: self.provider.clone() });
            builder.dangerous().with_custom_certificate_verifier(verifier)
        } else {
            let mut roots = self.roots.get_or_try_init(|| load_roots(&self.extra_roots)).await?.clone();
            if own.roots.is_empty() {
                builder.with_root_certificates(roots)
            } else {
                let store = Arc::make_mut(&mut roots);
                let mut pinned = Vec::new();
                for path in &own.roots {
                    add_pem(store, path).await?;
                    pinned.extend(read_chain(path).await?);
                }
                let inner = WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone());
                let inner = inner.build().map_err(io::Error::other)?;
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinning { inner, pinned }))
            }
        };
        let config = match own.client {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let (chain, key) = load_identity(&cert, &key).await?;
                builder.with_client_auth_cert(chain, key).map_err(|error| bad_file(&cert, &error))?
            }
        };
        Ok(Arc::new(config))
    }
}

/// As the usual verification, but a certificate that is itself in the host's `certs.d` may be the server's own, too:
/// one that signed itself (`openssl req -x509`) is an authority, which RFC 5280 does not let a server be. Its time and
/// the server's name are checked all the same.
#[derive(Debug)]
struct Pinning {
    inner: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Pinning {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let usual = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match usual {
            // Looked at after the time of validity.
            Err(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(why)))
                if why.to_string().contains("CaUsedAsEndEntity")
                    && self.pinned.iter().any(|own| own.as_ref() == end_entity.as_ref()) =>
            {
                let parsed = ParsedCertificate::try_from(end_entity)?;
                verify_server_name(&parsed, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The files of one host in `certs.d`.
#[derive(Debug, Default, PartialEq, Eq)]
struct HostFiles {
    roots: Vec<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
}

/// `*.crt` are authorities, `X.cert` with `X.key` is an identity (Docker: "Verify repository client with certificates").
async fn host_files(dirs: &[PathBuf], authority: &str) -> io::Result<HostFiles> {
    let mut files = HostFiles::default();
    // The authority becomes a directory name.
    if authority.contains(['/', '\0']) || authority.starts_with('.') {
        return Ok(files);
    }
    for dir in dirs.iter().map(|dir| dir.join(authority)) {
        let mut names = Vec::new();
        let mut entries = match tokio::fs::read_dir(&dir).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(bad_file(&dir, &error)),
        };
        while let Some(entry) = entries.next_entry().await? {
            names.push(entry.path());
        }
        names.sort();
        for path in names {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => files.roots.push(path),
                Some("cert") if files.client.is_none() => {
                    let key = path.with_extension("key");
                    if !tokio::fs::try_exists(&key).await.unwrap_or(false) {
                        let why = format!("missing key {} for client certificate", key.display());
                        return Err(bad_file(&path, &why));
                    }
                    files.client = Some((path, key));
                }
                _ => {}
            }
        }
    }
    Ok(files)
}

async fn load_roots(extra: &[PathBuf]) -> io::Result<Arc<RootCertStore>> {
    let mut store = RootCertStore::empty();
    let system = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await.map_err(io::Error::other)?;
    // Bundles hold the odd certificate no library reads; the rest still counts.
    store.add_parsable_certificates(system.certs);
    for path in extra {
        add_pem(&mut store, path).await?;
    }
    Ok(Arc::new(store))
}

async fn add_pem(store: &mut RootCertStore, path: &Path) -> io::Result<()> {
    for certificate in read_chain(path).await? {
        store.add(certificate).map_err(|error| bad_file(path, &error))?;
    }
    Ok(())
}

async fn read_chain(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let pem = tokio::fs::read(path).await.map_err(|error| bad_file(path, &error))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(bad_file(path, &"no certificate in the file")),
        Err(error) => Err(bad_file(path, &error)),
    }
}

/// A certificate chain and its key from PEM files.
pub(crate) async fn load_identity(
    cert: &Path,
    key: &Path,
) -> io::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = read_chain(cert).await?;
    let pem = tokio::fs::read(key).await.map_err(|error| bad_file(key, &error))?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| bad_file(key, &error))?;
    Ok((chain, key))
}

fn bad_file(path: &Path, why: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {why}", path.display()))
}

/// Accepts any certificate, for registries the user declared insecure. Signatures are still checked, so the connection
/// is private to whoever holds the certificate.
#[derive(Debug)]
struct AcceptAny {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn certs_d_layout() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("reg.example:5000");
        std::fs::create_dir(&host).unwrap();
        for name in ["ca.crt", "b.crt", "client.cert", "client.key", "README"] {
            std::fs::write(host.join(name), "x").unwrap();
        }
        let dirs = [dir.path().join("missing"), dir.path().to_owned()];
        let files = host_files(&dirs, "reg.example:5000").await.unwrap();
        assert_eq!(files.roots, [host.join("b.crt"), host.join("ca.crt")]);
        assert_eq!(files.client, Some((host.join("client.cert"), host.join("client.key"))));
        assert_eq!(host_files(&dirs, "other").await.unwrap(), HostFiles::default());
        assert_eq!(host_files(&dirs, "../x").await.unwrap(), HostFiles::default());

        std::fs::remove_file(host.join("client.key")).unwrap();
        let error = host_files(&dirs, "reg.example:5000").await.unwrap_err();
        assert!(error.to_string().contains("missing key"), "{error}");
    }

    #[tokio::test]
    async fn a_bad_authority_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("reg.example")).unwrap();
        std::fs::write(dir.path().join("reg.example/ca.crt"), "not pem").unwrap();
        let tls = Tls::new(vec![dir.path().to_owned()], Vec::new());
        let error = tls.config_for("reg.example", false).await.unwrap_err();
        assert!(error.to_string().contains("ca.crt: no certificate"), "{error}");
    }
}
