// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The socket filter of every ring: it decides which frames reach user space, and how much of each.
 *
 * It passes the TCP segments of connections that speak HTTP, and of those whose protocol is not
 * known yet. It rejects everything else, and gives every frame exactly one counted reason. When in
 * doubt, it passes. Of bodies for which user space has written a grant, it passes the headers of
 * frames only. It runs on Linux 5.10 and later without BTF: so no variable offsets into the stack,
 * no bpf_loop, no spin lock, no compare-and-swap.
 */
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <bpf/bpf_helpers.h>

#include "connection.h"
#include "head.h"
#include "message.h"
#include "restrict.h"
#include "shared.h"
#include "tls.h"
#include "tunnel.h"

#define LOOPBACK_IFINDEX 1	/* in every network namespace: include/net/flow.h */

/*
 * Payload of an opening that passes, in both directions together, before the opening is dropped.
 * User space decides much sooner, and writes a hint. This limit is for when it is behind, and must
 * cover all data that can arrive before the first segment of a message: a window's worth that
 * overtook it, and any prefix.
 */
#define OPENING_BYTES_MAX (256 << 10)

/* Connections that speak HTTP, and those that user space found not to. Sized before the load. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct connection);
} sessions SEC(".maps");

/*
 * Connections whose SYN was seen and whose protocol is not known, or was found not to be HTTP. They
 * have a map of their own, so that a flood of SYNs evicts openings and never sessions.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct connection);
} openings SEC(".maps");

/*
 * SLOT_WORDS words for each CPU: PERCPU_ARRAY cannot be mapped. They are words rather than structs,
 * because without CAP_PERFMON no variable may be added to a pointer. The size is set before the
 * load.
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
	/* On loopback every frame is captured twice. */
	return !is_outgoing || skb->ifindex != LOOPBACK_IFINDEX;
}

/* Adds to a reason or a counter, for this CPU. */
static __always_inline void add(__u32 word, __u64 amount)
{
	__u32 index = bpf_get_smp_processor_id() * SLOT_WORDS + word;
	__u64 *counter = bpf_map_lookup_elem(&counters, &index);

	if (counter)
		__sync_fetch_and_add(counter, amount);
}

/* A SYN that belongs to no session; `flags` are more flags of the opening that it makes. */
static __always_inline enum reason judge_syn(const struct segment *segment, __u32 flags)
{
	struct connection begun, *opening = bpf_map_lookup_elem(&openings, &segment->key);

	if (opening) {
		update_on_syn(opening, segment, opening->bytes != 0);
		return REASON_OPENING;
	}
	begin(&begun, segment);
	begun.flags |= flags;
	if (bpf_map_update_elem(&openings, &segment->key, &begun, BPF_ANY))
		add(COUNTER_OPENINGS_FAILED, 1);
	else
		add(COUNTER_OPENINGS_MADE, 1);
	return REASON_OPENING;
}

/* Adds a session to the map; `how` is its counter. */
static __always_inline void add_session(const struct segment *segment,
					const struct connection *session, __u32 how)
{
	if (bpf_map_update_elem(&sessions, &segment->key, session, BPF_ANY)) {
		add(COUNTER_SESSIONS_FAILED, 1);
		return;
	}
	bpf_map_delete_elem(&openings, &segment->key);
	add(how, 1);
}

/* Turns an opening into a session, with everything that the filter knows of it. */
static __always_inline void promote(struct connection *session, const struct connection *opening)
{
	*session = *opening;
	session->bytes = 0;
	session->settled = 0;
}

/*
 * Starts reading the heads of a session, at its first payload. The filter must have seen the
 * connection from its start, since only then it knows where messages begin.
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

/* Turns a connection into a session: the opening, or else one that is joined midstream here. */
static __always_inline enum reason admit(const struct segment *segment,
					 const struct connection *opening,
					 const struct control *words)
{
	struct connection session;

	join(&session, segment);
	if (opening) {
		promote(&session, opening);
		if (words->elide_bytes_min)
			begin_reading(&session, segment, opening);
	}
	add_session(segment, &session, COUNTER_SESSIONS_MADE);
	return REASON_ADMITTED;
}

/*
 * Restores a session from a hint: user space follows the connection, which was an opening, or was
 * evicted from a map. For an opening, the hint may have one initial sequence number only, while the
 * filter has seen both. If the opening is not of the hint (`is_of`), it began with another's SYN.
 */
