/*
 * New trees from old ones: image -> traces, filters, frames left out.
 *
 * May use: analysis.h, image.h.  Must not use: Python objects, gdb.
 */
#ifndef TM_ANALYSIS_TREES_H
#define TM_ANALYSIS_TREES_H

#include "analysis.h"
#include "image.h"

/* Traces that were made here; rows and nodes are to be freed. */
struct made_traces {
	struct trace_row *rows;
	size_t row_count;
	struct trace_node *nodes;
	size_t node_count;
};

void made_traces_deinit(struct made_traces *made);

/*
 * Replaces each address of an image by its frames: the node `i` of the image
 * has the frames starts[i] … starts[i] + lengths[i] - 1, innermost first.
 * A row without frames gets the frame `unknown`.
 */
struct tm_error *traces_from_image(const struct tm_image_view *image, const uint32_t *starts,
				   const uint32_t *lengths, uint32_t unknown,
				   struct made_traces *ret) __attribute__((warn_unused_result));

#define FILTER_INCLUSIVE 1u
#define FILTER_ALL_FRAMES 2u
#define FILTER_HAS_DOMAIN 4u
#define FILTER_DOMAIN_ONLY 8u /* `match` has no part */

struct trace_filter {
	uint32_t flags;
	uint32_t domain;
	const uint8_t *match; /* by frame: 1 where file and line match */
};

/* tracemalloc's rule: at least one of the inclusive ones, none of the others. */
struct tm_error *traces_filter(const struct traces *traces, const struct trace_filter *filters,
			       size_t filter_count, struct made_traces *ret)
	__attribute__((warn_unused_result));

/* Rows begin at their first frame that is not in `skip`, when there is one. */
struct tm_error *traces_skip(const struct traces *traces, const uint8_t *skip,
			     struct made_traces *ret) __attribute__((warn_unused_result));

/* Leaves out all frames in `drop`; a traceback of nothing else keeps its oldest frame. */
struct tm_error *traces_drop(const struct traces *traces, const uint8_t *drop,
			     struct made_traces *ret) __attribute__((warn_unused_result));

struct traces_measure {
	uint64_t blocks;
	uint64_t size;       /* bytes */
	uint64_t tracebacks; /* different ones that rows name */
	uint64_t depth;      /* frames of the deepest node */
	uint64_t recorded;   /* blocks that were, when blocks and size are estimates, … */
	double size_error;   /* … and their standard errors */
	double count_error;
};

struct tm_error *traces_measure(const struct traces *traces, struct traces_measure *ret)
	__attribute__((warn_unused_result));

#endif
