// What the kernel shows and takes as files: /proc, /sys, control groups.
#include "probe.h"

// `ok` when there is something to read; `empty` is what a mask looks like.
static void read_file(const char *path) {
  char bytes[4096];
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) answer(-1);
  struct stat stat;
  fstat(fd, &stat);
  if (S_ISDIR(stat.st_mode)) {
    DIR *directory = fdopendir(fd);
    int count = 0;
    errno = 0;
    while (readdir(directory)) count++;
    if (errno) answer(-1);
    say(count > 2 ? "ok" : "empty");
  }
  ssize_t length = read(fd, bytes, sizeof bytes);
  if (length < 0) answer(-1);
  say(length ? "ok" : "empty");
}

static void open_to_write(const char *path) {
  struct stat stat;
  if (lstat(path, &stat)) answer(-1);
  answer(S_ISDIR(stat.st_mode) ? access(path, W_OK) : open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC));
}

// What is there on every machine, or shows nothing wherever it is.
static const char *const READ[] = {
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/interrupts", "/proc/softirqs", "/proc/iomem",
    "/proc/ioports", "/proc/kmsg", "/proc/kpagecount", "/proc/kpageflags", "/proc/kpagecgroup", "/proc/vmallocinfo", "/proc/slabinfo",
    "/proc/pagetypeinfo", "/proc/buddyinfo", "/proc/zoneinfo", "/proc/mtrr", "/proc/cmdline", "/proc/config.gz", "/proc/diskstats",
    "/proc/partitions", "/proc/swaps", "/proc/cpuinfo", "/proc/meminfo", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/tty",
    "/proc/sysvipc/shm", "/proc/1/environ", "/proc/1/maps", "/proc/1/mem", "/proc/1/stack", "/proc/1/syscall", "/proc/1/fd",
    "/proc/1/map_files", "/proc/1/root/proc", "/proc/1/cwd/", "/proc/1/exe", "/proc/1/auxv", "/proc/1/io", "/proc/self/mem",
    "/proc/self/environ", "/proc/self/stack", "/proc/self/syscall", "/proc/self/pagemap", "/proc/self/mountstats", "/proc/net/packet", "/proc/net/raw",
    "/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/cad_pid", "/proc/sys/kernel/usermodehelper/bset", "/proc/sys/vm/mmap_min_addr",
    "/sys/firmware", "/sys/devices/virtual/powercap", "/sys/devices/system/cpu/cpu0/thermal_throttle", "/sys/kernel/debug",
    "/sys/kernel/tracing", "/sys/kernel/vmcoreinfo", "/sys/kernel/notes", "/sys/kernel/uevent_helper",
    "/sys/fs/cgroup", "/sys/class/dmi/id/product_uuid", "/sys/kernel/slab",
    "/sys/kernel/btf/vmlinux",
};

