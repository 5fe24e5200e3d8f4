//! What an app accepts: its secrets, what each of them may be used for, and who may register. Pure: the caller passes
//! the time.

use zim_protocol::token::{Cbc, Token, TokenErrorKind};
use zim_protocol::{CbcTokens, Registration};

use crate::error::Error;

/// A secret that can be rotated.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// The current secret.
    pub value: String,
    /// Counts the rotations. A connection remembers which version it logged in with.
    pub version: i64,
    /// The secret before the last rotation.
    pub old: String,
    /// When the old secret stops being accepted, Unix milliseconds; 0 if there is no overlap.
    pub old_ends_at: i64,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Secret {
    /// Creates a secret that was never rotated.
    pub fn new(value: String) -> Self {
        Self { value, version: 1, old: String::new(), old_ends_at: 0 }
    }

    /// Replaces the secret with `value`. The replaced one is accepted for another `overlap_ms`; an even older one is
    /// dropped.
    pub fn rotate(&mut self, value: String, now_ms: i64, overlap_ms: i64) {
        let old = std::mem::replace(&mut self.value, value);
        (self.old, self.old_ends_at) = match overlap_ms {
            0 => (String::new(), 0),
            _ => (old, now_ms.saturating_add(overlap_ms)),
        };
        self.version += 1;
    }

    fn is_old_accepted(&self, now_ms: i64) -> bool {
        now_ms < self.old_ends_at
    }

    /// Whether the overlap of the old secret has ended and the secret is still kept.
    fn has_ended(&self, now_ms: i64) -> bool {
        !self.old.is_empty() && !self.is_old_accepted(now_ms)
    }

    fn forget_ended(&mut self, now_ms: i64) {
        if self.has_ended(now_ms) {
            (self.old, self.old_ends_at) = (String::new(), 0);
        }
    }

    /// Returns when this version stops being accepted, Unix milliseconds, or 0 if that is not before the next rotation;
    /// `None` if it is not accepted.
    fn ends_at(&self, version: i64, now_ms: i64) -> Option<i64> {
        if version == self.version {
            Some(0)
        } else if version + 1 == self.version && self.is_old_accepted(now_ms) {
            Some(self.old_ends_at)
        } else {
            None
        }
    }

    /// Returns which version `given` is, or `None` if it is not accepted. Always compares with both versions, so that
    /// the time it takes does not depend on the result.
    fn version_of(&self, given: &str, now_ms: i64) -> Option<i64> {
        let is_new = is_same_secret(given, &self.value);
        let is_old = is_same_secret(given, &self.old) & self.is_old_accepted(now_ms);
        if is_new {
            Some(self.version)
        } else if is_old {
            Some(self.version - 1)
        } else {
            None
        }
    }
}

/// How far the clock of a back end may be ahead, seconds: a token made later than that would outlive a revocation. The
/// check allows another second, for a token that the operator makes in the second of a revocation.
pub(super) const MAX_AHEAD_S: i64 = 600;

/// Compares secrets in a time that does not depend on how many bytes match.
fn is_same_secret(a: &str, b: &str) -> bool {
    a.len() == b.len() && !a.is_empty() && a.bytes().zip(b.bytes()).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

/// What a client logged in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// An app sign.
    AppSign {
        /// The version of the app sign.
        version: i64,
    },
    /// A token.
    Token {
        /// The version of the server secret.
        version: i64,
        /// When the token was made, Unix seconds.
        ctime: i64,
        /// When the token expires, Unix milliseconds.
        ends_at: i64,
        /// What the app must accept for this token of the older form, AES-256-CBC.
        cbc: CbcTokens,
    },
}

impl Proof {
    /// Whether only the app's back end can have decided that this user exists. Two AES-CBC tokens can be spliced into
    /// one for a user ID that the back end never wrote, and anyone who has the app sign can use it for any user.
    pub fn is_vouched(self) -> bool {
        matches!(self, Self::Token { cbc: CbcTokens::Off, .. })
    }

    /// Returns when the token was made, Unix seconds; `None` for an app sign.
    pub fn token_ctime(self) -> Option<i64> {
        match self {
            Self::AppSign { .. } => None,
            Self::Token { ctime, .. } => Some(ctime),
        }
    }
}

