/* Two contexts of one process: bytes that go over a session arrive as they are, by arrays of requests, on every way. */
#include "peer.h"

enum { SIZE = 8 << 20, BATCH = 64 };

struct memory {
    rde_buffer remote, local;
    rde_region region;
    rde_key key;
    char *there, *here;
};

/* Submits all of them, polling where the queue is full, and waits for all of them. */
static int run(struct pair *pair, rde_request *requests, uint32_t count) {
    uint32_t submitted = 0, accepted = 0;
    rde_completion done;
    while (submitted < count) {
        rde_status status = rde_worker_submit(pair->client.worker, requests + submitted, count - submitted, &accepted);
        submitted += accepted;
        if (status == RDE_STATUS_QUEUE_FULL) {
            if (!side_poll(&pair->client, 1000000) || !side_poll(&pair->server, 0)) return 0;
        } else if (!CHECK_STATUS(OK, status)) {
            return 0;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!await_ok(&pair->client, &pair->server, requests[i].op, requests[i].user_data, &done)) return 0;
        CHECK(done.length == requests[i].length);
    }
    return CHECK(pair->client.count == 0);
}

static rde_request request(struct pair *pair, const struct memory *memory, uint16_t op, uint64_t number) {
    return (rde_request){.user_data = number, .session = pair->at_client, .op = op, .buffer = memory->local,
                         .region = memory->region};
}

/* Gets and puts of each size, at odd offsets. */
static void sizes(struct pair *pair, const struct memory *memory) {
    static const uint64_t lengths[] = {0, 1, 7, 8, 63, 4096, 4097, 65536, 262143, 1 << 20, SIZE - 13};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        rde_request one = request(pair, memory, RDE_OP_GET, 100 + i);
        rde_request flush = {.user_data = 300, .session = pair->at_client, .op = RDE_OP_FLUSH};
        one.length = lengths[i];
        one.buffer_offset = 5;
        one.region_offset = 13;
        fill(memory->there, SIZE, i);
        memset(memory->here, 0, SIZE);
        if (!run(pair, &one, 1)) return;
        CHECK(memcmp(memory->here + 5, memory->there + 13, lengths[i]) == 0);
        CHECK(memory->here[4] == 0 && memory->here[5 + lengths[i]] == 0);
        one.op = RDE_OP_PUT;
        fill(memory->here, SIZE, 1000 + i);
        memset(memory->there, 0, SIZE);
        if (!run(pair, &one, 1) || !run(pair, &flush, 1)) return;
        CHECK(memcmp(memory->here + 5, memory->there + 13, lengths[i]) == 0);
        CHECK(memory->there[12] == 0 && (13 + lengths[i] == SIZE || memory->there[13 + lengths[i]] == 0));
    }
}

/* Many at a time, in reverse order, so that each byte has one right place. */
static void batches(struct pair *pair, const struct memory *memory) {
    static rde_request requests[BATCH];
    enum { PIECE = SIZE / BATCH };
    fill(memory->there, SIZE, 42);
    memset(memory->here, 0, SIZE);
    for (uint32_t i = 0; i < BATCH; i++) {
        requests[i] = request(pair, memory, RDE_OP_GET, i);
        requests[i].length = PIECE;
        requests[i].region_offset = (uint64_t)i * PIECE;
        requests[i].buffer_offset = (uint64_t)(BATCH - 1 - i) * PIECE;
    }
    if (!run(pair, requests, BATCH)) return;
    for (uint32_t i = 0; i < BATCH; i++)
        CHECK(memcmp(memory->here + (BATCH - 1 - i) * PIECE, memory->there + i * PIECE, PIECE) == 0);
}

/* One request for several pieces. */
static void vectored(struct pair *pair, const struct memory *memory) {
    rde_segment segments[3] = {{100, 9000, 50}, {0, 0, 1}, {200, 70000, 40000}};
    rde_request one = request(pair, memory, RDE_OP_GET, 7);
    one.flags = RDE_REQUEST_VECTORED;
    one.length = 50 + 1 + 40000;
    one.data = (rde_bytes){segments, sizeof segments};
    fill(memory->there, SIZE, 43);
    memset(memory->here, 0, SIZE);
    if (!run(pair, &one, 1)) return;
    for (int i = 0; i < 3; i++)
        CHECK(memcmp(memory->here + segments[i].buffer_offset, memory->there + segments[i].region_offset, segments[i].length) == 0);
    CHECK(memory->here[1] == 0 && memory->here[99] == 0 && memory->here[150] == 0);
}

