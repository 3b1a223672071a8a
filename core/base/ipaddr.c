#include "core/base/ipaddr.h"

#include "core/base/err.h"
#include "core/base/hash.h"
#include "core/base/must.h"
#include "core/base/text.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

static size_t bytes_of(const struct ipaddr *ip)
{
    return ip->family == IPADDR_V4 ? 4 : ip->family == IPADDR_V6 ? 16 : 0;
}

static bool is_mapped(const struct ipaddr *ip)
{
    return ip->family == IPADDR_V6 && memcmp(ip->bytes, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

static void unmap(struct ipaddr *ip)
{
    struct ipaddr v4 = {.family = IPADDR_V4};

    memcpy(v4.bytes, ip->bytes + 12, 4);
    *ip = v4;
}

/* As it is written, without turning a mapped address into IPv4. */
static int parse_raw(struct slice text, struct ipaddr *ret_ip)
{
    struct ipaddr ip = {0};
    char room[IPADDR_TEXT_MAX];

    if (text.len == 0 || text.len >= sizeof(room) || slice_find(text, 0) != text.len)
        return E_SYNTAX;
    memcpy(room, text.data, text.len);
    room[text.len] = '\0';
    if (inet_pton(AF_INET, room, ip.bytes) == 1)
        ip.family = IPADDR_V4;
    else if (inet_pton(AF_INET6, room, ip.bytes) == 1)
        ip.family = IPADDR_V6;
    else
        return E_SYNTAX;
    *ret_ip = ip;
    return 0;
}

int ipaddr_parse(struct slice text, struct ipaddr *ret_ip)
{
    int rc = parse_raw(text, ret_ip);

    if (rc == 0 && is_mapped(ret_ip))
        unmap(ret_ip);
    return rc;
}

/* "10" or "192.168", the missing octets are zero: only in front of a prefix length. */
static int parse_short_v4(struct slice text, struct ipaddr *ret_ip)
{
    struct ipaddr ip = {.family = IPADDR_V4};

    for (unsigned octet = 0; octet < 4; octet++) {
        size_t dot = slice_find(text, '.');
        uint64_t value = 0;

        if (dot > 3 || slice_to_u64(slice_of(text.data, dot), 255, &value) != 0)
            return E_SYNTAX;
        ip.bytes[octet] = (uint8_t)value;
        if (dot == text.len) {
            *ret_ip = ip;
            return 0;
        }
        text = slice_after(text, dot + 1);
    }
    return E_SYNTAX;
}

/* Clears the bits behind the prefix, so that equal blocks have equal bytes. */
static void clear_host_bits(struct cidr *block)
{
    for (unsigned i = 0; i < bytes_of(&block->ip); i++) {
        unsigned first_bit = 8 * i;

        if (block->prefix_bits <= first_bit)
            block->ip.bytes[i] = 0;
        else if (block->prefix_bits < first_bit + 8)
            block->ip.bytes[i] &= (uint8_t)(0xff00 >> (block->prefix_bits - first_bit));
    }
}

/* "255.255.255.240" as 28: ones, and zeros behind them; E_HOLES where there are ones behind those.
 */
static int parse_mask(struct slice text, const struct ipaddr *ip, uint64_t *ret_bits)
{
    struct ipaddr mask;
    unsigned count = 8 * bytes_of(ip), ones = 0;

    if (parse_raw(text, &mask) < 0 || mask.family != ip->family)
        return E_SYNTAX;
    while (ones < count && (mask.bytes[ones / 8] >> (7 - ones % 8) & 1) != 0)
        ones++;
    for (unsigned bit = ones; bit < count; bit++)
        if ((mask.bytes[bit / 8] >> (7 - bit % 8) & 1) != 0)
            return E_HOLES;
    *ret_bits = ones;
    return 0;
}

int cidr_parse(struct slice text, struct cidr *ret_cidr)
{
    size_t slash = slice_find(text, '/');
    struct slice address = slice_of(text.data, slash);
    struct cidr block = {0};
    uint64_t bits = 0;
    int rc = parse_raw(address, &block.ip);

    if (rc < 0 && slash < text.len)
        rc = parse_short_v4(address, &block.ip);
    if (rc < 0)
        return rc;
    bits = 8 * bytes_of(&block.ip);
    if (slash < text.len) {
        rc = slice_to_u64(slice_after(text, slash + 1), bits, &bits);
        if (rc == E_SYNTAX)
            rc = parse_mask(slice_after(text, slash + 1), &block.ip, &bits);
        if (rc < 0)
            return rc;
    }
    if (is_mapped(&block.ip) && bits >= 96) {
        unmap(&block.ip);
        bits -= 96;
    }
    block.prefix_bits = (uint8_t)bits;
    clear_host_bits(&block);
    *ret_cidr = block;
    return 0;
}

const char *cidr_why(int code)
{
    if (code == E_HOLES)
        return "has a netmask with holes: the ones of a mask all stand in front of its zeros";
    if (code == E_RANGE)
        return "has a prefix longer than the address";
    return "is not an address or address block";
}

size_t ipaddr_format(const struct ipaddr *ip, char *room)
{
    struct text text = text_in(room, IPADDR_TEXT_MAX);

    if (ip->family == IPADDR_V6) {
        must(inet_ntop(AF_INET6, ip->bytes, room, IPADDR_TEXT_MAX) != NULL);
        return strlen(room);
    }
    if (ip->family == IPADDR_V4) {
        for (int i = 0; i < 4; i++) {
            if (i > 0)
                text_put_char(&text, '.');
            text_put_u64(&text, ip->bytes[i], 0);
        }
    } else {
        text_put_literal(&text, "none");
    }
    return text_end(&text);
}

bool ipaddr_equal(const struct ipaddr *a, const struct ipaddr *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, bytes_of(a)) == 0;
}

bool cidr_contains(const struct cidr *block, const struct ipaddr *ip)
{
    unsigned whole = block->prefix_bits / 8;
    unsigned rest = block->prefix_bits % 8;

    if (block->ip.family != ip->family || ip->family == IPADDR_NONE)
        return false;
    if (memcmp(block->ip.bytes, ip->bytes, whole) != 0)
        return false;
    return rest == 0 || ((block->ip.bytes[whole] ^ ip->bytes[whole]) >> (8 - rest)) == 0;
}

static bool starts_with(const struct ipaddr *ip, uint8_t first, uint8_t second, uint8_t prefix_bits)
{
    uint16_t wanted = (uint16_t)(first << 8 | second);
    uint16_t found = (uint16_t)(ip->bytes[0] << 8 | ip->bytes[1]);

    return ((wanted ^ found) >> (16 - prefix_bits)) == 0;
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

bool ipaddr_is_loopback(const struct ipaddr *ip)
{
    if (ip->family == IPADDR_V4)
        return ip->bytes[0] == 127;
    return ip->family == IPADDR_V6 && is_zero(ip->bytes, 15) && ip->bytes[15] == 1;
}

bool ipaddr_is_never_unicast(const struct ipaddr *ip)
{
    switch (ip->family) {
    case IPADDR_V4:
        /* 224/4 is multicast, 240/4 reserved, with the broadcast address as its last. */
        return ip->bytes[0] == 0 || ip->bytes[0] >= 224;
    case IPADDR_V6:
        /* ::/96 holds the unspecified address and the abolished IPv4-compatible ones. */
        if (is_zero(ip->bytes, 12))
            return !ipaddr_is_loopback(ip);
        /* Multicast, and the discard-only block 100::/64. */
        return ip->bytes[0] == 0xff ||
               (starts_with(ip, 0x01, 0x00, 16) && is_zero(ip->bytes + 2, 6));
    default:
        return true;
    }
}

bool ipaddr_is_private(const struct ipaddr *ip)
{
    switch (ip->family) {
    case IPADDR_V4:
        return ip->bytes[0] == 10 || starts_with(ip, 172, 16, 12) ||
               starts_with(ip, 192, 168, 16) || starts_with(ip, 100, 64, 10) ||
               starts_with(ip, 169, 254, 16);
    case IPADDR_V6:
        /* Unique local, link-local, and the abolished site-local fec0::/10. */
        return starts_with(ip, 0xfc, 0, 7) || starts_with(ip, 0xfe, 0x80, 10) ||
               starts_with(ip, 0xfe, 0xc0, 10);
    default:
        return false;
    }
}

struct ipaddr ipaddr_limit_key(const struct ipaddr *ip)
{
    struct ipaddr key = *ip;

    if (is_mapped(&key))
        unmap(&key);
    else if (key.family == IPADDR_V6)
        memset(key.bytes + 8, 0, 8);
    return key;
}

uint64_t ipaddr_hash(const struct ipaddr *ip)
{
    return hash_bytes(ip->bytes, bytes_of(ip));
}

unsigned ipaddr_to_sockaddr(const struct ipaddr_port *at, struct sockaddr *room)
{
    if (at->ip.family == IPADDR_V4) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(at->port)};

        memcpy(&v4.sin_addr, at->ip.bytes, 4);
        memcpy(room, &v4, sizeof(v4));
        return sizeof(v4);
    }
    if (at->ip.family == IPADDR_V6) {
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(at->port)};

        memcpy(&v6.sin6_addr, at->ip.bytes, 16);
        memcpy(room, &v6, sizeof(v6));
        return sizeof(v6);
    }
    must(at->ip.family == IPADDR_NONE);
    room->sa_family = AF_UNSPEC;
    return sizeof(room->sa_family);
}

