/*
 * Errors of the native code, as values: a fallible function returns
 * `struct tm_error *`, NULL for success, and hands its result over through a
 * last parameter called `ret`.  The message is one clear line for the user.
 *
 * May use: the C library.  Must not use: Python, gdb.
 */
#ifndef TM_ERROR_H
#define TM_ERROR_H

#include <stdarg.h>

enum tm_error_kind {
	TM_ERROR_INPUT,     /* a file or an argument is not what it should be */
	TM_ERROR_PLAN,      /* a function that cannot be patched, with the reason */
	TM_ERROR_NO_MEMORY, /* of our own process */
	TM_ERROR_INTERRUPTED,
};

struct tm_error {
	enum tm_error_kind kind;
	const char *message;
};

/* Never returns NULL: without memory it returns tm_error_no_memory(). */
struct tm_error *tm_error_new(enum tm_error_kind kind, const char *format, ...)
	__attribute__((format(printf, 2, 3), warn_unused_result));

/* Allocates nothing. */
struct tm_error *tm_error_no_memory(void) __attribute__((warn_unused_result));

/* Allocates nothing: the user stopped it. */
struct tm_error *tm_error_interrupted(void) __attribute__((warn_unused_result));

/* Accepts NULL. */
void tm_error_free(struct tm_error *error);

#endif
