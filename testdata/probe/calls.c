// System calls, by their native numbers.
#include "probe.h"

#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450
#endif
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
#define SYS_STATMOUNT 457
#define SYS_LISTMOUNT 458
#define SYS_LSM_GET_SELF_ATTR 459
#define SYS_LSM_SET_SELF_ATTR 460
#define SYS_LSM_LIST_MODULES 461
#define SYS_MSEAL 462
#define SYS_OPEN_TREE_ATTR 467
#define SYS_FILE_SETATTR 469

static const struct { const char *name; unsigned long flag; const char *file; } NAMESPACES[] = {
    {"mnt", CLONE_NEWNS, "mnt"},   {"uts", CLONE_NEWUTS, "uts"}, {"ipc", CLONE_NEWIPC, "ipc"},
    {"user", CLONE_NEWUSER, "user"}, {"pid", CLONE_NEWPID, "pid"}, {"net", CLONE_NEWNET, "net"},
    {"cgroup", CLONE_NEWCGROUP, "cgroup"}, {"time", 0x80, "time"},
};
#define EACH(list) for (size_t at = 0; at < sizeof list / sizeof *list; at++)

static long raw_clone(unsigned long flags) {
  long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) _exit(0);
  return pid;
}

static long raw_clone3(uint64_t flags) {
  uint64_t arguments[11] = {flags, 0, 0, 0, SIGCHLD};
  long pid = syscall(SYS_clone3, arguments, sizeof arguments);
  if (pid == 0) _exit(0);
  return pid;
}

static void namespaces(void) {
  EACH(NAMESPACES) {
    if (begin("unshare.%s", NAMESPACES[at].name)) answer(unshare(NAMESPACES[at].flag));
    // CLONE_NEWTIME lies within the signal of clone.
    if (NAMESPACES[at].flag != 0x80 && begin("clone.%s", NAMESPACES[at].name)) answer(raw_clone(NAMESPACES[at].flag));
    if (begin("clone3.%s", NAMESPACES[at].name)) answer(raw_clone3(NAMESPACES[at].flag));
    if (begin("setns.%s", NAMESPACES[at].name)) {
      char path[64];
      snprintf(path, sizeof path, "/proc/self/ns/%s", NAMESPACES[at].file);
      answer_reached(setns(open(path, O_RDONLY), 0));
    }
  }
  TRY("unshare.files", unshare(CLONE_FILES));
  TRY("unshare.fs", unshare(CLONE_FS));
  TRY("clone.plain", raw_clone(0));
  TRY("clone3.plain", raw_clone3(0));
  REACH("setns.pidfd", setns(syscall(SYS_pidfd_open, getppid(), 0), CLONE_NEWNS));
}

