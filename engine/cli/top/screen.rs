//! The screen: a thread that draws and one that reads keys, and the terminal as it was before,
//! however the run ends.

use super::input::{Choices, Wish};
use super::model::{Model, Sample};
use super::theme::Theme;
use super::view::{self, Look};
use crate::cli::stderr;
use crossterm::cursor::{Hide, Show};
use crossterm::event::{self, Event, KeyEvent};
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use httplines::sys::threads;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use std::io::{self, BufWriter, IsTerminal, Stdout};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The clock goes on, if nothing else happens.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// How long the terminal may take to show the end. Over a line that is broken it would take for
/// ever.
const END_WAIT: Duration = Duration::from_secs(2);

/// What is drawn to takes this much at once, so that a picture is one write.
const WRITE_BYTES: usize = 64 << 10;

/// The terminal shows the screen: its mode and its screen are to be restored.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// It could not be drawn to its end.
static HAS_FAILED: AtomicBool = AtomicBool::new(false);

/// What the drawing thread hears.
enum Heard {
    /// Something to show, in the mailbox.
    Sample,
    /// The source has opened: now the screen begins.
    Begin,
    Key(KeyEvent),
    Size(u16, u16),
    /// The run is over, and so is the screen.
    End,
}

/// Samples that were not taken yet, as one: whoever counts waits for nobody who draws.
type Mailbox = Arc<Mutex<Option<Sample>>>;

/// Called once when the user wants to quit, or nobody looks any more.
pub type OnQuit = Box<dyn Fn() + Send>;

/// The screen, from the outside.
#[derive(Debug)]
pub struct Screen {
    mailbox: Mailbox,
    heard: Sender<Heard>,
    /// Closed when the drawing thread has ended.
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// What the process must open before it is sealed: the terminal is one, and keys can be read.
///
/// # Errors
/// A sentence for the user.
pub fn prepare() -> Result<(), String> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err("top needs a terminal: standard input and output must be one; httplines -o - \
                    writes lines to a pipe"
            .to_string());
    }
    if std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
        return Err("this terminal cannot show a screen (TERM is dumb, or not set)".to_string());
    }
    // Opens what it waits with.
    event::poll(Duration::ZERO).map_err(|error| format!("cannot read keys: {error}"))?;
    Ok(())
}

/// In test builds this environment variable names a thread that is to panic: `screen`, once it has
/// something to show, or `main`, once it has something to hand over.
const TEST_PANIC: &str = "HTTPLINES_TEST_PANIC";

/// Whether this thread is to panic now, in a test.
fn is_panic_asked_for(thread: &str) -> bool {
    cfg!(debug_assertions) && std::env::var_os(TEST_PANIC).is_some_and(|asked| asked == thread)
}

/// From now on a panic leaves its message for the time after the screen.
pub fn keep_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if IS_ON.load(Ordering::Relaxed) {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("a thread");
            let text = stderr::visible(format!("httplines: {name}: {info}\n"));
            stderr::hold_back(&text);
        } else {
            before(info);
        }
    }));
}

/// The exit code, if the screen could not be drawn to its end.
pub fn exit_code() -> Option<ExitCode> {
    HAS_FAILED.load(Ordering::SeqCst).then(|| ExitCode::from(1))
}

/// Gives the terminal back as it was, if the screen is on it.
fn restore() {
    if IS_ON.swap(false, Ordering::SeqCst) {
        // Whatever fails, the rest is tried.
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

impl Screen {
    /// Starts the threads; nothing is shown before [`Screen::begin`].
    ///
    /// # Errors
    /// The system refuses threads.
    pub fn start(model: Model, theme: Theme, on_quit: OnQuit) -> io::Result<Screen> {
        let (heard, hears) = channel();
        let (alive, ended) = sync_channel(0);
        let mailbox = Mailbox::default();
        let keys = heard.clone();
        threads::start("keys", move |ready| {
            drop(ready);
            read_keys(&keys);
        })?;
        let samples = mailbox.clone();
        let thread = threads::start("screen", move |ready| {
            drop(ready);
            draw_until_end(model, theme, &hears, &samples, &on_quit, alive);
        })?;
        Ok(Screen { mailbox, heard, ended, thread: Some(thread) })
    }

    fn tell(&self, heard: Heard) {
        // Nobody hears it once the screen has ended.
        let _ = self.heard.send(heard);
    }

    /// Shows it.
    pub fn begin(&self) {
        stderr::hold();
        self.tell(Heard::Begin);
    }

    /// Hands over a sample.
    pub fn show(&self, sample: Sample) {
        assert!(!is_panic_asked_for("main"), "a test asked for it");
        let mut waiting = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = waiting.is_none();
        match &mut *waiting {
            Some(waiting) => waiting.merge(sample),
            None => *waiting = Some(sample),
        }
        drop(waiting);
        if is_first {
            self.tell(Heard::Sample);
        }
    }

    /// What ends it from another thread.
    pub fn ender(&self) -> impl Fn() + Send + Clone + 'static {
        let heard = self.heard.clone();
        move || {
            let _ = heard.send(Heard::End);
        }
    }

    /// Waits until the user quits.
    pub fn wait(&self) {
        let _ = self.ended.recv();
    }

    /// Ends it, and gives the terminal back.
    pub fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.tell(Heard::End);
            if self.ended.recv_timeout(END_WAIT) != Err(RecvTimeoutError::Disconnected) {
                // The terminal takes nothing more, as over a network that hangs: whatever is still
                // to be said would wait for it, too.
                let _ = disable_raw_mode();
                std::process::exit(1);
            }
            // It has handled its panics itself.
            let _ = thread.join();
        }
        restore();
        stderr::release();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.end();
    }
}

