/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The headers of a frame without a tunnel: VLAN tags, IP, TCP; and the flow's key. */
#ifndef HTTPLINES_PARSE_H
#define HTTPLINES_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "cursor.h"
#include "shared.h"

#define VLAN_ID_MASK 0x0fff
#define VLAN_TAGS_MAX 8		/* tags we follow, including priority tags */
#define IP_FRAGMENT_MASK 0x3fff	/* more fragments, or an offset */
#define IP_OFFSET_MASK 0x1fff
#define IPV6_FRAGMENT 44
#ifndef IPPROTO_L2TP
#define IPPROTO_L2TP 115	/* linux/in.h since 6.0 */
#endif
#define EXTENSIONS_MAX 6
#define EXTENSIONS_INSIDE_MAX 1	/* in a tunnel; more would take the verifier too long */
#define WHOLE_FRAME 0x7fffffff	/* the return value of a filter for a frame that passes whole */
#define LENGTH_UNKNOWN 0	/* BIG TCP: the length does not fit the IP header's field */

/* The parsed headers of a segment. */
struct segment {
	struct flow_key key;
	struct cursor at;	/* where its TCP header begins */
	/* Adjacent, so that one load fills both headers if nothing is between them. */
	union {
		struct ipv6hdr ipv6;
		struct {
			__u8 before[sizeof(struct ipv6hdr) - sizeof(struct iphdr) - 4];
			__be16 tag[2];	/* VLAN control, and the EtherType before IPv4 */
			struct iphdr ipv4;
		};
	};
	struct tcphdr tcp;
	__u32 tcp_offset;	/* the cursor's offset if TCP was loaded with IP, else 0 */
	__u64 vlans;		/* ids, the outermost in the lowest 16 bits */
	__u32 vlan_depth;
	__u32 zero;		/* see opaque() */
	__u32 bytes;		/* of TCP header and payload, or LENGTH_UNKNOWN */
	__u32 sender;		/* which endpoint of the key is the sender: 0 or 1 */
	__u32 fragment_id;	/* of a fragment; then the cursor is after IP's headers */
	__u32 fragment_offset;
	__u8 fragment_protocol;
};

/* Every parsing step returns the reason to stop, or this to continue. */
#define PARSED REASON_COUNT

/*
 * Returns `value`, hidden from the verifier: `zero` comes from a map. The verifier follows every
 * path through the program for each value that it knows, and there would be too many.
 */
static __always_inline __u32 opaque(const struct segment *segment, __u32 value)
{
	return value | segment->zero;
}

/* Protocols that may contain TCP: itself, and the tunnels over IP. */
static __always_inline int leads_to_tcp(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_GRE ||
	       protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6 || protocol == IPPROTO_MPLS ||
	       protocol == IPPROTO_AH || protocol == IPPROTO_L2TP;
}

static __always_inline int is_vlan(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD) ||
	       protocol == bpf_htons(ETH_P_QINQ1);
}

/* Adds a tag inside the existing ones; returns 0 if the key is full. */
static __always_inline int push_vlan(struct segment *segment, __u16 control)
{
	__u64 id = control & VLAN_ID_MASK;

	if (!id)	/* a priority, no VLAN */
		return 1;
	if (segment->vlan_depth == VLAN_DEPTH_MAX)
		return 0;
	segment->vlans |= id << (16 * segment->vlan_depth);
	segment->vlan_depth++;
	return 1;
}

/* Writes the collected tags to the key. */
static __always_inline void fill_vlans(struct segment *segment)
{
	for (int index = 0; index < VLAN_DEPTH_MAX; index++)
		segment->key.vlan[index] = segment->vlans >> (16 * index);
}

/*
 * Loads the rest of `tag`, or all of it, and skips it. With a LINEAR cursor it also loads an IPv4
 * and a TCP header, if there is that much: `is_loaded` is set then. Returns non-zero if the tag is
 * missing.
 */
