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
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "cursor.h"
#include "shared.h"

#define LOOPBACK_IFINDEX 1	/* in every network namespace: include/net/flow.h */
#define VLAN_ID_MASK 0x0fff
#define VLAN_TAGS_MAX 8		/* steps, priority tags included */
#define IP_FRAGMENT_MASK 0x3fff	/* more fragments, or an offset */
#define IPV6_FRAGMENT 44
#define IPV6_STEPS_MAX 6
#define OPENING_BYTES_MAX 512	/* payload that passes before an opening is given up ... */
#define OPENING_BYTES_EACH 64	/* ... of which a segment counts so many at most: eight full ones */
#define LENGTH_UNKNOWN 0	/* BIG TCP: the length does not fit the IP header's field */

#define LEADING_BREAKS_MAX 4	/* CR and LF in front of a message */
#define TOKEN_BYTES_MAX 24
#define LOOK_BYTES 32		/* of a payload: a token, a space, a byte, and some */

/* What the headers tell of a segment. */
struct segment {
	struct flow_key key;
	struct cursor at;	/* where its TCP header begins */
	struct tcphdr tcp;
	__u32 bytes;		/* of TCP header and payload, or LENGTH_UNKNOWN */
};

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

/* Every parsing step returns the reason to stop, or this one to go on. */
#define PARSED REASON_COUNT

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

static __always_inline int is_vlan(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD) ||
	       protocol == bpf_htons(ETH_P_QINQ1);
}

/*
 * Reads the VLAN tags into the key and leaves the cursor at the network header, and the protocol
 * there in `protocol`. The outer tag is in the skb; what is left in band is found from the MAC
 * header: on the way in the network header is the first tag in band, on the way out it is the IP
 * header behind all of them.
 */
static __always_inline enum reason parse_vlan(struct segment *segment, __be16 *protocol)
{
	struct __sk_buff *skb = segment->at.skb;
	__u64 ids = skb->vlan_present ? skb->vlan_tci & VLAN_ID_MASK : 0;
	__u32 depth = ids != 0;

	*protocol = skb->protocol;
	if (is_vlan(*protocol)) {
		segment->at.start = BPF_HDR_START_MAC;
		segment->at.offset = ETH_HLEN;
	}
	for (int step = 0; step < VLAN_TAGS_MAX && is_vlan(*protocol); step++) {
		__be16 tag[2];	/* control information, and the protocol behind */
		__u64 id;

		if (cursor_take(&segment->at, tag, sizeof(tag)))
			return REASON_UNPARSED;
		*protocol = tag[1];
		id = bpf_ntohs(tag[0]) & VLAN_ID_MASK;
		if (!id)
			continue;
		if (depth == VLAN_DEPTH_MAX)
			return REASON_TOO_DEEP;
		ids |= id << (16 * depth);
		depth++;
	}
	if (is_vlan(*protocol))
		return REASON_TOO_DEEP;
	for (int index = 0; index < VLAN_DEPTH_MAX; index++)
		segment->key.vlan[index] = ids >> (16 * index);
	return PARSED;
}

static __always_inline enum reason parse_ipv4(struct segment *segment)
{
	struct flow_key *key = &segment->key;
	struct iphdr ip;
	__u32 header_bytes, total_bytes;

	if (cursor_peek(&segment->at, &ip, sizeof(ip)) || ip.version != 4)
		return REASON_UNPARSED;
	header_bytes = ip.ihl * 4;
	total_bytes = bpf_ntohs(ip.tot_len);
	if (header_bytes < sizeof(ip) || (total_bytes && total_bytes < header_bytes))
		return REASON_UNPARSED;
	/* Tunnels are other protocols: their place is here. */
	if (ip.protocol != IPPROTO_TCP)
		return REASON_NOT_TCP;
	if (ip.frag_off & bpf_htons(IP_FRAGMENT_MASK))
		return REASON_FRAGMENT;

	segment->at.offset += header_bytes;
	if (total_bytes == header_bytes)
		return REASON_UNPARSED;
	segment->bytes = total_bytes ? total_bytes - header_bytes : LENGTH_UNKNOWN;
	key->address[0][0] = ip.saddr;
	key->address[1][0] = ip.daddr;
	return PARSED;
}

