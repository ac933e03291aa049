/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Bounds-checked steps over the headers of a frame.
 *
 * skb->data depends on the hook: it points at the link header in a packet socket's filter, and at
 * the network header in BPF_PROG_TEST_RUN. So headers are read relative to the MAC or the network
 * header (bpf_skb_load_bytes_relative, Linux 4.18). Those loads end with the skb's linear part,
 * though. The payload of frames that a host sends, and of those that most drivers receive, is in
 * page fragments after that part: only bpf_skb_load_bytes, which counts from skb->data, reaches
 * them.
 */
#ifndef HTTPLINES_CURSOR_H
#define HTTPLINES_CURSOR_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

/*
 * In place of an enum bpf_hdr_start_off: the cursor counts from skb->data and reaches the whole
 * frame.
 */
#define CURSOR_FROM_DATA 2

#define OFFSET_UNKNOWN ((__u32)-1)

/* A position in a frame. */
struct cursor {
	struct __sk_buff *skb;
	__u32 start;	/* enum bpf_hdr_start_off, or CURSOR_FROM_DATA */
	__u32 offset;	/* bytes from there */
};

/*
 * Whether the verifier trusts the program with speculation: CAP_PERFMON. It is set before the load,
 * so the verifier treats it as a constant and skips the dead branch.
 */
const volatile __u32 is_trusted = 0;

/*
 * Zeros memory on the stack. If the verifier does not trust the program, this is done by a load
 * that cannot succeed. The verifier puts a speculation barrier after every store to a stack slot
 * that was not written before; memory written by a helper counts as written, so one call saves a
 * barrier for each word.
 */
static __always_inline void clear(struct __sk_buff *skb, void *to, __u32 bytes)
{
	if (is_trusted) {
		__builtin_memset(to, 0, bytes);
		/* Else the compiler repeats some of the stores after the other branch. */
		asm volatile("" : : "r"(to) : "memory");
	} else {
		bpf_skb_load_bytes(skb, (__u32)-1, to, bytes);
	}
}

/*
 * How far a cursor reaches. WHOLE counts from skb->data; this is known at compile time and costs
 * nothing. PAIRS is LINEAR, except that IP's and TCP's header are not loaded together as they are
 * with LINEAR.
 */
enum reach { LINEAR, PAIRS, WHOLE };

/*
 * Copies `bytes` bytes at the cursor. Returns non-zero if they are not in the frame, or not in its
 * linear part, beyond which only a WHOLE cursor reaches.
 */
static __always_inline long cursor_peek(const struct cursor *at, enum reach reach, void *to,
					__u32 bytes)
{
	if (reach == WHOLE)
		return bpf_skb_load_bytes(at->skb, at->offset, to, bytes);
	return bpf_skb_load_bytes_relative(at->skb, at->offset, to, bytes, at->start);
}

/* Like cursor_peek, and skips the bytes. */
static __always_inline long cursor_take(struct cursor *at, enum reach reach, void *to, __u32 bytes)
{
	long error = cursor_peek(at, reach, to, bytes);

	at->offset += bytes;
	return error;
}

/*
 * The cursor's distance from skb->data, or OFFSET_UNKNOWN. `known` are the eight bytes at the
 * cursor, which must be after a network header that begins where the link header ends. The distance
 * includes an Ethernet header (a packet socket on Ethernet) or not (a device without link header,
 * BPF_PROG_TEST_RUN): comparing the bytes shows which.
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
