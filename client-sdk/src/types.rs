//! Types that the whole crate shares.

pub(crate) use zim_engine::Name;

/// The 128 random bits of a message. The server stores each key once, however often it is sent.
pub(crate) type Key = [u8; 16];
