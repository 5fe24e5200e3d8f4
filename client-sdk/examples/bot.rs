//! A bot that answers each message exactly once, also if it or the server is killed at any moment. The page about bots in
//! the book explains it. Write a token for the user `bot` into a file and keep it fresh, then run this with the values that
//! the server prints:
//!
//! ```text
//! zim token bot > token
//! cargo run -p zim-client-sdk --example bot -- 127.0.0.1:4710 APP_ID FINGERPRINT bot-data token
//! ```

use zim_client_sdk::{
    Config, ConnectionState, ConversationSyncState, ConversationType, Event, EventKind, LoginConfig, Message,
    MessageDirection, MessageSendConfig, MessageSendNotification, Trust, Zim,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, app_id, fingerprint, folder, token_file] = &arguments[..] else {
        return Err(
            "pass the server's address, the app id, the fingerprint, a data folder and a file with a token".into()
        );
    };
    let token_file = token_file.clone();
    let config = Config::new(app_id.parse()?, server)
        .trust(Trust::fingerprint(fingerprint).ok_or("a fingerprint has 64 hexadecimal digits")?)
        // Here are the messages that are not answered yet, and the answers that are not sent yet.
        .data_dir(folder)
        // An answer waits for the server as long as it takes.
        .resend_window_ms(i64::MAX)
        .retry_login(true)
        .token_provider(move |_user| {
            let token_file = token_file.clone();
            async move { Ok(tokio::fs::read_to_string(token_file).await?.trim().to_owned()) }
        });
    let zim = Zim::new(config)?;
    // Before the login, which raises what an earlier run of the bot did not finish.
    zim.on(EventKind::PeerMessageReceived, |zim, event| {
        let Event::PeerMessageReceived(received) = event else { return };
        for message in &received.message_list {
            answer(zim, message);
        }
    });
    let mut events = zim.events();
    zim.login("bot", LoginConfig::default()).await?;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::ConversationSyncStateChanged(sync)) if sync.state() == ConversationSyncState::Finished => {
                print("ready");
            }
            Ok(Event::ConnectionStateChanged(change)) if change.state() == ConnectionState::Disconnected => {
                return Err(format!("the login has ended: {:?}", change.event()).into());
            }
            // Another event, or some were lost. The handler loses none.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

/// Answers a message. A handler may get an event again after a crash; then the key tells the server that this is the same
/// answer.
fn answer(zim: &Zim, message: &Message) {
    let Some(text) = message.as_text() else { return };
    if message.direction() != MessageDirection::Receive {
        // The bot's own message, sent by another device.
        return;
    }
    let config = MessageSendConfig {
        idempotency_key: format!("answer to {}", message.message_id),
        ..MessageSendConfig::default()
    };
    // The call itself queues the answer, and the SDK stores it before the event counts as delivered. So this must not move
    // into the task.
    let sent = zim.send_message(
        Message::text(format!("you said: {text}")),
        &message.sender_user_id,
        ConversationType::Peer,
        config,
        MessageSendNotification::default(),
    );
    tokio::spawn(async move {
        if let Err(error) = sent.await {
            print(&format!("not sent: {error}"));
        }
    });
}

#[expect(clippy::print_stdout, reason = "an example prints what happens")]
fn print(line: &str) {
    println!("{line}");
}
