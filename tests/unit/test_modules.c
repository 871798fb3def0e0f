/*
 * The list of modules of this process, against what the dynamic loader says,
 * as objects come and go.
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

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "helper_stubs.h"
#include "modules.h"
#include "tm.h"
#include "unwind.h"

static struct tm_module_list *current(void)
{
	return (struct tm_module_list *)tm_header.modules;
}

/* Where the list has what is found for pc; NULL when nothing is. */
static const struct tm_module *find(uint64_t pc)
{
	const struct tm_module *modules = tm_module_array(current());
	struct tm_module found;
	uint32_t i;

	if (!tm_modules_find(pc, &found))
		return NULL;
	for (i = 0; i < current()->count; i++)
		if (modules[i].start == found.start)
			break;
	assert_true(i < current()->count);
	assert_memory_equal(&found, &modules[i], sizeof(found));
	return &modules[i];
}

static const char *path_of(const struct tm_module *module)
{
	struct tm_module_list *list = current();

	return (const char *)(tm_module_array(list) + list->count) + module->path;
}

static uint64_t page_down(uint64_t address)
{
	return address & ~UINT64_C(4095);
}

/* The loader's word on one object against ours. */
static int check_object(struct dl_phdr_info *info, size_t size, void *data)
{
	uint64_t low = UINT64_MAX, high = 0, text = 0;
	const struct tm_module *module;
	char *path;
	int i;

	(void)size;
	for (i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];

		if (segment->p_type != PT_LOAD)
			continue;
		if (segment->p_vaddr < low)
			low = segment->p_vaddr;
		if (segment->p_vaddr + segment->p_memsz > high)
			high = segment->p_vaddr + segment->p_memsz;
		if (segment->p_flags & PF_X)
			text = info->dlpi_addr + segment->p_vaddr;
	}
	module = find(text);
	assert_non_null(module);
	assert_int_equal(module->bias, info->dlpi_addr);
	assert_int_equal(module->start, page_down(info->dlpi_addr + low));
	assert_int_equal(module->end, page_down(info->dlpi_addr + high + 4095));
	assert_true(tm_module_executes(module, text));
	for (i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];

		if (segment->p_type != PT_GNU_EH_FRAME)
			continue;
		assert_int_equal(module->eh_frame_hdr, info->dlpi_addr + segment->p_vaddr);
		assert_int_equal(module->eh_frame_hdr_size, segment->p_memsz);
		assert_true(module->cfi_start <= module->eh_frame_hdr);
		assert_true(module->cfi_end >= module->eh_frame_hdr + module->eh_frame_hdr_size);
	}
	path = realpath(info->dlpi_name[0] ? info->dlpi_name : "/proc/self/exe", NULL);
	if (path)
		assert_string_equal(path_of(module), path);
	free(path);
	++*(int *)data;
	return 0;
}

static void objects_are_where_the_loader_says(void **state)
{
	int objects = 0;

	(void)state;
	assert_int_equal(tm_modules_refresh(), 0);
	dl_iterate_phdr(check_object, &objects);
	assert_true(objects >= 4);
}

static void the_list_is_sorted_and_disjoint(void **state)
{
	struct tm_module_list *list;
	struct tm_module *modules;
	uint32_t i;

	(void)state;
	tm_modules_refresh();
	list = current();
	modules = tm_module_array(list);
	for (i = 0; i < list->count; i++) {
		assert_true(modules[i].path < list->names_size);
		if (i)
			assert_true(modules[i - 1].end <= modules[i].start);
		if (modules[i].text_end == 0) {
			/* A file that went is there for its name alone. */
			assert_int_equal(modules[i].cfi_end, 0);
			assert_null(find(modules[i].start));
			continue;
		}
		assert_true(modules[i].start <= modules[i].text_start);
		assert_true(modules[i].text_start < modules[i].text_end);
		assert_true(modules[i].text_end <= modules[i].end);
		assert_ptr_equal(find(modules[i].start), &modules[i]);
		assert_ptr_equal(find(modules[i].end - 1), &modules[i]);
		assert_ptr_not_equal(find(modules[i].start - 1), &modules[i]);
		assert_ptr_not_equal(find(modules[i].end), &modules[i]);
	}
	assert_null(find(0));
	assert_null(find(UINT64_MAX));
}

static void the_vdso_has_rows(void **state)
{
	const struct tm_module *module;

	(void)state;
	tm_modules_refresh();
	module = find(getauxval(AT_SYSINFO_EHDR) + 64);
	assert_non_null(module);
	assert_string_equal(path_of(module), "[vdso]");
	assert_true(module->eh_frame_hdr != 0);
}

static void build_ids_are_read(void **state)
{
	const struct tm_module *module;

	(void)state;
	tm_modules_refresh();
	module = find((uint64_t)dlsym(RTLD_DEFAULT, "qsort"));
	assert_non_null(module);
	assert_int_equal(module->build_id_size, 20);
	assert_non_null(strstr(path_of(module), "libc"));
}

