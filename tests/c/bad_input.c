/* Bad input: each gets a clear status, and the process and the session go on. What needs another process (kill, stop,
 * random bytes) is tested in Rust. */
#include "peer.h"

enum { SIZE = 65536 };

static struct pair pair;
static rde_buffer remote, local;
static rde_region region;
static rde_key key;
static char *there;

/* Submits one request that must not be accepted. */
static rde_status submit(rde_request request) {
    uint32_t accepted = 9;
    rde_status status = rde_worker_submit(pair.client.worker, &request, 1, &accepted);
    CHECK(accepted == (status == RDE_STATUS_OK));
    return status;
}

static rde_request get(uint64_t offset, uint64_t length) {
    return (rde_request){.user_data = 1, .session = pair.at_client, .op = RDE_OP_GET, .buffer = local, .length = length,
                         .region = region, .region_offset = offset};
}

/* A request is refused at submission, or accepted and completed with this status: one of both, once. */
static void refused(rde_request request, rde_status wanted, const char *what) {
    rde_completion done;
    uint32_t accepted = 9;
    rde_status status = rde_worker_submit(pair.client.worker, &request, 1, &accepted);
    if (status == RDE_STATUS_OK && CHECK(accepted == 1) &&
        await(&pair.client, &pair.server, request.op, request.user_data, &done)) {
        status = done.status;
        /* Pieces before the bad one may have moved. */
        CHECK(done.length == 0 || (request.flags & RDE_REQUEST_VECTORED));
    }
    if (!CHECK(status == wanted)) printf("    %s: %s, not %s\n", what, rde_status_name(status), rde_status_name(wanted));
}

static void handles(void) {
    rde_request request = get(0, 8);
    request.session = (rde_session){0};
    CHECK_STATUS(STALE_HANDLE, submit(request));
    request = get(0, 8);
    request.session.id ^= UINT64_C(1) << 40;
    CHECK_STATUS(STALE_HANDLE, submit(request));
    request = get(0, 8);
    request.session.id = pair.listener.id;
    CHECK_STATUS(STALE_HANDLE, submit(request));
    request = get(0, 8);
    request.buffer = (rde_buffer){0};
    CHECK_STATUS(STALE_HANDLE, submit(request));
    request.buffer.id = region.id;
    CHECK_STATUS(STALE_HANDLE, submit(request));
    request = get(0, 8);
    request.region = (rde_region){0};
    CHECK_STATUS(STALE_HANDLE, submit(request));
    request.region.id = local.id;
    CHECK_STATUS(STALE_HANDLE, submit(request));
    /* A session of another worker. */
    request = get(0, 8);
    request.session = pair.at_server;
    CHECK(submit(request) < 0);
    CHECK_STATUS(STALE_HANDLE, rde_flush((rde_session){UINT64_MAX}, 1));
    CHECK_STATUS(STALE_HANDLE, rde_context_close((rde_context){pair.client.worker.id}));
    CHECK_STATUS(STALE_HANDLE, rde_worker_close((rde_worker){pair.client.context.id}));
    CHECK_STATUS(STALE_HANDLE, rde_session_close((rde_session){pair.listener.id}, 0));
    shown("zero, stale, forged and foreign handles");
}

static void requests(void) {
    rde_request request = get(0, 8);
    char small[4] = {0};
    uint32_t accepted = 9;
    request.op = 999;
    CHECK_STATUS(INVALID_ARGUMENT, submit(request));
    request.op = RDE_OP_SESSION_ACCEPTED;
    CHECK_STATUS(INVALID_ARGUMENT, submit(request));
    request = get(0, 8);
    request.flags = 1 << 15;
    CHECK_STATUS(INVALID_ARGUMENT, submit(request));
    request = get(0, 24);
    request.flags = RDE_REQUEST_VECTORED;
    request.data = (rde_bytes){NULL, 24};
    CHECK_STATUS(INVALID_ARGUMENT, submit(request));
    request.data = (rde_bytes){small, sizeof small};
    CHECK_STATUS(INVALID_ARGUMENT, submit(request));
    CHECK_STATUS(INVALID_ARGUMENT, rde_worker_submit(pair.client.worker, NULL, 1, &accepted));
    CHECK_STATUS(INVALID_ARGUMENT, rde_worker_submit(pair.client.worker, &request, RDE_BATCH_MAX + 1, &accepted));
    CHECK_STATUS(INVALID_ARGUMENT, rde_send(pair.at_client, (rde_bytes){NULL, 3}, (rde_buffer){0}, 0, 0, 1));
    CHECK(accepted == 9);
    /* Lengths that add up to more than any memory has. */
    rde_piece pieces[RDE_PIECES_MAX];
    rde_call_arguments call = RDE_CALL_ARGUMENTS_INIT;
    for (int i = 0; i < RDE_PIECES_MAX; i++) pieces[i] = (rde_piece){.data = small, .length = SIZE_MAX / 32};
    call.pieces = pieces;
    call.piece_count = RDE_PIECES_MAX;
    CHECK_STATUS(INVALID_ARGUMENT, rde_call(pair.at_client, &call));
    rde_needle_result needle = {.length = SIZE_MAX};
    CHECK_STATUS(INVALID_ARGUMENT, rde_needle_check(&needle, small, SIZE_MAX));
    rde_session session = {7};
    static const char *const addresses[] = {"", "tcp://", "gopher://host:1", "tcp://1.2.3.4", "tcp://host:65536", "unix://a"};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++)
        CHECK_STATUS(INVALID_ARGUMENT, rde_session_connect(pair.client.worker, text(addresses[i]), 1, &session, NULL));
    CHECK(session.id == 7);
    shown("unknown operations and flags, data that is not there, and addresses that are none");
}

