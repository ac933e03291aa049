/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The filter's own state of a connection, and the hints of user space about it. */
#ifndef HTTPLINES_CONNECTION_H
#define HTTPLINES_CONNECTION_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "parse.h"
#include "shared.h"

/*
 * The value of both maps of connections. The kernel may reuse an entry's memory for another key
 * while a program on another CPU still writes to it, so writes in place must do no harm there: an
 * initial sequence number that is not the new connection's voids its grants, and `settled` is valid
 * only with that number.
 */
struct connection {
	__u32 isn[2];	/* of each endpoint, if its flag is set */
	__u32 flags;	/* HINT_LATE, HINT_ISN_0, HINT_ISN_1, and those below */
	union {
		__u32 bytes;	/* of an opening: payload bytes so far */
		__u32 acked;	/* of a session, in a body: by the last ACK that passed */
	};
	__u64 settled;	/* that the connection is not HTTP: see settle() */
	__u64 own_grant;	/* of a session's server: like a hint's, but from read_on() */
	__u32 begin[2];	/* where each endpoint's next message begins */
	__u32 reading;	/* which head is next, and which endpoint is the client; 0: unknown */
	__u32 body_begin;	/* begin of the range of own_grant: no head is in it */
	__u32 rival[2];	/* initial sequence numbers of another handshake: see note_rival() */
};

/*
 * More flags of a connection, one bit for each endpoint. The number of the rival is known; its data
 * have begun; the endpoint's first payload is a TLS record.
 */
#define RIVAL_ISN (1u << 0)
#define RIVAL_DATA (1u << 2)
#define TLS_BEGUN (1u << 4)
#define OF_BOTH(flag) ((flag) | (flag) << 1)
/* There were several rivals, and `rival` is the last of them. */
#define RIVALS_MANY (1u << 6)
/* `rival` has the numbers that were the connection's before. */
#define RIVAL_PAST (1u << 7)
#define RIVAL_FLAGS (OF_BOTH(RIVAL_ISN) | OF_BOTH(RIVAL_DATA) | RIVALS_MANY | RIVAL_PAST)
/*
 * The filter must not find the connection to be TLS itself: the data contradict that, or a SYN with
 * other numbers was seen, and the numbers may be a stranger's.
 */
#define NOT_TLS (1u << 8)

#define HINT_ISNS (HINT_ISN_0 | HINT_ISN_1)
#define HINT_ISNS_SHIFT 29

#define READS_REQUEST 1
#define READS_RESPONSE 2
#define READS_CLIENT_1 4	/* the client is the second endpoint */

/* What a connection turned out to be, in `settled`, next to the sender. */
#define SETTLED_OTHER (1 << 1)		/* until a segment begins like a message */
#define SETTLED_FOREIGN (2 << 1)	/* until the next SYN */
#define SETTLED_TLS (3 << 1)		/* the same, and it is TLS */
#define SETTLED_KIND (3 << 1)

static __always_inline __u32 hint_isn(__u32 sender)
{
	return sender ? HINT_ISN_1 : HINT_ISN_0;
}

/*
 * The sender's word of two. Both are loaded: an address that depends on `sender` would be a
 * variable added to a pointer.
 */
static __always_inline __u32 word_of_sender(const volatile __u32 *both, __u32 sender)
{
	__u32 first = both[0], second = both[1];

	return sender ? second : first;
}

static __always_inline void set_word_of_sender(volatile __u32 *both, __u32 sender, __u32 word)
{
	if (sender) {
		both[1] = word;
		/* Else the compiler makes one store of both, at a variable address. */
		asm volatile("" : : : "memory");
	} else {
		both[0] = word;
	}
}

static __always_inline __u32 isn_of(const struct connection *known, __u32 sender)
{
	return word_of_sender(known->isn, sender);
}

static __always_inline void set_isn(struct connection *known, __u32 sender, __u32 isn)
{
	set_word_of_sender(known->isn, sender, isn);
}

/* The endpoint that sends the next head, if heads are read. */
static __always_inline __u32 next_sender(__u32 reading)
{
	__u32 client = (reading & READS_CLIENT_1) != 0;

	return reading & READS_REQUEST ? client : !client;
}

