/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Shared by the load generator and bench/veth/traffic.rs. A round is a list of steps, each of which
 * is one frame; every round uses fresh connections.
 */
#ifndef HTTPLINES_TRAFFIC_H
#define HTTPLINES_TRAFFIC_H

#include <linux/types.h>

/* Maximum size of a template; a frame of MTU size with its Ethernet header fits. */
#define TEMPLATE_BYTES 2048

/* step.kind: which fields of its template a frame changes. */
#define KIND_VERBATIM 0		/* nothing */
#define KIND_CLIENT 1		/* TCP over IPv4, from the client: endpoints, numbers, checksums */
#define KIND_SERVER 2		/* the same, to the client */
#define KIND_DATAGRAM 3		/* UDP over IPv4 without checksum, from the client: endpoints */
#define KIND_REPLAY 4		/* a word at step.seq; the round is added to its upper half */

/* step.text: where the frame names its request. */
#define TEXT_NONE 0
#define TEXT_REQUEST 1		/* number and intended time at REQUEST_TEXT_AT */
#define TEXT_RESPONSE 2		/* number at RESPONSE_TEXT_AT */
#define TEXT_HEADERS 3		/* HTTP/2: number and intended time at HEADERS_TEXT_AT */
#define TEXT_SNI 4		/* TLS: number and intended time at SNI_TEXT_AT */

/*
 * Offsets from the TCP header; even, since the checksum sums words of two bytes. All come after
 * the headers of a tunnel, traffic.prefix_bytes.
 */
#define REQUEST_TEXT_AT 62	/* 24 digits */
#define RESPONSE_TEXT_AT 80	/* 8 digits */
#define HEADERS_TEXT_AT 70	/* 24 digits */
#define SNI_TEXT_AT 180		/* 24 digits */

/*
 * A frame of a round. For KIND_REPLAY, `seq` is the offset of the word, and `ack` has the offsets
 * of the checksums that cover it: that of the IPv4 header in the low 16 bits, that of the transport
 * in the high; 0: there is none.
 */
struct step {
	__u32 template;		/* its index */
	__u32 connection;	/* in the round, from 0 */
	__u32 seq;		/* relative to the sender's initial sequence number */
	__u32 ack;		/* relative to the other side's */
	__u32 number;		/* of the request, in the round, from 0 */
	__u16 frame_bytes;
	__u8 kind;
	__u8 text;
};

_Static_assert(sizeof(struct step) == 24, "step is shared with Rust");

/* Attempts per call, after which the kernel receives the frames sent in them. */
#define BATCH_ATTEMPTS 64

/* No tunnel's headers are longer. */
#define PREFIX_BYTES_MAX 63

/* Intervals are counted in units of 2^-INTERVAL_SHIFT nanoseconds. */
#define INTERVAL_SHIFT 10

/* Written by user space between runs, and by the program while it runs. */
struct traffic {
	/* The request. */
	__u64 start_ns;		/* the monotonic clock when the schedule begins */
	__u64 epoch_ns;		/* the time of day at that moment */
	__u64 interval;		/* between frames, in 2^-10 ns; 0: as fast as possible */
	__u64 frame_count_max;
	__u32 step_count;	/* of a round */
	__u32 connection_count;	/* of a round */
	__u32 request_count;	/* of a round */
	__u32 verdict;		/* XDP_PASS; XDP_DROP builds frames and sends none */
	__u32 frame_bytes_max;	/* size of the memory for a frame */
	__u32 prefix_bytes;	/* of a tunnel, before the fields that change */
	/* The result. */
	__u64 due;		/* when the next frame is due, in 2^-10 ns after the start */
	__u64 frame_count;
	__u64 byte_count;
	__u64 failed_count;	/* frames that could not be built: cannot happen */
	__u64 idle_ns;		/* spent waiting for the next frame's time */
	__u64 early_ns;		/* the clock when the next frame was not due yet; 0: it is due */
	__u64 late_ns_max;	/* the maximum delay of a frame */
	__u64 last_ns;		/* the clock at the last frame */
	__u32 step;		/* the next one */
	__u32 round;
	__u32 attempt;		/* of this call, from 0 */
	__u32 batch_frames;	/* sent in this batch of attempts */
};

#endif
