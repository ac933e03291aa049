//! `--config FILE`: TOML whose keys are the long options. It is turned into arguments for the
//! parser of the command line, so an option means the same in both, and is refused by the same
//! sentence. The command line wins, key by key.

use super::{Args, usage};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
use document::{Entry, Value};
use httplines::engine::EngineError;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

mod apart;
mod document;
mod settings;
#[cfg(test)]
mod tests;

pub use settings::document as settings;

/// A configuration has a few hundred bytes. A file beyond this is something else.
const FILE_BYTES_MAX: u64 = 1 << 20;

const EXIT_RUNTIME: u8 = 1;
/// The exit code of wrong usage.
pub const EXIT_USAGE: u8 = 2;
const EXIT_PERMISSION: u8 = 3;

/// The option for the file.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// Read options from FILE (TOML); those on the command line win
    ///
    /// Its keys are the long options without dashes, with strings, numbers, lists, or true: see
    /// docs/config.md and packaging/httplines.toml. An option on the command line replaces that of
    /// the file, and a list as a whole. Relative paths in the file are relative to the working
    /// directory. `httplines check-config FILE` checks it without a run.
    #[arg(long, value_name = "FILE", help_heading = "Help", hide_short_help = true)]
    config: Option<PathBuf>,

    /// What was read.
    #[arg(skip)]
    pub file: ConfigFile,
}

/// Why the program does not begin: a sentence for the user, and the exit code.
#[derive(Debug)]
pub struct Refusal {
    pub sentence: String,
    pub exit_code: u8,
}

impl From<String> for Refusal {
    fn from(sentence: String) -> Refusal {
        Refusal { sentence, exit_code: EXIT_USAGE }
    }
}

/// Something wrong in a line of a file.
#[derive(Debug)]
pub struct Fault {
    /// From 1.
    pub line: usize,
    pub sentence: String,
}

/// A file of options. The default: there is none.
#[derive(Debug, Default)]
pub struct ConfigFile {
    /// As it was given.
    name: String,
    entries: Vec<Entry>,
    /// Keys that do not apply to what the command line asks for. They are no entries any more.
    left_out: BTreeSet<String>,
}

/// The arguments of a run: those of `line`, which begins with the program's name, and of the file
/// that it names with `--config`.
///
/// # Errors
/// A sentence for the user; if the file is at fault, with its name and the line.
pub fn parse(line: &[OsString]) -> Result<(Args, ArgMatches), Refusal> {
    parse_with(line, None)
}

/// The same, with what was read of the file. A pipe can be read only once.
pub fn parse_with(
    line: &[OsString],
    known: Option<ConfigFile>,
) -> Result<(Args, ArgMatches), Refusal> {
    let typed = Args::command().try_get_matches_from(line);
    let typed = typed.map_err(|error| usage::sentence(&error))?;
    let args = args_of(&typed)?;
    let Some(path) = &args.config.config else { return Ok((args, typed)) };
    let mut file = known.map_or_else(|| ConfigFile::read(path), Ok)?;
    if let Some(fault) = file.faults().next() {
        return Err(file.told(&fault).into());
    }
    file.leave_out(&apart::keys_without_effect(&args), &typed);
    let mut all: Vec<OsString> = line.first().cloned().into_iter().collect();
    all.extend(file.arguments());
    all.extend(line.iter().skip(1).cloned());
    let merged = Args::command().try_get_matches_from(all);
    let merged = merged.map_err(|error| file.locate(usage::sentence(&error), None))?;
    let mut args = args_of(&merged)?;
    args.config.file = file;
    Ok((args, merged))
}

fn args_of(matches: &ArgMatches) -> Result<Args, String> {
    Args::from_arg_matches(matches).map_err(|error| usage::sentence(&error))
}

impl Args {
    /// The sentence of `error`, with file and line if an option of the file is its reason.
    pub fn locate(&self, error: &EngineError) -> String {
        use httplines::capture::live::LiveOpenError;
        let key = match error {
            EngineError::Output(_) | EngineError::OutputOfUser { .. } | EngineError::SameFile => {
                Some("output")
            }
            EngineError::File(_) => Some("read"),
            EngineError::Live(LiveOpenError::NoInterface { .. } | LiveOpenError::Down { .. }) => {
                Some("interface")
            }
            _ => None,
        };
        self.config.file.locate(error.to_string(), key)
    }
}

