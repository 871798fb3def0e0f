/*
 * A library to be preloaded into real programs: takes the stack at every allocation as the
 * helper's hooks do, remembered or walked, and at random ones with libunwind too, and
 * compares the whole chains.  Counts go to the file TM_STACKS_FILE, shared by all processes
 * of a run; differences that no rule accounts for are written to TM_STACKS_FILE.log.
 *
 *     TM_STACKS_FILE   struct results, made by the caller with the fields it gives
 *     TM_STACKS_SEED   of the random choice
 *
 * Allocates nothing itself and takes no lock of the program but the loader's, as libunwind
 * does.  Must not change what the program does.
 *
 * links: helper/unwind.c helper/join.c helper/fullwalk.c helper/stack.c helper/cfi.c
 *        helper/rule.c helper/expression.c helper/modules.c helper/maps.c
 *        helper/object.c helper/lists.c helper/links.c
 */
#define UNW_LOCAL_ONLY
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libunwind.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../unit/helper_stubs.h"
#include "modules.h"
#include "join.h"
#include "unwind.h"

#define MOST_FRAMES 200
#define MOST_COMPLAINTS 20u
#define OWN __thread __attribute__((tls_model("initial-exec")))

/* Shared by processes; the first two fields are the caller's.  tests/oracle/test_stacks.py. */
struct results {
	uint64_t wanted; /* comparisons */
	uint64_t every;  /* one of so many allocations, on average */
	uint64_t walks;  /* by the helper's unwinder */
	uint64_t known;  /* stacks that it had remembered instead */
	uint64_t compared;
	uint64_t frames;      /* equal ones */
	uint64_t interrupted; /* of these, interrupted by a signal */
	uint64_t deepest;     /* stack */
	uint64_t at_limit;    /* stacks of more than MOST_FRAMES */
	uint64_t guessed;     /* differences: behind code without call frame information */
	uint64_t unexplained;
};

/* A thread's stacks, as the hooks remember them; the frames stand for tracebacks. */
struct remembered {
	struct tm_recall recall;
	struct tm_shape shapes[TM_PATHS];
	size_t counts[TM_PATHS];
	uint64_t frames[TM_PATHS][MOST_FRAMES];
};

static struct results *results;
static OWN bool busy;
static OWN uint64_t random_state;
static OWN int64_t gap;
static OWN struct tm_unwinder unwinder;
static OWN struct tm_stack stack;
static OWN struct remembered *remembered;
static OWN const uint64_t *ours; /* in one of its slots */
static OWN uint64_t theirs[MOST_FRAMES];

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

/* libgcc's look-up of call frame information, which neither walker uses. */
extern const void *_Unwind_Find_FDE(void *pc, void *bases);

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* ---- the two walks ----------------------------------------------------- */

static int take_counts(struct dl_phdr_info *info, size_t size, void *context)
{
	(void)size;
	*(uint64_t *)context = info->dlpi_adds + info->dlpi_subs;
	return 1;
}

/* As the helper does when the loader tells it of a change. */
static void follow_loader(void)
{
	static uint64_t seen;
	uint64_t now = 0;

	dl_iterate_phdr(take_counts, &now);
	if (__atomic_exchange_n(&seen, now, __ATOMIC_RELAXED) != now) {
		__atomic_fetch_add(&tm_header.loader_events, 1, __ATOMIC_RELAXED);
		tm_modules_loader_changed();
	}
}

static bool make_memory(void)
{
	uint64_t size = tm_path_size(MOST_FRAMES);
	void *memory = mmap(NULL, sizeof(*remembered) + TM_PATHS * size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return false;
	remembered = memory;
	remembered->recall.paths = (uint64_t)(remembered + 1);
	remembered->recall.size = size;
	remembered->recall.last_place = TM_PLACES - 1;
	remembered->recall.shapes = (uint64_t)remembered->shapes;
	remembered->recall.place_size = TM_WAYS * size;
	return true;
}

/* As the hooks do: a remembered stack, or a walk. */
static size_t walk_with_tm(const struct tm_registers *start)
{
	static const struct tm_generation generation;
	struct tm_recall *recall = &remembered->recall;
	struct tm_path *path = tm_path_at(recall, start->rip, start->rsp);
	uint64_t stamp = tm_recall_stamp(&generation, &stack);
	bool complete, known = tm_recall(path, start->rip, start->rsp, stamp, 0);
	size_t slot;

	if (!known) {
		known = tm_recall_second(recall, path, start->rip, start->rsp, stamp, 0);
		path = (struct tm_path *)recall->chosen;
	}
	slot = ((uint64_t)path - recall->paths) / recall->size;
	ours = remembered->frames[slot];
	if (known) {
		add_relaxed(&results->known, 1);
		return remembered->counts[slot];
	}
	tm_path_begin(path, MOST_FRAMES, &unwinder.log);
	tm_join_begin(recall, path, &generation, &unwinder.log);
	remembered->counts[slot] = tm_unwind(&unwinder, start, &stack, remembered->frames[slot],
					     MOST_FRAMES, &complete);
	tm_join_end(recall, &unwinder.log, remembered->counts[slot]);
	tm_path_end(path, &unwinder.log, start->rip, start->rsp,
		    tm_path_stamp(&generation, &stack, &unwinder.log), 0, (uint32_t)slot + 1);
	tm_hint_set(recall, &unwinder.log, start->rip, start->rsp);
	add_relaxed(&results->walks, 1);
	return remembered->counts[slot];
}

/* In the frame of its caller, as the other. */
static inline __attribute__((always_inline)) size_t walk_with_libunwind(bool *ret_whole)
{
	unw_context_t context;
	unw_cursor_t cursor;
	size_t count = 0;
	int more = 1;

	unw_getcontext(&context);
	if (unw_init_local(&cursor, &context) < 0)
		abort();
	for (; more > 0 && count < MOST_FRAMES; more = unw_step(&cursor)) {
		unw_word_t pc;

		if (unw_get_reg(&cursor, UNW_REG_IP, &pc) < 0 || !pc)
			break;
		/* True of the frame that a signal interrupted, not of the one that it made. */
		theirs[count++] = pc | (unw_is_signal_frame(&cursor) > 0 ? TM_NODE_EXACT : 0);
	}
	*ret_whole = count < MOST_FRAMES || more <= 0;
	return count;
}

/* ---- differences ------------------------------------------------------- */

static bool has_frame_information(uint64_t frame)
{
	uint64_t bases[3];

	return _Unwind_Find_FDE((void *)((frame & TM_NODE_ADDRESS_MASK) - !(frame & TM_NODE_EXACT)),
				bases);
}

static void print_walk(int file, const char *who, const uint64_t *frames, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		uint64_t pc = frames[i] & TM_NODE_ADDRESS_MASK;
		Dl_info info = {0};

		dladdr((void *)pc, &info);
		dprintf(file, "  %s %2zu %#lx%s %s+%#lx %s\n", who, i, pc,
			frames[i] & TM_NODE_EXACT ? "!" : "", info.dli_fname ?: "?",
			info.dli_fbase ? pc - (uint64_t)info.dli_fbase : 0, info.dli_sname ?: "");
	}
}

