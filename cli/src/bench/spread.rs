//! Spreads a load over many conversations: fills them, and chooses the recipients of a sender in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::sleep;

use super::load::{LOGINS_AT_ONCE, Load, raw_load};
use super::meter::Meter;
use super::raw::SharedDialer;
use super::target::Target;
use crate::exit::Failure;
use crate::progress;

/// Messages in flight of all senders while conversations are filled: fewer than the server lets wait for the database.
const FILLING: usize = 8_000;

/// The recipients of a sender, in turn.
#[derive(Clone, Debug)]
pub(crate) struct Recipients {
    names: Arc<[String]>,
    at: usize,
    step: usize,
}

impl Recipients {
    /// A single recipient.
    pub(crate) fn one(name: String) -> Self {
        Self { names: Arc::from([name]), at: 0, step: 0 }
    }

    /// Many recipients: each is used once before any repeats. Neighbours do not follow each other: rows that were used recently
    /// or are stored nearby would be cached more often than with a random order.
    pub(crate) fn many(names: &Arc<[String]>, number: usize) -> Self {
        let count = names.len().max(1);
        let golden = count * 618 / 1_000;
        let step = (golden.max(1)..).find(|step| gcd(*step, count) == 1).unwrap_or(1);
        Self { names: Arc::clone(names), at: number * (count / 7 + 1) % count, step }
    }

    pub(crate) fn next(&mut self) -> String {
        let name = self.names.get(self.at).cloned().unwrap_or_default();
        self.at = (self.at + self.step) % self.names.len().max(1);
        name
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Registers the recipients that the senders of `load` need for `conversations`, and sends `messages` from each sender to each
/// of them. All senders share the recipients, which have no other conversations.
pub(crate) async fn fill(
    load: &Load,
    conversations: usize,
    messages: usize,
    target: &Target,
    dialer: &SharedDialer,
) -> Result<Arc<[String]>, Failure> {
    let count = conversations.div_ceil(load.pairs.max(1));
    let names: Arc<[String]> = (0..count).map(|friend| target.user("friend", friend)).collect();
    let bar = progress::counting(u64::try_from(count).unwrap_or(u64::MAX), "users");
    stream::iter(names.iter())
        .map(|name| async {
            // The first login registers the user.
            dialer.log_in_with_retries(name).await?.close();
            bar.inc(1);
            Ok::<_, Failure>(())
        })
        .buffer_unordered(LOGINS_AT_ONCE)
        .try_collect::<()>()
        .await?;
    bar.finish_and_clear();
    let each = u64::try_from(count * messages).unwrap_or(u64::MAX);
    let window = (FILLING / load.pairs.max(1)).clamp(1, 200);
    let filling = Load { window, recipients: Some(Arc::clone(&names)), max_messages: each, ..load.clone() };
    let meter = Meter::new();
    let running = raw_load(&filling, target, dialer, &meter).await?;
    let wanted = each * u64::try_from(load.pairs).unwrap_or(1);
    let bar = progress::counting(wanted, "messages");
    while done(&meter.all_acknowledged) < wanted && meter.errors().is_empty() {
        bar.set_position(done(&meter.all_acknowledged));
        sleep(Duration::from_millis(20)).await;
    }
    bar.finish_and_clear();
    running.end(&meter).await;
    match meter.errors().into_iter().next() {
        Some((name, count)) => Err(Failure::other(format!("the conversations cannot be filled: {count} {name}"))),
        None => Ok(names),
    }
}

fn done(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_recipient_is_used_before_one_repeats() {
        for count in [1, 2, 3, 7, 10, 1_000, 1_024] {
            let names: Arc<[String]> = (0..count).map(|name| name.to_string()).collect();
            for number in [0, 1, 49] {
                let mut recipients = Recipients::many(&names, number);
                for _ in 0..2 {
                    let round: HashSet<String> = (0..count).map(|_| recipients.next()).collect();
                    assert_eq!(round.len(), count, "{count} recipients of sender {number}");
                }
            }
        }
    }

    #[test]
    fn a_single_recipient_repeats() {
        let mut recipients = Recipients::one("bob".to_owned());
        assert_eq!([recipients.next(), recipients.next()], ["bob", "bob"]);
    }
}
