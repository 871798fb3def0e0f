/*
 * What a mapped object's own headers tell: its span, call frame rows, build-id.
 *
 * Raw system calls; its buffers are static, under the modules lock.  Headers are
 * read through /proc/self/mem, so that a mapping that goes in the meantime is an
 * error and not a fault.
 */
#include "modules.h"
#include "sys.h"
#include "track.h"
#include "unwind.h"

static uint8_t page[TM_PAGE];       /* the first page of an object … */
static uint8_t other_page[TM_PAGE]; /* … and what is not in it */

#define ELF_IDENT UINT64_C(0x00010102464c457f) /* class 64, little endian, version 1 */
#define ELF_IDENT_MASK UINT64_C(0x00ffffffffffffff)
#define ELF_TYPE_EXEC 2
#define ELF_TYPE_DYN 3
#define ELF_MACHINE_X86_64 62
#define ELF_LOAD 1u
#define ELF_DYNAMIC 2u
#define ELF_INTERPRETER 3u
#define ELF_NOTE 4u
#define ELF_GNU_EH_FRAME 0x6474e550u
#define ELF_NOTE_BUILD_ID 3u
#define ELF_TAG_DEBUG 21u /* DT_DEBUG: where the loader keeps its struct r_debug */

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

bool tm_object_peek(int mem, uint64_t address, void *ret, uint64_t size)
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
	else if (!tm_object_peek(mem, address, other_page, size))
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

bool tm_object_tell_eh_frame(uint64_t object, uint64_t eh_frame)
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

/* The loader fills in DT_DEBUG of the executable, before it gives any notice. */
static TM_NOINLINE void read_dynamic(int mem, uint64_t address, uint64_t size)
{
	uint64_t at;

	if (size > sizeof(other_page))
		size = sizeof(other_page);
	if (!tm_object_peek(mem, address, other_page, size))
		return;
	for (at = 0; at + 16 <= size; at += 16) {
		uint64_t entry = (uint64_t)&other_page[at];

		if (tm_stack_word(entry) == ELF_TAG_DEBUG)
			tm_links_found(tm_stack_word(entry + 8));
	}
}

TM_NOINLINE bool tm_object_read(int mem, struct tm_module *module)
{
	const struct elf_header *header = (const struct elf_header *)page;
	uint64_t low = ~UINT64_C(0), high = 0, phoff;
	uint64_t dynamic = 0, dynamic_size = 0;
	uint32_t i, count, note_count = 0;
	bool interpreter = false;

	if (!tm_object_peek(mem, module->start, page, sizeof(page)) ||
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
		} else if (segment->type == ELF_DYNAMIC) {
			dynamic = segment->vaddr;
			dynamic_size = segment->memsz;
		} else if (segment->type == ELF_INTERPRETER) {
			interpreter = true;
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
	if (interpreter && dynamic_size && !tm_links_known())
		read_dynamic(mem, module->bias + dynamic, dynamic_size);
	return true;
}
