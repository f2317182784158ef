//! The key-value store, byte-compatible with EloqStore. Knows nothing of UCX.
//!
//! Bytes, without I/O: [`varint`], [`page`], [`block`], [`data_page`], [`index_page`], [`overflow`], [`value`],
//! [`compress`], [`structure`], [`mapping`], [`record`], [`manifest`], [`branch`], [`names`], [`placement`]; damage in them is a
//! [`damage::Damage`]. What a store is opened with: [`options`], [`ini`].
//!
//! Reading: [`source`] says where bytes come from, [`tree`] finds things in them, [`scan`] walks ranges, [`store`]
//! opens directories, a [`cursor`] walks leaves and a [`scout`] ahead of it, [`packed`] is how many entries are handed
//! over; [`layout`] refuses wrong options; `dump` (feature `cli`) prints them. Over object storage a [`tier`] fetches what
//! the directories lack.
//!
//! Writing: a [`batch`] is applied by a [`writer`] as an [`edit`] of both trees ([`apply`], [`effects`], [`chain`],
//! [`packer`], [`index_builder`], [`child_table`], [`level`]) in free [`space`], through a [`sink`];
//! A [`log`] takes batches before the pages get them. [`upkeep`] truncates, cleans and archives, [`fork`] makes branches, [`compact`] gives space back. [`check`] and
//! [`survey`] say what is there and whether it is sound.

pub mod apply;
pub mod batch;
pub mod block;
pub mod bounds;
pub mod branch;
pub mod chain;
pub mod check;
pub mod child_table;
pub mod compact;
pub mod compress;
pub mod cursor;
pub mod damage;
pub mod data_page;
#[cfg(feature = "cli")]
pub mod dump;
pub mod edit;
pub mod effects;
pub mod engine;
pub mod fetch;
pub mod fork;
pub mod index_builder;
pub mod index_page;
pub mod ini;
pub mod keys;
pub mod layout;
pub mod level;
pub mod log;
pub mod manifest;
pub mod mapping;
pub mod names;
pub mod options;
pub mod overflow;
pub mod packed;
pub mod packer;
pub mod page;
mod patch;
pub mod placement;
pub mod port;
pub mod record;
mod replacement;
pub mod restore;
pub mod scan;
pub mod scout;
pub mod sink;
pub mod source;
pub mod space;
pub mod store;
pub mod structure;
pub mod survey;
pub mod tier;
pub mod tree;
pub mod upkeep;
pub mod value;
pub mod varint;
pub mod versions;
pub mod writer;
