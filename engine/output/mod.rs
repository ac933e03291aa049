//! Line → file. A [`RecordWriter`] makes lines of events, an [`BatchSender`] gathers them into
//! batches, and a writer appends batches to its [`Sink`]: in the writer's thread where a shard may
//! not wait, else in the shard's own. Lines are whole from the first byte to the last, or not
//! there.

mod batch;
mod batch_sender;
mod error;
mod open;
mod output_writer;
mod record_writer;
mod shared;
mod sink;
mod writer;

pub use batch::{Batch, Limits, Policy};
pub use batch_sender::BatchSender;
pub use error::WriterError;
pub use open::{open_sinks, output_paths};
pub use output_writer::WriterStats;
pub use record_writer::{Quota, RecordWriter};
pub use sink::{FileSink, MemorySink, Sink, SinkFault, StdoutSink};
pub use writer::Writer;