static __always_inline enum reason restore(const struct segment *segment,
					   const struct hint_copy *hint,
					   const struct connection *opening, int is_of)
{
	struct connection session = {
		.isn = { hint->grant[0] >> 32, hint->grant[1] >> 32 },
		.flags = hint->flags,
	};

	if (opening && is_of)
		promote(&session, opening);
	else if (opening)
		session.flags |= RIVALS_MANY;
	if (segment->tcp.fin || segment->tcp.rst)
		update_on_end(&session, segment);
	add_session(segment, &session, opening ? COUNTER_SESSIONS_MADE : COUNTER_SESSIONS_RESTORED);
	return REASON_SESSION;
}

static __always_inline enum reason reason_of(__u32 kind)
{
	return kind == SETTLED_TLS ? REASON_TLS : REASON_OTHER;
}

/* What a hint reports the connection to be; 0 for HTTP. */
static __always_inline __u32 hinted_kind(const struct hint_copy *hint)
{
	if ((hint->flags & HINT_TLS) == HINT_TLS)
		return SETTLED_TLS;
	if (hint->flags & HINT_FOREIGN)
		return SETTLED_FOREIGN;
	return hint->flags & HINT_OTHER ? SETTLED_OTHER : 0;
}

/*
 * How many bytes of an elided frame pass: its headers. 0 if it passes whole: if it has information
 * besides its data, or its data lie beyond the grant.
 */
static __always_inline __u32 elide(const struct segment *segment, __u32 until)
{
	__u32 bytes = payload_bytes(segment), ahead, headers;

	if (bytes < ELIDE_SEGMENT_BYTES_MIN)
		return 0;
	ahead = until - (bpf_ntohl(segment->tcp.seq) + bytes);
	if (ahead >= GRANT_BYTES_MAX)
		return 0;
	headers = headers_bytes(segment);
	if (headers)
		add(COUNTER_ELIDED_BYTES, bytes);
	return headers;
}

/*
 * Reads the head that begins_with_head() has found. Its input is in skb->cb and the session only:
 * so for the verifier all paths that lead here are the same.
 */
static __always_inline void read_on(struct __sk_buff *skb, struct connection *session,
				    __u32 elide_bytes_min)
{
	volatile __u32 *cb = skb->cb;
	__u32 bytes = cb[CB_END] - cb[CB_BEGIN], seq = cb[CB_SEQ];
	__u32 reading = cb[CB_READING], is_request = reading & READS_REQUEST;
	__u32 sender = next_sender(reading), isn = isn_of(session, sender);
	__u32 head_bytes = read_head(skb), length = cb[CB_END];
	__u32 end = seq + head_bytes + length;
	int is_found;

	if (session->reading != reading || word_of_sender(session->begin, sender) != seq)
		return;	/* another CPU had a copy, or the entry was reused for another connection */
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
		session->acked = session->body_begin - ACK_STEP_BYTES;	/* the next passes */
		session->own_grant = (__u64)isn << 32 | end;
		add(COUNTER_BODIES_FOUND, 1);
	}
	session->reading = reading ^ (READS_REQUEST | READS_RESPONSE);
}

/*
 * Handles a segment of a session. It may be cut; or a hint may show that the connection is not HTTP
 * after all. Then `kind` is set, and the segment is yet to be judged.
 */
static __always_inline enum reason judge_session(const struct segment *segment,
						 struct connection *session,
						 const struct control *words,
						 __u32 *pass_bytes, __u32 *kind)
{
	struct hint_copy hint;
	__u32 until;

	if (segment->tcp.fin || segment->tcp.rst) {
		update_on_end(session, segment);
		return REASON_SESSION;
	}
	/* Data without an acknowledgement are none: no endpoint takes them. */
	if (segment->tcp.urg || !segment->tcp.ack)
		return REASON_SESSION;
	if (!payload_bytes(segment))
		return is_body_ack(segment, session) ? REASON_BODY_ACK : REASON_SESSION;
	if (session->flags & RIVAL_FLAGS)
		hear_rival(session, segment);
	if (has_own_grant(session, segment->sender, bpf_ntohl(segment->tcp.seq),
			  bpf_ntohl(segment->tcp.ack_seq), &until)) {
		*pass_bytes = elide(segment, until);
		if (*pass_bytes)
			return REASON_ELIDED;
	}
	find_hint(segment, words, &hint);
	if (!is_hint_of(&hint, session, segment->sender))
		return REASON_SESSION;
	if (hinted_kind(&hint)) {
		if (is_verdict_due(session, segment)) {
			*kind = hinted_kind(&hint);
			settle(session, segment, *kind);
		}
		return REASON_SESSION;
	}
	if (session->flags & RIVAL_FLAGS && may_be_rivals(session, segment))
		return REASON_SESSION;
	*pass_bytes = elide(segment, grant_of(&hint, segment->sender));
	return *pass_bytes ? REASON_ELIDED : REASON_SESSION;
}