int ipaddr_from_sockaddr(const struct sockaddr *from, struct ipaddr_port *ret_at)
{
    struct ipaddr_port at = {0};

    if (from->sa_family == AF_INET) {
        struct sockaddr_in v4;

        memcpy(&v4, from, sizeof(v4));
        at.ip.family = IPADDR_V4;
        memcpy(at.ip.bytes, &v4.sin_addr, 4);
        at.port = ntohs(v4.sin_port);
    } else if (from->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;

        memcpy(&v6, from, sizeof(v6));
        at.ip.family = IPADDR_V6;
        memcpy(at.ip.bytes, &v6.sin6_addr, 16);
        at.port = ntohs(v6.sin6_port);
        if (is_mapped(&at.ip))
            unmap(&at.ip);
    } else {
        return E_UNKNOWN;
    }
    *ret_at = at;
    return 0;
}

void ipaddr_put(struct wire_writer *w, const struct ipaddr *ip)
{
    wire_put_u8(w, ip->family);
    if (ip->family == IPADDR_V4)
        wire_put_bytes(w, ip->bytes, 4);
    else if (ip->family == IPADDR_V6)
        wire_put_bytes(w, ip->bytes, 16);
    else
        must(ip->family == IPADDR_NONE);
}

void ipaddr_get(struct wire_reader *r, struct ipaddr *ret_ip)
{
    struct slice bytes = SLICE_EMPTY;

    memset(ret_ip, 0, sizeof(*ret_ip));
    ret_ip->family = wire_get_u8(r);
    if (ret_ip->family == IPADDR_V4)
        bytes = wire_get_bytes(r, 4);
    else if (ret_ip->family == IPADDR_V6)
        bytes = wire_get_bytes(r, 16);
    else if (ret_ip->family != IPADDR_NONE)
        r->failed = true;
    if (bytes.len > 0)
        memcpy(ret_ip->bytes, bytes.data, bytes.len);
}
