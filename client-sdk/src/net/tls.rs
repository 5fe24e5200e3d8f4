//! TLS: which server certificates are trusted.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use zim_protocol::ErrorCode;

use super::certificate::CertificateProblem;
use crate::config::Trust;
use crate::error::Error;

/// Why the last certificate was refused.
pub(super) type Refused = Arc<Mutex<Option<CertificateProblem>>>;

/// Returns the TLS settings of a client, and where they note why a certificate is refused.
pub(super) fn client_config(trust: &Trust) -> Result<(ClientConfig, Refused), Error> {
    let refused = Refused::default();
    let verifier = Noting { verifier: certificate_verifier(trust)?, refused: Arc::clone(&refused) };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| untrusted("TLS 1.3 is not available").with_source(error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![zim_protocol::wire::ALPN.to_vec()];
    Ok((config, refused))
}

/// Returns the TLS settings for HTTPS. They trust the chat server at `host` as the connection does, and other servers as the system
/// does, because files may be elsewhere.
pub(crate) fn https_config(trust: &Trust, host: String) -> Result<ClientConfig, Error> {
    let own = certificate_verifier(trust)?;
    // A system without authorities still has its own server.
    let system = if *trust == Trust::System { None } else { system_roots().and_then(verifier).ok() };
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| untrusted("TLS 1.3 is not available").with_source(error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ByHost { host, own, system }))
        .with_no_client_auth();
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
    Ok(match trust {
        Trust::System => verifier(system_roots()?)?,
        Trust::CaFile(file) => {
            let certificates = certificates(file)?;
            let mut roots = RootCertStore::empty();
            for certificate in &certificates {
                roots.add(certificate.clone()).map_err(|error| {
                    untrusted(format!("{} contains a certificate that cannot be used: {error}", file.display()))
                        .with_source(error)
                })?;
            }
            Arc::new(FromFile { verifier: verifier(roots)?, certificates })
        }
        Trust::Fingerprint(fingerprint) => Arc::new(Pinned { fingerprint: *fingerprint, provider: provider() }),
    })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = CertificateDer::pem_file_iter(file)
        .map_err(|error| untrusted(format!("{} cannot be read: {error}", file.display())).with_source(error))?;
    let certificates: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| {
        untrusted(format!("{} is not a valid PEM file: {error}", file.display())).with_source(error)
    })?;
    if certificates.is_empty() {
        return Err(untrusted(format!("{} contains no certificate", file.display())));
    }
    Ok(certificates)
}

fn verifier(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    verifier.map_err(|error| untrusted("the certificate verifier cannot be built").with_source(error))
}

fn untrusted(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::NetworkModuleNetworkError, message).with_detail("reason", "trust")
}

fn system_roots() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(untrusted("this system has no trusted authorities"));
    }
    Ok(roots)
}

/// Notes why a certificate is refused.
#[derive(Debug)]
struct Noting {
    verifier: Arc<dyn ServerCertVerifier>,
    refused: Refused,
}

impl ServerCertVerifier for Noting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        verified.inspect_err(|error| *self.refused.lock() = CertificateProblem::of(error))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Trusts the chat server as the connection does. Other servers may also have a certificate that the system trusts.
#[derive(Debug)]
struct ByHost {
    host: String,
    own: Arc<dyn ServerCertVerifier>,
    system: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for ByHost {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let own = self.own.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        match &self.system {
            Some(system) if own.is_err() && !name.to_str().eq_ignore_ascii_case(&self.host) => {
                system.verify_server_cert(end_entity, intermediates, name, ocsp, now)
            }
            _ => own,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.own.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.own.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.own.supported_verify_schemes()
    }
}

/// Trusts the authorities in a file, and the certificates in it themselves. Those that `openssl req -x509` makes are marked as
/// authorities, and a server may use one as its own.
#[derive(Debug)]
struct FromFile {
    verifier: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for FromFile {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        let is_untrusted = verified.as_ref().is_err_and(|error| {
            let problem = CertificateProblem::of(error);
            matches!(problem, Some(CertificateProblem::OfAuthority | CertificateProblem::UnknownIssuer))
        });
        if is_untrusted && self.certificates.contains(end_entity) {
            // Its time was checked before its kind and its issuer, and the rest is what the file says. Its name is left.
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
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
        Err(CertificateError::ApplicationVerificationFailure.into())
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;

    /// Within the validity of the certificates.
    const NOW_S: u64 = 1_700_000_000;
    const YEAR_S: u64 = 366 * 86_400;

    /// A certificate that is valid in 2023, and its PEM form.
    struct Made {
        der: CertificateDer<'static>,
        pem: String,
    }

    fn params(names: &[&str], is_ca: bool) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2023, 1, 1), date_time_ymd(2023, 12, 31));
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params
    }

