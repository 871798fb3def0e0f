/*
 * `_tm.snapshot`, `_tm.find_block`, `_tm.blocks`, `_tm.counters`: image.h for Python,
 * with a Python function that reads the memory.
 *
 * May use: image.h, live_blocks.h, parts.h.  Must not use: gdb.
 */
#include <stdlib.h>
#include <string.h>

#include "image.h"
#include "live_blocks.h"
#include "parts.h"

/* A copy of `object`'s `length` bytes; -1 with a Python error. */
static int copy_bytes(PyObject *object, void *buffer, size_t length)
{
	PyObject *bytes = PyBytes_FromObject(object);
	int failed = !bytes;

	if (bytes && PyBytes_Size(bytes) != (Py_ssize_t)length) {
		PyErr_Format(tm_exception, "read() gave %zd bytes instead of %zu",
			     PyBytes_Size(bytes), length);
		failed = 1;
	}
	if (!failed)
		memcpy(buffer, PyBytes_AsString(bytes), length);
	Py_XDECREF(bytes);
	return failed ? -1 : 0;
}

static int read_with_python(void *context, uint64_t address, void *buffer, size_t length)
{
	PyObject *result = PyObject_CallFunction(context, "Kn", (unsigned long long)address,
						 (Py_ssize_t)length);
	int failed = !result || copy_bytes(result, buffer, length) < 0;

	Py_XDECREF(result);
	return failed ? -1 : 0;
}

/* What the read function raised says more than our own words. */
static PyObject *raise(struct tm_error *error)
{
	if (!PyErr_Occurred())
		return tm_raise(error);
	tm_error_free(error);
	return NULL;
}

static PyObject *snapshot(PyObject *self, PyObject *arguments)
{
	struct tm_memory memory = {read_with_python, NULL};
	struct tm_image_buffer image = {NULL, 0};
	unsigned long long header_address;
	PyObject *read, *result;
	struct tm_error *error;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "OK:snapshot", &read, &header_address))
		return NULL;
	memory.context = read;
	error = tm_image_take(&memory, header_address, &image);
	if (error)
		return raise(error);
	result = PyBytes_FromStringAndSize(image.bytes, (Py_ssize_t)image.size);
	free(image.bytes);
	return result;
}

static PyObject *frame_list(const struct tm_found_block *block)
{
	PyObject *frames = PyList_New(block->frame_count);

	for (uint32_t i = 0; frames && i < block->frame_count; i++) {
		PyObject *address = PyLong_FromUnsignedLongLong(block->frames[i]);

		if (!address || PyList_SetItem(frames, i, address) < 0)
			Py_CLEAR(frames);
	}
	return frames;
}

static PyObject *block_value(const struct tm_found_block *block)
{
	PyObject *frames = frame_list(block);

	if (!frames)
		return NULL;
	return Py_BuildValue("(KKINN)", (unsigned long long)block->address,
			     (unsigned long long)block->size, (unsigned int)block->domain, frames,
			     PyBool_FromLong((long)block->truncated));
}

static PyObject *find_block(PyObject *self, PyObject *arguments)
{
	struct tm_memory memory = {read_with_python, NULL};
	unsigned long long header_address, address;
	struct tm_found_block *block;
	struct tm_error *error;
	PyObject *read, *result;
	int found;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "OKK:find_block", &read, &header_address, &address))
		return NULL;
	block = PyMem_Malloc(sizeof(*block));
	if (!block)
		return PyErr_NoMemory();
	memory.context = read;
	error = tm_image_find_block(&memory, header_address, address, block, &found);
	if (error)
		result = raise(error);
	else if (found)
		result = block_value(block);
	else
		result = Py_BuildValue("");
	PyMem_Free(block);
	return result;
}

/* Python's side of a struct tm_block_reader. */
struct block_list {
	PyObject *wanted; /* a function (domain, addresses, truncated) -> bool */
	PyObject *blocks; /* a list */
};

