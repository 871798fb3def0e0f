/*
 * The extension module `_tm` is put together from parts.  Each part adds its
 * functions and types to the module, and returns 0, or -1 with a Python error
 * set.  This header also holds the little glue the parts share.
 *
 * May use: the limited Python API, error.h.  Must not use: gdb.
 */
#ifndef TM_PARTS_H
#define TM_PARTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "error.h"

/* Exceptions, made by tm_add_error(). */
extern PyObject *tm_exception;      /* _tm.Error */
extern PyObject *tm_plan_exception; /* _tm.PlanError, an Error */

int tm_add_error(PyObject *module);
int tm_add_layout(PyObject *module);
int tm_add_elf(PyObject *module);
int tm_add_plan(PyObject *module);
int tm_add_symbolize(PyObject *module);
int tm_add_image(PyObject *module);
int tm_add_analysis(PyObject *module);
int tm_add_dump(PyObject *module);

/*
 * Turns an error value into the Python exception of its kind and frees it.
 * Returns NULL, so that a method can end with `return tm_raise(error);`.
 */
PyObject *tm_raise(struct tm_error *error);

#endif
