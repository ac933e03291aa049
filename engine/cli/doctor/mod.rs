//! `httplines doctor`: what this machine allows, and what to change.
//!
//! Each group of checks is a file: `gather` asks the kernel, and `judge` is a pure function from
//! what was found to rows.

mod configuration;
mod interface;
mod kernel;
mod machine;
mod memory;
mod output;
mod rights;
mod row;
mod traffic;
mod window;

use super::{stderr, values};
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, Args};
use httplines::config::{ANY_INTERFACE, Config, Input};
use httplines::sys::affinity;
use httplines::sys::interface::{InterfaceDetails, Interfaces};
use row::{Check, Row, Verdict};
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use window::{Counted, Seen, Watched};

/// Columns of lines that go to no terminal, and the least and the most of a terminal.
const COLUMNS_DEFAULT: usize = 100;
const COLUMNS_MIN: usize = 60;
const COLUMNS_MAX: usize = 120;

/// Exit code if something is wrong.
const EXIT_WRONG: u8 = 1;

/// Say what this machine allows, and what to change
///
/// Each check is a line: ok, note or wrong, the name of the check, and what was found. Below it
/// stands what to type. Nothing is changed and nothing is written; for 3 s the kernel's filter
/// counts frames, without reading them, with the interfaces in promiscuous mode. No privilege is
/// needed; what cannot be seen without one is said. docs/troubleshooting.md has a section for each
/// check. Exit codes: 0, 1 something is wrong, 2 wrong usage.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true,
    override_usage = "httplines doctor [-i IFACES] [-o FILE] [-Z USER] [--config FILE]",
    max_term_width = 100
)]
pub struct DoctorArgs {
    /// Also check these interfaces, and the traffic on them
    #[arg(short = 'i', long = "interface", value_name = "IFACES", help_heading = "Options")]
    #[arg(value_parser = NonEmptyStringValueParser::new(), value_delimiter = ',')]
    interfaces: Vec<String>,

    /// Also check whether lines can be written to this file
    #[arg(short = 'o', long = "output", value_name = "FILE", help_heading = "Options")]
    output: Option<PathBuf>,

    /// The user that is to write it, as for a run
    #[arg(short = 'Z', long = "user", value_name = "USER", help_heading = "Options")]
    user: Option<String>,

    /// Also check this configuration, and what it names where nothing else does
    #[arg(long, value_name = "FILE", help_heading = "Options")]
    config: Option<PathBuf>,

    /// Print this help
    #[arg(short = 'h', long, help_heading = "Options", action = ArgAction::Help)]
    help: Option<bool>,
}

/// Makes the checks, and prints a line for each.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let file = args.config.as_deref().map(configuration::gather);
    let completed = file.as_ref().map(|file| file.complete(args));
    let args = completed.as_ref().unwrap_or(args);
    let config = file.as_ref().and_then(configuration::Facts::config).cloned();
    let config = config.unwrap_or_else(default_config);
    let present = Interfaces::open().and_then(|mut links| links.list_details());
    let names = names_of(&args.interfaces);
    let rights = rights::gather();
    let mut rows: Vec<Row> = file.as_ref().map(configuration::judge).into_iter().collect();
    rows.extend(kernel::judge(&kernel::gather()));
    rows.extend(rights::judge(&rights));
    rows.push(memory::judge(&memory::gather(&config, names.len())));
    let watched: Vec<Watched> =
        names.iter().filter_map(|name| watch(name, present.as_deref().ok()?)).collect();
    let machine = machine::gather(present.as_deref().ok(), config.shard_count, names.len());
    announce(watched.len());
    let refusal = refusal(&rights, &machine);
    let (counted, backlogs) = window::count(&watched, refusal.as_ref());
    match &present {
        Ok(present) => rows.extend(interfaces(&names, present, &watched, &counted)),
        Err(error) if names.is_empty() => rows.push(interface::unseen(Check::Interfaces, error)),
        Err(error) => rows.push(interface::unseen(Check::Link, error)),
    }
    for (it, counted) in watched.iter().zip(&counted) {
        rows.extend(traffic::judge(&it.name, counted));
    }
    let setting = |name: &str| number_in(&format!("/proc/sys/net/core/{name}"));
    let (budget, length) = (setting("netdev_budget"), setting("netdev_max_backlog"));
    rows.push(traffic::backlog(backlogs, budget, length));
    rows.extend(outputs(args));
    rows.extend(machine::judge(&machine));
    print(&rows)?;
    let is_wrong = rows.iter().any(|row| row.verdict == Verdict::Wrong);
    Ok(if is_wrong { ExitCode::from(EXIT_WRONG) } else { ExitCode::SUCCESS })
}

/// What a run has if nothing is said: a shard for each CPU.
fn default_config() -> Config {
    let shard_count = affinity::allowed_cpus().len().clamp(1, 1024) as u16;
    Config { shard_count, ..Config::new(Input::Live(Vec::new())) }
}

