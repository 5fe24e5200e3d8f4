//! A terminal chat with one other user. Start a server, then run this in two terminals with the values that it prints, once as
//! `ann bob` and once as `bob ann`:
//!
//! ```text
//! cargo run -p zim-client-sdk --example chat -- 127.0.0.1:4710 APP_ID APP_SIGN FINGERPRINT ann bob
//! ```

use zim_client_sdk::{Config, LoginConfig, PeerMessageReceivedEvent, Trust, Zim};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, app_id, app_sign, fingerprint, me, peer] = arguments.as_slice() else {
        return Err("pass the server's address, app ID, app sign, fingerprint, your name and the other one's".into());
    };
    let config = Config::new(app_id.parse()?, server)
        .trust(Trust::fingerprint(fingerprint).ok_or("a fingerprint has 64 hexadecimal digits")?)
        // A secret of the whole app. An app that you ship has a `token_provider` instead, which asks your back end.
        .app_sign(app_sign);
    let zim = Zim::new(config)?;
    let with = peer.clone();
    // Set before the login: it also gets what came while nobody was here.
    zim.on_event(move |zim, event: &PeerMessageReceivedEvent| {
        if event.from_conversation_id == with {
            for message in &event.message_list {
                print(&format!("{}: {}", message.sender_user_id, message.as_text().unwrap_or("…")));
            }
            let chat = zim.peer(&with);
            tokio::spawn(async move { chat.clear_unread().await });
        }
    })
    .detach();
    zim.login(me, LoginConfig::default()).await?;
    zim.synced().await?;

    let chat = zim.peer(peer);
    while let Some(line) = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await? {
        if let Err(error) = chat.send(line?).await {
            print(&format!("not sent: {error}"));
        }
    }
    zim.logout().await;
    zim.close().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a chat prints what is said")]
fn print(line: &str) {
    println!("{}", line.replace(char::is_control, " ")); // What others write must not control the terminal.
}