static __always_inline int is_ipv6_extension(__u8 header)
{
	return header == IPPROTO_HOPOPTS || header == IPPROTO_ROUTING ||
	       header == IPPROTO_DSTOPTS || header == IPPROTO_AH;
}

static __always_inline enum reason parse_ipv6(struct segment *segment)
{
	struct flow_key *key = &segment->key;
	struct ipv6hdr ip;
	__u32 bytes, extension_bytes = 0;
	__u8 header;

	if (cursor_take(&segment->at, &ip, sizeof(ip)) || ip.version != 6)
		return REASON_UNPARSED;
	bytes = bpf_ntohs(ip.payload_len);
	header = ip.nexthdr;
	for (int step = 0; step < IPV6_STEPS_MAX && is_ipv6_extension(header); step++) {
		__u8 extension[2];	/* the header behind, and the length in eights, less one */
		__u32 step_bytes;

		if (cursor_peek(&segment->at, extension, sizeof(extension)))
			return REASON_UNPARSED;
		step_bytes = (extension[1] + 1) * 8;
		if (header == IPPROTO_AH)	/* in fours, less two: RFC 4302 section 2.2 */
			step_bytes = (extension[1] + 2) * 4;
		header = extension[0];
		segment->at.offset += step_bytes;
		extension_bytes += step_bytes;
	}
	if (is_ipv6_extension(header))
		return REASON_UNPARSED;
	if (header == IPV6_FRAGMENT) {
		if (cursor_peek(&segment->at, &header, sizeof(header)))
			return REASON_UNPARSED;
		return header == IPPROTO_TCP || is_ipv6_extension(header) ? REASON_FRAGMENT
									  : REASON_NOT_TCP;
	}
	if (header != IPPROTO_TCP)
		return REASON_NOT_TCP;
	if (bytes && bytes <= extension_bytes)
		return REASON_UNPARSED;

	segment->bytes = bytes ? bytes - extension_bytes : LENGTH_UNKNOWN;
	__builtin_memcpy(key->address[0], &ip.saddr, sizeof(ip.saddr));
	__builtin_memcpy(key->address[1], &ip.daddr, sizeof(ip.daddr));
	key->realm = REALM_IPV6;
	return PARSED;
}

/* Whether the first endpoint of the key is the greater one; addresses before ports. */
static __always_inline int is_reversed(const struct flow_key *key)
{
	for (int word = 0; word < 4; word++) {
		__u32 first = bpf_ntohl(key->address[0][word]);
		__u32 second = bpf_ntohl(key->address[1][word]);

		if (first != second)
			return first > second;
	}
	return bpf_ntohs(key->port[0]) > bpf_ntohs(key->port[1]);
}

static __always_inline void order_endpoints(struct flow_key *key)
{
	__be16 port = key->port[0];

	if (!is_reversed(key))
		return;
	key->port[0] = key->port[1];
	key->port[1] = port;
	for (int word = 0; word < 4; word++) {
		__be32 address = key->address[0][word];

		key->address[0][word] = key->address[1][word];
		key->address[1][word] = address;
	}
}

static __always_inline enum reason parse_tcp(struct segment *segment)
{
	struct tcphdr *tcp = &segment->tcp;

	if (cursor_peek(&segment->at, tcp, sizeof(*tcp)) || tcp->doff * 4 < sizeof(*tcp))
		return REASON_UNPARSED;
	if (segment->bytes == LENGTH_UNKNOWN) {
		__u32 offset = cursor_from_data(&segment->at, (const __u32 *)tcp);

		if (!offset)
			return REASON_UNPARSED;
		segment->bytes = segment->at.skb->len - offset;
	}
	if (segment->bytes < tcp->doff * 4)
		return REASON_UNPARSED;
	segment->key.port[0] = tcp->source;
	segment->key.port[1] = tcp->dest;
	order_endpoints(&segment->key);
	return PARSED;
}

