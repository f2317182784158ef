//! Branches of a partition: copies that share what is there and go their own way. Append mode only.

use super::branch::MAIN;
use super::names::FileName;
use super::sink::Sink;
use super::source::{Directory, now};
use super::space::after_file;
use super::writer::Writer;
use crate::status::{Error, Result, Status};

impl<S: Sink> Writer<S> {
    /// Starts a branch from what this one is now, and returns its name: in lower case. It writes files of its own,
    /// after those that it shares.
    pub async fn create_branch(&mut self, name: &str) -> Result<String> {
        let (name, file) = branch_file(name)?;
        self.append_only("branches")?;
        self.ready().await?;
        if self.manifest().tail == 0 {
            let what = "there is nothing to branch from: the partition was never written to";
            return Err(Error::new(Status::WrongState, what));
        }
        if name == self.manifest().branches.name || self.sink().exists(&file).await? {
            return Err(Error::new(Status::AlreadyExists, format!("there is a branch {name}")));
        }
        let mut branch = self.manifest().clone();
        let options = self.options();
        branch.end = next_file(branch.end, options.pages_per_file_shift);
        if let Some(segments) = &mut branch.segments {
            segments.end = next_file(segments.end, options.segments_per_file_shift);
        }
        (branch.branches.name, branch.branches.term) = (name.clone(), 0);
        self.sink().replace(&file, &branch.encode()).await?;
        Ok(name)
    }
}

impl<S: Sink> Writer<S> {
    /// Removes a branch, neither `main` nor the one that is open. What only it refers to goes when files are collected.
    pub async fn remove_branch(&mut self, name: &str) -> Result<()> {
        let (name, _) = branch_file(name)?;
        if name == MAIN || name == self.manifest().branches.name {
            return Err(Error::new(
                Status::InvalidArgument,
                format!("branch {name} is main, or open: it stays"),
            ));
        }
        self.ready().await?;
        let mut found = false;
        for file in self.sink().names().await? {
            if matches!(&file, FileName::Manifest { branch, .. } if *branch == name) {
                self.sink().remove(&file).await?;
                found = true;
            }
        }
        match found {
            true => Ok(()),
            false => Err(Error::new(Status::NotFound, format!("there is no branch {name}"))),
        }
    }
}

impl Writer<Directory> {
    /// [`Writer::remove_branch`]. Blocks.
    pub fn delete_branch(&mut self, name: &str) -> Result<()> {
        now(self.remove_branch(name))
    }
}

/// The first place of the file after the one that `end` is in or at the end of.
fn next_file(end: u64, shift: u32) -> u64 {
    if end == 0 { 0 } else { after_file((end - 1) >> shift, shift) }
}

/// A branch's name in lower case, or why it can be none.
pub fn branch_name(name: &str) -> Result<String> {
    branch_file(name).map(|(name, _)| name)
}

/// A branch's name in lower case, and its manifest.
fn branch_file(name: &str) -> Result<(String, FileName)> {
    let lower = name.to_ascii_lowercase();
    let file = FileName::Manifest { branch: lower.clone(), term: 0 };
    if lower.len() <= 200 && FileName::parse(&file.to_string()).as_ref() == Some(&file) {
        return Ok((lower, file));
    }
    let what = format!("`{name}` cannot name a branch: use up to 200 letters, digits and `-`");
    Err(Error::new(Status::InvalidArgument, what))
}
