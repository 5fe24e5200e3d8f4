//! The outer form of a token, which is readable without a secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{TokenError, malformed};
use crate::v1::ErrorCode;

/// The prefix of every token of this version.
const PREFIX: &str = "04";
/// The minimum length of a token. Shorter text is not decoded.
const MIN_CHARS: usize = 31;
pub(super) const BLOCK: usize = 16;
pub(super) const GCM_NONCE: usize = 12;
const GCM_MODE: u8 = 1;

/// How a token is encrypted, with the initialization vector.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "token"),
    expect(dead_code, reason = "the form is checked, and decrypted only with the feature")
)]
pub(super) enum Form {
    Cbc([u8; BLOCK]),
    Gcm([u8; GCM_NONCE]),
}

/// The parts of a token. Their bounds are checked; nothing is decrypted.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "token"),
    expect(dead_code, reason = "the form is checked, and decrypted only with the feature")
)]
pub(super) struct Envelope {
    pub(super) expire: i64,
    pub(super) form: Form,
    pub(super) ciphertext: Vec<u8>,
}

impl Envelope {
    pub(super) fn open(token: &str) -> Result<Self, TokenError> {
        if token.len() < MIN_CHARS {
            return Err(malformed("the token is too short"));
        }
        let Some(encoded) = token.strip_prefix(PREFIX) else {
            let code = ErrorCode::NetworkModuleTokenVersionError;
            return Err(TokenError { code, ..malformed("the token is not of version 04") });
        };
        let bytes = STANDARD.decode(encoded).map_err(|_| malformed("the token is not base64"))?;
        Self::read(&bytes).ok_or(malformed("the token is truncated, too long, or of an unknown mode"))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (expire, rest) = bytes.split_first_chunk::<8>()?;
        let (iv, rest) = read_counted(rest)?;
        let (ciphertext, rest) = read_counted(rest)?;
        // Every other mode is refused, and never read as CBC.
        let form = match rest {
            [] | [0] if !ciphertext.is_empty() && ciphertext.len().is_multiple_of(BLOCK) => {
                Form::Cbc(iv.try_into().ok()?)
            }
            [GCM_MODE] => Form::Gcm(iv.try_into().ok()?),
            _ => return None,
        };
        Some(Self { expire: i64::from_be_bytes(*expire), form, ciphertext: ciphertext.to_vec() })
    }

    #[cfg(feature = "token")]
    pub(super) fn seal(&self) -> Result<String, TokenError> {
        let (iv, mode): (&[u8], &[u8]) = match &self.form {
            Form::Cbc(iv) => (iv, &[]),
            Form::Gcm(nonce) => (nonce, &[GCM_MODE]),
        };
        let mut bytes = self.expire.to_be_bytes().to_vec();
        write_counted(&mut bytes, iv)?;
        write_counted(&mut bytes, &self.ciphertext)?;
        bytes.extend_from_slice(mode);
        let mut token = PREFIX.to_owned();
        STANDARD.encode_string(bytes, &mut token);
        Ok(token)
    }
}

fn read_counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(feature = "token")]
fn write_counted(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), TokenError> {
    let length = u16::try_from(bytes.len()).map_err(|_| malformed("the token is too long"))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}
