// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The socket filter of every ring: which frames go up to user space, and how much of them.
 *
 * It passes the TCP segments of connections that speak HTTP and of those that may yet turn out to,
 * rejects everything else, and gives every frame exactly one counted reason. When in doubt, it
 * passes. Of bodies that user space has told it of, it passes the headers only. Linux 5.10 and
 * later, no BTF: so no variable offsets into the stack, no bpf_loop, no spin lock, no
 * compare-and-swap.
 */
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <bpf/bpf_helpers.h>

#include "connection.h"
#include "head.h"
#include "message.h"
#include "restrict.h"
#include "shared.h"
#include "tunnel.h"

#define LOOPBACK_IFINDEX 1	/* in every network namespace: include/net/flow.h */
#define WHOLE_FRAME 0x7fffffff

/*
 * Payload of an opening that passes, both ways together, before it is given up. User space knows
 * far sooner, and says so in a hint. This is for when it is behind, and must hold all that can come
 * before the first segment of a message: a window's worth that overtook it, and any prefix.
 */
#define OPENING_BYTES_MAX (256 << 10)

/* Connections that speak HTTP, and what user space found to be none. Its size: before the load. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct connection);
} sessions SEC(".maps");

/*
 * Connections whose SYN was seen and whose protocol is not known, or was found not to be HTTP.
 * Apart from the sessions, so that a flood of SYNs evicts openings and never sessions.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct connection);
} openings SEC(".maps");

/*
 * SLOT_WORDS words for each CPU: PERCPU_ARRAY cannot be mapped. Words and not structs, because
 * without CAP_PERFMON no variable may be added to a pointer. The size is set before the load.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SLOT_WORDS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} control SEC(".maps");

static __always_inline int is_wanted(const struct __sk_buff *skb, __u32 direction)
{
	int is_outgoing = skb->pkt_type == PACKET_OUTGOING;

	if (direction == DIRECTION_IN)
		return !is_outgoing;
	if (direction == DIRECTION_OUT)
		return is_outgoing;
	/* On loopback every frame comes twice. */
	return !is_outgoing || skb->ifindex != LOOPBACK_IFINDEX;
}

/* Adds to a reason or a counter, on this CPU. */
static __always_inline void add(__u32 word, __u64 amount)
{
	__u32 index = bpf_get_smp_processor_id() * SLOT_WORDS + word;
	__u64 *counter = bpf_map_lookup_elem(&counters, &index);

	if (counter)
		__sync_fetch_and_add(counter, amount);
}

/* A SYN of no session. */
static __always_inline enum reason open(const struct segment *segment)
{
	struct connection begun, *opening = bpf_map_lookup_elem(&openings, &segment->key);

	if (opening) {
		hear_syn(opening, segment);
		return REASON_OPENING;
	}
	begin(&begun, segment);
	if (bpf_map_update_elem(&openings, &segment->key, &begun, BPF_ANY))
		add(COUNTER_OPENINGS_FAILED, 1);
	else
		add(COUNTER_OPENINGS_MADE, 1);
	return REASON_OPENING;
}

/* Enters a session; `how` counts them. */
static __always_inline void enter(const struct segment *segment, const struct connection *session,
				  __u32 how)
{
	if (bpf_map_update_elem(&sessions, &segment->key, session, BPF_ANY)) {
		add(COUNTER_SESSIONS_FAILED, 1);
		return;
	}
	bpf_map_delete_elem(&openings, &segment->key);
	add(how, 1);
}

/* The session that an opening becomes: all that the filter has heard of it is kept. */
static __always_inline void grow(struct connection *session, const struct connection *opening)
{
	*session = *opening;
	session->bytes = 0;
	session->settled = 0;
}

/*
 * The heads of a session are read from its first payload on, of which the filter must have heard
 * all: then it knows where messages begin.
 */
static __always_inline void begin_reading(struct connection *session, const struct segment *segment,
					  const struct connection *opening)
{
	const __u32 both = HINT_ISN_0 | HINT_ISN_1;

	if (opening->bytes || (opening->flags & (both | HINT_LATE)) != both)
		return;
	session->begin[0] = session->isn[0] + 1;
	session->begin[1] = session->isn[1] + 1;
	session->reading = READS_REQUEST | (segment->sender ? READS_CLIENT_1 : 0);
}