fn read_keys(heard: &Sender<Heard>) {
    loop {
        let told = match event::read() {
            Ok(Event::Key(key)) => heard.send(Heard::Key(key)),
            Ok(Event::Resize(columns, rows)) => heard.send(Heard::Size(columns, rows)),
            Ok(_) => Ok(()),
            Err(_) => heard.send(Heard::End),
        };
        if told.is_err() {
            return;
        }
    }
}

fn draw_until_end(
    model: Model,
    theme: Theme,
    hears: &Receiver<Heard>,
    samples: &Mailbox,
    on_quit: &OnQuit,
    alive: SyncSender<()>,
) {
    let drawn = AssertUnwindSafe(|| {
        // The source may fail to open: then there is no screen.
        while let Ok(heard) = hears.recv() {
            match heard {
                Heard::Begin => return Drawing::begin(model, theme)?.run(hears, samples),
                Heard::End => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    });
    let failure = match catch_unwind(drawn) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("cannot draw on the terminal: {error}")),
        Err(_) => Some("the screen failed, which is a bug in httplines".to_string()),
    };
    restore();
    if let Some(sentence) = failure {
        HAS_FAILED.store(true, Ordering::SeqCst);
        // It is held back, and printed where standard error may still be read.
        stderr::say(format_args!("httplines: {sentence}\n"));
    }
    on_quit();
    drop(alive);
}

/// What draws.
struct Drawing {
    /// It is not dropped: it would show the cursor again, which is done elsewhere, and panic if the
    /// terminal is gone.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<BufWriter<Stdout>>>>,
    model: Model,
    choices: Choices,
    theme: Theme,
}

impl Drawing {
    fn begin(model: Model, theme: Theme) -> io::Result<Drawing> {
        let (columns, rows) = size()?;
        enter()?;
        let backend = CrosstermBackend::new(BufWriter::with_capacity(WRITE_BYTES, io::stdout()));
        let viewport = Viewport::Fixed(Rect::new(0, 0, columns, rows));
        let terminal = Terminal::with_options(backend, TerminalOptions { viewport })?;
        let terminal = ManuallyDrop::new(terminal);
        let mut drawing = Drawing { terminal, model, choices: Choices::default(), theme };
        drawing.draw()?;
        Ok(drawing)
    }

    fn run(mut self, hears: &Receiver<Heard>, samples: &Mailbox) -> io::Result<()> {
        loop {
            let mut next = match hears.recv_timeout(CLOCK_INTERVAL) {
                Ok(heard) => Some(heard),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            // All that is there is heard before it is drawn once.
            while let Some(heard) = next {
                match heard {
                    Heard::Key(key) => match self.choices.key(key) {
                        Wish::Quit => return Ok(()),
                        Wish::Suspend => self.suspend()?,
                        Wish::Clear => self.terminal.clear()?,
                        Wish::Redraw | Wish::Nothing => {}
                    },
                    Heard::Size(columns, rows) => {
                        self.terminal.resize(Rect::new(0, 0, columns, rows))?;
                    }
                    Heard::End => return Ok(()),
                    Heard::Sample | Heard::Begin => {}
                }
                next = hears.try_recv().ok();
            }
            // While it is paused, samples add up in the mailbox.
            if !self.choices.is_paused {
                let sample = samples.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(sample) = sample {
                    assert!(!is_panic_asked_for("screen"), "a test asked for it");
                    self.model.apply(sample);
                }
            }
            self.draw()?;
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        let message = stderr::last_held().or_else(|| self.model.problem.clone());
        let look = Look { theme: self.theme, clock: clock(), message };
        let (model, choices) = (&self.model, &mut self.choices);
        self.terminal.draw(|frame| view::draw(frame, model, choices, &look))?;
        Ok(())
    }

    /// Stops the process, as Ctrl-Z does, and goes on when it is continued.
    fn suspend(&mut self) -> io::Result<()> {
        restore();
        let _ = signal_hook::low_level::raise(signal_hook::consts::SIGTSTP);
        let (columns, rows) = size()?;
        enter()?;
        self.terminal.resize(Rect::new(0, 0, columns, rows))
    }
}

/// Takes the terminal.
fn enter() -> io::Result<()> {
    IS_ON.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Hide)
}

/// The time of day.
fn clock() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}Z", seconds % 60)
}
