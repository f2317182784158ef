/* Needles of an exporter, from C: one by one, many in one round trip, one that is longer than a message, and tokens. */
#include "peer.h"
#include "volume_writer.h"

enum { NEEDLES = 200, LONG_ID = 1000, LONG = 300000, MESSAGE = 64 << 10, PART = 50000 };

static rde_error error;
static struct side client;
static rde_session session;
static unsigned char long_data[LONG];

static void write_volume(void) {
    char data[32];
    create_volume();
    for (int id = 1; id <= NEEDLES; id++) {
        snprintf(data, sizeof data, "this is needle %d", id);
        put((uint64_t)id, 7, 0, data);
    }
    for (size_t i = 0; i < LONG; i++) long_data[i] = (unsigned char)(i * 31 ^ i >> 9);
    put_bytes(LONG_ID, 7, 0, long_data, LONG);
}

/* Calls and waits. What comes back is in `done`. */
static int call(uint32_t method, const void *payload, size_t length, rde_rpc_header header, rde_buffer reply, uint64_t offset,
                uint64_t capacity, rde_completion *done) {
    rde_piece piece = {.data = payload, .length = length};
    rde_call_arguments arguments = RDE_CALL_ARGUMENTS_INIT;
    arguments.method = method;
    arguments.header = header;
    arguments.pieces = &piece;
    arguments.piece_count = 1;
    arguments.reply = reply;
    arguments.reply_offset = offset;
    arguments.reply_capacity = capacity;
    arguments.user_data = 5;
    return CHECK_STATUS(OK, rde_call(session, &arguments)) && await_ok(&client, NULL, RDE_OP_CALL, 5, done);
}

static rde_needle_read reading(const char *file_id, uint32_t flags) {
    rde_needle_read read = {.file_id = text(file_id), .flags = flags};
    return read;
}

/* Reads the first of these in one call; their results, and the answer's bytes, which are the caller's to release. */
static uint32_t read_some(const rde_needle_read *reads, uint32_t count, uint64_t capacity, rde_needle_result *results,
                          rde_buffer *answer, const unsigned char **bytes) {
    static unsigned char payload[RDE_NEEDLES_BYTES_MAX];
    size_t length = 0;
    uint32_t encoded = 0, got = 0;
    uint64_t size = 0;
    void *data = NULL;
    rde_rpc_header header, answered;
    rde_completion done;
    if (!CHECK_STATUS(OK, rde_needles_encode(reads, count, capacity, payload, sizeof payload, &length, &encoded, &header)) ||
        !CHECK(encoded == count) ||
        !call(RDE_METHOD_NEEDLES, payload, length, header, (rde_buffer){0}, 0, 0, &done) || !CHECK(done.detail == RDE_STATUS_OK))
        return 0;
    *answer = (rde_buffer){done.value};
    memcpy(&answered, done.data, sizeof answered);
    if (!CHECK_STATUS(OK, rde_buffer_data(*answer, &data, &size)) || !CHECK(size == done.length)) return 0;
    *bytes = data;
    CHECK_STATUS(OK, rde_needles_decode(&answered, (rde_bytes){data, (size_t)size}, results, count, &got));
    return got;
}

