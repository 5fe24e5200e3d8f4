//! Uploads and downloads with the SDK, in turns with those of `curl` and a plain file server.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::media::MediaArgs;
use super::media_files::{Source, arrived, download, end, url_of};
use super::media_plain::{self, Plain};
use super::sdk;
use super::show::mb;
use super::target::Target;
use crate::context::Session;
use crate::exit::Failure;
use crate::output::{Align, Output, Table};
use crate::progress;

/// `curl` and the plain server: the others are compared with it.
const PLAIN: &str = "plain";
/// The same, until the disk has the file, as with the SDK.
const PLAIN_SYNCED: &str = "plainSynced";
/// `curl` and the server to measure.
const CURL: &str = "curl";
/// A whole call of the SDK.
const SDK: &str = "sdk";
/// The part of it in which the file is on the way.
const SDK_TRANSFER: &str = "sdkTransfer";

/// The ways that wait until the disk has the file. `curl` does not wait for a download.
const SYNCED: [&str; 3] = [PLAIN_SYNCED, SDK, SDK_TRANSFER];

/// The ways in the order in which they are shown.
const WAYS: [(&str, &str); 5] = [
    (PLAIN, "curl, the plain server"),
    (PLAIN_SYNCED, "the same, until the disk has it"),
    (CURL, "curl, this server"),
    (SDK, "the SDK"),
    (SDK_TRANSFER, "the SDK, from the first byte on the way"),
];

/// The results.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Transfers {
    /// The plain server.
    against: String,
    /// Whether the plain server has TLS, as the server to measure does.
    tls: bool,
    upload: BTreeMap<&'static str, Rate>,
    download: BTreeMap<&'static str, Rate>,
}

/// How fast a way is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rate {
    median_bytes_per_second: u64,
    lowest_bytes_per_second: u64,
    highest_bytes_per_second: u64,
    /// The median, divided by that of the plain server, which does not wait for the disk.
    ratio: f64,
    /// The same, if both wait until the disk has the file; for the ways that do.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_synced: Option<f64>,
}

/// How long each way took in each round.
#[derive(Debug, Default)]
struct Times(BTreeMap<&'static str, Vec<Duration>>);

impl Times {
    fn note(&mut self, way: &'static str, took: Duration) {
        self.0.entry(way).or_default().push(took);
    }

    /// Returns the rates, without the first round.
    fn rates(self, bytes: u64) -> BTreeMap<&'static str, Rate> {
        let sorted = |times: Vec<Duration>| {
            let mut times: Vec<Duration> = times.into_iter().skip(1).collect();
            times.sort_unstable();
            times
        };
        let sorted: BTreeMap<_, _> = self.0.into_iter().map(|(way, times)| (way, sorted(times))).collect();
        let per_second = |took: Duration| {
            let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
            bytes.saturating_mul(1_000_000) / us
        };
        let of = |way: &str| sorted.get(way).filter(|times| !times.is_empty()).map(|times| median(times));
        let (plain, synced) = (of(PLAIN).unwrap_or_default(), of(PLAIN_SYNCED));
        let rate = |way: &'static str, times: &Vec<Duration>| {
            let (fastest, slowest) = (times.first()?, times.last()?);
            let median = median(times);
            let ratio = |to: Duration| {
                let ratio = to.as_secs_f64() / median.as_secs_f64().max(f64::MIN_POSITIVE);
                (ratio * 100.0).round() / 100.0
            };
            Some(Rate {
                median_bytes_per_second: per_second(median),
                lowest_bytes_per_second: per_second(*slowest),
                highest_bytes_per_second: per_second(*fastest),
                ratio: ratio(plain),
                ratio_synced: synced.filter(|_| SYNCED.contains(&way)).map(ratio),
            })
        };
        sorted.iter().filter_map(|(way, times)| Some((*way, rate(way, times)?))).collect()
    }
}

/// Returns the median of sorted times; of an even number the mean of the two in the middle.
fn median(sorted: &[Duration]) -> Duration {
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    if sorted.len().is_multiple_of(2) { (at(middle.saturating_sub(1)) + at(middle)) / 2 } else { at(middle) }
}

/// What takes part.
struct Parties<'a> {
    source: &'a Source,
    plain: Plain,
    /// The folder for what `curl` gets.
    folder: &'a Path,
    sender: Session,
    receiver: Session,
}

