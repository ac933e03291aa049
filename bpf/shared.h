/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The interface between the kernel half and Rust. The Rust side is in engine/ids.rs, and in
 * counters.rs, filter.rs, restrict.rs and flow_hints.rs in engine/sys; their tests read this file.
 */
#ifndef HTTPLINES_SHARED_H
#define HTTPLINES_SHARED_H

#include <linux/types.h>

/* Maximum number of VLAN tags in a key; a frame with more passes as REASON_TOO_DEEP. */
#define VLAN_DEPTH_MAX 4

/* Bit of flow_key.realm: the addresses are IPv6. */
#define REALM_IPV6 (1u << 31)
/* Bits of flow_key.realm: the low 24 are the network identifier of VXLAN, or of Geneve. */
#define REALM_VXLAN (1u << 24)
#define REALM_GENEVE (2u << 24)

/*
 * ids::FlowKey, byte for byte. Endpoints are ordered by address, then port, as big-endian numbers,
 * so that both directions of a connection have the same key. An IPv4 address is in the first word.
 */
struct flow_key {
	__be32 address[2][4];
	__be16 port[2];
	__u16 vlan[VLAN_DEPTH_MAX];	/* outermost first, host order, 0 after the last */
	__u32 realm;
};

_Static_assert(sizeof(struct flow_key) == 48, "flow_key is shared with Rust");

/* What happened to a frame: exactly one of these. Rejections come first. */
enum reason {
	REASON_GATED,		/* arrived while the gate was shut: belongs to no total */
	REASON_DIRECTION,	/* travels in an unwanted direction, or is loopback's second copy */
	REASON_NOT_IP,		/* neither IPv4 nor IPv6 */
	REASON_NOT_TCP,		/* IP, but neither TCP nor QUIC */
	REASON_QUIC_INITIAL,	/* UDP: begins with an Initial of QUIC, to the lower port */
	REASON_QUIC,		/* UDP: another datagram of QUIC, or of its port */
	REASON_UNWANTED,	/* a port, network or VLAN that the user does not want */
	REASON_SAMPLED,		/* a connection that is not in the sample the user wants */
	REASON_SHED,		/* a connection of the sample that is left out, since rings overflow */
	REASON_NO_PAYLOAD,	/* a segment without data, of neither a session nor an opening */
	REASON_TLS,		/* both ends began with a TLS record, or the data do */
	REASON_OTHER,		/* the connection, or the data, were found not to be HTTP */
	REASON_BODY_ACK,	/* a bare acknowledgement in a body that the filter has found */
	REASON_FILTER_OFF,	/* passes: TCP, and the filter is configured to pass all of it */
	REASON_SESSION,		/* passes: part of an HTTP session */
	REASON_ELIDED,		/* passes, cut to its headers: the data are known to be a body's */
	REASON_OPENING,		/* passes: the connection's protocol is not known yet */
	REASON_ADMITTED,	/* passes: begins a message, which made its session known */
	REASON_TLS_WANTED,	/* passes, some cut to the headers: what records of TLS need */
	REASON_FRAGMENT,	/* passes: a fragment that may be TCP */
	REASON_TUNNEL,		/* passes: a tunnel that only user space can decode */
	REASON_TOO_DEEP,	/* passes: more VLAN tags or tunnels than we follow */
	REASON_UNPARSED,	/* passes: headers that we could not parse exactly */
	REASON_COUNT,
};

#define REASON_PASS_FIRST REASON_FILTER_OFF

/* What is counted apart from frames. The numbers follow those of the reasons. */
enum counter {
	COUNTER_SESSIONS_MADE = REASON_COUNT,	/* sessions added to the map */
	COUNTER_SESSIONS_FAILED,	/* sessions not added: the map was full */
	COUNTER_SESSIONS_RESTORED,	/* sessions the map had evicted, restored by a hint */
	COUNTER_OPENINGS_MADE,		/* SYNs added to the map of openings */
	COUNTER_OPENINGS_FAILED,	/* SYNs not added: the map was full */
	COUNTER_ELIDED_BYTES,	/* payload bytes that were cut off elided frames */
	COUNTER_BODIES_FOUND,	/* bodies whose end the filter found itself */
	COUNTER_UNCLAIMED,	/* frames that the kernel drops if no other protocol takes them */
	COUNTER_COUNT,
};

/*
 * The counters are words: a slot for each possible CPU, and in it one word for each reason and
 * counter. A slot is a whole number of cache lines, so that CPUs share none.
 */
#define SLOT_WORDS 32

