/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The one contract between the kernel half and Rust (engine/ids.rs, and counters.rs,
 * filter.rs and hints.rs in engine/sys hold the twins; their tests read this file).
 */
#ifndef HTTPLINES_SHARED_H
#define HTTPLINES_SHARED_H

#include <linux/types.h>

/* VLAN tags a key can hold; a frame with more passes as REASON_TOO_DEEP. */
#define VLAN_DEPTH_MAX 4

/* Bit of flow_key.realm: the addresses are IPv6. */
#define REALM_IPV6 (1u << 31)
/* Bits of flow_key.realm: the low 24 are the network identifier of VXLAN, or of Geneve. */
#define REALM_VXLAN (1u << 24)
#define REALM_GENEVE (2u << 24)

/*
 * ids::FlowKey, byte for byte. Endpoints are ordered by address, then port, as big-endian numbers,
 * so that both directions of a connection have one key. An IPv4 address is in the first word.
 */
struct flow_key {
	__be32 address[2][4];
	__be16 port[2];
	__u16 vlan[VLAN_DEPTH_MAX];	/* outermost first, host order, 0 after the last */
	__u32 realm;
};

_Static_assert(sizeof(struct flow_key) == 48, "flow_key is shared with Rust");

/* What became of a frame: exactly one of these. Rejections come first. */
enum reason {
	REASON_GATED,		/* came while the gate was shut: belongs to no total */
	REASON_DIRECTION,	/* goes the way that is not wanted, or is loopback's second copy */
	REASON_NOT_IP,		/* neither IPv4 nor IPv6 */
	REASON_NOT_TCP,		/* IP that carries something else */
	REASON_UNWANTED,	/* of a port, network or VLAN that the user does not want */
	REASON_NO_PAYLOAD,	/* a segment without data, of no session and no opening */
	REASON_TLS,		/* of a connection that began with a TLS record, or data like one */
	REASON_OTHER,		/* of a connection found to be something else, or other data */
	REASON_BODY_ACK,	/* a bare acknowledgement of a session, within a body known to be one */
	REASON_FILTER_OFF,	/* passes: TCP, and the filter was told to take all of it */
	REASON_SESSION,		/* passes: of an HTTP session */
	REASON_ELIDED,		/* passes, cut to its headers: its data are known to be a body's */
	REASON_OPENING,		/* passes: of a connection whose protocol is not known yet */
	REASON_ADMITTED,	/* passes: began a message, so that its session is known now */
	REASON_FRAGMENT,	/* passes: a fragment that may be TCP */
	REASON_TUNNEL,		/* passes: a tunnel that only user space can look into */
	REASON_TOO_DEEP,	/* passes: more VLAN tags or tunnels than are followed */
	REASON_UNPARSED,	/* passes: headers we could not read exactly */
	REASON_COUNT,
};

#define REASON_PASS_FIRST REASON_FILTER_OFF

/* What is counted beside frames, behind the reasons. */
enum counter {
	COUNTER_SESSIONS_MADE = REASON_COUNT,	/* sessions entered */
	COUNTER_SESSIONS_FAILED,	/* sessions the full map refused */
	COUNTER_SESSIONS_RESTORED,	/* sessions the map had lost and a hint brought back */
	COUNTER_OPENINGS_MADE,		/* SYNs entered */
	COUNTER_OPENINGS_FAILED,	/* SYNs the full map refused */
	COUNTER_ELIDED_BYTES,	/* payload that was cut off elided frames */
	COUNTER_BODIES_FOUND,	/* bodies whose end the filter found itself */
	COUNTER_COUNT,
};

/*
 * The counters are words: a slot for each possible CPU, and in it one word for each reason and
 * counter. A slot is a whole number of cache lines, so that CPUs share none.
 */
#define SLOT_WORDS 32

_Static_assert(COUNTER_COUNT <= SLOT_WORDS && SLOT_WORDS % 8 == 0, "slots are cache lines");

/* Words of one CPU's slot of the fanout program's only counter. */
#define FANOUT_SLOT_WORDS 8

/* control.gate: while it is not open, no frame passes. */
#define GATE_OPEN 1

/* control.mode */
#define MODE_HTTP 0
#define MODE_OFF 1

/* control.direction */
#define DIRECTION_INOUT 0
#define DIRECTION_IN 1
#define DIRECTION_OUT 2

/* control.restrictions: whether there are choices of a kind, and whether they say what is wanted. */
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
	__u32 hint_mask;	/* pairs of hints, less one: a power of two */
	__u32 zero;	/* is 0, which the verifier does not know */
	__u32 elide_bytes_min;	/* bodies of so many bytes the filter may elide itself; 0: none */
};

/* What was chosen of a port, a VLAN id or a network. */
#define CHOICE_WANTED 1
#define CHOICE_UNWANTED 2
#define CHOICE_VXLAN 4
#define CHOICE_NONE 8	/* nothing has this, which the verifier does not know */

/* The choices of ports and VLANs are in words, so many bits for each number; VLANs behind ports. */
#define CHOICE_BITS 4
#define CHOICE_MASK 15
#define CHOICE_VLANS 65536
#define CHOICE_WORDS 4352

/* A prefix: of the realm's 32 bits and the address. */
struct network {
	__u32 prefix_bits;
	__u32 realm;	/* REALM_IPV6, or 0 */
	__be32 address[4];
};

/*
 * Marks of a connection, in bits that flow_key.realm leaves free. HINT_ISN_0 and HINT_ISN_1: the
 * initial sequence number of that endpoint is known, from its SYN; with HINT_LATE, from where the
 * connection was joined: its first segment that begins like a message stands for both.
 */
#define HINT_FOREIGN (1u << 26)	/* hints only: not HTTP, whatever comes, until the next SYN */
#define HINT_OTHER (1u << 27)	/* hints only: not HTTP, until something begins like a message */
#define HINT_LATE (1u << 28)
#define HINT_ISN_0 (1u << 29)
#define HINT_ISN_1 (1u << 30)
#define HINT_FLAGS (HINT_FOREIGN | HINT_OTHER | HINT_LATE | HINT_ISN_0 | HINT_ISN_1)

/*
 * What user space says of a connection that it follows: a cache line that only user space writes.
 * The key's realm has the connection's flags in it; a hint without any is none. A grant is the
 * endpoint's initial sequence number in the upper half, and in the lower the sequence number up to
 * which its data need not come up: one word, so that it never belongs to another connection than
 * the number says.
 */
struct flow_hint {
	struct flow_key key;
	__u64 grant[2];
};

_Static_assert(sizeof(struct flow_hint) == 64, "a hint is a cache line");

/* A key's hints are looked for in one pair. */
struct hint_pair {
	struct flow_hint way[2];
};

/* A grant covers segments that end so many bytes before its end at most. */
#define GRANT_BYTES_MAX (1u << 30)

/* Segments with less payload go up whole: it would save next to nothing. */
#define ELIDE_SEGMENT_BYTES_MIN 256

/* Of a body's acknowledgements one goes up for so many bytes. */
#define ACK_STEP_BYTES (64 << 10)

#endif
