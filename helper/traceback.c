/*
 * Interned tracebacks: each is a path in a tree, (parent, return address) per
 * node, so common callers are stored once.
 *
 * The index over the nodes is a linear hash table: it grows by splitting one
 * bucket per insertion, never by a pause.  Looking up takes no lock (a reader
 * that races with a split may miss, never loop); inserting takes the intern
 * lock and looks again.
 *
 * Tracebacks that were interned lately are found by one hash of all their
 * frames, which the nodes then confirm: one look instead of one a frame.
 *
 * Uses arena and lock; must never call a hooked function.
 */
#include "traceback.h"
#include "arena.h"
#include "lock.h"

/* Bucket b lies in level log2(b / FIRST_BUCKETS) + 1, each level as large as all before it. */
#define FIRST_BUCKETS 1024u
#define LEVELS 22u
#define MAX_CHAIN 4096u

struct tm_index {
	/* By the hash of a traceback: another part of the hash, and its id (0: none), atomic. */
	uint64_t recent[TM_RECENT_TRACEBACKS];
	uint64_t heads[LEVELS]; /* address of uint32_t[], 0 where not yet made */
	uint32_t buckets;       /* in use; published after the bucket split off is complete */
	uint32_t reserved;
};

static struct tm_index *index_of(const struct tm_generation *generation)
{
	return (struct tm_index *)generation->index;
}

static uint32_t *bucket_head(const struct tm_index *index, uint32_t bucket)
{
	uint32_t level = bucket < FIRST_BUCKETS ? 0 : 22 - (uint32_t)__builtin_clz(bucket);
	uint32_t first = level ? FIRST_BUCKETS << (level - 1) : 0;

	return (uint32_t *)index->heads[level] + (bucket - first);
}

static uint64_t node_hash(uint32_t parent, uint64_t address)
{
	uint64_t hash = (address ^ (uint64_t)parent << 40 ^ parent) * UINT64_C(0x9e3779b97f4a7c15);

	return hash ^ hash >> 29;
}

/* Linear hashing: the bucket that a hash belongs to when `buckets` are in use. */
static uint32_t bucket_of(uint64_t hash, uint32_t buckets)
{
	uint32_t mask = UINT32_MAX >> __builtin_clz(buckets | 1);
	uint32_t bucket = (uint32_t)hash & mask;

	return bucket < buckets ? bucket : bucket & mask >> 1;
}

struct tm_node *traceback_node(const struct tm_generation *generation, uint32_t id)
{
	const uint64_t *chunks = (const uint64_t *)generation->node_chunks;

	return (struct tm_node *)load_relaxed(&chunks[id / TM_NODES_PER_CHUNK]) +
	       id % TM_NODES_PER_CHUNK;
}

TM_NOINLINE uint32_t traceback_domain(const struct tm_generation *generation, uint32_t id)
{
	uint64_t address = 0;

	/*
	 * A reader without the lock may bring an id that was just wiped (0 is no node), or
	 * what has taken its place: half of the size of a large block, which is any number.
	 */
	while (id && id < load_acquire(&generation->node_count) && !(address & TM_NODE_ROOT)) {
		const struct tm_node *node = traceback_node(generation, id);

		address = node->address;
		id = node->parent;
	}
	return (uint32_t)address;
}

int traceback_init(struct tm_generation *generation)
{
	struct tm_index *index = arena_map(generation, sizeof(*index));
	void *chunks = arena_map(generation, TM_NODE_CHUNKS * sizeof(uint64_t));
	void *heads = arena_map(generation, FIRST_BUCKETS * sizeof(uint32_t));

	if (!index || !chunks || !heads)
		return -TM_ENOMEM;
	index->heads[0] = (uint64_t)heads;
	index->buckets = FIRST_BUCKETS;
	generation->index = (uint64_t)index;
	generation->node_chunks = (uint64_t)chunks;
	generation->node_count = 1;
	return 0;
}

/* 0 when it is not there (or, without the lock, when it is just being moved). */
static uint32_t lookup(const struct tm_generation *generation, uint32_t parent, uint64_t address,
		       uint64_t hash)
{
	const struct tm_index *index = index_of(generation);
	uint32_t buckets = load_acquire(&index->buckets);
	uint32_t id = load_acquire(bucket_head(index, bucket_of(hash, buckets)));
	uint32_t steps;

	for (steps = 0; id && steps < MAX_CHAIN; steps++) {
		const struct tm_node *node = traceback_node(generation, id);

		if (node->address == address && node->parent == parent)
			return id;
		id = load_acquire(&node->next);
	}
	return 0;
}

