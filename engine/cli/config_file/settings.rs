//! All settings of a run as a document of TOML, which `--config` reads back.

use super::is_refused;
use crate::cli::Args;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, CommandFactory};
use httplines::config::{Config, LineFormat};
use httplines::record::is_unsafe;
use std::fmt::Write;

/// A line for each option, under the headings of `--help-all`: as it was given in `matches`, or in
/// a comment, with its default. `user` is whom the run becomes.
pub fn document(matches: &ArgMatches, config: &Config, user: Option<&str>) -> String {
    let command = Args::command();
    let mut sections: Vec<(&str, String)> = Vec::new();
    for arg in command.get_arguments().filter(|arg| !is_refused(arg)) {
        let Some(key) = arg.get_long() else { continue };
        let line = match given(arg, matches) {
            Some(value) => format!("{key} = {value}\n"),
            None => match resolved(key, config, user).or_else(|| default(arg)) {
                Some(value) => format!("# {key} = {value}\n"),
                None => format!("# {key}: not set\n"),
            },
        };
        let heading = arg.get_help_heading().unwrap_or_default();
        match sections.iter_mut().find(|(known, _)| *known == heading) {
            Some((_, lines)) => *lines += &line,
            None => sections.push((heading, line)),
        }
    }
    let sections = sections.iter().map(|(heading, lines)| format!("# {heading}\n{lines}"));
    sections.collect::<Vec<_>>().join("\n")
}

/// The value of an option that was given.
fn given(arg: &Arg, matches: &ArgMatches) -> Option<String> {
    let id = arg.get_id().as_str();
    if matches.value_source(id)? != ValueSource::CommandLine {
        return None;
    }
    let values = matches.get_raw(id).into_iter().flatten();
    let values: Vec<String> = values.map(|value| literal(&value.to_string_lossy())).collect();
    match arg.get_action() {
        ArgAction::SetTrue | ArgAction::Count => Some("true".to_string()),
        ArgAction::Append => Some(format!("[{}]", values.join(", "))),
        _ => values.into_iter().next(),
    }
}

/// What a run makes of an option that was not given, if that hangs on other options or the machine.
fn resolved(key: &str, config: &Config, user: Option<&str>) -> Option<String> {
    match key {
        "block-kib" => Some((config.capture.block_bytes >> 10).to_string()),
        "retire-timeout-ms" => Some(config.capture.retire_timeout_ms.to_string()),
        "shards" => Some(config.shard_count.to_string()),
        "user" => user.map(literal),
        "format" => Some(match config.emit.format {
            LineFormat::Json => literal("json"),
            LineFormat::Text { .. } => literal("text"),
        }),
        _ => None,
    }
}

/// The default that the help of an option names: the first word, if it is described.
fn default(arg: &Arg) -> Option<String> {
    if matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::Count) {
        return Some("false".to_string());
    }
    let help = arg.get_help()?.to_string();
    let value = help.split_once("[default: ")?.1.split_once(']')?.0;
    let value = literal(value.split([' ', ',', ';']).next().unwrap_or_default());
    Some(if matches!(arg.get_action(), ArgAction::Append) { format!("[{value}]") } else { value })
}

/// A number, or a string in quotes.
fn literal(text: &str) -> String {
    if text.parse::<i64>().is_ok_and(|number| number.to_string() == text) {
        return text.to_string();
    }
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        let _ = match letter {
            '"' | '\\' => write!(quoted, "\\{letter}"),
            _ if is_unsafe(letter) => write!(quoted, "\\U{:08x}", u32::from(letter)),
            _ => write!(quoted, "{letter}"),
        };
    }
    quoted + "\""
}
