//! The certificate: the operator's, or a self-signed one from the first start, which clients trust by its fingerprint.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ProducesTickets;
use sha2::{Digest, Sha256};
use zim_protocol::wire::ALPN;

use crate::config::Config;
use crate::folder::{Folder, FolderError, read_secret};

const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";

/// Why the certificate cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file contains no valid certificate or key.
    #[error("{file}: {reason}")]
    File {
        /// The path of the file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The self-signed certificate cannot be made.
    #[error("the self-signed certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The certificate and the key do not match, or TLS does not support them.
    #[error("the certificate cannot be used: {0}")]
    Use(#[from] rustls::Error),
}

/// The SHA-256 hash of a certificate, by which a client can trust the server without an authority.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The server's identity.
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// The fingerprint of the server's own certificate, the first of the chain.
    pub(crate) fingerprint: Fingerprint,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// Returns ring's algorithms, the only ones that are built in.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Identity {
    /// Loads the operator's certificate, or the one in the data folder, which is generated if it does not exist.
    pub(crate) fn load(config: &Config, folder: &Folder) -> Result<Self, TlsError> {
        let is_insecure_allowed = config.allow_insecure_data_dir;
        if let Some((cert, key)) = config.tls.files() {
            return Self::read(cert, key, is_insecure_allowed);
        }
        let (cert, key) = (folder.file(CERT), folder.file(KEY));
        if cert.exists() && !key.exists() {
            let reason = "the key of the certificate beside it is missing. Restore it from a backup; or delete the certificate \
                          too, and the server makes a new one: clients then need its new fingerprint";
            return Err(TlsError::File { file: key.display().to_string(), reason: reason.to_owned() });
        }
        if !cert.exists() {
            if key.exists() {
                tracing::warn!(
                    missing = %cert.display(),
                    "the certificate of the key beside it is missing; the server makes a new one, with a new fingerprint. \
                     Clients that trust the old fingerprint cannot connect: restore the file from a backup, or give them the \
                     new fingerprint"
                );
            }
            // The key first: the next start would find a certificate without its key, and could not use it.
            let pem = folder.secret(KEY, || Ok::<_, TlsError>(KeyPair::generate()?.serialize_pem().into_bytes()))?;
            let pair = KeyPair::from_pem(&String::from_utf8_lossy(&pem))?;
            folder.secret(CERT, || make(config, &pair))?;
        }
        Self::read(&cert, &key, is_insecure_allowed)
    }

    /// Checks the operator's certificate and key, if the settings name them.
    pub(crate) fn check(config: &Config) -> Result<(), TlsError> {
        let Some((cert, key)) = config.tls.files() else { return Ok(()) };
        Self::read(cert, key, config.allow_insecure_data_dir)?.config(ALPN).map(drop)
    }

    fn read(cert: &Path, key: &Path, is_insecure_allowed: bool) -> Result<Self, TlsError> {
        let wrong = |file: &Path, reason: String| TlsError::File { file: file.display().to_string(), reason };
        let chain = CertificateDer::pem_file_iter(cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| wrong(cert, error.to_string()))?;
        let Some(own) = chain.first() else {
            return Err(wrong(cert, "the file contains no certificate".to_owned()));
        };
        let fingerprint = Fingerprint(Sha256::digest(own).into());
        let pem = read_secret(key, is_insecure_allowed)?;
        if is_encrypted(&pem) {
            let decrypt = format!("(umask 077; openssl pkey -in {} -out decrypted.pem)", key.display());
            return Err(wrong(key, format!("the key is encrypted. Decrypt it for the server: {decrypt}")));
        }
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
            pem::Error::NoItemsFound => wrong(key, "the file contains no private key".to_owned()),
            error => wrong(key, error.to_string()),
        })?;
        Ok(Self { chain, key, fingerprint })
    }

    /// Returns the TLS settings for clients.
    pub(crate) fn server_config(&self, tickets: Arc<dyn ProducesTickets>) -> Result<rustls::ServerConfig, TlsError> {
        let mut config = self.config(ALPN)?;
        config.ticketer = tickets;
        config.send_tls13_tickets = 1;
        Ok(config)
    }

    /// Returns the TLS settings for the operator: gRPC runs over HTTP/2. TLS sessions are never resumed.
    pub(crate) fn operator_config(&self) -> Result<rustls::ServerConfig, TlsError> {
        let mut config = self.config(b"h2")?;
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// Returns the TLS settings of the public HTTPS listener.
    pub(crate) fn https_config(&self) -> Result<rustls::ServerConfig, TlsError> {
        self.config(b"http/1.1")
    }

    fn config(&self, protocol: &[u8]) -> Result<rustls::ServerConfig, TlsError> {
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![protocol.to_vec()];
        // Early data can be replayed, so it is not accepted.
        config.max_early_data_size = 0;
        Ok(config)
    }
}

/// Returns true for a key in either of the two forms that need a password.
fn is_encrypted(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED")
}

