/* Reads needles from an exporter and prints what it got, for a test to compare with HTTP:
 *     needles ADDRESS TRANSPORTS one|batch < LIST
 * LIST has a line a needle: flags (RDE_VOLUME_*) and a file id. One line each comes out: file id, status, length, RDE_NEEDLE_*
 * flags, CRC-32C. `one` is a call a needle, 64 in flight; `batch` is one call for 64. */
#include <rdma_engine.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SOME = 64, LINE = 4096, PART = 4 << 20 };

static rde_error error;
static rde_context context;
static rde_worker worker;
static rde_session session;

static void try(const char *what, rde_status status) {
    if (status >= 0) return;
    fprintf(stderr, "needles: %s: %s\n", what, error.status == status ? error.message : rde_status_message(status));
    exit(1);
}

static uint32_t checksum(const uint8_t *data, size_t length) {
    static uint32_t table[256];
    if (!table[1])
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (value & 1 ? 0x82f63b78u : 0);
            table[i] = value;
        }
    uint32_t sum = ~0u;
    for (size_t i = 0; i < length; i++) sum = table[(sum ^ data[i]) & 255] ^ sum >> 8;
    return ~sum;
}

static void print(const char *file_id, rde_status status, const void *data, size_t length, uint32_t flags) {
    printf("%s %d %zu %u %08x\n", file_id, status, length, flags, status == RDE_STATUS_OK ? checksum(data, length) : 0);
}

static rde_completion next(void) {
    rde_completion done;
    uint32_t got = 0;
    while (got == 0) try("poll", rde_worker_poll(worker, -1, &done, 1, &got));
    return done;
}

/* The bytes of an answer: short ones are in the completion, longer ones in a buffer that is ours now. */
static const void *bytes(const rde_completion *done, rde_buffer *buffer) {
    void *memory;
    buffer->id = done->flags & RDE_COMPLETION_INLINE ? 0 : done->value;
    if (!buffer->id) return done->data;
    try("an answer's bytes", rde_buffer_data(*buffer, &memory, NULL));
    return memory;
}

/* The header of an answer that is in a buffer. */
static rde_rpc_header header(const rde_completion *done) {
    rde_rpc_header header = {0};
    if (!(done->flags & RDE_COMPLETION_INLINE)) memcpy(&header, done->data, sizeof header);
    return header;
}

static rde_completion call(uint32_t method, rde_rpc_header head, const void *payload, size_t length, rde_buffer into,
                           uint64_t offset, uint64_t capacity) {
    rde_piece piece = {.data = payload, .length = length};
    rde_call_arguments arguments = RDE_CALL_ARGUMENTS_INIT;
    arguments.method = method;
    arguments.timeout_us = 30000000;
    arguments.header = head;
    arguments.pieces = &piece;
    arguments.piece_count = 1;
    arguments.reply = into;
    arguments.reply_offset = offset;
    arguments.reply_capacity = capacity;
    try("call", rde_call(session, &arguments));
    rde_completion done = next();
    try("a call", done.status);
    return done;
}

/* Reads needles by one call; of how many of the first they were. */
static uint32_t some(const rde_needle_read *reads, uint32_t count, rde_needle_result *results, rde_buffer *buffer,
                     const uint8_t **data) {
    static char payload[RDE_NEEDLES_BYTES_MAX];
    rde_rpc_header head;
    size_t length;
    try("encode", rde_needles_encode(reads, count, 0, payload, sizeof payload, &length, &count, &head));
    rde_completion done = call(RDE_METHOD_NEEDLES, head, payload, length, (rde_buffer){0}, 0, 0);
    try("the needles", done.detail);
    head = header(&done);
    *data = bytes(&done, buffer);
    try("decode", rde_needles_decode(&head, (rde_bytes){*data, done.length}, results, SOME, &count));
    return count;
}

