//! A client as a process, which campaigns kill: `test-client SERVER APP SIGN FINGERPRINT USER FOLDER`. It logs in,
//! reads commands from stdin and prints answers and events to stdout, one JSON object per line. It ends at the end of
//! stdin.
//!
//! Events are printed by handlers, which are slow: an event is printed if and only if its handler has returned.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::time::sleep;
use tracing_subscriber::EnvFilter;
use zim_client_sdk::{Config, MessageSendNotification, Trust, Zim};
use zim_integration_tests::campaign::{
    Looks, act_in_call, act_in_club, act_in_room, call_list, change_group, change_message, change_setting,
    create_group, kind_of, opened, room_as_answered,
};
use zim_integration_tests::{print_line, stdin_lines, ticking_clock};
use zim_protocol::clock::Clock;
use zim_protocol::{
    ConversationFilterOption, ConversationQueryConfig, ConversationTotalUnreadMessageCountQueryConfig, Event,
    EventKind, FriendAddConfig, FriendApplicationAcceptConfig, FriendApplicationRejectConfig,
    FriendApplicationSendConfig, FriendDeleteConfig, FriendDeleteType, LoginConfig, Message, MessageQueryConfig,
    MessageSendConfig, UserCustomStatusUpdateConfig, UserStatusSubscribeConfig,
};

/// The pause between two attempts to log in.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a handler takes. Long enough for a queue of events to build up; a kill leaves it behind.
const HANDLING: Duration = Duration::from_millis(5);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_env("ZIM_TEST_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [server, app, sign, fingerprint, user, folder] = arguments.as_slice() else {
        anyhow::bail!("test-client SERVER APP SIGN FINGERPRINT USER FOLDER")
    };
    let clock = ticking_clock();
    let config = Config::new(app.parse()?, server.as_str())
        .app_sign(sign.as_str())
        .trust(Trust::fingerprint(fingerprint).context("FINGERPRINT")?)
        .data_dir(folder)
        .clock(clock.clone())
        .request_timeout_ms(3_000)
        .connect_timeout_ms(2_000)
        .resend_window_ms(3_600_000);
    let zim = Zim::new(config)?;
    let (looks, runtime) = (Arc::new(Looks::default()), Handle::current());
    for kind in EventKind::ALL {
        let (looks, runtime) = (Arc::clone(&looks), runtime.clone());
        zim.on(*kind, move |zim, event| {
            print_event(event);
            if let Some(look) = looks.after(zim, event) {
                runtime.spawn(async move {
                    if let Some(event) = look.await {
                        print_line(json!({"event": event}));
                    }
                });
            }
        });
    }
    let login = tokio::spawn(log_in(zim.clone(), user.clone()));
    let mut commands = stdin_lines();
    while let Some(line) = commands.recv().await {
        let command: Value = serde_json::from_str(&line)?;
        if command["do"] == "quit" {
            zim.destroy();
            zim.closed().await;
            print_line(answer(&command, Ok(Value::Null)));
            break;
        }
        if command["do"] == "look_again" {
            let rooms = command["rooms"].as_array().into_iter().flatten().filter_map(Value::as_str);
            for (begins, look) in rooms.filter_map(|room| looks.again(&zim, room)) {
                print_line(json!({"event": begins}));
                tokio::spawn(async move {
                    if let Some(event) = look.await {
                        print_line(json!({"event": event}));
                    }
                });
            }
            print_line(answer(&command, Ok(Value::Null)));
            continue;
        }
        execute(&zim, (&clock, user), command);
    }
    login.abort();
    Ok(())
}

