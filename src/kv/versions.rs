//! Committed states that are still read while the writer goes on.

use super::compress::Dictionary;
use super::manifest::Manifest;
use super::options::Options;
use super::source::Source;
use super::space::Space;
use super::tree::Tree;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

/// A committed state. As long as it is held, its file pages are not used again and its files not collected.
#[derive(Debug)]
pub struct Version {
    /// What the manifest said.
    pub manifest: Manifest,
    /// The manifest's dictionary, prepared.
    pub dictionary: Option<Dictionary>,
}

impl Version {
    /// Its trees, with pages from `source`.
    pub fn tree<'a, S: Source>(&'a self, options: &'a Options, source: &'a S) -> Tree<'a, S> {
        Tree { options, manifest: &self.manifest, dictionary: self.dictionary.as_ref(), source }
    }
}

/// The versions of one partition, and the file pages that only old ones need.
#[derive(Debug, Default)]
pub struct Versions {
    current: Option<Arc<Version>>,
    /// What each commit retired, with the version before it, oldest first. A page that a commit retires can be in
    /// that version and older ones, so it is free when all of them are gone.
    held: VecDeque<(Weak<Version>, Vec<u64>)>,
}

impl Versions {
    /// The last committed state, made when it is first asked for.
    pub fn current(&mut self, make: impl FnOnce() -> Version) -> Arc<Version> {
        self.current.get_or_insert_with(|| Arc::new(make())).clone()
    }

    /// A commit has replaced the current version, and nothing newer refers to these file pages.
    pub fn retire(&mut self, pages: Vec<u64>, space: &mut Space) {
        self.settle(space);
        let before = self.current.take().map_or_else(Weak::new, |version| Arc::downgrade(&version));
        if self.held.is_empty() && before.strong_count() == 0 {
            pages.into_iter().for_each(|page| space.give(page));
        } else {
            self.held.push_back((before, pages));
        }
    }

    /// Gives back what no version needs any more.
    pub fn settle(&mut self, space: &mut Space) {
        while self.held.front().is_some_and(|(version, _)| version.strong_count() == 0) {
            let pages = self.held.pop_front().map(|(_, pages)| pages);
            pages.into_iter().flatten().for_each(|page| space.give(page));
        }
    }

    /// Space was counted anew from a state that needs none of `pages`: what versions need is held again.
    pub fn restart(&mut self, pages: Vec<u64>, space: &mut Space) {
        let mut released = Space::none();
        self.retire(pages, &mut released);
        self.held.iter().flat_map(|(_, pages)| pages).for_each(|page| space.hold(*page));
    }

    /// Whether a version before the current one is held.
    pub fn is_held(&self) -> bool {
        self.held.iter().any(|(version, _)| version.strong_count() > 0)
    }

    /// The versions that somebody holds.
    pub fn live(&self) -> impl Iterator<Item = Arc<Version>> {
        let held = self.held.iter().filter_map(|(version, _)| version.upgrade());
        held.chain(self.current.iter().filter(|version| Arc::strong_count(version) > 1).cloned())
    }
}
