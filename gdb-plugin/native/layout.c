/*
 * The memory layout of include/tm_layout.h as Python sees it: the constants,
 * the offset of every field, and conversion between bytes and dicts.
 *
 * May use: tm_layout.h, the stable Python ABI.  Must never hold a number that
 * the header already holds: everything here is offsetof, sizeof or a macro.
 */
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "parts.h"
#include "tm_layout.h"

#define KIND_UNSIGNED 0
#define KIND_SIGNED 1
#define KIND_BYTES 2

struct field {
	const char *structure; /* name; NULL ends the table */
	const char *name;      /* NULL: the structure itself, size is its sizeof */
	size_t offset;
	size_t size;
	int kind;
};

#define MEMBER(s, f) (((struct s *)0)->f)
/* An array decays to a pointer, which is none of these types. */
#define KIND(s, f)                         \
	_Generic(MEMBER(s, f), uint8_t     \
		 : KIND_UNSIGNED, uint16_t \
		 : KIND_UNSIGNED, uint32_t \
		 : KIND_UNSIGNED, uint64_t \
		 : KIND_UNSIGNED, int32_t  \
		 : KIND_SIGNED, int64_t    \
		 : KIND_SIGNED, default    \
		 : KIND_BYTES)
#define STRUCT(s)                                         \
	{                                                 \
#s, NULL, 0, sizeof(struct s), KIND_BYTES \
	}
#define FIELD(s, f)                                                             \
	{                                                                       \
#s, #f, offsetof(struct s, f), sizeof(MEMBER(s, f)), KIND(s, f) \
	}