/* A connection becomes a session: the one that opened, else one that is joined here. */
static __always_inline enum reason admit(const struct segment *segment,
					 const struct connection *opening,
					 const struct control *words)
{
	struct connection session;

	join(&session, segment);
	if (opening) {
		grow(&session, opening);
		if (words->elide_bytes_min)
			begin_reading(&session, segment, opening);
	}
	enter(segment, &session, COUNTER_SESSIONS_MADE);
	return REASON_ADMITTED;
}

/*
 * User space follows the connection: an opening is a session, and so is one that a map has lost. Of
 * an opening the hint may know one number only, and the filter has heard both.
 */
static __always_inline enum reason restore(const struct segment *segment, const struct told *told,
					   const struct connection *opening)
{
	struct connection session = {
		.isn = { told->grant[0] >> 32, told->grant[1] >> 32 },
		.flags = told->flags,
	};

	if (opening)
		grow(&session, opening);
	if (segment->tcp.fin || segment->tcp.rst)
		hear_end(&session, segment);
	enter(segment, &session, opening ? COUNTER_SESSIONS_MADE : COUNTER_SESSIONS_RESTORED);
	return REASON_SESSION;
}

static __always_inline enum reason reason_of(__u32 kind)
{
	return kind == SETTLED_TLS ? REASON_TLS : REASON_OTHER;
}

/* The kind of connection that a hint makes of it, 0 for HTTP. */
static __always_inline __u32 kind_told(const struct told *told)
{
	if (told->flags & HINT_FOREIGN)
		return SETTLED_FOREIGN;
	return told->flags & HINT_OTHER ? SETTLED_OTHER : 0;
}

/*
 * How many bytes of an elided frame go up: its headers. 0 where it goes up whole, as all do that
 * tell more than their data, or whose data lie beyond what the grant covers.
 */
static __always_inline __u32 elide(const struct segment *segment, __u32 until)
{
	__u32 bytes = payload_bytes(segment), ahead, offset;

	if (bytes < ELIDE_SEGMENT_BYTES_MIN)
		return 0;
	ahead = until - (bpf_ntohl(segment->tcp.seq) + bytes);
	if (ahead >= GRANT_BYTES_MAX)
		return 0;
	offset = cursor_from_data(&segment->at, (const __u32 *)&segment->tcp);
	if (offset == OFFSET_UNKNOWN)
		return 0;
	add(COUNTER_ELIDED_BYTES, bytes);
	return offset + segment->tcp.doff * 4;
}

/*
 * Whether the filter has found itself that what `sender` sends at `seq` is a body's, up to `until`.
 * Unlike a hint, which user space writes when it has the head, this is known before any copy of the
 * head is in a ring: what begins before the body goes up whole, however often it comes.
 */
static __always_inline int has_own_grant(const struct connection *session, __u32 sender,
					 __u32 seq, __u32 *until)
{
	__u64 grant = *(const volatile __u64 *)&session->own_grant;
	__u32 begin = *(const volatile __u32 *)&session->body_begin;
	__u32 reading = session->reading;

	*until = grant;
	return reading && grant && ((reading & READS_CLIENT_1) == 0) == sender &&
	       session->flags & hint_isn(sender) && grant >> 32 == isn_of(session, sender) &&
	       seq - begin < *until - begin;
}

/*
 * Whether a segment without data acknowledges some of a body that the filter has found, and one
 * that acknowledged nearly as much has passed. By those that pass holes become known.
 */
static __always_inline int is_body_ack(const struct segment *segment, struct connection *session)
{
	__u32 ack = bpf_ntohl(segment->tcp.ack_seq), until;

	if (!segment->tcp.ack || !has_own_grant(session, !segment->sender, ack, &until))
		return 0;
	if (ack - session->acked < ACK_STEP_BYTES)
		return 1;
	session->acked = ack;
	return 0;
}

