/*
 * The largest blocks of the helper's live table, one by one with their addresses.
 *
 * May use: image.h, live_table.h, error.h, the C library.  Must not use: Python, gdb.
 */
#ifndef TM_LIVE_BLOCKS_H
#define TM_LIVE_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "image.h"

/* So many at most, whatever is asked for: about 64 bytes each on the way. */
#define TM_LIVE_MAX_BLOCKS (UINT64_C(1) << 20)

struct tm_block_reader {
	/*
	 * Is a block of this domain and traceback asked for?  1, 0, or -1 to end
	 * it all.  Asked once for each traceback; NULL: all blocks are.
	 */
	int (*wanted)(void *context, const struct tm_found_block *block);
	/* Takes a block, the largest first, then by address; 0, or -1 to end it all. */
	int (*take)(void *context, const struct tm_found_block *block);
	void *context;
};

/* At most `limit` blocks; the process must be stopped. */
struct tm_error *tm_live_blocks_read(const struct tm_memory *memory, uint64_t header_address,
				     uint64_t limit, const struct tm_block_reader *reader)
	__attribute__((warn_unused_result));

#endif
