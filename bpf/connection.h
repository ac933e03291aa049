/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the filter itself knows of a connection, and what user space has noted of it.
 */
#ifndef HTTPLINES_CONNECTION_H
#define HTTPLINES_CONNECTION_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "parse.h"
#include "shared.h"

/*
 * The value of both maps of connections. The kernel may give an entry's memory to another key while
 * a program on another CPU still writes to it, so that whatever is written in place must do no harm
 * there: a number that is not its own voids grants, and `settled` counts only beside its own.
 */
struct connection {
	__u32 isn[2];	/* of each endpoint, if it is marked as known */
	__u32 flags;	/* HINT_LATE, HINT_ISN_0, HINT_ISN_1 */
	union {
		__u32 bytes;	/* of an opening: payload so far */
		__u32 acked;	/* of a session, in a body: what the last ACK that went up acknowledges */
	};
	__u64 settled;	/* that it is not HTTP: see settle() */
	__u64 own_grant;	/* of a session's server: like a hint's, but made by read_on() */
	__u32 begin[2];	/* where each endpoint's next message begins */
	__u32 reading;	/* what comes next, and who is the client; 0: that is not known */
	__u32 body_begin;	/* where what own_grant covers begins: no head does */
};

#define READS_REQUEST 1
#define READS_ANSWER 2
#define READS_CLIENT_1 4	/* the client is the second endpoint */

/* How a connection was settled: as `settled` has it, beside the sender. */
#define SETTLED_OTHER (1 << 1)		/* until something begins like a message */
#define SETTLED_FOREIGN (2 << 1)	/* until the next SYN */
#define SETTLED_TLS (3 << 1)		/* the same, and it is TLS */
#define SETTLED_KIND (3 << 1)

static __always_inline __u32 hint_isn(__u32 sender)
{
	return sender ? HINT_ISN_1 : HINT_ISN_0;
}

/*
 * The sender's word of two. Both are read: an address that hangs on `sender` would be a variable added
 * to a pointer.
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
		/* Else the compiler makes one store of both, at a variable place. */
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

/* Whose turn it is to send a head, where heads are read. */
static __always_inline __u32 next_sender(__u32 reading)
{
	__u32 client = (reading & READS_CLIENT_1) != 0;

	return reading & READS_REQUEST ? client : !client;
}

/* Of the connection's heads no more are read, and what was granted of it ends. */
static __always_inline void stop_reading(struct connection *known)
{
	known->reading = 0;
	known->own_grant = 0;
}

static __always_inline __u32 payload_bytes(const struct segment *segment)
{
	return segment->bytes - segment->tcp.doff * 4;
}

/* All of a new connection but its numbers. */
static __always_inline void know_no_more(struct connection *known)
{
	known->bytes = 0;
	known->settled = 0;
	known->begin[0] = known->begin[1] = 0;
	known->body_begin = 0;
	stop_reading(known);
}

/*
 * The connection that a SYN begins, as far as it tells. An answer names the other end's number: of
 * a SYN that comes later that one is believed.
 */
static __always_inline void begin(struct connection *known, const struct segment *segment)
{
	__u32 isn = bpf_ntohl(segment->tcp.seq);
	__u32 other = segment->tcp.ack ? bpf_ntohl(segment->tcp.ack_seq) - 1 : isn;

	known->isn[0] = segment->sender ? other : isn;
	known->isn[1] = segment->sender ? isn : other;
	known->flags = hint_isn(segment->sender);
	know_no_more(known);
}

/* A connection that is joined at this segment. */
static __always_inline void join(struct connection *known, const struct segment *segment)
{
	known->isn[0] = known->isn[1] = bpf_ntohl(segment->tcp.seq);
	known->flags = HINT_LATE | HINT_ISN_0 | HINT_ISN_1;
	know_no_more(known);
}

/* Of connection.flags: no number is known, and what is told of the connection reaches nobody. */
#define HINT_FLAGS_IN_DOUBT HINT_LATE

/*
 * A SYN of a connection that is known. With another number than before it may be of a new one, or a
 * late copy of an old one's, of which something may still be noted. All that holds for the present
 * one ends here, and nothing does for what comes until the answer to this SYN tells that it was no
 * copy.
 */
