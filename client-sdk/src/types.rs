//! Types that the whole crate shares.

pub(crate) use zim_engine::Name;

/// Returns the strings of a parameter that takes any of them.
pub(crate) fn strings<I>(items: I) -> Vec<String>
where
    I: IntoIterator,
    I::Item: Into<String>,
{
    items.into_iter().map(Into::into).collect()
}

/// What a turn has stored, as the server is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Storage {
    /// The positions up to which messages are stored, of conversations in which some were.
    pub(crate) messages: Vec<(Name, u64)>,
    /// The position up to which the feed is stored, if any of it was; otherwise 0.
    pub(crate) feed: u64,
}

/// The 128 random bits of a message. The server stores each key once, however often it is sent.
pub(crate) type Key = [u8; 16];
