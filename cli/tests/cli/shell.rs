//! `zim completions` and `zim man`.

use tokio::process::Command;

use crate::common::TestEnv;

#[tokio::test]
async fn completions_of_each_shell_know_the_commands() {
    let env = TestEnv::without_server();
    for shell in ["bash", "zsh", "fish"] {
        let script = env.zim("", &["completions", shell]).await.ok().stdout;
        for word in ["conversation", "delete-everywhere", "chat", "log-folder"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    assert_eq!(env.zim("", &["completions", "cmd"]).await.code, Some(2));
}

#[cfg(unix)]
#[tokio::test]
async fn bash_completes_with_the_script() {
    let env = TestEnv::without_server();
    let script = env.folder().join("zim.bash");
    std::fs::write(&script, env.zim("", &["completions", "bash"]).await.ok().stdout).unwrap();
    // As bash does after `zim conversation dr` and the key Tab.
    let line = "source \"$0\"; COMP_WORDS=(zim conversation dr); COMP_CWORD=2; _zim zim dr conversation; \
                echo \"${COMPREPLY[@]}\"";
    let completed = Command::new("bash").args(["-c", line]).arg(&script).output().await.unwrap();
    let shown = String::from_utf8(completed.stdout).unwrap();
    assert_eq!(shown.trim(), "draft", "{}", String::from_utf8_lossy(&completed.stderr));
}

#[tokio::test]
async fn every_command_has_a_manual_page() {
    let env = TestEnv::without_server();
    let folder = env.folder().join("share/man/man1");
    let wrote = env.zim("", &["man", "--folder", folder.to_str().unwrap()]).await.json();
    let names: Vec<String> =
        std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(wrote["pages"], names.len());
    for name in ["zim.1", "zim-chat.1", "zim-group-create.1", "zim-admin-app-create.1"] {
        assert!(names.iter().any(|one| one == name), "{name} is missing: {names:?}");
    }
    let page = env.zim("", &["man", "room", "enter"]).await.ok().stdout;
    assert_eq!(page, std::fs::read_to_string(folder.join("zim-room-enter.1")).unwrap());
    assert!(page.contains(".TH zim-room-enter") && page.contains("commands"), "{page}");
    assert_eq!(env.zim("", &["man", "room", "explode"]).await.code, Some(2));
    let in_a_file = folder.join("zim.1/pages");
    let refused = env.zim("", &["man", "--folder", in_a_file.to_str().unwrap()]).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("zim.1/pages"), "{}", refused.stderr);
}
