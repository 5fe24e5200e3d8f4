//! What both sides of a connection must agree on and no message says: the name of the protocol, its bounds, and why a
//! connection is closed.

/// The application protocol of the TLS handshake.
pub const ALPN: &[u8] = b"zim/1";

/// The protocol's version, as in `Hello` and `Welcome`.
pub const VERSION: u32 = 1;

/// No frame is longer, without its length.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// Why the server closes a connection: the application's error code in QUIC's `CONNECTION_CLOSE`. A client that is told
/// [`CloseCode::SessionEnded`] finds the reason in the `SessionEnd` that came before; with every other code it may connect
/// again, after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum CloseCode {
    /// The client closed, or asked for nothing more.
    Done = 0,
    /// What came was not this protocol: a frame that cannot be read or is too long, a second Hello.
    Protocol = 1,
    /// No Hello came in time.
    HelloTimeout = 2,
    /// Nobody logged in in time.
    LoginTimeout = 3,
    /// The server speaks none of the client's versions.
    Version = 4,
    /// The server stops.
    GoingAway = 5,
    /// The event stream's last frame said why.
    SessionEnded = 6,
    /// The client read nothing for too long.
    TooSlow = 7,
    /// Too many connections.
    Busy = 8,
    /// The server's own trouble.
    Internal = 9,
}

impl CloseCode {
    /// Every code.
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::Protocol,
        Self::HelloTimeout,
        Self::LoginTimeout,
        Self::Version,
        Self::GoingAway,
        Self::SessionEnded,
        Self::TooSlow,
        Self::Busy,
        Self::Internal,
    ];

    /// As it is sent.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// What a peer sent; `None` for a code of a later version.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|known| u64::from(known.code()) == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_again() {
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_code(code.code().into()), Some(code));
        }
        assert_eq!(CloseCode::from_code(10), None);
    }
}
