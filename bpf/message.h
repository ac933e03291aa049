/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Whether a segment's payload begins like a message.
 */
#ifndef HTTPLINES_MESSAGE_H
#define HTTPLINES_MESSAGE_H

#include "parse.h"

#define LEADING_BREAKS_MAX 4	/* CR and LF before a message */
#define TOKEN_BYTES_MAX 24
#define LOOK_BYTES 32		/* bytes we read of a payload: a token, a space, a byte, and some */

/*
 * Copies the beginning of the payload after its first `skip` bytes, padded with zeros. Returns
 * non-zero if the frame is shorter than its headers announce.
 */
static __always_inline long look(const struct segment *segment, __u32 skip, __u8 to[LOOK_BYTES])
{
	struct cursor at = segment->at;
	__u32 ahead = segment->tcp.doff * 4 + skip;
	__u32 bytes = segment->bytes - ahead;
	__u32 offset;

	at.offset += ahead;
	/* Most payloads are longer, and leave nothing to clear. */
	if (segment->bytes > ahead && bytes >= LOOK_BYTES &&
	    !cursor_peek(&at, LINEAR, to, LOOK_BYTES))
		return 0;
	clear(at.skb, to, LOOK_BYTES);
	if (segment->bytes <= ahead)
		return 0;
	if (bytes > LOOK_BYTES)
		bytes = LOOK_BYTES;
	/* The compiler knows that this changes nothing; verifiers before 6.8 need to see it. */
	asm volatile("" : "+r"(bytes));
	bytes = ((bytes - 1) & (LOOK_BYTES - 1)) + 1;

	/* This fails if the cursor counts from skb->data; the load below handles that. */
	if (segment->bytes - ahead < LOOK_BYTES && !cursor_peek(&at, LINEAR, to, bytes))
		return 0;
	offset = cursor_from_data(&segment->at, (const __u32 *)&segment->tcp);
	if (offset == OFFSET_UNKNOWN)
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
 * A token, a space, a target; `is_any` if that may begin with any byte, otherwise with a slash or a
 * star. The loop is unrolled, and every byte is loaded on its one path: before Linux 5.12, and
 * without CAP_PERFMON on any version, stack accesses with a variable offset are rejected.
 */
static __always_inline int is_request_line(const __u8 *text, int is_any)
{
	int is_behind = 0;

#pragma unroll
	for (int index = 0; index <= TOKEN_BYTES_MAX + 1; index++) {
		__u8 byte = text[index];

		if (is_behind)
			return byte == '/' || byte == '*' || (is_any && byte > ' ');
		if (is_token_byte(byte))
			continue;
		if (!index || byte != ' ')
			return 0;
		is_behind = 1;
	}
	return 0;
}

static __always_inline int is_usual_byte(__u8 byte)
{
	return (byte >= 'A' && byte <= 'Z') || byte == '-';
}

/*
 * Whether the payload begins like a message. engine/decode/admit.rs explains the rule, and a test
 * compares the two. If nothing is known of the connection, the method or the target must look usual:
 * of random bytes, one segment in 600 begins with a token and a space. `text` is the beginning of
 * the payload; it is overwritten.
 */
static __always_inline int begins_like_message(const struct segment *segment, __u8 *text,
					       int is_opening)
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
	if (is_http_version(text))
		return 1;
	return is_request_line(text, is_opening || (is_usual_byte(text[0]) &&
						    is_usual_byte(text[1]) &&
						    is_usual_byte(text[2])));
}

#endif
