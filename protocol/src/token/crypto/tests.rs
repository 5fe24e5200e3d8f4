use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::text::padding;
use super::*;
use crate::token::expiry;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OTHER_SECRET: &str = "1123456789abcdef0123456789abcdef";
const APP: u32 = 1_234_567_890;
const MADE: i64 = 1_700_000_000;
const END: i64 = MADE + 3_600;
const CBC: &str = "04AAAAAGVT/xAAEGFiY2RlZmdoaWprbG1ub3AAcJwJclIKyjW0qO9Z//dHZNvpYQpx2Mz+KL+DfnprnEsq7p0LRejsjWac9MzPIKSV6vmkyKuy9NLBEDFAYEI4c+uYl4qg2HZ3WKlIlrg+4z8ERNYstHqGTjtcKEKDeGCKwlOd+seoz+WINREXFpYTw0E=";
const GCM: &str = "04AAAAAGVT/xAADAABAgMEBQYHCAkKCwB2VsfaDKlHu8iK5kCMQvvkMtEwOrcQngH4Ra7k3dwHlqbcx199LJc7Mv9K1T+/jvkOHse/knzZ+KcKeQV5LCsvTp0yVAEaAT7TLQA6eNtLPQ805/JAd1vV1KySN77bI/w0iLIhqq/Svj6FSl5/IsfSqH31G+n08QE=";

fn verify_with(token: &str, user_id: &str, cbc: Cbc, now_s: i64) -> Result<Token, TokenError> {
    Token::verify(token, APP, user_id, &[SECRET], cbc, now_s)
}

fn verify(token: &str, now_s: i64) -> Result<Token, ErrorCode> {
    verify_with(token, "alice", Cbc::Accepted, now_s).map_err(|error| error.code)
}

fn bytes(token: &str) -> Vec<u8> {
    STANDARD.decode(&token[2..]).unwrap()
}

fn token(bytes: &[u8]) -> String {
    format!("04{}", STANDARD.encode(bytes))
}

/// Makes a CBC token with this text and this expiry in the clear.
fn cbc_of(text: &[u8], expire: i64) -> String {
    let iv = *b"abcdefghijklmnop";
    let ciphertext = cbc::Encryptor::<aes::Aes256>::new(key(SECRET).unwrap().into(), &iv.into())
        .encrypt_padded_vec_mut::<Pkcs7>(text);
    Envelope { expire, form: Form::Cbc(iv), ciphertext }.seal().unwrap()
}

#[test]
fn tokens_of_other_generators_are_read() {
    let expected = |is_cbc| Token { app_id: APP, user_id: "alice".into(), ctime: MADE, expire: END, secret: 0, is_cbc };
    assert_eq!(verify(CBC, MADE), Ok(expected(true)));
    assert_eq!(verify(GCM, MADE), Ok(expected(false)));
    assert_eq!(expiry(CBC), Ok(END));
    // CBC may have a mode byte: 0.
    let with_mode = [bytes(CBC).as_slice(), &[0]].concat();
    assert_eq!(verify(&token(&with_mode), MADE), Ok(expected(true)));
}

#[test]
fn cbc_is_off_unless_it_is_accepted() {
    assert_eq!(Cbc::default(), Cbc::Refused);
    for with_mode in [CBC.to_owned(), token(&[bytes(CBC).as_slice(), &[0]].concat())] {
        // The user and the time do not matter: the error names the setting.
        for (user, now_s) in [("alice", MADE), ("bob", MADE), ("alice", END)] {
            let refused = verify_with(&with_mode, user, Cbc::Refused, now_s).unwrap_err();
            assert_eq!((refused.code, refused.kind), (ErrorCode::NetworkModuleTokenInvalid, TokenErrorKind::CbcOff));
            assert!(refused.reason.contains("zim admin app set --app-id N --cbc-tokens on"), "{refused}");
        }
        assert!(verify_with(&with_mode, "alice", Cbc::Accepted, MADE).is_ok());
        assert!(verify_with(&with_mode, "alice", Cbc::AcceptedWithJava, MADE).is_ok());
    }
    for cbc in [Cbc::Refused, Cbc::Accepted, Cbc::AcceptedWithJava] {
        assert!(verify_with(GCM, "alice", cbc, MADE).is_ok());
    }
}