/// Why a login is refused.
#[derive(Debug)]
pub struct Refusal {
    /// The error that the client gets.
    pub error: Error,
    /// The client presented neither a secret nor a token that the server recognises as genuine, so it may be guessing.
    /// Beyond the allowance for failed logins it does not learn how its guesses failed.
    pub is_guess: bool,
}

impl Refusal {
    fn of_guess(error: Error) -> Self {
        Self { error, is_guess: true }
    }

    fn certain(error: Error) -> Self {
        Self { error, is_guess: false }
    }
}

/// What an app accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The secret that apps log in with that trust their clients.
    pub app_sign: Secret,
    /// The key of the app's tokens.
    pub server_secret: Secret,
    /// Whether the app sign is accepted for logins.
    pub app_sign_login: bool,
    /// Which tokens with AES-256-CBC, which carry no authentication tag, are accepted.
    pub cbc_tokens: CbcTokens,
    /// Which users are registered by their first login.
    pub registration: Registration,
}

/// What a client presents to log in.
#[derive(Clone, Copy, Debug)]
pub struct LoginCredentials<'a> {
    /// The app.
    pub app_id: u32,
    /// The user.
    pub user_id: &'a str,
    /// Empty if there is none.
    pub app_sign: &'a str,
    /// Empty if there is none.
    pub token: &'a str,
    /// The wait until another login may fail, milliseconds; 0 if the allowance for failed logins is not used up.
    pub wait_ms: i64,
}

impl Access {
    /// The settings of a new app with these secrets.
    pub fn new(app_sign: String, server_secret: String) -> Self {
        Self {
            app_sign: Secret::new(app_sign),
            server_secret: Secret::new(server_secret),
            app_sign_login: true,
            cbc_tokens: CbcTokens::Off,
            registration: Registration::Anyone,
        }
    }

    /// Returns when the overlap of the next old secret ends, Unix milliseconds; `None` if there is no old secret.
    pub fn next_end(&self) -> Option<i64> {
        let kept = [&self.app_sign, &self.server_secret].into_iter().filter(|secret| !secret.old.is_empty());
        kept.map(|secret| secret.old_ends_at).min()
    }

    /// Drops old secrets whose overlap has ended.
    pub fn forget_ended(&mut self, now_ms: i64) {
        self.app_sign.forget_ended(now_ms);
        self.server_secret.forget_ended(now_ms);
    }

    /// Checks the credentials of a login. The app sign goes first; a token counts if the sign is missing or wrong.
    ///
    /// # Errors
    /// The app accepts neither the sign nor the token.
    pub fn authenticate(&self, credentials: LoginCredentials<'_>, now_ms: i64) -> Result<Proof, Refusal> {
        let by_sign = self.app_sign.version_of(credentials.app_sign, now_ms);
        match by_sign {
            Some(version) if self.app_sign_login => return Ok(Proof::AppSign { version }),
            // The client knows the sign, so it may learn that the sign is off.
            Some(_) if credentials.token.is_empty() => return Err(Refusal::certain(Error::app_sign_off())),
            _ => {}
        }
        if !credentials.token.is_empty() {
            return self.verify(credentials, now_ms);
        }
        Err(if credentials.app_sign.is_empty() {
            Refusal::certain(Error::credentials_missing())
        } else {
            Refusal::of_guess(Error::app_sign_wrong())
        })
    }

