/* For LD_PRELOAD: fsync and fdatasync of a database (FILE, FILE-wal, FILE-journal) report EIO
 * while there is a file FILE.fsync-fails beside it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void strip(char *path, const char *suffix)
{
    size_t length = strlen(path), tail = strlen(suffix);
    if (length > tail && strcmp(path + length - tail, suffix) == 0)
        path[length - tail] = '\0';
}

static int fails(int file)
{
    char link[64], path[4096 + 16];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, 4096);
    if (length < 0)
        return 0;
    path[length] = '\0';
    strip(path, "-wal");
    strip(path, "-journal");
    strcat(path, ".fsync-fails");
    return access(path, F_OK) == 0;
}

static int sync_or_fail(const char *name, int file)
{
    int saved = errno;
    if (fails(file)) {
        errno = EIO;
        return -1;
    }
    errno = saved;
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(file);
}

int fsync(int file) { return sync_or_fail("fsync", file); }
int fdatasync(int file) { return sync_or_fail("fdatasync", file); }
