//! A service manager that is a real socket, and a clock that the tests move.

use super::*;

const WATCHDOG: Duration = Duration::from_secs(30);

/// A socket that receives, and the manager that sends to it, whose run began at the time that is
/// returned.
fn connected(shard_count: usize) -> (UnixDatagram, Manager, Instant) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("notify");
    let receiver = UnixDatagram::bind(&path).unwrap();
    receiver.set_nonblocking(true).unwrap();
    let watchdog_us = Some(WATCHDOG.as_micros() as u64);
    let service = ServiceManager { address: path.into(), watchdog_us };
    let begun = Instant::now();
    let mut manager = Manager::connect(&service, begun).unwrap();
    manager.begin(begun, shard_count);
    (receiver, manager, begun)
}

/// The messages that wait.
fn received(receiver: &UnixDatagram) -> Vec<String> {
    let mut messages = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(length) = receiver.recv(&mut bytes) {
        messages.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
    }
    messages
}

/// Looks each second from `begun` on. `stalled` are the shards that do not poll at a second.
/// Returns at which seconds what was sent.
fn watch(
    (receiver, manager, begun): &mut (UnixDatagram, Manager, Instant),
    seconds: std::ops::RangeInclusive<u64>,
    stalled: impl Fn(u64) -> &'static [usize],
) -> Vec<(u64, String)> {
    let mut sent = Vec::new();
    for second in seconds {
        manager.look(*begun + Duration::from_secs(second), stalled(second), true);
        sent.extend(received(receiver).into_iter().map(|message| (second, message)));
    }
    sent
}

fn signs(seconds: &[u64]) -> Vec<(u64, String)> {
    seconds.iter().map(|second| (*second, "WATCHDOG=1".to_string())).collect()
}

#[test]
fn signs_of_life_come_at_half_of_the_time() {
    let mut run = connected(2);
    assert_eq!(run.1.wait(run.2), STATUS_INTERVAL);
    assert_eq!(watch(&mut run, 1..=50, |_| &[]), signs(&[15, 30, 45]));
    let (_, manager, begun) = run;
    assert_eq!(manager.wait(begun + Duration::from_secs(59)), Duration::ZERO, "a status is due");
}

/// One shard hangs, for two minutes.
#[test]
fn there_is_no_sign_of_life_while_a_shard_does_not_poll() {
    let mut run = connected(3);
    let stalled =
        |second: u64| -> &'static [usize] { if (25..140).contains(&second) { &[1] } else { &[] } };
    let told = "STATUS=shard 1 did not poll for 5 s".to_string();
    let expected = [signs(&[15]), vec![(25, told)], signs(&[140, 155])].concat();
    assert_eq!(watch(&mut run, 1..=160, stalled), expected);
}

/// A status of rates would say that all is well.
#[test]
fn the_status_tells_of_a_shard_that_does_not_poll() {
    let mut run = connected(2);
    assert_eq!(watch(&mut run, 1..=5, |second| if second < 5 { &[] } else { &[1] }).len(), 1);
    run.1.status(&Rates::default());
    assert_eq!(received(&run.0), Vec::<String>::new());
    watch(&mut run, 6..=6, |_| &[]);
    run.1.status(&Rates::default());
    assert_eq!(received(&run.0), ["STATUS=0 req/s, 0 frames dropped, 0 lines lost"]);
}

#[test]
fn a_service_manager_without_a_watchdog_is_told_of_it_too() {
    let mut run = connected(2);
    run.1.watchdog = None;
    let sent = watch(&mut run, 1..=20, |second| if second < 5 { &[] } else { &[0, 1] });
    assert_eq!(sent, [(5, "STATUS=shards 0, 1 did not poll for 5 s".to_string())]);
}

