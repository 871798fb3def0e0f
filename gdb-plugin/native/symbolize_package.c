/*
 * Packages of split debug information (.dwp): see symbolize_parts.h.  libdw
 * reads them from version 0.192 on; for older ones the parts of a unit are
 * written to two small files in memory, as the .dwo file that went into the
 * package and as a skeleton that names it, and libdw joins these as any others.
 *
 * May use: libdw, libelf.  Must not use: Python, gdb; must not trust any byte
 * of a file.
 */
#define _GNU_SOURCE
#include "symbolize_parts.h"

#include <dwarf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct bytes {
	const uint8_t *start; /* NULL: there are none */
	size_t size;
};

/* Sections that a package divides among its units: DWARF 5, table 7.1; some of them. */
enum section {
	SECTION_INFO = 1,
	SECTION_ABBREVIATIONS = 3,
	SECTION_LINES = 4,
	SECTION_STRING_OFFSETS = 6,
	SECTION_RANGES = 8,
	SECTIONS
};

static const char *const section_names[SECTIONS] = {
	[SECTION_INFO] = ".debug_info.dwo",
	[SECTION_ABBREVIATIONS] = ".debug_abbrev.dwo",
	[SECTION_LINES] = ".debug_line.dwo",
	[SECTION_STRING_OFFSETS] = ".debug_str_offsets.dwo",
	[SECTION_RANGES] = ".debug_rnglists.dwo",
};

/* A skeleton in memory; libdw has its split unit belong to it. */
struct skeleton {
	Elf *elf;
	Dwarf *dwarf;
};

struct tm_package {
	struct bytes index;
	struct bytes strings;
	struct bytes sections[SECTIONS];
	struct skeleton *skeletons;
	size_t skeleton_count;
};

static uint32_t read32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint64_t read64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static struct bytes read_section(Elf *elf, const char *name)
{
	const struct tm_elf file = {.elf = elf};
	struct bytes bytes = {0};
	Elf_Data *data = NULL;
	GElf_Shdr header;
	Elf_Scn *section;

	section = tm_elf_section(&file, name, &header);
	if (section && (!(header.sh_flags & SHF_COMPRESSED) || elf_compress(section, 0, 0) >= 0))
		data = elf_rawdata(section, NULL);
	if (data && data->d_buf)
		bytes = (struct bytes){data->d_buf, data->d_size};
	return bytes;
}

static bool open_package(struct tm_object *object)
{
	struct tm_package *package = calloc(1, sizeof(*package));
	Elf *elf = object->package_file.elf;

	if (!package)
		return false;
	package->index = read_section(elf, ".debug_cu_index");
	package->strings = read_section(elf, ".debug_str.dwo");
	/* Each string ends within them. */
	while (package->strings.size && package->strings.start[package->strings.size - 1])
		package->strings.size--;
	for (size_t i = 0; i < SECTIONS; i++)
		if (section_names[i])
			package->sections[i] = read_section(elf, section_names[i]);
	object->package = package;
	return true;
}

/* ---- the index: DWARF 5, 7.3.5.3 -------------------------------------- */

#define GNU_INDEX 2u /* the version of it that came before DWARF 5 */
#define INDEX_HEADER 16u

/* What a unit has of each section; missing ones are empty. */
struct parts {
	struct bytes of[SECTIONS];
};

/* In a table of `columns` for each of `units`: where the parts start, then their lengths. */
static bool read_row(const struct tm_package *package, const uint8_t *table, uint32_t version,
		     uint32_t columns, uint32_t units, uint32_t row, struct parts *ret)
{
	const uint8_t *starts = table + 4 * (size_t)columns * row;
	const uint8_t *lengths = starts + 4 * (size_t)columns * units;

	for (size_t i = 0; i < columns; i++) {
		uint32_t section = read32(table + 4 * i);
		uint32_t start = read32(starts + 4 * i), length = read32(lengths + 4 * i);

		if (section >= SECTIONS || !section_names[section] ||
		    (section == SECTION_RANGES && version == GNU_INDEX))
			continue;
		if (start > package->sections[section].size ||
		    length > package->sections[section].size - start)
			return false;
		if (length)
			ret->of[section] =
				(struct bytes){package->sections[section].start + start, length};
	}
	return ret->of[SECTION_INFO].start && ret->of[SECTION_ABBREVIATIONS].start;
}

/* False when there is no such unit, or at damage. */
static bool find_parts(const struct tm_package *package, uint64_t id, bool *damaged,
		       struct parts *ret)
{
	const uint8_t *ids = package->index.start + INDEX_HEADER, *rows, *table;
	uint32_t version, columns, units, slots, slot, step;

