//! Tokens of version 04: how an app's own back end says that a client is who it claims to be.
//!
//! `04` + base64 of: expiry in the clear (8 bytes, Unix seconds) · IV length (2) · IV · ciphertext length (2) · ciphertext ·
//! mode (0 or 1 byte: 1 is AES-256-GCM, 0 or none AES-256-CBC with PKCS#7). Numbers are big-endian; the key is the 32
//! characters of the server secret as they are; the plaintext is JSON. [`Token::generate`] writes GCM; CBC is read because
//! older generators write it, and written by [`Token::generate_cbc`] for tests.
//!
//! CBC carries no tag. A wrong padding and a wrong plaintext are therefore one error, told after the same work, so that
//! answers are no oracle of the padding.

use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::block_padding::{NoPadding, Pkcs7};
use cbc::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use serde::{Deserialize, Serialize};

use crate::ErrorCode;

/// What every token of this version begins with.
const PREFIX: &str = "04";
/// No token is shorter; what is shorter is not even looked at.
const MIN_CHARS: usize = 31;
/// With less than this left, seconds, nobody logs in.
pub const MIN_VALIDITY_S: i64 = 30;
/// No token ends later than this from now, seconds: 24 days.
pub const MAX_VALIDITY_S: i64 = 24 * 24 * 3_600;
/// Characters of a server secret.
pub const SECRET_CHARS: usize = 32;
const BLOCK: usize = 16;
const GCM_NONCE: usize = 12;

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The app that it is for.
    pub app_id: u32,
    /// The user that it is for.
    pub user_id: String,
    /// When it was made, Unix seconds.
    pub ctime: i64,
    /// When it ends, Unix seconds.
    pub expire: i64,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct TokenError {
    /// The reference's code.
    pub code: ErrorCode,
    /// A sentence that tells nothing about the secret.
    pub reason: &'static str,
}

const fn refused(code: ErrorCode, reason: &'static str) -> TokenError {
    TokenError { code, reason }
}

const fn invalid(reason: &'static str) -> TokenError {
    refused(ErrorCode::NetworkModuleTokenInvalid, reason)
}

/// The plaintext. Generators differ in order and add keys: anything but these is ignored.
#[derive(Deserialize)]
struct Claims {
    app_id: u32,
    user_id: String,
    ctime: i64,
    expire: i64,
}

#[derive(Serialize)]
struct NewClaims<'a> {
    app_id: u32,
    user_id: &'a str,
    nonce: i32,
    ctime: i64,
    expire: i64,
    payload: &'a str,
}

/// The parts of a token, bounds checked, nothing decrypted.
#[derive(Debug)]
struct Envelope {
    expire: i64,
    iv: Vec<u8>,
    ciphertext: Vec<u8>,
    gcm: bool,
}

impl Envelope {
    fn open(token: &str) -> Result<Self, TokenError> {
        if token.len() < MIN_CHARS {
            return Err(invalid("the token is too short"));
        }
        let Some(encoded) = token.strip_prefix(PREFIX) else {
            return Err(refused(ErrorCode::NetworkModuleTokenVersionError, "the token is not of version 04"));
        };
        let bytes = STANDARD.decode(encoded).map_err(|_| invalid("the token is not base64"))?;
        Self::read(&bytes).ok_or(invalid("the token is cut or too long"))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (expire, rest) = bytes.split_first_chunk::<8>()?;
        let (iv, rest) = read_counted(rest)?;
        let (ciphertext, rest) = read_counted(rest)?;
        let gcm = match rest {
            [] => false,
            [mode] => *mode == 1,
            _ => return None,
        };
        Some(Self { expire: i64::from_be_bytes(*expire), iv: iv.to_vec(), ciphertext: ciphertext.to_vec(), gcm })
    }

    fn seal(&self) -> Result<String, TokenError> {
        let mut bytes = self.expire.to_be_bytes().to_vec();
        write_counted(&mut bytes, &self.iv)?;
        write_counted(&mut bytes, &self.ciphertext)?;
        if self.gcm {
            bytes.push(1);
        }
        let mut token = PREFIX.to_owned();
        STANDARD.encode_string(bytes, &mut token);
        Ok(token)
    }

    fn decrypt(&self, key: &[u8; 32]) -> Result<Claims, TokenError> {
        if self.gcm { self.decrypt_gcm(key) } else { self.decrypt_cbc(key) }.ok_or(invalid("the token is not genuine"))
    }

