// What the checks share: one forked process a check, and how its answer is told.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <asm/ldt.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/rtnetlink.h>
#include <linux/seccomp.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

// Starts a check. True in a process of its own, which answers and ends.
int begin(const char *format, ...);
// Answers `ok`, or the name of the error.
void answer(long result);
// The same where the arguments are such that nothing happens: an error that is no refusal is `reached`.
void answer_reached(long result);
// Answers this text.
void say(const char *format, ...);

// Allowed or refused.
#define TRY(name, ...) do { if (begin(name)) { errno = 0; answer((long)(__VA_ARGS__)); } } while (0)
// Let through to the kernel or refused.
#define REACH(name, ...) do { if (begin(name)) { errno = 0; answer_reached((long)(__VA_ARGS__)); } } while (0)

void system_calls(void);
void other_abis(void);
void sockets(void);
void capabilities(void);
void kernel_files(void);
void devices(void);
void surroundings(void);

// Copies this program to `path` with that mode.
int copy_self(const char *path, mode_t mode);
// The first word after `key` in /proc/self/status.
const char *status_word(const char *key);
// What this program says when it is started from `path` with `--tell`: capabilities and users; or the error's name.
const char *told_by(const char *path);