/* A needle that is longer than a message: in parts. */
static void in_parts(const char *file_id, uint32_t flags) {
    for (int attempt = 0; attempt < 5; attempt++) {
        rde_needle_read stat = {.file_id = {file_id, strlen(file_id)}, .flags = flags | RDE_VOLUME_STAT};
        rde_needle_result known;
        rde_buffer answer, whole;
        const uint8_t *data;
        void *memory;
        some(&stat, 1, &known, &answer, &data);
        try("release", rde_buffer_release(answer));
        if (known.status != RDE_STATUS_OK) {
            print(file_id, known.status, NULL, 0, 0);
            return;
        }
        try("alloc", rde_buffer_alloc(context, known.length, 0, &whole, &memory, &error));
        rde_status status = RDE_STATUS_OK;
        for (uint64_t at = 0; at < known.length && status == RDE_STATUS_OK; at += PART) {
            uint64_t length = known.length - at < PART ? known.length - at : PART;
            rde_rpc_header part = {.offset = at, .len = length, .flags = flags | RDE_VOLUME_RANGE | RDE_VOLUME_STORED};
            rde_completion done = call(RDE_METHOD_NEEDLE, part, file_id, strlen(file_id), whole, at, length);
            status = done.detail;
        }
        if (status == RDE_STATUS_OK) status = rde_needle_check(&known, memory, known.length);
        if (status == RDE_STATUS_OK || attempt == 4) print(file_id, status, memory, known.length, known.flags);
        try("release", rde_buffer_release(whole));
        if (status == RDE_STATUS_OK) return;
    }
}

static void batch(char (*ids)[LINE], const uint32_t *flags, uint32_t count) {
    rde_needle_read reads[SOME];
    rde_needle_result results[SOME];
    for (uint32_t i = 0; i < count; i++)
        reads[i] = (rde_needle_read){.file_id = {ids[i], strlen(ids[i])}, .flags = flags[i]};
    for (uint32_t first = 0; first < count;) {
        rde_buffer buffer;
        const uint8_t *data;
        uint32_t got = some(reads + first, count - first, results, &buffer, &data);
        for (uint32_t i = 0; i < got; i++)
            if (results[i].status != RDE_STATUS_TRUNCATED)
                print(ids[first + i], results[i].status, data + results[i].data_offset, results[i].data_length,
                      results[i].flags);
        try("release", rde_buffer_release(buffer));
        for (uint32_t i = 0; i < got; i++)
            if (results[i].status == RDE_STATUS_TRUNCATED) in_parts(ids[first + i], flags[first + i]);
        first += got;
    }
}

static void one(char (*ids)[LINE], const uint32_t *flags, uint32_t count) {
    uint32_t later[SOME], longs = 0;
    for (uint32_t i = 0; i < count; i++) {
        rde_piece piece = {.data = ids[i], .length = strlen(ids[i])};
        rde_call_arguments arguments = RDE_CALL_ARGUMENTS_INIT;
        arguments.method = RDE_METHOD_NEEDLE;
        arguments.timeout_us = 30000000;
        arguments.user_data = i;
        arguments.header.flags = flags[i];
        arguments.pieces = &piece;
        arguments.piece_count = 1;
        try("call", rde_call(session, &arguments));
    }
    for (uint32_t got = 0; got < count; got++) {
        rde_completion done = next();
        rde_buffer buffer;
        try("a call", done.status);
        const void *data = bytes(&done, &buffer);
        if (done.detail == RDE_STATUS_TRUNCATED)
            later[longs++] = (uint32_t)done.user_data;
        else
            print(ids[done.user_data], done.detail, data, done.length, header(&done).flags);
        try("release", rde_buffer_release(buffer));
    }
    while (longs > 0) {
        longs--;
        in_parts(ids[later[longs]], flags[later[longs]]);
    }
}

int main(int argc, char **argv) {
    static char ids[SOME][LINE];
    uint32_t flags[SOME], count = 0;
    rde_context_options options = RDE_CONTEXT_OPTIONS_INIT;
    rde_worker_options polled = RDE_WORKER_OPTIONS_INIT;
    if (argc != 4) return 2;
    options.transports = (uint32_t)atoi(argv[2]);
    polled.flags = RDE_WORKER_POLLED;
    try("open", rde_context_open(&options, &context, &error));
    try("open", rde_worker_open(context, &polled, &worker, &error));
    try("dial", rde_session_connect(worker, (rde_bytes){argv[1], strlen(argv[1])}, 0, &session, &error));
    try("dial", next().status);
    for (int more = 1; more;) {
        more = scanf("%u %4095s", &flags[count], ids[count]) == 2;
        count += (uint32_t)more;
        if (count == SOME || !more) {
            if (count > 0) (strcmp(argv[3], "batch") == 0 ? batch : one)(ids, flags, count);
            count = 0;
        }
    }
    try("close", rde_session_close(session, 0));
    next();
    try("close", rde_worker_close(worker));
    try("close", rde_context_close(context));
    return 0;
}
