/* The header twice in one file, and in two files of one program: double_include_b.c is the other. */
#include <rdma_engine.h>
#include <rdma_engine.h>

uint32_t abi_version_of_b(void);

int main(void) {
    return rde_abi_version() == abi_version_of_b() ? 0 : 1;
}
