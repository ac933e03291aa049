// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Chooses the shard of a frame: by a hash of its innermost connection, the same for both
 * directions.
 *
 * The kernel's own hash (PACKET_FANOUT_HASH) does not look into UDP, so it separates the two
 * directions of a tunnelled connection; and a fragment has no ports to hash. Here fragments follow
 * the first one of their datagram. The kernel takes the result modulo the members of the group.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "parse.h"
#include "shared.h"
#include "tunnel.h"

/* Identifies a fragmented datagram of a sender. */
struct datagram {
	__be32 address[2][4];
	__u32 id;
	__u32 realm;
};

/* Datagrams whose first fragment has passed, and its hash. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct datagram);
	__type(value, __u32);
} datagrams SEC(".maps");

/* A word for each possible CPU, each in cache lines of its own. The size is set before the load. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FANOUT_SLOT_WORDS);
	__type(key, __u32);
	__type(value, __u64);
} misplaced SEC(".maps");

static __always_inline void count_misplaced(void)
{
	__u32 index = bpf_get_smp_processor_id() * FANOUT_SLOT_WORDS;
	__u64 *counter = bpf_map_lookup_elem(&misplaced, &index);

	if (counter)
		__sync_fetch_and_add(counter, 1);
}

/* Reads the ports of a first fragment into the key; returns non-zero if they are missing. */
static __always_inline long read_ports(struct segment *segment)
{
	__be16 *ports = segment->key.port;
	struct cursor *at = &segment->at;

	return cursor_peek(at, LINEAR, ports, sizeof(segment->key.port)) &&
	       (at->start != CURSOR_FROM_DATA ||
		cursor_peek(at, WHOLE, ports, sizeof(segment->key.port)));
}

/* The hash of a packet's addresses, if nothing more is known. */
static __always_inline __u32 address_hash(struct segment *segment)
{
	segment->key.port[0] = segment->key.port[1] = 0;
	order_endpoints(&segment->key);
	return flow_hash(&segment->key);
}

static __always_inline __u32 fragment_hash(struct segment *segment)
{
	struct datagram datagram;
	__u32 *found, hash;

	__builtin_memcpy(datagram.address, segment->key.address, sizeof(datagram.address));
	datagram.id = segment->fragment_id;
	datagram.realm = segment->key.realm;
	fill_vlans(segment);
	if (!segment->fragment_offset && segment->fragment_protocol == IPPROTO_TCP &&
	    !read_ports(segment)) {
		order_endpoints(&segment->key);
		hash = flow_hash(&segment->key);
		bpf_map_update_elem(&datagrams, &datagram, &hash, BPF_ANY);
		return hash;
	}
	found = bpf_map_lookup_elem(&datagrams, &datagram);
	if (found)
		return *found;
	/* The first fragment comes later, or it is in a tunnel. */
	count_misplaced();
	return address_hash(segment);
}

SEC("socket")
int fanout(struct __sk_buff *skb)
{
	struct segment segment __attribute__((aligned(8)));
	enum reason reason;

	clear(skb, &segment.key, sizeof(segment.key));
	segment.bytes = LENGTH_UNKNOWN;
	segment.tcp_offset = 0;
	segment.zero = choices_of(0) & CHOICE_NONE;
	segment.at = (struct cursor){ .skb = skb, .start = opaque(&segment, BPF_HDR_START_NET) };
	reason = parse_tunnelled(&segment);
	if (reason == PARSED)
		return flow_hash(&segment.key);
	if (reason == REASON_FRAGMENT)
		return fragment_hash(&segment);
	/* Only user space can decode it. The ends of the tunnel are the same in both directions. */
	return reason >= REASON_PASS_FIRST ? address_hash(&segment) : 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