    /// Checks the token for this user of this app.
    ///
    /// # Errors
    /// The token is not accepted.
    pub fn verify(&self, credentials: LoginCredentials<'_>, now_ms: i64) -> Result<Proof, Refusal> {
        let LoginCredentials { app_id, user_id, token, wait_ms, .. } = credentials;
        let secrets = [self.server_secret.value.as_str(), self.server_secret.old.as_str()];
        let secrets = if self.server_secret.is_old_accepted(now_ms) { &secrets[..] } else { &secrets[..1] };
        let now_s = now_ms.div_euclid(1_000);
        let may_guess = wait_ms == 0;
        let cbc = match self.cbc_tokens {
            // Not even verified: a correct guess must not get through either.
            _ if !may_guess => Cbc::Refused,
            CbcTokens::Off => Cbc::Refused,
            CbcTokens::On => Cbc::Accepted,
            CbcTokens::Java => Cbc::AcceptedWithJava,
        };
        let verified = Token::verify(token, app_id, user_id, secrets, cbc, now_s);
        let verified = verified.map_err(|refused| Refusal {
            is_guess: refused.kind == TokenErrorKind::NotGenuine,
            error: match refused.kind {
                TokenErrorKind::CbcOff if !may_guess && self.cbc_tokens != CbcTokens::Off => {
                    Error::too_many_failed_logins(wait_ms)
                }
                TokenErrorKind::CbcOff => Error::cbc_tokens_off(app_id),
                _ => refused.into(),
            },
        })?;
        if verified.ctime.saturating_sub(now_s) > MAX_AHEAD_S + 1 {
            return Err(Refusal { error: Error::token_made_ahead(), is_guess: verified.is_cbc });
        }
        Ok(Proof::Token {
            version: self.server_secret.version - i64::from(verified.secret > 0),
            ctime: verified.ctime,
            ends_at: verified.expire.saturating_mul(1_000),
            // The token may need less than the setting of the moment allows. A stricter setting ends its connection all
            // the same, and its client logs in with the token again.
            cbc: if verified.is_cbc { self.cbc_tokens } else { CbcTokens::Off },
        })
    }

    /// Returns when a login with this proof ends, Unix milliseconds, or 0 for never; `None` if it is no longer
    /// accepted.
    pub fn ends_at(&self, proof: Proof, now_ms: i64) -> Option<i64> {
        match proof {
            Proof::AppSign { version } => self.app_sign.ends_at(version, now_ms).filter(|_| self.app_sign_login),
            Proof::Token { version, ends_at, cbc, .. } => {
                let secret_ends_at = self.server_secret.ends_at(version, now_ms)?;
                if (cbc as i32) > (self.cbc_tokens as i32) {
                    return None;
                }
                Some(if secret_ends_at == 0 { ends_at } else { ends_at.min(secret_ends_at) })
            }
        }
    }
}

/// Checks whether a first login may register the user. `is_vouched` is true for a token that only the app's back end
/// can have made for this user ([`Proof::is_vouched`]).
///
/// # Errors
/// The app registers its users in another way.
pub fn may_register(registration: Registration, is_vouched: bool, user_id: &str) -> Result<(), Error> {
    match registration {
        Registration::Anyone => Ok(()),
        Registration::Token if is_vouched => Ok(()),
        Registration::Token | Registration::Operator => Err(Error::user_not_registered(user_id)),
    }
}

#[cfg(test)]
mod tests {
    use zim_protocol::ErrorCode;

    use super::*;

    const APP: u32 = 7;
    const NOW: i64 = 1_700_000_000_000;
    const NOW_S: i64 = NOW / 1_000;
    const DAY_MS: i64 = 86_400_000;

    fn sign(letter: char) -> String {
        letter.to_string().repeat(64)
    }

    fn secret(letter: char) -> String {
        letter.to_string().repeat(32)
    }

    fn access() -> Access {
        Access::new(sign('a'), secret('a'))
    }

    fn by_sign(access: &Access, app_sign: &str, now_ms: i64) -> Result<Proof, (ErrorCode, bool)> {
        let credentials = LoginCredentials { app_id: APP, user_id: "ann", app_sign, token: "", wait_ms: 0 };
        access.authenticate(credentials, now_ms).map_err(|refusal| (refusal.error.code(), refusal.is_guess))
    }

    fn by_token(access: &Access, token: &str, now_ms: i64) -> Result<Proof, (ErrorCode, bool)> {
        let credentials = LoginCredentials { app_id: APP, user_id: "ann", app_sign: "", token, wait_ms: 0 };
        access.authenticate(credentials, now_ms).map_err(|refusal| (refusal.error.code(), refusal.is_guess))
    }

    fn token(letter: char) -> String {
        Token::generate(APP, "ann", &secret(letter), NOW_S, 86_400).unwrap()
    }