    fn decrypt_gcm(&self, key: &[u8; 32]) -> Option<Claims> {
        let nonce: &[u8; GCM_NONCE] = self.iv.as_slice().try_into().ok()?;
        let plain = Aes256Gcm::new(key.into()).decrypt(Nonce::from_slice(nonce), self.ciphertext.as_slice()).ok()?;
        serde_json::from_slice(&plain).ok()
    }

    fn decrypt_cbc(&self, key: &[u8; 32]) -> Option<Claims> {
        let iv: &[u8; BLOCK] = self.iv.as_slice().try_into().ok()?;
        let plain = cbc::Decryptor::<aes::Aes256>::new(key.into(), iv.into())
            .decrypt_padded_vec_mut::<NoPadding>(&self.ciphertext)
            .ok()?;
        let padding = padding(plain.last_chunk::<BLOCK>()?);
        // Parsed whether or not the padding is right: see the module's head.
        let claims = serde_json::from_slice(plain.get(..plain.len() - padding.unwrap_or(1))?).ok();
        claims.filter(|_| padding.is_some())
    }
}

/// Bytes of PKCS#7 padding at the end of the last block, looking at all of it whatever it holds.
fn padding(block: &[u8; BLOCK]) -> Option<usize> {
    let count = block[BLOCK - 1];
    let mut wrong = u8::from(count == 0) | u8::from(usize::from(count) > BLOCK);
    for (index, byte) in block.iter().rev().enumerate() {
        wrong |= u8::from(index < usize::from(count)) & u8::from(*byte != count);
    }
    (std::hint::black_box(wrong) == 0).then_some(usize::from(count))
}

fn read_counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn write_counted(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), TokenError> {
    let length = u16::try_from(bytes.len()).map_err(|_| invalid("the token is too long"))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn random<const N: usize>() -> Result<[u8; N], TokenError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| refused(ErrorCode::Failed, "the system gives no random bytes"))?;
    Ok(bytes)
}

fn key(secret: &str) -> Result<&[u8; SECRET_CHARS], TokenError> {
    secret.as_bytes().try_into().map_err(|_| invalid("a server secret has 32 characters"))
}

impl Token {
    /// Makes a token that is good for `effective_s` seconds from `now_s`, with AES-256-GCM.
    ///
    /// # Errors
    /// The secret has not 32 characters, the user id is empty or longer than 64 bytes, or the time is not within
    /// 1 second to 24 days.
    pub fn generate(
        app_id: u32,
        user_id: &str,
        secret: &str,
        now_s: i64,
        effective_s: i64,
    ) -> Result<String, TokenError> {
        let (expire, plain) = Self::plaintext(app_id, user_id, now_s, effective_s)?;
        let iv = random::<GCM_NONCE>()?;
        let ciphertext = Aes256Gcm::new(key(secret)?.into())
            .encrypt(Nonce::from_slice(&iv), plain.as_slice())
            .map_err(|_| invalid("the token is too long"))?;
        Envelope { expire, iv: iv.to_vec(), ciphertext, gcm: true }.seal()
    }

    /// As [`Token::generate`], in the older form with AES-256-CBC.
    ///
    /// # Errors
    /// As [`Token::generate`].
    pub fn generate_cbc(
        app_id: u32,
        user_id: &str,
        secret: &str,
        now_s: i64,
        effective_s: i64,
    ) -> Result<String, TokenError> {
        let (expire, plain) = Self::plaintext(app_id, user_id, now_s, effective_s)?;
        let iv = random::<BLOCK>()?;
        let ciphertext =
            cbc::Encryptor::<aes::Aes256>::new(key(secret)?.into(), &iv.into()).encrypt_padded_vec_mut::<Pkcs7>(&plain);
        Envelope { expire, iv: iv.to_vec(), ciphertext, gcm: false }.seal()
    }

    fn plaintext(app_id: u32, user_id: &str, now_s: i64, effective_s: i64) -> Result<(i64, Vec<u8>), TokenError> {
        if user_id.is_empty() || user_id.len() > 64 {
            return Err(refused(ErrorCode::CommonModuleParamsInvalid, "a user id has 1 to 64 bytes"));
        }
        if !(1..=MAX_VALIDITY_S).contains(&effective_s) {
            return Err(refused(ErrorCode::CommonModuleParamsInvalid, "a token is good for 1 second to 24 days"));
        }
        let expire = now_s.saturating_add(effective_s);
        let claims =
            NewClaims { app_id, user_id, nonce: i32::from_be_bytes(random()?), ctime: now_s, expire, payload: "" };
        let plain = serde_json::to_vec(&claims).map_err(|_| invalid("the token cannot be written"))?;
        Ok((expire, plain))
    }

