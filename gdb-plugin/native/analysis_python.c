/*
 * The analysis for Python: `_tm.group`, `_tm.filter`, `_tm.skip`, `_tm.drop`,
 * `_tm.measure`, `_tm.image_addresses`, `_tm.image_traces`.  Arrays go to and
 * fro as bytes objects.
 *
 * May use: analysis.h, analysis_trees.h, parts.h.  Must not use: gdb.
 * Must check every number it is given before it is used as an index.
 */
#include <stdlib.h>
#include <string.h>

#include "analysis.h"
#include "analysis_trees.h"
#include "tm_sample.h"

#define DAMAGED(...) tm_error_new(TM_ERROR_INPUT, "the snapshot is damaged: " __VA_ARGS__)

/* The bytes of `object` as `*ret_count` elements of `size` bytes. */
static struct tm_error *array_of(PyObject *object, size_t size, const char *what, const void **ret,
				 size_t *ret_count)
{
	Py_ssize_t length;
	char *bytes;

	if (PyBytes_AsStringAndSize(object, &bytes, &length) < 0) {
		PyErr_Clear();
		return tm_error_new(TM_ERROR_INPUT, "the %s must be bytes", what);
	}
	if ((size_t)length % size)
		return DAMAGED("its %s are not whole", what);
	*ret = bytes;
	*ret_count = (size_t)length / size;
	return NULL;
}

static struct tm_error *check_numbers(const struct traces *traces, size_t key_count)
{
	if (traces->node_count >= TM_NO_NODE)
		return DAMAGED("it has too many nodes");
	for (size_t i = 0; i < traces->node_count; i++) {
		const struct trace_node *node = &traces->nodes[i];

		if (node->frame >= traces->frame_count ||
		    (node->parent >= i && node->parent != TM_NO_NODE))
			return DAMAGED("node %zu makes no sense", i);
	}
	for (size_t i = 0; i < traces->row_count; i++)
		if (traces->rows[i].node >= traces->node_count || !traces->rows[i].count)
			return DAMAGED("row %zu makes no sense", i);
	for (size_t i = 0; traces->keys && i < traces->frame_count; i++)
		if (traces->keys[i] >= key_count)
			return DAMAGED("frame %zu makes no sense", i);
	return NULL;
}

struct tm_error *traces_check(PyObject *rows, PyObject *nodes, PyObject *keys, size_t frame_count,
			      size_t key_count, uint64_t period, struct traces *ret)
{
	struct tm_error *error;
	const void *array;

	memset(ret, 0, sizeof(*ret));
	if (period && (period < TM_SAMPLE_MIN || period > TM_SAMPLE_MAX))
		return DAMAGED("its sampling makes no sense");
	ret->period = period;
	ret->frame_count = frame_count;
	error = array_of(rows, sizeof(*ret->rows), "rows", &array, &ret->row_count);
	if (error)
		return error;
	ret->rows = array;
	error = array_of(nodes, sizeof(*ret->nodes), "nodes", &array, &ret->node_count);
	if (error)
		return error;
	ret->nodes = array;
	if (keys) {
		error = array_of(keys, sizeof(*ret->keys), "keys", &array, &ret->frame_count);
		if (error)
			return error;
		ret->keys = array;
	}
	return check_numbers(ret, key_count);
}

/* ---- group -------------------------------------------------------------------- */

static const char *const mode_names[] = {"recent", "cumulative", "once", "traceback",
					 "size",   "domain",     NULL};
static const char *const order_names[] = {"size", "count", "average", "difference", NULL};