static __always_inline enum reason parse(struct segment *segment)
{
	__be16 protocol;
	enum reason reason = parse_vlan(segment, &protocol);

	if (reason != PARSED)
		return reason;
	if (protocol == bpf_htons(ETH_P_IP))
		reason = parse_ipv4(segment);
	else if (protocol == bpf_htons(ETH_P_IPV6))
		reason = parse_ipv6(segment);
	else
		reason = REASON_NOT_IP;
	return reason == PARSED ? parse_tcp(segment) : reason;
}

/*
 * Copies the beginning of the payload behind its first `skip` bytes, with zeros after its end; not
 * 0 where the frame does not hold what its headers promise.
 */
static __always_inline long look(const struct segment *segment, __u32 skip, __u8 to[LOOK_BYTES])
{
	struct cursor at = segment->at;
	__u32 ahead = segment->tcp.doff * 4 + skip;
	__u32 bytes = segment->bytes - ahead;
	__u32 offset;

	clear(at.skb, to, LOOK_BYTES);
	if (segment->bytes <= ahead)
		return 0;
	if (bytes > LOOK_BYTES)
		bytes = LOOK_BYTES;
	/* The compiler knows that this changes nothing; verifiers before 6.8 must be shown. */
	asm volatile("" : "+r"(bytes));
	bytes = ((bytes - 1) & (LOOK_BYTES - 1)) + 1;

	at.offset += ahead;
	if (!cursor_peek(&at, to, bytes))
		return 0;
	offset = cursor_from_data(&segment->at, (const __u32 *)&segment->tcp);
	if (!offset)
		return -1;
	return bpf_skb_load_bytes(at.skb, offset + ahead, to, bytes);
}

/* RFC 9110 section 5.6.2, one bit for each byte below 128. */
static __always_inline int is_token_byte(__u8 byte)
{
	const __u64 low = 0x03ff6cfa00000000ull, high = 0x57ffffffc7fffffeull;

	return byte < 128 && ((byte < 64 ? low : high) >> (byte & 63)) & 1;
}

static __always_inline int is_break(__u8 byte)
{
	return byte == '\r' || byte == '\n';
}

static __always_inline int is_http_version(const __u8 *text)
{
	return (text[0] | 0x20) == 'h' && (text[1] | 0x20) == 't' && (text[2] | 0x20) == 't' &&
	       (text[3] | 0x20) == 'p' && text[4] == '/';
}

/*
 * A token, a space, a target. Unrolled, and every byte is loaded on the one way through the loop:
 * before Linux 5.12, and without CAP_PERFMON on any, the stack takes no variable offset.
 */
static __always_inline int is_request_line(const __u8 *text)
{
	int is_target = 0;

#pragma unroll
	for (int index = 0; index <= TOKEN_BYTES_MAX + 1; index++) {
		__u8 byte = text[index];

		if (is_target)
			return byte > ' ';
		if (is_token_byte(byte))
			continue;
		if (!index || byte != ' ')
			return 0;
		is_target = 1;
	}
	return 0;
}

/*
 * Whether the payload begins like a message: engine/decode/admit.rs has the rule in words, and a
 * test holds the two together. `text` is the beginning of the payload and is used up.
 */
static __always_inline int begins_like_message(const struct segment *segment, __u8 *text)
{
	__u32 skip = 0;

#pragma unroll
	for (int index = 0; index < LEADING_BREAKS_MAX; index++) {
		if (!is_break(text[index]))
			break;
		skip++;
	}
	if (skip && look(segment, skip, text))
		return 0;
	return is_http_version(text) || is_request_line(text);
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
	segment.at = (struct cursor){ .skb = skb, .start = BPF_HDR_START_NET };
	/* Restrictions by port, network and VLAN have their place behind this line. */
	reason = parse(&segment);
	if (reason != PARSED)
		return reason;
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
