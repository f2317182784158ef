/* The key-value store: bad input of every kind, batches, reads in flight, paging both ways, archives, branches, reopening. */
#include "check.h"
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

static rde_kv open_store(const char *lines) {
    rde_kv kv = {0};
    rde_error error;
    rde_kv_options options = RDE_KV_OPTIONS_INIT;
    options.lines = text(lines);
    /* Valgrind's threads wait for one that is in io_uring_enter. */
    const char *runner = getenv("RUNNER");
    if (runner && strstr(runner, "valgrind")) options.flags = RDE_KV_NO_URING;
    CHECK_OK(error, rde_kv_open(&options, &kv, &error));
    return kv;
}

static uint32_t partition_of(rde_kv kv, const char *table, uint32_t number) {
    uint32_t partition = 0;
    rde_error error;
    CHECK_OK(error, rde_kv_partition(kv, text(table), number, &partition, &error));
    CHECK(partition != 0);
    return partition;
}

static rde_status call(rde_kv kv, rde_kv_request request, rde_completion *done) {
    return rde_kv_call(kv, &request, done, NULL);
}

/* Writes COUNT entries "keyNNNNN" = "value of N". */
static void fill(rde_kv kv, uint32_t partition, int count) {
    rde_kv_change *changes = calloc((size_t)count, sizeof *changes);
    char(*keys)[16] = calloc((size_t)count, sizeof *keys), (*values)[32] = calloc((size_t)count, sizeof *values);
    rde_completion done;
    rde_error error;
    for (int i = 0; i < count; i++) {
        snprintf(keys[i], sizeof keys[i], "key%05d", i);
        snprintf(values[i], sizeof values[i], "value of %d", i);
        changes[i] = (rde_kv_change){.key = text(keys[i]), .value = text(values[i]), .timestamp = 5};
    }
    rde_kv_request request = {
        .partition = partition, .op = RDE_KV_OP_WRITE, .changes = changes, .change_count = (uint64_t)count};
    CHECK_OK(error, rde_kv_call(kv, &request, &done, &error));
    CHECK(done.value == (uint64_t)count);
    free(changes);
    free(keys);
    free(values);
}

