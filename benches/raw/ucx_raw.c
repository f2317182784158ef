/*
 * Raw UCX, as fast as one can drive it: the peer that the engine is compared with.
 *
 * Two processes on two cores, endpoints made from worker addresses, both sides spin in ucp_worker_progress.
 * Transports and segment sizes come from UCX's own environment (UCX_TLS, UCX_NET_DEVICES, UCX_TCP_*_SEG_SIZE).
 * Prints one JSON line. Built on UCX 1.13's headers, runs on every later library (LD_LIBRARY_PATH chooses).
 *
 *   am_lat   round trip of an active message, as `ucx_perftest -t ucp_am_lat` (which prints half of it)
 *   am_bw    active messages, --in-flight at a time; every batch ends with the target's acknowledgement
 *   get      ucp_get_nbx, target spinning            get_ptr  ucp_rkey_ptr, then memcpy from it
 *   put      ucp_put_nbx and a flush for each batch   put_ptr  ucp_rkey_ptr, then memcpy to it
 */
#include "side.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_SIZE = 64 << 20,    /* bytes */
    MAX_SAMPLES = 1 << 20,
    BATCH = 64,             /* operations of one call when several are in flight, unless they are large: */
    BATCH_BYTES = 16 << 20, /* then so many bytes */
    BLOCK_NS = 20000,       /* shortest time between two readings, so that the clock itself costs nothing */
    DEADLINE_S = 120,       /* a run that hangs is killed */
};

static const char *const test_names[TESTS] = {"am_lat", "am_bw", "get", "put", "get_ptr", "put_ptr"};

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- One call of each test: opt.batch operations, complete when it returns --- */

static void call_am_lat(side *s) {
    uint64_t before = s->received;
    s->requests[0] = message(s, AM_DATA, s->opt.size);
    while (s->received == before) ucp_worker_progress(s->worker);
    finish(s, &s->requests[0]);
}

static void call_am_bw(side *s) {
    uint64_t before = s->acknowledged;
    for (size_t i = 0; i < s->opt.batch; i++) {
        void **request = &s->requests[i % s->opt.in_flight];
        finish(s, request);
        *request = message(s, AM_DATA, s->opt.size);
    }
    for (size_t i = 0; i < s->opt.in_flight; i++) finish(s, &s->requests[i]);
    while (s->acknowledged == before) ucp_worker_progress(s->worker);
}

static void call_get_put(side *s) {
    static const ucp_request_param_t plain = {0};
    size_t size = s->opt.size;
    for (size_t i = 0; i < s->opt.batch; i++) {
        size_t slot = i % s->opt.in_flight;
        finish(s, &s->requests[slot]);
        s->requests[slot] =
            s->opt.test == GET
                ? ucp_get_nbx(s->ep, s->local + slot * size, size, s->remote + slot * size, s->rkey, &plain)
                : ucp_put_nbx(s->ep, s->local + slot * size, size, s->remote + slot * size, s->rkey, &plain);
    }
    for (size_t i = 0; i < s->opt.in_flight; i++) finish(s, &s->requests[i]);
    if (s->opt.test == PUT) {
        void *flush = ucp_ep_flush_nbx(s->ep, &plain);
        finish(s, &flush);
    }
}

static void call_pointer(side *s) {
    size_t size = s->opt.size;
    for (size_t i = 0; i < s->opt.batch; i++) {
        size_t at = i % s->opt.in_flight * size;
        if (s->opt.test == GET_PTR)
            memcpy(s->local + at, s->remote_ptr + at, size);
        else
            memcpy(s->remote_ptr + at, s->local + at, size);
        __asm__ volatile("" ::: "memory"); /* each copy is made */
    }
}

/* --- Measuring --- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct {
    double median, p50, p99; /* microseconds an operation */
    uint64_t iterations;
    double ops_per_s;
} figures;

/* Calls until `seconds` are over, reading the clock every `calls` calls; returns how many samples. */
static size_t sample(side *s, void (*call)(side *), uint64_t calls, double seconds, double *samples) {
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9), t0 = now_ns(), t1;
    size_t n = 0;
    do {
        for (uint64_t i = 0; i < calls; i++) call(s);
        t1 = now_ns();
        samples[n++] = (double)(t1 - t0) / 1e3 / (double)(calls * s->opt.batch);
        t0 = t1;
    } while (t1 < end && n < MAX_SAMPLES);
    return n;
}