/// Starts commands in their order; prints each answer when it is there.
fn execute(zim: &Zim, (clock, user): (&Clock, &str), command: Value) {
    let word = |name: &str| command[name].as_str().unwrap_or_default().to_owned();
    match command["do"].as_str().unwrap_or_default() {
        "send" => {
            // The order of messages is fixed here, before the next command.
            let message = Message::text(word("text"));
            let config = MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() };
            let (peer, notification) = (word("peer"), MessageSendNotification::default());
            let sent = zim.send_message(message, &peer, kind_of(&peer), config, notification);
            spawn(command, async move { to_json(&sent.await?.message) });
        }
        "send_file" => {
            let (peer, id) = (word("peer"), command["id"].clone());
            let progress = move |_: &Message, moved: i64, size: i64| {
                print_line(json!({"id": id, "moved": moved, "size": size}));
            };
            let (message, config) = (Message::file(word("path")), MessageSendConfig::default());
            let sent = zim.send_media_message(message, &peer, kind_of(&peer), config, progress);
            spawn(command, async move { to_json(&sent.await?.message) });
        }
        "clear" => {
            let (zim, peer) = (zim.clone(), word("peer"));
            let kind = kind_of(&peer);
            spawn(command, async move { to_json(&zim.clear_conversation_unread_message_count(&peer, kind).await?) });
        }
        "change" => {
            let (zim, user, peer, text) = (zim.clone(), user.to_owned(), word("peer"), word("text"));
            let verb = serde_json::from_value(command["verb"].clone());
            let pick = command["pick"].as_u64().unwrap_or(0);
            spawn(command, async move { change_message(&zim, &user, &peer, (verb?, pick), text).await });
        }
        "setting" => {
            let (zim, peer) = (zim.clone(), word("peer"));
            let verb = serde_json::from_value(command["verb"].clone());
            spawn(command, async move { change_setting(&zim, &peer, verb?).await });
        }
        "group" => {
            let (zim, user, text) = (zim.clone(), word("user"), word("text"));
            let verb = serde_json::from_value(command["verb"].clone());
            spawn(command, async move { change_group(&zim, &user, verb?, &text).await });
        }
        "club" => {
            let (zim, user, text) = (zim.clone(), word("user"), word("text"));
            let verb = serde_json::from_value(command["verb"].clone());
            spawn(command, async move { act_in_club(&zim, &user, verb?, text).await });
        }
        "room" => {
            // As with other messages, the order is fixed here.
            let verb = serde_json::from_value(command["verb"].clone());
            let done = verb.map(|verb| act_in_room(zim, (&word("room"), &word("user")), verb, word("text")));
            spawn(command, async move { done?.await });
        }
        "call" => {
            let users = serde_json::from_value(command["users"].clone());
            let verb = serde_json::from_value(command["verb"].clone());
            let done = users
                .and_then(|users| verb.map(|verb| act_in_call(zim, (&word("call_id"), users), verb, word("text"))));
            spawn(command, async move { done?.await });
        }
        "room_as_answered" => {
            let (zim, room) = (zim.clone(), word("room"));
            spawn(command, async move { room_as_answered(&zim, &room).await });
        }
        "call_list" => {
            let zim = zim.clone();
            spawn(command, async move { call_list(&zim).await });
        }
        "create_group" => {
            let (zim, group, members) =
                (zim.clone(), word("group"), serde_json::from_value(command["members"].clone()));
            spawn(command, async move { create_group(&zim, &group, members?).await });
        }
        "rename" => {
            let (zim, name) = (zim.clone(), word("name"));
            spawn(command, async move { to_json(&zim.update_user_name(&name).await?) });
        }
        "avatar" => {
            let (zim, url) = (zim.clone(), word("url"));
            spawn(command, async move { to_json(&zim.update_user_avatar_url(&url).await?) });
        }
        "custom_status" => {
            let (zim, custom) = (zim.clone(), word("custom"));
            // Valid until it is changed, because the clocks jump.
            let config = UserCustomStatusUpdateConfig { duration: -1 };
            spawn(command, async move { to_json(&zim.update_user_custom_status(&custom, config).await?) });
        }
        action @ ("add_friend" | "apply" | "accept" | "reject" | "delete_friend" | "alias" | "block" | "unblock"
        | "subscribe" | "unsubscribe") => {
            let (zim, action, peer, text) = (zim.clone(), action.to_owned(), word("peer"), word("text"));
            let is_mutual = command["is_mutual"] == true;
            spawn(command, async move { social(&zim, &action, &peer, text, is_mutual).await });
        }
        "view" => {
            let zim = zim.clone();
            spawn(command, async move { view(&zim).await });
        }
        "history" => {
            let (zim, peer) = (zim.clone(), word("peer"));
            spawn(command, async move { history(&zim, &peer).await });
        }
        "jump" => {
            clock.jump(command["ms"].as_i64().unwrap_or(0));
            print_line(answer(&command, Ok(Value::Null)));
        }
        "advance" => {
            clock.advance(command["ms"].as_i64().unwrap_or(0));
            print_line(answer(&command, Ok(Value::Null)));
        }
        "network_changed" => {
            zim.network_changed();
            print_line(answer(&command, Ok(Value::Null)));
        }
        other => print_line(answer(&command, Err(anyhow::anyhow!("unknown command {other:?}")))),
    }
}

