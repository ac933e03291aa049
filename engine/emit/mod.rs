//! Exchange → line → file. A [`Format`] makes lines, an [`Outlet`] gathers them into batches, and a
//! desk appends batches to its [`Sink`]: in the writer's thread where a shard may not wait, else in
//! the shard's own. Lines are whole from the first byte to the last, or not there.

use crate::http::{Exchange, FlowIdentity, Message};
use crate::time::TimestampNs;

mod desk;
mod digits;
mod escape;
mod headers;
mod json;
mod lines;
mod outlet;
mod pen;
mod sink;
mod text;
mod writer;

pub use desk::WriterStats;
pub use json::{FIXED_BYTES_MAX, JsonFormat, LINE_BYTES_MIN};
pub use lines::{Lines, Quota};
pub use outlet::{Batch, Outlet, Policy};
pub use sink::{FileSink, MemorySink, Sink, SinkFault, StdoutSink};
pub use text::TextFormat;
pub use writer::{Limits, Writer, WriterError, open_sinks, output_paths};

/// Makes lines. Each hook appends at most one whole line, its line feed included, to `out`.
pub trait Format: std::fmt::Debug {
    /// Whether there may be a line for a message, and not only for an exchange.
    fn is_per_message(&self) -> bool {
        true
    }

    /// A message's head is complete (text mode prints here).
    fn message(
        &mut self,
        _flow: &FlowIdentity<'_>,
        _message: &Message,
        _when: TimestampNs,
        _out: &mut Vec<u8>,
    ) {
    }

    /// An exchange is over (JSON prints here).
    fn exchange(&mut self, _flow: &FlowIdentity<'_>, _exchange: &Exchange, _out: &mut Vec<u8>) {}
}
