//! Values: fetched from overflow pages or segments, joined, decompressed.

use super::compress;
use super::damage::{Damage, Decoded};
use super::data_page::Entry;
use super::names::FileName;
use super::overflow::{self, Cut, OverflowPage};
use super::page::PageId;
use super::source::Source;
use super::tree::{Found, Loaded, Tree};
use super::value::{Codec, LargeValue};
use crate::status::Result;

impl<S: Source> Tree<'_, S> {
    /// The whole of an entry: its value fetched, joined and decompressed; in `room`, if it stands in the page as it is.
    pub async fn found(
        &self,
        leaf: &Loaded<S::Bytes>,
        key: Vec<u8>,
        entry: &Entry<'_>,
        mut room: Vec<u8>,
    ) -> Result<Found> {
        let (timestamp, expire_ms) = (entry.timestamp, entry.expire_ms);
        if entry.is_plain() {
            room.clear();
            room.extend_from_slice(entry.content);
            return Ok(Found { key, value: room, timestamp, expire_ms, large: None });
        }
        let (value, large) = Box::pin(self.stored(leaf, entry)).await?;
        Ok(Found { key, value, timestamp, expire_ms, large })
    }

    /// A value that does not stand in its page as it is, and what comes with a very large one.
    async fn stored(
        &self,
        leaf: &Loaded<S::Bytes>,
        entry: &Entry<'_>,
    ) -> Result<(Vec<u8>, Option<Option<Vec<u8>>>)> {
        let mut large = None;
        let value = match entry.descriptor.codec {
            Codec::Large => {
                let decoded = self.large(leaf, entry)?;
                large = Some(decoded.metadata.map(<[u8]>::to_vec));
                self.segments(leaf, entry, &decoded).await?
            }
            codec => {
                let joined = match entry.descriptor.overflow {
                    true => Some(self.overflow(leaf, entry).await?),
                    false => None,
                };
                match (codec, joined) {
                    (Codec::Raw, joined) => joined.unwrap_or_else(|| entry.content.to_vec()),
                    (codec, joined) => {
                        let stored = joined.as_deref().unwrap_or(entry.content);
                        let value =
                            compress::decode(codec, stored, self.dictionary, self.options.value_limit);
                        self.sound(leaf, value.map_err(|damage| Damage::new(entry.at, damage.what)))?
                    }
                }
            }
        };
        Ok((value, large))
    }

    /// The value in an entry's overflow pages, as it is stored.
    async fn overflow(&self, leaf: &Loaded<S::Bytes>, entry: &Entry<'_>) -> Result<Vec<u8>> {
        let mut value = Vec::new();
        let ids = self.chain(leaf, entry).await?;
        let cut = Cut { page_size: self.options.page_size, group: self.options.overflow_pointers };
        for (i, id) in ids.iter().enumerate() {
            let page = self.load(*id).await?;
            let parsed = self.sound(&page, OverflowPage::parse(page.bytes.as_ref()))?;
            // With other options than the store was written with, a chain would end early.
            let follows = i + 1 < ids.len() && (i + 1).is_multiple_of(self.options.overflow_pointers);
            if follows == parsed.pointers.is_empty() {
                let what = "page pointers are not where overflow_pointers says; is the option right?";
                return self.sound(&page, Err(Damage::new(0, what)));
            }
            if i + 1 < ids.len() && parsed.value.len() != cut.capacity(i) {
                return self
                    .sound(&page, Err(Damage::new(0, "an overflow page that is not the last is not full")));
            }
            if value.len() + parsed.value.len() > self.options.value_limit {
                return self.sound(&page, Err(Damage::new(0, "a value is longer than the limit allows")));
            }
            value.extend_from_slice(parsed.value);
        }
        Ok(value)
    }

    /// The overflow pages of an entry, in order. Reads the last page of every full group.
    pub(super) async fn chain(&self, leaf: &Loaded<S::Bytes>, entry: &Entry<'_>) -> Result<Vec<PageId>> {
        let group = self.options.overflow_pointers;
        let mut ids = self.sound(leaf, overflow::pointers(entry.content, entry.at))?;
        let mut seen = 0;
        // The last group read is what follows `seen`.
        while ids.len() - seen == group {
            let page = self.load(ids[ids.len() - 1]).await?;
            let parsed = self.sound(&page, OverflowPage::parse(page.bytes.as_ref()))?;
            if parsed.pointers.is_empty() {
                break;
            }
            seen = ids.len();
            ids.extend(self.sound(&page, overflow::pointers(parsed.pointers, 0))?);
            // A chain that meets itself would never end; none has more pages than the partition.
            if ids.len() > self.manifest.mapping.len() {
                return self.sound(&page, Err(Damage::new(0, "an overflow chain meets itself")));
            }
        }
        if ids.len() - seen > group {
            return self.sound(
                leaf,
                Err(Damage::new(entry.at, "more page pointers than the store's options allow")),
            );
        }
        Ok(ids)
    }

    /// What the entry of a very large value holds.
    pub(super) fn large<'e>(&self, leaf: &Loaded<S::Bytes>, entry: &Entry<'e>) -> Result<LargeValue<'e>> {
        self.sound(leaf, LargeValue::decode(entry.content, self.options.segment_size, entry.at))
    }

    async fn segments(
        &self,
        leaf: &Loaded<S::Bytes>,
        entry: &Entry<'_>,
        large: &LargeValue<'_>,
    ) -> Result<Vec<u8>> {
        if large.len > self.options.value_limit {
            let damage = Damage::new(entry.at, "a value is longer than the limit allows");
            return self.sound(leaf, Err(damage));
        }
        let mut value = Vec::new();
        for id in &large.segments {
            let (file, offset) = self.sound(leaf, self.segment_place(*id, entry.at))?;
            let len = (large.len - value.len()).min(self.options.segment_size);
            value.extend_from_slice(self.source.read(&file, offset, len).await?.as_ref());
        }
        Ok(value)
    }

    fn segment_place(&self, id: u32, at: usize) -> Decoded<(FileName, u64)> {
        let place = self.manifest.segments.as_ref().and_then(|segments| segments.mapping.get(id));
        let place = place.ok_or(Damage::new(at, "a segment is mapped to nothing"))?;
        let (file, offset) = self.options.segment_place(place);
        let (branch, term) = self.manifest.branches.segment_owner(file);
        Ok((FileName::Segment { id: file, branch: branch.into(), term }, offset))
    }

    /// A whole segment.
    pub(super) async fn segment(&self, id: u32) -> Result<S::Bytes> {
        let place = self.segment_place(id, 0);
        let (file, offset) = place.map_err(|damage| damage.in_file(self.manifest_name(), 0))?;
        self.source.read(&file, offset, self.options.segment_size).await
    }
}