/* Stops reading the connection's heads, and ends the filter's own grant. */
static __always_inline void stop_reading(struct connection *known)
{
	known->reading = 0;
	known->own_grant = 0;
}

static __always_inline __u32 payload_bytes(const struct segment *segment)
{
	return segment->bytes - segment->tcp.doff * 4;
}

/*
 * Records what the connection turned out to be, bound to the initial sequence number of this
 * segment's sender.
 */
static __always_inline void settle(struct connection *known, const struct segment *segment,
				   __u32 kind)
{
	__u64 isn = isn_of(known, segment->sender);

	known->settled = isn << 32 | kind | segment->sender;
}

/* What the connection turned out to be; 0 if that is not known. */
static __always_inline __u32 settled(const struct connection *known)
{
	__u64 word = known->settled;

	return word && word >> 32 == isn_of(known, word & 1) ? word & SETTLED_KIND : 0;
}

/* Whether a segment begins its sender's stream. */
static __always_inline int begins_stream(const struct segment *segment,
					 const struct connection *known)
{
	__u32 flags = known->flags;

	return flags & hint_isn(segment->sender) &&
	       bpf_ntohl(segment->tcp.seq) ==
		       isn_of(known, segment->sender) + !(flags & HINT_LATE);
}

/*
 * What the connection turned out to be, for a segment of it. That rests on the first bytes of the
 * endpoints; a copy of these may differ. So it always passes, and the connection is no longer
 * settled. If the copy is equal, the next segment settles it again.
 */
static __always_inline __u32 kind_of(struct connection *known, const struct segment *segment)
{
	__u32 kind = settled(known);

	if (!kind || !payload_bytes(segment) || !segment->tcp.ack || !begins_stream(segment, known))
		return kind;
	known->settled = 0;
	return 0;
}

/* Resets the state of a new connection, except for its sequence numbers and flags. */
static __always_inline void reset_state(struct connection *known)
{
	known->bytes = 0;
	known->settled = 0;
	known->begin[0] = known->begin[1] = 0;
	known->body_begin = 0;
	known->rival[0] = known->rival[1] = 0;
	stop_reading(known);
}

/*
 * Initialises a connection from its SYN. A SYN-ACK contains the other endpoint's number, too; if
 * the SYN arrives later, its own number overrides that.
 */
static __always_inline void begin(struct connection *known, const struct segment *segment)
{
	__u32 isn = bpf_ntohl(segment->tcp.seq);
	__u32 other = segment->tcp.ack ? bpf_ntohl(segment->tcp.ack_seq) - 1 : isn;

	known->isn[0] = segment->sender ? other : isn;
	known->isn[1] = segment->sender ? isn : other;
	known->flags = hint_isn(segment->sender);
	reset_state(known);
}

/* Initialises a connection that is joined midstream at this segment. */
static __always_inline void join(struct connection *known, const struct segment *segment)
{
	known->isn[0] = known->isn[1] = bpf_ntohl(segment->tcp.seq);
	known->flags = HINT_LATE | HINT_ISN_0 | HINT_ISN_1;
	reset_state(known);
}

/*
 * Value of connection.flags: no number is confirmed, and hints about the connection are not
 * applied.
 */
#define HINT_FLAGS_UNCONFIRMED HINT_LATE

/*
 * Notes the numbers of a SYN or SYN-ACK that is not of this connection. Anybody can send one, so
 * nothing else changes until data have gone both ways under them: see hear_rival().
 */
static __always_inline void note_rival(struct connection *known, const struct segment *segment)
{
	__u32 sender = segment->sender, other = !sender, flags = known->flags;
	__u32 isn = bpf_ntohl(segment->tcp.seq), acked = bpf_ntohl(segment->tcp.ack_seq) - 1;
	int is_known = flags & RIVAL_ISN << sender && word_of_sender(known->rival, sender) == isn;

	if (segment->tcp.ack) {
		int is_answer = flags & RIVAL_ISN << other &&
				word_of_sender(known->rival, other) == acked;

		if (is_answer && !(flags & RIVAL_ISN << sender)) {
			set_word_of_sender(known->rival, sender, isn);
			known->flags = flags | RIVAL_ISN << sender;
			return;
		}
		is_known = is_known && is_answer;
	}
	if (is_known)
		return;
	set_word_of_sender(known->rival, sender, isn);
	if (segment->tcp.ack)
		set_word_of_sender(known->rival, other, acked);
	known->flags = (flags & ~RIVAL_FLAGS) | RIVAL_ISN << sender |
		       (segment->tcp.ack ? RIVAL_ISN << other : 0) |
		       (flags & RIVAL_FLAGS ? RIVALS_MANY : 0);
}

