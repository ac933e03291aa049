//! Frames through the rooms of a shard, without threads, source or output: records out.

use httplines::capture::{Frame, LinkType};
use httplines::config::{DecodeConfig, EmitConfig, FlowConfig, HttpConfig};
use httplines::decode::{Decoder, Segment};
use httplines::emit::{Format, JsonFormat};
use httplines::flow::{Admission, End, FlowIndex, FlowTable};
use httplines::http::{
    Conversation, Exchange, ExchangePool, FlowIdentity, Listener, Message, Room, Wire,
};
use httplines::ids::{FlowKey, IfaceNames};
use httplines::stats::{FlowStats, HttpStats};
use httplines::time::TimestampNs;
use serde_json::Value;

use super::capture_file::WrittenFrame;

/// Hears of exchanges and keeps their lines.
#[derive(Debug)]
struct Records {
    format: JsonFormat,
    lines: Vec<u8>,
    places: Vec<Place>,
}

/// Where and when the exchange of a record was held.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub key: FlowKey,
    /// When the first byte of its request and the last one of its response passed.
    pub span: Option<[TimestampNs; 2]>,
}

impl Listener for Records {
    fn message(&mut self, _flow: &FlowIdentity<'_>, _message: &Message, _when: TimestampNs) {}

    fn exchange(&mut self, flow: &FlowIdentity<'_>, exchange: &Exchange) {
        self.format.exchange(flow, exchange, &mut self.lines);
        let span = exchange.request.first.zip(exchange.response.last);
        self.places.push(Place { key: *flow.key, span: span.map(|(first, last)| [first, last]) });
    }
}

/// What came of a capture.
#[derive(Debug)]
pub struct Told {
    pub records: Vec<Value>,
    /// Of each record.
    pub places: Vec<Place>,
    pub flow: FlowStats,
}

struct Rooms {
    flows: FlowTable<Conversation>,
    room: Room<Records>,
}

impl Rooms {
    fn take(&mut self, segment: &Segment<'_>) {
        let index = loop {
            match self.flows.admit(segment) {
                Admission::Flow(index) => break index,
                Admission::Overdue(index) => self.catch_up(index, segment.timestamp),
                Admission::Ended(index, end) => self.end(index, end, Some(segment)),
                Admission::Unknown => return,
            }
        };
        let room = &mut self.room;
        let is_closed =
            self.flows.accept(index, segment, |key, origins, talk, direction, chunk| {
                talk.take(Wire { key, origins }, direction, chunk, room);
            });
        if is_closed {
            self.close(index, End::Fin);
        }
    }

    fn catch_up(&mut self, index: FlowIndex, now: TimestampNs) {
        let room = &mut self.room;
        self.flows.catch_up(index, now, |key, origins, talk, direction, chunk| {
            talk.take(Wire { key, origins }, direction, chunk, room);
        });
    }

    fn close(&mut self, index: FlowIndex, end: End) {
        if let Some((key, origins, talk)) = self.flows.parts(index) {
            talk.finish(Wire { key, origins }, end, &mut self.room);
        }
    }

    fn end(&mut self, index: FlowIndex, end: End, segment: Option<&Segment<'_>>) {
        let room = &mut self.room;
        self.flows.flush(index, |key, origins, talk, direction, chunk| {
            talk.take(Wire { key, origins }, direction, chunk, room);
        });
        self.close(index, end);
        self.flows.remove(index, end, segment);
    }
}

/// What is told of these Ethernet frames.
pub fn told_of(frames: &[WrittenFrame]) -> Told {
    told_of_any(frames.iter().map(|frame| frame.as_frame(LinkType::Ethernet)))
}

/// What is told of these frames.
pub fn told_of_any<'a>(frames: impl Iterator<Item = Frame<'a>>) -> Told {
    let format = JsonFormat::new(&EmitConfig::default(), IfaceNames::default());
    let mut rooms = Rooms {
        flows: FlowTable::new(FlowConfig::default()),
        room: Room {
            limits: HttpConfig::default(),
            pool: ExchangePool::default(),
            stats: HttpStats::default(),
            listener: Records { format, lines: Vec::new(), places: Vec::new() },
        },
    };
    let mut decoder = Decoder::new(DecodeConfig::default());
    for frame in frames {
        if let Ok(segment) = decoder.decode(&frame) {
            rooms.take(&segment);
        }
    }
    for index in rooms.flows.indices() {
        rooms.end(index, End::Exit, None);
    }
    assert_eq!(rooms.room.pool.in_use(), 0, "every exchange was given back");
    assert_eq!(rooms.flows.waiting_bytes(), 0, "what waited was given back");
    Told {
        records: super::records::parse(&rooms.room.listener.lines),
        places: rooms.room.listener.places,
        flow: rooms.flows.stats().clone(),
    }
}
