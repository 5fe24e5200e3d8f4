//! Signed tokens (JWT), by which an app proves to a push service who it is.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

/// A key that signs.
pub(super) enum Key {
    /// RS256.
    Rsa(RsaKeyPair),
    /// ES256.
    P256(EcdsaKeyPair),
}

impl Key {
    /// Reads an RSA key from PEM.
    pub(super) fn rsa(pem: &str) -> Result<Self, String> {
        let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| format!("no PEM: {error}"))? {
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            _ => return Err("no RSA key".to_owned()),
        };
        key.map(Self::Rsa).map_err(|error| format!("no RSA key: {error}"))
    }

    /// Reads a key of the curve P-256 from PEM, as Apple's .p8 files have it.
    pub(super) fn p256(pem: &str) -> Result<Self, String> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| format!("no PEM: {error}"))?;
        Self::p256_der(der.secret_pkcs8_der())
    }

    /// Reads a key of the curve P-256 from a PKCS #8 structure.
    pub(super) fn p256_der(der: &[u8]) -> Result<Self, String> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new());
        key.map(Self::P256).map_err(|error| format!("no key of the curve P-256: {error}"))
    }

    /// Makes a key of the curve P-256. Returns it as a PKCS #8 structure, and its public half.
    pub(super) fn generate_p256() -> Result<(Vec<u8>, Vec<u8>), String> {
        let random = SystemRandom::new();
        let failed = |error: &dyn std::fmt::Display| format!("no key could be made: {error}");
        let der =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(|error| failed(&error))?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref(), &random);
        let key = key.map_err(|error| failed(&error))?;
        Ok((der.as_ref().to_vec(), key.public_key().as_ref().to_vec()))
    }

    /// Reads a key of the curve P-256 from its two halves.
    pub(super) fn p256_of(private: &[u8], public: &[u8]) -> Result<Self, String> {
        let random = SystemRandom::new();
        let key =
            EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, private, public, &random);
        key.map(Self::P256).map_err(|error| format!("the keys do not belong together: {error}"))
    }

    /// Returns the public half of a key of the curve P-256.
    pub(super) fn public(&self) -> Option<&[u8]> {
        match self {
            Self::Rsa(_) => None,
            Self::P256(key) => Some(key.public_key().as_ref()),
        }
    }

    /// Signs claims.
    ///
    /// # Errors
    /// The system provides no random bytes.
    pub(super) fn sign(&self, key_id: Option<&str>, claims: &Value) -> Result<String, String> {
        let mut header = json!({"alg": self.algorithm(), "typ": "JWT"});
        if let Some(key_id) = key_id {
            header["kid"] = key_id.into();
        }
        let text = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).map(|()| signature)
            }
            Self::P256(key) => key.sign(&random, text.as_bytes()).map(|signature| signature.as_ref().to_vec()),
        };
        let signature = signature.map_err(|error| format!("the token cannot be signed: {error}"))?;
        Ok(format!("{text}.{}", encode(signature)))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
        }
    }
}

/// Encodes bytes as tokens and URLs have them.
pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes bytes in the alphabet of URLs, or in the usual one.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, String> {
    let decoded = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).or_else(|_| STANDARD.decode(text));
    decoded.map_err(|error| format!("no base64: {error}"))
}

/// A token that is used until shortly before it ends.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Option<(String, i64)>>);

impl Kept {
    /// Returns the token, unless it is too old.
    pub(super) fn get(&self, now_s: i64) -> Option<String> {
        self.0.lock().as_ref().filter(|(_, until)| now_s < *until).map(|(token, _)| token.clone())
    }

    /// Keeps a token until a time, Unix seconds.
    pub(super) fn put(&self, token: &str, until_s: i64) {
        *self.0.lock() = Some((token.to_owned(), until_s));
    }

    /// Forgets a token that was refused, unless there is another one by now.
    pub(super) fn clear(&self, refused: &str) {
        let mut kept = self.0.lock();
        if kept.as_ref().is_some_and(|(token, _)| token == refused) {
            *kept = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_token_has_a_signature_over_its_two_parts() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let key = Key::p256(&pair.serialize_pem()).unwrap();
        let token = key.sign(Some("K1"), &json!({"iss": "T1"})).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let part = |index: usize| String::from_utf8(decode(parts[index]).unwrap()).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&part(0)).unwrap(),
            json!({"alg": "ES256", "typ": "JWT", "kid": "K1"})
        );
        assert_eq!(part(1), r#"{"iss":"T1"}"#);
        let Key::P256(pair) = &key else { panic!("another key") };
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
        public.verify(format!("{}.{}", parts[0], parts[1]).as_bytes(), &decode(parts[2]).unwrap()).unwrap();
        assert!(Key::rsa(&rcgen::KeyPair::generate().unwrap().serialize_pem()).is_err(), "a key of another kind");
        assert!(Key::p256("no PEM").is_err());
    }

    #[test]
    fn a_token_is_kept_until_its_time() {
        let kept = Kept::default();
        assert_eq!(kept.get(0), None);
        kept.put("t", 100);
        assert_eq!((kept.get(99).as_deref(), kept.get(100)), (Some("t"), None));
        kept.clear("another");
        assert_eq!(kept.get(0).as_deref(), Some("t"));
        kept.clear("t");
        assert_eq!(kept.get(0), None);
    }
}
