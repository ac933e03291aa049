//! The families of lines and files.

use super::super::statistics::{Observed, ROW_COUNT_MAX};
use super::exposition::{Exposition, Family};

const LINES: Family = Family::counter("httplines_lines_written_total", "Lines written.");
const BYTES: Family =
    Family::counter("httplines_written_bytes_total", "Bytes of the lines that were written.");
const LOST: Family =
    Family::counter("httplines_lines_lost_total", "Lost: lines that were not written, by cause.");
const LAG: Family = Family::gauge(
    "httplines_output_lag_seconds",
    "The age of the oldest line that is being written.",
);
const FAILING: Family = Family::gauge(
    "httplines_output_failing",
    "1 while an output cannot be written and lines are lost, else 0.",
);
const QUEUE: Family = Family::gauge(
    "httplines_output_queue_ratio",
    "The used part of the queue of a worker thread to the writer. At 1 lines are lost.",
);
const WRITER_CPU: Family =
    Family::counter("httplines_writer_cpu_seconds_total", "CPU time of the writer's thread.");
const ROTATIONS: Family = Family::counter(
    "httplines_output_rotations_total",
    "Times a file was closed and another one opened.",
);
const ROTATION_FAILURES: Family = Family::counter(
    "httplines_output_rotation_failures_total",
    "Times that failed; the lines went on in the same file.",
);
const REOPENS: Family =
    Family::counter("httplines_output_reopens_total", "Times the outputs were reopened (SIGHUP).");
const DELETED_FILES: Family = Family::counter(
    "httplines_output_deleted_files_total",
    "Closed files that were deleted to keep to the limits.",
);
const DELETED_BYTES: Family =
    Family::counter("httplines_output_deleted_bytes_total", "Bytes of these files.");
const COMPRESSED: Family = Family::counter(
    "httplines_output_compressed_files_total",
    "Closed files that were compressed.",
);
const JANITOR_FAILURES: Family = Family::counter(
    "httplines_output_janitor_failures_total",
    "Times a closed file could not be deleted or compressed.",
);
const FILES: Family = Family::gauge(
    "httplines_output_files",
    "Closed files that are there, if closed files are deleted or compressed.",
);
const FILE_BYTES: Family =
    Family::gauge("httplines_output_bytes", "Bytes of these files, as they are now.");
const FREE_BYTES: Family = Family::gauge(
    "httplines_output_free_bytes",
    "Bytes that can still be written to the file system of the output.",
);

/// `batch_count_max`: batches that may wait for the writer, for one shard. `free_bytes`: what can
/// still be written where the output is.
pub(super) fn add(
    out: &mut Exposition,
    observed: &Observed<'_>,
    batch_count_max: u64,
    free_bytes: Option<u64>,
) {
    let (totals, gauges) = (observed.totals, &observed.writer);
    let writer = &totals.writer;
    out.add(&LINES, &[], writer.lines_written);
    out.add(&BYTES, &[], writer.bytes_written);
    out.add_each(&LOST, "cause", totals.lines_lost());
    out.add_time(&LAG, &[], gauges.lag);
    out.add(&FAILING, &[], u64::from(gauges.is_failing));
    let fills = observed.shards.iter().map(|shard| shard.gauges.queued_batches);
    if fills.len() <= ROW_COUNT_MAX {
        for (number, queued) in fills.enumerate() {
            let shard = number.to_string();
            out.add_ratio(&QUEUE, &[("shard", &shard)], queued, batch_count_max);
        }
    } else {
        out.add_ratio(&QUEUE, &[], fills.max().unwrap_or(0), batch_count_max);
    }
    out.add_time(&WRITER_CPU, &[], gauges.cpu);
    let files = &writer.files;
    for (family, count) in [
        (&ROTATIONS, files.rotations),
        (&ROTATION_FAILURES, files.rotation_failures),
        (&REOPENS, writer.reopens),
        (&DELETED_FILES, files.files_deleted),
        (&DELETED_BYTES, files.bytes_deleted),
        (&COMPRESSED, files.files_compressed),
        (&JANITOR_FAILURES, files.janitor_failures),
    ] {
        out.add(family, &[], count);
    }
    if let Some(closed) = &gauges.closed {
        out.add(&FILES, &[], closed.count);
        out.add(&FILE_BYTES, &[], closed.bytes);
    }
    if let Some(free_bytes) = free_bytes {
        out.add(&FREE_BYTES, &[], free_bytes);
    }
}
