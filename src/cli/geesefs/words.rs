//! A command line as Go's flag package reads it: `-f`, `--f`, `--flag value`, `-flag=value`, and the form that
//! mount(8) uses, `SOURCE DIR -o OPTIONS`, where an item that starts with a hyphen is a flag.

use super::table::{Flag, Kind};
use std::ffi::{OsStr, OsString};
use std::time::Duration;

/// A flag that was given.
#[derive(Debug)]
pub struct Given {
    /// Which.
    pub flag: &'static Flag,
    /// Its value; of a switch, `true` or `false`; of a number, in decimal.
    pub value: String,
}

/// A command line, read.
#[derive(Debug, Default)]
pub struct Words {
    /// The flags, in order.
    pub given: Vec<Given>,
    /// What `-o` holds besides flags.
    pub options: Vec<String>,
    /// What is no flag.
    pub rest: Vec<OsString>,
}

/// Reads what comes after the program's name.
pub fn read(args: &[OsString]) -> Result<Words, String> {
    let mut words = Words::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some(text) = flag_text(arg)? else {
            words.rest.push(arg.clone());
            continue;
        };
        if text.is_empty() {
            words.rest.extend(args.cloned());
            break;
        }
        let given = one(text, || args.next().map(|value| utf8(value)).transpose())?;
        if given.flag.name == "o" {
            words.take_options(&given.value)?;
        } else {
            words.given.push(given);
        }
    }
    Ok(words)
}

/// A flag's text behind its hyphens; `None`: no flag. Empty for `--`.
fn flag_text(arg: &OsStr) -> Result<Option<&str>, String> {
    if !arg.as_encoded_bytes().starts_with(b"-") || arg == "-" {
        return Ok(None);
    }
    let text = utf8(arg)?;
    Ok(text.strip_prefix("--").or_else(|| text.strip_prefix('-')))
}

fn utf8(arg: &OsStr) -> Result<&str, String> {
    arg.to_str().ok_or_else(|| format!("{}: not UTF-8", arg.to_string_lossy()))
}

impl Words {
    fn take_options(&mut self, list: &str) -> Result<(), String> {
        for item in list.split(',').filter(|item| !item.is_empty()) {
            match item.strip_prefix("--").or_else(|| item.strip_prefix('-')) {
                Some(text) => self.given.push(one(text, || Ok(None))?),
                None => self.options.push(item.to_owned()),
            }
        }
        Ok(())
    }

    /// The last value given for a flag.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|given| given.flag.name == name).map(|given| given.value.as_str())
    }

    /// Whether a switch is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.value(name) == Some("true")
    }
}

/// One flag; `next` gives the word behind it, where it can have one.
fn one<'a>(text: &str, next: impl FnOnce() -> Result<Option<&'a str>, String>) -> Result<Given, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let flag = Flag::find(name).ok_or_else(|| {
        format!("-{name}: no flag of geesefs or TigrisFS; `cwdfs geesefs --help` lists them")
    })?;
    let value = match (flag.kind, value) {
        (Kind::Switch, None) => Some("true"),
        (_, Some(value)) => Some(value),
        (_, None) => next()?,
    };
    let value = value.ok_or_else(|| format!("--{name}: needs a value"))?;
    Ok(Given { flag, value: checked(flag, value)? })
}

fn checked(flag: &Flag, value: &str) -> Result<String, String> {
    let wrong = |what: &str| format!("--{} {value}: {what}", flag.name);
    match flag.kind {
        Kind::Text => Ok(value.to_owned()),
        Kind::Switch => match value {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok("true".to_owned()),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok("false".to_owned()),
            _ => Err(wrong("neither true nor false")),
        },
        Kind::Int => whole(value).map(|n| n.to_string()).ok_or_else(|| wrong("no whole number")),
        Kind::Float => match value.parse::<f64>() {
            Ok(_) => Ok(value.to_owned()),
            Err(_) => Err(wrong("no number")),
        },
        Kind::Time => match time(value) {
            Some(_) => Ok(value.to_owned()),
            None => Err(wrong("no time; write 30s or 1m30s")),
        },
    }
}

/// A whole number as Go reads one with base 0: `0x1f`, `0o17`, `017`, `0b1`, `15`.
fn whole(text: &str) -> Option<i64> {
    let (minus, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match (lower.strip_prefix("0x"), lower.strip_prefix("0o"), lower.strip_prefix("0b"))
    {
        (Some(hex), _, _) => (16, hex),
        (_, Some(octal), _) => (8, octal),
        (_, _, Some(binary)) => (2, binary),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let n = i64::from_str_radix(digits, radix).ok()?;
    Some(if minus { -n } else { n })
}

/// A time as Go reads it: numbers with units, or 0.
fn time(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(sum).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(args: &[&str]) -> Result<Words, String> {
        read(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn flags_are_read_as_go_reads_them() {
        let read = words(&[
            "--endpoint",
            "http://h:1",
            "-region=r",
            "-f",
            "--no-detect=F",
            "--file-mode",
            "0666",
            "-o",
            "a,b=c",
            "demo:p",
            "/mnt",
        ])
        .expect("it is read");
        assert_eq!(read.value("endpoint"), Some("http://h:1"));
        assert_eq!(read.value("region"), Some("r"));
        assert!(read.is_on("f") && !read.is_on("no-detect") && !read.is_on("debug"));
        assert_eq!(read.value("file-mode"), Some("438"));
        assert_eq!(read.options, ["a", "b=c"]);
        assert_eq!(read.rest, ["demo:p", "/mnt"]);
    }

    #[test]
    fn the_form_of_fstab_has_flags_among_its_options() {
        let read =
            words(&["demo:p", "/mnt", "-o", "rw,allow_other,--file-mode=0666,-f,dev"]).expect("it is read");
        assert_eq!(read.options, ["rw", "allow_other", "dev"]);
        assert_eq!(read.value("file-mode"), Some("438"));
        assert!(read.is_on("f"));
        assert_eq!(read.rest, ["demo:p", "/mnt"]);
    }

    #[test]
    fn after_two_hyphens_there_are_no_flags() {
        let read = words(&["-f", "--", "-demo", "--help"]).expect("it is read");
        assert_eq!(read.rest, ["-demo", "--help"]);
        assert_eq!(words(&["-", "x"]).expect("it is read").rest, ["-", "x"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (args, named) in [
            (&["--nonsense", "b", "/m"][..], "nonsense"),
            (&["--endpoint"], "endpoint"),
            (&["-o", "--endpoint", "b", "/m"], "endpoint"),
            (&["-f=perhaps"], "perhaps"),
            (&["--uid", "me"], "me"),
            (&["--stat-cache-ttl", "60"], "60"),
            (&["--read-retry-mul", "much"], "much"),
        ] {
            let error = words(args).expect_err("it is wrong");
            assert!(error.contains(named), "{args:?}: {error}");
        }
    }

    #[test]
    fn numbers_and_times_are_go_s() {
        for (text, n) in
            [("0", 0), ("12", 12), ("-1", -1), ("0644", 420), ("0o644", 420), ("0x1F", 31), ("0b11", 3)]
        {
            assert_eq!(whole(text), Some(n), "{text}");
        }
        for text in ["", "-", "09", "0x", "--1", "1.5", "+-1", "0x-1"] {
            assert_eq!(whole(text), None, "{text}");
        }
        for (text, millis) in
            [("0", 0), ("30s", 30_000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("250ms", 250)]
        {
            assert_eq!(time(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "60", "s", "1x", "1s2"] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}
