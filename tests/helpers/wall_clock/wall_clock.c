/* A wall clock of a process's own, for LD_PRELOAD: the machine's, and as many seconds more as the file WALL_CLOCK_FILE
   has (eight bytes, the machine's order), read anew each time. All other clocks and all waits stay as they are.
   Only tests use it; see __init__.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t none = 0;
static const volatile int64_t *ahead = &none;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("WALL_CLOCK_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    if (file < 0)
        return;
    void *found = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED)
        ahead = found;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    if (!real_clock_gettime) /* another library's constructor comes before this one's */
        real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real_clock_gettime(id, now);
    if (code == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        now->tv_sec += *ahead;
    return code;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec found;
    int code = clock_gettime(CLOCK_REALTIME, &found);

    (void)zone;
    if (code == 0) {
        now->tv_sec = found.tv_sec;
        now->tv_usec = found.tv_nsec / 1000;
    }
    return code;
}

time_t time(time_t *where)
{
    struct timespec found;
    time_t now = clock_gettime(CLOCK_REALTIME, &found) == 0 ? found.tv_sec : (time_t)-1;

    if (where)
        *where = now;
    return now;
}
