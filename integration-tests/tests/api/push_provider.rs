//! Offline push through servers that speak as the real push services do.

use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};
use web_push_native::Auth;
use web_push_native::p256::SecretKey;
use web_push_native::p256::elliptic_curve::sec1::ToEncodedPoint;
use zim_client_sdk::PushToken;
use zim_integration_tests::{PushAnswer, PushServer, World, eventually, soon};
use zim_protocol::{
    CallInviteConfig, MessageSendConfig, PushConfig, PushLogRow, PushOutcome, PushSource, SetPushProviderRequest,
    TestPushRequest, VoIpConfig,
};

use crate::push_delivery::{away, becomes, log, send, set_provider, titled};

const DELAY_MS: i64 = 2_000;
/// An RSA key that is used for nothing else.
pub(crate) const RSA_KEY: &str = include_str!("push_rsa_key.pem");

fn decode(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()
}

fn encode(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// Takes a token apart: its head, its claims, what is signed, and the signature.
pub(crate) fn parts(token: &str) -> (Value, Value, String, Vec<u8>) {
    let parts: Vec<&str> = token.split('.').collect();
    let json = |part: &str| serde_json::from_slice(&decode(part)).unwrap();
    (json(parts[0]), json(parts[1]), format!("{}.{}", parts[0], parts[1]), decode(parts[2]))
}

/// Returns the public key in a certificate or key pair as the tests verify with it.
fn rsa_public() -> Vec<u8> {
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::pki_types::pem::PemObject;
    let key = PrivatePkcs8KeyDer::from_pem_slice(RSA_KEY.as_bytes()).unwrap();
    let pair = ring::signature::RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    ring::signature::KeyPair::public_key(&pair).as_ref().to_vec()
}

#[tokio::test]
async fn fcm_gets_a_token_for_the_service_account_once_and_then_the_pushes() {
    let server = PushServer::https(&["h2", "http/1.1"]);
    let world = World::new().await;
    let settings = json!({
        // As Google's console exports it, with fields that nobody needs here.
        "type": "service_account",
        "project_id": "chess-1",
        "client_email": "push@chess-1.iam.example",
        "private_key": RSA_KEY,
        "token_uri": server.url("/token"),
        "endpoint": server.url(""),
        "ca": server.ca(),
    });
    set_provider(&world, PushSource::Fcm, &settings).await;
    away(&world, "bob", PushToken::fcm("bobs-token")).await;
    let ann = world.user("ann").await;
    server.answer([PushAnswer::status(200).body(r#"{"access_token":"granted","expires_in":3600}"#)]);
    send(&ann, "bob", "1", titled("one")).await;
    world.clock.advance(DELAY_MS);
    let asked = server.next().await;
    assert_eq!(asked.path, "/token");
    let form = String::from_utf8(asked.body.to_vec()).unwrap();
    let proof = form.split_once("assertion=").unwrap().1;
    assert!(form.starts_with("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&"), "{form}");
    let (head, claims, signed, signature) = parts(proof);
    assert_eq!((&head["alg"], &claims["iss"]), (&json!("RS256"), &json!("push@chess-1.iam.example")));
    assert_eq!(
        (&claims["aud"], &claims["scope"]),
        (&json!(server.url("/token")), &json!("https://www.googleapis.com/auth/firebase.messaging"))
    );
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3_600);
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, rsa_public()).verify(signed.as_bytes(), &signature).unwrap();
    let push = server.next().await;
    assert_eq!(
        (push.path.as_str(), push.header("authorization")),
        ("/v1/projects/chess-1/messages:send", "Bearer granted")
    );
    let message = &push.json()["message"];
    assert_eq!((&message["token"], &message["notification"]["title"]), (&json!("bobs-token"), &json!("one")));
    assert_eq!((&message["data"]["conversationID"], &message["android"]["priority"]), (&json!("ann"), &json!("HIGH")));
    becomes(&world, "bob", PushOutcome::Sent).await;
    // The token is good for more. A device that is gone is forgotten.
    let gone = json!({"error": {"message": "gone", "details": [{"errorCode": "UNREGISTERED"}]}}).to_string();
    server.answer([PushAnswer::status(404).body(&gone)]);
    send(&ann, "bob", "2", titled("two")).await;
    world.clock.advance(DELAY_MS);
    assert_eq!(server.next().await.json()["message"]["notification"]["title"], json!("two"));
    eventually("the push ID is removed", async || {
        let rows = log(&world, "bob", 2).await;
        rows.iter().any(|row| row.detail == "404 UNREGISTERED: gone" && row.push_id.is_empty()).then_some(())
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn fcm_that_gives_no_token_is_asked_again_and_the_device_stays() {
    let server = PushServer::https(&["http/1.1"]);
    let world = World::new().await;
    let settings = json!({
        "project_id": "chess-1",
        "client_email": "push@chess-1.iam.example",
        "private_key": RSA_KEY,
        "token_uri": server.url("/token"),
        "endpoint": server.url("/"),
        "ca": server.ca(),
    });
    set_provider(&world, PushSource::Fcm, &settings).await;
    away(&world, "bob", PushToken::fcm("bobs-token")).await;
    let ann = world.user("ann").await;
    server.answer([PushAnswer::status(503), PushAnswer::status(404).body("not here")]);
    send(&ann, "bob", "1", titled("one")).await;
    world.clock.advance(DELAY_MS);
    server.next().await;
    let row =
        eventually("a failure", async || log(&world, "bob", 1).await.into_iter().find(|row| !row.detail.is_empty()))
            .await;
    assert_eq!((row.outcome(), row.detail.as_str()), (PushOutcome::Waiting, "no token for the service account: 503"));
    world.clock.advance(5_000);
    server.next().await;
    let row = becomes(&world, "bob", PushOutcome::Failed).await;
    assert_eq!(
        (row.detail.as_str(), row.push_id.is_empty()),
        ("no token for the service account: 404 not here", false)
    );
    world.end().await;
}

#[tokio::test]
async fn apns_speaks_http_2_with_a_token_and_rings_for_a_call() {
    let server = PushServer::https(&["h2"]);
    let world = World::new().await;
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let settings = json!({
        "keyId": "KEY1",
        "teamId": "TEAM1",
        "privateKey": pair.serialize_pem(),
        "topic": "org.example.chat",
        "endpoint": server.url(""),
        "ca": server.ca(),
    });
    set_provider(&world, PushSource::Apns, &settings).await;
    let (alert, voip) = ("ab".repeat(32), "cd".repeat(32));
    let phone = world.user("bob").await;
    soon(phone.register_push(PushToken::apns_voip(&voip))).await.unwrap();
    soon(phone.update_user_badge(3)).await.unwrap();
    soon(phone.register_push(PushToken::apns(&alert))).await.unwrap();
    phone.quit().await;
    let ann = world.user("ann").await;
    let push = PushConfig { enable_badge: true, thread_id: "t1".to_owned(), ..titled("one").push_config.unwrap() };
    send(&ann, "bob", "1", MessageSendConfig { push_config: Some(push), ..Default::default() }).await;
    world.clock.advance(DELAY_MS);
    let got = server.next().await;
    assert_eq!((got.version, got.path.as_str()), (hyper::Version::HTTP_2, format!("/3/device/{alert}").as_str()));
    assert_eq!((got.header("apns-topic"), got.header("apns-push-type")), ("org.example.chat", "alert"));
    assert_eq!((got.header("apns-priority"), got.header("apns-collapse-id").len()), ("10", 32));
    let aps = &got.json()["aps"];
    assert_eq!((&aps["alert"]["title"], &aps["badge"], &aps["thread-id"]), (&json!("one"), &json!(4), &json!("t1")));
    let token = got.header("authorization").strip_prefix("Bearer ").unwrap().to_owned();
    let (head, claims, signed, signature) = parts(&token);
    assert_eq!((&head["alg"], &head["kid"], &claims["iss"]), (&json!("ES256"), &json!("KEY1"), &json!("TEAM1")));
    let public = pair.public_key_raw().to_vec();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public).verify(signed.as_bytes(), &signature).unwrap();
    // A call rings; the notification stays away.
    let config = CallInviteConfig {
        push_config: Some(PushConfig {
            title: "Ann calls".to_owned(),
            vo_ip_config: Some(VoIpConfig {
                ios_voip_handle_type: 1,
                ios_voip_handle_value: "ann".to_owned(),
                ios_voip_has_video: true,
            }),
            ..PushConfig::default()
        }),
        ..CallInviteConfig::default()
    };
    soon(ann.call_invite(["bob"], config)).await.unwrap();
    world.clock.advance(DELAY_MS);
    let got = server.next().await;
    assert_eq!((got.path.as_str(), got.header("apns-push-type")), (format!("/3/device/{voip}").as_str(), "voip"));
    assert_eq!((got.header("apns-topic"), &got.json()["call"]["hasVideo"]), ("org.example.chat.voip", &json!(true)));
    // Each node has a token of its own, and uses it again.
    if world.servers().count() == 1 {
        assert_eq!(got.header("authorization").strip_prefix("Bearer "), Some(token.as_str()));
    }
    assert_eq!(log(&world, "bob", 2).await.len(), 2);
    // A device that is gone.
    server.answer([PushAnswer::status(410).body(r#"{"reason":"Unregistered"}"#)]);
    send(&ann, "bob", "2", titled("two")).await;
    world.clock.advance(DELAY_MS);
    server.next().await;
    eventually("the push ID is removed", async || {
        let rows = log(&world, "bob", 3).await;
        rows.iter().any(|row| row.detail == "410 Unregistered" && row.push_id.is_empty()).then_some(())
    })
    .await;
    world.end().await;
}

/// Waits until the last of `count` pushes has failed for good, and returns its row.
async fn last_failed(world: &World, user: &str, count: usize) -> PushLogRow {
    eventually("the push has failed", async || {
        log(world, user, count).await.into_iter().last().filter(|row| row.outcome() == PushOutcome::Failed)
    })
    .await
}

#[tokio::test]
async fn apns_that_knows_no_such_token_ends_the_registration_and_the_log_says_why() {
    let server = PushServer::https(&["h2"]);
    let world = World::new().await;
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let settings = json!({
        "keyId": "KEY1",
        "teamId": "TEAM1",
        "privateKey": pair.serialize_pem(),
        "topic": "org.example.chat",
        "sandbox": true,
        "endpoint": server.url(""),
        "ca": server.ca(),
    });
    set_provider(&world, PushSource::Apns, &settings).await;
    let (ann, mut operator) = (world.user("ann").await, world.admin().await);
    for (user, token, reason, why) in [
        ("bob", "ab", "BadDeviceToken", "400 BadDeviceToken: not valid, or not of the sandbox environment"),
        ("cai", "cd", "DeviceTokenNotForTopic", "400 DeviceTokenNotForTopic: not of the topic org.example.chat"),
    ] {
        away(&world, user, PushToken::apns(token.repeat(32))).await;
        // What is wrong with the push itself says nothing about the device.
        server.answer([PushAnswer::status(400).body(r#"{"reason":"PayloadEmpty"}"#)]);
        send(&ann, user, "1", titled("one")).await;
        world.clock.advance(DELAY_MS);
        server.next().await;
        let row = last_failed(&world, user, 1).await;
        assert_eq!((row.detail.as_str(), row.push_id.is_empty()), ("400 PayloadEmpty", false));
        // A try of the operator says the same, and removes nothing.
        let refused = PushAnswer::status(400).body(&json!({"reason": reason}).to_string());
        server.answer([refused.clone()]);
        let request = TestPushRequest { app_id: world.app_id(), user_id: user.into(), ..TestPushRequest::default() };
        let tests = soon(operator.test_push(request)).await.unwrap().into_inner().tests;
        server.next().await;
        assert_eq!((tests.len(), tests[0].detail.as_str()), (1, why));
        server.answer([refused]);
        send(&ann, user, "2", titled("two")).await;
        world.clock.advance(DELAY_MS);
        server.next().await;
        let row = last_failed(&world, user, 2).await;
        assert_eq!((row.detail.as_str(), row.push_id.as_str(), row.attempts), (why, "", 1));
        // The app registers again at its next login.
        let phone = world.user(user).await;
        assert!(soon(phone.query_push_list()).await.unwrap().push_list.is_empty());
        phone.quit().await;
        away(&world, user, PushToken::apns(token.repeat(32))).await;
        send(&ann, user, "3", titled("three")).await;
        world.clock.advance(DELAY_MS);
        assert_eq!(server.next().await.json()["aps"]["alert"]["title"], json!("three"));
    }
    drop(operator);
    world.end().await;
}

fn random_key() -> SecretKey {
    let mut bytes = [0; 32];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).unwrap();
    SecretKey::from_slice(&bytes).unwrap()
}

pub(crate) fn public_of(key: &SecretKey) -> Vec<u8> {
    key.public_key().to_encoded_point(false).as_bytes().to_vec()
}

/// The keys of an app, in the form of the settings, and those of a browser.
pub(crate) fn web_push_keys() -> ((String, String), (SecretKey, [u8; 16])) {
    let app = random_key();
    ((encode(&public_of(&app)), encode(&app.to_bytes())), (random_key(), [9; 16]))
}

#[tokio::test]
async fn web_push_is_encrypted_for_the_browser_and_proves_who_sends() {
    let server = PushServer::https(&["h2", "http/1.1"]);
    let world = World::with(|config| config.push.allow_private_addresses = true).await;
    let ((public, private), (browser, auth)) = web_push_keys();
    let settings = json!({
        "publicKey": public, "privateKey": private, "subject": "mailto:ops@example.org", "ca": server.ca(),
    });
    set_provider(&world, PushSource::WebPush, &settings).await;
    let p256dh = public_of(&browser);
    away(&world, "bob", PushToken::web_push(server.url("/send/1"), p256dh, auth)).await;
    let ann = world.user("ann").await;
    server.answer([
        PushAnswer::status(429).header("retry-after", "30"),
        PushAnswer::status(201),
        PushAnswer::status(410),
    ]);
    send(&ann, "bob", "1", titled("one")).await;
    world.clock.advance(DELAY_MS);
    server.next().await;
    eventually("the answer is noted", async || {
        let rows = log(&world, "bob", 1).await;
        (rows[0].detail == "429" && rows[0].next_at - world.clock.now_ms() == 30_000).then_some(())
    })
    .await;
    world.clock.advance(30_000);
    let got = server.next().await;
    assert_eq!((got.path.as_str(), got.header("content-encoding")), ("/send/1", "aes128gcm"));
    assert_eq!((got.header("urgency"), got.header("topic").len(), got.header("ttl")), ("high", 32, "86368"));
    let text = web_push_native::decrypt(got.body.to_vec(), &browser, &Auth::clone_from_slice(&auth)).unwrap();
    let shown: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((&shown["title"], &shown["data"]["conversationID"]), (&json!("one"), &json!("ann")));
    let (token, key) = got.header("authorization").strip_prefix("vapid t=").unwrap().split_once(", k=").unwrap();
    assert_eq!(key, public);
    let (head, claims, signed, signature) = parts(token);
    assert_eq!(
        (&head["alg"], &claims["aud"], &claims["sub"]),
        (&json!("ES256"), &json!(server.url("")), &json!("mailto:ops@example.org"))
    );
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, decode(key)).verify(signed.as_bytes(), &signature).unwrap();
    becomes(&world, "bob", PushOutcome::Sent).await;
    // The subscription has ended.
    send(&ann, "bob", "2", titled("two")).await;
    world.clock.advance(DELAY_MS);
    server.next().await;
    eventually("the push ID is removed", async || {
        let rows = log(&world, "bob", 2).await;
        rows.iter().any(|row| row.detail == "410" && row.push_id.is_empty()).then_some(())
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn web_push_reaches_no_private_address_whatever_its_name() {
    let server = PushServer::https(&["http/1.1"]);
    let mut world = World::with(|config| config.push.allow_private_addresses = true).await;
    let ((public, private), (browser, auth)) = web_push_keys();
    let settings = json!({
        "publicKey": public, "privateKey": private, "subject": "mailto:ops@example.org", "ca": server.ca(),
    });
    set_provider(&world, PushSource::WebPush, &settings).await;
    let p256dh = public_of(&browser);
    let (named, numbered) = (server.url("/named").replace("127.0.0.1", "localhost"), server.url("/numbered"));
    away(&world, "bob", PushToken::web_push(named, p256dh.clone(), auth)).await;
    away(&world, "carl", PushToken::web_push(numbered, p256dh, auth)).await;
    world.stop_server().await;
    world.edit_settings(|config| config.push.allow_private_addresses = false);
    world.start_server().await;
    let ann = world.user("ann").await;
    for user in ["bob", "carl"] {
        send(&ann, user, "1", titled("one")).await;
    }
    world.clock.advance(DELAY_MS);
    let row = becomes(&world, "carl", PushOutcome::Failed).await;
    assert_eq!(row.detail, "the endpoint is no public https address");
    let row =
        eventually("a failure", async || log(&world, "bob", 1).await.into_iter().find(|row| !row.detail.is_empty()))
            .await;
    assert_eq!(
        (row.outcome(), row.detail.as_str()),
        (PushOutcome::Waiting, "not reached: the name has no public address")
    );
    assert_eq!(server.waiting(), 0);
    world.end().await;
}

#[tokio::test]
async fn set_push_provider_makes_a_key_for_browsers_once() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let mut set = async |subject: &str| {
        let settings = json!({"subject": subject}).to_string();
        let source = PushSource::WebPush as i32;
        let request = SetPushProviderRequest { app_id: world.app_id(), source, app_type: 0, settings };
        let stored = soon(operator.set_push_provider(request)).await.unwrap().into_inner();
        serde_json::from_str::<Value>(&stored.settings).unwrap()
    };
    let (first, second) = (set("mailto:one@example.org").await, set("mailto:two@example.org").await);
    assert_eq!(decode(first["publicKey"].as_str().unwrap()).len(), 65);
    assert_eq!((&first["publicKey"], &second["subject"]), (&second["publicKey"], &json!("mailto:two@example.org")));
    assert!(first["privateKey"].is_null());
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn set_push_provider_on_two_nodes_at_once_makes_one_key() {
    let world = World::new().await;
    let settings = json!({"subject": "mailto:ops@example.org"}).to_string();
    // The operator's service is at one node only.
    let answers = world.servers().map(async |server| {
        let tenant = server.app().tenants.get(world.app_id()).unwrap();
        let stored = server.app().set_push_provider(&tenant, (PushSource::WebPush, 0), settings.clone());
        let shown = stored.await.unwrap().settings;
        serde_json::from_str::<Value>(&shown).unwrap()["publicKey"].as_str().unwrap().to_owned()
    });
    let keys: std::collections::HashSet<String> =
        soon(futures_util::future::join_all(answers)).await.into_iter().collect();
    assert_eq!(keys.len(), 1, "browsers subscribe with any of them: {keys:?}");
    world.end().await;
}

#[tokio::test]
async fn set_push_provider_refuses_credentials_that_are_none() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let ((public, private), _) = web_push_keys();
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let (p8, pkcs8) = (pair.serialize_pem(), pair.serialize_der());
    let cases = [
        (PushSource::Fcm, json!({"project_id": "p", "client_email": "e", "private_key": "no PEM"}), "private_key"),
        (PushSource::Fcm, json!({"project_id": "../p", "client_email": "e", "private_key": RSA_KEY}), "project_id"),
        (
            PushSource::Fcm,
            json!({"project_id": "p", "client_email": "e", "private_key": RSA_KEY, "token_uri": "http://x"}),
            "https",
        ),
        (PushSource::Apns, json!({"keyId": "k", "teamId": "t", "topic": "", "privateKey": p8}), "topic"),
        (PushSource::Apns, json!({"keyId": "k", "teamId": "t", "topic": "o.e", "privateKey": RSA_KEY}), "privateKey"),
        (
            PushSource::WebPush,
            json!({"publicKey": public, "privateKey": encode(&[7; 32]), "subject": "mailto:x"}),
            "belong together",
        ),
        // A whole structure contains a public key of its own.
        (
            PushSource::WebPush,
            json!({"publicKey": public, "privateKey": encode(&pkcs8), "subject": "mailto:x"}),
            "belong together",
        ),
        (PushSource::WebPush, json!({"publicKey": public, "privateKey": private, "subject": "x"}), "subject"),
    ];
    for (source, settings, problem) in cases {
        let settings = settings.to_string();
        let request = SetPushProviderRequest { app_id: world.app_id(), source: source as i32, app_type: 0, settings };
        let refused = soon(operator.set_push_provider(request)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(refused.message().contains(problem), "{}", refused.message());
    }
    drop(operator);
    world.end().await;
}