/// Changes the relation to another user.
async fn social(zim: &Zim, action: &str, peer: &str, text: String, is_mutual: bool) -> anyhow::Result<Value> {
    match action {
        "add_friend" => {
            let config = FriendAddConfig { friend_alias: text, ..FriendAddConfig::default() };
            to_json(&zim.add_friend(peer, config).await?)
        }
        "apply" => {
            let config = FriendApplicationSendConfig { wording: text, ..FriendApplicationSendConfig::default() };
            to_json(&zim.send_friend_application(peer, config).await?)
        }
        "accept" => {
            let config = FriendApplicationAcceptConfig { friend_alias: text, ..Default::default() };
            to_json(&zim.accept_friend_application(peer, config).await?)
        }
        "reject" => to_json(&zim.reject_friend_application(peer, FriendApplicationRejectConfig::default()).await?),
        "delete_friend" => {
            let mut config = FriendDeleteConfig::default();
            config.set_type(if is_mutual { FriendDeleteType::Both } else { FriendDeleteType::Single });
            to_json(&zim.delete_friends([peer], config).await?)
        }
        "alias" => to_json(&zim.update_friend_alias(&text, peer).await?),
        "block" => to_json(&zim.add_users_to_blacklist([peer]).await?),
        "subscribe" => {
            let config = UserStatusSubscribeConfig { subscription_duration: 43_200 };
            to_json(&zim.subscribe_users_status([peer], config).await?)
        }
        "unsubscribe" => to_json(&zim.unsubscribe_users_status([peer]).await?),
        _ => to_json(&zim.remove_users_from_blacklist([peer]).await?),
    }
}

fn spawn(command: Value, work: impl Future<Output = anyhow::Result<Value>> + Send + 'static) {
    tokio::spawn(async move { print_line(answer(&command, work.await)) });
}

fn to_json(value: &impl serde::Serialize) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(value)?)
}

fn answer(command: &Value, result: anyhow::Result<Value>) -> Value {
    let id = &command["id"];
    match result {
        Ok(ok) => json!({"id": id, "ok": ok}),
        Err(error) => {
            let code = error.downcast_ref::<zim_client_sdk::Error>().map_or(0, |error| error.code() as i32);
            json!({"id": id, "error": {"code": code, "message": format!("{error:#}")}})
        }
    }
}

/// Queries the list of conversations as the app sees it.
async fn view(zim: &Zim) -> anyhow::Result<Value> {
    let config = ConversationQueryConfig { next_conversation: None, count: 100 };
    let found = zim.query_conversation_list(config, ConversationFilterOption::default()).await?;
    let total =
        zim.query_conversation_total_unread_message_count(ConversationTotalUnreadMessageCountQueryConfig::default());
    let list: serde_json::Map<String, Value> = found
        .conversation_list
        .iter()
        .map(|one| {
            let what = json!({
                "unread": one.unread_message_count, "read": one.read_message_seq, "disabled": one.is_disabled,
            });
            (one.conversation_id.clone(), what)
        })
        .collect();
    Ok(json!({"conversations": list, "total": total.await?.unread_message_count}))
}

/// Queries the stored messages of a conversation, in ascending order.
async fn history(zim: &Zim, peer: &str) -> anyhow::Result<Value> {
    let mut all: Vec<Message> = Vec::new();
    loop {
        let next_message = all.first().cloned();
        let config = MessageQueryConfig { next_message, count: 100, reverse: true, ..MessageQueryConfig::default() };
        let page = zim.query_history_message(peer, kind_of(peer), config).await?;
        if page.message_list.is_empty() {
            break;
        }
        all.splice(0..0, page.message_list);
    }
    let mut stored = Vec::new();
    for one in all.iter().filter(|message| message.message_seq > 0) {
        let text = opened(zim, one).await?;
        stored.push(json!({"seq": one.message_seq, "text": text, "from": one.sender_user_id}));
    }
    Ok(stored.into())
}

/// Logs in, retrying until it succeeds, as an app does that is opened without a network.
async fn log_in(zim: Zim, user: String) {
    while let Err(error) = zim.login(&user, LoginConfig::default()).await {
        print_line(json!({"failed": error.to_string()}));
        sleep(PAUSE).await;
    }
    print_line(json!({"logged_in": true}));
}

#[expect(clippy::disallowed_methods, reason = "a handler that blocks its thread, as those of apps may")]
fn print_event(event: &Event) {
    std::thread::sleep(HANDLING);
    match event.to_json() {
        Ok(event) => print_line(json!({"event": event})),
        Err(error) => print_line(json!({"failed": error.to_string()})),
    }
}
