/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * From a frame to its TCP segment, through tunnels: what engine/decode does for captured frames.
 * Anything that only engine/decode can determine is passed to it (REASON_TUNNEL).
 *
 * The inner headers may be beyond the skb's linear part, so from the first tunnel on the cursor
 * counts from skb->data, from where the whole frame is in reach. Usual tunnels whose headers are in
 * the linear part are followed without that (parse_near), at less than a third of the cost.
 */
#ifndef HTTPLINES_TUNNEL_H
#define HTTPLINES_TUNNEL_H

#include "choice.h"
#include "parse.h"
#include "quic.h"

#define TUNNEL_DEPTH_MAX 2	/* nested tunnels; more are left to user space */
#define TUNNEL_TAGS_MAX 2	/* VLAN tags of an inner frame */
#define LABELS_MAX 4		/* of a stack; networks use up to about six, mirrors two */

#define ETHERTYPE_MIN 0x0600	/* below it the field is a length: IEEE 802.3 */
#define ETHERTYPE_TEB 0x6558	/* Ethernet in GRE or Geneve */
#define ETHERTYPE_ERSPAN 0x88be	/* type I, and with a sequence number type II */
#define ETHERTYPE_ERSPAN_3 0x22eb

#define ETHERTYPE_WCCP 0x883e	/* to web caches */

#define PORT_L2TP 1701
#define PORT_GTPU 2152
#define PORT_TEREDO 3544
#define PORT_GRE 4754		/* RFC 8086 */
#define PORT_VXLAN_GPE 4790
#define PORT_AYIYA 5072
#define PORT_GENEVE 6081
#define PORT_MPLS 6635		/* RFC 7510 */

/* What comes next. */
enum layer {
	LAYER_NONE,	/* nothing that leads to TCP */
	LAYER_UNCLEAR,	/* only user space can determine it */
	LAYER_TCP,
	LAYER_IPV4,
	LAYER_IPV6,
	LAYER_MPLS,
	LAYER_PPPOE,
	LAYER_GRE,
	LAYER_UDP,
	LAYER_ETHERNET,
	LAYER_VLAN,
	LAYER_DATAGRAM,	/* UDP of no tunnel; the cursor is at its header */
};

static __always_inline enum layer layer_of_ethertype(__u16 ethertype)
{
	switch (ethertype) {
	case ETH_P_IP:
		return LAYER_IPV4;
	case ETH_P_IPV6:
		return LAYER_IPV6;
	case ETH_P_8021Q:
	case ETH_P_8021AD:
	case ETH_P_QINQ1:
		return LAYER_VLAN;
	case ETH_P_MPLS_UC:
	case ETH_P_MPLS_MC:
		return LAYER_MPLS;
	case ETH_P_PPP_SES:
		return LAYER_PPPOE;
	}
	/* LLC may be followed by SNAP. */
	return ethertype < ETHERTYPE_MIN ? LAYER_UNCLEAR : LAYER_NONE;
}

static __always_inline enum layer layer_of_protocol(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return LAYER_TCP;
	case IPPROTO_UDP:
		return LAYER_UDP;
	case IPPROTO_GRE:
		return LAYER_GRE;
	case IPPROTO_IPIP:
		return LAYER_IPV4;
	case IPPROTO_IPV6:
		return LAYER_IPV6;
	case IPPROTO_MPLS:
		return LAYER_MPLS;
	case IPPROTO_AH:
	case IPPROTO_L2TP:
		return LAYER_UNCLEAR;
	}
	return LAYER_NONE;
}

/* No field announces what follows a label stack (RFC 4928), or what is in GTP-U. */
static __always_inline enum layer layer_by_version(struct cursor *at)
{
	__u8 first;

	if (cursor_peek(at, WHOLE, &first, sizeof(first)))
		return LAYER_UNCLEAR;
	if (first >> 4 == 4)
		return LAYER_IPV4;
	return first >> 4 == 6 ? LAYER_IPV6 : LAYER_UNCLEAR;
}

