//! Walks ahead of a cursor, over index pages alone, and says which data pages will be asked for.

use super::index_page::IndexPage;
use super::page::PageId;
use super::source::Source;
use super::tree::{DEPTH, Tree};
use crate::status::Result;

/// The way to the next data page that is not announced yet: on each level the children, and which one is next.
#[derive(Debug)]
pub struct Scout {
    path: Vec<(Vec<PageId>, usize)>,
}

impl Scout {
    /// A scout that goes on from here: children of the index pages on the way, and the ones that were taken. The last
    /// level's are data pages.
    pub fn new(path: impl Iterator<Item = (Vec<PageId>, usize)>) -> Scout {
        let mut path: Vec<(Vec<PageId>, usize)> = path.collect();
        if let Some(last) = path.last_mut() {
            last.1 += 1;
        }
        Scout { path }
    }

    /// Announces the next data pages, at most `most`; returns for how many there was room, None at the end of the tree. A
    /// damaged index page is an end too: whoever comes to it says what is wrong.
    pub async fn announce<S: Source>(&mut self, tree: &Tree<'_, S>, most: usize) -> Option<usize> {
        loop {
            let (ids, at) = self.path.last_mut()?;
            let end = ids.len().min(*at + most);
            if *at < end {
                let announced = tree.expect_all(&ids[*at..end]);
                *at += announced;
                return Some(announced);
            }
            self.path.pop();
            if self.descend(tree).await.is_err() {
                self.path.clear();
            }
        }
    }

    /// To the first data page under the next index page.
    async fn descend<S: Source>(&mut self, tree: &Tree<'_, S>) -> Result<()> {
        while self.path.last().is_some_and(|(ids, at)| at + 1 >= ids.len()) {
            self.path.pop();
        }
        let Some((ids, at)) = self.path.last_mut() else { return Ok(()) };
        *at += 1;
        let mut id = ids[*at];
        while self.path.len() < DEPTH {
            let page = tree.load(id).await?;
            let index = tree.sound(&page, IndexPage::parse(page.bytes.as_ref()))?;
            let ids = tree.sound(&page, index.ids())?;
            id = index.leftmost();
            self.path.push((ids, 0));
            if index.is_leaf() {
                return Ok(());
            }
        }
        Err(tree.too_deep(id))
    }
}
