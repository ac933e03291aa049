// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Chooses the shard of a frame: by a hash of its innermost connection, the same for both
 * directions.
 *
 * The kernel's own hash (PACKET_FANOUT_HASH) does not look into UDP, so it separates the two
 * directions of a tunnelled connection; and a fragment has no ports to hash. Here all fragments of
 * a datagram go where its first one went, or the one that arrived before that. If the connection
 * belongs to another shard, user space passes the joined datagram on: engine/pipeline/crossing.rs.
 * The kernel takes the result modulo the members of the group.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "parse.h"
#include "shared.h"
#include "tunnel.h"

/*
 * Identifies a fragmented datagram, as Key of engine/decode/fragments.rs does: in its network, even
 * if the key of connections ignores networks.
 */
struct datagram {
	__be32 address[2][4];
	__u64 vlans;
	__u32 id;
	__u32 realm;
	__u64 protocol;	/* 0 for IPv6, where the first fragment determines it */
};

/*
 * Datagrams of which a fragment has passed, and the hash that chose its shard. As many as all
 * shards together may hold: the size is set before the load.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct datagram);
	__type(value, __u32);
} datagrams SEC(".maps");

/* Reads the ports of a first fragment into the key; returns non-zero if they are missing. */
static __always_inline long read_ports(struct segment *segment)
{
	__be16 *ports = segment->key.port;
	struct cursor *at = &segment->at;

	return cursor_peek(at, LINEAR, ports, sizeof(segment->key.port)) &&
	       (at->start != CURSOR_FROM_DATA ||
		cursor_peek(at, WHOLE, ports, sizeof(segment->key.port)));
}

/* The hash that chooses the shard of a connection. */
static __always_inline __u32 shard_hash(struct flow_key *key)
{
	ignore_networks(key);
	return flow_hash(key);
}

/* The same by a packet's addresses, if nothing more is known. */
static __always_inline __u32 address_hash(struct segment *segment)
{
	segment->key.port[0] = segment->key.port[1] = 0;
	order_endpoints(&segment->key);
	return shard_hash(&segment->key);
}

static __always_inline __u32 fragment_hash(struct segment *segment)
{
	struct datagram datagram;
	__u32 *found, hash;

	__builtin_memcpy(datagram.address, segment->key.address, sizeof(datagram.address));
	datagram.vlans = segment->vlans;
	datagram.id = segment->fragment_id;
	datagram.realm = segment->key.realm;
	datagram.protocol = datagram.realm & REALM_IPV6 ? 0 : segment->fragment_protocol;
	found = bpf_map_lookup_elem(&datagrams, &datagram);
	if (found)
		return *found;
	fill_vlans(segment);
	if (!segment->fragment_offset && segment->fragment_protocol == IPPROTO_TCP &&
	    !read_ports(segment)) {
		order_endpoints(&segment->key);
		hash = shard_hash(&segment->key);
	} else {
		/* The first fragment comes later, or it is a tunnel's. */
		hash = address_hash(segment);
	}
	if (bpf_map_update_elem(&datagrams, &datagram, &hash, BPF_NOEXIST)) {
		/* Another CPU was faster, or the map has no room. */
		found = bpf_map_lookup_elem(&datagrams, &datagram);
		if (found)
			return *found;
	}
	return hash;
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
		return shard_hash(&segment.key);
	if (reason == REASON_FRAGMENT)
		return fragment_hash(&segment);
	/* Only user space can decode it. The ends of the tunnel are the same in both directions. */
	return reason >= REASON_PASS_FIRST ? address_hash(&segment) : 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
