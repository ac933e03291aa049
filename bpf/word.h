/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Comparing text eight bytes at a time, without branches: the verifier follows every branch, for
 * every path that leads to it. Results have the top bit of each byte of the word that is found.
 */
#ifndef HTTPLINES_WORD_H
#define HTTPLINES_WORD_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/* Eight characters in memory order, as a word whose low end is the first. */
#define WORD(a, b, c, d, e, f, g, h)                                                         \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 | \
	 (__u64)(f) << 40 | (__u64)(g) << 48 | (__u64)(h) << 56)

/* Eight equal bytes. */
#define EACH_BYTE(byte) (0x0101010101010101ull * (byte))
#define TOP_BITS EACH_BYTE(0x80)
/* The first bytes in memory order. */
#define FIRST_BYTES(count) (~0ull >> (64 - 8 * (count)))

/* The bit that distinguishes lower case from capitals, in a byte that is a letter. */
#define CASE 0x20

static __always_inline __u64 word_of(__u64 memory)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return __builtin_bswap64(memory);
#else
	return memory;
#endif
}

/* The number of bytes up to and including the first that is found, of one or more. */
static __always_inline __u32 bytes_to(__u64 found)
{
	return ((found - 1) & EACH_BYTE(1)) * EACH_BYTE(1) >> 56;
}

/* The bytes that are `byte`. */
static __always_inline __u64 equal_bytes(__u64 word, __u8 byte)
{
	__u64 other = word ^ EACH_BYTE(byte);

	return ~(((other & ~TOP_BITS) + ~TOP_BITS) | other | ~TOP_BITS);
}

/*
 * The bytes from `first` to `last`, for a word whose top bits are not set; the other bits of the
 * result mean nothing.
 */
static __always_inline __u64 bytes_between(__u64 word, __u8 first, __u8 last)
{
	return (word + EACH_BYTE(0x80 - first)) ^ (word + EACH_BYTE(0x7f - last));
}

/* The bytes of a token: RFC 9110 section 5.6.2. */
static __always_inline __u64 token_bytes(__u64 word)
{
	__u64 low = word & ~TOP_BITS;

	return (bytes_between(low, '!', '!') | bytes_between(low, '#', '\'') |
		bytes_between(low, '*', '+') | bytes_between(low, '-', '.') |
		bytes_between(low, '0', '9') | bytes_between(low, 'A', 'Z') |
		bytes_between(low, '^', 'z') | bytes_between(low, '|', '|') |
		bytes_between(low, '~', '~')) & ~word & TOP_BITS;
}

/* Capital letters and hyphens. */
static __always_inline __u64 usual_bytes(__u64 word)
{
	__u64 low = word & ~TOP_BITS;

	return (bytes_between(low, 'A', 'Z') | bytes_between(low, '-', '-')) & ~word & TOP_BITS;
}

#endif
