/*
 * Parts of the module that are not written yet: weak, so that the real one
 * takes precedence as soon as it is linked.
 *
 * May use: parts.h.  Must hold nothing else.
 */
#include "parts.h"

#define MISSING_PART(name)                                        \
	__attribute__((weak)) int tm_add_##name(PyObject *module) \
	{                                                         \
		(void)module;                                     \
		return 0;                                         \
	}

MISSING_PART(layout)
MISSING_PART(image)
MISSING_PART(analysis)
MISSING_PART(dump)
