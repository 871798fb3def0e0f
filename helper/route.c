/*
 * Leads redirected functions to their stubs, by what is recorded: nothing, every
 * block, or a sample.
 *
 * May use the list of patches, the header, how samples are counted; must never call a hooked
 * function.
 */
#include "route.h"
#include "sample.h"

#define STUB(name) extern const uint8_t name[] TM_HIDDEN

STUB(tm_entry_alloc);
STUB(tm_entry_free);
STUB(tm_entry_realloc);
STUB(tm_entry_usual_alloc);
STUB(tm_entry_usual_calloc);
STUB(tm_entry_usual_free);
STUB(tm_entry_usual_free_leaf);
STUB(tm_sampled_malloc);
STUB(tm_sampled_malloc_guarded);
STUB(tm_sampled_malloc_words);
STUB(tm_sampled_malloc_guarded_words);
STUB(tm_sampled_malloc_least);
STUB(tm_sampled_malloc_guarded_least);
STUB(tm_sampled_calloc);
STUB(tm_sampled_calloc_guarded);
STUB(tm_sampled_calloc_words);
STUB(tm_sampled_calloc_guarded_words);
STUB(tm_sampled_calloc_least);
STUB(tm_sampled_calloc_guarded_least);
STUB(tm_sampled_realloc);
STUB(tm_sampled_realloc_guarded);
STUB(tm_sampled_realloc_words);
STUB(tm_sampled_realloc_guarded_words);
STUB(tm_sampled_realloc_least);
STUB(tm_sampled_realloc_guarded_least);
STUB(tm_sampled_free);

uint32_t tm_routed;

/* What is recorded. */
struct mode {
	bool all;               /* every block */
	bool sampled;           /* not every block */
	bool least;             /* none below a size */
	bool words;             /* what is left is counted in threads' own words */
	const void *one_malloc; /* the only function of that name; it calls no other */
};

/* `malloc`, `__libc_malloc`, `je_malloc`: what may be called by, or call, a malloc. */
static bool is_malloc(const struct tm_patch *patch)
{
	static const char wanted[] = "malloc";
	size_t length = 0, i;

	while (length < sizeof(patch->name) && patch->name[length])
		length++;
	if (patch->domain != TM_DOMAIN_MALLOC || length < sizeof(wanted) - 1)
		return false;
	for (i = 0; i < sizeof(wanted) - 1; i++)
		if (patch->name[length - (sizeof(wanted) - 1) + i] != wanted[i])
			return false;
	return true;
}

static struct mode find_mode(const struct tm_patch *patches, uint32_t count)
{
	const struct tm_generation *generation =
		(const struct tm_generation *)load_acquire(&tm_header.generation);
	struct mode mode = {.one_malloc = NULL};
	uint32_t i, mallocs = 0;

	if (tm_header.state != TM_STATE_TRACING)
		return mode;
	mode.all = !generation->filter;
	if (mode.all)
		return mode;
	mode.sampled = true;
	mode.least = generation->min_size != 0;
	mode.words = tm_sample_in_words;
	for (i = 0; i < count; i++)
		if (is_malloc(&patches[i]) && ++mallocs)
			mode.one_malloc = mallocs == 1 ? &patches[i] : NULL;
	return mode;
}

static bool calls_no_other(const struct tm_patch *patch, const struct mode *mode)
{
	return patch->is_leaf || patch == mode->one_malloc;
}

#define BY_KIND(name)                                               \
	(mode->words   ? leaf ? name##_words : name##_guarded_words \
	 : mode->least ? leaf ? name##_least : name##_guarded_least \
	 : leaf        ? name                                       \
		       : name##_guarded)

/* The stub of a function of a shape that has several; NULL for others. */
static const void *stub_of(const struct tm_patch *patch, const struct mode *mode)
{
	bool leaf = calls_no_other(patch, mode);
	bool usual = mode->all && patch->domain == TM_DOMAIN_MALLOC;
	uint32_t size = patch->size_argument, count = patch->count_argument;

	switch (patch->shape) {
	case TM_SHAPE_ALLOC:
		if (mode->sampled && size == 0 && count == TM_NO_ARGUMENT)
			return BY_KIND(tm_sampled_malloc);
		if (mode->sampled && size == 1 && count == 0)
			return BY_KIND(tm_sampled_calloc);
		if (usual && size == 0 && count == TM_NO_ARGUMENT)
			return tm_entry_usual_alloc;
		if (usual && size == 1 && count == 0)
			return tm_entry_usual_calloc;
		return tm_entry_alloc;
	case TM_SHAPE_REALLOC:
		if (mode->sampled && size == 1 && count == TM_NO_ARGUMENT &&
		    patch->block_argument == 0)
			return BY_KIND(tm_sampled_realloc);
		return tm_entry_realloc;
	case TM_SHAPE_FREE:
		if (mode->sampled && patch->block_argument == 0)
			return tm_sampled_free;
		if (usual && patch->block_argument == 0)
			return patch->is_leaf ? tm_entry_usual_free_leaf : tm_entry_usual_free;
		return tm_entry_free;
	default:
		return NULL;
	}
}

static bool is_redirected(const struct tm_patch *patches, uint32_t count, uint64_t function)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		if (patches[i].length && patches[i].active && patches[i].function == function)
			return true;
	return false;
}

/* Where the stub of libtm-preload.so leads. */
static uint64_t lead_of(const struct tm_patch *patch, const struct mode *mode)
{
	bool is_free = patch->shape == TM_SHAPE_FREE;

	if (patch->short_way &&
	    (is_free ? mode->sampled : mode->words && calls_no_other(patch, mode)))
		return patch->short_way;
	return patch->function + TM_STUB_LOAD;
}

static void route_stub(struct tm_patch *patch, const struct tm_patch *patches, uint32_t count,
		       const struct mode *mode)
{
	bool is_needed = tm_header.state == TM_STATE_TRACING &&
			 /* by a debugger, too: then that is where its calls are seen */
			 !is_redirected(patches, count, patch->original);

	store_release(&patch->filter, (uint64_t)tm_sample_filter);
	store_release(&patch->lead, is_needed ? lead_of(patch, mode) : patch->original);
	if (patch->active)
		store_release(&patch->relay, patch->lead);
}

void tm_route_all(void)
{
	struct tm_patch *patches = (struct tm_patch *)tm_header.patches;
	uint32_t i, count = load_acquire(&tm_header.patch_count);
	struct mode mode;

	if (count > TM_MAX_PATCHES)
		return; /* the list was overwritten */
	mode = find_mode(patches, count);
	for (i = 0; i < count; i++) {
		struct tm_patch *patch = &patches[i];
		const void *stub = stub_of(patch, &mode);

		if (!stub || patch->keeps_registers)
			continue; /* it leads to the one of its shape in keeping.S */
		store_release(&patch->entry, (uint64_t)stub);
		if (!patch->length)
			route_stub(patch, patches, count, &mode);
	}
	store_relaxed(&tm_routed, count);
}
