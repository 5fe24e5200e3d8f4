//! Certificates that the client does not accept are named as such, with the cause and what to do.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

use crate::common::TestEnv;

/// What a certificate has.
struct Made {
    names: &'static [&'static str],
    is_ca: bool,
    is_expired: bool,
}

/// Starts a server with a self-signed certificate; returns also the path of the certificate.
async fn server_with(made: Made) -> (TestEnv, String) {
    let names: Vec<String> = made.names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    if made.is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    if made.is_expired {
        params.not_after = date_time_ymd(2020, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let mut cert_file = String::new();
    let env = TestEnv::with(|config| {
        let folder = config.data_dir.parent().unwrap();
        (config.tls.cert, config.tls.key) = (folder.join("own.pem"), folder.join("own.key"));
        std::fs::write(&config.tls.cert, certificate.pem()).unwrap();
        zim_files::write(&config.tls.key, key.serialize_pem().as_bytes()).unwrap();
        cert_file = config.tls.cert.to_str().unwrap().to_owned();
    })
    .await;
    (env, cert_file)
}

/// Logs in with these options for the certificate.
async fn log_in(env: &TestEnv, server: &str, trust: [&str; 2]) -> Result<(), String> {
    let (app_id, sign) = (env.app_id().to_string(), env.app_sign().to_owned());
    let options = ["--app-id", &app_id, "--app-sign-file", "-"];
    let ran = env.zim_with("ann", &[&["login", "ann", "--server", server][..], &options, &trust].concat(), sign).await;
    if ran.code == Some(0) {
        return Ok(());
    }
    let stderr = ran.fails(4);
    assert!(stderr.contains("6000104") && !stderr.contains("is the server running"), "{stderr}");
    assert!(stderr.contains(&format!("the certificate of the server at {server} is not accepted: ")), "{stderr}");
    Err(stderr)
}

#[tokio::test]
async fn a_self_made_certificate_works_as_ca_file() {
    let (env, file) = server_with(Made { names: &["localhost", "127.0.0.1"], is_ca: true, is_expired: false }).await;
    log_in(&env, &env.address(), ["--ca", &file]).await.unwrap();
    let other = format!("{}/cert.pem", env.data());
    std::fs::write(
        &other,
        CertificateParams::new([]).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap().pem(),
    )
    .unwrap();
    let stderr = log_in(&env, &env.address(), ["--ca", &other]).await.unwrap_err();
    assert!(
        stderr.contains("is the certificate of an authority") && stderr.contains("this very certificate"),
        "{stderr}"
    );
    env.end().await;
}

#[tokio::test]
async fn the_cause_is_told_with_what_to_do() {
    let (env, file) = server_with(Made { names: &["chat.example"], is_ca: false, is_expired: false }).await;
    let other = format!("{}/other.pem", env.data());
    std::fs::write(
        &other,
        CertificateParams::new([]).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap().pem(),
    )
    .unwrap();
    let fingerprint = "ab".repeat(32);
    for (trust, cause, hint) in [
        (["--ca", &file], "it is for chat.example, and not for 127.0.0.1", "subjectAltName"),
        (["--ca", &other], "no trusted authority signed it", "--fingerprint HEX"),
        (["--fingerprint", &fingerprint], "it has another fingerprint", "another server answers"),
    ] {
        let stderr = log_in(&env, &env.address(), trust).await.unwrap_err();
        assert!(stderr.contains(cause) && stderr.contains(hint), "{stderr}");
    }
    env.end().await;
    let (env, file) = server_with(Made { names: &["127.0.0.1"], is_ca: false, is_expired: true }).await;
    let stderr = log_in(&env, &env.address(), ["--ca", &file]).await.unwrap_err();
    assert!(stderr.contains("it has expired") && stderr.contains("renew"), "{stderr}");
    env.end().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named() {
    let env = TestEnv::new().await;
    let (server, app_id) = (env.address(), env.app_id().to_string());
    let login = ["login", "ann", "--server", &server, "--app-id", &app_id, "--app-sign-file", "-", "--ca", "none.pem"];
    let stderr = env.zim_with("ann", &login, env.app_sign()).await.fails(4);
    assert!(stderr.contains("none.pem cannot be read: ") && stderr.contains("certificate in PEM"), "{stderr}");
    assert!(!stderr.contains("is the server running"), "{stderr}");
    env.end().await;
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_named() {
    let env = TestEnv::new().await;
    let port = env.address().rsplit_once(':').unwrap().1.to_owned();
    let (app_id, sign) = (env.app_id().to_string(), env.app_sign().to_owned());
    let options = ["--app-id", &app_id, "--app-sign-file", "-"];
    for host in ["0.0.0.0", "[::]", "bü cher"] {
        let given = format!("{host}:{port}");
        let ran = env.zim_with("ann", &[&["login", "ann", "--server", &given][..], &options].concat(), &sign).await;
        let stderr = ran.fails(5);
        assert!(stderr.contains(&format!("the server's address is {given:?}; ")), "{stderr}");
    }
    env.end().await;
}
