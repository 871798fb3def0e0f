/*
 * Texts in debug information, which libdw (before 0.189) hands out without a look
 * at where they end: see symbolize_parts.h.
 *
 * May use: libdw, libelf.  Must not use: Python, gdb.
 */
#include "symbolize_parts.h"

#include <dwarf.h>
#include <string.h>

/* ".debug_str" is called so, and compressed or split ".zdebug_str", ".debug_str.dwo". */
static bool is_called(const char *name, const char *wanted)
{
	size_t length = strlen(wanted);

	if (*name++ != '.')
		return false;
	name += *name == 'z';
	return !strncmp(name, wanted, length) && (!name[length] || !strcmp(name + length, ".dwo"));
}

/* The bytes of the next section that has one of these names, or NULL. */
static Elf_Data *next_data(Elf *elf, const char *const *wanted, Elf_Scn **section)
{
	size_t names;

	if (elf_getshdrstrndx(elf, &names) < 0)
		return NULL;
	while ((*section = elf_nextscn(elf, *section))) {
		GElf_Shdr header;
		const char *name = NULL;
		Elf_Data *data;

		if (gelf_getshdr(*section, &header) && header.sh_type != SHT_NOBITS)
			name = elf_strptr(elf, names, header.sh_name);
		for (size_t i = 0; name && wanted[i]; i++) {
			data = is_called(name, wanted[i]) ? elf_getdata(*section, NULL) : NULL;
			if (data && data->d_buf && data->d_size)
				return data;
		}
	}
	return NULL;
}

bool tm_texts_end(Dwarf *dwarf)
{
	static const char *const wanted[] = {"debug_str", "debug_line_str", NULL};
	Elf_Scn *section = NULL;
	Elf_Data *data;

	while ((data = next_data(dwarf_getelf(dwarf), wanted, &section)))
		if (((const char *)data->d_buf)[data->d_size - 1])
			return false;
	return true;
}

static bool ends_in_its_section(Dwarf *dwarf, const char *text)
{
	static const char *const wanted[] = {"debug_info", "debug_str", "debug_types", NULL};
	Elf_Scn *section = NULL;
	Elf_Data *data;

	while ((data = next_data(dwarf_getelf(dwarf), wanted, &section))) {
		uintptr_t at = (uintptr_t)text - (uintptr_t)data->d_buf;

		if (at < data->d_size)
			return memchr(text, 0, data->d_size - at) != NULL;
	}
	return false;
}

const char *tm_attribute_text(Dwarf_Attribute *attribute)
{
	const char *text = dwarf_formstring(attribute);

	if (!text)
		return NULL;
	switch (dwarf_whatform(attribute)) {
	case DW_FORM_strp:
	case DW_FORM_strp_sup:
	case DW_FORM_line_strp:
	case DW_FORM_GNU_strp_alt:
		return text; /* libdw checks where it begins, and tm_texts_end() did the rest */
	default:
		return ends_in_its_section(dwarf_cu_getdwarf(attribute->cu), text) ? text : NULL;
	}
}

bool tm_unit_texts_end(Dwarf_Die *unit)
{
	static const unsigned int names[] = {DW_AT_comp_dir, DW_AT_dwo_name, DW_AT_GNU_dwo_name};
	Dwarf_Attribute attribute;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (dwarf_attr(unit, names[i], &attribute) && !tm_attribute_text(&attribute))
			return false;
	return true;
}
