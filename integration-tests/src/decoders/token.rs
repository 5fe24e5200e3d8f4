//! The credentials of a client: tokens of version 04, and tickets that resume a TLS session.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::server::ProducesTickets;
use zim_protocol::clock::Clock;
use zim_protocol::token::{
    CLOCK_LEEWAY_S, Cbc, MAX_VALIDITY_S, MIN_VALIDITY_S, Token, TokenError, TokenErrorKind, expiry,
};
use zim_server::Tickets;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// The secret before the last rotation.
const OTHER_SECRET: &str = "abcdef0123456789abcdef0123456789";
const APP: u32 = 1_234_567_890;
const USER: &str = "alice";
const NOW_S: i64 = 1_700_000_000;
const NONCE: [u8; 12] = [7; 12];
/// A valid token of each form: AES-256-CBC and AES-256-GCM.
const GENUINE: [&str; 2] = [
    "04AAAAAGVT/xAAEGFiY2RlZmdoaWprbG1ub3AAcJwJclIKyjW0qO9Z//dHZNvpYQpx2Mz+KL+DfnprnEsq7p0LRejsjWac9MzPIKSV6vmkyKuy9NLBEDFAYEI4c+uYl4qg2HZ3WKlIlrg+4z8ERNYstHqGTjtcKEKDeGCKwlOd+seoz+WINREXFpYTw0E=",
    "04AAAAAGVT/xAADAABAgMEBQYHCAkKCwB2VsfaDKlHu8iK5kCMQvvkMtEwOrcQngH4Ra7k3dwHlqbcx199LJc7Mv9K1T+/jvkOHse/knzZ+KcKeQV5LCsvTp0yVAEaAT7TLQA6eNtLPQ805/JAd1vV1KySN77bI/w0iLIhqq/Svj6FSl5/IsfSqH31G+n08QE=",
];

static TICKETS: LazyLock<Tickets> = LazyLock::new(|| Tickets::new([7; 32], Clock::manual(NOW_S * 1_000)));
static TICKET: LazyLock<Vec<u8>> = LazyLock::new(|| TICKETS.encrypt(b"a session").unwrap());

/// Checks, by the first byte, a token as text, the bytes of a token, a valid token with changed bytes, a sealed token
/// with any claims, a generated token, a ticket, or a valid ticket with changed bytes.
///
/// An accepted token is for the app, the user and the time in question, and a changed token is refused. This does not
/// show that tokens cannot be forged: a forger of the AES-CBC form sends one query after another and learns from the
/// answers, which a fuzzer does not. `protocol/tests/forger` does.
pub fn token(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    match mode % 7 {
        0 => {
            if let Ok(text) = str::from_utf8(rest) {
                verify(text);
            }
        }
        1 => drop(verify(&token_of(rest))),
        2 => changed(rest),
        3 => sealed(rest),
        4 => generated(rest),
        5 => assert!(rest == *TICKET || TICKETS.decrypt(rest).is_none(), "a forged ticket is accepted"),
        _ => {
            let mut ticket = TICKET.clone();
            flip(&mut ticket, rest);
            assert_eq!(TICKETS.decrypt(&ticket).is_some(), ticket == *TICKET, "a changed ticket is accepted");
        }
    }
}

fn token_of(bytes: &[u8]) -> String {
    format!("04{}", STANDARD.encode(bytes))
}

/// Verifies a token with AES-CBC turned on; checks its header and claims, and that only AES-GCM is accepted with it
/// off.
fn verify(token: &str) -> Option<Token> {
    let expiry = expiry(token);
    let verified = verify_for(token, APP, USER, Cbc::AcceptedWithJava).ok()?;
    let with_cbc_off = verify_for(token, APP, USER, Cbc::Refused).map_err(|error| error.kind);
    assert_eq!(with_cbc_off, if verified.is_cbc { Err(TokenErrorKind::CbcOff) } else { Ok(verified.clone()) });
    assert_eq!(expiry, Ok(verified.expire), "the server accepts a token that the client would not send");
    assert!((MIN_VALIDITY_S..=MAX_VALIDITY_S + CLOCK_LEEWAY_S).contains(&(verified.expire - NOW_S)));
    assert_eq!((verified.app_id, verified.user_id.as_str()), (APP, USER));
    for (app, user) in [(APP ^ 1, USER), (APP, "bob")] {
        assert!(
            verify_for(token, app, user, Cbc::AcceptedWithJava).is_err(),
            "the token is accepted for another user or app"
        );
    }
    Some(verified)
}

fn verify_for(token: &str, app: u32, user: &str, cbc: Cbc) -> Result<Token, TokenError> {
    Token::verify(token, app, user, &[OTHER_SECRET, SECRET], cbc, NOW_S)
}

/// Flips bits, given as pairs of a position and a mask.
fn flip(bytes: &mut [u8], flips: &[u8]) {
    for pair in flips.as_chunks::<2>().0 {
        let position = usize::from(pair[0]) % bytes.len();
        bytes[position] ^= pair[1];
    }
}

fn changed(flips: &[u8]) {
    for whole in GENUINE {
        let whole = STANDARD.decode(&whole[2..]).unwrap();
        let mut bytes = whole.clone();
        flip(&mut bytes, flips);
        assert_eq!(verify(&token_of(&bytes)).is_some(), bytes == whole, "a changed token is accepted");
    }
}

/// Seals eight bytes of expiry and a plaintext with the server's own key, so that only the claims are checked.
fn sealed(input: &[u8]) {
    let Some((expire, plain)) = input.split_first_chunk::<8>() else { return };
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, SECRET.as_bytes()).unwrap());
    let mut sealed = plain.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(NONCE), Aad::empty(), &mut sealed).unwrap();
    let Ok(length) = u16::try_from(sealed.len()) else { return };
    let bytes = [&expire[..], &12_u16.to_be_bytes(), &NONCE, &length.to_be_bytes(), &sealed, &[1]].concat();
    let Some(verified) = verify(&token_of(&bytes)) else { return };
    // Unknown content of a token is ignored, even if it is not valid JSON.
    let Ok(claims) = serde_json::from_slice::<serde_json::Value>(plain) else { return };
    assert_eq!((&claims["app_id"], &claims["user_id"]), (&APP.into(), &USER.into()));
    assert_eq!((&claims["expire"], verified.expire), (&verified.expire.into(), i64::from_be_bytes(*expire)));
    assert_eq!(claims["ctime"], verified.ctime);
}

type Generate = fn(u32, &str, &str, i64, i64) -> Result<String, TokenError>;

/// Generates a token from eight bytes of validity and a user; it is valid for exactly these.
fn generated(input: &[u8]) {
    let Some((validity, user)) = input.split_first_chunk::<8>() else { return };
    let (validity, Ok(user)) = (i64::from_be_bytes(*validity), str::from_utf8(user)) else { return };
    let is_fine = (1..=64).contains(&user.len()) && (1..=MAX_VALIDITY_S).contains(&validity);
    let is_printable = user.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    for (generate, is_fine) in [(Token::generate as Generate, is_fine), (Token::generate_cbc, is_fine && is_printable)]
    {
        let token = generate(APP, user, SECRET, NOW_S, validity);
        assert_eq!(token.is_ok(), is_fine, "{user:?} for {validity} s");
        let Ok(token) = token else { continue };
        let verified = verify_for(&token, APP, user, Cbc::AcceptedWithJava);
        assert_eq!(verified.is_ok(), validity >= MIN_VALIDITY_S, "{user:?} for {validity} s: {verified:?}");
        assert_eq!(expiry(&token), Ok(NOW_S + validity));
    }
}
