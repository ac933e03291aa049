//! Readers of FIFOs and pipes that go and come back.

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use std::fs::File;
    use std::io::Read;

    use crate::support::fault_site::{FaultSite, numbers};

    /// Reads until `reader` has given `line_count` lines and `more_bytes` of the next one.
    fn read(reader: &mut File, line_count: usize, more_bytes: usize) -> Vec<u8> {
        let (mut bytes, mut byte, mut lines) = (Vec::new(), [0], 0);
        while lines < line_count {
            reader.read_exact(&mut byte).expect("there are more lines");
            lines += usize::from(byte == [b'\n']);
            bytes.extend_from_slice(&byte);
        }
        let start = bytes.len();
        bytes.resize(start + more_bytes, 0);
        reader.read_exact(&mut bytes[start..]).expect("there is more");
        bytes
    }

    /// Each reader goes in the middle of a line; what it left unread is the next one's.
    #[test]
    fn readers_of_a_fifo_that_go_and_come_back() {
        let mut site = site!(FaultSite::new());
        site.shell("mkfifo fifo").expect("a FIFO");
        let fifo = site.path().join("fifo");
        let mut running = site.capture("-o fifo");
        let mut bytes = Vec::new();
        for _ in 0..3 {
            let mut reader = File::open(&fifo).expect("a FIFO");
            site.exchanges(20);
            bytes.extend(read(&mut reader, 11, 5000));
            drop(reader);
            running.await_stderr("the reader of fifo has gone; waiting for the next one");
            site.exchanges(20);
        }
        let mut reader = File::open(&fifo).expect("a FIFO");
        let left = std::thread::spawn(move || {
            let mut left = Vec::new();
            reader.read_to_end(&mut left).map(|_| left)
        });
        let finished = running.stop();
        bytes.extend(left.join().expect("it reads").expect("lines"));
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        finished.told(" 0 lines lost");
        site.check(&finished, &bytes, "");
    }

    #[test]
    fn a_reader_that_stays_away_is_waited_for_while_lines_are_dropped() {
        let mut site = site!(FaultSite::new());
        site.shell("mkfifo fifo").expect("a FIFO");
        let fifo = site.path().join("fifo");
        let mut running = site.capture("-o fifo -B 262144");
        let mut reader = File::open(&fifo).expect("a FIFO");
        site.exchanges(20);
        let mut bytes = read(&mut reader, 20, 0);
        drop(reader);
        site.exchanges(4000);
        running.await_stderr("the reader of fifo has gone; waiting for the next one");
        running.await_stderr("fifo: its reader or disk is too slow; lines are being dropped");
        let mut reader = File::open(&fifo).expect("a FIFO");
        let left = std::thread::spawn(move || {
            let mut left = Vec::new();
            reader.read_to_end(&mut left).map(|_| left)
        });
        running.await_stderr("fifo: fast enough again; ");
        let first = site.sent_count();
        site.exchanges(5);
        let finished = running.stop();
        bytes.extend(left.join().expect("it reads").expect("lines"));
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let numbers = site.check(&finished, &bytes, "queue full");
        assert!((numbers.len() as u64) < first, "nothing was lost: {}", finished.stderr);
        assert!(numbers.ends_with(&(first..site.sent_count()).collect::<Vec<_>>()));
    }

    #[test]
    fn a_reader_that_has_gone_holds_no_run_that_is_interrupted() {
        let mut site = site!(FaultSite::new());
        site.shell("mkfifo fifo").expect("a FIFO");
        let mut running = site.capture("-o fifo");
        let mut reader = File::open(site.path().join("fifo")).expect("a FIFO");
        site.exchanges(3);
        numbers(&read(&mut reader, 3, 0));
        drop(reader);
        site.exchanges(4);
        running.await_stderr("the reader of fifo has gone; waiting for the next one");
        let finished = running.stop();
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        finished.told("every frame, flow and line is accounted for");
        finished.told("3 lines, ");
        finished.told(" 4 lines lost (4 reader gone)\n");
        finished.told("cannot write fifo: its reader has gone; lines were lost until the end");
    }

    /// Whoever started us with a pipe cannot start another reader for it: that is the end.
    #[test]
    fn a_pipe_without_reader_is_the_end() {
        let mut site = site!(FaultSite::new());
        let (mut reader, pipe) = std::io::pipe().expect("a pipe");
        let mut command = site.command("-o -");
        command.stdout(pipe);
        let running = site.start(command);
        site.exchanges(3);
        let mut byte = [0];
        reader.read_exact(&mut byte).expect("a line");
        drop(reader);
        site.exchanges(10);
        let finished = running.wait();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        finished.told("every frame, flow and line is accounted for");
    }
}
