//! Tokens of version 04: how an app's own back end says that a client is who it claims to be.
//!
//! `04` + base64 of: expiry in the clear (8 bytes, Unix seconds) · IV length (2) · IV · ciphertext length (2) · ciphertext ·
//! mode (0 or 1 byte: 1 is AES-256-GCM, 0 or none AES-256-CBC with PKCS#7). Numbers are big-endian; the key is the 32
//! characters of the server secret as they are; the plaintext is JSON. [`Token::generate`] writes GCM. CBC is what
//! ZEGO's older generators write; it is read only where [`Cbc`] says so.
//!
//! CBC carries no tag: everybody may change a token, and each answer to a changed one tells something about what the server
//! made of it. Where CBC is accepted, these rules keep answers from adding up to a forged token:
//! - What is refused after decryption is refused with one error, [`TokenErrorKind::NotGenuine`]: wrong padding, another
//!   text, another app, another user, another time. The time in the clear is checked before.
//! - The text has no room for random blocks where that would matter (see the head of `token/text.rs`).
//! - The work is the same whatever is wrong: all secrets are tried, and all of the text is read. It depends on the length of
//!   the token and on the number of secrets. What differs is which branches are taken for a byte: nanoseconds.
//!
//! GCM and CBC use one key, because that is what the generators do, so the two cannot be told apart by the key. Whoever knows
//! the text of a GCM token knows pairs of an AES block and its decryption (its key stream), and can use them as blocks of CBC.
//! They are of no use where CBC is off; where it is on, they are like the blocks of a CBC token of one's own, and
//! the rules above hold against both.

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
use super::{MAX_VALIDITY_S, MIN_VALIDITY_S, SECRET_CHARS, TokenError, TokenErrorKind};
use crate::v1::ErrorCode;

/// Whether tokens of the AES-CBC form are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cbc {
    /// No: only tokens of the AES-GCM form.
    #[default]
    Refused,
    /// Those of ZEGO's generators in Python, Node, Go, and in C# without a payload. Whoever has several can make one for a user id
    /// with up to 16 random characters in a row, which nobody was given. They cannot make one for an id of somebody else.
    Accepted,
    /// Those, and those of ZEGO's generator in Java without a payload. It writes the user id first, where CBC protects
    /// nothing: whoever has such a token can change the first four characters of the user id, and leave out 16 at a time
    /// before them. Nothing in the token shows that.
    AcceptedWithJava,
}

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
    /// Which of the secrets made it: its index.
    pub secret: usize,
    /// Whether it is of the AES-CBC form.
    pub is_cbc: bool,
}

const fn argument(reason: &'static str) -> TokenError {
    TokenError { code: ErrorCode::CommonModuleParamsInvalid, kind: TokenErrorKind::Argument, reason }
}

const CBC_OFF: TokenError = TokenError {
    code: ErrorCode::NetworkModuleTokenInvalid,
    kind: TokenErrorKind::CbcOff,
    reason: "tokens of the AES-CBC form are off for this app; make AES-GCM tokens, or turn them on with: \
             zim admin app set --app-id N --cbc-tokens on",
};

const NOT_GENUINE: TokenError = TokenError {
    code: ErrorCode::NetworkModuleTokenInvalid,
    kind: TokenErrorKind::NotGenuine,
    reason: "the token is not genuine",
};

/// The plaintext of a GCM token, whose tag says that a secret made it. Anything but these keys is ignored.
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

/// The first of the secrets that fits, with what it gives. All are tried, so that the time does not tell which.
fn first<T>(secrets: &[&str], fits: impl Fn(&str) -> Option<T>) -> Option<(usize, T)> {
    let mut found = None;
    for (index, secret) in secrets.iter().enumerate() {
        let given = fits(secret).map(|given| (index, given));
        found = found.or(given);
    }
    found
}

fn random<const N: usize>() -> Result<[u8; N], TokenError> {
    let mut bytes = [0; N];
    let failed = TokenError { code: ErrorCode::Failed, ..argument("the system gives no random bytes") };
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
        let nonce = random()?;
        let ciphertext = Aes256Gcm::new(new_key(secret)?.into())
            .encrypt(Nonce::from_slice(&nonce), plain.as_slice())
            .map_err(|_| argument("the token is too long"))?;
        Envelope { expire, form: Form::Gcm(nonce), ciphertext }.seal()
    }

    /// As [`Token::generate`], in the older form with AES-256-CBC: for tests and for tools that look at it.
    ///
    /// # Errors
    /// As [`Token::generate`], or the user id is not printable ASCII.
    pub fn generate_cbc(
        app_id: u32,
        user_id: &str,
        secret: &str,
        now_s: i64,
        effective_s: i64,
    ) -> Result<String, TokenError> {
        if !user_id.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(argument("a token of the AES-CBC form is for a user id of printable ASCII"));
        }
        let (expire, plain) = Self::plaintext(app_id, user_id, now_s, effective_s)?;
        let iv = random()?;
        let ciphertext = cbc::Encryptor::<aes::Aes256>::new(new_key(secret)?.into(), &iv.into())
            .encrypt_padded_vec_mut::<Pkcs7>(&plain);
        Envelope { expire, form: Form::Cbc(iv), ciphertext }.seal()
    }

    fn plaintext(app_id: u32, user_id: &str, now_s: i64, effective_s: i64) -> Result<(i64, Vec<u8>), TokenError> {
        if user_id.is_empty() || user_id.len() > 64 {
            return Err(argument("a user id has 1 to 64 bytes"));
        }
        if !(1..=MAX_VALIDITY_S).contains(&effective_s) {
            return Err(argument("a token is good for 1 second to 24 days"));
        }
        let expire = now_s.saturating_add(effective_s);
        let claims =
            NewClaims { app_id, user_id, nonce: i32::from_be_bytes(random()?), ctime: now_s, expire, payload: "" };
        let plain = serde_json::to_vec(&claims).map_err(|_| argument("the token cannot be written"))?;
        Ok((expire, plain))
    }

    /// Whether `token`, made with one of `secrets`, lets `user_id` log in to `app_id` at `now_s`.
    ///
    /// # Errors
    /// In this order.
    /// AES-GCM: not of version 04, not readable, not genuine, another app's, another user's, past its end, less than 30
    /// seconds left, more than 24 days left.
    /// AES-CBC: not of version 04, not readable, AES-CBC is refused, past its end, less than 30 seconds left, more than 24
    /// days left, not genuine (another app's and another user's included).
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
        return refused(code, "the token is good for less than 30 seconds");
    }
    if left > MAX_VALIDITY_S {
        return refused(ErrorCode::NetworkModuleRspProtoParseError, "the token is good for more than 24 days");
    }
    Ok(())
}
