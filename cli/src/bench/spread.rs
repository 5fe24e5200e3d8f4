//! Many conversations: whom a sender writes to in turn, and how there come to be messages already.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::sleep;

use super::load::{LOGINS_AT_ONCE, Load, raw_load};
use super::meter::Meter;
use super::progress;
use super::raw::SharedDialer;
use super::target::Target;
use crate::exit::Failure;

/// Messages under way while conversations are filled, all senders together: below what may wait for the database.
const FILLING: usize = 8_000;

/// Whom a sender writes to, in turn.
#[derive(Clone, Debug)]
pub(crate) struct Friends {
    names: Arc<[String]>,
    at: usize,
    step: usize,
}

impl Friends {
    /// Always the same one.
    pub(crate) fn one(name: String) -> Self {
        Self { names: Arc::from([name]), at: 0, step: 0 }
    }

    /// All of them, once each before one comes again, and neighbours never one after the other: what was used last and what
    /// is stored nearby would otherwise be at hand more often than chance has it.
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

/// Registers as many friends as the senders of `load` need for so many conversations, and has each write so many messages to
/// each of them. All senders have the same friends; nobody else writes to those.
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
            // Once logged in is registered.
            dialer.settle(name).await?.close();
            bar.inc(1);
            Ok::<_, Failure>(())
        })
        .buffer_unordered(LOGINS_AT_ONCE)
        .try_collect::<()>()
        .await?;
    bar.finish_and_clear();
    let each = u64::try_from(count * messages).unwrap_or(u64::MAX);
    let window = (FILLING / load.pairs.max(1)).clamp(1, 200);
    let filling = Load { window, friends: Some(Arc::clone(&names)), most: each, ..load.clone() };
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
    fn every_friend_has_his_turn_before_one_comes_again() {
        for count in [1, 2, 3, 7, 10, 1_000, 1_024] {
            let names: Arc<[String]> = (0..count).map(|name| name.to_string()).collect();
            for number in [0, 1, 49] {
                let mut friends = Friends::many(&names, number);
                for _ in 0..2 {
                    let round: HashSet<String> = (0..count).map(|_| friends.next()).collect();
                    assert_eq!(round.len(), count, "{count} friends of {number}");
                }
            }
        }
    }

    #[test]
    fn one_is_always_the_same() {
        let mut friends = Friends::one("bob".to_owned());
        assert_eq!([friends.next(), friends.next()], ["bob", "bob"]);
    }
}