static void ranges(void) {
    static const uint64_t bad[][2] = {{0, SIZE + 1}, {SIZE, 1}, {SIZE - 7, 8}, {UINT64_MAX, 1}, {UINT64_MAX - 3, 8},
                                      {8, UINT64_MAX}, {UINT64_MAX, UINT64_MAX}, {UINT64_C(1) << 63, UINT64_C(1) << 63}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rde_request request = get(0, bad[i][1]);
        request.buffer_offset = bad[i][0];
        CHECK_STATUS(OUT_OF_RANGE, submit(request));
        request = get(bad[i][0], bad[i][1]);
        refused(request, RDE_STATUS_OUT_OF_RANGE, "get past the region's end");
        request.op = RDE_OP_PUT;
        refused(request, RDE_STATUS_OUT_OF_RANGE, "put past the region's end");
    }
    rde_segment segments[2] = {{0, 0, 8}, {SIZE - 4, 0, 8}};
    rde_request vectored = get(0, 16);
    vectored.flags = RDE_REQUEST_VECTORED;
    vectored.data = (rde_bytes){segments, sizeof segments};
    refused(vectored, RDE_STATUS_OUT_OF_RANGE, "a segment past the buffer's end");
    segments[1] = (rde_segment){0, UINT64_MAX - 3, 8};
    refused(vectored, RDE_STATUS_OUT_OF_RANGE, "a segment past the region's end");
    refused((rde_request){.user_data = 2, .session = pair.at_client, .op = RDE_OP_FETCH_ADD, .region = region,
                          .region_offset = SIZE, .length = 8, .operand = 1}, RDE_STATUS_OUT_OF_RANGE, "atomic past the end");
    refused((rde_request){.user_data = 2, .session = pair.at_client, .op = RDE_OP_FETCH_ADD, .region = region,
                          .region_offset = 4, .length = 8, .operand = 1}, RDE_STATUS_INVALID_ARGUMENT, "atomic not aligned");
    shown("lengths that overflow, and offsets past the end");
}

static rde_status import(const rde_key *made_up) {
    rde_completion done;
    rde_status status = rde_region_import(pair.at_client, made_up, 3);
    if (status != RDE_STATUS_OK) return status;
    if (!await(&pair.client, &pair.server, RDE_OP_REGION_IMPORT, 3, &done)) return RDE_STATUS_INTERNAL;
    return done.status;
}

static void garbage_keys(void) {
    rde_key garbage;
    for (uint64_t seed = 0; seed < 200; seed++) {
        fill(&garbage, sizeof garbage, seed);
        CHECK(import(&garbage) < 0);
    }
    memset(&garbage, 0, sizeof garbage);
    CHECK(import(&garbage) < 0);
    for (unsigned bit = 0; bit < 8 * sizeof key; bit++) {
        rde_key flipped = key;
        flipped.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (!CHECK(import(&flipped) < 0)) printf("    bit %u flipped\n", bit);
    }
    shown("garbage keys, and every key with one flipped bit");
}

