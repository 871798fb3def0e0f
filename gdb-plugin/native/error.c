/*
 * Errors as values: see error.h.
 *
 * May use: the C library.  Must not use: Python, gdb.
 */
#define _GNU_SOURCE
#include "error.h"

#include <stdio.h>
#include <stdlib.h>

static struct tm_error no_memory = {
	.kind = TM_ERROR_NO_MEMORY,
	.message = "out of memory",
};

static struct tm_error interrupted = {
	.kind = TM_ERROR_INTERRUPTED,
	.message = "interrupted",
};

struct tm_error *tm_error_new(enum tm_error_kind kind, const char *format, ...)
{
	struct tm_error *error = malloc(sizeof(*error));
	char *message = NULL;
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vasprintf(&message, format, arguments);
	va_end(arguments);
	if (!error || length < 0) {
		if (length >= 0)
			free(message);
		free(error);
		return &no_memory;
	}
	/* Names out of hostile files must not break the line or drive a terminal. */
	for (char *c = message; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	error->kind = kind;
	error->message = message;
	return error;
}

struct tm_error *tm_error_no_memory(void)
{
	return &no_memory;
}

struct tm_error *tm_error_interrupted(void)
{
	return &interrupted;
}

void tm_error_free(struct tm_error *error)
{
	if (!error || error == &no_memory || error == &interrupted)
		return;
	free((char *)error->message);
	free(error);
}