static void bad_input(void) {
    rde_kv kv = open_store(""), none = {0};
    uint32_t partition = partition_of(kv, "t", 0), out = 77, accepted = 77;
    rde_completion done = {.user_data = 77};
    char room[64];
    size_t len;
    rde_kv_options options = RDE_KV_OPTIONS_INIT;
    CHECK_STATUS(INVALID_ARGUMENT, rde_kv_open(&options, NULL, NULL));
    options.lines = text("data_page_size=1\n");
    CHECK_STATUS(INVALID_ARGUMENT, rde_kv_open(&options, &none, NULL));
    options.lines = text("");
    options.file = text("/nowhere/at/all");
    CHECK_STATUS(IO, rde_kv_open(&options, &none, NULL));
    options = (rde_kv_options)RDE_KV_OPTIONS_INIT;
    options.flags = 1u << 31;
    CHECK_STATUS(INVALID_ARGUMENT, rde_kv_open(&options, &none, NULL));
    options.flags = 0;
    options.log_bytes = 1000;
    CHECK_STATUS(INVALID_ARGUMENT, rde_kv_open(&options, &none, NULL));
    options.struct_size = 3;
    CHECK_STATUS(ABI_MISMATCH, rde_kv_open(&options, &none, NULL));
    CHECK(none.id == 0);
    CHECK_STATUS(INVALID_ARGUMENT, rde_kv_partition(kv, text("a/b"), 0, &out, NULL));
    CHECK_STATUS(INVALID_ARGUMENT, rde_kv_partition(kv, text(""), 0, &out, NULL));
    CHECK_STATUS(STALE_HANDLE, rde_kv_partition(none, text("t"), 0, &out, NULL));
    CHECK(out == 77);

    rde_kv_request read = {.partition = partition, .op = RDE_KV_OP_READ, .key = text("k"), .memory = room, .length = 64};
    rde_kv_request bad[] = {read, read, read, read, read, read, read, read, read, read, read};
    bad[0].op = 1;
    bad[1].flags = RDE_KV_SORT;
    bad[2].memory = NULL;
    bad[3].buffer = (rde_buffer){5};
    bad[4].reserved[2] = 1;
    bad[5].key = (rde_bytes){NULL, 3};
    bad[6].change_count = 1;
    bad[7].op = RDE_KV_OP_COMPACT;
    bad[8].length = UINT64_MAX;
    bad[9].op = RDE_KV_OP_WRITE, bad[9].memory = NULL, bad[9].length = 0, bad[9].change_count = 1;
    bad[10].key.len = 1 << 20;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_STATUS(INVALID_ARGUMENT, call(kv, bad[i], &done));
        CHECK_STATUS(INVALID_ARGUMENT, rde_kv_submit(kv, &bad[i], 1, &accepted, NULL));
        CHECK(accepted == 0);
    }
    read.partition = 0;
    CHECK_STATUS(STALE_HANDLE, call(kv, read, &done));
    read.partition = 1 << 30;
    CHECK_STATUS(STALE_HANDLE, call(kv, read, &done));
    read.partition = partition, read.memory = NULL, read.buffer = (rde_buffer){1};
    CHECK_STATUS(STALE_HANDLE, call(kv, read, &done));
    CHECK_STATUS(INVALID_ARGUMENT, rde_kv_call(kv, NULL, &done, NULL));
    CHECK_STATUS(INVALID_ARGUMENT, rde_kv_submit(kv, NULL, 1, &accepted, NULL));
    CHECK_STATUS(INVALID_ARGUMENT, rde_kv_poll(kv, 0, NULL, 1, &accepted));
    CHECK_STATUS(TRUNCATED, (fill(kv, partition, 1), rde_kv_names(kv, 0, room, 2, &len, NULL)));
    CHECK(len == 4 && done.user_data == 77);

    /* Keys that do not ascend, empty ones, and actions that are none. */
    rde_kv_change changes[2] = {{.key = text("b"), .value = text("1")}, {.key = text("a"), .value = text("2")}};
    rde_kv_request write = {.partition = partition, .op = RDE_KV_OP_WRITE, .changes = changes, .change_count = 2};
    CHECK_STATUS(INVALID_ARGUMENT, call(kv, write, &done));
    write.flags = RDE_KV_SORT;
    CHECK_STATUS(OK, call(kv, write, &done));
    CHECK(done.value == 2);
    changes[0].key.len = 0;
    CHECK_STATUS(INVALID_ARGUMENT, call(kv, write, &done));
    changes[0].key.len = 1, changes[0].action = 9;
    CHECK_STATUS(INVALID_ARGUMENT, call(kv, write, &done));
    changes[0].action = RDE_KV_ACTION_DELETE;
    CHECK_STATUS(INVALID_ARGUMENT, call(kv, write, &done));
    changes[0].value.len = 0;
    CHECK_STATUS(OK, call(kv, write, &done));
    CHECK_STATUS(OK, rde_kv_close(kv));
    CHECK_STATUS(STALE_HANDLE, rde_kv_close(kv));
    CHECK_STATUS(STALE_HANDLE, call(kv, write, &done));
    shown("bad input is refused, and nothing is touched");
}