static void mounts(void) {
  TRY("mount.tmpfs", mount("x", "/tmp", "tmpfs", 0, ""));
  TRY("mount.proc", mount("x", "/tmp", "proc", 0, ""));
  TRY("mount.sysfs", mount("x", "/tmp", "sysfs", 0, ""));
  TRY("mount.cgroup2", mount("x", "/tmp", "cgroup2", 0, ""));
  TRY("mount.overlay", mount("x", "/tmp", "overlay", 0, "lowerdir=/"));
  TRY("mount.bind", mount("/etc", "/tmp", "", MS_BIND, NULL));
  TRY("mount.move", mount("/dev/shm", "/tmp", "", MS_MOVE, NULL));
  TRY("mount.shared", mount("", "/", "", MS_SHARED, NULL));
  TRY("mount.remount-sys", mount("", "/sys", "", MS_REMOUNT | MS_BIND, NULL));
  TRY("mount.remount-proc-sys", mount("", "/proc/sys", "", MS_REMOUNT | MS_BIND, NULL));
  TRY("umount.proc-kcore", umount2("/proc/kcore", MNT_DETACH));
  TRY("umount.proc-sys", umount2("/proc/sys", MNT_DETACH));
  TRY("umount.sys-firmware", umount2("/sys/firmware", MNT_DETACH));
  TRY("umount.resolv-conf", umount2("/etc/resolv.conf", MNT_DETACH));
  TRY("umount.dev-shm", umount2("/dev/shm", MNT_EXPIRE));
  REACH("pivot-root", syscall(SYS_pivot_root, ".", "."));
  TRY("fsopen.tmpfs", syscall(SYS_fsopen, "tmpfs", 0));
  TRY("fsopen.proc", syscall(SYS_fsopen, "proc", 0));
  REACH("fsconfig", syscall(SYS_fsconfig, -1, 0, 0, 0, 0));
  REACH("fsmount", syscall(SYS_fsmount, -1, 0, 0));
  TRY("fspick", syscall(SYS_fspick, AT_FDCWD, "/", 0));
  TRY("open-tree.plain", syscall(SYS_open_tree, AT_FDCWD, "/", 0));
  TRY("open-tree.clone", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
  REACH("move-mount", syscall(SYS_move_mount, -1, "", -1, "", 0));
  REACH("mount-setattr", syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, "", 0));
  REACH("open-tree-attr", syscall(SYS_OPEN_TREE_ATTR, AT_FDCWD, "/", 1, 0, 0));
  REACH("statmount", syscall(SYS_STATMOUNT, NULL, NULL, 0, 0));
  REACH("listmount", syscall(SYS_LISTMOUNT, NULL, NULL, 0, 0));
  REACH("swapon", syscall(SYS_swapon, "/nonexistent", 0));
  REACH("swapoff", syscall(SYS_swapoff, "/nonexistent"));
  REACH("quotactl", syscall(SYS_quotactl, 0x80000700, "/dev/null", 0, NULL));
  REACH("quotactl-fd", syscall(SYS_quotactl_fd, -1, 0x80000700, 0, NULL));
}

struct handle { struct file_handle head; unsigned char bytes[128]; };

// The root of a file system has inode 2 on ext4: reaching it by number leads out of any directory.
static long by_handle(const char *mount) {
  struct handle handle = {.head = {.handle_bytes = 8, .handle_type = 1}};
  handle.bytes[0] = 2;
  return open_by_handle_at(open(mount, O_RDONLY | O_CLOEXEC), &handle.head, O_RDONLY);
}

static long root_by_handle(void) {
  struct handle handle = {.head = {.handle_bytes = 128}};
  int id;
  if (name_to_handle_at(AT_FDCWD, "/", &handle.head, &id, 0) && errno != EOPNOTSUPP) return -1;
  return open_by_handle_at(AT_FDCWD, &handle.head, O_RDONLY);
}

static long name_to_handle(const char *path) {
  struct handle handle = {.head = {.handle_bytes = 128}};
  int id;
  return name_to_handle_at(AT_FDCWD, path, &handle.head, &id, 0);
}

static void handles(void) {
  REACH("open-by-handle.root", by_handle("/"));
  REACH("open-by-handle.resolv-conf", by_handle("/etc/resolv.conf"));
  REACH("open-by-handle.shm", by_handle("/dev/shm"));
  REACH("open-by-handle.own", root_by_handle());
  // An overlay has none.
  REACH("name-to-handle", name_to_handle("/dev/shm"));
}

static pid_t sleeper(void) {
  pid_t pid = fork();
  if (pid == 0) {
    alarm(20);
    for (;;) pause();
  }
  return pid;
}

static long with_sleeper(long (*act)(pid_t)) {
  pid_t pid = sleeper();
  errno = 0;
  long result = act(pid);
  int error = errno;
  kill(pid, SIGKILL);
  errno = error;
  return result;
}