static const struct field fields[] = {
	STRUCT(tm_bucket),
	FIELD(tm_bucket, key),
	FIELD(tm_bucket, traceback),
	FIELD(tm_bucket, passed),

	STRUCT(tm_segment),
	FIELD(tm_segment, bucket),

	STRUCT(tm_shard),
	FIELD(tm_shard, directory),
	FIELD(tm_shard, untracked_frees),
	FIELD(tm_shard, arena),
	FIELD(tm_shard, arena_end),
	FIELD(tm_shard, segment_count),
	FIELD(tm_shard, long_walks),
	FIELD(tm_shard, spare),
	FIELD(tm_shard, reserved),

	STRUCT(tm_node),
	FIELD(tm_node, address),
	FIELD(tm_node, parent),
	FIELD(tm_node, next),

	STRUCT(tm_counter),
	FIELD(tm_counter, room),
	FIELD(tm_counter, highest),
	FIELD(tm_counter, reserved),

	STRUCT(tm_generation),
	FIELD(tm_generation, shards),
	FIELD(tm_generation, counters),
	FIELD(tm_generation, node_chunks),
	FIELD(tm_generation, index),
	FIELD(tm_generation, locks),
	FIELD(tm_generation, retired),
	FIELD(tm_generation, current),
	FIELD(tm_generation, peak),
	FIELD(tm_generation, memory),
	FIELD(tm_generation, regions),
	FIELD(tm_generation, node_count),
	FIELD(tm_generation, traceback_count),
	FIELD(tm_generation, limit),
	FIELD(tm_generation, id),
	FIELD(tm_generation, sample_period),
	FIELD(tm_generation, min_size),
	FIELD(tm_generation, filter),
	FIELD(tm_generation, reserved),
	FIELD(tm_generation, directories),

	STRUCT(tm_module),
	FIELD(tm_module, start),
	FIELD(tm_module, end),
	FIELD(tm_module, bias),
	FIELD(tm_module, eh_frame_hdr),
	FIELD(tm_module, eh_frame_hdr_size),
	FIELD(tm_module, text_start),
	FIELD(tm_module, text_end),
	FIELD(tm_module, path),
	FIELD(tm_module, build_id_size),
	FIELD(tm_module, build_id),
	FIELD(tm_module, cfi_start),
	FIELD(tm_module, cfi_end),

	STRUCT(tm_module_list),
	FIELD(tm_module_list, count),
	FIELD(tm_module_list, names_size),
	FIELD(tm_module_list, reserved),

	STRUCT(tm_patch),
	FIELD(tm_patch, function),
	FIELD(tm_patch, address),
	FIELD(tm_patch, relay),
	FIELD(tm_patch, original),
	FIELD(tm_patch, saved),
	FIELD(tm_patch, written),
	FIELD(tm_patch, length),
	FIELD(tm_patch, active),
	FIELD(tm_patch, shape),
	FIELD(tm_patch, size_argument),
	FIELD(tm_patch, count_argument),
	FIELD(tm_patch, block_argument),
	FIELD(tm_patch, original_length),
	FIELD(tm_patch, points),
	FIELD(tm_patch, point_from),
	FIELD(tm_patch, point_to),
	FIELD(tm_patch, domain),
	FIELD(tm_patch, checksum),
	FIELD(tm_patch, name),
	FIELD(tm_patch, module),
	FIELD(tm_patch, entry),
	FIELD(tm_patch, is_leaf),
	FIELD(tm_patch, keeps_registers),
	FIELD(tm_patch, lead),
	FIELD(tm_patch, short_way),
	FIELD(tm_patch, filter),

	STRUCT(tm_thread_entry),
	FIELD(tm_thread_entry, thread_pointer),
	FIELD(tm_thread_entry, record),

	STRUCT(tm_relay_region),
	FIELD(tm_relay_region, start),
	FIELD(tm_relay_region, size),
	FIELD(tm_relay_region, used),

	STRUCT(tm_header),
	FIELD(tm_header, magic),
	FIELD(tm_header, version),
	FIELD(tm_header, header_size),
	FIELD(tm_header, self),
	FIELD(tm_header, image_start),
	FIELD(tm_header, image_end),
	FIELD(tm_header, state),
	FIELD(tm_header, pid),
	FIELD(tm_header, generation),
	FIELD(tm_header, modules),
	FIELD(tm_header, start_time),
	FIELD(tm_header, dropped),
	FIELD(tm_header, memory),
	FIELD(tm_header, patches),
	FIELD(tm_header, relays),
	FIELD(tm_header, threads),
	FIELD(tm_header, patch_count),
	FIELD(tm_header, relay_count),
	FIELD(tm_header, loader_events),
	FIELD(tm_header, quiet),
	FIELD(tm_header, helper_build_id),
	FIELD(tm_header, sample_seed),
	FIELD(tm_header, thread_words),
	FIELD(tm_header, reserved32),
	FIELD(tm_header, thread_entries),
	FIELD(tm_header, reserved),

	STRUCT(tm_image),
	FIELD(tm_image, magic),
	FIELD(tm_image, version),
	FIELD(tm_image, header_size),
	FIELD(tm_image, size),
	FIELD(tm_image, limit),
	FIELD(tm_image, pid),
	FIELD(tm_image, time),
	FIELD(tm_image, start_time),
	FIELD(tm_image, current),
	FIELD(tm_image, peak),
	FIELD(tm_image, dropped),
	FIELD(tm_image, untracked_frees),
	FIELD(tm_image, sample_period),
	FIELD(tm_image, min_size),
	FIELD(tm_image, rows),
	FIELD(tm_image, row_count),
	FIELD(tm_image, nodes),
	FIELD(tm_image, node_count),
	FIELD(tm_image, modules),
	FIELD(tm_image, module_count),
	FIELD(tm_image, names),
	FIELD(tm_image, names_size),

	STRUCT(tm_row),
	FIELD(tm_row, size),
	FIELD(tm_row, count),
	FIELD(tm_row, traceback),
	FIELD(tm_row, domain),
	FIELD(tm_row, truncated),
	FIELD(tm_row, reserved),

	STRUCT(tm_image_node),
	FIELD(tm_image_node, address),
	FIELD(tm_image_node, parent),
	FIELD(tm_image_node, depth),

	{NULL, NULL, 0, 0, 0},
};

struct constant {
	const char *name; /* without TM_ */
	uint64_t value;
};

#define CONSTANT(name)           \
	{                        \
#name, TM_##name \
	}

