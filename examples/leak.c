/*
 * A single-threaded server that leaks: of every hundred sessions one is never
 * closed, and the journal grows with each request.  examples/leak.gdb finds
 * out where, examples/leak.txt is what that looks like.
 */
#include <stdlib.h>
#include <string.h>

struct session {
	int id;
	char *name;
	char *buffer;
};

struct journal {
	char **lines;
	size_t used, room;
};

static struct journal journal;
struct session *last_leaked;

static char *copy(const char *text)
{
	char *duplicate = malloc(strlen(text) + 1);

	return strcpy(duplicate, text);
}

__attribute__((noinline)) static struct session *session_open(int id)
{
	struct session *session = malloc(sizeof(*session));

	session->id = id;
	session->name = copy("a visitor from far away");
	session->buffer = calloc(1, 4096);
	return session;
}

__attribute__((noinline)) static void session_close(struct session *session)
{
	free(session->buffer);
	free(session->name);
	free(session);
}

__attribute__((noinline)) static void journal_add(const char *line)
{
	if (journal.used == journal.room) {
		journal.room = journal.room ? journal.room * 2 : 64;
		journal.lines = realloc(journal.lines, journal.room * sizeof(*journal.lines));
	}
	journal.lines[journal.used++] = copy(line);
}

__attribute__((noinline)) static void serve(int id)
{
	struct session *session = session_open(id);

	journal_add("GET /index.html");
	if (id % 100 == 99)
		last_leaked = session; /* the exit that forgets to close */
	else
		session_close(session);
}

void requests_done(int count);
__attribute__((noinline)) void requests_done(int count)
{
	__asm__ volatile("" : : "r"(count) : "memory");
}

int main(void)
{
	int id;

	for (id = 0; id < 3000; id++) {
		if (id % 1000 == 0)
			requests_done(id);
		serve(id);
	}
	requests_done(id);
	return 0;
}
