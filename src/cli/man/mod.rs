//! `man`: the manual pages, from the same definitions as `--help`: cwdfs(1), one for each command, and
//! mount.cwdfs(8) and umount.cwdfs(8). [`page`] lays one out; [`more`] says what is in no `--help`.

mod more;
mod page;

use super::exit::{Exit, Failure};
use super::helper;
use clap::{Command, CommandFactory};
use page::Page;
use std::path::{Path, PathBuf};
use time::Date;

/// Write the manual pages into a directory
///
/// It becomes one that man(1) searches: DIR/man1 has cwdfs(1) and a page for each command, DIR/man8 has
/// mount.cwdfs(8) and umount.cwdfs(8). Packages install them; this is for `cargo install`.
#[derive(Debug, clap::Args)]
#[command(after_help = super::exit::below_help(&["cwdfs man ~/.local/share/man", "cwdfs man --date 2026-11-21 target/man"]))]
pub struct Args {
    /// The date that the pages show, such as 2026-11-21; none without it
    #[arg(long, value_name = "DATE", value_parser = date)]
    date: Option<Date>,
    /// Made where it is missing
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

fn date(text: &str) -> Result<Date, String> {
    let form = time::macros::format_description!("[year]-[month]-[day]");
    Date::parse(text, form).map_err(|_| "not a date such as 2026-11-21".to_owned())
}

/// Writes the pages.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    for page in pages(args.date) {
        let dir = args.dir.join(format!("man{}", page.section));
        write(&dir, &page).map_err(|(path, error)| {
            Failure::new(Exit::CannotStart, format!("{}: cannot write: {error}", path.display()))
        })?;
    }
    Ok(Exit::Done)
}

fn write(dir: &Path, page: &Page) -> Result<(), (PathBuf, std::io::Error)> {
    std::fs::create_dir_all(dir).map_err(|error| (dir.to_owned(), error))?;
    let path = dir.join(page.file_name());
    let text = page.render().map_err(|error| (path.clone(), error))?;
    std::fs::write(&path, text).map_err(|error| (path, error))
}

/// All of them.
fn pages(date: Option<Date>) -> Vec<Page> {
    let mut cwdfs = super::Cli::command();
    cwdfs.build();
    let one = |command: Command, section| Page { command, section, date };
    let commands = cwdfs.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned();
    let mut pages: Vec<Page> = commands.map(|command| one(command, 1)).collect();
    pages.push(one(cwdfs, 1));
    pages.extend(helper::commands().map(|command| one(command, 8)));
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the page has a text: backslashes before hyphens are roff's.
    fn plain(page: &Page) -> String {
        let text = page.render().expect("it renders");
        text.replace("\\-", "-").replace("\\fB", "").replace("\\fI", "").replace("\\fR", "")
    }

    #[test]
    fn every_command_has_a_page_and_every_option_is_in_it() {
        let pages = pages(None);
        for page in &pages {
            let text = plain(page);
            for arg in page.command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let shown = match (arg.get_long(), arg.get_short()) {
                    (Some(long), _) => format!("--{long}"),
                    (None, Some(short)) => format!("-{short}"),
                    (None, None) => arg.get_value_names().map_or("".into(), |names| names[0].to_string()),
                };
                assert!(!shown.is_empty() && text.contains(&shown), "{}: {shown}", page.file_name());
            }
            for hidden in page.command.get_arguments().filter(|arg| arg.is_hide_set()) {
                let long = hidden.get_long().expect("a hidden option is a long one");
                assert!(!text.contains(&format!("--{long}")), "{}: --{long}", page.file_name());
            }
        }
        let names: Vec<String> = pages.iter().map(Page::file_name).collect();
        for command in super::super::Cli::command().get_subcommands() {
            assert!(names.contains(&format!("cwdfs-{}.1", command.get_name())), "{names:?}");
        }
        for name in ["cwdfs.1", "mount.cwdfs.8", "umount.cwdfs.8"] {
            assert!(names.iter().any(|have| have == name), "{names:?}");
        }
    }

    #[test]
    fn a_page_has_the_examples_exit_codes_and_variables_of_the_help() {
        let pages = pages(Some(Date::from_calendar_date(2026, time::Month::November, 21).expect("a date")));
        let mount = pages.iter().find(|page| page.file_name() == "cwdfs-mount.1").expect("there");
        let text = plain(mount);
        for part in [
            ".TH cwdfs-mount 1 2026-11-21",
            ".SH \"EXIT CODES\"",
            ".SH EXAMPLES",
            "another writer holds the session",
            "CWDFS_COMMIT_INTERVAL",
            "cwdfs(1)",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        let geesefs = pages.iter().find(|page| page.file_name() == "cwdfs-geesefs.1").expect("there");
        assert!(plain(geesefs).contains("--fsync-on-close"), "{}", plain(geesefs));
    }

    #[test]
    fn a_date_is_a_date() {
        assert!(date("2026-11-21").is_ok());
        assert!(date("21.11.2026").is_err() && date("2026-13-01").is_err() && date("").is_err());
    }
}
