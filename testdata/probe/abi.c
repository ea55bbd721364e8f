// The same kernel through its other entries: i386's by `int 0x80`, and x32's numbers.
#include "probe.h"

static long i386(long number, long a, long b, long c, long d) {
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(0L) : "memory", "r8", "r9", "r10", "r11");
  if ((int)result < 0 && (int)result > -4096) {
    errno = -(int)result;
    return -1;
  }
  return result;
}

// Memory that 32 bits can name.
static void *low(const void *data, size_t length) {
  char *place = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  memcpy(place, data, length);
  return place;
}

// How the 32-bit C library of Debian and others makes every socket, whatever the kernel has: without it their programs have no
// network. No filter sees the family, which is in memory.
static long socketcall(int family, int type, int protocol) {
  int arguments[3] = {family, type, protocol};
  return i386(102, 1, (long)low(arguments, sizeof arguments), 0, 0);
}

static long set386(int socket, int level, int option, const void *value, int length) {
  if (socket < 0) return -1;
  int arguments[5] = {socket, level, option, (int)(long)low(value, length), length};
  return i386(102, 14, (long)low(arguments, sizeof arguments), 0, 0);
}

static long set_one(int socket, int level, int option) { return set386(socket, level, option, &(int){1}, sizeof(int)); }

// A structure that has another size in 32 bits.
static long timeout386(void) {
  int fd = socketcall(AF_INET, SOCK_DGRAM, 0);
  if (set386(fd, SOL_SOCKET, SO_RCVTIMEO, (int[2]){7, 0}, 8)) return -1;
  struct timeval got = {0};
  if (getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &got, &(socklen_t){sizeof got})) return -1;
  return got.tv_sec == 7 ? 0 : (errno = EBADMSG, -1);
}

// One that says where something else is: a filter that lets nothing through.
static long filter386(void) {
  struct sock_filter drop = {BPF_RET | BPF_K, 0, 0, 0};
  struct { unsigned short count; unsigned program; } filter = {1, (unsigned)(long)low(&drop, sizeof drop)};
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) || set386(pair[0], SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter)) return -1;
  if (send(pair[1], "x", 1, 0) < 0 && errno != EPERM) return -1;
  return recv(pair[0], &(char){0}, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN ? 0 : (errno = EBADMSG, -1);
}

// A socket is whose it should be, and closed by exec if that was asked for.
static long owner386(void) {
  int fd = socketcall(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), other = socketcall(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct stat stat;
  if (fd < 0 || other < 0 || fstat(fd, &stat)) return -1;
  int is_right = stat.st_uid == geteuid() && fcntl(fd, F_GETFD) == FD_CLOEXEC && !(fcntl(fd, F_GETFL) & O_NONBLOCK) &&
                 fcntl(other, F_GETFD) == 0 && fcntl(other, F_GETFL) & O_NONBLOCK;
  return is_right ? 0 : (errno = EBADMSG, -1);
}

// To a socket of the same container.
static long abstract386(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  sprintf(address.sun_path + 1, "probe-%d", getpid());
  socklen_t length = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(address.sun_path + 1);
  int server = socketcall(AF_UNIX, SOCK_STREAM, 0);
  if (server < 0 || bind(server, (struct sockaddr *)&address, length) || listen(server, 1)) return -1;
  if (connect(socketcall(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, length)) return -1;
  return connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, length);
}

static void *change(void *arguments) {
  for (volatile int *family = arguments;;) *family = *family == AF_INET ? AF_PACKET : AF_INET;
  return NULL;
}

// Another thread changes the family all the time.
static long race386(void) {
  int *arguments = low((int[3]){AF_INET, SOCK_DGRAM, 0}, 3 * sizeof(int)), made = 0, denied = 0;
  pthread_t thread;
  if (pthread_create(&thread, NULL, change, arguments)) return -1;
  for (int round = 0; round < 100000 && (made < 300 || denied < 300); round++) {
    int fd = i386(102, 1, (long)arguments, 0, 0), family = 0;
    if (fd < 0) {
      if (errno != EPERM) return -1;
      denied++;
      continue;
    }
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &(socklen_t){sizeof family});
    close(fd);
    made++;
    if (family == AF_PACKET) return 0;
  }
  return errno = made < 300 ? EBADMSG : EPERM, -1;
}

static long fork386(long flags) {
  long pid = i386(120, flags | SIGCHLD, 0, 0, 0);
  if (pid == 0) _exit(0);
  return pid;
}

static long x32(long number, long a, long b, long c, long d) { return syscall(0x40000000 | number, a, b, c, d); }

