/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Which flows the user wants to see: by port, network and VLAN, and which sample of them.
 * engine/decode/restrict.rs and sample.rs have the same rules for frames from files.
 */
#ifndef HTTPLINES_RESTRICT_H
#define HTTPLINES_RESTRICT_H

#include "choice.h"

/*
 * Networks by prefix; each has the choices of all networks that contain it. The size is set before
 * the load.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct network);
	__type(value, __u32);
} networks SEC(".maps");

static __always_inline __u32 choices_of_address(const struct flow_key *key, int endpoint)
{
	struct network network;
	__u32 *found;

	network.prefix_bits = 32 + 128;
	network.realm = key->realm & REALM_IPV6;
	__builtin_memcpy(network.address, key->address[endpoint], sizeof(network.address));
	found = bpf_map_lookup_elem(&networks, &network);
	return found ? *found : 0;
}

/* Whether one kind of restriction refuses a flow with the choices `found`. */
static __always_inline int is_refused(__u32 found, __u32 restrictions, __u32 must_be_wanted)
{
	return found & CHOICE_UNWANTED ||
	       (restrictions & must_be_wanted && !(found & CHOICE_WANTED));
}

/* Whether the user does not want to see this flow. */
static __always_inline int is_unwanted(const struct flow_key *key, __u32 restrictions)
{
	__u32 found = 0;

	if (restrictions & RESTRICT_PORTS) {
		found = choices_of_port(bpf_ntohs(key->port[0])) |
			choices_of_port(bpf_ntohs(key->port[1]));
		if (is_refused(found, restrictions, RESTRICT_TO_PORTS))
			return 1;
	}
	if (restrictions & RESTRICT_VLANS) {
		found = 0;
		for (int index = 0; index < VLAN_DEPTH_MAX; index++)
			if (key->vlan[index])
				found |= choices_of_vlan(key->vlan[index]);
		if (is_refused(found, restrictions, RESTRICT_TO_VLANS))
			return 1;
	}
	if (restrictions & RESTRICT_NETWORKS) {
		found = choices_of_address(key, 0) | choices_of_address(key, 1);
		if (is_refused(found, restrictions, RESTRICT_TO_NETWORKS))
			return 1;
	}
	return 0;
}

#define SAMPLE_FACTOR 0x9e3779b97f4a7c15ull

/*
 * A hash of a connection's addresses and ports, the same for both directions, on every host and in
 * every run: it has no key, and neither VLANs nor overlay networks are in it. engine/decode/sample.rs
 * has the same function.
 */
static __always_inline __u32 sample_hash(const struct flow_key *key)
{
	const __be32 *word = (const __be32 *)key;
	__u64 hash = 0;

	for (int index = 0; index < 9; index++) {
		hash = (hash ^ bpf_ntohl(word[index])) * SAMPLE_FACTOR;
		hash ^= hash >> 32;
	}
	return hash * SAMPLE_FACTOR >> 32;
}

/* Why a connection is outside of the share that passes; PARSED if it is not. */
static __always_inline enum reason judge_share(const struct flow_key *key,
					       const struct control *words)
{
	__u32 hash, share_max = words->share_max;

	if (share_max == SAMPLE_ALL)
		return PARSED;
	hash = sample_hash(key);
	if (hash <= share_max)
		return PARSED;
	return hash <= words->sample_max ? REASON_SHED : REASON_SAMPLED;
}

#endif