/* A key to a part of the buffer, read-only. */
static void narrow_keys(void) {
    rde_key narrow;
    rde_region part;
    rde_completion done;
    rde_error error;
    rde_request request;
    if (!CHECK_OK(error, rde_buffer_export(remote, 4096, 4096, RDE_RIGHT_READ, &narrow, &error)) ||
        !CHECK_STATUS(OK, rde_region_import(pair.at_client, &narrow, 4)) ||
        !await_ok(&pair.client, &pair.server, RDE_OP_REGION_IMPORT, 4, &done))
        return;
    part.id = done.value;
    request = get(4095, 2);
    request.region = part;
    refused(request, RDE_STATUS_OUT_OF_RANGE, "get past the key's range");
    request = get(0, 8);
    request.region = part;
    request.op = RDE_OP_PUT;
    memset(there, 0x77, SIZE);
    refused(request, RDE_STATUS_PERMISSION_DENIED, "put with a read-only key");
    refused((rde_request){.user_data = 2, .session = pair.at_client, .op = RDE_OP_FETCH_ADD, .region = part, .length = 8,
                          .operand = 1}, RDE_STATUS_PERMISSION_DENIED, "fetch-add with a read-only key");
    refused((rde_request){.user_data = 2, .session = pair.at_client, .op = RDE_OP_COMPARE_SWAP, .region = part, .length = 8,
                          .operand = 1}, RDE_STATUS_PERMISSION_DENIED, "compare-and-swap with a read-only key");
    for (int i = 0; i < SIZE; i++) {
        if (!CHECK(there[i] == 0x77)) break;
    }
    CHECK_STATUS(OK, rde_region_release(part));
    shown("past a key's range, and writing with a read-only key");
}

static void revoked(void) {
    rde_key other;
    rde_region gone;
    rde_completion done;
    rde_error error;
    rde_request request;
    if (!CHECK_OK(error, rde_buffer_export(remote, 0, 4096, RDE_RIGHT_READ, &other, &error)) ||
        !CHECK_STATUS(OK, rde_region_import(pair.at_client, &other, 5)) ||
        !await_ok(&pair.client, &pair.server, RDE_OP_REGION_IMPORT, 5, &done))
        return;
    gone.id = done.value;
    CHECK_OK(error, rde_key_revoke(pair.server.context, &other, &error));
    CHECK(rde_key_revoke(pair.server.context, &other, &error) < 0);
    request = get(0, 8);
    request.region = gone;
    refused(request, RDE_STATUS_REVOKED, "get with a revoked key");
    CHECK_STATUS(OK, rde_region_release(gone));
    /* The importer's cache may not have heard of it yet; what it hands out then is of no use. */
    if (!CHECK_STATUS(OK, rde_region_import(pair.at_client, &other, 8)) ||
        !await(&pair.client, &pair.server, RDE_OP_REGION_IMPORT, 8, &done))
        return;
    if (done.status == RDE_STATUS_OK) {
        request.region.id = done.value;
        refused(request, RDE_STATUS_REVOKED, "get with a revoked key, imported again");
        CHECK_STATUS(OK, rde_region_release(request.region));
    } else {
        CHECK_STATUS(REVOKED, done.status);
    }
    shown("a revoked key");
}

/* The session still works, after all of that. */
static void goes_on(void) {
    rde_completion done;
    void *here;
    CHECK_STATUS(OK, rde_buffer_data(local, &here, NULL));
    fill(there, SIZE, 9);
    CHECK_STATUS(OK, rde_get(pair.at_client, local, 0, region, 0, SIZE, 6));
    if (await_ok(&pair.client, &pair.server, RDE_OP_GET, 6, &done)) CHECK(memcmp(here, there, SIZE) == 0);
    CHECK(pair.client.count == 0);
    shown("and the session goes on");
}

static void after_close(void) {
    rde_session session = pair.at_client;
    rde_request request = get(0, 8);
    rde_worker worker = pair.client.worker;
    uint32_t accepted = 9;
    pair_close(&pair);
    CHECK_STATUS(STALE_HANDLE, rde_worker_submit(worker, &request, 1, &accepted));
    CHECK_STATUS(STALE_HANDLE, rde_get(session, local, 0, region, 0, 8, 1));
    CHECK_STATUS(STALE_HANDLE, rde_session_close(session, 1));
    CHECK_STATUS(STALE_HANDLE, rde_worker_close(worker));
    CHECK_STATUS(STALE_HANDLE, rde_buffer_release(local));
    CHECK_STATUS(STALE_HANDLE, rde_region_release(region));
    CHECK(accepted == 9);
    shown("everything after its close, and closing twice");
}