static void many(void) {
    static rde_needle_read reads[NEEDLES];
    static rde_needle_result results[NEEDLES];
    static char names[NEEDLES][32];
    const unsigned char *bytes;
    rde_buffer answer;
    for (int i = 0; i < NEEDLES; i++) {
        snprintf(names[i], sizeof names[i], "7,%02x00000007", i + 1);
        reads[i] = reading(names[i], 0);
    }
    reads[3] = reading("7,0400000008", 0);
    reads[4] = reading("7,ff00000007", 0);
    reads[5] = reading("7,0600000007", RDE_VOLUME_RANGE);
    reads[5].offset = 5;
    reads[5].length = 2;
    reads[6] = reading("7,0700000007", RDE_VOLUME_STAT);
    reads[7] = reading("7,3e800000007", 0);
    uint32_t rounds = 0, next = 0;
    while (next < NEEDLES) {
        uint32_t got = read_some(reads + next, NEEDLES - next, 2000, results, &answer, &bytes);
        if (!CHECK(got > 0)) return;
        for (uint32_t i = 0; i < got; i++) {
            char want[32];
            snprintf(want, sizeof want, "this is needle %u", next + i + 1);
            const rde_needle_result *result = results + i;
            const char *data = (const char *)bytes + result->data_offset;
            switch (next + i) {
            case 3: CHECK_STATUS(COOKIE_MISMATCH, result->status); break;
            case 4: CHECK_STATUS(NOT_FOUND, result->status); break;
            case 5: CHECK(result->data_length == 2 && memcmp(data, "is", 2) == 0 && result->length == strlen(want)); break;
            case 6: CHECK(result->status == RDE_STATUS_OK && result->data_length == 0 && result->length == strlen(want)); break;
            case 7: CHECK(result->status == RDE_STATUS_TRUNCATED && result->length == LONG && result->data_length == 0); break;
            default:
                CHECK(result->status == RDE_STATUS_OK && result->data_length == strlen(want) &&
                      memcmp(data, want, strlen(want)) == 0 && result->data_offset % 8 == 0);
                CHECK_STATUS(OK, rde_needle_check(result, data, (size_t)result->data_length));
            }
        }
        CHECK_STATUS(OK, rde_buffer_release(answer));
        next += got;
        rounds++;
    }
    CHECK(rounds > 5 && rounds < NEEDLES / 4);
    shown("many needles in few round trips, each with its own verdict");
}

static void longer_than_a_message(void) {
    rde_needle_read read = reading("7,3e800000007", RDE_VOLUME_STAT);
    rde_needle_result known;
    const unsigned char *bytes;
    rde_buffer answer, buffer;
    rde_completion done;
    void *data;
    call(RDE_METHOD_NEEDLE, read.file_id.data, read.file_id.len, (rde_rpc_header){0}, (rde_buffer){0}, 0, 0, &done);
    CHECK_STATUS(TRUNCATED, done.detail);
    if (!CHECK(read_some(&read, 1, 0, &known, &answer, &bytes) == 1) || !CHECK(known.length == LONG)) return;
    CHECK_STATUS(OK, rde_buffer_release(answer));
    if (!CHECK_OK(error, rde_buffer_alloc(client.context, LONG, RDE_BUFFER_UNINITIALISED, &buffer, &data, &error))) return;
    for (uint64_t at = 0; at < LONG; at += PART) {
        rde_rpc_header part = {.offset = at, .len = PART, .flags = RDE_VOLUME_RANGE | RDE_VOLUME_STORED};
        if (!call(RDE_METHOD_NEEDLE, read.file_id.data, read.file_id.len, part, buffer, at, PART, &done)) break;
        CHECK(done.detail == RDE_STATUS_OK && done.length == PART);
    }
    CHECK_STATUS(OK, rde_needle_check(&known, data, LONG));
    CHECK(memcmp(data, long_data, LONG) == 0);
    ((unsigned char *)data)[LONG / 2] ^= 1;
    CHECK_STATUS(CORRUPTED, rde_needle_check(&known, data, LONG));
    CHECK_STATUS(CORRUPTED, rde_needle_check(&known, long_data, LONG - 1));
    CHECK_STATUS(INVALID_ARGUMENT, rde_needle_check(NULL, long_data, LONG));
    CHECK_STATUS(OK, rde_buffer_release(buffer));
    shown("a needle that is longer than a message, in parts and checked");
}

