// The C++ wrapper of the key-value store: values, batches, scans of any length, failures that say why.
#include <rdma_engine.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

static int checks, failed;

static bool check(bool holds, const char *what, int line) {
    checks++;
    if (!holds) {
        failed++;
        std::printf("store.cc:%d: FAILED: %s\n", line, what);
    }
    return holds;
}
#define CHECK(condition) check(static_cast<bool>(condition), #condition, __LINE__)

int main() {
    rde_kv_options options = RDE_KV_OPTIONS_INIT; // in memory
    static const char append[] = "data_append_mode=1\n";
    options.lines = {append, sizeof append - 1};
    const char *runner = std::getenv("RUNNER");
    // Valgrind's threads wait for one that is in io_uring_enter.
    if (runner && std::strstr(runner, "valgrind")) options.flags = RDE_KV_NO_URING;
    rde::store store = rde::store::open(options).value();
    const auto partition = store.partition("t", 0).value();
    CHECK(store.read(partition, "k").status() == RDE_STATUS_NOT_FOUND);

    const std::string large(100'000, 'x');
    std::string keys[2000];
    rde::batch batch;
    for (int i = 0; i < 2000; i++) {
        char key[16];
        std::snprintf(key, sizeof key, "key%05d", i);
        keys[i] = key;
        batch.upsert(keys[i], i == 1000 ? std::string_view(large) : std::string_view(keys[i]), 1, i % 2 ? 7'000'000'000'000 : 0);
    }
    CHECK(store.write(partition, batch).value() == 2000);
    CHECK(store.read(partition, "key00007").value() == "key00007");
    CHECK(store.read(partition, "key01000").value() == large);

    // Pages smaller than one value still bring all of them.
    std::uint64_t expiring = 0, bytes = 0;
    const auto all = store.scan(partition, "", "", [&](const rde::entry &entry) {
        expiring += entry.expire_ms != 0;
        bytes += entry.value.size();
        return !entry.large;
    }, 512);
    CHECK(rde::result<std::uint64_t>(all).value() == 2000);
    CHECK(expiring == 1000 && bytes == 1999 * 8 + large.size());
    CHECK(store.scan(partition, "key00010", "key00020", [](const rde::entry &) { return true; }).value() == 10);
    CHECK(store.scan(partition, "", "", [](const rde::entry &) { return false; }).value() == 1);

    rde::batch erase;
    erase.erase("key00007", 1);
    CHECK(store.write(partition, erase).value() == 1);
    CHECK(store.read(partition, "key00007").status() == RDE_STATUS_NOT_FOUND);
    rde::batch disorder;
    disorder.upsert("b", "", 1);
    disorder.upsert("a", "", 1);
    const auto refused = store.write(partition, disorder);
    CHECK(refused.status() == RDE_STATUS_INVALID_ARGUMENT && refused.message().find("ascend") != std::string_view::npos);
    CHECK(store.write(partition, disorder, RDE_KV_SORT).value() == 2);
    CHECK(store.partitions().value().size() == 1);

    const auto dev = store.branch("t", 0, "dev").value();
    CHECK(store.read(dev, "key00008").status() == RDE_STATUS_NOT_FOUND);
    CHECK(store.create_branch(partition, "dev"));
    rde::batch other;
    other.upsert("key00008", "elsewhere", 9);
    CHECK(store.write(dev, other).value() == 1);
    CHECK(store.read(dev, "key00008").value() == "elsewhere" && store.read(partition, "key00008").value() == "key00008");
    CHECK(store.branches(dev).value() == (std::vector<std::string>{"dev", "main"}));
    CHECK(store.delete_branch(partition, "dev") && store.branches(partition).value().size() == 1);
    CHECK(store.delete_branch(partition, "main").status() == RDE_STATUS_INVALID_ARGUMENT);
    CHECK(rde::store::open("data_page_size=1\n").status() == RDE_STATUS_INVALID_ARGUMENT);
    std::printf("%d checks, %d failed\n", checks, failed);
    return failed ? 1 : 0;
}
