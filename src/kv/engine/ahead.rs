//! Reads the data pages of a batch ahead of its writer, which takes them one by one.

use super::cache::Key;
use super::files::Files;
use super::pages::Pages;
use crate::kv::batch::Op;
use crate::kv::child_table::ChildTable;
use crate::kv::options::Options;
use crate::kv::versions::Version;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Pages that are on their way for one batch.
const WINDOW: usize = 128;

/// Reads the pages that hold the keys of `ops`, in order, no more than a window ahead. Stops at the first error: the
/// writer meets it too.
pub async fn read_ahead(version: &Version, options: &Options, files: &Files, ops: &[Op]) {
    let tree = version.tree(options, files);
    let pages = files.pages();
    let mut on_the_way = VecDeque::new();
    let mut rest = ops;
    let mut table = ChildTable::default();
    while let Some(op) = rest.first() {
        let root = version.manifest.root;
        let Ok(Some(until)) = tree.leaves_around(root, &op.key, &mut table).await else { return };
        let inside = until.map_or(rest.len(), |until| rest.partition_point(|op| op.key < until));
        let (mut these, others) = rest.split_at(inside.max(1));
        rest = others;
        while let Some(op) = these.first() {
            let at = table.find(&op.key);
            let id = table.id(at);
            let in_page = match at + 1 < table.len() {
                true => these.iter().take_while(|op| op.key.as_slice() < table.key(at + 1)).count(),
                false => these.len(),
            };
            these = &these[in_page.max(1)..];
            let Some(file_page) = version.manifest.mapping.get(id) else { return };
            let key = (files.partition(), file_page);
            if pages.is_near(key) {
                continue;
            }
            tree.expect_last(id);
            on_the_way.push_back(key);
            make_way(pages, &mut on_the_way).await;
        }
    }
}

/// Waits until less than a window is on its way.
async fn make_way(pages: &Pages, on_the_way: &mut VecDeque<Key>) {
    while on_the_way.len() >= WINDOW {
        // The writer takes them in this order.
        while on_the_way.front().is_some_and(|key| !pages.is_ahead(*key)) {
            on_the_way.pop_front();
        }
        if on_the_way.len() >= WINDOW {
            pages.consumed().await;
        }
    }
}

/// Runs `main` to its end, with `side` beside it for as long as that takes.
pub async fn beside<T>(main: impl Future<Output = T>, side: impl Future<Output = ()>) -> T {
    let (mut main, mut side) = (pin!(main), pin!(side));
    let mut going = true;
    poll_fn(|context| {
        if going && side.as_mut().poll(context).is_ready() {
            going = false;
        }
        match main.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