/* The answer at its place, in memory that was lent; `checked` by the exporter, or left to us. */
static void placed(void) {
    enum { AT = 64, ROOM = LONG + 4096 };
    rde_needle_place place = {.offset = AT, .length = LONG};
    rde_needle_result known = {0};
    rde_needle_read reads[2] = {reading("7,0100000007", 0), reading("7,3e800000007", 0)};
    rde_needle_result results[2];
    rde_rpc_header header;
    rde_completion done;
    rde_buffer buffer;
    rde_key key;
    unsigned char payload[256];
    unsigned char *memory = NULL;
    uint32_t count;
    size_t length;
    if (!CHECK_OK(error, rde_buffer_alloc(client.context, ROOM, RDE_BUFFER_EXPORTABLE, &buffer, (void **)&memory, &error)) ||
        !CHECK_OK(error, rde_buffer_export(buffer, 0, ROOM, RDE_RIGHT_READ | RDE_RIGHT_WRITE, &key, &error)))
        return;
    call(RDE_METHOD_NEEDLE_MEMORY, &key, 63, (rde_rpc_header){0}, (rde_buffer){0}, 0, 0, &done);
    CHECK_STATUS(INVALID_ARGUMENT, done.detail);
    call(RDE_METHOD_NEEDLE_MEMORY, &key, sizeof key, (rde_rpc_header){0}, (rde_buffer){0}, 0, 0, &done);
    memcpy(&header, done.data, sizeof header);
    if (!CHECK(done.detail == RDE_STATUS_OK && header.offset > 0 && header.len == ROOM)) return;
    place.memory = header.offset;
    for (uint32_t unchecked = 0; unchecked < 2; unchecked++) {
        memset(memory, 0, ROOM);
        memcpy(payload, reads[1].file_id.data, reads[1].file_id.len);
        memcpy(payload + reads[1].file_id.len, &place, sizeof place);
        header = (rde_rpc_header){.flags = RDE_VOLUME_PLACED | (unchecked ? RDE_VOLUME_UNCHECKED : 0)};
        call(RDE_METHOD_NEEDLE, payload, reads[1].file_id.len + sizeof place, header, buffer, AT, LONG, &done);
        memcpy(&header, done.data, sizeof header);
        CHECK(done.detail == RDE_STATUS_OK && done.length == 0 && (header.flags & RDE_NEEDLE_PLACED));
        CHECK((unchecked || !(header.flags & RDE_NEEDLE_UNCHECKED)) && (uint32_t)header.offset == LONG);
        CHECK(memcmp(memory + AT, long_data, LONG) == 0 && memory[AT - 1] == 0 && memory[AT + LONG] == 0);
        known.length = (uint32_t)header.offset;
        known.checksum = (uint32_t)(header.offset >> 32);
        if (header.flags & RDE_NEEDLE_UNCHECKED) CHECK_STATUS(OK, rde_needle_check(&known, memory + AT, LONG));
    }
    place.length = ROOM - AT;
    CHECK_STATUS(OK, rde_needles_encode(reads, 2, ROOM - AT, payload, sizeof payload, &length, &count, &header));
    memcpy(payload + length, &place, sizeof place);
    header.flags = RDE_VOLUME_PLACED;
    call(RDE_METHOD_NEEDLES, payload, length + sizeof place, header, buffer, AT, ROOM - AT, &done);
    memcpy(&header, done.data, sizeof header);
    CHECK(done.detail == RDE_STATUS_OK && header.flags == RDE_NEEDLE_PLACED && header.offset <= ROOM - AT);
    CHECK_STATUS(OK, rde_needles_decode(&header, (rde_bytes){memory + AT, (size_t)header.offset}, results, 2, &count));
    CHECK(count == 2 && results[1].data_length == LONG);
    CHECK(memcmp(memory + AT + results[0].data_offset, "this is needle 1", 16) == 0);
    CHECK(memcmp(memory + AT + results[1].data_offset, long_data, LONG) == 0);
    memset(memory, 0, ROOM);
    CHECK_STATUS(OK, rde_key_revoke(client.context, &key, &error));
    memcpy(payload, reads[0].file_id.data, reads[0].file_id.len);
    memcpy(payload + reads[0].file_id.len, &place, sizeof place);
    header = (rde_rpc_header){.flags = RDE_VOLUME_PLACED};
    call(RDE_METHOD_NEEDLE, payload, reads[0].file_id.len + sizeof place, header, buffer, AT, LONG, &done);
    memcpy(&header, done.data, sizeof header);
    CHECK(done.detail == RDE_STATUS_OK && !(header.flags & RDE_NEEDLE_PLACED) && done.length == 16);
    CHECK(memcmp(memory + AT, "this is needle 1", 16) == 0);
    CHECK_STATUS(OK, rde_buffer_release(buffer));
    shown("answers are put into memory that was lent, until its key is revoked");
}

