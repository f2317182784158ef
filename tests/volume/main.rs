//! Volumes that a small writer made, read back: all versions, what happens under a reader, and what is damaged.

mod hostile;
mod map;
mod model;
mod moving;
mod reading;
mod writer;