void other_abis(void) {
  TRY("i386.getpid", i386(20, 0, 0, 0, 0));
  TRY("i386.mount", i386(21, (long)low("x", 2), (long)low("/tmp", 5), (long)low("tmpfs", 6), 0));
  TRY("i386.umount", i386(22, (long)low("/dev/shm", 9), 0, 0, 0));
  TRY("i386.unshare-user", i386(310, CLONE_NEWUSER, 0, 0, 0));
  TRY("i386.unshare-mnt", i386(310, CLONE_NEWNS, 0, 0, 0));
  TRY("i386.clone-user", fork386(CLONE_NEWUSER));
  TRY("i386.clone-plain", fork386(0));
  REACH("i386.clone3", i386(435, 0, 0, 0, 0));
  REACH("i386.setns", i386(346, -1, 0, 0, 0));
  REACH("i386.pivot-root", i386(217, 0, 0, 0, 0));
  REACH("i386.keyctl", i386(288, 0, -3, 1, 0));
  REACH("i386.add-key", i386(286, 0, 0, 0, 0));
  REACH("i386.bpf", i386(357, 0, 0, 0, 0));
  REACH("i386.perf-event-open", i386(336, 0, 0, 0, 0));
  REACH("i386.userfaultfd", i386(374, 0, 0, 0, 0));
  REACH("i386.io-uring-setup", i386(425, 1, 0, 0, 0));
  REACH("i386.open-by-handle", i386(342, -1, 0, 0, 0));
  REACH("i386.init-module", i386(128, 0, 0, 0, 0));
  REACH("i386.kexec-load", i386(283, 0, 0, 0, 0));
  REACH("i386.reboot", i386(88, 0, 0, 0, 0));
  REACH("i386.swapon", i386(87, (long)low("/nonexistent", 13), 0, 0, 0));
  REACH("i386.stime", i386(25, 0, 0, 0, 0));
  REACH("i386.settimeofday", i386(79, 0, 0, 0, 0));
  REACH("i386.clock-settime64", i386(404, 0, 0, 0, 0));
  REACH("i386.sethostname", i386(74, (long)low("probe", 6), 5, 0, 0));
  REACH("i386.uselib", i386(86, (long)low("/nonexistent", 13), 0, 0, 0));
  REACH("i386.vm86", i386(166, 0, 0, 0, 0));
  REACH("i386.vm86old", i386(113, 0, 0, 0, 0));
  REACH("i386.iopl", i386(110, 3, 0, 0, 0));
  REACH("i386.ioperm", i386(101, 0x80, 1, 1, 0));
  REACH("i386.fsopen", i386(430, (long)low("tmpfs", 6), 0, 0, 0));
  REACH("i386.personality", i386(136, 0x400000, 0, 0, 0));
  REACH("i386.ptrace-init", i386(26, PTRACE_SEIZE, 1, 0, 0));
  TRY("i386.socket-vsock", i386(359, 40, SOCK_STREAM, 0, 0));
  TRY("i386.socket-alg", i386(359, 38, SOCK_SEQPACKET, 0, 0));
  TRY("i386.socket-packet", i386(359, AF_PACKET, SOCK_RAW, 0x300, 0));
  TRY("i386.socket-raw", i386(359, AF_INET, SOCK_RAW, IPPROTO_RAW, 0));
  TRY("i386.socketcall-inet", socketcall(AF_INET, SOCK_STREAM, 0));
  TRY("i386.socketcall-unix", socketcall(AF_UNIX, SOCK_STREAM, 0));
  TRY("i386.socketcall-netlink", socketcall(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
  TRY("i386.socketcall-nowhere", (i386(102, 1, 8, 0, 0), errno == EFAULT ? 0 : -1));
  TRY("i386.socketcall-owner", owner386());
  TRY("i386.socketcall-abstract", abstract386());
  TRY("i386.socketcall-setsockopt", set_one(socketcall(AF_INET, SOCK_STREAM, 0), SOL_SOCKET, SO_REUSEADDR));
  TRY("i386.socketcall-timeout", timeout386());
  TRY("i386.socketcall-filter", filter386());
  TRY("i386.socketcall-raw-icmp", socketcall(AF_INET, SOCK_RAW, IPPROTO_ICMP));
  TRY("i386.socketcall-header", set_one(socketcall(AF_INET, SOCK_RAW, IPPROTO_ICMP), 0, 3));
  TRY("i386.socketcall-transparent", set_one(socketcall(AF_INET, SOCK_DGRAM, 0), 0, 19));
  TRY("i386.socketcall-race", race386());
  TRY("i386.socketcall-vsock", socketcall(40, SOCK_STREAM, 0));
  TRY("i386.socketcall-alg", socketcall(38, SOCK_SEQPACKET, 0));
  TRY("i386.socketcall-packet", socketcall(AF_PACKET, SOCK_RAW, 0x300));
  TRY("i386.socketcall-raw", socketcall(AF_INET, SOCK_RAW, IPPROTO_RAW));
  TRY("x32.getpid", x32(39, 0, 0, 0, 0));
  TRY("x32.mount", x32(165, (long)"x", (long)"/tmp", (long)"tmpfs", 0));
  TRY("x32.unshare-user", x32(272, CLONE_NEWUSER, 0, 0, 0));
  REACH("x32.ptrace-init", x32(521, PTRACE_SEIZE, 1, 0, 0));
  REACH("x32.kexec-load", x32(528, 0, 0, 0, 0));
  REACH("x32.io-uring-setup", x32(425, 1, 0, 0, 0));
  REACH("x32.socket-packet", x32(41, AF_PACKET, SOCK_RAW, 0x300, 0));
}
