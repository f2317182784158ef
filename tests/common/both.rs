//! Tests that run over each of the ways to a disk.

/// The same tests over the ring, ignored where the kernel refuses one, and over threads.
#[macro_export]
macro_rules! both {
    ($($name:ident)*) => {
        mod ring {
            $(#[test]
            #[cfg_attr(io_uring_refused, ignore = "the kernel refuses io_uring here")]
            fn $name() {
                super::$name(rdma_engine::io::disk::Choice::Ring);
            })*
        }
        mod threads {
            $(#[test]
            fn $name() {
                super::$name(rdma_engine::io::disk::Choice::Threads);
            })*
        }
    };
}