/* Judges payload of no session: by a hint, by its beginning, and by the opening. */
static __always_inline enum reason judge_payload(const struct segment *segment,
						 struct connection *known, __u32 kind,
						 const struct control *words, __u32 *pass_bytes)
{
	__u64 text[LOOK_WORDS];
	const __u8 *byte = (const __u8 *)text;
	int is_over = opaque(segment, known && known->bytes >= OPENING_BYTES_MAX), is_tls;
	__u32 bytes = payload_bytes(segment);
	struct hint_copy hint;

	if (!segment->tcp.ack && kind)
		return reason_of(kind);
	if (!segment->tcp.ack)	/* no endpoint takes it */
		return known ? REASON_OPENING : REASON_OTHER;
	if (known && known->flags & RIVAL_FLAGS)
		hear_rival(known, segment);
	if (!kind) {
		int is_of;

		find_hint(segment, words, &hint);
		is_of = opaque(segment, known && is_hint_of(&hint, known, segment->sender));
		kind = opaque(segment, hinted_kind(&hint));
		if (hint.flags && (!known || is_of || (!kind && is_over))) {
			if (!kind)
				return restore(segment, &hint, known, is_of);
			if (known && !is_verdict_due(known, segment))
				kind = 0;
			else if (known)
				settle(known, segment, kind);
			if (kind == SETTLED_TLS && words->wants_tls)
				return judge_hinted_tls(segment, &hint, pass_bytes);
		} else {
			kind = 0;
		}
	}
	if (kind && kind != SETTLED_OTHER)
		return reason_of(kind);
	if (look(segment, 0, text))
		return REASON_UNPARSED;
	is_tls = byte[0] >= 0x14 && byte[0] <= 0x17 && byte[1] == 0x03;
	if (!is_tls && begins_like_message(segment, text, known && !kind))
		return admit(segment, kind ? 0 : known, words);
	if (kind)
		return reason_of(kind);
	if (!known)
		return is_tls ? REASON_TLS : REASON_OTHER;

	if (is_over) {
		bpf_map_delete_elem(&openings, &segment->key);
		return is_tls ? REASON_TLS : REASON_OTHER;
	}
	/* This segment still passes, to show to user space what it shows to us. */
	settle_tls(segment, known, is_tls && byte[0] <= 0x16 && byte[0] >= 0x15, bytes);
	__sync_fetch_and_add(&known->bytes, bytes);
	return REASON_OPENING;
}

/* Judges a segment of no session, or of one that turned out not to be HTTP: `kind` is not 0. */
static __always_inline enum reason judge(const struct segment *segment, struct connection *known,
					 __u32 kind, const struct control *words,
					 __u32 *pass_bytes)
{
	if (known && kind == SETTLED_TLS && words->wants_tls)
		return judge_tls(segment, known->isn, known->flags, pass_bytes);
	if (payload_bytes(segment))
		return judge_payload(segment, known, kind, words, pass_bytes);
	if (kind)
		return reason_of(kind);
	if (known)
		return REASON_OPENING;
	/* The end of a followed connection matters; a bare ACK is not worth a look-up. */
	if (segment->tcp.fin || segment->tcp.rst) {
		struct hint_copy hint;

		find_hint(segment, words, &hint);
		if (hint.flags && !hinted_kind(&hint))
			return restore(segment, &hint, 0, 0);
		if (hinted_kind(&hint) == SETTLED_TLS && words->wants_tls)
			return REASON_TLS_WANTED;
	}
	return REASON_NO_PAYLOAD;
}

