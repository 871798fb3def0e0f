// The C++ half of track.c.
#include "tm.h"

extern "C" int track_in_other(unsigned int domain, void *address, size_t size)
{
	return tm_track(domain, address, size); // line: other
}

extern "C" struct tm_tracker *other_tracker()
{
	return &tm_tracker;
}