static void reads_and_pages(const char *lines) {
    rde_kv kv = open_store(lines);
    uint32_t partition = partition_of(kv, "t", 3);
    rde_completion done;
    uint64_t expire_ms;
    char value[64];
    fill(kv, partition, 3000);
    rde_kv_request read = {
        .user_data = 9, .partition = partition, .op = RDE_KV_OP_READ, .key = text("key00042"), .memory = value, .length = 64};
    CHECK_STATUS(OK, call(kv, read, &done));
    CHECK(done.user_data == 9 && done.op == RDE_KV_OP_READ && done.value == 5 && done.length == 11);
    CHECK(memcmp(value, "value of 42", 11) == 0);
    memcpy(&expire_ms, done.data, 8);
    CHECK(expire_ms == 0);
    read.length = 10;
    CHECK_STATUS(TRUNCATED, call(kv, read, &done));
    CHECK(done.length == 11);
    read.key = text("none");
    CHECK_STATUS(NOT_FOUND, call(kv, read, &done));

    /* Floor: the entry with its key. */
    _Alignas(8) char room[1000];
    rde_kv_entry entry;
    rde_kv_request floor = {
        .partition = partition, .op = RDE_KV_OP_FLOOR, .key = text("key00042x"), .memory = room, .length = sizeof room};
    CHECK_STATUS(OK, call(kv, floor, &done));
    memcpy(&entry, room, sizeof entry);
    CHECK(entry.key_len == 8 && memcmp(room + sizeof entry, "key00042value of 42", 19) == 0);

    for (int backward = 0; backward < 2; backward++) {
        char last[16] = "";
        int seen = 0, right = 1, pages = 0;
        for (;;) {
            rde_kv_request scan = {.partition = partition, .op = RDE_KV_OP_SCAN, .memory = room, .length = sizeof room};
            if (backward) scan.flags |= RDE_KV_BACKWARD, scan.end = text(last);
            else if (*last) scan.flags |= RDE_KV_AFTER_KEY, scan.key = text(last);
            if (!CHECK_STATUS(OK, call(kv, scan, &done))) break;
            uint64_t at = 0;
            for (uint64_t i = 0; i < done.value; i++, seen++) {
                char wanted[48];
                memcpy(&entry, room + at, sizeof entry);
                int number = backward ? 2999 - seen : seen;
                int len = snprintf(wanted, sizeof wanted, "key%05dvalue of %d", number, number);
                right &= entry.key_len + entry.value_len == (uint64_t)len;
                right &= memcmp(room + at + sizeof entry, wanted, (size_t)len) == 0;
                memcpy(last, wanted, 8);
                at += entry.next;
            }
            pages++;
            CHECK(at == done.length);
            if (!(done.flags & RDE_COMPLETION_MORE)) break;
        }
        CHECK(right && seen == 3000 && pages > 100);
    }
    rde_kv_request tiny = {.partition = partition, .op = RDE_KV_OP_SCAN, .memory = room, .length = 8};
    CHECK_STATUS(TRUNCATED, call(kv, tiny, &done));
    CHECK(done.length > 40);
    CHECK_STATUS(OK, rde_kv_close(kv));
    shown("values, floors and pages of a scan, both ways");
}

static void in_flight(const char *lines) {
    rde_kv kv = open_store(lines);
    uint32_t partition = partition_of(kv, "t", 3), absent = partition_of(kv, "absent", 1), count;
    rde_kv_details details = RDE_KV_DETAILS_INIT;
    static char rooms[256][32];
    rde_completion done[16];
    rde_error error;
    int fd = -1, polled = 0, right = 1, not_found = 0;
    CHECK_OK(error, rde_kv_event_fd(kv, &fd, &error));
    rde_kv_request requests[256];
    char keys[256][16];
    for (int i = 0; i < 256; i++) {
        snprintf(keys[i], sizeof keys[i], "key%05d", i * 11);
        requests[i] = (rde_kv_request){.user_data = (uint64_t)i, .partition = i % 16 ? partition : absent,
                                       .op = RDE_KV_OP_READ, .key = text(keys[i]), .memory = rooms[i], .length = 32};
    }
    uint32_t accepted = 0;
    CHECK_OK(error, rde_kv_submit(kv, requests, 256, &accepted, &error));
    CHECK(accepted == 256);
    while (polled < 256) {
        CHECK_STATUS(OK, rde_kv_poll(kv, 0, done, 16, &count));
        for (uint32_t i = 0; i < count; i++, polled++) {
            uint64_t n = done[i].user_data;
            char wanted[32];
            int len = snprintf(wanted, sizeof wanted, "value of %d", (int)n * 11);
            if (n % 16 == 0) not_found += done[i].status == RDE_STATUS_NOT_FOUND;
            else right &= done[i].status == RDE_STATUS_OK && done[i].length == (uint64_t)len && memcmp(rooms[n], wanted, (size_t)len) == 0;
        }
        /* Drained: arm, sleep, read. */
        if (count == 0 && polled < 256 && rde_kv_arm(kv) == RDE_STATUS_OK) {
            struct pollfd ready = {.fd = fd, .events = POLLIN};
            CHECK(poll(&ready, 1, 60000) == 1);
            uint64_t word;
            CHECK(read(fd, &word, 8) == 8);
        }
    }
    CHECK(right && not_found == 16);
    CHECK_OK(error, rde_kv_info(kv, &details, &error));
    CHECK(details.completed >= 256);
    CHECK_STATUS(OK, rde_kv_poll(kv, 1000, done, 16, &count));
    CHECK(count == 0);
    CHECK_STATUS(OK, rde_kv_close(kv));
    CHECK_STATUS(STALE_HANDLE, rde_kv_poll(kv, 0, done, 16, &count));
    close(fd);
    shown("requests in flight end in one completion each");
}

