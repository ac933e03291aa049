//! `httplines top`: traffic and losses on a screen, as they pass.
//!
//! A source counts and hands over a [`model::Sample`] about once a second: interfaces or capture
//! files through the engine ([`run`]), or lines that another process writes ([`follow`]). The
//! [`model`] adds them up, [`input`] says what of it is wanted, and [`view`] draws that.

mod follow;
mod graph;
mod input;
mod model;
mod run;
mod run_state;
mod screen;
mod source;
mod text;
mod theme;
mod units;
mod view;

#[cfg(test)]
mod sample_lines;

use super::stderr::say;
use clap::ArgAction;
use source::Source;
use std::ffi::OsString;
use std::process::ExitCode;
use theme::Theme;
use units::Symbols;

const EXIT_USAGE: u8 = 2;

/// Show traffic and losses on the terminal, as they pass
///
/// Rate, times to the first byte, losses and classes of status; hosts, paths, clients and methods
/// of gRPC as a table that can be sorted and filtered; the load of shards and writer. -i captures
/// on interfaces, beside whatever else captures there. -r reads capture files and stays at their
/// end. FILE.jsonl is a file that a running httplines writes: it is followed, across rotation, and
/// losses and load are those of the file of statistics beside it; this needs no privilege, and
/// costs the running one nothing. Nothing is written. The key ? explains keys and numbers, q
/// quits. See docs/top.md.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true,
    override_usage = "httplines top -i IFACES [OPTIONS]\n       httplines top -r FILE [OPTIONS]\n\
                      \x20      httplines top FILE.jsonl",
    max_term_width = 100
)]
pub struct TopArgs {
    /// What to look at, and options of a run that say what is captured, such as --port 80
    #[arg(value_name = "SOURCE", trailing_var_arg = true, allow_hyphen_values = true)]
    source: Vec<OsString>,

    /// Show no colours, as if NO_COLOR were set
    #[arg(long, help_heading = "Options")]
    no_color: bool,

    /// Print this help
    #[arg(short = 'h', long, help_heading = "Options", action = ArgAction::Help)]
    help: Option<bool>,
}

/// Shows the source until the user quits.
pub fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let mut words = args.source.clone();
    let mut helps = words.iter().map(|word| word == "--help").zip(&words);
    if let Some((is_long, _)) = helps.find(|(is_long, word)| *is_long || *word == "-h") {
        super::commands::print_help_of("top", is_long);
        return Ok(ExitCode::SUCCESS);
    }
    let word_count = words.len();
    words.retain(|word| word != "--no-color");
    let is_plain = args.no_color || words.len() < word_count;
    let has_colour = !is_plain && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    let theme = Theme { symbols: Symbols::of_environment(), has_colour };
    let source = match Source::of_words(words) {
        Ok(source) => source,
        Err(refusal) => {
            say(format_args!("httplines: {}\n", refusal.sentence));
            return Ok(ExitCode::from(refusal.exit_code));
        }
    };
    if let Err(sentence) = screen::prepare() {
        say(format_args!("httplines: {sentence}\n"));
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    screen::keep_panics();
    match source {
        Source::Run(args) => run::run(&args, theme),
        Source::Lines { path, args } => follow::run(&path, &args, theme),
    }
}
