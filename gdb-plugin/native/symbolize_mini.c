/*
 * .gnu_debugdata, the "mini debug info" of some distributions: an xz-compressed
 * ELF file with the symbols that .dynsym has not.  See symbolize_parts.h.
 *
 * May use: libelf, liblzma.  Must not use: Python, gdb; must not trust any
 * byte of a file.
 */
#include "symbolize_parts.h"

#include <lzma.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BYTES (UINT64_C(256) << 20)  /* unpacked: more is damage */
#define MAX_MEMORY (UINT64_C(256) << 20) /* of the decoder */
#define AT_ONCE 65536u                   /* bytes unpacked between two looks at the user */

Elf_Scn *tm_elf_section(const struct tm_elf *file, const char *wanted, GElf_Shdr *ret)
{
	Elf_Scn *section = NULL;
	size_t names;

	if (!file->elf || elf_getshdrstrndx(file->elf, &names) < 0)
		return NULL;
	while ((section = elf_nextscn(file->elf, section))) {
		const char *name;

		if (!gelf_getshdr(section, ret) || ret->sh_type == SHT_NOBITS)
			continue;
		name = elf_strptr(file->elf, names, ret->sh_name);
		if (name && !strcmp(name, wanted))
			return section;
	}
	return NULL;
}

static bool grow(uint8_t **bytes, size_t *capacity)
{
	size_t bigger = *capacity ? *capacity * 2 : 65536;
	uint8_t *grown = bigger <= MAX_BYTES ? realloc(*bytes, bigger) : NULL;

	if (!grown)
		return false;
	*bytes = grown;
	*capacity = bigger;
	return true;
}

/* The unpacked bytes, or NULL. */
static uint8_t *unpack(const void *packed, size_t packed_size, struct tm_work *work,
		       size_t *ret_size)
{
	lzma_stream stream = LZMA_STREAM_INIT;
	lzma_ret status = LZMA_OK;
	uint8_t *bytes = NULL;
	size_t capacity = 0;

	if (lzma_stream_decoder(&stream, MAX_MEMORY, LZMA_CONCATENATED) != LZMA_OK)
		return NULL;
	stream.next_in = packed;
	stream.avail_in = packed_size;
	while (status == LZMA_OK) {
		size_t used = stream.total_out;

		if (!tm_work_at(work, stream.total_in) ||
		    (used == capacity && !grow(&bytes, &capacity)))
			break;
		stream.next_out = bytes + used;
		stream.avail_out = capacity - used < AT_ONCE ? capacity - used : AT_ONCE;
		status = lzma_code(&stream, LZMA_FINISH);
	}
	*ret_size = stream.total_out;
	lzma_end(&stream);
	if (status == LZMA_STREAM_END)
		return bytes;
	free(bytes);
	return NULL;
}

void tm_object_open_mini(struct tm_object *object)
{
	GElf_Shdr header;
	Elf_Scn *section = tm_elf_section(&object->main, ".gnu_debugdata", &header);
	Elf_Data *data = section ? elf_rawdata(section, NULL) : NULL;
	struct tm_error *error;
	size_t size = 0;

	if (!section)
		return;
	tm_work_begin(object->work, TM_WORK_READING, object->path, data ? data->d_size : 0);
	if (data && data->d_buf)
		object->mini_bytes = unpack(data->d_buf, data->d_size, object->work, &size);
	if (!object->mini_bytes) {
		object->damaged = true;
		return;
	}
	error = tm_elf_open_memory(object->mini_bytes, size, &object->mini);
	if (error)
		object->damaged = true;
	tm_error_free(error);
}
