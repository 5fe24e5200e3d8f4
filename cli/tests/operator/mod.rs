//! Connections to the operator's service.

use zim_server::AdminAddr;
use zim_server::config::AdminListen;

use crate::common::TestEnv;

#[tokio::test]
async fn another_machine_is_reached_only_with_tls() {
    let env = TestEnv::with(|config| config.admin = AdminListen::Tcp(([0, 0, 0, 0], 0).into())).await;
    let Some(AdminAddr::Tls(address)) = env.admin_addr() else { panic!("no TLS") };
    let url = format!("https://127.0.0.1:{}", address.port());
    let (key, fingerprint) = (env.admin_key(), env.fingerprint());
    let ca = format!("{}/cert.pem", env.data());
    let list = async |url: &str, trust: &[&str]| {
        let args = [&["admin", "--admin-url", url, "--admin-key", &key], trust, &["app", "list"]].concat();
        env.zim("ann", &args).await
    };
    // The start file contains the address and the fingerprint.
    env.zim("ann", &["admin", "--server-data", env.data(), "app", "list"]).await.ok();
    list(&url, &["--admin-fingerprint", &fingerprint]).await.ok();
    list(&url, &["--admin-ca", &ca]).await.ok();
    let another = "ab".repeat(32);
    let stderr = list(&url, &["--admin-fingerprint", &another]).await.fails(4);
    assert!(
        stderr.contains("is not accepted: it has another fingerprint") && stderr.contains("another server answers"),
        "{stderr}"
    );
    // No authority of the system has signed it.
    let stderr = list(&url, &[]).await.fails(4);
    assert!(stderr.contains("fingerprint"), "{stderr}");
    let stderr = list(&url.replace("https", "http"), &[]).await.fails(4);
    assert!(stderr.contains("it requires TLS: https://"), "{stderr}");
    let stderr = list("http://10.0.0.5:4712", &["--admin-fingerprint", &fingerprint]).await.fails(2);
    assert!(stderr.contains("in the clear"), "{stderr}");
    env.end().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_socket_without_a_server_is_explained() {
    let env = TestEnv::without_server();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let url = format!("unix:{}", socket.display());
    let args = ["admin", "--admin-url", &url, "--admin-key", "key", "app", "list"];
    let stderr = env.zim("ann", &args).await.fails(4);
    assert!(stderr.contains("there is no operator's socket") && stderr.contains("--server-data"), "{stderr}");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let stderr = env.zim("ann", &args).await.fails(4);
    assert!(stderr.contains("no server listens on the operator's socket"), "{stderr}");
    let stderr = env.zim("ann", &["admin", "app", "list"]).await.fails(1);
    assert!(stderr.contains("no server to manage was found") && stderr.contains("--admin-url"), "{stderr}");
}
