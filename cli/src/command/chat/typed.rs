//! What a typed line means: a text, or a command such as `/reply 12 yes`.

use std::path::PathBuf;

use zim_protocol::Message;

use crate::target::Target;

/// The most users that a message can mention.
const MAX_MENTIONED: usize = 50;

/// The commands, and what they do.
pub(super) const HELP: [&str; 5] = [
    "each line is sent as a message; ✓ means stored; /quit or Ctrl-D ends the chat",
    "/reply N TEXT, /edit N TEXT, /revoke N: N is the number before a message",
    "/react N 👍 and /unreact N 👍: any word of up to 32 bytes is a reaction",
    "/file PATH sends a file, /cancel stops it, /save N downloads the file of a message",
    "@bob mentions a user, @all everybody",
];

/// The meaning of a typed line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Nothing,
    Quit,
    Help,
    /// Stop the upload that runs.
    Cancel,
    Send(Outgoing),
    Change(Change),
    /// A command without what it needs, and how it is written.
    Wrong(&'static str),
}

/// What becomes a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    Text(String),
    /// A reply to the message with a number.
    Reply(i64, String),
    File(PathBuf),
}

/// What is done with the message with a number.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    React(i64, String),
    Unreact(i64, String),
    Edit(i64, String),
    Revoke(i64),
    /// Download its file.
    Save(i64),
}

impl Typed {
    /// Parses a line. Only an interactive chat has commands: a pipe is all text.
    pub(super) fn of(line: &str, commands: bool) -> Self {
        let text = || Self::Send(Outgoing::Text(line.to_owned()));
        let trimmed = line.trim();
        if trimmed.is_empty() {
            return Self::Nothing;
        }
        let Some(command) = trimmed.strip_prefix('/').filter(|_| commands) else { return text() };
        let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        let numbered = || number(rest).filter(|(_, rest)| !rest.is_empty()).map(|(seq, rest)| (seq, rest.to_owned()));
        let only_number = || number(rest).filter(|(_, rest)| rest.is_empty()).map(|(seq, _)| seq);
        let change = |change: Option<Change>, form| change.map_or(Self::Wrong(form), Self::Change);
        match word {
            "quit" | "q" | "exit" if rest.is_empty() => Self::Quit,
            "help" | "?" if rest.is_empty() => Self::Help,
            "cancel" if rest.is_empty() => Self::Cancel,
            "reply" => match numbered() {
                Some((seq, text)) => Self::Send(Outgoing::Reply(seq, text)),
                None => Self::Wrong("/reply N TEXT"),
            },
            "file" if rest.is_empty() => Self::Wrong("/file PATH"),
            "file" => Self::Send(Outgoing::File(PathBuf::from(rest))),
            "react" => change(numbered().map(|(seq, kind)| Change::React(seq, kind)), "/react N TYPE"),
            "unreact" => change(numbered().map(|(seq, kind)| Change::Unreact(seq, kind)), "/unreact N TYPE"),
            "edit" => change(numbered().map(|(seq, text)| Change::Edit(seq, text)), "/edit N TEXT"),
            "revoke" => change(only_number().map(Change::Revoke), "/revoke N"),
            "save" => change(only_number().map(Change::Save), "/save N"),
            _ => text(),
        }
    }
}

impl Outgoing {
    /// Returns the line as the screen shows it while it waits.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Reply(seq, text) => format!("↪ {seq}: {text}"),
            Self::File(path) => format!("/file {}", path.display()),
        }
    }
}

/// Splits the number of a message off, with or without a `#` before it.
fn number(text: &str) -> Option<(i64, &str)> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let number: i64 = word.strip_prefix('#').unwrap_or(word).parse().ok()?;
    (number > 0).then_some((number, rest.trim()))
}

/// Returns the text message, with those whom it mentions: `@bob`, `@all`. In a chat with a user this is that user at most, and
/// nobody in a room.
pub(super) fn message(text: String, with: &Target) -> Message {
    let (mut users, mut is_all) = (Vec::<String>::new(), false);
    for word in text.split_whitespace() {
        let Some(name) = word.strip_prefix('@') else { continue };
        let name = name.trim_end_matches(['.', ',', ':', ';', '!', '?', ')']);
        let is_one = zim_protocol::id::is_id(name) && !users.iter().any(|user| user == name);
        match name {
            _ if with.room => {}
            "all" if with.group => is_all = true,
            name if is_one && (with.group || name == with.id) && users.len() < MAX_MENTIONED => {
                users.push(name.to_owned());
            }
            _ => {}
        }
    }
    Message { mentioned_user_ids: users, is_mention_all: is_all, ..Message::text(text) }
}

#[cfg(test)]
mod tests {
    use zim_protocol::ConversationType;

    use super::*;

    fn text(text: &str) -> Typed {
        Typed::Send(Outgoing::Text(text.to_owned()))
    }

    #[test]
    fn only_an_interactive_chat_has_commands() {
        assert_eq!(Typed::of("  ", true), Typed::Nothing);
        assert_eq!(Typed::of("/quit", true), Typed::Quit);
        for line in ["/quit", "/reply 1 x", "/cancel"] {
            assert_eq!(Typed::of(line, false), text(line));
        }
        assert_eq!(Typed::of("/help ", true), Typed::Help);
        for line in ["/home is a folder", "/quit now", " indented", "a /reply 1 x"] {
            assert_eq!(Typed::of(line, true), text(line));
        }
    }

    #[test]
    fn a_command_names_a_message() {
        let change = |line: &str| match Typed::of(line, true) {
            Typed::Change(change) => change,
            other => panic!("{other:?}"),
        };
        let reply = Typed::Send(Outgoing::Reply(12, "yes, of course".into()));
        assert_eq!(Typed::of("/reply  #12  yes, of course ", true), reply);
        assert_eq!(change("/react 3 👍"), Change::React(3, "👍".into()));
        assert_eq!(change("/unreact 3 like"), Change::Unreact(3, "like".into()));
        assert_eq!(change("/edit 4 what I meant"), Change::Edit(4, "what I meant".into()));
        assert_eq!((change("/revoke 5"), change("/save #6")), (Change::Revoke(5), Change::Save(6)));
        assert_eq!(Typed::of("/cancel", true), Typed::Cancel);
        let file = Typed::Send(Outgoing::File(PathBuf::from("my cat.jpg")));
        assert_eq!(Typed::of("/file my cat.jpg", true), file);
        for wrong in [
            "/reply",
            "/reply 12",
            "/reply x y",
            "/react 0 x",
            "/react 3",
            "/edit -1 x",
            "/revoke 1 2",
            "/save",
            "/file",
        ] {
            assert!(matches!(Typed::of(wrong, true), Typed::Wrong(_)), "{wrong}");
        }
    }

    #[test]
    fn a_text_mentions_users() {
        let mentioned = |line: &str, kind| {
            let message = message(line.to_owned(), &Target::of("bob", kind));
            assert_eq!(message.as_text(), Some(line));
            (message.mentioned_user_ids.join(" "), message.is_mention_all)
        };
        let line = "@bob, @cai! and (not@dan) @bob @ @größe @all?";
        assert_eq!(mentioned(line, ConversationType::Group), ("bob cai".to_owned(), true));
        assert_eq!(mentioned(line, ConversationType::Peer), ("bob".to_owned(), false));
        assert_eq!(mentioned(line, ConversationType::Room), (String::new(), false));
    }
}
