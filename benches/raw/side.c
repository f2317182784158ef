/* Plumbing: everything but the tests themselves. */
#define _GNU_SOURCE
#include "side.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* What each side tells the other; the address and then the packed key follow it. */
typedef struct {
    uint64_t address_length, key_length, region;
} hello;

void fail(const char *format, ...) {
    va_list list;
    va_start(list, format);
    fputs("ucx_raw: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    exit(1);
}

void check(ucs_status_t status, const char *what) {
    if (status != UCS_OK) fail("%s: %s", what, ucs_status_string(status));
}

void pin(int index) {
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) fail("sched_getaffinity: %s", strerror(errno));
    if (CPU_COUNT(&allowed) < 2) fail("two cores are needed, %d is allowed", CPU_COUNT(&allowed));
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || index-- > 0) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (sched_setaffinity(0, sizeof one, &one) != 0) fail("sched_setaffinity: %s", strerror(errno));
        return;
    }
}

void send_all(int fd, const void *data, size_t length) {
    for (const char *p = data; length > 0;) {
        ssize_t n = send(fd, p, length, MSG_NOSIGNAL);
        if (n <= 0) fail("send to the other process: %s", strerror(errno));
        p += n;
        length -= (size_t)n;
    }
}

static void *receive_all(int fd, void *data, size_t length) {
    for (char *p = data; length > 0;) {
        ssize_t n = recv(fd, p, length, 0);
        if (n <= 0) fail("the other process has ended");
        p += n;
        length -= (size_t)n;
    }
    return data;
}

void *allocate(size_t length) {
    size_t pages = (length + 4095) / 4096 * 4096;
    void *memory = aligned_alloc(4096, pages);
    if (memory == NULL) fail("no memory for %zu bytes", length);
    memset(memory, 0, pages);
    return memory;
}

void finish(side *s, void **request) {
    void *r = *request;
    if (r == NULL) return;
    *request = NULL;
    if (UCS_PTR_IS_ERR(r)) check(UCS_PTR_STATUS(r), "operation");
    ucs_status_t status;
    while ((status = ucp_request_check_status(r)) == UCS_INPROGRESS) ucp_worker_progress(s->worker);
    ucp_request_free(r);
    check(status, "operation");
}

int start_target(int argc, char **argv) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) fail("socketpair: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0) fail("fork: %s", strerror(errno));
    if (child > 0) {
        close(ends[1]);
        return ends[0];
    }
    char number[16];
    char **args = calloc((size_t)argc + 3, sizeof *args);
    if (args == NULL) fail("no memory");
    memcpy(args, argv, (size_t)argc * sizeof *args);
    snprintf(number, sizeof number, "%d", ends[1]);
    args[argc] = "--target-socket";
    args[argc + 1] = number;
    fcntl(ends[1], F_SETFD, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execv("/proc/self/exe", args);
    fail("exec: %s", strerror(errno));
    return -1;
}

/* --- Active messages --- */

static void on_rendezvous_done(void *request, ucs_status_t status, size_t length, void *arg) {
    side *s = arg;
    (void)length;
    check(status, "rendezvous");
    s->received++;
    ucp_request_free(request);
}

/* As ucx_perftest: eager data is looked at where it lies, a rendezvous is received into a buffer. */
static ucs_status_t on_data(void *arg, const void *header, size_t header_length, void *data, size_t length,
                            const ucp_am_recv_param_t *param) {
    side *s = arg;
    (void)header, (void)header_length;
    if (length != s->opt.size) fail("a message of %zu bytes, not %zu", length, s->opt.size);
    if (!(param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV)) {
        s->received++;
        return UCS_OK;
    }
    ucp_request_param_t p = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                                             UCP_OP_ATTR_FLAG_NO_IMM_CMPL,
                             .cb.recv_am = on_rendezvous_done,
                             .user_data = s};
    void *request = ucp_am_recv_data_nbx(s->worker, data, s->region, length, &p);
    if (UCS_PTR_IS_ERR(request)) check(UCS_PTR_STATUS(request), "ucp_am_recv_data_nbx");
    return UCS_INPROGRESS;
}

static ucs_status_t on_ack(void *arg, const void *header, size_t header_length, void *data, size_t length,
                           const ucp_am_recv_param_t *param) {
    (void)header, (void)header_length, (void)data, (void)length, (void)param;
    ((side *)arg)->acknowledged++;
    return UCS_OK;
}

static ucs_status_t on_stop(void *arg, const void *header, size_t header_length, void *data, size_t length,
                            const ucp_am_recv_param_t *param) {
    (void)header, (void)header_length, (void)data, (void)length, (void)param;
    ((side *)arg)->stopped = true;
    return UCS_OK;
}

