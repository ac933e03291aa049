//! Arguments → Config → Engine::run → exit code.

mod cli;

use anyhow::Context;
use cli::stderr::{self, say};
use httplines::capture::pcap::install_sigbus_handler;
use httplines::engine::{Command, Engine, EngineError, Handle, Notice, SandboxError};
use httplines::output::WriterError;
use httplines::sys::interface::Interfaces;
use httplines::sys::{signals, threads};
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A file that is read within this time gets no progress bar.
const BAR_AFTER: Duration = Duration::from_secs(1);

/// After it was told to stop, a message waits this long for somebody who reads standard error.
const MESSAGE_WAIT: Duration = Duration::from_secs(5);

/// Signals to stop within this time are one: `timeout -s INT` sends it to the program and to its
/// process group.
const SAME_STOP: Duration = Duration::from_secs(1);

const EXIT_RUNTIME: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_PERMISSION: u8 = 3;

fn main() -> ExitCode {
    let args = match cli::Args::from_command_line() {
        Ok(args) => args,
        Err(refusal) => {
            say(format_args!("httplines: {}\n", refusal.sentence));
            return ExitCode::from(refusal.exit_code);
        }
    };
    // What the engine would warn of, doctor tells in its rows.
    if args.command.is_none() {
        stderr::start(args.quiet);
    }
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            // The message of an EngineError already includes its causes.
            match error.downcast_ref::<EngineError>() {
                Some(error) => say(format_args!("httplines: {}\n", args.locate(error))),
                None => say(format_args!("httplines: {error:#}\n")),
            }
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run(args: &cli::Args) -> anyhow::Result<ExitCode> {
    if let Some(command) = &args.command {
        return command.run();
    }
    if let Some(note) = args.config.file.note() {
        tracing::info!("{note}");
    }
    if args.list {
        return list_interfaces();
    }
    signals::ignore_file_size_signal();
    // If it cannot be installed, files are read instead of mapped.
    let _ = install_sigbus_handler();
    // No signal yet: until the input is open, each has its own effect. A run that reads files can
    // make no pipe for them once it is open.
    let signals = Signals::new([0; 0]).context("cannot listen for signals")?;
    let mut config = args.config();
    config.watch.service = cli::service::manager();
    let engine = Engine::open(config)?;
    forward_signals(signals, engine.handle(), args.is_to_file())?;
    if let Some(duration) = args.duration {
        stop_after(duration, engine.handle())?;
    }
    let mut bar = None;
    // A progress bar among lines on the same terminal would garble both.
    let is_apart = args.is_to_file() || !std::io::stdout().is_terminal();
    let is_watched = !args.quiet && is_apart && std::io::stderr().is_terminal();
    let begun = Instant::now();
    stderr::set_running(true);
    let ending = engine.run(&mut |notice| match notice {
        Notice::Capturing { interfaces, shard_count } => {
            let (names, plural) = (interfaces.join(", "), if shard_count == 1 { "" } else { "s" });
            say(format_args!("httplines: capturing on {names} with {shard_count} shard{plural}\n"));
        }
        Notice::Progress(progress) if is_watched && begun.elapsed() > BAR_AFTER => {
            if let Some(size_bytes) = progress.size_bytes() {
                bar.get_or_insert_with(|| progress_bar(size_bytes))
                    .set_position(progress.read_bytes());
            }
        }
        Notice::Progress(_) => {}
        Notice::Report(totals) => say(format_args!("{totals}")),
        // They are for a screen.
        Notice::Record(_) => {}
        Notice::Rates(rates) => stderr::say_or_drop(format_args!("httplines: {rates}\n")),
    });
    stderr::tell_dropped();
    stderr::set_running(false);
    let ending = ending?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let fail_on_drop = args.is_failing_on_drop().then(|| args.is_live());
    Ok(cli::ending::tell(&ending, args.quiet, fail_on_drop))
}

fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<EngineError>() {
        Some(EngineError::Live(error)) if error.is_permission() => EXIT_PERMISSION,
        Some(EngineError::File(error)) if error.is_permission() => EXIT_PERMISSION,
        Some(EngineError::Output(error)) if error.is_permission() => EXIT_PERMISSION,
        Some(EngineError::OutputOfUser { .. }) => EXIT_PERMISSION,
        Some(EngineError::Listen { source, .. })
            if source.kind() == ErrorKind::PermissionDenied =>
        {
            EXIT_PERMISSION
        }
        Some(EngineError::Config(_) | EngineError::SameFile) => EXIT_USAGE,
        Some(EngineError::Sandbox(SandboxError::User(_) | SandboxError::NotRoot(_))) => EXIT_USAGE,
        Some(EngineError::Output(WriterError::NotRotated { .. })) => EXIT_USAGE,
        None if error.chain().any(is_permission) => EXIT_PERMISSION,
        _ => EXIT_RUNTIME,
    }
}

