//! Three toy protocols, one for each thing that later protocols need: hand over to another
//! protocol, nest others, and pass chunks to another protocol instead of reporting events.

use super::*;

/// A greeting line, then another protocol that the line does not name. Models CONNECT and Upgrade.
#[derive(Debug, Default)]
pub struct Relay {
    successor: Option<Box<HandOver>>,
}

impl Protocol for Relay {
    const NAME: &'static str = "toy relay";
    type Stats = ();

    fn probe(first: &[u8]) -> bool {
        first.starts_with(b"RELAY")
    }

    fn bytes<S: EventSink>(
        &mut self,
        _cx: &mut Context<'_, S>,
        _direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Step {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Step::Done };
        let at = meta.seq.plus(end as u32 + 1);
        self.successor = Some(Box::new(HandOver {
            to: Kind::Http1,
            at,
            kept: None,
            inheritance: Inheritance::default(),
        }));
        Step::HandOver
    }

    fn gap<S: EventSink>(&mut self, _: &mut Context<'_, S>, _: Direction, _: u64, _: SeqNumber) {}

    fn end<S: EventSink>(&mut self, _: &mut Context<'_, S>, _: End) {}

    fn hand_over(&mut self) -> Option<HandOver> {
        self.successor.take().map(|successor| *successor)
    }

    fn interest(&self) -> Interest {
        Interest::Wanted
    }

    fn carried(&self) -> Carried {
        Carried::Protocol(Kind::Relay)
    }
}

/// Numbered streams. After the magic, each frame is the number of a stream, a length, and the
/// bytes; a frame never spans two chunks. Models WebSocket inside HTTP/2.
#[derive(Debug, Default)]
pub struct Mux {
    streams: Vec<(u8, InnerStream)>,
    has_magic: bool,
}

impl Mux {
    pub(crate) const MAGIC: &'static [u8] = b"MUX1";
}

impl Protocol for Mux {
    const NAME: &'static str = "toy multiplexer";
    type Stats = ();

    fn probe(first: &[u8]) -> bool {
        first.starts_with(Mux::MAGIC)
    }

    fn bytes<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Step {
        let mut rest = bytes;
        if !std::mem::replace(&mut self.has_magic, true) {
            rest = &rest[Mux::MAGIC.len()..];
        }
        while let [number, len, behind @ ..] = rest {
            let (data, behind) = behind.split_at((*len).into());
            let known = self.streams.iter().position(|(known, _)| known == number);
            let at = known.unwrap_or_else(|| {
                self.streams.push((*number, InnerStream::detect(cx)));
                self.streams.len() - 1
            });
            self.streams[at].1.bytes(cx, direction, data, meta);
            rest = behind;
        }
        Step::Done
    }

    fn gap<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u64,
        _: SeqNumber,
    ) {
        // It is unknown which stream they belonged to.
        self.streams.iter_mut().for_each(|(_, it)| it.gap(cx, direction, len_bytes));
    }

    fn report_active<S: EventSink>(&mut self, cx: &mut Context<'_, S>, visit: &mut ActiveVisit) {
        self.streams.iter_mut().for_each(|(_, stream)| stream.report_active(cx, visit));
    }

    fn end<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: End) {
        self.streams.iter_mut().for_each(|(_, stream)| stream.end(cx, end));
    }

    fn leave<S>(&mut self, shared: &mut Shared<S>) {
        self.streams.iter_mut().for_each(|(_, stream)| stream.leave(shared));
    }

    fn memory_weight(&self, now: TimestampNs, quiet_since: TimestampNs) -> u64 {
        self.streams.iter().map(|(_, stream)| stream.memory_weight(now, quiet_since)).sum()
    }

    fn interest(&self) -> Interest {
        Interest::Wanted
    }

    fn carried(&self) -> Carried {
        Carried::Protocol(Kind::Mux)
    }
}

/// Bytes encrypted with a known key. It reports no events itself: decrypted bytes go to the inner
/// protocol. Models TLS with keys.
#[derive(Debug, Default)]
pub struct Cipher {
    inner: Option<Box<InnerStream>>,
    /// Bytes of the magic that were read, by direction.
    begun: [usize; 2],
}

impl Cipher {
    pub(crate) const MAGIC: &'static [u8] = b"XOR1";
    const KEY: u8 = 0x5a;

    pub(crate) fn text(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().map(|byte| byte ^ Cipher::KEY).collect()
    }
}

impl Protocol for Cipher {
    const NAME: &'static str = "toy cipher";
    type Stats = ();

    fn probe(first: &[u8]) -> bool {
        first.starts_with(Cipher::MAGIC)
    }

    fn bytes<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) -> Step {
        let begun = &mut self.begun[direction.index()];
        let magic = (Cipher::MAGIC.len() - *begun).min(bytes.len());
        *begun += magic;
        let inner = self.inner.get_or_insert_with(|| Box::new(InnerStream::detect(cx)));
        inner.bytes(cx, direction, &Cipher::text(&bytes[magic..]), meta);
        Step::Done
    }

    fn gap<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        len_bytes: u64,
        _: SeqNumber,
    ) {
        if let Some(inner) = &mut self.inner {
            inner.gap(cx, direction, len_bytes);
        }
    }

    fn fin<S: EventSink>(&mut self, cx: &mut Context<'_, S>, direction: Direction) {
        if let Some(inner) = &mut self.inner {
            inner.fin(cx, direction);
        }
    }

    fn report_active<S: EventSink>(&mut self, cx: &mut Context<'_, S>, visit: &mut ActiveVisit) {
        if let Some(inner) = &mut self.inner {
            inner.report_active(cx, visit);
        }
    }

    fn end<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: End) {
        if let Some(inner) = &mut self.inner {
            inner.end(cx, end);
        }
    }

    fn leave<S>(&mut self, shared: &mut Shared<S>) {
        if let Some(inner) = &mut self.inner {
            inner.leave(shared);
        }
    }

    fn memory_weight(&self, now: TimestampNs, quiet_since: TimestampNs) -> u64 {
        self.inner.as_ref().map_or(0, |inner| inner.memory_weight(now, quiet_since))
    }

    fn interest(&self) -> Interest {
        self.inner.as_ref().map_or(Interest::Undecided, |inner| inner.interest())
    }

    fn carried(&self) -> Carried {
        Carried::Protocol(Kind::Cipher)
    }
}
