//! The texts of help that belong to no option.

/// The lines behind "Usage:".
pub const USAGE: &str = "\
httplines -i eth0                 first lines of messages, live
       httplines -i eth0 -o http.jsonl   a JSON line for every exchange
       httplines -r trace.pcap [-o -]    the same from capture files
       httplines top -i eth0 | httplines report http.jsonl      to look at it
       httplines doctor -i eth0 | httplines check-config FILE   before a run";

/// The end of `--help`.
pub const AFTER_HELP: &str = "\
Signals: INT and TERM stop cleanly, USR1 prints totals, HUP reopens the -o file.
Exit codes: 0, 1 failed while running, 2 wrong usage, 3 no permission.";

/// The end of `--help-all`, and of the manual page.
pub const AFTER_LONG_HELP: &str = "\
Commands:
  top           show traffic and losses on the terminal, live (httplines top --help)
  report        summarize files of lines, or captures (httplines report --help)
  doctor        say what this machine allows, and what to change (httplines doctor --help)
  check-config  check a file for --config, print all settings (httplines check-config --help)

Signals:
  INT, TERM  stop cleanly: write what was captured, then print the totals; a reader that takes
             nothing is given up after 5 s; again, a second or more later: end now
  USR1       print the totals so far and continue
  HUP        with -o FILE: reopen the file, after it was renamed; without: stop, as the terminal
             was closed, unless the run was started with nohup

Environment:
  NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID
             set by a service manager, which is then notified: sd_notify(3)
  NO_COLOR   if it is set, top shows no colours
  LC_ALL, LC_CTYPE, LANG
             the first of them that is set says whether top may draw with UTF-8

Exit codes:
  0  success
  1  failed while running: an input is cut off or gone, the output is full, lines were
     still being lost at the end, or anything was lost with --fail-on-drop; doctor: something is
     wrong; report: a file cannot be read, or has other lines only
  2  wrong usage; check-config: a run would not start
  3  no permission: a capability is missing, or a sandbox forbids capturing";