static void complain(size_t our_count, size_t their_count)
{
	char path[4096];
	int file;

	if (__atomic_fetch_add(&results->unexplained, 1, __ATOMIC_RELAXED) >= MOST_COMPLAINTS)
		return;
	snprintf(path, sizeof(path), "%s.log", getenv("TM_STACKS_FILE"));
	file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (file < 0)
		return;
	dprintf(file, "%s: %zu frames, not %zu\n", program_invocation_name, our_count, their_count);
	print_walk(file, "tm       ", ours, our_count);
	print_walk(file, "libunwind", theirs, their_count);
	close(file);
}

static void judge(size_t our_count, size_t their_count, bool whole)
{
	size_t same = 1, both = our_count < their_count ? our_count : their_count, i;

	/* The first is this function in both. */
	while (same < both && ours[same] == theirs[same])
		same++;
	add_relaxed(&results->frames, same - 1);
	for (i = 1; i < same; i++)
		if (ours[i] & TM_NODE_EXACT)
			add_relaxed(&results->interrupted, 1);
	if (same == our_count && same == their_count)
		add_relaxed(&results->at_limit, !whole);
	else if (!has_frame_information(ours[same - 1]))
		add_relaxed(&results->guessed, 1);
	else
		complain(our_count, their_count);
	if (load_relaxed(&results->deepest) < same)
		store_relaxed(&results->deepest, same);
}

static __attribute__((noinline)) void compare(void)
{
	struct tm_registers registers;
	size_t our_count, their_count;
	bool whole;

	__asm__ volatile("leaq 1f(%%rip), %%rax\n1:\tmovq %%rax, 0(%0)\n\tmovq %%rsp, 8(%0)\n\t"
			 "movq %%rbp, 16(%0)\n\tmovq %%rbx, 24(%0)\n\tmovq %%r12, 32(%0)\n\t"
			 "movq %%r13, 40(%0)\n\tmovq %%r14, 48(%0)\n\tmovq %%r15, 56(%0)"
			 :
			 : "r"(&registers)
			 : "rax", "memory");
	our_count = walk_with_tm(&registers);
	if (--gap > 0 || add_relaxed(&results->compared, 1) >= load_relaxed(&results->wanted))
		return;
	gap = 1 + (int64_t)(next_random() % (2 * results->every));
	their_count = walk_with_libunwind(&whole);
	judge(our_count, their_count, whole);
}

static void visit(void)
{
	int kept = errno;

	if (!results || busy || load_relaxed(&results->compared) >= results->wanted)
		return;
	busy = true;
	if (!random_state) {
		const char *seed = getenv("TM_STACKS_SEED");

		random_state = 88172645463325252 + (seed ? strtoull(seed, NULL, 0) : 0);
		next_random();
		gap = 1 + (int64_t)(next_random() % (2 * results->every));
	}
	follow_loader();
	if (remembered || make_memory())
		compare();
	busy = false;
	errno = kept;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("TM_STACKS_FILE");
	int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *memory;

	if (file < 0)
		return;
	memory = mmap(NULL, sizeof(*results), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	busy = true;
	tm_modules_refresh();
	if (memory != MAP_FAILED)
		store_release(&results, memory);
	busy = false;
}

/* ---- what programs call ------------------------------------------------- */

void *malloc(size_t size)
{
	void *block = __libc_malloc(size);

	visit();
	return block;
}

void *calloc(size_t count, size_t size)
{
	void *block = __libc_calloc(count, size);

	visit();
	return block;
}

void *realloc(void *old, size_t size)
{
	void *block = __libc_realloc(old, size);

	visit();
	return block;
}

void *memalign(size_t alignment, size_t size)
{
	void *block = __libc_memalign(alignment, size);

	visit();
	return block;
}
