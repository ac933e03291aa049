//! The options for the start of a run: what it waits for, and what it gives up.

use clap::Args;
use httplines::config::Sandbox;

/// The answer if a user is named for a run that stays as it is.
pub const USER_WITHOUT_SANDBOX: &str =
    "--no-sandbox keeps user and capabilities, and -Z changes the user: leave one out";

/// The answer if a run that reads a file is to wait for an interface.
pub const WAIT_WITH_FILE: &str =
    "--wait is for interfaces, with -i; a file is read when it is there: leave it out";

/// In test builds this environment variable means --no-sandbox, unless a user is named, so that all
/// tests can be run without a sandbox.
const TEST_OFF: &str = "HTTPLINES_TEST_NO_SANDBOX";

/// The options for the start of a run.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Wait for interfaces that are not there yet, or down
    ///
    /// Without this option that is an error.
    #[arg(long, help_heading = "Input", hide_short_help = true)]
    wait: bool,

    /// Run as USER, or USER:GROUP, once the input is open
    ///
    /// Without this option a run that was started as root becomes the owner of the directory of
    /// the -o file; if that is root, it becomes nobody, where nobody may write the output; else it
    /// stays root without capabilities. New files belong to that user. USER and GROUP are names or
    /// numbers.
    #[arg(short = 'Z', long, value_name = "USER", help_heading = "Sandbox")]
    #[arg(hide_short_help = true)]
    user: Option<String>,

    /// Keep all rights, to compare
    ///
    /// Otherwise the run gives up what it no longer needs, before it reads the first packet: its
    /// user, if that is root, all capabilities, all files but those in the directory of the output,
    /// and most system calls.
    #[arg(long, help_heading = "Sandbox", hide_short_help = true)]
    no_sandbox: bool,
}

impl SandboxArgs {
    /// Whether the options contradict each other.
    pub fn is_contradiction(&self) -> bool {
        self.no_sandbox && self.user.is_some()
    }

    /// Whether the start waits for interfaces.
    pub fn is_waiting(&self) -> bool {
        self.wait
    }

    /// The requested configuration.
    pub fn config(&self) -> Sandbox {
        configured(self.no_sandbox, self.user.as_deref())
    }
}

/// The configuration of --no-sandbox and -Z.
pub fn configured(is_off: bool, user: Option<&str>) -> Sandbox {
    let is_test_off = cfg!(debug_assertions) && std::env::var_os(TEST_OFF).is_some();
    match is_off || is_test_off && user.is_none() {
        true => Sandbox::Off,
        false => Sandbox::On { user: user.map(str::to_string) },
    }
}
