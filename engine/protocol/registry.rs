//! The registry's macro: from the list of protocols to everything that names each of them.

/// Declares the protocols that there are, each `Kind { counters: State }`: [`Kind`](super::Kind),
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
            /// All there are.
            pub const ALL: &'static [Kind] = &[$($(#[$attribute])* Kind::$kind,)*];

            /// As users know it.
            pub fn name(self) -> &'static str {
                match self { $($(#[$attribute])* Kind::$kind => <$state as Protocol>::NAME,)* }
            }

            /// Why it is not reported, for users who miss it.
            pub fn unread(self) -> Option<&'static str> {
                match self { $($(#[$attribute])* Kind::$kind => <$state as Protocol>::UNREAD,)* }
            }

            fn probe(self, first: &[u8]) -> bool {
                match self { $($(#[$attribute])* Kind::$kind => <$state>::probe(first),)* }
            }

            /// The state in which it begins.
            fn state(self) -> ConnectionState {
                match self {
                    $($(#[$attribute])*
                      Kind::$kind => ConnectionState::$kind(<$state>::default()),)*
                }
            }
        }

        /// What is kept of a connection beside its streams.
        #[derive(Debug)]
        pub enum ConnectionState {
            $($(#[$attribute])* #[doc = concat!("It speaks [`", stringify!($state), "`].")]
              $kind($state),)*
            /// It goes on in another protocol than it began in, and something is under way in that.
            Succession(Box<Succession>),
        }

        /// Calls the same on the state of whichever protocol it is.
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

            fn fin<S: EventSink>(&mut self, cx: &mut Context<'_, S>, direction: Direction) {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => state.fin(cx, direction),)*
                    ConnectionState::Succession(both) => both.now.fin(cx, direction),
                }
            }

            /// The connection is over: what is under way is reported.
            pub fn end<S: EventSink>(&mut self, cx: &mut Context<'_, S>, end: End) {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => state.end(cx, end),)*
                    ConnectionState::Succession(both) => {
                        both.before.end(cx, end);
                        both.now.end(cx, end);
                    }
                }
            }

            /// The connection is forgotten, after its end.
            pub fn leave<S>(&mut self, shared: &mut Shared<S>) {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => state.leave(shared),)*
                    ConnectionState::Succession(both) => {
                        both.before.leave(shared);
                        both.now.leave(shared);
                    }
                }
            }

            fn hand_over(&mut self) -> Option<HandOver> {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => state.hand_over(),)*
                    ConnectionState::Succession(_) => None,
                }
            }

            fn has_open(&self) -> bool {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => state.has_open(),)*
                    ConnectionState::Succession(_) => true,
                }
            }

            /// How much memory is under way, weighed by for how long; 0 where nothing is.
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

            /// Gives memory back that it can do without. False where there is none.
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

            /// Up to where the bytes of `direction` need not come up.
            #[inline(always)]
            pub fn elidable_until<S>(
                &self,
                shared: &mut Shared<S>,
                direction: Direction,
                bytes_min: u64,
                ahead_bytes_max: u32,
            ) -> Option<SeqNumber> {
                match self {
                    $($(#[$attribute])* ConnectionState::$kind(state) => {
                        state.elidable_until(shared, direction, bytes_min, ahead_bytes_max)
                    })*
                    ConnectionState::Succession(both) => {
                        both.now.elidable_until(shared, direction, bytes_min, ahead_bytes_max)
                    }
                }
            }

            /// What the connection turned out to carry.
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
            /// What connections turned out to be.
            pub flows: FlowCounts,
            /// Of messages and exchanges, whatever protocol they came in.
            pub exchanges: ExchangeStats,
            $($(#[$attribute])* #[doc = concat!("Of [`", stringify!($state), "`].")]
              pub $stats: <$state as Protocol>::Stats,)*
        }

        impl ProtocolStats {
            /// Adds every counter of `other`.
            pub fn add(&mut self, other: &ProtocolStats) {
                self.flows.add(&other.flows);
                self.exchanges.add(&other.exchanges);
                $($(#[$attribute])* Stats::add(&mut self.$stats, &other.$stats);)*
            }

            /// The rows of the totals that are the protocols' own.
            pub fn rows(&self) -> Vec<Row> {
                let mut rows = Vec::new();
                $($(#[$attribute])* rows.extend(Stats::rows(&self.$stats));)*
                rows
            }

            /// Whether messages were seen that are in no record.
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