/*
 * Decides about the segment that `parse` finds. If it begins with a head to be read, `reads` is set
 * to its session. Without `reads` no heads are read: the part for tunnels already takes the
 * verifier long enough, and all of the stack.
 */
static __always_inline enum reason decide(struct __sk_buff *skb, const struct control *words,
					  enum reason (*parse)(struct segment *), __u32 *pass_bytes,
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
	reason = judge_share(&segment.key, words);
	if (reason != PARSED)
		return reason;
	ignore_networks(&segment.key);
	if (words->mode == MODE_OFF)
		return REASON_FILTER_OFF;

	known = bpf_map_lookup_elem(&sessions, &segment.key);
	if (known) {
		kind = kind_of(known, &segment);
		if (!kind && segment.tcp.syn) {
			update_on_syn(known, &segment, 1);
			return REASON_SESSION;
		}
		if (!kind)
			reason = judge_session(&segment, known, words, pass_bytes, &kind);
		if (!kind)
			goto read;
		if (segment.tcp.syn)
			bpf_map_delete_elem(&sessions, &segment.key);
	}
	if (segment.tcp.syn)
		return judge_syn(&segment, known ? NOT_TLS : 0);
	if (!known) {
		known = bpf_map_lookup_elem(&openings, &segment.key);
		kind = known ? kind_of(known, &segment) : 0;
	}
	reason = judge(&segment, known, kind, words, pass_bytes);
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

/* Counts the frame, and returns how many bytes of it pass: all, its headers, or none. */
static __always_inline int count_verdict(enum reason reason, __u32 pass_bytes)
{
	add(reason, 1);
	if (reason < REASON_PASS_FIRST)
		return 0;
	return reason == REASON_ELIDED || reason == REASON_TLS_WANTED ? pass_bytes : WHOLE_FRAME;
}

int filter_plain(struct __sk_buff *skb);
int filter_tunnel(struct __sk_buff *skb);

#define PART_PLAIN 0
#define PART_TUNNEL 1

/*
 * The filter's parts, joined by tail calls. Before Linux 6.9 a socket rejects a program of more
 * than net.core.optmem_max, 20 KiB or 2,500 instructions; tail-called programs do not count.
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
	__u32 zero = 0, pass_bytes = WHOLE_FRAME;
	struct control *words = bpf_map_lookup_elem(&control, &zero);
	struct connection *reads = 0;
	enum reason reason;

	if (!words)
		return 0;	/* cannot happen: the array has this word */
	if (words->gate != GATE_OPEN)
		return count_verdict(REASON_GATED, 0);
	if (!is_wanted(skb, words->direction))
		return count_verdict(REASON_DIRECTION, 0);
	reason = decide(skb, words, parse_plain, &pass_bytes, &reads);
	if (reason == TUNNELLED) {
		bpf_tail_call(skb, &parts, PART_TUNNEL);
		reason = REASON_TUNNEL;
	}
	pass_bytes = count_verdict(reason, pass_bytes);
	if (reads)
		read_on(skb, reads, words->elide_bytes_min);
	return pass_bytes;
}

/* Frames with a tunnel, from the tunnel on. */
SEC("socket")
int filter_tunnel(struct __sk_buff *skb)
{
	__u32 zero = 0, pass_bytes = WHOLE_FRAME;
	struct control *words = bpf_map_lookup_elem(&control, &zero);
	enum reason reason;

	if (!words)
		return 0;
	reason = decide(skb, words, parse_inner, &pass_bytes, 0);
	return count_verdict(reason, pass_bytes);
}

/*
 * Whether the kernel's common protocols do not take a frame. It is counted as dropped then
 * (rx_dropped), after sockets like ours have seen it: __netif_receive_skb_core of net/core/dev.c.
 */
static __always_inline int is_unclaimed(const struct __sk_buff *skb)
{
	__u32 protocol = skb->protocol;

	return protocol != bpf_htons(ETH_P_IP) && protocol != bpf_htons(ETH_P_IPV6) &&
	       protocol != bpf_htons(ETH_P_ARP) && skb->pkt_type != PACKET_OUTGOING;
}

/* The entry point, which is attached to sockets. */
SEC("socket")
int http_filter(struct __sk_buff *skb)
{
	if (is_unclaimed(skb))
		add(COUNTER_UNCLAIMED, 1);
	bpf_tail_call(skb, &parts, PART_PLAIN);
	return 0;	/* cannot happen: the part exists */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
