// What every executable of a hostile root is: it tries to reach the host from where it runs, and prints `escaped NAME`
// for each way that leads out. The test defines HOST, a directory of the host that everybody may read and write, DISK,
// the device number of a disk of the host, and PORT, where a host's process listens.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void escaped(const char *way) {
  char line[256];
  int length = snprintf(line, sizeof line, "escaped %s\n", way);
  if (write(2, line, length) < 0) _exit(1);
  // Where the host is in reach, leave a mark.
  int mark = open(HOST "/mark", O_WRONLY | O_CREAT | O_APPEND, 0666);
  if (mark >= 0 && write(mark, line, length) < 0) _exit(1);
}

static int opens(const char *path, int flags) {
  int file = open(path, flags | O_CLOEXEC | O_NONBLOCK);
  if (file >= 0) close(file);
  return file >= 0;
}

static int sees_host(void) { return opens(HOST "/sentinel", O_RDONLY); }

static void by_chroot(void) {
  mkdir("/var/tmp/x", 0755);
  if (chroot("/var/tmp/x") && chroot("/etc")) return;
  for (int above = 0; above < 64; above++) if (chdir("..")) break;
  if (chroot(".")) return;
  if (sees_host()) escaped("chroot");
}

static void by_proc(void) {
  char path[128];
  for (int process = 1; process < 64; process++) {
    snprintf(path, sizeof path, "/proc/%d/root" HOST "/sentinel", process);
    if (opens(path, O_RDONLY)) escaped("proc-root");
    snprintf(path, sizeof path, "/proc/%d/cwd" HOST "/sentinel", process);
    if (opens(path, O_RDONLY)) escaped("proc-cwd");
    for (int name = 0; name < 32; name++) {
      snprintf(path, sizeof path, "/proc/%d/fd/%d" HOST "/sentinel", process, name);
      if (opens(path, O_RDONLY)) escaped("proc-fd");
    }
  }
}

static void by_files_of_the_kernel(void) {
  const char *const files[] = {
      "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches",
      "/proc/sysrq-trigger",           "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper",
      "/sys/kernel/mm/ksm/run",        "/sys/power/state", "/dev/mem", "/dev/kmsg", "/proc/kcore"};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++)
    if (opens(files[i], O_WRONLY)) escaped(files[i]);
  if (opens("/proc/kcore", O_RDONLY)) {
    struct stat found;
    // A null device in its place gives nothing.
    if (stat("/proc/kcore", &found) == 0 && S_ISREG(found.st_mode)) escaped("kcore");
  }
}

static void by_devices(void) {
  const char *const disks[] = {"/dev/hostdisk", "/usr/hostdisk", "/etc/hostdisk", "/var/hostdisk"};
  for (size_t i = 0; i < sizeof disks / sizeof *disks; i++)
    if (opens(disks[i], O_RDONLY)) escaped("a disk of the root");
  const char *const folders[] = {"/dev", "/tmp", "/run", "/var/tmp", "/etc"};
  char path[64];
  for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
    snprintf(path, sizeof path, "%s/madedisk", folders[i]);
    if (mknod(path, S_IFBLK | 0666, DISK) == 0 && opens(path, O_RDONLY)) escaped("a disk that was made");
    unlink(path);
  }
}

static void by_mounts(void) {
  if (mount("none", "/etc", "tmpfs", 0, "") == 0) escaped("mount");
  if (mount("/", "/", NULL, MS_REMOUNT | MS_BIND, NULL) == 0) escaped("remount");
  if (umount2("/etc", MNT_DETACH) == 0 || umount2("/proc/sys", MNT_DETACH) == 0) escaped("umount");
  if (syscall(SYS_open_tree, AT_FDCWD, "/", 1) >= 0) escaped("open_tree");
}

static void by_namespaces(void) {
  const char *const spaces[] = {"/proc/1/ns/mnt", "/proc/1/ns/net", "/proc/1/ns/pid"};
  for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++) {
    int space = open(spaces[i], O_RDONLY);
    if (space >= 0 && setns(space, 0) == 0 && sees_host()) escaped("setns");
  }
  pid_t child = fork();
  if (child == 0) {
    // In a user namespace of one's own one has all capabilities again.
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && mount("none", "/etc", "tmpfs", 0, "") == 0)
      escaped("rights: user-namespace");
    _exit(0);
  }
  if (child > 0) waitpid(child, NULL, 0);
}

static void by_handles(void) {
  struct { struct file_handle handle; unsigned char bytes[8]; } two = {{8, 1}, {2, 0, 0, 0, 0, 0, 0, 0}};
  int here = open("/usr", O_RDONLY | O_DIRECTORY);
  if (open_by_handle_at(here, &two.handle, O_RDONLY) >= 0) escaped("open_by_handle_at");
}