static __always_inline enum layer step_mpls(struct cursor *at)
{
#pragma unroll
	for (int index = 0; index < LABELS_MAX; index++) {
		__be32 label;

		if (cursor_take(at, WHOLE, &label, sizeof(label)))
			return LAYER_UNCLEAR;
		if (label & bpf_htonl(0x100))	/* the last entry: RFC 3032 */
			return layer_by_version(at);
	}
	return LAYER_UNCLEAR;
}

/* RFC 2516 section 4, followed by PPP with a protocol of two bytes. */
static __always_inline enum layer step_pppoe(struct cursor *at)
{
	__be16 header[4];

	if (cursor_take(at, WHOLE, header, sizeof(header)))
		return LAYER_UNCLEAR;
	if (header[0] != bpf_htons(0x1100))
		return LAYER_NONE;
	if (header[3] == bpf_htons(0x0021))
		return LAYER_IPV4;
	if (header[3] == bpf_htons(0x0057))
		return LAYER_IPV6;
	/* A protocol of one byte; address and control first; MPLS: RFC 1661, RFC 1662. */
	return header[3] & bpf_htons(0x0100) || header[3] == bpf_htons(0xff03) ||
	       header[3] == bpf_htons(0x0281) || header[3] == bpf_htons(0x0283) ?
	       LAYER_UNCLEAR : LAYER_NONE;
}

/* RFC 2784 and RFC 2890; routing (RFC 1701) and version 1 (PPTP) are left to user space. */
static __always_inline enum layer step_gre(struct cursor *at)
{
	__be16 header[2];
	__u16 flags, protocol;
	__u8 last;

	if (cursor_take(at, WHOLE, header, sizeof(header)))
		return LAYER_UNCLEAR;
	flags = bpf_ntohs(header[0]);
	protocol = bpf_ntohs(header[1]);
	if (flags & 0x4007)
		return LAYER_UNCLEAR;
	at->offset += (flags & 0x8000 ? 4 : 0) + (flags & 0x2000 ? 4 : 0) +
		      (flags & 0x1000 ? 4 : 0);
	if (protocol == ETHERTYPE_TEB)
		return LAYER_ETHERNET;
	if (protocol == ETHERTYPE_ERSPAN) {
		at->offset += flags & 0x1000 ? 8 : 0;
		return LAYER_ETHERNET;
	}
	if (protocol == ETHERTYPE_ERSPAN_3) {
		at->offset += 11;
		if (cursor_take(at, WHOLE, &last, sizeof(last)))
			return LAYER_UNCLEAR;
		at->offset += last & 1 ? 8 : 0;
		return LAYER_ETHERNET;
	}
	/* The second is 802.11, from access points. */
	if (protocol == ETHERTYPE_WCCP || (protocol & 0xff0f) == 0x8200)
		return LAYER_UNCLEAR;
	return protocol < ETHERTYPE_MIN ? LAYER_NONE : layer_of_ethertype(protocol);
}

/* RFC 7348. */
static __always_inline enum layer step_vxlan(struct cursor *at, __u32 *realm)
{
	__be32 header[2];

	if (cursor_take(at, WHOLE, header, sizeof(header)) || !(header[0] & bpf_htonl(0x08000000)))
		return LAYER_NONE;
	*realm = REALM_VXLAN | bpf_ntohl(header[1]) >> 8;
	return LAYER_ETHERNET;
}

/* RFC 8926. */
static __always_inline enum layer step_geneve(struct cursor *at, __u32 *realm)
{
	__be32 header[2];
	__u32 first;

	if (cursor_take(at, WHOLE, header, sizeof(header)))
		return LAYER_NONE;
	first = bpf_ntohl(header[0]);
	if (first >> 30)	/* another version */
		return LAYER_NONE;
	at->offset += (first >> 24) * 4;
	*realm = REALM_GENEVE | bpf_ntohl(header[1]) >> 8;
	first &= 0xffff;
	if (first == ETHERTYPE_TEB)
		return LAYER_ETHERNET;
	return first < ETHERTYPE_MIN ? LAYER_NONE : layer_of_ethertype(first);
}