static void upkeep(const char *lines) {
    rde_kv kv = open_store(lines);
    uint32_t partition = partition_of(kv, "t", 3), archive;
    rde_completion done;
    rde_error error;
    char names[256], value[64];
    size_t len;
    uint64_t dropped;
    rde_kv_request keep = {.partition = partition, .op = RDE_KV_OP_ARCHIVE_CREATE, .key = text("kept")};
    CHECK_STATUS(OK, call(kv, keep, &done));
    CHECK_STATUS(ALREADY_EXISTS, call(kv, keep, &done));
    rde_kv_request cut = {.partition = partition, .op = RDE_KV_OP_TRUNCATE, .key = text("key00010")};
    CHECK_STATUS(OK, call(kv, cut, &done));
    CHECK(done.value == 2990);
    CHECK_OK(error, rde_kv_archive(kv, text("t"), 3, text("kept"), &archive, &error));
    rde_kv_request read = {.partition = partition, .op = RDE_KV_OP_READ, .key = text("key02000"), .memory = value, .length = 64};
    CHECK_STATUS(NOT_FOUND, call(kv, read, &done));
    read.partition = archive;
    CHECK_STATUS(OK, call(kv, read, &done));
    CHECK_OK(error, rde_kv_names(kv, partition, names, sizeof names, &len, &error));
    CHECK(strcmp(names, "kept\n") == 0);
    CHECK_OK(error, rde_kv_names(kv, 0, names, sizeof names, &len, &error));
    CHECK(strcmp(names, "t.3\n") == 0);
    static const uint16_t ops[] = {RDE_KV_OP_COMPACT, RDE_KV_OP_COLLECT, RDE_KV_OP_CLEAN, RDE_KV_OP_REOPEN};
    for (unsigned i = 0; i < 4; i++) {
        CHECK_STATUS(OK, call(kv, (rde_kv_request){.partition = partition, .op = ops[i]}, &done));
    }
    keep.op = RDE_KV_OP_ARCHIVE_DELETE;
    CHECK_STATUS(OK, call(kv, keep, &done));
    CHECK_OK(error, rde_kv_drop_table(kv, text("t"), &dropped, &error));
    CHECK(dropped == 1);
    CHECK_OK(error, rde_kv_names(kv, 0, names, sizeof names, &len, &error));
    CHECK(len == 0);
    CHECK_STATUS(OK, rde_kv_close(kv));
    shown("truncate, archives, compaction, dropping");
}

