#include "core/conf/block.h"

struct cidr cidr_of(const struct ipaddr *ip, uint8_t prefix_bits)
{
    struct cidr block = {.ip = {.family = ip->family}, .prefix_bits = prefix_bits};
    unsigned whole = prefix_bits / 8;
    unsigned rest = prefix_bits % 8;

    memcpy(block.ip.bytes, ip->bytes, whole);
    if (rest > 0)
        block.ip.bytes[whole] = (uint8_t)(ip->bytes[whole] & 0xff00 >> rest);
    return block;
}