static __always_inline long take_tag(struct segment *segment, enum reach reach, __be16 *from,
				     __u32 bytes, int *is_loaded)
{
	*is_loaded = reach != LINEAR && !cursor_peek(&segment->at, reach, from, bytes +
						  sizeof(segment->ipv4) + sizeof(segment->tcp));
	if (!*is_loaded && cursor_peek(&segment->at, reach, from, bytes))
		return -1;
	segment->at.offset += bytes;
	return 0;
}

/*
 * Collects the VLAN tags, leaves the cursor at the network header, and sets `protocol` to its
 * EtherType; `is_loaded` is take_tag's. The outer tag is in the skb; in-band tags are found from
 * the MAC header: for incoming frames the skb's network header is the first in-band tag, for
 * outgoing ones it is the IP header after all tags.
 */
static __always_inline enum reason parse_vlan(struct segment *segment, enum reach reach,
					      __be16 *protocol, int *is_loaded)
{
	struct __sk_buff *skb = segment->at.skb;

	segment->vlans = skb->vlan_present ? skb->vlan_tci & VLAN_ID_MASK : 0;
	segment->vlan_depth = opaque(segment, segment->vlans != 0);
	*protocol = skb->protocol;
	if (is_vlan(*protocol)) {
		segment->at.start = opaque(segment, BPF_HDR_START_MAC);
		segment->at.offset = ETH_HLEN;
	}
#pragma clang loop unroll(disable)
	for (int step = 0; step < VLAN_TAGS_MAX && is_vlan(*protocol); step++) {
		if (take_tag(segment, reach, segment->tag, sizeof(segment->tag), is_loaded))
			return REASON_UNPARSED;
		*protocol = segment->tag[1];
		if (!push_vlan(segment, bpf_ntohs(segment->tag[0])))
			return REASON_TOO_DEEP;
	}
	return is_vlan(*protocol) ? REASON_TOO_DEEP : PARSED;
}

/*
 * Loads an IP header; with a LINEAR cursor also TCP's, if that is next and there. Returns non-zero
 * if the IP header is missing.
 */
static __always_inline long load_ip(struct segment *segment, enum reach reach, void *ip,
				    __u32 bytes)
{
	if (reach != LINEAR &&
	    !cursor_peek(&segment->at, reach, ip, bytes + sizeof(segment->tcp))) {
		segment->tcp_offset = segment->at.offset + bytes;
		return 0;
	}
	return cursor_peek(&segment->at, reach, ip, bytes);
}

/*
 * Parses the IPv4 header at the cursor, which is already loaded if `is_loaded`; sets `protocol` to
 * its payload's.
 */
static __always_inline enum reason parse_ipv4(struct segment *segment, enum reach reach,
					      int is_loaded, __u8 *protocol)
{
	struct flow_key *key = &segment->key;
	/*
	 * A local copy if that is enough: the more is in the segment, the more paths the verifier
	 * follows.
	 */
	struct iphdr own, *ip = reach != LINEAR ? &segment->ipv4 : &own;
	__u32 header_bytes, total_bytes;

	if (is_loaded)
		segment->tcp_offset = segment->at.offset + sizeof(*ip);
	else if (load_ip(segment, reach, ip, sizeof(*ip)))
		return REASON_UNPARSED;
	if (ip->version != 4)
		return REASON_UNPARSED;
	header_bytes = ip->ihl * 4;
	total_bytes = bpf_ntohs(ip->tot_len);
	if (header_bytes < sizeof(*ip) || (total_bytes && total_bytes < header_bytes))
		return REASON_UNPARSED;
	*protocol = ip->protocol;
	key->address[0][0] = ip->saddr;
	key->address[1][0] = ip->daddr;
	segment->at.offset += header_bytes;
	if (ip->frag_off & bpf_htons(IP_FRAGMENT_MASK)) {
		segment->fragment_id = ip->id;
		segment->fragment_offset = bpf_ntohs(ip->frag_off) & IP_OFFSET_MASK;
		segment->fragment_protocol = ip->protocol;
		return leads_to_tcp(ip->protocol) ? REASON_FRAGMENT : REASON_NOT_TCP;
	}
	if (total_bytes == header_bytes)
		return ip->protocol == IPPROTO_TCP ? REASON_UNPARSED : REASON_NOT_TCP;
	segment->bytes = total_bytes ? total_bytes - header_bytes : LENGTH_UNKNOWN;
	return PARSED;
}

