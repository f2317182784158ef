/*
 * A file through one-sided gets and puts, between two processes:
 *
 *     ./transfer serve FILE | ./transfer fetch
 *
 * `serve` reads FILE into registered memory, exports it and as much empty memory, and writes a ticket (address, keys,
 * size, SHA-256) to the pipe. `fetch` reads the file by gets, checks it, writes it into the empty memory by puts, has
 * the server check that, and times small gets; once over the best transport there is, once over TCP.
 */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <rdma_engine.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sha256.h"

#define CHUNK (4ull << 20)  /* bytes of one get or put */
#define WINDOW 16           /* of them in flight */
#define SMALL_GETS 20000    /* timed one by one */
#define WARM_UP 200
#define PATIENCE_NS 60000000000ll /* without anything happening */

/* What the client needs to know. The keys are capabilities: this goes through a pipe, where nobody else reads. */
typedef struct ticket {
    char address[RDE_ADDRESS_MAX + 1];
    uint64_t size;
    rde_key source; /* readable */
    rde_key target; /* writable */
    unsigned char sum[SHA256_BYTES];
} ticket;

static rde_error error;

/* Every call answers a status; control calls say more in `error`. */
#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        rde_status status_ = (call);                                                                                   \
        if (status_ < 0)                                                                                               \
            fail(#call, error.status == status_ ? error.message : rde_status_message(status_));                        \
    } while (0)

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "transfer: %s: %s\n", what, why);
    exit(1);
}

static void check(bool good, const char *what)
{
    if (!good)
        fail(what, "failed");
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* A bar on a terminal, nothing in a pipe or a log. */
static void progress(const char *what, uint64_t done, uint64_t all)
{
    static int last = -1;
    int percent = (int)(done * 100 / all);
    if (!isatty(STDERR_FILENO) || percent == last)
        return;
    last = percent;
    fprintf(stderr, "\r%-10s [%-25.*s] %3d %%%s", what, percent / 4, "=========================", percent,
            done == all ? "\r\033[K" : "");
}

/* Hashes in pieces that stay in the cache, and shows how far it is. */
static void hash(const char *what, const unsigned char *data, uint64_t size, unsigned char out[SHA256_BYTES])
{
    sha256 sum;
    sha256_start(&sum);
    for (uint64_t at = 0; at < size; at += CHUNK) {
        sha256_add(&sum, data + at, size - at < CHUNK ? size - at : CHUNK);
        progress(what, at, size);
    }
    sha256_finish(&sum, out);
    progress(what, size, size);
}

/* The next completion, of any kind. */
static rde_completion next(rde_worker worker)
{
    rde_completion done;
    uint32_t count = 0;
    TRY(rde_worker_poll(worker, PATIENCE_NS, &done, 1, &count));
    check(count == 1, "waiting for the other process");
    return done;
}

/* The completion of this operation; it must have gone well. */
static rde_completion expect(rde_worker worker, uint32_t op)
{
    rde_completion done;
    do {
        done = next(worker);
        TRY(done.status);
        check(done.op != RDE_OP_SESSION_CLOSED, "the session");
    } while (done.op != op);
    return done;
}

static void open_context(uint32_t transports, uint64_t memory, rde_context *context)
{
    rde_context_options options = RDE_CONTEXT_OPTIONS_INIT;
    options.transports = transports;
    options.memory_limit_bytes = memory + (64ull << 20); /* and some for the library's messages */
    TRY(rde_context_open(&options, context, &error));
}

/* ---- serve ---- */

/* Reads the file straight into a new exportable buffer. */
static unsigned char *load(int file, rde_context context, uint64_t size, rde_buffer *buffer)
{
    void *data;
    TRY(rde_buffer_alloc(context, size, RDE_BUFFER_EXPORTABLE, buffer, &data, &error));
    for (uint64_t have = 0; have < size;) {
        ssize_t got = read(file, (unsigned char *)data + have, size - have < CHUNK ? size - have : CHUNK);
        check(got > 0, "reading the file");
        have += (uint64_t)got;
        progress("loading", have, size);
    }
    return data;
}

/* Answers `y` or `n` to whoever asks whether the target holds the source's bytes, until two sessions have ended. */
static void answer(rde_worker worker, unsigned char *target, const ticket *given)
{
    for (int ended = 0; ended < 2;) {
        rde_completion event = next(worker);
        TRY(event.status);
        if (event.op == RDE_OP_SESSION_CLOSED) {
            ended++;
        } else if (event.op == RDE_OP_MESSAGE) {
            unsigned char sum[SHA256_BYTES];
            hash("checking", target, given->size, sum);
            bool same = memcmp(sum, given->sum, sizeof sum) == 0;
            memset(target, 0, given->size); /* the next run starts from nothing */
            rde_session session = {event.value}; /* a short message names its session here */
            TRY(rde_send(session, (rde_bytes){same ? "y" : "n", 1}, (rde_buffer){0}, 0, 0, 0));
        }
    }
}

static void serve(const char *path)
{
    ticket out = {.size = 0};
    struct stat about;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &about) < 0)
        fail("opening", path);
    check(S_ISREG(about.st_mode) && about.st_size > 0, "finding a file that is not empty");
    out.size = (uint64_t)about.st_size;

    rde_context context;
    rde_worker worker;
    rde_listener listener;
    rde_buffer source, target;
    void *back;
    size_t address_len;
    open_context(0, 2 * out.size, &context);
    TRY(rde_worker_open(context, NULL, &worker, &error));
    TRY(rde_listener_open(worker, (rde_bytes){"tcp://127.0.0.1:0", 17}, 0, &listener, &error));
    TRY(rde_listener_address(listener, out.address, sizeof out.address, &address_len));

    unsigned char *data = load(file, context, out.size, &source);
    close(file);
    hash("hashing", data, out.size, out.sum);
    TRY(rde_buffer_export(source, 0, out.size, RDE_RIGHT_READ, &out.source, &error));
    TRY(rde_buffer_alloc(context, out.size, RDE_BUFFER_EXPORTABLE, &target, &back, &error));
    TRY(rde_buffer_export(target, 0, out.size, RDE_RIGHT_READ | RDE_RIGHT_WRITE, &out.target, &error));

    check(fwrite(&out, sizeof out, 1, stdout) == 1 && fclose(stdout) == 0, "handing out the ticket");
    answer(worker, back, &out);
    TRY(rde_worker_close(worker));
    TRY(rde_context_close(context));
}