static void nothing_new_publishes_nothing(void **state)
{
	struct tm_module_list *before;
	uint64_t memory;

	(void)state;
	tm_modules_refresh();
	before = current();
	memory = tm_header.memory;
	assert_int_equal(tm_modules_refresh(), 0);
	assert_ptr_equal(current(), before);
	assert_int_equal(tm_header.memory, memory);
}

static void executable_memory_of_no_object_is_listed_once(void **state)
{
	uint8_t *code = mmap(NULL, 3 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct tm_module *module;

	(void)state;
	mprotect(code + 4096, 4096, PROT_READ | PROT_EXEC);
	tm_modules_refresh();
	module = find((uint64_t)code + 4096);
	assert_non_null(module);
	assert_int_equal(module->start, (uint64_t)code + 4096);
	assert_int_equal(module->end, (uint64_t)code + 8192);
	assert_int_equal(module->eh_frame_hdr, 0);
	assert_string_equal(path_of(module), "");
	mprotect(code, 3 * 4096, PROT_READ);
	tm_modules_refresh();
	assert_null(find((uint64_t)code + 4096));
	munmap(code, 3 * 4096);
}

#define MANY 300

static void many_more_than_there_were_are_found(void **state)
{
	size_t size = 2 * MANY * 4096;
	uint8_t *code = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int i;

	(void)state;
	tm_modules_refresh();
	assert_true(current()->count < MANY / 4);
	for (i = 0; i < MANY; i++)
		mprotect(code + i * 8192, 4096, PROT_READ | PROT_EXEC);
	assert_int_equal(tm_modules_refresh(), 0);
	for (i = 0; i < MANY; i++)
		assert_non_null(find((uint64_t)code + (uint64_t)i * 8192));
	munmap(code, size);
	assert_int_equal(tm_modules_refresh(), 0);
	assert_null(find((uint64_t)code));
}

static void an_object_mapped_as_data_is_no_module(void **state)
{
	int fd = open("/proc/self/exe", O_RDONLY);
	void *data = mmap(NULL, 65536, PROT_READ, MAP_PRIVATE, fd, 0);

	(void)state;
	assert_ptr_not_equal(data, MAP_FAILED);
	tm_modules_refresh();
	assert_null(find((uint64_t)data + 100));
	objects_are_where_the_loader_says(state);
	munmap(data, 65536);
	close(fd);
}

/* A library that no test program links. */
#define LIBRARY "libsqlite3.so.0"
#define SYMBOL "sqlite3_libversion"

static void the_loader_s_notice_is_followed(void **state)
{
	void *library = dlopen(LIBRARY, RTLD_NOW);
	const struct tm_module *module;
	uint64_t function;

	if (!library)
		skip();
	(void)state;
	function = (uint64_t)dlsym(library, SYMBOL);
	tm_header.loader_events++;
	tm_modules_follow_loader();
	module = find(function);
	assert_non_null(module);
	assert_non_null(strstr(path_of(module), LIBRARY));
	dlclose(library);
	tm_header.loader_events++;
	tm_modules_follow_loader();
	assert_null(find(function));
	assert_int_equal(tm_modules_seen_events, tm_header.loader_events);
}

/* What was unloaded keeps its name, and loading it in a loop piles up no lists. */
static void objects_that_went_keep_their_names(void **state)
{
	uint64_t memory = 0, function = 0;
	const struct tm_module *modules;
	bool named = false;
	uint32_t i;

	(void)state;
	for (i = 0; i < 50; i++) {
		void *library = dlopen(LIBRARY, RTLD_NOW);

		if (!library)
			skip();
		function = (uint64_t)dlsym(library, SYMBOL);
		tm_modules_refresh();
		dlclose(library);
		tm_modules_refresh();
		if (i == 10)
			memory = tm_header.memory;
	}
	assert_int_equal(tm_header.memory, memory);
	modules = tm_module_array(current());
	for (i = 0; i < current()->count; i++)
		if (modules[i].start <= function && function < modules[i].end)
			named = strstr(path_of(&modules[i]), LIBRARY) != NULL;
	assert_true(named);
	assert_null(find(function));
}

static void an_unknown_address_is_looked_for_once(void **state)
{
	uint64_t before, address = 0x10000;
	int i;

	(void)state;
	usleep(100000);
	assert_false(tm_modules_on_unknown(address));
	before = test_syscalls;
	for (i = 0; i < 100; i++)
		assert_false(tm_modules_on_unknown(address));
	assert_true(test_syscalls - before <= 100); /* the clock's */
}

static void an_unknown_address_makes_new_memory_known(void **state)
{
	bool found = false;
	uint8_t *code;
	int i;

	(void)state;
	tm_modules_refresh();
	code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	/* Not before a multiple of the time that the last look took. */
	for (i = 0; !found && i < 100000; i++) {
		usleep(1000);
		found = tm_modules_on_unknown((uint64_t)code);
	}
	assert_true(found);
	assert_int_equal(find((uint64_t)code)->start, code);
	munmap(code, 4096);
	tm_modules_refresh();
}

static void a_held_lock_means_the_old_list(void **state)
{
	struct tm_module_list *before = current();
	uint32_t events = tm_modules_seen_events;

	(void)state;
	tm_wiped()->modules_lock = 1;
	assert_int_equal(tm_modules_refresh(), -TM_EAGAIN);
	tm_header.loader_events++;
	tm_modules_follow_loader();
	assert_int_equal(tm_modules_seen_events, events); /* still to be followed */
	assert_ptr_equal(current(), before);
	tm_wiped()->modules_lock = 0;
	tm_modules_follow_loader();
	assert_int_equal(tm_modules_seen_events, tm_header.loader_events);
}

static void give_the_lock_back(void)
{
	tm_wiped()->modules_lock = 0;
	test_on_syscall = NULL;
}

/* The other thread may have read the map before the object was there. */
static void who_is_told_of_a_new_object_waits_for_the_lock(void **state)
{
	(void)state;
	tm_wiped()->modules_lock = 1;
	tm_header.loader_events++;
	test_on_syscall = give_the_lock_back; /* the one that waits yields or sleeps */
	tm_modules_follow_loader();
	assert_null(test_on_syscall);
	assert_int_equal(tm_modules_seen_events, tm_header.loader_events);
}

static void the_helper_s_image_has_its_own_rows(void **state)
{
	uint8_t *image =
		mmap(NULL, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct tm_module *module;

	(void)state;
	mprotect(image + 4096, 4096, PROT_READ | PROT_WRITE);
	tm_header.image_start = (uint64_t)image;
	tm_header.image_end = (uint64_t)image + 8192;
	memset(tm_header.helper_build_id, 7, 20);
	tm_modules_refresh();
	module = find((uint64_t)image);
	assert_non_null(module);
	assert_string_equal(path_of(module), "[tm]");
	assert_int_equal(module->bias, image);
	assert_int_equal(module->end, image + 8192);
	assert_int_equal(module->build_id[19], 7);
	assert_int_equal(module->text_end, image + 4096);
	/* The stand-in for its .eh_frame_hdr is outside of the image here. */
	assert_int_equal(module->cfi_end, 0);
	tm_header.image_start = tm_header.image_end = 0;
	munmap(image, 8192);
	tm_modules_refresh();
}

static void *map_and_unmap(void *stop)
{
	while (!*(volatile int *)stop) {
		void *code =
			mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		munmap(code, 4096);
	}
	return NULL;
}

static void a_changing_map_is_read_without_harm(void **state)
{
	pthread_t thread;
	volatile int stop = 0;
	int i, done = 0;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, map_and_unmap, (void *)&stop), 0);
	for (i = 0; i < 300; i++)
		done += tm_modules_refresh() == 0;
	stop = 1;
	pthread_join(thread, NULL);
	assert_true(done > 250);
	tm_modules_refresh();
	the_list_is_sorted_and_disjoint(state);
}

