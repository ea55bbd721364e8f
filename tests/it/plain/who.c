/* Who a set-id program's process is, and what it can become; `who again` executes itself by `/proc/self/exe`. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "again") == 0) {
        execl("/proc/self/exe", "who", "was", (char *)0);
        perror("/proc/self/exe");
        return 1;
    }
    if (argc > 1) {
        puts("by-proc-self-exe");
        return 0;
    }
    unsigned real = getuid(), effective = geteuid();
    setresuid(0, 0, 0);
    printf("real %u effective %u then %u\n", real, effective, getuid());
    return 0;
}
