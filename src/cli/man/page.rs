//! One page: what clap knows of a command, then the examples and exit codes that stand below its `--help`.

use super::more;
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use time::Date;

/// How clap_mangen leaves a line before possible values, and the same without macros that have no effect.
const DOUBLE_BREAK: &str = "\n.br\n\n.br\n";
const ONE_SPACE: &str = "\n.sp\n";

/// A page to be.
pub struct Page {
    /// What it is about, built.
    pub command: Command,
    /// Of the manual: 1 or 8.
    pub section: u8,
    /// As it is shown at the foot.
    pub date: Option<Date>,
}

impl Page {
    /// `cwdfs-mount`.
    pub fn name(&self) -> &str {
        self.command.get_display_name().unwrap_or_else(|| self.command.get_name())
    }

    /// `cwdfs-mount.1`.
    pub fn file_name(&self) -> String {
        format!("{}.{}", self.name(), self.section)
    }

    /// As roff.
    pub fn render(&self) -> std::io::Result<String> {
        let man = Man::new(self.command.clone())
            .title(self.name())
            .section(self.section.to_string())
            .date(self.date.map(|date| date.to_string()).unwrap_or_default())
            .source(concat!("cwdfs ", env!("CARGO_PKG_VERSION")))
            .manual("cwdfs");
        let mut out = Vec::new();
        man.render_title(&mut out)?;
        man.render_name_section(&mut out)?;
        man.render_synopsis_section(&mut out)?;
        man.render_description_section(&mut out)?;
        man.render_options_section(&mut out)?;
        if self.command.has_subcommands() {
            man.render_subcommands_section(&mut out)?;
        }
        let mut roff = Roff::default();
        for (title, entries) in more::entries(self.name()) {
            list(&mut roff, title, &entries);
        }
        for (title, lines) in more::sections(self.name()) {
            verbatim(&mut roff, title, lines.lines());
        }
        let below = self.command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for (title, lines) in blocks(&below) {
            verbatim(&mut roff, title, lines.into_iter());
        }
        verbatim(&mut roff, "See also", std::iter::once(more::see_also(self.name())));
        roff.to_writer(&mut out)?;
        Ok(String::from_utf8_lossy(&out).replace(DOUBLE_BREAK, ONE_SPACE))
    }
}

/// What stands below `--help`, by its headings: a line that is not indented and ends with a colon.
fn blocks(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut blocks: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line.strip_suffix(':').filter(|_| !line.starts_with(' ')) {
            Some(title) => blocks.push((title, Vec::new())),
            None => {
                if let Some((_, lines)) = blocks.last_mut() {
                    lines.push(line.strip_prefix("  ").unwrap_or(line));
                }
            }
        }
    }
    blocks
}

/// A section whose lines stay as they are.
fn verbatim<'a>(roff: &mut Roff, title: &str, lines: impl Iterator<Item = &'a str>) {
    roff.control("SH", [title.to_uppercase().as_str()]);
    roff.control("nf", []);
    for line in lines {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

/// A section of words and what each is.
fn list(roff: &mut Roff, title: &str, entries: &[(String, String)]) {
    roff.control("SH", [title.to_uppercase().as_str()]);
    for (word, what) in entries {
        roff.control("TP", []);
        roff.text([roman(word.as_str())]);
        roff.text([roman(what.as_str())]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_the_help_becomes_sections() {
        let text = "Examples:\n  cwdfs a: b\n  cwdfs c:\n\nExit codes:\n  0  done\n";
        let expected = vec![("Examples", vec!["cwdfs a: b", "cwdfs c:"]), ("Exit codes", vec!["0  done"])];
        assert_eq!(blocks(text), expected);
    }
}
