//! What a child process of a test needs (see `process.rs`): lines in, lines out, and a clock that the test can set.

use std::fmt::Display;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use zim_protocol::clock::Clock;

/// How often the clock advances.
const TICK: Duration = Duration::from_millis(5);

/// Returns the lines of stdin. It ends with the test's process, however that ends.
pub fn stdin_lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            // Fails when the receiver is dropped.
            let _ = sender.send(line);
        }
    });
    receiver
}

/// Prints a line to stdout.
pub fn print_line(what: impl Display) {
    // Fails when the test's process has ended.
    let _ = writeln!(std::io::stdout(), "{what}");
}

/// A clock that starts at the system time, runs, and can be set.
pub fn ticking_clock() -> Clock {
    let clock = Clock::manual(Clock::system().now_ms());
    let ticking = clock.clone();
    tokio::spawn(async move {
        let mut last = Instant::now();
        loop {
            tokio::time::sleep(TICK).await;
            let ms = u64::try_from(last.elapsed().as_millis()).unwrap_or(0);
            ticking.advance(ms.cast_signed());
            last += Duration::from_millis(ms);
        }
    });
    clock
}
