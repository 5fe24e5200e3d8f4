//! The hook of the page about certificates, which gives a renewed certificate to the server.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};

const PAGE: &str = include_str!("../../docs/operations/tls.md");

/// What a test cannot do: give files to other users, and restart a service. On the page the key belongs to root, whose group may
/// read it.
const STAND_INS: &str =
    "install() { shift 4; command install \"$@\"; }\nsystemctl() { echo \"$@\" >>\"$RESTARTS\"; }\n";

/// Runs the hook for a renewed certificate, in a folder that stands for `/etc/zim`.
fn run_hook(folder: &Path, renewed: &Path) -> Output {
    let hook = PAGE.split("```sh\n").find(|block| block.starts_with("#!/bin/sh")).unwrap();
    let hook = hook.split_once("```").unwrap().0;
    assert!(hook.contains("-m 0640") && hook.contains("=/etc/zim/tls"), "{hook}");
    let hook = hook.replace("-m 0640", "-m 0600").replace("/etc/zim", folder.to_str().unwrap());
    let programs = Path::new(env!("CARGO_BIN_EXE_zim-server")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    Command::new("sh")
        .args(["-c", &format!("{STAND_INS}{hook}")])
        // The server would take the variables of the tests for settings.
        .env_clear()
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("RENEWED_LINEAGE", renewed)
        .env("RESTARTS", folder.join("restarts"))
        .output()
        .unwrap()
}

/// Writes what certbot leaves: a certificate, and the key that should be that of it.
fn renew(renewed: &Path, certificate: &str, key: &str) {
    fs::write(renewed.join("fullchain.pem"), certificate).unwrap();
    fs::write(renewed.join("privkey.pem"), key).unwrap();
}

#[test]
fn the_deploy_hook_replaces_the_certificate_only_by_one_that_the_server_can_use() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, renewed) = (dir.path().join("zim"), dir.path().join("live"));
    fs::create_dir(&folder).unwrap();
    fs::create_dir(&renewed).unwrap();
    fs::write(folder.join("zim.toml"), "").unwrap();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["chat.example.com".to_owned()]).unwrap();
    let (cert, key) = (cert.pem(), signing_key.serialize_pem());

    renew(&renewed, &cert, &key);
    let ran = run_hook(&folder, &renewed);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let installed = |name: &str| fs::read_to_string(folder.join("tls").join(name)).unwrap();
    assert_eq!((installed("fullchain.pem"), installed("key.pem")), (cert.clone(), key.clone()));
    let mode = fs::metadata(folder.join("tls/key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let restarts = || fs::read_to_string(folder.join("restarts")).unwrap();
    assert_eq!(restarts(), "restart zim-server\n");

    // A key of another certificate: nothing is replaced, and the server goes on.
    renew(&renewed, &cert, &KeyPair::generate().unwrap().serialize_pem());
    let ran = run_hook(&folder, &renewed);
    assert!(!ran.status.success());
    let error = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(error.contains("tls.cert and tls.key"), "{error}");
    assert_eq!(installed("key.pem"), key);
    assert_eq!(restarts(), "restart zim-server\n");
}
