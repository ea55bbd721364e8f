// What is around the process: namespaces, mounts, limits, ways up and out.
#include "probe.h"

static void namespaces(void) {
  static const char *const NAMES[] = {"mnt", "uts", "ipc", "pid", "net", "user", "cgroup", "time"};
  for (size_t at = 0; at < sizeof NAMES / sizeof *NAMES; at++)
    if (begin("namespace.%s", NAMES[at])) {
      char path[64], target[64] = {0};
      snprintf(path, sizeof path, "/proc/self/ns/%s", NAMES[at]);
      if (readlink(path, target, 63) < 0) answer(-1);
      const char *of_the_machine = getenv("NAMESPACES");
      say(of_the_machine && strstr(of_the_machine, target) ? "the-machines" : "own");
    }
  static const char *const MAPS[] = {"uid_map", "gid_map"};
  for (size_t at = 0; at < 2; at++)
    if (begin("ids.%s", MAPS[at])) {
      char path[64];
      snprintf(path, sizeof path, "/proc/self/%s", MAPS[at]);
      FILE *file = fopen(path, "re");
      unsigned inside, outside, length, lines = 0, total = 0;
      while (file && fscanf(file, "%u %u %u", &inside, &outside, &length) == 3) lines++, total += length;
      say(total == 0xffffffff ? "all" : total == 1 ? "one" : lines > 1 ? "root-and-range" : "range");
    }
  if (begin("ids.setgroups-allowed")) {
    char text[16] = {0};
    FILE *file = fopen("/proc/self/setgroups", "re");
    if (!file || !fgets(text, 16, file)) answer(-1);
    say("%.*s", (int)strcspn(text, "\n"), text);
  }
}

static void mount_points(void) {
  static const char *const POINTS[] = {"/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "/etc/hosts",
                                       "/etc/resolv.conf", "/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger"};
  for (size_t at = 0; at < sizeof POINTS / sizeof *POINTS; at++)
    if (begin("mounted.%s", POINTS[at])) {
      struct statvfs is;
      if (statvfs(POINTS[at], &is)) answer(-1);
      say("%s%s%s%s", is.f_flag & ST_RDONLY ? "ro" : "rw", is.f_flag & ST_NOSUID ? ",nosuid" : "", is.f_flag & 4 ? ",nodev" : "",
          is.f_flag & 8 ? ",noexec" : "");
    }
  if (begin("mounted.shm-size")) {
    struct statvfs is;
    if (statvfs("/dev/shm", &is)) answer(-1);
    say("%lluM", (unsigned long long)is.f_blocks * is.f_frsize >> 20);
  }
  if (begin("mounted.shared-or-slave")) {
    char line[4096];
    FILE *file = fopen("/proc/self/mountinfo", "re");
    while (file && fgets(line, sizeof line, file)) if (strstr(line, " shared:") || strstr(line, " master:")) say("yes");
    say("no");
  }
  if (begin("mounted.tells-paths-of-the-machine")) {
    char line[65536];
    FILE *file = fopen("/proc/self/mountinfo", "re");
    while (file && fgets(line, sizeof line, file)) if (strstr(line, "upperdir=/")) say("yes");
    say("no");
  }
  if (begin("mounted.lines-beyond-docker")) {
    char line[65536], point[256];
    int unknown = 0;
    FILE *file = fopen("/proc/self/mountinfo", "re");
    while (file && fgets(line, sizeof line, file)) {
      sscanf(line, "%*s %*s %*s %*s %255s", point);
      static const char *const KNOWN[] = {"/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"};
      int known = !strcmp(point, "/");
      for (size_t each = 0; each < 6; each++) known |= !strncmp(point, KNOWN[each], strlen(KNOWN[each]));
      unknown += !known;
    }
    say("%d", unknown);
  }
}

// The usual way out of a chroot.
static void out_of_chroot(void) {
  struct stat before, after;
  stat("/", &before);
  mkdir("jail", 0755);
  if (chroot("jail")) answer(-1);
  for (int at = 0; at < 64; at++) if (chdir("..")) answer(-1);
  if (chroot(".")) answer(-1);
  stat("/", &after);
  say(before.st_ino == after.st_ino && before.st_dev == after.st_dev ? "the-root" : "another");
}

