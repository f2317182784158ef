//! Keys alone, without their values.

use super::cursor::Cursor;
use super::data_page::DataPage;
use super::page::PageId;
use super::source::Source;
use super::tree::Tree;
use crate::status::Result;

impl<S: Source> Tree<'_, S> {
    /// The keys of a tree from `from` on, up to the first that `enough` says is one too many, at most `limit`.
    pub async fn keys(
        &self,
        root: PageId,
        from: &[u8],
        limit: usize,
        enough: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        let mut cursor = Cursor::new(self, root);
        cursor.seek(from).await?;
        while let Some(leaf) = &cursor.leaf {
            let page = self.sound(leaf, DataPage::parse(leaf.bytes.as_ref()))?;
            self.sound(leaf, cursor.bounds().hold(&page))?;
            let mut entries = self.sound(leaf, page.entries_near(from))?;
            while self.sound(leaf, entries.step())?.is_some() {
                if keys.len() >= limit || enough(entries.key()) {
                    return Ok(keys);
                }
                if entries.key() >= from {
                    keys.push(entries.key().to_vec());
                }
            }
            cursor.forward().await?;
        }
        Ok(keys)
    }
}