/* Skips an extension header of GTP-U; sets `kind` to the type of the next, or 0. */
static __always_inline long skip_gtpu_extension(struct cursor *at, __u8 *kind)
{
	__u8 words;

	if (cursor_peek(at, WHOLE, &words, sizeof(words)) || !words)
		return -1;
	at->offset += words * 4 - sizeof(*kind);
	return cursor_take(at, WHOLE, kind, sizeof(*kind));
}

/* 3GPP TS 29.281 section 5: version 1, a user's packet. */
static __always_inline enum layer step_gtpu(struct cursor *at)
{
	__u8 header[8], kind;

	if (cursor_take(at, WHOLE, header, sizeof(header)))
		return LAYER_NONE;
	if ((header[0] & 0xf0) != 0x30 || header[1] != 255)
		return LAYER_NONE;
	if (!(header[0] & 0x07))
		return layer_by_version(at);
	at->offset += 3;	/* sequence number, N-PDU number */
	if (cursor_take(at, WHOLE, &kind, sizeof(kind)))
		return LAYER_NONE;
	if (!(header[0] & 0x04))
		kind = 0;
	/*
	 * Networks use one, 5G's PDU session container; a loop would be too much for the verifier.
	 */
	if (kind && skip_gtpu_extension(at, &kind))
		return LAYER_UNCLEAR;
	if (kind && skip_gtpu_extension(at, &kind))
		return LAYER_UNCLEAR;
	return kind ? LAYER_UNCLEAR : layer_by_version(at);
}

/* The tunnel that a UDP header's ports announce. */
enum overlay { OVERLAY_NONE, OVERLAY_UNCLEAR, OVERLAY_VXLAN, OVERLAY_GENEVE, OVERLAY_GTPU };

/* Overlays vary the source port (RFC 7348 section 5); the others may respond to any port. */
static __always_inline enum overlay overlay_of(const __be16 ports[2])
{
	__u16 source = bpf_ntohs(ports[0]), destination = bpf_ntohs(ports[1]);

	if (choices_of_port(destination) & CHOICE_VXLAN)
		return OVERLAY_VXLAN;
	if (destination == PORT_GENEVE)
		return OVERLAY_GENEVE;
	if (destination == PORT_GTPU || source == PORT_GTPU)
		return OVERLAY_GTPU;
	return destination == PORT_TEREDO || source == PORT_TEREDO ||
	       destination == PORT_L2TP || source == PORT_L2TP ||
	       destination == PORT_AYIYA || source == PORT_AYIYA || destination == PORT_GRE ||
	       destination == PORT_VXLAN_GPE || destination == PORT_MPLS ? OVERLAY_UNCLEAR :
									    OVERLAY_NONE;
}

static __always_inline enum layer step_udp(struct cursor *at, __u32 *realm)
{
	__be16 ports[2];
	enum overlay overlay;

	if (cursor_take(at, WHOLE, ports, sizeof(ports)))
		return LAYER_UNCLEAR;
	overlay = overlay_of(ports);
	if (overlay == OVERLAY_NONE) {
		at->offset -= sizeof(ports);
		return LAYER_DATAGRAM;
	}
	at->offset += UDP_HEADER_BYTES - sizeof(ports);
	if (overlay == OVERLAY_VXLAN)
		return step_vxlan(at, realm);
	if (overlay == OVERLAY_GENEVE)
		return step_geneve(at, realm);
	if (overlay == OVERLAY_GTPU)
		return step_gtpu(at);
	return LAYER_UNCLEAR;
}

