/*
 * The smallest one-sided get: one program, two workers. The first exports a buffer and never looks again; the second
 * dials it, turns the key into a region, and reads.
 *
 *     cc -std=c11 hello.c $(pkg-config --cflags --libs rdma_engine) -o hello && ./hello
 */
#include <rdma_engine.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static rde_error error;

/* Control calls say more in `error`; all say what happened in the status. */
#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        rde_status status_ = (call);                                                                                   \
        if (status_ < 0) {                                                                                             \
            fprintf(stderr, "%s: %s\n", #call,                                                                         \
                    error.status == status_ ? error.message : rde_status_message(status_));                            \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Waits for the next completion of a worker; `user_data` tells which request it answers. */
static rde_completion wait_for(rde_worker worker, uint64_t user_data)
{
    for (;;) {
        rde_completion done;
        uint32_t count = 0;
        TRY(rde_worker_poll(worker, -1, &done, 1, &count));
        if (count == 1 && done.user_data == user_data) {
            TRY(done.status);
            return done;
        }
    }
}

int main(void)
{
    static const char text[] = "Hello from the other side's memory.";
    enum { CONNECT = 1, IMPORT, GET };

    rde_context context;
    TRY(rde_context_open(NULL, &context, &error));

    /* The side that owns the memory. Its worker has a thread of its own, which serves what comes. */
    rde_worker owner;
    rde_listener listener;
    char address[RDE_ADDRESS_MAX + 1];
    size_t address_len;
    TRY(rde_worker_open(context, NULL, &owner, &error));
    TRY(rde_listener_open(owner, (rde_bytes){"tcp://127.0.0.1:0", 17}, 0, &listener, &error));
    TRY(rde_listener_address(listener, address, sizeof address, &address_len));

    rde_buffer exported;
    rde_key key;
    void *memory;
    TRY(rde_buffer_alloc(context, sizeof text, RDE_BUFFER_EXPORTABLE, &exported, &memory, &error));
    memcpy(memory, text, sizeof text);
    TRY(rde_buffer_export(exported, 0, sizeof text, RDE_RIGHT_READ, &key, &error));

    /* The side that reads. In real life it is another process that got address and key from the first. */
    rde_worker reader;
    rde_session session;
    TRY(rde_worker_open(context, NULL, &reader, &error));
    TRY(rde_session_connect(reader, (rde_bytes){address, address_len}, CONNECT, &session, &error));
    wait_for(reader, CONNECT);
    TRY(rde_region_import(session, &key, IMPORT));
    rde_region region = {wait_for(reader, IMPORT).value};

    rde_buffer local;
    void *copy;
    TRY(rde_buffer_alloc(context, sizeof text, 0, &local, &copy, &error));
    TRY(rde_get(session, local, 0, region, 0, sizeof text, GET));
    wait_for(reader, GET);
    printf("%s\n", (const char *)copy);

    /* Closing a context gives back its buffers; workers close before it. */
    TRY(rde_worker_close(reader));
    TRY(rde_worker_close(owner));
    TRY(rde_context_close(context));
    return 0;
}