static figures measure(side *s, void (*call)(side *)) {
    double *samples = allocate(MAX_SAMPLES * sizeof *samples);
    /* Warm up, and learn how many calls make a block. */
    size_t n = sample(s, call, 1, s->opt.seconds / 5, samples);
    qsort(samples, n, sizeof *samples, by_value);
    double call_ns = samples[n / 2] * 1e3 * (double)s->opt.batch;
    uint64_t calls = call_ns >= BLOCK_NS ? 1 : (uint64_t)(BLOCK_NS / (call_ns + 1)) + 1;
    figures f = {0};
    /* The median is of blocks, so that reading the clock adds nothing to operations of some nanoseconds. */
    uint64_t t0 = now_ns();
    n = sample(s, call, calls, s->opt.seconds, samples);
    double elapsed_s = (double)(now_ns() - t0) / 1e9;
    f.iterations = n * calls * s->opt.batch;
    f.ops_per_s = (double)f.iterations / elapsed_s;
    qsort(samples, n, sizeof *samples, by_value);
    f.median = samples[n / 2];
    /* Percentiles are of single calls, the clock (about 20 ns) included. */
    n = sample(s, call, 1, s->opt.seconds / 4, samples);
    qsort(samples, n, sizeof *samples, by_value);
    f.p50 = samples[n / 2];
    f.p99 = samples[n * 99 / 100];
    free(samples);
    return f;
}

/* What was moved is what the other side has: a comparison is worth nothing otherwise. */
static void verify(side *s, size_t length) {
    if (s->opt.test == PUT || s->opt.test == PUT_PTR) {
        static const ucp_request_param_t plain = {0};
        char *back = allocate(length);
        void *request = ucp_get_nbx(s->ep, back, length, s->remote, s->rkey, &plain);
        finish(s, &request);
        if (memcmp(back, s->local, length) != 0) fail("the target does not hold the bytes that were put");
        free(back);
    } else if (s->opt.test == GET || s->opt.test == GET_PTR) {
        /* Both sides fill their region with the same pattern. */
        if (memcmp(s->local, s->region, length) != 0) fail("the bytes read are not the target's");
    }
}

static void print(const side *s, const figures *f) {
    const char *tls = getenv("UCX_TLS");
    printf("{\"name\":\"%s\",\"transport\":\"%s\",\"ucx\":\"%s\",\"size\":%zu,\"in_flight\":%zu,\"memory\":\"%s\","
           "\"errors\":\"%s\",\"iterations\":%lu,\"median_us\":%.5f,\"p50_us\":%.5f,\"p99_us\":%.5f,"
           "\"gb_per_s\":%.5f,\"ops_per_s\":%.0f",
           test_names[s->opt.test], tls ? tls : "all", ucp_get_version_string(), s->opt.size, s->opt.in_flight,
           s->opt.ucx_memory ? "ucx" : "malloc", s->opt.peer_errors ? "peer" : "none", f->iterations, f->median,
           f->p50, f->p99, (double)s->opt.size / f->median / 1e3, f->ops_per_s);
    if (s->opt.test == AM_LAT) printf(",\"half_round_trip_us\":%.5f", f->median / 2);
    puts("}");
}

/* --- The two sides --- */

static void run_target(side *s) {
    uint64_t answered = 0;
    while (!s->stopped) {
        ucp_worker_progress(s->worker);
        if (s->opt.test == AM_LAT && s->received > answered) {
            answered++;
            finish(s, &s->requests[0]);
            s->requests[0] = message(s, AM_DATA, s->opt.size);
        } else if (s->opt.test == AM_BW && s->received >= answered + s->opt.batch) {
            answered += s->opt.batch;
            finish(s, &s->requests[0]);
            s->requests[0] = message(s, AM_ACK, 0);
        }
    }
    finish(s, &s->requests[0]);
    send_all(s->socket, "", 1);
    while (progress_until_told(s) != 0) continue;
}

