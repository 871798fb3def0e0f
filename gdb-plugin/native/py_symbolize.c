/*
 * _tm.Symbolizer: symbolize.h for Python.
 *
 * May use: the limited Python API, symbolize.h.  Must not use: gdb; must hold
 * no logic of its own.
 */
#include "parts.h"

#include "symbolize.h"

#define ADDRESSES_BETWEEN_SIGNALS 64
#define TEXTS 512u /* a power of 2 */

/* Python's strings, by the address of the symbolizer's. */
struct texts {
	const char *keys[TEXTS];
	PyObject *values[TEXTS];
};

struct symbolizer_object {
	PyObject_HEAD struct tm_symbolizer *symbolizer;
	struct texts texts;
	PyObject *tell; /* is told of long work; or NULL */
	bool busy;      /* what it calls must not come back */
};

static struct tm_symbolizer *of(PyObject *self)
{
	return ((struct symbolizer_object *)self)->symbolizer;
}

/* False with an exception set inside what resolve() calls: a listener, a signal's handler. */
static bool is_free(PyObject *self)
{
	if (((struct symbolizer_object *)self)->busy)
		PyErr_SetString(PyExc_RuntimeError, "the symbolizer is at work");
	return !((struct symbolizer_object *)self)->busy;
}

static struct texts *texts_of(PyObject *self)
{
	return &((struct symbolizer_object *)self)->texts;
}

/* A list with the file-system bytes of each path of a sequence. */
static PyObject *encoded_paths(PyObject *paths)
{
	PyObject *list = PySequence_List(paths);
	Py_ssize_t count = list ? PyList_Size(list) : 0;

	for (Py_ssize_t i = 0; i < count; i++) {
		PyObject *bytes;

		if (!PyUnicode_FSConverter(PyList_GetItem(list, i), &bytes) ||
		    PyList_SetItem(list, i, bytes) < 0) {
			Py_DecRef(list);
			return NULL;
		}
	}
	return list;
}

static struct tm_error *make(PyObject *paths, struct tm_symbolizer **ret)
{
	Py_ssize_t count = PyList_Size(paths);
	const char **texts = PyMem_Calloc((size_t)count + 1, sizeof(*texts));
	struct tm_error *error;

	if (!texts)
		return tm_error_no_memory();
	for (Py_ssize_t i = 0; i < count; i++)
		texts[i] = PyBytes_AsString(PyList_GetItem(paths, i));
	error = tm_symbolizer_new(texts, (size_t)count, ret);
	PyMem_Free(texts);
	return error;
}

/* A tm_work_listener; leaves Python's exception set. */
static bool on_work(void *data, enum tm_work_kind kind, const char *path, uint64_t done,
		    uint64_t total)
{
	struct symbolizer_object *self = data;
	PyObject *result;

	if (PyErr_CheckSignals() < 0)
		return true;
	if (!self->tell)
		return false;
	result = PyObject_CallFunction(self->tell, "sNKK",
				       kind == TM_WORK_FETCHING ? "fetching" : "reading",
				       PyUnicode_DecodeFSDefault(path), (unsigned long long)done,
				       (unsigned long long)total);
	Py_XDECREF(result);
	return !result;
}

static PyObject *symbolizer_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
	static char *names[] = {"debug_directories", "debuginfod", "tell", NULL};
	allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	PyObject *directories = NULL, *tell = NULL, *paths, *self;
	struct tm_symbolizer *symbolizer = NULL;
	struct tm_error *error;
	int debuginfod = 0;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|OpO:Symbolizer", names,
					 &directories, &debuginfod, &tell))
		return NULL;
	paths = directories ? encoded_paths(directories) : Py_BuildValue("[y]", "/usr/lib/debug");
	if (!paths)
		return NULL;
	error = make(paths, &symbolizer);
	Py_DecRef(paths);
	if (error)
		return tm_raise(error);
	if (debuginfod)
		tm_symbolizer_use_debuginfod(symbolizer);
	self = allocate(type, 0);
	if (!self) {
		tm_symbolizer_free(symbolizer);
		return NULL;
	}
	((struct symbolizer_object *)self)->symbolizer = symbolizer;
	if (tell && tell != Py_None) {
		Py_INCREF(tell);
		((struct symbolizer_object *)self)->tell = tell;
	}
	tm_symbolizer_tell(symbolizer, on_work, self);
	return self;
}

