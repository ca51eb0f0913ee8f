//! What people write for sizes and times.

use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time: `500ms`, `2s`, `1m 30s`; a plain number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds)
            .map_err(|_| format!("{text}: no time; write 2s or 500ms"));
    }
    humantime::parse_duration(text.trim()).map_err(|_| format!("{text}: no time; write 2s, 500ms or 1m"))
}

/// A time, but not none at all.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(format!("{text}: has to be more than nothing")),
        some => Ok(some),
    }
}

/// A time after which something happens, or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After(pub Option<Duration>);

/// A time or `never`.
pub fn after(text: &str) -> Result<After, String> {
    if text.trim() == "never" {
        return Ok(After(None));
    }
    duration(text).map(|d| After(Some(d))).map_err(|e| format!("{e}, or never"))
}

/// A user's or group's number.
pub fn id(text: &str) -> Result<u32, String> {
    match text.trim().parse() {
        // The number that stands for "none".
        Ok(u32::MAX) | Err(_) => Err(format!("{text}: no number of a user or group; write 1001")),
        Ok(id) => Ok(id),
    }
}

/// Permission bits, in octal.
pub fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text.trim(), 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err(format!("{text}: no mode; write 0644")),
    }
}

/// The least that a cache can work with, bytes.
const LEAST_CACHE: u64 = 16 << 20;

/// A size of a cache.
pub fn cache_size(text: &str) -> Result<u64, String> {
    match size(text)? {
        small if small < LEAST_CACHE => {
            Err(format!("{text}: a cache has at least {}", human_size(LEAST_CACHE)))
        }
        enough => Ok(enough),
    }
}

/// A bound of what a session holds.
pub fn quota(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err(format!("{text}: nothing would fit; without a quota there is no bound")),
        some => Ok(some),
    }
}

/// A size: `512M`, `1.5GiB`, `10GB` (all in powers of 1024); a plain number is bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text}: no size; write 512M or 10G");
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.trim().to_ascii_uppercase();
    let power = match unit.trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * 1024_f64.powi(power);
    // Beyond 2^63 the conversion would saturate silently.
    if bytes.is_finite() && bytes < 9.2e18 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// A size for people: `512 B`, `1.5 GiB`.
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" || value.fract() < 0.05 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// A moment in RFC 3339, UTC.
pub fn rfc3339(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_default()
}

/// A time for people: `350 ms`, `12 s`, `3 min`, `2 h`.
pub fn human_duration(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        s @ 1..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("60"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for wrong in ["soon", "-1", "", "1 parsec", "nan", "inf", "1e400"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(positive_duration("0s").is_err());
        assert_eq!(after("never"), Ok(After(None)));
        assert_eq!(after("30s"), Ok(After(Some(Duration::from_secs(30)))));
        assert!(after("now").is_err_and(|e| e.contains("never")));
    }

    #[test]
    fn ids_are_numbers() {
        assert_eq!((id("0"), id(" 1001 "), id("4294967294")), (Ok(0), Ok(1001), Ok(u32::MAX - 1)));
        for wrong in ["", "root", "-1", "4294967295", "4294967296", "1.5"] {
            assert!(id(wrong).is_err_and(|e| e.contains("1001")), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("1K"), Ok(1024));
        assert_eq!(size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(size("10gb"), Ok(10 << 30));
        for wrong in ["", "big", "10 parsec", "-1", "1e3", "99999999999T"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert!(cache_size("1M").is_err_and(|e| e.contains("16 MiB")));
        assert_eq!(cache_size("64M"), Ok(64 << 20));
        assert_eq!((mode("0666"), mode("777")), (Ok(0o666), Ok(0o777)));
        assert!(mode("rw").is_err() && mode("10000").is_err() && mode("0o644").is_err());
        assert!(quota("0").is_err_and(|e| e.contains("no bound")));
        assert_eq!(quota("1K"), Ok(1024));
    }

    #[test]
    fn sizes_and_times_are_written() {
        assert_eq!(human_size(0), "0 B");
        assert_eq!(human_size(1023), "1023 B");
        assert_eq!(human_size(1536), "1.5 KiB");
        assert_eq!(human_size(10 << 30), "10 GiB");
        assert_eq!(human_duration(Duration::from_millis(350)), "350 ms");
        assert_eq!(human_duration(Duration::from_secs(90)), "90 s");
        assert_eq!(human_duration(Duration::from_secs(600)), "10 min");
        assert_eq!(human_duration(Duration::from_secs(7200)), "2 h");
    }
}
