/*
 * What a snapshot is for grouping, filtering and comparing: rows that name
 * the node of their most recent frame, and a tree of nodes, each a frame by
 * its number in the snapshot's list of frames.  Keys are the numbers of what
 * frames are grouped by (a line, a file, a function …).
 *
 * May use: tm_layout.h, error.h, parts.h.  Must not use: gdb.
 */
#ifndef TM_ANALYSIS_H
#define TM_ANALYSIS_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "parts.h"
#include "tm_layout.h"

struct trace_row {
	uint64_t size;  /* bytes of each block */
	uint64_t count; /* blocks that were recorded, not 0 */
	int64_t total;  /* frames the traceback had before it was cut; -1: not known */
	uint32_t node;  /* most recent frame */
	uint32_t domain;
};
#define TRACE_ROW_FORMAT "<QQqII" /* for Python's struct module */

struct trace_node {
	uint32_t frame;
	uint32_t parent; /* the caller, a lower number; TM_NO_NODE in the oldest frame */
};
#define TRACE_NODE_FORMAT "<II"

/* One line of the answer. */
struct trace_group {
	uint64_t id;  /* key; for tracebacks a node; for sizes and domains the number itself */
	uint64_t old; /* 1: the node is one of the old snapshot's */
	uint64_t size;
	uint64_t count;
	int64_t size_diff;
	int64_t count_diff;
	double size_error; /* standard errors of what was estimated */
	double count_error;
	double size_diff_error; /* at most so much: as if no block were in both snapshots */
	double count_diff_error;
};
#define TRACE_GROUP_FORMAT "<QQQQqqdddd"

_Static_assert(sizeof(struct trace_row) == 32, "TRACE_ROW_FORMAT");
_Static_assert(sizeof(struct trace_node) == 8, "TRACE_NODE_FORMAT");
_Static_assert(sizeof(struct trace_group) == 80, "TRACE_GROUP_FORMAT");

/* The traces of a snapshot, in memory that belongs to Python objects. */
struct traces {
	const struct trace_row *rows;
	size_t row_count;
	const struct trace_node *nodes;
	size_t node_count;
	const uint32_t *keys; /* by frame; NULL where keys have no part */
	size_t frame_count;
	uint64_t period; /* of the sampling, 0: every block was recorded; see tm_sample.h */
};

/*
 * Takes `rows` and `nodes` (bytes objects) and, unless NULL, `keys`; checks
 * every number in them against `frame_count` and `key_count`, and the period.
 */
struct tm_error *traces_check(PyObject *rows, PyObject *nodes, PyObject *keys, size_t frame_count,
			      size_t key_count, uint64_t period, struct traces *ret)
	__attribute__((warn_unused_result));

enum group_mode {
	GROUP_RECENT,     /* by the key of the most recent frame */
	GROUP_CUMULATIVE, /* by the key of each frame, as often as it occurs */
	GROUP_ONCE,       /* by the key of each frame, once for each trace */
	GROUP_TRACEBACK,
	GROUP_SIZE,
	GROUP_DOMAIN,
};

enum group_order { ORDER_SIZE, ORDER_COUNT, ORDER_AVERAGE, ORDER_DIFFERENCE };

struct trace_groups {
	struct trace_group *first; /* the first in order; free() it */
	size_t first_count;
	size_t count;                   /* of all groups, … */
	unsigned __int128 size, blocks; /* … and what they add up to */
};

/*
 * Groups `new`, and compares with `old` unless that is NULL.  Gives the first
 * `limit` groups, or more, in order: of many tracebacks few are found sooner.
 */
struct tm_error *traces_group(const struct traces *new, const struct traces *old,
			      enum group_mode mode, enum group_order order, size_t limit,
			      const uint32_t *ranks, size_t key_count, struct trace_groups *ret)
	__attribute__((warn_unused_result));

/*
 * Adds to sums[key] what the frames of each key hold together with all that they
 * called: for each frame of a path, or with `once` for the outermost of a key alone.
 */
struct estimate;
struct tm_error *traces_sum_paths(const struct traces *traces, size_t key_count, int once,
				  struct estimate *sums) __attribute__((warn_unused_result));

/* Bytes or blocks add up to more than 2^63. */
struct tm_error *traces_too_much(void);

/* Below 0, 0 or above, as `a` is to `b`. */
#define COMPARE(a, b) (((a) > (b)) - ((a) < (b)))

/* A hash for pairs of numbers. */
static inline size_t traces_hash(uint64_t a, uint64_t b)
{
	uint64_t hash = (a * UINT64_C(0x9e3779b97f4a7c15)) ^ (b + (a >> 32));

	hash *= UINT64_C(0xd6e8feb86659fd93);
	return hash ^ (hash >> 32);
}

/* Numbers for distinct pairs, in the order they come. */
struct pairs {
	uint64_t *first, *second;
	size_t count, capacity;
	uint32_t *index; /* open addressing: number + 1; 0 is free */
	size_t mask;
};

struct tm_error *pairs_number(struct pairs *pairs, uint64_t first, uint64_t second, uint32_t *ret)
	__attribute__((warn_unused_result));
void pairs_deinit(struct pairs *pairs);

#endif
