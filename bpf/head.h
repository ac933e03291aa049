/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the filter reads of heads itself: it finds the end of a large body, so that it can elide all
 * of it from the start. User space finds it, too, but only after it has seen the head, some hundred
 * microseconds later; on a fast link that is a large part of a download of some megabytes.
 *
 * The filter reads only what is unambiguous. From the handshake on, it reads in turn a single GET
 * alone in its segment, and the response to it. The response's head must be whole in the segment
 * that begins it, and have the status 200 or 206, one Content-Length, and no transfer coding. Each
 * acknowledges exactly what is before it, so a stranger who does not know the numbers cannot send
 * one. After anything else, a copy of what was read, or a body that is not large, the filter reads
 * no more of the connection. User
 * space works as always: it treats elided bytes as a body only if it knows of that body itself.
 */
#ifndef HTTPLINES_HEAD_H
#define HTTPLINES_HEAD_H

#include "connection.h"
#include "parse.h"
#include "word.h"

/* A header line's name and value must be in its first piece, or else we do not read it. */
#define PIECE_BYTES 64
#define PIECES_MAX 32
#define BODY_BYTES_MAX (1u << 29)	/* for larger bodies user space extends its grants */
#define FULL_BYTES_MIN 1000	/* minimum payload of a segment if there was more to send */

#define LINE_END_BYTES 2
#define LENGTH_AT 16		/* after "Content-Length: " */
#define LENGTH_DIGITS_MAX 9	/* enough for BODY_BYTES_MAX */
#define METHOD_BYTES 4		/* "GET " */
#define VERSION_LINE_BYTES 11	/* end of a request line: " HTTP/1.1\r\n" */

#define LETTERS_7 WORD(CASE, CASE, CASE, CASE, CASE, CASE, CASE, 0)
#define LETTERS_6 WORD(CASE, CASE, CASE, CASE, CASE, CASE, 0, 0)
#define LETTERS_8 (LETTERS_7 | WORD(0, 0, 0, 0, 0, 0, 0, CASE))

struct piece {
	__u64 word[PIECE_BYTES / 8];
};

/* The number of bytes up to and including the first LF; 0 if there is none. */
static __always_inline __u32 bytes_to_break(__u64 word)
{
	__u64 breaks = equal_bytes(word, '\n');

	return breaks ? bytes_to(breaks) : 0;
}

/* The same for a piece. */
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
 * Whether a request line from `begin` to `end`, relative to skb->data, ends with a version of
 * HTTP/1 after a target.
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
 * Whether the response from `begin` to `end`, relative to skb->data, may have a large body: a
 * server with a large body to send fills the segment, unless it sends the head alone. This check
 * spares most connections the reading.
 */
static __always_inline int may_be_large(struct __sk_buff *skb, __u32 begin, __u32 end)
{
	__u32 last;

	return end - begin >= FULL_BYTES_MIN ||
	       (!bpf_skb_load_bytes(skb, end - sizeof(last), &last, sizeof(last)) &&
		last == bpf_htonl(0x0d0a0d0a));
}

/* What a header line states about the body. */
enum line { LINE_NOTHING, LINE_LENGTH, LINE_UNREADABLE };

static __always_inline enum line line_of(const struct piece *piece)
{
	__u64 first = word_of(piece->word[0]), second = word_of(piece->word[1]);
	__u8 byte = first;

	/* A continuation line, or an unusual form of the empty line. */
	if (byte <= ' ')
		return LINE_UNREADABLE;
	if ((first | LETTERS_8) == WORD('t', 'r', 'a', 'n', 's', 'f', 'e', 'r'))
		return LINE_UNREADABLE;
	if ((first | LETTERS_7) != WORD('c', 'o', 'n', 't', 'e', 'n', 't', '-'))
		return LINE_NOTHING;
	second |= LETTERS_6;
	if ((second & FIRST_BYTES(6)) != WORD('l', 'e', 'n', 'g', 't', 'h', 0, 0))
		return LINE_NOTHING;
	return second >> 48 == (':' | ' ' << 8) ? LINE_LENGTH : LINE_UNREADABLE;
}

