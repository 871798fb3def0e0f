/*
 * The published list of modules, and when to read it anew.
 *
 * Uses maps.c to read it.  Takes the modules lock by trying alone, some times
 * at most, keeps old lists for readers that are still in them.
 */
#include "modules.h"
#include "lock.h"
#include "sys.h"
#include "unwind.h"

uint32_t tm_modules_seen_events;

/* A file that is not mapped any more: it is in the list for its name alone. */
static bool is_gone(const struct tm_module *module)
{
	return module->text_end == 0;
}

const struct tm_module *tm_modules_find(uint64_t pc)
{
	struct tm_module_list *list = (struct tm_module_list *)load_acquire(&tm_header.modules);
	const struct tm_module *modules;
	uint32_t first = 0, count;

	if (!list)
		return NULL;
	modules = tm_module_array(list);
	/* The last module that begins at or below pc, in [first, first + count). */
	for (count = list->count; count > 1;) {
		uint32_t half = count / 2;

		if (modules[first + half].start <= pc) {
			first += half;
			count -= half;
		} else {
			count = half;
		}
	}
	if (!count || pc < modules[first].start || pc >= modules[first].end ||
	    is_gone(&modules[first]))
		return NULL;
	return &modules[first];
}

/* ---- refreshing ------------------------------------------------------- */

/* Lists stay: no more of them than this because of unknown addresses. */
#define MAX_RETIRED_BYTES (UINT64_C(32) << 20)

static uint64_t published_bytes; /* of all lists; modules lock */

/*
 * Lists are built in one place that stays and kept in chunks: mappings that
 * come and go with each list would take the places of the objects they tell of.
 */
#define CHUNK_BYTES (UINT64_C(256) << 10)

struct chunk {
	uint64_t previous;
	uint64_t size;
};

static uint64_t chunks, chunk_next, chunk_end; /* modules lock */
static uint64_t workshop, workshop_size;       /* likewise */

static uint64_t round_to_pages(uint64_t size)
{
	return (size + TM_PAGE - 1) & ~(uint64_t)(TM_PAGE - 1);
}

static uint64_t list_size(const struct tm_module_list *list)
{
	return sizeof(*list) + list->count * sizeof(struct tm_module) + list->names_size;
}

static bool is_same(const struct tm_module_list *old, const struct tm_module_list *list)
{
	const uint8_t *a = (const uint8_t *)(old + 1);
	const uint8_t *b = (const uint8_t *)(list + 1);
	uint64_t i, size = list_size(list) - sizeof(*list);

	if (old->count != list->count || old->names_size != list->names_size)
		return false;
	for (i = 0; i < size; i++)
		if (a[i] != b[i])
			return false;
	return true;
}

/* ---- objects that went -------------------------------------------------- */

#define MAX_GONE 256u

/* Makes room at `place` and puts in an object that went, without code or call frame rows. */
static bool insert_gone(struct tm_module_build *build, uint32_t place,
			const struct tm_module *module, const char *name)
{
	struct tm_module *modules = build->modules;
	uint32_t size = 0, i;

	while (name[size])
		size++;
	if (build->count == build->room || size + 1 > build->names_room - build->names_size)
		return false;
	for (i = build->count; i > place; i--)
		modules[i] = modules[i - 1];
	modules[place] = *module;
	modules[place].text_start = modules[place].text_end = 0;
	modules[place].cfi_start = modules[place].cfi_end = 0;
	modules[place].eh_frame_hdr = modules[place].eh_frame_hdr_size = 0;
	modules[place].path = build->names_size;
	tm_memcpy(build->names + build->names_size, name, size + 1);
	build->names_size += size + 1;
	build->count++;
	return true;
}

/*
 * Files that were mapped once keep their place in the list while nothing else
 * is mapped there, so that addresses recorded in them still have names.  False
 * when there was no room for one of them.
 */
static bool keep_gone(struct tm_module_build *build, struct tm_module_list *old)
{
	const struct tm_module *modules = tm_module_array(old);
	const char *names = (const char *)(modules + old->count);
	uint32_t i, place = 0, gone = 0;

	for (i = 0; i < old->count && gone < MAX_GONE; i++) {
		const struct tm_module *module = &modules[i];

		while (place < build->count && build->modules[place].end <= module->start)
			place++;
		if (names[module->path] != '/')
			continue;
		if (place < build->count && build->modules[place].start < module->end)
			continue;
		if (!insert_gone(build, place, module, names + module->path))
			return false;
		gone++;
	}
	return true;
}

/* ---- publishing --------------------------------------------------------- */

#define LISTS_COMPARED 16u

/*
 * Publishes an older list that says the same, if there is one: an object that
 * is loaded and unloaded again and again does not pile up lists.
 */
static bool publish_again(const struct tm_module_list *list)
{
	struct tm_module_list *head = (struct tm_module_list *)tm_header.modules;
	struct tm_module_list *before = NULL, *old = head;
	uint32_t i;

	for (i = 0; old && i < LISTS_COMPARED; i++) {
		if (is_same(old, list))
			break;
		before = old;
		old = (struct tm_module_list *)old->previous;
	}
	if (!old || i == LISTS_COMPARED)
		return false;
	if (before) {
		before->previous = old->previous;
		old->previous = (uint64_t)head;
		store_release(&tm_header.modules, (uint64_t)old);
		tm_unwind_forget_rules();
	}
	return true;
}