static long attach(pid_t pid) { return ptrace(PTRACE_ATTACH, pid, 0, 0); }
static long seize(pid_t pid) { return ptrace(PTRACE_SEIZE, pid, 0, 0); }
static long peek(pid_t pid) {
  char byte;
  struct iovec here = {&byte, 1}, there = {(void *)&begin, 1};
  return process_vm_readv(pid, &here, 1, &there, 1, 0);
}
static long poke(pid_t pid) {
  static char place;
  char byte = 0;
  struct iovec here = {&byte, 1}, there = {&place, 1};
  return process_vm_writev(pid, &here, 1, &there, 1, 0);
}
static long get_file(pid_t pid) { return syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, pid, 0), 0, 0); }
static long compare(pid_t pid) { return syscall(SYS_kcmp, getpid(), pid, 0, 0, 0); }
static long where_pages(pid_t pid) {
  void *page = (void *)((uintptr_t)&begin & ~4095ul);
  int status;
  return syscall(SYS_move_pages, pid, 1, &page, NULL, &status, 0);
}
static long move_pages(pid_t pid) {
  void *page = (void *)((uintptr_t)&begin & ~4095ul);
  int node = 0, status;
  return syscall(SYS_move_pages, pid, 1, &page, &node, &status, 4);
}

static void other_processes(void) {
  TRY("ptrace.traceme", ptrace(PTRACE_TRACEME, 0, 0, 0));
  TRY("ptrace.attach-child", with_sleeper(attach));
  TRY("ptrace.seize-child", with_sleeper(seize));
  TRY("ptrace.init", ptrace(PTRACE_SEIZE, 1, 0, 0));
  TRY("process-vm-readv.child", with_sleeper(peek));
  TRY("process-vm-writev.child", with_sleeper(poke));
  TRY("process-vm-readv.init", peek(1));
  TRY("pidfd-open.init", syscall(SYS_pidfd_open, 1, 0));
  TRY("pidfd-getfd.child", with_sleeper(get_file));
  TRY("pidfd-getfd.init", get_file(1));
  TRY("pidfd-send-signal.init", syscall(SYS_pidfd_send_signal, syscall(SYS_pidfd_open, 1, 0), 0, NULL, 0));
  TRY("kcmp.child", with_sleeper(compare));
  TRY("kcmp.init", compare(1));
  TRY("move-pages.query-child", with_sleeper(where_pages));
  TRY("move-pages.move-child", with_sleeper(move_pages));
  TRY("move-pages.init", where_pages(1));
  REACH("migrate-pages.init", syscall(SYS_migrate_pages, 1, 0, NULL, NULL));
  REACH("get-mempolicy", syscall(SYS_get_mempolicy, NULL, NULL, 0, 0, 0));
  REACH("set-mempolicy", syscall(SYS_set_mempolicy, 0, NULL, 0));
  REACH("mbind", syscall(SYS_mbind, NULL, 0, 0, NULL, 0, 0));
  REACH("set-mempolicy-home-node", syscall(SYS_set_mempolicy_home_node, 0, 0, 0, 0));
  REACH("process-madvise.init", syscall(SYS_process_madvise, syscall(SYS_pidfd_open, 1, 0), NULL, 0, 0, 0));
  REACH("process-mrelease.init", syscall(SYS_process_mrelease, syscall(SYS_pidfd_open, 1, 0), 0));
  size_t length;
  void *head;
  TRY("get-robust-list.init", syscall(SYS_get_robust_list, 1, &head, &length));
  TRY("kill.init", kill(1, 0));
  TRY("kill.init-by-sigkill", getuid() ? kill(1, 0) : kill(1, SIGKILL));
  TRY("prlimit.init", prlimit(1, RLIMIT_NOFILE, NULL, &(struct rlimit){0}));
  TRY("setpriority.init", setpriority(PRIO_PROCESS, 1, getpriority(PRIO_PROCESS, 1)));
}

