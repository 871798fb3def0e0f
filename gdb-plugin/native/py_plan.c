/*
 * _tm.plan: plan.h for Python.
 *
 * May use: the limited Python API, plan.h.  Must not use: gdb; must hold no
 * logic of its own.
 */
#include "parts.h"

#include "plan.h"

static PyObject *plan_dict(const struct tm_plan *plan)
{
	PyObject *points = PyList_New((Py_ssize_t)plan->point_count);

	for (uint32_t i = 0; points && i < plan->point_count; i++) {
		PyObject *point = Py_BuildValue("(ii)", plan->points[i].from, plan->points[i].to);

		if (!point || PyList_SetItem(points, (Py_ssize_t)i, point) < 0) {
			Py_DecRef(points);
			return NULL;
		}
	}
	if (!points)
		return NULL;
	return Py_BuildValue("{s:k,s:k,s:y#,s:N,s:y#,s:N}", "offset", (unsigned long)plan->offset,
			     "length", (unsigned long)plan->length, "relocated",
			     (const char *)plan->relocated, (Py_ssize_t)plan->relocated_length,
			     "points", points, "written", (const char *)plan->written,
			     (Py_ssize_t)plan->length, "moves_call",
			     PyBool_FromLong(plan->moves_call));
}

static PyObject *plan_method(PyObject *self, PyObject *arguments)
{
	unsigned long long function, size, original_at, relay_at;
	struct tm_plan_request request;
	struct tm_plan plan;
	struct tm_error *error;
	PyObject *given, *code;
	Py_ssize_t length;
	char *bytes;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "OKKKK:plan", &given, &function, &size, &original_at,
			      &relay_at))
		return NULL;
	code = PyBytes_FromObject(given);
	if (!code)
		return NULL;
	if (PyBytes_AsStringAndSize(code, &bytes, &length) < 0) {
		Py_DecRef(code);
		return NULL;
	}
	request = (struct tm_plan_request){
		.code = (const uint8_t *)bytes,
		.code_size = (size_t)length,
		.function = function,
		.size = size,
		.original_at = original_at,
		.relay_at = relay_at,
	};
	error = tm_plan_patch(&request, &plan);
	Py_DecRef(code);
	return error ? tm_raise(error) : plan_dict(&plan);
}

static PyMethodDef methods[] = {
	{"plan", plan_method, METH_VARARGS,
	 "plan(code, function, size, original_at, relay_at) -> dict\n\n"
	 "How to redirect a function by a jump over its first instructions, and those\n"
	 "instructions as they are to be run elsewhere.  Raises PlanError with the reason."},
	{NULL, NULL, 0, NULL},
};

int tm_add_plan(PyObject *module)
{
	return PyModule_AddFunctions(module, methods);
}