    /// Whether `token` lets `user_id` log in to `app_id` at `now_s`.
    ///
    /// # Errors
    /// In this order: not of version 04, not readable, not genuine, another app's or user's, past its end, less than 30
    /// seconds left, more than 24 days left.
    pub fn verify(token: &str, app_id: u32, user_id: &str, secret: &str, now_s: i64) -> Result<Self, TokenError> {
        let envelope = Envelope::open(token)?;
        let claims = envelope.decrypt(key(secret)?)?;
        if claims.expire != envelope.expire {
            return Err(invalid("the token is not genuine"));
        }
        if claims.app_id != app_id {
            return Err(refused(ErrorCode::NetworkModuleCommonError, "the token is for another app"));
        }
        if claims.user_id != user_id {
            return Err(invalid("the token is for another user"));
        }
        check_expiry(claims.expire, now_s)?;
        Ok(Self { app_id, user_id: claims.user_id, ctime: claims.ctime, expire: claims.expire })
    }

    /// When a token says that it ends, Unix seconds, from its clear header: for a client, which has no secret.
    ///
    /// # Errors
    /// Not of version 04, or not readable.
    pub fn expiry(token: &str) -> Result<i64, TokenError> {
        Envelope::open(token).map(|envelope| envelope.expire)
    }
}

