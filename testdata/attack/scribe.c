// Writes to files in every way that Linux has, and to shared mappings without the kernel noticing. Orders come on
// standard input, one a line; each is answered by "ok".
//
//     scribe DIR COUNT OTHER      the files DIR/0 … DIR/(COUNT-1); new ones are made in OTHER, on the same file system
//
//     hold          maps every file, reads each page and writes to the first
//     write         writes to the first page of every mapping
//     drop          unmaps all
//     chaos SEED MS writes by chance for so many milliseconds, and leaves mappings as they are
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 3, SIZE = PAGE * PAGES, MOST = 1024 };

static const char *dir, *other;
static int count;
static volatile uint64_t *maps[MOST];
static uint64_t stamp, chance;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static const char *path(const char *in, int number) {
    static char texts[2][4096];
    static int turn;
    char *text = texts[turn ^= 1];
    snprintf(text, sizeof texts[0], "%s/%d", in, number);
    return text;
}

static unsigned random_below(unsigned end) {
    chance = chance * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(chance >> 33) % end;
}

static void map(int number) {
    if (maps[number]) return;
    int fd = open(path(dir, number), O_RDWR);
    if (fd < 0) die("open");
    void *at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) die("mmap");
    // The mapping alone holds the file.
    close(fd);
    maps[number] = at;
    // A page that is mapped by reading may be open to writes from then on.
    for (int page = 0; page < PAGES; page++) stamp += maps[number][page * PAGE / 8] & 1;
}

static void unmap(int number) {
    if (maps[number]) munmap((void *)maps[number], SIZE);
    maps[number] = NULL;
}

static void fill(uint64_t *buffer) {
    for (int at = 0; at < SIZE / 8; at++) buffer[at] = ++stamp;
}

static void whole(int fd) {
    static uint64_t buffer[SIZE / 8];
    fill(buffer);
    if (pwrite(fd, buffer, SIZE, 0) != SIZE) die("pwrite");
}

// A file that is shorter than its mapping ends whoever touches what is missing.
static void one(int number) {
    int kind = random_below(16), fd, from;
    struct stat was;
    off_t at = 0;
    uint64_t small = ++stamp;
    switch (kind) {
    case 0: case 1: case 2:
        map(number);
        maps[number][random_below(PAGES) * PAGE / 8] = small;
        return;
    case 3: case 4: case 5:
        if (maps[number]) maps[number][random_below(PAGES) * PAGE / 8] = small;
        return;
    case 6:
        unmap(number);
        return;
    case 7:
        if (maps[number]) msync((void *)maps[number], SIZE, random_below(2) ? MS_SYNC : MS_ASYNC);
        return;
    case 8:
        usleep(random_below(60000));
        return;
    }
    if ((fd = open(path(dir, number), O_RDWR)) < 0) die("open");
    if (fstat(fd, &was)) die("fstat");
    from = open(path(dir, random_below(count)), O_RDONLY);
    switch (kind) {
    case 9:
        if (pwrite(fd, &small, 8, random_below(SIZE / 8) * 8) != 8) die("pwrite");
        break;
    case 10: // the old times forged
        whole(fd);
        futimens(fd, (struct timespec[]){was.st_atim, was.st_mtim});
        break;
    case 11:
        unmap(number);
        if (ftruncate(fd, 0)) die("ftruncate");
        whole(fd);
        break;
    case 12:
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, random_below(PAGES) * PAGE, PAGE);
        break;
    case 13:
        if (copy_file_range(from, NULL, fd, &at, SIZE, 0) < 0) sendfile(fd, from, &at, SIZE);
        break;
    case 14:
        ioctl(fd, FICLONE, from);
        break;
    case 15: { // another file in its place, its times forged
        int fresh = open(path(other, number), O_RDWR | O_CREAT | O_TRUNC, 0644);
        if (fresh < 0) die("open another");
        whole(fresh);
        futimens(fresh, (struct timespec[]){was.st_atim, was.st_mtim});
        close(fresh);
        unmap(number);
        if (rename(path(other, number), path(dir, number))) die("rename");
        break;
    }
    }
    close(from);
    close(fd);
}

static int64_t milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000ll + now.tv_nsec / 1000000;
}

int main(int argc, char **argv) {
    if (argc != 4 || (count = atoi(argv[2])) < 1 || count > MOST) return 2;
    dir = argv[1];
    other = argv[3];
    for (int number = 0; number < count; number++) {
        int fd = open(path(dir, number), O_RDWR | O_CREAT, 0644);
        if (fd < 0) die("create");
        whole(fd);
        close(fd);
    }
    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        unsigned long seed;
        long length;
        if (sscanf(line, "chaos %lu %ld", &seed, &length) == 2) {
            chance = seed;
            for (int64_t end = milliseconds() + length; milliseconds() < end;) one(random_below(count));
        }
        for (int number = 0; number < count; number++) {
            if (!strcmp(line, "hold\n")) {
                map(number);
                maps[number][0] = ++stamp;
            } else if (!strcmp(line, "write\n") && maps[number]) {
                maps[number][0] = ++stamp;
            } else if (!strcmp(line, "drop\n")) {
                unmap(number);
            }
        }
        puts("ok");
        fflush(stdout);
    }
    return 0;
}