    /// Each of these would be accepted if the comparison stopped at the end of what the client sent, or at the first
    /// byte.
    #[test]
    fn only_the_whole_sign_is_accepted() {
        let access = access();
        let right = sign('a');
        assert_eq!(by_sign(&access, &right, NOW), Ok(Proof::AppSign { version: 1 }));
        let wrong = Err((ErrorCode::NetworkModuleTokenInvalid, true));
        for length in 1..right.len() {
            assert_eq!(by_sign(&access, &right[..length], NOW), wrong, "{length} characters");
        }
        assert_eq!(by_sign(&access, &format!("{right}a"), NOW), wrong);
        for index in 0..right.len() {
            let mut other = right.clone().into_bytes();
            other[index] ^= 1;
            assert_eq!(by_sign(&access, &String::from_utf8(other).unwrap(), NOW), wrong, "byte {index}");
        }
        // There is no old sign: the empty field is not accepted.
        assert_eq!(by_sign(&access, "", NOW), Err((ErrorCode::NetworkModuleTokenInvalid, false)));
    }

    #[test]
    fn an_old_sign_is_accepted_until_its_overlap_ends() {
        let mut access = access();
        access.app_sign.rotate(sign('b'), NOW, DAY_MS);
        let old = Proof::AppSign { version: 1 };
        assert_eq!(by_sign(&access, &sign('b'), NOW), Ok(Proof::AppSign { version: 2 }));
        assert_eq!(by_sign(&access, &sign('a'), NOW + DAY_MS - 1), Ok(old));
        assert!(by_sign(&access, &sign('a'), NOW + DAY_MS).is_err());
        // A login by the old sign ends with the overlap.
        assert_eq!(access.ends_at(old, NOW), Some(NOW + DAY_MS));
        assert_eq!(access.ends_at(old, NOW + DAY_MS), None);
        assert_eq!(access.ends_at(Proof::AppSign { version: 2 }, NOW), Some(0));
        // Another rotation drops the old sign.
        access.app_sign.rotate(sign('c'), NOW, DAY_MS);
        assert!(by_sign(&access, &sign('a'), NOW).is_err());
        assert_eq!(access.ends_at(old, NOW), None);
        assert!(by_sign(&access, &sign('b'), NOW).is_ok());
        // Without an overlap the old sign is not kept.
        access.app_sign.rotate(sign('d'), NOW, 0);
        assert!(by_sign(&access, &sign('c'), NOW).is_err());
        assert_eq!((access.app_sign.old.as_str(), access.ends_at(Proof::AppSign { version: 3 }, NOW)), ("", None));
    }

    #[test]
    fn an_old_secret_is_forgotten_when_its_overlap_ends_and_not_before() {
        let mut access = access();
        access.app_sign.rotate(sign('b'), NOW, DAY_MS);
        access.server_secret.rotate(secret('b'), NOW, 2 * DAY_MS);
        assert_eq!(access.next_end(), Some(NOW + DAY_MS));
        access.forget_ended(NOW + DAY_MS - 1);
        assert_eq!(access.app_sign.old, sign('a'));
        access.forget_ended(NOW + DAY_MS);
        assert_eq!((access.app_sign.old.as_str(), access.app_sign.old_ends_at), ("", 0));
        assert_eq!(access.next_end(), Some(NOW + 2 * DAY_MS));
        access.forget_ended(NOW + 2 * DAY_MS);
        assert_eq!(access.next_end(), None);
        // Setting the clock back does not make it accepted again.
        assert!(by_sign(&access, &sign('a'), NOW).is_err());
    }

    #[test]
    fn tokens_of_an_old_secret_are_accepted_until_its_overlap_ends() {
        let mut access = access();
        let ends_at = NOW + DAY_MS;
        let proof = |version| Proof::Token { version, ctime: NOW_S, ends_at, cbc: CbcTokens::Off };
        assert_eq!(by_token(&access, &token('a'), NOW), Ok(proof(1)));
        assert!(proof(1).is_vouched() && !Proof::AppSign { version: 1 }.is_vouched());
        access.server_secret.rotate(secret('b'), NOW, 3_600_000);
        assert_eq!(by_token(&access, &token('a'), NOW), Ok(proof(1)));
        assert_eq!(by_token(&access, &token('b'), NOW), Ok(proof(2)));
        assert_eq!(access.ends_at(proof(1), NOW), Some(NOW + 3_600_000));
        assert_eq!(access.ends_at(proof(2), NOW), Some(ends_at));
        let wrong = Err((ErrorCode::NetworkModuleTokenInvalid, true));
        assert_eq!(by_token(&access, &token('a'), NOW + 3_600_000), wrong);
        assert_eq!(access.ends_at(proof(1), NOW + 3_600_000), None);
        assert!(by_token(&access, &token('b'), NOW + 3_600_000).is_ok());
        assert_eq!(by_token(&access, &token('c'), NOW), wrong);
    }