/// The texts that ZEGO's published generators encrypt with CBC for a user, from their code: Python and Node (`nonce`
/// first), Go, C# (a `Dictionary` keeps the order of insertion), Java (a `HashMap`).
fn texts_of_generators(user: &str, payload: &str) -> [String; 4] {
    let (app, made, end) = (APP, MADE, END);
    [
        format!(
            r#"{{"app_id":{app},"user_id":{user},"nonce":2147483647,"ctime":{made},"expire":{end},"payload":{payload}}}"#
        ),
        format!(r#"{{"app_id":{app},"user_id":{user},"ctime":{made},"expire":{end},"nonce":0,"payload":{payload}}}"#),
        format!(r#"{{"app_id":{app},"user_id":{user},"payload":{payload},"ctime":{made},"expire":{end},"nonce":1}}"#),
        format!(
            r#"{{"user_id":{user},"payload":{payload},"expire":{end},"ctime":{made},"app_id":{app},"nonce":-2147483648}}"#
        ),
    ]
}

#[test]
fn texts_of_the_published_generators_are_read() {
    let payloads = [
        r#""""#,
        // Java and C# without a payload.
        "null",
        r#""room 1!~""#,
        // Quotes in a payload; Java escapes a slash, Go the three after it.
        r#""{\"room_id\":\"demo\",\"privilege\":{\"1\":1,\"2\":0},\"stream_id_list\":null}""#,
        r#""a\/b""#,
        r#""\u003ca\u0026b\u003e \\""#,
    ];
    let users = [(r#""alice""#, "alice"), (r#""a\u0026\u003c\u003e""#, "a&<>"), (r#""a&<>""#, "a&<>")];
    for payload in payloads {
        for (written, user) in users {
            for (index, text) in texts_of_generators(written, payload).into_iter().enumerate() {
                let made = cbc_of(text.as_bytes(), END);
                // In C# and Java the times follow the payload, so it must be empty.
                let is_read = index < 2 || [r#""""#, "null"].contains(&payload);
                let expected = if is_read { Ok((MADE, END, true)) } else { Err(NOT_GENUINE) };
                let verified = verify_with(&made, user, Cbc::AcceptedWithJava, MADE);
                assert_eq!(verified.map(|token| (token.ctime, token.expire, token.is_cbc)), expected, "{text}");
                // Java has a setting of its own.
                let verified = verify_with(&made, user, Cbc::Accepted, MADE);
                assert_eq!(verified.is_ok(), is_read && index < 3, "{text}: {verified:?}");
                let refused = verify_with(&made, user, Cbc::Refused, MADE).unwrap_err();
                assert_eq!(refused.kind, TokenErrorKind::CbcOff, "{text}");
            }
        }
    }
}

/// The same texts (`alice`, no payload) in tokens made by another implementation, Node's `crypto`.
const WHOLE: [&str; 4] = [
    "04AAAAAGVT/xAAEGFiY2RlZmdoaWprbG1ub3AAcJwJclIKyjW0qO9Z//dHZNvpYQpx2Mz+KL+DfnprnEsq7O3Hw6GmN++vBZxK3j5PgTTsTeAgZ3UrKvYhv/EwYUa2O5AdH9j68NLusixUk2VlOePMeQdEWHWcJEH8Xrs2ys4dfU4eCXyzLH7lQIxRwsQ=",
    "04AAAAAGVT/xAAEGFiY2RlZmdoaWprbG1ub3AAcJwJclIKyjW0qO9Z//dHZNvpYQpx2Mz+KL+DfnprnEsqrw1L8laIC4CDIlLZj1VGGyG/d3crivBrdW2GziPP0BasSzdfSroGCMfDFOyO0MhEbQdbZJ/tAqLNWMs41BIIli4l6v8YYMQrp0nu9qwkyA4=",
    "04AAAAAGVT/xAAEGFiY2RlZmdoaWprbG1ub3AAcJwJclIKyjW0qO9Z//dHZNvpYQpx2Mz+KL+DfnprnEsqWENLvVcreRapbb/pKD7yJZhwjN3Aikz/kmegyvAoZn60wfgMM30UvqtRia/VqPKimj9wgP+vHfmpctfDndShJDVSV1uhQaq4F2SlgeKXucQ=",
    "04AAAAAGVT/xAAEGFiY2RlZmdoaWprbG1ub3AAcP1E+j/HsFhCY9vfyzS1yRKdLrZ0s3jmHMtdd5CNpBgGudTCo0oHpzCCcI7hK3BDiodctNgGbBSuSozVfPzvVpZS3XLNC4TTcUkzg+YdSk37esZWm6E++5zNMskLqSjaJAIgtXVbdXJr13jrEqyVND8=",
];

#[test]
fn whole_tokens_of_the_published_generators_are_read() {
    for (text, whole) in texts_of_generators(r#""alice""#, r#""""#).iter().zip(WHOLE) {
        assert_eq!(cbc_of(text.as_bytes(), END), whole, "{text}");
        assert!(verify_with(whole, "alice", Cbc::AcceptedWithJava, MADE).is_ok(), "{text}");
        assert_eq!(verify_with(whole, "alice", Cbc::Refused, MADE).unwrap_err().kind, TokenErrorKind::CbcOff);
    }
}

#[test]
fn a_text_that_no_generator_writes_is_not_read_in_cbc() {
    let good =
        r#"{"app_id":1234567890,"user_id":"alice","nonce":1,"ctime":1700000000,"expire":1700003600,"payload":""}"#;
    let read = |text: &[u8]| verify_with(&cbc_of(text, END), "alice", Cbc::AcceptedWithJava, MADE);
    assert!(read(good.as_bytes()).is_ok());
    assert!(read(good.replace(":1,", ":9223372036854775807,").as_bytes()).is_ok());
    let not_genuine = |text: &[u8]| {
        let escaped = text.escape_ascii();
        assert_eq!(read(text), Err(NOT_GENUINE), "{escaped}");
    };
    let changed = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        not_genuine(good.replacen(from, to, 1).as_bytes());
    };
    // Another app, user or time.
    changed("1234567890", "1234567891");
    changed("1234567890", "9999999999999999999999");
    changed("alice", "alicf");
    changed("alice", "alic");
    changed("alice", "alicee");
    changed("alice", "");
    changed("1700003600", "1700003601");
    // A key that is unknown, repeated, missing, renamed or in another place.
    changed(r#","payload""#, r#","x":"","payload""#);
    changed("{", r#"{"x":"","#);
    changed("{", r#"{"":"","#);
    changed(r#","payload":"""#, r#","payload":"","payload":"""#);
    changed(r#","payload":"""#, r#","payload":"","user_id":"alice""#);
    changed(r#","payload":"""#, "");
    changed(r#","nonce":1"#, "");
    changed("app_id", "app_ie");
    changed("app_id", r"app\u005fid");
    not_genuine(
        br#"{"ctime":1700000000,"app_id":1234567890,"user_id":"alice","nonce":1,"expire":1700003600,"payload":""}"#,
    );
    // An array in the order of the keys, whitespace, trailing text.
    not_genuine(br#"[1234567890,"alice",1,1700000000,1700003600,""]"#);
    not_genuine(br#"[1234567890,"alice",1700000000,1700003600]"#);
    changed(":", ": ");
    changed(",", ", ");
    changed("}", " }");
    changed("}", "} ");
    changed("}", "}}");
    changed("}", "");
    changed("{", " {");
    not_genuine(b"");
    // Numbers in a form that no generator writes.
    for number in [
        "01",
        "-0",
        "+1",
        "1.0",
        "1e0",
        "\"1\"",
        "",
        "-",
        "--1",
        "1-",
        "9223372036854775808",
        "9999999999999999999",
        "99999999999999999999",
        "null",
    ] {
        changed(r#""nonce":1"#, &format!(r#""nonce":{number}"#));
    }
    // Text that is not printable ASCII, or written in an unknown way.
    for payload in
        ["\n", "\0", "\x1f", "\x7f", "ä", r"\n", r"\u0041", r"\u003C", r"\u002", r"\x41", r"\", r#"""#, "\" "]
    {
        changed(r#""payload":"""#, &format!(r#""payload":"{payload}""#));
    }
    for payload in ["nul", "nulls", "Null", "0", "{}", "true", "[]"] {
        changed(r#""payload":"""#, &format!(r#""payload":{payload}"#));
    }
    changed(r#""user_id":"alice""#, r#""user_id":null"#);
    changed("alice", r"alic\u0065");
    // Bytes that are not text, inside the payload.
    for byte in (0..b' ').chain([b'"', b'\\', 0x7f]).chain(0x80..=0xff) {
        let (head, tail) = good.as_bytes().split_at(good.len() - 2);
        not_genuine(&[head, &[byte], tail].concat());
    }
}

#[test]
fn a_generated_token_is_verified() {
    for token in [
        Token::generate(APP, "alice", SECRET, MADE, 60).unwrap(),
        Token::generate_cbc(APP, "alice", SECRET, MADE, 60).unwrap(),
    ] {
        assert_eq!(verify(&token, MADE).unwrap().expire, MADE + 60);
        assert_eq!(expiry(&token), Ok(MADE + 60));
    }
    let one = Token::generate(APP, "alice", SECRET, MADE, 60).unwrap();
    assert_ne!(one, Token::generate(APP, "alice", SECRET, MADE, 60).unwrap());
}

#[test]
fn arguments_out_of_bounds_generate_no_token() {
    // 24 days of 86,400 seconds.
    assert_eq!(MAX_VALIDITY_S, 2_073_600);
    for generate in [Token::generate, Token::generate_cbc] {
        let kind = |user: &str, secret, for_s| generate(APP, user, secret, MADE, for_s).map_err(|error| error.kind);
        let refused = Err(TokenErrorKind::Argument);
        let (longest, too_long) = ("x".repeat(64), "x".repeat(65));
        assert_eq!(kind("alice", "short", 60), refused);
        assert_eq!(kind("", SECRET, 60), refused);
        assert_eq!(kind(&too_long, SECRET, 60), refused);
        assert!(kind(&longest, SECRET, 60).is_ok());
        assert_eq!(kind("alice", SECRET, 0), refused);
        assert_eq!(kind("alice", SECRET, MAX_VALIDITY_S + 1), refused);
        assert!(kind("alice", SECRET, MAX_VALIDITY_S).is_ok());
    }
    assert!(Token::generate(APP, "ä", SECRET, MADE, 60).is_ok());
    assert!(Token::generate_cbc(APP, "ä", SECRET, MADE, 60).is_err());
}

#[test]
fn the_expiry_is_bounded_on_both_sides() {
    for (whole, kind) in [(GCM, TokenErrorKind::Authentic), (CBC, TokenErrorKind::Malformed)] {
        let verify = |now_s| {
            let verified = verify_with(whole, "alice", Cbc::Accepted, now_s);
            verified.map(drop).map_err(|error| {
                assert_eq!(error.kind, kind);
                error.code
            })
        };
        assert_eq!(verify(END - MIN_VALIDITY_S), Ok(()));
        assert_eq!(verify(END - 29), Err(ErrorCode::NetworkModuleTokenTimeIsTooShort));
        assert_eq!(verify(END - 1), Err(ErrorCode::NetworkModuleTokenTimeIsTooShort));
        assert_eq!(verify(END), Err(ErrorCode::NetworkModuleTokenExpired));
        assert_eq!(verify(i64::MAX), Err(ErrorCode::NetworkModuleTokenExpired));
        // The clock that made the token may be a minute ahead.
        assert_eq!(verify(END - MAX_VALIDITY_S - 60), Ok(()));
        assert_eq!(verify(END - MAX_VALIDITY_S - 60 - 1), Err(ErrorCode::NetworkModuleRspProtoParseError));
        let refused = verify_with(whole, "alice", Cbc::Accepted, END - MAX_VALIDITY_S - 60 - 1).unwrap_err();
        assert!(refused.reason.contains("clocks"), "{refused}");
    }
}

#[test]
fn another_version_app_user_or_secret_is_refused() {
    let version = verify_with(&GCM.replacen("04", "03", 1), "alice", Cbc::Accepted, MADE).unwrap_err();
    assert_eq!(version.code, ErrorCode::NetworkModuleTokenVersionError);
    assert_eq!(version.kind, TokenErrorKind::Malformed);
    let refused = |whole, app, user, secret| {
        let refused = Token::verify(whole, app, user, &[secret], Cbc::Accepted, MADE).unwrap_err();
        (refused.code, refused.kind)
    };
    // A GCM token is authenticated, so the error may say what is wrong.
    assert_eq!(refused(GCM, 1, "alice", SECRET), (ErrorCode::NetworkModuleCommonError, TokenErrorKind::Authentic));
    assert_eq!(refused(GCM, APP, "bob", SECRET), (ErrorCode::NetworkModuleTokenInvalid, TokenErrorKind::Authentic));
    let not_genuine = (ErrorCode::NetworkModuleTokenInvalid, TokenErrorKind::NotGenuine);
    for whole in [GCM, CBC] {
        assert_eq!(refused(whole, APP, "alice", OTHER_SECRET), not_genuine);
        assert_eq!(refused(whole, APP, "alice", "short"), not_genuine);
    }
    assert_eq!(refused(CBC, 1, "alice", SECRET), not_genuine);
    assert_eq!(refused(CBC, APP, "bob", SECRET), not_genuine);
}

#[test]
fn one_of_several_secrets_is_enough_and_its_index_is_returned() {
    for (whole, is_cbc) in [(GCM, false), (CBC, true)] {
        let verify = |secrets: &[&str]| {
            let verified = Token::verify(whole, APP, "alice", secrets, Cbc::Accepted, MADE);
            verified.map(|token| (token.secret, token.is_cbc)).map_err(|error| error.kind)
        };
        assert_eq!(verify(&[SECRET, OTHER_SECRET]), Ok((0, is_cbc)));
        assert_eq!(verify(&[OTHER_SECRET, SECRET]), Ok((1, is_cbc)));
        assert_eq!(verify(&["short", OTHER_SECRET, SECRET]), Ok((2, is_cbc)));
        assert_eq!(verify(&[SECRET, SECRET]), Ok((0, is_cbc)));
        assert_eq!(verify(&[OTHER_SECRET]), Err(TokenErrorKind::NotGenuine));
        assert_eq!(verify(&[]), Err(TokenErrorKind::NotGenuine));
    }
}

#[test]
fn all_secrets_are_tried() {
    let tried = std::cell::RefCell::new(Vec::new());
    let found = first(&["a", "b", "c"], |secret| {
        tried.borrow_mut().push(secret.to_owned());
        (secret != "c").then(|| secret.to_owned())
    });
    assert_eq!(found, Some((0, "a".to_owned())));
    assert_eq!(*tried.borrow(), ["a", "b", "c"]);
}

#[test]
fn no_truncated_token_panics_or_passes() {
    for whole in [CBC, GCM] {
        let whole = bytes(whole);
        for length in 0..whole.len() {
            let cut = verify_with(&token(&whole[..length]), "alice", Cbc::Accepted, MADE).unwrap_err();
            assert_eq!(cut.code, ErrorCode::NetworkModuleTokenInvalid, "{length} of {}", whole.len());
            assert_eq!(cut.kind, TokenErrorKind::Malformed, "{length} of {}", whole.len());
        }
    }
    for more in [&[0_u8, 0][..], &[0, 1], &[1, 0], &[1, 1]] {
        for whole in [CBC, GCM] {
            let long = [&bytes(whole), more].concat();
            assert_eq!(verify(&token(&long), MADE), Err(ErrorCode::NetworkModuleTokenInvalid));
        }
    }
    for not_base64 in ["", "04", &format!("04{}", "!".repeat(40)), &format!("04{}", "ä".repeat(40))] {
        assert_eq!(verify(not_base64, MADE), Err(ErrorCode::NetworkModuleTokenInvalid));
    }
}

#[test]
fn no_flipped_bit_passes() {
    for whole in [CBC, GCM].map(bytes) {
        for (place, bit) in (0..whole.len()).flat_map(|place| (0..8).map(move |bit| (place, bit))) {
            let mut changed = whole.clone();
            changed[place] ^= 1 << bit;
            let what = format!("bit {bit} of byte {place} of {}", whole.len());
            let refused = verify_with(&token(&changed), "alice", Cbc::AcceptedWithJava, MADE).unwrap_err();
            let is_clear_time = place < 8
                && [
                    ErrorCode::NetworkModuleTokenExpired,
                    ErrorCode::NetworkModuleTokenTimeIsTooShort,
                    ErrorCode::NetworkModuleRspProtoParseError,
                ]
                .contains(&refused.code);
            assert!(refused.code == ErrorCode::NetworkModuleTokenInvalid || is_clear_time, "{what}: {refused:?}");
            // Lengths and mode are checked before anything is decrypted. Everything else is one error.
            let is_outside = [8, 9].contains(&place) || (place == whole.len() - 1 && whole == bytes(GCM));
            let length = if whole == bytes(CBC) { [26, 27] } else { [22, 23] };
            if is_outside || length.contains(&place) {
                assert_eq!(refused.kind, TokenErrorKind::Malformed, "{what}");
            } else if !is_clear_time {
                assert_eq!(refused, NOT_GENUINE, "{what}");
            }
        }
    }
}

#[test]
fn modes_are_0_and_1_and_no_other() {
    let cbc = bytes(CBC);
    let gcm = bytes(GCM);
    for mode in 0..=u8::MAX {
        let verified = verify_with(&token(&[&cbc, &[mode][..]].concat()), "alice", Cbc::Accepted, MADE);
        assert_eq!(verified.is_ok(), mode == 0, "CBC as {mode}");
        assert!(verified.is_ok_and(|token| token.is_cbc) || mode != 0);
        let as_gcm = token(&[&gcm[..gcm.len() - 1], &[mode][..]].concat());
        let verified = verify_with(&as_gcm, "alice", Cbc::Accepted, MADE);
        assert_eq!(verified.is_ok(), mode == 1, "GCM as {mode}");
        if mode > 1 {
            assert_eq!(verified.unwrap_err().kind, TokenErrorKind::Malformed, "GCM as {mode}");
        }
    }
}

#[test]
fn a_token_with_a_changed_header_is_refused() {
    for whole in [CBC, GCM] {
        let mut changed = bytes(whole);
        changed[..8].copy_from_slice(&(MADE + 1_000_000).to_be_bytes());
        assert_eq!(verify_with(&token(&changed), "alice", Cbc::Accepted, MADE), Err(NOT_GENUINE));
    }
}

/// This is why tokens of the generator in Java have a setting of their own: the sender chooses the IV, and with it the
/// first block.
#[test]
fn the_sender_can_change_the_first_block() {
    let forged = |text: &str, from: &str, to: &str| {
        let mut forged = bytes(&cbc_of(text.as_bytes(), END));
        let place = 10 + text.find(from).unwrap();
        for (index, (from, to)) in from.bytes().zip(to.bytes()).enumerate() {
            forged[place + index] ^= from ^ to;
        }
        token(&forged)
    };
    let texts = texts_of_generators(r#""alice""#, r#""""#);
    let token = forged(&texts[3], "\"alic", "\"brut");
    assert!(verify_with(&token, "brute", Cbc::AcceptedWithJava, MADE).is_ok());
    assert_eq!(verify_with(&token, "brute", Cbc::Accepted, MADE), Err(NOT_GENUINE));
    // In the others, the first block is the same in all tokens of an app.
    for text in &texts[..3] {
        assert!(text.starts_with(r#"{"app_id":123456"#), "{text}");
    }
}

/// The length of the user ID protects nothing there either: any block can become the first one.
#[test]
fn in_java_leading_characters_of_the_user_id_can_be_removed() {
    let cut = |own: &str, blocks: usize, first: &[u8; BLOCK]| {
        let text = texts_of_generators(&format!("\"{own}\""), "\"\"")[3].clone();
        let own = Envelope::open(&cbc_of(text.as_bytes(), END)).unwrap();
        let (plain, sealed) = (text.as_bytes().as_chunks::<BLOCK>().0, own.ciphertext.as_chunks::<BLOCK>().0);
        let iv = std::array::from_fn(|byte| plain[blocks][byte] ^ sealed[blocks - 1][byte] ^ first[byte]);
        Envelope { expire: END, form: Form::Cbc(iv), ciphertext: own.ciphertext[blocks * BLOCK..].to_vec() }
            .seal()
            .unwrap()
    };
    let [twenty, uuid] = ["mallory-0123456789ab", "0b6f3c1e-6a0d-4c55-9f31-5d1c2c7e9a48"];
    for (own, blocks, first, user) in [
        (twenty, 1, br#"{"user_id":"boss"#, "boss"),
        (&twenty[..19], 1, br#"{"user_id":"bob""#, "bob"),
        (&twenty[..17], 1, br#"{"user_id":"b",""#, "b"),
        (uuid, 2, br#"{"user_id":"boss"#, "boss"),
        (uuid, 1, br#"{"user_id":"boss"#, "bossf31-5d1c2c7e9a48"),
    ] {
        let token = cut(own, blocks, first);
        assert!(verify_with(&token, user, Cbc::AcceptedWithJava, MADE).is_ok(), "{own} to {user}");
        assert_eq!(verify_with(&token, user, Cbc::Accepted, MADE), Err(NOT_GENUINE));
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

/// Makes a CBC token of these blocks without adding padding.
fn unpadded(plain: &[u8]) -> String {
    let iv = [0; BLOCK];
    let ciphertext = cbc::Encryptor::<aes::Aes256>::new(key(SECRET).unwrap().into(), &iv.into())
        .encrypt_padded_vec_mut::<NoPadding>(plain);
    Envelope { expire: END, form: Form::Cbc(iv), ciphertext }.seal().unwrap()
}

#[test]
fn a_text_ends_where_its_padding_begins() {
    let is_read = |plain: &[u8]| verify_with(&unpadded(plain), "alice", Cbc::Accepted, MADE).is_ok();
    for payload in 0..BLOCK {
        let text = texts_of_generators(r#""alice""#, &format!("\"{:payload$}\"", ""))[0].clone().into_bytes();
        let right = BLOCK - text.len() % BLOCK;
        for count in 0..=u8::MAX {
            let mut plain = text.clone();
            plain.resize(text.len() + right, count);
            assert_eq!(is_read(&plain), usize::from(count) == right, "{count} instead of {right}");
        }
        if right == BLOCK {
            assert!(!is_read(&text), "a text without padding");
        }
    }
}
