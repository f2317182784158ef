//! What the tier refuses.

use super::faulty::{Fate, Faulty};
use super::kv_support::Folder;
use super::{options, over, over_folder, partition, quick, upsert, write};
use object_store::memory::InMemory;
use rdma_engine::Status;
use rdma_engine::kv::options::Options;
use rdma_engine::kv::store::Store;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_store_that_ignores_conditions_is_not_written_to() {
    let (folder, objects) = (Folder::new(), Arc::new(InMemory::new()));
    let faulty = Faulty::new(objects);
    let store = over(&quick(&folder.0), faulty.clone()).unwrap();
    faulty.judge(|_, _| Fate::Ignored);
    let error = write(&mut store.writer(&partition()).unwrap(), vec![upsert("k", b"v")]).unwrap_err();
    assert_eq!(error.status, Status::Unsupported);
    assert!(error.message.contains("If-None-Match"), "{error}");
    faulty.judge(|_, _| Fate::Go);
    write(&mut store.writer(&partition()).unwrap(), vec![upsert("k", b"v")]).unwrap();
}

#[test]
fn other_options_than_recorded_are_refused() {
    let (folder, objects) = (Folder::new(), Folder::new());
    let store = Store::create(over_folder(&folder.0.join("a"), &objects.0)).unwrap();
    write(&mut store.writer(&partition()).unwrap(), vec![upsert("k", b"v")]).unwrap();
    let other = Options { page_size: 8192, ..over_folder(&folder.0.join("b"), &objects.0) };
    let error = Store::open(other).unwrap_err();
    assert_eq!(error.status, Status::InvalidArgument);
    assert!(error.message.contains("data_page_size=4096"), "{error}");
}

#[test]
fn a_local_store_does_not_become_a_cache() {
    let (folder, objects) = (Folder::new(), Folder::new());
    let local = options(&folder.0, "");
    let store = Store::create(local.clone()).unwrap();
    write(&mut store.writer(&partition()).unwrap(), vec![upsert("k", b"v")]).unwrap();
    drop(store);
    let error = Store::open(over_folder(&folder.0, &objects.0)).unwrap_err();
    assert_eq!(error.status, Status::InvalidArgument, "{error}");
    let view = Store::open(local).unwrap().view(&partition()).unwrap().unwrap();
    assert_eq!(view.read(b"k").unwrap().unwrap().value, b"v");
}

#[test]
fn a_cache_of_another_store_is_emptied() {
    let (folder, objects, others) = (Folder::new(), Folder::new(), Folder::new());
    for (objects, value) in [(&objects, b"one"), (&others, b"two"), (&objects, b"six")] {
        let mut store = Store::create(over_folder(&folder.0, &objects.0)).unwrap();
        write(&mut store.writer(&partition()).unwrap(), vec![upsert("k", value)]).unwrap();
        store.refresh().unwrap();
        let view = store.view(&partition()).unwrap().unwrap();
        assert_eq!(view.read(b"k").unwrap().unwrap().value, value);
    }
}

#[test]
fn one_process_a_cache() {
    let (folder, objects) = (Folder::new(), Folder::new());
    let store = Store::open(over_folder(&folder.0, &objects.0)).unwrap();
    let error = Store::open(over_folder(&folder.0, &objects.0)).unwrap_err();
    assert_eq!(error.status, Status::WrongState, "{error}");
    drop(store);
    Store::open(over_folder(&folder.0, &objects.0)).unwrap();
}

#[test]
fn nobody_there_is_said_soon_and_clearly() {
    let folder = Folder::new();
    // A port that nobody listens on, but that nobody else gets.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut silent = options(&folder.0.join("a"), "cloud_store_path=bucket/prefix\ncloud_retries=2\n");
    silent.cloud.endpoint = format!("http://127.0.0.1:{port}");
    silent.cloud.timeout = Duration::from_millis(100);
    // It is accepted by the system, and never answered.
    let error = Store::open(silent.clone()).unwrap_err();
    assert_eq!(error.status, Status::TimedOut, "{error}");
    assert!(error.message.contains("127.0.0.1"), "{error}");
    drop(taken);
    let error = Store::open(silent).unwrap_err();
    assert_eq!(error.status, Status::Unreachable, "{error}");
}

#[test]
fn options_are_read_and_checked() {
    let ini = "[run]\nlocal_space_limit=2GB\nmax_cloud_concurrency=7\nprewarm_cloud_cache=true\nprewarm_task_count=2\n\
        [permanent]\nstore_path=/a\ncloud_store_path=bucket/some/prefix\ncloud_provider=aws\n\
        cloud_endpoint=http://127.0.0.1:1\ncloud_region=there\ncloud_access_key=me\ncloud_secret_key=hush\ncloud_verify_ssl=false\n";
    let options = Options::from_ini(ini, Path::new("/")).unwrap();
    let cloud = &options.cloud;
    assert!(options.append, "append mode is forced");
    assert_eq!(
        (cloud.local_space, cloud.concurrency, cloud.prewarm, cloud.prewarm_tasks),
        (2 << 30, 7, true, 2)
    );
    assert_eq!((cloud.bucket(), cloud.region.as_str()), (("bucket", "some/prefix"), "there"));
    assert!(!format!("{options:?}").contains("hush"), "no secrets in logs");
    for (text, part) in [
        ("cloud_provider=azure", "cloud_provider"),
        ("cloud_store_path=/x", "cloud_store_path"),
        ("max_cloud_concurrency=0", "max_cloud_concurrency"),
        ("cloud_timeout_ms=0", "cloud_timeout_ms"),
        ("local_space_limit=x", "local_space_limit"),
    ] {
        let error = Options::from_lines(text, Path::new("")).unwrap_err();
        assert!(error.status == Status::InvalidArgument && error.message.contains(part), "{text}: {error}");
    }
}
