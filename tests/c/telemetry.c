/* Telemetry: counters and histograms count what happened, and the text says the same. */
#include "peer.h"

static uint64_t counted(const rde_histogram *histogram) {
    uint64_t sum = 0;
    for (int i = 0; i < RDE_HISTOGRAM_BUCKETS; i++) sum += histogram->buckets[i];
    return sum;
}

int main(void) {
    enum { GETS = 50 };
    static struct pair pair;
    rde_stats worker = RDE_STATS_INIT, session = RDE_STATS_INIT, context = RDE_STATS_INIT;
    rde_buffer remote, local;
    rde_region region;
    rde_key key;
    rde_completion done;
    rde_error error;
    void *there;
    size_t length = 0, again = 0;
    if (!pair_open(&pair, "unix", 0, 0) || !pair_region(&pair, 4096, RDE_RIGHT_READ, &remote, &there, &key, &region) ||
        !CHECK_OK(error, rde_buffer_alloc(pair.client.context, 4096, 0, &local, NULL, &error)))
        return check_end();
    for (uint64_t i = 0; i < GETS; i++) {
        CHECK_STATUS(OK, rde_get(pair.at_client, local, 0, region, 0, 4096, i));
        await_ok(&pair.client, &pair.server, RDE_OP_GET, i, &done);
    }
    CHECK_STATUS(OK, rde_session_stats(pair.at_client, &session));
    CHECK_STATUS(OK, rde_worker_stats(pair.client.worker, &worker));
    CHECK_STATUS(OK, rde_context_stats(pair.client.context, &context));
    CHECK(session.counters.gets == GETS && session.counters.get_bytes == GETS * 4096);
    CHECK(worker.counters.gets == GETS && context.counters.gets == GETS);
    CHECK(worker.counters.submitted == GETS + 1 && worker.counters.completed == GETS + 1 && worker.counters.failed == 0);
    CHECK(session.counters.way_operations[0] + session.counters.way_operations[1] + session.counters.way_operations[2] == GETS);
    CHECK(counted(&worker.get) >= 1 && counted(&worker.get) <= GETS && worker.get.sum_ns >= worker.get.max_ns);
    CHECK(context.counters.connects == 1);
    shown("counters and histograms hold exactly what was done");

    CHECK_STATUS(TRUNCATED, rde_context_metrics(pair.client.context, NULL, 0, &length));
    char *metrics = malloc(length + 4096);
    if (CHECK(metrics) && CHECK_STATUS(OK, rde_context_metrics(pair.client.context, metrics, length + 4096, &again))) {
        CHECK(strlen(metrics) == again && strstr(metrics, "# TYPE rde_operations_total counter\n"));
        CHECK(strstr(metrics, "op=\"get\"} 50\n"));
    }
    free(metrics);
    shown("the Prometheus text says the same");

    CHECK_STATUS(OK, rde_region_release(region));
    CHECK_STATUS(OK, rde_buffer_release(local));
    CHECK_STATUS(OK, rde_buffer_release(remote));
    pair_close(&pair);
    return check_end();
}