static void kernel(void) {
  union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
  TRY("bpf.map", syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map));
  REACH("bpf.program", syscall(SYS_bpf, BPF_PROG_LOAD, &map, sizeof map));
  REACH("bpf.next-id", syscall(SYS_bpf, BPF_PROG_GET_NEXT_ID, &map, sizeof map));
  struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof event, .config = 0, .exclude_kernel = 1};
  REACH("perf.own", syscall(SYS_perf_event_open, &event, 0, -1, -1, 0));
  REACH("perf.all", syscall(SYS_perf_event_open, &event, -1, 0, -1, 0));
  TRY("userfaultfd", syscall(SYS_userfaultfd, 0));
  TRY("userfaultfd.user-mode", syscall(SYS_userfaultfd, 1));
  char parameters[120] = {0};
  TRY("io-uring.setup", syscall(SYS_io_uring_setup, 1, parameters));
  REACH("io-uring.enter", syscall(SYS_io_uring_enter, -1, 0, 0, 0, NULL, 0));
  REACH("io-uring.register", syscall(SYS_io_uring_register, -1, 0, NULL, 0));
  REACH("keyctl.session", syscall(SYS_keyctl, 0, -3, 1));
  REACH("keyctl.join", syscall(SYS_keyctl, 1, "probe"));
  REACH("keyctl.user", syscall(SYS_keyctl, 0, -4, 1));
  REACH("add-key", syscall(SYS_add_key, "user", "probe", "x", 1, -1));
  REACH("request-key", syscall(SYS_request_key, "user", "probe", NULL, -1));
  REACH("kexec-load", syscall(SYS_kexec_load, 0, 0, NULL, 0xffffffff));
  REACH("kexec-file-load", syscall(SYS_kexec_file_load, -1, -1, 0, NULL, 0xffffffff));
  REACH("init-module", syscall(SYS_init_module, "", 0, ""));
  REACH("finit-module", syscall(SYS_finit_module, -1, "", 0));
  REACH("delete-module", syscall(SYS_delete_module, "no_such_module", O_NONBLOCK));
  REACH("create-module", syscall(SYS_create_module, "x", 1));
  REACH("get-kernel-syms", syscall(SYS_get_kernel_syms, NULL));
  REACH("query-module", syscall(SYS_query_module, NULL, 0, NULL, 0, NULL));
  REACH("reboot", syscall(SYS_reboot, 0, 0, 0, NULL));
  REACH("settimeofday", settimeofday(NULL, NULL));
  struct timespec wrong = {0, -1};
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  REACH("clock-settime", clock_settime(CLOCK_REALTIME, &now));
  REACH("clock-settime.wrong", (wrong.tv_nsec = 2000000000, clock_settime(CLOCK_REALTIME, &wrong)));
  struct timex read = {0}, set = {.modes = ADJ_TICK, .tick = 1};
  TRY("adjtimex.read", syscall(SYS_adjtimex, &read));
  REACH("adjtimex.set", syscall(SYS_adjtimex, &set));
  TRY("clock-adjtime.read", syscall(SYS_clock_adjtime, CLOCK_REALTIME, &read));
  REACH("clock-adjtime.set", syscall(SYS_clock_adjtime, CLOCK_REALTIME, &set));
  struct sigevent quiet = {.sigev_notify = SIGEV_NONE};
  timer_t timer;
  TRY("timer.alarm", timer_create(CLOCK_REALTIME_ALARM, &quiet, &timer));
  REACH("sethostname", sethostname("probe", 5));
  REACH("setdomainname", syscall(SYS_setdomainname, "probe", 5));
  REACH("acct.off", acct(NULL));
  REACH("acct.on", acct("/etc/passwd"));
  REACH("syslog.size", syscall(SYS_syslog, 10, NULL, 0));
  REACH("syslog.read-all", syscall(SYS_syslog, 3, parameters, 100));
  REACH("syslog.console-off", syscall(SYS_syslog, 8, NULL, 999));
  REACH("lookup-dcookie", syscall(SYS_lookup_dcookie, 0ull, parameters, 100));
  REACH("fanotify-init", syscall(SYS_fanotify_init, 0, 0));
  REACH("fanotify-init.fid", syscall(SYS_fanotify_init, 0x200, 0));
  REACH("fanotify-mark", syscall(SYS_fanotify_mark, -1, 0, 0ull, -1, NULL));
  if (begin("vhangup")) { setsid(); answer_reached(vhangup()); }
  REACH("nfsservctl", syscall(SYS_nfsservctl, 0, NULL, NULL));
  REACH("uselib", syscall(SYS_uselib, "/nonexistent"));
  REACH("ustat", syscall(SYS_ustat, 0, NULL));
  REACH("sysfs", syscall(SYS_sysfs, 3));
  REACH("sysctl", syscall(SYS__sysctl, NULL));
  REACH("iopl", syscall(SYS_iopl, 3));
  REACH("ioperm", syscall(SYS_ioperm, 0x80, 1, 1));
  REACH("modify-ldt.read", syscall(SYS_modify_ldt, 0, parameters, 100));
  REACH("lsm-list-modules", syscall(SYS_LSM_LIST_MODULES, NULL, NULL, 0));
  REACH("lsm-set-self-attr", syscall(SYS_LSM_SET_SELF_ATTR, 0, NULL, 0, 0));
  REACH("cachestat", syscall(SYS_cachestat, -1, NULL, NULL, 0));
  REACH("mseal", syscall(SYS_MSEAL, NULL, 0, 1));
  REACH("file-setattr", syscall(SYS_FILE_SETATTR, -1, "", NULL, 0, 0));
  REACH("call-of-the-future", syscall(700, 0));
  TRY("memfd-create", memfd_create("x", 0));
  REACH("memfd-secret", syscall(447, 0));
  REACH("landlock.version", syscall(SYS_landlock_create_ruleset, NULL, 0, 1));
}

