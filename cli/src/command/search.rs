//! `zim search`: messages that have all of some words, in one conversation or in all, and conversations.

mod of;

use clap::Args;
use zim_protocol::{
    Conversation, ConversationFilterOption, ConversationQueryConfig, ConversationSearchConfig, ConversationSearchInfo,
    ConversationSearchMode, ConversationType, Message, MessageOrder, MessageQueryConfig, MessageSearchConfig,
};

use self::of::Of;
use super::history::show;
use crate::context::{Context, Session, now_ms};
use crate::describe;
use crate::exit::Failure;
use crate::output::{Align, Table, when};
use crate::target::Target;
use crate::text::preview;

/// The limit of messages, and of conversations, in a request.
const PAGE: i64 = 100;

/// `zim search`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zim search bob lunch monday          messages with both
  zim search bob 明天 -n 5
  zim search --group crew \"see you\"   messages with these words in this order
  zim search bob --type image,file --since 30d
  zim search --everywhere hi --from bob
  zim search --conversations hi        conversations, and how many messages of each match
  zim search --names crew              conversations by their names")]
pub(crate) struct SearchArgs {
    /// The user; with --group, the group; with --everywhere, --conversations or --names, the first text
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// What a message must have: up to 5 texts, in any order; case does not matter
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// ID is a group
    #[arg(long, short, conflicts_with_all = ["everywhere", "conversations", "names"])]
    group: bool,
    /// Search the messages of all conversations
    #[arg(long, conflicts_with_all = ["conversations", "names"])]
    everywhere: bool,
    /// Find conversations with such messages, those with the newest ones first
    #[arg(long, conflicts_with = "names")]
    conversations: bool,
    /// Find conversations whose name, or your name for them, has all texts
    #[arg(long)]
    names: bool,
    #[command(flatten)]
    of: Of,
    /// Number of results to show: of messages, the newest ones
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Show the oldest messages instead of the newest
    #[arg(long, conflicts_with_all = ["conversations", "names"])]
    oldest: bool,
    /// Number of messages of each conversation to look at, the newest ones
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    among: u32,
}

/// What is searched.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    One(String, ConversationType),
    All,
    Conversations,
    Names,
}

impl SearchArgs {
    /// Returns what is searched, and for which texts.
    fn place(&self) -> Result<(Place, Vec<String>), Failure> {
        let place = match (self.everywhere, self.conversations, self.names) {
            (true, ..) => Place::All,
            (_, true, _) => Place::Conversations,
            (.., true) => Place::Names,
            _ => {
                let missing =
                    || Failure::usage("which conversation?").hint("zim search USER TEXT, or --everywhere TEXT");
                let kind = if self.group { ConversationType::Group } else { ConversationType::Peer };
                Place::One(self.id.clone().ok_or_else(missing)?, kind)
            }
        };
        let first = self.id.iter().filter(|_| !matches!(place, Place::One(..)));
        let texts: Vec<String> = first.chain(&self.texts).cloned().collect();
        if texts.is_empty() && self.of.is_all() {
            return Err(Failure::usage("what is searched? Name a text, --type, --from or a time"));
        }
        if place == Place::Names && !self.of.is_all() {
            return Err(Failure::usage("--names looks at no messages: leave --type, --from and the times out"));
        }
        Ok((place, texts))
    }

    fn wanted(&self) -> usize {
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }
}

pub(crate) async fn run(args: SearchArgs, context: &Context) -> Result<(), Failure> {
    let (place, texts) = args.place()?;
    let session = context.one_shot_synced().await?;
    let outcome = search(&args, &place, texts, context, &session).await;
    session.end().await;
    outcome
}

