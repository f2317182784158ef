//! What a partition's writer does beside batches: truncate, clean what expired, keep archives.

use super::batch::{Action, Batch, Op};
use super::damage::corrupted;
use super::mapping::Mapping;
use super::names::{FileName, superseded};
use super::packer::TIMESTAMP_MAX;
use super::page::NONE;
use super::sink::Sink;
use super::source::{Directory, now};
use super::space::Room;
use super::writer::{Writer, lock};
use crate::status::{Error, Result, Status};
use std::path::Path;

/// Expired entries that are deleted in one commit.
const CLEANED_AT_ONCE: usize = 65_536;

impl<S: Sink> Writer<S> {
    /// Deletes all keys from `position` on, at once; an empty position empties the partition without reading it.
    /// Returns how many keys went, 0 when the partition was emptied.
    pub async fn truncate(&mut self, position: &[u8]) -> Result<u64> {
        if position.is_empty() {
            return self.wipe().await.map(|()| 0);
        }
        self.ready().await?;
        let tree = self.tree();
        let keys = tree.keys(tree.manifest.root, position, usize::MAX, |_| false).await?;
        self.delete(keys).await
    }

    /// Deletes the entries that expired at or before `now_ms`, whatever their timestamp, and returns how many.
    pub async fn clean_expired(&mut self, now_ms: u64) -> Result<u64> {
        let mut cleaned = 0;
        loop {
            match self.clean_some(now_ms, CLEANED_AT_ONCE).await? {
                0 => return Ok(cleaned),
                now => cleaned += now,
            }
        }
    }

    /// Does so with at most `limit` entries, in one commit.
    pub async fn clean_some(&mut self, now_ms: u64, limit: usize) -> Result<u64> {
        self.ready().await?;
        let past = |key: &[u8]| key.first_chunk().is_none_or(|expiry| u64::from_be_bytes(*expiry) > now_ms);
        let tree = self.tree();
        let expiries = tree.keys(tree.manifest.ttl_root, &[], limit, past).await?;
        if expiries.is_empty() {
            return Ok(0);
        }
        let ttl_root = tree.manifest.ttl_root;
        if expiries.iter().any(|expiry| expiry.len() == size_of::<u64>()) {
            let what = format_args!("the tree of expiries, page {ttl_root}, names an empty key");
            return Err(corrupted(tree.manifest_name(), 0, what));
        }
        let keys = expiries.iter().map(|expiry| expiry[8..].to_vec()).collect();
        let cleaned = self.delete(keys).await?;
        // An expiry without its entry would be met again and again.
        let tree = self.tree();
        let left = tree.keys(tree.manifest.ttl_root, &expiries[0], 1, past).await?;
        if left.first() == expiries.first() {
            let what =
                format_args!("the tree of expiries, page {ttl_root}, names a key that does not expire then");
            return Err(corrupted(tree.manifest_name(), 0, what));
        }
        Ok(cleaned)
    }

    async fn delete(&mut self, keys: Vec<Vec<u8>>) -> Result<u64> {
        let delete = |key| Op { key, action: Action::Delete, timestamp: TIMESTAMP_MAX };
        let batch = Batch::of_known(keys.into_iter().map(delete).collect());
        self.apply(&batch, 0).await?;
        Ok(batch.ops().len() as u64)
    }

    /// Empties the partition: a snapshot without roots. Segments of very large values are freed with the rest.
    async fn wipe(&mut self) -> Result<()> {
        self.ready().await?;
        let mut next = self.manifest().clone();
        if next.tail == 0 {
            return Ok(());
        }
        (next.root, next.ttl_root, next.mapping) = (NONE, NONE, Mapping::default());
        if let Some(segments) = &mut next.segments {
            segments.mapping = Mapping::default();
        }
        let room = Room::load(&next, self.options());
        self.adopt_snapshot(next, room).await
    }

    /// Keeps the partition as it is now under a name. Append mode only: otherwise its file pages are used again.
    pub async fn archive(&mut self, tag: &str) -> Result<()> {
        self.append_only("archives")?;
        self.ready().await?;
        let file = self.archive_name(tag)?;
        let known = match self.sink().remote() {
            None => self.sink().exists(&file).await?,
            // Over an object store also one of an earlier term.
            Some(_) => {
                let own = &self.manifest().branches.name;
                self.sink().names().await?.iter().any(|file| {
                    matches!(file, FileName::Archive { branch, tag: known, .. } if known == tag && branch == own)
                })
            }
        };
        if known {
            return Err(Error::new(Status::AlreadyExists, format!("there is an archive {tag}")));
        }
        self.sink().replace(&file, &self.manifest().encode()).await
    }

