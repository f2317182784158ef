/* The reads of engine.go from C, of the same files: needle ADDRESS < FILE_IDS; prints nanoseconds a needle, one in flight and 64
 * by one call. */
#define _POSIX_C_SOURCE 200809L
#include <rdma_engine.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WARM_UP_NS 100000000ll
#define MEASURE_NS 500000000ll
enum { SOME = 64, IDS = 4096, SIZE = 4096, ROOM = 1 << 20 };

static rde_error error;
static rde_worker worker;
static rde_session session;
static rde_buffer into;
static char *memory;
static rde_needle_place place; /* in `into`; its memory is 0 when the exporter cannot write there */
static char ids[IDS][64];
static size_t count, turn;

static void try(const char *what, rde_status status) {
    if (status >= 0) return;
    fprintf(stderr, "needle: %s: %s\n", what, error.status == status ? error.message : rde_status_message(status));
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static rde_completion next(void) {
    rde_completion done;
    uint32_t got = 0;
    while (got == 0) try("poll", rde_worker_poll(worker, -1, &done, 1, &got));
    try("an operation", done.status);
    return done;
}

static const char *id(void) {
    turn = (turn + 1) % count;
    return ids[turn];
}

/* Calls with a payload and the place behind it, and waits. */
static rde_completion call(uint32_t method, const void *payload, size_t length, rde_rpc_header header, uint64_t room) {
    place.length = room;
    rde_piece pieces[] = {{.data = payload, .length = length}, {.data = &place, .length = sizeof place}};
    rde_call_arguments call = RDE_CALL_ARGUMENTS_INIT;
    call.method = method;
    call.header = header;
    if (place.memory != 0) call.header.flags |= RDE_VOLUME_PLACED;
    call.pieces = pieces;
    call.piece_count = place.memory != 0 ? 2 : 1;
    call.reply = into;
    call.reply_capacity = room;
    try("call", rde_call(session, &call));
    rde_completion done = next();
    try("the exporter", done.detail);
    return done;
}

/* Bytes of an answer, which is in `memory`. */
static uint64_t answered(const rde_completion *done, rde_rpc_header *header) {
    memcpy(header, done->data, sizeof *header);
    return header->flags & RDE_NEEDLE_PLACED ? header->offset : done->length;
}

static void lend(void) {
    rde_key key;
    rde_rpc_header header;
    try("export", rde_buffer_export(into, 0, ROOM, RDE_RIGHT_READ | RDE_RIGHT_WRITE, &key, &error));
    rde_piece piece = {.data = &key, .length = sizeof key};
    rde_call_arguments call = RDE_CALL_ARGUMENTS_INIT;
    call.method = RDE_METHOD_NEEDLE_MEMORY;
    call.pieces = &piece;
    call.piece_count = 1;
    try("call", rde_call(session, &call));
    rde_completion done = next();
    memcpy(&header, done.data, sizeof header);
    if (done.detail == RDE_STATUS_OK) place.memory = header.offset;
}

static void one(void) {
    const char *file = id();
    rde_rpc_header header;
    rde_completion done = call(RDE_METHOD_NEEDLE, file, strlen(file), (rde_rpc_header){0}, SIZE);
    if (answered(&done, &header) != SIZE) exit(1);
}

static void many(void) {
    static char payload[RDE_NEEDLES_BYTES_MAX];
    rde_needle_read reads[SOME];
    rde_needle_result results[SOME];
    rde_rpc_header header;
    size_t length;
    uint32_t got;
    for (int i = 0; i < SOME; i++) {
        const char *file = id();
        reads[i] = (rde_needle_read){.file_id = {file, strlen(file)}};
    }
    try("encode", rde_needles_encode(reads, SOME, ROOM, payload, sizeof payload, &length, &got, &header));
    rde_completion done = call(RDE_METHOD_NEEDLES, payload, length, header, ROOM);
    length = answered(&done, &header);
    try("decode", rde_needles_decode(&header, (rde_bytes){memory, length}, results, SOME, &got));
    if (got != SOME) exit(1);
    for (int i = 0; i < SOME; i++)
        if (results[i].status != 0 || results[i].data_length != SIZE) exit(1);
}

static double each(void (*block)(void), int operations) {
    for (int64_t start = now(); now() - start < WARM_UP_NS;) block();
    int64_t start = now(), blocks = 0;
    for (; now() - start < MEASURE_NS; blocks++) block();
    return (double)(now() - start) / (double)(blocks * operations);
}

int main(int argc, char **argv) {
    rde_context context;
    rde_worker_options options = RDE_WORKER_OPTIONS_INIT;
    if (argc != 2) return 2;
    while (count < IDS && scanf("%63s", ids[count]) == 1) count++;
    options.flags = RDE_WORKER_POLLED;
    options.spin_ns = 250000; /* longer than a batch takes, as Go waits for one */
    try("open", rde_context_open(NULL, &context, &error));
    try("open", rde_worker_open(context, &options, &worker, &error));
    try("dial", rde_session_connect(worker, (rde_bytes){argv[1], strlen(argv[1])}, 0, &session, &error));
    next();
    try("alloc", rde_buffer_alloc(context, ROOM, RDE_BUFFER_EXPORTABLE, &into, (void **)&memory, &error));
    lend();
    double alone = each(one, 1);
    printf("%.1f %.1f\n", alone, each(many, SOME));
    try("close", rde_worker_close(worker));
    try("close", rde_context_close(context));
    return 0;
}