impl ConfigFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, or it is no TOML.
    pub fn read(path: &Path) -> Result<ConfigFile, Refusal> {
        let name = path.display().to_string();
        let text = read_text(path).map_err(|error| refusal(&name, &error))?;
        let text = text.map_err(|fault| told(&name, &fault))?;
        let entries = document::entries(&text).map_err(|fault| told(&name, &fault))?;
        Ok(ConfigFile { name, entries, left_out: BTreeSet::new() })
    }

    /// What is wrong with its lines, each by itself, in their order.
    pub fn faults(&self) -> impl Iterator<Item = Fault> {
        let mut command = Args::command();
        self.entries.iter().filter_map(move |entry| check(entry, &mut command).err())
    }

    /// `fault` as a sentence, with the file and the line.
    pub fn told(&self, fault: &Fault) -> String {
        told(&self.name, fault)
    }

    /// `sentence`, with the file and the line of `key`, if the file gives it; else of the first
    /// option in the sentence that it gives.
    pub fn locate(&self, sentence: String, key: Option<&str>) -> String {
        let command = Args::command();
        let words = sentence.split(|letter: char| !(letter == '-' || letter.is_alphanumeric()));
        let key_of = |word: &str| match (word.strip_prefix("--"), word.strip_prefix('-')) {
            (Some(long), _) => Some(long.to_string()),
            (None, Some(short)) => {
                let is_short =
                    |arg: &&Arg| arg.get_short().is_some_and(|it| short == it.to_string());
                command.get_arguments().find(is_short)?.get_long().map(String::from)
            }
            (None, None) => None,
        };
        let mut keys = key.map(String::from).into_iter().chain(words.filter_map(key_of));
        match keys.find_map(|key| self.entries.iter().find(|entry| entry.key == key)) {
            Some(entry) => told(&self.name, &Fault { line: entry.line, sentence }),
            None => sentence,
        }
    }

    /// Leaves out what was `typed`, and these keys.
    fn leave_out(&mut self, keys: &[&str], typed: &ArgMatches) {
        let command = Args::command();
        self.entries.retain(|entry| !is_typed(&entry.key, &command, typed));
        let is_out = |entry: &mut Entry| keys.contains(&entry.key.as_str());
        self.left_out = self.entries.extract_if(.., is_out).map(|entry| entry.key).collect();
    }

    /// What is to be said about keys that were left out.
    pub fn note(&self) -> Option<String> {
        let keys: Vec<&str> = self.left_out.iter().map(String::as_str).collect();
        (!keys.is_empty()).then(|| {
            format!("left out of {}, as they do not apply here: {}", self.name, keys.join(", "))
        })
    }

    /// The arguments that it stands for.
    fn arguments(&self) -> impl Iterator<Item = OsString> {
        let command = Args::command();
        let lines = self.entries.iter().filter_map(move |entry| arguments(entry, &command).ok());
        lines.flatten().map(|(_, argument)| argument.into())
    }
}

/// Whether the option `key` was typed.
fn is_typed(key: &str, command: &Command, typed: &ArgMatches) -> bool {
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(key));
    let source = arg.and_then(|arg| typed.value_source(arg.get_id().as_str()));
    source == Some(ValueSource::CommandLine)
}

fn told(name: &str, fault: &Fault) -> String {
    format!("{name}:{}: {}", fault.line, fault.sentence)
}

/// The text of a file, or what is wrong with it.
fn read_text(path: &Path) -> io::Result<Result<String, Fault>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let sentence = "a configuration has at most 1 MiB; is this another file?".to_string();
        return Ok(Err(Fault { line: 1, sentence }));
    }
    Ok(String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count();
        Fault { line, sentence: "this is not UTF-8, so it is no TOML".to_string() }
    }))
}

