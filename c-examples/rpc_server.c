/*
 * A server of calls: an echo and a toy key-value store. One worker hands out what peers call; each call is answered once.
 *
 *     ./rpc_server tcp://127.0.0.1:0      prints its address, serves until a client says stop
 */
#include "rpc.h"

#include <stdbool.h>

typedef struct {
    char *key, *value;
    size_t key_len, value_len;
} entry;

static entry entries[1024];
static size_t count;

static entry *find(const char *key, size_t len)
{
    for (size_t i = 0; i < count; i++)
        if (entries[i].key_len == len && memcmp(entries[i].key, key, len) == 0) return &entries[i];
    return NULL;
}

static char *copy(const char *bytes, size_t len)
{
    char *own = malloc(len + 1);
    if (!own) exit(1);
    memcpy(own, bytes, len);
    own[len] = 0;
    return own;
}

/* Stores what a PUT brings; false when it is no PUT, or the table is full. */
static bool put(const rde_call_details *call)
{
    const char *key = call->payload.data;
    size_t key_len = (size_t)call->header.len;
    if (call->header.len > call->payload.len) return false;
    entry *at = find(key, key_len);
    if (!at) {
        if (count == sizeof entries / sizeof entries[0]) return false;
        at = &entries[count++];
        at->key = copy(key, key_len);
        at->key_len = key_len;
    } else {
        free(at->value);
    }
    at->value_len = call->payload.len - key_len;
    at->value = copy(key + key_len, at->value_len);
    return true;
}

static void delete(entry *at)
{
    free(at->key);
    free(at->value);
    *at = entries[--count];
}

/* Answers with a status of ours and some bytes, which are copied. */
static void answer(rde_incoming_call call, int32_t status, const void *bytes, size_t len)
{
    rde_piece piece = {.data = bytes, .length = len};
    TRY(rde_call_reply(call, status, NULL, &piece, len ? 1 : 0));
}

/* Answers one call; false for STOP. */
static bool serve(rde_incoming_call call)
{
    rde_call_details details = RDE_CALL_DETAILS_INIT;
    if (rde_call_info(call, &details, NULL) == RDE_STATUS_STALE_HANDLE) return true; /* its session has ended */
    const void *bytes = details.payload.data;
    size_t len = details.payload.len;
    entry *found = details.method == GET || details.method == DELETE ? find(bytes, len) : NULL;
    switch (details.method) {
    case ECHO: {
        /* A long payload is in registered memory: it goes back from there. */
        rde_piece piece = {.data = details.buffer.id ? NULL : bytes, .length = len, .buffer = details.buffer};
        TRY(rde_call_reply(call, FOUND, &details.header, &piece, len ? 1 : 0));
        break;
    }
    case PUT:
        if (put(&details))
            answer(call, FOUND, NULL, 0);
        else
            TRY(rde_call_refuse(call, RDE_STATUS_INVALID_ARGUMENT, 0));
        break;
    case GET: answer(call, found ? FOUND : NOT_FOUND, found ? found->value : NULL, found ? found->value_len : 0); break;
    case DELETE:
        if (found) delete(found);
        answer(call, found ? FOUND : NOT_FOUND, NULL, 0);
        break;
    case STOP: TRY(rde_call_release(call)); return false;
    default: TRY(rde_call_refuse(call, RDE_STATUS_UNKNOWN_METHOD, 0));
    }
    return true;
}

int main(int argc, char **argv)
{
    const char *where = argc > 1 ? argv[1] : "tcp://127.0.0.1:0";
    rde_context context;
    rde_worker worker;
    rde_listener listener;
    rde_worker_options options = RDE_WORKER_OPTIONS_INIT;
    options.flags = RDE_WORKER_POLLED | RDE_WORKER_CALLS; /* without CALLS they are answered UNKNOWN_METHOD */
    TRY(rde_context_open(NULL, &context, &error));
    TRY(rde_worker_open(context, &options, &worker, &error));
    TRY(rde_listener_open(worker, (rde_bytes){where, strlen(where)}, 0, &listener, &error));

    char address[RDE_ADDRESS_MAX + 1];
    size_t address_len;
    TRY(rde_listener_address(listener, address, sizeof address, &address_len));
    printf("%s\n", address);
    fflush(stdout);

    for (bool going = true; going;) {
        rde_completion events[16];
        uint32_t taken = 0;
        TRY(rde_worker_poll(worker, -1, events, 16, &taken));
        for (uint32_t i = 0; i < taken; i++)
            if (events[i].op == RDE_OP_CALL_RECEIVED) going &= serve((rde_incoming_call){events[i].value});
    }
    while (count) delete(&entries[0]);
    TRY(rde_worker_close(worker));
    TRY(rde_context_close(context));
    return 0;
}