/* Whether it is its sender's turn to send a head, and this segment begins where that does. */
static __always_inline int is_head_due(const struct segment *segment,
				       const struct connection *session)
{
	return segment->sender == next_sender(session->reading) &&
	       bpf_ntohl(segment->tcp.seq) == word_of_sender(session->begin, segment->sender) &&
	       !segment->tcp.urg;
}

/*
 * A segment of a session whose heads are read, and which goes up whole: whether it begins with the
 * head that comes next. Else it is part of what was read before, or we cannot tell what it is, nor
 * what comes behind it. Places are exact, so that whatever was missed ends the reading.
 */
static __always_inline int begins_with_head(const struct segment *segment,
					    struct connection *session)
{
	__u32 seq = word_of_sender(session->begin, segment->sender), offset, begin, end;
	__u32 is_request = session->reading & READS_REQUEST;
	volatile __u32 *place = segment->at.skb->cb;

	if ((__s32)(bpf_ntohl(segment->tcp.seq) + payload_bytes(segment) - seq) <= 0)
		return 0;
	offset = cursor_from_data(&segment->at, (const __u32 *)&segment->tcp);
	begin = offset + segment->tcp.doff * 4;
	end = offset + segment->bytes;
	if (offset == OFFSET_UNKNOWN || !is_head_due(segment, session) ||
	    (!is_request && !may_be_large(segment->at.skb, begin, end))) {
		stop_reading(session);
		return 0;
	}
	place[PLACE_BEGIN] = begin;
	place[PLACE_END] = end;
	place[PLACE_STATE] = is_request ? STATE_REQUEST : STATE_ANSWER;
	place[PLACE_SEQ] = seq;
	place[PLACE_READING] = session->reading;
	return 1;
}

/*
 * Reads the head that begins_with_head() has noted. All it takes is in skb->cb and the session: so
 * to the verifier the ways that lead here are one.
 */
static __always_inline void read_on(struct __sk_buff *skb, struct connection *session,
				    __u32 elide_bytes_min)
{
	volatile __u32 *place = skb->cb;
	__u32 bytes = place[PLACE_END] - place[PLACE_BEGIN], seq = place[PLACE_SEQ];
	__u32 reading = place[PLACE_READING], is_request = reading & READS_REQUEST;
	__u32 sender = next_sender(reading), isn = isn_of(session, sender);
	__u32 head_bytes = read_head(skb), length = place[PLACE_END];
	__u32 end = seq + head_bytes + length;
	int is_found;

	if (session->reading != reading || word_of_sender(session->begin, sender) != seq)
		return;	/* another CPU had a copy, or the entry is another connection's now */
	if (is_request)
		is_found = head_bytes == bytes && !length;
	else
		is_found = length >= elide_bytes_min && length <= BODY_BYTES_MAX &&
			   bytes <= head_bytes + length;
	if (!head_bytes || !is_found) {
		stop_reading(session);
		return;
	}
	set_word_of_sender(session->begin, sender, end);
	if (!is_request) {
		session->body_begin = seq + head_bytes;
		session->acked = session->body_begin - ACK_STEP_BYTES;	/* the next goes up */
		session->own_grant = (__u64)isn << 32 | end;
		add(COUNTER_BODIES_FOUND, 1);
	}
	session->reading = reading ^ (READS_REQUEST | READS_ANSWER);
}

/*
 * A segment of a session that may be cut, or be the first to learn that its session is none: then
 * `kind` says what it is instead, and nothing is decided.
 */
static __always_inline enum reason carry(const struct segment *segment, struct connection *session,
					 const struct control *words, __u32 *bytes_up, __u32 *kind)
{
	struct told told;
	__u32 until;

	if (segment->tcp.fin || segment->tcp.rst) {
		hear_end(session, segment);
		return REASON_SESSION;
	}
	if (segment->tcp.urg)
		return REASON_SESSION;
	if (!payload_bytes(segment))
		return is_body_ack(segment, session) ? REASON_BODY_ACK : REASON_SESSION;
	if (has_own_grant(session, segment->sender, bpf_ntohl(segment->tcp.seq), &until)) {
		*bytes_up = elide(segment, until);
		if (*bytes_up)
			return REASON_ELIDED;
	}
	hear(segment, words, &told);
	if (!is_told_of(&told, session, segment->sender))
		return REASON_SESSION;
	*kind = kind_told(&told);
	if (*kind) {
		settle(session, segment, *kind);
		return REASON_SESSION;
	}
	*bytes_up = elide(segment, grant_of(&told, segment->sender));
	return *bytes_up ? REASON_ELIDED : REASON_SESSION;
}

