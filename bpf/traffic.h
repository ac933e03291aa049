/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the load generator and bench/veth/traffic.rs share. A round is a list of steps, each of
 * which is one frame; rounds follow each other with fresh connections.
 */
#ifndef HTTPLINES_TRAFFIC_H
#define HTTPLINES_TRAFFIC_H

#include <linux/types.h>

/* Bytes that a template has room for; a frame of MTU size with its Ethernet header fits. */
#define TEMPLATE_BYTES 2048

/* step.kind: what of its template a frame changes. */
#define KIND_VERBATIM 0		/* nothing */
#define KIND_CLIENT 1		/* TCP over IPv4, from the client: endpoints, numbers, checksums */
#define KIND_SERVER 2		/* the same, to the client */
#define KIND_DATAGRAM 3		/* UDP over IPv4 without checksum, from the client: endpoints */
#define KIND_REPLAY 4		/* a word at step.seq, to whose upper half the round is added */

/* step.text: where the frame says which request it belongs to. */
#define TEXT_NONE 0
#define TEXT_REQUEST 1		/* number and intended time at REQUEST_TEXT_AT */
#define TEXT_RESPONSE 2		/* number at RESPONSE_TEXT_AT */

/* From the TCP header an even number of bytes: the checksum sums words of two. Both are behind the
 * headers of a tunnel, traffic.prefix_bytes. */
#define REQUEST_TEXT_AT 62	/* 24 digits */
#define RESPONSE_TEXT_AT 80	/* 8 digits */

/* A frame of a round. For KIND_REPLAY: the word is at `seq`, the checksums that cover it at `ack`:
 * that of the IPv4 header in the low 16 bits, that of the transport in the high; 0: there is none.
 */
struct step {
	__u32 template;		/* which */
	__u32 connection;	/* in the round, from 0 */
	__u32 seq;		/* less the sender's initial sequence number */
	__u32 ack;		/* less the other side's */
	__u32 number;		/* of the request, in the round, from 0 */
	__u16 frame_bytes;
	__u8 kind;
	__u8 text;
};

_Static_assert(sizeof(struct step) == 24, "step is shared with Rust");

/* Attempts of a call, after which the kernel takes in what was sent in them. */
#define BATCH_ATTEMPTS 64

/* No tunnel's headers are longer. */
#define PREFIX_BYTES_MAX 63

/* The part of a nanosecond that intervals are counted in. */
#define INTERVAL_SHIFT 10

/* Written by user space between runs, by the program while it runs. */
struct traffic {
	/* What is asked for. */
	__u64 start_ns;		/* the monotonic clock when the schedule begins */
	__u64 epoch_ns;		/* the time of day then */
	__u64 interval;		/* between frames, in 2^-10 ns; 0: as fast as it goes */
	__u64 frame_count_max;
	__u32 step_count;	/* of a round */
	__u32 connection_count;	/* of a round */
	__u32 request_count;	/* of a round */
	__u32 verdict;		/* XDP_PASS; XDP_DROP makes frames and sends none */
	__u32 frame_bytes_max;	/* how long the memory for a frame is */
	__u32 prefix_bytes;	/* of a tunnel, before what changes */
	/* What was done. */
	__u64 due;		/* when the next frame is, in 2^-10 ns behind the start */
	__u64 frame_count;
	__u64 byte_count;
	__u64 failed_count;	/* frames that could not be made: not so */
	__u64 idle_ns;		/* spent waiting for the next frame's time */
	__u64 early_ns;		/* the clock when the next frame was found not to be due; 0: it is */
	__u64 late_ns_max;	/* the most that a frame was behind its time */
	__u64 last_ns;		/* the clock at the last frame */
	__u32 step;		/* the next one */
	__u32 round;
	__u32 attempt;		/* of this call, from 0 */
	__u32 batch_frames;	/* sent in this batch of attempts */
};

#endif
