/* The macros of the header are those of the library that is loaded. */
#include "check.h"

int main(void) {
    char composed[64];
    snprintf(composed, sizeof composed, "%d.%d.%d", RDE_VERSION_MAJOR, RDE_VERSION_MINOR, RDE_VERSION_PATCH);
    CHECK(strcmp(composed, RDE_VERSION) == 0);
    CHECK(strcmp(rde_version_string(), RDE_VERSION) == 0);
    CHECK(rde_abi_version() == RDE_ABI_VERSION);
    shown("header and library are of one version: " RDE_VERSION);
    return check_end();
}
