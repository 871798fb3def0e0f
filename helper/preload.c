/*
 * libtm-preload.so: traces a program from its start, without a debugger.
 *
 *     TM_TRACE=NFRAME [TM_SAMPLE=BYTES] [TM_MIN_SIZE=SIZE] LD_PRELOAD=…/libtm-preload.so program
 *
 * The allocator functions of preload.h are stubs here.  At the first call of
 * one the helper's image is mapped as the debugger would map it, so that every
 * debugger that comes later finds it, and the stubs lead to its hooks.  Without
 * TM_TRACE the library steps aside: nobody calls a stub any more.
 *
 * Parts of this run inside the loader and inside malloc.  They may use: the
 * loader's list of objects, system calls, functions of libc that do not
 * allocate.  Must never allocate, wait, or change errno.
 */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "preload.h"
#include "preload_image.h"
#include "preload_objects.h"
#include "tm_layout.h"

#define PAGE 4096u

_Static_assert(sizeof(struct tm_patch) == TM_PRELOAD_PATCH_SIZE, "preload.S counts on it");
_Static_assert(offsetof(struct tm_patch, relay) == TM_PRELOAD_RELAY, "likewise");
_Static_assert(offsetof(struct tm_patch, original) == TM_PRELOAD_ORIGINAL, "likewise");
_Static_assert(offsetof(struct tm_patch, entry) == TM_PRELOAD_ENTRY, "likewise");
_Static_assert(offsetof(struct tm_patch, filter) == TM_PRELOAD_FILTER, "likewise");
_Static_assert(TM_STUB_LOAD == TM_PRELOAD_LOAD && TM_WORD_LEFT == TM_PRELOAD_LEFT, "likewise");
_Static_assert(TM_STUB_BYTES == TM_PRELOAD_STUB, "likewise");

/* preload.S */
extern const uint8_t tm_preload_image[] HIDDEN;
extern const uint8_t tm_preload_image_end[] HIDDEN;
extern const struct {
	uint64_t function, short_way;
} tm_preload_stubs[] HIDDEN; /* in the order of preload.h … */
#define STUB(name, shape, size, count, block) extern const char tm_preload_enter_##name[] HIDDEN;
TM_PRELOAD_FUNCTIONS(STUB) /* … and where they lead at first */
#undef STUB

uint64_t tm_preload_resolve(struct tm_patch *patch) HIDDEN;

#define NONE TM_NO_ARGUMENT
#define STUB(function_name, shape_name, size, count, block)          \
	{                                                            \
		.relay = (uint64_t)tm_preload_enter_##function_name, \
		.name = #function_name,                              \
		.shape = TM_SHAPE_##shape_name,                      \
		.size_argument = size,                               \
		.count_argument = count,                             \
		.block_argument = block,                             \
	},

/*
 * The stubs' patches, which become those of the helper's header; a debugger
 * adds its own behind them.  Length 0: no byte of the function was changed.
 */
struct tm_patch tm_preload_patches[TM_MAX_PATCHES] HIDDEN
	__attribute__((aligned(64))) = {TM_PRELOAD_FUNCTIONS(STUB)};

#undef STUB
#define STUB(name, shape, size, count, block) +1
#define STUBS (0 TM_PRELOAD_FUNCTIONS(STUB))

/* ---- the functions that are stood in for -------------------------------- */

static bool begins_with(const char *text, const char *prefix)
{
	return !strncmp(text, prefix, strlen(prefix));
}

/* What a program without this library would call.  0: nothing. */
static uint64_t find_function(const char *name)
{
	uint64_t found = tm_preload_find_next(name);

	/* Forms that not every library has, and the plain one that does the same. */
	if (!found && (begins_with(name, "free_") || !strcmp(name, "cfree")))
		found = tm_preload_find_next("free");
	if (!found && !strcmp(name, "_ZdlPvm"))
		found = tm_preload_find_next("_ZdlPv");
	if (!found && !strcmp(name, "_ZdaPvm"))
		found = tm_preload_find_next("_ZdaPv");
	return found;
}