static int find_name(const char *const *names, const char *name)
{
	for (int i = 0; names[i]; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	PyErr_Format(PyExc_ValueError, "unknown name: %s", name);
	return -1;
}

static struct tm_error *check_ranks(const uint32_t *ranks, size_t key_count)
{
	for (size_t i = 0; i < key_count; i++)
		if (ranks[i] >= key_count)
			return DAMAGED("key %zu makes no sense", i);
	return NULL;
}

static struct tm_error *take_tuple(PyObject *tuple, size_t key_count, struct traces *ret)
{
	unsigned long long period = 0;
	PyObject *rows, *nodes, *keys;

	if (!PyArg_ParseTuple(tuple, "OOO|K", &rows, &nodes, &keys, &period)) {
		PyErr_Clear();
		return tm_error_new(TM_ERROR_INPUT, "a snapshot is (rows, nodes, keys[, period])");
	}
	return traces_check(rows, nodes, keys, 0, key_count, period, ret);
}

static PyObject *group(PyObject *self, PyObject *arguments)
{
	PyObject *ranks_object, *new_object, *old_object = NULL, *result;
	const char *mode_name, *order_name;
	struct trace_groups groups;
	struct traces new, old;
	struct tm_error *error;
	size_t key_count;
	Py_ssize_t limit;
	const void *ranks;
	int mode, order;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "ssnOO!|O!:group", &mode_name, &order_name, &limit,
			      &ranks_object, &PyTuple_Type, &new_object, &PyTuple_Type,
			      &old_object))
		return NULL;
	mode = find_name(mode_names, mode_name);
	order = mode < 0 ? -1 : find_name(order_names, order_name);
	if (order < 0)
		return NULL;
	error = array_of(ranks_object, sizeof(uint32_t), "ranks", &ranks, &key_count);
	if (!error)
		error = check_ranks(ranks, key_count);
	if (!error)
		error = take_tuple(new_object, key_count, &new);
	if (!error && old_object)
		error = take_tuple(old_object, key_count, &old);
	if (error)
		return tm_raise(error);
	Py_BEGIN_ALLOW_THREADS error =
		traces_group(&new, old_object ? &old : NULL, mode, order,
			     limit < 0 ? SIZE_MAX : (size_t)limit, ranks, key_count, &groups);
	Py_END_ALLOW_THREADS if (error) return tm_raise(error);
	result = Py_BuildValue("(y#ny#y#)", (const char *)groups.first,
			       (Py_ssize_t)(groups.first_count * sizeof(*groups.first)),
			       (Py_ssize_t)groups.count, (const char *)&groups.size,
			       (Py_ssize_t)sizeof(groups.size), (const char *)&groups.blocks,
			       (Py_ssize_t)sizeof(groups.blocks));
	free(groups.first);
	return result;
}

/* ---- trees ------------------------------------------------------------------------ */

/* (rows, nodes); the nodes are `nodes` where none were made. */
static PyObject *made_value(struct made_traces *made, PyObject *nodes)
{
	PyObject *rows = PyBytes_FromStringAndSize(
		(const char *)made->rows, (Py_ssize_t)(made->row_count * sizeof(*made->rows)));

	if (made->nodes || !nodes)
		nodes = PyBytes_FromStringAndSize(
			(const char *)made->nodes,
			(Py_ssize_t)(made->node_count * sizeof(*made->nodes)));
	else
		Py_INCREF(nodes);
	made_traces_deinit(made);
	if (!rows || !nodes) {
		Py_XDECREF(rows);
		Py_XDECREF(nodes);
		return NULL;
	}
	return Py_BuildValue("(NN)", rows, nodes);
}

static PyObject *raise_made(struct made_traces *made, struct tm_error *error)
{
	made_traces_deinit(made);
	return tm_raise(error);
}

typedef struct tm_error *(*make_traces)(const struct traces *traces, const uint8_t *flags,
					struct made_traces *ret);

static PyObject *make_by_flags(PyObject *arguments, make_traces make)
{
	struct made_traces made = {NULL, 0, NULL, 0};
	PyObject *rows, *nodes, *flags_object;
	struct tm_error *error;
	struct traces traces;
	const void *flags;
	size_t count;

	if (!PyArg_ParseTuple(arguments, "OOO", &rows, &nodes, &flags_object))
		return NULL;
	error = array_of(flags_object, 1, "flags", &flags, &count);
	if (!error)
		error = traces_check(rows, nodes, NULL, count, 0, 0, &traces);
	if (!error)
		error = make(&traces, flags, &made);
	return error ? raise_made(&made, error) : made_value(&made, nodes);
}

static PyObject *skip(PyObject *self, PyObject *arguments)
{
	(void)self;
	return make_by_flags(arguments, traces_skip);
}

static PyObject *drop(PyObject *self, PyObject *arguments)
{
	(void)self;
	return make_by_flags(arguments, traces_drop);
}

static struct tm_error *take_filter(PyObject *tuple, size_t frame_count, struct trace_filter *ret)
{
	unsigned int flags, domain;
	struct tm_error *error;
	PyObject *match;
	const void *array;
	size_t count;

	if (!PyArg_ParseTuple(tuple, "IIO", &flags, &domain, &match)) {
		PyErr_Clear();
		return tm_error_new(TM_ERROR_INPUT, "a filter is (flags, domain, match)");
	}
	error = array_of(match, 1, "matches", &array, &count);
	if (error)
		return error;
	if (!(flags & FILTER_DOMAIN_ONLY) && count != frame_count)
		return tm_error_new(TM_ERROR_INPUT, "a filter must match each frame or not");
	*ret = (struct trace_filter){flags, domain, array};
	return NULL;
}

