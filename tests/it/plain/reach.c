/* What a step reaches of its container. Prints a line for each thing that it should not have, and "done". */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void no(const char *what, long result, int wanted) {
    if (result >= 0) printf("REACHED %s\n", what);
    else if (wanted && errno != wanted) printf("OTHERWISE %s: %s\n", what, strerror(errno));
}

/* Reads some of a file; -1 as open has it. */
static long reads(int at, const char *path) {
    char text[256];
    int fd = openat(at, path, O_RDONLY | O_NONBLOCK);
    if (fd < 0) return -1;
    long length = read(fd, text, sizeof text);
    close(fd);
    return length;
}

static void outside(int at, const char *name) {
    /* The marker that the container has at its root. */
    static const char *ways[] = {
        "../marker", "../../marker", "../../../marker", "../../../../marker", "../../../../../../marker",
        "../../../../../../../../../../marker", 0};
    char what[128];
    for (int i = 0; ways[i]; i++) {
        snprintf(what, sizeof what, "%s by %s", name, ways[i]);
        no(what, reads(at, ways[i]), 0);
    }
}

int main(void) {
    setvbuf(stdout, 0, _IONBF, 0);
    static const char *folders[] = {
        "/", "/proc", "/proc/self", "/proc/self/fd", "/proc/self/task", "/proc/self/root", "/proc/self/cwd",
        "/proc/thread-self", "/proc/sys", "/proc/net", "/dev", "/dev/fd", "/dev/pts", "/sys", 0};
    for (int i = 0; folders[i]; i++) {
        int fd = open(folders[i], O_RDONLY | O_DIRECTORY);
        if (fd < 0) { printf("MISSING %s: %s\n", folders[i], strerror(errno)); continue; }
        outside(fd, folders[i]);
        if (fchdir(fd) == 0) outside(AT_FDCWD, folders[i]);
        close(fd);
    }
    chdir("/");
    static const char *files[] = {
        "/marker", "/proc/self/root/marker", "/proc/self/root/../marker", "/proc/self/cwd/../marker",
        "/proc/self/fd/../../../marker", "/proc/../marker", "/dev/fd/../../../../marker",
        "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sysrq-trigger", 0};
    for (int i = 0; files[i]; i++) no(files[i], reads(AT_FDCWD, files[i]), 0);
    /* What is open already leads nowhere. */
    for (int fd = 0; fd < 1024; fd++) {
        struct stat stat;
        if (fstat(fd, &stat) == 0) {
            if (S_ISDIR(stat.st_mode)) printf("OPEN folder %d\n", fd);
            outside(fd, "an open file");
            if (fd > 2) printf("OPEN %d\n", fd);
        }
    }
    mkdir("/deep", 0755);
    no("chroot", chroot("/deep"), EPERM);
    if (chroot("/") < 0) printf("OTHERWISE chroot to /: %s\n", strerror(errno));
    no("unshare", unshare(CLONE_NEWUSER), EPERM);
    no("mount", syscall(SYS_mount, "none", "/deep", "tmpfs", 0, 0), EPERM);
    no("io_uring_setup", syscall(425, 4, 0), EPERM);
    no("pidfd_getfd", syscall(438, 0, 0, 0), EPERM);
    no("open_by_handle_at", syscall(SYS_open_by_handle_at, 0, 0, 0), EPERM);
    no("sys/kernel/hostname", open("/proc/sys/kernel/hostname", O_WRONLY), 0);
    rmdir("/deep");
    /* Processes: the container's first, those that were named, and all others by number. */
    int own = getpid(), highest = own + 50;
    for (int pid = 1; pid < highest; pid++) {
        char path[64], what[64];
        int is_own = pid == own;
        snprintf(path, sizeof path, "/proc/%d", pid);
        if (is_own) continue;
        struct stat stat_;
        snprintf(what, sizeof what, "process %d", pid);
        if (kill(pid, 0) == 0) printf("REACHED kill %s\n", what);
        else if (errno != ESRCH) printf("OTHERWISE kill %s: %s\n", what, strerror(errno));
        no(what, stat(path, &stat_), ENOENT);
        static const char *parts[] = {"environ", "mem", "root/marker", "cwd", "exe", "fd/0", "maps", "cmdline", "status", 0};
        for (int i = 0; parts[i]; i++) {
            snprintf(path, sizeof path, "/proc/%d/%s", pid, parts[i]);
            no(path, reads(AT_FDCWD, path), ENOENT);
            snprintf(path, sizeof path, "/proc/%d/task/%d/%s", pid, pid, parts[i]);
            no(path, reads(AT_FDCWD, path), ENOENT);
        }
        no("pidfd_open", syscall(SYS_pidfd_open, pid, 0), ESRCH);
        no("ptrace", ptrace(PTRACE_ATTACH, pid, 0, 0), ESRCH);
        no("seize", ptrace(0x4206, pid, 0, 0), ESRCH);
        char byte;
        struct iovec iov = {&byte, 1}, there = {(void *)0x400000, 1};
        no("process_vm_readv", process_vm_readv(pid, &iov, 1, &there, 1, 0), 0);
        struct rlimit limit = {1, 1};
        no("prlimit", prlimit(pid, RLIMIT_CPU, &limit, 0), ESRCH);
        no("setpriority", setpriority(PRIO_PROCESS, pid, 19), ESRCH);
        no("sched_setscheduler", syscall(SYS_sched_setscheduler, pid, 0, &(struct sched_param){0}), ESRCH);
        no("tgkill", syscall(SYS_tgkill, pid, pid, 0), ESRCH);
        no("tkill", syscall(SYS_tkill, pid, 0), ESRCH);
        int pipes[2];
        if (pipe(pipes) == 0) {
            if (fcntl(pipes[0], F_SETOWN, pid) == 0) printf("REACHED F_SETOWN %d\n", pid);
            struct f_owner_ex owner = {F_OWNER_PID, pid};
            if (fcntl(pipes[0], F_SETOWN_EX, &owner) == 0) printf("REACHED F_SETOWN_EX %d\n", pid);
            close(pipes[0]);
            close(pipes[1]);
        }
    }
    no("setpriority of a user", setpriority(PRIO_USER, 0, 19), EPERM);
    /* What is listed. */
    DIR *list = opendir("/proc");
    for (struct dirent *entry; list && (entry = readdir(list));) {
        int pid = atoi(entry->d_name);
        if (pid && pid != own) printf("LISTED %d\n", pid);
    }
    /* Its own processes are there. */
    int child = fork();
    if (child == 0) { pause(); _exit(0); }
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", child);
    if (reads(AT_FDCWD, path) <= 0) printf("MISSING %s\n", path);
    if (kill(child, 0) != 0) printf("MISSING kill of a child: %s\n", strerror(errno));
    /* Everything that can be signalled. */
    signal(SIGTERM, SIG_IGN);
    kill(-1, SIGTERM);
    kill(-1, SIGKILL);
    int status = 0;
    if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status)) printf("MISSING the end of a child\n");
    printf("done\n");
    return 0;
}