fn is_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

fn list_interfaces() -> anyhow::Result<ExitCode> {
    let listed = Interfaces::open().and_then(|mut interfaces| interfaces.list());
    let present = listed.context("cannot list the interfaces")?;
    let mut lines = String::new();
    for interface in present {
        let state = match (interface.is_up, interface.has_carrier) {
            (false, _) => "down",
            (true, false) => "up, no carrier",
            (true, true) => "up",
        };
        let kind = if interface.is_loopback { ", loopback" } else { "" };
        lines += &format!("{}.{} [{state}{kind}]\n", interface.ifindex, interface.name);
    }
    lines += "any (all interfaces)\n";
    if std::io::stdout().is_terminal() {
        lines = stderr::visible(lines);
    }
    match std::io::stdout().write_all(lines.as_bytes()) {
        // A reader that closed the pipe has seen enough; that is no error.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            anyhow::bail!("cannot write standard output: {}", error.kind())
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Turns signals into commands. SIGHUP reopens the output `is_to_file`. Otherwise it comes because
/// the terminal was closed and ends the run, unless this process was started to ignore it (nohup).
fn forward_signals(mut signals: Signals, handle: Handle, is_to_file: bool) -> anyhow::Result<()> {
    let mut wanted = vec![SIGINT, SIGTERM, SIGUSR1];
    if is_to_file || !signals::is_hangup_ignored() {
        wanted.push(SIGHUP);
    }
    let added = wanted.into_iter().try_for_each(|signal| signals.add_signal(signal));
    added.context("cannot listen for signals")?;
    let thread = threads::start("signals", move |ready| {
        drop(ready);
        let mut stopped: Option<Instant> = None;
        for signal in signals.forever() {
            match (signal, stopped) {
                (SIGUSR1, _) => handle.send(Command::Report),
                (SIGHUP, _) if is_to_file => handle.send(Command::Reopen),
                (_, None) => {
                    stopped = Some(Instant::now());
                    stop(&handle);
                }
                // A closed terminal may be told by the kernel and by the shell.
                (SIGHUP, Some(_)) => {}
                (_, Some(stopped)) if stopped.elapsed() < SAME_STOP => {}
                (_, Some(_)) => {
                    stderr::wait_at_most(Duration::ZERO);
                    say(format_args!("httplines: asked twice to stop; unwritten lines are lost\n"));
                    std::process::exit(EXIT_RUNTIME.into());
                }
            }
        }
    });
    thread.map_err(EngineError::Thread)?;
    Ok(())
}

/// Stops the run after `duration`.
fn stop_after(duration: Duration, handle: Handle) -> anyhow::Result<()> {
    let thread = threads::start("duration", move |ready| {
        drop(ready);
        std::thread::sleep(duration);
        stop(&handle);
    });
    thread.map_err(EngineError::Thread)?;
    Ok(())
}

fn stop(handle: &Handle) {
    stderr::wait_at_most(MESSAGE_WAIT);
    handle.send(Command::Stop);
}

fn progress_bar(size_bytes: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}");
    let bar = ProgressBar::new(size_bytes);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
