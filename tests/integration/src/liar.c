/* A libc that lies to pg_calsync, and to nobody else, as long as it is told to: so that the real code, as it is released,
 * panics where secrets are in its hands. Each lie is a file of its name in $CALSYNC_LIES, with the number of whom it is
 * told to: send, to connections with that port; read (once) and clock_gettime, to the process of that number. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* 0: the truth is told. */
static long told_to(const char *lie, void *caller)
{
    Dl_info who;
    char path[4096];
    const char *lies = getenv("CALSYNC_LIES");
    long number = 0;
    FILE *file;

    if (lies == NULL || !dladdr(caller, &who) || who.dli_fname == NULL || strstr(who.dli_fname, "/pg_calsync.so") == NULL)
        return 0;
    snprintf(path, sizeof path, "%s/%s", lies, lie);
    file = fopen(path, "r");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%ld", &number) != 1)
        number = 0;
    fclose(file);
    return number;
}

static void take_back(const char *lie)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/%s", getenv("CALSYNC_LIES"), lie);
    unlink(path);
}

static long port_of_peer(int socket)
{
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;

    if (getpeername(socket, (struct sockaddr *) &peer, &length) != 0)
        return -1;
    if (peer.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *) &peer)->sin6_port);
    return ntohs(((struct sockaddr_in *) &peer)->sin_port);
}

/* One byte more was sent than there were: Rust's write_all() slices beyond its end. */
ssize_t send(int socket, const void *bytes, size_t count, int flags)
{
    static ssize_t (*truly)(int, const void *, size_t, int);
    ssize_t sent;

    if (truly == NULL)
        truly = dlsym(RTLD_NEXT, "send");
    sent = truly(socket, bytes, count, flags);
    return sent > 0 && told_to("send", __builtin_return_address(0)) == port_of_peer(socket) ? sent + 1 : sent;
}

/* One byte more was read than there was room for: Rust's read_to_end() slices its first, small buffer beyond its end. */
ssize_t read(int file, void *room, size_t count)
{
    static ssize_t (*truly)(int, void *, size_t);
    ssize_t got;

    if (truly == NULL)
        truly = dlsym(RTLD_NEXT, "read");
    got = truly(file, room, count);
    if (got <= 0 || (size_t) got != count || told_to("read", __builtin_return_address(0)) != getpid())
        return got;
    /* Once: Rust itself reads files, to make a backtrace. */
    take_back("read");
    return got + 1;
}

/* There is no clock: Rust's Instant::now() unwraps the error. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*truly)(clockid_t, struct timespec *);

    if (truly == NULL)
        truly = dlsym(RTLD_NEXT, "clock_gettime");
    if (told_to("clock_gettime", __builtin_return_address(0)) == getpid())
    {
        errno = EINVAL;
        return -1;
    }
    return truly(clock, now);
}
