//! [`Sidecar`]: the file of statistics beside the lines. The engine puts in a [`StatsRecord`] now
//! and then; the writer's thread makes a line of it and appends it, so that a disk that stalls
//! holds up neither the engine nor a shard.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::STATS_EXTENSION;
use crate::ids::ShardId;
use crate::output::batch::Batch;
use crate::output::closed_name::UtcMicros;
use crate::output::error::{WriterError, why};
use crate::output::figures::{Figures, Value, append_object, counts, since};
use crate::output::files::Files;
use crate::output::rotation::Rotation;
use crate::output::sink::{FileSink, Sink};

/// What one line reports.
#[derive(Clone, Debug, Default)]
pub struct StatsRecord {
    /// The number of the record in its run, from 0. Those that were dropped are missing in the
    /// file.
    pub seq: u64,
    /// When and of what run it is.
    pub head: Figures,
    /// Everything counted since the start. The line also shows what was counted since the last
    /// line that was written.
    pub total: Figures,
    /// The state now.
    pub gauges: Figures,
}

impl StatsRecord {
    /// As a line, without what was counted since the one before.
    pub fn line(&self) -> Vec<u8> {
        let mut figures = self.head.clone();
        figures.push(("total", Value::Group(self.total.clone())));
        figures.push(("gauges", Value::Group(self.gauges.clone())));
        let mut line = Vec::new();
        append_object(&figures, &mut line);
        line
    }
}

/// The file of statistics of a run. Nobody waits for anybody but for the file itself: a record that
/// is not written when the next one comes is dropped and counted.
#[derive(Debug)]
pub struct Sidecar {
    waiting: Mutex<Option<StatsRecord>>,
    is_waiting: AtomicBool,
    /// Used by the writer's thread, and after its end by the engine.
    file: Mutex<StatsFile>,
}

#[derive(Debug)]
struct StatsFile {
    sink: FileSink,
    /// If it is closed together with the first output, and with which file it was closed last.
    files: Option<Arc<Files>>,
    closed_with: UtcMicros,
    /// The counters in the last line that was written.
    total: Figures,
    lines_written: u64,
    /// The last line was not written.
    is_failing: bool,
    /// The number of reopenings requested, as of the last one that was carried out.
    reopens: u64,
}

/// The file of statistics beside `output`: `http.stats` beside `http.jsonl`.
pub fn sidecar_path(output: &Path) -> PathBuf {
    output.with_extension(STATS_EXTENSION)
}

fn open_sink(path: &Path) -> Result<FileSink, WriterError> {
    FileSink::open_plain(path).map_err(|source| WriterError::Open { path: path.into(), source })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sidecar {
    /// Opens `path` as an output is opened: appends to it, or creates it with mode 0640.
    ///
    /// # Errors
    /// The same as for an output.
    pub fn open(path: &Path) -> Result<Sidecar, WriterError> {
        Ok(Sidecar::new(open_sink(path)?, None))
    }

    /// The same for a run that closes `files` of `output_count` outputs: the sidecar is closed
    /// whenever the first output is, under the same time.
    pub(super) fn open_rotated(
        path: &Path,
        output_count: usize,
        files: Arc<Files>,
    ) -> Result<Sidecar, WriterError> {
        let rotation = Rotation::of_sidecar(path, output_count, files.clone());
        let rotation =
            rotation.map_err(|source| WriterError::Open { path: path.into(), source })?;
        Ok(Sidecar::new(open_sink(path)?.with_rotation(rotation)?, Some(files)))
    }

    fn new(sink: FileSink, files: Option<Arc<Files>>) -> Sidecar {
        let file = StatsFile {
            sink,
            files,
            closed_with: UtcMicros::default(),
            total: Figures::new(),
            lines_written: 0,
            is_failing: false,
            reopens: 0,
        };
        Sidecar { waiting: Mutex::default(), is_waiting: AtomicBool::new(false), file: file.into() }
    }

    /// Leaves a record for the writer's thread. The one before it, if it still waits, is dropped.
    pub(super) fn put(&self, record: StatsRecord) {
        *lock(&self.waiting) = Some(record);
        self.is_waiting.store(true, Ordering::Release);
    }

    /// Whether a record waits.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::Relaxed)
    }

    /// Writes the record that waits, if there is one. First closes or reopens the file, if the
    /// outputs were, or if that was requested `reopens_wanted` times in all.
    pub(super) fn write_waiting(&self, reopens_wanted: u64) {
        let mut file = lock(&self.file);
        file.rotate_if_wanted();
        file.reopen_if_wanted(reopens_wanted);
        self.take_waiting(&mut file);
    }

    fn take_waiting(&self, file: &mut StatsFile) {
        if !self.is_waiting.swap(false, Ordering::Acquire) {
            return;
        }
        let record = lock(&self.waiting).take();
        if let Some(record) = record {
            file.write(record);
        }
    }

    /// Writes the last record of a run, whose writer has ended.
    pub fn finish(&self, record: StatsRecord) {
        let mut file = lock(&self.file);
        file.rotate_if_wanted();
        self.take_waiting(&mut file);
        file.write(record);
        let _ = file.sink.finish();
    }
}

