/*
 * Reading ELF files: see elf_file.h.
 *
 * May use: libelf, error.h.  Must not use: Python, gdb; must not trust any
 * field of a file.
 */
#define _GNU_SOURCE
#include "elf_file.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_SEGMENTS 4096u
#define MAX_STRING 4096u
#define MAX_NOTES (1u << 20)

#define MAX_READ (UINT64_C(64) << 20) /* of a file with debug info; a larger one is mapped */

/* Files that are no larger than `limit` are read, not mapped. */
static struct tm_error *open_elf(const char *path, uint64_t limit, struct tm_elf *ret)
{
	struct stat status;

	*ret = (struct tm_elf){.fd = -1, .path = path};
	if (elf_version(EV_CURRENT) == EV_NONE)
		return tm_error_new(TM_ERROR_INPUT, "libelf is too old: %s", elf_errmsg(-1));
	/* A path from a process's maps may name anything: never wait for a FIFO. */
	ret->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (ret->fd < 0)
		return tm_error_new(TM_ERROR_INPUT, "cannot open %s: %s", path, strerror(errno));
	if (fstat(ret->fd, &status) < 0 || !S_ISREG(status.st_mode)) {
		tm_elf_close(ret);
		return tm_error_new(TM_ERROR_INPUT, "%s is not a regular file", path);
	}
	ret->file_size = (uint64_t)status.st_size;
	ret->elf = elf_begin(ret->fd, ret->file_size <= limit ? ELF_C_READ : ELF_C_READ_MMAP, NULL);
	if (!ret->elf || elf_kind(ret->elf) != ELF_K_ELF) {
		tm_elf_close(ret);
		return tm_error_new(TM_ERROR_INPUT, "%s is not an ELF file", path);
	}
	return NULL;
}

struct tm_error *tm_elf_open(const char *path, struct tm_elf *ret)
{
	/* Not by mmap: a file that shrinks under us must not raise SIGBUS. */
	return open_elf(path, UINT64_MAX, ret);
}

struct tm_error *tm_elf_open_debug(const char *path, struct tm_elf *ret)
{
	return open_elf(path, MAX_READ, ret);
}

struct tm_error *tm_elf_open_memory(void *bytes, size_t size, struct tm_elf *ret)
{
	*ret = (struct tm_elf){.fd = -1, .path = "an object in memory", .file_size = size};
	if (elf_version(EV_CURRENT) != EV_NONE)
		ret->elf = elf_memory(bytes, size);
	if (!ret->elf || elf_kind(ret->elf) != ELF_K_ELF) {
		tm_elf_close(ret);
		return tm_error_new(TM_ERROR_INPUT, "%s is not an ELF file", ret->path);
	}
	return NULL;
}

void tm_elf_close(struct tm_elf *file)
{
	if (file->elf)
		elf_end(file->elf);
	if (file->fd >= 0)
		close(file->fd);
	file->elf = NULL;
	file->fd = -1;
}

