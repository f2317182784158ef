/*
 * The key-value store from C: a batch, a blocking read, then many reads in flight whose values land in memory of ours.
 *
 *     cc -std=c11 kv.c $(pkg-config --cflags --libs rdma_engine) -o kv && ./kv FOLDER
 *
 * The folder is a store that EloqStore opens too, with the same options.
 */
#include <rdma_engine.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static rde_error error;

/* Calls say more in `error`; all say what happened in the status. */
#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        rde_status status_ = (call);                                                                                   \
        if (status_ < 0) {                                                                                             \
            fprintf(stderr, "%s: %s\n", #call,                                                                         \
                    error.status == status_ ? error.message : rde_status_message(status_));                            \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { ENTRIES = 1000, IN_FLIGHT = 32, ROOM = 64 };

static rde_bytes text(const char *chars) { return (rde_bytes){chars, strlen(chars)}; }

static char keys[ENTRIES][16], values[ENTRIES][ROOM];

/* One batch: all of it is on disk afterwards, or nothing. */
static uint64_t write_all(rde_kv kv, uint32_t users)
{
    static rde_kv_change changes[ENTRIES];
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(keys[i], sizeof keys[i], "user%06d", i);
        snprintf(values[i], sizeof values[i], "the value of user %d", i);
        changes[i] = (rde_kv_change){.key = text(keys[i]), .value = text(values[i]), .timestamp = 1};
    }
    rde_kv_request request = {.partition = users, .op = RDE_KV_OP_WRITE, .changes = changes, .change_count = ENTRIES};
    rde_completion done;
    TRY(rde_kv_call(kv, &request, &done, &error));
    return done.value;
}

/* Keeps IN_FLIGHT reads going and compares what they bring. */
static int read_all(rde_kv kv, uint32_t users)
{
    char rooms[IN_FLIGHT][ROOM];
    int asked = 0, done = 0, slots[IN_FLIGHT], free_slots = IN_FLIGHT;
    for (int i = 0; i < IN_FLIGHT; i++) slots[i] = i;
    while (done < ENTRIES) {
        while (asked < ENTRIES && free_slots > 0) {
            int slot = slots[--free_slots];
            rde_kv_request request = {
                .user_data = (uint64_t)asked << 8 | (uint64_t)slot,
                .partition = users,
                .op = RDE_KV_OP_READ,
                .key = text(keys[asked]),
                .memory = rooms[slot],
                .length = ROOM,
            };
            uint32_t accepted;
            TRY(rde_kv_submit(kv, &request, 1, &accepted, &error));
            asked++;
        }
        rde_completion completions[IN_FLIGHT];
        uint32_t count;
        TRY(rde_kv_poll(kv, -1, completions, IN_FLIGHT, &count));
        for (uint32_t i = 0; i < count; i++) {
            int entry = (int)(completions[i].user_data >> 8), slot = (int)(completions[i].user_data & 0xff);
            TRY(completions[i].status);
            if (completions[i].length != strlen(values[entry]) ||
                memcmp(rooms[slot], values[entry], completions[i].length) != 0) {
                fprintf(stderr, "%s has another value\n", keys[entry]);
                exit(1);
            }
            slots[free_slots++] = slot;
            done++;
        }
    }
    return done;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: kv FOLDER\n");
        return 2;
    }
    char lines[4096];
    snprintf(lines, sizeof lines, "store_path=%s\n", argv[1]);
    rde_kv_options options = RDE_KV_OPTIONS_INIT;
    options.lines = text(lines);
    rde_kv kv;
    uint32_t users;
    TRY(rde_kv_open(&options, &kv, &error));
    TRY(rde_kv_partition(kv, text("users"), 7, &users, &error));

    printf("%" PRIu64 " entries written\n", write_all(kv, users));
    printf("%d entries read\n", read_all(kv, users));

    /* The last two before "user000500", backward. An entry is its head, its key, its value. */
    _Alignas(8) char room[1024];
    rde_kv_request request = {
        .partition = users,
        .op = RDE_KV_OP_SCAN,
        .flags = RDE_KV_BACKWARD,
        .end = text("user000500"),
        .max_entries = 2,
        .memory = room,
        .length = sizeof room,
    };
    rde_completion done;
    TRY(rde_kv_call(kv, &request, &done, &error));
    for (uint64_t i = 0, at = 0; i < done.value; i++) {
        rde_kv_entry entry;
        memcpy(&entry, room + at, sizeof entry);
        const char *key = room + at + sizeof entry;
        printf("%.*s: %.*s\n", (int)entry.key_len, key, (int)entry.value_len, key + entry.key_len);
        at += entry.next;
    }
    TRY(rde_kv_close(kv));
    return 0;
}
