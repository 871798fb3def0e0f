/*
 * Reads the memory map, or a part of it, and groups its mappings into modules.
 *
 * Raw system calls; its buffers are static, under the modules lock.  Uses object.c
 * for what an object's headers tell.
 */
#include "modules.h"
#include "sys.h"

/* First and last byte of the helper's own .eh_frame_hdr, from the linker. */
extern const uint8_t tm_eh_frame_hdr_start[] TM_HIDDEN;
extern const uint8_t tm_eh_frame_hdr_end[] TM_HIDDEN;

struct mapping {
	uint64_t start, end, offset;
	bool readable, executable;
	const char *name; /* not terminated */
	uint32_t name_size;
};

/* The file being read, line by line, or asked for one mapping after another. */
struct lines {
	int fd;         /* negative: the text that the debugger gave */
	bool asked;     /* by PROCMAP_QUERY, … */
	bool begun;     /* … which answered before, … */
	uint64_t next;  /* … from this address on */
	uint64_t given; /* how much of that was taken */
	uint32_t at, used;
	char text[8192];
};

static struct lines lines;

static long open_proc(const char *of_thread, const char *of_process)
{
	/* The process's own files are empty once its first thread is gone. */
	long fd = sys_openat(TM_AT_FDCWD, of_thread, TM_O_RDONLY | TM_O_CLOEXEC);

	return fd >= 0 ? fd : sys_openat(TM_AT_FDCWD, of_process, TM_O_RDONLY | TM_O_CLOEXEC);
}

/* The memory map as the debugger sees it, while it calls tm_maps_use. */
static struct {
	const char *text;
	uint64_t size;
} given;

void tm_maps_use(const char *text, uint64_t size)
{
	given.text = text;
	given.size = size;
}

/* A kernel before Linux 6.11, or a filter: the text has to be read. */
static bool is_text_only;

bool tm_maps_can_ask(void)
{
	return !load_relaxed(&is_text_only);
}

/*
 * Begins with the first mapping for low == 0.  Otherwise those that end at or below
 * low may be left out.
 */
static long lines_open(uint64_t low)
{
	long fd = -1;

	if (!given.text) {
		fd = open_proc("/proc/thread-self/maps", "/proc/self/maps");
		if (fd < 0)
			return fd;
	}
	lines.fd = (int)fd;
	lines.asked = low && !given.text && !is_text_only;
	lines.begun = false;
	lines.next = low;
	lines.given = 0;
	lines.at = lines.used = 0;
	return 0;
}

static void lines_close(void)
{
	if (lines.fd >= 0)
		sys_close(lines.fd);
}

static long lines_read(char *to, uint64_t room)
{
	uint64_t left = given.size - lines.given;

	if (lines.fd >= 0)
		return sys_read(lines.fd, to, room);
	if (room > left)
		room = left;
	tm_memcpy(to, given.text + lines.given, room);
	lines.given += room;
	return (long)room;
}

/* The next line: its length, its start in *ret.  0 at the end, or a negative errno. */
static long next_line(const char **ret)
{
	uint32_t end = lines.at;

	for (;;) {
		long got;

		for (; end < lines.used; end++) {
			if (lines.text[end] == '\n') {
				*ret = &lines.text[lines.at];
				got = end - lines.at + 1;
				lines.at = end + 1;
				return got;
			}
		}
		tm_memcpy(lines.text, &lines.text[lines.at], lines.used - lines.at);
		lines.used -= lines.at;
		lines.at = 0;
		end = lines.used;
		if (lines.used == sizeof(lines.text))
			return -TM_EINVAL;
		got = lines_read(&lines.text[lines.used], sizeof(lines.text) - lines.used);
		if (got <= 0)
			return got;
		lines.used += (uint32_t)got;
	}
}

static uint64_t take_hex(const char **at, const char *end)
{
	uint64_t value = 0;

	for (; *at < end; (*at)++) {
		char c = **at;

		if (c >= '0' && c <= '9')
			value = value << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			value = value << 4 | (uint64_t)(c - 'a' + 10);
		else
			break;
	}
	return value;
}

static void skip_field(const char **at, const char *end)
{
	while (*at < end && **at != ' ')
		(*at)++;
	while (*at < end && **at == ' ')
		(*at)++;
}

#define QUERY UINT32_C(0xc0686611) /* PROCMAP_QUERY of <linux/fs.h> */
#define QUERY_COVERING_OR_NEXT 0x10u
#define QUERY_READABLE 1u
#define QUERY_EXECUTABLE 4u

struct query {
	uint64_t size, flags, address;
	uint64_t start, end, protection, page_size, offset, inode;
	uint32_t device_major, device_minor, name_size, build_id_size;
	uint64_t name, build_id;
};

_Static_assert(sizeof(struct query) == (QUERY >> 16 & 0x3fff), "as its request says");

