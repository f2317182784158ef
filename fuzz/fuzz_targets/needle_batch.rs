#![no_main]
//! Batches of needles: calls, answers and tokens of peers. No panic, what is taken apart lies within what came, and what is a
//! call is put together to the same.

use libfuzzer_sys::fuzz_target;
use rdma_engine::needles::{ReadKey, batch};

fuzz_target!(|input: (u16, &[u8])| {
    let (count, bytes) = input;
    if let Ok(reads) = batch::reads(count.into(), bytes) {
        assert_eq!(reads.len(), usize::from(count));
        let mut builder = batch::Builder::new();
        for (entry, text) in &reads {
            let Ok(text) = std::str::from_utf8(text) else { return };
            assert!(builder.add(text, entry.offset.get(), entry.len.get(), entry.flags.get()));
            let key = ReadKey::new(b"key").unwrap();
            assert!(key.check(Some(text), "3,01637037d6").is_err());
        }
        assert_eq!(builder.payload(), bytes);
    }
    if let Ok(rows) = batch::rows(count.into(), bytes, bytes.len() as u64) {
        for row in rows.iter().filter(|row| row.length.get() > 0) {
            let data = &bytes[row.offset.get() as usize..][..row.length.get() as usize];
            let _ = batch::check(row.data_length.get(), row.checksum.get(), data);
        }
    }
});