static PyObject *filter(PyObject *self, PyObject *arguments)
{
	struct made_traces made = {NULL, 0, NULL, 0};
	struct trace_filter *filters;
	PyObject *rows, *nodes, *list;
	Py_ssize_t frame_count, count;
	struct tm_error *error;
	struct traces traces;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "OOnO!:filter", &rows, &nodes, &frame_count, &PyList_Type,
			      &list))
		return NULL;
	count = PyList_Size(list);
	filters = PyMem_Calloc((size_t)count + 1, sizeof(*filters));
	if (!filters)
		return PyErr_NoMemory();
	error = traces_check(rows, nodes, NULL, (size_t)frame_count, 0, 0, &traces);
	for (Py_ssize_t i = 0; i < count && !error; i++)
		error = take_filter(PyList_GetItem(list, i), (size_t)frame_count, &filters[i]);
	if (!error)
		error = traces_filter(&traces, filters, (size_t)count, &made);
	PyMem_Free(filters);
	return error ? raise_made(&made, error) : made_value(&made, nodes);
}

static PyObject *measure(PyObject *self, PyObject *arguments)
{
	struct traces_measure totals;
	unsigned long long period = 0;
	PyObject *rows, *nodes;
	Py_ssize_t frame_count;
	struct tm_error *error;
	struct traces traces;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "OOn|K:measure", &rows, &nodes, &frame_count, &period))
		return NULL;
	error = traces_check(rows, nodes, NULL, (size_t)frame_count, 0, period, &traces);
	if (!error)
		error = traces_measure(&traces, &totals);
	if (error)
		return tm_raise(error);
	return Py_BuildValue("{sKsKsKsKsKsdsd}", "blocks", (unsigned long long)totals.blocks,
			     "size", (unsigned long long)totals.size, "tracebacks",
			     (unsigned long long)totals.tracebacks, "depth",
			     (unsigned long long)totals.depth, "recorded",
			     (unsigned long long)totals.recorded, "size_error", totals.size_error,
			     "count_error", totals.count_error);
}

static PyObject *sample_bytes(PyObject *self, PyObject *arguments)
{
	unsigned long long size, period;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "KK:sample_bytes", &size, &period))
		return NULL;
	return PyLong_FromUnsignedLongLong(tm_sample_bytes(size, period));
}

/* ---- images -------------------------------------------------------------------------- */

static struct tm_error *take_image(PyObject *object, struct tm_image_view *ret)
{
	struct tm_error *error;
	const void *bytes;
	size_t size;

	error = array_of(object, 1, "image", &bytes, &size);
	return error ? error : tm_image_check(bytes, size, ret);
}

/* The distinct addresses of the nodes, and by node the number of its address. */
static struct tm_error *number_addresses(const struct tm_image_view *view, struct pairs *pairs,
					 uint32_t *numbers)
{
	struct tm_error *error = NULL;

	for (uint64_t i = 0; i < view->header->node_count && !error; i++)
		error = pairs_number(pairs, view->nodes[i].address, 0, &numbers[i]);
	return error;
}

static PyObject *address_list(const struct pairs *pairs)
{
	PyObject *list = PyList_New((Py_ssize_t)pairs->count);

	for (size_t i = 0; list && i < pairs->count; i++) {
		uint64_t address = pairs->first[i];
		PyObject *item =
			Py_BuildValue("(KN)", (unsigned long long)(address & TM_NODE_ADDRESS_MASK),
				      PyBool_FromLong((address & TM_NODE_EXACT) != 0));

		if (!item || PyList_SetItem(list, (Py_ssize_t)i, item) < 0)
			Py_CLEAR(list);
	}
	return list;
}

static PyObject *image_addresses(PyObject *self, PyObject *arguments)
{
	PyObject *object, *result = NULL;
	struct pairs pairs = {.count = 0};
	struct tm_image_view view;
	uint32_t *numbers = NULL;
	struct tm_error *error;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "O:image_addresses", &object))
		return NULL;
	error = take_image(object, &view);
	if (!error) {
		numbers = malloc((view.header->node_count + 1) * sizeof(*numbers));
		error = numbers ? number_addresses(&view, &pairs, numbers) : tm_error_no_memory();
	}
	if (error)
		tm_raise(error);
	else
		result = Py_BuildValue("(Ny#)", address_list(&pairs), (const char *)numbers,
				       (Py_ssize_t)(view.header->node_count * sizeof(*numbers)));
	free(numbers);
	pairs_deinit(&pairs);
	return result;
}

