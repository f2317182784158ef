/* Listeners and sessions: addresses, details, both ends, refusals. */
#include "peer.h"

static void addresses(void) {
    static const char *const bad[] = {"", "tcp", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:70000", "tcp://127.0.0.1:x",
                                      "unix://", "http://127.0.0.1:80", "tcp://[::1:5", "\xff\xfe"};
    struct side side;
    rde_listener listener = {7}, second = {7};
    rde_error error;
    char address[RDE_ADDRESS_MAX + 1];
    size_t length = 0;
    if (!side_open(&side, "addresses", 0, 0)) return;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_STATUS(INVALID_ARGUMENT, rde_listener_open(side.worker, text(bad[i]), 0, &listener, &error));
        CHECK(error.message_len > 0);
    }
    CHECK(listener.id == 7);
    if (!CHECK_OK(error, rde_listener_open(side.worker, text("tcp://127.0.0.1:0"), 0, &listener, &error))) return;
    CHECK_STATUS(TRUNCATED, rde_listener_address(listener, address, 5, &length));
    CHECK_STATUS(OK, rde_listener_address(listener, address, length + 1, &length));
    CHECK(strlen(address) == length && strncmp(address, "tcp://127.0.0.1:", 16) == 0 && atoi(address + 16) > 0);
    CHECK_STATUS(ALREADY_EXISTS, rde_listener_open(side.worker, text(address), 0, &second, &error));
    CHECK(second.id == 7);
    CHECK_STATUS(OK, rde_listener_close(listener));
    CHECK_STATUS(STALE_HANDLE, rde_listener_address(listener, address, sizeof address, &length));
    side_close(&side);
    shown("addresses are checked, ports are picked, and one in use is refused");
}

static void both_ends(const char *scheme, const char *what) {
    struct pair pair;
    rde_session_details client = RDE_SESSION_DETAILS_INIT, server = RDE_SESSION_DETAILS_INIT;
    rde_context_details found = RDE_CONTEXT_DETAILS_INIT;
    rde_error error;
    if (!pair_open(&pair, scheme, 0, 0)) return;
    CHECK_OK(error, rde_session_info(pair.at_client, &client, &error));
    CHECK_OK(error, rde_session_info(pair.at_server, &server, &error));
    CHECK(client.state == RDE_SESSION_STATE_OPEN && server.state == RDE_SESSION_STATE_OPEN);
    CHECK(!(client.flags & RDE_SESSION_ACCEPTED) && (server.flags & RDE_SESSION_ACCEPTED));
    CHECK(client.peer_pid == (uint32_t)getpid() && server.peer_pid == (uint32_t)getpid());
    CHECK(strcmp(client.peer_name, "server") == 0 && strcmp(server.peer_name, "client") == 0);
    CHECK(strcmp(client.address, pair.address) == 0);
    CHECK_OK(error, rde_context_info(pair.server.context, &found, &error));
    /* Slots that are set aside for a peer count too. */
    CHECK(found.sessions >= 1 && found.transports[0] != 0 && found.devices[0] != 0);
    pair_close(&pair);
    shown(what);
}

static void nobody_there(void) {
    struct side side;
    rde_session session = {0};
    rde_completion done;
    rde_error error;
    if (!side_open(&side, "alone", 0, 0)) return;
    /* Port 1 of loopback: nothing listens there on a machine for tests. */
    if (CHECK_OK(error, rde_session_connect(side.worker, text("tcp://127.0.0.1:1"), 5, &session, &error)) &&
        await(&side, NULL, RDE_OP_SESSION_CONNECT, 5, &done))
        CHECK_STATUS(UNREACHABLE, done.status);
    CHECK_STATUS(STALE_HANDLE, rde_flush(session, 6));
    if (CHECK_OK(error, rde_session_connect(side.worker, text("unix:///nowhere/at/all"), 6, &session, &error)) &&
        await(&side, NULL, RDE_OP_SESSION_CONNECT, 6, &done))
        CHECK_STATUS(UNREACHABLE, done.status);
    side_close(&side);
    shown("a dial to nobody ends in UNREACHABLE, and leaves no session");
}

int main(void) {
    addresses();
    both_ends("unix", "unix: a session opens, tells about both ends, and closes");
    both_ends("tcp", "tcp: a session opens, tells about both ends, and closes");
    nobody_there();
    return check_end();
}
