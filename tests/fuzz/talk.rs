//! Both directions of a connection, piece by piece, through a conversation.

use httplines::config::HttpConfig;
use httplines::decode::{SeqNumber, TunnelPath};
use httplines::flow::{Chunk, End, Origin, Origins};
use httplines::http::{
    Conversation, Exchange, ExchangePool, FlowIdentity, Listener, Message, Room, Wire,
};
use httplines::ids::{Direction, FlowKey, IfaceId};
use httplines::stats::HttpStats;
use httplines::time::TimestampNs;

const MS: u64 = 1_000_000;

/// Hears of a conversation and counts.
#[derive(Debug, Default)]
struct Tally {
    request_heads: Vec<Vec<u8>>,
    exchange_heads: Vec<Vec<u8>>,
    exchanges: u64,
}

impl Listener for Tally {
    fn message(&mut self, _flow: &FlowIdentity<'_>, message: &Message, _when: TimestampNs) {
        assert!(message.is_seen);
        if message.status == 0 {
            self.request_heads.push(message.head.clone());
        }
    }

    fn exchange(&mut self, _flow: &FlowIdentity<'_>, exchange: &Exchange) {
        self.exchanges += 1;
        assert!(exchange.outcome.is_some());
        let (request, response) = (exchange.request.is_seen, exchange.response.is_seen);
        assert!(request || response || !exchange.interim.is_empty(), "an exchange of nothing");
        if exchange.request.is_seen {
            self.exchange_heads.push(exchange.request.head.clone());
        }
    }
}

/// A conversation, piece by piece.
#[derive(Debug)]
pub struct Talk {
    conversation: Conversation,
    room: Room<Tally>,
    origins: Origins,
    sent: [u32; 2],
    now_ms: u64,
}

impl Talk {
    /// Bits of `mode`: joined late; narrow bounds.
    pub fn new(mode: u8) -> Talk {
        let mut limits = HttpConfig::default();
        if mode & 2 != 0 {
            limits = HttpConfig {
                head_bytes_max: 1024,
                pending_count_max: 3,
                held_bytes_shard_max: 8192,
            };
        }
        let client_isn = (mode & 1 == 0).then_some(SeqNumber(0));
        let origins = Origins { client: None, client_isn, ..Origins::default() };
        let (pool, stats) = (ExchangePool::default(), HttpStats::default());
        let room = Room { limits, pool, stats, listener: Tally::default() };
        Talk { conversation: Conversation::default(), room, origins, sent: [0; 2], now_ms: 0 }
    }

    /// A piece of the script. Its first byte says what it is, in letters: `@` and `A` are bytes of
    /// the one and the other direction, `D` and `E` gaps, `F` and `G` ends; 8 more: in the middle
    /// of a frame; 16 more: without acknowledgement; 32 more: it acknowledges half.
    /// False where the connection is over.
    pub fn step(&mut self, piece: &[u8]) -> bool {
        let Some((&what, bytes)) = piece.split_first() else { return true };
        self.now_ms += 1;
        let way = if what & 1 == 0 { Direction::Forward } else { Direction::Reverse };
        let at = SeqNumber(self.sent[way.index()]);
        let peer_sent = self.sent[way.opposite().index()];
        let acked = if what & 32 != 0 { peer_sent / 2 } else { peer_sent };
        let origin = Origin {
            timestamp: TimestampNs(self.now_ms * MS),
            iface: IfaceId(0),
            tunnel: TunnelPath::default(),
            ack: (what & 16 == 0).then_some(SeqNumber(acked)),
            seq: at,
            is_frame_start: what & 8 == 0,
        };
        let is_reset = what & 6 == 6 && bytes == b"R";
        let (chunk, len) = match what >> 1 & 3 {
            0 | 1 if bytes.is_empty() => return true,
            0 | 1 => (Chunk::Bytes(bytes, origin), bytes.len() as u32),
            2 => {
                let len = bytes.iter().take(3).fold(0, |sum, byte| sum << 7 | u32::from(*byte));
                (Chunk::Gap { len_bytes: u64::from(len) + 1, at }, len + 1)
            }
            _ if is_reset => (Chunk::Reset, 0),
            _ => (Chunk::Fin, 0),
        };
        self.sent[way.index()] += len;
        let key = FlowKey::default();
        let wire = Wire { key: &key, origins: &self.origins };
        self.conversation.take(wire, way, chunk, &mut self.room);
        !is_reset
    }

    /// The end of the connection: nothing is held any more, and each request was told once.
    pub fn finish(mut self) {
        let key = FlowKey::default();
        let wire = Wire { key: &key, origins: &self.origins };
        self.conversation.finish(wire, End::Exit, &mut self.room);
        let (pool, stats, mut tally) = (&self.room.pool, &self.room.stats, self.room.listener);
        assert_eq!(pool.in_use(), 0, "an exchange was not given back");
        assert_eq!(pool.held_bytes(), 0, "bytes were not given back");
        assert_eq!(stats.requests, tally.request_heads.len() as u64);
        let outcomes = stats.exchanges_complete
            + stats.exchanges_no_response
            + stats.exchanges_no_request
            + stats.exchanges_truncated;
        assert_eq!(outcomes, tally.exchanges);
        tally.request_heads.sort();
        tally.exchange_heads.sort();
        assert_eq!(tally.request_heads, tally.exchange_heads, "requests and exchanges");
    }
}