/// The interfaces that are named, once each.
fn names_of(given: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    for name in given.iter().map(|name| values::interface(name)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The interface called `name`, if there is one.
fn watch(name: &str, present: &[InterfaceDetails]) -> Option<Watched> {
    if name == ANY_INTERFACE {
        return Some(Watched { name: name.to_string(), ifindex: 0, is_up: true });
    }
    let found = present.iter().find(|it| it.interface.name == name)?;
    let (ifindex, is_up) =
        (found.interface.ifindex, found.interface.is_up && found.interface.has_carrier);
    Some(Watched { name: name.to_string(), ifindex, is_up })
}

/// The rows of the interfaces.
fn interfaces(
    names: &[String],
    present: &[InterfaceDetails],
    watched: &[Watched],
    counted: &[Counted],
) -> Vec<Row> {
    if names.is_empty() {
        return vec![interface::list(present)];
    }
    let mut rows = Vec::new();
    let is_any = names.iter().any(|name| name == ANY_INTERFACE);
    let mut captured = Vec::new();
    for name in names.iter().filter(|name| *name != ANY_INTERFACE) {
        let counted = watched.iter().zip(counted).find(|(it, _)| it.name == *name);
        let details = present.iter().find(|it| it.interface.name == *name);
        match details.zip(counted) {
            Some((details, (_, counted))) => {
                captured.push(details);
                rows.extend(interface::judge(&interface::gather(details), counted));
            }
            None => rows.push(interface::missing(name, present)),
        }
    }
    if is_any {
        rows.push(interface::any(present));
        captured = present.iter().collect();
    }
    rows.push(interface::stacked(&captured, is_any));
    rows
}

/// The rows about the output and its user, as far as these are named.
fn outputs(args: &DoctorArgs) -> Vec<Row> {
    let path = args.output.as_deref().filter(|path| *path != Path::new("-"));
    if path.is_none() && args.user.is_none() {
        return Vec::new();
    }
    let writer = output::gather_writer(path, args.user.as_deref());
    let mut rows: Vec<Row> =
        path.map(|path| output::judge(&output::gather(path), &writer)).into_iter().collect();
    // A directory that is not there has its row.
    if rows.iter().all(|row| row.verdict != Verdict::Wrong) || args.user.is_some() {
        rows.push(output::judge_writer(&writer));
    }
    rows
}

/// Why no filter can be loaded, if that is known beforehand. Its row says what to do.
fn refusal(rights: &rights::Facts, machine: &machine::Facts) -> Option<Seen> {
    if !rights.may_capture() {
        return Some(Seen::NotAllowed("CAP_NET_RAW and CAP_BPF".into()));
    }
    let sentence = "not seen: too few open files are allowed; open files says how many it takes";
    machine.is_descriptor_short().then(|| Seen::Failed(sentence.into()))
}

/// Says why nothing is printed yet, to who waits for it. The filter is loaded once for each of
/// `count` interfaces.
fn announce(count: usize) {
    if std::io::stderr().is_terminal() {
        let seconds = window::WINDOW.as_secs();
        let loading = match count {
            0 => String::new(),
            1 => "loading the filter, then ".to_string(),
            _ => format!("loading the filter for each of {count} interfaces, then "),
        };
        stderr::say(format_args!("httplines: {loading}counting for {seconds} s ...\n"));
    }
}

fn print(rows: &[Row]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    let is_terminal = stdout.is_terminal();
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    let columns = match rustix::termios::tcgetwinsize(&stdout) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col).clamp(COLUMNS_MIN, COLUMNS_MAX),
        _ => COLUMNS_DEFAULT,
    };
    let shown: Vec<Row> = rows.iter().map(visible).collect();
    let lines = row::render(&shown, columns, is_terminal && !is_plain);
    match stdout.write_all(lines.as_bytes()) {
        // A reader that closed the pipe has seen enough; that is no error.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            anyhow::bail!("cannot write standard output: {}", error.kind())
        }
        _ => Ok(()),
    }
}

/// The row without characters that a terminal would obey, as names may have them.
fn visible(row: &Row) -> Row {
    let shown = |text: &String| stderr::visible(text.clone()).replace('\n', "\\n");
    Row {
        finding: shown(&row.finding),
        advice: row.advice.iter().map(shown).collect(),
        ..row.clone()
    }
}

/// The number in a file of /proc, if it is there.
fn number_in(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// An error number in the system's words.
fn words(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::row::{Check, Row, Verdict};

    /// Asserts that the row of `check` has this verdict, and says `what` in its finding or in its
    /// advice.
    pub fn said(rows: &[Row], check: Check, verdict: Verdict, what: &str) {
        let row = rows.iter().find(|row| row.check == check).expect("the check has a row");
        let text = format!("{}\n{}", row.finding, row.advice.join("\n"));
        assert_eq!(row.verdict, verdict, "{text}");
        assert!(text.contains(what), "it should say {what:?}: {text}");
    }

    #[test]
    fn names_that_a_terminal_would_obey_are_escaped() {
        let row = Row::ok(Check::Link, "e\u{1b}[2J\nth0").advise("\u{9b}");
        let shown = super::visible(&row);
        assert_eq!(shown.finding, r"e\u{1b}[2J\nth0");
        assert_eq!(shown.advice, [r"\u{9b}"]);
    }
}
