//! Runs frames through a pipeline, without threads, source or output, and returns the records.

use httplines::capture::{Frame, LinkType};
use httplines::config::EmitConfig;
use httplines::ids::{FlowKey, IfaceNames};
use httplines::pipeline::PipelineStats;
use httplines::record::{Event, EventSink, Format, JsonFormat, Wants};
use httplines::time::TimestampNs;
use httplines::{Config, Pipeline};
use serde_json::Value;

use super::capture_file::WrittenFrame;

/// An event sink that keeps the lines of exchanges.
#[derive(Debug)]
pub struct Records {
    format: JsonFormat,
    lines: Vec<u8>,
    places: Vec<ExchangeSpan>,
}

/// Where and when the exchange of a record took place.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeSpan {
    pub key: FlowKey,
    /// When the first byte of its request and the last one of its response passed.
    pub span: Option<[TimestampNs; 2]>,
}

impl Records {
    /// Of the kinds, and with the fields, that `emit` chooses.
    pub fn new(emit: &EmitConfig) -> Records {
        let format = JsonFormat::new(emit, IfaceNames::default());
        Records { format, lines: Vec::new(), places: Vec::new() }
    }

    /// The records so far.
    pub fn records(&self) -> Vec<Value> {
        super::records::parse(&self.lines)
    }
}

impl EventSink for Records {
    fn wants(&self) -> Wants {
        self.format.wants()
    }

    fn event(&mut self, event: Event<'_>) {
        self.format.line(&event, &mut self.lines);
        if let Event::Exchange(exchange) = event {
            let span = exchange.request.first.zip(exchange.response.last);
            let span = span.map(|(first, last)| [first, last]);
            self.places.push(ExchangeSpan { key: *exchange.flow.key, span });
        }
    }
}

/// The reports of a capture.
#[derive(Debug)]
pub struct Reported {
    pub records: Vec<Value>,
    /// The lines that they are from.
    pub lines: Vec<u8>,
    /// The connection and time of each record.
    pub places: Vec<ExchangeSpan>,
    pub stats: PipelineStats,
}

/// The reports of these Ethernet frames.
pub fn reported_of(frames: &[WrittenFrame]) -> Reported {
    reported_of_any(frames.iter().map(|frame| frame.as_frame(LinkType::Ethernet)))
}

/// The reports of these Ethernet frames, as the options of lines say.
pub fn reported_with(frames: &[WrittenFrame], emit: &EmitConfig) -> Reported {
    reported(frames.iter().map(|frame| frame.as_frame(LinkType::Ethernet)), emit)
}

/// The reports of these frames.
pub fn reported_of_any<'a>(frames: impl Iterator<Item = Frame<'a>>) -> Reported {
    reported(frames, &EmitConfig::default())
}

/// The records of these Ethernet frames, as `emit` demands them.
pub fn records_as(emit: &EmitConfig, frames: &[WrittenFrame]) -> Vec<Value> {
    let told = reported_with(frames, emit);
    told.lines.split_inclusive(|byte| *byte == b'\n').map(super::schema::check_line).collect()
}

fn reported<'a>(frames: impl Iterator<Item = Frame<'a>>, emit: &EmitConfig) -> Reported {
    let mut pipeline = Pipeline::new(&Config::default(), Records::new(emit));
    frames.for_each(|frame| pipeline.frame(&frame));
    pipeline.finish();
    assert_eq!(pipeline.exchanges_in_use(), 0, "every exchange was given back");
    assert_eq!(pipeline.held_bytes(), [0, 0], "what was held was given back");
    Reported {
        records: pipeline.sink().records(),
        lines: std::mem::take(&mut pipeline.sink_mut().lines),
        places: std::mem::take(&mut pipeline.sink_mut().places),
        stats: pipeline.stats(),
    }
}
