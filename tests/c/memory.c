/* Memory: buffers that are allocated and registered, the limit, keys. */
#include "peer.h"

static void buffers(void) {
    struct side side;
    rde_buffer buffer, registered;
    rde_error error;
    void *data = NULL, *again = NULL;
    uint64_t length = 0;
    static _Alignas(4096) char own[8192];
    if (!side_open(&side, "buffers", 0, 0)) return;
    for (uint64_t size = 1; size <= UINT64_C(4) << 20; size = size * 3 + 1) {
        if (!CHECK_OK(error, rde_buffer_alloc(side.context, size, 0, &buffer, &data, &error))) break;
        CHECK((uintptr_t)data % 64 == 0);
        for (uint64_t i = 0; i < size; i++) {
            if (((char *)data)[i] != 0) { CHECK(!"zero at first"); break; }
        }
        memset(data, 0xa5, size);
        CHECK_STATUS(OK, rde_buffer_data(buffer, &again, &length));
        CHECK(again == data && length == size);
        CHECK_STATUS(OK, rde_buffer_release(buffer));
        CHECK_STATUS(STALE_HANDLE, rde_buffer_release(buffer));
        CHECK_STATUS(STALE_HANDLE, rde_buffer_data(buffer, &again, &length));
    }
    CHECK_OK(error, rde_buffer_register(side.context, own, sizeof own, 0, &registered, &error));
    CHECK_STATUS(OK, rde_buffer_data(registered, &again, &length));
    CHECK(again == own && length == sizeof own);
    CHECK_STATUS(OK, rde_buffer_release(registered));
    side_close(&side);
    shown("buffers are zero, aligned, found again, and released once");
}

static void limit(void) {
    rde_context context;
    rde_context_options options = RDE_CONTEXT_OPTIONS_INIT;
    rde_buffer buffers[64], out = {7};
    rde_error error;
    unsigned got = 0;
    options.memory_limit_bytes = UINT64_C(8) << 20;
    if (!CHECK_OK(error, rde_context_open(&options, &context, &error))) return;
    CHECK_STATUS(OUT_OF_MEMORY, rde_buffer_alloc(context, UINT64_C(9) << 20, 0, &out, NULL, &error));
    CHECK_STATUS(OUT_OF_MEMORY, rde_buffer_alloc(context, UINT64_MAX, 0, &out, NULL, &error));
    CHECK_STATUS(OUT_OF_MEMORY, rde_buffer_alloc(context, UINT64_MAX - 4096, RDE_BUFFER_EXPORTABLE, &out, NULL, &error));
    CHECK(out.id == 7);
    while (got < 64 && rde_buffer_alloc(context, UINT64_C(1) << 20, 0, &buffers[got], NULL, &error) == RDE_STATUS_OK) got++;
    CHECK(got >= 1 && got <= 8);
    CHECK_STATUS(OUT_OF_MEMORY, error.status);
    CHECK_STATUS(OK, rde_buffer_release(buffers[0]));
    CHECK_OK(error, rde_buffer_alloc(context, UINT64_C(1) << 20, 0, &buffers[0], NULL, &error));
    CHECK_STATUS(OK, rde_context_close(context));
    CHECK_STATUS(STALE_HANDLE, rde_buffer_release(buffers[0]));
    shown("the memory limit holds, and released memory can be had again");
}

static void keys(void) {
    struct side side;
    rde_buffer buffer, plain;
    rde_key first, second, flipped;
    rde_error error;
    if (!side_open(&side, "keys", 0, 0)) return;
    CHECK_OK(error, rde_buffer_alloc(side.context, 65536, RDE_BUFFER_EXPORTABLE, &buffer, NULL, &error));
    CHECK_OK(error, rde_buffer_export(buffer, 0, 65536, RDE_RIGHT_READ, &first, &error));
    CHECK_OK(error, rde_buffer_export(buffer, 4096, 4096, RDE_RIGHT_READ | RDE_RIGHT_WRITE, &second, &error));
    CHECK(memcmp(&first, &second, sizeof first) != 0);
    CHECK_STATUS(OUT_OF_RANGE, rde_buffer_export(buffer, 65536, 1, RDE_RIGHT_READ, &first, &error));
    CHECK_STATUS(OUT_OF_RANGE, rde_buffer_export(buffer, UINT64_MAX - 3, 8, RDE_RIGHT_READ, &first, &error));
    CHECK_OK(error, rde_buffer_alloc(side.context, 64, RDE_BUFFER_UNINITIALISED, &plain, NULL, &error));
    CHECK_STATUS(WRONG_STATE, rde_buffer_export(plain, 0, 64, RDE_RIGHT_READ, &flipped, &error));
    for (unsigned bit = 0; bit < 8 * sizeof flipped; bit++) {
        flipped = first;
        flipped.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK(rde_key_revoke(side.context, &flipped, &error) < 0);
    }
    CHECK_OK(error, rde_key_revoke(side.context, &first, &error));
    CHECK_STATUS(REVOKED, rde_key_revoke(side.context, &first, &error));
    CHECK_STATUS(OK, rde_buffer_release(buffer));
    CHECK_STATUS(REVOKED, rde_key_revoke(side.context, &second, &error));
    side_close(&side);
    shown("keys are of one range each, are revoked once, and die with their buffer");
}

int main(void) {
    buffers();
    limit();
    keys();
    return check_end();
}