    #[test]
    fn only_a_client_with_the_right_sign_learns_that_it_is_off() {
        let mut access = access();
        access.app_sign_login = false;
        assert_eq!(by_sign(&access, &sign('a'), NOW), Err((ErrorCode::NetworkModuleTokenInvalid, false)));
        let message = |app_sign: &str| {
            let credentials = LoginCredentials { app_id: APP, user_id: "ann", app_sign, token: "", wait_ms: 0 };
            access.authenticate(credentials, NOW).unwrap_err().error.to_string()
        };
        assert!(message(&sign('a')).contains("turned off"));
        assert!(!message(&sign('b')).contains("turned off"));
        assert_eq!(access.ends_at(Proof::AppSign { version: 1 }, NOW), None);
        // A token presented with the sign is accepted.
        let both =
            LoginCredentials { app_id: APP, user_id: "ann", app_sign: &sign('a'), token: &token('a'), wait_ms: 0 };
        assert!(matches!(access.authenticate(both, NOW), Ok(Proof::Token { .. })));
    }

    #[test]
    fn cbc_tokens_need_the_setting() {
        let mut access = access();
        let token = Token::generate_cbc(APP, "ann", &secret('a'), NOW_S, 86_400).unwrap();
        let credentials = LoginCredentials { app_id: APP, user_id: "ann", app_sign: "", token: &token, wait_ms: 0 };
        let refusal = access.authenticate(credentials, NOW).unwrap_err();
        assert_eq!((refusal.error.code(), refusal.is_guess), (ErrorCode::NetworkModuleTokenInvalid, false));
        assert!(refusal.error.message().contains("--cbc-tokens on"), "{}", refusal.error.message());
        for (accepted, stricter) in [(CbcTokens::On, CbcTokens::Off), (CbcTokens::Java, CbcTokens::On)] {
            access.cbc_tokens = accepted;
            let proof = access.authenticate(credentials, NOW).unwrap();
            assert!(!proof.is_vouched());
            assert_eq!(access.ends_at(proof, NOW), Some(NOW + DAY_MS));
            access.cbc_tokens = stricter;
            assert_eq!(access.ends_at(proof, NOW), None);
        }
    }

    #[test]
    fn without_an_allowance_cbc_tokens_are_not_verified_and_others_are() {
        let mut access = access();
        access.cbc_tokens = CbcTokens::On;
        let cbc = Token::generate_cbc(APP, "ann", &secret('a'), NOW_S, 86_400).unwrap();
        let code = |token: &str, app_sign: &str, wait_ms| {
            let credentials = LoginCredentials { app_id: APP, user_id: "ann", app_sign, token, wait_ms };
            access.authenticate(credentials, NOW).map_err(|refusal| refusal.error.code())
        };
        assert!(code(&cbc, "", 0).is_ok());
        assert_eq!(code(&cbc, "", 1), Err(ErrorCode::CommonModuleTriggerServerFrequencyLimit));
        assert!(code(&token('a'), "", 1).is_ok() && code("", &sign('a'), 1).is_ok());
    }

    #[test]
    fn a_token_made_too_far_ahead_is_refused() {
        let access = access();
        let made = |ahead| Token::generate(APP, "ann", &secret('a'), NOW_S + ahead, 3_600).unwrap();
        assert!(by_token(&access, &made(MAX_AHEAD_S + 1), NOW).is_ok());
        assert_eq!(by_token(&access, &made(MAX_AHEAD_S + 2), NOW), Err((ErrorCode::NetworkModuleTokenInvalid, false)));
    }

    #[test]
    fn the_registration_setting_decides_who_registers() {
        let may = |registration| [false, true].map(|is_vouched| may_register(registration, is_vouched, "ann").is_ok());
        assert_eq!(may(Registration::Anyone), [true, true]);
        assert_eq!(may(Registration::Token), [false, true]);
        assert_eq!(may(Registration::Operator), [false, false]);
    }

    #[test]
    fn debug_shows_no_secret() {
        let mut access = access();
        access.app_sign.rotate(sign('b'), NOW, 1);
        let text = format!("{access:?}");
        assert!(!text.contains("aaaa") && !text.contains("bbbb"), "{text}");
    }
}
