/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Whether a segment's payload begins like a message.
 */
#ifndef HTTPLINES_MESSAGE_H
#define HTTPLINES_MESSAGE_H

#include "parse.h"

#define LEADING_BREAKS_MAX 4	/* CR and LF in front of a message */
#define TOKEN_BYTES_MAX 24
#define LOOK_BYTES 32		/* of a payload: a token, a space, a byte, and some */

/*
 * Copies the beginning of the payload behind its first `skip` bytes, with zeros after its end; not
 * 0 where the frame does not hold what its headers promise.
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
	/* The compiler knows that this changes nothing; verifiers before 6.8 must be shown. */
	asm volatile("" : "+r"(bytes));
	bytes = ((bytes - 1) & (LOOK_BYTES - 1)) + 1;

	/* Of a cursor that counts from skb->data this fails, and the next way is its own. */
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
 * A token, a space, a target. Unrolled, and every byte is loaded on the one way through the loop:
 * before Linux 5.12, and without CAP_PERFMON on any, the stack takes no variable offset.
 */
static __always_inline int is_request_line(const __u8 *text)
{
	int is_target = 0;

#pragma unroll
	for (int index = 0; index <= TOKEN_BYTES_MAX + 1; index++) {
		__u8 byte = text[index];

		if (is_target)
			return byte > ' ';
		if (is_token_byte(byte))
			continue;
		if (!index || byte != ' ')
			return 0;
		is_target = 1;
	}
	return 0;
}

static __always_inline int is_usual_byte(__u8 byte)
{
	return (byte >= 'A' && byte <= 'Z') || byte == '-';
}

/*
 * Whether the payload begins like a message: engine/decode/admit.rs has the rule in words, and a
 * test holds the two together. Where nothing is known of the connection, a method has to look like
 * one: of random bytes, one segment in 600 has a token and a space in front. `text` is the
 * beginning of the payload and is used up.
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
	if (!is_opening &&
	    !(is_usual_byte(text[0]) && is_usual_byte(text[1]) && is_usual_byte(text[2])))
		return 0;
	return is_request_line(text);
}

#endif
