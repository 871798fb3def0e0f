/*
 * Equal tracebacks and their order, see analysis_tracebacks.h.
 *
 * May use: analysis_tracebacks.h, the C library.  Must not use: Python objects, gdb.
 * Must never recurse: a traceback may be as deep as a file says.
 */
#include "analysis_tracebacks.h"

#include <stdlib.h>
#include <string.h>

/* Nodes between the prefetch of a slot and its use. */
#define AHEAD 16

static const struct trace_node *node_at(const struct tracebacks *tracebacks, size_t node)
{
	if (node < tracebacks->new_count)
		return &tracebacks->sides[0]->nodes[node];
	return &tracebacks->sides[1]->nodes[node - tracebacks->new_count];
}

static uint32_t key_of(const struct tracebacks *tracebacks, size_t node)
{
	const struct traces *side = tracebacks->sides[node >= tracebacks->new_count];

	return side->keys[node_at(tracebacks, node)->frame];
}

static uint32_t parent_of(const struct tracebacks *tracebacks, size_t node)
{
	uint32_t parent = node_at(tracebacks, node)->parent;

	if (parent == TM_NO_NODE || node < tracebacks->new_count)
		return parent;
	return parent + (uint32_t)tracebacks->new_count;
}

/* The class of a node's caller, TM_NO_NODE above the oldest frame. */
static uint32_t caller_of(const struct tracebacks *tracebacks, size_t node)
{
	uint32_t parent = parent_of(tracebacks, node);

	return parent == TM_NO_NODE ? TM_NO_NODE : tracebacks->classes[parent];
}

/* ---- classes --------------------------------------------------------------------- */

/* A class in the table; free while it is all 0. */
struct slot {
	uint32_t hash;
	uint32_t next; /* the class + 1 */
};

/* By node, a hash of the keys from its frame to the oldest. */
static void hash_nodes(const struct tracebacks *tracebacks, uint32_t *hashes)
{
	for (size_t i = 0; i < tracebacks->node_count; i++) {
		uint32_t parent = parent_of(tracebacks, i);
		uint64_t above = parent == TM_NO_NODE ? 0 : hashes[parent] + 1ull;

		hashes[i] = (uint32_t)traces_hash(above, key_of(tracebacks, i));
	}
}

static size_t first_slot(uint32_t hash, size_t capacity)
{
	return (size_t)((unsigned __int128)hash * capacity >> 32);
}

/*
 * The hashes say only where to look: what makes two nodes equal are the class
 * of the caller, which is known as callers come first, and the key.
 */
static void classify(struct tracebacks *tracebacks, const uint32_t *hashes, struct slot *slots,
		     size_t capacity)
{
	size_t count = tracebacks->node_count;
	uint32_t *classes = tracebacks->classes;

	for (size_t i = 0; i < count; i++) {
		size_t at = first_slot(hashes[i], capacity);

		if (i + AHEAD < count)
			__builtin_prefetch(&slots[first_slot(hashes[i + AHEAD], capacity)], 1);
		classes[i] = (uint32_t)i;
		for (; slots[at].next; at = at + 1 < capacity ? at + 1 : 0) {
			uint32_t other = slots[at].next - 1;

			if (slots[at].hash == hashes[i] &&
			    key_of(tracebacks, other) == key_of(tracebacks, i) &&
			    caller_of(tracebacks, other) == caller_of(tracebacks, i)) {
				classes[i] = other;
				break;
			}
		}
		if (classes[i] == i)
			slots[at] = (struct slot){hashes[i], (uint32_t)i + 1};
	}
}

/* `numbers` serves for the hashes until there are numbers. */
static struct tm_error *find_classes(struct tracebacks *tracebacks)
{
	size_t count = tracebacks->node_count, capacity = count + count / 2 + 1;
	struct slot *slots = calloc(capacity, sizeof(*slots));

	tracebacks->classes = malloc((count + 1) * sizeof(*tracebacks->classes));
	tracebacks->numbers = malloc((count + 1) * sizeof(*tracebacks->numbers));
	if (!slots || !tracebacks->classes || !tracebacks->numbers) {
		free(slots);
		return tm_error_no_memory();
	}
	hash_nodes(tracebacks, tracebacks->numbers);
	classify(tracebacks, tracebacks->numbers, slots, capacity);
	free(slots);
	memset(tracebacks->numbers, 0, (count + 1) * sizeof(*tracebacks->numbers));
	return NULL;
}

static struct tm_error *number_rows(struct tracebacks *tracebacks)
{
	size_t most = 0;

	for (int side = 0; side < 2 && tracebacks->sides[side]; side++)
		most += tracebacks->sides[side]->row_count;
	most = most < tracebacks->node_count ? most : tracebacks->node_count;
	tracebacks->named = malloc((most + 1) * sizeof(*tracebacks->named));
	if (!tracebacks->named)
		return tm_error_no_memory();
	for (int side = 0; side < 2 && tracebacks->sides[side]; side++) {
		const struct traces *traces = tracebacks->sides[side];
		size_t base = side ? tracebacks->new_count : 0;

		for (size_t i = 0; i < traces->row_count; i++) {
			uint32_t class = tracebacks->classes[base + traces->rows[i].node];

			if (tracebacks->numbers[class])
				continue;
			tracebacks->named[tracebacks->count] = class;
			tracebacks->numbers[class] = (uint32_t)++tracebacks->count;
		}
	}
	return NULL;
}

