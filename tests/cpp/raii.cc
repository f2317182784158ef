// The C++ header: objects close once, in order, also when moved; failures say why; no exceptions needed.
#include <rdma_engine.hpp>

#include <cstdio>
#include <cstring>
#include <type_traits>

static int checks, failed;

static bool check(bool holds, const char *what, int line) {
    checks++;
    if (!holds) {
        failed++;
        std::printf("raii.cc:%d: FAILED: %s\n", line, what);
    }
    return holds;
}
#define CHECK(condition) check(static_cast<bool>(condition), #condition, __LINE__)

static_assert(!std::is_copy_constructible_v<rde::context> && std::is_nothrow_move_constructible_v<rde::context>);
static_assert(!std::is_convertible_v<rde::worker, rde::context>);
static_assert(sizeof(rde::buffer) == sizeof(rde_buffer));

static void objects_close_once() {
    rde_context seen{};
    {
        rde::context context = rde::context::open().value();
        seen = context.get();
        rde::worker worker = context.open_worker().value();
        CHECK(rde_context_close(context.get()) == RDE_STATUS_WRONG_STATE);

        rde::buffer buffer = context.alloc(100).value();
        CHECK(buffer && buffer.data() != nullptr && buffer.size() == 100);
        std::memset(buffer.data(), 1, 100);
        rde_buffer handle = buffer.get();
        rde::buffer moved = std::move(buffer);
        CHECK(!buffer && moved.get().id == handle.id); // NOLINT: a moved-from handle is none
        moved = context.alloc(10).value();
        void *data = nullptr;
        CHECK(rde_buffer_data(handle, &data, nullptr) == RDE_STATUS_STALE_HANDLE);
        CHECK(moved.reset() == RDE_STATUS_OK && !moved && moved.reset() == RDE_STATUS_OK);
        CHECK(moved.data() == nullptr && moved.size() == 0);

        rde::listener listener = worker.listen("tcp://127.0.0.1:0", 1).value();
        CHECK(rde::address(listener).rfind("tcp://127.0.0.1:", 0) == 0);
    }
    rde_context_details found = RDE_CONTEXT_DETAILS_INIT;
    CHECK(rde_context_info(seen, &found, nullptr) == RDE_STATUS_STALE_HANDLE);
    std::printf("%s objects close once, in order, also when moved\n", failed ? "BAD" : "ok ");
}

static void failures_say_why() {
    rde_context_options options = RDE_CONTEXT_OPTIONS_INIT;
    options.flags = 1;
    auto refused = rde::context::open(options);
    CHECK(!refused && refused.status() == RDE_STATUS_INVALID_ARGUMENT);
    CHECK(refused.message().find("flags") != std::string_view::npos);
    rde::worker none;
    auto stale = none.connect("tcp://127.0.0.1:1", 0);
    CHECK(!stale && stale.status() == RDE_STATUS_STALE_HANDLE);
    CHECK(rde::address(rde::listener()).empty());
    std::printf("%s failures are values, with their reason\n", failed ? "BAD" : "ok ");
}

int main() {
    objects_close_once();
    failures_say_why();
    std::printf("%d checks, %d failed\n", checks, failed);
    return failed ? 1 : 0;
}
