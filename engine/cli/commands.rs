//! The names of commands, words that stand first and do something else than a run, and what is said
//! about them.

use clap::CommandFactory;
use httplines::config::ANY_INTERFACE;
use httplines::sys::interface::index_of;

/// The program's own options.
pub fn program() -> clap::Command {
    super::Args::command()
}

/// The command called `name`.
pub fn named(name: &str) -> Option<clap::Command> {
    program().find_subcommand(name).cloned()
}

/// The command that this process was started for.
pub fn of_arguments() -> Option<clap::Command> {
    std::env::args_os().nth(1).and_then(|word| named(word.to_str()?))
}

/// Commands whose options are those of a run.
const LIKE_RUNS: [&str; 2] = ["check-config", "top"];

/// The command whose options may be typed here.
pub fn with_options() -> Option<clap::Command> {
    of_arguments().filter(|command| !LIKE_RUNS.contains(&command.get_name()))
}

/// Prints the options of the command called `name`, with details if it `is_long`.
pub fn print_help_of(name: &str, is_long: bool) {
    // Only then it knows by which name it is called.
    let mut program = program();
    program.build();
    if let Some(command) = program.find_subcommand_mut(name) {
        // If standard output is closed, nobody wants the help.
        let _ = if is_long { command.print_long_help() } else { command.print_help() };
    }
}

/// What prints the options that may be typed here.
pub fn help() -> String {
    help_of(with_options().as_ref())
}

/// What prints the options of `command`; without one, those of a run.
pub fn help_of(command: Option<&clap::Command>) -> String {
    match command {
        Some(command) => format!("httplines {} --help", command.get_name()),
        None => "httplines --help".to_string(),
    }
}

/// The answer to words of which one is a command that comes too late: `-i eth0 doctor`.
pub fn answer_to_late(words: &[String]) -> Option<String> {
    let name = words.iter().find(|word| named(word).is_some())?;
    Some(format!("{name} comes first, and its options behind it: see httplines {name} --help"))
}

/// The answer to a word behind command `name` that belongs to no option: `doctor eth0`.
pub fn answer_to_word(name: &str, word: &str) -> String {
    if word == ANY_INTERFACE || index_of(word).is_some() {
        let with = format!("httplines {name} -i {word}");
        return format!("{word:?} is not an option; put -i before an interface: {with}");
    }
    format!("{word:?} is not an option of {name}; httplines {name} --help lists them")
}
