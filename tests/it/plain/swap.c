/* Swaps links while their paths are opened, looked at, read and executed: what the container has at /marker must never be
 * seen. `swap TRIES` prints the number of tries and of what was seen. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_int stop;
static const char *targets[] = {
    "/etc", "/proc", "/proc/self", "/proc/self/root", "/proc/self/cwd", "/proc/self/fd", "..", "../..",
    "/proc/self/root/..", "/proc/self/task", "/dev/fd", "/", "/proc/1", "/proc/1/root", "/nowhere"};
static const char *tails[] = {
    "marker", "../marker", "../../marker", "../../../marker", "1/root/marker", "root/marker", "cwd/../marker",
    "environ", "../1/environ", "root/../../marker", "3/../marker", "self/root/marker", "hostname"};
#define COUNT(a) (sizeof(a) / sizeof *(a))

static void *swaps(void *seed) {
    unsigned random = (unsigned)(size_t)seed;
    char fresh[32];
    snprintf(fresh, sizeof fresh, "/s/fresh%u", random);
    while (!stop) {
        symlink(targets[rand_r(&random) % COUNT(targets)], fresh);
        rename(fresh, "/s/link");
        /* The path itself changes, too, while somebody reads it. */
    }
    return 0;
}

/* A path in memory that another thread changes. */
static char shared[64] = "/etc/hostname";
static void *changes(void *unused) {
    while (!stop) {
        memcpy(shared, "/proc/self/root/../marker\0", 26);
        memcpy(shared, "/etc/hostname\0", 14);
        memcpy(shared, "/proc/1/environ\0", 16);
        memcpy(shared, "/proc/self/status\0", 18);
    }
    return 0;
}

static long seen;
static void look(int fd) {
    char text[4096];
    if (fd < 0) return;
    long length = read(fd, text, sizeof text - 1);
    if (length > 0) {
        text[length] = 0;
        if (memmem(text, length, "MARKER-OF-THE-CONTAINER", 23)) seen++;
    }
    struct stat stat;
    if (fstat(fd, &stat) == 0 && S_ISDIR(stat.st_mode)) {
        int inner = openat(fd, "../marker", O_RDONLY | O_NONBLOCK);
        if (inner >= 0) look(inner);
        inner = openat(fd, "../../../../../marker", O_RDONLY | O_NONBLOCK);
        if (inner >= 0) look(inner);
    }
    close(fd);
}

int main(int argc, char **argv) {
    int tries = argc > 1 ? atoi(argv[1]) : 1000;
    unsigned random = argc > 2 ? atoi(argv[2]) : 1;
    pthread_t threads[3];
    mkdir("/s", 0755);
    symlink("/etc", "/s/link");
    pthread_create(&threads[0], 0, swaps, (void *)(size_t)(random + 7));
    pthread_create(&threads[1], 0, swaps, (void *)(size_t)(random + 8));
    pthread_create(&threads[2], 0, changes, 0);
    for (int i = 0; i < tries; i++) {
        char path[128], text[256];
        struct stat stat_;
        snprintf(path, sizeof path, "/s/link/%s", tails[rand_r(&random) % COUNT(tails)]);
        switch (rand_r(&random) % 6) {
        case 0: look(open(path, O_RDONLY | O_NONBLOCK)); break;
        case 1: look(open("/s/link", O_RDONLY | O_DIRECTORY)); break;
        case 2: look(open(shared, O_RDONLY | O_NONBLOCK)); break;
        case 3: {
            int fd = open("/s/link", O_PATH | O_DIRECTORY);
            if (fd >= 0) { look(openat(fd, "../marker", O_RDONLY | O_NONBLOCK)); close(fd); }
            break;
        }
        case 4:
            if (stat(path, &stat_) == 0 && stat_.st_size == 4242) seen++;
            break;
        default: {
            long length = readlink(path, text, sizeof text - 1);
            if (length > 0) { text[length] = 0; if (strstr(text, "rbuild/tmp")) seen++; }
        }
        }
    }
    stop = 1;
    for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
    printf("swapped %d seen %ld\n", tries, seen);
    return 0;
}
