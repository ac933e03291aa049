/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Whether a segment's payload begins like a message, or like frames of HTTP/2.
 */
#ifndef HTTPLINES_MESSAGE_H
#define HTTPLINES_MESSAGE_H

#include "parse.h"
#include "word.h"

#define LEADING_BREAKS_MAX 4	/* CR and LF before a message */
#define TOKEN_BYTES_MAX 24
#define LOOK_WORDS 4		/* what we read of a payload: a token, a space, a byte, and some */
#define LOOK_BYTES (8 * LOOK_WORDS)

/* The head of a frame of HTTP/2: a length of three bytes, a type, flags, a stream of four bytes. */
#define FRAME_HEAD_BYTES 9
#define FRAME_DATA 0
#define FRAME_HEADERS 1
#define FRAME_RST_STREAM 3
#define FRAME_SETTINGS 4
#define FRAME_PING 6
#define FRAME_WINDOW_UPDATE 8
#define FLAG_END_STREAM 0x01	/* SETTINGS and PING: ACK */
#define FLAG_END_HEADERS 0x04
#define FLAG_PADDED 0x08
#define FLAG_PRIORITY 0x20
#define SETTING_BYTES 6

/*
 * Copies the beginning of the payload after its first `skip` bytes, padded with zeros. Returns
 * non-zero if the frame is shorter than its headers announce.
 */
static __always_inline long look(const struct segment *segment, __u32 skip,
				  __u64 to[LOOK_WORDS])
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

/* How many CR and LF bytes there are before a message that begins with `word`. */
static __always_inline __u32 leading_breaks(__u64 word)
{
	__u64 breaks = equal_bytes(word, '\r') | equal_bytes(word, '\n');

	return bytes_to((~breaks & TOP_BITS) | 0x80ull << 8 * LEADING_BREAKS_MAX) - 1;
}

static __always_inline int is_http_version(__u64 word)
{
	return ((word | WORD(CASE, CASE, CASE, CASE, 0, 0, 0, 0)) & FIRST_BYTES(5)) ==
	       WORD('h', 't', 't', 'p', '/', 0, 0, 0);
}

/* Whether the first three bytes are capital letters or hyphens. */
static __always_inline int is_usual(__u64 word)
{
	return (usual_bytes(word) & FIRST_BYTES(3)) == (TOP_BITS & FIRST_BYTES(3));
}

/*
 * A token, a space, a target. That may begin with any byte if `is_any` or if the token looks usual,
 * otherwise with a slash or a star.
 */
static __always_inline int is_request_line(const __u64 text[LOOK_WORDS], int is_any)
{
	__u64 word = 0, next = 0, others = 0;
	__u32 bytes = 0, bits;
	__u8 target;

#pragma unroll
	for (int index = 0; index < LOOK_WORDS; index++) {
		bytes = 8 * index;
		word = word_of(text[index]);
		next = index + 1 < LOOK_WORDS ? word_of(text[index + 1]) : 0;
		others = ~token_bytes(word) & TOP_BITS;
		if (others)
			break;
	}
	if (!others)
		return 0;
	bits = 8 * (bytes_to(others) - 1);
	bytes += bits / 8;
	if ((__u8)(word >> bits) != ' ' || !bytes || bytes > TOKEN_BYTES_MAX)
		return 0;
	target = word >> bits >> 8 | next << (56 - bits);
	return target == '/' || target == '*' ||
	       (target > ' ' && (is_any || is_usual(word_of(text[0]))));
}

/* The length, the type and the flags of a frame. */
#define FRAME(bytes, type, flags) WORD(0, 0, bytes, type, flags, 0, 0, 0)

/* The highest byte of the number of a frame's stream. */
static __always_inline __u8 stream_high(__u64 word)
{
	return word >> 40;
}

/*
 * Whether a word and the byte after it are the head of a frame that shows HTTP/2. If it is HEADERS,
 * the highest byte of its stream is `high`. See engine/decode/frames.rs.
 */