static const char *const WRITE[] = {
    "/proc/sys", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug", "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname", "/proc/sys/kernel/sysrq", "/proc/sys/kernel/randomize_va_space", "/proc/sys/kernel/shmmax",
    "/proc/sys/kernel/shm_rmid_forced", "/proc/sys/kernel/msgmax", "/proc/sys/kernel/sem", "/proc/sys/kernel/ns_last_pid", "/proc/sys/kernel/panic",
    "/proc/sys/kernel/kptr_restrict", "/proc/sys/kernel/dmesg_restrict", "/proc/sys/kernel/yama/ptrace_scope",
    "/proc/sys/kernel/unprivileged_bpf_disabled", "/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max", "/proc/sys/kernel/core_pipe_limit",
    "/proc/sys/kernel/usermodehelper/bset", "/proc/sys/kernel/usermodehelper/inheritable", "/proc/sys/kernel/poweroff_cmd",
    "/proc/sys/kernel/cad_pid", "/proc/sys/kernel/modules_disabled", "/proc/sys/kernel/kexec_load_disabled", "/proc/sys/kernel/printk",
    "/proc/sys/kernel/perf_event_paranoid", "/proc/sys/kernel/io_uring_disabled", "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    "/proc/sys/kernel/keys/maxkeys", "/proc/sys/kernel/tainted", "/proc/sys/kernel/sched_rt_runtime_us", "/proc/sys/kernel/nmi_watchdog",
    "/proc/sys/vm/overcommit_memory", "/proc/sys/vm/drop_caches", "/proc/sys/vm/swappiness", "/proc/sys/vm/mmap_min_addr",
    "/proc/sys/vm/panic_on_oom", "/proc/sys/vm/max_map_count", "/proc/sys/vm/min_free_kbytes", "/proc/sys/vm/memfd_noexec",
    "/proc/sys/vm/unprivileged_userfaultfd", "/proc/sys/vm/compact_memory", "/proc/sys/vm/dirty_ratio", "/proc/sys/vm/nr_hugepages",
    "/proc/sys/fs/binfmt_misc/register", "/proc/sys/fs/binfmt_misc/status", "/proc/sys/fs/file-max", "/proc/sys/fs/suid_dumpable",
    "/proc/sys/fs/protected_symlinks", "/proc/sys/fs/protected_hardlinks", "/proc/sys/fs/pipe-max-size", "/proc/sys/fs/mqueue/msg_max",
    "/proc/sys/fs/inotify/max_user_watches", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/core/somaxconn", "/proc/sys/net/core/bpf_jit_enable",
    "/proc/sys/net/ipv4/ping_group_range", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/net/ipv4/conf/all/route_localnet",
    "/proc/sys/user/max_user_namespaces", "/proc/sys/dev/cdrom/lock", "/proc/sys/debug/exception-trace", "/proc/sysrq-trigger", "/proc/irq",
    "/proc/irq/default_smp_affinity", "/proc/bus", "/proc/bus/pci", "/proc/fs", "/proc/mtrr", "/proc/acpi", "/proc/scsi", "/proc/scsi/scsi",
    "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/latency_stats", "/proc/dynamic_debug/control", "/proc/pressure/memory",
    "/proc/self/attr/current", "/proc/self/attr/exec", "/proc/self/clear_refs", "/proc/self/comm", "/proc/self/coredump_filter",
    "/proc/self/gid_map", "/proc/self/uid_map", "/proc/self/setgroups", "/proc/self/loginuid", "/proc/self/mem", "/proc/self/oom_score_adj",
    "/proc/self/sched", "/proc/self/timerslack_ns", "/proc/self/autogroup", "/proc/1/mem", "/proc/1/oom_score_adj", "/proc/1/exe", "/proc/1/comm",
    "/proc/self/exe", "/sys", "/sys/kernel/uevent_helper", "/sys/kernel/uevent_seqnum", "/sys/kernel/kexec_crash_size", "/sys/kernel/profiling",
    "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/mm/ksm/run", "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
    "/sys/kernel/reboot/mode", "/sys/kernel/livepatch", "/sys/kernel/debug", "/sys/kernel/tracing", "/sys/kernel/security", "/sys/kernel/config",
    "/sys/kernel/rcu_expedited", "/sys/kernel/slab", "/sys/power/state", "/sys/power/disk", "/sys/power/mem_sleep", "/sys/power/wake_lock",
    "/sys/devices/system/cpu/cpu1/online", "/sys/devices/system/cpu/probe", "/sys/devices/system/memory/probe", "/sys/bus/pci/rescan",
    "/sys/bus/cpu/uevent", "/sys/class/net/lo/mtu", "/sys/class/net/lo/ifalias", "/sys/devices/virtual/net/lo/uevent",
    "/sys/devices/virtual/mem/null/uevent", "/sys/module/kernel/parameters/panic", "/sys/module/printk/parameters/time",
    "/sys/module/apparmor/parameters/mode", "/sys/firmware", "/sys/firmware/efi/efivars", "/sys/fs/cgroup", "/sys/fs/cgroup/cgroup.procs",
    "/sys/fs/cgroup/cgroup.subtree_control", "/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/memory/release_agent",
    "/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/memory/notify_on_release", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/sys/fs/cgroup/devices/devices.allow", "/sys/fs/cgroup/unified/cgroup.procs", "/sys/fs/cgroup/memory.max", "/sys/fs/bpf",
    "/sys/fs/fuse/connections", "/sys/fs/pstore", "/sys/fs/ext4/features",
};

