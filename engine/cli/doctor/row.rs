//! Rows: a check, its verdict, what was found, and what to type.

use std::fmt::{Display, Write as _};

/// Columns of a verdict and of a name, with the blanks around them.
const VERDICT_COLUMNS: usize = 8;
const NAME_COLUMNS: usize = 16;
const INDENT_COLUMNS: usize = VERDICT_COLUMNS + NAME_COLUMNS;
/// A finding is not wrapped to less than this.
const FINDING_COLUMNS_MIN: usize = 30;

/// Declares [`Check`], with each check's group and name.
macro_rules! checks {
    ($($variant:ident = $group:literal $name:literal,)*) => {
        /// A check. docs/troubleshooting.md has a section for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Check { $($variant,)* }

        impl Check {
            /// All of them, in the order in which they are printed.
            #[cfg(test)]
            pub const ALL: &[Check] = &[$(Check::$variant,)*];

            /// The group that it is printed in.
            pub fn group(self) -> &'static str {
                match self { $(Check::$variant => $group,)* }
            }

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Check::$variant => $name,)* }
            }
        }
    };
}

checks! {
    Config = "configuration" "config",
    Kernel = "kernel" "kernel",
    Jit = "kernel" "BPF JIT",
    Uring = "kernel" "io_uring",
    Landlock = "kernel" "Landlock",
    Seccomp = "kernel" "seccomp",
    NetRaw = "rights" "CAP_NET_RAW",
    Bpf = "rights" "CAP_BPF",
    Perfmon = "rights" "CAP_PERFMON",
    LockedMemory = "rights" "locked memory",
    Rings = "memory" "rings",
    Interfaces = "interface" "interfaces",
    Link = "interface" "link",
    FrameSize = "interface" "frame size",
    ReceiveRing = "interface" "receive ring",
    Losses = "interface" "NIC losses",
    Queues = "interface" "queues",
    Interrupts = "interface" "interrupts",
    Stacked = "interface" "stacked",
    Traffic = "traffic" "traffic",
    Directions = "traffic" "directions",
    Backlog = "traffic" "backlog",
    Output = "output" "output",
    User = "output" "user",
    Clock = "machine" "clock",
    Timestamps = "machine" "timestamps",
    OpenFiles = "machine" "open files",
    Container = "machine" "container",
}

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to do.
    Ok,
    /// Worth knowing, or it could not be seen. It works.
    Note,
    /// There will be no lines, or too few.
    Wrong,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Wrong => "wrong",
        }
    }

    /// The colour of a terminal, ECMA-48: green, yellow, and bold red.
    fn colour(self) -> &'static str {
        match self {
            Verdict::Ok => "\x1b[32m",
            Verdict::Note => "\x1b[33m",
            Verdict::Wrong => "\x1b[1;31m",
        }
    }
}

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The check.
    pub check: Check,
    /// Its verdict.
    pub verdict: Verdict,
    /// What was found.
    pub finding: String,
    /// What to type, or else to do: a line each.
    pub advice: Vec<String>,
}

impl Row {
    /// Nothing to do.
    pub fn ok(check: Check, finding: impl Into<String>) -> Row {
        Row { check, verdict: Verdict::Ok, finding: finding.into(), advice: Vec::new() }
    }

    /// Worth knowing.
    pub fn note(check: Check, finding: impl Into<String>) -> Row {
        Row { verdict: Verdict::Note, ..Row::ok(check, finding) }
    }

    /// Something to change.
    pub fn wrong(check: Check, finding: impl Into<String>) -> Row {
        Row { verdict: Verdict::Wrong, ..Row::ok(check, finding) }
    }

    /// With a line that says what to type.
    pub fn advise(mut self, advice: impl Into<String>) -> Row {
        self.advice.push(advice.into());
        self
    }
}

