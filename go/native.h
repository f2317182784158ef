/* What Go calls of the library: one crossing for many requests and completions. */
#ifndef RDEGO_NATIVE_H
#define RDEGO_NATIVE_H

#include <rdma_engine.h>
#include <stdlib.h>

#if RDE_ABI_VERSION != 1
#error "this Go package knows version 1 of rdma-engine's ABI: install the library that it came with"
#endif

/* `exchange` of abi.go. */
typedef struct {
    uint64_t worker;
    rde_request *requests;
    rde_completion *completions;
    uint32_t count;
    uint32_t capacity;
    uint32_t rounds;
    uint32_t interrupt;
    uint32_t accepted;
    uint32_t got;
    int32_t submit_status;
    int32_t poll_status;
} rdego_exchange;

/* Submits, then polls until something came, somebody interrupts, or `rounds` are over. */
static inline void rdego_cross(rdego_exchange *x) {
    rde_worker worker = {x->worker};
    x->accepted = 0;
    x->got = 0;
    x->submit_status = RDE_STATUS_OK;
    if (x->count > 0) x->submit_status = rde_worker_submit(worker, x->requests, x->count, &x->accepted);
    for (uint32_t round = 0;;) {
        x->poll_status = rde_worker_poll(worker, 0, x->completions, x->capacity, &x->got);
        if (x->poll_status < 0 || x->got > 0 || ++round >= x->rounds) return;
        if (__atomic_load_n(&x->interrupt, __ATOMIC_RELAXED)) return;
    }
}

static inline rde_bytes rdego_bytes(const void *data, size_t len) {
    rde_bytes bytes = {data, len};
    return bytes;
}

#endif