	*damaged = true;
	if (package->index.size < INDEX_HEADER)
		return false;
	version = read32(package->index.start); /* or 16 bits, and 16 of padding */
	columns = read32(package->index.start + 4);
	units = read32(package->index.start + 8);
	slots = read32(package->index.start + 12);
	if ((version != GNU_INDEX && version != 5) || columns > 64 || (slots & (slots - 1)) ||
	    package->index.size - INDEX_HEADER <
		    (uint64_t)slots * 12 + ((uint64_t)units * 2 + 1) * columns * 4)
		return false;
	rows = ids + 8 * (size_t)slots;
	table = rows + 4 * (size_t)slots;
	slot = (uint32_t)id & (slots - 1);
	step = ((uint32_t)(id >> 32) & (slots - 1)) | 1;
	for (uint32_t i = 0; i < slots; i++, slot = (slot + step) & (slots - 1)) {
		uint32_t row = read32(rows + 4 * (size_t)slot);

		if (!row)
			break;
		if (read64(ids + 8 * (size_t)slot) == id) {
			*damaged = row > units ||
				   !read_row(package, table, version, columns, units, row, ret);
			return !*damaged;
		}
	}
	*damaged = false;
	return false;
}

/* ---- strings ---------------------------------------------------------- */

/* The strings of a unit alone: those of the whole package can be a thousand times as many. */
struct strings {
	uint8_t *offsets;
	uint8_t *text;
	size_t text_size;
};

static void strings_deinit(struct strings *strings)
{
	free(strings->offsets);
	free(strings->text);
}

/* Of the string that an entry leads to, with its end; 0 when it leads nowhere. */
static size_t string_size(struct bytes all, const uint8_t *entry)
{
	uint32_t offset = read32(entry);
	const uint8_t *end = NULL;

	if (offset < all.size)
		end = memchr(all.start + offset, 0, all.size - offset);
	return end ? (size_t)(end + 1 - (all.start + offset)) : 0;
}

/* `header` bytes come before the entries. */
static bool take_strings(struct bytes all, struct bytes offsets, size_t header, struct strings *ret,
			 bool *damaged)
{
	size_t size = 0;

	for (size_t at = header; at + 4 <= offsets.size; at += 4) {
		size_t length = string_size(all, offsets.start + at);

		if (!length)
			*damaged = true;
		size += length;
		if (size > all.size) { /* a unit has each string once */
			*damaged = true;
			return false;
		}
	}
	ret->offsets = malloc(offsets.size ? offsets.size : 1);
	ret->text = malloc(size ? size : 1);
	if (!ret->offsets || !ret->text)
		return false;
	if (offsets.size)
		memcpy(ret->offsets, offsets.start, offsets.size);
	for (size_t at = header; at + 4 <= offsets.size; at += 4) {
		size_t length = string_size(all, offsets.start + at);
		uint32_t offset = length ? (uint32_t)ret->text_size : UINT32_MAX;

		if (length)
			memcpy(ret->text + ret->text_size, all.start + read32(offsets.start + at),
			       length);
		memcpy(ret->offsets + at, &offset, sizeof(offset));
		ret->text_size += length;
	}
	return true;
}

/* ---- files in memory -------------------------------------------------- */

#define MAX_SECTIONS 8u

struct new_section {
	const char *name;
	struct bytes bytes;
};

static bool add_section(Elf *elf, uint32_t type, size_t name, struct bytes bytes)
{
	Elf_Scn *section = elf_newscn(elf);
	Elf_Data *data = section ? elf_newdata(section) : NULL;
	GElf_Shdr header;

	if (!data || !gelf_getshdr(section, &header))
		return false;
	data->d_buf = (void *)bytes.start;
	data->d_size = bytes.size;
	data->d_align = 1;
	header.sh_type = type;
	header.sh_name = (uint32_t)name;
	return gelf_update_shdr(section, &header);
}