static void by_the_kernels_calls(void) {
  struct timeval now;
  gettimeofday(&now, NULL);
  if (settimeofday(&now, NULL) == 0) escaped("settimeofday");
  if (reboot(RB_DISABLE_CAD) == 0) escaped("reboot");
  if (syscall(SYS_init_module, "", 0, "") == 0) escaped("init_module");
  if (syscall(SYS_kexec_load, 0, 0, NULL, 0) == 0) escaped("kexec");
  if (acct("/etc/acct") == 0) escaped("acct");
  if (syscall(SYS_bpf, BPF_PROG_GET_NEXT_ID, &(union bpf_attr){0}, sizeof(union bpf_attr)) == 0) escaped("bpf");
  if (syscall(SYS_syslog, 3, (char[16]){0}, 16) > 0) escaped("syslog");
  if (setpriority(PRIO_PROCESS, 0, -20) == 0) escaped("nice");
}

static void by_processes(void) {
  if (getppid() > 1) escaped("the parent is outside");
  if (ptrace(PTRACE_ATTACH, 1, 0, 0) == 0) escaped("ptrace");
  for (int process = 2; process < 70000; process++)
    if (process != getpid() && kill(process, 0) == 0) { escaped("another process"); break; }
  char key = '\n';
  int terminal = open("/dev/tty", O_RDWR);
  for (int file = 0; file < 3; file++) if (ioctl(file, TIOCSTI, &key) == 0) escaped("terminal");
  if (terminal >= 0 && ioctl(terminal, TIOCSTI, &key) == 0) escaped("controlling-terminal");
}

static void by_descriptors(void) {
  for (int file = 3; file < 1024; file++)
    if (fcntl(file, F_GETFD) >= 0) escaped("descriptor");
}

static void by_sockets(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  int tcp = socket(AF_INET, SOCK_STREAM, 0);
  if (tcp >= 0 && connect(tcp, (struct sockaddr *)&address, sizeof address) == 0) escaped("network");
  struct sockaddr_un local = {.sun_family = AF_UNIX};
  int length = snprintf(local.sun_path + 1, 100, "nodebake-hostile-%d", PORT);
  int abstract = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(abstract, (struct sockaddr *)&local, sizeof(sa_family_t) + 1 + length) == 0) escaped("abstract-socket");
  const char *const sockets[] = {"/run/host.sock", "/var/run/host.sock", "/dev/host.sock"};
  for (size_t i = 0; i < sizeof sockets / sizeof *sockets; i++) {
    strcpy(local.sun_path, sockets[i]);
    int named = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(named, (struct sockaddr *)&local, sizeof local) == 0) escaped("socket");
  }
}

// What only a program that answers a question must not be able to do.
static void by_rights(void) {
  if (opens("/etc/shadow", O_RDONLY)) escaped("rights: shadow");
  if (setgroups(0, NULL) == 0) escaped("rights: setgroups");
  if (chown("/etc", 1, 1) == 0) escaped("rights: chown");
  const char *const files[] = {"/x", "/etc/x", "/usr/x", "/var/x", "/tmp/x", "/run/x", "/dev/shm/x"};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++)
    if (opens(files[i], O_WRONLY | O_CREAT)) escaped("rights: write");
  void *memory = malloc(6UL << 30);
  if (memory) escaped("rights: memory");
  free(memory);
}

// Processes that would outlive this one.
static void stay(void) {
  int count = 0;
  while (count < 2000) {
    pid_t child = fork();
    if (child < 0) break;
    if (child == 0) {
      setsid();
      for (int second = 0; second < 600; second++) {
        if (sees_host()) escaped("later");
        sleep(1);
      }
      _exit(0);
    }
    count++;
  }
  if (count >= 500) escaped("rights: processes");
}

int main(void) {
  char name[16];
  snprintf(name, sizeof name, "hostile-%d", PORT);
  prctl(PR_SET_NAME, name);
  by_descriptors();
  if (write(2, "ran\n", 4) < 0) return 1;
  if (sees_host()) escaped("the host is here");
  if (setresuid(0, 0, 0) == 0 && geteuid() == 0 && opens("/etc/shadow", O_RDONLY)) escaped("rights: setuid");
  by_proc();
  by_files_of_the_kernel();
  by_devices();
  by_mounts();
  by_namespaces();
  by_handles();
  by_the_kernels_calls();
  by_processes();
  by_sockets();
  by_rights();
  by_chroot();
  stay();
  if (write(2, "done\n", 5) < 0) return 1;
  static char flood[1 << 16];
  memset(flood, '\001', sizeof flood);
  memcpy(flood, "\033]0;hostile\007 = [\n", 19);
  for (;;)
    if (write(1, flood, sizeof flood) < 0 && errno != EINTR) pause();
}
