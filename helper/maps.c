/*
 * Reads /proc/self/maps and groups its mappings into modules.
 *
 * Raw system calls; its buffers are static, under the modules lock.  Program
 * headers are read through /proc/self/mem, so that a mapping that goes in the
 * meantime is an error and not a fault.
 */
#include "modules.h"
#include "sys.h"
#include "track.h"
#include "unwind.h"

/* First and last byte of the helper's own .eh_frame_hdr, from the linker. */
extern const uint8_t tm_eh_frame_hdr_start[] TM_HIDDEN;
extern const uint8_t tm_eh_frame_hdr_end[] TM_HIDDEN;

struct mapping {
	uint64_t start, end, offset;
	bool readable, executable;
	const char *name; /* not terminated */
	uint32_t name_size;
};

/* The file being read, line by line. */
struct lines {
	int fd;         /* negative: the text that the debugger gave */
	uint64_t given; /* how much of that was taken */
	uint32_t at, used;
	char text[8192];
};

static struct lines lines;
static uint8_t page[TM_PAGE];       /* the first page of an object … */
static uint8_t other_page[TM_PAGE]; /* … and notes that are not in it */

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

static long lines_open(void)
{
	long fd = -1;

	if (!given.text) {
		fd = open_proc("/proc/thread-self/maps", "/proc/self/maps");
		if (fd < 0)
			return fd;
	}
	lines.fd = (int)fd;
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

/* start-end perms offset device inode name.  1 for a mapping, 0 at the end, or an error. */
static long next_mapping(struct mapping *ret)
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

long tm_maps_measure(uint32_t *ret_lines, uint32_t *ret_names)
{
	static struct mapping mapping;
	long result = lines_open();

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

/* ---- what an object's own headers tell -------------------------------- */

#define ELF_IDENT UINT64_C(0x00010102464c457f) /* class 64, little endian, version 1 */
#define ELF_IDENT_MASK UINT64_C(0x00ffffffffffffff)
#define ELF_TYPE_EXEC 2
#define ELF_TYPE_DYN 3
#define ELF_MACHINE_X86_64 62
#define ELF_LOAD 1u
#define ELF_NOTE 4u
#define ELF_GNU_EH_FRAME 0x6474e550u
#define ELF_NOTE_BUILD_ID 3u

struct elf_header {
	uint8_t ident[16];
	uint16_t type, machine;
	uint32_t version;
	uint64_t entry, phoff, shoff;
	uint32_t flags;
	uint16_t size, phentsize, phnum, shentsize, shnum, shstrndx;
};

struct elf_segment {
	uint32_t type, flags;
	uint64_t offset, vaddr, paddr, filesz, memsz, align;
} __attribute__((packed));

/* Reads this process's memory; mem is /proc/self/mem, or negative without. */
bool tm_maps_peek(int mem, uint64_t address, void *ret, uint64_t size)
{
	uint64_t at;

	if (mem >= 0)
		return sys_pread(mem, ret, size, address) == (long)size;
	for (at = address & ~UINT64_C(7); at < address + size; at += 8)
		if ((at == (address & ~UINT64_C(7)) || at % TM_PAGE == 0) && !tm_is_readable(at))
			return false;
	tm_memcpy(ret, (const void *)address, size);
	return true;
}

static uint32_t word_at(const uint8_t *bytes)
{
	uint32_t value;

	__builtin_memcpy(&value, bytes, sizeof(value));
	return value;
}

/* Takes the build-id from a note segment, and the trackers' place, if they are there. */
static TM_NOINLINE void read_notes(int mem, struct tm_module *module, uint64_t address,
				   uint64_t size)
{
	uint64_t offset = address - module->start, at = 0;
	const uint8_t *bytes = other_page;

	if (size > TM_PAGE)
		size = TM_PAGE;
	if (offset <= TM_PAGE - size)
		bytes = &page[offset];
	else if (!tm_maps_peek(mem, address, other_page, size))
		return;
	while (size - at >= 16) {
		uint64_t name_size = word_at(&bytes[at]), length = word_at(&bytes[at + 4]);
		uint64_t content = at + 12 + ((name_size + 3) & ~UINT64_C(3));

		if (content > size || length > size - content)
			return;
		if (word_at(&bytes[at + 8]) == ELF_NOTE_BUILD_ID && name_size == 4 &&
		    word_at(&bytes[at + 12]) == 0x00554e47 && length <= sizeof(module->build_id)) {
			module->build_id_size = (uint32_t)length;
			tm_memcpy(module->build_id, &bytes[content], length);
		} else if (word_at(&bytes[at + 8]) == TM_NOTE_TRACKER && name_size == 3 &&
			   word_at(&bytes[at + 12]) == TM_NOTE_NAME && length == 8) {
			tm_track_found(mem, address + content +
						    tm_stack_word((uint64_t)&bytes[content]));
		}
		at = content + ((length + 3) & ~UINT64_C(3));
		if (at > size)
			return;
	}
}

/* Objects without .eh_frame_hdr: where the debugger found their .eh_frame. */
#define MAX_FRAMES_TOLD 64u

static struct {
	uint64_t object, eh_frame;
} told[MAX_FRAMES_TOLD];

bool tm_maps_tell_eh_frame(uint64_t object, uint64_t eh_frame)
{
	uint32_t i;

	for (i = 0; i < MAX_FRAMES_TOLD; i++) {
		if (told[i].object && told[i].object != object)
			continue;
		told[i].object = object;
		told[i].eh_frame = eh_frame;
		return true;
	}
	return false;
}

static uint64_t eh_frame_told(uint64_t object)
{
	uint32_t i;

	for (i = 0; i < MAX_FRAMES_TOLD && told[i].object; i++)
		if (told[i].object == object)
			return told[i].eh_frame;
	return 0;
}

#define MAX_NOTES 4u

static struct {
	uint64_t address, size;
} notes[MAX_NOTES];

/* Fills in a module from the ELF header at its start.  False when there is none. */
static TM_NOINLINE bool read_elf(int mem, struct tm_module *module)
{
	const struct elf_header *header = (const struct elf_header *)page;
	uint64_t low = ~UINT64_C(0), high = 0, phoff;
	uint32_t i, count, note_count = 0;

	if (!tm_maps_peek(mem, module->start, page, sizeof(page)) ||
	    (tm_stack_word((uint64_t)page) & ELF_IDENT_MASK) != ELF_IDENT ||
	    header->machine != ELF_MACHINE_X86_64 ||
	    (header->type != ELF_TYPE_EXEC && header->type != ELF_TYPE_DYN) ||
	    header->phentsize != sizeof(struct elf_segment) ||
	    header->phoff > sizeof(page) - header->phnum * sizeof(struct elf_segment))
		return false;
	count = header->phnum;
	phoff = header->phoff;
	for (i = 0; i < count; i++) {
		const struct elf_segment *segment =
			(const struct elf_segment *)&page[phoff + i * sizeof(*segment)];

		if (segment->type == ELF_LOAD) {
			if (segment->vaddr < low)
				low = segment->vaddr;
			if (segment->vaddr + segment->memsz > high)
				high = segment->vaddr + segment->memsz;
		} else if (segment->type == ELF_GNU_EH_FRAME) {
			module->eh_frame_hdr = segment->vaddr;
			module->eh_frame_hdr_size = segment->memsz;
		} else if (segment->type == ELF_NOTE && note_count < MAX_NOTES) {
			notes[note_count].address = segment->vaddr;
			notes[note_count++].size = segment->memsz;
		}
	}
	low &= ~(uint64_t)(TM_PAGE - 1);
	if (high <= low || high - low > UINT64_C(1) << 40)
		return false;
	module->bias = module->start - low;
	module->end = module->bias + ((high + TM_PAGE - 1) & ~(uint64_t)(TM_PAGE - 1));
	if (module->eh_frame_hdr)
		module->eh_frame_hdr += module->bias;
	else
		module->eh_frame_hdr = eh_frame_told(module->start);
	for (i = 0; i < note_count; i++)
		read_notes(mem, module, module->bias + notes[i].address, notes[i].size);
	return true;
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
	if (!module->text_end) {
		tm_memset(module, 0, sizeof(*module));
		group->build->count--;
	}
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
	module->start = mapping->start;
	module->end = mapping->end;
	group->is_object = true;
	if (helper)
		describe_helper(module);
	else if (!may_begin_object(mapping) || !read_elf(group->mem, module))
		group->is_object = false;
	if (!group->is_object && !mapping->executable)
		return true;
	build->count++;
	group->module = module;
	group->run_start = group->run_end = mapping->start;
	if (helper ? !add_name(build, module, "[tm]", 4)
		   : !add_name(build, module, mapping->name, mapping->name_size))
		return false;
	add_mapping(group, mapping);
	return true;
}

static TM_NOINLINE bool group_mapping(struct grouping *group, const struct mapping *mapping)
{
	struct tm_module *module = group->module;

	if (mapping->end > UINT64_C(1) << TM_ADDRESS_BITS)
		return true; /* the kernel's: vsyscall */
	if (module && group->is_object && mapping->start < module->end) {
		if (mapping->name_size == 0 || has_name(group->build, module, mapping)) {
			add_mapping(group, mapping);
			return true;
		}
		module->end = mapping->start; /* it was less than its headers say */
	} else if (module && !group->is_object && mapping->start == module->end &&
		   mapping->executable && !is_helper(mapping) &&
		   has_name(group->build, module, mapping)) {
		module->end = mapping->end;
		add_mapping(group, mapping);
		return true;
	}
	finish_module(group);
	return begin_module(group, mapping);
}

long tm_maps_read(struct tm_module_build *build)
{
	static struct grouping group;
	static struct mapping mapping;
	long result = lines_open();

	if (result < 0)
		return result;
	group.build = build;
	group.module = NULL;
	group.mem = (int)open_proc("/proc/thread-self/mem", "/proc/self/mem");
	while ((result = next_mapping(&mapping)) > 0) {
		if (!group_mapping(&group, &mapping)) {
			result = -TM_EAGAIN;
			break;
		}
	}
	finish_module(&group);
	if (group.mem >= 0)
		sys_close(group.mem);
	lines_close();
	return result;
}