/*
 * Whether a function calls no other one by its name, so that no stub is entered from
 * within.  What these libraries have in malloc's own file is known to be so.
 */
static bool is_leaf(const struct tm_patch *patch)
{
	const char *path, *file;

	if ((patch->shape != TM_SHAPE_ALLOC && patch->shape != TM_SHAPE_REALLOC &&
	     strcmp(patch->name, "free") != 0) ||
	    begins_with(patch->name, "_Z") || !strcmp(patch->name, "reallocarray"))
		return false;
	file = tm_preload_find(patch->name, &path) ? strrchr(path, '/') : NULL;
	return file &&
	       (begins_with(file + 1, "libc.so.6") || begins_with(file + 1, "libjemalloc.so"));
}

/* ---- the helper ---------------------------------------------------------- */

#define UNTRACED ": the program runs untraced"

#define FRESH 0u
#define STARTING 1u /* by some thread; nobody waits for it */
#define STARTED 2u  /* traced or not */

static uint32_t state;
static struct tm_header *traced; /* NULL: the program is not traced; for begin() alone */
static bool told_libgcc;

/* One line on standard error. */
static void complain(const char *what, const char *why)
{
	char text[200];
	int length = snprintf(text, sizeof(text), "tm: %.80s%s.\n", what, why);

	if (write(STDERR_FILENO, text, (size_t)length) < 0)
		return; /* there is nobody to tell */
}

/* The offset of the helper's entry stub for a function. */
static uint64_t entry_of(const struct tm_patch *patch)
{
	switch (patch->shape) {
	case TM_SHAPE_ALLOC:
		return IMAGE_tm_entry_alloc;
	case TM_SHAPE_FREE:
		return IMAGE_tm_entry_free;
	case TM_SHAPE_REALLOC:
		return IMAGE_tm_entry_realloc;
	case TM_SHAPE_STORE:
		return IMAGE_tm_entry_store;
	default:
		return strcmp(patch->name, "dlclose") ? IMAGE_tm_entry_open : IMAGE_tm_entry_loader;
	}
}

/* Lets a stub lead to the helper, or straight to its function. */
static void direct(struct tm_patch *patch)
{
	uint64_t lead;

	__atomic_store_n(&patch->checksum, 0, __ATOMIC_SEQ_CST); /* a debugger's, of what was */
	patch->active = patch->entry != 0;
	do { /* the debugger may stop it here and have another way chosen */
		lead = __atomic_load_n(&patch->lead, __ATOMIC_ACQUIRE);
		__atomic_store_n(&patch->relay, lead ? lead : patch->original, __ATOMIC_SEQ_CST);
	} while (lead != __atomic_load_n(&patch->lead, __ATOMIC_SEQ_CST));
}

/* Whether the word is free that the header speaks of, of each thread. */
static bool has_thread_words(void)
{
	const uint64_t *pointer;

	__asm__("movq %%fs:0, %0" : "=r"(pointer));
	/* The third word of glibc's control block is its own address, too. */
	return tm_preload_find_next("gnu_get_libc_version") && pointer[2] == pointer[0] &&
	       !pointer[TM_WORD_LEFT / 8] && tm_preload_is_only_thread();
}