/* Counters from both sides at once: each add happens once. */
static void atomics(struct pair *pair, const struct memory *memory) {
    enum { ADDS = 200 };
    static rde_request requests[ADDS];
    uint64_t value, seen = 0;
    memset(memory->there, 0, 64);
    for (uint32_t i = 0; i < ADDS; i++) {
        requests[i] = request(pair, memory, RDE_OP_FETCH_ADD, i);
        requests[i].buffer = (rde_buffer){0};
        requests[i].length = 8;
        requests[i].region_offset = 16;
        requests[i].operand = 3;
    }
    if (!run(pair, requests, ADDS)) return;
    memcpy(&value, memory->there + 16, sizeof value);
    memcpy(&seen, memory->there + 24, sizeof seen);
    CHECK(value == 3 * ADDS && seen == 0);
}

/* Messages around the inline limit and beyond, in order. */
static void messages(struct pair *pair, const struct memory *memory) {
    static const uint64_t lengths[] = {1, 23, 24, 25, 64, 1000, 65536, 1 << 20};
    enum { COUNT = sizeof lengths / sizeof *lengths };
    rde_completion event;
    fill(memory->here, SIZE, 44);
    for (uint64_t i = 0; i < COUNT; i++) {
        rde_request one = {.user_data = i, .session = pair->at_client, .op = RDE_OP_SEND, .buffer = memory->local,
                           .buffer_offset = i, .length = lengths[i]};
        if (!run(pair, &one, 1)) return;
    }
    for (uint64_t i = 0; i < COUNT; i++) {
        void *data = event.data;
        if (!await_ok(&pair->server, &pair->client, RDE_OP_MESSAGE, LISTENER_DATA, &event)) return;
        int is_inline = !!(event.flags & RDE_COMPLETION_INLINE);
        CHECK(event.length == lengths[i] && is_inline == (lengths[i] <= RDE_INLINE_BYTES));
        if (!is_inline) CHECK_STATUS(OK, rde_buffer_data((rde_buffer){event.value}, &data, NULL));
        CHECK(memcmp(data, memory->here + i, lengths[i]) == 0);
        if (!is_inline) CHECK_STATUS(OK, rde_buffer_release((rde_buffer){event.value}));
    }
}

static void over(const char *scheme, uint32_t flags, uint32_t ways, const char *what) {
    static struct pair pair;
    struct memory memory;
    rde_error error;
    void *there, *here;
    uint32_t rights = RDE_RIGHT_READ | RDE_RIGHT_WRITE | RDE_RIGHT_ATOMIC;
    if (!pair_open(&pair, scheme, flags, ways) ||
        !pair_region(&pair, SIZE, rights, &memory.remote, &there, &memory.key, &memory.region) ||
        !CHECK_OK(error, rde_buffer_alloc(pair.client.context, SIZE, 0, &memory.local, &here, &error)))
        return;
    memory.there = there;
    memory.here = here;
    sizes(&pair, &memory);
    batches(&pair, &memory);
    vectored(&pair, &memory);
    atomics(&pair, &memory);
    messages(&pair, &memory);
    CHECK_STATUS(OK, rde_region_release(memory.region));
    CHECK_STATUS(OK, rde_buffer_release(memory.local));
    CHECK_STATUS(OK, rde_buffer_release(memory.remote));
    pair_close(&pair);
    shown(what);
}

int main(void) {
    over("unix", 0, 0, "unix, threaded: gets, puts, vectors, atomics, messages");
    over("unix", RDE_WORKER_POLLED, 0, "unix, polled: the same");
    over("unix", 0, RDE_WAY_MESSAGE, "unix, threaded, as messages: the same");
    over("tcp", 0, 0, "tcp, threaded: the same");
    over("tcp", 0, RDE_WAY_MESSAGE, "tcp, threaded, as messages: the same");
    over("tcp", RDE_WORKER_POLLED, RDE_WAY_MESSAGE, "tcp, polled, as messages: the same");
    return check_end();
}