/// Why the file cannot be read, in the words and with the exit code of other inputs.
fn refusal(name: &str, error: &io::Error) -> Refusal {
    let (sentence, exit_code) = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            (format!("{name}: no such file; check the path"), EXIT_RUNTIME)
        }
        io::ErrorKind::IsADirectory => {
            (format!("{name} is a directory; name a file in it"), EXIT_RUNTIME)
        }
        io::ErrorKind::PermissionDenied => {
            let sentence = "permission denied; make it readable for this user";
            (format!("{name}: {sentence}"), EXIT_PERMISSION)
        }
        kind => (format!("cannot read {name}: {kind}"), EXIT_RUNTIME),
    };
    Refusal { sentence, exit_code }
}

/// Whether the parser, `command`, takes an entry.
fn check(entry: &Entry, command: &mut Command) -> Result<(), Fault> {
    for (line, argument) in arguments(entry, command)? {
        let parsed = command.try_get_matches_from_mut(["httplines", argument.as_str()]);
        parsed.map_err(|error| {
            let sentence = usage::sentence(&error);
            // In the file it has no dashes.
            let sentence = sentence.strip_prefix("--").map_or(sentence.clone(), String::from);
            Fault { line, sentence }
        })?;
    }
    Ok(())
}

/// The arguments that an entry stands for, each with its line.
fn arguments(entry: &Entry, command: &Command) -> Result<Vec<(usize, String)>, Fault> {
    let key = &entry.key;
    let fault = |line, sentence| Err(Fault { line, sentence });
    let Some(arg) = command.get_arguments().find(|arg| arg.get_long() == Some(key)) else {
        return fault(entry.line, unknown(command, entry));
    };
    if is_refused(arg) {
        let sentence = format!("{key} is for the command line only; leave it out here");
        return fault(entry.line, sentence);
    }
    match (&entry.value, arg.get_action()) {
        (Value::Switch(true), ArgAction::SetTrue | ArgAction::Count) => {
            Ok(vec![(entry.line, format!("--{key}"))])
        }
        (Value::Switch(false), ArgAction::SetTrue | ArgAction::Count) => Ok(Vec::new()),
        (_, ArgAction::SetTrue | ArgAction::Count) => {
            fault(entry.line, format!("{key} takes true or false, without quotes"))
        }
        (Value::List(items), ArgAction::Append) => {
            items.iter().map(|(line, item)| argument(key, *line, item)).collect()
        }
        (Value::List(_), _) => fault(entry.line, format!("{key} takes one value, and no list")),
        (value, _) => Ok(vec![argument(key, entry.line, value)?]),
    }
}

/// Options that say what the program does, and not how.
fn is_refused(arg: &Arg) -> bool {
    let is_of_settings = matches!(
        arg.get_action(),
        ArgAction::Set | ArgAction::Append | ArgAction::SetTrue | ArgAction::Count
    );
    !is_of_settings || ["config", "list-interfaces"].map(Some).contains(&arg.get_long())
}

fn argument(key: &str, line: usize, value: &Value) -> Result<(usize, String), Fault> {
    match value {
        Value::Text(text) if text.contains('\0') => {
            Err(Fault { line, sentence: format!("{key} takes no text with a NUL byte") })
        }
        Value::Text(text) => Ok((line, format!("--{key}={text}"))),
        Value::Switch(_) | Value::List(_) | Value::Date | Value::Section => {
            Err(Fault { line, sentence: format!("{key} takes a text in quotes, or a number") })
        }
    }
}

/// The answer to a key that is no long option.
fn unknown(command: &Command, entry: &Entry) -> String {
    let key = &entry.key;
    let arguments = || command.get_arguments().filter(|arg| !is_refused(arg));
    let dashed = key.replace('_', "-");
    let same = arguments().filter_map(Arg::get_long).find(|long| *long == dashed);
    let is_short = |arg: &Arg| arg.get_short().is_some_and(|short| *key == short.to_string());
    let short = arguments().find(|arg| is_short(arg)).and_then(|arg| arg.get_long());
    if let Some(long) = same.or(short) {
        return format!("there is no option {key}; did you mean {long}?");
    }
    if entry.value == Value::Section {
        return format!("there are no sections, such as {key}; the keys are the long options");
    }
    let sentence = usage::no_such_option(&format!("--{key}"), None);
    sentence.replacen(" --", " ", 1).replace("you mean --", "you mean ")
}
