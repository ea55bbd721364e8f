/* Changes the first byte of files to X, each in a way that not everything tells of: `HOW:FILE`. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Through a mapping; what was read first is written to without a fault. */
static int map(int file, int protection) {
    volatile char *bytes = mmap(0, 1, protection, MAP_SHARED, file, 0);
    if (bytes == MAP_FAILED || bytes[0] == 'X') return 1;
    if (!(protection & PROT_WRITE) && mprotect((void *)bytes, 1, PROT_READ | PROT_WRITE)) return 1;
    bytes[0] = 'X';
    return 0;
}

/* By a name in another directory. */
static int link_and_write(const char *name) {
    if (link(name, "/other/name")) return 1;
    int file = open("/other/name", O_WRONLY);
    return file < 0 || write(file, "X", 1) != 1 || unlink("/other/name");
}

static int splice_to(int file) {
    int ends[2];
    return pipe(ends) || write(ends[1], "X", 1) != 1 || splice(ends[0], 0, file, 0, 1, 0) != 1;
}

static int submit(int file) {
    aio_context_t context = 0;
    struct iocb block = {.aio_fildes = file, .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_buf = (unsigned long)"X", .aio_nbytes = 1};
    struct iocb *blocks[] = {&block};
    struct io_event event;
    return syscall(SYS_io_setup, 1, &context) || syscall(SYS_io_submit, context, 1, blocks) != 1 ||
           syscall(SYS_io_getevents, context, 1, 1, &event, 0) != 1 || event.res != 1;
}

int main(int count, char **words) {
    for (int i = 1; i < count; i++) {
        char *name = strchr(words[i], ':') + 1;
        int file = open(name, O_RDWR), failed = 1;
        switch (words[i][0]) {
        case 'm': failed = map(file, PROT_READ | PROT_WRITE); break;
        case 'p': failed = map(file, PROT_READ); break;
        case 'l': failed = link_and_write(name); break;
        case 's': failed = splice_to(file); break;
        case 'a': failed = submit(file); break;
        }
        if (failed) { perror(words[i]); return 1; }
        close(file);
    }
    return 0;
}