/* Adds one bucket and moves to it what belongs there.  Intern lock held. */
static void split_bucket(struct tm_generation *generation, struct tm_index *index)
{
	uint32_t new = index->buckets;
	uint32_t old = bucket_of(new, new);
	uint32_t level = 22 - (uint32_t)__builtin_clz(new);
	uint32_t keep = 0, move = 0, id;

	if (level >= LEVELS)
		return;
	if (!index->heads[level]) {
		void *heads = arena_map(generation, (uint64_t)(FIRST_BUCKETS << (level - 1)) *
							    sizeof(uint32_t));

		if (!heads)
			return;
		store_release(&index->heads[level], (uint64_t)heads);
	}
	for (id = *bucket_head(index, old); id;) {
		struct tm_node *node = traceback_node(generation, id);
		uint32_t next = node->next;
		uint32_t *to = bucket_of(node_hash(node->parent, node->address), new + 1) == new
				       ? &move
				       : &keep;

		store_release(&node->next, *to);
		*to = id;
		id = next;
	}
	store_release(bucket_head(index, new), move);
	store_release(bucket_head(index, old), keep);
	store_release(&index->buckets, new + 1);
}

static TM_NOINLINE uint32_t insert(struct tm_generation *generation, uint32_t owner,
				   uint32_t parent, uint64_t address, uint64_t hash)
{
	uint32_t *lock = &tm_locks(generation)->intern.word;
	uint64_t *chunks = (uint64_t *)generation->node_chunks;
	struct tm_index *index = index_of(generation);
	struct tm_node *node;
	uint32_t *head;
	uint32_t id;

	if (!lock_take(lock, owner))
		return 0;
	id = lookup(generation, parent, address, hash);
	if (id)
		goto out;
	id = generation->node_count;
	if (id == UINT32_MAX) {
		id = 0;
		goto out;
	}
	if (!chunks[id / TM_NODES_PER_CHUNK]) {
		void *chunk = arena_map(generation, TM_NODES_PER_CHUNK * sizeof(struct tm_node));

		if (!chunk) {
			id = 0;
			goto out;
		}
		store_release(&chunks[id / TM_NODES_PER_CHUNK], (uint64_t)chunk);
	}
	if (id >= index->buckets)
		split_bucket(generation, index);
	node = traceback_node(generation, id);
	node->address = address;
	node->parent = parent;
	head = bucket_head(index, bucket_of(hash, index->buckets));
	node->next = *head;
	store_release(&generation->node_count, id + 1);
	store_release(head, id);
out:
	lock_release(lock);
	return id;
}

static uint32_t intern_node(struct tm_generation *generation, uint32_t owner, uint32_t parent,
			    uint64_t address)
{
	uint64_t hash = node_hash(parent, address);
	uint32_t id = lookup(generation, parent, address, hash);

	return likely(id != 0) ? id : insert(generation, owner, parent, address, hash);
}

#define RECENT_SHIFT 50 /* leaves a number below TM_RECENT_TRACEBACKS */
_Static_assert(TM_RECENT_TRACEBACKS == 1u << (64 - RECENT_SHIFT), "bits of a hash");

#define HASH_FACTOR UINT64_C(0xd6e8feb86659fd93)

static uint64_t frames_hash(uint32_t parent, const uint64_t *frames, uint32_t count)
{
	uint64_t hash = parent;
	uint32_t i;

	for (i = 0; i < count; i++)
		hash = (hash ^ frames[i]) * HASH_FACTOR;
	return hash;
}

/* Whether the nodes from this id on are those frames, and then the parent. */
static bool is_traceback(const struct tm_generation *generation, uint32_t id, uint32_t parent,
			 const uint64_t *frames, uint32_t count)
{
	const uint64_t *chunks = (const uint64_t *)generation->node_chunks;
	uint32_t i;

	for (i = 0; i < count; i++) {
		const struct tm_node *node =
			(const struct tm_node *)chunks[id / TM_NODES_PER_CHUNK] +
			id % TM_NODES_PER_CHUNK;

		if (node->address != frames[i])
			return false;
		id = node->parent;
	}
	return id == parent;
}

uint32_t traceback_intern_below(struct tm_generation *generation, uint32_t owner, uint32_t parent,
				const uint64_t *frames, uint32_t count)
{
	uint64_t hash = frames_hash(parent, frames, count);
	uint64_t *place = &index_of(generation)->recent[hash >> RECENT_SHIFT];
	uint64_t recent = load_acquire(place);
	uint32_t tag = (uint32_t)(hash >> (RECENT_SHIFT - 32)), id = parent, i;

	if (likely(recent >> 32 == tag && (uint32_t)recent != 0) &&
	    likely(is_traceback(generation, (uint32_t)recent, parent, frames, count)))
		return (uint32_t)recent;
	for (i = count; i-- && id;)
		id = intern_node(generation, owner, id, frames[i]);
	if (id)
		store_release(place, (uint64_t)tag << 32 | id);
	return id;
}

uint32_t traceback_intern(struct tm_generation *generation, uint32_t owner, uint32_t domain,
			  bool truncated, const uint64_t *frames, uint32_t count)
{
	uint64_t root_address = TM_NODE_ROOT | (truncated ? TM_NODE_TRUNCATED : 0) | domain;
	uint32_t root = intern_node(generation, owner, 0, root_address);

	return root ? traceback_intern_below(generation, owner, root, frames, count) : 0;
}

uint32_t traceback_outer(const struct tm_generation *generation, uint32_t id, uint32_t frames)
{
	while (frames-- && id)
		id = traceback_node(generation, id)->parent;
	return id;
}
