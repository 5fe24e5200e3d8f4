//! What uploads do to everything else: to the texts of the same client, and to the memory of the server.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};
use serde::Serialize;
use tokio::time::{interval, sleep};
use zim_client_sdk::{MessageSendNotification, Zim};
use zim_protocol::{ConversationType, Message, MessageSendConfig};

use super::histogram::{Histogram, Latency};
use super::load::LOGINS_AT_ONCE;
use super::media::MediaArgs;
use super::media_files::{Source, end};
use super::process::Sample;
use super::raw::Dialer;
use super::sdk;
use super::show::{latency_columns, latency_row, mb};
use super::target::Target;
use crate::context::Session;
use crate::exit::Failure;
use crate::output::{Output, Table};
use crate::progress;

/// The pause between the beginnings of two texts, whether the first one is answered or not.
const TEXT_EVERY: Duration = Duration::from_millis(5);
/// How long texts are measured alone at least. Otherwise as long as the upload before took, so that both have as many texts.
const ALONE: Duration = Duration::from_millis(500);
/// Until the server has nothing else to do.
const CALM: Duration = Duration::from_secs(1);
/// The pause between two looks at the memory of the server.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The texts of a client that uploads.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Texts {
    /// The answers to texts, and how many there were.
    alone: Latency,
    alone_count: u64,
    meanwhile: Latency,
    meanwhile_count: u64,
    /// The p99 during uploads, divided by that alone.
    ratio: f64,
}

/// The memory of the server during uploads.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Memory {
    uploads: u16,
    bytes: u64,
    /// How many of the uploads had begun at the same time and had not ended.
    most_at_once: usize,
    /// With the sessions of all users, before the uploads. Unknown for a server on another machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    most_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more_bytes: Option<u64>,
}

pub(crate) async fn texts(args: &MediaArgs, target: &Target, folder: &Path, source: &Source) -> Result<Texts, Failure> {
    let receiver = sdk::user(target, target.user("x", 1), Some(folder)).await?;
    let sender = sdk::user(target, target.user("x", 0), Some(folder)).await?;
    let (zim, to) = (sender.zim, receiver.user_id);
    // Nobody reads the events.
    drop((sender.events, receiver.events));
    let (mut alone, mut meanwhile) = (Histogram::default(), Histogram::default());
    let mut time = ALONE;
    let bar = progress::counting(u64::from(args.rounds) + 1, "rounds");
    for round in 0..=args.rounds {
        source.renew()?;
        let (mut before, mut during) = (Histogram::default(), Histogram::default());
        texts_while(&zim, &to, &mut before, sleep(time)).await?;
        let uploading = source.upload(&zim, &to, || {});
        time = texts_while(&zim, &to, &mut during, uploading).await??.took.max(ALONE);
        // The first round makes the conversation and the connections.
        if round > 0 {
            alone.merge(&before);
            meanwhile.merge(&during);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    end([zim, receiver.zim]).await;
    let (alone_count, meanwhile_count) = (alone.count(), meanwhile.count());
    let (alone, meanwhile) = (alone.summary(), meanwhile.summary());
    let ratio = meanwhile.p99.as_secs_f64() / alone.p99.as_secs_f64().max(f64::MIN_POSITIVE);
    Ok(Texts { alone, alone_count, meanwhile, meanwhile_count, ratio: (ratio * 100.0).round() / 100.0 })
}

/// Sends texts until `work` is done, and records the time until each is answered.
async fn texts_while<T>(
    zim: &Zim,
    to: &str,
    times: &mut Histogram,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    let mut work = pin!(work);
    let (mut ticks, mut in_flight) = (interval(TEXT_EVERY), FuturesUnordered::new());
    let output = loop {
        tokio::select! {
            output = &mut work => break output,
            _ = ticks.tick() => in_flight.push(text(zim, to)),
            Some(took) = in_flight.next() => times.record(took?),
        }
    };
    while let Some(took) = in_flight.next().await {
        times.record(took?);
    }
    Ok(output)
}

/// Sends a text. Returns the time until it is answered.
fn text(zim: &Zim, to: &str) -> impl Future<Output = Result<Duration, Failure>> + use<> {
    let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
    let began = Instant::now();
    let sending = zim.send_message(Message::text("news"), to, ConversationType::Peer, config, notification);
    async move {
        sending.await?;
        Ok(began.elapsed())
    }
}

/// Counts the uploads that have begun and have not ended.
#[derive(Debug, Default)]
struct AtOnce {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl AtOnce {
    fn begin(&self) {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
    }

    fn end(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) async fn memory(args: &MediaArgs, target: &Target, source: &Source) -> Result<Memory, Failure> {
    let to = target.user("r", 0);
    // The first login registers the user.
    Dialer::new(target, 1)?.log_in_with_retries(&to).await?.close();
    let sessions: Vec<Session> = stream::iter(0..usize::from(args.uploads))
        .map(|number| sdk::user(target, target.user("m", number), None))
        .buffered(LOGINS_AT_ONCE)
        .try_collect()
        .await?;
    sleep(CALM).await;
    let at_once = Arc::<AtOnce>::default();
    let memory = || target.sample().map(Sample::rss_bytes);
    let idle = memory();
    let mut most = idle;
    let bar = progress::counting(args.uploads.into(), "uploads");
    let mut uploads: FuturesUnordered<_> = sessions
        .iter()
        .map(|session| {
            let (counted, at_once) = (Arc::clone(&at_once), Arc::clone(&at_once));
            let to = &to;
            async move {
                let uploaded = source.upload(&session.zim, to, move || counted.begin()).await;
                at_once.end();
                uploaded
            }
        })
        .collect();
    let mut looks = interval(LOOK_EVERY);
    loop {
        tokio::select! {
            uploaded = uploads.next() => match uploaded {
                Some(uploaded) => drop(uploaded?),
                None => break,
            },
            _ = looks.tick() => {
                most = most.max(memory());
                continue;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    drop(uploads);
    sessions.iter().for_each(|session| session.zim.destroy());
    Ok(Memory {
        uploads: args.uploads,
        bytes: source.bytes,
        most_at_once: at_once.most.load(Ordering::Relaxed),
        idle_bytes: idle,
        most_bytes: most,
        more_bytes: most.zip(idle).map(|(most, idle)| most.saturating_sub(idle)),
    })
}

pub(crate) fn show_texts(texts: &Texts, output: Output) -> Result<(), Failure> {
    let mut table = Table::new(&latency_columns("A TEXT OF THE SAME CLIENT", "COUNT"));
    table.row(latency_row("alone", texts.alone_count, &texts.alone));
    table.row(latency_row("during an upload", texts.meanwhile_count, &texts.meanwhile));
    output.table(&table)?;
    output.line(format!("\nratio    the p99 during an upload is {} times that alone\n", texts.ratio))
}

pub(crate) fn show_memory(memory: &Memory, output: Output) -> Result<(), Failure> {
    let Memory { uploads, bytes, most_at_once, .. } = memory;
    let (Some(idle), Some(most), Some(more)) = (memory.idle_bytes, memory.most_bytes, memory.more_bytes) else {
        return output.line("memory   unknown: the server is on another machine");
    };
    output.line(format!(
        "memory   {} more than idle during {uploads} uploads of {bytes} bytes, {most_at_once} of them at once: {} after {}",
        mb(more),
        mb(most),
        mb(idle)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_uploads_at_once_are_kept() {
        let at_once = AtOnce::default();
        at_once.begin();
        at_once.begin();
        at_once.end();
        at_once.begin();
        at_once.end();
        assert_eq!(at_once.most.load(Ordering::Relaxed), 2);
    }
}
