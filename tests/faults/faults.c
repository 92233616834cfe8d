/* A disk that fills up and a clock that jumps, for one process: a library for LD_PRELOAD.
 *
 * FAULT_DISK: the folder on the disk. FAULT_AT: the number of the first write there that fails, from 1 on; it writes one
 * half of its bytes, and all later ones fail at once. FAULT_LOG: a file that gets one byte per write, so that a test
 * knows how many there are.
 * FAULT_ERRNO: the error of these writes, if it is not ENOSPC. With EROFS the folder is a read-only file system.
 * FAULT_CLOCK: seconds by which the wall clock jumps at the look number FAULT_LOOK.
 *
 * The variables are read at every call, because tests set them after a fork.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(type, name, ...)                                                  \
    static type (*real)(__VA_ARGS__);                                          \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static long writes = 0, looks = 0;

/* Return 0 if there is space for a write below `path`, 1 if this is the first write without, 2 after it. */
static int is_full(const char *path) {
    const char *disk = getenv("FAULT_DISK"), *at = getenv("FAULT_AT"), *log = getenv("FAULT_LOG");
    if (!disk || !path || strncmp(path, disk, strlen(disk))) return 0;
    long number = __atomic_add_fetch(&writes, 1, __ATOMIC_SEQ_CST);
    if (log) {
        int file = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (file >= 0) {
            syscall(SYS_write, file, ".", 1);
            syscall(SYS_close, file);
        }
    }
    if (!at || number < atol(at)) return 0;
    const char *error = getenv("FAULT_ERRNO");
    errno = error ? atoi(error) : ENOSPC;
    return number == atol(at) ? 1 : 2;
}

/* The same for an open file. */
static int is_full_file(int file) {
    char link[64], path[PATH_MAX];
    if (!getenv("FAULT_DISK")) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_full(path);
}

static mode_t mode_of(int flags, va_list rest) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; }

#define OPEN(name)                                                             \
    int name(const char *path, int flags, ...) {                               \
        REAL(int, #name, const char *, int, mode_t);                           \
        va_list rest;                                                          \
        va_start(rest, flags);                                                 \
        mode_t mode = mode_of(flags, rest);                                    \
        va_end(rest);                                                          \
        return flags & O_CREAT && is_full(path) ? -1 : real(path, flags, mode);\
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                           \
    int name(int folder, const char *path, int flags, ...) {                   \
        REAL(int, #name, int, const char *, int, mode_t);                      \
        va_list rest;                                                          \
        va_start(rest, flags);                                                 \
        mode_t mode = mode_of(flags, rest);                                    \
        va_end(rest);                                                          \
        return flags & O_CREAT && is_full(path) ? -1 : real(folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    /* A folder that exists takes no space. */
    return access(path, F_OK) && is_full(path) ? -1 : real(path, mode);
}

/* A full disk lets one delete and rename. */
static int is_read_only(const char *path) {
    const char *error = getenv("FAULT_ERRNO");
    return error && atoi(error) == EROFS && is_full(path);
}

int rename(const char *path, const char *to) {
    REAL(int, "rename", const char *, const char *);
    return is_read_only(path) ? -1 : real(path, to);
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    return is_read_only(path) ? -1 : real(path);
}

int rmdir(const char *path) {
    REAL(int, "rmdir", const char *);
    return is_read_only(path) ? -1 : real(path);
}

ssize_t write(int file, const void *bytes, size_t count) {
    REAL(ssize_t, "write", int, const void *, size_t);
    int full = is_full_file(file);
    return !full ? real(file, bytes, count) : full == 1 && count > 1 ? real(file, bytes, count / 2) : -1;
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    return is_full_file(file) ? -1 : real(file, parts, count);
}

#define PWRITE(name, offset_type)                                              \
    ssize_t name(int file, const void *bytes, size_t count, offset_type at) {  \
        REAL(ssize_t, #name, int, const void *, size_t, offset_type);          \
        return is_full_file(file) ? -1 : real(file, bytes, count, at);         \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define TRUNCATE(name, offset_type)                                            \
    int name(int file, offset_type size) {                                     \
        REAL(int, #name, int, offset_type);                                    \
        return is_full_file(file) ? -1 : real(file, size);                     \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

/* Seconds by which the wall clock is wrong now. */
static long jump(void) {
    const char *seconds = getenv("FAULT_CLOCK"), *look = getenv("FAULT_LOOK");
    if (!seconds) return 0;
    return __atomic_add_fetch(&looks, 1, __ATOMIC_SEQ_CST) >= (look ? atol(look) : 0) ? atol(seconds) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    int status = real(clock, now);
    if (!status && clock == CLOCK_REALTIME) now->tv_sec += jump();
    return status;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    REAL(int, "gettimeofday", struct timeval *, void *);
    int status = real(now, zone);
    if (!status) now->tv_sec += jump();
    return status;
}

time_t time(time_t *place) {
    REAL(time_t, "time", time_t *);
    time_t now = real(place) + jump();
    if (place) *place = now;
    return now;
}