static void handle_messages(side *s) {
    static const ucp_am_recv_callback_t callbacks[] = {[AM_DATA] = on_data, [AM_ACK] = on_ack, [AM_STOP] = on_stop};
    for (unsigned id = AM_DATA; id <= AM_STOP; id++) {
        ucp_am_handler_param_t p = {.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                                                  UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG,
                                    .id = id,
                                    .flags = UCP_AM_FLAG_WHOLE_MSG,
                                    .cb = callbacks[id],
                                    .arg = s};
        check(ucp_worker_set_am_recv_handler(s->worker, &p), "ucp_worker_set_am_recv_handler");
    }
}

void *message(side *s, unsigned id, size_t length) {
    static const ucp_request_param_t plain = {0};
    return ucp_am_send_nbx(s->ep, id, NULL, 0, s->local, length, &plain);
}

/* --- Setting up --- */

void open_ucx(side *s) {
    bool messages_only = s->opt.test == AM_LAT || s->opt.test == AM_BW;
    ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_ESTIMATED_NUM_EPS,
                           .features = UCP_FEATURE_AM | (messages_only ? 0 : UCP_FEATURE_RMA),
                           .estimated_num_eps = 1};
    ucp_config_t *config;
    check(ucp_config_read(NULL, NULL, &config), "ucp_config_read");
    check(ucp_init(&params, config, &s->context), "ucp_init");
    ucp_config_release(config);
    ucp_worker_params_t worker = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
                                  .thread_mode = UCS_THREAD_MODE_SINGLE};
    check(ucp_worker_create(s->context, &worker, &s->worker), "ucp_worker_create");
    handle_messages(s);
}

void map_region(side *s, size_t length) {
    ucp_mem_map_params_t params = {.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH |
                                                 UCP_MEM_MAP_PARAM_FIELD_FLAGS,
                                   .length = length};
    if (s->opt.ucx_memory)
        params.flags = UCP_MEM_MAP_ALLOCATE;
    else
        params.address = allocate(length);
    check(ucp_mem_map(s->context, &params, &s->region_handle), "ucp_mem_map");
    ucp_mem_attr_t attr = {.field_mask = UCP_MEM_ATTR_FIELD_ADDRESS};
    check(ucp_mem_query(s->region_handle, &attr), "ucp_mem_query");
    s->region = attr.address;
    for (size_t i = 0; i < length; i++) s->region[i] = (char)(i * 31 + (i >> 12) + 7);
}

static void on_error(void *arg, ucp_ep_h ep, ucs_status_t status) {
    (void)arg, (void)ep, (void)status; /* the control socket tells when the other side is gone */
}

void connect_sides(side *s) {
    ucp_address_t *address;
    size_t address_length, key_length;
    void *key;
    check(ucp_worker_get_address(s->worker, &address, &address_length), "ucp_worker_get_address");
    check(ucp_rkey_pack(s->context, s->region_handle, &key, &key_length), "ucp_rkey_pack");
    hello out = {address_length, key_length, (uint64_t)(uintptr_t)s->region}, in;
    send_all(s->socket, &out, sizeof out);
    send_all(s->socket, address, address_length);
    send_all(s->socket, key, key_length);
    ucp_worker_release_address(s->worker, address);
    ucp_rkey_buffer_release(key);

    receive_all(s->socket, &in, sizeof in);
    if (in.address_length > 65536 || in.key_length > 65536) fail("a hello that makes no sense");
    void *peer_address = receive_all(s->socket, allocate(in.address_length), in.address_length);
    void *peer_key = receive_all(s->socket, allocate(in.key_length), in.key_length);
    s->remote = in.region;
    ucp_ep_params_t params = {.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                                            UCP_EP_PARAM_FIELD_ERR_HANDLER,
                              .address = peer_address,
                              .err_mode = s->opt.peer_errors ? UCP_ERR_HANDLING_MODE_PEER : UCP_ERR_HANDLING_MODE_NONE,
                              .err_handler = {on_error, NULL}};
    check(ucp_ep_create(s->worker, &params, &s->ep), "ucp_ep_create");
    check(ucp_ep_rkey_unpack(s->ep, peer_key, &s->rkey), "ucp_ep_rkey_unpack");
    free(peer_address);
    free(peer_key);
}

int progress_until_told(side *s) {
    char byte;
    for (;;) {
        ucp_worker_progress(s->worker);
        ssize_t n = recv(s->socket, &byte, 1, MSG_DONTWAIT);
        if (n >= 0) return (int)n;
        if (errno != EAGAIN && errno != ECONNRESET) fail("recv: %s", strerror(errno));
    }
}
