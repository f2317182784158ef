//! The SONAME of the shared library, and whether this kernel lets its tests use io_uring. Nothing is generated into the
//! source tree.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // 0 until 1.0: compatibility within 0.x is kept by comparing the ABI, not by the number.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,librdma_engine.so.0");
        // What dependencies export to C (crc-fast, below object_store) is no part of our ABI.
        println!("cargo:rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
    }
    // Tests of the ring count as ignored where there is none, not as passed.
    println!("cargo:rustc-check-cfg=cfg(io_uring_refused)");
    if io_uring::IoUring::new(2).is_err() {
        println!("cargo:rustc-cfg=io_uring_refused");
    }
}