/// Shards that read files wait for files and readers.
#[test]
fn a_run_that_reads_files_is_alive() {
    let mut run = connected(0);
    assert_eq!(watch(&mut run, 1..=50, |_| &[]), signs(&[15, 30, 45]));
    let (_, manager, begun) = run;
    let wait = manager.wait(begun + Duration::from_secs(50));
    assert_eq!(wait, Duration::from_secs(10), "no status");
}

/// A stopped process, or a paused machine, for an hour.
#[test]
fn a_run_that_was_stopped_goes_on() {
    let mut run = connected(1);
    assert_eq!(watch(&mut run, 1..=2, |_| &[]), []);
    assert_eq!(watch(&mut run, 3600..=3616, |_| &[]), signs(&[3600, 3615]));
}

#[test]
fn a_reload_is_over_when_all_outputs_are_reopened() {
    let (receiver, manager, begun) = connected(1);
    let mut notifier = Notifier(Some(manager));
    let before = thread_clock::monotonic();
    notifier.reloading();
    notifier.look(begun, &[], false);
    let messages = received(&receiver);
    let [message] = messages.as_slice() else { panic!("{messages:?}") };
    let time_us = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    let time = Duration::from_micros(time_us.parse().unwrap());
    // It is cut to microseconds.
    let since = (time + Duration::from_micros(1)).checked_sub(before);
    assert!(since.is_some_and(|since| since < Duration::from_secs(60)), "{time_us}");
    assert_eq!(notifier.wait(begun), RETRY_INTERVAL);
    notifier.look(begun, &[], true);
    notifier.look(begun, &[], true);
    assert_eq!(received(&receiver), ["READY=1"]);
    notifier.stopping();
    notifier.stopping();
    assert_eq!(received(&receiver), ["STOPPING=1\nSTATUS=writing what was captured"]);
}

/// Nothing waits for a service manager that does not read; what matters comes in order once it
/// does.
#[test]
fn messages_that_matter_are_sent_later() {
    let mut run = connected(0);
    let mut sent_count = 0;
    while run.1.is_sent("STATUS=more") {
        sent_count += 1;
    }
    run.1.tell("READY=1".into());
    run.1.tell("RELOADING=1".into());
    assert!(!run.1.try_send("WATCHDOG=1"), "it would overtake them");
    assert_eq!(run.1.wait(run.2), RETRY_INTERVAL);
    assert_eq!(received(&run.0).len(), sent_count);
    assert_eq!(watch(&mut run, 0..=0, |_| &[]).len(), 2);
    assert_eq!(run.1.wait(run.2), WATCHDOG / 2);
    // It does not read any more.
    (0..1000).for_each(|_| run.1.tell("READY=1".into()));
    assert!(run.1.unsent.len() <= UNSENT_COUNT_MAX);
    drop(run.0);
    run.1.send_unsent();
    assert!(run.1.unsent.is_empty() && run.1.has_failed, "nobody is there");
}

#[test]
fn a_sign_of_life_that_could_not_be_sent_is_sent_soon() {
    let (receiver, mut manager, begun) = connected(0);
    while manager.is_sent("STATUS=more") {}
    let due = begun + WATCHDOG / 2;
    manager.look(due, &[], true);
    assert_eq!(manager.wait(due), RETRY_INTERVAL);
    received(&receiver);
    manager.look(due + RETRY_INTERVAL, &[], true);
    assert_eq!(received(&receiver), ["WATCHDOG=1"]);
    assert_eq!(manager.wait(due + RETRY_INTERVAL), WATCHDOG / 2);
}

#[test]
fn addresses_are_paths_and_abstract_names() {
    let address = |text: &str| address_of(OsStr::new(text));
    assert_eq!(address("/run/notify").unwrap().as_pathname().unwrap().as_os_str(), "/run/notify");
    assert_eq!(address("@a/b").unwrap().as_abstract_name().unwrap(), b"a/b");
    let long = format!("/{}", "x".repeat(200));
    for text in ["", "@", "run/notify", "vsock:2:1234", "/a\0b", &long] {
        assert!(address(text).is_err(), "{text:?}");
    }
}