/* Maps the helper and makes its header valid.  NULL when the kernel refuses. */
static struct tm_header *map_helper(void)
{
	uint64_t size = (IMAGE_tm_image_end + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	char *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct tm_header *header;
	uint32_t i;

	if (base == MAP_FAILED)
		return NULL;
	memcpy(base, tm_preload_image, (size_t)(tm_preload_image_end - tm_preload_image));
	if (mprotect(base, IMAGE_tm_header, PROT_READ | PROT_EXEC)) {
		munmap(base, size);
		return NULL;
	}
	header = (struct tm_header *)(base + IMAGE_tm_header);
	memcpy(header->helper_build_id, IMAGE_BUILD_ID, sizeof(IMAGE_BUILD_ID) - 1);
	((long (*)(void))(base + IMAGE_tm_control_init))();
	for (i = 0; i < STUBS; i++) {
		tm_preload_patches[i].entry = (uint64_t)base + entry_of(&tm_preload_patches[i]);
		tm_preload_patches[i].lead = tm_preload_stubs[i].function + TM_STUB_LOAD;
		tm_preload_patches[i].short_way = tm_preload_stubs[i].short_way;
		tm_preload_patches[i].is_leaf = is_leaf(&tm_preload_patches[i]);
	}
	header->patches = (uint64_t)tm_preload_patches;
	header->patch_count = STUBS;
	return header;
}

/* The variable of the environment whose name and = this is; NULL when it is absent or empty. */
static const char *variable_of(const char *name)
{
	char **variable = environ;

	while (*variable && !begins_with(*variable, name))
		variable++;
	return *variable && (*variable)[strlen(name)] ? *variable : NULL;
}

/* Digits up to the end, or to a point or unit; more than 2^50 is as good as that. */
static const char *read_digits(const char *c, uint64_t *ret)
{
	for (*ret = 0; *c >= '0' && *c <= '9'; c++)
		if (*ret < UINT64_C(1) << 50)
			*ret = *ret * 10 + (uint64_t)(*c - '0');
	return c;
}

/* `512`, `64KiB`, `1.5M`: the sizes of tm's commands.  False when it is none. */
static bool read_size(const char *text, uint64_t *ret)
{
	static const char units[] = "kmgt";
	uint64_t whole, fraction = 0, scale = 1, unit = 1;
	const char *c = read_digits(text, &whole), *found;

	if (c == text)
		return false;
	if (*c == '.')
		for (c++; *c >= '0' && *c <= '9' && scale < 1000000; c++, scale *= 10)
			fraction = fraction * 10 + (uint64_t)(*c - '0');
	found = *c ? strchr(units, *c | 0x20) : NULL;
	if (found) {
		unit = UINT64_C(1) << 10 * (found - units + 1);
		c++;
		if ((c[0] | 0x20) == 'i' && (c[1] | 0x20) == 'b')
			c += 2;
	} else if ((*c | 0x20) == 'b') {
		c++;
	}
	if (*c || whole > TM_SAMPLE_MAX)
		return false;
	*ret = whole > TM_SAMPLE_MAX / unit ? TM_SAMPLE_MAX + 1
					    : whole * unit + fraction * unit / scale;
	return true;
}

/* What to trace, of the environment. */
struct choice {
	uint32_t frames;
	uint64_t sample_period;
	uint64_t min_size;
};

/* False when nothing is to be traced, or a value makes no sense. */
static bool read_choice(struct choice *ret)
{
	const char *trace = variable_of("TM_TRACE="), *sample = variable_of("TM_SAMPLE=");
	const char *min_size = variable_of("TM_MIN_SIZE="), *end;
	uint64_t frames;

	*ret = (struct choice){0};
	if (!trace)
		return false;
	end = read_digits(trace + strlen("TM_TRACE="), &frames);
	if (*end || frames < 1 || frames > TM_MAX_FRAMES) {
		complain(trace, " is not a number of frames from 1 to 1000" UNTRACED);
		return false;
	}
	ret->frames = (uint32_t)frames;
	if (sample && (!read_size(sample + strlen("TM_SAMPLE="), &ret->sample_period) ||
		       ret->sample_period < TM_SAMPLE_MIN || ret->sample_period > TM_SAMPLE_MAX)) {
		complain(sample, " is not a size from 1KiB to 1TiB" UNTRACED);
		return false;
	}
	if (min_size && (!read_size(min_size + strlen("TM_MIN_SIZE="), &ret->min_size) ||
			 ret->min_size > TM_SAMPLE_MAX)) {
		complain(min_size, " is not a size up to 1TiB" UNTRACED);
		return false;
	}
	return true;
}

/* Another number in every process. */
static uint64_t random_seed(void)
{
	struct timespec now = {0, 0};

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec +
	       ((uint64_t)getpid() << 40);
}

static struct tm_header *start_tracing(const struct choice *choice)
{
	long (*control_start)(uint32_t, uint64_t, uint64_t, uint64_t);
	struct tm_header *header = map_helper();
	uint32_t i;