struct tm_error *tracebacks_init(const struct traces *new, const struct traces *old,
				 const uint32_t *ranks, struct tracebacks *ret)
{
	struct tm_error *error;

	*ret = (struct tracebacks){
		.sides = {new, old},
		.ranks = ranks,
		.new_count = new->node_count,
		.node_count = new->node_count + (old ? old->node_count : 0),
	};
	if (ret->node_count >= TM_NO_NODE)
		return tm_error_new(TM_ERROR_INPUT, "the snapshots have too many frames");
	error = find_classes(ret);
	return error ? error : number_rows(ret);
}

void tracebacks_deinit(struct tracebacks *tracebacks)
{
	free(tracebacks->classes);
	free(tracebacks->numbers);
	free(tracebacks->named);
	free(tracebacks->places);
}

/* ---- order ------------------------------------------------------------------------ */

static uint32_t rank_of(const struct tracebacks *tracebacks, uint32_t node)
{
	return tracebacks->ranks[key_of(tracebacks, node)];
}

/* One list of siblings of two that are in the order of their keys. */
static uint32_t merge(const struct tracebacks *tracebacks, uint32_t *sibling, uint32_t a,
		      uint32_t b)
{
	uint32_t head, *tail = &head;

	while (a != TM_NO_NODE && b != TM_NO_NODE) {
		uint32_t *first = rank_of(tracebacks, a) < rank_of(tracebacks, b) ? &a : &b;

		*tail = *first;
		tail = &sibling[*first];
		*first = *tail;
	}
	*tail = a != TM_NO_NODE ? a : b;
	return head;
}

static uint32_t sort_siblings(const struct tracebacks *tracebacks, uint32_t *sibling, uint32_t list)
{
	uint32_t sorted[32]; /* lists of 2^i siblings, or TM_NO_NODE */
	uint32_t result = TM_NO_NODE;
	size_t used = 0;

	while (list != TM_NO_NODE) {
		uint32_t one = list;
		size_t i = 0;

		list = sibling[one];
		sibling[one] = TM_NO_NODE;
		for (; i < used && sorted[i] != TM_NO_NODE; i++) {
			one = merge(tracebacks, sibling, sorted[i], one);
			sorted[i] = TM_NO_NODE;
		}
		used = i == used ? used + 1 : used;
		sorted[i] = one;
	}
	for (size_t i = 0; i < used; i++)
		result = merge(tracebacks, sibling, sorted[i], result);
	return result;
}

/* Links the children of each class in the order of their keys. */
static void link_children(const struct tracebacks *tracebacks, uint32_t *child, uint32_t *sibling)
{
	size_t none = tracebacks->node_count;

	memset(child, 0xff, (none + 1) * sizeof(*child));
	for (size_t i = none; i--;) {
		uint32_t caller = caller_of(tracebacks, i);
		size_t head = caller == TM_NO_NODE ? none : caller;

		if (tracebacks->classes[i] != i)
			continue;
		sibling[i] = child[head];
		child[head] = (uint32_t)i;
	}
	for (size_t i = 0; i <= none; i++) /* few have more than one */
		if (child[i] != TM_NO_NODE && sibling[child[i]] != TM_NO_NODE)
			child[i] = sort_siblings(tracebacks, sibling, child[i]);
}

/*
 * The order of tracebacks is that in which a walk of the tree, depth first,
 * comes to them.  Who the first child is is asked once, the place is kept there.
 */
struct tm_error *tracebacks_place(struct tracebacks *tracebacks)
{
	size_t count = tracebacks->node_count;
	uint32_t *child = malloc((count + 1) * sizeof(*child)); /* the last: of the forest */
	uint32_t *sibling = malloc((count + 1) * sizeof(*sibling));
	uint32_t place = 0;

	if (!child || !sibling) {
		free(child);
		free(sibling);
		return tm_error_no_memory();
	}
	link_children(tracebacks, child, sibling);
	for (uint32_t at = child[count]; at != TM_NO_NODE;) {
		uint32_t next = child[at];

		child[at] = place++;
		while (next == TM_NO_NODE && at != TM_NO_NODE) {
			next = sibling[at];
			at = caller_of(tracebacks, at);
		}
		at = next;
	}
	free(sibling);
	tracebacks->places = child;
	return NULL;
}

int tracebacks_compare(struct tracebacks *tracebacks, uint32_t a, uint32_t b)
{
	uint32_t left = a, right = b, below_left = TM_NO_NODE, below_right = TM_NO_NODE;

	if (tracebacks->places)
		return COMPARE(tracebacks->places[a], tracebacks->places[b]);
	while (left != right) { /* the higher one cannot be a caller of the other */
		tracebacks->comparisons++;
		if (left + 1 > right + 1) { /* TM_NO_NODE is the lowest */
			below_left = left;
			left = caller_of(tracebacks, left);
		} else {
			below_right = right;
			right = caller_of(tracebacks, right);
		}
	}
	if (left == a || left == b) /* one called the other, or they are the same */
		return (left == b) - (left == a);
	return COMPARE(rank_of(tracebacks, below_left), rank_of(tracebacks, below_right));
}
