/* Two sides in one process: contexts, workers, a session between them, and completions kept until they are asked for. */
#ifndef PEER_H
#define PEER_H

#include "check.h"

#include <time.h>
#include <unistd.h>

enum { KEPT = 4096 };

/* A context with one worker. */
struct side {
    rde_context context;
    rde_worker worker;
    rde_completion kept[KEPT];
    uint32_t count;
};

/* Two sides with a session between them. */
struct pair {
    struct side server, client;
    rde_listener listener;
    rde_session at_server, at_client;
    char folder[64];
    char address[RDE_ADDRESS_MAX + 1];
};

enum { LISTENER_DATA = 0x1157, CONNECT_DATA = 0xc0, CLOSE_DATA = 0xc105e };

static inline int side_open(struct side *side, const char *name, uint32_t worker_flags, uint32_t ways) {
    rde_error error;
    rde_context_options options = RDE_CONTEXT_OPTIONS_INIT;
    rde_worker_options worker = RDE_WORKER_OPTIONS_INIT;
    options.name = text(name);
    options.ways = ways;
    worker.flags = worker_flags;
    side->count = 0;
    return CHECK_OK(error, rde_context_open(&options, &side->context, &error)) &&
           CHECK_OK(error, rde_worker_open(side->context, &worker, &side->worker, &error));
}

static inline void side_close(struct side *side) {
    CHECK_STATUS(OK, rde_worker_close(side->worker));
    CHECK_STATUS(OK, rde_context_close(side->context));
}

/* Polls once and keeps what came. */
static inline int side_poll(struct side *side, int64_t timeout_ns) {
    uint32_t got = 0;
    if (!CHECK(side->count < KEPT)) return 0;
    if (!CHECK_STATUS(OK, rde_worker_poll(side->worker, timeout_ns, side->kept + side->count, KEPT - side->count, &got)))
        return 0;
    side->count += got;
    return 1;
}

/* Takes the oldest kept completion of this kind. */
static inline int side_take(struct side *side, uint32_t op, uint64_t user_data, rde_completion *out) {
    for (uint32_t i = 0; i < side->count; i++) {
        if (side->kept[i].op != op || side->kept[i].user_data != user_data) continue;
        *out = side->kept[i];
        memmove(side->kept + i, side->kept + i + 1, (side->count - i - 1) * sizeof *out);
        side->count--;
        return 1;
    }
    return 0;
}

static inline int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Waits for a completion at `me`, while `other` (may be NULL) makes progress too. Gives up after 20 seconds. */
static inline int await(struct side *me, struct side *other, uint32_t op, uint64_t user_data, rde_completion *out) {
    int64_t end = now_ns() + INT64_C(20000000000);
    memset(out, 0, sizeof *out);
    while (!side_take(me, op, user_data, out)) {
        if (!CHECK(now_ns() < end) || !side_poll(me, 100000) || (other && !side_poll(other, 0))) {
            printf("    while waiting for operation %u of %#" PRIx64 "\n", op, user_data);
            return 0;
        }
    }
    return 1;
}

/* The same, and it must be OK. */
static inline int await_ok(struct side *me, struct side *other, uint32_t op, uint64_t user_data, rde_completion *out) {
    return await(me, other, op, user_data, out) && CHECK_STATUS(OK, out->status);
}

/* Opens both sides and a session. `scheme` is "unix" or "tcp". */
static inline int pair_open(struct pair *pair, const char *scheme, uint32_t worker_flags, uint32_t ways) {
    rde_completion done;
    rde_error error;
    size_t length = 0;
    memset(pair, 0, sizeof *pair);
    if (!side_open(&pair->server, "server", worker_flags, ways) || !side_open(&pair->client, "client", worker_flags, ways))
        return 0;
    if (strcmp(scheme, "unix") == 0) {
        strcpy(pair->folder, "/tmp/rde-test-XXXXXX");
        if (!CHECK(mkdtemp(pair->folder))) return 0;
        snprintf(pair->address, sizeof pair->address, "unix://%s/socket", pair->folder);
    } else {
        strcpy(pair->address, "tcp://127.0.0.1:0");
    }
    if (!CHECK_OK(error, rde_listener_open(pair->server.worker, text(pair->address), LISTENER_DATA, &pair->listener, &error)) ||
        !CHECK_STATUS(OK, rde_listener_address(pair->listener, pair->address, sizeof pair->address, &length)) ||
        !CHECK_OK(error, rde_session_connect(pair->client.worker, text(pair->address), CONNECT_DATA, &pair->at_client, &error)) ||
        !await_ok(&pair->client, &pair->server, RDE_OP_SESSION_CONNECT, CONNECT_DATA, &done) ||
        !CHECK(done.value == pair->at_client.id) ||
        !await_ok(&pair->server, &pair->client, RDE_OP_SESSION_ACCEPTED, LISTENER_DATA, &done))
        return 0;
    pair->at_server.id = done.value;
    return CHECK(length == strlen(pair->address));
}

/* Closes the session from the client, sees it end on both sides exactly once, and closes everything. */
static inline void pair_close(struct pair *pair) {
    rde_completion done;
    CHECK_STATUS(OK, rde_session_close(pair->at_client, CLOSE_DATA));
    if (await_ok(&pair->client, &pair->server, RDE_OP_SESSION_CLOSED, CLOSE_DATA, &done)) {
        CHECK(done.value == pair->at_client.id);
        CHECK_STATUS(STALE_HANDLE, rde_session_close(pair->at_client, CLOSE_DATA));
    }
    if (await_ok(&pair->server, &pair->client, RDE_OP_SESSION_CLOSED, LISTENER_DATA, &done))
        CHECK(done.value == pair->at_server.id);
    CHECK_STATUS(OK, rde_listener_close(pair->listener));
    CHECK_STATUS(STALE_HANDLE, rde_listener_close(pair->listener));
    CHECK(pair->client.count == 0 && pair->server.count == 0);
    side_close(&pair->client);
    side_close(&pair->server);
    if (pair->folder[0]) {
        unlink(pair->address + strlen("unix://"));
        CHECK(rmdir(pair->folder) == 0);
    }
}

/* Memory at the server that the client may touch: exported, sent as a message would be, imported. */
static inline int pair_region(struct pair *pair, uint64_t length, uint32_t rights, rde_buffer *buffer, void **data,
                              rde_key *key, rde_region *region) {
    rde_completion done;
    rde_error error;
    if (!CHECK_OK(error, rde_buffer_alloc(pair->server.context, length, RDE_BUFFER_EXPORTABLE, buffer, data, &error)) ||
        !CHECK_OK(error, rde_buffer_export(*buffer, 0, length, rights, key, &error)) ||
        !CHECK_STATUS(OK, rde_region_import(pair->at_client, key, 77)) ||
        !await_ok(&pair->client, &pair->server, RDE_OP_REGION_IMPORT, 77, &done))
        return 0;
    region->id = done.value;
    return CHECK(region->id != 0);
}

/* Fills memory with numbers that depend on the place and on `seed`. */
static inline void fill(void *memory, size_t length, uint64_t seed) {
    uint8_t *bytes = memory;
    for (size_t i = 0; i < length; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        bytes[i] = (uint8_t)(seed >> 56);
    }
}

#endif
