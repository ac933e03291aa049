//! Starting a thread, and waiting until it has come as far as it must.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

/// A started thread drops this once it is ready: it has its name and its CPU, and has made the
/// system calls of its start.
#[derive(Debug)]
pub struct Ready {
    _said: SyncSender<()>,
}

/// Starts a thread called `name`, and returns when it is ready, or has ended.
///
/// # Errors
/// The system refuses another thread.
pub fn start<T: Send + 'static>(
    name: impl Into<String>,
    body: impl FnOnce(Ready) -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let (said, is_ready) = sync_channel(0);
    let thread = Builder::new().name(name.into()).spawn(move || body(Ready { _said: said }))?;
    // Nothing is sent. The receiver learns that the sender is gone.
    let _ = is_ready.recv();
    Ok(thread)
}

#[test]
fn a_thread_is_ready_when_it_says_so_and_at_its_end() {
    let (go, told) = std::sync::mpsc::channel::<()>();
    let waits = start("waits", move |ready| {
        drop(ready);
        told.recv()
    });
    let waits = waits.expect("a thread");
    assert_eq!(waits.thread().name(), Some("waits"));
    go.send(()).expect("it listens");
    assert_eq!(waits.join().expect("no panic"), Ok(()));
    let ended = start("ends", |_ready| 7).expect("a thread");
    assert_eq!(ended.join().expect("no panic"), 7);
}
