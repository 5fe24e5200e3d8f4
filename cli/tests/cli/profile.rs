//! Profiles and logins: `zim login`, `zim profile`, `zim token`, and who can read their files.

use crate::common::TestEnv;

#[cfg(unix)]
#[tokio::test]
async fn files_are_private_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;

    let env = TestEnv::new().await;
    for arguments in [&["login", "ann", "--server-data", env.data()][..], &["profile", "use", "ann"], &["chat", "ann"]]
    {
        env.start_after("umask 000", "ann", arguments).finish().await.ok();
    }
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let (config, mut seen) = (env.folder().join("config"), Vec::new());
    let mut folders = vec![config.clone()];
    while let Some(folder) = folders.pop() {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            seen.push(path.extension().map_or_else(String::new, |end| end.to_str().unwrap().to_owned()));
        }
    }
    for kind in ["toml", "db", "lock", ""] {
        assert!(seen.iter().any(|seen| seen == kind), "no {kind:?} in {seen:?}");
    }
    // A folder that an older version left open is closed.
    let data = config.join("data/ann");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    env.zim("ann", &["chat", "ann"]).await.ok();
    assert_eq!(mode(&data), 0o700);
    env.end().await;
}

/// In a folder that others can write to, they could otherwise choose the server of the login.
#[cfg(unix)]
#[tokio::test]
async fn a_server_in_the_current_folder_is_used_only_if_it_belongs_to_the_user() {
    use std::os::unix::fs::PermissionsExt;

    let env = TestEnv::new().await;
    let usual = env.folder().join("zim-data");
    std::os::unix::fs::symlink(env.data(), &usual).unwrap();
    let found = env.zim("ann", &["login", "ann"]).await.ok();
    assert!(found.stderr.contains(&format!("using the server on this machine, {}", env.address())), "{}", found.stderr);
    let found = env.zim("ann", &["admin", "sessions"]).await.ok();
    assert!(found.stderr.contains("using the server on this machine"), "{}", found.stderr);

    std::fs::set_permissions(env.data(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let command: [&[&str]; 3] = [&["login", "bob"], &["admin", "sessions"], &["token", "bob"]];
    for arguments in command {
        let stderr = env.zim("bob", arguments).await.fails(1);
        assert!(stderr.contains("others can write to zim-data (mode 0777)"), "{stderr}");
        assert!(stderr.contains("hint: ") && stderr.contains("--server-data zim-data"), "{stderr}");
    }
    // A profile that lacks only the app sign does not get it from there.
    env.zim("ann", &["logout"]).await.ok();
    let stderr = env.zim("ann", &["login", "ann"]).await.fails(1);
    assert!(stderr.contains("--app-sign-file FILE or --token-file FILE is missing, and the server of"), "{stderr}");
    assert!(stderr.contains("others can write to zim-data (mode 0777)"), "{stderr}");
    env.zim("bob", &["login", "bob", "--server-data", "zim-data"]).await.ok();
    env.end().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_login_after_a_logout_uses_the_app_sign_of_the_server_in_this_folder() {
    let env = TestEnv::new().await;
    let usual = env.folder().join("zim-data");
    std::os::unix::fs::symlink(env.data(), &usual).unwrap();
    env.zim("", &["login", "ann"]).await.ok();
    env.zim("", &["logout"]).await.ok();
    let saved = || std::fs::read_to_string(env.folder().join("config/profiles/default.toml")).unwrap();
    assert!(!saved().contains(env.app_sign()), "the logout removes the secret");

    // A new profile takes the server from the profile in use, and the secret from the folder as well.
    env.zim("bob", &["login", "bob"]).await.ok();
    // The folder has the app sign of one app.
    let stderr = env.zim("", &["login", "ann", "--app-id", "1"]).await.fails(2);
    assert!(stderr.contains("the profile's app is 1, and zim-data has the app sign of"), "{stderr}");
    assert!(stderr.contains(&format!("--app-id {}", env.app_id())), "{stderr}");

    let again = env.zim("", &["login", "ann"]).await.ok();
    let notice = format!("using the app sign of the server on this machine, {}", env.address());
    assert!(again.stderr.contains(&notice), "{}", again.stderr);
    assert_eq!(again.json()["server"], env.address());
    assert!(saved().contains(env.app_sign()), "the login saves the app sign");
    env.zim("", &["user", "self"]).await.ok();

    // Without a server in the folder, the secret has to be given.
    env.zim("", &["logout"]).await.ok();
    std::fs::remove_file(&usual).unwrap();
    let stderr = env.zim("", &["login", "ann"]).await.fails(2);
    assert!(stderr.contains("--app-sign-file FILE or --token-file FILE is missing\n"), "{stderr}");
    env.end().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_login_after_a_logout_says_that_the_server_in_this_folder_is_another() {
    let (env, other) = (TestEnv::new().await, TestEnv::new().await);
    std::os::unix::fs::symlink(other.data(), env.folder().join("zim-data")).unwrap();
    env.zim("", &["login", "ann", "--server-data", env.data()]).await.ok();
    env.zim("", &["logout"]).await.ok();
    let stderr = env.zim("", &["login", "ann"]).await.fails(2);
    let (kept, here) = (env.address(), other.address());
    let what = format!("the profile's server is {kept}, and zim-data is the folder of another, {here}");
    for text in [&*what, "hint: ", "--server-data zim-data", "--app-sign-file FILE"] {
        assert!(stderr.contains(text), "{text:?}: {stderr}");
    }
    // Both ways work.
    let given = env.zim_with("", &["login", "ann", "--app-sign-file", "-"], env.app_sign()).await.json();
    assert_eq!(given["server"], kept);
    env.zim("", &["logout"]).await.ok();
    let named = env.zim("", &["login", "ann", "--server-data", "zim-data"]).await.json();
    assert_eq!(named["server"], here);
    env.end().await;
    other.end().await;
}

#[tokio::test]
async fn a_secret_can_come_from_a_file_and_from_standard_input() {
    let env = TestEnv::new().await;
    let file = |name: &str, text: &str| {
        let path = env.folder().join(name);
        zim_files::write(&path, text.as_bytes()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (sign, secret) = (file("sign", env.app_sign()), file("secret", env.server_secret()));
    let key = format!("{}/admin.key", env.data());
    let (server, app_id, fingerprint) = (env.address(), env.app_id().to_string(), env.fingerprint());
    let login = ["login", "ann", "--server", &server, "--app-id", &app_id, "--fingerprint", &fingerprint];
    let quiet = env.zim("ann", &[&login[..], &["--app-sign-file", &sign]].concat()).await.ok();
    assert_eq!(quiet.stderr, "");

    let token = env.zim("ann", &["token", "ann", "--app-id", &app_id, "--secret-file", &secret]).await.ok().stdout;
    let token_file = file("token", &token);
    env.zim("ann", &[&login[..], &["--token-file", &token_file]].concat()).await.ok();
    for form in [["--token", "-"], ["--token-file", "-"]] {
        env.zim_with("ann", &[&login[..], &form].concat(), &token).await.ok();
    }
    let sign_piped = env.zim_with("bob", &[&login[..], &["--app-sign-file", "-"]].concat(), env.app_sign()).await;
    sign_piped.ok();

    let url = env.admin_url();
    let admin = ["admin", "--admin-url", &url, "--admin-key-file", &key, "app", "list"];
    env.zim("ann", &admin).await.ok();
    #[cfg(unix)]
    {
        // Others can read the secret: the command warns and continues.
        std::fs::set_permissions(&sign, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let warned = env.zim("ann", &[&login[..], &["--app-sign-file", &sign]].concat()).await.ok();
        assert!(warned.stderr.contains("others can read") && warned.stderr.contains("chmod 600"), "{}", warned.stderr);
    }
    env.end().await;
}

#[tokio::test]
async fn login_options_are_saved() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    // A second login needs no options, and a second profile takes the server from the one in use.
    env.zim("ann", &["login", "ann"]).await.ok();
    env.zim("ann", &["profile", "use", "ann"]).await.ok();
    let carol = env.zim("carol", &["login", "carol"]).await.json();
    assert_eq!((&carol["userID"], &carol["profile"]), (&"carol".into(), &"carol".into()));

    let shown = env.zim("carol", &["profile", "show"]).await.ok();
    assert!(!shown.stdout.contains(env.app_sign()), "a secret is shown");
    assert_eq!(env.zim("ann", &["profile", "list"]).await.lines().len(), 2);

    env.zim("carol", &["logout"]).await.ok();
    env.zim("carol", &["send", "ann", "hi"]).await.fails(3);
    env.zim("carol", &["login", "carol", "--app-sign", env.app_sign()]).await.ok();
    env.zim("carol", &["logout", "--forget"]).await.ok();
    assert_eq!(env.zim("ann", &["profile", "list"]).await.lines().len(), 1);
    env.end().await;
}

#[tokio::test]
async fn an_unreadable_profile_does_not_hide_the_others() {
    let env = TestEnv::without_server();
    let profiles = env.folder().join("config/profiles");
    std::fs::create_dir_all(profiles.join("folder.toml")).unwrap();
    for (name, text) in [("ann", "user_id = \"ann\""), ("bad", "user = \"bob\""), ("carol", "user_id = \"carol\"")] {
        std::fs::write(profiles.join(format!("{name}.toml")), text).unwrap();
    }
    for format in ["--json", "--plain"] {
        let listed = env.zim("", &["profile", "list", format]).await;
        assert_eq!(listed.code, Some(1));
        assert!(listed.stdout.contains("ann") && listed.stdout.contains("carol"), "{}", listed.stdout);
        // In JSON, the quotes are escaped.
        let stderr = listed.stderr.replace('\\', "");
        for text in ["profile \"bad\": ", "unknown field `user`", "profile \"folder\": ", "zim profile remove bad"] {
            assert!(stderr.contains(text), "{text:?}: {}", listed.stderr);
        }
    }
    env.zim("", &["profile", "remove", "bad"]).await.ok();
    std::fs::remove_dir(profiles.join("folder.toml")).unwrap();
    assert_eq!(env.zim("", &["profile", "list"]).await.ok().lines().len(), 2);
    assert!(env.zim("", &["profile", "remove", "bad"]).await.fails(2).contains("no profile"));
}

#[tokio::test]
async fn a_token_made_locally_or_by_the_server_logs_in() {
    let env = TestEnv::new().await;
    let (app_id, secret) = (env.app_id().to_string(), env.server_secret().to_owned());
    let made = env.zim("dan", &["token", "dan", "--app-id", &app_id, "--secret", &secret, "--for", "2h"]).await.ok();
    let token = made.stdout.trim();
    assert!(token.starts_with("04") && !token.contains(char::is_whitespace), "{token}");
    let server = env.address();
    let fingerprint = env.fingerprint();
    let login = ["login", "dan", "--server", &server, "--app-id", &app_id, "--fingerprint", &fingerprint, "--token"];
    env.zim("dan", &[&login[..], &[token]].concat()).await.ok();

    let by_server = env.zim("dan", &["token", "dan", "--server-data", env.data(), "--json"]).await.json();
    env.zim_with("dan", &[&login[..], &["-"]].concat(), by_server["token"].as_str().unwrap()).await.ok();
    // The token of another user is refused.
    let foreign = env.zim("eve", &["token", "dan", "--server-data", env.data()]).await.ok();
    let eve = ["login", "eve", "--server", &server, "--app-id", &app_id, "--fingerprint", &fingerprint, "--token"];
    env.zim("eve", &[&eve[..], &[foreign.stdout.trim()]].concat()).await.fails(3);
    env.end().await;
}
