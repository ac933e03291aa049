//! Runs frames through a pipeline, without threads, source or output, and returns the records.

use httplines::capture::{Frame, LinkType};
use httplines::config::EmitConfig;
use httplines::ids::{FlowKey, IfaceNames};
use httplines::pipeline::PipelineStats;
use httplines::protocol::classes::{ExchangeClasses, GRPC_CODES, METHODS, STATUSES};
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
    let mut config = Config::default();
    config.http.is_classified = true;
    let mut pipeline = Pipeline::new(&config, Records::new(emit));
    frames.for_each(|frame| pipeline.frame(&frame));
    pipeline.finish();
    assert_eq!(pipeline.exchanges_in_use(), 0, "every exchange was given back");
    assert_eq!(pipeline.held_bytes(), [0, 0], "what was held was given back");
    let records = pipeline.sink().records();
    check_classes(&records, &pipeline.stats().protocol.classes);
    Reported {
        records,
        lines: std::mem::take(&mut pipeline.sink_mut().lines),
        places: std::mem::take(&mut pipeline.sink_mut().places),
        stats: pipeline.stats(),
    }
}

/// What was counted of exchanges is what their records tell.
fn check_classes(records: &[Value], classes: &ExchangeClasses) {
    let is_exchange = |it: &&Value| it.get("type").is_none() && it.get("partial").is_none();
    let exchanges: Vec<&Value> = records.iter().filter(is_exchange).collect();
    let count = |is_it: &dyn Fn(&Value) -> bool| exchanges.iter().filter(|it| is_it(it)).count();
    // A request whose method is not told is `other`, too.
    for (method, counted) in METHODS.iter().zip(classes.methods).filter(|(it, _)| **it != "other") {
        assert_eq!(counted, count(&|it| it["method"] == *method) as u64, "{method}");
    }
    let asked = count(&|it| it["outcome"] != "no_request") as u64;
    let named = count(&|it| it.get("method").is_some()) as u64;
    assert!((named..=asked).contains(&classes.methods.iter().sum()), "{named} to {asked}");
    let class_of = |status: u64| match STATUSES.get((status / 100).wrapping_sub(1) as usize) {
        Some(class) => class,
        None => "other",
    };
    for (class, counted) in STATUSES.iter().zip(classes.statuses()) {
        let of =
            |status: &Value| u64::from(status.as_u64().is_some_and(|it| class_of(it) == *class));
        let interim =
            |it: &Value| it["interim"].as_array().into_iter().flatten().map(of).sum::<u64>();
        let told = exchanges.iter().map(|it| of(&it["status"]) + interim(it));
        let listed = |it: &Value| it["interim"].as_array().map_or(0, Vec::len) as u64;
        let omitted =
            exchanges.iter().filter_map(|it| Some(it["interim_len"].as_u64()? - listed(it)));
        let omitted: u64 = if *class == "1xx" { omitted.sum() } else { 0 };
        let told = told.sum::<u64>() + omitted;
        // A response whose status is not told is `other`, too.
        assert!(counted == told || (*class == "other" && counted > told), "{class}: {counted}");
    }
    let times: Vec<u64> = exchanges.iter().filter_map(|it| it["ttfb_ns"].as_u64()).collect();
    assert_eq!(classes.ttfb.count(), times.len() as u64);
    assert_eq!(classes.ttfb.sum_ns, times.iter().sum::<u64>());
    for (code, counted) in classes.grpc[..17].iter().enumerate() {
        let told = count(&|it| it["grpc_status"].as_u64() == Some(code as u64));
        assert_eq!(*counted, told as u64, "{}", GRPC_CODES[code]);
    }
    assert_eq!(classes.http2_streams, count(&|it| it.get("stream").is_some()) as u64);
}
