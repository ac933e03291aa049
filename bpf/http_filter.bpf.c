// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The socket filter of every ring: which frames go up to user space.
 *
 * It passes the TCP segments of connections that speak HTTP and of those that may yet turn out to,
 * rejects everything else, and gives every frame exactly one counted reason. When in doubt, it
 * passes. Linux 5.10 and later, no BTF: so no variable offsets into the stack, no bpf_loop, no
 * spin lock, no compare-and-swap.
 */
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <bpf/bpf_helpers.h>

#include "message.h"
#include "restrict.h"
#include "shared.h"
#include "tunnel.h"

#define LOOPBACK_IFINDEX 1	/* in every network namespace: include/net/flow.h */
#define OPENING_BYTES_MAX 512	/* payload that passes before an opening is given up ... */
#define OPENING_BYTES_EACH 64	/* ... of which a segment counts so many at most: eight full ones */

/* Sessions that speak HTTP. The size is set before the load. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, __u32);
} sessions SEC(".maps");

/*
 * Connections whose SYN was seen and whose protocol is not known, with their payload bytes so far;
 * of a long segment the first few count, since a head may come in tiny ones. Apart from the
 * sessions, so that a flood of SYNs evicts openings and never sessions.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, __u32);
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

/* Counts one up, on this CPU; `word` is a reason or a counter. */
static __always_inline void count(__u32 word)
{
	__u32 index = bpf_get_smp_processor_id() * SLOT_WORDS + word;
	__u64 *counter = bpf_map_lookup_elem(&counters, &index);

	if (counter)
		__sync_fetch_and_add(counter, 1);
}

static __always_inline enum reason open(const struct segment *segment)
{
	__u32 bytes = 0;

	if (bpf_map_update_elem(&openings, &segment->key, &bytes, BPF_ANY))
		count(COUNTER_OPENINGS_FAILED);
	else
		count(COUNTER_OPENINGS_MADE);
	return REASON_OPENING;
}

static __always_inline enum reason admit(const struct segment *segment)
{
	__u32 present = 1;

	if (bpf_map_update_elem(&sessions, &segment->key, &present, BPF_ANY)) {
		count(COUNTER_SESSIONS_FAILED);
		return REASON_ADMITTED;
	}
	bpf_map_delete_elem(&openings, &segment->key);
	count(COUNTER_SESSIONS_MADE);
	return REASON_ADMITTED;
}

/* A segment that is of no session and opens nothing. */
static __always_inline enum reason judge(const struct segment *segment)
{
	__u8 text[LOOK_BYTES] __attribute__((aligned(8)));
	enum reason reason = REASON_OTHER;
	__u32 *opening, bytes = segment->bytes - segment->tcp.doff * 4;

	if (segment->bytes == segment->tcp.doff * 4) {
		opening = bpf_map_lookup_elem(&openings, &segment->key);
		return opening ? REASON_OPENING : REASON_NO_PAYLOAD;
	}
	if (look(segment, 0, text))
		return REASON_UNPARSED;
	if (text[0] >= 0x14 && text[0] <= 0x17 && text[1] == 0x03)
		reason = REASON_TLS;
	else if (begins_like_message(segment, text))
		return admit(segment);

	opening = bpf_map_lookup_elem(&openings, &segment->key);
	if (!opening)
		return reason;
	if (*opening >= OPENING_BYTES_MAX) {
		bpf_map_delete_elem(&openings, &segment->key);
		return reason;
	}
	__sync_fetch_and_add(opening, bytes < OPENING_BYTES_EACH ? bytes : OPENING_BYTES_EACH);
	return REASON_OPENING;
}

static __always_inline enum reason decide(struct __sk_buff *skb, const struct control *words)
{
	struct segment segment;
	enum reason reason;

	if (words->gate != GATE_OPEN)
		return REASON_GATED;
	if (!is_wanted(skb, words->direction))
		return REASON_DIRECTION;
	clear(skb, &segment.key, sizeof(segment.key));
	segment.zero = words->zero;
	segment.at = (struct cursor){ .skb = skb, .start = opaque(&segment, BPF_HDR_START_NET) };
	reason = parse(&segment);
	if (reason != PARSED)
		return reason;
	if (words->restrictions && is_unwanted(&segment.key, words->restrictions))
		return REASON_UNWANTED;
	if (words->mode == MODE_OFF)
		return REASON_FILTER_OFF;
	if (bpf_map_lookup_elem(&sessions, &segment.key))
		return REASON_SESSION;
	if (segment.tcp.syn)
		return open(&segment);
	return judge(&segment);
}

/* Returns how many bytes of the frame go up: all, or none. */
SEC("socket")
int http_filter(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct control *words = bpf_map_lookup_elem(&control, &zero);
	enum reason reason;

	if (!words)
		return 0;	/* not so: the array has this word */
	reason = decide(skb, words);
	count(reason);
	return reason >= REASON_PASS_FIRST ? 0x7fffffff : 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
