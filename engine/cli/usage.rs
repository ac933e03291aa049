//! Turns an error of clap into one sentence that says what to do.

use super::{commands, habits};
use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::error::Error as _;

/// The sentence for a parse error. If help or the version was requested (clap calls these errors,
/// too), prints it and exits.
pub fn sentence(error: &Error) -> String {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // If standard output is closed, nobody wants the help.
            let _ = error.print();
            std::process::exit(0);
        }
        ErrorKind::UnknownArgument => unknown(error),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => invalid(error),
        ErrorKind::ArgumentConflict => {
            format!("{} was given more than once; give it once", option(error))
        }
        ErrorKind::InvalidUtf8 => {
            "an argument is not valid UTF-8; only file names may contain other bytes".to_string()
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = text(error, ContextKind::InvalidArg).unwrap_or_default();
            let help = commands::help_of(commands::of_arguments().as_ref());
            format!("{} is missing; see {help}", missing.replace(['<', '>'], ""))
        }
        ErrorKind::TooManyValues => format!("{} takes no value; leave it out", option(error)),
        _ => first_line(error),
    }
}

fn unknown(error: &Error) -> String {
    let typed = text(error, ContextKind::InvalidArg).unwrap_or_default();
    let command = commands::with_options();
    let is_word = !typed.starts_with('-');
    if let Some(name) = command.as_ref().map(clap::Command::get_name).filter(|_| is_word) {
        return commands::answer_to_word(name, &typed);
    }
    no_such_option(&typed, command)
}

/// The sentence for the option `typed`, which neither `command` has nor, without one, a run.
pub fn no_such_option(typed: &str, command: Option<clap::Command>) -> String {
    let answer = match &command {
        Some(_) => None,
        None => habits::answer_to_option(typed).map(str::to_string),
    };
    let help = commands::help_of(command.as_ref());
    let answer = answer.or_else(|| similar(typed, command.unwrap_or_else(commands::program)));
    let answer = answer.unwrap_or_else(|| format!("{help} lists the options"));
    format!("there is no option {typed}; {answer}")
}

/// The only long option that `typed` may be a slip or an abbreviation of.
fn similar(typed: &str, command: clap::Command) -> Option<String> {
    let known = command.get_arguments().filter_map(|arg| arg.get_long());
    let known = known.map(|name| format!("--{name}"));
    let mut meant = known.filter(|known| habits::is_meant(typed, known));
    let only = meant.next().filter(|_| typed.starts_with("--"))?;
    meant.next().is_none().then(|| format!("did you mean {only}?"))
}

fn invalid(error: &Error) -> String {
    let option = option(error);
    let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
    if value.is_empty() {
        return format!("{option} needs a value; see {}", commands::help());
    }
    if let Some(ContextValue::Strings(known)) = error.get(ContextKind::ValidValue) {
        return format!("{option} takes {}, not {value}", known.join(" or "));
    }
    match error.source() {
        // Suricata's -c names its configuration.
        Some(wanted) if option == "--count" && value.contains(['.', '/']) => {
            format!(
                "{option} takes {wanted}, not {value}; --config FILE names a configuration file"
            )
        }
        Some(wanted) => format!("{option} takes {wanted}, not {value}"),
        None => first_line(error),
    }
}

/// The option the error is about, without its value's name.
fn option(error: &Error) -> String {
    let named = text(error, ContextKind::InvalidArg).unwrap_or_default();
    named.split(' ').next().unwrap_or_default().to_string()
}

fn text(error: &Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")),
        _ => None,
    }
}

fn first_line(error: &Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_string()
}