static const struct constant constants[] = {
	CONSTANT(MAGIC),
	CONSTANT(LAYOUT_VERSION),
	CONSTANT(MAX_FRAMES),
	CONSTANT(DOMAIN_MALLOC),
	CONSTANT(DOMAIN_MMAP),
	CONSTANT(BUCKET_SLOTS),
	CONSTANT(LINE_SHIFT),
	CONSTANT(GROUP_MASK),
	CONSTANT(HASH_FACTOR),
	CONSTANT(KEY_SIZE_SHIFT),
	CONSTANT(KEY_FOREIGN),
	CONSTANT(KEY_SIZE_MASK),
	CONSTANT(KEY_LARGE),
	CONSTANT(KEY_SIZE),
	CONSTANT(ADDRESS_BITS),
	CONSTANT(ADDRESS_MASK),
	CONSTANT(MAX_SIZE),
	CONSTANT(SEGMENT_BUCKETS),
	CONSTANT(PASSED_MANY),
	CONSTANT(BUCKET_LOCK),
	CONSTANT(BUCKET_LOCK_SHIFT),
	CONSTANT(PROCESSES),
	CONSTANT(SHARD_BITS),
	CONSTANT(FIRST_SHARD),
	CONSTANT(SHARDS),
	CONSTANT(MAX_DEPTH),
	CONSTANT(DIRECTORY_DEPTH_MASK),
	CONSTANT(SEGMENT_DEPTH_MASK),
	CONSTANT(SEGMENT_BITS_MASK),
	CONSTANT(SEGMENT_PUTS_MASK),
	CONSTANT(SEGMENT_PUTS_ONE),
	CONSTANT(SEGMENT_MAX_PUTS),
	CONSTANT(NODE_ADDRESS_MASK),
	CONSTANT(NODE_ROOT),
	CONSTANT(NODE_TRUNCATED),
	CONSTANT(NODE_EXACT),
	CONSTANT(NODES_PER_CHUNK),
	CONSTANT(NODE_CHUNKS),
	CONSTANT(COUNTER_BATCH),
	CONSTANT(MAX_THREADS),
	CONSTANT(SAMPLE_MIN),
	CONSTANT(SAMPLE_MAX),
	CONSTANT(STUB_LOAD),
	CONSTANT(STUB_BYTES),
	CONSTANT(WORD_LEFT),
	CONSTANT(SHAPE_ALLOC),
	CONSTANT(SHAPE_FREE),
	CONSTANT(SHAPE_REALLOC),
	CONSTANT(SHAPE_STORE),
	CONSTANT(SHAPE_RESIZE),
	CONSTANT(SHAPE_LOADER),
	CONSTANT(SHAPE_MAP),
	CONSTANT(SHAPE_UNMAP),
	CONSTANT(SHAPE_REMAP),
	CONSTANT(SHAPES),
	CONSTANT(NO_ARGUMENT),
	CONSTANT(PATCH_BYTES),
	CONSTANT(PATCH_POINTS),
	CONSTANT(MAX_PATCHES),
	CONSTANT(MAX_RELAY_REGIONS),
	CONSTANT(STATE_IDLE),
	CONSTANT(STATE_TRACING),
	CONSTANT(IMAGE_MAGIC),
	CONSTANT(IMAGE_VERSION),
	CONSTANT(NO_NODE),
	{NULL, 0},
};

static const struct field *find_structure(const char *name)
{
	for (const struct field *field = fields; field->structure; field++)
		if (!field->name && strcmp(field->structure, name) == 0)
			return field;
	PyErr_Format(tm_exception, "no structure is called %s", name);
	return NULL;
}

static int set_item(PyObject *dict, const char *name, PyObject *value)
{
	int failed = !value || PyDict_SetItemString(dict, name, value) < 0;

	Py_XDECREF(value);
	return failed ? -1 : 0;
}

/* The value of a field of `size` bytes at `from`. */
static PyObject *field_value(const struct field *field, const char *from)
{
	uint64_t value = 0;

	if (field->kind == KIND_BYTES)
		return PyBytes_FromStringAndSize(from, (Py_ssize_t)field->size);
	memcpy(&value, from, field->size);
	if (field->kind == KIND_SIGNED && field->size == sizeof(int32_t))
		return PyLong_FromLong((int32_t)value);
	if (field->kind == KIND_SIGNED)
		return PyLong_FromLongLong((long long)value);
	return PyLong_FromUnsignedLongLong(value);
}

static PyObject *decode(PyObject *self, PyObject *arguments)
{
	const struct field *structure;
	const char *name, *bytes;
	PyObject *dict;
	Py_ssize_t length;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "sy#:decode", &name, &bytes, &length))
		return NULL;
	structure = find_structure(name);
	if (!structure)
		return NULL;
	if (length < (Py_ssize_t)structure->size)
		return PyErr_Format(tm_exception, "%s takes %zu bytes, but there are only %zd",
				    name, structure->size, length);
	dict = PyDict_New();
	for (const struct field *field = structure + 1; dict && field->name; field++)
		if (set_item(dict, field->name, field_value(field, bytes + field->offset)) < 0)
			Py_CLEAR(dict);
	return dict;
}