static bool write_sections(Elf *elf, const struct new_section *sections, size_t count)
{
	char names[MAX_SECTIONS * 32] = "", own[] = ".shstrtab";
	size_t used = sizeof(own) + 1;
	GElf_Ehdr header;

	memcpy(names + 1, own, sizeof(own));
	if (!gelf_newehdr(elf, ELFCLASS64) || !gelf_getehdr(elf, &header))
		return false;
	if (!add_section(elf, SHT_STRTAB, 1, (struct bytes){(uint8_t *)names, sizeof(names)}))
		return false;
	for (size_t i = 0; i < count; i++) {
		size_t length = strlen(sections[i].name) + 1;

		if (!sections[i].bytes.size)
			continue;
		memcpy(names + used, sections[i].name, length);
		if (!add_section(elf, SHT_PROGBITS, used, sections[i].bytes))
			return false;
		used += length;
	}
	header.e_ident[EI_DATA] = ELFDATA2LSB;
	header.e_type = ET_REL;
	header.e_machine = EM_X86_64;
	header.e_version = EV_CURRENT;
	header.e_shstrndx = 1;
	return gelf_update_ehdr(elf, &header) && elf_update(elf, ELF_C_WRITE) >= 0;
}

/* A descriptor of an ELF file with these sections; < 0 when the system refuses it. */
static int write_file(const struct new_section *sections, size_t count)
{
	int fd = memfd_create("tm-split", MFD_CLOEXEC);
	Elf *elf = fd < 0 ? NULL : elf_begin(fd, ELF_C_WRITE, NULL);
	bool written = elf && write_sections(elf, sections, count);

	elf_end(elf);
	if (written || fd < 0)
		return fd;
	close(fd);
	return -1;
}

/* ---- skeletons -------------------------------------------------------- */

/* The bytes of a section of the object from where a unit's start, as far as to another's. */
static struct bytes part_of_skeleton(Dwarf *dwarf, Dwarf_Die *skeleton, const char *name,
				     unsigned int base_attribute, size_t header)
{
	struct bytes bytes = read_section(dwarf_getelf(dwarf), name);
	Dwarf_Word base = 0, other, end = bytes.size;
	Dwarf_Attribute attribute;
	Dwarf_CU *cu = NULL;
	Dwarf_Die die;

	if (dwarf_formudata(dwarf_attr(skeleton, base_attribute, &attribute), &base) != 0)
		base = header;
	if (!bytes.start || base < header || base > bytes.size)
		return (struct bytes){0};
	while (dwarf_get_units(dwarf, cu, &cu, NULL, NULL, &die, NULL) == 0)
		if (dwarf_formudata(dwarf_attr(&die, base_attribute, &attribute), &other) == 0 &&
		    other > base && other < end)
			end = other;
	return (struct bytes){bytes.start + base - header, end - (base - header)};
}

struct writer {
	uint8_t bytes[128];
	size_t size;
};

static void put(struct writer *writer, uint64_t value, size_t size)
{
	memcpy(writer->bytes + writer->size, &value, size);
	writer->size += size;
}

static void put_attribute(struct writer *writer, unsigned int name, unsigned int form)
{
	if (name >= 0x80)
		put(writer, (name & 0x7f) | 0x80, 1);
	put(writer, name >= 0x80 ? name >> 7 : name, 1);
	put(writer, form, 1);
}

#define ADDRESS_HEADER 8u /* of the addresses of a unit: DWARF 5, 7.27 */

static int write_skeleton(Dwarf *dwarf, Dwarf_Die *from, unsigned int version, uint64_t id,
			  const char *split)
{
	unsigned int addr_base = version < 5 ? DW_AT_GNU_addr_base : DW_AT_addr_base;
	size_t header = version < 5 ? 0 : ADDRESS_HEADER, length = strlen(split) + 1;
	struct writer unit = {.size = 4}, abbreviations = {0};
	struct new_section sections[] = {
		{".debug_info", {unit.bytes, 0}},
		{".debug_abbrev", {abbreviations.bytes, 0}},
		{".debug_addr", part_of_skeleton(dwarf, from, ".debug_addr", addr_base, header)},
		{".debug_ranges", {0}}, /* later versions have them in the package */
	};
	Dwarf_Addr low;
	uint32_t size;

	if (version < 5)
		sections[3].bytes =
			part_of_skeleton(dwarf, from, ".debug_ranges", DW_AT_GNU_ranges_base, 0);
	if (dwarf_lowpc(from, &low) != 0)
		low = 0;
	put_attribute(&abbreviations, 1, version < 5 ? DW_TAG_compile_unit : DW_TAG_skeleton_unit);
	put(&abbreviations, DW_CHILDREN_no, 1);
	put_attribute(&abbreviations, DW_AT_low_pc, DW_FORM_addr);
	put_attribute(&abbreviations, addr_base, DW_FORM_sec_offset);
	if (version < 5)
		put_attribute(&abbreviations, DW_AT_GNU_dwo_id, DW_FORM_data8);
	put_attribute(&abbreviations, version < 5 ? DW_AT_GNU_dwo_name : DW_AT_dwo_name,
		      DW_FORM_string);
	put(&abbreviations, 0, 3); /* the end of the attributes, and of all */

	put(&unit, version < 5 ? 4 : 5, 2);
	if (version >= 5) {
		put(&unit, DW_UT_skeleton, 1);
		put(&unit, 8, 1); /* bytes of an address */
	}
	put(&unit, 0, 4); /* where the abbreviations are */
	put(&unit, version < 5 ? 8 : id, version < 5 ? 1 : 8);
	put(&unit, 1, 1); /* the abbreviation */
	put(&unit, low, 8);
	put(&unit, header, 4);
	if (version < 5)
		put(&unit, id, 8);
	memcpy(unit.bytes + unit.size, split, length);
	unit.size += length;
	size = (uint32_t)unit.size - 4;
	memcpy(unit.bytes, &size, sizeof(size));
	sections[0].bytes.size = unit.size;
	sections[1].bytes.size = abbreviations.size;
	return write_file(sections, sizeof(sections) / sizeof(*sections));
}

