/*
 * What the loader's notices tell of objects that come and go, against what the loader
 * says itself: all of it where the kernel tells one mapping alone, and where the text
 * of the memory map has to be read.
 *
 * links: helper/modules.c helper/maps.c helper/object.c helper/lists.c helper/links.c
 *        helper/stack.c helper/unwind.c helper/join.c helper/fullwalk.c helper/cfi.c
 *        helper/rule.c helper/expression.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "links_objects.h"

#define OBJECTS 500
#define IOCTL 16

/* ---- tests ------------------------------------------------------------------------ */

static int begin(void **state)
{
	(void)state;
	tm_modules_refresh();
	assert_true(tm_links_known());
	store_release(&tm_modules_seen_events, tm_header.loader_events);
	return 0;
}

static void objects_that_come_and_go_are_followed(void **state)
{
	struct link_map *one = load(1), *two;
	struct tm_module module;
	uint64_t in_one = (uint64_t)one->l_ld;

	(void)state;
	notice();
	assert_listed();
	two = load(2);
	notice();
	assert_listed();
	unload(one);
	notice();
	assert_listed();
	assert_false(tm_modules_find(in_one, &module));
	unload(two);
	notice();
	assert_listed();
}

static void notice_of_another(void)
{
	struct link_map *library = load(9);

	notice();
	assert_listed();
	unload(library);
	notice();
	assert_listed();
}

/* The same headers at the same address, and yet another file. */
static void an_object_takes_the_place_of_another(void **state)
{
	int turn, same = 0;
	uint64_t last = 0;

	(void)state;
	for (turn = 0; turn < 10; turn++) {
		struct link_map *library = load(turn);

		same += library->l_addr == last;
		last = library->l_addr;
		notice();
		assert_listed();
		unload(library);
		notice();
	}
	assert_true(same > 0);
}