static __always_inline int is_ipv6_extension(__u8 header)
{
	return header == IPPROTO_HOPOPTS || header == IPPROTO_ROUTING ||
	       header == IPPROTO_DSTOPTS || header == IPPROTO_AH;
}

/* Size of the extension header of type `header`, by its length field. */
static __always_inline __u32 extension_bytes(__u8 header, __u8 length)
{
	/* in units of 8, minus one; AH in units of 4, minus two: RFC 4302 section 2.2 */
	return header == IPPROTO_AH ? (length + 2) * 4 : (length + 1) * 8;
}

/* RFC 8200 section 4.5. */
static __always_inline enum reason parse_ipv6_fragment(struct segment *segment, enum reach reach)
{
	struct {
		__u8 next, reserved;
		__be16 offset;
		__u32 id;
	} fragment;

	if (cursor_take(&segment->at, reach, &fragment, sizeof(fragment)))
		return REASON_UNPARSED;
	segment->fragment_id = fragment.id;
	segment->fragment_offset = bpf_ntohs(fragment.offset) >> 3;
	segment->fragment_protocol = fragment.next;
	return leads_to_tcp(fragment.next) || is_ipv6_extension(fragment.next) ? REASON_FRAGMENT
										: REASON_NOT_TCP;
}

/* Parses the IPv6 header at the cursor and its extensions; sets `protocol` to its payload's. */
static __always_inline enum reason parse_ipv6(struct segment *segment, enum reach reach,
					      __u8 *protocol)
{
	struct flow_key *key = &segment->key;
	struct ipv6hdr own, *ip = reach != LINEAR ? &segment->ipv6 : &own;
	__u32 bytes, extensions_bytes = 0;
	const int extension_count_max = reach == WHOLE ? EXTENSIONS_INSIDE_MAX : EXTENSIONS_MAX;
	__u8 header;

	if (load_ip(segment, reach, ip, sizeof(*ip)) || ip->version != 6)
		return REASON_UNPARSED;
	segment->at.offset += sizeof(*ip);
	bytes = bpf_ntohs(ip->payload_len);
	header = ip->nexthdr;
#pragma clang loop unroll(disable)
	for (int step = 0; step < extension_count_max && is_ipv6_extension(header); step++) {
		__u8 extension[2];	/* the next header, and the length */
		__u32 step_bytes;

		if (cursor_peek(&segment->at, reach, extension, sizeof(extension)))
			return REASON_UNPARSED;
		step_bytes = extension_bytes(header, extension[1]);
		header = extension[0];
		segment->at.offset += step_bytes;
		extensions_bytes += step_bytes;
	}
	if (is_ipv6_extension(header))
		return REASON_UNPARSED;
	__builtin_memcpy(key->address[0], &ip->saddr, sizeof(ip->saddr));
	__builtin_memcpy(key->address[1], &ip->daddr, sizeof(ip->daddr));
	key->realm |= REALM_IPV6;
	if (header == IPV6_FRAGMENT)
		return parse_ipv6_fragment(segment, reach);
	*protocol = header;
	if (bytes && bytes <= extensions_bytes)
		return header == IPPROTO_TCP ? REASON_UNPARSED : REASON_NOT_TCP;

	segment->bytes = bytes ? bytes - extensions_bytes : LENGTH_UNKNOWN;
	return PARSED;
}

/* Whether the first endpoint of the key is the greater one: addresses first, then ports. */
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

