/*
 * A client of rpc_server.c.
 *
 *     ./rpc_client ADDRESS echo TEXT | put KEY VALUE | get KEY | delete KEY | stop
 */
#include "rpc.h"

enum { CONNECT = 1, CALL = 2 };

static rde_worker worker;

/* Waits for the completion of a request; the loss of the session ends the program. */
static rde_completion wait_for(uint64_t user_data)
{
    for (;;) {
        rde_completion done;
        uint32_t taken = 0;
        TRY(rde_worker_poll(worker, -1, &done, 1, &taken));
        if (taken == 1 && done.user_data == user_data && !(done.flags & RDE_COMPLETION_EVENT)) {
            TRY(done.status);
            return done;
        }
    }
}

/* The bytes of an answer: short ones are in the completion, longer ones in a buffer that is ours now. */
static void print_answer(const rde_completion *done)
{
    const void *bytes = done->data;
    void *memory;
    rde_buffer buffer = {done->flags & RDE_COMPLETION_INLINE ? 0 : done->value};
    if (buffer.id) {
        TRY(rde_buffer_data(buffer, &memory, NULL));
        bytes = memory;
    }
    printf("%.*s\n", (int)done->length, (const char *)bytes);
    TRY(rde_buffer_release(buffer)); /* {0} is fine */
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint32_t method;
        int arguments;
    } commands[] = {{"echo", ECHO, 1}, {"put", PUT, 2}, {"get", GET, 1}, {"delete", DELETE, 1}, {"stop", STOP, 0}};
    size_t which = 0;
    while (which < 5 && (argc < 3 || strcmp(argv[2], commands[which].name) != 0)) which++;
    if (which == 5 || argc != 3 + commands[which].arguments) {
        fprintf(stderr, "usage: %s ADDRESS echo TEXT | put KEY VALUE | get KEY | delete KEY | stop\n", argv[0]);
        return 2;
    }

    rde_context context;
    rde_session session;
    rde_worker_options options = RDE_WORKER_OPTIONS_INIT;
    options.flags = RDE_WORKER_POLLED;
    TRY(rde_context_open(NULL, &context, &error));
    TRY(rde_worker_open(context, &options, &worker, &error));
    TRY(rde_session_connect(worker, (rde_bytes){argv[1], strlen(argv[1])}, CONNECT, &session, &error));
    wait_for(CONNECT);

    /* A payload is put together from pieces: here the arguments, which are copied. */
    rde_piece pieces[2] = {{0}, {0}};
    for (int i = 0; i < commands[which].arguments; i++) {
        pieces[i].data = argv[3 + i];
        pieces[i].length = strlen(argv[3 + i]);
    }
    rde_call_arguments call = RDE_CALL_ARGUMENTS_INIT;
    call.method = commands[which].method;
    call.timeout_us = 5000000;
    call.user_data = CALL;
    call.pieces = pieces;
    call.piece_count = (uint32_t)commands[which].arguments;
    if (call.method == PUT) call.header.len = pieces[0].length;
    if (call.method == STOP) call.flags = RDE_CALL_ONE_WAY;
    TRY(rde_call(session, &call));
    rde_completion done = wait_for(CALL);

    int code = 0;
    if (call.method != STOP && done.detail != FOUND) {
        fprintf(stderr, "%s: not found\n", argv[3]);
        code = 1;
    } else if (call.method == ECHO || call.method == GET) {
        print_answer(&done);
    }
    rde_status closed = rde_session_close(session, 0); /* what is on its way is sent first */
    if (closed != RDE_STATUS_STALE_HANDLE) {           /* else the server has ended it already */
        TRY(closed);
        wait_for(0);
    }
    TRY(rde_worker_close(worker));
    TRY(rde_context_close(context));
    return code;
}