/* Skips the inner Ethernet header and its tags, or the tags alone. */
static __always_inline enum layer step_ethernet(struct segment *segment, enum layer layer)
{
	struct cursor *at = &segment->at;

	if (layer == LAYER_ETHERNET) {
		__be16 ethertype;

		at->offset += ETH_HLEN - sizeof(ethertype);
		if (cursor_take(at, WHOLE, &ethertype, sizeof(ethertype)))
			return LAYER_UNCLEAR;
		layer = layer_of_ethertype(bpf_ntohs(ethertype));
	}
#pragma unroll
	for (int index = 0; index < TUNNEL_TAGS_MAX && layer == LAYER_VLAN; index++) {
		__be16 tag[2];

		if (cursor_take(at, WHOLE, tag, sizeof(tag)) ||
		    !push_vlan(segment, bpf_ntohs(tag[0])))
			return LAYER_UNCLEAR;
		layer = layer_of_ethertype(bpf_ntohs(tag[1]));
	}
	return layer == LAYER_VLAN ? LAYER_UNCLEAR : layer;
}

/* Skips the header of one tunnel, and the link layer in it. */
static __always_inline enum layer step_in(struct segment *segment, enum layer layer)
{
	struct cursor *at = &segment->at;

	if (layer == LAYER_GRE)
		layer = step_gre(at);
	else if (layer == LAYER_UDP)
		layer = step_udp(at, &segment->key.realm);
	if (layer == LAYER_ETHERNET || layer == LAYER_VLAN)
		layer = step_ethernet(segment, opaque(segment, layer));
	if (layer == LAYER_MPLS)
		layer = step_mpls(at);
	else if (layer == LAYER_PPPOE)
		layer = step_pppoe(at);
	return layer;
}

/*
 * Parses the IP header at the cursor, which is already loaded if `is_loaded`; sets `layer` to its
 * payload's.
 */
static __always_inline enum reason parse_ip(struct segment *segment, enum reach reach,
					    int is_loaded, enum layer *layer)
{
	enum reason reason;
	__u8 protocol = 0;

	if (*layer == LAYER_IPV4)
		reason = parse_ipv4(segment, reach, is_loaded, &protocol);
	else
		reason = parse_ipv6(segment, reach, &protocol);
	*layer = layer_of_protocol(protocol);
	return reason;
}

/* Results of parsing in place of a reason: the frame has a tunnel; it is UDP of no tunnel. */
#define TUNNELLED (REASON_COUNT + 1)
#define DATAGRAM (REASON_COUNT + 2)

/*
 * From the header of a tunnel, `layer`, to the inner TCP header. It is not inlined, so that frames
 * without a tunnel do not pay for its registers.
 */
static __noinline int parse_tunnel(struct segment *segment, __u32 outer)
{
	enum layer layer = outer;

	for (int depth = 0; depth < TUNNEL_DEPTH_MAX; depth++) {
		enum reason reason;

		layer = opaque(segment, step_in(segment, layer));
		if (layer == LAYER_NONE)
			return REASON_NOT_TCP;
		if (layer == LAYER_DATAGRAM)
			return DATAGRAM;
		if (layer != LAYER_IPV4 && layer != LAYER_IPV6)
			return REASON_TUNNEL;
		/* Clear the outer packet's part of the key. */
		clear(segment->at.skb, segment->key.address, sizeof(segment->key.address));
		segment->key.realm = opaque(segment, segment->key.realm & ~REALM_IPV6);
		reason = parse_ip(segment, WHOLE, 0, &layer);
		if (reason != PARSED)
			return reason;
		layer = opaque(segment, layer);
		if (layer == LAYER_TCP)
			return parse_tcp(segment, WHOLE);
	}
	return REASON_TOO_DEEP;
}

/* The same for the frame's first tunnel, whose header may be out of reach of a relative cursor. */
static __always_inline enum reason enter_tunnel(struct segment *segment, enum layer layer)
{
	__u32 known[2], offset;

	if (layer == LAYER_NONE)
		return REASON_NOT_TCP;
	if (layer == LAYER_UNCLEAR)
		return REASON_TUNNEL;
	if (cursor_peek(&segment->at, LINEAR, known, sizeof(known)))
		return REASON_UNPARSED;
	offset = cursor_from_data(&segment->at, known);
	if (offset == OFFSET_UNKNOWN)
		return REASON_UNPARSED;
	segment->at.start = opaque(segment, CURSOR_FROM_DATA);
	segment->at.offset = offset;
	return parse_tunnel(segment, layer);
}

