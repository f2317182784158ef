/* Single operations: each one over a Unix socket's session, on each way that this machine has. */
#include "peer.h"

enum { SIZE = 65536 };

static void atomics(struct pair *pair, rde_region region, const uint64_t *there) {
    struct side *client = &pair->client, *server = &pair->server;
    rde_completion done;
    CHECK_STATUS(OK, rde_fetch_add(pair->at_client, region, 8, 5, 20));
    if (await_ok(client, server, RDE_OP_FETCH_ADD, 20, &done)) CHECK(done.value == 0 && there[1] == 5);
    CHECK_STATUS(OK, rde_fetch_add(pair->at_client, region, 8, UINT64_MAX, 21));
    if (await_ok(client, server, RDE_OP_FETCH_ADD, 21, &done)) CHECK(done.value == 5 && there[1] == 4);
    CHECK_STATUS(OK, rde_compare_swap(pair->at_client, region, 8, 9, 100, 22));
    if (await_ok(client, server, RDE_OP_COMPARE_SWAP, 22, &done)) CHECK(done.value == 4 && there[1] == 4);
    CHECK_STATUS(OK, rde_compare_swap(pair->at_client, region, 8, 4, 100, 23));
    if (await_ok(client, server, RDE_OP_COMPARE_SWAP, 23, &done)) CHECK(done.value == 4 && there[1] == 100);
    CHECK(there[0] == 0 && there[2] == 0);
}

static void messages(struct pair *pair, rde_buffer buffer, const void *bytes) {
    struct side *client = &pair->client, *server = &pair->server;
    rde_completion done, event;
    rde_buffer arrived;
    void *data;
    uint64_t length, session;
    CHECK_STATUS(OK, rde_send(pair->at_client, text("short"), (rde_buffer){0}, 0, 0, 30));
    await_ok(client, server, RDE_OP_SEND, 30, &done);
    if (await_ok(server, client, RDE_OP_MESSAGE, LISTENER_DATA, &event)) {
        CHECK(event.flags & RDE_COMPLETION_INLINE);
        CHECK(event.length == 5 && memcmp(event.data, "short", 5) == 0 && event.value == pair->at_server.id);
    }
    CHECK_STATUS(OK, rde_send(pair->at_client, (rde_bytes){NULL, 0}, buffer, 100, 10000, 31));
    await_ok(client, server, RDE_OP_SEND, 31, &done);
    if (await_ok(server, client, RDE_OP_MESSAGE, LISTENER_DATA, &event)) {
        CHECK(!(event.flags & RDE_COMPLETION_INLINE) && event.length == 10000);
        arrived.id = event.value;
        CHECK_STATUS(OK, rde_buffer_data(arrived, &data, &length));
        CHECK(length >= 10000 && memcmp(data, (const char *)bytes + 100, 10000) == 0);
        memcpy(&session, event.data, sizeof session);
        CHECK(session == pair->at_server.id);
        CHECK_STATUS(OK, rde_buffer_release(arrived));
    }
    /* And back, to the side that dialled. */
    CHECK_STATUS(OK, rde_send(pair->at_server, text("back"), (rde_buffer){0}, 0, 0, 32));
    await_ok(server, client, RDE_OP_SEND, 32, &done);
    if (await_ok(client, server, RDE_OP_MESSAGE, CONNECT_DATA, &event))
        CHECK(event.length == 4 && memcmp(event.data, "back", 4) == 0 && event.value == pair->at_client.id);
}

static void every_operation(uint32_t ways, const char *what) {
    struct pair pair;
    rde_buffer remote, local;
    rde_region region;
    rde_region_details found = RDE_REGION_DETAILS_INIT;
    rde_key key;
    rde_completion done;
    rde_error error;
    void *there, *here;
    uint32_t rights = RDE_RIGHT_READ | RDE_RIGHT_WRITE | RDE_RIGHT_ATOMIC;
    if (!pair_open(&pair, "unix", 0, ways) || !pair_region(&pair, SIZE, rights, &remote, &there, &key, &region)) return;
    if (!CHECK_OK(error, rde_buffer_alloc(pair.client.context, SIZE, 0, &local, &here, &error))) return;
    CHECK_STATUS(OK, rde_region_info(region, &found));
    CHECK(found.length == SIZE && found.rights == rights && (ways == 0 || found.way == ways));
    atomics(&pair, region, there);

    fill(there, SIZE, 1);
    CHECK_STATUS(OK, rde_get(pair.at_client, local, 10, region, 1000, 5000, 10));
    if (await_ok(&pair.client, &pair.server, RDE_OP_GET, 10, &done))
        CHECK(done.length == 5000 && memcmp((char *)here + 10, (char *)there + 1000, 5000) == 0);
    fill(here, SIZE, 2);
    CHECK_STATUS(OK, rde_put(pair.at_client, local, 0, region, 0, SIZE, 11));
    CHECK_STATUS(OK, rde_flush(pair.at_client, 12));
    if (await_ok(&pair.client, &pair.server, RDE_OP_PUT, 11, &done)) CHECK(done.length == SIZE);
    if (await_ok(&pair.client, &pair.server, RDE_OP_FLUSH, 12, &done)) CHECK(memcmp(here, there, SIZE) == 0);

    messages(&pair, local, here);
    CHECK_STATUS(OK, rde_region_release(region));
    CHECK_STATUS(STALE_HANDLE, rde_region_release(region));
    CHECK_STATUS(STALE_HANDLE, rde_get(pair.at_client, local, 0, region, 0, 8, 13));
    CHECK_STATUS(OK, rde_buffer_release(local));
    CHECK_STATUS(OK, rde_buffer_release(remote));
    pair_close(&pair);
    shown(what);
}

int main(void) {
    every_operation(0, "every operation, the way that the library picks");
    every_operation(RDE_WAY_MAPPED, "every operation on mapped memory");
    every_operation(RDE_WAY_MESSAGE, "every operation as messages");
    return check_end();
}
