/*
 * The symbolizer on files whose debug information is damaged.  Changes go into the
 * sections of debug information, now and then anywhere.
 *
 * links: gdb-plugin/native/elf_file.c gdb-plugin/native/error.c
 * and all of gdb-plugin/native/symbolize*.c: see the Makefile
 */
#include "fuzz.h"

#include <elf.h>

#include "elf_file.h"
#include "symbolize.h"

#define BIAS UINT64_C(0x500000000000)
#define ADDRESSES 40u

static void resolve(struct tm_symbolizer *symbolizer, uint64_t address)
{
	const struct tm_frame_name *frames;
	size_t count, length = 0;

	FUZZ_REQUIRE(!tm_symbolizer_resolve(symbolizer, address, &frames, &count));
	for (size_t i = 0; i < count; i++) {
		FUZZ_REQUIRE(frames[i].inlined == (i + 1 < count));
		length += frames[i].file ? strlen(frames[i].file) : 0;
		length += frames[i].function ? strlen(frames[i].function) : 0;
	}
	FUZZ_REQUIRE(length < UINT32_MAX);
}

/* Where code is: of the file as it was, if its program headers are still good. */
static void code_range(const char *path, uint64_t *low, uint64_t *high)
{
	struct tm_elf_info info;

	*low = 0x1000;
	*high = 0x2000;
	if (fuzz_failed(tm_elf_read_info(path, &info)))
		return;
	for (size_t i = 0; i < info.segment_count; i++)
		if (info.segments[i].type == PT_LOAD && info.segments[i].flags & PF_X) {
			*low = info.segments[i].vaddr;
			*high = *low + info.segments[i].memsz;
		}
	tm_elf_info_deinit(&info);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tm_module_description module = {.start = BIAS, .end = 2 * BIAS, .bias = BIAS};
	struct tm_symbolizer *symbolizer;
	uint64_t low, high;

	module.path = fuzz_file(data, size);
	code_range(module.path, &low, &high);
	/* Some as the vDSO is read: from memory. */
	if (size && data[size / 2] % 4 == 0) {
		module.image = data;
		module.image_size = size;
	}
	FUZZ_REQUIRE(!tm_symbolizer_new(NULL, 0, &symbolizer));
	FUZZ_REQUIRE(!tm_symbolizer_add_module(symbolizer, &module));
	for (uint64_t i = 0; i < ADDRESSES; i++)
		resolve(symbolizer, BIAS + low + (high - low) / ADDRESSES * i + i % 3);
	tm_symbolizer_free(symbolizer);
	return 0;
}

/* The bytes of a section of debug information, chosen by the seed; false: there is none. */
static int choose_section(const uint8_t *data, size_t size, unsigned int seed, size_t *ret_at,
			  size_t *ret_length)
{
	Elf64_Ehdr header;
	unsigned int tried;

	if (size < sizeof(header))
		return 0;
	memcpy(&header, data, sizeof(header));
	if (header.e_shoff >= size || header.e_shstrndx >= header.e_shnum ||
	    (size - header.e_shoff) / sizeof(Elf64_Shdr) < header.e_shnum)
		return 0;
	for (tried = 0; tried < header.e_shnum; tried++) {
		size_t index = (seed + tried) % header.e_shnum;
		Elf64_Shdr section;

		memcpy(&section, data + header.e_shoff + index * sizeof(section), sizeof(section));
		/* What is not loaded and no table of symbols or names of sections. */
		if (section.sh_type != SHT_PROGBITS || section.sh_flags & SHF_ALLOC ||
		    !section.sh_size || section.sh_offset >= size ||
		    section.sh_size > size - section.sh_offset)
			continue;
		*ret_at = section.sh_offset;
		*ret_length = section.sh_size;
		return 1;
	}
	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	size_t at, length, changed;

	if (seed % 16 == 0 || !choose_section(data, size, seed >> 4, &at, &length))
		return LLVMFuzzerMutate(data, size, max_size);
	at += (seed >> 12) % length;
	length = length < 24 ? length : 24;
	if (at + length > size)
		length = size - at;
	changed = LLVMFuzzerMutate(data + at, length, length);
	/* What was cut off: the sections behind stay where they are. */
	memset(data + at + changed, 0, length - changed);
	return size;
}
