/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the filter reads of heads itself: where a large body ends, so that all of it can be left out
 * at once. User space knows it too, but only when it has seen the head, some hundred microseconds
 * later; on a fast link that is a good part of a download of some megabytes.
 *
 * Only what cannot be read in two ways is read: from the handshake on, in turn, one GET alone in
 * its segment, and the answer to it, whose head is whole in the segment that begins it, with the
 * status 200 or 206, one Content-Length, and no transfer coding. Anything else, or a body that is
 * not large, and the filter reads no more of the connection. User space goes on as always: it
 * takes what was left out for a body's only where it knows of that body.
 */
#ifndef HTTPLINES_HEAD_H
#define HTTPLINES_HEAD_H

#include "connection.h"
#include "parse.h"

/* A line's name and what it says are in its first piece, if we are to understand it. */
#define PIECE_BYTES 64
#define PIECES_MAX 32
#define BODY_BYTES_MAX (1u << 29)	/* beyond, user space moves its grants on */
#define FULL_BYTES_MIN 1000	/* of a segment's payload, if there was more to send */

#define LINE_END_BYTES 2
#define LENGTH_AT 16		/* behind "Content-Length: " */
#define LENGTH_DIGITS_MAX 9	/* enough for BODY_BYTES_MAX */
#define METHOD_BYTES 4		/* "GET " */
#define VERSION_LINE_BYTES 11	/* of a request line: " HTTP/1.1\r\n" */

/* Eight characters as they lie in memory, in a word whose low end is the first. */
#define WORD(a, b, c, d, e, f, g, h)                                                         \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 | \
	 (__u64)(f) << 40 | (__u64)(g) << 48 | (__u64)(h) << 56)

/* The bit that tells capitals from others, in each byte that is a letter. */
#define CASE 0x20
#define LETTERS_7 WORD(CASE, CASE, CASE, CASE, CASE, CASE, CASE, 0)
#define LETTERS_6 WORD(CASE, CASE, CASE, CASE, CASE, CASE, 0, 0)
#define LETTERS_8 (LETTERS_7 | WORD(0, 0, 0, 0, 0, 0, 0, CASE))
#define FIRST_6 0x0000ffffffffffffull

struct piece {
	__u64 word[PIECE_BYTES / 8];
};

static __always_inline __u64 word_of(__u64 memory)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return __builtin_bswap64(memory);
#else
	return memory;
#endif
}

/* How many bytes there are up to the first LF, with it; 0 where there is none. */
static __always_inline __u32 bytes_to_break(__u64 word)
{
	const __u64 low = 0x7f7f7f7f7f7f7f7full, ones = 0x0101010101010101ull;
	__u64 other = word ^ ones * '\n';
	__u64 breaks = ~(((other & low) + low) | other | low);

	return breaks ? ((breaks - 1) & ~breaks & ones) * ones >> 56 : 0;
}

/* The same in a piece. */
static __always_inline __u32 line_bytes(const struct piece *piece)
{
#pragma unroll
	for (int index = 0; index < PIECE_BYTES / 8; index++) {
		__u32 bytes = bytes_to_break(word_of(piece->word[index]));

		if (bytes)
			return index * 8 + bytes;
	}
	return 0;
}

/* Whether a start line begins like one that we read. */
static __always_inline int is_readable(const struct piece *piece, __u32 is_request)
{
	const __u8 *text = (const __u8 *)piece;
	__u64 first = word_of(piece->word[0]);

	if (is_request)
		return (__u32)first == (__u32)WORD('G', 'E', 'T', ' ', 0, 0, 0, 0) &&
		       text[4] > ' ';
	return first == WORD('H', 'T', 'T', 'P', '/', '1', '.', '1') && text[8] == ' ' &&
	       text[9] == '2' && text[10] == '0' && (text[11] == '0' || text[11] == '6') &&
	       text[12] == ' ';
}

/*
 * Whether a request line from `begin` to `end` behind skb->data ends with a version of HTTP/1, and
 * has a target before it.
 */
static __always_inline int is_http1_line(struct __sk_buff *skb, __u32 begin, __u32 end)
{
	__u64 text[2] = {};
	const __u8 *byte = (const __u8 *)text;

	return end - begin > METHOD_BYTES + VERSION_LINE_BYTES &&
	       !bpf_skb_load_bytes(skb, end - VERSION_LINE_BYTES, text, VERSION_LINE_BYTES) &&
	       word_of(text[0]) == WORD(' ', 'H', 'T', 'T', 'P', '/', '1', '.') &&
	       (byte[8] == '0' || byte[8] == '1') && byte[9] == '\r';
}

/*
 * Whether the answer from `begin` to `end` behind skb->data may be one with a large body: who has
 * that to send fills a segment, unless the head goes alone. This spares most connections the reading.
 */
static __always_inline int may_be_large(struct __sk_buff *skb, __u32 begin, __u32 end)
{
	__u32 last;

	return end - begin >= FULL_BYTES_MIN ||
	       (!bpf_skb_load_bytes(skb, end - sizeof(last), &last, sizeof(last)) &&
		last == bpf_htonl(0x0d0a0d0a));
}

/* What a header line says of the body. */
enum line { LINE_NOTHING, LINE_LENGTH, LINE_UNREADABLE };

