/* The header needs nothing before it, and leaves nothing that a program of one function would notice. */
#include <rdma_engine.h>

int main(void) {
    return rde_abi_version() == RDE_ABI_VERSION ? 0 : 1;
}
