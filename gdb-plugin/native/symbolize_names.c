/*
 * Strings of the symbolizer, each kept once: see symbolize_parts.h.
 *
 * May use: the C++ run-time library's demangler.  Must not use: Python, gdb.
 */
#include "symbolize_parts.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* From the C++ run-time library, whose header is for C++ alone. */
extern char *__cxa_demangle(const char *mangled, char *output, size_t *length, int *status);

#define MAX_PATH_PARTS 256u
#define MAX_LINKAGE_NAME 65536u

static uint64_t hash_text(const char *text, size_t length)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
	return hash ^ (hash >> 32);
}

static bool grow(struct tm_strings *strings)
{
	size_t slots = strings->slots ? (strings->mask + 1) * 2 : 1024;
	char **bigger = calloc(slots, sizeof(*bigger));

	if (!bigger)
		return false;
	for (size_t i = 0; strings->slots && i <= strings->mask; i++) {
		size_t slot;

		if (!strings->slots[i])
			continue;
		slot = hash_text(strings->slots[i], strlen(strings->slots[i])) & (slots - 1);
		while (bigger[slot])
			slot = (slot + 1) & (slots - 1);
		bigger[slot] = strings->slots[i];
	}
	free(strings->slots);
	strings->slots = bigger;
	strings->mask = slots - 1;
	return true;
}

void tm_strings_deinit(struct tm_strings *strings)
{
	for (size_t i = 0; strings->slots && i <= strings->mask; i++)
		free(strings->slots[i]);
	free(strings->slots);
	*strings = (struct tm_strings){0};
}

static const char *keep_start(struct tm_strings *strings, const char *text, size_t length)
{
	size_t slot;

	if ((!strings->slots || strings->count * 2 > strings->mask) && !grow(strings))
		return NULL;
	slot = hash_text(text, length) & strings->mask;
	while (strings->slots[slot] &&
	       (strncmp(strings->slots[slot], text, length) != 0 || strings->slots[slot][length]))
		slot = (slot + 1) & strings->mask;
	if (!strings->slots[slot]) {
		strings->slots[slot] = strndup(text, length);
		if (!strings->slots[slot])
			return NULL;
		strings->count++;
	}
	return strings->slots[slot];
}

const char *tm_strings_keep(struct tm_strings *strings, const char *text)
{
	return keep_start(strings, text, strlen(text));
}

/* ---- function names --------------------------------------------------- */

static bool ends_with(const char *text, size_t length, const char *end)
{
	size_t size = strlen(end);

	return length >= size && !memcmp(text + length - size, end, size);
}

/* Length of a demangled name up to its parameters, e.g. of "f(int) const" that of "f". */
static size_t cut_parameters(const char *text)
{
	static const char *const qualifiers[] = {" const", " volatile", " &", " &&"};
	size_t length = strlen(text), at, depth = 0;

	/* Copies that the compiler made: "f(int) [clone .cold]". */
	while (length && text[length - 1] == ']') {
		const char *clone = strstr(text, " [clone ");

		if (!clone || clone >= text + length)
			break;
		length = (size_t)(clone - text);
	}
	for (size_t i = 0; i < sizeof(qualifiers) / sizeof(*qualifiers); i++)
		if (ends_with(text, length, qualifiers[i])) {
			length -= strlen(qualifiers[i]);
			i = (size_t)-1;
		}
	if (!length || text[length - 1] != ')')
		return length;
	for (at = length; at > 0; at--) {
		if (text[at - 1] == ')')
			depth++;
		else if (text[at - 1] == '(' && --depth == 0)
			return at - 1;
	}
	return length;
}

static bool is_operator_at(const char *text, size_t at)
{
	return !strncmp(text + at, "operator", 8) &&
	       (at == 0 || !(isalnum((unsigned char)text[at - 1]) || text[at - 1] == '_')) &&
	       !(isalnum((unsigned char)text[at + 8]) || text[at + 8] == '_');
}

/* In "A::f() const::{lambda()#1}::operator()" the blank is part of a scope's name. */
static bool is_scope_qualifier(const char *text)
{
	static const char *const qualifiers[] = {" const", " volatile", " &&", " &"};
	bool found = false;

	for (size_t i = 0; i < sizeof(qualifiers) / sizeof(*qualifiers); i++) {
		size_t length = strlen(qualifiers[i]);

		if (strncmp(text, qualifiers[i], length) != 0)
			continue;
		text += length;
		found = true;
	}
	return found && !strncmp(text, "::", 2);
}

/*
 * Where the name starts: behind a return type, which only instances of
 * templates show, as in "void f<int>".
 */