static void ways_out(void) {
  TRY("chroot", chroot("/tmp"));
  if (begin("chroot.out")) out_of_chroot();
  if (begin("root.above")) {
    struct stat root, above;
    if (stat("/", &root) || stat("/../../..", &above)) answer(-1);
    say(root.st_ino == above.st_ino && root.st_dev == above.st_dev ? "the-root" : "another");
  }
  TRY("hard-link.of-resolv-conf", link("/etc/resolv.conf", "link"));
  TRY("hard-link.of-shm", link("/dev/shm", "link2"));
  TRY("hard-link.of-null", link("/dev/null", "link3"));
  TRY("resolv-conf.write", open("/etc/resolv.conf", O_WRONLY));
  TRY("resolv-conf.remove", unlink("/etc/resolv.conf"));
  TRY("resolv-conf.chmod", chmod("/etc/resolv.conf", 0644));
  TRY("hosts.write", open("/etc/hosts", O_WRONLY));
  TRY("hosts.rename-over", rename("/etc/hosts", "/etc/hosts2"));
  TRY("dev.make-file", open("/dev/file", O_WRONLY | O_CREAT, 0600));
  if (begin("dev.rename-full")) {
    errno = 0;
    long result = rename("/dev/full", "/dev/full2");
    int error = errno;
    rename("/dev/full2", "/dev/full");
    errno = error;
    answer(result);
  }
  TRY("dev.chmod-null", chmod("/dev/null", 0666));
  TRY("dev.chown-null", chown("/dev/null", 0, 0));
  TRY("dev.touch-null", utimensat(AT_FDCWD, "/dev/null", (struct timespec[2]){{0, UTIME_OMIT}, {0, UTIME_OMIT}}, 0));
  TRY("dev.attribute-of-null", setxattr("/dev/null", "trusted.x", "y", 1, 0));
}

static void others(void) {
  TRY("signal.all", kill(-1, 0));
  TRY("signal.beyond", kill(4194303, 0));
  if (begin("ipc.segments-seen")) {
    int lines = -1;
    char line[512];
    FILE *file = fopen("/proc/sysvipc/shm", "re");
    while (file && fgets(line, sizeof line, file)) lines++;
    say("%d", lines);
  }
  TRY("ipc.make-segment", shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600));
  if (begin("mqueue.names-seen")) {
    int count = 0;
    DIR *directory = opendir("/dev/mqueue");
    for (struct dirent *entry; directory && (entry = readdir(directory));) count += entry->d_name[0] != '.';
    say("%d", count);
  }
  if (begin("umask")) say("%04o", umask(0));
  if (begin("groups")) {
    gid_t list[64];
    int count = getgroups(64, list);
    char text[64] = "";
    for (int at = 0; at < count && at < 5; at++) sprintf(text + strlen(text), "%s%u", at ? "," : "", list[at]);
    say("%s", text);
  }
  if (begin("environment")) {
    char text[96] = "";
    extern char **environ;
    static const char *const OWN[] = {"ABSTRACT=", "NAMESPACES="};
    for (char **at = environ; *at; at++)
      if (strncmp(*at, OWN[0], 9) && strncmp(*at, OWN[1], 11) && strlen(text) < 64)
        sprintf(text + strlen(text), "%s%.*s", text[0] ? "," : "", (int)strcspn(*at, "="), *at);
    say("%s", text);
  }
  if (begin("standard-input")) {
    char target[64] = {0};
    if (readlink("/proc/self/fd/0", target, 63) < 0) answer(-1);
    say("%s", target);
  }
  if (begin("dumpable")) say("%d", prctl(PR_GET_DUMPABLE));
  if (begin("parent-death-signal")) {
    int signal = 0;
    prctl(PR_GET_PDEATHSIG, &signal);
    say("%d", signal);
  }
  if (begin("signals.blocked")) say("%s", status_word("SigBlk"));
}

void surroundings(void) {
  namespaces();
  mount_points();
  ways_out();
  others();
}
