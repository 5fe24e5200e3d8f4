//! Makes and verifies tokens.
//!
//! CBC carries no tag. Anyone can change a token, and each answer to a changed one reveals something about what the server
//! made of it. Where CBC is accepted, these rules keep the answers from adding up to a forged token:
//! - Every refusal after decryption is the same error, [`TokenErrorKind::NotGenuine`]: for wrong padding, another text,
//!   another app, another user, another time. The time in the clear is checked before decryption.
//! - The text has no room for random blocks where that would matter (see the head of `crypto/text.rs`).
//! - The work is the same whatever is wrong: all secrets are tried, and all of the text is read. It depends on the length
//!   of the token and on the number of secrets. Only the branches taken for a byte differ: nanoseconds.
//!
//! GCM and CBC use one key, because the generators do, so the key does not separate them. The text of a GCM token yields
//! pairs of an AES block and its decryption (the key stream), which can serve as blocks of CBC. Where CBC is off, they are
//! of no use. Where it is on, they are like the blocks of a CBC token of the forger's own, and the rules above hold against
//! both.

#[cfg(test)]
mod tests;
mod text;

use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use cbc::cipher::block_padding::{NoPadding, Pkcs7};
use cbc::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use serde::{Deserialize, Serialize};

use self::text::Wanted;
use super::envelope::{BLOCK, Envelope, Form, GCM_NONCE};
use super::{CLOCK_LEEWAY_S, MAX_VALIDITY_S, MIN_VALIDITY_S, TokenError, TokenErrorKind};
use crate::v1::ErrorCode;

/// The length of a server secret, characters.
const SECRET_CHARS: usize = 32;

/// Whether tokens in the AES-CBC form are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cbc {
    /// No: only tokens in the AES-GCM form are.
    #[default]
    Refused,
    /// Those of ZEGO's generators in Python, Node and Go, and in C# without a payload. A holder of several can combine them
    /// into one for a user ID with up to 16 random characters in a row, which belongs to no one. They cannot be combined
    /// into one for another user's ID.
    Accepted,
    /// Those, and those of ZEGO's generator in Java without a payload. It writes the user ID first, where CBC protects
    /// nothing. A holder of such a token can remove leading characters of the user ID in multiples of 16, and change the
    /// first four of the rest. Nothing in the token shows that.
    AcceptedWithJava,
}

/// The contents of a verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The app that the token is for.
    pub app_id: u32,
    /// The user that the token is for.
    pub user_id: String,
    /// When the token was made, Unix seconds.
    pub ctime: i64,
    /// When the token ends, Unix seconds.
    pub expire: i64,
    /// The index of the secret that made the token.
    pub secret: usize,
    /// Whether the token is in the AES-CBC form.
    pub is_cbc: bool,
}

const fn argument(reason: &'static str) -> TokenError {
    TokenError { code: ErrorCode::CommonModuleParamsInvalid, kind: TokenErrorKind::Argument, reason }
}

const CBC_OFF: TokenError = TokenError {
    code: ErrorCode::NetworkModuleTokenInvalid,
    kind: TokenErrorKind::CbcOff,
    reason: "this app does not accept AES-CBC tokens; make AES-GCM tokens, or accept AES-CBC with: \
             zim admin app set --app-id N --cbc-tokens on",
};

const NOT_GENUINE: TokenError = TokenError {
    code: ErrorCode::NetworkModuleTokenInvalid,
    kind: TokenErrorKind::NotGenuine,
    reason: "the token is not genuine",
};

/// The plaintext of a GCM token; its tag proves that a secret made it. All other keys are ignored.
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

fn decrypt_gcm(secret: &str, nonce: &[u8; GCM_NONCE], ciphertext: &[u8]) -> Option<Claims> {
    let plain = Aes256Gcm::new(key(secret)?.into()).decrypt(Nonce::from_slice(nonce), ciphertext).ok()?;
    serde_json::from_slice(&plain).ok()
}

fn decrypt_cbc(secret: &str, iv: &[u8; BLOCK], ciphertext: &[u8]) -> Option<Vec<u8>> {
    let decryptor = cbc::Decryptor::<aes::Aes256>::new(key(secret)?.into(), iv.into());
    decryptor.decrypt_padded_vec_mut::<NoPadding>(ciphertext).ok()
}

/// Returns the index of the first secret that fits, and the result. All are tried, so that the time does not reveal which.
fn first<T>(secrets: &[&str], fits: impl Fn(&str) -> Option<T>) -> Option<(usize, T)> {
    let mut found = None;
    for (index, secret) in secrets.iter().enumerate() {
        let result = fits(secret).map(|result| (index, result));
        found = found.or(result);
    }
    found
}

fn random<const N: usize>() -> Result<[u8; N], TokenError> {
    let mut bytes = [0; N];
    let failed = TokenError { code: ErrorCode::Failed, ..argument("the system has no random bytes") };
    getrandom::fill(&mut bytes).map_err(|_| failed)?;
    Ok(bytes)
}

fn key(secret: &str) -> Option<&[u8; SECRET_CHARS]> {
    secret.as_bytes().try_into().ok()
}

fn new_key(secret: &str) -> Result<&[u8; SECRET_CHARS], TokenError> {
    let code = ErrorCode::NetworkModuleTokenInvalid;
    key(secret).ok_or(TokenError { code, ..argument("a server secret has 32 characters") })
}

