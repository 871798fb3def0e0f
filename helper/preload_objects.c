/*
 * The loader's objects, as libtm-preload.so sees them: preload_objects.h.
 *
 * Parts of this run inside the loader and inside malloc.  They may use: the
 * loader's list of objects, system calls that loaders make themselves, functions
 * of libc that do not allocate.  Must never allocate or wait.
 */
#include <errno.h>
#include <link.h>
#include <linux/futex.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload_objects.h"

#define PAGE 4096u
#define SYMBOL_HIDDEN 0x8000u /* in .gnu.version: not the default version */

static bool is_this_library(const struct dl_phdr_info *object)
{
	return object->dlpi_addr == (uint64_t)__ehdr_start;
}

/* The tables of one object, from its dynamic section (System V ABI, chapter 5). */
struct tables {
	const ElfW(Sym) * symbols;
	const char *strings;
	const uint32_t *gnu_hash;
	const uint16_t *versions;
	const ElfW(Rela) * relocations[2]; /* DT_RELA, DT_JMPREL */
	uint64_t sizes[2];                 /* bytes */
	uint64_t relative;                 /* so many of DT_RELA, its first, name no symbol */
};

static struct tables read_tables(const struct dl_phdr_info *object)
{
	struct tables result = {0};
	const ElfW(Dyn) *entry = NULL;
	int i;

	for (i = 0; i < object->dlpi_phnum; i++)
		if (object->dlpi_phdr[i].p_type == PT_DYNAMIC)
			entry = (const ElfW(Dyn) *)(object->dlpi_addr +
						    object->dlpi_phdr[i].p_vaddr);
	for (; entry && entry->d_tag != DT_NULL; entry++) {
		uint64_t value = entry->d_un.d_val, address = value;

		/* The loader relocates these, but where the section cannot be written. */
		if (address < object->dlpi_addr)
			address += object->dlpi_addr;
		if (entry->d_tag == DT_SYMTAB)
			result.symbols = (const ElfW(Sym) *)address;
		else if (entry->d_tag == DT_STRTAB)
			result.strings = (const char *)address;
		else if (entry->d_tag == DT_GNU_HASH)
			result.gnu_hash = (const uint32_t *)address;
		else if (entry->d_tag == DT_VERSYM)
			result.versions = (const uint16_t *)address;
		else if (entry->d_tag == DT_RELA)
			result.relocations[0] = (const ElfW(Rela) *)address;
		else if (entry->d_tag == DT_RELASZ)
			result.sizes[0] = value;
		else if (entry->d_tag == DT_RELACOUNT)
			result.relative = value;
		else if (entry->d_tag == DT_JMPREL)
			result.relocations[1] = (const ElfW(Rela) *)address;
		else if (entry->d_tag == DT_PLTRELSZ)
			result.sizes[1] = value;
	}
	return result;
}

/* ---- finding functions --------------------------------------------------- */

/* A search through the loader's objects, in their order. */
struct search {
	const char *name;
	uint64_t found;
	const char *path; /* of the object that has it */
	bool passed;      /* this library: as with RTLD_NEXT what comes before it does not count */
};

static bool is_function(const struct tables *tables, uint32_t index, const char *name)
{
	const ElfW(Sym) *symbol = &tables->symbols[index];

	return symbol->st_shndx != SHN_UNDEF && ELF64_ST_TYPE(symbol->st_info) == STT_FUNC &&
	       !(tables->versions && tables->versions[index] & SYMBOL_HIDDEN) &&
	       !strcmp(tables->strings + symbol->st_name, name);
}

/* The index of a function by the GNU hash table, 0 when it is not there. */
static uint32_t find_symbol(const struct tables *tables, const char *name)
{
	const uint32_t *table = tables->gnu_hash;
	uint32_t bucket_count = table[0], first = table[1], bloom_words = table[2];
	const uint32_t *buckets = table + 4 + bloom_words * 2;
	const uint32_t *chain = buckets + bucket_count;
	uint32_t hash = 5381, index;
	const char *c;

	for (c = name; *c; c++)
		hash = hash * 33 + (uint8_t)*c;
	index = bucket_count ? buckets[hash % bucket_count] : 0;
	if (index < first)
		return 0;
	for (;; index++) {
		uint32_t other = chain[index - first];

		if ((hash | 1) == (other | 1) && is_function(tables, index, name))
			return index;
		if (other & 1)
			return 0;
	}
}

static int search_object(struct dl_phdr_info *object, size_t size, void *context)
{
	struct search *search = context;
	struct tables tables;
	uint32_t index;

	(void)size;
	if (is_this_library(object)) {
		search->passed = true;
		return 0;
	}
	if (!search->passed)
		return 0;
	tables = read_tables(object);
	if (!tables.symbols || !tables.strings || !tables.gnu_hash)
		return 0;
	index = find_symbol(&tables, search->name);
	if (!index)
		return 0;
	search->found = object->dlpi_addr + tables.symbols[index].st_value;
	search->path = object->dlpi_name;
	return 1;
}

uint64_t tm_preload_find(const char *name, const char **ret_path)
{
	struct search search = {.name = name};

	dl_iterate_phdr(search_object, &search);
	*ret_path = search.path;
	return search.found;
}

uint64_t tm_preload_find_next(const char *name)
{
	const char *path;

	return tm_preload_find(name, &path);
}

