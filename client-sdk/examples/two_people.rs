//! Two users chat. Start a server, then run this with the values that it prints:
//!
//! ```text
//! cargo run -p zim-client-sdk --example two_people -- 127.0.0.1:4710 APP_ID APP_SIGN FINGERPRINT
//! ```

use zim_client_sdk::{
    Config, ConversationFilterOption, ConversationQueryConfig, ConversationType, Event, LoginConfig, Message,
    MessageSendConfig, MessageSendNotification, Trust, Zim,
};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, app_id, app_sign, fingerprint] = &arguments[..] else {
        return Err("pass the server's address, the app id, the app sign and the fingerprint".into());
    };
    let config = Config::new(app_id.parse()?, server)
        .app_sign(app_sign)
        .trust(Trust::fingerprint(fingerprint).ok_or("a fingerprint has 64 hexadecimal digits")?);

    let ann = Zim::new(config.clone())?;
    let bob = Zim::new(config)?;
    let mut events = bob.events();
    ann.login("ann", LoginConfig { user_name: "Ann".into(), ..LoginConfig::default() }).await?;
    bob.login("bob", LoginConfig { user_name: "Bob".into(), ..LoginConfig::default() }).await?;

    let sent = ann
        .send_message(
            Message::text("hi bob"),
            "bob",
            ConversationType::Peer,
            MessageSendConfig::default(),
            MessageSendNotification::default(),
        )
        .await?;
    print(&format!("sent: {:?}", sent.message.map(|message| message.message_seq)));

    while let Some(event) = events.next().await {
        if let Event::PeerMessageReceived(received) = event? {
            for message in received.message_list {
                print(&format!("bob got a message from {}: {:?}", message.sender_user_id, message.as_text()));
            }
            break;
        }
    }
    let query = ConversationQueryConfig { count: 10, ..ConversationQueryConfig::default() };
    let list = bob.query_conversation_list(query, ConversationFilterOption::default()).await?;
    for conversation in list.conversation_list {
        print(&format!("bob has {} unread from {}", conversation.unread_message_count, conversation.conversation_name));
    }
    ann.logout().await;
    bob.logout().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example prints its results")]
fn print(line: &str) {
    println!("{line}");
}