static size_t skip_return_type(const char *text, size_t length)
{
	size_t start = 0;
	int depth = 0;

	for (size_t at = 0; at < length; at++)
		switch (text[at]) {
		case '<':
		case '(':
		case '{':
		case '[':
			depth++;
			break;
		case '>':
			depth -= !at || text[at - 1] != '-';
			break;
		case ')':
		case '}':
		case ']':
			depth--;
			break;
		case ' ':
			if (depth == 0 && !is_scope_qualifier(text + at))
				start = at + 1;
			break;
		case 'o':
			if (depth == 0 && is_operator_at(text, at))
				return start;
			break;
		default:
			break;
		}
	return start;
}

/* Rust's older names end with a hash: "f::h0123456789abcdef". */
static size_t cut_hash(const char *text, size_t length)
{
	if (length < 20 || memcmp(text + length - 19, "::h", 3) != 0)
		return length;
	for (size_t i = length - 16; i < length; i++)
		if (!isxdigit((unsigned char)text[i]))
			return length;
	return length - 19;
}

/*
 * Length of a symbol without what compilers add to it for the parts and copies
 * of a function: ".cold", ".part.0", ".isra.0", ".constprop.0.cold" ….
 */
static size_t cut_part(const char *symbol)
{
	static const char *const words[] = {"cold",     "part", "isra",      "constprop",
					    "lto_priv", "llvm", "localalias"};

	for (const char *dot = *symbol ? strchr(symbol + 1, '.') : NULL; dot;
	     dot = strchr(dot + 1, '.'))
		for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
			size_t size = strlen(words[i]);

			if (!strncmp(dot + 1, words[i], size) &&
			    (!dot[1 + size] || dot[1 + size] == '.'))
				return (size_t)(dot - symbol);
		}
	return strlen(symbol);
}

/*
 * Thunks of virtual functions (Itanium C++ ABI, 5.1.4.1), and what stands for
 * an indirect jump or for reading the program counter.
 */
bool tm_is_stub_name(const char *symbol)
{
	static const char *const prefixes[] = {
		"_ZTh",
		"_ZTv",
		"_ZTch",
		"_ZTcv",
		"__x86_indirect_thunk",
		"__x86_return_thunk",
		"__x86.get_pc_thunk.",
		"__llvm_retpoline_",
	};

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++)
		if (!strncmp(symbol, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

const char *tm_strings_keep_function(struct tm_strings *strings, const char *linkage_name)
{
	const char *kept;
	size_t start, length;
	char *name;
	int status;

	if (strncmp(linkage_name, "_Z", 2) != 0 ||
	    strnlen(linkage_name, MAX_LINKAGE_NAME) == MAX_LINKAGE_NAME)
		return keep_start(strings, linkage_name, cut_part(linkage_name));
	name = __cxa_demangle(linkage_name, NULL, NULL, &status);
	if (!name)
		return tm_strings_keep(strings, linkage_name);
	length = cut_hash(name, cut_parameters(name));
	start = skip_return_type(name, length);
	name[length] = 0;
	kept = tm_strings_keep(strings, name[start] ? name + start : linkage_name);
	free(name);
	return kept;
}

/* ---- paths ------------------------------------------------------------ */

const char *tm_strings_keep_path(struct tm_strings *strings, const char *path)
{
	size_t starts[MAX_PATH_PARTS], parts = 0, length = 0;
	char *copy = malloc(strlen(path) + 2);
	const char *at = path, *kept;
	bool absolute = *path == '/';

	if (!copy)
		return NULL;
	if (absolute)
		copy[length++] = '/';
	while (*at) {
		size_t size = strcspn(at, "/");
		bool up = size == 2 && at[0] == '.' && at[1] == '.';
		bool here = size == 1 && at[0] == '.';

		/* A leading "." stays: the directory it stands for is not known. */
		if (size == 0 || (here && (absolute || parts))) {
			at += size + (at[size] == '/');
			continue;
		}
		if (up && parts && strncmp(copy + starts[parts - 1], "../", 3) != 0 &&
		    strncmp(copy + starts[parts - 1], "./", 2) != 0) {
			length = starts[--parts];
		} else if (!up || parts || !absolute) {
			if (parts == MAX_PATH_PARTS)
				break;
			starts[parts++] = length;
			memcpy(copy + length, at, size);
			length += size;
			copy[length++] = '/';
		}
		at += size + (at[size] == '/');
	}
	if (*at) {
		free(copy);
		return tm_strings_keep(strings, path);
	}
	if (length > 1 && copy[length - 1] == '/')
		length--;
	copy[length] = 0;
	kept = tm_strings_keep(strings, copy);
	free(copy);
	return kept;
}
