//! `httplines check-config FILE`: whether a run with this file could start, and its settings.

use super::config_file::{self, ConfigFile, Refusal};
use super::stderr::{say, visible};
use clap::ArgAction;
use httplines::config::Config;
use httplines::engine::Preflight;
use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Check a configuration file, and print all settings
///
/// Looks at what shows without starting a run: the options, the user, the directory of the output
/// and whether that user may write there, and the memory for the rings. Prints what is wrong on
/// standard error, each with its line, and ends with 2; or prints all settings as TOML, defaults as
/// comments, and ends with 0. An interface that is not there is only noted. Needs no privilege, and
/// leaves nothing behind. In a systemd unit: ExecStartPre=httplines check-config FILE.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true,
    override_usage = "httplines check-config FILE [OPTIONS]",
    max_term_width = 100
)]
pub struct CheckConfigArgs {
    /// The file, as for --config
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The options that the run gets on its command line, such as -i eth1
    #[arg(value_name = "OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<OsString>,

    /// Print this help
    #[arg(short = 'h', long, help_heading = "Options", action = ArgAction::Help)]
    help: Option<bool>,
}

/// What was found about a run with a file.
#[derive(Debug)]
pub struct Findings {
    /// What keeps it from starting. Each is a sentence, with file and line where one is at fault.
    pub errors: Vec<String>,
    /// What may keep it from starting later.
    pub notes: Vec<String>,
    /// All its settings as TOML, if they can be told.
    pub settings: String,
    /// The configuration of the run, if it can be told.
    pub config: Option<Config>,
    /// 0 if there are no errors.
    pub exit_code: u8,
}

impl From<Refusal> for Findings {
    fn from(refusal: Refusal) -> Findings {
        let Refusal { sentence, exit_code } = refusal;
        Findings::of_errors(vec![sentence], exit_code)
    }
}

impl Findings {
    fn of_errors(errors: Vec<String>, exit_code: u8) -> Findings {
        let (notes, settings) = (Vec::new(), String::new());
        Findings { errors, notes, settings, config: None, exit_code }
    }
}

/// Checks the file, and says what was found.
pub fn run(args: &CheckConfigArgs) -> anyhow::Result<ExitCode> {
    let findings = args.look().unwrap_or_else(Findings::from);
    for sentence in findings.notes.iter().chain(&findings.errors) {
        say(format_args!("httplines: {sentence}\n"));
    }
    if findings.errors.is_empty() {
        print(findings.settings)?;
        say(format_args!("httplines: {} is in order\n", args.file.display()));
    }
    Ok(ExitCode::from(findings.exit_code))
}

impl CheckConfigArgs {
    /// For a file alone.
    pub fn of(file: PathBuf) -> CheckConfigArgs {
        CheckConfigArgs { file, options: Vec::new(), help: None }
    }

    /// Looks at all that shows without a run.
    ///
    /// # Errors
    /// What makes it useless to look further.
    pub fn look(&self) -> Result<Findings, Refusal> {
        let file = ConfigFile::read(&self.file)?;
        let errors: Vec<String> = file.faults().map(|fault| file.told(&fault)).collect();
        if !errors.is_empty() {
            return Ok(Findings::of_errors(errors, config_file::EXIT_USAGE));
        }
        let line = ["httplines".into(), "--config".into(), self.file.clone().into_os_string()];
        let line: Vec<OsString> = line.into_iter().chain(self.options.iter().cloned()).collect();
        let (args, matches) = config_file::parse_with(&line, Some(file))?;
        args.check()?;
        let config = args.config();
        let found = Preflight::of(&config);
        let errors: Vec<_> = found.errors.iter().map(|error| args.locate(error)).collect();
        let settings = config_file::settings(&matches, &config, found.user.as_deref());
        let exit_code = if errors.is_empty() { 0 } else { config_file::EXIT_USAGE };
        let notes = args.config.file.note().into_iter().chain(found.notes).collect();
        Ok(Findings { errors, notes, settings, config: Some(config), exit_code })
    }
}

fn print(text: String) -> anyhow::Result<()> {
    let text = if std::io::stdout().is_terminal() { visible(text) } else { text };
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader that closed the pipe has seen enough; that is no error.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            anyhow::bail!("cannot write standard output: {}", error.kind())
        }
        _ => Ok(()),
    }
}
