//! `httplines report`: a summary of files of lines, or of captures.

use super::sandbox;
use super::stderr::{self, say};
use super::values::number;
use anyhow::{Context, bail};
use clap::ArgAction;
use httplines::capture::pcap::install_sigbus_handler;
use httplines::config::{Config, Input, LineFormat, Output, Sandbox};
use httplines::engine::{Engine, EngineError, confine};
use httplines::observe::summary::Summary;
use httplines::record::rfc3339;
use httplines::sys::signals;
use httplines::time::TimestampNs;
use losses::{Losses, Origin, Statistics};
use page::Page;
use source::{Found, Source};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

mod html;
mod json;
mod losses;
mod page;
mod source;
mod text;
mod units;

const EXIT_RUNTIME: u8 = 1;
const EXIT_USAGE: u8 = 2;

/// Summarize files of lines, or captures
///
/// Reads files of JSON lines that httplines has written, plain or compressed with zstd or gzip, or
/// with -r capture files, and tells what passed: traffic and status over time, latencies, the
/// busiest and slowest hosts, targets, clients, servers and gRPC methods, errors, gaps,
/// retransmissions, and losses with their causes, if a file of statistics (http.stats) is beside
/// the lines. Memory is bounded; docs/report.md has the error bounds. Exit codes: 0, 1 a file
/// cannot be read or has other lines only, 2 wrong usage.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true,
    override_usage = "httplines report FILE... | -r CAPTURE... [--json | --html] [-o FILE]",
    max_term_width = 100
)]
pub struct ReportArgs {
    /// Files of JSON lines (-: standard input)
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Read these capture files in place of lines (-: standard input)
    #[arg(short = 'r', long = "read", value_name = "CAPTURE", help_heading = "Options")]
    #[arg(num_args = 1.., conflicts_with = "files")]
    captures: Vec<PathBuf>,

    /// Write one JSON object (docs/report.schema.json)
    #[arg(long, help_heading = "Options", conflicts_with = "html")]
    json: bool,

    /// Write one HTML page that needs nothing else
    #[arg(long, help_heading = "Options")]
    html: bool,

    /// Write to this file; it is replaced as a whole
    #[arg(short = 'o', long = "output", value_name = "FILE", help_heading = "Options")]
    output: Option<PathBuf>,

    /// Worker threads for -r [default: 1]
    #[arg(long, value_name = "N", help_heading = "Options")]
    #[arg(value_parser = number::<u16, 1, 1024>)]
    shards: Option<u16>,

    /// Run as USER, or USER:GROUP, once the files are open
    #[arg(short = 'Z', long, value_name = "USER", help_heading = "Options")]
    user: Option<String>,

    /// Keep all rights, to compare
    #[arg(long, help_heading = "Options")]
    no_sandbox: bool,

    /// Print this help
    #[arg(short = 'h', long, help_heading = "Options", action = ArgAction::Help)]
    help: Option<bool>,
}

/// Everything that a report tells.
#[derive(Debug)]
pub struct Report {
    pub summary: Summary,
    pub losses: Losses,
    pub sources: Vec<Found>,
    /// When it was made: RFC 3339.
    pub made: String,
    /// The input was capture files.
    is_capture: bool,
    /// What went wrong, each a sentence. What was read before is in the report.
    pub errors: Vec<String>,
}

/// Makes the report.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    if let Some(sentence) = args.contradiction() {
        say(format_args!("httplines: {sentence}\n"));
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    stderr::start(false);
    signals::ignore_file_size_signal();
    let page = args.output.as_ref().filter(|path| path.as_os_str() != "-");
    let page = page.map(|path| Page::at(path)).transpose()?;
    let report = match args.captures.is_empty() {
        true => args.of_lines(page.as_ref())?,
        false => args.of_captures(page.as_ref())?,
    };
    let is_terminal = page.is_none() && std::io::stdout().is_terminal();
    let told = match (args.json, args.html) {
        (true, _) => json::render(&report)?,
        (_, true) => html::render(&report),
        _ => text::render(&report),
    };
    let told = if is_terminal { stderr::visible(told) } else { told };
    match page {
        Some(page) => page.write(told.as_bytes())?,
        None => page::print(told.as_bytes())?,
    }
    report.errors.iter().for_each(|error| say(format_args!("httplines: {error}\n")));
    let is_well = report.errors.is_empty();
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(EXIT_RUNTIME) })
}

