#![no_main]
//! Pages of the key-value store: data, index and overflow pages, and what the entries of very large values hold.

use libfuzzer_sys::fuzz_target;
use rdma_engine::kv::data_page::DataPage;
use rdma_engine::kv::index_page::IndexPage;
use rdma_engine::kv::overflow::{self, OverflowPage};
use rdma_engine::kv::page::{Kind, kind, seal, verify};
use rdma_engine::kv::structure;
use rdma_engine::kv::value::{Codec, LargeValue};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(page) = DataPage::parse(bytes) {
        let _ = (page.previous(), page.next());
        let mut last: Option<Vec<u8>> = None;
        if let Ok(mut entries) = page.entries() {
            while let Ok(Some(entry)) = entries.step() {
                assert!(last.as_deref().is_none_or(|last| last < entries.key()));
                last = Some(entries.key().to_vec());
                let _ = page.find(entries.key());
                if entry.descriptor.codec == Codec::Large {
                    let _ = LargeValue::decode(entry.content, 4096, entry.at);
                }
                if entry.descriptor.overflow {
                    let _ = overflow::pointers(entry.content, entry.at);
                }
            }
        }
    }
    if let Ok(page) = IndexPage::parse(bytes) {
        if let Ok(table) = page.table(b"", None) {
            assert!((1..table.len()).all(|i| table.key(i - 1) < table.key(i)));
            for (separator, child) in table.iter() {
                assert!(page.child_of(separator).is_err() || page.child_of(separator) == Ok(child));
            }
        }
        let _ = page.child_of(b"k");
    }
    if let Ok(page) = OverflowPage::parse(bytes) {
        assert!(page.value.len() + page.pointers.len() < bytes.len());
        let _ = overflow::pointers(page.pointers, 0);
    }
    if let Ok(kind) = kind(bytes) {
        let mut page = bytes.to_vec();
        seal(&mut page, kind);
        assert!(verify(&page).is_ok());
        if structure::verify(&page).is_ok() {
            trusted(&page, kind);
        }
    }
    let _ = LargeValue::decode(bytes, 4096, 0);
});

/// What was verified once never turns out to be damaged: an index page. A data page is verified by walking over it, and
/// what was walked over whole is found.
fn trusted(page: &[u8], kind: Kind) {
    match kind {
        Kind::Data => {
            let page = DataPage::parse(page).unwrap();
            let mut keys = Vec::new();
            for (key, entry) in page.all(&mut keys).unwrap_or_default() {
                assert_eq!(page.find(&keys[key]), Ok(Some(entry)));
            }
        }
        Kind::Inner | Kind::Leaf => {
            let page = IndexPage::parse(page).unwrap();
            for (separator, child) in page.table(b"", None).unwrap().iter() {
                assert_eq!(page.child_of(separator), Ok(child));
            }
        }
        Kind::Overflow => drop(OverflowPage::parse(page).unwrap()),
    }
}
