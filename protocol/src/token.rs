//! A token is `04` + base64 of: expiry in the clear (8 bytes, Unix seconds) · IV length (2) · IV · ciphertext length (2) ·
//! ciphertext · mode (0 or 1 byte: 1 is AES-256-GCM; 0 or no byte is AES-256-CBC with PKCS#7). Numbers are big-endian. The
//! key is the 32 characters of the server secret as they are. The plaintext is JSON. `Token::generate` writes GCM. ZEGO's
//! older generators write CBC, which is read only where `Cbc` allows it.
//!
//! Only [`token::expiry`] needs no secret. `Token` makes and verifies tokens; it needs the feature `token`.

#[cfg(feature = "token")]
mod crypto;
mod envelope;

use self::envelope::Envelope;
use crate::v1::ErrorCode;

#[cfg(feature = "token")]
pub use self::crypto::{Cbc, Token};

/// A login needs a token with at least this much validity left, seconds.
pub const MIN_VALIDITY_S: i64 = 30;
/// The longest validity of a token, seconds: 24 days.
pub const MAX_VALIDITY_S: i64 = 24 * 24 * 3_600;
/// How much later a token may end, seconds: the clock that made it may be ahead of the clock that verifies it.
pub const CLOCK_LEEWAY_S: i64 = 60;

/// What kind of failure a [`TokenError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenErrorKind {
    /// No secret was tried: the token has not the form of one, or it is in the AES-CBC form and the time in its clear
    /// header is out of bounds.
    Malformed,
    /// No secret was tried: the token is in the AES-CBC form, which is off.
    CbcOff,
    /// No secret made the token, or it is in the AES-CBC form and does not say exactly what it must. A caller who guesses
    /// meets this kind.
    NotGenuine,
    /// A secret made the token, but it has expired, ends too early or too late, or is for another app or user.
    Authentic,
    /// The token was not made, because an argument is out of bounds.
    Argument,
}

/// Why a token is refused, or not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct TokenError {
    /// The reference's code.
    pub code: ErrorCode,
    /// What kind of failure it is.
    pub kind: TokenErrorKind,
    /// A sentence that reveals nothing about the secret.
    pub reason: &'static str,
}

const fn malformed(reason: &'static str) -> TokenError {
    TokenError { code: ErrorCode::NetworkModuleTokenInvalid, kind: TokenErrorKind::Malformed, reason }
}

/// Returns when a token ends, Unix seconds, as its clear header says. Nothing is verified: a client has no secret.
///
/// # Errors
/// The token is not of version 04, or is not readable.
pub fn expiry(token: &str) -> Result<i64, TokenError> {
    Envelope::open(token).map(|envelope| envelope.expire)
}