	if (!header) {
		complain("no memory for the helper", UNTRACED);
		return NULL;
	}
	header->thread_words = choice->sample_period && has_thread_words();
	control_start = (long (*)(uint32_t, uint64_t, uint64_t, uint64_t))(header->image_start +
									   IMAGE_tm_control_start);
	if (!control_start(choice->frames, choice->sample_period, choice->min_size, random_seed()))
		return header;
	complain("no memory for the trace table", UNTRACED);
	for (i = 0; i < STUBS; i++)
		tm_preload_patches[i].entry = tm_preload_patches[i].lead = 0;
	return NULL;
}

/* Lets exceptions pass through the helper's frames.  False when libgcc is not there. */
static bool tell_libgcc(const struct tm_header *header)
{
	uint64_t *told = (uint64_t *)(header->image_start + IMAGE_tm_frame_deregister);
	uint64_t enter = tm_preload_find_next("__register_frame_info");
	uint64_t leave = tm_preload_find_next("__deregister_frame_info");

	if (!enter || !leave)
		return false;
	((void (*)(uint64_t, uint64_t))enter)(header->image_start + IMAGE_tm_eh_frame_start,
					      header->image_start + IMAGE_tm_frame_object);
	*told = leave;
	return true;
}

/* Once, at the first call or, if there is none, when the library is initialised. */
static void start(void)
{
	uint32_t expected = FRESH, i;
	struct choice choice;
	int before = errno;
	bool chosen;

	/* Before libc knows its environment the loader alone allocates. */
	if (!environ || !__atomic_compare_exchange_n(&state, &expected, STARTING, false,
						     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	for (i = 0; i < STUBS; i++) {
		tm_preload_patches[i].function = tm_preload_stubs[i].function;
		tm_preload_patches[i].address = tm_preload_stubs[i].function;
		tm_preload_patches[i].module = (uint64_t)__ehdr_start;
		tm_preload_patches[i].original = find_function(tm_preload_patches[i].name);
	}
	chosen = read_choice(&choice);
	if (chosen)
		traced = start_tracing(&choice);
	if (traced)
		told_libgcc = tell_libgcc(traced);
	__atomic_store_n(&state, STARTED, __ATOMIC_RELEASE);
	for (i = 0; i < STUBS; i++)
		if (tm_preload_patches[i].original)
			direct(&tm_preload_patches[i]);
	if (!chosen)
		tm_preload_step_aside(tm_preload_patches, STUBS);
	errno = before;
}

/*
 * A stub that leads nowhere yet is called: before the start, in the middle of
 * it, or because its library was not there.  Returns where the call goes on.
 */
uint64_t tm_preload_resolve(struct tm_patch *patch)
{
	uint64_t original;

	if (__atomic_load_n(&state, __ATOMIC_ACQUIRE) == FRESH)
		start();
	original = patch->original ? patch->original : find_function(patch->name);
	if (!original) {
		complain(patch->name, " is called, but no library has it");
		__builtin_trap();
	}
	__atomic_store_n(&patch->checksum, 0, __ATOMIC_SEQ_CST);
	patch->original = original;
	if (__atomic_load_n(&state, __ATOMIC_ACQUIRE) != STARTED)
		return original;
	direct(patch);
	return patch->relay;
}

static void set_state(uint32_t value)
{
	__atomic_store_n(&traced->state, value, __ATOMIC_RELEASE);
	((long (*)(void))(traced->image_start + IMAGE_tm_control_route))();
}

/*
 * libgcc comes with the program, or with an object that is loaded later; it is
 * the same one then, because it stays loaded from now on.  That is our doing,
 * and what the loader allocates for it is not the program's.
 */
__attribute__((constructor)) static void begin(void)
{
	int before = errno;

	start();
	if (traced && !told_libgcc) {
		set_state(TM_STATE_IDLE);
		if (dlopen("libgcc_s.so.1", RTLD_LAZY))
			told_libgcc = tell_libgcc(traced);
		set_state(TM_STATE_TRACING);
	}
	errno = before;
}
