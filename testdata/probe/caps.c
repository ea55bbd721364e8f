// Capabilities and users: what there is, and what can be regained.
#include "probe.h"

static long capset_(unsigned which, int capability) {
  struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  if (syscall(SYS_capget, &head, data)) return -1;
  unsigned bit = 1u << (capability & 31);
  struct __user_cap_data_struct *word = &data[capability >> 5];
  if (which & 1) word->permitted |= bit;
  if (which & 2) word->effective |= bit;
  if (which & 4) word->inheritable |= bit;
  return syscall(SYS_capset, &head, data);
}

static long ambient(int capability) {
  if (capset_(4, capability)) return -1;
  return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0);
}

static void regain(void) {
  static const struct { const char *name; int number; } REFUSED[] = {
      {"dac-read-search", 2}, {"linux-immutable", 9}, {"net-broadcast", 11}, {"net-admin", 12}, {"ipc-lock", 14}, {"ipc-owner", 15},
      {"sys-module", 16}, {"sys-rawio", 17}, {"sys-ptrace", 19}, {"sys-pacct", 20}, {"sys-admin", 21}, {"sys-boot", 22}, {"sys-nice", 23},
      {"sys-resource", 24}, {"sys-time", 25}, {"sys-tty-config", 26}, {"lease", 28}, {"audit-control", 30}, {"mac-override", 32},
      {"mac-admin", 33}, {"syslog", 34}, {"wake-alarm", 35}, {"block-suspend", 36}, {"audit-read", 37}, {"perfmon", 38}, {"bpf", 39},
      {"checkpoint-restore", 40},
  };
  for (size_t at = 0; at < sizeof REFUSED / sizeof *REFUSED; at++) {
    if (begin("capability.permit.%s", REFUSED[at].name)) answer(capset_(1, REFUSED[at].number));
    if (begin("capability.inherit.%s", REFUSED[at].name)) answer(capset_(4, REFUSED[at].number));
  }
  TRY("capability.inherit.chown", capset_(4, CAP_CHOWN));
  TRY("capability.ambient.chown", ambient(CAP_CHOWN));
  TRY("capability.ambient.sys-admin", ambient(CAP_SYS_ADMIN));
  TRY("capability.drop-bound", prctl(PR_CAPBSET_DROP, CAP_CHOWN, 0, 0, 0));
  if (begin("program.set-id")) say("%s", told_by("/programs/set-id"));
  if (begin("program.with-net-bind")) say("%s", told_by("/programs/with-net-bind"));
  if (begin("program.with-sys-admin")) say("%s", told_by("/programs/with-sys-admin"));
  if (begin("program.set-id-no-new-privs")) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    say("%s", told_by("/programs/set-id"));
  }
  if (begin("program.in-shm")) say("%s", copy_self("/dev/shm/probe", 0755) ? strerrorname_np(errno) : told_by("/dev/shm/probe"));
}

static long make(const char *path) {
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  return fd;
}

static void attributes(void) {
  static const char *const NAMES[] = {"user.x", "trusted.x", "trusted.overlay.opaque", "user.overlay.opaque", "security.x", "security.ima",
                                      "security.selinux", "system.x"};
  for (size_t at = 0; at < sizeof NAMES / sizeof *NAMES; at++)
    if (begin("attribute.%s", NAMES[at])) answer((make("f"), setxattr("f", NAMES[at], "y", 1, 0)));
  uint32_t capability[5] = {0x02000001, 1u << CAP_CHOWN}, of_root[6] = {0x03000001, 1u << CAP_CHOWN, 0, 0, 0, 0};
  TRY("attribute.capability", (make("f"), setxattr("f", "security.capability", capability, sizeof capability, 0)));
  TRY("attribute.capability-of-root", (make("f"), setxattr("f", "security.capability", of_root, sizeof of_root, 0)));
  if (begin("attribute.immutable")) {
    int immutable = FS_IMMUTABLE_FL;
    int fd = make("g");
    errno = 0;
    long result = ioctl(fd, FS_IOC_SETFLAGS, &immutable), error = errno;
    int none = 0;
    ioctl(fd, FS_IOC_SETFLAGS, &none);
    errno = error;
    answer(result);
  }
}

static void users(void) {
  TRY("user.to-1000", setuid(1000));
  TRY("user.to-root", setresuid(0, 0, 0));
  TRY("user.to-65534", setuid(65534));
  TRY("user.to-65536", setuid(65536));
  TRY("user.to-the-last", setuid(0xfffffffe));
  TRY("user.groups", setgroups(2, (gid_t[]){0, 42}));
  TRY("file.give-away", (make("f"), chown("f", 1000, 0)));
  TRY("file.give-far-away", (make("f"), chown("f", 100000, 100000)));
  TRY("file.give-to-root", (make("f"), chown("f", 0, 0)));
  TRY("file.read-closed", (getuid() ? open("/work-root/f", O_RDONLY) : (make("h"), chmod("h", 0), open("h", O_RDONLY))));
  TRY("file.write-roots", open("/etc/hosts", O_WRONLY));
  TRY("file.write-program", open("/programs/with-net-bind", O_WRONLY));
  TRY("file.make-in-root", make("/made"));
  TRY("file.set-id", (make("f"), chmod("f", 06755)));
  TRY("file.lease", fcntl(make("f"), F_SETLEASE, F_WRLCK));
  TRY("file.lease-of-another", fcntl(open(getuid() ? "/programs/set-id" : "/work-user/theirs", O_RDONLY), F_SETLEASE, F_RDLCK));
  if (begin("user.keeps-nothing")) {
    if (setuid(1000)) answer(-1);
    say("%s", status_word("CapPrm"));
  }
}

void capabilities(void) {
  static const char *const KEYS[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"};
  for (size_t at = 0; at < sizeof KEYS / sizeof *KEYS; at++)
    if (begin("status.%s", KEYS[at])) say("%s", status_word(KEYS[at]));
  if (begin("status.securebits")) say("%d", prctl(PR_GET_SECUREBITS));
  regain();
  users();
  attributes();
}