static long map_pages(uint64_t size)
{
	long result =
		sys_mmap(0, size, TM_PROT_READ | TM_PROT_WRITE, TM_MAP_PRIVATE | TM_MAP_ANONYMOUS);

	if (!sys_failed(result))
		add_relaxed(&tm_header.memory, size);
	return result;
}

static long new_chunk(uint64_t size)
{
	uint64_t bytes = round_to_pages(size + sizeof(struct chunk));
	struct chunk *chunk;
	long result;

	if (bytes < CHUNK_BYTES)
		bytes = CHUNK_BYTES;
	result = map_pages(bytes);
	if (sys_failed(result))
		return result;
	chunk = (struct chunk *)result;
	chunk->previous = chunks;
	chunk->size = bytes;
	/* A child of fork may begin between any two of these: it then has no memory left. */
	store_release(&chunk_end, 0);
	store_release(&chunks, (uint64_t)chunk);
	store_release(&chunk_next, (uint64_t)(chunk + 1));
	store_release(&chunk_end, (uint64_t)chunk + bytes);
	return 0;
}

/* Publishes a copy of the list, unless it tells nothing new.  0 or a negative errno. */
static long publish(const struct tm_module_list *list)
{
	struct tm_module_list *old = (struct tm_module_list *)tm_header.modules;
	uint64_t size = (list_size(list) + 63) & ~UINT64_C(63);
	struct tm_module_list *kept;

	if (publish_again(list))
		return 0;
	if (chunk_end < chunk_next + size) {
		long result = new_chunk(size);

		if (sys_failed(result))
			return result;
	}
	kept = (struct tm_module_list *)chunk_next;
	chunk_next += size;
	published_bytes += size;
	tm_memcpy(kept, list, list_size(list));
	kept->previous = (uint64_t)old;
	store_release(&tm_header.modules, (uint64_t)kept);
	tm_unwind_forget_rules();
	return 0;
}

void tm_modules_unmap(void)
{
	tm_header.modules = 0;
	while (chunks) {
		struct chunk chunk = *(struct chunk *)chunks;

		sys_munmap(chunks, chunk.size);
		chunks = chunk.previous;
	}
	if (workshop)
		sys_munmap(workshop, workshop_size);
	workshop = workshop_size = chunk_next = chunk_end = 0;
}

/* Room for mappings that come between measuring, or the list before, and reading. */
#define SPARE_LINES 32u
#define SPARE_NAMES 2048u

/* The place where lists are built, of at least this size. */
static long make_workshop(uint64_t size)
{
	uint64_t old = workshop, old_size = workshop_size;
	long result;

	if (workshop_size >= size)
		return 0;
	size = round_to_pages(size + size / 2);
	result = map_pages(size);
	if (sys_failed(result))
		return result;
	/* A child of fork may begin anywhere here: its workshop must be there. */
	store_release(&workshop_size, UINT64_C(0));
	store_release(&workshop, (uint64_t)result);
	store_release(&workshop_size, size);
	if (old) {
		sys_munmap(old, old_size);
		__atomic_fetch_sub(&tm_header.memory, old_size, __ATOMIC_RELAXED);
	}
	return 0;
}

/* Builds a list in the workshop.  -EAGAIN: there was no room for all modules or their names. */
static long build_list(uint32_t room, uint32_t names_room)
{
	struct tm_module_list *list, *old = (struct tm_module_list *)tm_header.modules;
	struct tm_module_build build = {.room = room, .names_room = names_room};
	uint64_t size = sizeof(*list) + room * sizeof(struct tm_module) + names_room;
	long result = make_workshop(size);

	if (sys_failed(result))
		return result;
	list = (struct tm_module_list *)workshop;
	tm_memset(list, 0, size);
	build.modules = tm_module_array(list);
	build.names = (char *)(build.modules + build.room);
	build.names_size = 1; /* offset 0 is the empty name */
	result = tm_maps_read(&build);
	if (result < 0)
		return result;
	if (old && !keep_gone(&build, old))
		return -TM_EAGAIN;
	list->count = build.count;
	list->names_size = build.names_size;
	/* The names go directly behind the modules; tm_memcpy copies upward. */
	tm_memcpy(build.modules + build.count, build.names, build.names_size);
	return 0;
}

/*
 * The kernel takes a microsecond for a line of the map.  So it is read once,
 * unless much more is mapped than when the list before was made.
 */
static long refresh_locked(void)
{
	const struct tm_module_list *old = (const struct tm_module_list *)tm_header.modules;
	uint32_t known = old ? old->count : 0, known_names = old ? old->names_size : 0;
	uint32_t room = known, names_room = known_names;
	long result = -TM_EAGAIN;

	if (old)
		result = build_list(room + known + SPARE_LINES,
				    names_room + known_names + SPARE_NAMES);
	if (result == -TM_EAGAIN) {
		result = tm_maps_measure(&room, &names_room);
		if (result < 0)
			return result;
		result = build_list(room + known + SPARE_LINES,
				    names_room + known_names + SPARE_NAMES);
	}
	return result < 0 ? result : publish((const struct tm_module_list *)workshop);
}