static int ask_python(void *context, const struct tm_found_block *block)
{
	const struct block_list *list = context;
	PyObject *frames = frame_list(block), *answer = NULL;
	int wanted = -1;

	if (frames)
		answer = PyObject_CallFunction(list->wanted, "INN", (unsigned int)block->domain,
					       frames, PyBool_FromLong((long)block->truncated));
	if (answer)
		wanted = PyObject_IsTrue(answer);
	Py_XDECREF(answer);
	return wanted;
}

static int take_block(void *context, const struct tm_found_block *block)
{
	const struct block_list *list = context;
	PyObject *value = block_value(block);
	int failed = !value || PyList_Append(list->blocks, value) < 0;

	Py_XDECREF(value);
	return failed ? -1 : 0;
}

static PyObject *blocks(PyObject *self, PyObject *arguments)
{
	struct tm_memory memory = {read_with_python, NULL};
	struct block_list list = {Py_None, NULL};
	struct tm_block_reader reader = {NULL, take_block, &list};
	unsigned long long header_address, limit;
	struct tm_error *error;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "OKK|O:blocks", &memory.context, &header_address, &limit,
			      &list.wanted))
		return NULL;
	list.blocks = PyList_New(0);
	if (!list.blocks)
		return NULL;
	if (list.wanted != Py_None)
		reader.wanted = ask_python;
	error = tm_live_blocks_read(&memory, header_address, limit, &reader);
	if (!error)
		return list.blocks;
	Py_DECREF(list.blocks);
	return raise(error);
}

static PyObject *counters(PyObject *self, PyObject *arguments)
{
	struct tm_memory memory = {read_with_python, NULL};
	unsigned long long header_address;
	struct tm_live_status status;
	struct tm_error *error;
	PyObject *read;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "OK:counters", &read, &header_address))
		return NULL;
	memory.context = read;
	error = tm_image_status(&memory, header_address, &status);
	if (error)
		return raise(error);
	return Py_BuildValue("{sNsIsKsKsKsKsKsKsKsKsIsIsKsKsKsdsd}", "tracing",
			     PyBool_FromLong(status.header.state == TM_STATE_TRACING), "limit",
			     (unsigned int)status.generation.limit, "current",
			     (unsigned long long)status.counts.current, "peak",
			     (unsigned long long)status.counts.peak, "blocks",
			     (unsigned long long)status.blocks, "tracebacks",
			     (unsigned long long)status.tracebacks, "helper_memory",
			     (unsigned long long)(status.header.memory + status.generation.memory),
			     "dropped", (unsigned long long)status.header.dropped,
			     "untracked_frees", (unsigned long long)status.untracked_frees,
			     "start_time", (unsigned long long)status.header.start_time,
			     "generation", (unsigned int)status.generation.id, "pid",
			     (unsigned int)status.header.pid, "sample_period",
			     (unsigned long long)status.generation.sample_period, "min_size",
			     (unsigned long long)status.generation.min_size, "recorded",
			     (unsigned long long)status.recorded, "size_error", status.size_error,
			     "count_error", status.count_error);
}

static PyMethodDef functions[] = {
	{"snapshot", snapshot, METH_VARARGS,
	 "snapshot(read, header_address) -> bytes: the image of a live table"},
	{"find_block", find_block, METH_VARARGS,
	 "find_block(read, header_address, address) -> (start, size, domain, "
	 "[return addresses, most recent first], truncated) or None"},
	{"blocks", blocks, METH_VARARGS,
	 "blocks(read, header_address, limit, wanted=None) -> [what find_block gives], the "
	 "largest first; wanted(domain, [return addresses], truncated) says which count"},
	{"counters", counters, METH_VARARGS,
	 "counters(read, header_address) -> dict: what is traced now"},
	{NULL, NULL, 0, NULL},
};

int tm_add_image(PyObject *module)
{
	if (PyModule_AddIntConstant(module, "MAX_BLOCKS", (long)TM_LIVE_MAX_BLOCKS) < 0)
		return -1;
	return PyModule_AddFunctions(module, functions);
}