/* A part that comes by the library's own TCP, counted while it is received. */
static void counted(const char *address) {
    static const char file_id[] = "7,3e800000007";
    rde_context_options options = RDE_CONTEXT_OPTIONS_INIT;
    rde_worker_options polled = RDE_WORKER_OPTIONS_INIT;
    rde_piece piece = {.data = file_id, .length = strlen(file_id)};
    rde_call_arguments arguments = RDE_CALL_ARGUMENTS_INIT;
    rde_session far;
    struct side side = {0};
    rde_completion done;
    void *data;
    options.transports = RDE_TRANSPORT_TCP;
    polled.flags = RDE_WORKER_POLLED;
    arguments.method = RDE_METHOD_NEEDLE;
    arguments.header = (rde_rpc_header){.offset = 1000, .len = PART, .flags = RDE_VOLUME_RANGE | RDE_VOLUME_STORED};
    arguments.pieces = &piece;
    arguments.piece_count = 1;
    arguments.user_data = 5;
    if (!CHECK_OK(error, rde_context_open(&options, &side.context, &error)) ||
        !CHECK_OK(error, rde_worker_open(side.context, &polled, &side.worker, &error)) ||
        !CHECK_OK(error, rde_session_connect(side.worker, text(address), 2, &far, &error)) ||
        !await_ok(&side, NULL, RDE_OP_SESSION_CONNECT, 2, &done) ||
        !CHECK_OK(error, rde_buffer_alloc(side.context, PART, 0, &arguments.reply, &data, &error)))
        return;
    for (uint32_t flags = 0; flags <= RDE_CALL_CHECKSUM; flags += RDE_CALL_CHECKSUM) {
        arguments.flags = flags;
        arguments.reply_capacity = PART;
        CHECK_STATUS(OK, rde_call(far, &arguments));
        if (!await_ok(&side, NULL, RDE_OP_CALL, 5, &done)) return;
        CHECK(done.length == PART && memcmp(data, long_data + 1000, PART) == 0);
        CHECK((done.flags & RDE_COMPLETION_CHECKSUM) == (flags ? RDE_COMPLETION_CHECKSUM : 0));
        CHECK(done.value == (flags ? crc32c(data, PART) : 0));
    }
    CHECK_STATUS(OK, rde_buffer_release(arguments.reply));
    arguments.reply.id = 0;
    arguments.reply_capacity = 0;
    CHECK_STATUS(INVALID_ARGUMENT, rde_call(far, &arguments));
    CHECK_STATUS(OK, rde_session_close(far, 3));
    await_ok(&side, NULL, RDE_OP_SESSION_CLOSED, 3, &done);
    side_close(&side);
    shown("a reply is counted while it is received");
}

static void refusals(void) {
    unsigned char payload[64];
    size_t length = 77;
    uint32_t count = 77;
    rde_rpc_header header = {.len = 77};
    rde_needle_result result;
    rde_needle_read read = reading("7,0100000007", 0);
#define ENCODE(reads, n, capacity, room) rde_needles_encode(reads, n, capacity, payload, room, &length, &count, &header)
    CHECK_STATUS(INVALID_ARGUMENT, ENCODE(NULL, 1, 0, sizeof payload));
    CHECK_STATUS(INVALID_ARGUMENT, ENCODE(&read, 0, 0, sizeof payload));
    CHECK_STATUS(INVALID_ARGUMENT, ENCODE(&read, 1, 63, sizeof payload));
    CHECK_STATUS(TRUNCATED, ENCODE(&read, 1, 0, 24 + 11));
    read.reserved = 1;
    CHECK_STATUS(INVALID_ARGUMENT, ENCODE(&read, 1, 0, sizeof payload));
    read.reserved = 0;
    CHECK(length == 77 && count == 77 && header.len == 77);
    CHECK_STATUS(OK, ENCODE(&read, 1, 0, 24 + 12));
    CHECK(length == 24 + 12 && count == 1 && header.len == 1 && header.offset == 0 && memcmp(payload + 24, "7,0100000007", 12) == 0);
    memset(payload, 0, sizeof payload);
    CHECK_STATUS(OK, rde_needles_decode(&header, (rde_bytes){payload, 64}, &result, 1, &count));
    CHECK_STATUS(TRUNCATED, rde_needles_decode(&header, (rde_bytes){payload, 64}, &result, 0, &count));
    CHECK_STATUS(PROTOCOL, rde_needles_decode(&header, (rde_bytes){payload, 63}, &result, 1, &count));
    CHECK_STATUS(INVALID_ARGUMENT, rde_needles_decode(NULL, (rde_bytes){payload, 64}, &result, 1, &count));
    payload[56] = 1;
    CHECK_STATUS(PROTOCOL, rde_needles_decode(&header, (rde_bytes){payload, 64}, &result, 1, &count));
    shown("what is no batch is refused, and leaves the outputs alone");
}