/* A branch goes its own way from where it began, and its name is free again once it is deleted. */
static void branches(const char *lines) {
    rde_kv kv = open_store(lines);
    uint32_t partition = partition_of(kv, "b", 1), branch = 0, same;
    rde_completion done;
    rde_error error;
    char names[256], value[64];
    size_t len;
    CHECK_STATUS(INVALID_ARGUMENT, rde_kv_branch(kv, text("b"), 1, text("a_b"), &branch, NULL));
    CHECK_STATUS(INVALID_ARGUMENT, rde_kv_branch(kv, text("b"), 1, text(""), &branch, NULL));
    CHECK_STATUS(INVALID_ARGUMENT, rde_kv_branch(kv, text("b"), 1, text("dev"), NULL, NULL));
    CHECK(branch == 0);
    CHECK_OK(error, rde_kv_branch(kv, text("b"), 1, text("Dev"), &branch, &error));
    CHECK_OK(error, rde_kv_branch(kv, text("b"), 1, text("main"), &same, &error));
    CHECK(branch != 0 && same == partition);
    rde_kv_request read = {.partition = branch, .op = RDE_KV_OP_READ, .key = text("key00001"), .memory = value, .length = 64};
    rde_kv_request make = {.partition = partition, .op = RDE_KV_OP_BRANCH_CREATE, .key = text("Dev")};
    CHECK_STATUS(NOT_FOUND, call(kv, read, &done));
    CHECK_STATUS(NOT_FOUND, call(kv, make, &done));
    fill(kv, partition, 10);
    CHECK_STATUS(NOT_FOUND, rde_kv_branches(kv, branch, names, sizeof names, &len, NULL));
    CHECK_STATUS(STALE_HANDLE, rde_kv_branches(kv, 0, names, sizeof names, &len, NULL));
    CHECK_STATUS(OK, call(kv, make, &done));
    CHECK(done.value == 1);
    CHECK_STATUS(ALREADY_EXISTS, call(kv, make, &done));
    make.memory = value, make.length = 64;
    CHECK_STATUS(INVALID_ARGUMENT, call(kv, make, &done));
    rde_kv_change change = {.key = text("key00001"), .value = text("the branch's"), .timestamp = 9};
    rde_kv_request write = {.partition = branch, .op = RDE_KV_OP_WRITE, .changes = &change, .change_count = 1};
    CHECK_STATUS(OK, call(kv, write, &done));
    CHECK_STATUS(OK, call(kv, read, &done));
    CHECK(done.length == 12 && memcmp(value, "the branch's", 12) == 0);
    read.partition = partition;
    CHECK_STATUS(OK, call(kv, read, &done));
    CHECK(memcmp(value, "the branch's", 12) != 0);
    rde_kv_request scan = {.partition = branch, .op = RDE_KV_OP_SCAN, .memory = names, .length = sizeof names};
    CHECK_STATUS(OK, call(kv, scan, &done));
    CHECK(done.value > 0 && (done.flags & RDE_COMPLETION_MORE));
    CHECK_OK(error, rde_kv_branches(kv, branch, names, sizeof names, &len, &error));
    CHECK(len == 9 && strcmp(names, "dev\nmain\n") == 0);
    CHECK_STATUS(TRUNCATED, rde_kv_branches(kv, branch, names, 9, &len, NULL));
    rde_kv_request gone = {.partition = branch, .op = RDE_KV_OP_BRANCH_DELETE, .key = text("dev")};
    CHECK_STATUS(INVALID_ARGUMENT, call(kv, gone, &done));
    gone.partition = partition;
    CHECK_STATUS(OK, call(kv, gone, &done));
    CHECK_STATUS(NOT_FOUND, call(kv, gone, &done));
    CHECK_STATUS(NOT_FOUND, call(kv, write, &done));
    CHECK_OK(error, rde_kv_branches(kv, partition, names, sizeof names, &len, &error));
    CHECK(strcmp(names, "main\n") == 0);
    CHECK_STATUS(OK, rde_kv_close(kv));
    shown("branches");
}

/* Over object storage (a folder): a later writer keeps an earlier one out, which still reads. */
static void two_writers(const char *folder) {
    char lines[2][512], value[64];
    rde_kv kvs[2];
    uint32_t partitions[2];
    rde_completion done;
    for (int i = 0; i < 2; i++) {
        snprintf(lines[i], sizeof lines[i], "store_path=%s/machine%d\ncloud_provider=local\ncloud_store_path=%s/shared\n",
                 folder, i, folder);
        kvs[i] = open_store(lines[i]);
        partitions[i] = partition_of(kvs[i], "t", 0);
        fill(kvs[i], partitions[i], 10 + i);
    }
    rde_kv none = {0};
    rde_kv_options options = RDE_KV_OPTIONS_INIT;
    options.lines = text(lines[0]);
    CHECK_STATUS(WRONG_STATE, rde_kv_open(&options, &none, NULL));
    rde_kv_change change = {.key = text("late"), .value = text("too late"), .timestamp = 5};
    rde_kv_request write = {.partition = partitions[0], .op = RDE_KV_OP_WRITE, .changes = &change, .change_count = 1};
    CHECK_STATUS(EXPIRED_TERM, call(kvs[0], write, &done));
    rde_kv_request read = {.partition = partitions[0], .op = RDE_KV_OP_READ, .key = text("key00009"), .memory = value, .length = 64};
    CHECK_STATUS(OK, call(kvs[0], read, &done));
    read.partition = partitions[1], read.key = text("key00010");
    CHECK_STATUS(OK, call(kvs[1], read, &done));
    for (int i = 0; i < 2; i++) CHECK_STATUS(OK, rde_kv_close(kvs[i]));
    shown("two writers over object storage");
}