struct tm_error *tm_elf_read_at(const struct tm_elf *file, uint64_t offset, void *bytes,
				size_t size)
{
	size_t done = 0;

	if (offset > file->file_size || size > file->file_size - offset)
		return tm_error_new(TM_ERROR_INPUT, "%s is truncated", file->path);
	while (done < size) {
		ssize_t got =
			pread(file->fd, (char *)bytes + done, size - done, (off_t)(offset + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return tm_error_new(TM_ERROR_INPUT, "cannot read %s: %s", file->path,
					    strerror(errno));
		if (got == 0)
			return tm_error_new(TM_ERROR_INPUT, "%s is truncated", file->path);
		done += (size_t)got;
	}
	return NULL;
}

static uint32_t read_u32(const uint8_t *bytes)
{
	uint32_t value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

void tm_elf_find_build_id(const void *notes, size_t size, size_t alignment, uint8_t *ret,
			  size_t *ret_size)
{
	const uint8_t *bytes = notes;
	size_t at = 0;

	if (alignment != 8)
		alignment = 4;
	while (at <= size && size - at >= 12) {
		uint64_t name_size = read_u32(bytes + at);
		uint64_t data_size = read_u32(bytes + at + 4);
		uint32_t type = read_u32(bytes + at + 8);
		uint64_t data = (12 + name_size + alignment - 1) & ~(uint64_t)(alignment - 1);
		uint64_t end = (data + data_size + alignment - 1) & ~(uint64_t)(alignment - 1);

		if (data > size - at || data_size > size - at - data)
			return;
		if (type == NT_GNU_BUILD_ID && name_size == 4 && data_size > 0 &&
		    data_size <= TM_BUILD_ID_MAX && !memcmp(bytes + at + 12, "GNU", 4)) {
			memcpy(ret, bytes + at + data, data_size);
			*ret_size = data_size;
			return;
		}
		at += end;
	}
}

/* File offset of a virtual address, as far as its segment has bytes in the file. */
static bool file_offset(const struct tm_elf_info *info, uint64_t vaddr, uint64_t *ret_offset,
			uint64_t *ret_available)
{
	for (size_t i = 0; i < info->segment_count; i++) {
		const struct tm_elf_segment *segment = &info->segments[i];

		if (segment->type != PT_LOAD || vaddr < segment->vaddr ||
		    vaddr - segment->vaddr >= segment->filesz)
			continue;
		*ret_offset = segment->offset + (vaddr - segment->vaddr);
		*ret_available = segment->filesz - (vaddr - segment->vaddr);
		return true;
	}
	return false;
}

static struct tm_error *read_string(const struct tm_elf *file, uint64_t offset, uint64_t available,
				    char **ret)
{
	char buffer[MAX_STRING];
	size_t size = sizeof(buffer);
	struct tm_error *error;

	if (offset > file->file_size)
		return tm_error_new(TM_ERROR_INPUT, "%s is truncated", file->path);
	if (size > available)
		size = available;
	if (size > file->file_size - offset)
		size = file->file_size - offset;
	error = tm_elf_read_at(file, offset, buffer, size);
	if (error)
		return error;
	if (!memchr(buffer, 0, size))
		return tm_error_new(TM_ERROR_INPUT, "%s has a string that does not end",
				    file->path);
	*ret = strdup(buffer);
	return *ret ? NULL : tm_error_no_memory();
}

static struct tm_error *read_soname(const struct tm_elf *file, const struct tm_elf_segment *dynamic,
				    struct tm_elf_info *ret)
{
	size_t entry = ret->is_64 ? sizeof(Elf64_Dyn) : sizeof(Elf32_Dyn);
	size_t size = dynamic->filesz < MAX_NOTES ? dynamic->filesz : MAX_NOTES;
	uint64_t soname = 0, strings = 0, offset, available;
	bool has_soname = false, has_strings = false;
	struct tm_error *error;
	uint8_t *bytes;

	if (size < entry)
		return NULL;
	bytes = malloc(size);
	if (!bytes)
		return tm_error_no_memory();
	error = tm_elf_read_at(file, dynamic->offset, bytes, size);
	for (size_t at = 0; !error && size - at >= entry; at += entry) {
		uint64_t tag, value;

		if (ret->is_64) {
			memcpy(&tag, bytes + at, 8);
			memcpy(&value, bytes + at + 8, 8);
		} else {
			tag = read_u32(bytes + at);
			value = read_u32(bytes + at + 4);
		}
		if (tag == DT_NULL)
			break;
		if (tag == DT_SONAME) {
			soname = value;
			has_soname = true;
		} else if (tag == DT_STRTAB) {
			strings = value;
			has_strings = true;
		}
	}
	free(bytes);
	if (error || !has_soname || !has_strings)
		return error;
	/* A separate debug file keeps the header of .dynamic without its bytes. */
	if (!file_offset(ret, strings, &offset, &available) || soname >= available)
		return NULL;
	return read_string(file, offset + soname, available - soname, &ret->soname);
}

static struct tm_error *read_build_id(const struct tm_elf *file, const struct tm_elf_segment *note,
				      size_t alignment, struct tm_elf_info *ret)
{
	struct tm_error *error;
	uint8_t *bytes;

	if (note->filesz > MAX_NOTES || note->filesz == 0)
		return NULL;
	bytes = malloc(note->filesz);
	if (!bytes)
		return tm_error_no_memory();
	error = tm_elf_read_at(file, note->offset, bytes, note->filesz);
	if (!error)
		tm_elf_find_build_id(bytes, note->filesz, alignment, ret->build_id,
				     &ret->build_id_size);
	free(bytes);
	return error;
}

static struct tm_error *read_info(const struct tm_elf *file, struct tm_elf_info *ret)
{
	struct tm_error *error = NULL;
	GElf_Ehdr header;
	size_t count;

	if (!gelf_getehdr(file->elf, &header) || elf_getphdrnum(file->elf, &count) < 0)
		return tm_error_new(TM_ERROR_INPUT, "%s has a damaged ELF header: %s", file->path,
				    elf_errmsg(-1));
	if (header.e_ident[EI_DATA] != ELFDATA2LSB)
		return tm_error_new(TM_ERROR_INPUT, "%s is not little-endian", file->path);
	if (count > MAX_SEGMENTS)
		return tm_error_new(TM_ERROR_INPUT, "%s has %zu program headers; %u is the most",
				    file->path, count, MAX_SEGMENTS);
	ret->is_64 = header.e_ident[EI_CLASS] == ELFCLASS64;
	ret->entry = header.e_entry;
	ret->machine = header.e_machine;
	ret->type = header.e_type;
	ret->segments = calloc(count ? count : 1, sizeof(*ret->segments));
	if (!ret->segments)
		return tm_error_no_memory();
	for (size_t i = 0; i < count; i++) {
		GElf_Phdr program;

		if (!gelf_getphdr(file->elf, (int)i, &program))
			return tm_error_new(TM_ERROR_INPUT, "%s is truncated", file->path);
		ret->segments[ret->segment_count++] = (struct tm_elf_segment){
			.type = program.p_type,
			.flags = program.p_flags,
			.vaddr = program.p_vaddr,
			.offset = program.p_offset,
			.filesz = program.p_filesz,
			.memsz = program.p_memsz,
		};
		if (program.p_type == PT_NOTE && ret->build_id_size == 0 &&
		    header.e_type != ET_CORE)
			error = read_build_id(file, &ret->segments[i], program.p_align, ret);
		if (error)
			return error;
	}
	for (size_t i = 0; i < count && !error; i++) {
		const struct tm_elf_segment *segment = &ret->segments[i];

		if (segment->type == PT_INTERP && !ret->interp)
			error = read_string(file, segment->offset, segment->filesz, &ret->interp);
		else if (segment->type == PT_DYNAMIC && !ret->soname)
			error = read_soname(file, segment, ret);
	}
	return error;
}

struct tm_error *tm_elf_read_info(const char *path, struct tm_elf_info *ret)
{
	struct tm_elf file;
	struct tm_error *error;

	*ret = (struct tm_elf_info){0};
	error = tm_elf_open(path, &file);
	if (error)
		return error;
	error = read_info(&file, ret);
	tm_elf_close(&file);
	if (error)
		tm_elf_info_deinit(ret);
	return error;
}

void tm_elf_info_deinit(struct tm_elf_info *info)
{
	free(info->segments);
	free(info->soname);
	free(info->interp);
	*info = (struct tm_elf_info){0};
}