/*
 * Whether the opening's first payload is here, of both ends: nothing has come before, and its sender
 * has read nothing. User space judges a connection by the same bytes.
 */
static __always_inline int is_first(const struct segment *segment, const struct connection *opening)
{
	__u32 other = !segment->sender;

	if (opening->bytes || !(opening->flags & hint_isn(segment->sender)) ||
	    isn_of(opening, segment->sender) + 1 != bpf_ntohl(segment->tcp.seq))
		return 0;
	return !(opening->flags & hint_isn(other)) ||
	       isn_of(opening, other) + 1 == bpf_ntohl(segment->tcp.ack_seq);
}

/* Payload of no session: what hint there is, what it begins like, what is known of an opening. */
static __always_inline enum reason judge_payload(const struct segment *segment,
						 struct connection *known, __u32 kind,
						 const struct control *words)
{
	__u8 text[LOOK_BYTES] __attribute__((aligned(8)));
	__u32 bytes = payload_bytes(segment);
	struct told told;
	int is_tls;

	if (!kind) {
		hear(segment, words, &told);
		if (told.flags && (!known || is_told_of(&told, known, segment->sender))) {
			kind = kind_told(&told);
			if (!kind)
				return restore(segment, &told, known);
			if (known)
				settle(known, segment, kind);
			if (kind != SETTLED_OTHER)
				return reason_of(kind);
		}
	}
	if (look(segment, 0, text))
		return REASON_UNPARSED;
	is_tls = text[0] >= 0x14 && text[0] <= 0x17 && text[1] == 0x03;
	if (!is_tls && begins_like_message(segment, text, known && !kind))
		return admit(segment, kind ? 0 : known, words);
	if (kind)
		return reason_of(kind);
	if (!known)
		return is_tls ? REASON_TLS : REASON_OTHER;

	if (known->bytes >= OPENING_BYTES_MAX) {
		bpf_map_delete_elem(&openings, &segment->key);
		return is_tls ? REASON_TLS : REASON_OTHER;
	}
	/* The very first bytes of a connection are TLS: this segment still tells user space so. */
	if (is_tls && text[0] <= 0x16 && text[0] >= 0x15 && is_first(segment, known))
		settle(known, segment, SETTLED_TLS);
	__sync_fetch_and_add(&known->bytes, bytes);
	return REASON_OPENING;
}

/* A segment of no session, or of one that turned out to be none: of the `kind`, if not 0. */
static __always_inline enum reason judge(const struct segment *segment, struct connection *known,
					 __u32 kind, const struct control *words)
{
	if (kind == SETTLED_FOREIGN || kind == SETTLED_TLS)
		return reason_of(kind);
	if (payload_bytes(segment))
		return judge_payload(segment, known, kind, words);
	if (kind)
		return reason_of(kind);
	if (known)
		return REASON_OPENING;
	/* The end of a connection that is followed counts; for the sake of a bare ACK no map is asked. */
	if (segment->tcp.fin || segment->tcp.rst) {
		struct told told;

		hear(segment, words, &told);
		if (told.flags && !kind_told(&told))
			return restore(segment, &told, 0);
	}
	return REASON_NO_PAYLOAD;
}

/*
 * What is to be done with the segment that `parse` finds; if it begins with a head that is to be
 * read, the session to which that belongs is in `reads`. Where that is 0 no heads are read: the part
 * for tunnels takes the verifier long enough, and all of the stack.
 */
static __always_inline enum reason decide(struct __sk_buff *skb, const struct control *words,
					  enum reason (*parse)(struct segment *), __u32 *bytes_up,
					  struct connection **reads)
{
	struct segment segment __attribute__((aligned(8)));
	struct connection *known;
	enum reason reason;
	__u32 kind;

