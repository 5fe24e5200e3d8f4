//! Both sides of a connection must agree on these values, and no message carries them.

/// The name of the application protocol in the TLS handshake.
pub const ALPN: &[u8] = b"zim/1";

/// The protocol's version, as in `Hello` and `Welcome`.
pub const VERSION: u32 = 1;

/// The maximum length of a frame, not counting its length prefix.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// Why a connection is closed: the application error code in QUIC's `CONNECTION_CLOSE`. With [`CloseCode::SessionEnded`],
/// the `SessionEnd` frame before it has the reason. With every other code a client may connect again, after a back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum CloseCode {
    /// The client closed the connection, or needs it no longer.
    Done = 0,
    /// The peer violated the protocol: a frame that cannot be decoded or is too long, or a second Hello.
    Protocol = 1,
    /// No Hello was received in time.
    HelloTimeout = 2,
    /// No login was received in time.
    LoginTimeout = 3,
    /// The server speaks none of the client's versions.
    Version = 4,
    /// The server is shutting down.
    GoingAway = 5,
    /// The session ended; the last frame of the event stream has the reason.
    SessionEnded = 6,
    /// The client did not read for too long.
    TooSlow = 7,
    /// The server has too many connections.
    Busy = 8,
    /// An internal error of the server.
    Internal = 9,
}

impl CloseCode {
    /// All codes.
    const ALL: [Self; 10] = [
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

    /// Returns the number on the wire.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// Returns the code with this number, or `None` for a code of a later version.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|known| u64::from(known.code()) == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_number() {
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_code(code.code().into()), Some(code));
        }
        assert_eq!(CloseCode::from_code(10), None);
    }
}