async fn search(
    args: &SearchArgs,
    place: &Place,
    texts: Vec<String>,
    context: &Context,
    session: &Session,
) -> Result<(), Failure> {
    let is_complete = match place {
        Place::One(id, kind) => fetch(args, session, (id, *kind)).await?,
        Place::All | Place::Conversations => fetch_all(args, session).await?,
        Place::Names => true,
    };
    let (json, output) = (context.output.is_json(), context.output);
    let further =
        format!("Only the newest {} messages of a conversation were looked at: --among N looks at more.", args.among);
    let (is_empty, is_cut, none) = match place {
        Place::One(..) | Place::All => {
            let found = messages(args, place, texts, session).await?;
            match place {
                Place::All if !json && !found.is_empty() => output.table(&table(&found, now_ms()))?,
                _ => show(context, &found, &mut String::new())?,
            }
            let is_full = found.len() >= args.wanted() && !args.oldest;
            (found.is_empty(), !is_complete && !is_full, no_message(place))
        }
        Place::Conversations | Place::Names => {
            let found = conversations(args, place, texts, session).await?;
            match json {
                true => found.iter().try_for_each(|info| output.json(info))?,
                false if found.is_empty() => {}
                false => output.table(&summary(&found, place, now_ms()))?,
            }
            (found.is_empty(), !is_complete, "There is no such conversation.".to_owned())
        }
    };
    if is_empty && !json {
        output.line(none)?;
    }
    if is_cut {
        output.notice(further);
    }
    Ok(())
}

fn no_message(place: &Place) -> String {
    match place {
        Place::One(id, kind) => format!("There is no such message {}.", Target::of(id, *kind).place("with")),
        _ => "There is no such message.".to_owned(),
    }
}

/// Fetches the history of a conversation, so far back as it is to be searched. Returns false if there is more of it.
async fn fetch(args: &SearchArgs, session: &Session, (id, kind): (&str, ConversationType)) -> Result<bool, Failure> {
    let (mut left, mut oldest) = (i64::from(args.among), None);
    let since = args.of.since_ms(now_ms());
    while left > 0 {
        let config = MessageQueryConfig {
            next_message: oldest.take(),
            count: left.min(PAGE),
            reverse: true,
            ..MessageQueryConfig::default()
        };
        let page = session.zim.query_history_message(id, kind, config).await?.message_list;
        let Some(first) = page.into_iter().next() else { return Ok(true) };
        left -= PAGE;
        if first.message_seq <= 1 || first.timestamp < since {
            return Ok(true);
        }
        oldest = Some(first);
    }
    Ok(false)
}

