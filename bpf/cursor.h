/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Bounds-checked steps over the headers of a frame.
 *
 * Where skb->data points depends on the hook: at the link header in a packet socket's filter, at
 * the network header in BPF_PROG_TEST_RUN. So headers are read relative to the MAC or the network
 * header (bpf_skb_load_bytes_relative, Linux 4.18). Those loads end with the skb's linear part,
 * though, and the payload of what a host sends, and of what most drivers receive, lies in page
 * fragments behind it: there only bpf_skb_load_bytes reaches, which counts from skb->data.
 */
#ifndef HTTPLINES_CURSOR_H
#define HTTPLINES_CURSOR_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

/* In place of an enum bpf_hdr_start_off: the cursor counts from skb->data, all of it in reach. */
#define CURSOR_FROM_DATA 2

#define OFFSET_UNKNOWN ((__u32)-1)

/* A place in a frame. */
struct cursor {
	struct __sk_buff *skb;
	__u32 start;	/* enum bpf_hdr_start_off, or CURSOR_FROM_DATA */
	__u32 offset;	/* bytes behind it */
};

/*
 * Whether the verifier trusts the program with speculation: CAP_PERFMON. Set before the load; then
 * the verifier takes it for a constant, and leaves out the way that is not gone.
 */
const volatile __u32 is_trusted = 0;

/*
 * Zeros memory on the stack. Where the verifier does not trust the program, by a load that cannot
 * succeed: it puts a speculation barrier behind every store to a stack slot that was not written
 * before; what a helper wrote counts as written, so that one call saves a barrier for each word.
 */
static __always_inline void clear(struct __sk_buff *skb, void *to, __u32 bytes)
{
	if (is_trusted) {
		__builtin_memset(to, 0, bytes);
		/* Else the compiler stores some of it once more behind the other way. */
		asm volatile("" : : "r"(to) : "memory");
	} else {
		bpf_skb_load_bytes(skb, (__u32)-1, to, bytes);
	}
}

/*
 * Whether a cursor counts from skb->data: known where the code is written, it costs nothing. A
 * cursor in PAIRS is a LINEAR one. But for LINEAR, IP's and TCP's header are loaded at once.
 */
enum reach { LINEAR, PAIRS, WHOLE };

/*
 * Copies `bytes` bytes at the cursor; not 0 where they are not in the frame, or not in its linear
 * part, behind which only a WHOLE cursor reaches.
 */
static __always_inline long cursor_peek(const struct cursor *at, enum reach reach, void *to,
					__u32 bytes)
{
	if (reach == WHOLE)
		return bpf_skb_load_bytes(at->skb, at->offset, to, bytes);
	return bpf_skb_load_bytes_relative(at->skb, at->offset, to, bytes, at->start);
}

/* Like cursor_peek, and steps over the bytes. */
static __always_inline long cursor_take(struct cursor *at, enum reach reach, void *to, __u32 bytes)
{
	long error = cursor_peek(at, reach, to, bytes);

	at->offset += bytes;
	return error;
}

/*
 * How far the cursor is from skb->data, or OFFSET_UNKNOWN. `known` are the eight bytes at the
 * cursor, which is behind a network header that begins where the link header ends. The distance to
 * skb->data counts an Ethernet header (a packet socket on Ethernet) or does not (a device without
 * link header, BPF_PROG_TEST_RUN): the bytes tell which.
 */
static __always_inline __u32 cursor_from_data(const struct cursor *at, const __u32 known[2])
{
	__u32 with_link = at->offset + (at->start == BPF_HDR_START_NET ? ETH_HLEN : 0);
	__u32 seen[2];

	if (at->start == CURSOR_FROM_DATA)
		return at->offset;
	if (!bpf_skb_load_bytes(at->skb, with_link, seen, sizeof(seen)) &&
	    seen[0] == known[0] && seen[1] == known[1])
		return with_link;
	if (!bpf_skb_load_bytes(at->skb, with_link - ETH_HLEN, seen, sizeof(seen)) &&
	    seen[0] == known[0] && seen[1] == known[1])
		return with_link - ETH_HLEN;
	return OFFSET_UNKNOWN;
}

#endif
