#include "brokers/dnsd/packet.h"
#include "libutil/proto/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned types[] = {DNS_A, DNS_AAAA, DNS_MX, DNS_PTR, DNS_TXT, DNS_TLSA};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct packet p;
        struct buf out;
        buf_init(&out, 60000);
        if (packet_read(slice_from(data, size), types[i], &p, &out) == OK && p.count)
            assert(buf_len(&out) > 0);
        buf_clear(&out);
    }
    return 0;
}