/*
 * Updates a known connection on a SYN. With a new number, it may begin a new connection, be a late
 * copy of an old one's, or come from a stranger. If the present connection has closed, was settled,
 * or has no data yet, the SYN replaces it. But hints may still exist for the connection of a late
 * copy, so nothing is trusted until the answer to this SYN shows that it was no copy. Otherwise the
 * present connection stays, and the numbers are a rival's.
 */
static __always_inline void update_on_syn(struct connection *known, const struct segment *segment,
					  int has_data)
{
	__u32 own = hint_isn(segment->sender), other = !segment->sender;
	__u32 isn = bpf_ntohl(segment->tcp.seq), ack = bpf_ntohl(segment->tcp.ack_seq);
	__u32 flags = known->flags;
	int is_unconfirmed = (flags & HINT_FLAGS) == HINT_FLAGS_UNCONFIRMED;
	int is_trusted = !(flags & HINT_LATE);

	if (isn_of(known, segment->sender) == isn &&
	    (is_trusted || (is_unconfirmed && !segment->tcp.ack))) {
		if (is_trusted)
			known->flags = flags | own;
		return;
	}
	if (segment->tcp.ack && isn_of(known, other) + 1 == ack && !(flags & own) &&
	    (is_unconfirmed || (is_trusted && flags & hint_isn(other)))) {
		known->flags = (flags & ~HINT_LATE) | HINT_ISNS;
		set_isn(known, segment->sender, isn);
		return;
	}
	if (!segment->tcp.ack &&
	    (!has_data || settled(known) || (flags & HINT_ISNS) != HINT_ISNS)) {
		reset_state(known);
		known->flags = HINT_FLAGS_UNCONFIRMED | NOT_TLS;
		set_isn(known, segment->sender, isn);
		return;
	}
	known->settled = 0;
	note_rival(known, segment);
}

/* The rival is the connection from now on. Hints about the former one are void. */
static __always_inline void take_over(struct connection *known)
{
	__u32 first = known->isn[0], second = known->isn[1], flags = known->flags;

	known->isn[0] = known->rival[0];
	known->isn[1] = known->rival[1];
	reset_state(known);
	known->rival[0] = first;
	known->rival[1] = second;
	known->flags = HINT_ISNS | NOT_TLS |
		       (flags & HINT_LATE ? 0 : (flags & HINT_ISNS) >> HINT_ISNS_SHIFT) |
		       RIVAL_PAST;
}

/* Numbers up to this many behind an initial one may be of its connection. */
#define RIVAL_BYTES_MAX (1u << 30)

/*
 * Whether the numbers of a segment may be those of the connection's rival. Then nothing that is
 * known of the connection applies to the segment.
 */
static __always_inline int may_be_rivals(const struct connection *known,
					 const struct segment *segment)
{
	__u32 sender = segment->sender, other = !sender, flags = known->flags;
	__u32 ahead = bpf_ntohl(segment->tcp.seq) - word_of_sender(known->rival, sender);
	__u32 acked = bpf_ntohl(segment->tcp.ack_seq) - word_of_sender(known->rival, other);

	if (flags & RIVALS_MANY)
		return 1;
	if (!(flags & OF_BOTH(RIVAL_ISN)))
		return 0;
	return (!(flags & RIVAL_ISN << sender) || ahead <= RIVAL_BYTES_MAX) &&
	       (!(flags & RIVAL_ISN << other) || acked <= RIVAL_BYTES_MAX);
}

/*
 * Checks whether a segment with data begins its sender's stream under the rival's numbers. If both
 * senders' have begun, the endpoints have agreed on these numbers.
 */