fn make(config: &Config, key: &KeyPair) -> Result<Vec<u8>, TlsError> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let ip = config.listen.ip();
    if !ip.is_unspecified() {
        names.push(ip.to_string());
    }
    names.extend(config.tls.names.iter().cloned());
    names.sort();
    names.dedup();
    let mut params = CertificateParams::new(names)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "zim-server");
    params.distinguished_name = name;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params.self_signed(key)?.pem().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_generated_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&Config::local(dir.path().join("data"))).unwrap();
        let mut config = Config::local(dir.path());
        let first = Identity::load(&config, &folder).unwrap();
        config.tls.names.push("chat.example".to_owned());
        let second = Identity::load(&config, &folder).unwrap();
        assert_eq!(first.fingerprint, second.fingerprint);
        assert_eq!(first.fingerprint.to_string().len(), 64);
        second
            .server_config(Arc::new(crate::net::Tickets::new([1; 32], zim_protocol::clock::Clock::system())))
            .unwrap();
    }

    #[test]
    fn an_interrupted_first_start_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&Config::local(dir.path().join("data"))).unwrap();
        let config = Config::local(dir.path());
        Identity::load(&config, &folder).unwrap();
        std::fs::remove_file(folder.file(CERT)).unwrap();
        let again = Identity::load(&config, &folder).unwrap();
        again.server_config(Arc::new(crate::net::Tickets::new([1; 32], zim_protocol::clock::Clock::system()))).unwrap();
    }

    fn pump(client: &mut rustls::ClientConnection, server: &mut rustls::ServerConnection) {
        while client.wants_write() || server.wants_write() {
            let (mut up, mut down) = (Vec::new(), Vec::new());
            client.write_tls(&mut up).unwrap();
            server.write_tls(&mut down).unwrap();
            let mut bytes = up.as_slice();
            while !bytes.is_empty() {
                server.read_tls(&mut bytes).unwrap();
                server.process_new_packets().unwrap();
            }
            let mut bytes = down.as_slice();
            while !bytes.is_empty() {
                client.read_tls(&mut bytes).unwrap();
                client.process_new_packets().unwrap();
            }
        }
    }

    #[test]
    fn a_client_resumes_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&Config::local(dir.path().join("data"))).unwrap();
        let config = Config::local(dir.path());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(Identity::load(&config, &folder).unwrap().chain.remove(0)).unwrap();
        let mut client_config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client_config.alpn_protocols = vec![ALPN.to_vec()];
        let client_config = Arc::new(client_config);
        let mut kinds = Vec::new();
        for _start in 0..2 {
            let tickets = crate::net::Tickets::new([7; 32], zim_protocol::clock::Clock::system());
            let server_config = Identity::load(&config, &folder).unwrap().server_config(Arc::new(tickets)).unwrap();
            let mut server = rustls::ServerConnection::new(Arc::new(server_config)).unwrap();
            let name = "localhost".try_into().unwrap();
            let mut client = rustls::ClientConnection::new(Arc::clone(&client_config), name).unwrap();
            pump(&mut client, &mut server);
            kinds.push(client.handshake_kind().unwrap());
        }
        assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
    }

    #[test]
    fn a_certificate_without_its_key_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&Config::local(dir.path().join("data"))).unwrap();
        let config = Config::local(dir.path());
        Identity::load(&config, &folder).unwrap();
        std::fs::remove_file(folder.file(KEY)).unwrap();
        let message = Identity::load(&config, &folder).unwrap_err().to_string();
        assert!(message.contains("key.pem: the key of the certificate beside it is missing"), "{message}");
        assert!(!folder.file(KEY).exists());
        std::fs::remove_file(folder.file(CERT)).unwrap();
        Identity::load(&config, &folder).unwrap();
    }

    #[test]
    fn the_operators_certificate_is_preferred() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = Folder::open(&Config::local(dir.path().join("data"))).unwrap();
        let mut config = Config::local(dir.path());
        let own = Identity::load(&config, &folder).unwrap().fingerprint;
        let elsewhere = Folder::open(&Config::local(other.path().join("data"))).unwrap();
        let theirs = Identity::load(&config, &elsewhere).unwrap().fingerprint;
        config.tls.cert = elsewhere.file(CERT);
        config.tls.key = elsewhere.file(KEY);
        assert_eq!(Identity::load(&config, &folder).unwrap().fingerprint, theirs);
        assert_ne!(own, theirs);
        #[cfg(unix)]
        {
            // A key that others can read is refused, wherever it is.
            std::fs::set_permissions(&config.tls.key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
            let message = Identity::load(&config, &folder).unwrap_err().to_string();
            assert!(message.contains("others can read") && message.contains("key.pem"), "{message}");
            std::fs::set_permissions(&config.tls.key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
        let encrypted = elsewhere.file("encrypted.pem");
        for (text, expected) in [
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIBvTBXBgkqhkiG\n-----END ENCRYPTED PRIVATE KEY-----\n",
                "is encrypted",
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n\
                 -----END RSA PRIVATE KEY-----\n",
                "is encrypted",
            ),
            ("a poem", "contains no private key"),
        ] {
            zim_files::write(&encrypted, text.as_bytes()).unwrap();
            config.tls.key = encrypted.clone();
            let message = Identity::load(&config, &folder).unwrap_err().to_string();
            assert!(message.contains("encrypted.pem: ") && message.contains(expected), "{message}");
        }
        config.tls.cert = other.path().join("none.pem");
        assert!(Identity::load(&config, &folder).unwrap_err().to_string().contains("none.pem"));
    }
}
