//! Input of a chat on a terminal: keys, as they are pressed. The terminal does not edit or echo lines meanwhile.

#[cfg(unix)]
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use tokio::io::{AsyncReadExt, Stdin};
#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Failure;

/// The keys of the terminal. Its settings are restored at the end.
#[derive(Debug)]
pub(super) struct Keys {
    stdin: Stdin,
    #[cfg(unix)]
    before: Termios,
    /// SIGCONT, after Ctrl-Z: the shell has used the terminal meanwhile.
    #[cfg(unix)]
    resumed: tokio::signal::unix::Signal,
}

/// What happens on the terminal.
#[derive(Debug)]
pub(super) enum Pressed {
    /// Bytes; none at the end.
    Keys(Vec<u8>),
    /// The program runs again after a stop.
    Resumed,
}

#[cfg(unix)]
impl Keys {
    pub(super) fn open() -> Result<Self, Failure> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).map_err(std::io::Error::from)?;
        let resumed = SignalKind::from_raw(rustix::process::Signal::CONT.as_raw());
        let keys = Self { stdin: tokio::io::stdin(), before, resumed: signal(resumed)? };
        keys.apply()?;
        Ok(keys)
    }

    /// Turns the editing and the echo of the terminal off. Ctrl-C and Ctrl-Z still make signals.
    fn apply(&self) -> Result<(), Failure> {
        let mut keys = self.before.clone();
        keys.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        keys.special_codes[SpecialCodeIndex::VMIN] = 1;
        keys.special_codes[SpecialCodeIndex::VTIME] = 0;
        Ok(tcsetattr(std::io::stdin(), OptionalActions::Now, &keys).map_err(std::io::Error::from)?)
    }
}

#[cfg(unix)]
impl Drop for Keys {
    fn drop(&mut self) {
        // If this fails, the terminal is gone.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

#[cfg(not(unix))]
impl Keys {
    pub(super) fn open() -> Result<Self, Failure> {
        Err(Failure::other("keys are read on Unix only"))
    }
}

impl Keys {
    /// Waits for keys. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Pressed, Failure> {
        let mut bytes = [0; 512];
        #[cfg(unix)]
        let read = tokio::select! {
            read = self.stdin.read(&mut bytes) => read?,
            _ = self.resumed.recv() => {
                self.apply()?;
                return Ok(Pressed::Resumed);
            }
        };
        #[cfg(not(unix))]
        let read = self.stdin.read(&mut bytes).await?;
        Ok(Pressed::Keys(bytes.iter().take(read).copied().collect()))
    }
}