_Static_assert(COUNTER_COUNT <= SLOT_WORDS && SLOT_WORDS % 8 == 0, "slots are cache lines");

/* control.gate: while it is not open, no frame passes. */
#define GATE_OPEN 1

/* control.mode */
#define MODE_HTTP 0
#define MODE_OFF 1

/* control.direction */
#define DIRECTION_INOUT 0
#define DIRECTION_IN 1
#define DIRECTION_OUT 2

/*
 * control.restrictions: for each kind, whether there are choices, and whether they list what is
 * wanted.
 */
#define RESTRICT_PORTS 1
#define RESTRICT_TO_PORTS 2
#define RESTRICT_VLANS 4
#define RESTRICT_TO_VLANS 8
#define RESTRICT_NETWORKS 16
#define RESTRICT_TO_NETWORKS 32

/* Written by user space through a mapping, read for every frame. */
struct control {
	__u32 gate;
	__u32 mode;
	__u32 direction;
	__u32 restrictions;
	__u32 hint_mask;	/* pairs of hints, minus one: they are a power of two */
	__u32 zero;	/* always 0, which the verifier does not know */
	__u32 elide_bytes_min;	/* minimum body that the filter may elide itself; 0: none */
	__u32 sample_max;	/* greatest sample_hash() of the user's sample */
	__u32 share_max;	/* connections with a greater one are rejected; at most sample_max */
	__u32 wants_tls;	/* whether some of each TLS connection passes: see tls.h */
};

/* control.share_max: every connection passes. */
#define SAMPLE_ALL 0xffffffffu

/* The choice for a port, a VLAN id or a network. */
#define CHOICE_WANTED 1
#define CHOICE_UNWANTED 2
#define CHOICE_VXLAN 4
#define CHOICE_NONE 8	/* never set, which the verifier does not know */

/* The choices of ports and VLANs are packed in words, this many bits each; VLANs follow ports. */
#define CHOICE_BITS 4
#define CHOICE_MASK 15
#define CHOICE_VLANS 65536
#define CHOICE_WORDS 4352

/* A prefix of the realm (32 bits) and the address. */
struct network {
	__u32 prefix_bits;
	__u32 realm;	/* REALM_IPV6, or 0 */
	__be32 address[4];
};

/*
 * Flags of a connection, in bits that flow_key.realm leaves free. HINT_ISN_0 and HINT_ISN_1: the
 * initial sequence number of that endpoint is known, from its SYN. HINT_LATE: the connection was
 * joined midstream (its beginning was not captured); the sequence number of its first segment that
 * begins like a message, or like frames of HTTP/2, is used for both endpoints.
 */
#define HINT_FOREIGN (1u << 26)	/* hints only: not HTTP, whatever arrives, until the next SYN */
#define HINT_OTHER (1u << 27)	/* hints only: not HTTP, until a segment begins like a message */
#define HINT_TLS (HINT_FOREIGN | HINT_OTHER)	/* hints only: TLS, until the next SYN */
#define HINT_LATE (1u << 28)
#define HINT_ISN_0 (1u << 29)
#define HINT_ISN_1 (1u << 30)
#define HINT_FLAGS (HINT_FOREIGN | HINT_OTHER | HINT_LATE | HINT_ISN_0 | HINT_ISN_1)

/*
 * What user space reports about a connection that it follows: a cache line that only user space
 * writes. The key's realm includes the connection's flags; without any, the slot holds no hint. A
 * grant has the endpoint's initial sequence number in its upper half; in the lower half it has the
 * sequence number up to which the endpoint's data need not reach user space. Both are in one word,
 * so the grant cannot be applied to another connection.
 */
struct flow_hint {
	struct flow_key key;
	__u64 grant[2];
};

_Static_assert(sizeof(struct flow_hint) == 64, "a hint is a cache line");

/* A key's hint is in one of the two slots of its pair. */
struct hint_pair {
	struct flow_hint way[2];
};

/* A grant covers segments that end at most this many bytes before its end. */
#define GRANT_BYTES_MAX (1u << 30)

/* Segments with less payload pass whole: eliding them would save almost nothing. */
#define ELIDE_SEGMENT_BYTES_MIN 256

/*
 * Of a TLS connection, so much of each direction passes if TLS is wanted, and the headers of the
 * segment that reaches each multiple of so much. Both count from the first byte.
 */
#define TLS_BEGIN_BYTES (16u << 10)
#define TLS_STEP_BYTES (1u << 30)

/* During a body, one acknowledgement passes for each of this many bytes. */
#define ACK_STEP_BYTES (64 << 10)

#endif