/* Orders the endpoints, of which the first is the sender; returns the sender's new index. */
static __always_inline __u32 order_endpoints(struct flow_key *key)
{
	__be16 port = key->port[0];

	if (!is_reversed(key))
		return 0;
	key->port[0] = key->port[1];
	key->port[1] = port;
	for (int word = 0; word < 4; word++) {
		__be32 address = key->address[0][word];

		key->address[0][word] = key->address[1][word];
		key->address[1][word] = address;
	}
	return 1;
}

static __always_inline enum reason parse_tcp(struct segment *segment, enum reach reach)
{
	struct tcphdr *tcp = &segment->tcp;

	if ((reach == LINEAR || segment->tcp_offset != segment->at.offset) &&
	    cursor_peek(&segment->at, reach, tcp, sizeof(*tcp)))
		return REASON_UNPARSED;
	if (tcp->doff * 4 < sizeof(*tcp))
		return REASON_UNPARSED;
	if (segment->bytes == LENGTH_UNKNOWN) {
		__u32 offset = cursor_from_data(&segment->at, (const __u32 *)tcp);

		if (offset == OFFSET_UNKNOWN)
			return REASON_UNPARSED;
		segment->bytes = segment->at.skb->len - offset;
	}
	if (segment->bytes < tcp->doff * 4)
		return REASON_UNPARSED;
	segment->key.port[0] = tcp->source;
	segment->key.port[1] = tcp->dest;
	fill_vlans(segment);
	segment->sender = order_endpoints(&segment->key);
	return PARSED;
}

/* How many bytes the frame has before a segment's payload; 0 if that is unclear. */
static __always_inline __u32 headers_bytes(const struct segment *segment)
{
	__u32 offset = cursor_from_data(&segment->at, (const __u32 *)&segment->tcp);

	return offset == OFFSET_UNKNOWN ? 0 : offset + segment->tcp.doff * 4;
}

/* Whether VLANs and overlay networks are no part of a connection's key. Set before the load. */
const volatile __u32 is_vlan_ignored = 0;

/*
 * Takes VLANs and overlay networks out of the key, if the user wants that. engine/ids.rs has the
 * same function. It comes after the restrictions, which apply to the tags of the frame.
 */
static __always_inline void ignore_networks(struct flow_key *key)
{
	if (!is_vlan_ignored)
		return;
	for (int index = 0; index < VLAN_DEPTH_MAX; index++)
		key->vlan[index] = 0;
	key->realm &= REALM_IPV6;
}

/* Random in each run, so that nobody can choose the hash of a connection. Set before the load. */
const volatile __u32 flow_hash_key[sizeof(struct flow_key) / sizeof(__u32)] = {};

static __always_inline __u64 hash_pair(const __u32 *word, int first, int second)
{
	return (__u64)(__u32)(word[first] + flow_hash_key[first]) *
	       (__u32)(word[second] + flow_hash_key[second]);
}

/*
 * A keyed hash of the key, the same for both directions: it selects a connection's pair of hints,
 * and its shard. The sum of products is NH, a universal hash (RFC 4418 section 5.2): two keys that
 * are chosen without knowing flow_hash_key have the same sum with a probability of at most 2^-32.
 * The products are independent, so they overlap in the CPU; the last product spreads every
 * difference into the upper half. The upper words of IPv4 addresses are always 0. engine/ids.rs has
 * the same function.
 */
static __always_inline __u32 flow_hash(const struct flow_key *key)
{
	const __u32 *word = (const __u32 *)key;
	__u64 hash = hash_pair(word, 0, 4) + hash_pair(word, 8, 11) + hash_pair(word, 9, 10);

	if (key->realm & REALM_IPV6)
		hash += hash_pair(word, 1, 5) + hash_pair(word, 2, 6) + hash_pair(word, 3, 7);
	hash ^= hash >> 32;
	return hash * 0x9e3779b97f4a7c15ull >> 32;
}

#endif