    /// Forgets an archive; one that is not there is forgotten already.
    pub async fn forget_archive(&mut self, tag: &str) -> Result<()> {
        let named = self.archive_name(tag)?;
        if self.sink().remote().is_none() {
            return self.sink().remove(&named).await;
        }
        // Over an object store, archives of earlier terms are the branch's too.
        self.ready().await?;
        for file in self.sink().names().await? {
            let ours = matches!(&file, FileName::Archive { branch, tag: known, .. }
                if known == tag && *branch == self.manifest().branches.name);
            if ours {
                self.sink().remove(&file).await?;
            }
        }
        Ok(())
    }

    /// An error unless old pages stay where they are.
    pub(super) fn append_only(&self, what: &str) -> Result<()> {
        if self.options().append {
            return Ok(());
        }
        let what = format!("{what} need append mode: without it the pages they share would be overwritten");
        Err(Error::new(Status::Unsupported, what))
    }

    fn archive_name(&self, tag: &str) -> Result<FileName> {
        let (branch, term) = (self.manifest().branches.name.clone(), self.manifest().branches.term);
        let file = FileName::Archive { branch, term, tag: tag.into() };
        let plain = tag.bytes().all(|byte| byte.is_ascii_graphic()) && tag.len() <= 200;
        if plain && FileName::parse(&file.to_string()).as_ref() == Some(&file) {
            return Ok(file);
        }
        let what =
            format!("`{tag}` cannot name an archive: use up to 200 letters, digits and punctuation, no `/`");
        Err(Error::new(Status::InvalidArgument, what))
    }
}

impl<S: Sink> Writer<S> {
    /// Removes the partition's manifest: it is gone. Its branches and its other files follow, unless archives need
    /// them. Nobody may hold a version of it.
    pub async fn erase(mut self) -> Result<()> {
        if self.sink().remote().is_some() {
            self.ready().await?;
            self.still_ours().await?;
        }
        erase(self.sink(), self.file()).await
    }
}

async fn erase(sink: &impl Sink, manifest: &FileName) -> Result<()> {
    let files = sink.names().await?;
    // Without its manifest a write log would be another partition's.
    for file in files.iter().filter(|file| matches!(file, FileName::Log { .. })) {
        sink.remove(file).await?;
    }
    // Those that others have replaced first, or they would be what is left.
    for file in superseded(&files) {
        sink.remove(&file).await?;
    }
    sink.remove(manifest).await?;
    for file in files.iter().filter(|file| matches!(file, FileName::Manifest { .. })) {
        sink.remove(file).await?;
    }
    if files.iter().any(|file| matches!(file, FileName::Archive { .. })) {
        return Ok(());
    }
    for file in &files {
        sink.remove(file).await?;
    }
    Ok(())
}

/// Removes a partition on disk whose manifest cannot be read.
pub(super) fn drop_damaged(path: &Path) -> Result<()> {
    let _lock = lock(path)?;
    now(erase(&Directory::new(path.to_owned()), &FileName::main_manifest()))?;
    // With files left, it stays.
    let _ = std::fs::remove_dir(path);
    Ok(())
}

impl Writer<Directory> {
    /// Tags of this branch's archives.
    pub fn archive_tags(&self) -> Result<Vec<String>> {
        let own = &self.manifest().branches.name;
        let tags = self.sink().list()?.into_iter().filter_map(|file| match file {
            FileName::Archive { branch, tag, .. } if branch == *own => Some(tag),
            _ => None,
        });
        Ok(tags.collect())
    }

    /// Forgets all but the `keep` newest archives of this branch, by their files' times, and returns their names.
    pub fn retain_archives(&mut self, keep: usize) -> Result<Vec<String>> {
        let (own, directory) = (&self.manifest().branches, self.sink());
        let mut archives = Vec::new();
        for (file, made) in directory.times()? {
            if let FileName::Archive { branch, term, tag } = &file
                && *branch == own.name
                && (*term == own.term || directory.cached().is_some())
            {
                archives.push((made, tag.clone(), file));
            }
        }
        archives.sort();
        let excess = archives.len().saturating_sub(keep);
        let mut forgotten = Vec::new();
        for (_, tag, file) in archives.into_iter().take(excess) {
            now(directory.remove(&file))?;
            forgotten.push(tag);
        }
        Ok(forgotten)
    }

    /// Removes the partition with its branches. It is gone once its manifest is; its other files follow, unless
    /// archives need them.
    pub fn drop_partition(self) -> Result<()> {
        let path = self.sink().path().to_owned();
        now(self.erase())?;
        // With files left, it stays.
        let _ = std::fs::remove_dir(path);
        Ok(())
    }
}
