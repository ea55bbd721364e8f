/* Asks the ssh agent of $SSH_AUTH_SOCK how many keys it has. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(void) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    const char *path = getenv("SSH_AUTH_SOCK");
    unsigned char ask[] = {0, 0, 0, 1, 11}, answer[9];
    int file = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(at.sun_path, path ? path : "", sizeof at.sun_path - 1);
    if (connect(file, (struct sockaddr *)&at, sizeof at) || write(file, ask, sizeof ask) != sizeof ask) {
        perror("agent");
        return 1;
    }
    for (size_t got = 0; got < sizeof answer;) {
        ssize_t more = read(file, answer + got, sizeof answer - got);
        if (more <= 0)
            return 1;
        got += more;
    }
    unsigned count;
    memcpy(&count, answer + 5, 4);
    printf("answer %d keys %u\n", answer[4], ntohl(count));
    return 0;
}
