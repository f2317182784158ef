# Flags of Go for tests, to be sourced: SeaweedFS has 2,000 packages, and compiling them without optimisation takes two thirds
# of the time. All tests use the same, so that everything is compiled once.
export GOFLAGS="'-gcflags=all=-N -l' '-ldflags=-s -w' -mod=readonly -buildvcs=false"