/// Fetches the history of all conversations of the list. Returns false if there is more of one.
async fn fetch_all(args: &SearchArgs, session: &Session) -> Result<bool, Failure> {
    let (mut last, mut is_complete): (Option<Conversation>, _) = (None, true);
    loop {
        let config = ConversationQueryConfig { next_conversation: last.take(), count: PAGE };
        let page = session.zim.query_conversation_list(config, ConversationFilterOption::default()).await?;
        for conversation in &page.conversation_list {
            let of = (conversation.conversation_id.as_str(), conversation.r#type());
            is_complete &= fetch(args, session, of).await?;
        }
        match page.conversation_list.into_iter().last() {
            Some(end) => last = Some(end),
            None => return Ok(is_complete),
        }
    }
}

/// Searches messages. Returns them oldest first.
async fn messages(
    args: &SearchArgs,
    place: &Place,
    keywords: Vec<String>,
    session: &Session,
) -> Result<Vec<Message>, Failure> {
    let (zim, wanted) = (&session.zim, args.wanted());
    let order = if args.oldest { MessageOrder::Ascending } else { MessageOrder::Descending };
    let (mut found, mut next): (Vec<Message>, Option<Message>) = (Vec::new(), None);
    while found.len() < wanted {
        let config = MessageSearchConfig {
            next_message: next,
            order: order as i32,
            keywords: keywords.clone(),
            message_types: args.of.types(),
            sub_message_types: args.of.subtypes.clone(),
            sender_user_ids: args.of.from.clone(),
            start_time: args.of.since_ms(now_ms()),
            end_time: args.of.until_ms(now_ms()),
            ..MessageSearchConfig::default()
        };
        let (page, end) = match place {
            Place::One(id, kind) => {
                let page = zim.search_local_messages(id, *kind, config).await?;
                (page.message_list, page.next_message)
            }
            _ => {
                let page = zim.search_global_local_messages(config).await?;
                (page.message_list, page.next_message)
            }
        };
        found.extend(page);
        next = end;
        if next.is_none() {
            break;
        }
    }
    found.truncate(wanted);
    if !args.oldest {
        found.reverse();
    }
    Ok(found)
}

/// Searches conversations, each with its newest matching message.
async fn conversations(
    args: &SearchArgs,
    place: &Place,
    keywords: Vec<String>,
    session: &Session,
) -> Result<Vec<ConversationSearchInfo>, Failure> {
    let mode = match place {
        Place::Names => ConversationSearchMode::MatchConversationName,
        _ => ConversationSearchMode::MatchMessage,
    };
    let mut config = ConversationSearchConfig {
        mode: mode as i32,
        keywords,
        conversation_message_count: 1,
        message_types: args.of.types(),
        sub_message_types: args.of.subtypes.clone(),
        sender_user_ids: args.of.from.clone(),
        start_time: args.of.since_ms(now_ms()),
        end_time: args.of.until_ms(now_ms()),
        ..ConversationSearchConfig::default()
    };
    let mut found = Vec::new();
    while found.len() < args.wanted() {
        let page = session.zim.search_local_conversations(config.clone()).await?;
        found.extend(page.conversation_search_info_list);
        config.next_flag = page.next_flag;
        if config.next_flag == 0 {
            break;
        }
    }
    found.truncate(args.wanted());
    Ok(found)
}

/// Returns a table of messages of several conversations.
fn table(messages: &[Message], now_ms: i64) -> Table {
    let mut table = Table::new(&[
        ("WHEN", Align::Left),
        ("WITH", Align::Left),
        ("NUMBER", Align::Right),
        ("FROM", Align::Left),
        ("MESSAGE", Align::Left),
    ]);
    for message in messages {
        let group = message.conversation_type() == ConversationType::Group;
        let id = preview(&message.conversation_id, 32);
        table.row([
            when(message.timestamp, now_ms),
            if group { format!("group {id}") } else { id },
            message.message_seq.to_string(),
            describe::sender(message),
            describe::short(message),
        ]);
    }
    table
}

/// Returns a table of conversations that were found.
fn summary(found: &[ConversationSearchInfo], place: &Place, now_ms: i64) -> Table {
    let name = |info: &ConversationSearchInfo| describe::name(&info.conversation.clone().unwrap_or_default());
    if *place == Place::Names {
        let mut table = Table::new(&[("WITH", Align::Left)]);
        found.iter().for_each(|info| table.row([name(info)]));
        return table;
    }
    let mut table = Table::new(&[
        ("MATCHES", Align::Right),
        ("WITH", Align::Left),
        ("WHEN", Align::Left),
        ("NEWEST MATCH", Align::Left),
    ]);
    for info in found {
        let newest = info.message_list.first();
        table.row([
            info.total_message_count.to_string(),
            name(info),
            newest.map_or_else(String::new, |message| when(message.timestamp, now_ms)),
            newest.map_or_else(String::new, |message| {
                format!("{}: {}", describe::sender(message), describe::short(message))
            }),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SearchArgs,
    }

    fn place(line: &str) -> Option<(Place, Vec<String>)> {
        let line = Line::try_parse_from(line.split_whitespace()).ok()?;
        line.args.place().ok()
    }

    #[test]
    fn the_options_decide_what_is_searched() {
        let one = |id: &str, kind| Place::One(id.to_owned(), kind);
        for (line, expected, texts) in [
            ("search bob lunch monday", one("bob", ConversationType::Peer), &["lunch", "monday"][..]),
            ("search -g crew hi", one("crew", ConversationType::Group), &["hi"]),
            ("search bob --type image", one("bob", ConversationType::Peer), &[]),
            ("search --everywhere lunch monday", Place::All, &["lunch", "monday"]),
            ("search --everywhere --from bob", Place::All, &[]),
            ("search lunch --conversations", Place::Conversations, &["lunch"]),
            ("search --names crew", Place::Names, &["crew"]),
        ] {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(place(line), Some((expected, texts)), "{line}");
        }
        for bad in [
            "search",
            "search bob",
            "search --everywhere",
            "search --names",
            "search --names crew --from bob",
            "search --names crew --oldest",
            "search --everywhere --group hi",
            "search --everywhere --names hi",
            "search bob hi -n 0",
        ] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }

    #[test]
    fn messages_of_several_conversations_say_which() {
        let message = Message {
            conversation_id: "crew".to_owned(),
            conversation_type: ConversationType::Group as i32,
            message_seq: 7,
            sender_user_id: "bob".to_owned(),
            ..Message::text("hi")
        };
        let rows = table(&[message], 0).render();
        assert_eq!(rows[1].split_whitespace().collect::<Vec<_>>(), ["group", "crew", "7", "bob", "hi"]);
    }
}
