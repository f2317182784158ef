/* The gets of main.go from C: get ADDRESS KEY TRANSPORTS DRIVER SIZE; prints nanoseconds an operation, one in flight and
 * 64 submitted together. */
#define _POSIX_C_SOURCE 200809L
#include <rdma_engine.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WARM_UP_NS 100000000ll
#define MEASURE_NS 300000000ll
enum { SOME = 20, BLOCKS = 1 << 20 };

static rde_error error;

static void try(const char *what, rde_status status) {
    if (status >= 0) return;
    fprintf(stderr, "get: %s: %s\n", what, error.status == status ? error.message : rde_status_message(status));
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

struct reader {
    rde_worker worker;
    rde_session session;
    rde_region region;
    rde_buffer buffer;
    uint64_t size;
    rde_request requests[64];
};

/* Takes `count` completions. The caller's thread makes progress, or waits for the worker's. */
static rde_completion await(struct reader *r, uint32_t count) {
    rde_completion done[64];
    while (count > 0) {
        uint32_t got = 0;
        try("poll", rde_worker_poll(r->worker, -1, done, 64, &got));
        for (uint32_t i = 0; i < got; i++) try("an operation", done[i].status);
        count -= got;
    }
    return done[0];
}

static void one(struct reader *r) {
    for (int i = 0; i < SOME; i++) {
        try("get", rde_get(r->session, r->buffer, 0, r->region, 0, r->size, 0));
        await(r, 1);
    }
}

static void many(struct reader *r) {
    uint32_t accepted = 0;
    try("submit", rde_worker_submit(r->worker, r->requests, 64, &accepted));
    await(r, accepted);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(struct reader *r, void (*block)(struct reader *), int each) {
    static double blocks[BLOCKS];
    size_t count = 0;
    for (int64_t start = now(); now() - start < WARM_UP_NS;) block(r);
    for (int64_t start = now(); now() - start < MEASURE_NS && count < BLOCKS; count++) {
        int64_t began = now();
        block(r);
        blocks[count] = (double)(now() - began) / each;
    }
    qsort(blocks, count, sizeof *blocks, by_value);
    return blocks[count / 2];
}

int main(int argc, char **argv) {
    struct reader r = {.size = 0};
    rde_context context;
    rde_context_options options = RDE_CONTEXT_OPTIONS_INIT;
    rde_worker_options worker = RDE_WORKER_OPTIONS_INIT;
    rde_key key;
    void *data;
    if (argc != 6) return 2;
    options.transports = (uint32_t)atoi(argv[3]);
    worker.flags = strcmp(argv[4], "caller") == 0 ? RDE_WORKER_POLLED : 0;
    r.size = (uint64_t)atoi(argv[5]);
    for (int i = 0; i < RDE_KEY_BYTES; i++) {
        unsigned byte = 0;
        if (sscanf(argv[2] + 2 * i, "%2x", &byte) != 1) return 2;
        key.bytes[i] = (uint8_t)byte;
    }
    try("open", rde_context_open(&options, &context, &error));
    try("open", rde_worker_open(context, &worker, &r.worker, &error));
    try("dial", rde_session_connect(r.worker, (rde_bytes){argv[1], strlen(argv[1])}, 0, &r.session, &error));
    await(&r, 1);
    try("import", rde_region_import(r.session, &key, 0));
    r.region.id = await(&r, 1).value;
    try("alloc", rde_buffer_alloc(context, 64 * r.size, 0, &r.buffer, &data, &error));
    for (int i = 0; i < 64; i++)
        r.requests[i] = (rde_request){.session = r.session, .op = RDE_OP_GET, .buffer = r.buffer,
                                      .buffer_offset = (uint64_t)i * r.size, .length = r.size, .region = r.region};
    double alone = median(&r, one, SOME);
    printf("%.1f %.1f\n", alone, median(&r, many, 64));
    try("close", rde_worker_close(r.worker));
    try("close", rde_context_close(context));
    return 0;
}