/* ---- stepping aside ------------------------------------------------------ */

struct aside {
	const struct tm_patch *patches;
	uint32_t count;
};

/* The program header of the kind that an address belongs to, or NULL. */
static const ElfW(Phdr) *
	header_of(const struct dl_phdr_info *object, uint32_t type, uint64_t address)
{
	int i;

	for (i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &object->dlpi_phdr[i];

		if (header->p_type == type &&
		    address - object->dlpi_addr - header->p_vaddr < header->p_memsz)
			return header;
	}
	return NULL;
}

/* The pages of some words. */
static int protect(const uint64_t *from, const uint64_t *end, int protection)
{
	uint64_t start = (uint64_t)from & ~(uint64_t)(PAGE - 1);

	return mprotect((void *)start, (uint64_t)end - start, protection);
}

/*
 * With an empty Bloom filter the loader finds nothing in this library: neither
 * for what it has yet to bind nor for objects that come later.  The names stay
 * for those who read them the other way round, as debuggers do.
 */
static bool hide_functions(const struct dl_phdr_info *object)
{
	const uint32_t *table = read_tables(object).gnu_hash;
	const ElfW(Phdr) *header = table ? header_of(object, PT_LOAD, (uint64_t)table) : NULL;
	uint64_t *filter, *end, *word;

	if (!header || header->p_flags != PF_R)
		return false;
	filter = (uint64_t *)(table + 4);
	end = filter + table[2];
	if (protect(filter, end, PROT_READ | PROT_WRITE))
		return false;
	for (word = filter; word < end; word++)
		__atomic_store_n(word, 0, __ATOMIC_RELAXED);
	protect(filter, end, PROT_READ);
	return true;
}

/* 0, or the errno of writing to an address; changes nothing. */
static int try_to_write(uint64_t *address)
{
	uint32_t word = 0;

	/* futex(2): adds 0 to *address, and wakes nobody. */
	if (syscall(SYS_futex, &word, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0, address,
		    FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0)) >= 0)
		return 0;
	return errno;
}

/* The slot may have become read-only when its object was relocated (PT_GNU_RELRO). */
static void write_slot(const struct dl_phdr_info *object, uint64_t *slot, uint64_t value)
{
	int error = try_to_write(slot);

	if (error == EFAULT && header_of(object, PT_GNU_RELRO, (uint64_t)slot) &&
	    !protect(slot, slot + 1, PROT_READ | PROT_WRITE)) {
		__atomic_store_n(slot, value, __ATOMIC_RELAXED);
		protect(slot, slot + 1, PROT_READ);
	} else if (!error) {
		__atomic_store_n(slot, value, __ATOMIC_RELAXED);
	}
}

/* What the stub at an address stands for; 0 when there is none. */
static uint64_t original_of(const struct aside *aside, uint64_t address)
{
	uint32_t i;

	if (address < aside->patches[0].address ||
	    address > aside->patches[aside->count - 1].address)
		return 0;
	for (i = 0; i < aside->count; i++)
		if (aside->patches[i].address == address)
			return aside->patches[i].original;
	return 0;
}

/* Whatever its kind: the loader alone wrote the address of a stub into a relocated word. */
static void rebind(const struct aside *aside, const struct dl_phdr_info *object,
		   const ElfW(Rela) * from, const ElfW(Rela) * end)
{
	const ElfW(Phdr) *header = NULL;

	for (; from < end; from++) {
		uint64_t *slot = (uint64_t *)(object->dlpi_addr + from->r_offset);
		uint64_t original;

		if (from->r_offset % sizeof(*slot))
			continue;
		if (!header || from->r_offset - header->p_vaddr >= header->p_memsz)
			header = header_of(object, PT_LOAD, (uint64_t)slot);
		if (!header || (header->p_flags & (PF_R | PF_W)) != (PF_R | PF_W))
			continue;
		original = original_of(aside, __atomic_load_n(slot, __ATOMIC_RELAXED));
		if (original)
			write_slot(object, slot, original);
	}
}

static int hide_from(struct dl_phdr_info *object, size_t size, void *context)
{
	(void)size;
	*(bool *)context = is_this_library(object) && hide_functions(object);
	return is_this_library(object);
}

static int rebind_object(struct dl_phdr_info *object, size_t size, void *context)
{
	struct tables tables = read_tables(object);
	uint64_t count = tables.sizes[0] / sizeof(ElfW(Rela));

	(void)size;
	if (is_this_library(object))
		return 0;
	if (tables.relocations[0] && tables.relative < count)
		rebind(context, object, tables.relocations[0] + tables.relative,
		       tables.relocations[0] + count);
	if (tables.relocations[1])
		rebind(context, object, tables.relocations[1],
		       tables.relocations[1] + tables.sizes[1] / sizeof(ElfW(Rela)));
	return 0;
}

/* Nobody else can be in the middle of loading an object (proc(5): a folder for each thread). */
bool tm_preload_is_only_thread(void)
{
	struct stat status;

	return !stat("/proc/self/task", &status) && status.st_nlink == 2 + 1;
}

void tm_preload_step_aside(const struct tm_patch *patches, uint32_t count)
{
	struct aside aside = {patches, count};
	bool hidden = false;

	if (!tm_preload_is_only_thread())
		return;
	dl_iterate_phdr(hide_from, &hidden);
	if (hidden)
		dl_iterate_phdr(rebind_object, &aside);
}
