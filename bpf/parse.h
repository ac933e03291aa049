/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * From a frame to its TCP segment: VLAN tags, IP headers, the flow's key. What the filter and the
 * fanout program know of a frame, they know from here.
 */
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
#define VLAN_TAGS_MAX 8		/* steps, priority tags included */
#define IP_FRAGMENT_MASK 0x3fff	/* more fragments, or an offset */
#define IPV6_FRAGMENT 44
#define IPV6_STEPS_MAX 6
#define LENGTH_UNKNOWN 0	/* BIG TCP: the length does not fit the IP header's field */

/* What the headers tell of a segment. */
struct segment {
	struct flow_key key;
	struct cursor at;	/* where its TCP header begins */
	struct tcphdr tcp;
	__u32 bytes;		/* of TCP header and payload, or LENGTH_UNKNOWN */
	__u32 sender;		/* which endpoint of the key sent it: 0 or 1 */
};

/* Every parsing step returns the reason to stop, or this one to go on. */
#define PARSED REASON_COUNT

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

/* Orders the endpoints, of which the first was the sender's; returns which one is now. */
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
	segment->sender = order_endpoints(&segment->key);
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

#endif
