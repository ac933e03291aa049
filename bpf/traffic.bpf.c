// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The load generator: an XDP program that is run with BPF_F_TEST_XDP_LIVE_FRAMES (Linux 5.18). Each
 * run builds one frame when the frame is due. XDP_PASS puts it into the receive path of the
 * interface given for the run, as if it had arrived from the wire.
 *
 * The kernel reuses the same pages with their old content, so every frame is written whole, from
 * its template. bench/veth/frame.rs builds the same frames; a test compares them. Little-endian
 * machines only, like all of the harness.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "traffic.h"

#define CLIENT_NETWORK 0x0a000000u	/* 10.0.0.0 */
#define CLIENT_PORT_FIRST 10000
#define CLIENT_PORT_COUNT 50000
#define IDLE_NS_MAX 100000

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct traffic);
} state SEC(".maps");

/* The size is set before the load. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct step);
} steps SEC(".maps");

struct template {
	__u8 bytes[TEMPLATE_BYTES];
};

/* The size is set before the load. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct template);
} templates SEC(".maps");

struct tcp_frame {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct tcphdr tcp;
} __attribute__((packed));

/* The sum of the two-byte words in `words`. */
static __always_inline __u64 sum_of(__u64 words)
{
	return (words & 0xffff) + (words >> 16 & 0xffff) + (words >> 32 & 0xffff) + (words >> 48);
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* Eight hexadecimal digits, the first in the byte that comes first in memory. */
static __always_inline __u64 digits_of(__u32 number)
{
	__u64 digits = __builtin_bswap32(number);

	digits = (digits | digits << 16) & 0x0000ffff0000ffffull;
	digits = (digits | digits << 8) & 0x00ff00ff00ff00ffull;
	digits = (digits >> 4 & 0x000f000f000f000full) | (digits & 0x000f000f000f000full) << 8;
	return digits + 0x3030303030303030ull +
	       ((digits + 0x0606060606060606ull) >> 4 & 0x0101010101010101ull) * ('a' - '0' - 10);
}

/* Where the fields that change begin: after the headers of the tunnel. */
static __always_inline __u8 *behind_tunnel(struct xdp_md *ctx, const struct traffic *traffic)
{
	return (__u8 *)(long)ctx->data + (traffic->prefix_bytes & PREFIX_BYTES_MAX);
}

/* Writes the frame's request number and time; returns the sum of the words written. */
static __always_inline __u64 write_text(struct xdp_md *ctx, const struct traffic *traffic,
					const struct step *step, __u64 time_ns)
{
	__u8 *data = behind_tunnel(ctx, traffic);
	__u8 *end = (__u8 *)(long)ctx->data_end;
	__u64 *text;
	__u32 number = traffic->round * traffic->request_count + step->number;

	if (step->text == TEXT_RESPONSE) {
		text = (__u64 *)(data + RESPONSE_TEXT_AT);
		if ((__u8 *)(text + 1) > end)
			return 0;
		text[0] = digits_of(number);
		return sum_of(text[0]);
	}
	text = (__u64 *)(data + (step->text == TEXT_HEADERS ? HEADERS_TEXT_AT :
				 step->text == TEXT_SNI	    ? SNI_TEXT_AT :
							      REQUEST_TEXT_AT));
	if (step->text == TEXT_NONE || (__u8 *)(text + 3) > end)
		return 0;
	text[0] = digits_of(number);
	text[1] = digits_of(time_ns >> 32);
	text[2] = digits_of(time_ns);
	return sum_of(text[0]) + sum_of(text[1]) + sum_of(text[2]);
}

/* The headers that change; 0 if the frame is too short for them. */
static __always_inline struct tcp_frame *inner(struct xdp_md *ctx, const struct traffic *traffic)
{
	__u8 *data = behind_tunnel(ctx, traffic);

	return data + sizeof(struct tcp_frame) > (__u8 *)(long)ctx->data_end ? 0 : (void *)data;
}

/*
 * Writes the fields that change. Templates have zeros there, and in place of each checksum the sum
 * of all the words it covers.
 */
static __always_inline int patch(struct xdp_md *ctx, const struct traffic *traffic,
				 const struct step *step, __u64 time_ns)
{
	struct tcp_frame *frame = inner(ctx, traffic);
	__u32 connection = traffic->round * traffic->connection_count + step->connection;
	__be32 address = bpf_htonl(CLIENT_NETWORK + connection / CLIENT_PORT_COUNT);
	__be16 port = bpf_htons(CLIENT_PORT_FIRST + connection % CLIENT_PORT_COUNT);
	__u32 of_client = connection * 0x9e3779b1u, of_server = connection * 0x85ebca77u + 1;
	__u32 seq, ack;
	__u64 sum;

	if (!frame)
		return -1;
	if (step->kind == KIND_SERVER) {
		frame->ip.daddr = address;
		frame->tcp.dest = port;
		seq = bpf_htonl(of_server + step->seq);
		ack = bpf_htonl(of_client + step->ack);
	} else {
		frame->ip.saddr = address;
		frame->tcp.source = port;
		seq = bpf_htonl(of_client + step->seq);
		ack = bpf_htonl(of_server + step->ack);
	}
	frame->ip.check = ~fold(frame->ip.check + sum_of(address));
	if (step->kind == KIND_DATAGRAM)
		return 0;
	if (!frame->tcp.ack)
		ack = 0;
	frame->tcp.seq = seq;
	frame->tcp.ack_seq = ack;
	sum = frame->tcp.check + sum_of(address) + port + sum_of(seq) + sum_of(ack);
	sum += write_text(ctx, traffic, step, time_ns);
	frame = inner(ctx, traffic);
	if (!frame)
		return -1;
	frame->tcp.check = ~fold(sum);
	return 0;
}

/* Corrects the checksum at `at` for a change of the word `from` to `to`: RFC 1624. */
static __always_inline void correct(struct xdp_md *ctx, __u32 at, __u32 from, __u32 to)
{
	__u16 check;

	if (!at || bpf_xdp_load_bytes(ctx, at, &check, sizeof(check)))
		return;
	check = ~fold((__u16)~check + sum_of((__u32)~from) + sum_of(to));
	bpf_xdp_store_bytes(ctx, at, &check, sizeof(check));
}

/* Sets a different client address in each round. */
static __always_inline int readdress(struct xdp_md *ctx, const struct traffic *traffic,
				     const struct step *step)
{
	__u32 from, to;

	if (bpf_xdp_load_bytes(ctx, step->seq, &from, sizeof(from)))
		return -1;
	to = bpf_htonl(bpf_ntohl(from) + (traffic->round << 16));
	bpf_xdp_store_bytes(ctx, step->seq, &to, sizeof(to));
	correct(ctx, step->ack & 0xffff, from, to);
	correct(ctx, step->ack >> 16, from, to);
	return 0;
}

static __always_inline int make(struct xdp_md *ctx, const struct traffic *traffic,
				const struct step *step, __u64 time_ns)
{
	__u32 index = step->template;
	__u64 bytes = step->frame_bytes;	/* 32 bits would be compared in a copy, too */
	struct template *template = bpf_map_lookup_elem(&templates, &index);

	if (!template || bytes < ETH_HLEN)
		return -1;
	/*
	 * Else clang 19 makes one comparison of both, of a copy, and the verifier does not know the
	 * bounds of `bytes`.
	 */
	asm volatile("" : "+r"(bytes));
	if (bytes > TEMPLATE_BYTES)
		return -1;
	/* The kernel provides a frame of the maximum size. */
	if (bpf_xdp_adjust_tail(ctx, (int)bytes - (int)traffic->frame_bytes_max))
		return -1;
	if (bpf_xdp_store_bytes(ctx, 0, template->bytes, bytes))
		return -1;
	if (step->kind == KIND_VERBATIM)
		return 0;
	if (step->kind == KIND_REPLAY)
		return readdress(ctx, traffic, step);
	return patch(ctx, traffic, step, time_ns);
}

/* Whether the next frame is due; if so, sets `due_ns` to its time. */
static __always_inline int is_due(struct traffic *traffic, __u64 now_ns, __u64 *due_ns)
{
	__u64 late_ns;

	/*
	 * Between two batches the kernel receives the frames of the first: this is not idle time.
	 */
	if (traffic->attempt++ % BATCH_ATTEMPTS == 0) {
		if (traffic->batch_frames)
			traffic->early_ns = 0;
		traffic->batch_frames = 0;
	}
	/* During a longer pause another task had the CPU. */
	if (traffic->early_ns && now_ns - traffic->early_ns < IDLE_NS_MAX)
		traffic->idle_ns += now_ns - traffic->early_ns;
	*due_ns = traffic->interval ? traffic->start_ns + (traffic->due >> INTERVAL_SHIFT) : now_ns;
	if (now_ns < *due_ns) {
		traffic->early_ns = now_ns;
		return 0;
	}
	traffic->early_ns = 0;
	late_ns = now_ns - *due_ns;
	if (late_ns > traffic->late_ns_max)
		traffic->late_ns_max = late_ns;
	return 1;
}

static __always_inline void advance(struct traffic *traffic, __u32 frame_bytes, __u64 now_ns)
{
	traffic->batch_frames++;
	traffic->frame_count++;
	traffic->byte_count += frame_bytes;
	traffic->last_ns = now_ns;
	traffic->due += traffic->interval;
	traffic->step++;
	if (traffic->step >= traffic->step_count) {
		traffic->step = 0;
		traffic->round++;
	}
}

SEC("xdp")
int traffic(struct xdp_md *ctx)
{
	__u32 zero = 0, index;
	struct traffic *traffic = bpf_map_lookup_elem(&state, &zero);
	__u64 now_ns = bpf_ktime_get_ns(), due_ns;
	struct step *step;

	if (!traffic || traffic->frame_count >= traffic->frame_count_max)
		return XDP_DROP;
	if (!is_due(traffic, now_ns, &due_ns))
		return XDP_DROP;
	index = traffic->step;
	step = bpf_map_lookup_elem(&steps, &index);
	if (!step || make(ctx, traffic, step, traffic->epoch_ns + due_ns - traffic->start_ns)) {
		traffic->failed_count++;
		return XDP_DROP;
	}
	advance(traffic, step->frame_bytes, now_ns);
	return traffic->verdict;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
