/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * TLS: how the filter finds it, and what passes of it if the user wants records of TLS.
 *
 * What passes is decided by sequence numbers alone, so it is the same in every run. It is the
 * beginning of both directions, in which the hellos are; FIN and RST, whose numbers show how much
 * was sent; and of the rest the headers of one segment per GiB, because sequence numbers wrap.
 */
#ifndef HTTPLINES_TLS_H
#define HTTPLINES_TLS_H

#include "connection.h"
#include "parse.h"
#include "shared.h"

/*
 * Of a connection of which only one direction is seen, so much payload behind a TLS record shows
 * that it is TLS.
 */
#define ONE_SIDED_BYTES_MIN (16 << 10)

/*
 * Finds out whether an opening is TLS, at a segment with `bytes` of payload, which has a TLS record
 * or not. Its first payload must begin with one, and so must the first of the other endpoint, which
 * has acknowledged data: that answer is the proof. A checksum would prove less, since of outgoing
 * frames it is not computed yet. User space judges a connection by the same bytes.
 */
static __always_inline void settle_tls(const struct segment *segment, struct connection *opening,
				       int is_record, __u32 bytes)
{
	__u32 sender = segment->sender, other = !sender, flags = opening->flags;
	__u32 is_other_known = flags & hint_isn(other);
	__u32 acked = bpf_ntohl(segment->tcp.ack_seq) - isn_of(opening, other) - 1;

	if (flags & (NOT_TLS | RIVAL_FLAGS))
		return;
	if (!(flags & hint_isn(sender))) {
		opening->flags = flags | NOT_TLS;
		return;
	}
	if (begins_stream(segment, opening)) {
		if (!is_record) {
			opening->flags = flags | NOT_TLS;
		} else if (flags & TLS_BEGUN << other) {
			if (flags & TLS_BEGUN << sender ||
			    (is_other_known && acked - 1 < RIVAL_BYTES_MAX)) {
				opening->flags = flags | TLS_BEGUN << sender;
				settle(opening, segment, SETTLED_TLS);
			}
		} else if (!opening->bytes && (!is_other_known || !acked)) {
			opening->flags = flags | TLS_BEGUN << sender;
		}
	} else if (flags & TLS_BEGUN << sender && !is_other_known &&
		   opening->bytes + bytes >= ONE_SIDED_BYTES_MIN) {
		settle(opening, segment, SETTLED_TLS);
	}
}

/*
 * Whether a segment of a TLS connection passes, whose endpoints have the numbers `isn`, as far as
 * `flags` say that they are known. REASON_TLS if not; else `pass_bytes` is how much of it passes.
 */
static __always_inline enum reason judge_tls(const struct segment *segment, const __u32 isn[2],
					     __u32 flags, __u32 *pass_bytes)
{
	__u32 sender = segment->sender, bytes = payload_bytes(segment), at, headers;

	*pass_bytes = WHOLE_FRAME;	/* a session's grant may have been looked at before */
	if (segment->tcp.fin || segment->tcp.rst)
		return REASON_TLS_WANTED;
	if (!segment->tcp.ack)	/* no endpoint takes it */
		return REASON_TLS;
	if (!bytes) {
		at = bpf_ntohl(segment->tcp.ack_seq) - word_of_sender(isn, !sender) - 1;
		return flags & hint_isn(!sender) && at <= TLS_BEGIN_BYTES ? REASON_TLS_WANTED
									  : REASON_TLS;
	}
	at = bpf_ntohl(segment->tcp.seq) - word_of_sender(isn, sender) - 1;
	if (!(flags & hint_isn(sender)))
		return REASON_TLS;
	if (at < TLS_BEGIN_BYTES)
		return REASON_TLS_WANTED;
	if ((at ^ (at + bytes)) < TLS_STEP_BYTES)
		return REASON_TLS;
	headers = headers_bytes(segment);
	if (headers)
		*pass_bytes = headers;
	return REASON_TLS_WANTED;
}

/* The same by the numbers of a hint, which says that the connection is TLS. */
static __always_inline enum reason judge_hinted_tls(const struct segment *segment,
						    const struct hint_copy *hint,
						    __u32 *pass_bytes)
{
	const __u32 isn[2] = { hint->grant[0] >> 32, hint->grant[1] >> 32 };

	return judge_tls(segment, isn, hint->flags, pass_bytes);
}

#endif
