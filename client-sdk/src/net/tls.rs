//! TLS: which server certificates are trusted.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use zim_protocol::ErrorCode;

use crate::config::Trust;
use crate::error::Error;

/// Returns the TLS settings of a client.
pub(crate) fn client_config(trust: &Trust) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| untrusted("TLS 1.3 is not available").with_source(error))?
        .dangerous()
        .with_custom_certificate_verifier(certificate_verifier(trust)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![zim_protocol::wire::ALPN.to_vec()];
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Returns the verifier of the server's certificate. For tools that speak TLS with a server without a
/// [`Zim`](crate::Zim).
///
/// # Errors
/// The certificates to trust cannot be loaded: there is no such file, or no certificate in it.
pub fn certificate_verifier(trust: &Trust) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let roots = match trust {
        Trust::System => system_roots()?,
        Trust::CaFile(file) => {
            let mut roots = RootCertStore::empty();
            let certificates = CertificateDer::pem_file_iter(file)
                .map_err(|error| untrusted(format!("{} cannot be read", file.display())).with_source(error))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| {
                    untrusted(format!("{} is not a valid PEM file", file.display())).with_source(error)
                })?;
                roots.add(certificate).map_err(|error| {
                    untrusted(format!("{} contains a certificate that cannot be used", file.display()))
                        .with_source(error)
                })?;
            }
            if roots.is_empty() {
                return Err(untrusted(format!("{} contains no certificate", file.display())));
            }
            roots
        }
        Trust::Fingerprint(fingerprint) => {
            return Ok(Arc::new(Pinned { fingerprint: *fingerprint, provider: provider() }));
        }
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    verifier
        .map(|verifier| verifier as Arc<_>)
        .map_err(|error| untrusted("the certificate verifier cannot be built").with_source(error))
}

fn untrusted(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::NetworkModuleNetworkError, message)
}

fn system_roots() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(untrusted("this system has no trusted authorities; give a CA file or the server's fingerprint"));
    }
    Ok(roots)
}

/// Trusts exactly one certificate. The server must also own its key: the signature of the handshake is checked.
#[derive(Debug)]
struct Pinned {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if Sha256::digest(end_entity)[..] == self.fingerprint {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General("the server's certificate has another fingerprint".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is supported".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
