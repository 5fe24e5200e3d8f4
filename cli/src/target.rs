//! Which conversation a command means: that with a user, with `--group` that of a group, and in a chat with `--room` that of a room.

use clap::Args;
use zim_protocol::{ConversationType, Message};

use crate::text::preview;

/// A conversation on the command line: `bob`, or `--group crew`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// The user; with --group, the group
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// ID is a group
    #[arg(long, short)]
    pub(crate) group: bool,
    /// It is a room: only a chat takes one.
    #[arg(skip)]
    pub(crate) room: bool,
}

impl Target {
    /// Returns the target for a conversation.
    pub(crate) fn of(id: impl Into<String>, kind: ConversationType) -> Self {
        let (group, room) = (kind == ConversationType::Group, kind == ConversationType::Room);
        Self { id: id.into(), group, room }
    }

    pub(crate) fn kind(&self) -> ConversationType {
        match (self.group, self.room) {
            (true, _) => ConversationType::Group,
            (_, true) => ConversationType::Room,
            _ => ConversationType::Peer,
        }
    }

    /// Returns the target within a sentence: `bob`, `the group crew`, or `the room stage`.
    pub(crate) fn name(&self) -> String {
        let id = preview(&self.id, 32);
        match self.kind() {
            ConversationType::Group => format!("the group {id}"),
            ConversationType::Room => format!("the room {id}"),
            _ => id,
        }
    }

    /// Returns where in a sentence: `to bob`, or `in the group crew`.
    pub(crate) fn place(&self, of_user: &str) -> String {
        format!("{} {}", if self.group || self.room { "in" } else { of_user }, self.name())
    }

    /// Returns the target as it is written after a command: `bob`, `--group crew`, or `--room stage`.
    pub(crate) fn argument(&self) -> String {
        let id = preview(&self.id, 32);
        match self.kind() {
            ConversationType::Group => format!("--group {id}"),
            ConversationType::Room => format!("--room {id}"),
            _ => id,
        }
    }

    /// Returns a message that stands for the one at a position.
    pub(crate) fn message(&self, seq: i64) -> Message {
        Message {
            conversation_id: self.id.clone(),
            conversation_type: self.kind() as i32,
            message_seq: seq,
            ..Message::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        target: Target,
        text: Vec<String>,
    }

    #[test]
    fn a_flag_makes_the_id_that_of_a_group() {
        for (line, kind, name) in [
            (&["send", "crew", "hi"][..], ConversationType::Peer, "crew"),
            (&["send", "--group", "crew", "hi"], ConversationType::Group, "the group crew"),
            (&["send", "crew", "hi", "-g"], ConversationType::Group, "the group crew"),
        ] {
            let line = Line::try_parse_from(line).unwrap();
            assert_eq!((line.target.kind(), line.target.name().as_str()), (kind, name));
            assert_eq!(line.target.argument() == "--group crew", line.target.group);
            assert_eq!((line.target.id.as_str(), line.text), ("crew", vec!["hi".to_owned()]));
        }
    }

    #[test]
    fn a_target_says_what_it_is() {
        for (kind, place, argument) in [
            (ConversationType::Peer, "with stage", "stage"),
            (ConversationType::Group, "in the group stage", "--group stage"),
            (ConversationType::Room, "in the room stage", "--room stage"),
        ] {
            let target = Target::of("stage", kind);
            assert_eq!((target.kind(), &*target.place("with"), &*target.argument()), (kind, place, argument));
        }
    }
}
