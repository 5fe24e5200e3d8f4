//! Histograms of latencies with 64 buckets to a power of two: the error of a percentile is below 1.6 %.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The binary logarithm of the number of buckets in each power of two.
const BITS: u32 = 6;
const PER_POWER: usize = 1 << BITS;
/// The number of buckets. The last one ends at 2^41 µs, which is 25 days.
const BUCKETS: usize = PER_POWER * 36;

/// Counts of latencies, in microseconds.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    max_us: u64,
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), count: 0, max_us: 0 }
    }
}

/// Returns the bucket of a value. Small values have a bucket each; larger ones share it with values of the same leading bits.
fn bucket(us: u64) -> usize {
    let shift = (u64::BITS - us.leading_zeros()).saturating_sub(BITS + 1);
    let leading = usize::try_from(us >> shift).unwrap_or(usize::MAX);
    let power = usize::try_from(shift).unwrap_or(usize::MAX);
    (power * PER_POWER + leading).min(BUCKETS - 1)
}

/// Returns the largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let power = (bucket / PER_POWER).saturating_sub(1);
    let leading = bucket - power * PER_POWER;
    ((u64::try_from(leading).unwrap_or(u64::MAX) + 1) << power) - 1
}

impl Histogram {
    pub(crate) fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(us)] += 1;
        self.count += 1;
        self.max_us = self.max_us.max(us);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.count += other.count;
        self.max_us = self.max_us.max(other.max_us);
    }

    /// Returns what was recorded after a copy was made. Its longest latency is that of the bucket.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let counts: Box<[u64]> = self.counts.iter().zip(&before.counts).map(|(now, then)| now - then).collect();
        let max_us = counts.iter().rposition(|count| *count > 0).map_or(0, upper).min(self.max_us);
        Self { counts, count: self.count - before.count, max_us }
    }

    /// Returns how many latencies were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the latency in microseconds that `per_mille` of the values do not exceed.
    fn per_mille(&self, per_mille: u64) -> u64 {
        let wanted = (self.count * per_mille).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper(bucket).min(self.max_us);
            }
        }
        self.max_us
    }

    pub(crate) fn summary(&self) -> Latency {
        let at = |per_mille| Duration::from_micros(self.per_mille(per_mille));
        Latency { p50: at(500), p95: at(950), p99: at(990), max: Duration::from_micros(self.max_us) }
    }
}

/// The percentiles of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Latency {
    #[serde(rename = "p50Ms", serialize_with = "as_ms")]
    pub(crate) p50: Duration,
    #[serde(rename = "p95Ms", serialize_with = "as_ms")]
    pub(crate) p95: Duration,
    #[serde(rename = "p99Ms", serialize_with = "as_ms")]
    pub(crate) p99: Duration,
    #[serde(rename = "maxMs", serialize_with = "as_ms")]
    pub(crate) max: Duration,
}

fn as_ms<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    // The measurements are in microseconds: more digits would mean nothing.
    to.serialize_f64((time.as_secs_f64() * 1_000_000.0).round() / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_its_bucket_and_the_bucket_is_narrow() {
        for us in (0..100_000).chain([1 << 20, (1 << 30) + 12_345, 1 << 40]) {
            let top = upper(bucket(us));
            assert!(top >= us, "{us} is above its bucket, which ends at {top}");
            assert!(top - us <= us / 64 + 1, "{us} is reported as {top}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_match_the_values() {
        let mut histogram = Histogram::default();
        (1..=1_000).for_each(|ms| histogram.record(Duration::from_millis(ms)));
        let latency = histogram.summary();
        let near = |got: Duration, ms: f64| (got.as_secs_f64() * 1_000.0 / ms - 1.0).abs() < 0.02;
        assert!(near(latency.p50, 500.0) && near(latency.p95, 950.0) && near(latency.p99, 990.0), "{latency:?}");
        assert_eq!(latency.max, Duration::from_secs(1));
    }

    #[test]
    fn histograms_are_merged() {
        let (mut one, mut two) = (Histogram::default(), Histogram::default());
        one.record(Duration::from_micros(10));
        two.record(Duration::from_micros(30));
        one.merge(&two);
        assert_eq!(one.count, 2);
        assert_eq!(one.summary().p50, Duration::from_micros(10));
        assert_eq!(one.summary().max, Duration::from_micros(30));
    }

    #[test]
    fn a_histogram_of_another_process_is_the_same() {
        let mut histogram = Histogram::default();
        (1..=1_000).for_each(|ms| histogram.record(Duration::from_millis(ms)));
        let text = serde_json::to_string(&histogram).unwrap();
        let same: Histogram = serde_json::from_str(&text).unwrap();
        assert_eq!((same.summary(), same.count()), (histogram.summary(), 1_000));
    }

    #[test]
    fn an_empty_histogram_is_all_zero() {
        assert_eq!(Histogram::default().summary(), Latency::default());
        let json = serde_json::to_value(Latency { p50: Duration::from_micros(1_234), ..Latency::default() }).unwrap();
        assert_eq!(json["p50Ms"], 1.234);
    }

    #[test]
    fn what_came_later_is_told_apart() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_secs(1));
        let before = histogram.clone();
        assert_eq!(histogram.since(&before).summary(), Latency::default());
        (1..=10).for_each(|us| histogram.record(Duration::from_micros(us)));
        let later = histogram.since(&before).summary();
        assert_eq!((later.p50, later.max), (Duration::from_micros(5), Duration::from_micros(10)));
    }
}
