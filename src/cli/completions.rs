//! `completions`: a shell's completion script, from the same definitions as `--help`.

use super::exit::{Exit, Failure};
use super::geesefs;
use clap::{Arg, ArgAction, Command, CommandFactory};
use clap_complete::Shell;

/// Print the completion script of a shell
///
/// Packages install the scripts of bash, zsh and fish; this is for the others, and for `cargo install`.
#[derive(Debug, clap::Args)]
#[command(after_help = super::exit::below_help(&["cwdfs completions bash > ~/.local/share/bash-completion/completions/cwdfs", "cwdfs completions fish > ~/.config/fish/completions/cwdfs.fish", "cwdfs completions zsh > \"${fpath[1]}/_cwdfs\""]))]
pub struct Args {
    /// Whose script
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    super::say(&script(args.shell))?;
    Ok(Exit::Done)
}

fn script(shell: Shell) -> String {
    let mut command = shown(&super::Cli::command());
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut command, "cwdfs", &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// The command without what `--help` hides, which the scripts would offer, and with the flags of geesefs.
fn shown(command: &Command) -> Command {
    let mut shown = Command::new(command.get_name().to_owned())
        .about(command.get_about().cloned().unwrap_or_default())
        .version(command.get_version().unwrap_or_default().to_owned())
        .disable_help_flag(command.is_disable_help_flag_set())
        .disable_help_subcommand(true)
        .disable_version_flag(command.get_version().is_none())
        .visible_aliases(command.get_visible_aliases().map(str::to_owned).collect::<Vec<_>>())
        .args(command.get_arguments().filter(|arg| !arg.is_hide_set()).cloned().map(as_typed))
        .subcommands(command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(self::shown));
    if command.get_name() == geesefs::Program::Geesefs.name() {
        shown = shown.args(geesefs::arguments());
    }
    shown
}

/// A switch that takes a value only behind `=` is offered as a switch: the word after it is not its value.
fn as_typed(arg: Arg) -> Arg {
    if !arg.is_require_equals_set() {
        return arg;
    }
    let switch = Arg::new(arg.get_id().clone()).action(ArgAction::SetTrue).short(arg.get_short());
    let switch = match arg.get_long() {
        Some(long) => switch.long(long.to_owned()),
        None => switch,
    };
    switch.help(arg.get_help().cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_script_has_every_subcommand_and_option_and_nothing_hidden() {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let script = script(shell);
            let dashes = if shell == Shell::Fish { "-l " } else { "--" };
            for command in super::super::Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
                for arg in command.get_arguments() {
                    let Some(long) = arg.get_long() else { continue };
                    let there = script.contains(&format!("{dashes}{long}"));
                    assert_eq!(there, !arg.is_hide_set(), "{shell}: {} --{long}", command.get_name());
                }
            }
            assert!(script.contains("cwdfs"), "{script}");
        }
    }

    #[test]
    fn no_shell_is_beyond_it() {
        for shell in Shell::value_variants() {
            assert!(script(*shell).contains("takeover"), "{shell}");
        }
    }
}