impl Token {
    /// Makes a token that is valid for `effective_s` seconds from `now_s`, with AES-256-GCM.
    ///
    /// # Errors
    /// The secret does not have 32 characters, the user ID is empty or longer than 64 bytes, or the validity is not 1
    /// second to 24 days.
    pub fn generate(
        app_id: u32,
        user_id: &str,
        secret: &str,
        now_s: i64,
        effective_s: i64,
    ) -> Result<String, TokenError> {
        let (expire, plain) = Self::plaintext(app_id, user_id, now_s, effective_s)?;
        let nonce = random()?;
        let ciphertext = Aes256Gcm::new(new_key(secret)?.into())
            .encrypt(Nonce::from_slice(&nonce), plain.as_slice())
            .map_err(|_| argument("the token is too long"))?;
        Envelope { expire, form: Form::Gcm(nonce), ciphertext }.seal()
    }

    /// Makes a token in the older form with AES-256-CBC, for tests and tools. Otherwise like [`Token::generate`].
    ///
    /// # Errors
    /// Those of [`Token::generate`], or the user ID is not printable ASCII.
    pub fn generate_cbc(
        app_id: u32,
        user_id: &str,
        secret: &str,
        now_s: i64,
        effective_s: i64,
    ) -> Result<String, TokenError> {
        if !user_id.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(argument("a token in the AES-CBC form needs a user ID of printable ASCII"));
        }
        let (expire, plain) = Self::plaintext(app_id, user_id, now_s, effective_s)?;
        let iv = random()?;
        let ciphertext = cbc::Encryptor::<aes::Aes256>::new(new_key(secret)?.into(), &iv.into())
            .encrypt_padded_vec_mut::<Pkcs7>(&plain);
        Envelope { expire, form: Form::Cbc(iv), ciphertext }.seal()
    }

    fn plaintext(app_id: u32, user_id: &str, now_s: i64, effective_s: i64) -> Result<(i64, Vec<u8>), TokenError> {
        if user_id.is_empty() || user_id.len() > 64 {
            return Err(argument("a user ID has 1 to 64 bytes"));
        }
        if !(1..=MAX_VALIDITY_S).contains(&effective_s) {
            return Err(argument("a token is valid for 1 second to 24 days"));
        }
        let expire = now_s.saturating_add(effective_s);
        let claims =
            NewClaims { app_id, user_id, nonce: i32::from_be_bytes(random()?), ctime: now_s, expire, payload: "" };
        let plain = serde_json::to_vec(&claims).map_err(|_| argument("the token cannot be written"))?;
        Ok((expire, plain))
    }

    /// Verifies that one of `secrets` made `token`, and that `user_id` may log in to `app_id` with it at `now_s`.
    ///
    /// # Errors
    /// They are checked in this order:
    /// - AES-GCM: not of version 04, not readable, not genuine, for another app, for another user, expired, less than 30
    ///   seconds left, more than 24 days and a minute left.
    /// - AES-CBC: not of version 04, not readable, AES-CBC is off, expired, less than 30 seconds left, more than 24 days
    ///   and a minute left, not genuine (or for another app or user).
    pub fn verify(
        token: &str,
        app_id: u32,
        user_id: &str,
        secrets: &[&str],
        cbc: Cbc,
        now_s: i64,
    ) -> Result<Self, TokenError> {
        let Envelope { expire, form, ciphertext } = Envelope::open(token)?;
        let (secret, ctime, is_cbc) = match form {
            Form::Gcm(nonce) => {
                let (secret, claims) =
                    first(secrets, |secret| decrypt_gcm(secret, &nonce, &ciphertext)).ok_or(NOT_GENUINE)?;
                check_claims(&claims, app_id, user_id, expire)?;
                check_expiry(expire, now_s, TokenErrorKind::Authentic)?;
                (secret, claims.ctime, false)
            }
            Form::Cbc(_) if cbc == Cbc::Refused => return Err(CBC_OFF),
            Form::Cbc(iv) => {
                check_expiry(expire, now_s, TokenErrorKind::Malformed)?;
                let wanted = Wanted { app_id, user_id, expire };
                let read = |secret: &str| text::read(&decrypt_cbc(secret, &iv, &ciphertext)?, cbc, wanted);
                let (secret, ctime) = first(secrets, read).ok_or(NOT_GENUINE)?;
                (secret, ctime, true)
            }
        };
        Ok(Self { app_id, user_id: user_id.to_owned(), ctime, expire, secret, is_cbc })
    }
}

fn check_claims(claims: &Claims, app_id: u32, user_id: &str, expire: i64) -> Result<(), TokenError> {
    let refused = |code, reason| Err(TokenError { code, kind: TokenErrorKind::Authentic, reason });
    if claims.expire != expire {
        return Err(NOT_GENUINE);
    }
    if claims.app_id != app_id {
        return refused(ErrorCode::NetworkModuleCommonError, "the token is for another app");
    }
    if claims.user_id != user_id {
        return refused(ErrorCode::NetworkModuleTokenInvalid, "the token is for another user");
    }
    Ok(())
}

fn check_expiry(expire: i64, now_s: i64, kind: TokenErrorKind) -> Result<(), TokenError> {
    let left = expire.saturating_sub(now_s);
    let refused = |code, reason| Err(TokenError { code, kind, reason });
    if left <= 0 {
        return refused(ErrorCode::NetworkModuleTokenExpired, "the token has expired");
    }
    if left < MIN_VALIDITY_S {
        let code = ErrorCode::NetworkModuleTokenTimeIsTooShort;
        return refused(code, "the token is valid for less than 30 seconds");
    }
    if left > MAX_VALIDITY_S + CLOCK_LEEWAY_S {
        let reason = "the token ends more than 24 days after the server's time; if it was made for 24 days or less, the clocks \
                      of its maker and of the server differ: synchronize them";
        return refused(ErrorCode::NetworkModuleRspProtoParseError, reason);
    }
    Ok(())
}
