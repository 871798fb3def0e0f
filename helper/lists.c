/*
 * The published list of modules: how it is kept, and how a new one is made of the
 * one before.
 *
 * Uses the kernel for memory alone.  Lists are made in places that stay: mappings
 * that come and go with each list would take the places of the objects they tell
 * of.  A place is used again when no thread reads the list in it.
 */
#include "modules.h"
#include "sys.h"
#include "unwind.h"

/*
 * One mapping: this, the list, and at its end the loader's nodes of the modules, one
 * word for each that there is room for.
 */
struct place {
	uint64_t next; /* address of another one; 0: none */
	uint64_t size;
	uint32_t room; /* modules */
	uint32_t reserved;
};

static uint64_t places;   /* of lists; modules lock */
static uint64_t workshop; /* what was found in the memory map; likewise */
static uint64_t bytes;    /* of places */

static struct tm_module_list *list_in(const struct place *place)
{
	return (struct tm_module_list *)(place + 1);
}

static uint64_t *nodes_in(const struct place *place)
{
	return (uint64_t *)((uint64_t)place + place->size) - place->room;
}

static struct tm_module_list *current(void)
{
	return (struct tm_module_list *)tm_header.modules;
}

uint64_t *tm_lists_nodes(void)
{
	return nodes_in((const struct place *)current() - 1);
}

uint64_t tm_lists_bytes(void)
{
	return bytes;
}

/* ---- finding ------------------------------------------------------------ */

/* The last module that begins at or below pc, or -1. */
static int64_t search(struct tm_module_list *list, uint64_t pc)
{
	const struct tm_module *modules = tm_module_array(list);
	uint32_t first = 0, count;

	for (count = list->count; count > 1;) { /* in [first, first + count) */
		uint32_t half = count / 2;

		if (modules[first + half].start <= pc) {
			first += half;
			count -= half;
		} else {
			count = half;
		}
	}
	return count && modules[first].start <= pc ? (int64_t)first : -1;
}

int64_t tm_lists_place(uint64_t pc)
{
	return current() ? search(current(), pc) : -1;
}

