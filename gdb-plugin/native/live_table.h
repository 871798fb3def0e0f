/*
 * The helper's structures in a stopped process or a core, read through a
 * callback.  Everything that comes from there is suspect: each count and each
 * address is checked before it is used, and a contradiction is an error.
 *
 * May use: tm_layout.h, error.h, the C library.  Must not use: Python, gdb.
 */
#ifndef TM_LIVE_TABLE_H
#define TM_LIVE_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "tm_layout.h"

/* Where the structures are read from; read returns 0, or -1 when it cannot. */
struct tm_memory {
	int (*read)(void *context, uint64_t address, void *buffer, size_t length);
	void *context;
};

/* Directory entries over all shards: enough for 10^9 blocks. */
#define TM_LIVE_MAX_ENTRIES (UINT64_C(1) << 23)

struct tm_live_shard {
	uint64_t *directory; /* 1 << depth addresses of segments */
	uint32_t depth;
};

struct tm_live_segment {
	uint64_t address;
	uint32_t shard;
};

/* A live block. */
struct tm_live_block {
	uint64_t address;
	uint64_t size; /* bytes */
	uint32_t traceback;
	uint32_t foreign; /* 1: its domain is not 0 */
};

/* The nodes are read a chunk at a time, when one in it is first asked for. */
struct tm_live_chunk {
	struct tm_node *nodes;
	uint64_t *notes; /* one for each node, for the reader's own use, 0 at first */
};

struct tm_live_table {
	struct tm_memory memory;
	uint64_t address;
	struct tm_header header;
	struct tm_generation generation; /* all zero when nothing was ever traced */
	struct tm_live_shard shards[TM_SHARDS];
	uint64_t untracked_frees;
	struct tm_live_segment *segments; /* sorted, without overlap */
	size_t segment_count;
	struct tm_live_chunk *chunks;
	uint64_t *chunk_addresses;
	size_t chunk_count;
};

/* Reads the header, the generation, and the directories of the shards. */
struct tm_error *tm_live_table_open(const struct tm_memory *memory, uint64_t address,
				    struct tm_live_table *ret) __attribute__((warn_unused_result));
/* Accepts a table that could not be opened. */
void tm_live_table_close(struct tm_live_table *table);

/* Reads the header and the generation alone; close is not needed. */
struct tm_error *tm_live_header_read(const struct tm_memory *memory, uint64_t address,
				     struct tm_header *ret_header,
				     struct tm_generation *ret_generation)
	__attribute__((warn_unused_result));

/*
 * Calls `visit` for the blocks of all segments in the list from `first` to
 * before `last`: many blocks at a time.
 */
typedef struct tm_error *(*tm_visit_blocks)(void *context, const struct tm_live_table *table,
					    const struct tm_live_block *blocks, size_t count);
struct tm_error *tm_live_table_walk(struct tm_live_table *table, size_t first, size_t last,
				    tm_visit_blocks visit, void *context)
	__attribute__((warn_unused_result));

/* The segment where the block at `address` would be; NULL: there is none. */
const struct tm_live_segment *tm_live_table_segment(const struct tm_live_table *table,
						    uint64_t address);

/* `ret_note` may be NULL. */
struct tm_error *tm_live_table_node(struct tm_live_table *table, uint32_t id,
				    const struct tm_node **ret_node, uint64_t **ret_note)
	__attribute__((warn_unused_result));

struct tm_live_counts {
	uint64_t current; /* bytes */
	uint64_t peak;    /* bytes */
};

struct tm_error *tm_live_counts_read(const struct tm_memory *memory,
				     const struct tm_generation *generation,
				     struct tm_live_counts *ret)
	__attribute__((warn_unused_result));

/* Reads `length` bytes at `address`, which hold `what`. */
struct tm_error *tm_live_read(const struct tm_memory *memory, uint64_t address, void *buffer,
			      size_t length, const char *what) __attribute__((warn_unused_result));

#endif
