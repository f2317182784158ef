#include <rdma_engine.h>

uint32_t abi_version_of_b(void);

uint32_t abi_version_of_b(void) {
    return RDE_ABI_VERSION;
}
