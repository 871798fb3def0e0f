/*
 * _tm.functions, _tm.elf_segments and _tm.helper_image: elf_file.h for Python.
 *
 * May use: the limited Python API, elf_file.h.  Must not use: gdb; must hold no
 * logic of its own.
 */
#include "parts.h"

#include "elf_file.h"

/* Stores item under key and drops the reference to it; item may be NULL after an error. */
static int set_item(PyObject *dict, const char *key, PyObject *item)
{
	int result;

	if (!item)
		return -1;
	result = PyDict_SetItemString(dict, key, item);
	Py_DecRef(item);
	return result;
}

static PyObject *bytes_object(const uint8_t *bytes, size_t size)
{
	return PyBytes_FromStringAndSize((const char *)bytes, (Py_ssize_t)size);
}

/* Strings in files have no encoding: undecodable bytes come through as file names do. */
static PyObject *string_or_none(const char *string)
{
	if (!string)
		Py_RETURN_NONE;
	return PyUnicode_DecodeFSDefault(string);
}

/* A list of count items; make(context, i) gives item i or NULL with an error set. */
static PyObject *build_list(size_t count, PyObject *(*make)(const void *context, size_t i),
			    const void *context)
{
	PyObject *list = PyList_New((Py_ssize_t)count);

	for (size_t i = 0; list && i < count; i++) {
		PyObject *item = make(context, i);

		if (!item || PyList_SetItem(list, (Py_ssize_t)i, item) < 0) {
			Py_DecRef(list);
			return NULL;
		}
	}
	return list;
}

/* ---- functions -------------------------------------------------------- */

struct function_list {
	const struct tm_elf_functions *functions;
	PyObject **names;
};

static PyObject *function_tuple(const void *context, size_t i)
{
	const struct function_list *list = context;
	const struct tm_elf_function *function = &list->functions->items[i];

	return Py_BuildValue("(OKKs)", list->names[function->name],
			     (unsigned long long)function->vaddr,
			     (unsigned long long)function->size,
			     function->dynamic ? "dynsym" : "symtab");
}

static PyObject *functions_list(const char *path, PyObject **names, const char **texts,
				size_t count)
{
	struct tm_elf_functions functions;
	struct function_list list = {.functions = &functions, .names = names};
	struct tm_names set;
	struct tm_error *error;
	PyObject *result;

	error = tm_names_init(&set, texts, count);
	if (error)
		return tm_raise(error);
	error = tm_elf_find_functions(path, &set, &functions);
	tm_names_deinit(&set);
	if (error)
		return tm_raise(error);
	result = build_list(functions.count, function_tuple, &list);
	tm_elf_functions_deinit(&functions);
	return result;
}

static PyObject *functions_method(PyObject *self, PyObject *arguments)
{
	PyObject *path, *given, *names, *encoded, *result = NULL, **items = NULL;
	const char **texts = NULL;
	Py_ssize_t count, i;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "O&O:functions", PyUnicode_FSConverter, &path, &given))
		return NULL;
	names = PySequence_List(given);
	count = names ? PyList_Size(names) : 0;
	encoded = names ? PyList_New(count) : NULL;
	if (encoded) {
		items = PyMem_Calloc((size_t)count + 1, sizeof(*items));
		texts = PyMem_Calloc((size_t)count + 1, sizeof(*texts));
		if (!items || !texts)
			PyErr_NoMemory();
	}
	if (items && texts) {
		for (i = 0; i < count; i++) {
			PyObject *bytes;

			items[i] = PyList_GetItem(names, i);
			bytes = PyUnicode_AsUTF8String(items[i]);
			if (!bytes || PyList_SetItem(encoded, i, bytes) < 0)
				break;
			texts[i] = PyBytes_AsString(bytes);
		}
		if (i == count)
			result =
				functions_list(PyBytes_AsString(path), items, texts, (size_t)count);
	}
	PyMem_Free(texts);
	PyMem_Free(items);
	Py_XDECREF(encoded);
	Py_XDECREF(names);
	Py_DecRef(path);
	return result;
}

/* ---- elf_segments ----------------------------------------------------- */

static PyObject *segment_tuple(const void *context, size_t i)
{
	const struct tm_elf_segment *segment = &((const struct tm_elf_info *)context)->segments[i];

	return Py_BuildValue("(kKKKKk)", (unsigned long)segment->type,
			     (unsigned long long)segment->vaddr,
			     (unsigned long long)segment->offset,
			     (unsigned long long)segment->filesz,
			     (unsigned long long)segment->memsz, (unsigned long)segment->flags);
}

