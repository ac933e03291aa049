//! Line → file. A [`RecordWriter`] makes lines of events, an [`Outlet`] gathers them into batches,
//! and a desk appends batches to its [`Sink`]: in the writer's thread where a shard may not wait,
//! else in the shard's own. Lines are whole from the first byte to the last, or not there.

mod batch;
mod desk;
mod error;
mod open;
mod outlet;
mod record_writer;
mod shared;
mod sink;
mod writer;

pub use batch::{Batch, Limits, Policy};
pub use desk::WriterStats;
pub use error::WriterError;
pub use open::{open_sinks, output_paths};
pub use outlet::Outlet;
pub use record_writer::{Quota, RecordWriter};
pub use sink::{FileSink, MemorySink, Sink, SinkFault, StdoutSink};
pub use writer::Writer;