static __always_inline void hear_rival(struct connection *known, const struct segment *segment)
{
	__u32 sender = segment->sender, flags = known->flags;

	if ((flags & OF_BOTH(RIVAL_ISN)) != OF_BOTH(RIVAL_ISN) || flags & RIVAL_PAST ||
	    bpf_ntohl(segment->tcp.seq) != word_of_sender(known->rival, sender) + 1 ||
	    bpf_ntohl(segment->tcp.ack_seq) - word_of_sender(known->rival, !sender) >
		    RIVAL_BYTES_MAX)
		return;
	known->flags = flags | RIVAL_DATA << sender;
	if (flags & RIVAL_DATA << !sender)
		take_over(known);
}

/*
 * Whether a hint's verdict on the connection may be applied at this segment: not to a copy of the
 * first bytes (see kind_of()), and not while there may be another connection.
 */
static __always_inline int is_verdict_due(const struct connection *known,
					  const struct segment *segment)
{
	__u32 flags = known->flags;

	return (!(flags & RIVAL_FLAGS) || flags & RIVAL_PAST) && !begins_stream(segment, known);
}

/*
 * Updates a connection on a FIN or RST: the sender has closed, or reset both directions. Its grants
 * end: later data are retransmissions, or belong to the next connection, whose SYN we may miss.
 */
static __always_inline void update_on_end(struct connection *known, const struct segment *segment)
{
	known->flags &= ~(segment->tcp.rst ? HINT_ISNS : hint_isn(segment->sender));
	/* A late copy of its SYN must not bring it back, either. */
	set_isn(known, segment->sender, isn_of(known, segment->sender) - 1);
	stop_reading(known);
}

/* Two slots for each key; the size is set before the load. Only user space writes here. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hint_pair);
} hints SEC(".maps");

/* A copy of a hint. */
struct hint_copy {
	__u64 grant[2];
	__u32 flags;	/* 0: there is no hint */
};

/* The flags of a hint if its key is `key`, or else 0. */
static __always_inline __u32 hint_flags(const struct flow_hint *hint, const struct flow_key *key)
{
	const volatile __u64 *theirs = (const volatile __u64 *)&hint->key;
	const volatile __u32 *last = (const volatile __u32 *)&hint->key.vlan[2];
	const __u64 *ours = (const __u64 *)key;
	__u32 flags = last[1] ^ key->realm;
	__u64 other = (theirs[0] ^ ours[0]) | (theirs[1] ^ ours[1]) | (theirs[2] ^ ours[2]) |
		      (theirs[3] ^ ours[3]) | (theirs[4] ^ ours[4]) |
		      (last[0] ^ *(const __u32 *)&key->vlan[2]) | (flags & ~HINT_FLAGS);

	return other ? 0 : flags;
}

/* Copies a hint if its key is `key`. */
static __always_inline void read_hint(const struct flow_hint *hint, const struct flow_key *key,
				      struct hint_copy *copy)
{
	const volatile __u64 *grant = hint->grant;

	copy->flags = hint_flags(hint, key);
	if (!copy->flags)
		return;
	copy->grant[0] = grant[0];
	copy->grant[1] = grant[1];
}

static __always_inline void find_hint(const struct segment *segment, const struct control *words,
				      struct hint_copy *hint)
{
	__u32 index = flow_hash(&segment->key) & words->hint_mask;
	const struct hint_pair *pair = bpf_map_lookup_elem(&hints, &index);

	hint->flags = 0;
	if (!pair)
		return;	/* cannot happen: the mask is the map's */
	read_hint(&pair->way[0], &segment->key, hint);
	/* Else the compiler merges the two, with a variable added to a pointer. */
	asm volatile("" : : : "memory");
	if (!hint->flags)
		read_hint(&pair->way[1], &segment->key, hint);
}

static __always_inline __u64 grant_of(const struct hint_copy *hint, __u32 sender)
{
	return sender ? hint->grant[1] : hint->grant[0];
}

/* Whether the hint is about this very connection, by the initial sequence number of the sender. */
static __always_inline int is_hint_of(const struct hint_copy *hint, const struct connection *known,
				      __u32 sender)
{
	__u32 own = hint_isn(sender);

	return hint->flags & known->flags & own && !((hint->flags ^ known->flags) & HINT_LATE) &&
	       grant_of(hint, sender) >> 32 == isn_of(known, sender);
}

#endif