static const char *const MAKE[] = {"/proc/x", "/proc/sys/x", "/proc/self/x", "/sys/x", "/sys/fs/x", "/sys/kernel/x", "/sys/kernel/config/x",
                                   "/sys/fs/cgroup/x", "/sys/fs/cgroup/memory/x", "/sys/fs/cgroup/unified/x", "/sys/firmware/x", "/dev/mqueue/x"};

// The first line's number of a file, or -1.
static const char *first_word(const char *path, int word) {
  static char text[256];
  FILE *file = fopen(path, "re");
  if (!file) return strerrorname_np(errno);
  for (int at = 0; at <= word; at++)
    if (fscanf(file, "%255s", text) != 1) strcpy(text, "-");
  fclose(file);
  return text;
}

static void pagemap(void) {
  uint64_t entry = 0;
  int fd = open("/proc/self/pagemap", O_RDONLY);
  if (fd < 0 || pread(fd, &entry, 8, (uintptr_t)&begin / 4096 * 8) != 8) answer(-1);
  say(entry & ((1ull << 55) - 1) ? "ok" : "zeros");
}

static long write_text(const char *path, const char *text) {
  int fd = open(path, O_WRONLY);
  return fd < 0 ? -1 : write(fd, text, strlen(text));
}

// Adds what lies below a folder and takes writes: a bit says so, and it can be opened. Processes are left out, and
// /proc/pressure, where anybody may wait.
static void find_writable(const char *folder, char *found, size_t length, int depth) {
  DIR *directory = depth ? opendir(folder) : NULL;
  for (struct dirent *entry; directory && (entry = readdir(directory));) {
    char path[1024];
    struct stat stat;
    if (entry->d_name[0] == '.' || (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && !strcmp(folder, "/proc"))) continue;
    if (!strcmp(entry->d_name, "pressure")) continue;
    snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    if (lstat(path, &stat)) continue;
    if (S_ISDIR(stat.st_mode)) find_writable(path, found, length, depth - 1);
    if (!S_ISREG(stat.st_mode) || !(stat.st_mode & 0222)) continue;
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) continue;
    close(fd);
    size_t used = strlen(found);
    snprintf(found + used, length - used, "%s%s", used ? "," : "", path);
  }
  if (directory) closedir(directory);
}

static void say_writable(const char *folder) {
  char found[90] = "";
  find_writable(folder, found, sizeof found, 24);
  say("%s", found[0] ? found : "none");
}

void kernel_files(void) {
  if (begin("writable-below./proc")) say_writable("/proc");
  if (begin("writable-below./sys")) say_writable("/sys");
  for (size_t at = 0; at < sizeof READ / sizeof *READ; at++)
    if (begin("read.%s", READ[at])) read_file(READ[at]);
  for (size_t at = 0; at < sizeof WRITE / sizeof *WRITE; at++)
    if (begin("write.%s", WRITE[at])) open_to_write(WRITE[at]);
  for (size_t at = 0; at < sizeof MAKE / sizeof *MAKE; at++)
    if (begin("make.%s", MAKE[at])) answer(mkdir(MAKE[at], 0700));
  if (begin("iomem.addresses")) say(strtoull(first_word("/proc/iomem", 0), NULL, 16) ? "ok" : "zeros");
  if (begin("pagemap.frames")) pagemap();
  TRY("oom-score.lower", write_text("/proc/self/oom_score_adj", "-1000"));
  TRY("oom-score.higher", write_text("/proc/self/oom_score_adj", "1000"));
  TRY("ids.map", write_text("/proc/self/uid_map", "0 0 1"));
  TRY("ids.setgroups", write_text("/proc/self/setgroups", "deny"));
  TRY("login-id.set", write_text("/proc/self/loginuid", "0"));
  TRY("pressure.trigger", write_text("/proc/pressure/memory", "some 500000 2000000"));
  if (begin("exe.of-init")) {
    char target[256] = {0};
    if (readlink("/proc/1/exe", target, 255) < 0) answer(-1);
    say("%s", target);
  }
  if (begin("root.of-init")) {
    struct stat here, there;
    if (stat("/", &here) || stat("/proc/1/root/", &there)) answer(-1);
    say(here.st_ino == there.st_ino && here.st_dev == there.st_dev ? "own" : "another");
  }
}
