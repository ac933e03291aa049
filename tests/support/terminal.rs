//! A real terminal: tmux, with a server of its own for each test.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::lab::missing_program;

/// Far longer than any step takes; only a failure waits this long.
const WAIT: Duration = Duration::from_secs(30);
/// The interval of polling the screen.
const PAUSE: Duration = Duration::from_millis(30);

/// Why there can be no terminal here, if there cannot: for `skip!`.
pub fn missing() -> Option<String> {
    ["tmux", "bash", "stty"].iter().find_map(|program| missing_program(program))
}

/// Prints the modes of the terminal that matter, as the program before has left them.
const MODES: &str = "stty -a | grep -oE -e '-?\\b(echo|icanon|isig|opost)\\b' | tr '\\n' ' '";

/// A terminal in which a shell runs. It is closed when it is dropped.
#[derive(Debug)]
pub struct Terminal {
    place: tempfile::TempDir,
    /// Command lines that were run.
    run_count: Cell<u32>,
}

impl Terminal {
    /// A terminal of so many columns and rows, with these variables in the environment of its
    /// shell.
    pub fn new(columns: u16, rows: u16, environment: &[(&str, &str)]) -> Terminal {
        let place = tempfile::tempdir().expect("a directory");
        let terminal = Terminal { place, run_count: Cell::new(0) };
        let mut start = terminal.command();
        start.args(["-f", "/dev/null", "new-session", "-d", "-s", "test"]);
        start.args(["-x", &columns.to_string(), "-y", &rows.to_string()]);
        start.arg("bash --norc --noprofile");
        for name in ["NO_COLOR", "LC_ALL", "LC_CTYPE", "LANG", "TMUX", "PROMPT_COMMAND"] {
            start.env_remove(name);
        }
        start.env("LC_ALL", "C.UTF-8").envs(environment.iter().copied());
        let done = start.output().expect("tmux starts");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        // The shell of root takes no prompt from the environment.
        terminal.text("PS1='ready> '; clear");
        terminal.press(&["Enter"]);
        terminal.wait_until("a prompt", |screen| screen.starts_with("ready>"));
        terminal
    }

    fn socket(&self) -> PathBuf {
        self.place.path().join("socket")
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        // What is drawn is UTF-8, whatever the locale of the test is.
        command.arg("-u").arg("-S").arg(self.socket()).stdin(Stdio::null());
        command
    }

    fn tmux(&self, arguments: &[&str]) -> Output {
        let output = self.command().args(arguments).output().expect("tmux runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {arguments:?}: {told}");
        output
    }

    /// Types text.
    pub fn text(&self, text: &str) {
        self.tmux(&["send-keys", "-t", "test", "-l", "--", text]);
    }

    /// Presses keys, by their names: `Enter`, `C-c`, `Down`.
    pub fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys", "-t", "test"], keys].concat());
    }

    /// Runs a command line in the shell.
    pub fn run(&self, line: &str) {
        self.tmux(&["clear-history", "-t", "test"]);
        let number = self.run_count.get() + 1;
        self.run_count.set(number);
        self.text(&format!("clear; {line}; code=$?; {MODES}; echo end {number}: $code"));
        self.press(&["Enter"]);
    }

    /// Changes the size.
    pub fn resize(&self, columns: u16, rows: u16) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.tmux(&["resize-window", "-t", "test", "-x", &columns, "-y", &rows]);
    }

    /// What is shown.
    pub fn screen(&self) -> String {
        let shown = self.tmux(&["capture-pane", "-t", "test", "-p"]);
        String::from_utf8_lossy(&shown.stdout).into_owned()
    }

    /// What is shown, with the sequences for colours and modes.
    pub fn styled(&self) -> String {
        let shown = self.tmux(&["capture-pane", "-t", "test", "-p", "-e"]);
        String::from_utf8_lossy(&shown.stdout).into_owned()
    }

    /// All that was printed outside of the other screen.
    pub fn printed(&self) -> String {
        let shown = self.tmux(&["capture-pane", "-t", "test", "-p", "-J", "-S", "-"]);
        String::from_utf8_lossy(&shown.stdout).into_owned()
    }

    /// Waits until the screen is as it should be, and returns it.
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            assert!(start.elapsed() < WAIT, "it never showed {what:?}, but:\n{screen}");
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until the screen shows `what`, and returns it.
    pub fn wait_for(&self, what: &str) -> String {
        self.wait_until(what, |screen| screen.contains(what))
    }

    /// Waits until the program that was run has ended, and returns its exit code and all that was
    /// printed.
    pub fn ending(&self) -> (i32, String) {
        let end = format!("end {}: ", self.run_count.get());
        // The command line, too, has these words in it, but no number.
        let code_of = |text: &str| {
            let rest = text.rsplit(&end).next().filter(|_| text.contains(&end))?;
            rest.split_whitespace().next()?.parse::<i32>().ok()
        };
        self.wait_until("the end of the program", |screen| code_of(screen).is_some());
        let printed = self.printed();
        (code_of(&printed).expect("it was there"), printed)
    }

    /// Waits until the program that was run has ended with this code, and returns all that it
    /// printed. Asserts that the terminal is as it was before.
    pub fn ended(&self, wanted: i32) -> String {
        let (code, printed) = self.ending();
        assert_eq!(code, wanted, "{printed}");
        let modes =
            ["isig", "icanon", "echo", "opost"].map(|mode| printed.contains(&format!("{mode} ")));
        assert_eq!(modes, [true; 4], "{printed}");
        assert!(!["-isig", "-icanon", "-echo", "-opost"].iter().any(|it| printed.contains(it)));
        self.assert_clean();
        printed
    }

    /// Asserts that the terminal shows its own screen, and a cursor.
    pub fn assert_clean(&self) {
        let state = self.tmux(&["display", "-t", "test", "-p", "#{alternate_on} #{cursor_flag}"]);
        let state = String::from_utf8_lossy(&state.stdout).into_owned();
        assert_eq!(state.trim(), "0 1", "the other screen is on, or there is no cursor");
    }

    /// The process that runs in the foreground.
    pub fn foreground(&self) -> u32 {
        let shell = self.tmux(&["display", "-t", "test", "-p", "#{pane_pid}"]);
        let shell = String::from_utf8_lossy(&shell.stdout).trim().to_string();
        let stat = std::fs::read_to_string(format!("/proc/{shell}/stat")).expect("it runs");
        let rest = stat.rsplit(") ").next().expect("a state");
        // proc(5): the group in the foreground of the terminal is the eighth field.
        rest.split(' ').nth(5).and_then(|group| group.parse().ok()).expect("a group")
    }

    /// Closes the terminal, as if its line was cut.
    pub fn hang_up(&self) {
        self.tmux(&["kill-server"]);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // There is none any more if it was hung up.
        let _ = self.command().arg("kill-server").output();
    }
}
