//! Offline push from the command line: a device, credentials, the log.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::common::TestEnv;

/// Answers each request with 200, and hands over what it gets.
async fn webhook() -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/push", listener.local_addr().unwrap());
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut text = String::new();
            let mut buffer = [0; 4_096];
            // A request of the server ends with its JSON.
            while !text.ends_with('}') {
                let read = stream.read(&mut buffer).await.unwrap_or(0);
                if read == 0 {
                    break;
                }
                text.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await);
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    (url, requests)
}

#[tokio::test]
async fn a_message_is_pushed_to_a_profile_that_is_away() {
    let (url, mut requests) = webhook().await;
    let env = TestEnv::with(|config| config.push.delay_ms = 100).await;
    env.login("ann").await;
    env.login("bob").await;
    let secret = env.folder().join("secret");
    zim_files::write(&secret, b"0123456789abcdef").unwrap();
    let admin = async |args: &[&str]| {
        env.zim("ann", &[&["--plain", "admin", "--server-data", env.data(), "push"], args].concat()).await
    };
    let none = admin(&["list"]).await.ok().lines();
    assert_eq!(none, ["The app has no push service: nothing is pushed."]);
    let set = ["set", "webhook", "--url", &url, "--secret-file", secret.to_str().unwrap()];
    admin(&set).await.ok();
    let listed = admin(&["list"]).await.ok().lines();
    assert!(listed[1].contains("webhook") && listed[1].contains(&url) && !listed[1].contains("0123"), "{listed:?}");
    let stderr = admin(&["test", "bob"]).await.fails(5);
    assert!(stderr.contains("no device of this user is registered"), "{stderr}");
    env.zim("bob", &["push", "register", "bobs-terminal"]).await.ok();
    let own: Value = env.zim("bob", &["push", "list", "--json"]).await.ok().json();
    // The command is no device: it cannot say which one is its own.
    assert_eq!((&own["source"], own.get("isOwnDevice")), (&Value::from(102), None));
    env.zim("ann", &["send", "bob", "hi", "--push", "From Ann"]).await.ok();
    let request = requests.recv().await.unwrap();
    assert!(request.contains("\"title\":\"From Ann\"") && request.contains("\"content\":\"hi\""), "{request}");
    env.until(async || {
        let lines = admin(&["log", "bob"]).await.ok().lines();
        lines.get(1).is_some_and(|line| {
            let id = own["pushID"].as_str().unwrap();
            ["message", "sent", "ann", id].into_iter().all(|part| line.contains(part))
        })
    })
    .await;
    let tested = admin(&["test", "bob", "--title", "try"]).await.ok().lines();
    assert!(tested.iter().any(|line| line.contains("sent") && line.contains("200")), "{tested:?}");
    assert!(requests.recv().await.unwrap().contains("\"title\":\"try\""));
    let operator = async |args: &[&str]| {
        let message = ["--plain", "admin", "--server-data", env.data(), "message"];
        env.zim("ann", &[&message, args].concat()).await.ok();
    };
    operator(&["send", "ann", "bob", "as ann", "--push", "From the operator"]).await;
    let request = requests.recv().await.unwrap();
    assert!(request.contains("From the operator") && request.contains("\"content\":\"as ann\""), "{request}");
    operator(&["revoke", "ann", "bob", "1", "--push", "Gone"]).await;
    let request = requests.recv().await.unwrap();
    assert!(request.contains("\"title\":\"Gone\"") && request.contains("\"kind\":\"revoke\""), "{request}");
    env.zim("ann", &["revoke", "bob", "2", "--push", "Gone, too"]).await.ok();
    assert!(requests.recv().await.unwrap().contains("\"title\":\"Gone, too\""));
    env.zim("bob", &["push", "badge", "0"]).await.ok();
    env.zim("bob", &["push", "unregister"]).await.ok();
    let left = env.zim("bob", &["--plain", "push", "list"]).await.ok().lines();
    assert_eq!(left, ["No device of yours gets pushes."]);
    for (of_another, by) in [("huawei", "webhook"), ("apns-voip", "apns")] {
        let stderr = admin(&["remove", of_another]).await.fails(5);
        let expected = format!("{of_another} has no credentials of its own: it uses those of {by}");
        assert!(stderr.contains(&expected), "{stderr}");
    }
    admin(&["remove", "webhook"]).await.ok();
    admin(&["remove", "webhook"]).await.fails(5);
    env.end().await;
}
