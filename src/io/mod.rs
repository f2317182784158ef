//! Disk: `io_uring` with registered buffers; positioned reads and writes where `io_uring` is not to be had.
