//! Terms: who may write. A writer takes the next one by compare-and-swap of `CURRENT_TERM_<branch>_<group>`; one that
//! finds another writer's there has been replaced.
//!
//! A commit is acknowledged only if the term was still the writer's own *after* its manifest was up. Whoever takes the
//! next term looks at the manifests afterwards, so it sees every commit that was acknowledged.

use super::objects::Objects;
use crate::status::{Error, Result, Status};
use object_store::{
    Attribute, Attributes, GetOptions, ObjectStore, PutMode, PutOptions, PutPayload, UpdateVersion,
};
use rustix::fs::{FlockOperation, flock};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The metadata by which a writer knows its own term, where objects have metadata.
const WRITER: &str = "rde-writer";
/// Times that another writer may be quicker before one gives up.
const ROUNDS: usize = 16;
/// Longest term, in bytes.
const LONGEST: u64 = 64;

/// The term of one branch, as this process has it.
#[derive(Debug)]
pub struct Claims {
    objects: Arc<Objects>,
    name: String,
    /// Who we are.
    writer: String,
    least: u64,
    mine: tokio::sync::Mutex<Mine>,
}

#[derive(Debug, Default)]
struct Mine {
    /// Terms that were taken, and those for which nobody said whether they were.
    taken: BTreeSet<u64>,
    tried: BTreeSet<u64>,
    fenced: bool,
    probed: bool,
}

/// The object as it was read.
struct Current {
    term: u64,
    text: Vec<u8>,
    writer: Option<String>,
    version: UpdateVersion,
}

/// How a compare-and-swap ended.
enum Swap {
    Done,
    Lost,
    Unknown(Error),
}

impl Claims {
    /// The claims on a branch; terms are at least `least`.
    pub fn new(objects: Arc<Objects>, branch: &str, group: u64, writer: String, least: u64) -> Claims {
        let name = format!("CURRENT_TERM_{branch}_{group}");
        Claims { objects, name, writer, least, mine: tokio::sync::Mutex::default() }
    }

    /// A term of this process that is above `used`: the last one that it took, or the next one.
    pub async fn above(&self, used: Option<u64>) -> Result<u64> {
        {
            let mine = self.mine.lock().await;
            if let Some(last) = mine.taken.last().filter(|last| !mine.fenced && Some(**last) > used) {
                return Ok(*last);
            }
        }
        self.take().await
    }

