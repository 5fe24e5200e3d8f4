//! A support desk. Customers write to the user `support`, as to any other. Each of their messages appears in a group of the agents,
//! and an agent answers with a reply to it, which the customer gets from `support`. What agents say to each other without a reply
//! stays in the group. Start a server, then run this with the values that it prints, a data folder, and the agents:
//!
//! ```text
//! cargo run -p zim-client-sdk --example support_desk -- 127.0.0.1:4710 APP_ID APP_SIGN FINGERPRINT desk-data eve
//! ```
//!
//! The agents must have logged in once. Then `zim send support "help"` is a customer, and eve reads and answers it with
//! `zim history --group support-inbox` and `zim message reply --group support-inbox 1 "on it"`.
//!
//! No message is lost and none is passed on twice, also if the desk or the server is killed: it follows the rules of the bot. Only
//! text is passed on, and one for which there is no room beside the customer's name is cut. A device that was away gets the messages of
//! the last seven days, at most 1,000 of a conversation: what a desk misses beyond that is in the history only.

use std::collections::HashSet;

use zim_client_sdk::message_lite_info::Body;
use zim_client_sdk::{
    Config, ConnectionState, ErrorCode, GroupAdvancedConfig, GroupInfo, GroupInviteMode, GroupJoinMode,
    GroupMessageReceivedEvent, LoginConfig, Message, MessageDirection, MessageSendConfig, PeerMessageReceivedEvent,
    SendMessage, Trust, Zim,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The user to whom customers write.
const DESK: &str = "support";
/// The group of the agents.
const INBOX: &str = "support-inbox";
/// The bytes of a text, unless the server is configured for more.
const MAX_TEXT_BYTES: usize = 2048;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, app_id, app_sign, fingerprint, folder, agents @ ..] = arguments.as_slice() else {
        return Err(
            "pass the server's address, the app ID, the app sign, the fingerprint, a data folder and the agents".into(),
        );
    };
    let config = Config::new(app_id.parse()?, server)
        // The desk is a part of the back end, which may have this secret of the whole app.
        .app_sign(app_sign)
        .trust(Trust::fingerprint(fingerprint).ok_or("a fingerprint has 64 hexadecimal digits")?)
        .retry_login(true);

    // The group comes first: a message that is there before it would have nowhere to go. This short login gets no messages.
    let setup = Zim::new(config.clone().one_shot(true))?;
    setup.login(DESK, LoginConfig::default()).await?;
    open_inbox(&setup, agents).await?;
    setup.logout().await;
    setup.close().await;

    // Here are the messages that are not passed on yet. They wait for the server as long as it takes.
    let zim = Zim::new(config.data_dir(folder).resend_window_ms(i64::MAX))?;
    // Before the login, which raises what an earlier run of the desk did not finish.
    zim.on_event(|zim, event: &PeerMessageReceivedEvent| {
        event.message_list.iter().for_each(|message| to_agents(zim, message));
    })
    .detach();
    zim.on_event(|zim, event: &GroupMessageReceivedEvent| {
        if event.from_conversation_id == INBOX {
            event.message_list.iter().for_each(|message| to_customer(zim, message));
        }
    })
    .detach();
    zim.login(DESK, LoginConfig::default()).await?;
    zim.synced().await?;
    print("ready");

    let mut states = zim.connection_states();
    loop {
        tokio::select! {
            state = states.next() => {
                if matches!(state, Some(ConnectionState::Disconnected) | None) {
                    // What started the desk can start it again.
                    return Err("the login has ended".into());
                }
            }
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    // No logout: it would give up messages that wait for the server. The next run sends them.
    zim.close().await;
    Ok(())
}

/// Opens the group of the agents, and lets in exactly these.
async fn open_inbox(zim: &Zim, agents: &[String]) -> Result<(), Failure> {
    let info = GroupInfo { group_id: INBOX.to_owned(), group_name: "Support".to_owned(), ..GroupInfo::default() };
    // Nobody enters by themselves, and agents bring nobody in: who is in the group reads what all customers write.
    let config = GroupAdvancedConfig {
        join_mode: GroupJoinMode::Forbid as i32,
        invite_mode: GroupInviteMode::Admin as i32,
        ..GroupAdvancedConfig::default()
    };
    match zim.create_group(info, Vec::<String>::new(), config).await {
        Ok(_) => {}
        // An earlier run has created it. Or somebody else has taken the ID: then the calls below fail.
        Err(error) if error.code() == ErrorCode::GroupModuleGroupAlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    let inbox = zim.group(INBOX);
    let mut inside = HashSet::new();
    let mut members = inbox.members();
    while let Some(member) = members.next().await {
        inside.insert(member?.user_id);
    }
    let strangers: Vec<&String> = inside.iter().filter(|user| *user != DESK && !agents.contains(*user)).collect();
    if !strangers.is_empty() {
        let removed = inbox.kick(strangers).await?;
        if let Some(left) = removed.error_user_list.first() {
            return Err(format!("{} is no agent and cannot be removed: error {}", left.user_id, left.reason).into());
        }
    }
    let missing: Vec<&String> = agents.iter().filter(|agent| !inside.contains(*agent)).collect();
    if !missing.is_empty() {
        for refused in inbox.invite(missing).await?.error_user_list {
            print(&format!("{} cannot be an agent: error {}", refused.user_id, refused.reason));
        }
    }
    Ok(())
}

/// Passes what a customer writes on to the agents.
fn to_agents(zim: &Zim, message: &Message) {
    if message.direction() != MessageDirection::Receive {
        // What the desk itself sent, from another device.
        return;
    }
    let said = message.as_text().unwrap_or("(a message without text)");
    // An ID has no space, so the first one ends the name.
    let mut text = format!("{}: {said}", message.sender_user_id);
    text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
    pass_on(message, zim.group(INBOX).send(text));
}

/// Passes the reply of an agent on to the customer whose message it replies to.
fn to_customer(zim: &Zim, message: &Message) {
    // Only what the desk wrote begins with the name of a customer.
    let Some(replied) = message.replied_info.as_ref().filter(|replied| replied.sender_user_id == DESK) else { return };
    let Some(Body::Text(original)) = replied.message_info.as_ref().and_then(|info| info.body.as_ref()) else { return };
    let Some((customer, _)) = original.message.split_once(": ") else { return };
    match message.as_text() {
        Some(answer) => pass_on(message, zim.peer(customer).send(answer)),
        None => print(&format!("not passed on: {} has answered {customer} without a text", message.sender_user_id)),
    }
}

/// Sends what comes of a message. A handler may get the message again after a crash; then the key tells the server that this is
/// the same.
fn pass_on(message: &Message, send: SendMessage) {
    let idempotency_key = format!("from {}", message.message_id);
    // The SDK stores it in this call, before the message counts as delivered. So this must not move into the task.
    let sent = send.config(MessageSendConfig { idempotency_key, ..MessageSendConfig::default() }).into_future();
    tokio::spawn(async move {
        if let Err(error) = sent.await {
            print(&format!("not passed on: {error}"));
        }
    });
}

#[expect(clippy::print_stdout, reason = "an example prints what happens")]
fn print(line: &str) {
    println!("{line}");
}