/* ---- fetch ---- */

typedef struct client {
    rde_worker worker;
    rde_session session;
    rde_region source, target;
    rde_buffer buffer;
    unsigned char *data;
    uint64_t size;
} client;

/* Moves the whole file, WINDOW chunks at a time; returns the seconds. */
static double move(const client *c, uint32_t op)
{
    double start = seconds();
    uint64_t asked = 0, done = 0;
    for (int in_flight = 0; done < c->size;) {
        for (; in_flight < WINDOW && asked < c->size; in_flight++) {
            uint64_t length = c->size - asked < CHUNK ? c->size - asked : CHUNK;
            if (op == RDE_OP_GET)
                TRY(rde_get(c->session, c->buffer, asked, c->source, asked, length, 0));
            else
                TRY(rde_put(c->session, c->buffer, asked, c->target, asked, length, 0));
            asked += length;
        }
        rde_completion batch[WINDOW];
        uint32_t count = 0;
        TRY(rde_worker_poll(c->worker, PATIENCE_NS, batch, WINDOW, &count));
        check(count > 0, "waiting for the other process");
        for (uint32_t i = 0; i < count; i++) {
            TRY(batch[i].status);
            check(batch[i].op == op, "the session");
            done += batch[i].length;
            in_flight--;
        }
        progress(op == RDE_OP_GET ? "getting" : "putting", done, c->size);
    }
    if (op == RDE_OP_PUT) { /* a put's completion frees the buffer; the flush's says that the peer sees the bytes */
        TRY(rde_flush(c->session, 0));
        expect(c->worker, RDE_OP_FLUSH);
    }
    return seconds() - start;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Times gets of `length` bytes, one after the other; microseconds that half of them, and 99 of 100, do not exceed. */
static void time_gets(const client *c, uint64_t length, double *p50, double *p99)
{
    static double took[SMALL_GETS];
    if (length > c->size)
        length = c->size;
    for (int i = -WARM_UP; i < SMALL_GETS; i++) {
        double start = seconds();
        TRY(rde_get(c->session, c->buffer, 0, c->source, 0, length, 0));
        expect(c->worker, RDE_OP_GET);
        if (i >= 0)
            took[i] = (seconds() - start) * 1e6;
    }
    qsort(took, SMALL_GETS, sizeof took[0], by_value);
    *p50 = took[SMALL_GETS / 2];
    *p99 = took[SMALL_GETS * 99 / 100];
}

static void connect_to(const ticket *in, client *c)
{
    TRY(rde_session_connect(c->worker, (rde_bytes){in->address, strlen(in->address)}, 0, &c->session, &error));
    expect(c->worker, RDE_OP_SESSION_CONNECT);
    TRY(rde_region_import(c->session, &in->source, 0));
    c->source.id = expect(c->worker, RDE_OP_REGION_IMPORT).value;
    TRY(rde_region_import(c->session, &in->target, 0));
    c->target.id = expect(c->worker, RDE_OP_REGION_IMPORT).value;
}

/* One row of the table. */
static void run(const ticket *in, uint32_t transports)
{
    client c = {.size = in->size};
    rde_context context;
    rde_worker_options options = RDE_WORKER_OPTIONS_INIT;
    void *data;
    open_context(transports, in->size, &context);
    options.flags = RDE_WORKER_POLLED; /* progress in this thread: the lowest latency */
    TRY(rde_worker_open(context, &options, &c.worker, &error));
    TRY(rde_buffer_alloc(context, in->size, 0, &c.buffer, &data, &error));
    c.data = data;
    connect_to(in, &c);

    unsigned char sum[SHA256_BYTES];
    double got = move(&c, RDE_OP_GET);
    hash("checking", c.data, c.size, sum);
    check(memcmp(sum, in->sum, sizeof sum) == 0, "comparing what was read with the file");
    double put = move(&c, RDE_OP_PUT);
    TRY(rde_send(c.session, (rde_bytes){"?", 1}, (rde_buffer){0}, 0, 0, 0));
    rde_completion verdict = expect(c.worker, RDE_OP_MESSAGE);
    check(verdict.length == 1 && verdict.data[0] == 'y', "comparing what was written with the file");

    double p50[2], p99[2];
    time_gets(&c, 8, &p50[0], &p99[0]);
    time_gets(&c, 4096, &p50[1], &p99[1]);
    rde_session_details about = RDE_SESSION_DETAILS_INIT;
    TRY(rde_session_info(c.session, &about, &error));
    double gigabytes = (double)c.size / 1e9;
    printf("%-22.22s %12llu %9.3f %6.2f %9.3f %6.2f %8.2f %8.2f %8.2f %8.2f  same\n",
           about.flags & RDE_SESSION_LOCAL ? "shared memory" : about.transport, (unsigned long long)c.size, got,
           gigabytes / got, put, gigabytes / put, p50[0], p99[0], p50[1], p99[1]);
    fflush(stdout);

    TRY(rde_session_close(c.session, 0));
    while (next(c.worker).op != RDE_OP_SESSION_CLOSED)
        continue;
    TRY(rde_worker_close(c.worker));
    TRY(rde_context_close(context));
}

static void fetch(void)
{
    ticket in;
    check(fread(&in, sizeof in, 1, stdin) == 1, "reading the ticket of `transfer serve`");
    in.address[RDE_ADDRESS_MAX] = '\0';
    printf("%-22s %12s %16s %16s %17s %17s  %s\n", "", "", "read by gets", "written by puts", "8 B get, us",
           "4 KiB get, us", "SHA-256");
    printf("%-22s %12s %9s %6s %9s %6s %8s %8s %8s %8s  %s\n", "transport", "bytes", "s", "GB/s", "s", "GB/s", "p50",
           "p99", "p50", "p99", "both ways");
    run(&in, 0); /* whatever is best */
    run(&in, RDE_TRANSPORT_TCP);
}

int main(int argc, char **argv)
{
    check(sha256_self_test(), "the self-test of SHA-256");
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        serve(argv[2]);
    else if (argc == 2 && strcmp(argv[1], "fetch") == 0)
        fetch();
    else
        fail("usage", "transfer serve FILE | transfer fetch");
    return 0;
}