static void forget_texts(struct texts *texts)
{
	for (size_t i = 0; i < TEXTS; i++)
		Py_CLEAR(texts->values[i]);
	*texts = (struct texts){0};
}

static void symbolizer_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	forget_texts(texts_of(self));
	tm_symbolizer_free(of(self));
	Py_CLEAR(((struct symbolizer_object *)self)->tell);
	release(self);
	Py_DecRef((PyObject *)type);
}

/* As PyUnicode_FSConverter(); None leaves NULL. */
static int path_or_none(PyObject *given, void *ret)
{
	PyObject **path = ret;

	if (given)
		return given == Py_None ? 1 : PyUnicode_FSConverter(given, path);
	Py_XDECREF(*path);
	*path = NULL;
	return 1;
}

static PyObject *add_module(PyObject *self, PyObject *arguments, PyObject *keywords)
{
	static char *names[] = {"path", "start",      "end",   "bias", "build_id",
				"file", "other_file", "image", NULL};
	unsigned long long start, end, bias;
	PyObject *path = NULL, *file = NULL, *other_file = NULL;
	const char *build_id = "", *image = "";
	Py_ssize_t build_id_size = 0, image_size = 0;
	struct tm_module_description module;
	struct tm_error *error;

	if (!is_free(self))
		return NULL;
	/* A converter's result is released when a later argument is wrong. */
	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O&KKK|y#O&O&y#:add_module", names,
					 PyUnicode_FSConverter, &path, &start, &end, &bias,
					 &build_id, &build_id_size, path_or_none, &file,
					 path_or_none, &other_file, &image, &image_size))
		return NULL;
	module = (struct tm_module_description){
		.path = PyBytes_AsString(path),
		.file = file ? PyBytes_AsString(file) : NULL,
		.other_file = other_file ? PyBytes_AsString(other_file) : NULL,
		.image = (const uint8_t *)image,
		.image_size = (size_t)image_size,
		.start = start,
		.end = end,
		.bias = bias,
		.build_id = (const uint8_t *)build_id,
		.build_id_size = (size_t)build_id_size,
	};
	error = tm_symbolizer_add_module(of(self), &module);
	Py_XDECREF(other_file);
	Py_XDECREF(file);
	Py_DecRef(path);
	if (error)
		return tm_raise(error);
	Py_RETURN_NONE;
}

/*
 * Strings out of files have no encoding: undecodable bytes come through as file
 * names do.  The symbolizer keeps each string once; so is most of what is made of them.
 */
static PyObject *text_or_none(struct texts *texts, const char *text)
{
	size_t slot = (uintptr_t)text * UINT64_C(0x9e3779b97f4a7c15) >> 32 & (TEXTS - 1);

	if (!text)
		Py_RETURN_NONE;
	if (texts->keys[slot] != text) {
		PyObject *value = PyUnicode_DecodeFSDefault(text);

		if (!value)
			return NULL;
		Py_XDECREF(texts->values[slot]);
		texts->values[slot] = value;
		texts->keys[slot] = text;
	}
	Py_INCREF(texts->values[slot]);
	return texts->values[slot];
}

static PyObject *frame_tuple(struct texts *texts, const struct tm_frame_name *frame)
{
	PyObject *items[] = {
		text_or_none(texts, frame->file),           PyLong_FromUnsignedLong(frame->line),
		text_or_none(texts, frame->function),       text_or_none(texts, frame->module),
		PyLong_FromUnsignedLongLong(frame->offset), PyBool_FromLong(frame->inlined),
	};
	Py_ssize_t count = sizeof(items) / sizeof(*items);
	PyObject *tuple = PyTuple_New(count);

	for (Py_ssize_t i = 0; i < count; i++) {
		if (!items[i])
			Py_CLEAR(tuple);
		if (tuple)
			PyTuple_SetItem(tuple, i, items[i]);
		else
			Py_XDECREF(items[i]);
	}
	return tuple;
}

static PyObject *frame_list(struct texts *texts, const struct tm_frame_name *frames, size_t count)
{
	PyObject *list = PyList_New((Py_ssize_t)count);

	for (size_t i = 0; list && i < count; i++) {
		PyObject *frame = frame_tuple(texts, &frames[i]);

		if (!frame || PyList_SetItem(list, (Py_ssize_t)i, frame) < 0) {
			Py_DecRef(list);
			return NULL;
		}
	}
	return list;
}