static __always_inline void hear_syn(struct connection *known, const struct segment *segment)
{
	__u32 own = hint_isn(segment->sender), other = !segment->sender;
	__u32 isn = bpf_ntohl(segment->tcp.seq), ack = bpf_ntohl(segment->tcp.ack_seq);
	__u32 flags = known->flags;

	if (!(flags & HINT_LATE) && isn_of(known, segment->sender) == isn) {
		known->flags = flags | own;
		return;
	}
	if (flags == HINT_FLAGS_IN_DOUBT && !segment->tcp.ack && isn_of(known, segment->sender) == isn)
		return;
	if (!segment->tcp.ack)
		known->bytes = 0;
	known->settled = 0;
	stop_reading(known);
	if (segment->tcp.ack && isn_of(known, other) + 1 == ack &&
	    (flags == HINT_FLAGS_IN_DOUBT || (!(flags & HINT_LATE) && flags & hint_isn(other)))) {
		known->flags = own | hint_isn(other);
	} else {
		known->flags = HINT_FLAGS_IN_DOUBT;
		if (segment->tcp.ack)
			set_isn(known, other, ack);	/* which it does not acknowledge */
	}
	set_isn(known, segment->sender, isn);
}

/*
 * The sender has closed, or reset all. Nothing that was granted of it counts any more: what comes
 * now is sent again, or is the next connection's, whose SYN may pass unseen.
 */
static __always_inline void hear_end(struct connection *known, const struct segment *segment)
{
	known->flags &= segment->tcp.rst ? HINT_LATE : ~hint_isn(segment->sender);
	/* Nor does a late copy of its SYN bring it back. */
	set_isn(known, segment->sender, isn_of(known, segment->sender) - 1);
	stop_reading(known);
}

/* Notes how the connection turned out, bound to the number of who sent this segment. */
static __always_inline void settle(struct connection *known, const struct segment *segment,
				   __u32 kind)
{
	__u64 isn = isn_of(known, segment->sender);

	known->settled = isn << 32 | kind | segment->sender;
}

/* How the connection turned out; 0 where that is open. */
static __always_inline __u32 settled(const struct connection *known)
{
	__u64 word = known->settled;

	return word && word >> 32 == isn_of(known, word & 1) ? word & SETTLED_KIND : 0;
}

/* Two places for each key; the size is set before the load. Only user space writes here. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hint_pair);
} hints SEC(".maps");

/* What a hint says of a segment's sender. */
struct told {
	__u64 grant[2];
	__u32 flags;	/* 0: there is no hint */
};

/* The flags of a hint if its key is `key`, else 0. */
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

/* What a hint says, if its key is `key`. */
static __always_inline void read_hint(const struct flow_hint *hint, const struct flow_key *key,
				      struct told *told)
{
	const volatile __u64 *grant = hint->grant;

	told->flags = hint_flags(hint, key);
	if (!told->flags)
		return;
	told->grant[0] = grant[0];
	told->grant[1] = grant[1];
}

static __always_inline void hear(const struct segment *segment, const struct control *words,
				 struct told *told)
{
	__u32 index = flow_hash(&segment->key) & words->hint_mask;
	const struct hint_pair *pair = bpf_map_lookup_elem(&hints, &index);

	told->flags = 0;
	if (!pair)
		return;	/* not so: the mask is the map's */
	read_hint(&pair->way[0], &segment->key, told);
	/* Else the compiler makes one of both, with a variable added to a pointer. */
	asm volatile("" : : : "memory");
	if (!told->flags)
		read_hint(&pair->way[1], &segment->key, told);
}

static __always_inline __u64 grant_of(const struct told *told, __u32 sender)
{
	return sender ? told->grant[1] : told->grant[0];
}

/* Whether the hint is of this very connection, by the number of the segment's sender. */
static __always_inline int is_told_of(const struct told *told, const struct connection *known,
				      __u32 sender)
{
	__u32 own = hint_isn(sender);

	return told->flags & known->flags & own && !((told->flags ^ known->flags) & HINT_LATE) &&
	       grant_of(told, sender) >> 32 == isn_of(known, sender);
}

#endif