impl StatsFile {
    fn reopen_if_wanted(&mut self, reopens_wanted: u64) {
        if std::mem::replace(&mut self.reopens, reopens_wanted) == reopens_wanted {
            return;
        }
        if let Err(error) = self.sink.reopen() {
            let name = self.sink.name();
            tracing::warn!("cannot reopen {name}: {error}; continuing with the old file");
        }
    }

    /// Closes the file if the first output was closed since the last time.
    fn rotate_if_wanted(&mut self) {
        let Some(files) = &self.files else { return };
        let closed_last = files.closed_last();
        if closed_last != self.closed_with && self.sink.rotate_with(closed_last) {
            self.closed_with = closed_last;
        }
    }

    fn write(&mut self, record: StatsRecord) {
        let StatsRecord { seq, head, mut total, gauges } = record;
        let lost = seq.saturating_sub(self.lines_written);
        let own = [("lines_written", self.lines_written), ("lines_lost", lost)];
        total.push(("sidecar", Value::Group(counts(own))));
        let bytes = line(head, &total, &self.total, gauges);
        let line_bytes = bytes.len();
        let mut batch = Batch { bytes, line_count: 1, shard: ShardId(0) };
        let fault = self.sink.append(std::slice::from_mut(&mut batch)).err();
        // The rest of a torn line that cannot be removed is written before the next one.
        if fault.as_ref().is_none_or(|fault| fault.written_bytes == line_bytes) {
            self.lines_written += 1;
            self.total = total;
        }
        self.report(fault.map(|fault| fault.error));
    }

    /// Says once that writing begins to fail, and once that it is over.
    fn report(&mut self, error: Option<io::Error>) {
        let was_failing = std::mem::replace(&mut self.is_failing, error.is_some());
        let name = self.sink.name();
        match error {
            Some(error) if !was_failing => {
                let why = why(&error);
                tracing::warn!("cannot write {name}: {why}; until then statistics are dropped");
            }
            None if was_failing => tracing::warn!("{name}: writing again"),
            _ => {}
        }
    }
}

