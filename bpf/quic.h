/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Which UDP datagrams are QUIC. engine/decode/quic.rs has the same rule; a test compares them. */
#ifndef HTTPLINES_QUIC_H
#define HTTPLINES_QUIC_H

#include <bpf/bpf_endian.h>

#include "parse.h"
#include "shared.h"

#define PORT_HTTPS 443
#define UDP_HEADER_BYTES 8
#define INITIAL_BYTES_MIN 1200	/* payload of a datagram with an Initial: RFC 9000 section 14.1 */

/* Version and type of an Initial: RFC 9000 section 17.2, RFC 9369 section 3. */
#define QUIC_VERSION_1 1
#define QUIC_VERSION_2 0x6b3343cf
#define QUIC_DRAFTS 0xff0000	/* the upper 24 bits */
#define INITIAL_OF_1 0xc	/* the upper four bits of the first byte */
#define INITIAL_OF_2 0xd

/* Whether a payload that begins with these bytes is of an Initial. */
static __always_inline int is_initial(__be32 first, __be32 second)
{
	__u64 begin = (__u64)bpf_ntohl(first) << 32 | bpf_ntohl(second);
	__u32 type = begin >> 60, version = begin >> 24;

	if (version == QUIC_VERSION_1 || version >> 8 == QUIC_DRAFTS)
		return type == INITIAL_OF_1;
	return version == QUIC_VERSION_2 && type == INITIAL_OF_2;
}

/*
 * The reason of a datagram of no tunnel: `head` is the UDP header, and eight bytes of payload or
 * zeros. An Initial is sent by both endpoints. Those to the lower port are counted as such: the
 * client's, unless its port is lower. Other datagrams are QUIC by their port.
 */
static __always_inline enum reason reason_of_datagram(const volatile __be32 head[4])
{
	__u32 ports = bpf_ntohl(head[0]), source = ports >> 16, destination = ports & 0xffff;

	if (bpf_ntohl(head[1]) >> 16 >= UDP_HEADER_BYTES + INITIAL_BYTES_MIN &&
	    is_initial(head[2], head[3]))
		return destination <= source ? REASON_QUIC_INITIAL : REASON_QUIC;
	return source == PORT_HTTPS || destination == PORT_HTTPS ? REASON_QUIC : REASON_NOT_TCP;
}

/* The same, of the datagram at the cursor. */
static __always_inline enum reason judge_datagram(const struct segment *segment, enum reach reach)
{
	const struct cursor *at = &segment->at;
	__be32 head[4];
	__u32 offset;

	/* The bytes after the IP header were loaded as TCP's header. */
	if (reach != WHOLE && segment->tcp_offset == at->offset)
		return reason_of_datagram((const volatile __be32 *)&segment->tcp);
	if (!cursor_peek(at, reach, head, sizeof(head)))
		return reason_of_datagram(head);
	/* The payload is short, or not in the linear part. */
	if (cursor_peek(at, reach, head, UDP_HEADER_BYTES))
		return REASON_NOT_TCP;
	offset = reach == WHOLE ? OFFSET_UNKNOWN : cursor_from_data(at, (const __u32 *)head);
	if (offset == OFFSET_UNKNOWN ||
	    bpf_skb_load_bytes(at->skb, offset + UDP_HEADER_BYTES, &head[2], sizeof(head) / 2))
		head[2] = head[3] = 0;
	return reason_of_datagram(head);
}

#endif