long tm_modules_refresh(void)
{
	uint32_t *lock = &tm_wiped()->modules_lock;
	uint32_t expected = 0;
	long result;

	if (!__atomic_compare_exchange_n(lock, &expected, 1, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED))
		return -TM_EAGAIN;
	result = refresh_locked();
	store_release(lock, 0);
	return result;
}

long tm_modules_refresh_from(const char *text, uint64_t size)
{
	uint32_t *lock = &tm_wiped()->modules_lock;
	uint32_t expected = 0;
	long result;

	if (!__atomic_compare_exchange_n(lock, &expected, 1, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED))
		return -TM_EAGAIN;
	tm_maps_use(text, size);
	result = refresh_locked();
	tm_maps_use(NULL, 0);
	store_release(lock, 0);
	return result;
}

void tm_modules_loader_event(void)
{
	add_relaxed(&tm_header.loader_events, 1);
	tm_unwind_forget_rules();
}

#define MOST_TURNS 400u /* of waiting: some 10 ms */

/*
 * While another thread reads the map, it may have read what was there before: a
 * walk with its list would end in the first function of a new object.  So this
 * waits, but not for long, as the other one may be stopped by the debugger.
 */
TM_NOINLINE bool tm_modules_loader_changed(void)
{
	uint32_t turns;

	for (turns = 0; turns < MOST_TURNS; turns++) {
		/* Read before the map is: what comes later is seen at the next call. */
		uint32_t events = load_acquire(&tm_header.loader_events);

		if (events == load_acquire(&tm_modules_seen_events))
			return true;
		if (tm_modules_refresh() != -TM_EAGAIN) {
			tm_unwind_forget_rules();
			store_release(&tm_modules_seen_events, events);
			return true;
		}
		lock_wait(turns);
	}
	return false;
}

/* ---- unknown addresses ------------------------------------------------ */

#define UNKNOWN_ENTRIES 64u
#define UNKNOWN_NANOSECONDS UINT64_C(1000000000) /* before an address is tried again */
#define REFRESH_NANOSECONDS UINT64_C(5000000)    /* between refreshes, at least … */
#define REFRESH_SHARE 20u                        /* … and so many times what one takes */

/* Addresses that were in no module after a refresh, and when that was. */
struct unknown {
	uint64_t pc;
	uint64_t time;
};

static struct unknown unknowns[UNKNOWN_ENTRIES]; /* any thread, relaxed: a hint */
static uint64_t next_refresh;                    /* CLOCK_MONOTONIC; likewise */

static uint64_t now(void)
{
	struct tm_timespec time = {0, 0};

	sys_clock_gettime(TM_CLOCK_MONOTONIC, &time);
	return (uint64_t)time.seconds * UINT64_C(1000000000) + (uint64_t)time.nanoseconds;
}

uint32_t tm_modules_opens;
static uint32_t seen_opens; /* of those, how many need no further look; a hint as well */
static uint32_t vain_looks;

#define MAX_VAIN_LOOKS 4u

/* A dlopen mapped something, perhaps, that is worth a refresh at once. */
static bool is_opened(void)
{
	return load_relaxed(&tm_modules_opens) != load_relaxed(&seen_opens);
}

static void note_look(uint32_t opens, bool found)
{
	uint32_t looks = found ? MAX_VAIN_LOOKS : load_relaxed(&vain_looks) + 1;

	if (looks >= MAX_VAIN_LOOKS) {
		store_relaxed(&seen_opens, opens);
		looks = 0;
	}
	store_relaxed(&vain_looks, looks);
}

TM_NOINLINE const struct tm_module *tm_modules_on_unknown(uint64_t pc)
{
	struct unknown *entry = &unknowns[(pc ^ pc >> 12) % UNKNOWN_ENTRIES];
	const struct tm_module *module;
	uint32_t opens = load_relaxed(&tm_modules_opens);
	uint64_t before, after;

	if (pc == 0 || pc >> TM_ADDRESS_BITS || sys_is_quiet())
		return NULL;
	before = now();
	if (load_relaxed(&entry->pc) == pc &&
	    before - load_relaxed(&entry->time) < UNKNOWN_NANOSECONDS)
		return NULL;
	if ((before < load_relaxed(&next_refresh) && !is_opened()) ||
	    published_bytes > MAX_RETIRED_BYTES)
		return NULL;
	if (tm_modules_refresh() == -TM_EAGAIN)
		return NULL;
	after = now();
	store_relaxed(&next_refresh,
		      after + REFRESH_NANOSECONDS + REFRESH_SHARE * (after - before));
	module = tm_modules_find(pc);
	note_look(opens, module && tm_module_executes(module, pc));
	if (!module || !tm_module_executes(module, pc)) {
		store_relaxed(&entry->pc, pc);
		store_relaxed(&entry->time, after);
		return NULL;
	}
	return module;
}
