// Calls in C++: a server thread and a client in one program, with the wrapper's objects that close themselves.
//
//     c++ -std=c++17 rpc.cc $(pkg-config --cflags --libs rdma_engine) -pthread -o rpc && ./rpc
#include <rdma_engine.hpp>

#include <cstdio>
#include <string>
#include <thread>

namespace {

enum : std::uint32_t { UPPER = 1, STOP = 2 };

// Answers calls until one says stop. A call that leaves its scope unanswered is answered CANCELED.
void serve(const rde::worker &worker) {
    for (bool going = true; going;) {
        for (const rde_completion &event : worker.poll().value()) {
            if (event.op != RDE_OP_CALL_RECEIVED) continue;
            rde::incoming_call call{{event.value}};
            going = static_cast<std::uint32_t>(event.detail) != STOP;
            std::string text{call.payload()};
            for (char &c : text)
                if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
            call.reply(0, text);
        }
    }
}

} // namespace

int main() {
    rde::context context = rde::context::open().value();
    rde_worker_options options = RDE_WORKER_OPTIONS_INIT;
    options.flags = RDE_WORKER_POLLED | RDE_WORKER_CALLS;
    rde::worker server = context.open_worker(options).value();
    rde::listener listener = server.listen("tcp://127.0.0.1:0", 0).value();
    std::thread thread(serve, std::cref(server));

    rde::worker client = context.open_worker().value();
    rde::session session = client.connect(rde::address(listener), 1).value();
    rde_completion connected = client.wait(1).value();
    std::printf("connected: %s\n", rde_status_name(connected.status));

    rde::answer answer = rde::call(client, session, UPPER, "every call is answered once", 2).value();
    std::printf("%.*s\n", static_cast<int>(answer.bytes().size()), answer.bytes().data());
    auto refused = rde::call(client, session, STOP, "", 3);
    std::printf("stop: %s\n", rde_status_name(refused ? RDE_STATUS_OK : refused.status()));
    thread.join();
    return 0;
}