/* Batches are safe in a log, and in the pages after the store is closed. */
static void logged(const char *folder) {
    char path[4096], value[64];
    rde_completion done;
    rde_error error;
    rde_kv kv = {0};
    rde_kv_options options = RDE_KV_OPTIONS_INIT;
    rde_kv_details before = RDE_KV_DETAILS_INIT, after = RDE_KV_DETAILS_INIT;
    snprintf(path, sizeof path, "store_path=%s/logged\n", folder);
    options.lines = text(path);
    options.flags = RDE_KV_NO_URING;
    options.log_bytes = 1 << 20;
    if (!CHECK_OK(error, rde_kv_open(&options, &kv, &error))) return;
    uint32_t partition = partition_of(kv, "t", 0);
    fill(kv, partition, 100);
    CHECK_OK(error, rde_kv_info(kv, &before, &error));
    rde_kv_change change = {.key = text("key00042"), .value = text("another"), .timestamp = 6};
    rde_kv_request write = {.partition = partition, .op = RDE_KV_OP_WRITE, .changes = &change, .change_count = 1};
    CHECK_STATUS(OK, call(kv, write, &done));
    CHECK_OK(error, rde_kv_info(kv, &after, &error));
    CHECK(done.value == 1 && before.log_bytes == 0 && after.log_bytes == 8192);
    CHECK(after.data_bytes == before.data_bytes && after.manifest_bytes == before.manifest_bytes);
    rde_kv_request read = {.partition = partition, .op = RDE_KV_OP_READ, .key = change.key, .memory = value, .length = 64};
    CHECK_STATUS(OK, call(kv, read, &done));
    CHECK(done.length == 7 && memcmp(value, "another", 7) == 0);
    CHECK_STATUS(OK, rde_kv_close(kv));
    kv = open_store(path);
    read.partition = partition_of(kv, "t", 0);
    CHECK_STATUS(OK, call(kv, read, &done));
    CHECK(done.length == 7 && memcmp(value, "another", 7) == 0);
    CHECK_STATUS(OK, rde_kv_close(kv));
    shown("a write log");
}

static void *waits(void *argument) {
    rde_completion done;
    uint32_t count;
    rde_kv kv = *(rde_kv *)argument;
    return (void *)(intptr_t)rde_kv_poll(kv, -1, &done, 1, &count);
}

static void closed_while_polled(void) {
    for (int i = 0; i < 20; i++) {
        rde_kv kv = open_store("");
        pthread_t thread;
        void *status;
        CHECK(pthread_create(&thread, NULL, waits, &kv) == 0);
        CHECK_STATUS(OK, rde_kv_close(kv));
        CHECK(pthread_join(thread, &status) == 0);
        CHECK((rde_status)(intptr_t)status == RDE_STATUS_STALE_HANDLE);
    }
    shown("a close ends a poll that waits");
}

int main(void) {
    char folder[] = "/tmp/rde-kv-c-XXXXXX", lines[512];
    if (!mkdtemp(folder)) return 2;
    snprintf(lines, sizeof lines, "store_path=%s/store\ndata_append_mode=1\npages_per_file_shift=4\n", folder);
    bad_input();
    reads_and_pages("");
    reads_and_pages(lines);
    in_flight(lines);
    upkeep(lines);
    branches(lines);
    branches("data_append_mode=1\n");
    snprintf(lines, sizeof lines,
             "store_path=%s/cache\npages_per_file_shift=4\ncloud_provider=local\ncloud_store_path=%s/objects\n", folder, folder);
    reads_and_pages(lines);
    in_flight(lines);
    upkeep(lines);
    branches(lines);
    two_writers(folder);
    logged(folder);
    closed_while_polled();
    char command[300];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
    return check_end();
}
