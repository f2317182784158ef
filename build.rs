//! The SONAME of the shared library. Nothing is generated into the source tree.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // 0 until 1.0: compatibility within 0.x is kept by comparing the ABI, not by the number.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,librdma_engine.so.0");
    }
}