/// The rows as lines of at most `columns`, if their words allow that. Advice is not wrapped, so
/// that it can be copied; what stands above already is not repeated.
pub fn render(rows: &[Row], columns: usize, is_coloured: bool) -> String {
    let mut out = String::new();
    let (mut group, mut given) = ("", Vec::<&String>::new());
    let finding_columns = columns.saturating_sub(INDENT_COLUMNS).max(FINDING_COLUMNS_MIN);
    let indent = " ".repeat(INDENT_COLUMNS);
    for row in rows {
        if row.check.group() != group {
            group = row.check.group();
            let _ = writeln!(out, "{group}");
        }
        let (word, name) = (row.verdict.word(), row.check.name());
        let (colour, end) = if is_coloured { (row.verdict.colour(), "\x1b[0m") } else { ("", "") };
        let _ = write!(out, "  {colour}{word:<6}{end}{name:<NAME_COLUMNS$}");
        for (at, line) in wrapped(&row.finding, finding_columns).iter().enumerate() {
            let _ = writeln!(out, "{}{line}", if at > 0 { &indent } else { "" });
        }
        for advice in &row.advice {
            if !given.contains(&advice) {
                given.push(advice);
                let _ = writeln!(out, "{indent}{advice}");
            }
        }
    }
    let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    let [wrong, notes, ok] = [Verdict::Wrong, Verdict::Note, Verdict::Ok].map(count);
    let plural = if notes == 1 { "" } else { "s" };
    let _ = writeln!(out, "{wrong} wrong, {notes} note{plural}, {ok} ok");
    out
}

/// The words of `text` in lines of at most `columns`.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one");
        let is_full = line.chars().count() + 1 + word.chars().count() > columns;
        if !line.is_empty() && is_full {
            lines.push(word.to_string());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// A name or a path as a word of a command that can be pasted into a shell: in quotes if it has
/// characters that a shell takes for its own.
pub fn quoted(word: impl Display) -> String {
    let word = word.to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// How many of `whole` are `part`, in percent; a part that is not 0 is at least 1.
pub fn percent(part: u64, whole: u64) -> u64 {
    let share = u128::from(part) * 100 / u128::from(whole.max(1));
    u64::from(part > 0).max(share as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/troubleshooting.md");

    #[test]
    fn every_check_has_a_section_and_every_section_a_check() {
        let checks = PAGE.split_once("\n## The checks\n").expect("the page has them").1;
        let sections: Vec<&str> = checks.lines().filter_map(|it| it.strip_prefix("### ")).collect();
        let names: Vec<&str> = Check::ALL.iter().map(|check| check.name()).collect();
        assert_eq!(sections, names);
    }

    #[test]
    fn rows_are_aligned_grouped_and_wrapped() {
        let rows = [
            Row::ok(Check::Kernel, "Linux 6.18"),
            Row::note(Check::Uring, "not allowed").advise("sysctl -w kernel.io_uring_disabled=0"),
            Row::wrong(Check::NetRaw, "missing, and so there is nothing to see here")
                .advise("sudo setcap"),
            Row::wrong(Check::Bpf, "missing").advise("sudo setcap"),
        ];
        let wanted = "\
kernel
  ok    kernel          Linux 6.18
  note  io_uring        not allowed
                        sysctl -w kernel.io_uring_disabled=0
rights
  wrong CAP_NET_RAW     missing, and so there is
                        nothing to see here
                        sudo setcap
  wrong CAP_BPF         missing
2 wrong, 1 note, 1 ok
";
        assert_eq!(render(&rows, 54, false), wanted);
        let coloured = render(&rows, 54, true);
        assert!(coloured.contains("  \x1b[1;31mwrong \x1b[0mCAP_BPF         missing\n"));
        assert!(Check::ALL.iter().all(|check| check.name().len() < NAME_COLUMNS));
    }

    #[test]
    fn words_of_commands_are_quoted_if_a_shell_would_read_them() {
        for plain in ["eth0.5", "/var/log/httplines/http.jsonl", "veth1@if2", "a-b_c+d"] {
            assert_eq!(quoted(plain), plain);
        }
        let odd = ["", "a b", "x$(id);y", "it's", "~root", "*", "ä"].map(quoted);
        assert_eq!(odd, ["''", "'a b'", "'x$(id);y'", r"'it'\''s'", "'~root'", "'*'", "'ä'"]);
    }

    #[test]
    fn numbers_are_easy_to_read() {
        let of = [0, 999, 1000, 1_234_567].map(crate::cli::numbers::grouped);
        assert_eq!(of, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((percent(0, 0), percent(1, 1000), percent(1, 2)), (0, 1, 50));
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
    }
}