/// The line of a record: its head, all counters, what they have counted since `before`, and the
/// gauges.
fn line(head: Figures, total: &Figures, before: &Figures, gauges: Figures) -> Vec<u8> {
    let mut figures = head;
    figures.push(("total", Value::Group(total.clone())));
    figures.push(("delta", Value::Group(since(total, before))));
    figures.push(("gauges", Value::Group(gauges)));
    let mut line = Vec::new();
    append_object(&figures, &mut line);
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(seq: u64, frames: u64) -> StatsRecord {
        StatsRecord {
            seq,
            head: vec![("seq", Value::Number(seq))],
            total: counts([("frames", frames)]),
            gauges: vec![("connections", Value::Number(7))],
        }
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).expect("the file is there");
        text.lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect()
    }

    /// The deltas add up although a record was dropped.
    #[test]
    fn the_newest_record_is_written_and_what_is_missing_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = sidecar_path(&directory.path().join("http.jsonl"));
        assert_eq!(path, directory.path().join("http.stats"));
        let sidecar = Sidecar::open(&path).unwrap();
        sidecar.write_waiting(0);
        for (seq, frames) in [(0, 3), (1, 10), (2, 12)] {
            sidecar.put(record(seq, frames));
            assert!(sidecar.is_waiting());
            if seq != 1 {
                sidecar.write_waiting(0);
                assert!(!sidecar.is_waiting());
            }
        }
        sidecar.finish(record(3, 20));
        let own = |written: u64, lost: u64| json!({"lines_written": written, "lines_lost": lost});
        let expected = [(0, 3, 3, own(0, 0)), (2, 12, 9, own(1, 1)), (3, 20, 8, own(2, 1))];
        let lines = lines(&path);
        assert_eq!(lines.len(), expected.len());
        for (line, (seq, total, delta, own)) in lines.iter().zip(expected) {
            assert_eq!((&line["seq"], &line["gauges"]["connections"]), (&json!(seq), &json!(7)));
            assert_eq!(line["total"], json!({"frames": total, "sidecar": own}));
            assert_eq!(line["delta"]["frames"], delta);
        }
    }

    #[test]
    fn a_reopening_goes_on_in_a_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let [path, old] = ["http.stats", "old.stats"].map(|name| directory.path().join(name));
        let sidecar = Sidecar::open(&path).unwrap();
        sidecar.put(record(0, 1));
        sidecar.write_waiting(0);
        std::fs::rename(&path, &old).unwrap();
        sidecar.put(record(1, 2));
        sidecar.write_waiting(1);
        sidecar.put(record(2, 4));
        sidecar.write_waiting(1);
        assert_eq!((lines(&old).len(), lines(&path).len()), (1, 2));
        assert_eq!(lines(&path)[1]["delta"]["frames"], 2);
    }

    #[test]
    fn it_is_closed_with_the_first_output_under_the_same_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let files = Arc::new(Files::new().0);
        let sidecar = Sidecar::open_rotated(&path("http.stats"), 1, files.clone()).unwrap();
        let write = |seq: u64| {
            sidecar.put(record(seq, seq));
            sidecar.write_waiting(0);
        };
        let close = |time: u64| {
            files.set_closed_last(UtcMicros(time));
            sidecar.write_waiting(0);
        };
        write(0);
        write(1);
        close(1_795_977_907_123_456);
        // One without lines is not closed.
        close(1_795_977_907_123_457);
        write(2);
        // A name that exists is not taken.
        std::fs::write(path("http-20261129T184509.000000Z.stats"), "theirs\n").unwrap();
        close(1_795_977_909_000_000);
        write(3);
        sidecar.finish(record(4, 9));
        let seqs = |name: &str| {
            let lines = lines(&path(name));
            lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(seqs("http-20261129T184507.123456Z.stats"), [0, 1]);
        assert_eq!(seqs("http-20261129T184509.000001Z.stats"), [2]);
        assert_eq!(seqs("http.stats"), [3, 4]);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 4);
        assert_eq!(files.stats().rotations, 0, "those of the outputs are counted");
    }

    #[test]
    fn a_full_disk_costs_whole_lines_and_writing_resumes() {
        let full = FileSink::open_plain(Path::new("/dev/full")).unwrap();
        let sidecar = Sidecar::new(full, None);
        for seq in 0..2 {
            sidecar.put(record(seq, seq + 1));
            sidecar.write_waiting(0);
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("http.stats");
        lock(&sidecar.file).sink = FileSink::open_plain(&path).unwrap();
        sidecar.finish(record(2, 5));
        let own = json!({"lines_written": 0, "lines_lost": 2});
        assert_eq!(lines(&path)[0]["total"]["sidecar"], own);
        assert_eq!(lines(&path)[0]["delta"]["frames"], 5, "nothing was written before");
    }
}