	clear(skb, &segment.key, sizeof(segment.key));
	segment.bytes = LENGTH_UNKNOWN;
	segment.tcp_offset = 0;
	segment.zero = words->zero;
	segment.at = (struct cursor){ .skb = skb, .start = opaque(&segment, BPF_HDR_START_NET) };
	reason = parse(&segment);
	if (reason != PARSED)
		return reason;
	if (words->restrictions && is_unwanted(&segment.key, words->restrictions))
		return REASON_UNWANTED;
	if (words->mode == MODE_OFF)
		return REASON_FILTER_OFF;

	known = bpf_map_lookup_elem(&sessions, &segment.key);
	if (known) {
		kind = settled(known);
		if (!kind && segment.tcp.syn) {
			hear_syn(known, &segment);
			return REASON_SESSION;
		}
		if (!kind)
			reason = carry(&segment, known, words, bytes_up, &kind);
		if (!kind)
			goto read;
		if (segment.tcp.syn)
			bpf_map_delete_elem(&sessions, &segment.key);
	}
	if (segment.tcp.syn)
		return open(&segment);
	if (!known) {
		known = bpf_map_lookup_elem(&openings, &segment.key);
		kind = known ? settled(known) : 0;
	}
	reason = judge(&segment, known, kind, words);
	known = reason == REASON_ADMITTED ? bpf_map_lookup_elem(&sessions, &segment.key) : 0;
read:
	if (known && known->reading && reason != REASON_ELIDED && payload_bytes(&segment)) {
		if (!reads)
			stop_reading(known);
		else if (begins_with_head(&segment, known))
			*reads = known;
	}
	return reason;
}

/* Counts the frame; returns how many bytes of it go up: all, its headers, or none. */
static __always_inline int judged(enum reason reason, __u32 bytes_up)
{
	add(reason, 1);
	if (reason == REASON_ELIDED)
		return bytes_up;
	return reason >= REASON_PASS_FIRST ? WHOLE_FRAME : 0;
}

int filter_plain(struct __sk_buff *skb);
int filter_tunnel(struct __sk_buff *skb);

#define PART_PLAIN 0
#define PART_TUNNEL 1

/*
 * The filter's parts, which call each other. Before Linux 6.9 a socket takes no program of more
 * than net.core.optmem_max, 20 KiB or 2,500 instructions; what a program calls does not count.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, int (struct __sk_buff *));
} parts SEC(".maps") = {
	.values = {
		[PART_PLAIN] = &filter_plain,
		[PART_TUNNEL] = &filter_tunnel,
	},
};

/* Frames without a tunnel. */
SEC("socket")
int filter_plain(struct __sk_buff *skb)
{
	__u32 zero = 0, bytes_up = WHOLE_FRAME;
	struct control *words = bpf_map_lookup_elem(&control, &zero);
	struct connection *reads = 0;
	enum reason reason;

	if (!words)
		return 0;	/* not so: the array has this word */
	if (words->gate != GATE_OPEN)
		return judged(REASON_GATED, 0);
	if (!is_wanted(skb, words->direction))
		return judged(REASON_DIRECTION, 0);
	reason = decide(skb, words, parse_plain, &bytes_up, &reads);
	if (reason == TUNNELLED) {
		bpf_tail_call(skb, &parts, PART_TUNNEL);
		reason = REASON_TUNNEL;
	}
	bytes_up = judged(reason, bytes_up);
	if (reads)
		read_on(skb, reads, words->elide_bytes_min);
	return bytes_up;
}

/* Frames with one, from there on. */
SEC("socket")
int filter_tunnel(struct __sk_buff *skb)
{
	__u32 zero = 0, bytes_up = WHOLE_FRAME;
	struct control *words = bpf_map_lookup_elem(&control, &zero);
	enum reason reason;

	if (!words)
		return 0;
	reason = decide(skb, words, parse_inner, &bytes_up, 0);
	return judged(reason, bytes_up);
}

/* What sockets are given. */
SEC("socket")
int http_filter(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &parts, PART_PLAIN);
	return 0;	/* not so: the part is there */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
