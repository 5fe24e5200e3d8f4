//! A presence board: it shows who of a team is there, and what they say about it. Start a server, then run this with the values
//! that it prints and the users to show:
//!
//! ```text
//! cargo run -p zim-client-sdk --example presence_board -- 127.0.0.1:4710 APP_ID APP_SIGN FINGERPRINT ann bob
//! ```
//!
//! `zim login ann` and `zim status set lunch` in another terminal change the board. Ctrl-C ends it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc;
use zim_client_sdk::{
    Config, ConnectionState, ErrorUserInfo, LoginConfig, Trust, UserOnlineStatus, UserStatus,
    UserStatusSubscribeConfig, UserStatusUpdatedEvent, Zim,
};

/// A subscription ends by itself, so that one that is forgotten costs nothing. The board renews its own long before that.
const SUBSCRIPTION: UserStatusSubscribeConfig = UserStatusSubscribeConfig { subscription_duration: 24 * 60 };
const RENEWED_EVERY: Duration = Duration::from_secs(3600);
/// The users that one call takes.
const USERS_OF_A_CALL: usize = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, app_id, app_sign, fingerprint, team @ ..] = arguments.as_slice() else {
        return Err(
            "pass the server's address, the app ID, the app sign, the fingerprint, and the users to show".into()
        );
    };
    let config = Config::new(app_id.parse()?, server)
        .app_sign(app_sign)
        .trust(Trust::fingerprint(fingerprint).ok_or("a fingerprint has 64 hexadecimal digits")?);
    let zim = Zim::new(config)?;
    // A handler should be quick, so it only passes on what it gets.
    let (sender, mut changes) = mpsc::unbounded_channel();
    let _guard = zim.on_event(move |_, event: &UserStatusUpdatedEvent| {
        for status in &event.user_status_list {
            // Fails when nobody reads any more.
            let _ = sender.send(status.clone());
        }
    });
    zim.login("board", LoginConfig::default()).await?;

    let mut states = zim.connection_states();
    let mut renewal = tokio::time::interval(RENEWED_EVERY);
    let mut shown = HashMap::new();
    loop {
        tokio::select! {
            // The first tick comes at once.
            _ = renewal.tick() => subscribe(&zim, team).await,
            Some(status) = changes.recv() => {
                // A renewal brings statuses that the board has shown.
                let line = line(&status);
                if shown.insert(status.user_id, line.clone()).as_ref() != Some(&line) {
                    print(&line);
                }
            }
            state = states.next() => match state {
                Some(ConnectionState::Connected) => print("connected"),
                // What is shown may be old from now on. After the reconnect the SDK raises what has changed meanwhile.
                Some(ConnectionState::Connecting | ConnectionState::Reconnecting) => print("the connection is lost"),
                Some(ConnectionState::Disconnected) | None => return Err("the login has ended".into()),
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    // Otherwise the user `board` is online until the server notices that nothing comes any more.
    zim.logout().await;
    Ok(())
}

/// Subscribes to everybody. Each status that is known comes as an event at once, and then each change.
async fn subscribe(zim: &Zim, team: &[String]) {
    for users in team.chunks(USERS_OF_A_CALL) {
        match zim.subscribe_users_status(users, SUBSCRIPTION).await {
            Ok(subscribed) => subscribed.error_user_list.iter().for_each(|refused: &ErrorUserInfo| {
                print(&format!("{}: there is no such user (error {})", refused.user_id, refused.reason));
            }),
            // The next renewal tries it again.
            Err(error) => print(&format!("no subscription: {error}")),
        }
    }
}

/// The line of a user on the board.
fn line(status: &UserStatus) -> String {
    let online = match status.online_status() {
        UserOnlineStatus::Online => "online",
        // The connection is lost, or the user has logged out: an app may show a user who lost it as still around.
        UserOnlineStatus::Offline => "offline",
        UserOnlineStatus::Logout => "logged out",
        UserOnlineStatus::Unknown => "unknown",
    };
    match status.custom_status.as_str() {
        "" => format!("{}: {online}", status.user_id),
        custom => format!("{}: {online}, {custom}", status.user_id),
    }
}

#[expect(clippy::print_stdout, reason = "an example prints what happens")]
fn print(line: &str) {
    // Users choose their statuses. They must not control the terminal, or write the lines of others.
    println!("{}", line.replace(char::is_control, " "));
}
