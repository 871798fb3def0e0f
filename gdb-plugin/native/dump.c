/*
 * Compression for dump files: `_tm.compress`, `_tm.decompress`.
 *
 * May use: zstd, parts.h.  Must not use: gdb.  Must never write more than the
 * size that the caller allows: a small file may claim to be a huge one.
 */
#include <zstd.h>

#include "parts.h"

#define LEVEL 3

static PyObject *compress(PyObject *self, PyObject *arguments)
{
	const char *bytes;
	Py_ssize_t length;
	PyObject *result = NULL;
	ZSTD_CCtx *context;
	size_t bound, used = 0;
	char *buffer;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "y#:compress", &bytes, &length))
		return NULL;
	bound = ZSTD_compressBound((size_t)length);
	context = ZSTD_createCCtx();
	buffer = PyMem_Malloc(bound);
	if (context && buffer) {
		ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, LEVEL);
		ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
		Py_BEGIN_ALLOW_THREADS used =
			ZSTD_compress2(context, buffer, bound, bytes, (size_t)length);
		Py_END_ALLOW_THREADS if (ZSTD_isError(used))
			PyErr_Format(tm_exception, "cannot compress: %s", ZSTD_getErrorName(used));
		else result = PyBytes_FromStringAndSize(buffer, (Py_ssize_t)used);
	} else {
		PyErr_NoMemory();
	}
	PyMem_Free(buffer);
	ZSTD_freeCCtx(context);
	return result;
}

static PyObject *decompress(PyObject *self, PyObject *arguments)
{
	const char *bytes;
	Py_ssize_t length, size;
	PyObject *result;
	char *buffer;
	size_t made;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "y#n:decompress", &bytes, &length, &size))
		return NULL;
	if (size < 0)
		return PyErr_Format(tm_exception, "a size cannot be negative");
	result = PyBytes_FromStringAndSize(NULL, size);
	if (!result)
		return NULL;
	buffer = PyBytes_AsString(result);
	Py_BEGIN_ALLOW_THREADS made = ZSTD_decompress(buffer, (size_t)size, bytes, (size_t)length);
	Py_END_ALLOW_THREADS if (ZSTD_isError(made) || made != (size_t)size)
	{
		Py_DECREF(result);
		return PyErr_Format(tm_exception, "cannot decompress: %s",
				    ZSTD_isError(made) ? ZSTD_getErrorName(made)
						       : "it is shorter than it says");
	}
	return result;
}

static PyMethodDef functions[] = {
	{"compress", compress, METH_VARARGS, "compress(bytes) -> bytes, with a checksum"},
	{"decompress", decompress, METH_VARARGS,
	 "decompress(bytes, size) -> bytes: exactly `size` of them, or an error"},
	{NULL, NULL, 0, NULL},
};

int tm_add_dump(PyObject *module)
{
	return PyModule_AddFunctions(module, functions);
}
