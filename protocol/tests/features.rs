//! An app that embeds the SDK does not build what only a server and its operator need. `cargo tree` is asked, because a
//! build of the whole workspace unifies features and hides a mistake.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

/// The crates that are built for a package with its default features, build scripts included.
fn crates_of(package: &str) -> Vec<String> {
    let arguments = ["tree", "--frozen", "--edges", "normal,build", "--prefix", "none", "--format", "{p}", "--package"];
    let tree = Command::new(env!("CARGO")).args(arguments).arg(package).output().unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn the_sdk_needs_neither_grpc_nor_token_ciphers() {
    let crates = crates_of("zim-client-sdk");
    assert!(crates.iter().any(|name| name == "zim-protocol"), "{crates:?}");
    for unwanted in ["tonic", "tonic-prost", "tonic-prost-build", "h2", "axum", "aes", "aes-gcm", "cbc"] {
        assert!(!crates.iter().any(|name| name == unwanted), "zim-client-sdk builds {unwanted}");
    }
}

/// The sync engine is pure, so that clients in other languages and a browser can use it and its tests. That it compiles
/// alone is checked by `just check`.
#[test]
fn the_sync_engine_needs_no_runtime_network_or_database() {
    let crates = crates_of("zim-engine");
    assert!(crates.iter().any(|name| name == "zim-protocol"), "{crates:?}");
    let unwanted = ["tokio", "rusqlite", "libsqlite3-sys", "quinn", "quinn-proto", "rustls", "ring", "socket2", "mio"];
    for unwanted in unwanted {
        assert!(!crates.iter().any(|name| name == unwanted), "zim-engine builds {unwanted}");
    }
}