/* The number in a Content-Length line, of which `bytes` are there; 0 if it is not a usable one. */
static __always_inline __u32 length_of(const struct piece *piece, __u32 bytes)
{
	__u64 text = word_of(piece->word[LENGTH_AT / 8]);
	__u64 rest = word_of(piece->word[LENGTH_AT / 8 + 1]);
	__u32 length = 0, needed_bytes = LENGTH_AT + LINE_END_BYTES;

#pragma unroll
	for (int index = 0; index < LENGTH_DIGITS_MAX; index++) {
		__u32 digit = (text & 0xff) - '0';

		if (digit > 9)
			break;
		length = length * 10 + digit;
		needed_bytes++;
		text = text >> 8 | rest << 56;
		rest >>= 8;
	}
	return (__u16)text == ('\r' | '\n' << 8) && bytes >= needed_bytes ? length : 0;
}

/*
 * The state of reading a head, in skb->cb: five words that belong to a filter. The verifier does
 * not track their values, of which there would be too many.
 */
enum cb_word {
	CB_BEGIN,	/* where the payload begins, relative to skb->data */
	CB_END,	/* where it ends; later the head's Content-Length, 0 without */
	CB_STATE,	/* see below */
	CB_AT,	/* where the next piece is */
	CB_BYTES,	/* the size of that piece */
	CB_SEQ = CB_AT,	/* before reading: the payload's sequence number, */
	CB_READING = CB_BYTES,	/* and the session's `reading` */
};

/* What is read next. */
enum state {
	STATE_REQUEST,		/* a request line */
	STATE_REQUEST_INSIDE,	/* the rest of one */
	STATE_RESPONSE,		/* a status line */
	STATE_LINE,		/* a header line, or the empty one */
	STATE_INSIDE,		/* the rest of one, or of a status line */
};

/* Records what a header line states; returns 0 if we cannot read it reliably. */
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

/* Whether the piece, of which `bytes` are there, is acceptable in this state. */
static __always_inline int is_expected(volatile __u32 *cb, enum state state,
				       const struct piece *piece, __u32 bytes)
{
	__u32 length;

	if (state == STATE_REQUEST || state == STATE_RESPONSE)
		return is_readable(piece, state == STATE_REQUEST);
	if (state != STATE_LINE)
		return 1;
	length = cb[CB_END];
	if (!take_line(piece, bytes, &length))
		return 0;
	cb[CB_END] = length;
	return 1;
}

/*
 * Reads the head in the range given in skb->cb. Returns its length, or 0 if we cannot read it
 * reliably.
 */
static __always_inline __u32 read_head(struct __sk_buff *skb)
{
	volatile __u32 *cb = skb->cb;
	__u32 begin = cb[CB_BEGIN], end = cb[CB_END];
	struct piece piece;

	/*
	 * By plain stores: a helper must not write where an untrusted program has kept a pointer
	 * before.
	 */
	__builtin_memset(&piece, 0, sizeof(piece));
	asm volatile("" : : "r"(&piece) : "memory");
	cb[CB_END] = 0;
	cb[CB_AT] = begin;
#pragma clang loop unroll(disable)
	for (int index = 0; index < PIECES_MAX; index++) {
		__u32 at = cb[CB_AT], bytes = end - at, step;
		enum state state = cb[CB_STATE];

		if (!bytes || bytes > end - begin)
			return 0;
		cb[CB_BYTES] = bytes < PIECE_BYTES ? bytes : PIECE_BYTES;
		/* This changes nothing: see look(). */
		bytes = ((cb[CB_BYTES] - 1) & (PIECE_BYTES - 1)) + 1;
		if (bpf_skb_load_bytes(skb, at, &piece, bytes))
			return 0;
		if (state == STATE_LINE && bytes >= LINE_END_BYTES &&
		    (__u16)word_of(piece.word[0]) == ('\r' | '\n' << 8))
			return at + LINE_END_BYTES - begin;
		if (!is_expected(cb, state, &piece, bytes))
			return 0;
		step = line_bytes(&piece);
		if (step > bytes)
			return 0;
		cb[CB_AT] = at + (step ? step : PIECE_BYTES);
		if (!step) {
			cb[CB_STATE] = state <= STATE_REQUEST_INSIDE ? STATE_REQUEST_INSIDE
									   : STATE_INSIDE;
			continue;
		}
		if (state <= STATE_REQUEST_INSIDE && !is_http1_line(skb, begin, at + step))
			return 0;
		cb[CB_STATE] = STATE_LINE;
	}
	return 0;
}

