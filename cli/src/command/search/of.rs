//! Of which kinds, by whom and of which time the messages are that are searched.

use std::time::Duration;

use clap::Args;
use zim_protocol::MessageType;

use crate::duration;

/// The names of the types on the command line.
const TYPES: [(&str, MessageType); 10] = [
    ("text", MessageType::Text),
    ("image", MessageType::Image),
    ("file", MessageType::File),
    ("audio", MessageType::Audio),
    ("video", MessageType::Video),
    ("custom", MessageType::Custom),
    ("combined", MessageType::Combine),
    ("multiple", MessageType::Multiple),
    ("system", MessageType::System),
    ("tips", MessageType::Tips),
];

/// Which messages.
#[derive(Args, Clone, Debug)]
pub(super) struct Of {
    /// Only messages of these types, with commas between them: text, image, file, audio, video, custom, combined, multiple, system, tips
    #[arg(long = "type", value_name = "TYPES", value_delimiter = ',', value_parser = parse_type)]
    types: Vec<MessageType>,
    /// Of custom messages, only those with these subtypes
    #[arg(long = "subtype", value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(i64).range(0..))]
    pub(super) subtypes: Vec<i64>,
    /// Only messages of these users, up to 5, with commas between them
    #[arg(long, value_name = "USERS", value_delimiter = ',')]
    pub(super) from: Vec<String>,
    /// Only messages that are not older, such as 7d
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    since: Option<Duration>,
    /// Only messages that are at least so old
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    until: Option<Duration>,
}

/// Parses the name of a type.
fn parse_type(text: &str) -> Result<MessageType, String> {
    let found = TYPES.into_iter().find(|(name, _)| *name == text);
    found.map(|(_, kind)| kind).ok_or_else(|| {
        let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
        format!("the types are {}", names.join(", "))
    })
}

/// Returns the time that is so long ago; at least 1, because 0 is none.
fn ago(time: Duration, now_ms: i64) -> i64 {
    now_ms.saturating_sub(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)).max(1)
}

impl Of {
    /// Whether every message is one of them.
    pub(super) fn is_all(&self) -> bool {
        self.types.is_empty()
            && self.subtypes.is_empty()
            && self.from.is_empty()
            && self.since.is_none()
            && self.until.is_none()
    }

    pub(super) fn types(&self) -> Vec<i32> {
        self.types.iter().map(|kind| *kind as i32).collect()
    }

    /// 0: from the first one.
    pub(super) fn since_ms(&self, now_ms: i64) -> i64 {
        self.since.map_or(0, |since| ago(since, now_ms))
    }

    /// 0: to the last one.
    pub(super) fn until_ms(&self, now_ms: i64) -> i64 {
        self.until.map_or(0, |until| ago(until, now_ms))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        of: Of,
    }

    #[test]
    fn types_users_and_times_select_messages() {
        let of = |line: &str| Line::try_parse_from(line.split_whitespace()).map(|line| line.of);
        let all = of("search").unwrap();
        assert!(all.is_all() && (all.since_ms(9), all.until_ms(9)) == (0, 0));
        let some = of("search --type text,image --subtype 3 --from ann,bob --since 7d --until 1h").unwrap();
        assert_eq!(some.types(), [MessageType::Text as i32, MessageType::Image as i32]);
        assert_eq!((some.subtypes.as_slice(), some.from.len()), (&[3][..], 2));
        let now = 1_000_000_000;
        assert_eq!((some.since_ms(now), some.until_ms(now)), (now - 604_800_000, now - 3_600_000));
        assert_eq!(some.since_ms(5), 1, "before the first one");
        for one in ["--type text", "--subtype 0", "--from ann", "--since 1d", "--until 1d"] {
            assert!(!of(&format!("search {one}")).unwrap().is_all(), "{one}");
        }
        assert!(of("search --type letter").unwrap_err().to_string().contains("text, image"));
    }
}
