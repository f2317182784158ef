//! Fetches what may be asked for, while nobody waits for the object store.

use super::super::names::FileName;
use super::super::store::place;
use super::open::Inner;
use crate::status::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

impl Inner {
    /// Fetches data and segment files that are not cached, the newest first, until the cache is full.
    pub(super) async fn prewarm(self: &Arc<Inner>) -> Result<u64> {
        let mut wanted = Vec::new();
        for partition in self.partitions().await? {
            let directory = place(&self.options, &partition)?;
            let (objects, _) = self.objects.list(&partition.to_string()).await?;
            for listed in objects {
                let file = FileName::parse(&listed.key);
                if matches!(file, Some(FileName::Data { .. } | FileName::Segment { .. })) {
                    let path = directory.join(&listed.key);
                    wanted.push((
                        listed.written_ms,
                        format!("{partition}/{}", listed.key),
                        path,
                        listed.bytes,
                    ));
                }
            }
        }
        wanted.sort_unstable_by(|a, b| b.cmp(a));
        let turns = Arc::new(Semaphore::new(self.options.cloud.prewarm_tasks));
        let on_the_way = Arc::new(AtomicU64::new(0));
        let mut fetches = JoinSet::new();
        for (_, key, path, bytes) in wanted {
            if path.exists() {
                continue;
            }
            let Ok(turn) = turns.clone().acquire_owned().await else { break };
            if !self.cache.has_room(bytes + on_the_way.load(Ordering::Relaxed)) {
                break;
            }
            on_the_way.fetch_add(bytes, Ordering::Relaxed);
            let (inner, on_the_way) = (self.clone(), on_the_way.clone());
            fetches.spawn(async move {
                let _turn = turn;
                let fetched = inner.fetch(&key, &path, false).await;
                on_the_way.fetch_sub(bytes, Ordering::Relaxed);
                fetched
            });
        }
        let mut fetched = 0;
        while let Some(ended) = fetches.join_next().await {
            match ended {
                Ok(Ok(())) => fetched += 1,
                // Files go while they are listed; the rest is tried all the same.
                Ok(Err(error)) => tracing::debug!("prewarm: {error}"),
                Err(_) => {}
            }
        }
        Ok(fetched)
    }
}