/*
 * Whether the filter itself has found that the server's data at `server_at` belong to a body, which
 * ends at `until`; `server` is their sender, and `client_at` is the client's position in the same
 * segment. The client has sent the request and nothing more, or else the filter has stopped
 * reading. So a segment with another position is not of this exchange.
 *
 * User space writes a hint after it has the head; this grant exists before any copy of the head is
 * in a ring. So segments that begin before the body must pass whole, however often they are sent.
 */
static __always_inline int has_own_grant(const struct connection *session, __u32 server,
					 __u32 server_at, __u32 client_at, __u32 *until)
{
	__u64 grant = *(const volatile __u64 *)&session->own_grant;
	__u32 begin = *(const volatile __u32 *)&session->body_begin;
	__u32 reading = session->reading;

	*until = grant;
	return reading && grant && ((reading & READS_CLIENT_1) == 0) == server &&
	       session->flags & hint_isn(server) && grant >> 32 == isn_of(session, server) &&
	       client_at == word_of_sender(session->begin, !server) &&
	       server_at - begin < *until - begin;
}

/*
 * Whether a segment without data acknowledges part of a body that the filter has found, after an
 * acknowledgement of almost as much has passed. The acknowledgements that still reach user space
 * reveal holes.
 */
static __always_inline int is_body_ack(const struct segment *segment, struct connection *session)
{
	__u32 ack = bpf_ntohl(segment->tcp.ack_seq), until;

	if (!segment->tcp.ack || !has_own_grant(session, !segment->sender, ack,
						bpf_ntohl(segment->tcp.seq), &until))
		return 0;
	if (ack - session->acked < ACK_STEP_BYTES)
		return 1;
	session->acked = ack;
	return 0;
}

/*
 * Whether its sender is to send a head next, and this segment begins with it. A head acknowledges
 * all that the other endpoint has sent before it: a response the whole request that it answers, a
 * request the whole response before it.
 */
static __always_inline int is_head_due(const struct segment *segment,
				       const struct connection *session)
{
	__u32 sender = segment->sender;

	return sender == next_sender(session->reading) &&
	       bpf_ntohl(segment->tcp.seq) == word_of_sender(session->begin, sender) &&
	       bpf_ntohl(segment->tcp.ack_seq) == word_of_sender(session->begin, !sender) &&
	       !segment->tcp.urg;
}

/*
 * For a segment of a session whose heads are read, if it passes whole: whether it begins with the
 * next head. If it is neither that nor a part of the current body, we do not know what it is: it
 * may be a copy of a head, with other bytes. User space compares copies; the filter reads no more.
 */
static __always_inline int begins_with_head(const struct segment *segment,
					    struct connection *session)
{
	__u32 sender = segment->sender, seq = bpf_ntohl(segment->tcp.seq), offset, begin, end, until;
	__u32 is_request = session->reading & READS_REQUEST;
	volatile __u32 *cb = segment->at.skb->cb;

	if (!segment->tcp.ack)
		return 0;	/* no endpoint takes it */
	if (has_own_grant(session, sender, seq, bpf_ntohl(segment->tcp.ack_seq), &until) &&
	    (__s32)(seq + payload_bytes(segment) - until) <= 0)
		return 0;
	offset = cursor_from_data(&segment->at, (const __u32 *)&segment->tcp);
	begin = offset + segment->tcp.doff * 4;
	end = offset + segment->bytes;
	if (offset == OFFSET_UNKNOWN || !is_head_due(segment, session) ||
	    (!is_request && !may_be_large(segment->at.skb, begin, end))) {
		stop_reading(session);
		return 0;
	}
	cb[CB_BEGIN] = begin;
	cb[CB_END] = end;
	cb[CB_STATE] = is_request ? STATE_REQUEST : STATE_RESPONSE;
	cb[CB_SEQ] = seq;
	cb[CB_READING] = session->reading;
	return 1;
}

#endif
