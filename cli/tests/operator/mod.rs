//! The ways to the operator's service.

use zim_server::AdminAddr;
use zim_server::config::AdminListen;

use crate::common::Here;

#[tokio::test]
async fn another_machine_is_reached_with_tls_alone() {
    let here = Here::with(|config| config.admin = AdminListen::Tcp(([0, 0, 0, 0], 0).into())).await;
    let Some(AdminAddr::Tls(address)) = here.admin_addr() else { panic!("no TLS") };
    let url = format!("https://127.0.0.1:{}", address.port());
    let (key, fingerprint) = (here.admin_key(), here.fingerprint());
    let ca = format!("{}/cert.pem", here.data());
    let list = async |url: &str, trust: &[&str]| {
        let args = [&["admin", "--admin-url", url, "--admin-key", &key], trust, &["app", "list"]].concat();
        here.zim("ann", &args).await
    };
    // The start file says all of it.
    here.zim("ann", &["admin", "--server-data", here.data(), "app", "list"]).await.ok();
    list(&url, &["--admin-fingerprint", &fingerprint]).await.ok();
    list(&url, &["--admin-ca", &ca]).await.ok();
    let another = "ab".repeat(32);
    let said = list(&url, &["--admin-fingerprint", &another]).await.fails(4);
    assert!(said.contains("is not trusted") && said.contains("somebody else answers"), "{said}");
    // No authority of the system has signed it.
    let said = list(&url, &[]).await.fails(4);
    assert!(said.contains("fingerprint"), "{said}");
    let said = list(&url.replace("https", "http"), &[]).await.fails(4);
    assert!(said.contains("it speaks TLS: https://"), "{said}");
    let said = list("http://10.0.0.5:4712", &["--admin-fingerprint", &fingerprint]).await.fails(2);
    assert!(said.contains("in the clear"), "{said}");
    here.end().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_socket_without_a_server_is_said_in_a_sentence() {
    let here = Here::without_server();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let url = format!("unix:{}", socket.display());
    let args = ["admin", "--admin-url", &url, "--admin-key", "key", "app", "list"];
    let said = here.zim("ann", &args).await.fails(4);
    assert!(said.contains("there is no operator's socket") && said.contains("--server-data"), "{said}");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let said = here.zim("ann", &args).await.fails(4);
    assert!(said.contains("nobody listens on the operator's socket"), "{said}");
    let said = here.zim("ann", &["admin", "app", "list"]).await.fails(1);
    assert!(said.contains("no server is known") && said.contains("--admin-url"), "{said}");
}
