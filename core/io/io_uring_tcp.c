/* TCP_INFO, as the kernel's own header has it: the C library's knows only its first half. */
#include "core/io/io_uring_impl.h"

#include <errno.h>
#include <linux/tcp.h>

#define TCP_STATE_CLOSE 7 /* TCP_CLOSE, which only the C library's header names */

int io_tcp_info(struct io *io, int fd, struct io_tcp_info *ret_info)
{
    struct tcp_info info = {0}; /* an older kernel fills less */
    socklen_t len = sizeof(info);

    io_count_call(io);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return -errno;
    *ret_info = (struct io_tcp_info){
        .bytes_sent = info.tcpi_bytes_sent,
        .bytes_received = info.tcpi_bytes_received,
        .retransmits = info.tcpi_total_retrans,
        .srtt_us = info.tcpi_rtt,
        .is_dead = info.tcpi_state == TCP_STATE_CLOSE,
    };
    return 0;
}