static int store_bytes(const struct field *field, PyObject *value, char *to)
{
	Py_ssize_t length;
	char *bytes;

	if (PyBytes_AsStringAndSize(value, &bytes, &length) < 0)
		return -1;
	if (length > (Py_ssize_t)field->size) {
		PyErr_Format(tm_exception, "%s.%s holds %zu bytes, not %zd", field->structure,
			     field->name, field->size, length);
		return -1;
	}
	memcpy(to, bytes, (size_t)length);
	return 0;
}

static bool fits(const struct field *field, uint64_t number)
{
	unsigned int unused = 64 - 8 * (unsigned int)field->size;

	if (field->kind == KIND_SIGNED)
		return (int64_t)(number << unused) >> unused == (int64_t)number;
	return number << unused >> unused == number;
}

static int store_value(const struct field *field, PyObject *value, char *to)
{
	uint64_t number;

	if (field->kind == KIND_BYTES)
		return store_bytes(field, value, to);
	number = field->kind == KIND_SIGNED ? (uint64_t)PyLong_AsLongLong(value)
					    : PyLong_AsUnsignedLongLong(value);
	if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_OverflowError))
		return -1;
	if (PyErr_Occurred() || !fits(field, number)) {
		PyErr_Clear();
		PyErr_Format(tm_exception, "%s.%s cannot hold %R", field->structure, field->name,
			     value);
		return -1;
	}
	memcpy(to, &number, field->size);
	return 0;
}

static PyObject *encode(PyObject *self, PyObject *arguments)
{
	const struct field *structure;
	PyObject *values, *result;
	Py_ssize_t used = 0;
	const char *name;
	char *bytes;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "sO!:encode", &name, &PyDict_Type, &values))
		return NULL;
	structure = find_structure(name);
	if (!structure)
		return NULL;
	bytes = PyMem_Calloc(1, structure->size);
	if (!bytes)
		return PyErr_NoMemory();
	for (const struct field *field = structure + 1; field->name; field++) {
		PyObject *value = PyDict_GetItemString(values, field->name);

		if (!value)
			continue;
		used++;
		if (store_value(field, value, bytes + field->offset) < 0) {
			PyMem_Free(bytes);
			return NULL;
		}
	}
	result = used == PyDict_Size(values)
			 ? PyBytes_FromStringAndSize(bytes, (Py_ssize_t)structure->size)
			 : PyErr_Format(tm_exception, "%s has no such field: %R", name, values);
	PyMem_Free(bytes);
	return result;
}

/* Fills `sizes` with {struct: bytes} and `offsets` with {struct: {field: (offset, size)}}. */
static int describe_structures(PyObject *sizes, PyObject *offsets)
{
	PyObject *current = NULL; /* borrowed from offsets */

	for (const struct field *field = fields; field->structure; field++) {
		if (!field->name) {
			current = PyDict_New();
			if (set_item(sizes, field->structure, PyLong_FromSize_t(field->size)) < 0 ||
			    set_item(offsets, field->structure, current) < 0)
				return -1;
		} else if (set_item(current, field->name,
				    Py_BuildValue("(nn)", (Py_ssize_t)field->offset,
						  (Py_ssize_t)field->size)) < 0) {
			return -1;
		}
	}
	return 0;
}

static PyObject *describe_layout(void)
{
	PyObject *layout = PyDict_New();
	PyObject *sizes = PyDict_New();
	PyObject *offsets = PyDict_New();
	int failed = !layout || !sizes || !offsets || describe_structures(sizes, offsets) < 0;

	for (const struct constant *constant = constants; !failed && constant->name; constant++)
		failed = set_item(layout, constant->name,
				  PyLong_FromUnsignedLongLong(constant->value)) < 0;
	failed = failed || PyDict_SetItemString(layout, "sizeof", sizes) < 0 ||
		 PyDict_SetItemString(layout, "offsets", offsets) < 0;
	Py_XDECREF(sizes);
	Py_XDECREF(offsets);
	if (failed)
		Py_CLEAR(layout);
	return layout;
}

static PyMethodDef functions[] = {
	{"decode", decode, METH_VARARGS,
	 "decode(struct_name, bytes) -> dict of the fields, each an int or bytes"},
	{"encode", encode, METH_VARARGS,
	 "encode(struct_name, dict) -> bytes; fields that are not given are zero"},
	{NULL, NULL, 0, NULL},
};

int tm_add_layout(PyObject *module)
{
	PyObject *layout = describe_layout();

	if (!layout || PyModule_AddFunctions(module, functions) < 0 ||
	    PyModule_AddObject(module, "layout", layout) < 0) {
		Py_XDECREF(layout);
		return -1;
	}
	return 0;
}