pub(crate) async fn measure(
    args: &MediaArgs,
    target: &Target,
    folder: &Path,
    source: &Source,
) -> Result<Transfers, Failure> {
    let plain = Plain::open(args.against.as_deref(), args.nginx.as_deref(), target, folder).await?;
    let receiver = sdk::user(target, target.user("t", 1), Some(folder)).await?;
    let sender = sdk::user(target, target.user("t", 0), Some(folder)).await?;
    let mut parties = Parties { source, plain, folder, sender, receiver };
    let (mut uploads, mut downloads) = (Times::default(), Times::default());
    let bar = progress::counting(u64::from(args.rounds) + 1, "rounds");
    for round in 0..=usize::from(args.rounds) {
        parties.round(round, (&mut uploads, &mut downloads)).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let Parties { plain, sender, receiver, .. } = parties;
    end([sender.zim, receiver.zim]).await;
    let transfers = Transfers {
        against: plain.name.clone(),
        tls: plain.url.starts_with("https://"),
        upload: uploads.rates(args.bytes),
        download: downloads.rates(args.bytes),
    };
    plain.close().await?;
    Ok(transfers)
}

impl Parties<'_> {
    /// Uploads and downloads a file each way. Who is first changes from round to round.
    async fn round(&mut self, round: usize, (uploads, downloads): (&mut Times, &mut Times)) -> Result<(), Failure> {
        self.source.renew()?;
        let (got, mut message) = (self.folder.join("got"), None);
        let mut ways = [PLAIN, SDK];
        ways.rotate_left(round % 2);
        for way in ways {
            if way == PLAIN {
                let took = media_plain::upload(&self.source.path, &self.plain.url, &got).await?;
                uploads.note(PLAIN, took);
                if let Some(file) = &self.plain.file {
                    // What one way leaves to the disk does not slow the next one.
                    uploads.note(PLAIN_SYNCED, took + media_plain::sync(file).await?);
                }
            } else {
                let uploaded = self.source.upload(&self.sender.zim, &self.receiver.user_id, || {}).await?;
                uploads.note(SDK, uploaded.took);
                uploads.note(SDK_TRANSFER, uploaded.transfer);
                message = Some(arrived(&mut self.receiver.events, &uploaded.message).await?);
            }
        }
        // Both ways were gone.
        let message = message.unwrap_or_default();
        let mut ways = [PLAIN, CURL, SDK];
        ways.rotate_left(round % 3);
        for way in ways {
            if way == SDK {
                let (file, took) = download(&self.receiver.zim, &message).await?;
                downloads.note(SDK, took);
                self.source.check(&file)?;
                std::fs::remove_file(file)?;
                continue;
            }
            let url = if way == PLAIN { self.plain.url.clone() } else { url_of(&message) };
            // A file that is there would have to be emptied first.
            drop(std::fs::remove_file(&got));
            let took = media_plain::download(&url, &got).await?;
            downloads.note(way, took);
            self.source.check(&got)?;
            let synced = took + media_plain::sync(&got).await?;
            if way == PLAIN {
                downloads.note(PLAIN_SYNCED, synced);
            }
        }
        drop(std::fs::remove_file(&got));
        // An upload that replaces a file would have to remove it first.
        if let Some(file) = &self.plain.file {
            std::fs::remove_file(file)?;
        }
        Ok(())
    }
}

pub(crate) fn show(transfers: &Transfers, output: Output) -> Result<(), Failure> {
    let Transfers { against, tls, upload, download } = transfers;
    let with = if *tls { "" } else { ", which has no TLS" };
    for (what, rates) in [("UPLOAD", upload), ("DOWNLOAD", download)] {
        let right = |name| (name, Align::Right);
        let mut columns = vec![(what, Align::Left), right("A SECOND"), right("LOWEST"), right("HIGHEST")];
        columns.extend([right("RATIO"), right("BOTH SYNCED")]);
        let mut table = Table::new(&columns);
        for (way, name) in WAYS {
            let Some(rate) = rates.get(way) else { continue };
            let bytes = [rate.median_bytes_per_second, rate.lowest_bytes_per_second, rate.highest_bytes_per_second];
            let [median, lowest, highest] = bytes.map(mb);
            let synced = rate.ratio_synced.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            table.row([name.to_owned(), median, lowest, highest, format!("{:.2}", rate.ratio), synced]);
        }
        output.table(&table)?;
        output.line("")?;
    }
    output.line(format!("plain    the plain server is {against}{with}; a ratio compares medians with its own\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        let ms = Duration::from_millis;
        assert_eq!(median(&[ms(1), ms(2), ms(9)]), ms(2));
        assert_eq!(median(&[ms(1), ms(3), ms(5), ms(9)]), ms(4));
        assert_eq!(median(&[ms(7)]), ms(7));
        assert_eq!(median(&[]), Duration::ZERO);
    }

    #[test]
    fn rates_leave_the_first_round_out_and_are_compared_with_the_plain_server() {
        let mut times = Times::default();
        for (plain, synced, sdk) in [(1, 1, 1), (100, 125, 200), (50, 200, 400), (200, 250, 250)] {
            times.note(PLAIN, Duration::from_millis(plain));
            times.note(PLAIN_SYNCED, Duration::from_millis(synced));
            times.note(SDK, Duration::from_millis(sdk));
        }
        let rates = times.rates(1_000_000);
        let rate = |median, lowest, highest, (ratio, ratio_synced)| Rate {
            median_bytes_per_second: median,
            lowest_bytes_per_second: lowest,
            highest_bytes_per_second: highest,
            ratio,
            ratio_synced,
        };
        let plain = rate(10_000_000, 5_000_000, 20_000_000, (1.0, None));
        let synced = rate(5_000_000, 4_000_000, 8_000_000, (0.5, Some(1.0)));
        let sdk = rate(4_000_000, 2_500_000, 5_000_000, (0.4, Some(0.8)));
        assert_eq!(rates, BTreeMap::from([(PLAIN, plain), (PLAIN_SYNCED, synced), (SDK, sdk)]));
    }
}
