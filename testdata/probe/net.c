// Sockets: families, raw ones, what netlink lets change, and the machine's abstract sockets.
#include "probe.h"

static const struct { const char *name; int family, type, protocol; } KINDS[] = {
    {"unix", AF_UNIX, SOCK_STREAM, 0}, {"inet-tcp", AF_INET, SOCK_STREAM, 0}, {"inet-udp", AF_INET, SOCK_DGRAM, 0},
    {"inet6-tcp", AF_INET6, SOCK_STREAM, 0}, {"inet-sctp", AF_INET, SOCK_SEQPACKET, 132}, {"inet-mptcp", AF_INET, SOCK_STREAM, 262},
    {"raw-icmp", AF_INET, SOCK_RAW, 1}, {"raw-icmp6", AF_INET6, SOCK_RAW, 58}, {"raw-tcp", AF_INET, SOCK_RAW, 6},
    {"raw-udp", AF_INET, SOCK_RAW, 17}, {"raw-any", AF_INET, SOCK_RAW, 255}, {"raw6-any", AF_INET6, SOCK_RAW, 255},
    {"raw6-tcp", AF_INET6, SOCK_RAW, 6}, {"raw-cloexec", AF_INET, SOCK_RAW | SOCK_CLOEXEC, 255},
    {"inet-packet", AF_INET, SOCK_PACKET, 0x300},
    {"packet-raw", AF_PACKET, SOCK_RAW, 0x300}, {"packet-dgram", AF_PACKET, SOCK_DGRAM, 0x300}, {"packet-none", AF_PACKET, SOCK_RAW, 0},
    {"vsock", 40, SOCK_STREAM, 0}, {"alg", 38, SOCK_SEQPACKET, 0}, {"xdp", 44, SOCK_RAW, 0}, {"key", AF_KEY, SOCK_RAW, 2},
    {"bluetooth", AF_BLUETOOTH, SOCK_RAW, 1}, {"can", AF_CAN, SOCK_RAW, 1}, {"tipc", AF_TIPC, SOCK_RDM, 0}, {"rds", AF_RDS, SOCK_SEQPACKET, 0},
    {"pppox", AF_PPPOX, SOCK_STREAM, 0}, {"kcm", 41, SOCK_SEQPACKET, 0}, {"qipcrtr", 42, SOCK_DGRAM, 0}, {"smc", 43, SOCK_STREAM, 0},
    {"nfc", 39, SOCK_SEQPACKET, 0}, {"mctp", 45, SOCK_DGRAM, 0}, {"ax25", AF_AX25, SOCK_SEQPACKET, 0}, {"x25", AF_X25, SOCK_SEQPACKET, 0},
    {"atm", AF_ATMPVC, SOCK_DGRAM, 0}, {"llc", AF_LLC, SOCK_STREAM, 0}, {"phonet", AF_PHONET, SOCK_DGRAM, 0}, {"iucv", AF_IUCV, SOCK_STREAM, 0},
    {"netlink-route", AF_NETLINK, SOCK_RAW, NETLINK_ROUTE}, {"netlink-sock-diag", AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG},
    {"netlink-netfilter", AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER}, {"netlink-audit", AF_NETLINK, SOCK_RAW, NETLINK_AUDIT},
    {"netlink-uevent", AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT}, {"netlink-xfrm", AF_NETLINK, SOCK_RAW, NETLINK_XFRM},
    {"netlink-generic", AF_NETLINK, SOCK_RAW, NETLINK_GENERIC}, {"netlink-crypto", AF_NETLINK, SOCK_RAW, NETLINK_CRYPTO},
    {"netlink-connector", AF_NETLINK, SOCK_RAW, NETLINK_CONNECTOR}, {"netlink-selinux", AF_NETLINK, SOCK_RAW, NETLINK_SELINUX},
    {"netlink-iscsi", AF_NETLINK, SOCK_RAW, NETLINK_ISCSI}, {"netlink-scsi", AF_NETLINK, SOCK_RAW, NETLINK_SCSITRANSPORT},
};