/* The same from the kernel's answer.  -ERANGE where the text would say something else. */
static long ask_mapping(struct mapping *ret)
{
	static struct query query;
	uint32_t i;
	long result;

	tm_memset(&query, 0, sizeof(query));
	query.size = sizeof(query);
	query.flags = QUERY_COVERING_OR_NEXT;
	query.address = lines.next;
	query.name = (uint64_t)lines.text;
	query.name_size = TM_PAGE; /* PATH_MAX */
	result = sys_ioctl(lines.fd, QUERY, &query);
	if (result < 0)
		return result == -TM_ENOENT ? 0 : result;
	lines.next = query.end;
	lines.begun = true;
	ret->start = query.start;
	ret->end = query.end;
	ret->offset = query.offset;
	ret->readable = query.protection & QUERY_READABLE;
	ret->executable = query.protection & QUERY_EXECUTABLE;
	ret->name = lines.text;
	ret->name_size = query.name_size ? query.name_size - 1 : 0;
	for (i = 0; i < ret->name_size; i++)
		if (lines.text[i] == '\n')
			return -TM_ERANGE;
	return ret->end > ret->start ? 1 : -TM_EINVAL;
}

/* start-end perms offset device inode name.  1 for a mapping, 0 at the end, or an error. */
static long read_mapping(struct mapping *ret)
{
	const char *at, *end;
	long length = next_line(&at);

	if (length <= 0)
		return length;
	end = at + length - 1;
	ret->start = take_hex(&at, end);
	if (at < end)
		at++;
	ret->end = take_hex(&at, end);
	skip_field(&at, end);
	ret->readable = end - at >= 4 && at[0] == 'r';
	ret->executable = end - at >= 4 && at[2] == 'x';
	skip_field(&at, end);
	ret->offset = take_hex(&at, end);
	skip_field(&at, end);
	skip_field(&at, end);
	skip_field(&at, end);
	ret->name = at;
	ret->name_size = (uint32_t)(end - at);
	return ret->end > ret->start ? 1 : -TM_EINVAL;
}

static long next_mapping(struct mapping *ret)
{
	if (lines.asked) {
		bool begun = lines.begun;
		long result = ask_mapping(ret);

		if (result >= 0)
			return result;
		if (begun || result == -TM_ERANGE)
			return -TM_ERANGE;
		store_relaxed(&is_text_only, true);
		lines.asked = false;
	}
	return read_mapping(ret);
}

long tm_maps_measure(uint32_t *ret_lines, uint32_t *ret_names)
{
	static struct mapping mapping;
	long result = lines_open(0);

	*ret_lines = *ret_names = 0;
	if (result < 0)
		return result;
	while ((result = next_mapping(&mapping)) > 0) {
		*ret_lines += 1;
		*ret_names += mapping.name_size + 1;
	}
	lines_close();
	return result;
}

/* ---- grouping --------------------------------------------------------- */

/* The module that mappings are added to, and its last run of readable bytes. */
struct grouping {
	struct tm_module_build *build;
	struct tm_module *module; /* NULL: none */
	bool is_object;           /* module has headers: its span is known */
	uint64_t run_start, run_end;
	int mem;
};

static bool name_starts(const struct mapping *mapping, const char *prefix)
{
	uint32_t i;

	for (i = 0; prefix[i]; i++)
		if (i >= mapping->name_size || mapping->name[i] != prefix[i])
			return false;
	return true;
}

static bool has_name(const struct tm_module_build *build, const struct tm_module *module,
		     const struct mapping *mapping)
{
	const char *name = build->names + module->path;
	uint32_t i;

	for (i = 0; i < mapping->name_size; i++)
		if (name[i] != mapping->name[i])
			return false;
	return name[i] == 0;
}

/* Adds the mapping to the module's text and to what is readable around its CFI. */
static void add_mapping(struct grouping *group, const struct mapping *mapping)
{
	struct tm_module *module = group->module;
	uint64_t hdr = module->eh_frame_hdr;

	if (mapping->executable) {
		if (!module->text_end)
			module->text_start = mapping->start;
		module->text_end = mapping->end;
	}
	if (!mapping->readable)
		return;
	if (mapping->start != group->run_end)
		group->run_start = mapping->start;
	group->run_end = mapping->end;
	if (hdr >= group->run_start && hdr < group->run_end &&
	    module->eh_frame_hdr_size <= group->run_end - hdr) {
		module->cfi_start = group->run_start;
		module->cfi_end = group->run_end;
	}
}

/* Ends the module; one that cannot be executed is data and is dropped. */
static void finish_module(struct grouping *group)
{
	struct tm_module *module = group->module;

	if (!module)
		return;
	if (!module->cfi_end)
		module->eh_frame_hdr = module->eh_frame_hdr_size = 0;
	if (!module->text_end)
		group->build->count--;
	group->module = NULL;
}