static PyObject *info_dict(const struct tm_elf_info *info)
{
	PyObject *dict = PyDict_New();

	if (!dict)
		return NULL;
	if (set_item(dict, "segments", build_list(info->segment_count, segment_tuple, info)) < 0 ||
	    set_item(dict, "build_id", bytes_object(info->build_id, info->build_id_size)) < 0 ||
	    set_item(dict, "entry", PyLong_FromUnsignedLongLong(info->entry)) < 0 ||
	    set_item(dict, "machine", PyLong_FromUnsignedLong(info->machine)) < 0 ||
	    set_item(dict, "type", PyLong_FromUnsignedLong(info->type)) < 0 ||
	    set_item(dict, "soname", string_or_none(info->soname)) < 0 ||
	    set_item(dict, "interp", string_or_none(info->interp)) < 0) {
		Py_DecRef(dict);
		return NULL;
	}
	return dict;
}

static PyObject *elf_segments_method(PyObject *self, PyObject *arguments)
{
	struct tm_elf_info info;
	struct tm_error *error;
	PyObject *path, *result;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "O&:elf_segments", PyUnicode_FSConverter, &path))
		return NULL;
	error = tm_elf_read_info(PyBytes_AsString(path), &info);
	Py_DecRef(path);
	if (error)
		return tm_raise(error);
	result = info_dict(&info);
	tm_elf_info_deinit(&info);
	return result;
}

/* ---- helper_image ----------------------------------------------------- */

static PyObject *helper_segment_tuple(const void *context, size_t i)
{
	const struct tm_helper_segment *segment =
		&((const struct tm_helper_image *)context)->segments[i];

	return Py_BuildValue("(Ky#Kk)", (unsigned long long)segment->offset,
			     (const char *)segment->bytes, (Py_ssize_t)segment->size,
			     (unsigned long long)segment->memsz, (unsigned long)segment->flags);
}

static PyObject *symbols_dict(const struct tm_helper_image *image)
{
	PyObject *dict = PyDict_New();

	for (size_t i = 0; dict && i < image->symbol_count; i++) {
		if (set_item(dict, image->symbols[i].name,
			     PyLong_FromUnsignedLongLong(image->symbols[i].offset)) < 0) {
			Py_DecRef(dict);
			return NULL;
		}
	}
	return dict;
}

static PyObject *image_dict(const struct tm_helper_image *image)
{
	PyObject *dict = PyDict_New();

	if (!dict)
		return NULL;
	if (set_item(dict, "size", PyLong_FromUnsignedLongLong(image->size)) < 0 ||
	    set_item(dict, "segments",
		     build_list(image->segment_count, helper_segment_tuple, image)) < 0 ||
	    set_item(dict, "symbols", symbols_dict(image)) < 0 ||
	    set_item(dict, "build_id", bytes_object(image->build_id, image->build_id_size)) < 0 ||
	    set_item(dict, "eh_frame",
		     Py_BuildValue("(KK)", (unsigned long long)image->eh_frame,
				   (unsigned long long)image->eh_frame_size)) < 0 ||
	    set_item(dict, "relocations", PyLong_FromUnsignedLongLong(image->relocations)) < 0) {
		Py_DecRef(dict);
		return NULL;
	}
	return dict;
}

static PyObject *helper_image_method(PyObject *self, PyObject *arguments)
{
	struct tm_helper_image image;
	struct tm_error *error;
	PyObject *path, *result;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "O&:helper_image", PyUnicode_FSConverter, &path))
		return NULL;
	error = tm_helper_image_read(PyBytes_AsString(path), &image);
	Py_DecRef(path);
	if (error)
		return tm_raise(error);
	result = image_dict(&image);
	tm_helper_image_deinit(&image);
	return result;
}

/* ---- the part --------------------------------------------------------- */

static PyMethodDef methods[] = {
	{"functions", functions_method, METH_VARARGS,
	 "functions(path, names) -> [(name, vaddr, size, 'dynsym' or 'symtab')]\n\n"
	 "The defined functions of an ELF file that have one of the names."},
	{"elf_segments", elf_segments_method, METH_VARARGS,
	 "elf_segments(path) -> dict\n\n"
	 "Program headers (type, vaddr, offset, filesz, memsz, flags) and identity of an ELF "
	 "file."},
	{"helper_image", helper_image_method, METH_VARARGS,
	 "helper_image(path) -> dict\n\nThe helper as it is to be copied into a process."},
	{NULL, NULL, 0, NULL},
};

int tm_add_elf(PyObject *module)
{
	return PyModule_AddFunctions(module, methods);
}
