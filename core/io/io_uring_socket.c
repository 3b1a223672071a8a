/* Sockets: made by plain system calls, then used through the ring. */
#include "core/io/io_uring_impl.h"

#include "core/base/must.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int set_on(struct io *io, int fd, int level, int option)
{
    int one = 1;

    io_count_call(io);
    return setsockopt(fd, level, option, &one, sizeof(one)) < 0 ? -errno : 0;
}

/* Closes a descriptor that the caller never saw. */
static int give_up(struct io *io, int fd, int code)
{
    io_count_call(io);
    close(fd);
    return code;
}

static int open_socket(struct io *io, int family)
{
    int fd;

    io_count_call(io);
    /* Blocking on purpose: the ring waits for such a socket by itself, and would fail requests on
     * a non-blocking one with -EAGAIN. */
    fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

/* ---- Listening and accepting --------------------------------------------------------------- */

static int bind_and_listen(struct io *io, int fd, const struct ipaddr_port *at, int backlog)
{
    struct sockaddr_storage room;
    unsigned len = ipaddr_to_sockaddr(at, (struct sockaddr *)&room);
    int code = set_on(io, fd, SOL_SOCKET, SO_REUSEADDR);

    if (code == 0)
        code = set_on(io, fd, SOL_SOCKET, SO_REUSEPORT);
    if (code == 0 && at->ip.family == IPADDR_V6)
        code = set_on(io, fd, IPPROTO_IPV6, IPV6_V6ONLY);
    /* Accepted sockets inherit it. */
    if (code == 0)
        code = set_on(io, fd, IPPROTO_TCP, TCP_NODELAY);
    if (code < 0)
        return code;
    io_count_call(io);
    if (bind(fd, (struct sockaddr *)&room, len) < 0)
        return -errno;
    io_count_call(io);
    return listen(fd, backlog) < 0 ? -errno : 0;
}

int io_listen(struct io *io, const struct ipaddr_port *at, int backlog, int *ret_fd)
{
    int fd = open_socket(io, at->ip.family == IPADDR_V6 ? AF_INET6 : AF_INET);
    int code;

    must(at->ip.family != IPADDR_NONE);
    if (fd < 0)
        return fd;
    code = bind_and_listen(io, fd, at, backlog);
    if (code < 0)
        return give_up(io, fd, code);
    *ret_fd = fd;
    return 0;
}

static int bind_path(struct io *io, int fd, const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct stat old;

    if (strlen(path) >= sizeof(at.sun_path))
        return -ENAMETOOLONG;
    memcpy(at.sun_path, path, strlen(path));
    io_count_call(io);
    if (lstat(path, &old) == 0 && S_ISSOCK(old.st_mode)) {
        io_count_call(io);
        if (unlink(path) < 0 && errno != ENOENT)
            return -errno;
    }
    io_count_call(io);
    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
        return -errno;
    /* Nobody can connect before listen, so the mode is right when it begins to matter. */
    io_count_call(io);
    if (chmod(path, 0600) < 0)
        return -errno;
    io_count_call(io);
    return listen(fd, SOMAXCONN) < 0 ? -errno : 0;
}

int io_listen_unix(struct io *io, const char *path, int *ret_fd)
{
    int fd = open_socket(io, AF_UNIX);
    int code;

    if (fd < 0)
        return fd;
    code = bind_path(io, fd, path);
    if (code < 0)
        return give_up(io, fd, code);
    io_fd_of(io, fd)->is_unix = true;
    *ret_fd = fd;
    return 0;
}

void io_accept_start(struct io *io, struct io_accept *accept, int listen_fd)
{
    io_op_start(io, &accept->op, IO_KIND_ACCEPT, listen_fd);
}

void io_accept_stop(struct io *io, struct io_accept *accept)
{
    io_cancel(io, &accept->op);
}

/* Errors of the connection that was about to be accepted, not of the listener (see accept(2)). */
static bool is_of_connection(int32_t code)
{
    switch (-code) {
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
    case EPERM:
    case EAGAIN:
    case EINTR:
        return true;
    default:
        return false;
    }
}

void io_accept_complete(struct io *io, struct io_accept *accept, int32_t result, uint32_t cqe_flags)
{
    struct io_op *op = &accept->op;
    int fd = op->fd;
    bool stopping = op->flags & IO_OP_CANCELLED || io_fd_of(io, fd)->close != NULL;
    bool goes_on = (cqe_flags & IORING_CQE_F_MORE) != 0;

    if (!goes_on && !stopping && (result >= 0 || is_of_connection(result))) {
        io_op_submit(io, op);
        goes_on = true;
    }
    if (stopping && result >= 0) {
        io_count_call(io);
        close(result);
    } else if (!stopping && result >= 0) {
        bool is_unix = io_fd_of(io, fd)->is_unix;

        io_fd_of(io, result)->is_unix = is_unix;
        accept->on_accept(accept, result);
    }
    if (goes_on)
        return;
    op->in_flight = false;
    op->flags = 0;
    io_fd_release(io, fd);
    accept->on_accept(accept, stopping ? -ECANCELED : result);
    io_fd_settle(io, fd);
}

/* ---- Addresses ----------------------------------------------------------------------------- */

int io_peer_address(struct io *io, int fd, struct ipaddr_port *ret_at)
{
    struct sockaddr_storage room;
    socklen_t len = sizeof(room);

    io_count_call(io);
    if (getpeername(fd, (struct sockaddr *)&room, &len) < 0)
        return -errno;
    return ipaddr_from_sockaddr((struct sockaddr *)&room, ret_at);
}

int io_local_address(struct io *io, int fd, struct ipaddr_port *ret_at)
{
    struct sockaddr_storage room;
    socklen_t len = sizeof(room);

    io_count_call(io);
    if (getsockname(fd, (struct sockaddr *)&room, &len) < 0)
        return -errno;
    return ipaddr_from_sockaddr((struct sockaddr *)&room, ret_at);
}

int io_peer_uid(struct io *io, int fd, uint32_t *ret_uid)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    io_count_call(io);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return -errno;
    *ret_uid = peer.uid;
    return 0;
}