fn check_expiry(expire: i64, now_s: i64) -> Result<(), TokenError> {
    let left = expire.saturating_sub(now_s);
    if left <= 0 {
        return Err(refused(ErrorCode::NetworkModuleTokenExpired, "the token has expired"));
    }
    if left < MIN_VALIDITY_S {
        return Err(refused(ErrorCode::NetworkModuleTokenTimeIsTooShort, "the token is good for less than 30 seconds"));
    }
    if left > MAX_VALIDITY_S {
        return Err(refused(ErrorCode::NetworkModuleRspProtoParseError, "the token is good for more than 24 days"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const APP: u32 = 1_234_567_890;
    const MADE: i64 = 1_700_000_000;
    const CBC: &str = "04AAAAAGVT/xAAEGFiY2RlZmdoaWprbG1ub3AAcJwJclIKyjW0qO9Z//dHZNvpYQpx2Mz+KL+DfnprnEsq7p0LRejsjWac9MzPIKSV6vmkyKuy9NLBEDFAYEI4c+uYl4qg2HZ3WKlIlrg+4z8ERNYstHqGTjtcKEKDeGCKwlOd+seoz+WINREXFpYTw0E=";
    const GCM: &str = "04AAAAAGVT/xAADAABAgMEBQYHCAkKCwB2VsfaDKlHu8iK5kCMQvvkMtEwOrcQngH4Ra7k3dwHlqbcx199LJc7Mv9K1T+/jvkOHse/knzZ+KcKeQV5LCsvTp0yVAEaAT7TLQA6eNtLPQ805/JAd1vV1KySN77bI/w0iLIhqq/Svj6FSl5/IsfSqH31G+n08QE=";

    fn verify(token: &str, now_s: i64) -> Result<Token, ErrorCode> {
        Token::verify(token, APP, "alice", SECRET, now_s).map_err(|error| error.code)
    }

    fn bytes(token: &str) -> Vec<u8> {
        STANDARD.decode(&token[2..]).unwrap()
    }

    fn token(bytes: &[u8]) -> String {
        format!("04{}", STANDARD.encode(bytes))
    }

    #[test]
    fn tokens_of_other_generators_are_read() {
        let expected = Token { app_id: APP, user_id: "alice".into(), ctime: MADE, expire: MADE + 3_600 };
        assert_eq!(verify(CBC, MADE), Ok(expected.clone()));
        assert_eq!(verify(GCM, MADE), Ok(expected));
        assert_eq!(Token::expiry(CBC), Ok(MADE + 3_600));
        // CBC may say its mode: 0.
        let with_mode = [bytes(CBC).as_slice(), &[0]].concat();
        assert!(verify(&token(&with_mode), MADE).is_ok());
    }

    #[test]
    fn what_is_generated_is_verified() {
        for token in [
            Token::generate(APP, "alice", SECRET, MADE, 60).unwrap(),
            Token::generate_cbc(APP, "alice", SECRET, MADE, 60).unwrap(),
        ] {
            assert_eq!(verify(&token, MADE).unwrap().expire, MADE + 60);
            assert_eq!(Token::expiry(&token), Ok(MADE + 60));
        }
        let one = Token::generate(APP, "alice", SECRET, MADE, 60).unwrap();
        assert_ne!(one, Token::generate(APP, "alice", SECRET, MADE, 60).unwrap());
    }

    #[test]
    fn what_cannot_be_a_token_is_not_generated() {
        assert!(Token::generate(APP, "alice", "short", MADE, 60).is_err());
        assert!(Token::generate(APP, "", SECRET, MADE, 60).is_err());
        assert!(Token::generate(APP, &"x".repeat(65), SECRET, MADE, 60).is_err());
        assert!(Token::generate(APP, "alice", SECRET, MADE, 0).is_err());
        assert!(Token::generate(APP, "alice", SECRET, MADE, MAX_VALIDITY_S + 1).is_err());
    }

    #[test]
    fn time_is_bounded_on_both_sides() {
        let end = MADE + 3_600;
        assert!(verify(GCM, end - MIN_VALIDITY_S).is_ok());
        assert_eq!(verify(GCM, end - 29), Err(ErrorCode::NetworkModuleTokenTimeIsTooShort));
        assert_eq!(verify(GCM, end - 1), Err(ErrorCode::NetworkModuleTokenTimeIsTooShort));
        assert_eq!(verify(GCM, end), Err(ErrorCode::NetworkModuleTokenExpired));
        assert_eq!(verify(GCM, i64::MAX), Err(ErrorCode::NetworkModuleTokenExpired));
        assert!(verify(GCM, end - MAX_VALIDITY_S).is_ok());
        assert_eq!(verify(GCM, end - MAX_VALIDITY_S - 1), Err(ErrorCode::NetworkModuleRspProtoParseError));
    }

    #[test]
    fn another_version_app_user_or_secret_is_refused() {
        assert_eq!(verify(&GCM.replacen("04", "03", 1), MADE), Err(ErrorCode::NetworkModuleTokenVersionError));
        let refused = |app, user, secret| Token::verify(GCM, app, user, secret, MADE).unwrap_err().code;
        assert_eq!(refused(1, "alice", SECRET), ErrorCode::NetworkModuleCommonError);
        assert_eq!(refused(APP, "bob", SECRET), ErrorCode::NetworkModuleTokenInvalid);
        assert_eq!(refused(APP, "alice", "1123456789abcdef0123456789abcdef"), ErrorCode::NetworkModuleTokenInvalid);
        assert_eq!(refused(APP, "alice", "short"), ErrorCode::NetworkModuleTokenInvalid);
    }

    #[test]
    fn no_cut_token_panics_or_passes() {
        for whole in [CBC, GCM] {
            let whole = bytes(whole);
            for length in 0..whole.len() {
                let cut = verify(&token(&whole[..length]), MADE);
                assert_eq!(cut, Err(ErrorCode::NetworkModuleTokenInvalid), "{length} of {}", whole.len());
            }
        }
        let long = [bytes(GCM).as_slice(), &[0]].concat();
        assert_eq!(verify(&token(&long), MADE), Err(ErrorCode::NetworkModuleTokenInvalid));
        for not_base64 in ["", "04", &format!("04{}", "!".repeat(40)), &format!("04{}", "ä".repeat(40))] {
            assert_eq!(verify(not_base64, MADE), Err(ErrorCode::NetworkModuleTokenInvalid));
        }
    }

    #[test]
    fn no_flipped_bit_passes_in_gcm() {
        let whole = bytes(GCM);
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 1;
            assert!(verify(&token(&changed), MADE).is_err(), "byte {index}");
        }
    }

    #[test]
    fn a_changed_header_is_not_believed() {
        for whole in [CBC, GCM] {
            let mut changed = bytes(whole);
            changed[..8].copy_from_slice(&(MADE + 1_000_000).to_be_bytes());
            assert_eq!(verify(&token(&changed), MADE), Err(ErrorCode::NetworkModuleTokenInvalid));
        }
    }

    #[test]
    fn padding_is_pkcs7_and_nothing_else() {
        let mut block = [7_u8; BLOCK];
        assert_eq!(padding(&block), Some(7));
        block[BLOCK - 2] = 6;
        assert_eq!(padding(&block), None);
        assert_eq!(padding(&[16; BLOCK]), Some(16));
        assert_eq!(padding(&[17; BLOCK]), None);
        assert_eq!(padding(&[0; BLOCK]), None);
        let mut one = [9; BLOCK];
        one[BLOCK - 1] = 1;
        assert_eq!(padding(&one), Some(1));
    }
}