static __always_inline enum line line_of(const struct piece *piece)
{
	__u64 first = word_of(piece->word[0]), second = word_of(piece->word[1]);
	__u8 byte = first;

	/* What continues a line, and an empty line as few write it. */
	if (byte <= ' ')
		return LINE_UNREADABLE;
	if ((first | LETTERS_8) == WORD('t', 'r', 'a', 'n', 's', 'f', 'e', 'r'))
		return LINE_UNREADABLE;
	if ((first | LETTERS_7) != WORD('c', 'o', 'n', 't', 'e', 'n', 't', '-'))
		return LINE_NOTHING;
	second |= LETTERS_6;
	if ((second & FIRST_6) != WORD('l', 'e', 'n', 'g', 't', 'h', 0, 0))
		return LINE_NOTHING;
	return second >> 48 == (':' | ' ' << 8) ? LINE_LENGTH : LINE_UNREADABLE;
}

/*
 * The number in a Content-Length line, of which `bytes` are there; 0 where it is none that counts.
 * Every byte is loaded on the one way through the loop: see is_request_line().
 */
static __always_inline __u32 length_of(const struct piece *piece, __u32 bytes)
{
	const __u8 *text = (const __u8 *)piece + LENGTH_AT;
	__u32 length = 0, needed_bytes = LENGTH_AT + LINE_END_BYTES;
	int is_end = 0;

#pragma unroll
	for (int index = 0; index < LENGTH_DIGITS_MAX + LINE_END_BYTES; index++) {
		__u8 byte = text[index];

		if (is_end)
			return byte == '\n' && bytes >= needed_bytes ? length : 0;
		if (byte == '\r') {
			is_end = 1;
			continue;
		}
		if (byte < '0' || byte > '9')
			return 0;
		length = length * 10 + (byte - '0');
		needed_bytes++;
	}
	return 0;
}

/*
 * What the reading takes and knows, in skb->cb: five words that are a filter's own, and of which the
 * verifier does not follow the values; there would be too many.
 */
enum place {
	PLACE_BEGIN,	/* where the payload begins, behind skb->data */
	PLACE_END,	/* where it ends; then the head's Content-Length, 0 without */
	PLACE_STATE,	/* see below */
	PLACE_AT,	/* where the next piece is */
	PLACE_BYTES,	/* of it */
	PLACE_SEQ = PLACE_AT,	/* before: the payload's sequence number, */
	PLACE_READING = PLACE_BYTES,	/* and the session's `reading` */
};

/* What is read next. */
enum state {
	STATE_REQUEST,		/* a request line */
	STATE_REQUEST_INSIDE,	/* the rest of one */
	STATE_ANSWER,		/* a status line */
	STATE_LINE,		/* a header line, or the empty one */
	STATE_INSIDE,		/* the rest of one, or of a status line */
};

/* Notes what a head line says; 0 where we cannot tell what that is. */
static __always_inline int take_line(const struct piece *piece, __u32 bytes, __u32 *length)
{
	enum line line = line_of(piece);

	if (line == LINE_NOTHING)
		return 1;
	if (line == LINE_UNREADABLE || *length)
		return 0;
	*length = length_of(piece, bytes);
	return *length != 0;
}

/* Whether the piece, of which `bytes` are there, may be what comes next. */
static __always_inline int is_expected(volatile __u32 *place, enum state state,
				       const struct piece *piece, __u32 bytes)
{
	__u32 length;

	if (state == STATE_REQUEST || state == STATE_ANSWER)
		return is_readable(piece, state == STATE_REQUEST);
	if (state != STATE_LINE)
		return 1;
	length = place[PLACE_END];
	if (!take_line(piece, bytes, &length))
		return 0;
	place[PLACE_END] = length;
	return 1;
}

/*
 * Reads the head in the bytes that the places name; how long it is, or 0 where we cannot tell for
 * sure.
 */
static __always_inline __u32 read_head(struct __sk_buff *skb)
{
	volatile __u32 *place = skb->cb;
	__u32 begin = place[PLACE_BEGIN], end = place[PLACE_END];
	struct piece piece;

	/* By plain stores: no helper may write where an untrusted program has kept a pointer before. */
	__builtin_memset(&piece, 0, sizeof(piece));
	asm volatile("" : : "r"(&piece) : "memory");
	place[PLACE_END] = 0;
	place[PLACE_AT] = begin;
#pragma clang loop unroll(disable)
	for (int index = 0; index < PIECES_MAX; index++) {
		__u32 at = place[PLACE_AT], bytes = end - at, step;
		enum state state = place[PLACE_STATE];

		if (!bytes || bytes > end - begin)
			return 0;
		place[PLACE_BYTES] = bytes < PIECE_BYTES ? bytes : PIECE_BYTES;
		/* Which changes nothing: see look(). */
		bytes = ((place[PLACE_BYTES] - 1) & (PIECE_BYTES - 1)) + 1;
		if (bpf_skb_load_bytes(skb, at, &piece, bytes))
			return 0;
		if (state == STATE_LINE && bytes >= LINE_END_BYTES &&
		    (__u16)word_of(piece.word[0]) == ('\r' | '\n' << 8))
			return at + LINE_END_BYTES - begin;
		if (!is_expected(place, state, &piece, bytes))
			return 0;
		step = line_bytes(&piece);
		if (step > bytes)
			return 0;
		place[PLACE_AT] = at + (step ? step : PIECE_BYTES);
		if (!step) {
			place[PLACE_STATE] = state <= STATE_REQUEST_INSIDE ? STATE_REQUEST_INSIDE
									   : STATE_INSIDE;
			continue;
		}
		if (state <= STATE_REQUEST_INSIDE && !is_http1_line(skb, begin, at + step))
			return 0;
		place[PLACE_STATE] = STATE_LINE;
	}
	return 0;
}

#endif
