/*
 * Makes a snapshot image of the helper's live table, and finds single blocks.
 *
 * May use: live_table.h, tm_layout.h, error.h, the C library.
 * Must not use: Python, gdb.
 */
#ifndef TM_IMAGE_READER_H
#define TM_IMAGE_READER_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "live_table.h"
#include "tm_layout.h"

/* An image in memory: a struct tm_image and what follows it. */
struct tm_image_buffer {
	void *bytes; /* free() it */
	size_t size;
};

/* Reads everything; the process must be stopped. */
struct tm_error *tm_image_take(const struct tm_memory *memory, uint64_t header_address,
			       struct tm_image_buffer *ret) __attribute__((warn_unused_result));

/* The parts of an image that was checked. */
struct tm_image_view {
	const struct tm_image *header;
	const struct tm_row *rows;
	const struct tm_image_node *nodes;
	const struct tm_module *modules;
	const char *names; /* ends with NUL, when there is any module */
};

/* Checks that `bytes` is an image all of whose indexes are good. */
struct tm_error *tm_image_check(const void *bytes, size_t size, struct tm_image_view *ret)
	__attribute__((warn_unused_result));

struct tm_found_block {
	uint64_t address;
	uint64_t size;
	uint32_t domain;
	uint32_t truncated;
	uint32_t frame_count;
	uint64_t frames[TM_MAX_FRAMES]; /* most recent first; TM_NODE_EXACT may be set */
};

/* The block that holds `address`; `*ret_found` is 0 when there is none. */
struct tm_error *tm_image_find_block(const struct tm_memory *memory, uint64_t header_address,
				     uint64_t address, struct tm_found_block *ret, int *ret_found)
	__attribute__((warn_unused_result));

/* The block of a slot that counts, with its traceback. */
struct tm_error *tm_image_fill_block(struct tm_live_table *table, const struct tm_live_block *block,
				     struct tm_found_block *ret)
	__attribute__((warn_unused_result));

struct tm_live_status {
	struct tm_header header;
	struct tm_generation generation;
	struct tm_live_counts counts;
	uint64_t blocks;     /* sampling: estimated, like the counts */
	uint64_t recorded;   /* blocks in the table */
	uint64_t tracebacks; /* different ones, of the live blocks */
	uint64_t untracked_frees;
	double size_error; /* standard errors of the current size and of the blocks */
	double count_error;
};

/* The counters alone; takes one walk of the table, for the number of tracebacks. */
struct tm_error *tm_image_status(const struct tm_memory *memory, uint64_t header_address,
				 struct tm_live_status *ret) __attribute__((warn_unused_result));

#endif