static bool add_name(struct tm_module_build *build, struct tm_module *module, const char *name,
		     uint32_t size)
{
	if (!size)
		return true;
	if (size + 1 > build->names_room - build->names_size)
		return false;
	module->path = build->names_size;
	tm_memcpy(build->names + build->names_size, name, size);
	build->names_size += size;
	build->names[build->names_size++] = 0;
	return true;
}

static bool is_helper(const struct mapping *mapping)
{
	return mapping->start >= tm_header.image_start && mapping->start < tm_header.image_end &&
	       mapping->name_size == 0;
}

/* The helper's image has no headers in memory. */
static void describe_helper(struct tm_module *module)
{
	module->start = module->bias = tm_header.image_start;
	module->end = tm_header.image_end;
	module->eh_frame_hdr = (uint64_t)tm_eh_frame_hdr_start;
	module->eh_frame_hdr_size = (uint64_t)(tm_eh_frame_hdr_end - tm_eh_frame_hdr_start);
	module->build_id_size = 20;
	tm_memcpy(module->build_id, tm_header.helper_build_id, 20);
}

static bool may_begin_object(const struct mapping *mapping)
{
	if (!mapping->readable || mapping->offset != 0)
		return false;
	if (mapping->executable)
		return true;
	/* Reading a device's memory may have effects. */
	return mapping->name_size && mapping->name[0] == '/' &&
	       (!name_starts(mapping, "/dev/") || name_starts(mapping, "/dev/shm/"));
}

/* Begins a module with this mapping.  False when there is no room. */
static bool begin_module(struct grouping *group, const struct mapping *mapping)
{
	struct tm_module_build *build = group->build;
	struct tm_module *module;
	bool helper = is_helper(mapping);

	if (build->count == build->room)
		return false;
	module = &build->modules[build->count];
	tm_memset(module, 0, sizeof(*module));
	module->start = mapping->start;
	module->end = mapping->end;
	group->is_object = true;
	if (helper)
		describe_helper(module);
	else if (!may_begin_object(mapping) || !tm_object_read(group->mem, module))
		group->is_object = false;
	if (!group->is_object && !mapping->executable)
		return true;
	build->nodes[build->count] = group->is_object && !helper ? 0 : TM_NODE_NONE;
	build->count++;
	group->module = module;
	group->run_start = group->run_end = mapping->start;
	if (helper ? !add_name(build, module, "[tm]", 4)
		   : !add_name(build, module, mapping->name, mapping->name_size))
		return false;
	add_mapping(group, mapping);
	return true;
}

/* Whether the mapping belongs to the module that was begun last. */
static bool is_part(const struct grouping *group, const struct mapping *mapping)
{
	const struct tm_module *module = group->module;

	if (!module)
		return false;
	if (group->is_object)
		return mapping->start < module->end &&
		       (mapping->name_size == 0 || has_name(group->build, module, mapping));
	return mapping->start == module->end && mapping->executable && !is_helper(mapping) &&
	       has_name(group->build, module, mapping);
}

static TM_NOINLINE void extend_module(struct grouping *group, const struct mapping *mapping)
{
	if (!group->is_object)
		group->module->end = mapping->end;
	add_mapping(group, mapping);
}

/* All mappings from `from` on, to the end or to the first that is of no use. */
static long group_mappings(struct grouping *group, const struct tm_maps_part *part,
			   uint64_t *ret_high)
{
	static struct mapping mapping;
	bool first = part->low;
	long result;

	*ret_high = UINT64_MAX;
	while ((result = next_mapping(&mapping)) > 0) {
		if (mapping.end > UINT64_C(1) << TM_ADDRESS_BITS)
			continue; /* the kernel's: vsyscall */
		if (mapping.end <= part->low)
			continue;
		if (mapping.start < part->low)
			return -TM_ERANGE;
		if (is_part(group, &mapping)) {
			extend_module(group, &mapping);
			continue;
		}
		/* An object may be less than its headers say. */
		if (group->module && group->is_object && mapping.start < group->module->end)
			group->module->end = mapping.start;
		finish_module(group);
		if (mapping.start > part->address) {
			*ret_high = mapping.start;
			return 0;
		}
		if (mapping.name_size && mapping.name[0] == '/') {
			/* The rest of an object that begins below, perhaps. */
			if (mapping.offset && (first || (part->low && mapping.executable)))
				return -TM_ERANGE;
			first = false;
		}
		if (!begin_module(group, &mapping))
			return -TM_EAGAIN;
	}
	return result;
}

long tm_maps_read(struct tm_module_build *build, const struct tm_maps_part *part,
		  uint64_t *ret_high)
{
	static struct grouping group;
	long result = lines_open(part->low);

	if (result < 0)
		return result;
	group.build = build;
	group.module = NULL;
	group.mem = (int)open_proc("/proc/thread-self/mem", "/proc/self/mem");
	result = group_mappings(&group, part, ret_high);
	finish_module(&group);
	if (group.mem >= 0)
		sys_close(group.mem);
	lines_close();
	return result;
}