static __always_inline int is_frame(__u64 word, __u8 last, __u8 high)
{
	__u64 kind = word & FIRST_BYTES(5), stream = word >> 40 | (__u64)last << 24;
	__u8 type = word >> 24, flags = word >> 32;

	if ((__u8)word)
		return 0;
	if (type == FRAME_HEADERS)
		return word & FIRST_BYTES(3) && stream && !(stream & 0x80) &&
		       stream_high(word) == high && flags & FLAG_END_HEADERS &&
		       !(flags & ~(FLAG_END_STREAM | FLAG_END_HEADERS | FLAG_PADDED | FLAG_PRIORITY));
	if (type == FRAME_SETTINGS)
		return !stream && !(__u8)(word >> 8) &&
		       (kind == FRAME(0, FRAME_SETTINGS, FLAG_END_STREAM) ||
			(!flags && (__u8)(word >> 16) % SETTING_BYTES == 0));
	if (kind == FRAME(4, FRAME_WINDOW_UPDATE, 0))
		return !(stream & 0x80);
	if (kind == FRAME(4, FRAME_RST_STREAM, 0))
		return stream && !(stream & 0x80);
	return (kind | FRAME(0, 0, FLAG_END_STREAM)) == FRAME(8, FRAME_PING, FLAG_END_STREAM) && !stream;
}

/* The same for the head of a frame of DATA. */
static __always_inline int is_data_frame(__u64 word, __u8 last, __u8 high)
{
	__u64 stream = word >> 40 | (__u64)last << 24;
	__u8 flags = word >> 32;

	return (__u8)(word >> 24) == FRAME_DATA && stream && !(stream & 0x80) && stream_high(word) == high &&
	       !(flags & ~(FLAG_END_STREAM | FLAG_PADDED));
}

/*
 * Whether the frame in `text` is enough if it is alone: not HEADERS of a stream from 2^24 on, whose
 * header block begins with neither an indexed field nor one that is put into the table.
 */
static __always_inline int may_be_alone(const __u64 text[LOOK_WORDS])
{
	__u64 word = word_of(text[0]);
	__u8 block = word_of(text[1]) >> 8;

	return (__u8)(word >> 24) != FRAME_HEADERS || !stream_high(word) || block & 0x80 ||
	       (block & 0xf0) == 0x40;
}

/*
 * Whether the payload looks like frames of HTTP/2: it ends with the first, or another head follows.
 * `text` is the beginning of the payload; it is overwritten.
 */
static __always_inline int looks_like_frames(const struct segment *segment, __u64 text[LOOK_WORDS])
{
	__u64 word = word_of(text[0]);
	__u32 rest = segment->bytes - segment->tcp.doff * 4, skip;
	__u8 high = stream_high(word);

	if (!is_frame(word, word_of(text[1]), high))
		return 0;
	skip = FRAME_HEAD_BYTES + (((__u32)word >> 8 & 0xff) << 8 | ((__u32)word >> 16 & 0xff));
	if (rest <= skip)
		return rest == skip && may_be_alone(text);
	if (rest - skip < FRAME_HEAD_BYTES || look(segment, skip, text))
		return 0;
	word = word_of(text[0]);
	return is_frame(word, word_of(text[1]), high) || is_data_frame(word, word_of(text[1]), high);
}

/*
 * Whether the payload begins like a message. engine/decode/admit.rs explains the rule, and a test
 * compares the two. If nothing is known of the connection, the method or the target must look usual:
 * of random bytes, one segment in 600 begins with a token and a space. Or it looks like frames of
 * HTTP/2; those of an opening come after a preface. `text` is the beginning of the payload; it is
 * overwritten.
 */
static __always_inline int begins_like_message(const struct segment *segment,
					       __u64 text[LOOK_WORDS], int is_opening)
{
	__u64 word = word_of(text[0]);
	__u8 first = word;
	__u32 skip;

	/* Most binary data end here. */
	if (first > '~' || (first <= ' ' && first != '\r' && first != '\n'))
		return !first && !is_opening && looks_like_frames(segment, text);
	skip = leading_breaks(word);
	if (skip && look(segment, skip, text))
		return 0;
	return is_http_version(word_of(text[0])) || is_request_line(text, is_opening);
}

#endif
