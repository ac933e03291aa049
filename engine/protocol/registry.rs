//! The registry's macro. It expands the list of protocols to everything that must name each of
//! them.

/// Declares all protocols, each as `Kind { counters: State }`. Generates [`Kind`](super::Kind),
/// [`ConnectionState`](super::ConnectionState) with its dispatch, and
/// [`ProtocolStats`](super::ProtocolStats).
macro_rules! protocols {
    ($($(#[$attribute:meta])* $kind:ident { $stats:ident: $state:ty })*) => {
        /// A protocol.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Kind {
            $($(#[$attribute])* #[doc = concat!("[`", stringify!($state), "`].")] $kind,)*
        }

        impl Kind {
            /// All protocols.
            pub const ALL: &'static [Kind] = &[$($(#[$attribute])* Kind::$kind,)*];

            /// The name shown to users.
            pub fn name(self) -> &'static str {
                match self { $($(#[$attribute])* Kind::$kind => <$state as Protocol>::NAME,)* }
            }

            /// The name in statistics.
            pub fn key(self) -> &'static str {
                match self { $($(#[$attribute])* Kind::$kind => stringify!($stats),)* }
            }

            /// Why it is not reported, for users who miss its records. `None` if it is reported.
            pub fn unread(self) -> Option<&'static str> {
                match self { $($(#[$attribute])* Kind::$kind => <$state as Protocol>::UNREAD,)* }
            }

            fn probe(self, first: &[u8]) -> bool {
                match self { $($(#[$attribute])* Kind::$kind => <$state>::probe(first),)* }
            }

            /// The initial state.
            fn state(self) -> ConnectionState {
                match self {
                    $($(#[$attribute])*
                      Kind::$kind => ConnectionState::$kind(<$state>::default()),)*
                }
            }
        }

        /// The protocol state of a connection.
        #[derive(Debug)]
        pub enum ConnectionState {
            $($(#[$attribute])* #[doc = concat!("It speaks [`", stringify!($state), "`].")]
              $kind($state),)*
            /// Another protocol took the connection over while exchanges were open in the first
            /// one.
            Succession(Box<Succession>),
        }

        /// Dispatches each call to the state of the current protocol.
        impl ConnectionState {
            #[inline(always)]
            fn bytes<S: EventSink>(
                &mut self,
                cx: &mut Context<'_, S>,
                direction: Direction,
                bytes: &[u8],
                meta: &SegmentMeta,
            ) -> Step {
                match self {
                    $($(#[$attribute])*
                      ConnectionState::$kind(state) => state.bytes(cx, direction, bytes, meta),)*
                    ConnectionState::Succession(both) => {
                        both.now.chunk(cx, direction, Chunk::Bytes(bytes, meta));
                        Step::Done
                    }
                }
            }

            fn elided<S: EventSink>(
                &mut self,
                cx: &mut Context<'_, S>,
                direction: Direction,
                len_bytes: u32,
                meta: &SegmentMeta,
            ) {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => {
                        state.elided(cx, direction, len_bytes, meta);
                    })*
                    ConnectionState::Succession(both) => {
                        both.now.elided(cx, direction, len_bytes, meta);
                    }
                }
            }

            fn copy<S: EventSink>(
                &mut self,
                cx: &mut Context<'_, S>,
                direction: Direction,
                bytes: &[u8],
                meta: &SegmentMeta,
            ) -> Copied {
                match self {
                    $($(#[$attribute])*
                      ConnectionState::$kind(state) => state.copy(cx, direction, bytes, meta),)*
                    ConnectionState::Succession(both) => {
                        both.now.copy(cx, direction, bytes, meta)
                    }
                }
            }

            #[cold]
            fn bytes_with_copies<S: EventSink>(
                &mut self,
                cx: &mut Context<'_, S>,
                direction: Direction,
                (bytes, copies): (&[u8], &Copies),
                meta: &SegmentMeta,
            ) -> Step {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => {
                        state.bytes_with_copies(cx, direction, (bytes, copies), meta)
                    })*
                    ConnectionState::Succession(both) => {
                        let chunk = Chunk::BytesWithCopies(bytes, meta, copies);
                        both.now.chunk(cx, direction, chunk);
                        Step::Done
                    }
                }
            }

            #[cold]
            fn retransmitted<S>(
                &mut self,
                cx: &mut Context<'_, S>,
                direction: Direction,
                at: SeqNumber,
                len_bytes: u32,
            ) {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => {
                        state.retransmitted(cx, direction, at, len_bytes);
                    })*
                    ConnectionState::Succession(both) => {
                        both.before.retransmitted(cx, direction, at, len_bytes);
                        both.now.retransmitted(cx, direction, at, len_bytes);
                    }
                }
            }

            fn gap<S: EventSink>(
                &mut self,
                cx: &mut Context<'_, S>,
                direction: Direction,
                len_bytes: u64,
                at: SeqNumber,
            ) {
                match self {
                    $($(#[$attribute])*
                      ConnectionState::$kind(state) => state.gap(cx, direction, len_bytes, at),)*
                    ConnectionState::Succession(both) => both.now.gap(cx, direction, len_bytes, at),
                }
            }

            #[cold]
            fn closing(&mut self, direction: Direction, at: TimestampNs) {
                match self {
                    $($(#[$attribute])*
                      ConnectionState::$kind(state) => state.closing(direction, at),)*
                    ConnectionState::Succession(both) => {
                        both.before.closing(direction, at);
                        both.now.closing(direction, at);
                    }
                }
            }

            fn fin<S: EventSink>(&mut self, cx: &mut Context<'_, S>, direction: Direction) {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => state.fin(cx, direction),)*
                    ConnectionState::Succession(both) => both.now.fin(cx, direction),
                }
            }

            /// Reports what has been under way for so long that it is due.
            pub fn report_active<S: EventSink>(
                &mut self,
                cx: &mut Context<'_, S>,
                visit: &mut ActiveVisit,
            ) {
                match self {
                    $($(#[$attribute])*
                      ConnectionState::$kind(state) => state.report_active(cx, visit),)*
                    ConnectionState::Succession(both) => {
                        both.before.report_active(cx, visit);
                        both.now.report_active(cx, visit);
                    }
                }
            }

            /// The connection has ended: reports what is still open.
            pub fn end<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: End) {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => state.end(cx, end),)*
                    ConnectionState::Succession(both) => {
                        both.before.end(cx, end);
                        both.now.end(cx, end);
                    }
                }
            }

            /// The connection is removed, after its end.
            pub fn leave<S>(&mut self, shared: &mut Shared<S>) {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => state.leave(shared),)*
                    ConnectionState::Succession(both) => {
                        both.before.leave(shared);
                        both.now.leave(shared);
                        shared.recorder.pool.release(SUCCESSION_BYTES);
                    }
                }
            }

            fn take_over<S>(&mut self, shared: &mut Shared<S>, inheritance: Inheritance) {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => {
                        state.take_over(shared, inheritance);
                    })*
                    ConnectionState::Succession(both) => {
                        both.now.take_over(shared, inheritance);
                    }
                }
            }

            fn hand_over(&mut self) -> Option<HandOver> {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => state.hand_over(),)*
                    ConnectionState::Succession(both) => both.now.hand_over(),
                }
            }

            fn has_open(&self) -> bool {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => state.has_open(),)*
                    ConnectionState::Succession(both) => {
                        both.before.has_open() || both.now.has_open()
                    }
                }
            }

            /// How much memory unfinished work takes, weighted by its age; 0 if there is none.
            pub fn memory_weight(&self, now: TimestampNs, quiet_since: TimestampNs) -> u64 {
                match self {
                    $($(#[$attribute])*
                      ConnectionState::$kind(state) => state.memory_weight(now, quiet_since),)*
                    ConnectionState::Succession(both) => {
                        let before = both.before.memory_weight(now, quiet_since);
                        before.saturating_add(both.now.memory_weight(now, quiet_since))
                    }
                }
            }

            /// Frees memory that it can do without. Returns false if there is none.
            pub fn relieve<S: EventSink>(&mut self, cx: &mut Context<'_, S>) -> bool {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => state.relieve(cx),)*
                    ConnectionState::Succession(both) => both.now.relieve(cx),
                }
            }

            /// What is still wanted of the connection.
            #[inline(always)]
            pub fn interest(&self) -> Interest {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => state.interest(),)*
                    ConnectionState::Succession(both) => both.now.interest(),
                }
            }

            /// The bytes that the interest rests on: their direction, and the position behind them.
            pub fn evidence(&self) -> Option<(Direction, SeqNumber)> {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => state.evidence(),)*
                    ConnectionState::Succession(both) => both.now.evidence(),
                }
            }

            /// Which bytes of `direction` need not reach user space.
            #[inline(always)]
            pub fn elidable_until<S>(
                &self,
                shared: &mut Shared<S>,
                direction: Direction,
                bytes_min: u64,
                ahead_bytes_max: u32,
            ) -> Option<Elidable> {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => {
                        state.elidable_until(shared, direction, bytes_min, ahead_bytes_max)
                    })*
                    ConnectionState::Succession(both) => {
                        both.now.elidable_until(shared, direction, bytes_min, ahead_bytes_max)
                    }
                }
            }

            /// What the connection carried, as far as is known.
            pub fn carried(&self) -> Carried {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => state.carried(),)*
                    ConnectionState::Succession(both) => both.now.carried(),
                }
            }
        }

        /// The counters of all protocols.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct ProtocolStats {
            /// Connections, by what they carried.
            pub flows: FlowCounts,
            /// Messages and exchanges of all protocols together.
            pub exchanges: ExchangeStats,
            /// What those that were reported are.
            pub classes: ExchangeClasses,
            $($(#[$attribute])* #[doc = concat!("Of [`", stringify!($state), "`].")]
              pub $stats: <$state as Protocol>::Stats,)*
        }

        impl ProtocolStats {
            /// Adds every counter of `other`.
            pub fn add(&mut self, other: &ProtocolStats) {
                self.flows.add(&other.flows);
                self.exchanges.add(&other.exchanges);
                self.classes.add(&other.classes);
                $($(#[$attribute])* Stats::add(&mut self.$stats, &other.$stats);)*
            }

            /// The counters that belong to single protocols: the name of each protocol's group, and
            /// its counters. Protocols without counters of their own have no group.
            pub fn each(&self) -> Vec<Row> {
                let mut groups = vec![
                    $($(#[$attribute])* (stringify!($stats), Stats::each(&self.$stats)),)*
                ];
                groups.retain(|(_, counters): &Row| !counters.is_empty());
                groups
            }

            /// The rows of the totals that belong to single protocols.
            pub fn rows(&self) -> Vec<Row> {
                let mut rows = Vec::new();
                $($(#[$attribute])* rows.extend(Stats::rows(&self.$stats));)*
                rows
            }

            /// Whether messages were seen that appear in no record.
            pub fn has_unreported(&self) -> bool {
                let mut has_any = false;
                $($(#[$attribute])* {
                    has_any |= Stats::has_unreported(&self.$stats);
                })*
                has_any
            }
        }
    };
}
pub(super) use protocols;