static int write_split(const struct tm_package *package, const struct parts *parts,
		       unsigned int version, bool *damaged)
{
	struct bytes offsets = parts->of[SECTION_STRING_OFFSETS];
	struct strings strings = {0};
	int fd = -1;

	if (take_strings(package->strings, offsets, version < 5 ? 0 : 8, &strings, damaged)) {
		const struct new_section sections[] = {
			{section_names[SECTION_INFO], parts->of[SECTION_INFO]},
			{section_names[SECTION_ABBREVIATIONS], parts->of[SECTION_ABBREVIATIONS]},
			{section_names[SECTION_LINES], parts->of[SECTION_LINES]},
			{section_names[SECTION_RANGES], parts->of[SECTION_RANGES]},
			{section_names[SECTION_STRING_OFFSETS], {strings.offsets, offsets.size}},
			{".debug_str.dwo", {strings.text, strings.text_size}},
		};

		fd = write_file(sections, sizeof(sections) / sizeof(*sections));
	}
	strings_deinit(&strings);
	return fd;
}

/* Opens a skeleton while the file that it names is there; libdw keeps what it read. */
static bool join(struct tm_package *package, int fd, Dwarf_Die *ret)
{
	struct skeleton *skeletons =
		realloc(package->skeletons, (package->skeleton_count + 1) * sizeof(*skeletons));
	struct skeleton *skeleton;
	Dwarf_Die die, split = {0};
	Dwarf_CU *cu;

	if (!skeletons)
		return false;
	package->skeletons = skeletons;
	skeleton = &skeletons[package->skeleton_count++];
	*skeleton = (struct skeleton){.elf = elf_begin(fd, ELF_C_READ, NULL)};
	if (skeleton->elf)
		skeleton->dwarf = dwarf_begin_elf(skeleton->elf, DWARF_C_READ, NULL);
	if (!skeleton->dwarf ||
	    dwarf_get_units(skeleton->dwarf, NULL, &cu, NULL, NULL, &die, &split) != 0)
		return false;
	elf_cntl(skeleton->elf, ELF_C_FDDONE);
	if (!split.addr || !tm_unit_texts_end(&split))
		return false;
	*ret = split;
	return true;
}

bool tm_object_packaged_unit(struct tm_object *object, Dwarf_Die *skeleton, Dwarf_Die *ret)
{
	char name[32];
	struct parts parts = {0};
	Dwarf_Half version;
	uint64_t id;
	bool damaged = false, found = false;
	int split, fd;

	if (!object->package_file.elf || (!object->package && !open_package(object)) ||
	    dwarf_cu_info(skeleton->cu, &version, NULL, NULL, NULL, &id, NULL, NULL) != 0)
		return false;
	split = -1;
	if (find_parts(object->package, id, &damaged, &parts))
		split = write_split(object->package, &parts, version, &damaged);
	if (split >= 0) {
		snprintf(name, sizeof(name), "/proc/self/fd/%d", split);
		fd = write_skeleton(object->dwarf, skeleton, version, id, name);
		found = fd >= 0 && join(object->package, fd, ret);
		damaged |= !found;
		if (fd >= 0)
			close(fd);
		close(split);
	}
	object->damaged |= damaged;
	return found;
}

void tm_object_package_deinit(struct tm_object *object)
{
	struct tm_package *package = object->package;

	for (size_t i = 0; package && i < package->skeleton_count; i++) {
		dwarf_end(package->skeletons[i].dwarf);
		elf_end(package->skeletons[i].elf);
	}
	if (package)
		free(package->skeletons);
	free(package);
	object->package = NULL;
}
