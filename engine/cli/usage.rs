//! Turns an error of clap into one sentence that says what to do.

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
        ErrorKind::TooManyValues => format!("{} takes no value; leave it out", option(error)),
        _ => first_line(error),
    }
}

fn unknown(error: &Error) -> String {
    let word = text(error, ContextKind::InvalidArg).unwrap_or_default();
    if !word.starts_with('-') {
        return format!(
            "{word:?} is not an option; put -i before an interface, -r before a capture file \
             (filter expressions are not supported)"
        );
    }
    match text(error, ContextKind::SuggestedArg) {
        Some(similar) => format!("there is no option {word}; did you mean {similar}?"),
        None => format!("there is no option {word}; httplines --help lists the options"),
    }
}

fn invalid(error: &Error) -> String {
    let option = option(error);
    let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
    if value.is_empty() {
        return format!("{option} needs a value; see httplines --help");
    }
    if let Some(ContextValue::Strings(known)) = error.get(ContextKind::ValidValue) {
        return format!("{option} takes {}, not {value}", known.join(" or "));
    }
    match error.source() {
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
