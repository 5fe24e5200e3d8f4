//! Two users chat. Start a server, then run this with the values that it prints:
//!
//! ```text
//! cargo run -p zim-client-sdk --example two_people -- 127.0.0.1:4710 APP_ID APP_SIGN FINGERPRINT
//! ```

use tokio::sync::mpsc;
use zim_client_sdk::{Config, LoginConfig, PeerMessageReceivedEvent, Trust, Zim};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, app_id, app_sign, fingerprint] = arguments.as_slice() else {
        return Err("pass the server's address, the app ID, the app sign and the fingerprint".into());
    };
    let config = Config::new(app_id.parse()?, server)
        .app_sign(app_sign)
        .trust(Trust::fingerprint(fingerprint).ok_or("a fingerprint has 64 hexadecimal digits")?);

    let (ann, bob) = (Zim::new(config.clone())?, Zim::new(config)?);
    // Handlers should be quick, so this one only passes on what it gets. It is removed at the end, with its guard.
    let (sender, mut received) = mpsc::unbounded_channel();
    let _guard = bob.on_event(move |_, event: &PeerMessageReceivedEvent| {
        for message in &event.message_list {
            // Fails when nobody reads any more.
            let _ = sender.send(message.clone());
        }
    });
    ann.login("ann", LoginConfig { user_name: "Ann".into(), ..LoginConfig::default() }).await?;
    bob.login("bob", LoginConfig { user_name: "Bob".into(), ..LoginConfig::default() }).await?;
    bob.synced().await?;

    let sent = ann.peer("bob").send("hi bob").await?;
    print(&format!("sent: {}", sent.message_seq));
    let Some(message) = received.recv().await else { return Err("bob was logged out".into()) };
    print(&format!("bob got a message from {}: {}", message.sender_user_id, message.as_text().unwrap_or_default()));

    let chat = bob.peer("ann");
    let conversation = chat.conversation().await?;
    print(&format!("bob has {} unread from {}", conversation.unread_message_count, conversation.conversation_id));
    chat.clear_unread().await?;
    chat.send("hi ann").await?;
    for message in chat.history().next_page(10).await? {
        print(&format!("{}: {}", message.sender_user_id, message.as_text().unwrap_or_default()));
    }
    ann.logout().await;
    bob.logout().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example prints its results")]
fn print(line: &str) {
    println!("{line}");
}
