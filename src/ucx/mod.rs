//! The only Rust that touches UCX: library, context, worker, endpoint, memory, request.
