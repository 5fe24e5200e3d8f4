//! Times and time spans as text, in the time zone of the system.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

fn format(unix_ms: i64, zone: &TimeZone, how: &str) -> String {
    Timestamp::from_millisecond(unix_ms)
        .map_or_else(|_| unix_ms.to_string(), |time| time.to_zoned(zone.clone()).strftime(how).to_string())
}

/// Formats a time as `15:04:05`.
pub(crate) fn clock_time(unix_ms: i64) -> String {
    format(unix_ms, &TimeZone::system(), "%H:%M:%S")
}

/// Formats a date as `Monday, 23 November 2026`.
pub(crate) fn date(unix_ms: i64) -> String {
    format(unix_ms, &TimeZone::system(), "%A, %-d %B %Y")
}

/// Formats a time as short as possible: the time for today, day and time for this year, the date before that.
pub(crate) fn when(unix_ms: i64, now_ms: i64) -> String {
    when_in(unix_ms, now_ms, &TimeZone::system())
}

fn when_in(unix_ms: i64, now_ms: i64, zone: &TimeZone) -> String {
    if unix_ms == 0 {
        return String::new();
    }
    let same = |how: &str| format(unix_ms, zone, how) == format(now_ms, zone, how);
    let how = if same("%F") {
        "%H:%M"
    } else if same("%Y") {
        "%-d %b %H:%M"
    } else {
        "%F"
    };
    format(unix_ms, zone, how)
}

/// Formats a time span as `850 µs`, `12.3 ms`, `4.56 s` or `3 min`.
pub(crate) fn span(time: Duration) -> String {
    let us = time.as_micros();
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", time.as_secs_f64() * 1_000.0),
        1_000_000..120_000_000 => format!("{:.2} s", time.as_secs_f64()),
        _ => format!("{} min", time.as_secs() / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shortened_by_its_age() {
        // 23 November 2026, 15:04:05 UTC.
        let now = 1_795_446_245_000;
        let zone = TimeZone::UTC;
        assert_eq!(when_in(now, now, &zone), "15:04");
        assert_eq!(when_in(now - 86_400_000, now, &zone), "22 Nov 15:04");
        assert_eq!(when_in(now - 400 * 86_400_000, now, &zone), "2025-10-19");
        assert_eq!(when_in(0, now, &zone), "");
        assert_eq!(format(now, &zone, "%A, %-d %B %Y"), "Monday, 23 November 2026");
    }

    #[test]
    fn a_span_has_a_fitting_unit() {
        assert_eq!(span(Duration::from_micros(850)), "850 µs");
        assert_eq!(span(Duration::from_micros(12_340)), "12.3 ms");
        assert_eq!(span(Duration::from_millis(4_560)), "4.56 s");
        assert_eq!(span(Duration::from_secs(200)), "3 min");
    }
}