/* A signal handler may have forked in between: a child finds no readers. */
static void end_reading(uint32_t *readers)
{
	uint32_t count = load_relaxed(readers);

	while (count && !__atomic_compare_exchange_n(readers, &count, count - 1, true,
						     __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
}

bool tm_modules_find(uint64_t pc, struct tm_module *ret)
{
	uint32_t *readers = &tm_wiped()->modules_readers;
	struct tm_module_list *list;
	int64_t at = -1;

	/* Before the list is looked up: who makes the next one then leaves this one alone. */
	__atomic_fetch_add(readers, 1, __ATOMIC_SEQ_CST);
	list = (struct tm_module_list *)__atomic_load_n(&tm_header.modules, __ATOMIC_SEQ_CST);
	if (list)
		at = search(list, pc);
	if (at >= 0)
		*ret = tm_module_array(list)[at];
	end_reading(readers);
	return at >= 0 && pc < ret->end && !tm_module_is_gone(ret);
}

/* ---- memory ------------------------------------------------------------- */

static uint64_t size_of_place(uint32_t room, uint32_t names_room)
{
	return sizeof(struct place) + sizeof(struct tm_module_list) +
	       room * (sizeof(struct tm_module) + sizeof(uint64_t)) + ((names_room + 7u) & ~7u);
}

/* A mapping of at least this size, with no list in it.  NULL without memory. */
static struct place *map_place(uint64_t size)
{
	struct place *place;
	long result;

	size = (size + size / 2 + TM_PAGE - 1) & ~(uint64_t)(TM_PAGE - 1);
	result = sys_mmap(0, size, TM_PROT_READ | TM_PROT_WRITE, TM_MAP_PRIVATE | TM_MAP_ANONYMOUS);
	if (sys_failed(result))
		return NULL;
	add_relaxed(&tm_header.memory, size);
	place = (struct place *)result;
	place->size = size;
	return place;
}

static void begin_build(struct tm_module_build *ret, struct place *place, uint32_t room,
			uint32_t names_room)
{
	place->room = room;
	ret->modules = tm_module_array(list_in(place));
	ret->nodes = nodes_in(place);
	ret->names = (char *)(ret->modules + room);
	ret->count = 0;
	ret->room = room;
	ret->names_size = 1; /* offset 0 is the empty name */
	ret->names_room = names_room;
	ret->names[0] = 0;
}

long tm_lists_begin(struct tm_module_build *ret, uint32_t room, uint32_t names_room)
{
	uint64_t size = size_of_place(room, names_room);
	struct place *old = (struct place *)workshop, *place = old;

	if (!old || old->size < size) {
		place = map_place(size);
		if (!place)
			return -TM_ENOMEM;
		/* A child of fork may begin anywhere here: its workshop must be there. */
		store_release(&workshop, (uint64_t)place);
		if (old) {
			__atomic_fetch_sub(&tm_header.memory, old->size, __ATOMIC_RELAXED);
			sys_munmap((uint64_t)old, old->size);
		}
	}
	begin_build(ret, place, room, names_room);
	return 0;
}

/* A place that nobody reads. */
static struct place *take_place(uint64_t size)
{
	struct place *place;

	/* Who counts itself from now on finds the current list. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&tm_wiped()->modules_readers, __ATOMIC_SEQ_CST))
		for (place = (struct place *)places; place; place = (struct place *)place->next)
			if (list_in(place) != current() && place->size >= size)
				return place;
	place = map_place(size);
	if (!place)
		return NULL;
	bytes += place->size;
	place->next = places;
	store_release(&places, (uint64_t)place);
	return place;
}

void tm_modules_unmap(void)
{
	tm_header.modules = 0;
	while (places) {
		struct place *place = (struct place *)places;

		places = place->next;
		sys_munmap((uint64_t)place, place->size);
	}
	if (workshop)
		sys_munmap(workshop, ((struct place *)workshop)->size);
	workshop = 0;
}

/* ---- a new list of the one before and what was found ---------------------- */

/* Adds a module; there is room. */
static void add(struct tm_module_build *build, const struct tm_module *module, uint64_t node,
		const char *name)
{
	uint32_t size = 0;

	build->modules[build->count] = *module;
	build->nodes[build->count] = node;
	build->modules[build->count++].path = *name ? build->names_size : 0;
	if (!*name)
		return;
	while (name[size])
		size++;
	tm_memcpy(build->names + build->names_size, name, size + 1);
	build->names_size += size + 1;
}

static void add_found(struct tm_module_build *build, const struct tm_module_build *found,
		      uint32_t place)
{
	const struct tm_module *module = &found->modules[place];

	add(build, module, found->nodes[place], found->names + module->path);
}

/* An object that went, without code or call frame rows. */
static void add_gone(struct tm_module_build *build, const struct tm_module *module,
		     const char *name)
{
	struct tm_module *gone = &build->modules[build->count];

	add(build, module, TM_NODE_NONE, name);
	gone->text_start = gone->text_end = 0;
	gone->cfi_start = gone->cfi_end = 0;
	gone->eh_frame_hdr = gone->eh_frame_hdr_size = 0;
}

#define MAX_GONE 256u

/*
 * Files that were mapped once keep their place in the list while nothing else
 * is mapped there, so that addresses recorded in them still have names.
 */
static void merge(struct tm_module_build *build, const struct tm_module_build *found, uint64_t low,
		  uint64_t high)
{
	struct tm_module_list *old = current();
	uint32_t i, place = 0, gone = 0, count = old ? old->count : 0;

	for (i = 0; i < count; i++) {
		const struct tm_module *module = &tm_module_array(old)[i];
		const char *name = (const char *)(tm_module_array(old) + count) + module->path;

		while (place < found->count && found->modules[place].end <= module->start)
			add_found(build, found, place++);
		if (place < found->count && found->modules[place].start < module->end)
			continue;
		if (!tm_module_is_gone(module) && (module->end <= low || module->start >= high)) {
			add(build, module, tm_lists_nodes()[i], name);
		} else if (*name == '/' && gone < MAX_GONE) {
			add_gone(build, module, name);
			gone++;
		}
	}
	while (place < found->count)
		add_found(build, found, place++);
}

static bool is_same(const uint64_t *a, const uint64_t *b, uint64_t size)
{
	uint64_t i;

	for (i = 0; i < size / 8; i++)
		if (a[i] != b[i])
			return false;
	for (i = size & ~UINT64_C(7); i < size; i++)
		if (((const uint8_t *)a)[i] != ((const uint8_t *)b)[i])
			return false;
	return true;
}

long tm_lists_publish(const struct tm_module_build *found, uint64_t low, uint64_t high)
{
	struct tm_module_list *list, *old = current();
	uint32_t room = found->count + (old ? old->count : 0);
	uint32_t names_room = found->names_size + (old ? old->names_size : 0);
	struct place *place = take_place(size_of_place(room, names_room));
	struct tm_module_build build;

	if (!place)
		return -TM_ENOMEM;
	begin_build(&build, place, room, names_room);
	merge(&build, found, low, high);
	list = list_in(place);
	list->count = build.count;
	list->names_size = build.names_size;
	list->reserved = 0;
	/* The names go directly behind the modules; tm_memcpy copies upward. */
	tm_memcpy(build.modules + build.count, build.names, build.names_size);
	if (old && old->count == list->count && old->names_size == list->names_size &&
	    is_same((uint64_t *)(old + 1), (uint64_t *)(list + 1),
		    list->count * sizeof(struct tm_module) + list->names_size)) {
		tm_memcpy(tm_lists_nodes(), build.nodes, build.count * sizeof(uint64_t));
		return 0;
	}
	__atomic_store_n(&tm_header.modules, (uint64_t)list, __ATOMIC_SEQ_CST);
	tm_unwind_forget_rules();
	return 0;
}
