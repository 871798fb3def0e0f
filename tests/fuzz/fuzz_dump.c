/*
 * The loader of dump files as users have it: tm.dumpfile in an embedded Python, with the
 * extension module compiled in.  What the loader answers to each input is judged by
 * try_dump() in dump_target.py.
 *
 * Run it in the top folder: it imports from gdb-plugin and tests/fuzz.
 *
 * Links all of gdb-plugin/native: see the Makefile.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "fuzz.h"

PyMODINIT_FUNC PyInit__tm(void);

static PyObject *try_dump;

static void start_python(void)
{
	PyObject *module;

	PyImport_AppendInittab("_tm", PyInit__tm);
	setenv("PYTHONPATH", "gdb-plugin:tests/fuzz", 1);
	Py_InitializeEx(0);
	module = PyImport_ImportModule("dump_target");
	try_dump = module ? PyObject_GetAttrString(module, "try_dump") : NULL;
	if (!try_dump) {
		PyErr_Print();
		exit(2);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	PyObject *result;

	if (!try_dump)
		start_python();
	result = PyObject_CallFunction(try_dump, "y#", (const char *)data, (Py_ssize_t)size);
	if (!result) {
		PyErr_Print();
		abort();
	}
	Py_DecRef(result);
	return 0;
}