    /// Takes the next term. `EXPIRED_TERM` if another writer took one since this process took its first.
    async fn take(&self) -> Result<u64> {
        let mut mine = self.mine.lock().await;
        if mine.fenced {
            return Err(self.expired());
        }
        self.probe(&mut mine).await?;
        let mut last =
            Error::new(Status::Busy, format!("{}: other writers were quicker each time", self.name));
        for _ in 0..ROUNDS {
            let current = self.current().await?;
            let term = current.as_ref().map_or(0, |current| current.term);
            let own = current.as_ref().is_some_and(|current| self.is_own(current, &mine));
            if own && mine.tried.remove(&term) {
                mine.taken.insert(term);
                return Ok(term);
            }
            if !own && !mine.taken.is_empty() {
                mine.fenced = true;
                return Err(self.expired());
            }
            if mine.taken.is_empty() && self.least != 0 && self.least <= term && mine.tried.is_empty() {
                let what = format!("{} is {term}: a writer with term {} is too late", self.name, self.least);
                return Err(Error::new(Status::ExpiredTerm, what));
            }
            let next = (term + 1).max(self.least);
            mine.tried.insert(next);
            match self.swap(&self.name, current.as_ref(), &next.to_string()).await {
                Swap::Done => {
                    mine.tried.remove(&next);
                    mine.taken.insert(next);
                    return Ok(next);
                }
                Swap::Lost => {
                    mine.tried.remove(&next);
                }
                // It may have taken effect; who reads it next knows.
                Swap::Unknown(error) if error.status == Status::Unsupported => return Err(error),
                Swap::Unknown(error) => last = error,
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(last)
    }

    /// Whether the current term is one of ours; `EXPIRED_TERM` if not.
    pub async fn verify(&self) -> Result<()> {
        let current = self.current().await?;
        let mut mine = self.mine.lock().await;
        match current {
            Some(current) if !mine.fenced && self.is_own(&current, &mine) => Ok(()),
            _ => {
                mine.fenced = true;
                Err(self.expired())
            }
        }
    }

    fn is_own(&self, current: &Current, mine: &Mine) -> bool {
        match &current.writer {
            Some(writer) => *writer == self.writer,
            // Folders have no metadata, and nobody is in doubt there.
            None => mine.taken.contains(&current.term),
        }
    }

    fn expired(&self) -> Error {
        let what = format!(
            "another writer has taken {}: this one can read, and has to be opened again to write",
            self.name
        );
        Error::new(Status::ExpiredTerm, what)
    }

    async fn current(&self) -> Result<Option<Current>> {
        let key = self.objects.key(&self.name)?;
        let got = self.objects.attempts(&self.name, 0, || async {
            let got = self.objects.store.get_opts(&key, GetOptions::default()).await?;
            if got.meta.size > LONGEST {
                return Err(object_store::Error::NotSupported { source: "too long for a term".into() });
            }
            let writer = got.attributes.get(&Attribute::Metadata(Cow::Borrowed(WRITER)));
            let writer = writer.map(|writer| writer.as_ref().to_owned());
            let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
            Ok((got.bytes().await?, writer, version))
        });
        let (text, writer, version) = match got.await {
            Ok(done) => done.value,
            Err(error) if error.status == Status::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let term = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        let what = || format!("{} in the object store is no number", self.name);
        let term = term.ok_or_else(|| Error::new(Status::Corrupted, what()))?;
        Ok(Some(Current { term, text: text.to_vec(), writer, version }))
    }

    /// Whether the object store takes conditions seriously. One that ignores them would let two writers go on.
    async fn probe(&self, mine: &mut Mine) -> Result<()> {
        if mine.probed || self.objects.folder.is_some() {
            return Ok(());
        }
        let name = format!("{}-probe", self.name);
        let version = UpdateVersion { e_tag: Some("\"no-such\"".into()), version: Some("1".into()) };
        let other = Current { term: 0, text: Vec::new(), writer: None, version };
        // The first one makes the object, if it is not there.
        if let Swap::Unknown(error) = self.swap(&name, None, "0").await {
            return Err(error);
        }
        for (condition, before) in [("If-None-Match", None), ("If-Match", Some(&other))] {
            match self.swap(&name, before, "0").await {
                Swap::Lost => {}
                Swap::Unknown(error) => return Err(error),
                Swap::Done => {
                    let what = format!(
                        "the object store ignores {condition}: an old writer could not be kept out, so nothing is written"
                    );
                    return Err(Error::new(Status::Unsupported, what));
                }
            }
        }
        mine.probed = true;
        Ok(())
    }

    async fn swap(&self, name: &str, before: Option<&Current>, text: &str) -> Swap {
        match &self.objects.folder {
            Some(_) => self.swap_locked(name, before, text).await,
            None => self.swap_matching(name, before, text).await,
        }
    }

    async fn swap_matching(&self, name: &str, before: Option<&Current>, text: &str) -> Swap {
        let mode = before.map_or(PutMode::Create, |before| PutMode::Update(before.version.clone()));
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::Metadata(Cow::Borrowed(WRITER)), self.writer.clone().into());
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        self.put_once(name, text, options).await
    }

    /// One attempt: whether another would be the same depends on what this one did.
    async fn put_once(&self, name: &str, text: &str, options: PutOptions) -> Swap {
        let key = match self.objects.key(name) {
            Ok(key) => key,
            Err(error) => return Swap::Unknown(error),
        };
        let put = self.objects.store.put_opts(&key, PutPayload::from(text.to_owned().into_bytes()), options);
        match timeout(self.objects.attempt, put).await {
            Ok(Ok(_)) => Swap::Done,
            Ok(Err(error)) => match self.objects.explain(name, &error).0 {
                error if matches!(error.status, Status::AlreadyExists | Status::NotFound) => Swap::Lost,
                error => Swap::Unknown(error),
            },
            Err(_) => Swap::Unknown(Error::new(Status::TimedOut, format!("{name}: no answer in time"))),
        }
    }

    /// A folder cannot compare and swap: whoever does holds a lock on it.
    async fn swap_locked(&self, name: &str, before: Option<&Current>, text: &str) -> Swap {
        let Some(folder) = &self.objects.folder else { return Swap::Lost };
        let lock = match std::fs::File::open(folder) {
            Ok(lock) => lock,
            Err(error) => return Swap::Unknown(Error::os(&folder.display().to_string(), &error)),
        };
        let deadline = Instant::now() + self.objects.attempt;
        while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() >= deadline {
                return Swap::Unknown(Error::new(Status::TimedOut, "the folder of objects stays locked"));
            }
            sleep(Duration::from_millis(5)).await;
        }
        match self.current().await {
            Ok(now) if now.as_ref().map(|now| &now.text) == before.map(|before| &before.text) => {
                self.put_once(name, text, PutOptions::default()).await
            }
            Ok(_) => Swap::Lost,
            Err(error) => Swap::Unknown(error),
        }
    }
}
