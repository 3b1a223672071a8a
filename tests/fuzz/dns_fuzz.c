/*
 * DNS data: the input as rdata from the wire, as an answer in our own form, and as a name. Whatever
 * is taken must be in normal form and within bounds.
 */
#include "core/base/must.h"
#include "net/dns_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_records(const struct dns_query *answer)
{
    uint16_t cursor = 0;
    uint16_t count = 0;
    struct slice rdata;

    while (dns_record_next(answer, &cursor, &rdata)) {
        char room[DNS_NAME_MAX + 1];

        count++;
        must(answer->type != DNS_A || rdata.len == 4);
        must(answer->type != DNS_AAAA || rdata.len == 16);
        if (answer->type == DNS_MX || answer->type == DNS_PTR) {
            struct slice name = answer->type == DNS_MX ? dns_mx_exchange(rdata) : rdata;
            int room_len = name.len > 0 ? dns_name_normalise(name, room) : 0;

            must(room_len > 0 || answer->type == DNS_MX);
            must(room_len >= 0 && slice_equal(slice_of(room, (size_t)room_len), name));
        }
    }
    must(cursor == answer->data_bytes && count == answer->record_count);
    must(count <= DNS_RECORD_COUNT_MAX && answer->data_bytes <= DNS_DATA_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const uint16_t types[] = {DNS_A,   DNS_MX,    DNS_AAAA, DNS_PTR,
                                     DNS_TXT, DNS_CNAME, DNS_TLSA};
    static struct dns_query answer;
    char room[DNS_NAME_MAX + 1];

    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        answer.type = types[i];
        answer.status = DNS_OK;
        answer.record_count = 0;
        answer.data_bytes = 0;
        dns_answer_put_wire(&answer, slice_of(data, len));
        check_records(&answer);
        answer.data_bytes = (uint16_t)len;
        memcpy(answer.data, data, len < DNS_DATA_MAX ? len : DNS_DATA_MAX);
        dns_answer_check(&answer);
        check_records(&answer);
        must(answer.record_count > 0 || answer.status != DNS_OK);
    }
    must(dns_name_normalise(slice_of(data, len), room) <= DNS_NAME_MAX);
    return 0;
}
