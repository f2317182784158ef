// Loaded before libc: at the RDE_SHIM_AT-th call that changes a disk, does RDE_SHIM_DO. Calls on standard output and
// error do not count. With RDE_SHIM_AT=0 it only counts, and says how many at exit on standard error.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WRITES = 1, SYNCS = 2, NAMES = 4 };

static long at = -1, calls;
static const char *what = "";

__attribute__((constructor)) static void start(void) {
    const char *number = getenv("RDE_SHIM_AT");
    const char *action = getenv("RDE_SHIM_DO");
    at = number ? atol(number) : -1;
    what = action ? action : "";
}

__attribute__((destructor)) static void stop(void) {
    if (at == 0) fprintf(stderr, "shim: %ld calls\n", calls);
}

static int is(const char *name) { return strcmp(what, name) == 0; }

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

// Whether this call is the one; errors that do not concern its class pass on to the next.
static int due(int class) {
    if (at < 0) return 0;
    int counts = class;
    if (is("eio-write") || is("enospc") || is("short") || is("half")) counts = class == WRITES;
    if (is("eio-sync")) counts = class == SYNCS;
    if (!counts) return 0;
    return ++calls == at;
}

static int failing(void) {
    if (is("kill")) die();
    if (is("enospc")) errno = ENOSPC;
    else errno = EIO;
    return -1;
}

#define NEXT(type, name) static type next; if (!next) next = (type)dlsym(RTLD_NEXT, name)

typedef ssize_t (*pwrite_call)(int, const void *, size_t, off_t);

ssize_t pwrite64(int fd, const void *bytes, size_t len, off_t offset) {
    NEXT(pwrite_call, "pwrite64");
    if (due(WRITES)) {
        if (is("half")) { (void)!next(fd, bytes, len / 2, offset); die(); }
        if (is("short") && len > 1) return next(fd, bytes, len / 2, offset);
        return failing();
    }
    return next(fd, bytes, len, offset);
}
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset) { return pwrite64(fd, bytes, len, offset); }

typedef ssize_t (*write_call)(int, const void *, size_t);

ssize_t write(int fd, const void *bytes, size_t len) {
    NEXT(write_call, "write");
    if (fd > 2 && due(WRITES)) {
        if (is("half")) { (void)!next(fd, bytes, len / 2); die(); }
        if (is("short") && len > 1) return next(fd, bytes, len / 2);
        return failing();
    }
    return next(fd, bytes, len);
}

typedef int (*fd_call)(int);

int fdatasync(int fd) {
    NEXT(fd_call, "fdatasync");
    return due(SYNCS) ? failing() : next(fd);
}

int fsync(int fd) {
    NEXT(fd_call, "fsync");
    return due(SYNCS) ? failing() : next(fd);
}

typedef int (*rename_call)(const char *, const char *);

int rename(const char *from, const char *to) {
    NEXT(rename_call, "rename");
    return due(NAMES) ? failing() : next(from, to);
}

typedef int (*unlink_call)(const char *);

int unlink(const char *path) {
    NEXT(unlink_call, "unlink");
    return due(NAMES) ? failing() : next(path);
}

typedef int (*truncate_call)(int, off_t);

int ftruncate64(int fd, off_t len) {
    NEXT(truncate_call, "ftruncate64");
    return due(NAMES) ? failing() : next(fd, len);
}

typedef int (*open_call)(const char *, int, ...);

int open64(const char *path, int flags, ...) {
    NEXT(open_call, "open64");
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    if ((flags & O_CREAT) && due(NAMES)) return failing();
    return next(path, flags, mode);
}