/* By node, where the frames of its address begin and how many they are. */
static struct tm_error *spread_frames(const struct tm_image_view *view, const uint32_t *numbers,
				      const uint32_t *bounds, size_t address_count,
				      uint32_t *starts, uint32_t *lengths)
{
	for (uint64_t i = 0; i < view->header->node_count; i++) {
		uint32_t number = numbers[i];

		if (number >= address_count || bounds[number] >= bounds[number + 1])
			return tm_error_new(TM_ERROR_INPUT, "an address has no frames");
		starts[i] = bounds[number];
		lengths[i] = bounds[number + 1] - bounds[number];
	}
	return NULL;
}

static PyObject *image_traces(PyObject *self, PyObject *arguments)
{
	PyObject *image, *numbers_object, *bounds_object;
	struct made_traces made = {NULL, 0, NULL, 0};
	size_t node_count = 0, bound_count = 0;
	const void *numbers, *bounds;
	struct tm_image_view view;
	uint32_t *spread = NULL;
	struct tm_error *error;
	unsigned int unknown;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "OOOI:image_traces", &image, &numbers_object,
			      &bounds_object, &unknown))
		return NULL;
	error = take_image(image, &view);
	if (!error)
		error = array_of(numbers_object, 4, "addresses", &numbers, &node_count);
	if (!error)
		error = array_of(bounds_object, 4, "frames", &bounds, &bound_count);
	if (!error && (node_count != view.header->node_count || !bound_count))
		error = DAMAGED("its nodes and addresses do not agree");
	if (!error) {
		spread = malloc((node_count * 2 + 1) * sizeof(*spread));
		error = spread ? spread_frames(&view, numbers, bounds, bound_count - 1, spread,
					       spread + node_count)
			       : tm_error_no_memory();
	}
	if (!error)
		error = traces_from_image(&view, spread, spread + node_count, unknown, &made);
	free(spread);
	return error ? raise_made(&made, error) : made_value(&made, NULL);
}

static PyMethodDef functions[] = {
	{"group", group, METH_VARARGS,
	 "group(mode, order, limit, ranks, (rows, nodes, keys[, period])[, old]) -> "
	 "(the first limit groups or more, largest first, how many there are, their sizes and "
	 "their blocks, sums of 16 bytes)"},
	{"filter", filter, METH_VARARGS,
	 "filter(rows, nodes, frame_count, [(flags, domain, match)]) -> (rows, nodes)"},
	{"skip", skip, METH_VARARGS,
	 "skip(rows, nodes, flags) -> (rows, nodes): without flagged most recent frames"},
	{"drop", drop, METH_VARARGS, "drop(rows, nodes, flags) -> (rows, nodes)"},
	{"measure", measure, METH_VARARGS,
	 "measure(rows, nodes, frame_count, period=0) -> dict: blocks, bytes, different "
	 "tracebacks, frames of the deepest, recorded blocks, standard errors"},
	{"sample_bytes", sample_bytes, METH_VARARGS,
	 "sample_bytes(size, period) -> bytes that a recorded block stands for"},
	{"image_addresses", image_addresses, METH_VARARGS,
	 "image_addresses(image) -> ([(address, exact)], by node the number of its address)"},
	{"image_traces", image_traces, METH_VARARGS,
	 "image_traces(image, numbers, bounds, unknown) -> (rows, nodes): address number n "
	 "stands for frames bounds[n] … bounds[n + 1] - 1, innermost first"},
	{NULL, NULL, 0, NULL},
};

int tm_add_analysis(PyObject *module)
{
	if (PyModule_AddFunctions(module, functions) < 0 ||
	    PyModule_AddStringConstant(module, "ROW_FORMAT", TRACE_ROW_FORMAT) < 0 ||
	    PyModule_AddStringConstant(module, "NODE_FORMAT", TRACE_NODE_FORMAT) < 0 ||
	    PyModule_AddStringConstant(module, "GROUP_FORMAT", TRACE_GROUP_FORMAT) < 0 ||
	    PyModule_AddIntConstant(module, "FILTER_INCLUSIVE", FILTER_INCLUSIVE) < 0 ||
	    PyModule_AddIntConstant(module, "FILTER_ALL_FRAMES", FILTER_ALL_FRAMES) < 0 ||
	    PyModule_AddIntConstant(module, "FILTER_HAS_DOMAIN", FILTER_HAS_DOMAIN) < 0 ||
	    PyModule_AddIntConstant(module, "FILTER_DOMAIN_ONLY", FILTER_DOMAIN_ONLY) < 0)
		return -1;
	return 0;
}