static PyObject *resolve_one(PyObject *self, PyObject *item)
{
	const struct tm_frame_name *frames;
	unsigned long long address = PyLong_AsUnsignedLongLong(item);
	struct tm_error *error;
	size_t count;

	if (PyErr_Occurred())
		return NULL;
	((struct symbolizer_object *)self)->busy = true;
	error = tm_symbolizer_resolve(of(self), address, &frames, &count);
	((struct symbolizer_object *)self)->busy = false;
	return error ? tm_raise(error) : frame_list(texts_of(self), frames, count);
}

static PyObject *resolve(PyObject *self, PyObject *given)
{
	PyObject *list = is_free(self) ? PySequence_List(given) : NULL;
	Py_ssize_t count = list ? PyList_Size(list) : 0;

	for (Py_ssize_t i = 0; i < count; i++) {
		PyObject *frames;

		/* Loading a big file takes its time: Ctrl-C must work. */
		frames = i % ADDRESSES_BETWEEN_SIGNALS || PyErr_CheckSignals() == 0
				 ? resolve_one(self, PyList_GetItem(list, i))
				 : NULL;
		if (!frames || PyList_SetItem(list, i, frames) < 0) {
			Py_DecRef(list);
			return NULL;
		}
	}
	return list;
}

static PyObject *complaints(PyObject *self, PyObject *arguments)
{
	PyObject *list = is_free(self) ? PyList_New(0) : NULL;
	enum tm_complaint complaint;
	const char *path;

	(void)arguments;
	while (list && (path = tm_symbolizer_complaint(of(self), &complaint))) {
		const char *word = complaint == TM_COMPLAINT_CHANGED ? "changed" : "damaged";
		PyObject *item = Py_BuildValue("(Ns)", PyUnicode_DecodeFSDefault(path), word);

		if (!item || PyList_Append(list, item) < 0) {
			Py_DecRef(list);
			list = NULL;
		}
		Py_XDECREF(item);
	}
	return list;
}

static PyObject *clear(PyObject *self, PyObject *arguments)
{
	(void)arguments;
	if (!is_free(self))
		return NULL;
	forget_texts(texts_of(self));
	tm_symbolizer_clear(of(self));
	Py_RETURN_NONE;
}

/* Method tables hold one type of function; Python calls each by its flags. */
#define METHOD(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef methods[] = {
	{"add_module", METHOD(add_module), METH_VARARGS | METH_KEYWORDS,
	 "add_module(path, start, end, bias, build_id=b'', file=None, other_file=None, image=b'')\n\n"
	 "Tells what is mapped at start … end; replaces what was there.  `file` is where to\n"
	 "open it when that is not at `path`, `other_file` where else; `image` its bytes, used\n"
	 "where no file fits."},
	{"resolve", resolve, METH_O,
	 "resolve(addresses) -> list of lists of (file or None, line or 0, function or None,\n"
	 "module or None, offset, inlined), innermost first.  The offset is from the start of\n"
	 "the function, or from that of the module's file where no function is known.  Nothing\n"
	 "in a list: a stub is there, that no traceback shows."},
	{"complaints", complaints, METH_NOARGS,
	 "complaints() -> list of (module, 'changed' or 'damaged'): what stood in the way of\n"
	 "names so far; each is told once."},
	{"clear", clear, METH_NOARGS, "clear()\n\nForgets all modules and closes all files."},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
	{Py_tp_doc,
	 "Symbolizer(debug_directories=['/usr/lib/debug'], debuginfod=False, tell=None)\n\n"
	 "Names for addresses.  debuginfod: debug files that are not here are fetched.\n"
	 "tell('reading' or 'fetching', path, done, total) is called at most ten times a second\n"
	 "while resolve() has long work with an object: bytes, total 0 when it is not known.\n"
	 "Its exception, or Ctrl-C, ends resolve(); it must not use this symbolizer."},
	{Py_tp_new, symbolizer_new},
	{Py_tp_dealloc, symbolizer_dealloc},
	{Py_tp_methods, methods},
	{0, NULL},
};

static PyType_Spec specification = {
	.name = "_tm.Symbolizer",
	.basicsize = sizeof(struct symbolizer_object),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = slots,
};

int tm_add_symbolize(PyObject *module)
{
	PyObject *type = PyType_FromSpec(&specification);
	int result;

	if (!type)
		return -1;
	result = PyObject_SetAttrString(module, "Symbolizer", type);
	Py_DecRef(type);
	return result;
}