/* The tunnel that may follow the UDP header at the cursor. Most have none. */
static __always_inline enum overlay announced_tunnel(const struct segment *segment)
{
	__be16 ports[2];

	/* The bytes after the IP header were loaded as TCP's header, but they are UDP's. */
	ports[0] = segment->tcp.source;
	ports[1] = segment->tcp.dest;
	if (segment->tcp_offset != segment->at.offset &&
	    cursor_peek(&segment->at, LINEAR, ports, sizeof(ports)))
		return OVERLAY_UNCLEAR;
	return overlay_of(ports);
}

/* LLC with SNAP (RFC 1042; IEEE 802.1H) may lead to IP: user space finds out. */
static __always_inline enum reason parse_llc(struct segment *segment)
{
	__u8 llc[6];

	if (cursor_peek(&segment->at, LINEAR, llc, sizeof(llc)))
		return REASON_NOT_IP;
	if (llc[0] != 0xaa || llc[1] != 0xaa || llc[2] != 3 || llc[3] || llc[4])
		return REASON_NOT_IP;
	return llc[5] == 0 || llc[5] == 0xf8 ? REASON_TUNNEL : REASON_NOT_IP;
}

/* Up to the first tunnel, or to TCP; sets `layer` to what follows. */
static __always_inline enum reason parse_outer(struct segment *segment, enum reach reach,
					       enum layer *layer)
{
	__be16 ethertype;
	int is_loaded = 0;
	enum reason reason = parse_vlan(segment, reach, &ethertype, &is_loaded);

	if (reason != PARSED)
		return reason;
	if (ethertype == bpf_htons(ETH_P_802_2))
		return parse_llc(segment);
	*layer = layer_of_ethertype(bpf_ntohs(ethertype));
	if (*layer == LAYER_IPV4 || *layer == LAYER_IPV6)
		return parse_ip(segment, reach, is_loaded, layer);
	return *layer == LAYER_MPLS || *layer == LAYER_PPPOE ? PARSED : REASON_NOT_IP;
}

/*
 * Saves the state of parsing at a frame's first tunnel, for the program that continues there:
 * skb->cb is the only memory that survives a tail call. The kernel clears it before every program
 * that has tail calls: bpf_prog_run_clear_cb() in linux/filter.h.
 */
static __always_inline void save_state(const struct segment *segment, enum layer layer)
{
	struct __sk_buff *skb = segment->at.skb;

	skb->cb[0] = layer;
	skb->cb[1] = segment->at.offset << 8 | segment->vlan_depth << 4 | segment->at.start;
	skb->cb[2] = segment->vlans;
	skb->cb[3] = segment->vlans >> 32;
}

/*
 * The layer after GRE or UDP if it is of the usual kind: without options, and loaded as TCP's
 * header together with the IP header. Moves the cursor there.
 */
static __always_inline enum layer step_near(struct segment *segment, enum layer layer,
					    enum overlay overlay)
{
	const volatile __be32 *header = (const volatile __be32 *)&segment->tcp;
	__u32 first, realm = bpf_ntohl(header[3]) >> 8;

	if (layer == LAYER_GRE) {
		first = bpf_ntohl(header[0]);
		segment->at.offset += 4;
		if (first == ETHERTYPE_TEB)
			return LAYER_ETHERNET;
		return first < 0x10000 ? layer_of_ethertype(first) : LAYER_UNCLEAR;
	}
	first = bpf_ntohl(header[2]);
	segment->at.offset += 16;
	if (overlay == OVERLAY_VXLAN && first & 0x08000000) {
		segment->key.realm |= REALM_VXLAN | realm;
		return LAYER_ETHERNET;
	}
	if (overlay == OVERLAY_GENEVE && first >> 24 == 0 && (first & 0xffff) == ETHERTYPE_TEB) {
		segment->key.realm |= REALM_GENEVE | realm;
		return LAYER_ETHERNET;
	}
	if (overlay == OVERLAY_GTPU && (first & 0xf7ff0000) == 0x30ff0000) {
		first = bpf_ntohl(header[4]) >> 28;
		return first == 4 ? LAYER_IPV4 : first == 6 ? LAYER_IPV6 : LAYER_UNCLEAR;
	}
	return LAYER_UNCLEAR;
}

