// Tries what a container must not be able to do, and tells what came of it: `NAME AS-ROOT AS-USER`, a line a check.
//
// It is run by RUN, and in Docker's default container. Whatever these refuse, root of a machine may do: there it would mount, delete
// routes and rename files. So it starts only where it is in another mount namespace than the machine's, whose namespaces
// NAMESPACES tells.
#include "probe.h"

enum { CHECKS = 1200, LENGTH = 96, NAME = 64 };

struct results {
  int count[2];
  char names[CHECKS][NAME];
  char text[2][CHECKS][LENGTH];
};

static struct results *results;
static int who;
static int answers;

// What may be told of the process itself is read before there are others.
static char at_start[4][LENGTH];

int begin(const char *format, ...) {
  int at = results->count[who]++;
  va_list list;
  va_start(list, format);
  vsnprintf(results->names[at], NAME, format, list);
  va_end(list);
  int pipes[2];
  if (at >= CHECKS || pipe2(pipes, O_CLOEXEC)) abort();
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    close(pipes[0]);
    answers = pipes[1];
    alarm(20);
    return 1;
  }
  close(pipes[1]);
  char *text = results->text[who][at];
  ssize_t length = read(pipes[0], text, LENGTH - 1);
  int status = 0;
  waitpid(pid, &status, 0);
  close(pipes[0]);
  text[length > 0 ? length : 0] = 0;
  if (length <= 0) snprintf(text, LENGTH, "SIG%s", WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : "NONE");
  return 0;
}

void say(const char *format, ...) {
  char text[LENGTH];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  // A word a result, so that a line has three.
  for (char *at = text; *at; at++) if (*at == ' ' || *at == '\n' || *at == '\t') *at = ',';
  if (write(answers, text[0] ? text : "-", strlen(text) + !text[0]) < 0) abort();
  _exit(0);
}

// What this kernel or machine has not is no answer of whoever confines the process.
static int is_absent(int error) {
  return error == ENOENT || error == EAFNOSUPPORT || error == EPROTONOSUPPORT || error == ESOCKTNOSUPPORT ||
         error == ENODEV || error == EPROTOTYPE || error == EOPNOTSUPP || error == ENOPROTOOPT;
}

void answer(long result) {
  if (result >= 0) say("ok");
  say("%s", is_absent(errno) ? "absent" : strerrorname_np(errno));
}

void answer_reached(long result) {
  if (result >= 0) say("ok");
  int refused = errno == EPERM || errno == EACCES || errno == ENOSYS || errno == EROFS || errno == ECONNREFUSED;
  say("%s", refused ? strerrorname_np(errno) : is_absent(errno) ? "absent" : "reached");
}

const char *status_word(const char *key) {
  static char word[LENGTH];
  char line[512];
  FILE *file = fopen("/proc/self/status", "re");
  strcpy(word, "-");
  while (file && fgets(line, sizeof line, file))
    if (!strncmp(line, key, strlen(key))) sscanf(line + strlen(key) + 1, "%95s", word);
  if (file) fclose(file);
  return word;
}

int copy_self(const char *path, mode_t mode) {
  char buffer[65536];
  int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
  ssize_t length;
  while ((length = read(from, buffer, sizeof buffer)) > 0)
    if (write(to, buffer, length) != length) return -1;
  close(from);
  close(to);
  return chmod(path, mode);
}

const char *told_by(const char *path) {
  static char text[LENGTH];
  int pipes[2], status;
  if (pipe(pipes)) return strerrorname_np(errno);
  pid_t pid = fork();
  if (pid == 0) {
    dup2(pipes[1], 1);
    execl(path, "probe", "--tell", NULL);
    dprintf(1, "%s", strerrorname_np(errno));
    _exit(0);
  }
  close(pipes[1]);
  ssize_t length = read(pipes[0], text, LENGTH - 1);
  text[length > 0 ? length : 0] = 0;
  waitpid(pid, &status, 0);
  return text;
}

static void look_at_start(void) {
  int used = 0;
  for (int fd = 0; fd < 256; fd++)
    if (fcntl(fd, F_GETFD) >= 0) used += snprintf(at_start[0] + used, LENGTH - used, "%s%d", used ? "," : "", fd);
  int processes = 0;
  DIR *proc = opendir("/proc");
  for (struct dirent *entry; proc && (entry = readdir(proc));) processes += entry->d_name[0] >= '1' && entry->d_name[0] <= '9';
  if (proc) closedir(proc);
  snprintf(at_start[1], LENGTH, "%d", processes);
  snprintf(at_start[2], LENGTH, "pid=%d,ppid=%d,sid=%d,pgid=%d", getpid(), getppid(), getsid(0), getpgid(0));
  char *cwd = getcwd(NULL, 0);
  snprintf(at_start[3], LENGTH, "%s", cwd ? cwd : strerrorname_np(errno));
}

static void at_the_start(void) {
  static const char *const names[] = {"start.open-files", "start.processes-seen", "start.ids", "start.cwd"};
  for (int at = 0; at < 4; at++)
    if (begin(names[at])) say("%s", at_start[at]);
}

static void run_all(void) {
  at_the_start();
  surroundings();
  capabilities();
  system_calls();
  other_abis();
  sockets();
  kernel_files();
  devices();
}

int main(int count, char **arguments) {
  // Started by a check, as a program with set-id bits or capabilities of its own.
  if (count > 1 && !strcmp(arguments[1], "--tell")) {
    printf("%s,uid=%d,euid=%d", status_word("CapEff"), getuid(), geteuid());
    return 0;
  }
  const char *of_the_machine = getenv("NAMESPACES");
  char own[64] = {0};
  if (!of_the_machine || readlink("/proc/self/ns/mnt", own, 63) <= 0 || strstr(of_the_machine, own)) {
    fprintf(stderr, "this is for a container: NAMESPACES must be the links in /proc/self/ns of the machine\n");
    return 2;
  }
  look_at_start();
  results = mmap(NULL, sizeof *results, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (results == MAP_FAILED) return 1;
  mkdir("/work-root", 0700);
  mkdir("/work-user", 0700);
  if (chown("/work-user", 1000, 1000) || chdir("/work-root")) return 1;
  int of_user = open("/work-user/theirs", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (of_user < 0 || fchown(of_user, 1000, 1000) || close(of_user)) return 1;
  mkdir("/programs", 0755);
  copy_self("/programs/set-id", 04755);
  copy_self("/programs/with-net-bind", 0755);
  copy_self("/programs/with-sys-admin", 0755);
  for (int at = 0; at < 2; at++) {
    // Version 2 of the attribute, permitted and effective.
    uint32_t value[5] = {0x02000001, at ? 1u << CAP_SYS_ADMIN : 1u << CAP_NET_BIND_SERVICE, 0, 0, 0};
    setxattr(at ? "/programs/with-sys-admin" : "/programs/with-net-bind", "security.capability", value, sizeof value, 0);
  }
  run_all();
  who = 1;
  pid_t pid = fork();
  if (pid == 0) {
    if (setgroups(0, NULL) || setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000) || chdir("/work-user")) _exit(1);
    // A change of user makes it so that nobody may look at the process.
    prctl(PR_SET_DUMPABLE, 1);
    run_all();
    _exit(0);
  }
  int status;
  waitpid(pid, &status, 0);
  FILE *out = count > 1 ? fopen(arguments[1], "we") : stdout;
  if (!out || status || results->count[0] != results->count[1]) return 1;
  for (int at = 0; at < results->count[0]; at++)
    fprintf(out, "%s %s %s\n", results->names[at], results->text[0][at], results->text[1][at]);
  return fclose(out) ? 1 : 0;
}