static long filter(unsigned flags) {
  struct sock_filter allow = {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
  struct sock_fprog program = {1, &allow};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static void process_itself(void) {
  static const struct { const char *name; unsigned long value; } PERSONALITIES[] = {
      {"linux", 0},  {"linux32", 8}, {"uname26", 0x20000}, {"query", 0xffffffff}, {"no-randomize", 0x40000},
      {"read-implies-exec", 0x400000}, {"mmap-page-zero", 0x100000}, {"svr4", 1}, {"bsd", 6}, {"legacy-layout", 0x200000},
  };
  EACH(PERSONALITIES) if (begin("personality.%s", PERSONALITIES[at].name)) answer(personality(PERSONALITIES[at].value));
  TRY("seccomp.filter", filter(0));
  TRY("seccomp.filter-no-new-privs", (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), filter(0)));
  TRY("seccomp.listener", (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), filter(SECCOMP_FILTER_FLAG_NEW_LISTENER)));
  if (begin("mmap.zero-page"))
    answer(mmap(NULL, 4096, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
  TRY("prctl.set-mm", prctl(PR_SET_MM, PR_SET_MM_BRK, 0, 0, 0));
  REACH("prctl.io-flusher", prctl(57, 1, 0, 0, 0));
  TRY("prctl.securebits", prctl(PR_SET_SECUREBITS, 1, 0, 0, 0));
  TRY("prctl.keep-caps", prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
  TRY("priority.higher", setpriority(PRIO_PROCESS, 0, -20));
  struct sched_param first = {1};
  TRY("scheduler.fifo", sched_setscheduler(0, SCHED_FIFO, &first));
  TRY("ioprio.real-time", syscall(SYS_ioprio_set, 1, 0, 1 << 13));
  struct rlimit more;
  getrlimit(RLIMIT_NOFILE, &more);
  more.rlim_max++;
  TRY("limit.raise", setrlimit(RLIMIT_NOFILE, &more));
  struct rlimit locked = {4096, 4096};
  TRY("mlock.beyond-limit", (setrlimit(RLIMIT_MEMLOCK, &locked), mlock(mmap(NULL, 65536, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 65536)));
  if (begin("memfd.execute")) {
    char path[64];
    int fd = memfd_create("x", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (copy_self(path, 0755)) answer(-1);
    // It may not be open for writing.
    int again = open(path, O_RDONLY);
    close(fd);
    snprintf(path, sizeof path, "/proc/self/fd/%d", again);
    answer(strchr(told_by(path), '=') ? 0 : -1);
  }
}

void system_calls(void) {
  namespaces();
  mounts();
  handles();
  other_processes();
  kernel();
  process_itself();
}