/*
 * The segment inside a tunnel of the usual kind, if all headers are in the skb's linear part; or
 * REASON_TUNNEL. Anything else is TUNNELLED: the part for tunnels continues from the saved state.
 */
static __always_inline enum reason parse_near(struct segment *segment, enum layer layer,
					      enum overlay overlay)
{
	int is_loaded = 0;

	if (segment->tcp_offset != segment->at.offset)
		return TUNNELLED;
	if (overlay == OVERLAY_UNCLEAR)
		return REASON_TUNNEL;
	if (layer == LAYER_GRE || layer == LAYER_UDP)
		layer = opaque(segment, step_near(segment, layer, overlay));
	if (layer == LAYER_ETHERNET) {
		segment->at.offset += ETH_HLEN - sizeof(segment->tag[1]);
		if (take_tag(segment, PAIRS, &segment->tag[1], sizeof(segment->tag[1]), &is_loaded))
			return TUNNELLED;
		layer = opaque(segment, layer_of_ethertype(bpf_ntohs(segment->tag[1])));
	}
	if (layer != LAYER_IPV4 && layer != LAYER_IPV6)
		return TUNNELLED;
	/* Clear the outer packet's part of the key. */
	clear(segment->at.skb, segment->key.address, sizeof(segment->key.address));
	segment->key.realm = opaque(segment, segment->key.realm & ~REALM_IPV6);
	if (parse_ip(segment, PAIRS, is_loaded, &layer) != PARSED || layer != LAYER_TCP)
		return TUNNELLED;
	return parse_tcp(segment, PAIRS) == PARSED ? PARSED : TUNNELLED;
}

/* From the frame to its segment, if it has no tunnel or a usual one. */
static __always_inline enum reason parse_plain(struct segment *segment)
{
	enum overlay overlay = OVERLAY_NONE;
	enum layer layer = LAYER_NONE;
	enum reason reason = parse_outer(segment, PAIRS, &layer);

	if (reason != PARSED)
		return reason;
	if (layer == LAYER_TCP)
		return parse_tcp(segment, PAIRS);
	if (layer == LAYER_NONE)
		return REASON_NOT_TCP;
	if (layer == LAYER_UNCLEAR)
		return REASON_TUNNEL;
	if (layer == LAYER_UDP) {
		overlay = announced_tunnel(segment);
		if (overlay == OVERLAY_NONE)
			return judge_datagram(segment, PAIRS);
	}
	save_state(segment, layer);
	return parse_near(segment, layer, overlay);
}

/* Continues where parse_plain found a tunnel. */
static __always_inline enum reason parse_inner(struct segment *segment)
{
	struct __sk_buff *skb = segment->at.skb;
	__u32 cursor = skb->cb[1];
	enum reason reason;

	segment->vlans = (__u64)skb->cb[3] << 32 | skb->cb[2];
	segment->vlan_depth = cursor >> 4 & 15;
	segment->at.start = cursor & 15;
	segment->at.offset = cursor >> 8;
	reason = enter_tunnel(segment, skb->cb[0]);
	return reason == DATAGRAM ? judge_datagram(segment, WHOLE) : reason;
}

/* From the frame to its segment, through any tunnels. It does not tell QUIC from other UDP. */
static __always_inline enum reason parse_tunnelled(struct segment *segment)
{
	enum layer layer = LAYER_NONE;
	enum reason reason = parse_outer(segment, LINEAR, &layer);

	layer = opaque(segment, layer);
	if (reason != PARSED)
		return reason;
	if (layer == LAYER_TCP)
		return parse_tcp(segment, LINEAR);
	reason = enter_tunnel(segment, layer);
	return reason == DATAGRAM ? REASON_NOT_TCP : reason;
}

#endif