impl ReportArgs {
    /// Why they cannot be meant, in a sentence.
    pub fn contradiction(&self) -> Option<String> {
        if self.files.is_empty() && self.captures.is_empty() {
            let sentence = "no file is named; try: httplines report http.jsonl, or \
                            httplines report -r trace.pcapng";
            return Some(sentence.into());
        }
        let stdin_count = self.files.iter().filter(|path| path.as_os_str() == "-").count();
        if stdin_count > 1 {
            return Some("standard input (-) can be read only once".into());
        }
        if self.no_sandbox && self.user.is_some() {
            return Some(sandbox::USER_WITHOUT_SANDBOX.into());
        }
        None
    }

    fn sandbox(&self) -> Sandbox {
        sandbox::configured(self.no_sandbox, self.user.as_deref())
    }

    /// The report of files of lines.
    fn of_lines(&self, page: Option<&Page>) -> anyhow::Result<Report> {
        let sources = self.files.iter().map(|path| Source::open(path));
        let sources: Vec<Source> = sources.collect::<anyhow::Result<_>>()?;
        let sidecars: BTreeMap<PathBuf, Option<File>> = sources
            .iter()
            .filter_map(|source| source.sidecar.clone())
            .map(|path| (path.clone(), File::open(path).ok()))
            .collect();
        if let Some(page) = page {
            page.refuse_inputs(&self.files)?;
        }
        let page = page.map(Page::path);
        confine(&self.sandbox(), page).map_err(EngineError::from)?;
        let mut summary = Summary::default();
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        for source in sources {
            match source.read(&mut summary) {
                Ok(one) => found.push(one),
                Err(error) => errors.push(format!("{error:#}")),
            }
        }
        if summary.records() + summary.partial == 0 && summary.unrecognized > 0 {
            bail!("{}", nothing_found(&found));
        }
        let mut losses = Losses::default();
        let mut statistics = Statistics::default();
        for file in sidecars.into_values().flatten() {
            losses.add_statistics(BufReader::new(file), &summary, &mut statistics);
        }
        losses.finish_statistics(&summary, statistics);
        if losses.origin == Origin::Statistics {
            let without = found.iter().filter(|found| !found.has_statistics);
            losses.without = without.map(|found| found.name.clone()).collect();
        }
        let made = now();
        Ok(Report { summary, losses, sources: found, made, is_capture: false, errors })
    }

    /// The report of capture files.
    fn of_captures(&self, page: Option<&Page>) -> anyhow::Result<Report> {
        // If it cannot be installed, files are read instead of mapped.
        let _ = install_sigbus_handler();
        let input = match &self.captures[..] {
            [one] if one.as_os_str() == "-" => Input::Stdin,
            paths => Input::Files(paths.to_vec()),
        };
        let mut config = Config::new(input);
        config.shard_count = self.shards.unwrap_or(1);
        config.sandbox = self.sandbox();
        config.emit.output = Output::Counted(page.map(|page| page.path().to_path_buf()));
        config.emit.format = LineFormat::Json;
        let engine = Engine::open(config)?;
        let counts = engine.counts().context("the run does not count")?;
        let ending = engine.run(&mut |_| {})?;
        let summary = counts.take();
        let names = self.captures.iter().map(|path| path.display().to_string());
        let sources = names.map(|name| Found::capture(&name)).collect();
        let (losses, errors) = (Losses::of_run(&ending.totals), ending.errors());
        let made = now();
        Ok(Report { summary, losses, sources, made, is_capture: true, errors })
    }
}

/// Why there is no report of files in which no line is a record.
fn nothing_found(found: &[Found]) -> String {
    match found {
        [one] => format!(
            "{} has no records of httplines: JSON lines, as -o FILE writes them; a capture is read \
             with -r",
            one.name
        ),
        _ => "no file has records of httplines: JSON lines, as -o FILE writes them; captures are \
              read with -r"
            .into(),
    }
}

fn now() -> String {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(TimestampNs::from_parts(clock.as_secs(), 0))
}
