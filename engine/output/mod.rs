//! Line → file. A [`RecordWriter`] formats events as lines, a [`BatchSender`] gathers them into
//! batches, and a writer appends batches to its [`Sink`]: in the writer's thread if shards must not
//! wait, otherwise in the shard's own thread. A line is written completely or not at all.

mod batch;
mod batch_sender;
mod closed_name;
mod descriptor;
mod directory;
mod error;
mod figures;
mod files;
mod glob;
mod janitor;
mod memory_sink;
mod open;
mod open_file;
mod output_writer;
mod patience;
mod record_writer;
mod rotation;
mod schedule;
mod selector;
mod shared;
mod sidecar;
mod sink;
mod slow_watch;
mod space;
mod writer;

pub use batch::{Batch, Limits, Policy};
pub use batch_sender::BatchSender;
pub use error::WriterError;
pub use figures::{Figure, Figures, Value, counts};
pub use files::{ClosedFiles, FileStats};
pub use memory_sink::MemorySink;
pub use open::{Outputs, check_rotation, open_sinks, output_paths};
pub use open_file::{check_output, is_passed_descriptor};
pub use output_writer::WriterStats;
pub use patience::Patience;
pub use record_writer::{Quota, RecordWriter};
pub use sidecar::{Sidecar, StatsRecord, sidecar_path};
pub use sink::{FileSink, Sink, SinkFault, StdoutSink};
pub use writer::{Writer, WriterGauges};