/* ---- Connecting and sending ---------------------------------------------------------------- */

static int bind_source(struct io *io, int fd, const struct ipaddr *source)
{
    struct ipaddr_port at = {.ip = *source, .port = 0};
    struct sockaddr_storage room;
    unsigned len = ipaddr_to_sockaddr(&at, (struct sockaddr *)&room);
    int code;

    /* Otherwise bind takes a port of its own, and one source could have only as many connections
     * in all as there are ports, instead of as many to each receiver. */
    code = set_on(io, fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT);
    if (code == 0)
        code = set_on(io, fd, IPPROTO_TCP, TCP_NODELAY);
    if (code < 0)
        return code;
    io_count_call(io);
    return bind(fd, (struct sockaddr *)&room, len) < 0 ? -errno : 0;
}

int io_socket_open(struct io *io, const struct ipaddr *source, int *ret_fd)
{
    int fd;
    int code;

    must(source->family != IPADDR_NONE);
    fd = open_socket(io, source->family == IPADDR_V6 ? AF_INET6 : AF_INET);
    if (fd < 0)
        return fd;
    code = bind_source(io, fd, source);
    if (code < 0)
        return give_up(io, fd, code);
    *ret_fd = fd;
    return 0;
}

void io_connect(struct io *io, struct io_op *op, int fd, const struct ipaddr_port *to)
{
    struct sockaddr_storage room;

    must(!op->in_flight);
    /* The request may have to wait for a slot, so the op keeps the address; iov_count is free to
     * carry its length. */
    op->iov_count = ipaddr_to_sockaddr(to, (struct sockaddr *)&room);
    must(op->iov_count <= sizeof(op->address));
    memcpy(&op->address, &room, op->iov_count);
    io_op_start(io, op, IO_KIND_CONNECT, fd);
}

void io_send(struct io *io, struct io_op *op, int fd, struct iovec *iov, uint32_t iov_count)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < iov_count; i++)
        total += iov[i].iov_len;
    must(total <= INT32_MAX && !op->in_flight);
    op->iov = iov;
    op->iov_count = iov_count;
    if (total == 0) {
        io_op_start(io, op, IO_KIND_NOTHING, fd);
        io_op_finish_later(io, op, 0);
        return;
    }
    /* Empty pieces in front would make a single one look like several. */
    io_op_advance(op, 0);
    io_op_start(io, op, IO_KIND_SEND, fd);
}
