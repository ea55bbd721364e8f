// Devices: those that are there, and those that a step can make.
#include "probe.h"

static const struct { const char *name; mode_t kind; unsigned major, minor; } NODES[] = {
    {"null", S_IFCHR, 1, 3}, {"mem", S_IFCHR, 1, 1}, {"port", S_IFCHR, 1, 4}, {"kmsg", S_IFCHR, 1, 11}, {"tty0", S_IFCHR, 4, 0},
    {"ttyS0", S_IFCHR, 4, 64}, {"console", S_IFCHR, 5, 1}, {"ptmx", S_IFCHR, 5, 2}, {"vcs", S_IFCHR, 7, 0}, {"vcsa", S_IFCHR, 7, 128},
    {"input", S_IFCHR, 13, 64}, {"sg", S_IFCHR, 21, 0}, {"fuse", S_IFCHR, 10, 229}, {"kvm", S_IFCHR, 10, 232}, {"tun", S_IFCHR, 10, 200},
    {"btrfs-control", S_IFCHR, 10, 234}, {"loop-control", S_IFCHR, 10, 237}, {"mapper-control", S_IFCHR, 10, 236}, {"uinput", S_IFCHR, 10, 223},
    {"hpet", S_IFCHR, 10, 228}, {"nvram", S_IFCHR, 10, 144}, {"watchdog", S_IFCHR, 10, 130}, {"snapshot", S_IFCHR, 10, 231},
    {"vfio", S_IFCHR, 10, 196}, {"vhost-net", S_IFCHR, 10, 238}, {"vhost-vsock", S_IFCHR, 10, 241}, {"autofs", S_IFCHR, 10, 235},
    {"cpu-dma-latency", S_IFCHR, 10, 259}, {"hwrng", S_IFCHR, 10, 183}, {"rfkill", S_IFCHR, 10, 242}, {"cpu-msr", S_IFCHR, 202, 0},
    {"cpuid", S_IFCHR, 203, 0}, {"pts0", S_IFCHR, 136, 0}, {"ppp", S_IFCHR, 108, 0}, {"snd", S_IFCHR, 116, 0}, {"dri", S_IFCHR, 226, 0},
    {"ram0", S_IFBLK, 1, 0}, {"loop0", S_IFBLK, 7, 0}, {"sda", S_IFBLK, 8, 0}, {"md0", S_IFBLK, 9, 0}, {"vda", S_IFBLK, 254, 0},
    {"dm0", S_IFBLK, 253, 0}, {"nvme0", S_IFBLK, 259, 0},
};

// A folder's own disk, by the number that `stat` tells.
static dev_t disk_below(const char *path) {
  struct stat stat_;
  return stat(path, &stat_) ? 0 : stat_.st_dev;
}

static long make_node(mode_t kind, dev_t device) {
  long result = mknod("n", kind | 0666, device);
  int error = errno;
  unlink("n");
  errno = error;
  return result;
}

static void with_node(const char *path, mode_t kind, dev_t device) {
  if (mknod(path, kind | 0666, device)) say("not-made");
  struct stat stat;
  lstat(path, &stat);
  if ((stat.st_mode & S_IFMT) != kind) say("not-made");
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  int error = errno;
  unlink(path);
  errno = error;
  // With one id an empty file stands for the device; attributes of users are for files only.
  char value[8];
  if (fd >= 0 && fgetxattr(fd, "user.x", value, sizeof value) < 0 && errno == ENODATA) say("stand-in");
  // A device that nothing drives was not refused.
  if (fd < 0 && errno != EPERM && errno != EACCES) say("reached");
  answer(fd);
}

// The inner side of a new terminal, which becomes that of this process.
static int own_terminal(void) {
  setsid();
  int master = open("/dev/ptmx", O_RDWR | O_NOCTTY), zero = 0, number = 0;
  if (master < 0 || ioctl(master, TIOCSPTLCK, &zero) || ioctl(master, TIOCGPTN, &number)) return -1;
  char path[32];
  snprintf(path, sizeof path, "/dev/pts/%d", number);
  int slave = open(path, O_RDWR);
  ioctl(slave, TIOCSCTTY, 0);
  errno = 0;
  return slave;
}

static void terminal(void) {
  if (begin("terminal.of-process")) answer(open("/dev/tty", O_RDWR));
  TRY("terminal.standard-input", isatty(0) - 1 + isatty(1) + isatty(2));
  TRY("terminal.push-input", ioctl(0, TIOCSTI, "x"));
  if (begin("terminal.push-input-to-own")) {
    int slave = own_terminal();
    answer(slave < 0 ? -1 : ioctl(slave, TIOCSTI, "x"));
  }
  if (begin("terminal.take-console")) {
    int slave = own_terminal();
    answer(slave < 0 ? -1 : ioctl(slave, TIOCCONS));
  }
  if (begin("terminal.open-new")) answer(open("/dev/ptmx", O_RDWR | O_NOCTTY));
  if (begin("terminal.others-seen")) {
    int count = 0;
    DIR *directory = opendir("/dev/pts");
    for (struct dirent *entry; directory && (entry = readdir(directory));) count += entry->d_name[0] >= '0' && entry->d_name[0] <= '9';
    say("%d", count);
  }
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void names(void) {
  char *found[64], all[256] = "";
  int count = 0;
  DIR *directory = opendir("/dev");
  for (struct dirent *entry; directory && count < 64 && (entry = readdir(directory));)
    if (entry->d_name[0] != '.') found[count++] = strdup(entry->d_name);
  qsort(found, count, sizeof *found, by_name);
  for (int at = 0; at < count && strlen(all) < 200; at++) sprintf(all + strlen(all), "%s%s", at ? "," : "", found[at]);
  say("%s", all);
}

void devices(void) {
  if (begin("dev.names")) names();
  static const char *const THERE[] = {"null", "zero", "full", "random", "urandom"};
  for (size_t at = 0; at < sizeof THERE / sizeof *THERE; at++)
    if (begin("dev.open.%s", THERE[at])) {
      char path[32];
      snprintf(path, sizeof path, "/dev/%s", THERE[at]);
      answer(open(path, O_RDWR));
    }
  for (size_t at = 0; at < sizeof NODES / sizeof *NODES; at++) {
    if (begin("device.make.%s", NODES[at].name)) answer(make_node(NODES[at].kind, makedev(NODES[at].major, NODES[at].minor)));
    if (begin("device.open.%s", NODES[at].name)) with_node("m", NODES[at].kind, makedev(NODES[at].major, NODES[at].minor));
  }
  if (begin("device.open.disk-of-resolv-conf")) with_node("m", S_IFBLK, disk_below("/etc/resolv.conf"));
  if (begin("device.open.disk-in-shm")) with_node("/dev/shm/m", S_IFBLK, makedev(8, 0));
  if (begin("device.open.disk-in-dev")) with_node("/dev/m", S_IFBLK, makedev(8, 0));
  if (begin("device.open.null-in-dev")) with_node("/dev/m", S_IFCHR, makedev(1, 3));
  if (begin("device.random-entropy")) { int more = 0; answer_reached(ioctl(open("/dev/random", O_RDWR), 0x40045201, &more)); }
  terminal();
}
