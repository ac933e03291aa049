//! What is looked at, as it was typed.

use crate::cli::config_file::{self, Refusal};
use crate::cli::values::FormatArg;
use crate::cli::{Args, commands};
use clap::ArgMatches;
use clap::parser::ValueSource;
use std::ffi::OsString;
use std::path::PathBuf;

/// What is looked at.
#[derive(Debug)]
pub enum Source {
    /// Interfaces or capture files.
    Run(Box<Args>),
    /// A file of lines that another process writes.
    Lines { path: PathBuf, args: Box<Args> },
}

/// Options that say what is captured, who does it, and how it ends.
const OPTIONS: [&str; 40] = [
    "answered-only",
    "block-kib",
    "buffer-size",
    "count",
    "direction",
    "duration",
    "elide-min-bytes",
    "except",
    "exclude-net",
    "exclude-port",
    "exclude-vlan",
    "fail-on-drop",
    "fanout",
    "filter",
    "flows",
    "idle-timeout-s",
    "ignore-vlan",
    "immediate-mode",
    "interface",
    "low-latency",
    "net",
    "no-elide",
    "no-promiscuous-mode",
    "no-sandbox",
    "only",
    "port",
    "quiet",
    "read",
    "records",
    "retire-timeout-ms",
    "sample",
    "sessions",
    "shards",
    "shed",
    "snapshot-length",
    "tls-early",
    "user",
    "vlan",
    "vxlan-port",
    "wait",
];

/// Those that also a file of lines has.
const LINES_OPTIONS: [&str; 4] = ["duration", "no-sandbox", "quiet", "user"];

impl Source {
    /// Reads the arguments behind `top`.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn of_words(words: Vec<OsString>) -> Result<Source, Refusal> {
        if words.is_empty() {
            return Err("top needs something to look at: -i IFACE, -r FILE, or a file of lines \
                        that a running httplines writes"
                .to_string()
                .into());
        }
        let line: Vec<OsString> = std::iter::once("httplines".into()).chain(words).collect();
        let (mut args, matches) = config_file::parse(&line)?;
        let is_run = args.is_live() || !args.read.is_empty();
        let others = typed(&matches);
        if !is_run && args.words.len() == 1 {
            if let Some(option) =
                others.iter().find(|option| !LINES_OPTIONS.contains(&option.as_str()))
            {
                let sentence = format!("--{option} is for -i and -r; a file of lines is only read");
                return Err(format!("{sentence}: leave it out").into());
            }
            let path = std::mem::take(&mut args.words).remove(0).into();
            return Ok(Source::Lines { path, args: Box::new(args) });
        }
        if let Some(option) = others.iter().find(|option| !OPTIONS.contains(&option.as_str())) {
            let sentence = format!("--{option} is for lines, and top writes none: leave it out");
            return Err(sentence.into());
        }
        if args.read.iter().any(|path| path.as_os_str() == "-") {
            let sentence = "top reads keys from standard input: name a capture file with -r";
            return Err(sentence.to_string().into());
        }
        // What is counted is what JSON lines would tell.
        args.format = Some(FormatArg::Json);
        args.check()?;
        Ok(Source::Run(Box::new(args)))
    }
}

/// The long names of the options that were typed.
fn typed(matches: &ArgMatches) -> Vec<String> {
    let is_typed = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let command = commands::program();
    let arguments = command.get_arguments().filter(|arg| is_typed(arg.get_id().as_str()));
    arguments.filter_map(|arg| arg.get_long()).map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Result<Source, String> {
        let words = words.iter().map(OsString::from).collect();
        Source::of_words(words).map_err(|refusal| refusal.sentence)
    }

    #[test]
    fn a_source_is_interfaces_captures_or_lines() {
        assert!(matches!(of(&["-i", "lo", "--port", "80"]), Ok(Source::Run(_))));
        assert!(matches!(of(&["-r", "a.pcap", "--only", "status=5xx"]), Ok(Source::Run(_))));
        assert!(matches!(of(&["http.jsonl", "-q"]), Ok(Source::Lines { path, .. })
            if path.as_os_str() == "http.jsonl"));
    }

    #[test]
    fn what_makes_no_sense_is_answered() {
        for (words, wanted) in [
            (&[][..], "top needs something to look at"),
            (&["-i", "lo", "-o", "x.jsonl"], "--output is for lines, and top writes none"),
            (&["-i", "lo", "--redact-query"], "--redact-query is for lines"),
            (&["-i", "lo", "--config", "no.toml"], "no.toml: no such file"),
            (&["http.jsonl", "--port", "80"], "--port is for -i and -r"),
            (&["-r", "-"], "top reads keys from standard input"),
            (&["-i", "lo", "-r", "a.pcap"], "one run does only one of them"),
            (&["-q"], "name an interface with -i"),
        ] {
            let told = of(words).expect_err("it is refused");
            assert!(told.contains(wanted), "{words:?}: {told}");
        }
    }

    /// Each option is either for top, or for lines only.
    #[test]
    fn the_options_exist() {
        let command = commands::program();
        let known: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
        for option in OPTIONS.iter().chain(&LINES_OPTIONS) {
            assert!(known.contains(option), "{option}");
        }
    }
}
