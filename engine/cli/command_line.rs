//! The arguments of this process.

use super::config_file::{self, Refusal};
use super::{Args, commands};

impl Args {
    /// The arguments of this process, and of the file that --config names.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn from_command_line() -> Result<Args, Refusal> {
        let line: Vec<_> = std::env::args_os().collect();
        let (args, _) = config_file::parse(&line)?;
        if args.words == ["help"] {
            // If standard output is closed, nobody wants the help.
            let _ = commands::program().print_help();
            std::process::exit(0);
        }
        if args.command.is_none() {
            args.check()?;
        }
        Ok(args)
    }
}
