/*
 * The extension module `_tm`: puts its parts together, see parts.h.
 *
 * May use: the limited Python API.  Must not use: gdb; must hold no logic.
 */
#include "parts.h"

PyObject *tm_exception;
PyObject *tm_plan_exception;

int tm_add_error(PyObject *module)
{
	tm_exception = PyErr_NewExceptionWithDoc(
		"_tm.Error", "Bad input to native code; the text is one clear line.", NULL, NULL);
	if (!tm_exception)
		return -1;
	tm_plan_exception = PyErr_NewExceptionWithDoc(
		"_tm.PlanError", "A function that cannot be patched; the text is the reason.",
		tm_exception, NULL);
	if (!tm_plan_exception)
		return -1;
	if (PyObject_SetAttrString(module, "Error", tm_exception) < 0)
		return -1;
	return PyObject_SetAttrString(module, "PlanError", tm_plan_exception);
}

PyObject *tm_raise(struct tm_error *error)
{
	if (error->kind == TM_ERROR_NO_MEMORY)
		PyErr_NoMemory();
	else if (error->kind == TM_ERROR_INTERRUPTED) /* a handler may have set another */
		PyErr_Occurred() ? (void)0 : PyErr_SetNone(PyExc_KeyboardInterrupt);
	else
		PyErr_SetString(error->kind == TM_ERROR_PLAN ? tm_plan_exception : tm_exception,
				error->message);
	tm_error_free(error);
	return NULL;
}

static struct PyModuleDef module_definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "_tm",
	.m_doc = "Native half of tm: images, symbols, ELF files and patch plans.",
	.m_size = -1,
};

PyMODINIT_FUNC PyInit__tm(void)
{
	PyObject *module = PyModule_Create(&module_definition);

	if (!module)
		return NULL;
	if (tm_add_error(module) < 0 || tm_add_layout(module) < 0 || tm_add_elf(module) < 0 ||
	    tm_add_plan(module) < 0 || tm_add_symbolize(module) < 0 || tm_add_image(module) < 0 ||
	    tm_add_analysis(module) < 0 || tm_add_dump(module) < 0) {
		Py_DecRef(module);
		return NULL;
	}
	return module;
}
