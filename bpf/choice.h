/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The user's choices: ports, VLANs and networks that are wanted or not, and the ports of VXLAN.
 * They are written before the gate opens, and never after.
 */
#ifndef HTTPLINES_CHOICE_H
#define HTTPLINES_CHOICE_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "shared.h"

/* CHOICE_BITS for each port, followed by those for each VLAN id. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, CHOICE_WORDS);
	__type(key, __u32);
	__type(value, __u64);
} choices SEC(".maps");

static __always_inline __u32 choices_of(__u32 number)
{
	__u32 index = number / (64 / CHOICE_BITS);
	__u64 *word = bpf_map_lookup_elem(&choices, &index);

	return word ? *word >> (number % (64 / CHOICE_BITS)) * CHOICE_BITS & CHOICE_MASK : 0;
}

static __always_inline __u32 choices_of_port(__u16 port)
{
	return choices_of(port);
}

static __always_inline __u32 choices_of_vlan(__u16 id)
{
	return choices_of(CHOICE_VLANS + (id & 0x0fff));
}

#endif