// Sends one message and gives what the kernel acknowledges.
static long ask(int protocol, int type, int flags, const void *body, size_t length) {
  struct { struct nlmsghdr head; char body[256]; } message = {0};
  message.head = (struct nlmsghdr){NLMSG_LENGTH(length), type, NLM_F_REQUEST | NLM_F_ACK | flags, 1, 0};
  memcpy(message.body, body, length);
  int fd = socket(AF_NETLINK, SOCK_RAW, protocol);
  struct timeval patience = {2, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (fd < 0 || send(fd, &message, message.head.nlmsg_len, 0) < 0) return -1;
  char reply[4096];
  ssize_t got = recv(fd, reply, sizeof reply, 0);
  if (got < (ssize_t)sizeof(struct nlmsghdr)) return -1;
  struct nlmsghdr *head = (struct nlmsghdr *)reply;
  if (head->nlmsg_type != NLMSG_ERROR) return 0;
  errno = -((struct nlmsgerr *)NLMSG_DATA(head))->error;
  return errno ? -1 : 0;
}

static long bind_group(int protocol, unsigned groups) {
  struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = groups};
  int fd = socket(AF_NETLINK, SOCK_RAW, protocol);
  return fd < 0 ? -1 : bind(fd, (struct sockaddr *)&address, sizeof address);
}

static long bind_port(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  return bind(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address);
}

static long option(int level, int name, int value) {
  return setsockopt(socket(AF_INET, SOCK_STREAM, 0), level, name, &value, sizeof value);
}

// The loopback's own flags are set again.
static long set_flags(void) {
  struct ifreq request = {.ifr_name = "lo"};
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (ioctl(fd, SIOCGIFFLAGS, &request)) return -1;
  return ioctl(fd, SIOCSIFFLAGS, &request);
}

static long set_address(void) {
  struct ifreq request = {.ifr_name = "nosuch0"};
  ((struct sockaddr_in *)&request.ifr_addr)->sin_family = AF_INET;
  return ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFADDR, &request);
}

static long abstract_socket(const char *name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (!name) return errno = ENOENT, -1;
  strncpy(address.sun_path + 1, name, sizeof address.sun_path - 2);
  socklen_t length = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
  return connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, length);
}

void sockets(void) {
  for (size_t at = 0; at < sizeof KINDS / sizeof *KINDS; at++)
    if (begin("socket.%s", KINDS[at].name)) answer(socket(KINDS[at].family, KINDS[at].type, KINDS[at].protocol));
  TRY("socketpair.unix", socketpair(AF_UNIX, SOCK_STREAM, 0, (int[2]){0}));
  struct ifinfomsg none = {0}, link = {.ifi_index = 0x7ffffff0, .ifi_change = 1};
  REACH("netlink.new-link", ask(NETLINK_ROUTE, RTM_NEWLINK, 0, &link, sizeof link));
  REACH("netlink.delete-link", ask(NETLINK_ROUTE, RTM_DELLINK, 0, &link, sizeof link));
  struct rtmsg route = {.rtm_family = AF_INET, .rtm_table = RT_TABLE_UNSPEC};
  REACH("netlink.delete-route", ask(NETLINK_ROUTE, RTM_DELROUTE, 0, &route, sizeof route));
  TRY("netlink.list-links", ask(NETLINK_ROUTE, RTM_GETLINK, NLM_F_DUMP, &none, sizeof none));
  REACH("netlink.netfilter-list", ask(NETLINK_NETFILTER, (10 << 8) | 1, NLM_F_DUMP, &(char[4]){0}, 4));
  REACH("netlink.xfrm-list", ask(NETLINK_XFRM, 0x12, NLM_F_DUMP, &(char[4]){0}, 4));
  REACH("netlink.audit-get", ask(NETLINK_AUDIT, AUDIT_GET, 0, "", 0));
  REACH("netlink.audit-set", ask(NETLINK_AUDIT, AUDIT_SET, 0, "", 0));
  REACH("netlink.audit-log", bind_group(NETLINK_AUDIT, 1));
  TRY("netlink.uevent-listen", bind_group(NETLINK_KOBJECT_UEVENT, 1));
  REACH("netlink.uevent-forge", ask(NETLINK_KOBJECT_UEVENT, 0x10, 0, "x", 1));
  REACH("bind.low-port", bind_port(7));
  REACH("option.mark", option(SOL_SOCKET, SO_MARK, 1));
  REACH("option.receive-buffer-force", option(SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20));
  REACH("option.priority", option(SOL_SOCKET, SO_PRIORITY, 7));
  REACH("option.debug", option(SOL_SOCKET, SO_DEBUG, 1));
  REACH("option.transparent", option(0, 19, 1));
  REACH("option.tcp-repair", option(6, 19, 1));
  REACH("option.ip-tables", setsockopt(socket(AF_INET, SOCK_DGRAM, 0), 0, 64, NULL, 0));
  REACH("ioctl.interface-flags", set_flags());
  REACH("ioctl.interface-address", set_address());
  TRY("abstract.of-the-machine", abstract_socket(getenv("ABSTRACT")));
}