static void run_initiator(side *s, size_t length) {
    static void (*const calls[TESTS])(side *) = {call_am_lat,  call_am_bw,   call_get_put,
                                                 call_get_put, call_pointer, call_pointer};
    if (s->opt.test == GET_PTR || s->opt.test == PUT_PTR)
        check(ucp_rkey_ptr(s->rkey, s->remote, (void **)&s->remote_ptr), "ucp_rkey_ptr");
    if (s->opt.test != GET && s->opt.test != GET_PTR) memset(s->local, 0x5a, length);
    figures f = measure(s, calls[s->opt.test]);
    verify(s, length);
    void *stop = message(s, AM_STOP, 0);
    if (progress_until_told(s) != 1) fail("the target has ended");
    finish(s, &stop);
    print(s, &f);
}

static void run(options opt, int socket) {
    side *s = allocate(sizeof *s);
    s->opt = opt;
    s->socket = socket;
    size_t slots = opt.test == AM_LAT || opt.test == AM_BW ? 1 : opt.in_flight;
    s->local = allocate(opt.size * slots);
    open_ucx(s);
    map_region(s, opt.size * slots);
    connect_sides(s);
    if (opt.target_socket >= 0)
        run_target(s);
    else
        run_initiator(s, opt.size * slots);
    ucp_rkey_destroy(s->rkey);
    if (opt.target_socket < 0) {
        ucp_request_param_t close_param = {0};
        void *closing = ucp_ep_close_nbx(s->ep, &close_param);
        finish(s, &closing);
    }
    check(ucp_mem_unmap(s->context, s->region_handle), "ucp_mem_unmap");
    ucp_worker_destroy(s->worker);
    ucp_cleanup(s->context);
    close(socket);
}

static size_t number(const char *text, size_t max, const char *what) {
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno != 0 || *end != 0 || n == 0 || n > max) fail("%s must be 1 to %zu, not %s", what, max, text);
    return (size_t)n;
}

/* Operations of one call: long enough that filling and draining the window does not count, short enough that an
 * interrupted call is an outlier among many. */
static size_t batch_of(const options *o) {
    if (o->in_flight == 1 && o->test != AM_BW) return 1;
    size_t batch = BATCH_BYTES / o->size;
    if (batch > BATCH) batch = BATCH;
    return batch > o->in_flight ? batch : o->in_flight;
}

static options parse(int argc, char **argv) {
    static const struct option known[] = {
        {"size", 1, 0, 's'},   {"in-flight", 1, 0, 'w'}, {"memory", 1, 0, 'm'},
        {"errors", 1, 0, 'e'}, {"ms", 1, 0, 't'},        {"target-socket", 1, 0, 'T'}, {0}};
    options o = {.test = TESTS, .size = 8, .in_flight = 1, .seconds = 1, .target_socket = -1};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) switch (c) {
        case 's': o.size = number(optarg, MAX_SIZE, "--size"); break;
        case 'w': o.in_flight = number(optarg, MAX_IN_FLIGHT, "--in-flight"); break;
        case 'm': o.ucx_memory = strcmp(optarg, "ucx") == 0; break;
        case 'e': o.peer_errors = strcmp(optarg, "peer") == 0; break;
        case 't': o.seconds = (double)number(optarg, 60000, "--ms") / 1e3; break;
        case 'T': o.target_socket = (int)number(optarg, 1 << 20, "--target-socket"); break;
        default: exit(2);
        }
    for (int t = 0; optind < argc && t < TESTS; t++)
        if (strcmp(argv[optind], test_names[t]) == 0) o.test = t;
    if (o.test == TESTS)
        fail("usage: ucx_raw am_lat|am_bw|get|put|get_ptr|put_ptr [--size BYTES] [--in-flight N] [--ms MILLISECONDS]\n"
             "         [--memory malloc|ucx] [--errors none|peer]");
    o.batch = batch_of(&o);
    return o;
}

int main(int argc, char **argv) {
    options opt = parse(argc, argv);
    int socket = opt.target_socket >= 0 ? opt.target_socket : start_target(argc, argv);
    alarm(DEADLINE_S);
    pin(opt.target_socket >= 0 ? 1 : 0);
    run(opt, socket);
    return 0;
}