static void without_proc_the_old_list_stays(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
	if (child == 0) {
		struct tm_module_list *before = current();

		if (chroot("/sys") != 0)
			_exit(77);
		_exit(tm_modules_refresh() == -TM_ENOENT && current() == before &&
				      find((uint64_t)without_proc_the_old_list_stays)
			      ? 0
			      : 1);
	}
	waitpid(child, &status, 0);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* The note of tm.h leads to its variable, in this program as in a library. */
static void a_tracker_is_found_by_its_note(void **state)
{
	uint32_t i, found = 0;

	(void)state;
	test_tracker_count = 0;
	assert_int_equal(tm_modules_refresh(), 0);
	for (i = 0; i < test_tracker_count; i++)
		found += test_trackers[i] == (uint64_t)&tm_tracker;
	assert_int_equal(found, 1);
	assert_int_equal(tm_track(3, &found, sizeof(found)), TM_NOT_TRACING);
	assert_int_equal(tm_untrack(3, &found), TM_NOT_TRACING);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(objects_are_where_the_loader_says),
		cmocka_unit_test(the_list_is_sorted_and_disjoint),
		cmocka_unit_test(the_vdso_has_rows),
		cmocka_unit_test(build_ids_are_read),
		cmocka_unit_test(nothing_new_publishes_nothing),
		cmocka_unit_test(executable_memory_of_no_object_is_listed_once),
		cmocka_unit_test(many_more_than_there_were_are_found),
		cmocka_unit_test(an_object_mapped_as_data_is_no_module),
		cmocka_unit_test(the_loader_s_notice_is_followed),
		cmocka_unit_test(objects_that_went_keep_their_names),
		cmocka_unit_test(an_unknown_address_is_looked_for_once),
		cmocka_unit_test(an_unknown_address_makes_new_memory_known),
		cmocka_unit_test(a_held_lock_means_the_old_list),
		cmocka_unit_test(who_is_told_of_a_new_object_waits_for_the_lock),
		cmocka_unit_test(the_helper_s_image_has_its_own_rows),
		cmocka_unit_test(a_changing_map_is_read_without_harm),
		cmocka_unit_test(without_proc_the_old_list_stays),
		cmocka_unit_test(a_tracker_is_found_by_its_note),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