    /// Makes what `openssl req -x509` does: self-signed, and marked as an authority.
    fn self_made(names: &[&str]) -> Made {
        let certificate = params(names, true).self_signed(&KeyPair::generate().unwrap()).unwrap();
        Made { der: certificate.der().clone(), pem: certificate.pem() }
    }

    /// Verifies `server` with `ca` as the CA file.
    fn verify(ca: &Made, server: &Made, name: &str, now_s: u64) -> Result<(), CertificateProblem> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, &ca.pem).unwrap();
        verify_by(&Trust::CaFile(file), server, name, now_s)
    }

    fn verify_by(trust: &Trust, server: &Made, name: &str, now_s: u64) -> Result<(), CertificateProblem> {
        let (name, now) = (ServerName::try_from(name).unwrap(), UnixTime::since_unix_epoch(Duration::from_secs(now_s)));
        let verified = certificate_verifier(trust).unwrap().verify_server_cert(&server.der, &[], &name, &[], now);
        verified.map(drop).map_err(|error| CertificateProblem::of(&error).unwrap())
    }

    #[test]
    fn a_self_made_certificate_is_trusted_by_its_file() {
        let own = self_made(&["chat.example", "127.0.0.1"]);
        for name in ["chat.example", "127.0.0.1"] {
            assert_eq!(verify(&own, &own, name, NOW_S), Ok(()));
        }
        // Name and time are still checked, and another certificate is not trusted.
        let names = vec!["chat.example".to_owned(), "127.0.0.1".to_owned()];
        let other_name = CertificateProblem::OtherName { expected: "localhost".to_owned(), names };
        assert_eq!(other_name.to_string(), "it is for chat.example, 127.0.0.1, and not for localhost");
        assert_eq!(verify(&own, &own, "localhost", NOW_S), Err(other_name));
        assert_eq!(verify(&own, &own, "chat.example", NOW_S + YEAR_S), Err(CertificateProblem::Expired));
        assert_eq!(verify(&own, &own, "chat.example", NOW_S - YEAR_S), Err(CertificateProblem::NotValidYet));
        let other = self_made(&["chat.example"]);
        assert_eq!(verify(&other, &own, "chat.example", NOW_S), Err(CertificateProblem::OfAuthority));
        let nameless = self_made(&[]);
        let refused = verify(&nameless, &nameless, "chat.example", NOW_S).unwrap_err();
        assert_eq!(refused.to_string(), "it has no subject alternative name, and chat.example must be one");
    }

    #[test]
    fn a_file_without_a_usable_certificate_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, expected) in
            [(None, "cannot be read: "), (Some("a poem"), "no certificate"), (Some(bad), "that cannot be used: ")]
        {
            if let Some(text) = text {
                std::fs::write(&file, text).unwrap();
            }
            let error = certificate_verifier(&Trust::CaFile(file.clone())).unwrap_err();
            assert!(error.message().contains("ca.pem") && error.message().contains(expected), "{error}");
            assert!(error.to_string().ends_with("or Trust::Fingerprint)"), "{error}");
        }
    }

    #[test]
    fn a_certificate_needs_an_authority_of_the_file() {
        let (key, server_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let authority = params(&[], true);
        let ca = authority.self_signed(&key).unwrap();
        let ca = Made { der: ca.der().clone(), pem: ca.pem() };
        let signed = params(&["chat.example"], false).signed_by(&server_key, &Issuer::new(authority, key)).unwrap();
        let signed = Made { der: signed.der().clone(), pem: signed.pem() };
        assert_eq!(verify(&ca, &signed, "chat.example", NOW_S), Ok(()));
        // The file may also have the certificate itself, which names another issuer.
        assert_eq!(verify(&signed, &signed, "chat.example", NOW_S), Ok(()));
        let other_name = verify(&signed, &signed, "localhost", NOW_S).unwrap_err();
        assert_eq!(other_name.reason(), "certificateOtherName");
        assert_eq!(verify(&signed, &signed, "chat.example", NOW_S + YEAR_S), Err(CertificateProblem::Expired));
        // All have the same name, as two that one server made for itself.
        let other = self_made(&["chat.example"]);
        assert_eq!(verify(&other, &signed, "chat.example", NOW_S), Err(CertificateProblem::UnknownIssuer));
        let pinned = |bytes| verify_by(&Trust::Fingerprint(bytes), &signed, "any.name", NOW_S + YEAR_S);
        assert_eq!(pinned(Sha256::digest(&signed.der).into()), Ok(()));
        assert_eq!(pinned([0; 32]), Err(CertificateProblem::OtherFingerprint));
    }
}