static void structures(void) {
    static const uint32_t sizes[] = {0, 1, 4, 127, 65537, UINT32_MAX};
    rde_context context = {7};
    rde_error error;
    struct { rde_context_options options; uint64_t later; } newer = {RDE_CONTEXT_OPTIONS_INIT, 0};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        rde_context_options options = RDE_CONTEXT_OPTIONS_INIT;
        options.struct_size = sizes[i];
        rde_status status = rde_context_open(&options, &context, &error);
        CHECK(status == (sizes[i] ? RDE_STATUS_ABI_MISMATCH : RDE_STATUS_INVALID_ARGUMENT) && context.id == 7);
    }
    newer.options.struct_size = sizeof newer;
    newer.later = 1;
    CHECK_STATUS(INVALID_ARGUMENT, rde_context_open(&newer.options, &context, &error));
    newer.later = 0;
    newer.options.reserved0 = 1;
    CHECK_STATUS(INVALID_ARGUMENT, rde_context_open(&newer.options, &context, &error));
    newer.options.reserved0 = 0;
    newer.options.secret = (rde_bytes){"too short", 9};
    CHECK_STATUS(INVALID_ARGUMENT, rde_context_open(&newer.options, &context, &error));
    newer.options.secret = (rde_bytes){0};
    newer.options.flags = 1;
    CHECK_STATUS(INVALID_ARGUMENT, rde_context_open(&newer.options, &context, &error));
    CHECK(context.id == 7);
    CHECK_STATUS(INVALID_ARGUMENT, rde_context_open(NULL, NULL, NULL));
    shown("structures of wrong sizes, and reserved fields in use");
}

/* More sessions than the acceptor allows: a clear status for the one past it, and room again after a close. */
static void too_many_sessions(void) {
    static struct side server, client;
    rde_context_options options = RDE_CONTEXT_OPTIONS_INIT;
    rde_listener listener;
    rde_session sessions[4];
    rde_completion done;
    rde_error error;
    char address[RDE_ADDRESS_MAX + 1];
    size_t length;
    options.max_sessions = 3;
    if (!CHECK_OK(error, rde_context_open(&options, &server.context, &error)) ||
        !CHECK_OK(error, rde_worker_open(server.context, NULL, &server.worker, &error)) || !side_open(&client, "many", 0, 0) ||
        !CHECK_OK(error, rde_listener_open(server.worker, text("tcp://127.0.0.1:0"), 1, &listener, &error)))
        return;
    CHECK_STATUS(OK, rde_listener_address(listener, address, sizeof address, &length));
    for (uint64_t i = 0; i < 4; i++) {
        if (!CHECK_OK(error, rde_session_connect(client.worker, text(address), i, &sessions[i], &error)) ||
            !await(&client, &server, RDE_OP_SESSION_CONNECT, i, &done))
            return;
        CHECK(done.status == (i < 3 ? RDE_STATUS_OK : RDE_STATUS_LIMIT_REACHED));
    }
    CHECK_STATUS(OK, rde_session_close(sessions[0], 10));
    if (!await_ok(&client, &server, RDE_OP_SESSION_CLOSED, 10, &done) ||
        !await_ok(&server, &client, RDE_OP_SESSION_CLOSED, 1, &done) ||
        !CHECK_OK(error, rde_session_connect(client.worker, text(address), 5, &sessions[3], &error)) ||
        !await_ok(&client, &server, RDE_OP_SESSION_CONNECT, 5, &done))
        return;
    CHECK_STATUS(OK, rde_listener_close(listener));
    side_close(&client);
    side_close(&server);
    shown("one session too many");
}

static void over(const char *scheme, uint32_t ways) {
    rde_error error;
    void *data;
    printf("-- %s, ways %u\n", scheme, ways);
    uint32_t rights = RDE_RIGHT_READ | RDE_RIGHT_WRITE | RDE_RIGHT_ATOMIC;
    if (!pair_open(&pair, scheme, 0, ways) || !pair_region(&pair, SIZE, rights, &remote, &data, &key, &region) ||
        !CHECK_OK(error, rde_buffer_alloc(pair.client.context, SIZE, 0, &local, NULL, &error)))
        return;
    there = data;
    handles();
    requests();
    ranges();
    garbage_keys();
    narrow_keys();
    revoked();
    goes_on();
    after_close();
}

int main(void) {
    structures();
    over("unix", 0);
    over("unix", RDE_WAY_MESSAGE);
    over("tcp", RDE_WAY_MESSAGE);
    too_many_sessions();
    return check_end();
}