/* What was listed ends in the middle of its code, so it does not begin there. */
static void an_object_comes_around_code_that_was_made(void **state)
{
	struct link_map *library = dlopen("libsqlite3.so.0", RTLD_NOW);
	uint64_t place;
	void *code;
	bool moved;

	(void)state;
	if (!library)
		skip();
	place = library->l_addr;
	dlclose(library);
	code = mmap((void *)place, 40 * 4096, PROT_READ | PROT_EXEC,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	assert_ptr_equal(code, place);
	tm_modules_refresh();
	munmap(code, 40 * 4096);
	library = dlopen("libsqlite3.so.0", RTLD_NOW);
	assert_non_null(library);
	tm_modules_loader_event(true);
	tm_modules_follow_loader();
	assert_listed();
	moved = library->l_addr != place;
	dlclose(library);
	tm_modules_loader_event(true);
	tm_modules_follow_loader();
	assert_listed();
	if (moved) /* the kernel put it elsewhere */
		skip();
}

/* What was listed there is no object of the loader's, and gave no notice when it went. */
static void an_object_comes_where_code_was_made(void **state)
{
	struct link_map *library = load(1);
	int page, same = 0;

	(void)state;
	for (page = 0; page < 5; page++) {
		uint64_t place = library->l_addr;
		void *code = (void *)(place + (uint64_t)page * 4096);

		unload(library);
		assert_ptr_equal(mmap(code, 4096, PROT_READ | PROT_EXEC,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
				 code);
		tm_modules_refresh();
		munmap(code, 4096);
		library = load(1);
		same += library->l_addr == place;
		notice();
		assert_listed();
	}
	assert_true(same > 0);
	unload(library);
	notice();
}

/* Another node than before describes it: the whole map is read, whatever else is explained. */
static void an_object_is_replaced_without_a_notice(void **state)
{
	struct link_map *library = load(1), *beside = NULL;
	static uint64_t another[2] __attribute__((aligned(16)));
	int turn;

	(void)state;
	for (turn = 0; turn < 2; turn++) {
		notice_of_another();
		tm_lists_nodes()[tm_lists_place((uint64_t)library->l_ld)] = (uint64_t)another;
		if (turn)
			beside = load(2);
		tm_modules_loader_event(true);
		assert_int_equal(tm_header.loader_events, tm_modules_seen_events + 1);
		tm_modules_follow_loader();
		assert_listed();
	}
	notice_of_another();
	unload(library);
	unload(beside);
	notice();
	assert_listed();
}

static void five_hundred_objects_cost_little_each(void **state)
{
	static struct link_map *libraries[OBJECTS];
	uint64_t most = 0;
	int i;

	(void)state;
	for (i = 0; i < OBJECTS; i++) {
		uint64_t before;

		libraries[i] = load(i);
		before = test_syscalls;
		notice();
		if (test_syscalls - before > most)
			most = test_syscalls - before;
		if (i % 100 == 99)
			assert_listed();
	}
	for (i = 0; i < OBJECTS; i++) {
		struct link_map **library = &libraries[(i * 7 + 3) % OBJECTS];
		uint64_t before;

		unload(*library);
		before = test_syscalls;
		notice();
		if (test_syscalls - before > most)
			most = test_syscalls - before;
		if (i % 100 == 99)
			assert_listed();
	}
	/* Fewer than one for each object, whose mappings alone are five lines. */
	assert_in_range(most, 1, OBJECTS - 1);
}

/* What DT_DEBUG leads to; a program's _r_debug may be a copy. */
static struct r_debug *debug(void)
{
	const ElfW(Dyn) *entry = _DYNAMIC;

	while (entry->d_tag != DT_DEBUG)
		entry++;
	return (struct r_debug *)entry->d_un.d_ptr;
}

static void another_namespace_is_followed(void **state)
{
	struct link_map *library;
	uint64_t dynamic;

	(void)state;
	write_file(1, image);
	library = dlmopen(LM_ID_NEWLM, file_name(1), RTLD_NOW);
	if (!library) {
		unlink(file_name(1));
		skip();
	}
	/* Before glibc 2.35 the loader does not say where its other lists are. */
	dynamic = (uint64_t)library->l_ld;
	tm_modules_loader_event(true);
	if (debug()->r_version > 1)
		assert_int_equal(tm_header.loader_events, tm_modules_seen_events);
	tm_modules_follow_loader();
	assert_true(tm_lists_place(dynamic) >= 0);
	assert_string_equal(path_of(&tm_module_array(current())[tm_lists_place(dynamic)]),
			    file_name(1));
	unload(library);
	tm_modules_loader_event(true);
	tm_modules_follow_loader();
	assert_listed();
}

/* Its segments are all data, and nothing in it is to be called. */
static void take_code_away(char *bytes)
{
	const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)bytes;
	ElfW(Phdr) *segments = (ElfW(Phdr) *)(bytes + header->e_phoff);
	int i;

	for (i = 0; i < header->e_phnum; i++) {
		ElfW(Dyn) *entry = (ElfW(Dyn) *)(bytes + segments[i].p_offset);

		segments[i].p_flags &= (unsigned int)~PF_X;
		for (; segments[i].p_type == PT_DYNAMIC && entry->d_tag; entry++)
			if (entry->d_tag == DT_INIT || entry->d_tag == DT_FINI ||
			    entry->d_tag == DT_INIT_ARRAY || entry->d_tag == DT_FINI_ARRAY)
				entry->d_tag = DT_DEBUG;
	}
}

/* System calls of the notice that an object went: none to look at anything. */
static uint64_t cost_of_unloading(struct link_map *library)
{
	uint64_t before;

	unload(library);
	before = test_syscalls;
	notice();
	return test_syscalls - before;
}

/* It is in no list, and yet nothing new at the next notice. */
static void an_object_without_code_is_looked_at_once(void **state)
{
	char *bytes = malloc(image_size);
	struct link_map *data, *library;
	uint64_t without;

	(void)state;
	library = load(1);
	notice();
	without = cost_of_unloading(library);
	memcpy(bytes, image, image_size);
	take_code_away(bytes);
	write_file(2, bytes);
	free(bytes);
	data = dlopen(file_name(2), RTLD_NOW);
	assert_non_null(data);
	notice();
	library = load(3);
	notice();
	assert_listed();
	assert_in_range(cost_of_unloading(library), 0, without + 2); /* a page more of nodes */
	unload(data);
	notice();
	assert_listed();
}

/* A notice before a change needs no look: another one follows.  If none does, all is read. */
static void a_change_under_way_is_waited_for(void **state)
{
	struct link_map *library = load(1);
	struct tm_module module;
	uint64_t text = (uint64_t)library->l_ld & ~UINT64_C(4095);

	(void)state;
	debug()->r_state = RT_ADD;
	notice();
	assert_false(tm_modules_find(text, &module));
	tm_modules_loader_event(true);
	assert_int_equal(tm_header.loader_events, tm_modules_seen_events + 1);
	debug()->r_state = RT_CONSISTENT;
	tm_modules_loader_event(true); /* what was missed is not made up for by this one */
	tm_modules_follow_loader();
	assert_int_equal(tm_header.loader_events, tm_modules_seen_events);
	assert_listed();
	unload(library);
	notice();
	assert_listed();
}

/* Nothing in the lists explains the notice: it may be of one that cannot be seen. */
static void a_notice_of_nothing_is_looked_into(void **state)
{
	(void)state;
	tm_modules_loader_event(true);
	assert_int_equal(tm_header.loader_events, tm_modules_seen_events + 1);
}

/* Mapped by hand, an object is looked at, which explains nothing as long as it is there. */
static void an_object_that_is_not_the_loader_s_is_kept(void **state)
{
	void *mapped;
	int fd;

	write_file(1, image);
	fd = open(file_name(1), O_RDONLY);
	mapped = mmap(NULL, image_size, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(mapped, MAP_FAILED);
	close(fd);
	tm_modules_refresh();
	assert_true(tm_lists_place((uint64_t)mapped) >= 0);
	a_notice_of_nothing_is_looked_into(state);
	tm_modules_follow_loader();
	unlink(file_name(1));
	munmap(mapped, image_size);
	notice(); /* it went */
	assert_listed();
}

static void a_broken_list_is_left_alone(void **state)
{
	struct link_map *next = debug()->r_map->l_next;
	uint32_t events = tm_header.loader_events;

	(void)state;
	debug()->r_map->l_next = (struct link_map *)0x10000;
	tm_modules_loader_event(true);
	debug()->r_map->l_next = debug()->r_map;
	store_release(&tm_modules_seen_events, tm_header.loader_events);
	tm_modules_loader_event(true);
	debug()->r_map->l_next = next;
	assert_int_equal(tm_header.loader_events, events + 2);
	tm_modules_follow_loader();
	assert_listed();
}

/* Memory is used again, but not while somebody may read it. */
static void a_list_that_is_read_stays(void **state)
{
	static char copy[1 << 20];
	struct tm_module_list *list = current();
	size_t size = sizeof(*list) + list->count * sizeof(struct tm_module) + list->names_size;
	uint64_t memory;
	int turn;

	(void)state;
	assert_true(size < sizeof(copy));
	memcpy(copy, list, size);
	tm_wiped()->modules_readers = 1;
	for (turn = 0; turn < 4; turn++) {
		struct link_map *library = load(turn);

		notice();
		unload(library);
		notice();
	}
	assert_memory_equal(list, copy, size);
	assert_int_equal(tm_wiped()->modules_readers, 1);
	tm_wiped()->modules_readers = 0;
	memory = tm_header.memory;
	for (turn = 0; turn < 40; turn++) {
		struct link_map *library = load(turn);

		notice();
		assert_listed();
		unload(library);
		notice();
	}
	assert_int_equal(tm_header.memory, memory);
}

static uint64_t text_of(const struct link_map *library)
{
	const ElfW(Phdr) *segment = (const ElfW(
		Phdr) *)(library->l_addr + ((const ElfW(Ehdr) *)library->l_addr)->e_phoff);

	while (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X))
		segment++;
	return library->l_addr + segment->p_vaddr;
}

/* As libtm-preload.so sees a dlopen: no notice, but an unknown address. */
static void an_unknown_address_is_looked_at_alone(void **state)
{
	struct link_map *library;
	struct tm_module found;
	uint64_t text, before;

	(void)state;
	tm_modules_opens++;
	library = load(1);
	text = text_of(library);
	assert_false(tm_modules_find(text, &found));
	before = test_syscalls;
	assert_true(tm_modules_on_unknown(text));
	assert_in_range(test_syscalls - before, 1, 30);
	assert_true(tm_modules_find(text, &found));
	assert_string_equal(path_of(&found), file_name(1));
	assert_listed();
	unload(library);
	notice();
	assert_listed();
}

static int only_text(void **state)
{
	test_forbidden = IOCTL;
	return begin(state);
}

static void the_text_was_read(void **state)
{
	(void)state;
	assert_false(tm_maps_can_ask());
}

#define TEST(function) cmocka_unit_test_setup(function, begin)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(objects_that_come_and_go_are_followed),
		TEST(an_object_takes_the_place_of_another),
		TEST(an_object_is_replaced_without_a_notice),
		TEST(an_object_comes_where_code_was_made),
		TEST(an_object_comes_around_code_that_was_made),
		TEST(five_hundred_objects_cost_little_each),
		TEST(another_namespace_is_followed),
		TEST(an_object_without_code_is_looked_at_once),
		TEST(a_change_under_way_is_waited_for),
		TEST(a_notice_of_nothing_is_looked_into),
		TEST(an_object_that_is_not_the_loader_s_is_kept),
		TEST(a_broken_list_is_left_alone),
		TEST(a_list_that_is_read_stays),
		TEST(an_unknown_address_is_looked_at_alone),
	};
	const struct CMUnitTest text[] = {
		cmocka_unit_test_setup(objects_that_come_and_go_are_followed, only_text),
		TEST(an_object_takes_the_place_of_another),
		TEST(an_object_is_replaced_without_a_notice),
		TEST(an_object_comes_where_code_was_made),
		TEST(an_object_comes_around_code_that_was_made),
		TEST(five_hundred_objects_cost_little_each),
		TEST(another_namespace_is_followed),
		TEST(an_object_without_code_is_looked_at_once),
		TEST(a_list_that_is_read_stays),
		TEST(an_unknown_address_is_looked_at_alone),
		TEST(the_text_was_read),
	};
	int failed = cmocka_run_group_tests_name("asking", tests, read_library, NULL);

	return failed + cmocka_run_group_tests_name("reading the text", text, NULL, remove_folder);
}