/* With a read key no read goes without a token. This one was made by another program for "7,0100000007". */
static void tokens(rde_context context) {
    static const char token[] = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
        "eyJleHAiOjQxMDI0NDQ4MDAsImZpZCI6IjcsMDEwMDAwMDAwNyJ9."
        "Ut_ulkhqNIqd0ibK-rWCPTqHanY6fgtP5X73Sdy-n8Q";
    char payload[512], address[RDE_ADDRESS_MAX + 1];
    rde_exporter_options options = RDE_EXPORTER_OPTIONS_INIT;
    rde_exporter exporter = {0};
    rde_completion done;
    size_t length;
    char key[RDE_ADDRESS_MAX * 3] = {0};
    options.read_key = (rde_bytes){key, sizeof key};
    CHECK_STATUS(INVALID_ARGUMENT, rde_exporter_open(context, text("tcp://127.0.0.1:0"), text(folder), &options, &exporter, &error));
    options.read_key = text("read key");
    CHECK_OK(error, rde_exporter_open(context, text("tcp://127.0.0.1:0"), text(folder), &options, &exporter, &error));
    CHECK_STATUS(OK, rde_exporter_address(exporter, address, sizeof address, &length));
    rde_session before = session;
    CHECK_OK(error, rde_session_connect(client.worker, text(address), 2, &session, &error));
    await_ok(&client, NULL, RDE_OP_SESSION_CONNECT, 2, &done);
    call(RDE_METHOD_NEEDLE, "7,0100000007", 12, (rde_rpc_header){0}, (rde_buffer){0}, 0, 0, &done);
    CHECK_STATUS(UNAUTHORIZED, done.detail);
    snprintf(payload, sizeof payload, "7,0100000007?jwt=%s", token);
    call(RDE_METHOD_NEEDLE, payload, strlen(payload), (rde_rpc_header){0}, (rde_buffer){0}, 0, 0, &done);
    CHECK_STATUS(OK, done.detail);
    CHECK(done.length == strlen("this is needle 1"));
    if (done.value) CHECK_STATUS(OK, rde_buffer_release((rde_buffer){done.value}));
    rde_needle_read read = reading("7,0100000007", 0);
    rde_needle_result result;
    const unsigned char *bytes;
    rde_buffer answer;
    for (int with = 0; with < 2; with++) {
        read.token = with ? text(token) : text("");
        if (!CHECK(read_some(&read, 1, 0, &result, &answer, &bytes) == 1)) break;
        CHECK(result.status == (with ? RDE_STATUS_OK : RDE_STATUS_UNAUTHORIZED));
        CHECK_STATUS(OK, rde_buffer_release(answer));
    }
    CHECK_STATUS(OK, rde_session_close(session, 3));
    await_ok(&client, NULL, RDE_OP_SESSION_CLOSED, 3, &done);
    session = before;
    CHECK_STATUS(OK, rde_exporter_close(exporter));
    shown("with a read key only tokens open needles");
}

int main(void) {
    rde_context_options options = RDE_CONTEXT_OPTIONS_INIT;
    rde_context context;
    rde_exporter exporter;
    rde_completion done;
    char address[RDE_ADDRESS_MAX + 1];
    size_t length;
    alarm(120);
    write_volume();
    options.max_message_bytes = MESSAGE;
    if (CHECK_OK(error, rde_context_open(&options, &context, &error)) &&
        CHECK_OK(error, rde_exporter_open(context, text("tcp://127.0.0.1:0"), text(folder), NULL, &exporter, &error)) &&
        CHECK_STATUS(OK, rde_exporter_address(exporter, address, sizeof address, &length)) &&
        side_open(&client, "client", RDE_WORKER_POLLED, 0) &&
        CHECK_OK(error, rde_session_connect(client.worker, text(address), 1, &session, &error)) &&
        await_ok(&client, NULL, RDE_OP_SESSION_CONNECT, 1, &done)) {
        many();
        longer_than_a_message();
        placed();
        counted(address);
        refusals();
        tokens(context);
        CHECK_STATUS(OK, rde_session_close(session, 9));
        await_ok(&client, NULL, RDE_OP_SESSION_CLOSED, 9, &done);
        side_close(&client);
        CHECK_STATUS(OK, rde_exporter_close(exporter));
        CHECK_STATUS(OK, rde_context_close(context));
    }
    remove_volume();
    return check_end();
}
